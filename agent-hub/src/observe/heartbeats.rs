//! The newest heartbeat of every partition. I/O: one query; a second one only for schemas whose hash is new.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt, mem,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, Timestamp};
use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, TableName},
    statements::{FALSE_CLAIM, HeartbeatSource, ReadHeartbeats, ReadSchemas, Windows},
};
use serde_json::Value;
use shared::{
    document::HubConfig,
    heartbeat::{Full, Interner, Limits, SchemaInventory, parse_metadata, parse_schema},
    kusto::{DecodeError, KustoClient, ResultTable, Row},
    runtime::{RefusalReason, chain},
};

use super::{ObserveError, asking, decoding, turns::Turns, words};
use crate::{
    fleet::{Beat, Inventory},
    settings::signed,
};

/// What was read before: schemas, so that only changed ones are fetched again, and when, so that beats are counted once. Lives as long as the process.
#[derive(Debug, Default)]
pub struct HeartbeatMemory {
    partitions: BTreeMap<ClusterEndpoint, Remembered>,
    /// Of whom a schema was read for the first time, since the last reading that was whole.
    first: BTreeSet<ClusterEndpoint>,
    /// Databases whose content was read anew and differs, since then.
    changed: BTreeSet<(ClusterEndpoint, DatabaseName)>,
    interner: Interner,
    turns: Turns,
    /// The hub server's clock at the last complete reading.
    read_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct Remembered {
    /// Of what was read last, as the query that read it tells.
    hash: String,
    /// The last schema that could be read, of whichever beat.
    inventory: Option<Arc<SchemaInventory>>,
    /// What was read then: later rows may have no schema, or one that is not taken in.
    inventory_hash: Option<String>,
    metadata: Arc<BTreeMap<String, Value>>,
    has_unread_metadata: bool,
    problems: Vec<Arc<str>>,
    /// There was no room for its schema.
    left_out: Option<Full>,
    /// No beat had one, as far back as schemas are read.
    lacks_schema: bool,
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
    /// Schemas that could not be fetched: their partitions go on with what is known of them.
    pub failures: Vec<String>,
    /// How many those are.
    pub unfetched: usize,
    /// How many of those there are.
    pub refused: BTreeMap<RefusalReason, usize>,
}

/// What is wrong with a partition that beats without a schema.
const NO_SCHEMA: &str = "no recent heartbeat has a schema: what is known of it is kept (null is also what Kusto makes of a schema over 1 MiB, unless the column's encoding is BigObject32)";

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
/// and what gets into a group is asked with the rights of the hub's users. `unread`: why tables of single partitions are not read. `admitted` says whose schemas are wanted: those of strangers would cost memory. An error means that nothing is known: a partial list is never returned.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_heartbeats(
    hub: &KustoClient,
    config: &HubConfig,
    unread: &BTreeMap<TableName, String>,
    memory: &mut HeartbeatMemory,
    known: impl FnOnce() -> Known,
    trusted: impl Fn(&ClusterEndpoint) -> Result<(), &'static str>,
    admitted: impl Fn(&ClusterEndpoint) -> bool,
) -> Result<HeartbeatReading, ObserveError> {
    let (database, windows) = (&config.heartbeat_database, windows(config));
    let source = &config.heartbeats.without(|table| unread.contains_key(table));
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
        parse_rows(&answers, source, &trusted).map_err(decoding(HEARTBEATS))?;
    drop(answers);
    if is_crowd {
        let enough = ReadHeartbeats::ENOUGH;
        problems.insert(0, format!("more than {enough} endpoints beat: all that are federated or listed are looked at, and of the others only some"));
    }
    let mut unfetched = Unfetched::default();
    let pages = memory.wanted(&rows, |row| admitted(&row.endpoint));
    let left_out = fetch(hub, config, source, &rows, memory, pages, &mut unfetched).await?;
    if !left_out.is_empty() {
        // What changed was in memory twice until its page had ended: there may be room now.
        memory.interner.forget_unused();
        let pages = memory.wanted(&rows, |row| left_out.contains(&row.endpoint));
        fetch(hub, config, source, &rows, memory, pages, &mut unfetched).await?;
    }
    let Unfetched { keys: unfetched, failures } = unfetched;
    let without_rows: BTreeMap<_, _> =
        config.heartbeats.owners(unread).filter(|(owner, _)| trusted(owner).is_ok()).collect();
    let is_there = |endpoint: &ClusterEndpoint| rows.contains_key(endpoint) || without_rows.contains_key(endpoint);
    memory.partitions.retain(|endpoint, _| is_there(endpoint));
    memory.turns.retain(is_there);
    memory.interner.forget_unused();
    let (window, recent) = (signed(config.heartbeat_ttl), signed(windows.schemas));
    let beats = rows.into_values().map(|row| {
        let is_unread = unfetched.contains(&row.key);
        let in_turn = memory.turns.hear(&row.endpoint, &row.hash, row.received, window);
        let mut beat = memory.beat(row, now, recent);
        beat.problems.extend(in_turn.map(Arc::from));
        match beat.inventory {
            Inventory::Unknown if is_unread => Beat { inventory: Inventory::Unread, ..beat },
            _ => beat,
        }
    });
    let mut beats: Vec<_> = beats.collect();
    beats.extend(without_rows.into_iter().map(|(owner, why)| memory.unread_beat(owner, why)));
    let unfetched = unfetched.len();
    let (changed, first) = (mem::take(&mut memory.changed), mem::take(&mut memory.first));
    Ok(HeartbeatReading { now, beats, changed, first, problems, failures, unfetched, refused })
}

