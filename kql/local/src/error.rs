//! What can go wrong, in Kusto's own classes: each kind knows its HTTP status, code, exception type and whether a client may try again. No I/O.
//!
//! Made by the commands, the ingestion and the engine; turned into Kusto's error body by [`crate::wire::fault`], and nowhere else.

use std::fmt;

use kql::syntax::error::{SyntaxError, SyntaxErrorKind};

/// The class of an error. It decides everything a client sees but the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KustoErrorKind {
    /// The text is no KQL.
    Syntax,
    /// The text is KQL but means nothing here: an unknown column, a wrong type.
    Semantic {
        /// Kusto's code: `SEM0100`, ...
        code: &'static str,
    },
    /// A table, function or database of a query is not there: what `isfuzzy` passes over, as no other semantic error.
    Unresolved {
        /// Kusto's code: `SEM0100`, `SEM0056`, `SEM0260`.
        code: &'static str,
    },
    /// The server has nothing at the request's path.
    UnknownPath,
    /// A command named an entity that is not there.
    NotFound,
    /// The request's database is not there.
    DatabaseNotFound,
    /// A command creates what is there already.
    AlreadyExists,
    /// Too many requests at once: try again later.
    Throttled,
    /// The request's own time-out has passed.
    TimedOut,
    /// The result is larger than the caps on rows or bytes.
    LimitExceeded,
    /// The body or an ingested payload is larger than the server takes.
    TooLarge,
    /// The request makes no sense: a body that is no JSON, a missing property, a payload that is no CSV.
    BadRequest,
    /// Rows were streamed into a table whose policy does not allow it.
    StreamingDisabled,
    /// A change was asked for in a request marked `request_readonly`.
    ReadOnly,
    /// Another cluster of the query failed or could not be reached.
    RemoteFailed,
    /// Valid in Kusto, not in this server: refused by name, never approximated.
    Unsupported,
    /// A bug of this server.
    Internal,
    /// A fault that this server was told to have.
    OnPurpose {
        /// The HTTP status.
        status: u16,
    },
}

/// How the message of a query begins whose table is not there. Kusto's code is the one of an unknown column, so what another server reports is told apart by
/// this.
pub const TABLE_UNRESOLVED: &str = "Failed to resolve table expression named";

impl KustoErrorKind {
    /// The HTTP status when nothing of the answer has been sent yet.
    pub const fn status(self) -> u16 {
        match self {
            Self::UnknownPath => 404,
            Self::Throttled => 429,
            Self::TimedOut => 504,
            Self::TooLarge => 413,
            Self::RemoteFailed | Self::Internal => 500,
            Self::OnPurpose { status } => status,
            Self::Syntax
            | Self::Semantic { .. }
            | Self::Unresolved { .. }
            | Self::NotFound
            | Self::DatabaseNotFound
            | Self::AlreadyExists
            | Self::LimitExceeded
            | Self::BadRequest
            | Self::StreamingDisabled
            | Self::ReadOnly
            | Self::Unsupported => 400,
        }
    }

