//! The heartbeat row: what a partition writes into a hub's table and a hub reads back, compatible with adx-mon both ways. Pure; used by both agents.
//!
//! | column | type | what |
//! |---|---|---|
//! | `Timestamp` | datetime | when the beat was sent, UTC |
//! | `ClusterEndpoint` | string | the partition's address |
//! | `Schema` | dynamic | `[{"database": "Logs", "tables": ["A"], "tableSchemas": {"A": "['a']:long"}, "views": ["V"]}]`, the last two optional |
//! | `PartitionMetadata` | dynamic | the partitioning attributes; every value is written as a text |

mod attributes;
mod parse;
mod row;
mod schema;

pub use attributes::parse_metadata;
pub(crate) use attributes::{MAX_ATTRIBUTE_CHARS, MAX_ATTRIBUTES, Unused, unused};
pub use parse::{Limits, Problem, parse_schema};
pub use row::{COLUMNS, Heartbeat};
pub use schema::{Columns, DatabaseInventory, Full, Interner, SchemaInventory};