/// Schemas that could not be fetched.
#[derive(Default)]
struct Unfetched {
    /// Of which rows.
    keys: BTreeSet<String>,
    failures: Vec<String>,
}

/// Fetches schemas, a page after the other. For whose there was no room.
async fn fetch(
    hub: &KustoClient,
    config: &HubConfig,
    source: &HeartbeatSource,
    rows: &Newest,
    memory: &mut HeartbeatMemory,
    pages: Vec<BTreeSet<String>>,
    unfetched: &mut Unfetched,
) -> Result<BTreeSet<ClusterEndpoint>, ObserveError> {
    let (database, windows) = (&config.heartbeat_database, windows(config));
    let mut left_out = BTreeSet::new();
    for endpoints in pages {
        // A hub that is down would hold the pass up for hours, and what it decides then is of long ago.
        if unfetched.failures.len() >= MOST_FAILED_PAGES {
            unfetched.keys.extend(endpoints);
            continue;
        }
        let request = ReadSchemas { database, source, windows, endpoints: &endpoints }.request();
        let told = hub.fold(&request, schemas_of(rows, config, &mut memory.interner)).await;
        if !matches!(told, Ok(Ok(_))) {
            memory.interner.forget_unused();
        }
        // What cannot be fetched harms only those whose it is: they go on with what was known, or with what the hub has of them.
        match told.map_err(asking(SCHEMAS)) {
            Ok(told) => {
                for told in told.map_err(decoding(SCHEMAS))? {
                    left_out.extend(told.left_out.map(|_| told.endpoint.clone()));
                    memory.learn(told);
                }
            }
            Err(error) => {
                unfetched.failures.push(format!("{} schema(s) could not be read: {}", endpoints.len(), chain(&error)));
                unfetched.keys.extend(endpoints);
            }
        }
    }
    Ok(left_out)
}

/// Schemas are large, and whoever is not expired has sent one within the time to live; twice that leaves room.
pub(super) fn windows(config: &HubConfig) -> Windows {
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
    /// What both take in the answer that has them.
    bytes: usize,
}

/// How many bytes of schemas and attributes one query fetches at most; what is longer comes alone. Bounds what one partition may do to others: Kusto gives no answer at all that is too long,
/// and what a stranger has written may be six times as long in one.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// After how many failures a reading asks for no more schemas.
const MOST_FAILED_PAGES: usize = 3;

/// The longest schema that is read, with its attributes: a hundred times that of a large cluster.
const MAX_SCHEMA_BYTES: usize = 24 * 1024 * 1024;

/// How many partitions one query asks for at most: their endpoints travel with it.
const PAGE_PARTITIONS: usize = 500;

