//! Logs to standard error. Called once by [`super::main`].

use std::{
    error::Error,
    io::{IsTerminal as _, stderr},
};

use kql::secrets::redacted;
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

/// An error with all its sources, in one line: `Display` alone hides the cause, and azure_identity's says nothing without it. What a source only repeats is left out, and so are
/// secrets: an error may have the words of whoever was asked.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.to_string();
        // The text of kube's error is the API server's answer in Rust's words, twice; the answer's own message says it all.
        let refused = match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(status.message.as_str()),
            _ => None,
        };
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(refused.unwrap_or(&cause));
        } else if let Some(refused) = refused {
            text = text.replace(&cause, refused);
        }
        next = if refused.is_some() { None } else { error.source() };
    }
    redacted(&text)
}

/// So many bytes of a text at most, and a sign where there were more.
pub fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("failed to update the Service 'i'")]
        Update(#[source] kube::Error),
        #[error("Kube error: {0}")]
        Repeats(#[source] kube::Error),
    }

    #[test]
    fn what_the_api_server_refuses_is_told_once_in_its_own_words() {
        let refused =
            || kube::Error::Api(kube::core::Status::failure("spec.ports: is taken", "Invalid").with_code(422).boxed());
        assert_eq!(chain(&Failure::Update(refused())), "failed to update the Service 'i': spec.ports: is taken");
        assert_eq!(chain(&Failure::Repeats(refused())), "Kube error: spec.ports: is taken");
        assert_eq!(chain(&refused()), "spec.ports: is taken");
    }

    #[test]
    fn a_text_that_is_cut_says_so() {
        for (text, shown) in [("abcd", "abcd"), ("abcde", "abcd…"), ("abcé", "abc…"), ("éé", "éé")] {
            assert_eq!(shortened(text.to_owned(), 4), shown);
        }
    }

    #[test]
    fn an_error_is_told_without_secrets() {
        let asked = std::io::Error::other("https://me:hunter2@x.example/?code=hunter2 does not answer");
        assert_eq!(chain(&asked), "https://…@x.example/?… does not answer");
    }
}
