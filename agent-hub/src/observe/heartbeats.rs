//! The newest heartbeat of every partition. I/O: one query; a second one only for schemas whose hash is new.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, Timestamp};
use kql::{
    endpoint::ClusterEndpoint,
    names::DatabaseName,
    statements::{FALSE_CLAIM, HeartbeatSource, ReadHeartbeats, ReadSchemas, Windows},
};
use serde_json::Value;
use shared::{
    document::HubConfig,
    heartbeat::{Interner, Limits, SchemaInventory, parse_metadata, parse_schema},
    kusto::{DecodeError, KustoClient, ResultTable, Row},
    runtime::{RefusalReason, chain},
};

use super::{ObserveError, asking, decoding};
use crate::fleet::{Beat, Inventory};

/// What was read before: schemas, so that only changed ones are fetched again, and when, so that beats are counted once. Lives as long as the process.
#[derive(Debug, Default)]
pub struct HeartbeatMemory {
    partitions: BTreeMap<ClusterEndpoint, Remembered>,
    /// Of whom a schema was read for the first time, since the last reading that was whole.
    first: BTreeSet<ClusterEndpoint>,
    interner: Interner,
    /// The hub server's clock at the last complete reading.
    read_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct Remembered {
    hash: String,
    /// The last schema that could be read, of whichever beat.
    inventory: Option<Arc<SchemaInventory>>,
    metadata: BTreeMap<String, Value>,
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
    /// Partitions of which this process knew no schema before.
    pub first: BTreeSet<ClusterEndpoint>,
    /// Rows that are of no partition, in sentences.
    pub problems: Vec<String>,
    /// How many of those there are.
    pub refused: BTreeMap<RefusalReason, usize>,
}

const HEARTBEATS: &str = "heartbeats";
const SCHEMAS: &str = "the heartbeats' schemas";

/// Whom a reading asks for, where more beat than it can tell of: anyone who may write heartbeats may make endpoints up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Of whom it must tell: whom we federate, and whom the document lists.
    pub needed: BTreeSet<ClusterEndpoint>,
    /// Whom we watch besides.
    pub watched: BTreeSet<ClusterEndpoint>,
    /// A pattern of hosts.
    pub pattern: Option<String>,
}

impl Known {
    /// All that are needed, and as many others as there is room for. `None`: not even they have room.
    fn endpoints(self) -> Option<BTreeSet<ClusterEndpoint>> {
        let room = ReadHeartbeats::ENOUGH.checked_sub(self.needed.len())?;
        let others: Vec<_> = self.watched.difference(&self.needed).take(room).cloned().collect();
        Some(self.needed.into_iter().chain(others).collect())
    }
}