/// The keys of rows in pages of [`PAGE_BYTES`].
fn pages<'a>(rows: impl Iterator<Item = &'a HeartbeatRow>) -> Vec<BTreeSet<String>> {
    let mut pages = Vec::<BTreeSet<String>>::new();
    let mut room = 0;
    for row in rows {
        // None is so short that it comes with one that takes a whole page.
        let bytes = row.bytes.max(1);
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

/// Rows that are left out.
#[derive(Default)]
struct Refusals {
    told: Vec<String>,
    counts: BTreeMap<RefusalReason, usize>,
}

impl Refusals {
    /// What is not told is not written out either: that may cost more than reading the row.
    fn add(&mut self, reason: RefusalReason, problem: impl fmt::Display) {
        *self.counts.entry(reason).or_default() += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(problem.to_string());
        }
    }

    /// In sentences, and how many there are for each reason.
    fn finish(mut self) -> (Vec<String>, BTreeMap<RefusalReason, usize>) {
        let untold = self.counts.values().sum::<usize>() - self.told.len();
        if untold > 0 {
            self.told.push(format!("{untold} more heartbeat rows are ignored"));
        }
        (self.told, self.counts)
    }
}

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
    let (mut rows, mut now) = (Newest::new(), None);
    let (mut refusals, mut keys) = (Refusals::default(), HashSet::new());
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
            refusals.add(
                RefusalReason::FalseClaim,
                format_args!("heartbeat rows are ignored that name another cluster: {key}"),
            );
            continue;
        }
        let endpoint = match ClusterEndpoint::parse(key) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                refusals.add(RefusalReason::NoEndpoint, format_args!("a heartbeat row is ignored: {error}"));
                continue;
            }
        };
        if let Err(why) = trusted(&endpoint) {
            refusals.add(RefusalReason::Foreign, format_args!("the heartbeats of {endpoint} are ignored: {why}"));
            continue;
        }
        let row = parse_row(row, endpoint.clone(), key)?;
        if rows.get(&endpoint).is_none_or(|known: &HeartbeatRow| known.received < row.received) {
            rows.insert(endpoint, row);
        }
    }
    let (problems, refused) = refusals.finish();
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
        bytes: row.long("Bytes")?.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0),
    })
}

/// What a row of [`ReadSchemas`] tells of its partition.
struct Told {
    endpoint: ClusterEndpoint,
    /// Of what is told here, not of the row that was read before: the partition may have beaten since, with another schema, and later with that one again.
    hash: String,
    inventory: Option<Arc<SchemaInventory>>,
    /// `None`: what is no list of attributes tells nothing of them.
    metadata: Option<Arc<BTreeMap<String, Value>>>,
    problems: Vec<Arc<str>>,
    left_out: Option<Full>,
    lacks_schema: bool,
}

/// Reads rows of [`ReadSchemas`]. Their answer may still prove incomplete: what was shared then is forgotten.
fn schemas_of(
    rows: &Newest,
    config: &HubConfig,
    interner: &mut Interner,
) -> impl FnMut(&mut Vec<Told>, Row<'_>) -> Result<(), DecodeError> {
    |all, row| {
        all.extend(read_schema(row, rows, config, interner)?);
        Ok(())
    }
}

/// `None` of a row that does not count.
fn read_schema(
    row: Row<'_>,
    rows: &Newest,
    config: &HubConfig,
    interner: &mut Interner,
) -> Result<Option<Told>, DecodeError> {
    let key = row.string("ClusterEndpoint")?;
    // Two spellings of one endpoint: the one whose row counts.
    let counts = |endpoint: &ClusterEndpoint| rows.get(endpoint).is_some_and(|row| row.key == key);
    let Some(endpoint) = ClusterEndpoint::parse(key).ok().filter(counts) else { return Ok(None) };
    let text = row.string("SchemaText")?;
    let (inventory, wrong_schema) = match text {
        "" => (None, Vec::new()),
        _ => parse_schema(row.value("SchemaText")?, Limits::default()),
    };
    let (metadata, wrong_metadata) = parse_metadata(&row.string("MetadataText")?.into());
    // First what touches all of the partition: not all may be kept.
    let mut problems = Vec::new();
    // A cluster without a database is rarer than an agent without rights.
    let says_nothing = inventory.as_ref().is_some_and(|inventory| inventory.0.is_empty());
    let inventory = inventory.filter(|_| !says_nothing);
    if says_nothing {
        problems.push(
            "its heartbeat lists no database that can be used: what is known of it is kept (its agent may lack Database Viewer or Monitor at home)"
                .to_owned(),
        );
    }
    let shared = inventory.map(|inventory| interner.share(inventory)).transpose();
    let left_out = shared.as_ref().err().copied();
    let inventory = shared.unwrap_or_else(|full| {
        problems.push(full.to_string());
        None
    });
    problems.extend(wrong_schema.iter().chain(&wrong_metadata).map(ToString::to_string));
    let is_unread = metadata.is_empty() && !wrong_metadata.is_empty();
    let metadata = if is_unread {
        None
    } else {
        let (metadata, unshown) = words::attributes(metadata, config);
        problems.extend(unshown);
        Some(metadata)
    };
    let hash = row.string("Hash")?.to_owned();
    let (problems, lacks_schema) = (words::problems(&problems), text.is_empty());
    Ok(Some(Told { endpoint, hash, inventory, metadata, problems, left_out, lacks_schema }))
}

