//! The newest heartbeat of every partition. I/O: one query; a second one only for schemas whose hash is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use kql::{
    endpoint::ClusterEndpoint,
    names::DatabaseName,
    statements::{ReadHeartbeats, ReadSchemas},
};
use serde_json::Value;
use shared::{
    document::HubConfig,
    heartbeat::{Limits, SchemaInventory, parse_metadata, parse_schema},
    kusto::{DecodeError, KustoClient, ResultTable, Row},
    runtime::chain,
};

use super::{ObserveError, asking, decoding};
use crate::fleet::{Beat, Inventory};

/// What was read before: schemas, so that only changed ones are fetched again, and when, so that beats are counted once. Lives as long as the process.
#[derive(Debug, Default)]
pub struct HeartbeatMemory {
    schemas: BTreeMap<ClusterEndpoint, Remembered>,
    /// The hub server's clock at the last complete reading.
    read_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Remembered {
    hash: String,
    /// The last schema that could be read, of whichever beat.
    inventory: Option<Arc<SchemaInventory>>,
    problems: Vec<String>,
}

/// A complete reading of the heartbeat table.
#[derive(Debug)]
pub struct HeartbeatReading {
    /// The hub server's clock.
    pub now: Timestamp,
    /// The newest beat of each partition.
    pub beats: Vec<Beat>,
    /// Databases whose content differs from what this process read before: the hub may remember their old columns.
    pub changed: BTreeSet<(ClusterEndpoint, DatabaseName)>,
    /// Rows that name no cluster, in sentences.
    pub problems: Vec<String>,
}

const HEARTBEATS: &str = "heartbeats";
const SCHEMAS: &str = "the heartbeats' schemas";

/// Reads all heartbeats of the retention period. `trusted` says which endpoints may be partitions: anyone who may write heartbeats may write any endpoint,
/// and what gets into a group is asked with the rights of the hub's users. An error means that nothing is known: a partial list is never returned.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_heartbeats(
    hub: &KustoClient,
    config: &HubConfig,
    memory: &mut HeartbeatMemory,
    trusted: impl Fn(&ClusterEndpoint) -> bool,
) -> Result<HeartbeatReading, ObserveError> {
    let (database, table, window) = (&config.heartbeat_database, &config.heartbeat_table, config.heartbeat_retention);
    let since = memory.read_at.map_or(UNIX_EPOCH, SystemTime::from);
    let request = ReadHeartbeats { database, table, window, since }.request();
    let answer = hub.send(&request).await.map_err(asking(HEARTBEATS))?;
    let (rows, mut problems) = parse_rows(&answer, trusted).map_err(decoding(HEARTBEATS))?;
    let mut changed = BTreeSet::new();
    for endpoints in pages(rows.values().filter(|row| memory.lacks(row))) {
        // What cannot be fetched harms only those whose it is: they go on with what was known, or with what the hub has of them.
        match read_schemas(hub, config, &endpoints).await {
            Ok(answer) => changed.extend(memory.learn(&answer).map_err(decoding(SCHEMAS))?),
            Err(error) => problems.push(format!("{} schema(s) could not be read: {}", endpoints.len(), chain(&error))),
        }
    }
    let now = rows.values().map(|row| row.now).max().unwrap_or(Timestamp::UNIX_EPOCH);
    memory.schemas.retain(|endpoint, _| rows.contains_key(endpoint));
    memory.read_at = (!rows.is_empty()).then_some(now);
    let beats = rows.into_values().map(|row| memory.beat(row)).collect();
    Ok(HeartbeatReading { now, beats, changed, problems })
}

async fn read_schemas(
    hub: &KustoClient,
    config: &HubConfig,
    endpoints: &BTreeSet<String>,
) -> Result<ResultTable, ObserveError> {
    let (database, table, window) = (&config.heartbeat_database, &config.heartbeat_table, config.heartbeat_retention);
    hub.send(&ReadSchemas { database, table, window, endpoints }.request()).await.map_err(asking(SCHEMAS))
}

/// One row of [`ReadHeartbeats`].
struct HeartbeatRow {
    endpoint: ClusterEndpoint,
    /// ClusterEndpoint as the query gave it: lower case, perhaps with a slash at its end.
    key: String,
    received: Timestamp,
    new_beats: u64,
    written: Option<Timestamp>,
    metadata: BTreeMap<String, Value>,
    schema_hash: String,
    schema_bytes: usize,
    now: Timestamp,
    problems: Vec<String>,
}

/// How many bytes of schemas one query fetches at most; a longer schema comes alone. Kusto cuts results at 64 MB.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// The keys of rows in pages of [`PAGE_BYTES`].
fn pages<'a>(rows: impl Iterator<Item = &'a HeartbeatRow>) -> Vec<BTreeSet<String>> {
    let mut pages = Vec::<BTreeSet<String>>::new();
    let mut room = 0;
    for row in rows {
        if row.schema_bytes > room {
            pages.push(BTreeSet::new());
            room = PAGE_BYTES;
        }
        room = room.saturating_sub(row.schema_bytes);
        if let Some(page) = pages.last_mut() {
            page.insert(row.key.clone());
        }
    }
    pages
}

