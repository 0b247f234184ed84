//! The language itself: lexer, syntax tree, parser and printer. No I/O, no panic on any input.

pub mod ast;
pub mod error;
mod infix;
pub mod keywords;
pub mod lexer;
pub mod parser;
pub mod printer;
mod string;
pub mod time;
pub mod token;
