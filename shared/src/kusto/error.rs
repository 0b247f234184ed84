//! What can go wrong with a cluster. Closed: the retry rule and the agents' metrics match on it. No I/O.

use std::{error, fmt, time::Duration};

use kql::endpoint::ClusterEndpoint;

use super::trust::Cloud;
use crate::credential::CredentialError;

/// Why no client was made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host is no Kusto service of the cloud; a token sent there would be given away.
    #[error("{endpoint} is not a trusted Kusto endpoint of the cloud '{cloud}': no request is sent to it")]
    Untrusted {
        /// The cluster.
        endpoint: ClusterEndpoint,
        /// The configured cloud.
        cloud: Cloud,
    },
    /// Only loopback addresses are asked without a token.
    #[error("{endpoint} needs a credential: only loopback addresses are asked without a token")]
    NoCredential {
        /// The cluster.
        endpoint: ClusterEndpoint,
    },
    /// The HTTP client cannot be set up, as when the machine has no root certificates.
    #[error("failed to set up the HTTP client for {endpoint}")]
    Http {
        /// The cluster.
        endpoint: ClusterEndpoint,
        /// Why.
        source: reqwest::Error,
    },
}

/// A request that failed: what, where and why.
#[derive(Debug)]
pub struct KustoError {
    /// The cluster.
    pub endpoint: ClusterEndpoint,
    /// The request's name, as in `kql::request::Request::name`; `ingest_csv` for ingestion.
    pub request: &'static str,
    /// Why. It is part of this error's message; its source is this error's source.
    pub failure: Failure,
}

impl fmt::Display for KustoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on {}: {}", self.request, self.endpoint, self.failure)
    }
}

impl error::Error for KustoError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        error::Error::source(&self.failure)
    }
}

impl KustoError {
    /// Whether the cluster or the token's issuer refused who we are: what `auth_failures_total` counts.
    pub const fn is_auth(&self) -> bool {
        matches!(self.failure, Failure::Credential(_) | Failure::Unauthorized { .. })
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("the connection failed")]
    Transport {
        /// False if the connection was never made, so that the request cannot have been received.
        maybe_received: bool,
        /// Why.
        source: reqwest::Error,
    },
    /// No full answer in time. The request may have been executed.
    #[error("no full answer came within {after:?}")]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// There is no token to send.
    #[error("there is no token")]
    Credential(#[source] CredentialError),
    /// 401 or 403: not who we must be, or without the right.
    #[error("access was refused (status {status}): {message}")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
        /// The server's words, cut.
        message: String,
    },
    /// 429: too many requests. This one was not executed.
    #[error("the cluster throttles requests")]
    Throttled {
        /// How long the server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// Kusto answered with an error.
    #[error("{code} (status {status}): {message}")]
    Rejected {
        /// The HTTP status; 200 for an error inside an answer.
        status: u16,
        /// Kusto's code, such as `General_BadRequest`; `NotStored` where the answer to an ingestion by command says that.
        code: String,
        /// The server's words, cut.
        message: String,
        /// Kusto's `@permanent`: the same request will fail again. Of an error that does not say, the status does: what failed in the service (5xx) may work again.
        permanent: bool,
    },
    /// The answer was cut off, or does not say that it is complete. Nothing in it may be used: a partial list looks like things that vanished.
    #[error("the answer is incomplete: {why}")]
    Incomplete {
        /// What is missing.
        why: String,
    },
    /// More bytes than the client accepts.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
    /// Something other than Kusto answered: a proxy's page, another service.
    #[error("the answer is not Kusto's (status {status}): {why}")]
    NotKusto {
        /// The HTTP status.
        status: u16,
        /// What came instead.
        why: String,
    },
    /// The server sent us elsewhere. Redirects are not followed: the token is for this host only.
    #[error("the server redirects (status {status}), and redirects are not followed")]
    Redirected {
        /// The HTTP status.
        status: u16,
    },
}
