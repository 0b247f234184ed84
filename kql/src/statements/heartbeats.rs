//! The heartbeat table: its set-up, and how heartbeats are written and read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    endpoint::ClusterEndpoint,
    literal,
    names::{DatabaseName, NameError, TableName},
    request::{Request, RequestKind},
    statements::{Entity, MAX_SCRIPT_BYTES, request},
    template,
};

/// A duration as a timespan literal.
pub(super) fn timespan_literal(duration: Duration) -> String {
    let ticks = i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX);
    format!("time({})", literal::timespan(ticks))
}

/// A time after 1970 as a datetime literal.
fn datetime_literal(time: SystemTime) -> String {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let ticks = i64::try_from(nanos / 100).unwrap_or(i64::MAX);
    format!("datetime({})", literal::datetime(ticks.saturating_add(literal::UNIX_EPOCH_TICKS)))
}

/// A period as policy commands document it: a number and its unit, `7d`.
fn policy_period(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match [(86_400, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit))
    {
        Some((unit, suffix)) => format!("{}{suffix}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

macro_rules! table_command {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $type<'a> {
            /// The heartbeat database.
            pub database: &'a DatabaseName,
            /// The heartbeat table.
            pub table: &'a TableName,
        }

        impl $type<'_> {
            /// Renders the command.
            pub fn request(&self) -> Request {
                let file = include_str!(concat!("../../text/", $name, ".kql"));
                let values = [("table", self.table.quoted())];
                let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
                request($name, RequestKind::IdempotentControl, Some(self.database), file, &values)
            }
        }
    };
}

table_command!(
    /// The table in the form that adx-mon's agents write too.
    CreateHeartbeatTable,
    "create_heartbeat_table"
);
table_command!(
    /// Lets heartbeats arrive within seconds.
    EnableStreaming,
    "enable_streaming"
);
table_command!(
    /// Raises the limit of a Schema from 1 MiB to 32 MiB.
    AlterSchemaEncoding,
    "alter_schema_encoding"
);

macro_rules! period_command {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $type<'a> {
            /// The database.
            pub database: &'a DatabaseName,
            /// The table.
            pub table: &'a TableName,
            /// How long; whole seconds count.
            pub period: Duration,
        }

        impl $type<'_> {
            /// Renders the command.
            pub fn request(&self) -> Request {
                let file = include_str!(concat!("../../text/", $name, ".kql"));
                let (table, period) = (self.table.quoted(), policy_period(self.period));
                let values = [("table", table.as_str()), ("period", period.as_str())];
                request($name, RequestKind::IdempotentControl, Some(self.database), file, &values)
            }
        }
    };
}

period_command!(
    /// How long rows are kept.
    AlterRetention,
    "alter_retention"
);
period_command!(
    /// How long rows stay in the hot cache.
    AlterCaching,
    "alter_caching"
);

/// The policies that the heartbeat table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeartbeatPolicy {
    /// How long rows are kept.
    Retention,
    /// How long rows are hot.
    Caching,
    /// Whether rows may be streamed in.
    StreamingIngestion,
    /// How the column Schema is stored.
    SchemaEncoding,
}

/// One policy as JSON text. Columns: Policy:string.
#[derive(Debug, Clone, Copy)]
pub struct ShowPolicy<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// The heartbeat table.
    pub table: &'a TableName,
    /// Which.
    pub policy: HeartbeatPolicy,
}

impl ShowPolicy<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        let (entity, policy) = match self.policy {
            HeartbeatPolicy::Retention => (format!("table {}", self.table.quoted()), "retention"),
            HeartbeatPolicy::Caching => (format!("table {}", self.table.quoted()), "caching"),
            HeartbeatPolicy::StreamingIngestion => (format!("table {}", self.table.quoted()), "streamingingestion"),
            HeartbeatPolicy::SchemaEncoding => (format!("column {}.Schema", self.table.quoted()), "encoding"),
        };
        let file = include_str!("../../text/show_policies.kql");
        let values = [("entity", entity.as_str()), ("policy", policy)];
        request("show_policies", RequestKind::Show, Some(self.database), file, &values)
    }
}

