//! The language itself: lexer, syntax tree, parser and printer. No I/O, no panic on any input.

pub mod ast;
