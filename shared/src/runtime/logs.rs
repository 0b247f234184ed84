//! Logs to standard error. Called once by [`super::main`].

use std::{
    error::Error,
    io::{IsTerminal as _, stderr},
};

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;

/// What is logged without `RUST_LOG`: our own information, other crates' warnings. azure_identity announces every credential at info.
const DEFAULT_FILTER: &str = "warn,shared=info,agent_partition=info,agent_hub=info,operator=info";

/// Starts logging. A second call in one process changes nothing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // Where nobody reads our logs any more, the complaint about it would panic in whoever logs: a stop that begins with a log line would not come.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    let outcome = match format {
        LogFormat::Plain => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("logging had been started before");
    }
}

/// An error with all its sources, in one line: `Display` alone hides the cause, and azure_identity's says nothing without it. What a source only repeats is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
