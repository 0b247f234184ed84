//! Microsoft's own KQL parser as a judge of our texts: the client of `tests/kql-oracle/oracle.js`, and the judge of recordings. I/O: one Node process,
//! recording files. Called by the stories and by `integration/oracle.rs`.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::{Deserialize, Serialize};

/// What a text is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A query, and no command.
    Query,
    /// Exactly one management command, or a script of such.
    Command,
}

/// A text and where it runs. Commands that a session accepts are known to what is asked in it later: tables, functions, entity groups.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Question<'a> {
    /// What the text is meant to be.
    pub kind: Kind,
    /// The text.
    pub text: &'a str,
    /// Any name; sessions see each other only within a world.
    pub session: &'a str,
    /// The sessions of a world are clusters, each under its session's name.
    pub world: Option<&'a str>,
    /// The database in scope.
    pub database: &'a str,
    /// Names that nothing is known of are no error: for texts that the server could not resolve either.
    pub unresolved: bool,
}

/// What Microsoft's parser read.
#[derive(Debug, Clone, Deserialize)]
pub struct Reading {
    /// Accepted in the strict sense: no error, nothing skipped, no unknown command, of the kind that was asked for.
    pub ok: bool,
    /// Warnings too.
    pub diagnostics: Vec<Diagnostic>,
    /// Nodes that mean "not understood", though there may be no diagnostic.
    pub suspect: Vec<String>,
    /// Kinds of the commands, such as `CreateOrAlterFunction`.
    pub commands: Vec<String>,
    /// Every name, unquoted, in the order of the text.
    pub names: Vec<String>,
    /// Every string literal's value, in the order of the text; a bracketed name is one.
    pub strings: Vec<String>,
    /// Name and type of the result's columns, where the parser can tell.
    pub columns: Option<Vec<(String, String)>>,
}

/// A finding about a text.
#[derive(Debug, Clone, Deserialize)]
pub struct Diagnostic {
    /// `KS204`
    pub code: String,
    /// `Error`, `Warning`, ...
    pub severity: String,
    /// What it says.
    pub message: String,
}

/// Why the oracle gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// Node is missing, or died, most often because `npm ci` has not run.
    #[error("failed to talk to {script}: is Node installed, and has `make judges-install` run?")]
    Process {
        /// The script.
        script: String,
        /// Why.
        source: io::Error,
    },
    /// It answered something else.
    #[error("the oracle answered {line:?}")]
    Answer {
        /// What it answered.
        line: String,
        /// Why that is no answer.
        source: serde_json::Error,
    },
    /// A recording could not be read.
    #[error("failed to read the recording {}", path.display())]
    Recording {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What becomes of a name that the recorded commands did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// It is an error in a text that the server accepted.
    MustBeKnown,
    /// The server knows more than its recording tells: what it was started with, and what was ingested.
    AreTheServers,
}

/// The running parser. It takes 0.3 s to load, so use one for many texts.
#[derive(Debug)]
pub struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kql-oracle/oracle.js")
}