/// Appends CSV records through a command; the fallback where streaming is off.
#[derive(Debug, Clone, Copy)]
pub struct IngestInline<'a> {
    /// The database.
    pub database: &'a DatabaseName,
    /// The table.
    pub table: &'a TableName,
    /// CSV records, each ending with a line feed; no value may hold a raw line break, since the command's data is read line by line.
    pub records: &'a str,
}

impl IngestInline<'_> {
    /// Renders as many commands as the records need, in their order: each with as many whole records as [`MAX_SCRIPT_BYTES`] allow, a longer record alone in its own.
    /// None where there are no records. Sending one twice appends twice, which readers of heartbeats survive (`arg_max`). Columns of an answer, of which Microsoft's
    /// page names the first alone: ExtentId:guid, ItemLoaded:string, Duration:timespan, HasErrors:bool, OperationId:guid.
    pub fn requests(&self) -> Vec<Request> {
        let command = |records: &str| {
            request(
                "ingest_inline",
                RequestKind::Control,
                Some(self.database),
                include_str!("../../text/ingest_inline.kql"),
                &[("table", &self.table.quoted()), ("records", records)],
            )
        };
        at_line_ends(self.records, MAX_SCRIPT_BYTES).into_iter().map(command).collect()
    }
}

/// A text in parts that end where its lines do: each as long as `most` bytes allow, a longer line alone.
fn at_line_ends(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        if end > start && end - start + line.len() > most {
            parts.push(&text[start..end]);
            start = end;
        }
        end += line.len();
    }
    if end > start {
        parts.push(&text[start..end]);
    }
    parts
}

/// Where heartbeats are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatSource {
    /// In one table that all partitions write to: a row is believed to be of the cluster that it names.
    Shared(TableName),
    /// In a table for each partition: a row that names another cluster than its table's is nobody's.
    PerPartition(BTreeMap<TableName, ClusterEndpoint>),
}

/// How ClusterEndpoint begins in a row that was written into another partition's table.
pub const FALSE_CLAIM: &str = "written into the table of ";

impl HeartbeatSource {
    /// Its tables.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        let (shared, own) = match self {
            Self::Shared(table) => (Some(table), None),
            Self::PerPartition(tables) => (None, Some(tables.keys())),
        };
        shared.into_iter().chain(own.into_iter().flatten())
    }

    /// Of some tables, where each partition has its own: whose they are.
    pub fn owners<'a, T>(
        &'a self,
        tables: &'a BTreeMap<TableName, T>,
    ) -> impl Iterator<Item = (&'a ClusterEndpoint, &'a T)> {
        let own = if let Self::PerPartition(own) = self { Some(own) } else { None };
        tables.iter().filter_map(move |(table, of)| Some((own?.get(table)?, of)))
    }

    /// The same without some tables, where each partition has its own.
    #[must_use]
    pub fn without(&self, tables: impl Fn(&TableName) -> bool) -> Self {
        match self {
            Self::Shared(table) => Self::Shared(table.clone()),
            Self::PerPartition(own) => {
                let rest = own.iter().filter(|(table, _)| !tables(table));
                Self::PerPartition(rest.map(|(table, owner)| (table.clone(), owner.clone())).collect())
            }
        }
    }

    /// A tabular expression of heartbeats with their time of arrival, `Received`; `database` where they are in another one than that of the text.
    pub(super) fn render(&self, database: Option<&DatabaseName>) -> String {
        let place = database.map(|database| format!("database({}).", literal::string(database.as_str())));
        let table = |table: &TableName| format!("{}{}", place.as_deref().unwrap_or_default(), table.quoted());
        match self {
            Self::Shared(name) => {
                template::fill(include_str!("../../text/beats_of_table.kql"), &[("table", &table(name))])
            }
            Self::PerPartition(tables) => {
                let leg = |(name, owner): (&TableName, &ClusterEndpoint)| {
                    let values = [("table", &*table(name)), ("owner", &literal::string(owner.as_str()))];
                    template::fill(include_str!("../../text/beats_leg.kql"), &values)
                };
                let legs = tables.iter().map(leg).collect::<Vec<_>>().join(", ");
                // Whoever decides by it must not take one that is not there for silent; whoever asks for the status is to be told of the others.
                let fuzzy = if database.is_some() { "isfuzzy=true " } else { "" };
                let values = [("fuzzy", fuzzy), ("legs", &*legs), ("claim", &literal::string(FALSE_CLAIM))];
                template::fill(include_str!("../../text/beats_of_tables.kql"), &values)
            }
        }
    }
}

