//! When heartbeats listed databases that they list no longer. I/O: one query, of passes in which a partition has begun to list less, or may leave a database's groups.

use std::collections::{BTreeMap, BTreeSet};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
    statements::{Entity, ReadListings},
};
use serde_json::Value;
use shared::{
    document::HubConfig,
    heartbeat::{Limits, parse_schema},
    kusto::{DecodeError, KustoClient, ResultTable},
};

use super::{HeartbeatMemory, ObserveError, asking, decoding, heartbeats::windows};
use crate::listings::Listing;

const LISTINGS: &str = "when heartbeats listed databases";

/// Asks it of these, or also for what was in them. `unread`: tables of single partitions that are not read.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_listings(
    hub: &KustoClient,
    config: &HubConfig,
    unread: &BTreeMap<TableName, String>,
    asked: &BTreeSet<Entity>,
    with_content: bool,
    memory: &mut HeartbeatMemory,
) -> Result<Vec<Listing>, ObserveError> {
    let database = &config.heartbeat_database;
    let source = &config.heartbeats.without(|table| unread.contains_key(table));
    let request = ReadListings { database, source, window: windows(config).schemas, asked, with_content }.request();
    let answer = hub.send(&request).await.map_err(asking(LISTINGS))?;
    parse(&answer, asked, memory).map_err(decoding(LISTINGS))
}

fn parse(
    table: &ResultTable,
    asked: &BTreeSet<Entity>,
    memory: &mut HeartbeatMemory,
) -> Result<Vec<Listing>, DecodeError> {
    let mut listings = Vec::new();
    for row in table.rows() {
        let cluster = ClusterEndpoint::parse(row.string("Cluster")?);
        let database = DatabaseName::new(row.string("Database")?);
        let (Ok(cluster), Ok(database)) = (cluster, database) else { continue };
        let entity = Entity { cluster, database };
        let (Some(first), Some(last)) = (row.datetime("First")?, row.datetime("Last")?) else { continue };
        if !asked.contains(&entity) {
            continue;
        }
        // As it is read of a whole schema.
        let content = serde_json::from_str(row.string("Content")?).ok();
        let content = content.and_then(|content: Value| {
            let inventory = parse_schema(&Value::Array(vec![content]), Limits::default()).0?;
            memory.share(inventory)?.0.get(&entity.database).cloned()
        });
        let bytes = row.long("Bytes")?.and_then(|bytes| usize::try_from(bytes).ok());
        listings.push(Listing { entity, first, last, bytes, content });
    }
    Ok(listings)
}