impl Oracle {
    /// Starts Node.
    ///
    /// # Errors
    /// [`OracleError::Process`]
    pub fn start() -> Result<Self, OracleError> {
        let mut child = Command::new("node")
            .arg(script())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(process_error)?;
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, input, output })
    }

    /// What Microsoft's parser reads in a text.
    ///
    /// # Errors
    /// [`OracleError`]
    pub fn read(&mut self, question: Question<'_>) -> Result<Reading, OracleError> {
        let request = serde_json::to_string(&question).expect("a question holds only text");
        writeln!(self.input, "{request}").map_err(process_error)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(process_error)?;
        if line.is_empty() {
            return Err(process_error(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line).map_err(|source| OracleError::Answer { line, source })
    }

    /// Checks every distinct text that the recordings in a folder (`kusto-local --record`, `NAME-PORT.jsonl`) hold, in the order in which they were sent. A
    /// text that the server refused may name what does not exist; all else holds for it too.
    ///
    /// # Errors
    /// [`OracleError`]
    pub fn judge_recordings(&mut self, folder: &Path, names: Names) -> Result<Verdict, OracleError> {
        let mut verdict = Verdict::default();
        let world = folder.display().to_string();
        for path in recordings(folder)? {
            let session = cluster_name(&path);
            let text =
                fs::read_to_string(&path).map_err(|source| OracleError::Recording { path: path.clone(), source })?;
            let mut asked = BTreeSet::new();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let sent: Sent = serde_json::from_str(line)
                    .map_err(|source| OracleError::Answer { line: line.to_owned(), source })?;
                let Some((kind, csl)) = sent.text() else { continue };
                let unresolved = sent.status != 200 || names == Names::AreTheServers;
                if !asked.insert((kind, sent.db.clone(), csl.to_owned(), unresolved)) {
                    continue;
                }
                let database = sent.db.as_deref().unwrap_or("NetDefaultDB");
                let question = Question {
                    kind,
                    text: &portless(csl),
                    session: &session,
                    world: Some(&world),
                    database,
                    unresolved,
                };
                let reading = self.read(question)?;
                verdict.texts += 1;
                if let Some(why) = sent.unplanned(&reading) {
                    verdict.refused.push(format!("{}: {why}: {csl}", path.display()));
                }
                if !reading.ok {
                    let complaint = reading.complaint(&path.display().to_string(), csl);
                    if sent.status == 200 {
                        verdict.refused.push(complaint);
                    } else {
                        verdict.refused_by_both.push(complaint);
                    }
                }
            }
        }
        Ok(verdict)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can be done about a child that cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn process_error(source: io::Error) -> OracleError {
    OracleError::Process { script: script().display().to_string(), source }
}

/// What a recording's server is called by the others: after its port, which ends the file's name.
fn cluster_name(recording: &Path) -> String {
    let stem = recording.file_stem().unwrap_or_default().to_string_lossy();
    format!("port{}", stem.rsplit('-').next().unwrap_or_default())
}

/// Microsoft's parser tells clusters apart by their hosts and drops ports; our servers differ in nothing but their ports. So the port becomes the host.
fn portless(text: &str) -> String {
    text.replace("http://127.0.0.1:", "https://port")
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
    client_request_id: String,
}

/// The kinds of commands that our agents plan, by the name of the statement that their request ids tell. A script holds what changes a hub.
pub const PLANNED: [(&str, &[&str]); 19] = [
    ("show_databases", &["ShowClusterDatabases"]),
    ("show_inventory", &["ShowDatabasesEntities"]),
    ("show_hub_entities", &["ShowDatabasesEntities"]),
    ("show_entity_groups", &["ShowEntityGroups"]),
    (
        "show_policies",
        &[
            "ShowTablePolicyRetention",
            "ShowTablePolicyCaching",
            "ShowTablePolicyStreamingIngestion",
            "ShowColumnPolicyEncoding",
        ],
    ),
    ("create_heartbeat_table", &["CreateMergeTable"]),
    ("create_ownership_table", &["CreateMergeTable"]),
    ("create_members_table", &["CreateMergeTable"]),
    ("enable_streaming", &["AlterTablePolicyStreamingIngestion"]),
    ("alter_schema_encoding", &["AlterColumnPolicyEncodingType"]),
    ("alter_retention", &["AlterMergeTablePolicyRetention"]),
    ("alter_caching", &["AlterTablePolicyCaching"]),
    ("ingest_inline", &["IngestInlineIntoTable"]),
    ("clear_remote_schema", &["ClearRemoteClusterDatabaseSchema"]),
    (
        "script",
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
    ("read_heartbeats", &[]),
    ("read_schemas", &[]),
    ("read_ownership", &[]),
    ("read_members", &[]),
];

impl Sent {
    /// A command of another kind than the statement has that our agent sent.
    fn unplanned(&self, reading: &Reading) -> Option<String> {
        let name = self.client_request_id.strip_prefix("adx-federation.")?.split(';').next()?;
        let Some((_, planned)) = PLANNED.iter().find(|(planned, _)| *planned == name) else {
            return (name != "canary").then(|| format!("an unknown statement '{name}'"));
        };
        let other = reading.commands.iter().find(|command| !planned.contains(&command.as_str()))?;
        Some(format!("'{name}' is a {other}"))
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

impl Reading {
    /// A text with what is wrong with it, for people.
    pub fn complaint(&self, origin: &str, text: &str) -> String {
        let found = self.diagnostics.iter().map(|d| format!("  {} {}: {}", d.severity, d.code, d.message));
        let skipped = self.suspect.iter().map(|what| format!("  not understood: {what}"));
        let commands = format!("  commands: {:?}", self.commands);
        let lines: Vec<_> = found.chain(skipped).chain([commands]).collect();
        format!("{origin}:\n{text}\n{}", lines.join("\n"))
    }
}
