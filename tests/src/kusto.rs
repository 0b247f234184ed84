//! `kusto-local` as a child process, asked over HTTP as any client would. I/O: a process and loopback HTTP.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time,
};

use crate::{loopback, process::Process, recordings};

/// A running local Kusto.
#[derive(Debug)]
pub struct KustoServer {
    /// `http://127.0.0.1:port`
    pub url: String,
    /// Where it records: the file that was asked for, with the server's port in its name.
    pub recording: PathBuf,
    process: Process,
    /// The folder of its rules and of its clock's offset, where its requests can be made to fail.
    faults: Option<TempDir>,
}

/// The file with the rules by which requests fail.
const RULES: &str = "faults.json";

/// The file with what its clock is ahead of the machine's.
const CLOCK_OFFSET: &str = "clock-offset.txt";

/// A result: column names and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// In order.
    pub columns: Vec<String>,
    /// Cells as the protocol gives them.
    pub rows: Vec<Vec<Value>>,
}

/// What the server refused, or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No answer.
    #[error("failed to reach {url}")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// An answer with an error.
    #[error("{url} answered {status} to `{text}`: {message}")]
    Refused {
        /// The server.
        url: String,
        /// HTTP status.
        status: u16,
        /// The text that was sent.
        text: String,
        /// Kusto's message.
        message: String,
    },
}

impl KustoServer {
    /// Starts a server with databases on a port (0: any), recording into a file, and waits until it is ready. Whoever starts it has the recording judged.
    ///
    /// # Panics
    /// If it does not get ready within a minute.
    pub async fn start(port: u16, databases: &[&str], record: &Path, more: &[&str]) -> Self {
        let mut arguments = vec!["--stop-with-stdin".to_owned(), "--listen".to_owned(), format!("127.0.0.1:{port}")];
        for database in databases {
            arguments.extend(["--database".to_owned(), (*database).to_owned()]);
        }
        arguments.extend(["--record".to_owned(), record.display().to_string()]);
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let (mut process, stdout) = Process::start_with_stdout("kusto-local", "kusto-local", &arguments);
        let mut lines = BufReader::new(stdout).lines();
        let ready = time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = ready.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let Some(start) = line.find("http://") else {
            panic!("kusto-local printed {line:?} instead of its URL; its output:\n{}", process.output());
        };
        let url = line[start..].trim().to_owned();
        process.collect(lines.into_inner());
        let mut server = Self { url, recording: PathBuf::new(), process, faults: None };
        server.recording = server.with_port(record);
        recordings::begun(&server.recording);
        server
    }

    /// The same on any port, with requests that can be made to [`fail`](Self::fail) and a clock that can be [set](Self::set_clock).
    ///
    /// # Panics
    /// If it does not get ready within a minute.
    pub async fn start_faulty(databases: &[&str], record: &Path) -> Self {
        Self::start_faulty_with(databases, record, &[]).await
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// If it does not get ready within a minute.
    pub async fn start_faulty_with(databases: &[&str], record: &Path, more: &[&str]) -> Self {
        let faults = tempfile::tempdir().expect("a temporary folder can be made");
        let [rules, offset] = [(RULES, "[]"), (CLOCK_OFFSET, "0s")].map(|(name, text)| {
            let path = faults.path().join(name);
            fs::write(&path, text).expect("the folder can be written");
            path.display().to_string()
        });
        let own = ["--faults", rules.as_str(), "--clock-offset", offset.as_str()];
        let arguments = [more, &own].concat();
        let server = Self::start(0, databases, record, &arguments).await;
        Self { faults: Some(faults), ..server }
    }

    /// From now on requests fail by these rules, as `kusto-local --faults` takes them.
    ///
    /// # Panics
    /// If it was not started for that.
    pub fn fail(&self, rules: &Value) {
        self.put(RULES, &rules.to_string());
    }

    /// From now on its clock is ahead of the machine's by so many minutes.
    ///
    /// # Panics
    /// If it was not started to fail.
    pub fn set_clock(&self, minutes_ahead: i64) {
        self.put(CLOCK_OFFSET, &format!("{minutes_ahead}m"));
    }

    fn put(&self, name: &str, text: &str) {
        let folder = self.faults.as_ref().expect("it was started to fail").path();
        // Renamed into place: the server never reads half of it.
        let half = folder.join("half");
        fs::write(&half, text).expect("the folder can be written");
        fs::rename(&half, folder.join(name)).expect("the folder can be written");
    }

    /// The recording says by its name whose it is. The server goes on writing to the open file.
    fn with_port(&self, record: &Path) -> PathBuf {
        let name = record.file_stem().unwrap_or_default().to_string_lossy();
        let renamed = record.with_file_name(format!("{name}-{}.jsonl", self.port()));
        fs::rename(record, &renamed).expect("the server made the file before it was ready");
        renamed
    }

    /// The port that it listens on.
    ///
    /// # Panics
    /// Never: the URL ends with its port.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the URL ends with its port")
    }

