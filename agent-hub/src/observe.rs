//! Reads what decisions are made from: heartbeats, and what the hub holds. I/O: queries and `.show` commands on the hub; nothing is changed.

mod heartbeats;
mod members;
mod objects;
mod turns;
mod words;

pub use heartbeats::{HeartbeatMemory, HeartbeatReading, Known, read_heartbeats};
pub use members::read_members;
pub use objects::{ObjectMemory, read_hub};

use shared::kusto::{DecodeError, KustoError};

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The hub did not answer, or not completely.
    #[error("failed to read {what} from the hub")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: KustoError,
    },
    /// We must be told of more partitions than an answer tells of.
    #[error("{needed} partitions are federated or listed, and the hub tells of {most} at most")]
    Crowded {
        /// How many we must be told of.
        needed: usize,
        /// How many there may be.
        most: usize,
    },
    /// It answered in another form than documented.
    #[error("failed to understand {what} that the hub sent")]
    Decode {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
}

/// Names what was read in either error.
fn asking(what: &'static str) -> impl Fn(KustoError) -> ObserveError {
    move |source| ObserveError::Ask { what, source }
}

fn decoding(what: &'static str) -> impl Fn(DecodeError) -> ObserveError {
    move |source| ObserveError::Decode { what, source }
}
