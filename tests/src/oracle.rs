//! Microsoft's own KQL parser as a judge of our texts: the client of `tests/kql-oracle/oracle.js`. I/O: one Node process. Called by the stories and by
//! `integration/oracle/`.

mod parameters;
mod recordings;
mod tokens;

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::{Deserialize, Serialize};

pub use recordings::{Names, PLANNED, Planned, Sender, Verdict, judge_if_watched};
pub use tokens::{difference, is_read};

use crate::docs;

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
    /// Where each of them begins, in UTF-16 units.
    #[serde(rename = "nameStarts")]
    pub name_starts: Vec<usize>,
    /// Every string's value, in the order of the text; a bracketed name is one, and a key in a dynamic value.
    pub strings: Vec<String>,
    /// Where each of them begins, in UTF-16 units.
    #[serde(rename = "stringStarts")]
    pub string_starts: Vec<usize>,
    /// Type and inside of all literals but strings and what is in dynamic values.
    pub literals: Vec<(String, String)>,
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

/// The running parser. It takes 0.3 s to load, so use one for many texts.
#[derive(Debug)]
pub struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn script() -> PathBuf {
    docs::root().join("tests/kql-oracle/oracle.js")
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