/// The table of one partition: the name of the hub's heartbeat table, and the partition's host (and, on this machine, its port) in the characters that names have
/// everywhere. Hosts have no underscore, and no hyphen beside a dot, so no two of them give one name.
///
/// # Errors
/// If the name would be too long.
pub fn partition_table(table: &TableName, partition: &ClusterEndpoint) -> Result<TableName, NameError> {
    let authority = partition.as_str().split_once("://").map_or("", |(_, authority)| authority);
    let authority = authority.replace(['[', ']'], "").replace('-', "__").replace('.', "_").replace(':', "___");
    TableName::new(format!("{table}_{authority}"))
}

/// How far back heartbeats are read, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Beats: a partition that is silent for longer is forgotten.
    pub beats: Duration,
    /// Schemas, which are large: a partition that sends none for longer goes on with what is known of it.
    pub schemas: Duration,
}

/// The newest heartbeat of each partition, without the schemas' texts, and one row without an endpoint that tells the server's time.
/// Columns: ClusterEndpoint:string, Received:long (milliseconds since 1970), NewBeats:long, Skew:long (seconds; null without a Timestamp), Hash:string (of schema
/// and attributes), Bytes:long (what [`ReadSchemas`] gives of them), Now:datetime (null but in the last row).
#[derive(Debug, Clone, Copy)]
pub struct ReadHeartbeats<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// Where heartbeats are.
    pub source: &'a HeartbeatSource,
    /// How far back to look.
    pub windows: Windows,
    /// When this reader last read, by the server's clock: `NewBeats` counts the beats since.
    pub since: SystemTime,
    /// How often partitions beat. Rows in one half of it are one beat: what was sent twice at once is seldom a second one.
    pub interval: Duration,
}

impl ReadHeartbeats<'_> {
    /// Of how many endpoints an answer tells at most. One that tells of more than [`Self::ENOUGH`] leaves some out.
    const MOST: usize = Self::ENOUGH + 1;

    /// Of how many endpoints an answer tells that leaves none out.
    pub const ENOUGH: usize = 10_000;

    /// Renders the query for all that beat.
    pub fn request(&self) -> Request {
        self.render(true, &BTreeSet::new(), None)
    }

    /// Renders the query for those that are known, and for those whose host fits the pattern, in which `*` stands for any characters.
    pub fn request_of(&self, known: &BTreeSet<ClusterEndpoint>, pattern: Option<&str>) -> Request {
        self.render(false, known, pattern)
    }

    fn render(&self, all: bool, known: &BTreeSet<ClusterEndpoint>, pattern: Option<&str>) -> Request {
        let file = include_str!("../../text/read_heartbeats.kql");
        // Without a pattern, one that fits no endpoint.
        let hosts = literal::string(&pattern.map_or_else(|| "^$".to_owned(), hosts_like));
        let values =
            [("beats", &*self.source.render(None)), ("most", &Self::MOST.to_string()), ("hosts", hosts.as_str())];
        let known = serde_json::Value::from_iter(known.iter().map(ClusterEndpoint::as_str));
        let mut request = request("read_heartbeats", RequestKind::Query, Some(self.database), file, &values);
        self.windows.set(&mut request);
        request.parameters.insert("_since", datetime_literal(self.since));
        request.parameters.insert("_beat", timespan_literal(self.interval / 2));
        request.parameters.insert("_all", format!("bool({all})"));
        request.parameters.insert("_known", format!("dynamic({known})"));
        request
    }
}

/// A regular expression of the endpoints of the hosts that a pattern fits, in which `*` stands for any characters.
fn hosts_like(pattern: &str) -> String {
    let plain = |text: &str| {
        text.chars().fold(String::new(), |mut plain, character| {
            if character.is_ascii_punctuation() {
                plain.push('\\');
            }
            plain.push(character);
            plain
        })
    };
    let parts: Vec<_> = pattern.to_ascii_lowercase().split('*').map(plain).collect();
    format!("^https?://{}(:[0-9]+)?/?$", parts.join(".*"))
}

