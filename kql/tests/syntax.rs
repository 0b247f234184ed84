//! The language: what each construct is read as, what is refused and how, that printing is the inverse of reading, and that no text can harm the process.

#![allow(clippy::panic, clippy::unwrap_used)] // The helpers of tests fail tests; clippy.toml allows it only in the tests themselves.

mod syntax {
    mod build;
    mod corpus;
    mod cursor;
    mod depth;
    mod expressions;
    mod generate;
    mod literals;
    mod operators;
    mod properties;
    mod refusals;
    mod sources;
    mod statements;
}