    /// The code of the error body. For syntax and semantic errors it is the inner code, as in Kusto: see [`crate::wire::fault`].
    pub const fn code(self) -> &'static str {
        match self {
            Self::Syntax => "SYN0002",
            Self::Semantic { code } | Self::Unresolved { code } => code,
            Self::UnknownPath => "NotFound",
            Self::NotFound => "BadRequest_EntityNotFound",
            Self::DatabaseNotFound => "BadRequest_DatabaseNotExist",
            Self::AlreadyExists => "BadRequest_EntityAlreadyExists",
            Self::Throttled => "TooManyRequests",
            Self::TimedOut => "RequestExecutionTimeout",
            Self::LimitExceeded => "LimitsExceeded",
            Self::TooLarge => "Stream_InputStreamTooLarge",
            Self::BadRequest => "General_BadRequest",
            Self::StreamingDisabled => "BadRequest_StreamingIngestionPolicyNotEnabled",
            Self::ReadOnly => "Forbidden",
            Self::RemoteFailed => "General_RemoteClusterFailed",
            Self::Unsupported => "BadRequest_NotSupported",
            Self::Internal => "General_InternalServerError",
            Self::OnPurpose { status: 401 } => "Unauthorized",
            Self::OnPurpose { status: 403 } => "Forbidden",
            Self::OnPurpose { status: 429 } => "TooManyRequests",
            Self::OnPurpose { .. } => "General_InternalServerError",
        }
    }

    /// The .NET exception that Kusto names in `@type`.
    pub const fn exception(self) -> &'static str {
        match self {
            Self::Syntax => "Kusto.Data.Exceptions.SyntaxException",
            Self::Semantic { .. } | Self::Unresolved { .. } => "Kusto.Data.Exceptions.SemanticException",
            Self::UnknownPath => "Kusto.Data.Exceptions.KustoBadRequestException",
            Self::NotFound => "Kusto.Data.Exceptions.EntityNotFoundException",
            Self::DatabaseNotFound => "Kusto.Data.Exceptions.DatabaseNotFoundException",
            Self::AlreadyExists => "Kusto.Data.Exceptions.EntityAlreadyExistsException",
            Self::Throttled => "Kusto.Data.Exceptions.KustoRequestThrottledException",
            Self::TimedOut => "Kusto.Data.Exceptions.KustoServiceTimeoutException",
            Self::LimitExceeded => "Kusto.Data.Exceptions.KustoServicePartialQueryFailureLimitsExceededException",
            Self::TooLarge => "Kusto.Data.Exceptions.KustoRequestPayloadTooLargeException",
            Self::BadRequest => "Kusto.Data.Exceptions.KustoBadRequestException",
            Self::StreamingDisabled => "Kusto.Data.Exceptions.StreamingIngestionPolicyNotEnabledException",
            Self::ReadOnly => "Kusto.Data.Exceptions.KustoRequestDeniedException",
            Self::RemoteFailed => "Kusto.Data.Exceptions.KustoServicePartialQueryFailureException",
            Self::Unsupported => "Kusto.Data.Exceptions.KustoNotSupportedException",
            Self::Internal | Self::OnPurpose { .. } => "Kusto.Data.Exceptions.KustoServiceException",
        }
    }

    /// Kusto's `@permanent`: the same request will fail again.
    pub const fn is_permanent(self) -> bool {
        match self {
            Self::Throttled | Self::TimedOut | Self::RemoteFailed | Self::Internal => false,
            Self::OnPurpose { status } => status < 429,
            _ => true,
        }
    }

    /// What Kusto writes before the message.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Syntax => "Syntax error: ",
            Self::Semantic { .. } | Self::Unresolved { .. } => "Semantic error: ",
            Self::UnknownPath
            | Self::NotFound
            | Self::DatabaseNotFound
            | Self::AlreadyExists
            | Self::Throttled
            | Self::TimedOut
            | Self::LimitExceeded
            | Self::TooLarge
            | Self::BadRequest
            | Self::StreamingDisabled
            | Self::ReadOnly
            | Self::RemoteFailed
            | Self::Unsupported
            | Self::Internal
            | Self::OnPurpose { .. } => "",
        }
    }
}

/// An error as Kusto would report it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct KustoError {
    /// Its class.
    pub kind: KustoErrorKind,
    /// A sentence for people, without the class and the position.
    pub message: String,
    /// Line and column in the text of the request, both from 1.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for KustoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        if let KustoErrorKind::Semantic { code } | KustoErrorKind::Unresolved { code } = self.kind {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        match self.position {
            Some((line, column)) => write!(f, " [line:position={line}:{column}]"),
            None => Ok(()),
        }
    }
}

