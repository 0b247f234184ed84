//! What we send to a Kusto cluster: a finished text with what the client must know to send it safely. Only this crate can make one, so every text that
//! leaves our programs was rendered here. No I/O.

use std::collections::BTreeMap;

use crate::names::DatabaseName;

/// Where a text goes and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A query of the cluster itself: `/v2/rest/query`, read-only, safe to repeat.
    Query,
    /// A query that asks another cluster; else as a query.
    RemoteQuery,
    /// A `.show` command: `/v1/rest/mgmt`, read-only, safe to repeat.
    Show,
    /// A command that changes something but may be sent twice with the same end state (`.create-or-alter`, `.alter`, `.create-merge`, `.drop ... ifexists`).
    IdempotentControl,
    /// A command whose repetition adds something (`.ingest inline`) or fails (`.create` without `ifnotexists`, `.drop entity_group`).
    Control,
}

impl RequestKind {
    /// Whether a request whose answer was lost may be sent again.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Control)
    }

    /// Whether the server is asked to refuse any change (`request_readonly`).
    pub const fn is_read_only(self) -> bool {
        matches!(self, Self::Query | Self::RemoteQuery | Self::Show)
    }
}

/// A text ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) name: &'static str,
    pub(crate) kind: RequestKind,
    pub(crate) database: Option<DatabaseName>,
    pub(crate) text: String,
    pub(crate) parameters: BTreeMap<&'static str, String>,
}

impl Request {
    /// What it is, for logs and metrics: the stem of its file in `kql/text`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where it goes and what may be done with it.
    pub const fn kind(&self) -> RequestKind {
        self.kind
    }

    /// The database it runs in; `None` for cluster-level commands.
    pub const fn database(&self) -> Option<&DatabaseName> {
        self.database.as_ref()
    }

    /// The text, the body's `csl`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Query parameters, the body's `properties.Parameters`: name to KQL literal.
    pub const fn parameters(&self) -> &BTreeMap<&'static str, String> {
        &self.parameters
    }
}
