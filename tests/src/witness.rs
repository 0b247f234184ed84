//! What the suite printed and was told, and the secrets that it used, which are tokens, passwords and signatures: `make stories` looks for the one in the other at its end. Kept is
//! what programs of ours print as they end, what agents send to Kusto (`oracle/recordings.rs`), what admin ports answer, also before a program is stopped, each look at an object while a story waits for it, every Event and every status of our kinds
//! (`cluster/told.rs`), and what agents in a test program log. I/O: files in the folder that `ADX_FEDERATION_WITNESS` names; without it nothing is kept.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Once,
};

use serde_json::Value;

use crate::docs;

/// The variable that names the folder.
pub const FOLDER: &str = "ADX_FEDERATION_WITNESS";

/// What agents in this process log: more of our own words than without `RUST_LOG`.
const LOGGED: &str = "warn,shared=trace,agent_hub=trace";

/// What nobody may print, for tests that have others say it. In lower case: the query for heartbeats folds the case of endpoints, and what is marked must be found afterwards.
pub const PASSWORD: &str = "a-password-that-nobody-may-print";
/// The same, of an address.
pub const SIGNATURE: &str = "a-signature-that-nobody-may-print";

/// Keeps [`PASSWORD`] and [`SIGNATURE`] as secrets.
pub fn mark() {
    [PASSWORD, SIGNATURE].into_iter().for_each(secret);
}

/// Fails if [`PASSWORD`] or [`SIGNATURE`] is in a text.
///
/// # Panics
/// With the text.
pub fn assert_hidden(what: &str, told: &str) {
    for secret in [PASSWORD, SIGNATURE] {
        assert!(!told.contains(secret), "{what}: {told}");
    }
}

/// Whether there is a folder to keep anything in.
pub fn is_kept() -> bool {
    env::var_os(FOLDER).is_some()
}

/// Keeps what a program of ours printed, or what the API server or an admin port told of it.
pub fn keep(text: &str) {
    append("output", text.as_bytes());
}

/// Keeps what agents log that run in this process, from now on.
///
/// # Panics
/// If somebody else keeps logs here.
pub fn keep_logs() {
    static STARTED: Once = Once::new();
    // For all threads. A subscriber of one would not hear of what another thread, which has none, was the first to come upon.
    STARTED.call_once(|| tracing_subscriber::fmt().with_env_filter(LOGGED).with_ansi(false).with_writer(|| Log).init());
}

/// Where agents in this process log.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        append("output", line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The looks at one object that is looked at again and again.
#[derive(Debug, Default)]
pub struct Looks(Option<Value>);

impl Looks {
    /// Keeps the object, unless the last look found it so.
    pub fn keep(&mut self, object: &Value) {
        if self.is_news(object) {
            keep(&format!("{object}\n"));
        }
    }

    /// Its version, and who wrote which field when, change also where nothing else does.
    fn is_news(&mut self, object: &Value) -> bool {
        let mut told = object.clone();
        if let Some(metadata) = told.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !["managedFields", "resourceVersion"].contains(&field.as_str()));
        }
        let is_news = self.0.as_ref() != Some(&told);
        self.0 = Some(told);
        is_news
    }
}

/// Keeps a secret that nobody may print.
pub fn secret(secret: &str) {
    append("secrets", format!("{secret}\n").as_bytes());
}

/// The folder, if anything is kept.
pub fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// Whether `make stories` would find this secret in what is kept in a folder.
///
/// # Panics
/// If `tests/no-secrets` cannot look.
pub fn is_found(folder: &Path, secret: &str) -> bool {
    let (kept, asked) = (folder.join("output"), tempfile::tempdir().expect("a temporary folder can be made"));
    let secrets = asked.path().join("secrets");
    fs::create_dir_all(&kept).expect("the folder can be made");
    // As much as a suite prints at least: it does not believe that of less.
    fs::write(kept.join("filler"), "-\n".repeat(600_000)).expect("the folder can be written");
    fs::create_dir(&secrets).expect("the temporary folder can be written");
    fs::write(secrets.join("one"), format!("{secret}\n")).expect("the temporary folder can be written");
    symlink(&kept, asked.path().join("output")).expect("the temporary folder can be written");
    let outcome = Command::new(docs::root().join("tests/no-secrets")).arg(asked.path()).output();
    let outcome = outcome.expect("tests/no-secrets can be started");
    let told = String::from_utf8_lossy(&outcome.stdout);
    let is_found = told.contains("A secret was printed.");
    let is_clean = told.starts_with("None of 1 secrets is in ");
    assert!(is_found != is_clean && outcome.status.success() == is_clean, "{told}");
    is_found
}

/// One file for each kind and test program; a line longer than a pipe's may come in parts, which no token survives, so each text is one write.
fn append(kind: &str, text: &[u8]) {
    let Some(folder) = folder() else { return };
    let folder = folder.join(kind);
    fs::create_dir_all(&folder).expect("the folder can be made");
    let file = folder.join(process::id().to_string());
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the folder can be written");
    file.write_all(text).expect("the folder can be written");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_look_is_news_if_anything_that_somebody_wrote_differs() {
        let object = |version: &str, annotation: &str, message: &str| {
            let metadata = json!({
                "name": "hub", "resourceVersion": version, "annotations": {"a": annotation},
                "managedFields": [{"manager": "operator", "time": version}],
            });
            json!({"metadata": metadata, "spec": {"endpoint": "e"}, "status": {"conditions": [{"message": message}]}})
        };
        let looks = [
            (Value::Null, true),
            (Value::Null, false),
            (object("1", "x", "m"), true),
            (object("2", "x", "m"), false),
            (object("3", "y", "m"), true),
            (object("4", "y", "n"), true),
            (object("5", "y", "n"), false),
            // As it was before the last one.
            (object("6", "y", "m"), true),
            (Value::Null, true),
        ];
        let mut known = Looks::default();
        for (number, (object, is_news)) in looks.iter().enumerate() {
            assert_eq!(known.is_news(object), *is_news, "{number}: {object}");
        }
    }
}