/// Reads all heartbeats of the retention period; where more endpoints beat than an answer may tell of, those of all that are needed by `known`, and of some others.
/// `trusted` says which endpoints may be partitions: anyone who may write heartbeats may write any endpoint,
/// and what gets into a group is asked with the rights of the hub's users. `admitted` says whose schemas are wanted: those of strangers would cost memory. An error means that nothing is known: a partial list is never returned.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_heartbeats(
    hub: &KustoClient,
    config: &HubConfig,
    memory: &mut HeartbeatMemory,
    known: impl FnOnce() -> Known,
    trusted: impl Fn(&ClusterEndpoint) -> Result<(), &'static str>,
    admitted: impl Fn(&ClusterEndpoint) -> bool,
) -> Result<HeartbeatReading, ObserveError> {
    let (database, source, windows) = (&config.heartbeat_database, &config.heartbeats, windows(config));
    let since = memory.read_at.map_or(UNIX_EPOCH, SystemTime::from);
    let interval = config.heartbeat_interval;
    let query = ReadHeartbeats { database, source, windows, since, interval };
    let mut answers = vec![hub.send(&query.request()).await.map_err(asking(HEARTBEATS))?];
    // One row is the server's time.
    let is_crowd = answers.iter().any(|answer| answer.rows().count() > ReadHeartbeats::ENOUGH + 1);
    if is_crowd {
        let known = known();
        let (needed, pattern) = (known.needed.len(), known.pattern.clone());
        let crowded = ObserveError::Crowded { needed, most: ReadHeartbeats::ENOUGH };
        let request = query.request_of(&known.endpoints().ok_or(crowded)?, pattern.as_deref());
        // What it tells counts; of those that were seen before it, the others.
        answers.insert(0, hub.send(&request).await.map_err(asking(HEARTBEATS))?);
    }
    let Rows { rows, now, mut problems, refused } =
        parse_rows(&answers, source, trusted).map_err(decoding(HEARTBEATS))?;
    drop(answers);
    if is_crowd {
        let enough = ReadHeartbeats::ENOUGH;
        problems.insert(0, format!("more than {enough} endpoints beat: all that are federated or listed are looked at, and of the others only some"));
    }
    let (mut changed, mut unread) = (BTreeSet::new(), BTreeSet::new());
    for endpoints in memory.wanted(&rows, admitted) {
        let request = ReadSchemas { database, source, windows, endpoints: &endpoints }.request();
        // What cannot be fetched harms only those whose it is: they go on with what was known, or with what the hub has of them.
        match hub.send(&request).await.map_err(asking(SCHEMAS)) {
            Ok(answer) => changed.extend(memory.learn(&answer, &rows).map_err(decoding(SCHEMAS))?),
            Err(error) => {
                problems.push(format!("{} schema(s) could not be read: {}", endpoints.len(), chain(&error)));
                unread.extend(endpoints);
            }
        }
    }
    memory.partitions.retain(|endpoint, _| rows.contains_key(endpoint));
    memory.interner.forget_unused();
    let beats = rows.into_values().map(|row| {
        let is_unread = unread.contains(&row.key);
        let beat = memory.beat(row);
        match beat.inventory {
            Inventory::Unknown if is_unread => Beat { inventory: Inventory::Unread, ..beat },
            _ => beat,
        }
    });
    let beats = beats.collect();
    Ok(HeartbeatReading { now, beats, changed, first: mem::take(&mut memory.first), problems, refused })
}

/// Schemas are large, and whoever is not expired has sent one within the time to live; twice that leaves room.
fn windows(config: &HubConfig) -> Windows {
    Windows { beats: config.heartbeat_retention, schemas: config.heartbeat_retention.min(config.heartbeat_ttl * 2) }
}

/// One row of [`ReadHeartbeats`].
struct HeartbeatRow {
    endpoint: ClusterEndpoint,
    /// ClusterEndpoint as the query gave it: lower case, perhaps with a slash at its end.
    key: String,
    received: Timestamp,
    new_beats: u64,
    skew: Option<SignedDuration>,
    /// Of schema and attributes.
    hash: String,
    /// `None`: no beat within the window has a schema.
    schema_bytes: Option<usize>,
}

/// How many bytes of schemas one query fetches at most; a longer schema comes alone. Bounds the memory that they take until they are read.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The longest schema that is read: a hundred times that of a large cluster.
const MAX_SCHEMA_BYTES: usize = 24 * 1024 * 1024;

/// How many partitions one query asks for at most: their endpoints travel with it.
const PAGE_PARTITIONS: usize = 500;

/// The keys of rows in pages of [`PAGE_BYTES`].
fn pages<'a>(rows: impl Iterator<Item = &'a HeartbeatRow>) -> Vec<BTreeSet<String>> {
    let mut pages = Vec::<BTreeSet<String>>::new();
    let mut room = 0;
    for row in rows {
        let bytes = row.schema_bytes.unwrap_or(0);
        if pages.last().is_none_or(|page| bytes > room || page.len() == PAGE_PARTITIONS) {
            pages.push(BTreeSet::new());
            room = PAGE_BYTES;
        }
        room = room.saturating_sub(bytes);
        if let Some(page) = pages.last_mut() {
            page.insert(row.key.clone());
        }
    }
    pages
}

/// The most refused rows that are told one by one.
const MAX_TOLD: usize = 20;

/// The newest row of each endpoint: one cluster may be written in several spellings, as adx-mon and we write it.
type Newest = BTreeMap<ClusterEndpoint, HeartbeatRow>;

