//! Reads what decisions are made from: heartbeats, and what the hub holds. I/O: queries and `.show` commands on the hub; nothing is changed.

mod arrivals;
mod heartbeats;
mod left;
mod listings;
mod members;
mod objects;
mod turns;
mod words;

pub use arrivals::read_arrivals;
pub use heartbeats::{HeartbeatMemory, HeartbeatReading, Known, read_heartbeats};
pub use left::read_left;
pub use listings::read_listings;
pub use members::read_members;
pub use objects::{ObjectMemory, read_hub};

use shared::kusto::{DecodeError, KustoError, ResultTable};

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

/// How many records there are, which an answer has in a row of its own: one without is not whole.
fn number_of_records(table: &ResultTable) -> Result<usize, DecodeError> {
    let mut records = None;
    for row in table.rows() {
        records = row.long("Records")?.and_then(|all| usize::try_from(all).ok()).or(records);
    }
    records.ok_or(DecodeError::NoRow { expected: "row with the number of records" })
}