/// The schema texts and attributes of some partitions. Columns, all strings: ClusterEndpoint, Hash (as in [`ReadHeartbeats`], of what this query has read), SchemaText, MetadataText.
#[derive(Debug, Clone, Copy)]
pub struct ReadSchemas<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// Where heartbeats are.
    pub source: &'a HeartbeatSource,
    /// As in [`ReadHeartbeats`].
    pub windows: Windows,
    /// ClusterEndpoint values as [`ReadHeartbeats`] gave them, of those rows whose value parsed as an endpoint; they travel as a query parameter.
    pub endpoints: &'a BTreeSet<String>,
}

impl ReadSchemas<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        let file = include_str!("../../text/read_schemas.kql");
        let values = [("beats", &*self.source.render(None))];
        let mut request = request("read_schemas", RequestKind::Query, Some(self.database), file, &values);
        self.windows.set(&mut request);
        let list = serde_json::Value::from_iter(self.endpoints.iter().map(String::as_str));
        request.parameters.insert("_endpoints", format!("dynamic({list})"));
        request
    }
}

/// When heartbeats listed databases that they list no longer. Columns: Cluster:string, Database:string (as asked), First:datetime and Last:datetime (of the heartbeats that list others, since one
/// listed it), Bytes:long and Content:string (what that one listed of it, in JSON: its length, null where none is so young; and itself, empty unless asked for).
/// Of what the newest heartbeat lists, or no heartbeat tells, there is no row.
#[derive(Debug, Clone, Copy)]
pub struct ReadListings<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// Where heartbeats are.
    pub source: &'a HeartbeatSource,
    /// How far back to look.
    pub window: Duration,
    /// Which databases of which partitions.
    pub asked: &'a BTreeSet<Entity>,
    /// Whether also for what was in them.
    pub with_content: bool,
}

impl ReadListings<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        let file = include_str!("../../text/read_listings.kql");
        let values = [("beats", &*self.source.render(None))];
        let mut request = request("read_listings", RequestKind::Query, Some(self.database), file, &values);
        let clusters: BTreeSet<_> = self.asked.iter().map(|entity| entity.cluster.as_str()).collect();
        let asked = self.asked.iter().map(|Entity { cluster, database }| {
            let fields = [("Cluster", cluster.as_str()), ("Database", database.as_str())];
            serde_json::Value::from_iter(fields)
        });
        let asked = serde_json::Value::from_iter(asked);
        request.parameters.insert("_window", timespan_literal(self.window));
        request.parameters.insert("_clusters", format!("dynamic({})", serde_json::Value::from_iter(clusters)));
        request.parameters.insert("_asked", format!("dynamic({asked})"));
        request.parameters.insert("_content", format!("bool({})", self.with_content));
        request
    }
}

/// When heartbeats came, of whomever. Columns, all datetime: First and Last, of each period in which some came; and in a row of its own, in which these are null, Now: the server's time.
#[derive(Debug, Clone, Copy)]
pub struct ReadArrivals<'a> {
    /// The heartbeat database.
    pub database: &'a DatabaseName,
    /// Where heartbeats are.
    pub source: &'a HeartbeatSource,
    /// How far back to look.
    pub window: Duration,
    /// How long a period is.
    pub period: Duration,
}

impl ReadArrivals<'_> {
    /// Renders the query.
    pub fn request(&self) -> Request {
        let file = include_str!("../../text/read_arrivals.kql");
        let values = [("beats", &*self.source.render(None))];
        let mut request = request("read_arrivals", RequestKind::Query, Some(self.database), file, &values);
        request.parameters.insert("_window", timespan_literal(self.window));
        request.parameters.insert("_period", timespan_literal(self.period));
        request
    }
}

impl Windows {
    fn set(self, request: &mut Request) {
        request.parameters.insert("_window", timespan_literal(self.beats));
        request.parameters.insert("_schemas", timespan_literal(self.schemas));
    }
}