/// The most refused rows that are told one by one.
const MAX_TOLD: usize = 20;

/// The newest row of each endpoint: one cluster may be written in several spellings, as adx-mon and we write it.
fn parse_rows(
    table: &ResultTable,
    trusted: impl Fn(&ClusterEndpoint) -> bool,
) -> Result<(BTreeMap<ClusterEndpoint, HeartbeatRow>, Vec<String>), DecodeError> {
    let (mut rows, mut problems) = (BTreeMap::<_, HeartbeatRow>::new(), Vec::new());
    for row in table.rows() {
        let key = row.string("ClusterEndpoint")?;
        match ClusterEndpoint::parse(key) {
            Ok(endpoint) if trusted(&endpoint) => {
                let row = parse_row(row, endpoint.clone(), key)?;
                if rows.get(&endpoint).is_none_or(|known| known.received < row.received) {
                    rows.insert(endpoint, row);
                }
            }
            Ok(endpoint) => {
                problems
                    .push(format!("the heartbeats of {endpoint} are ignored: it is no Kusto endpoint of this cloud"));
            }
            Err(error) => problems.push(format!("a heartbeat row is ignored: {error}")),
        }
    }
    if problems.len() > MAX_TOLD {
        let untold = problems.split_off(MAX_TOLD).len();
        problems.push(format!("{untold} more heartbeat rows are ignored"));
    }
    Ok((rows, problems))
}

fn parse_row(row: Row<'_>, endpoint: ClusterEndpoint, key: &str) -> Result<HeartbeatRow, DecodeError> {
    let (metadata, problems) = parse_metadata(&row.dynamic("PartitionMetadata")?);
    Ok(HeartbeatRow {
        endpoint,
        key: key.to_owned(),
        received: row.datetime("Received")?.unwrap_or(Timestamp::UNIX_EPOCH),
        new_beats: row.long("NewBeats")?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        // A time that no calendar of ours holds is as good as none.
        written: row.datetime("Timestamp").unwrap_or_default(),
        metadata,
        schema_hash: row.string("SchemaHash")?.to_owned(),
        schema_bytes: usize::try_from(row.long("SchemaBytes")?.unwrap_or(0)).unwrap_or(0),
        now: row.datetime("Now")?.unwrap_or(Timestamp::UNIX_EPOCH),
        problems: problems.iter().map(ToString::to_string).collect(),
    })
}

impl HeartbeatMemory {
    /// Whether a row has a schema that is not remembered.
    fn lacks(&self, row: &HeartbeatRow) -> bool {
        row.schema_bytes > 0 && self.schemas.get(&row.endpoint).is_none_or(|known| known.hash != row.schema_hash)
    }

    /// Takes in the answer of [`ReadSchemas`]; returns what changed of what was known before.
    fn learn(&mut self, table: &ResultTable) -> Result<BTreeSet<(ClusterEndpoint, DatabaseName)>, DecodeError> {
        let mut changed = BTreeSet::new();
        for row in table.rows() {
            let Ok(endpoint) = ClusterEndpoint::parse(row.string("ClusterEndpoint")?) else { continue };
            let hash = row.string("SchemaHash")?.to_owned();
            let text = Value::String(row.string("SchemaText")?.to_owned());
            let (inventory, problems) = parse_schema(&text, Limits::default());
            let problems = problems.iter().map(ToString::to_string).collect();
            let before = self.schemas.remove(&endpoint).and_then(|known| known.inventory);
            let inventory = inventory.map(Arc::new);
            if let (Some(before), Some(after)) = (&before, &inventory) {
                changed.extend(differences(before, after).map(|name| (endpoint.clone(), name)));
            }
            self.schemas.insert(endpoint, Remembered { hash, inventory: inventory.or(before), problems });
        }
        Ok(changed)
    }

    /// The beat of a row, with its own schema or, if that was left out or could not be stored, the last one that was read.
    fn beat(&self, row: HeartbeatRow) -> Beat {
        let HeartbeatRow { endpoint, received, new_beats, written, metadata, schema_bytes, mut problems, .. } = row;
        let known = self.schemas.get(&endpoint);
        if schema_bytes == 0 {
            problems.push("its newest heartbeat has no schema: what is known of it is kept".to_owned());
        }
        problems.extend(known.into_iter().flat_map(|known| known.problems.iter().cloned()));
        let inventory = known.and_then(|known| known.inventory.clone()).map_or(Inventory::Unknown, Inventory::Known);
        Beat { endpoint, received, new_beats, written, inventory, metadata, problems }
    }
}

