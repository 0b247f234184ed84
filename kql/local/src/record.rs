//! `--record FILE`: one JSON line for each request, for tests and for people. Writes a file; the server calls it for every answer.
//!
//! One task owns the file, so lines are whole and in the order in which requests were completed. A line is in the file before its answer is on its way: whoever has
//! an answer finds the request. Of headers two are written, in which nobody sends a token: the request's id and who asks.

use std::{io, path::Path};

use serde::Serialize;
use serde_json::Value;
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::server::Fault;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// When it arrived, as Kusto prints a datetime.
    pub(crate) time: String,
    /// The path without the query string.
    pub(crate) path: String,
    /// The query string, if there is one: the format and mapping of an ingestion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<String>,
    /// `db` as sent; of an ingestion, the one in its path.
    pub(crate) db: Value,
    /// `csl` as sent; null for an ingestion.
    pub(crate) csl: Value,
    /// `properties`, as an object however they were sent.
    pub(crate) properties: Value,
    /// The HTTP status of the answer.
    pub(crate) status: u16,
    /// Bytes of the request's body as they arrived.
    pub(crate) request_bytes: usize,
    /// Bytes of the answer's body before compression.
    pub(crate) response_bytes: usize,
    /// As sent by the client, or made up.
    pub(crate) client_request_id: String,
    /// Who asks (`x-ms-app`), if the client tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) application: Option<String>,
    /// What went wrong on purpose, as `--faults` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<Fault>,
}

/// The way to the file.
#[derive(Debug)]
pub(crate) struct Recorder {
    lines: mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Opens the file to append to it.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        let (lines, received) = mpsc::channel(64);
        Ok(Self { lines, task: tokio::spawn(write(file, received)) })
    }

    /// Writes a line and waits until it is in the file. A disk that is full costs the record, not the answer.
    pub(crate) async fn write(&self, line: &Line) {
        let mut text = serde_json::to_vec(line).expect("a line holds nothing but JSON values");
        text.push(b'\n');
        let (done, written) = oneshot::channel();
        if self.lines.send((text, done)).await.is_ok() {
            // The task drops the sender if it ends first; there is nothing to wait for then.
            let _ = written.await;
        }
    }

    /// Ends the task after the lines that are on their way.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

async fn write(mut file: File, mut lines: mpsc::Receiver<(Vec<u8>, oneshot::Sender<()>)>) {
    while let Some((text, done)) = lines.recv().await {
        let written = async {
            file.write_all(&text).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "a request could not be recorded");
        }
        // Nobody waits when the client has gone away.
        let _ = done.send(());
    }
}
