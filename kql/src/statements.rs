//! Every command and query that our programs send, as typed values that render to a [`Request`]. Each has one file in `kql/text` that says what it is for
//! and which permission it needs. No I/O; called by the agents.

mod discovery;
mod entity_groups;
mod functions;
mod heartbeats;
mod marker;
mod ownership;
mod script;
#[cfg(test)]
mod tests;

pub use discovery::{ShowDatabases, ShowHubEntities, ShowInventory};
pub use entity_groups::{
    AlterEntityGroup, AlterMergeEntityGroup, CreateEntityGroup, DropEntityGroup, Entity, ShowEntityGroups, members_hash,
};
pub use functions::{
    Body, Canary, ClearRemoteSchema, DropFunction, FederatedBody, Members, PutFunction, STATUS_FUNCTION, Source,
    StatusBody,
};
pub use heartbeats::{
    AlterCaching, AlterRetention, AlterSchemaEncoding, CreateHeartbeatTable, EnableStreaming, FALSE_CLAIM,
    HeartbeatPolicy, HeartbeatSource, IngestInline, ReadArrivals, ReadHeartbeats, ReadListings, ReadSchemas,
    ShowPolicy, Windows, partition_table,
};
pub use marker::keeper_of;
pub use ownership::{CreateMembersTable, CreateOwnershipTable, ReadLeft, ReadMembers, ReadOwnership, ShowColumns};
pub use script::{MAX_SCRIPT_BYTES, scripts};

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::{
    names::DatabaseName,
    request::{Request, RequestKind},
    template,
};

/// Makes a request from a statement file. `name` is the file's stem.
fn request(
    name: &'static str,
    kind: RequestKind,
    database: Option<&DatabaseName>,
    file: &str,
    values: &[(&str, &str)],
) -> Request {
    Request { name, kind, database: database.cloned(), text: template::fill(file, values), parameters: BTreeMap::new() }
}

/// A hash of texts, for telling equal content: 24 hexadecimal digits of SHA-256. Not a secret and not a signature.
fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length before each part keeps two parts from being read as others with the same characters.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
