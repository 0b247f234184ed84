//! The client of one Kusto cluster. One concrete type: tests fake the wire, so trust, tokens, decoding, retries and errors are exercised too.
//! I/O: HTTP to the one cluster it was made for. Called by both agents.
//!
//! | file | what |
//! |---|---|
//! | `client` | the request: headers, body, time-outs, byte cap, rate limit |
//! | `trust` | which hosts may get a token, and for which audience: our tables, never the server's word |
//! | `stream` | an answer while it arrives: its rows are handed over one by one |
//! | `decode` | an answer counts only if it is complete and free of errors |
//! | `table` | typed access to its rows |
//! | `error`, `retry` | what can go wrong, and what is sent again |

mod client;
mod decode;
mod error;
mod retry;
mod stream;
mod table;
mod trust;

pub use client::{ClientOptions, KustoClient};
pub use decode::server_words;
pub use error::{ClientError, Failure, KustoError};
pub use table::{ColumnInfo, DecodeError, ResultTable, Row};
pub use trust::{Cloud, HostTrust, TrustedSuffix};