impl HeartbeatMemory {
    /// The beats of a reading were counted: the next one counts later ones.
    pub const fn count_from(&mut self, now: Timestamp) {
        self.read_at = Some(now);
    }

    /// The same as what is held of others, if there is room for it.
    pub(super) fn share(&mut self, inventory: SchemaInventory) -> Option<Arc<SchemaInventory>> {
        self.interner.share(inventory).ok()
    }

    /// Whose schemas are to be fetched, in pages of keys.
    fn wanted(&mut self, rows: &Newest, admitted: impl Fn(&HeartbeatRow) -> bool) -> Vec<BTreeSet<String>> {
        self.refuse_long_schemas(rows.values());
        pages(rows.values().filter(|row| self.lacks(row) && admitted(row)))
    }

    /// A schema beyond all reason is not even fetched: its partition goes on with what is known of it.
    fn refuse_long_schemas<'a>(&mut self, rows: impl Iterator<Item = &'a HeartbeatRow>) {
        for row in rows.filter(|row| row.bytes > MAX_SCHEMA_BYTES) {
            let known = self.partitions.entry(row.endpoint.clone()).or_default();
            known.hash.clone_from(&row.hash);
            known.left_out = None;
            known.lacks_schema = false;
            let told = format!(
                "its schema and attributes have {} bytes, more than {MAX_SCHEMA_BYTES}: they are not read",
                row.bytes
            );
            known.problems = vec![told.into()];
        }
    }

    /// Whether a row has a schema or attributes that are not remembered, and may be.
    fn lacks(&self, row: &HeartbeatRow) -> bool {
        let may_be = |known: &Remembered| {
            known.hash != row.hash || known.left_out.is_some_and(|refused| self.interner.has_room(refused))
        };
        self.partitions.get(&row.endpoint).is_none_or(may_be)
    }

    /// Takes in what a partition tells, once the answer that says it was complete.
    fn learn(&mut self, told: Told) {
        let Told { endpoint, hash, inventory, metadata, problems, left_out, lacks_schema } = told;
        let before = self.partitions.remove(&endpoint).unwrap_or_default();
        if before.inventory.is_none() {
            self.first.insert(endpoint.clone());
        }
        if let (Some(before), Some(after)) = (&before.inventory, &inventory) {
            self.changed.extend(differences(before, after).map(|name| (endpoint.clone(), name)));
        }
        let (inventory, inventory_hash) = match inventory {
            Some(inventory) => (Some(inventory), Some(hash.clone())),
            None => (before.inventory, before.inventory_hash),
        };
        let has_unread_metadata = metadata.is_none() && before.metadata.is_empty();
        let metadata = metadata.unwrap_or(before.metadata);
        let remembered = Remembered {
            hash,
            inventory,
            inventory_hash,
            metadata,
            has_unread_metadata,
            problems,
            left_out,
            lacks_schema,
        };
        self.partitions.insert(endpoint, remembered);
    }

    /// The beat of a row, with its own schema or, if that was left out or could not be stored, the last one that was read.
    fn beat(&self, row: HeartbeatRow, now: Timestamp, recent: SignedDuration) -> Beat {
        let HeartbeatRow { endpoint, received, new_beats, skew, .. } = row;
        let remembered = self.partitions.get(&endpoint).cloned().unwrap_or_default();
        let Remembered { inventory, inventory_hash: hash, metadata, has_unread_metadata, .. } = remembered;
        let Remembered { mut problems, lacks_schema, .. } = remembered;
        // That nothing is recent of one that is silent says its state.
        if lacks_schema && now.duration_since(received) <= recent {
            problems.insert(0, NO_SCHEMA.into());
        }
        let inventory = inventory.map_or(Inventory::Unknown, Inventory::Known);
        let of_row = Beat { received, new_beats, skew, problems, ..Beat::forgotten(endpoint) };
        Beat { inventory, metadata, has_unread_metadata, hash, ..of_row }
    }

    /// What stands for the beat of a partition whose table cannot be read: the last schema that was.
    fn unread_beat(&self, endpoint: &ClusterEndpoint, why: &str) -> Beat {
        let Remembered { inventory, inventory_hash: hash, metadata, has_unread_metadata, .. } =
            self.partitions.get(endpoint).cloned().unwrap_or_default();
        let inventory = inventory.map_or(Inventory::Unread, Inventory::Known);
        let of_table = Beat { unread: Some(why.into()), ..Beat::forgotten(endpoint.clone()) };
        Beat { inventory, metadata, has_unread_metadata, hash, ..of_table }
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
mod tests;
