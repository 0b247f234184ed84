//! The judge of recordings (`kusto-local --record`): every text that was sent, read by Microsoft's parser and by ours. I/O: recording files, the oracle's process.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Oracle, OracleError, Question, Reading, tokens};
use crate::{
    recordings::{are_watched, judged},
    witness,
};

/// What becomes of a name that the recorded commands did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// It is an error in a text that the server accepted.
    MustBeKnown,
    /// The server knows more than its recording tells: what it was started with, and what was ingested.
    AreTheServers,
}

impl Oracle {
    /// Checks every distinct text that the recordings in a folder (`kusto-local --record`, `NAME-PORT.jsonl`) hold, in the order in which they were sent, and
    /// the values that were sent for its parameters. A text that the server refused may name what does not exist; all else holds for it too.
    ///
    /// # Errors
    /// [`OracleError`]
    pub fn judge_recordings(&mut self, folder: &Path, names: Names) -> Result<Verdict, OracleError> {
        let mut verdict = Verdict::default();
        let world = folder.display().to_string();
        let recordings = recordings(folder)?;
        let servers = Servers(recordings.iter().map(|path| port(path)).collect());
        for path in recordings {
            let session = servers.name(&port(&path));
            let text =
                fs::read_to_string(&path).map_err(|source| OracleError::Recording { path: path.clone(), source })?;
            let (mut asked, mut given) = (BTreeSet::new(), BTreeSet::new());
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let sent: Sent = serde_json::from_str(line)
                    .map_err(|source| OracleError::Answer { line: line.to_owned(), source })?;
                if let Some(why) = sent.unplanned() {
                    verdict.refused.push(format!("{}: {why}: {line}", path.display()));
                }
                let Some((kind, csl)) = sent.text() else { continue };
                let parameters = sent.parameters();
                if kind == Kind::Query && given.insert((csl.to_owned(), parameters.clone())) {
                    let wrong = self.wrong_parameter(csl, &parameters)?;
                    verdict.add(&sent, wrong.map(|why| format!("{}:\n{csl}\n  {why}", path.display())));
                }
                let unresolved = sent.status != 200 || names == Names::AreTheServers;
                if !asked.insert((
                    kind,
                    sent.db.clone(),
                    csl.to_owned(),
                    unresolved,
                    sent.statement().map(str::to_owned),
                )) {
                    continue;
                }
                // Whoever may look at the hub reads what agents write there: the memory of partitions, and what `federation_status()` tells.
                if sent.statement().is_some() {
                    witness::keep(csl);
                }
                let database = sent.db.as_deref().unwrap_or("NetDefaultDB");
                let portless = servers.portless(csl);
                let text = &*one_row(&portless);
                let (session, world) = (&*session, Some(&*world));
                let reading = self.read(Question { kind, text, session, world, database, unresolved })?;
                verdict.texts += 1;
                // What makes the table anew, with other columns perhaps, is told once more. Servers are judged one after another: what a table was is not forgotten, as
                // another's texts may be of the time before.
                if kind == Kind::Command && csl.starts_with(".drop table") {
                    asked.clear();
                }
                if let Some(why) = sent.of_another_kind(&reading) {
                    verdict.refused.push(format!("{}: {why}: {csl}", path.display()));
                }
                verdict.add(&sent, (!reading.ok).then(|| reading.complaint(&path.display().to_string(), csl)));
                // What the server refused may be beyond our lexer; what both read they read alike.
                if reading.ok && (sent.status == 200 || tokens::is_read(text)) {
                    let different = tokens::difference(text, &reading);
                    verdict.refused.extend(different.map(|why| format!("{}:\n{csl}\n  {why}", path.display())));
                }
            }
            judged(&path);
        }
        Ok(verdict)
    }
}

/// Judges the recordings of a benchmark, where the suite runs it to see that it runs. What comes after it is measured elsewhere.
///
/// # Panics
/// If a text was refused.
pub fn judge_if_watched(folder: &Path) {
    if are_watched() {
        let judged = Oracle::start().and_then(|mut oracle| oracle.judge_recordings(folder, Names::MustBeKnown));
        judged.expect("the recordings can be read").assert_accepted();
    }
}

/// The port of a recording's server, which ends the file's name.
fn port(recording: &Path) -> String {
    let stem = recording.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit('-').next().unwrap_or_default().to_owned()
}

/// The servers of a folder, in the order of their recordings, by their ports. Microsoft's parser tells clusters apart by their hosts and drops ports; our servers
/// differ in nothing but their ports. So the place becomes the host: what one fleet is sent has the same text in the next, and is parsed once.
struct Servers(Vec<String>);

impl Servers {
    fn name(&self, port: &str) -> String {
        self.0
            .iter()
            .position(|known| known == port)
            .map_or_else(|| format!("port{port}"), |place| format!("server{place}"))
    }

