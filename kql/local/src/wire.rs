//! Kusto's REST protocol as values: what a request says, and the bytes of an answer. No I/O; called by [`crate::server`].

pub mod fault;
pub mod options;
pub mod request;
mod table;
pub mod v1;
pub mod v2;

/// The request's own id, chosen by the client and echoed.
pub const CLIENT_REQUEST_ID: &str = "x-ms-client-request-id";
/// Who asks, as the client names itself.
pub const APPLICATION: &str = "x-ms-app";
/// The server's id of the request.
pub const ACTIVITY_ID: &str = "x-ms-activity-id";

/// What an answer says about the request it answers.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// [`CLIENT_REQUEST_ID`], as sent, or made up.
    pub client_request_id: String,
    /// [`ACTIVITY_ID`]
    pub activity_id: String,
    /// When the request arrived: ticks since year 1.
    pub received: i64,
    /// What was asked for.
    pub kind: ExchangeKind,
    /// The server's own endpoint; Kusto gives the cluster's name in capitals here.
    pub service_alias: String,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// `/v1/rest/query`, `/v2/rest/query`
    Query,
    /// `/v1/rest/mgmt`
    Command,
    /// `/v1/rest/ingest`
    Ingest,
    /// Anything else.
    Other,
}

impl ExchangeKind {
    /// Kusto's name of it in an error's context.
    pub const fn activity_type(self) -> &'static str {
        match self {
            Self::Query => "DN.FE.ExecuteQuery",
            Self::Command => "DN.FE.ExecuteControlCommand",
            Self::Ingest => "DN.FE.StreamingIngest",
            Self::Other => "GW.Http.CallContext",
        }
    }
}

#[cfg(test)]
impl Exchange {
    /// A request for tests of answers.
    pub(crate) fn example(kind: ExchangeKind) -> Self {
        Self {
            client_request_id: "client".into(),
            activity_id: "6f9619ff-8b86-d011-b42d-00cf4fc964ff".into(),
            received: kql::literal::UNIX_EPOCH_TICKS,
            kind,
            service_alias: "http://127.0.0.1:1".into(),
        }
    }
}
