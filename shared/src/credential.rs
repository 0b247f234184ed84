//! Where a token comes from: by explicit configuration, never by trying a chain, so that an agent signs in as who its document says or not at all.
//! I/O: [`TokenSource::header`] asks the issuer through azure_identity. Called by the Kusto client and by the operator's Azure client.

mod token;

use std::fmt;

pub use token::{CredentialError, TokenSource};

/// How to sign in to one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialConfig {
    /// The managed identity of the machine or the app service.
    ManagedIdentity {
        /// The client id of a user-assigned identity; without it the system-assigned one.
        client_id: Option<String>,
    },
    /// Kubernetes workload identity, from the environment its webhook sets.
    WorkloadIdentity {
        /// The client id; without it the environment's.
        client_id: Option<String>,
        /// The tenant; without it the environment's.
        tenant_id: Option<String>,
    },
    /// The account that `az login` signed in.
    AzureCli,
    /// No token at all: loopback addresses only.
    None,
}

impl CredentialConfig {
    /// What it is called in messages: never with the ids of whose it is.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ManagedIdentity { client_id: Some(_) } => "user-assigned managed identity",
            Self::ManagedIdentity { client_id: None } => "system-assigned managed identity",
            Self::WorkloadIdentity { .. } => "workload identity",
            Self::AzureCli => "Azure CLI",
            Self::None => "no credential",
        }
    }
}

impl fmt::Display for CredentialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