    fn portless(&self, text: &str) -> String {
        let mut pieces = text.split("http://127.0.0.1:");
        let mut portless = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (port, rest) =
                piece.split_at(piece.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(piece.len()));
            portless.push_str("https://");
            portless.push_str(&self.name(port));
            portless.push_str(rest);
        }
        portless
    }
}

/// Any time, as our agents write it. It is part of no name, so that texts which differ in it alone are one to a parser.
static TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").expect("a pattern is right"));

const ONE_TIME: &str = "2026-01-01T00:00:00Z";

/// What is ingested, which no parser reads, is one row: a command is parsed once, whatever it brings. That it reads nothing in hostile rows is a test (`integration/oracle`).
fn one_row(text: &str) -> Cow<'_, str> {
    let rows = text.find("<|").filter(|_| text.starts_with(".ingest inline"));
    rows.map_or(Cow::Borrowed(text), |at| Cow::Owned(format!("{}<|\nrow", &text[..at])))
}

/// The recordings in a folder, in order.
fn recordings(folder: &Path) -> Result<Vec<PathBuf>, OracleError> {
    let error = |source| OracleError::Recording { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// One line of a recording, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Sent {
    path: String,
    db: Option<String>,
    csl: Option<String>,
    status: u16,
    #[serde(default)]
    properties: Value,
    #[serde(default)]
    client_request_id: String,
    #[serde(default)]
    application: String,
}

/// A statement that our agents plan.
#[derive(Debug)]
pub struct Planned {
    /// As the ids of its requests tell it.
    pub statement: &'static str,
    /// Who sends it.
    pub senders: &'static [Sender],
    /// The kinds of commands that it is. A script holds what changes a hub.
    pub kinds: &'static [&'static str],
}

/// One of our agents, each with an identity of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A hub's.
    Hub,
    /// A partition's.
    Partition,
}

impl Sender {
    const ALL: [Self; 2] = [Self::Hub, Self::Partition];

    /// As its requests name it.
    const fn application(self) -> &'static str {
        match self {
            Self::Hub => "adx-federation/agent-hub",
            Self::Partition => "adx-federation/agent-partition",
        }
    }

    /// What the texts in `kql/text` may say of who may send them, with the roles that README.md has people give this agent.
    pub const fn permissions(self) -> &'static [&'static str] {
        match self {
            // Database Admin, which holds all others in a database; and Viewer at a partition.
            Self::Hub => &[
                "Database Admin.",
                "Table Admin.",
                "Table Ingestor.",
                "Database User (to create), Table Admin (to merge).",
                "Database User, Viewer or Monitor of each hub database.",
                "Database User, Viewer or Monitor.",
                "Database Viewer on the partition, for the hub agent.",
                "Database Viewer or Monitor.",
                "Database Viewer.",
                "any database role.",
            ],
            // Of the hub it appends rows to a table and reads none; at home it is Viewer or Monitor.
            Self::Partition => {
                &["Table Ingestor.", "Database User, Viewer or Monitor of each database that is to be seen."]
            }
        }
    }
}

/// What our agents plan to send.
pub const PLANNED: [Planned; 26] = [
    planned("show_databases", &[Sender::Hub], &["ShowClusterDatabases"]),
    planned("show_inventory", &[Sender::Partition], &["ShowDatabasesEntities"]),
    planned("show_hub_entities", &[Sender::Hub], &["ShowDatabasesEntities"]),
    planned("show_entity_groups", &[Sender::Hub], &["ShowEntityGroups"]),
    planned(
        "show_policies",
        &[Sender::Hub],
        &[
            "ShowTablePolicyRetention",
            "ShowTablePolicyCaching",
            "ShowTablePolicyStreamingIngestion",
            "ShowColumnPolicyEncoding",
        ],
    ),
    planned("create_heartbeat_table", &[Sender::Hub], &["CreateMergeTable"]),
    planned("create_ownership_table", &[Sender::Hub], &["CreateMergeTable"]),
    planned("create_members_table", &[Sender::Hub], &["CreateMergeTable"]),
    planned("extend_members_table", &[Sender::Hub], &["CreateMergeTable"]),
    planned("show_columns", &[Sender::Hub], &["ShowTableCslSchema"]),
    planned("enable_streaming", &[Sender::Hub], &["AlterTablePolicyStreamingIngestion"]),
    planned("alter_schema_encoding", &[Sender::Hub], &["AlterColumnPolicyEncodingType"]),
    planned("alter_retention", &[Sender::Hub], &["AlterMergeTablePolicyRetention"]),
    planned("alter_caching", &[Sender::Hub], &["AlterTablePolicyCaching"]),
    planned("ingest_inline", &[Sender::Hub, Sender::Partition], &["IngestInlineIntoTable"]),
    // By streaming: no text.
    planned("ingest_csv", &[Sender::Partition], &[]),
    planned("clear_remote_schema", &[Sender::Hub], &["ClearRemoteClusterDatabaseSchema"]),
    planned(
        "script",
        &[Sender::Hub],
        &[
            "ExecuteDatabaseScript",
            "CreateEntityGroupCommand",
            "AlterEntityGroup",
            "AlterMergeEntityGroup",
            "DropEntityGroup",
            "CreateFunction",
            "CreateOrAlterFunction",
            "DropFunction",
        ],
    ),
    planned("read_heartbeats", &[Sender::Hub], &[]),
    planned("read_schemas", &[Sender::Hub], &[]),
    planned("read_arrivals", &[Sender::Hub], &[]),
    planned("read_listings", &[Sender::Hub], &[]),
    planned("read_ownership", &[Sender::Hub], &[]),
    planned("read_left", &[Sender::Hub], &[]),
    planned("read_members", &[Sender::Hub], &[]),
    planned("canary", &[Sender::Hub], &[]),
];

