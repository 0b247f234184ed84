//! Who has to be allowed what on a cluster for the federation to work: its own agent, and on a hub the agents of the partitions that name it. Pure.

use kql::endpoint::ClusterEndpoint;
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};
use shared::{
    credential::CredentialConfig,
    document::{ADXCluster, ClusterRole, sign_in, spec::CredentialSpec},
};

use crate::{
    azure::{
        Scope,
        types::{Assignment, NewAssignment, NewAssignmentProperties},
    },
    kubernetes::managed::World,
};

/// A right that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Grant {
    pub(super) scope: Scope,
    pub(super) role: &'static str,
    /// The identity's client (application) id.
    pub(super) client_id: String,
    pub(super) tenant_id: Option<String>,
}

/// The rights, and what nobody can grant because the identity's id is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Grants {
    pub(super) grants: Vec<Grant>,
    pub(super) notes: Vec<String>,
}

/// The rights of everybody who works with this cluster. `endpoint`: where it answers, which partitions name it by.
pub(crate) fn grants(cluster: &ADXCluster, endpoint: Option<&str>, world: &World<'_>) -> Grants {
    let mut found = Grants::default();
    let Some(federation) = &cluster.spec.federation else { return found };
    let provision = cluster.spec.provision.as_ref();
    let ids = [
        federation.managed_identity_client_id.as_deref(),
        provision.and_then(|provision| provision.managed_identity_client_id.as_deref()),
    ];
    let is_hub = cluster.spec.role.unwrap_or_default() == ClusterRole::Federated;
    // A hub's agent makes functions and entity groups in every database; a partition's reads what is there.
    let role = if is_hub { "AllDatabasesAdmin" } else { "AllDatabasesMonitor" };
    found.add(Scope::Cluster, role, "this cluster's agent", federation.credential.as_ref(), &ids);
    let heartbeats = federation.heartbeat_database.as_deref().filter(|_| is_hub);
    if let Some((database, endpoint)) = heartbeats.zip(endpoint.and_then(|text| ClusterEndpoint::parse(text).ok())) {
        for other in &world.clusters {
            let is_near = other.namespace() == cluster.namespace() && other.metadata.deletion_timestamp.is_none();
            let federation = other.spec.federation.as_ref().filter(|_| is_near);
            let Some(federation) = federation.filter(|_| other.spec.role.unwrap_or_default() == ClusterRole::Partition)
            else {
                continue;
            };
            let targets = federation.federated_clusters.iter().chain(&federation.federated_targets).flatten();
            let targets =
                targets.filter(|target| ClusterEndpoint::parse(&target.endpoint).ok().as_ref() == Some(&endpoint));
            for target in targets {
                let who = format!("the agent of the partition '{}'", other.name_any());
                let ids = [target.managed_identity_client_id.as_deref()];
                let scope = Scope::Database(database.to_owned());
                found.add(scope, "Ingestor", &who, target.credential.as_ref(), &ids);
            }
        }
    }
    found.grants.sort();
    found.grants.dedup();
    found
}

impl Grants {
    fn add(
        &mut self,
        scope: Scope,
        role: &'static str,
        who: &str,
        credential: Option<&CredentialSpec>,
        ids: &[Option<&str>],
    ) {
        let (client_id, tenant_id) = match sign_in(credential, ids) {
            CredentialConfig::ManagedIdentity { client_id } => (client_id, None),
            CredentialConfig::WorkloadIdentity { client_id, tenant_id } => (client_id, tenant_id),
            // A person's own account.
            CredentialConfig::AzureCli | CredentialConfig::None => return,
        };
        match client_id {
            Some(client_id) => self.grants.push(Grant { scope, role, client_id, tenant_id }),
            None => {
                let on = match scope {
                    Scope::Cluster => String::new(),
                    Scope::Database(database) => format!(" on the database {database}"),
                };
                self.notes.push(format!("{who} needs the role {role}{on}, which a person has to grant: the document names no client id of its identity"));
            }
        }
    }

    /// Where rights have to be looked up.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.grants.iter().map(|grant| grant.scope.clone()).collect();
        scopes.dedup();
        scopes
    }
}

impl Grant {
    /// Whether somebody granted it, under whatever name.
    pub(super) fn is_in(&self, assignments: &[Assignment]) -> bool {
        assignments.iter().map(|assignment| &assignment.properties).any(|there| {
            there.principal_id.eq_ignore_ascii_case(&self.client_id) && there.role.eq_ignore_ascii_case(self.role)
        })
    }

    /// A name that is the same for the same right, so that a second try writes the same assignment.
    pub(super) fn name(&self) -> String {
        let digest = Sha256::digest(format!("{} {}", self.role, self.client_id.to_lowercase()));
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("adx-federation-{hash}")
    }

    pub(super) fn body(&self) -> NewAssignment {
        NewAssignment {
            properties: NewAssignmentProperties {
                principal_id: self.client_id.clone(),
                role: self.role.to_owned(),
                principal_type: "App",
                tenant_id: self.tenant_id.clone(),
            },
        }
    }
}