/// Answers to [`ReadHeartbeats`].
struct Rows {
    rows: Newest,
    /// The server's time.
    now: Timestamp,
    /// What is wrong with rows that are left out.
    problems: Vec<String>,
    refused: BTreeMap<RefusalReason, usize>,
}

/// Without the server's time the answer is not whole.
fn parse_rows(
    answers: &[ResultTable],
    source: &HeartbeatSource,
    trusted: impl Fn(&ClusterEndpoint) -> Result<(), &'static str>,
) -> Result<Rows, DecodeError> {
    let (mut rows, mut now, mut problems) = (Newest::new(), None, Vec::new());
    let (mut refused, mut keys) = (BTreeMap::new(), HashSet::new());
    let mut refuse = |reason, problem| {
        *refused.entry(reason).or_default() += 1;
        problems.push(problem);
    };
    for row in answers.iter().flat_map(ResultTable::rows) {
        let key = row.string("ClusterEndpoint")?;
        if let Some(time) = row.datetime("Now")? {
            now = now.max(Some(time));
            continue;
        }
        // It is in two answers.
        if !keys.insert(key.to_owned()) {
            continue;
        }
        if is_false_claim(key, source) {
            refuse(RefusalReason::FalseClaim, format!("heartbeat rows are ignored that name another cluster: {key}"));
            continue;
        }
        let endpoint = match ClusterEndpoint::parse(key) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                refuse(RefusalReason::NoEndpoint, format!("a heartbeat row is ignored: {error}"));
                continue;
            }
        };
        if let Err(why) = trusted(&endpoint) {
            refuse(RefusalReason::Foreign, format!("the heartbeats of {endpoint} are ignored: {why}"));
            continue;
        }
        let row = parse_row(row, endpoint.clone(), key)?;
        if rows.get(&endpoint).is_none_or(|known: &HeartbeatRow| known.received < row.received) {
            rows.insert(endpoint, row);
        }
    }
    if problems.len() > MAX_TOLD {
        let untold = problems.split_off(MAX_TOLD).len();
        problems.push(format!("{untold} more heartbeat rows are ignored"));
    }
    let now = now.ok_or(DecodeError::NoRow { expected: "row with the server's time" })?;
    Ok(Rows { rows, now, problems, refused })
}

/// Whether our query made this name, for rows that name another cluster than their table's. Where all write into one table, whoever wrote it did, and it may go on with anything.
fn is_false_claim(key: &str, source: &HeartbeatSource) -> bool {
    let HeartbeatSource::PerPartition(tables) = source else { return false };
    key.strip_prefix(FALSE_CLAIM).is_some_and(|owner| tables.values().any(|known| known.as_str() == owner))
}

fn parse_row(row: Row<'_>, endpoint: ClusterEndpoint, key: &str) -> Result<HeartbeatRow, DecodeError> {
    let received = row.long("Received")?.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    Ok(HeartbeatRow {
        endpoint,
        key: key.to_owned(),
        received: received.unwrap_or(Timestamp::UNIX_EPOCH),
        new_beats: row.long("NewBeats")?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        skew: row.long("Skew")?.map(SignedDuration::from_secs),
        hash: row.string("Hash")?.to_owned(),
        schema_bytes: row.long("SchemaBytes")?.and_then(|bytes| usize::try_from(bytes).ok()),
    })
}

impl HeartbeatMemory {
    /// The beats of a reading were counted: the next one counts later ones.
    pub const fn count_from(&mut self, now: Timestamp) {
        self.read_at = Some(now);
    }

    /// Whose schemas are to be fetched, in pages of keys.
    fn wanted(&mut self, rows: &Newest, admitted: impl Fn(&ClusterEndpoint) -> bool) -> Vec<BTreeSet<String>> {
        self.refuse_long_schemas(rows.values());
        pages(rows.values().filter(|row| self.lacks(row) && admitted(&row.endpoint)))
    }