    /// How many requests so far whose line in the recording holds a text.
    ///
    /// # Panics
    /// If its recording is gone.
    pub fn recorded(&self, part: &str) -> usize {
        let lines = fs::read_to_string(&self.recording).expect("the recording can be read");
        lines.lines().filter(|line| line.contains(part)).count()
    }

    /// All that it has printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its process id; 0 once it has ended.
    pub fn pid(&self) -> u32 {
        self.process.pid().unwrap_or_default()
    }

    /// The process, for signals and output.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs a query.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn query(&self, database: &str, text: &str) -> Result<Table, AskError> {
        self.ask("/v1/rest/query", database, text).await
    }

    /// Runs a management command.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn command(&self, database: &str, text: &str) -> Result<Table, AskError> {
        self.ask("/v1/rest/mgmt", database, text).await
    }

    async fn ask(&self, path: &str, database: &str, text: &str) -> Result<Table, AskError> {
        let unreachable = |source| AskError::Unreachable { url: self.url.clone(), source };
        let body = json!({"db": database, "csl": text});
        let answer =
            loopback::client().post(format!("{}{path}", self.url)).json(&body).send().await.map_err(unreachable)?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(unreachable)?;
        let refused = |message: &Value| AskError::Refused {
            url: self.url.clone(),
            status: status.as_u16(),
            text: text.to_owned(),
            message: message.to_string(),
        };
        if !status.is_success() {
            return Err(refused(&body["error"]["@message"]));
        }
        let table = &body["Tables"][0];
        if !body["Exceptions"].is_null() || !table.is_object() {
            return Err(refused(&body));
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let columns = list(&table["Columns"]);
        Ok(Table {
            columns: columns
                .iter()
                .map(|column| column["ColumnName"].as_str().unwrap_or_default().to_owned())
                .collect(),
            rows: list(&table["Rows"]).iter().map(list).collect(),
        })
    }
}

impl Table {
    /// The cells of one column as text, quotes only where a cell is no string.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn column(&self, name: &str) -> Vec<String> {
        let index = self.columns.iter().position(|column| column == name);
        let index = index.unwrap_or_else(|| panic!("no column {name} in {:?}", self.columns));
        self.rows.iter().map(|row| cell_text(&row[index])).collect()
    }

    /// All cells as text.
    pub fn text_rows(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.iter().map(cell_text).collect()).collect()
    }

    /// A table for people: columns padded, numbers to the right.
    pub fn to_text(&self) -> String {
        let cells = self.text_rows();
        let width = |index: usize| {
            let longest = cells.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
            longest.max(self.columns[index].chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let numeric = |index: usize| self.rows.iter().all(|row| row[index].is_number());
        let line = |row: &[String]| {
            let padded = row.iter().enumerate().map(|(index, cell)| {
                let width = widths[index];
                if numeric(index) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
        let rows: String = cells.iter().map(|row| line(row)).collect();
        format!("{}{rule}\n{rows}", line(&self.columns))
    }
}

fn cell_text(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
}
