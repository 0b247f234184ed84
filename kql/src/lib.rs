//! Everything that is KQL text. Names and literals that quote themselves, the requests that our agents send as typed values, and the language's lexer,
//! parser and printer for the local server. No I/O anywhere; no other crate of the workspace writes KQL.

pub mod endpoint;
pub mod literal;
pub mod names;
pub mod request;
pub mod secrets;
pub mod statements;
pub mod syntax;
mod template;
pub mod types;