    /// A schema beyond all reason is not even fetched: its partition goes on with what is known of it.
    fn refuse_long_schemas<'a>(&mut self, rows: impl Iterator<Item = &'a HeartbeatRow>) {
        for row in rows {
            let Some(bytes) = row.schema_bytes.filter(|bytes| *bytes > MAX_SCHEMA_BYTES) else { continue };
            let known = self.partitions.entry(row.endpoint.clone()).or_default();
            known.hash.clone_from(&row.hash);
            known.problems =
                vec![format!("its schema has {bytes} bytes, more than {MAX_SCHEMA_BYTES}: it is not read")];
        }
    }

    /// Whether a row has a schema or attributes that are not remembered.
    fn lacks(&self, row: &HeartbeatRow) -> bool {
        self.partitions.get(&row.endpoint).is_none_or(|known| known.hash != row.hash)
    }

    /// Takes in the answer of [`ReadSchemas`]; returns what changed of what was known before.
    fn learn(
        &mut self,
        table: &ResultTable,
        rows: &Newest,
    ) -> Result<BTreeSet<(ClusterEndpoint, DatabaseName)>, DecodeError> {
        let mut changed = BTreeSet::new();
        for answer in table.rows() {
            let Ok(endpoint) = ClusterEndpoint::parse(answer.string("ClusterEndpoint")?) else { continue };
            // Two spellings of one endpoint: the one whose row counts.
            let Some(row) = rows.get(&endpoint).filter(|row| answer.string("ClusterEndpoint") == Ok(&row.key)) else {
                continue;
            };
            let text = answer.string("SchemaText")?;
            let (inventory, mut problems) = match text {
                "" => (None, Vec::new()),
                _ => parse_schema(answer.value("SchemaText")?, Limits::default()),
            };
            let (metadata, wrong) = parse_metadata(&answer.string("MetadataText")?.into());
            let before = self.partitions.remove(&endpoint).unwrap_or_default();
            // What is no list of attributes tells nothing of them.
            let metadata = if metadata.is_empty() && !wrong.is_empty() { before.metadata } else { metadata };
            problems.extend(wrong);
            let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            // A cluster without a database is rarer than an agent without rights.
            let says_nothing = inventory.as_ref().is_some_and(|inventory| inventory.0.is_empty());
            let inventory = inventory.filter(|_| !says_nothing);
            if says_nothing {
                problems.push(
                    "its heartbeat lists no database that can be used: what is known of it is kept (its agent may lack Database Viewer or Monitor at home)"
                        .to_owned(),
                );
            }
            if text.is_empty() {
                problems.push(
                    "no recent heartbeat has a schema: what is known of it is kept (null is also what Kusto makes of a schema over 1 MiB, unless the column's encoding is BigObject32)"
                        .to_owned(),
                );
            }
            let before = before.inventory;
            if before.is_none() {
                self.first.insert(endpoint.clone());
            }
            let inventory = inventory.map(|inventory| Arc::new(self.interner.share(inventory)));
            if let (Some(before), Some(after)) = (&before, &inventory) {
                changed.extend(differences(before, after).map(|name| (endpoint.clone(), name)));
            }
            let remembered = Remembered { hash: row.hash.clone(), inventory: inventory.or(before), metadata, problems };
            self.partitions.insert(endpoint, remembered);
        }
        Ok(changed)
    }

    /// The beat of a row, with its own schema or, if that was left out or could not be stored, the last one that was read.
    fn beat(&self, row: HeartbeatRow) -> Beat {
        let HeartbeatRow { endpoint, received, new_beats, skew, hash, .. } = row;
        let Remembered { inventory, metadata, problems, .. } =
            self.partitions.get(&endpoint).cloned().unwrap_or_default();
        let inventory = inventory.map_or(Inventory::Unknown, Inventory::Known);
        Beat { endpoint, received, new_beats, skew, inventory, metadata, problems, hash: Some(hash) }
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
    use kql::{names::TableName, types::ScalarType};
    use serde_json::json;
    use shared::kusto::ColumnInfo;

    use super::*;

    const NOW: &str = "2025-05-03T12:00:00Z";

    fn table(names: &[&str], rows: Vec<Vec<Value>>) -> ResultTable {
        let column = |name: &&str| ColumnInfo { name: (*name).to_owned(), scalar_type: ScalarType::String };
        ResultTable::new(names.iter().map(column).collect(), rows)
    }

    /// Rows of [`ReadHeartbeats`]: endpoint, how many minutes ago it was received, hash, schema bytes.
    fn answer(rows: &[(&str, i64, &str, usize)]) -> ResultTable {
        let names = ["ClusterEndpoint", "Received", "NewBeats", "Skew", "Hash", "SchemaBytes", "Now"];
        let now: Timestamp = NOW.parse().unwrap();
        let cells = |(endpoint, age, hash, bytes): &(&str, i64, &str, usize)| {
            let received = now.as_millisecond() - age * 60_000;
            vec![json!(endpoint), json!(received), json!(1), json!(null), json!(hash), json!(bytes), json!(null)]
        };
        let clock = vec![json!(""), json!(null), json!(null), json!(null), json!(""), json!(null), json!(NOW)];
        table(&names, rows.iter().map(cells).chain([clock]).collect())
    }

    fn rows(rows: &[(&str, i64, &str, usize)]) -> Newest {
        let trusted = |endpoint: &ClusterEndpoint| {
            if endpoint.host().ends_with(".kusto.windows.net") { Ok(()) } else { Err("it is foreign") }
        };
        parse_rows(&[answer(rows)], &shared(), trusted).unwrap().rows
    }

    fn shared() -> HeartbeatSource {
        HeartbeatSource::Shared(TableName::new("Heartbeats").unwrap())
    }

    fn schemas(endpoint: &str, text: &str) -> ResultTable {
        let names = ["ClusterEndpoint", "MetadataText", "SchemaText"];
        table(&names, vec![vec![json!(endpoint), json!(r#"{"geo": "EU"}"#), json!(text)]])
    }

    #[test]
    fn two_spellings_of_one_endpoint_are_one_partition_with_its_newest_beat() {
        let (slash, plain) = ("https://eu.kusto.windows.net/", "https://eu.kusto.windows.net");
        for both in [[(slash, 60, "a", 1), (plain, 1, "b", 1)], [(plain, 1, "b", 1), (slash, 60, "a", 1)]] {
            let rows = rows(&both);
            assert_eq!(rows.len(), 1);
            assert_eq!(rows.values().next().unwrap().key, plain);
        }
    }

    #[test]
    fn an_endpoint_that_is_not_trusted_or_no_endpoint_is_no_partition() {
        let claim = format!("{FALSE_CLAIM}https://eu.kusto.windows.net");
        let endpoints = ["https://evil.example", "x", &claim, "https://eu.kusto.windows.net"];
        let foreign = |endpoint: &ClusterEndpoint| {
            if endpoint.host().ends_with(".kusto.windows.net") { Ok(()) } else { Err("it is foreign") }
        };
        let table = (TableName::new("Heartbeats_eu").unwrap(), ClusterEndpoint::parse(endpoints[3]).unwrap());
        let own = HeartbeatSource::PerPartition([table].into());
        let Rows { rows, problems, refused, .. } =
            parse_rows(&[answer(&endpoints.map(|endpoint| (endpoint, 1, "a", 1)))], &own, foreign).unwrap();
        assert_eq!(
            rows.values().map(|row| (row.endpoint.as_str(), row.skew)).collect::<Vec<_>>(),
            [(endpoints[3], None)]
        );
        assert_eq!(
            problems,
            [
                "the heartbeats of https://evil.example are ignored: it is foreign",
                "a heartbeat row is ignored: \"x\" is not a cluster endpoint: it must start with https://",
                "heartbeat rows are ignored that name another cluster: written into the table of https://eu.kusto.windows.net",
            ]
        );
        let expected = [RefusalReason::NoEndpoint, RefusalReason::FalseClaim, RefusalReason::Foreign];
        assert_eq!(refused, BTreeMap::from(expected.map(|reason| (reason, 1))));
    }

    #[test]
    fn a_name_that_looks_like_ours_for_a_false_claim_is_a_strangers_and_is_told_without_line_breaks() {
        let forged = format!("{FALSE_CLAIM}x\nplan 0123456789ab\u{1b}[2J");
        let owner = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
        let own = HeartbeatSource::PerPartition([(TableName::new("Heartbeats_eu").unwrap(), owner)].into());
        for (key, source) in
            [(&forged, shared()), (&forged, own), (&format!("{FALSE_CLAIM}https://eu.kusto.windows.net"), shared())]
        {
            let Rows { problems, refused, .. } =
                parse_rows(&[answer(&[(key.as_str(), 1, "a", 1)])], &source, |_| Ok(())).unwrap();
            assert_eq!(refused, BTreeMap::from([(RefusalReason::NoEndpoint, 1)]), "{key:?}");
            assert!(!problems[0].contains(char::is_control), "{problems:?}");
        }
    }

    #[test]
    fn a_crowd_leaves_room_for_all_that_are_federated_or_listed_and_takes_none_from_them() {
        let some = |prefix: &str, count: usize| -> BTreeSet<ClusterEndpoint> {
            let name = |number| format!("https://{prefix}{number}.kusto.windows.net");
            (0..count).map(|number| ClusterEndpoint::parse(&name(number)).unwrap()).collect()
        };
        let asked = |needed, watched| {
            let known = Known { needed: some("z", needed), watched: some("a", watched), pattern: None };
            let endpoints = known.endpoints()?;
            Some((endpoints.len(), some("z", needed).is_subset(&endpoints)))
        };
        let enough = ReadHeartbeats::ENOUGH;
        assert_eq!(asked(3, 5), Some((8, true)));
        assert_eq!(asked(3, 2 * enough), Some((enough, true)));
        assert_eq!(asked(enough, 5), Some((enough, true)));
        assert_eq!(asked(enough + 1, 5), None);
    }

    #[test]
    fn what_is_in_two_answers_counts_once() {
        let (eu, foreign) = ("https://eu.kusto.windows.net", "https://evil.example");
        let both = [answer(&[(eu, 1, "a", 1), (foreign, 1, "a", 1)]), answer(&[(foreign, 1, "a", 1), (eu, 1, "a", 1)])];
        let trusted = |endpoint: &ClusterEndpoint| if endpoint.host() == "evil.example" { Err("no") } else { Ok(()) };
        let Rows { rows, problems, refused, .. } = parse_rows(&both, &shared(), trusted).unwrap();
        assert_eq!((rows.len(), problems.len(), refused), (1, 1, [(RefusalReason::Foreign, 1)].into()));
    }

    #[test]
    fn an_answer_without_the_servers_time_is_not_whole() {
        let names = ["ClusterEndpoint", "Received", "NewBeats", "Skew", "Hash", "SchemaBytes", "Now"];
        assert!(parse_rows(&[table(&names, Vec::new())], &shared(), |_| Ok(())).is_err());
    }

    #[test]
    fn a_schema_is_fetched_once_and_an_unreadable_one_leaves_what_was_known() {
        let endpoint = "https://eu.kusto.windows.net";
        let mut memory = HeartbeatMemory::default();
        let row = |hash| rows(&[(endpoint, 1, hash, 9)]);
        let lacks = |memory: &HeartbeatMemory, hash| memory.lacks(row(hash).values().next().unwrap());
        assert!(lacks(&memory, "1"));
        let known = r#"[{"database": "Logs", "tables": ["A"]}]"#;
        assert_eq!(memory.learn(&schemas(endpoint, known), &row("1")).unwrap(), BTreeSet::new());
        assert!(!lacks(&memory, "1") && lacks(&memory, "2"));
        for (hash, wrong) in [("2", "7"), ("3", ""), ("2", "[]")] {
            memory.learn(&schemas(endpoint, wrong), &row(hash)).unwrap();
            assert!(!lacks(&memory, hash), "what cannot be read is not fetched again and again");
            let beat = memory.beat(row(hash).into_values().next().unwrap());
            let Inventory::Known(inventory) = beat.inventory else { panic!("the last readable schema counts") };
            assert_eq!(inventory.to_json(), json!([{"database": "Logs", "tables": ["A"]}]));
            assert_eq!(beat.metadata["geo"], "EU");
            assert_eq!(beat.problems.len(), 1);
        }
        let changed = r#"[{"database": "Logs", "tables": ["A", "B"]}]"#;
        let changed = memory.learn(&schemas(endpoint, changed), &row("4")).unwrap();
        assert_eq!(changed.len(), 1, "the hub must forget the old columns of Logs");
    }

    #[test]
    fn a_schema_beyond_all_reason_is_not_fetched_and_what_was_known_stays() {
        let endpoint = "https://eu.kusto.windows.net";
        let mut memory = HeartbeatMemory::default();
        let row = |hash, bytes| rows(&[(endpoint, 1, hash, bytes)]);
        memory.learn(&schemas(endpoint, r#"[{"database": "Logs", "tables": ["A"]}]"#), &row("1", 9)).unwrap();
        let just = BTreeSet::from([endpoint.to_owned()]);
        assert_eq!(memory.wanted(&row("2", MAX_SCHEMA_BYTES), |_| true), [just]);
        assert_eq!(memory.wanted(&row("2", MAX_SCHEMA_BYTES), |_| false), [], "a stranger's is not wanted at all");
        let long = row("2", MAX_SCHEMA_BYTES + 1);
        assert_eq!(memory.wanted(&long, |_| true), []);
        assert!(!memory.lacks(long.values().next().unwrap()));
        let beat = memory.beat(long.into_values().next().unwrap());
        assert!(matches!(beat.inventory, Inventory::Known(_)) && beat.metadata["geo"] == "EU");
        assert!(beat.problems[0].contains("it is not read"), "{:?}", beat.problems);
    }

    #[test]
    fn of_what_is_read_only_so_much_counts() {
        let endpoint = "https://eu.kusto.windows.net";
        let read = |schema: Value| {
            let mut memory = HeartbeatMemory::default();
            let row = rows(&[(endpoint, 1, "1", 9)]);
            memory.learn(&schemas(endpoint, &schema.to_string()), &row).unwrap();
            let beat = memory.beat(row.into_values().next().unwrap());
            let Inventory::Known(inventory) = beat.inventory else { panic!("it is a schema") };
            (inventory, beat.problems)
        };
        let names = |count: usize| (0..count).map(|number| format!("N{number}")).collect::<Vec<_>>();
        let tables = |count: usize| {
            let (inventory, problems) = read(json!([{"database": "Logs", "tables": names(count)}]));
            (inventory.0.values().map(|database| database.tables.len()).sum::<usize>(), problems)
        };
        let only = |what: &str| vec![format!("Schema: only the first {what} are used")];
        assert_eq!(tables(19_999), (19_999, vec![]));
        assert_eq!(
            tables(20_001),
            (
                20_000,
                vec!["Schema: only the first 20000 tables and views are used, and 8388608 bytes of names".to_owned()]
            )
        );
        let (inventory, problems) = read(names(1_001).iter().map(|name| json!({"database": name})).collect());
        assert_eq!((inventory.0.len(), problems), (1_000, only("1000 databases")));
        let columns: Vec<_> = names(2_001).iter().map(|name| format!("{name}:long")).collect();
        let schema = json!([{"database": "Logs", "tables": ["A"], "tableSchemas": {"A": columns.join(",")}}]);
        let (inventory, problems) = read(schema);
        assert!(inventory.0.values().all(|database| database.tables.values().all(Option::is_none)));
        assert_eq!(problems, ["Logs.tableSchemas.A: it has more than 2000 columns"]);
    }

    #[test]
    fn schemas_are_fetched_in_pages_and_a_huge_one_alone() {
        let rows = rows(&[
            ("https://a.kusto.windows.net", 1, "1", 1),
            ("https://b.kusto.windows.net", 1, "1", PAGE_BYTES + 1),
            ("https://c.kusto.windows.net", 1, "1", PAGE_BYTES - 1),
            ("https://d.kusto.windows.net", 1, "1", 1),
            ("https://e.kusto.windows.net", 1, "1", 1),
        ]);
        let hosts = |page: &BTreeSet<String>| {
            page.iter().map(|key| key["https://".len()..][..1].to_owned()).collect::<String>()
        };
        assert_eq!(pages(rows.values()).iter().map(hosts).collect::<Vec<_>>(), ["a", "b", "cd", "e"]);
    }
}