impl KustoError {
    /// An error of any kind, without a position.
    pub fn new(kind: KustoErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None }
    }

    /// The text is no KQL.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::Syntax, message)
    }

    /// The text is KQL but means nothing here.
    pub fn semantic(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::Semantic { code }, message)
    }

    /// A query named a table that is not there.
    pub fn table_unresolved(name: &str) -> Self {
        Self::new(KustoErrorKind::Unresolved { code: "SEM0100" }, format!("{TABLE_UNRESOLVED} '{name}'"))
    }

    /// A query called a tabular function that is not there.
    pub fn function_unresolved(name: &str) -> Self {
        let message =
            format!("{TABLE_UNRESOLVED} '{name}()': no function of this name is built in or stored in the database");
        Self::new(KustoErrorKind::Unresolved { code: "SEM0260" }, message)
    }

    /// A query named a database that is not there.
    pub fn database_unresolved(name: &str) -> Self {
        Self::new(
            KustoErrorKind::Unresolved { code: "SEM0056" },
            format!("Failed to resolve database '{name}'. It does not exist"),
        )
    }

    /// A command named an entity that is not there, in Kusto's words.
    pub fn not_found(kind_of_entity: &str, name: &str) -> Self {
        Self::new(KustoErrorKind::NotFound, format!("Entity ID '{name}' of kind '{kind_of_entity}' was not found."))
    }

    /// The request's database is not there, in Kusto's words.
    pub fn database_not_found(name: &str) -> Self {
        Self::new(KustoErrorKind::DatabaseNotFound, format!("Database '{name}' was not found."))
    }

    /// A command creates what is there already, in Kusto's words.
    pub fn already_exists(kind_of_entity: &str, name: &str) -> Self {
        Self::new(
            KustoErrorKind::AlreadyExists,
            format!("Entity ID '{name}' of kind '{kind_of_entity}' already exists."),
        )
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::BadRequest, message)
    }

    /// Valid in Kusto, not in this server.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::Unsupported, message)
    }

    /// The result is larger than the caps.
    pub fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::LimitExceeded, message)
    }

    /// The request's own time-out has passed.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::TimedOut, message)
    }

    /// Another cluster of the query failed.
    pub fn remote_failed(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::RemoteFailed, message)
    }

    /// A bug of this server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(KustoErrorKind::Internal, message)
    }

    /// The same error with a position, unless it has one.
    #[must_use]
    pub fn at(mut self, position: (usize, usize)) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// The same error with the position of a byte offset in `text`, unless it has one.
    #[must_use]
    pub fn at_offset(self, text: &str, offset: usize) -> Self {
        self.at(line_and_column(text, offset))
    }
}

impl From<SyntaxError> for KustoError {
    fn from(error: SyntaxError) -> Self {
        let kind = match error.kind {
            SyntaxErrorKind::Unsupported => KustoErrorKind::Unsupported,
            SyntaxErrorKind::Syntax | SyntaxErrorKind::TooDeep => KustoErrorKind::Syntax,
        };
        Self { kind, message: error.message, position: Some((error.line, error.column)) }
    }
}

/// Line and column, both from 1 and counted in characters, of a byte offset; an offset past the end is the end.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut line = 1;
    let mut column = 1;
    for (at, c) in text.char_indices() {
        if at >= offset {
            break;
        }
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_class_code_and_position_as_kusto_writes_them() {
        let error =
            KustoError::semantic("SEM0100", "'where' operator: Failed to resolve 'x'").at_offset("T\n| where x", 10);
        assert_eq!(
            error.to_string(),
            "Semantic error: SEM0100: 'where' operator: Failed to resolve 'x' [line:position=2:9]"
        );
        assert_eq!(KustoError::not_found("Table", "T").to_string(), "Entity ID 'T' of kind 'Table' was not found.");
    }

    #[test]
    fn only_throttling_time_outs_remote_and_internal_failures_may_be_tried_again() {
        assert!(KustoErrorKind::Syntax.is_permanent());
        assert!(KustoErrorKind::LimitExceeded.is_permanent());
        assert!(!KustoErrorKind::Throttled.is_permanent());
        assert!(!KustoErrorKind::TimedOut.is_permanent());
    }
}
