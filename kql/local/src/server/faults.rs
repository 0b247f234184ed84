//! `--faults FILE`: what goes wrong, on purpose. The file is a JSON list of rules; the first that fits a request and is not used up says how it fails. It is read
//! again when it changes, and then every rule counts anew. I/O: that file. Called by [`super::exchange`].
//!
//! ```json
//! [{"path": "/v2/rest/query", "database": "Logs", "text": "Heartbeats", "skip": 1, "count": 2, "fault": {"status": 429}}]
//! ```
//!
//! | field | what |
//! |---|---|
//! | `path` | how the request's path ends; absent: any |
//! | `database` | which database it names, without regard to case: its body's `db`, or the one in the path of an ingestion; absent: any, or none |
//! | `text` | what its KQL, or its data, contains; absent: any |
//! | `skip` | how many requests that fit go through before |
//! | `count` | how many fail then; absent: all |
//! | `fault` | see [`Fault`] |

use std::{fmt, io, path::PathBuf, sync::Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{commands, rows::Rows, wire::request::RawBody};

/// How a request fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Nothing is done; an HTTP status with Kusto's error body: 401, 403, 429 and 5xx as transient or not as Kusto says.
    Status(u16),
    /// It takes this many milliseconds longer, and is done.
    Delay(u64),
    /// Nothing is done, and the connection breaks without an answer.
    Reset,
    /// It is done, and the connection breaks without an answer.
    Lost,
    /// It is done, and the connection breaks in the middle of the answer.
    Cut,
    /// Nothing is done; 200 with a page for people.
    Html,
    /// Nothing is done; a redirect to this URL.
    Redirect(String),
    /// It is done; 200 with an error in place of the last row.
    OneApiErrors,
    /// It is done; 200 whose completion says that there were errors.
    HasErrors,
    /// It is done; 200 with half of the rows and the error of a result that is too large.
    Truncated,
    /// Of a script nothing is done, and every command of it is answered as failed. Another request is done.
    FailedScript,
    /// The same, and this is why they failed.
    RefusedScript(Reason),
    /// Of a script the first half is done, and then nothing more happens. Another request is done.
    HalfScript,
    /// Of an `.ingest inline` nothing is done, and 200 with a row whose HasErrors is true. Another request is done.
    FailedIngest,
}

/// What a server says to its client, and not to its log: tests give it what nobody may print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason(String);

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    path: String,
    #[serde(default)]
    database: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    skip: usize,
    #[serde(default)]
    count: Option<usize>,
    fault: Fault,
}

impl Rule {
    /// Whether a request fits, however often its like did before.
    fn fits(&self, path: &str, database: &str, text: &str) -> bool {
        // As the catalog compares names of databases.
        let is_named = self.database.is_empty() || self.database.to_lowercase() == database.to_lowercase();
        is_named && path.ends_with(&self.path) && text.contains(&self.text)
    }
}

/// The rules of a file.
#[derive(Debug)]
pub(super) struct Faults {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: String,
    /// Each with how many requests fitted it.
    rules: Vec<(Rule, usize)>,
}

impl Faults {
    /// Reads the file, which must be there and hold rules.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let faults = Self { path, state: Mutex::default() };
        faults.reload()?;
        Ok(faults)
    }

    fn reload(&self) -> io::Result<()> {
        let content = std::fs::read_to_string(&self.path)?;
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if state.content != content {
            let rules: Vec<Rule> = serde_json::from_str(&content)?;
            *state = State { content, rules: rules.into_iter().map(|rule| (rule, 0)).collect() };
        }
        Ok(())
    }

    /// How this request fails, if it does; `said` is what could be read of it, `body` all of it. A file that is being written keeps the rules as they were.
    pub(super) fn next(&self, path: &str, said: &RawBody, body: &[u8]) -> Option<Fault> {
        if let Err(error) = self.reload() {
            tracing::warn!(%error, file = %self.path.display(), "the faults stay as they were");
        }
        let text = said.csl.as_str().map_or_else(|| String::from_utf8_lossy(body), Into::into);
        let database = said.database.as_str().unwrap_or_default();
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let fitting = state.rules.iter_mut().filter(|(rule, _)| rule.fits(path, database, &text));
        for (rule, seen) in fitting {
            *seen += 1;
            let turn = seen.saturating_sub(rule.skip);
            if turn > 0 && rule.count.is_none_or(|count| turn <= count) {
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

impl Fault {
    /// The answer to a command that fails with a success, and of which nothing is done; `None` if this one does not.
    pub(super) fn undone(&self, csl: &str) -> Option<Rows> {
        match self {
            Self::FailedScript => commands::refused_script(csl, "a fault on purpose"),
            Self::RefusedScript(Reason(reason)) => commands::refused_script(csl, reason),
            Self::FailedIngest => commands::failed_ingestion(csl),
            _ => None,
        }
    }

    /// What becomes of the answer of a request that was done.
    pub(super) fn spoil(&self, answer: Vec<u8>) -> Vec<u8> {
        let Ok(mut value) = serde_json::from_slice::<Value>(&answer) else { return answer };
        let error = |code: &str, message: &str| json!([{"error": {"code": code, "message": message, "@type": "Kusto.Data.Exceptions.KustoServicePartialQueryFailureException", "@message": message, "@context": {}, "@permanent": false}}]);
        let (errors, keep) = match self {
            Self::OneApiErrors => {
                (error("Internal service error", "Query execution failed: a fault on purpose."), usize::MAX)
            }
            Self::Truncated => {
                (error("LimitsExceeded", "Query result set has exceeded the internal limit: a fault on purpose."), 2)
            }
            Self::HasErrors => (Value::Null, usize::MAX),
            _ => return answer,
        };
        if let Value::Array(frames) = &mut value {
            for frame in frames {
                if frame["FrameType"] == "DataSetCompletion" {
                    frame["HasErrors"] = true.into();
                    if !errors.is_null() {
                        frame["OneApiErrors"] = errors.clone();
                    }
                } else if frame["TableKind"] == "PrimaryResult" {
                    spoil_rows(&mut frame["Rows"], &errors, keep);
                }
            }
        } else if errors.is_null() {
            value["Exceptions"] = json!(["The request failed: a fault on purpose."]);
        } else {
            spoil_rows(&mut value["Tables"][0]["Rows"], &errors, keep);
        }
        value.to_string().into_bytes()
    }
}

/// Keeps one row of `keep`, and puts the errors in place of the last that stays.
fn spoil_rows(rows: &mut Value, errors: &Value, keep: usize) {
    let Value::Array(rows) = rows else { return };
    if errors.is_null() {
        return;
    }
    if keep != usize::MAX {
        rows.truncate(rows.len() / keep);
    } else {
        rows.pop();
    }
    rows.push(json!({"OneApiErrors": errors}));
}
