//! Who has to be allowed what on a cluster for the federation to work: its own agent, and on a hub the agents of the partitions that name it. Pure.

use kql::endpoint::ClusterEndpoint;
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};
use shared::{
    credential::CredentialConfig,
    document::{
        ADXCluster, ClusterRole, sign_in,
        spec::{CredentialSpec, HeartbeatTables},
    },
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
    // With a table for each partition, a right on the whole database would give all of them to each.
    let is_shared = federation.heartbeat_tables.unwrap_or_default() == HeartbeatTables::Shared;
    if is_hub && !is_shared {
        let note = "each partition's agent needs the right to ingest into its own heartbeat table, which a person has to grant: .add table <table> ingestors ('aadapp=<client id>;<tenant>')";
        found.notes.push(note.to_owned());
    }
    let heartbeats = federation.heartbeat_database.as_deref().filter(|_| is_hub && is_shared);
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::{Value, json};
    use shared::kusto::HostTrust;

    use super::*;
    use crate::kubernetes::settings::{Images, Settings};

    const HUB: &str = "https://hub.eastus2.kusto.windows.net";

    fn cluster(name: &str, namespace: &str, role: &str, federation: &Value) -> ADXCluster {
        let cluster = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterName": name, "role": role, "federation": federation},
        });
        serde_json::from_value(cluster).unwrap()
    }

    fn partition(name: &str, namespace: &str, hub: &str, credential: &Value) -> ADXCluster {
        let mut target = json!({"endpoint": hub, "heartbeatDatabase": "Fleet", "heartbeatTable": "H"});
        target.as_object_mut().unwrap().extend(credential.as_object().unwrap().clone());
        cluster(name, namespace, "Partition", &json!({"federatedClusters": [target]}))
    }

    fn shown(cluster: &ADXCluster, others: &[ADXCluster]) -> (Vec<String>, Vec<String>) {
        let settings = Settings {
            namespace: None,
            cluster_labels: BTreeMap::new(),
            trust: HostTrust::default(),
            allow_loopback: false,
            images: Images { ingestor: String::new(), collector: String::new(), alerter: String::new(), agent: None },
            agent_arguments: Vec::new(),
        };
        let clusters = others.iter().cloned().map(Arc::new).collect();
        let world = World { clusters, can_provision: true, ..World::of_tests(&settings) };
        let Grants { grants, notes } = grants(cluster, Some(HUB), &world);
        let text = |Grant { scope, role, client_id, tenant_id }: Grant| match scope {
            Scope::Cluster => format!("{client_id}@{} {role}", tenant_id.unwrap_or_default()),
            Scope::Database(database) => format!("{client_id}@{} {role} on {database}", tenant_id.unwrap_or_default()),
        };
        (grants.into_iter().map(text).collect(), notes)
    }

    #[test]
    fn a_partitions_agent_reads_what_there_is() {
        let mut one = partition("one", "n", HUB, &json!({}));
        let named = |id: &str| vec![format!("{id}@ AllDatabasesMonitor")];
        assert_eq!(shown(&one, &[]).0, Vec::<String>::new());
        assert!(
            shown(&one, &[]).1[0]
                .starts_with("this cluster's agent needs the role AllDatabasesMonitor, which a person")
        );
        let provision = json!({"managedIdentityClientId": "of-the-cluster"});
        one.spec.provision = Some(serde_json::from_value(provision).unwrap());
        assert_eq!(shown(&one, &[]).0, named("of-the-cluster"));
        one.spec.federation.as_mut().unwrap().managed_identity_client_id = Some("of-the-agent".to_owned());
        assert_eq!(shown(&one, &[]), (named("of-the-agent"), vec![]));
        // A person's own account is the person's business; a cluster that is in no federation has no agent.
        one.spec.federation.as_mut().unwrap().credential =
            Some(serde_json::from_value(json!({"azureCli": {}})).unwrap());
        assert_eq!(shown(&one, &[]), (vec![], vec![]));
        one.spec.federation = None;
        assert_eq!(shown(&one, &[]), (vec![], vec![]));
    }

    #[test]
    fn partitions_of_the_namespace_that_name_the_hub_may_write_heartbeats() {
        let identity = json!({"workloadIdentity": {"clientId": "h", "tenantId": "t"}});
        let hub = json!({"heartbeatDatabase": "Fleet", "heartbeatTable": "H", "credential": identity});
        let hub = cluster("hub", "n", "Federated", &hub);
        let id = |id: &str| json!({"managedIdentityClientId": id});
        let others = [
            partition("a", "n", &format!("{}/", HUB.to_uppercase().replace("HTTPS", "https")), &id("a")),
            partition("b", "n", HUB, &id("a")),
            partition("elsewhere", "m", HUB, &id("c")),
            partition("another-hub", "n", "https://x.kusto.windows.net", &id("d")),
            partition("nameless", "n", HUB, &json!({})),
            hub.clone(),
        ];
        let (grants, notes) = shown(&hub, &others);
        assert_eq!(grants, ["h@t AllDatabasesAdmin", "a@ Ingestor on Fleet"]);
        assert_eq!(notes.len(), 1);
        let mut own = hub;
        own.spec.federation.as_mut().unwrap().heartbeat_tables = Some(HeartbeatTables::PerPartition);
        let (grants, own_notes) = shown(&own, &others);
        assert_eq!(grants, ["h@t AllDatabasesAdmin"]);
        assert!(own_notes[0].contains(".add table"));
        assert!(
            notes[0].starts_with("the agent of the partition 'nameless' needs the role Ingestor on the database Fleet")
        );
    }

    #[test]
    fn a_right_is_found_by_who_and_what_and_has_one_name() {
        let grant = |role, client_id: &str| Grant {
            scope: Scope::Cluster,
            role,
            client_id: client_id.to_owned(),
            tenant_id: None,
        };
        let there = |principal: &str, role: &str| -> Assignment {
            serde_json::from_value(json!({"properties": {"principalId": principal, "role": role}})).unwrap()
        };
        assert!(grant("Ingestor", "abc").is_in(&[there("x", "Ingestor"), there("ABC", "Ingestor")]));
        assert!(!grant("Ingestor", "abc").is_in(&[there("abc", "Viewer"), there("abcd", "Ingestor")]));
        assert_eq!(grant("Ingestor", "abc").name(), grant("Ingestor", "ABC").name());
        assert_ne!(grant("Ingestor", "abc").name(), grant("Viewer", "abc").name());
    }
}