/// The databases of both inventories whose content differs.
fn differences<'a>(before: &'a SchemaInventory, after: &'a SchemaInventory) -> impl Iterator<Item = DatabaseName> + 'a {
    after
        .0
        .iter()
        .filter(|(name, content)| before.0.get(*name).is_some_and(|old| old != *content))
        .map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;
    use serde_json::json;
    use shared::kusto::ColumnInfo;

    use super::*;

    const NOW: &str = "2025-05-03T12:00:00Z";

    fn table(names: &[&str], rows: Vec<Vec<Value>>) -> ResultTable {
        let column = |name: &&str| ColumnInfo { name: (*name).to_owned(), scalar_type: ScalarType::String };
        ResultTable::new(names.iter().map(column).collect(), rows)
    }

    /// Rows of [`ReadHeartbeats`]: endpoint, when received, schema hash, schema bytes.
    fn rows(rows: &[(&str, &str, &str, usize)]) -> BTreeMap<ClusterEndpoint, HeartbeatRow> {
        let names = [
            "ClusterEndpoint",
            "Received",
            "NewBeats",
            "Timestamp",
            "PartitionMetadata",
            "SchemaHash",
            "SchemaBytes",
            "Now",
        ];
        let cells = |(endpoint, received, hash, bytes): &(&str, &str, &str, usize)| {
            vec![
                json!(endpoint),
                json!(received),
                json!(1),
                json!("9999-12-31T23:59:59.9999999Z"),
                json!({}),
                json!(hash),
                json!(bytes),
                json!(NOW),
            ]
        };
        let table = table(&names, rows.iter().map(cells).collect());
        parse_rows(&table, |endpoint| endpoint.host().ends_with(".kusto.windows.net")).unwrap().0
    }

    fn schemas(endpoint: &str, hash: &str, text: &str) -> ResultTable {
        let names = ["ClusterEndpoint", "Received", "SchemaHash", "SchemaText"];
        table(&names, vec![vec![json!(endpoint), json!(NOW), json!(hash), json!(text)]])
    }

    #[test]
    fn two_spellings_of_one_endpoint_are_one_partition_with_its_newest_beat() {
        let (slash, plain) = ("https://eu.kusto.windows.net/", "https://eu.kusto.windows.net");
        let (old, new) = ("2025-05-03T11:00:00Z", "2025-05-03T11:59:00Z");
        for both in [[(slash, old, "a", 1), (plain, new, "b", 1)], [(plain, new, "b", 1), (slash, old, "a", 1)]] {
            let rows = rows(&both);
            assert_eq!(rows.len(), 1);
            assert_eq!(rows.values().next().unwrap().key, plain);
        }
    }

    #[test]
    fn an_endpoint_that_is_not_trusted_or_no_endpoint_is_no_partition_and_a_strange_time_is_no_obstacle() {
        let rows = rows(&[
            ("https://evil.example", NOW, "a", 1),
            ("x", NOW, "a", 1),
            ("https://eu.kusto.windows.net", NOW, "a", 1),
        ]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.values().next().unwrap().written, None);
    }

    #[test]
    fn a_schema_is_fetched_once_and_an_unreadable_one_leaves_what_was_known() {
        let endpoint = "https://eu.kusto.windows.net";
        let mut memory = HeartbeatMemory::default();
        let lacks =
            |memory: &HeartbeatMemory, hash| memory.lacks(rows(&[(endpoint, NOW, hash, 9)]).values().next().unwrap());
        assert!(lacks(&memory, "1"));
        let known = r#"[{"database": "Logs", "tables": ["A"]}]"#;
        assert_eq!(memory.learn(&schemas(endpoint, "1", known)).unwrap(), BTreeSet::new());
        assert!(!lacks(&memory, "1") && lacks(&memory, "2"));
        memory.learn(&schemas(endpoint, "2", "7")).unwrap();
        assert!(!lacks(&memory, "2"), "what cannot be read is not fetched again and again");
        let beat = memory.beat(rows(&[(endpoint, NOW, "2", 9)]).into_values().next().unwrap());
        let Inventory::Known(inventory) = beat.inventory else { panic!("the last readable schema counts") };
        assert_eq!(inventory.to_json(), json!([{"database": "Logs", "tables": ["A"]}]));
        let changed = r#"[{"database": "Logs", "tables": ["A", "B"]}]"#;
        let changed = memory.learn(&schemas(endpoint, "3", changed)).unwrap();
        assert_eq!(changed.len(), 1, "the hub must forget the old columns of Logs");
    }

    #[test]
    fn schemas_are_fetched_in_pages_and_a_huge_one_alone() {
        let rows = rows(&[
            ("https://a.kusto.windows.net", NOW, "1", 1),
            ("https://b.kusto.windows.net", NOW, "1", PAGE_BYTES + 1),
            ("https://c.kusto.windows.net", NOW, "1", PAGE_BYTES - 1),
            ("https://d.kusto.windows.net", NOW, "1", 1),
            ("https://e.kusto.windows.net", NOW, "1", 1),
        ]);
        let hosts = |page: &BTreeSet<String>| {
            page.iter().map(|key| key["https://".len()..][..1].to_owned()).collect::<String>()
        };
        assert_eq!(pages(rows.values()).iter().map(hosts).collect::<Vec<_>>(), ["a", "b", "cd", "e"]);
    }
}