const fn planned(statement: &'static str, senders: &'static [Sender], kinds: &'static [&'static str]) -> Planned {
    Planned { statement, senders, kinds }
}

impl Sent {
    /// The statement that our agent says it sent.
    fn statement(&self) -> Option<&str> {
        self.client_request_id.strip_prefix("adx-federation.")?.split(';').next()
    }

    /// What our agent sent and does not plan: a statement, or one that is another agent's.
    fn unplanned(&self) -> Option<String> {
        let Some(name) = self.statement() else {
            let is_ours = Sender::ALL.iter().any(|sender| sender.application() == self.application);
            return is_ours.then(|| format!("'{}' does not say which statement it is", self.client_request_id));
        };
        let Some(planned) = PLANNED.iter().find(|planned| planned.statement == name) else {
            return Some(format!("an unknown statement '{name}'"));
        };
        let sender = planned.senders.iter().find(|sender| sender.application() == self.application);
        let Some(sender) = sender else {
            return Some(format!("'{name}' is none of what '{}' sends", self.application));
        };
        // By its path, or by its command.
        let target = format!("{} {}", self.path, self.csl.as_deref().unwrap_or_default());
        let is_record = ["/AdxFederation", "into table ['AdxFederation"].iter().any(|text| target.contains(text));
        (is_record && *sender == Sender::Partition).then(|| format!("'{name}' is into a record of the hub's agent"))
    }

    /// A command of another kind than its statement has.
    fn of_another_kind(&self, reading: &Reading) -> Option<String> {
        let name = self.statement()?;
        let planned = PLANNED.iter().find(|planned| planned.statement == name)?;
        let other = reading.commands.iter().find(|command| !planned.kinds.contains(&command.as_str()))?;
        Some(format!("'{name}' is a {other}"))
    }

    /// The values of query parameters, as literals: numbers and booleans of JSON are literals as they stand. A `datetime` of any time has one: each pass asks since another.
    fn parameters(&self) -> BTreeMap<String, String> {
        let parameters = self.properties.get("Parameters").and_then(Value::as_object);
        let literal = |value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let time = text.strip_prefix("datetime(").and_then(|text| text.strip_suffix(')'));
            let is_any = time.and_then(|time| TIME.find(time)).is_some_and(|found| Some(found.as_str()) == time);
            if is_any { format!("datetime({ONE_TIME})") } else { text }
        };
        parameters.into_iter().flatten().map(|(name, value)| (name.clone(), literal(value))).collect()
    }

    /// The text and what its endpoint takes; nothing for ingestion, which carries data.
    fn text(&self) -> Option<(Kind, &str)> {
        let kind = if self.path.ends_with("/rest/mgmt") {
            Kind::Command
        } else if self.path.ends_with("/rest/query") {
            Kind::Query
        } else {
            return None;
        };
        Some((kind, self.csl.as_deref()?))
    }
}

/// What came of judging recordings.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many distinct texts were read.
    pub texts: usize,
    /// Those that the server accepted and Microsoft's parser does not, each with its reasons.
    pub refused: Vec<String>,
    /// Those that neither accepts: what tests of errors send.
    pub refused_by_both: Vec<String>,
}

impl Verdict {
    fn add(&mut self, sent: &Sent, complaint: Option<String>) {
        let list = if sent.status == 200 { &mut self.refused } else { &mut self.refused_by_both };
        list.extend(complaint);
    }

    /// Fails with all refused texts, whoever else refused them; also if there was nothing to judge, which a wrong folder would look like.
    ///
    /// # Panics
    /// If a text was refused, or there was none.
    pub fn assert_accepted(&self) {
        assert!(self.texts > 0, "the recordings hold no text");
        let refused: Vec<_> = self.refused.iter().chain(&self.refused_by_both).map(String::as_str).collect();
        assert!(refused.is_empty(), "Microsoft's parser does not accept:\n{}", refused.join("\n"));
    }
}
