//! ADXCluster: an existing cluster is ready at once; one with a part in a federation gets its agent.

use std::{hash::Hash, time::Duration};

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use shared::document::{
    self, ADXCluster, ClusterRole, Violation,
    provisioned::{AppliedProvisionState, ProvisionStatus},
    spec::FederationSpec,
    status::FederationStatus,
};

use super::{given, invalid};
use crate::kubernetes::{
    build::agent::{AgentParts, agent, no_agent},
    child::{Kind, Owner},
    conditions::{Draft, Phase},
    managed::{Managed, Plan, World, spec_and_status},
    provision,
    reason::Reason,
};

/// How often an object looks whether it is still not the first of its cluster.
const LOOK_FOR_ELDERS: Duration = Duration::from_secs(10);

impl Managed for ADXCluster {
    const KIND: Kind = Kind::AdxCluster;

    spec_and_status!();

    fn plan(&self, owner: &Owner, world: &World<'_>) -> Plan {
        let violations = broken_rules(self, world);
        if !violations.is_empty() {
            return invalid(Phase::ClusterReady, &violations);
        }
        // One spelling of one cluster: components tell endpoints apart by their text.
        let endpoint = self.spec.endpoint.as_deref().and_then(|endpoint| ClusterEndpoint::parse(endpoint).ok());
        if let Some(endpoint) = endpoint {
            let conditions = vec![
                Draft::yes(Phase::ClusterReady, Reason::Existing, "spec.endpoint names an existing cluster"),
                Draft::yes(
                    Phase::DatabasesReady,
                    Reason::Existing,
                    "the databases of an existing cluster are not made here",
                ),
            ];
            return with_agent(self, owner, world, conditions, endpoint.to_string());
        }
        let Some(provisioned) = world.provisioned.clone() else {
            let endpoint = self.status_endpoint().map(str::to_owned);
            let Some(why) = provision::refusal(self, world) else {
                let why = Draft::unknown(Phase::ClusterReady, Reason::Waiting, "Azure has not been looked at yet");
                return Plan { endpoint, ..Plan::nothing(why, false) };
            };
            // Another object may go, of which nothing tells this one.
            let again = (why.reason == Reason::DuplicateCluster.as_str()).then_some(LOOK_FOR_ELDERS);
            return Plan { endpoint, again, ..Plan::nothing(why, true) };
        };
        let (conditions, is_stalled) = (provisioned.conditions.clone(), provisioned.is_stalled);
        let plan = match provisioned.endpoint.clone() {
            Some(endpoint) => {
                let mut cluster = self.clone();
                cluster.spec.endpoint = Some(endpoint.clone());
                with_agent(&cluster, owner, world, conditions, endpoint)
            }
            None => Plan {
                conditions,
                build: None,
                workload_phase: Phase::AgentReady,
                endpoint: None,
                is_stalled,
                provisioned: None,
                again: None,
            },
        };
        let again = Some(provisioned.again);
        Plan { is_stalled, provisioned: Some(provisioned), again, ..plan }
    }

    fn to_provision(&self, world: &World<'_>) -> Option<&ADXCluster> {
        let is_to_be_made = self.spec.endpoint.is_none()
            && broken_rules(self, world).is_empty()
            && provision::refusal(self, world).is_none();
        is_to_be_made.then_some(self)
    }

    fn provision_status(&self) -> (Option<&ProvisionStatus>, Option<&AppliedProvisionState>) {
        let status = self.status.as_ref();
        (
            status.and_then(|status| status.provision.as_ref()),
            status.and_then(|status| status.applied_provision_state.as_ref()),
        )
    }

    fn has_stale_agent_status(&self) -> bool {
        let has_status = self.status.as_ref().is_some_and(|status| status.federation.is_some());
        has_status && told_by_agent(self).is_none()
    }

    /// What its agent tells decides on the condition `Federated`, and on which databases a hub gets.
    fn watched_status(&self) -> impl Hash {
        let drafts = [Some(federated(self)), guarded(self)];
        let repairs = self.agent_repairs().map(|(pass, repairs)| (pass, repairs.to_vec()));
        let missing = told_by_agent(self).map(|told| told.missing_databases.clone());
        (drafts.map(|draft| draft.map(|draft| (draft.is_true, draft.reason, draft.message))), repairs, missing)
    }

    fn agent_repairs(&self) -> Option<(Timestamp, &[String])> {
        let pass = told_by_agent(self)?.last_pass.as_ref()?;
        (!pass.repairs.is_empty()).then_some((pass.time.0, &pass.repairs))
    }

    /// Components wait for it and follow its endpoint; which of them it concerns is decided by its labels.
    fn told_status(&self) -> impl Hash {
        let told = [Phase::ClusterReady, Phase::DatabasesReady].map(|phase| {
            let condition = self.conditions().iter().find(|condition| condition.type_ == phase.as_str());
            condition.map(|condition| (condition.status.clone(), condition.message.clone()))
        });
        (self.status_endpoint().map(str::to_owned), told)
    }
}

/// Everything that has to be changed before anything is done.
fn broken_rules(cluster: &ADXCluster, world: &World<'_>) -> Vec<String> {
    violations(cluster, world).iter().map(ToString::to_string).collect()
}

/// The agent of a cluster that answers somewhere; without a part in a federation there is none.
fn with_agent(
    cluster: &ADXCluster,
    owner: &Owner,
    world: &World<'_>,
    mut conditions: Vec<Draft>,
    endpoint: String,
) -> Plan {
    let build = match (&cluster.spec.federation, &world.settings.images.agent) {
        (None, _) => Some(no_agent(owner)),
        (Some(federation), Some(image)) => {
            conditions.push(federated(cluster));
            conditions.extend(guarded(cluster));
            Some(agent(owner, &agent_parts(cluster, federation, image, &world.settings.agent_arguments)))
        }
        (Some(_), None) => {
            let message = "the operator does not know its own image: start it with --agent-image, or with POD_NAME and POD_NAMESPACE in its environment";
            conditions.push(Draft::no(Phase::AgentReady, Reason::NoAgentImage, message));
            None
        }
    };
    Plan {
        conditions,
        build,
        workload_phase: Phase::AgentReady,
        endpoint: Some(endpoint),
        is_stalled: false,
        provisioned: None,
        again: None,
    }
}

/// The document's rules, and whom a token may be shown.
fn violations(cluster: &ADXCluster, world: &World<'_>) -> Vec<Violation> {
    let mut violations = document::check(cluster);
    let federation = cluster.spec.federation.as_ref();
    let own = cluster.spec.endpoint.iter().map(|endpoint| ("spec.endpoint".to_owned(), endpoint));
    let lists = federation.into_iter().flat_map(|federation| {
        [("federatedClusters", &federation.federated_clusters), ("federatedTargets", &federation.federated_targets)]
    });
    let targets = lists.flat_map(|(list, targets)| {
        targets.iter().flatten().enumerate().map(move |(index, target)| (list, index, target))
    });
    let hubs =
        targets.map(|(list, index, target)| (format!("spec.federation.{list}[{index}].endpoint"), &target.endpoint));
    for (path, endpoint) in own.chain(hubs) {
        // One that cannot be read is among the violations already.
        let Ok(parsed) = ClusterEndpoint::parse(endpoint) else { continue };
        let is_trusted =
            if parsed.is_loopback() { world.settings.allow_loopback } else { world.settings.trust.trusts(&parsed) };
        if !is_trusted {
            let rule = format!("must be a Kusto endpoint of the operator's cloud ({})", world.settings.trust.cloud);
            violations.push(Violation { path, value: endpoint.clone(), rule });
        }
    }
    violations
}

fn agent_parts(cluster: &ADXCluster, federation: &FederationSpec, image: &str, arguments: &[String]) -> AgentParts {
    let targets = federation.federated_clusters.iter().chain(&federation.federated_targets).flatten();
    let credentials = federation.credential.iter().chain(targets.filter_map(|target| target.credential.as_ref()));
    let workload_identities: Vec<_> =
        credentials.filter_map(|credential| credential.workload_identity.as_ref()).collect();
    AgentParts {
        role: cluster.spec.role.unwrap_or_default(),
        image: given(&federation.image).unwrap_or_else(|| image.to_owned()),
        document: document::effective(cluster),
        pods: federation.pod_policy.clone(),
        // Others' client ids are in the document; this one is what the webhook puts into the environment.
        client_id: workload_identities.iter().find_map(|identity| identity.client_id.clone()),
        uses_workload_identity: !workload_identities.is_empty(),
        arguments: arguments.to_vec(),
    }
}

/// What the agent that the object has now tells. Where it has had another role, or a part in a federation, what was told then says nothing of it.
fn told_by_agent(cluster: &ADXCluster) -> Option<&FederationStatus> {
    cluster.spec.federation.as_ref()?;
    let told = cluster.status.as_ref()?.federation.as_ref()?;
    let is_of_this_role = match cluster.spec.role.unwrap_or_default() {
        ClusterRole::Federated => told.hubs.is_empty(),
        ClusterRole::Partition => told.live.is_none() && told.guard.is_none() && told.plan.is_none(),
    };
    is_of_this_role.then_some(told)
}

/// Which guard of the agent holds, and how to release it.
fn guarded(cluster: &ADXCluster) -> Option<Draft> {
    let told = told_by_agent(cluster)?;
    let guard = told.guard.as_deref()?;
    let reason = reason_of_guard(guard);
    let held = told.last_pass.as_ref().and_then(|pass| pass.message.clone()).unwrap_or_default();
    let message = match &told.plan {
        Some(plan) => format!(
            "{held}; spec.federation.acknowledgedPlan: {} releases what is held, see status.federation.plan",
            plan.hash
        ),
        None => held,
    };
    Some(Draft::in_words_of_others(Phase::Guarded, Some(true), &reason, message))
}

/// `mass_expiry,removal_budget`: the first gives the reason its name.
pub(crate) fn reason_of_guard(guard: &str) -> String {
    let words = guard.split(',').next().unwrap_or_default().split('_');
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    words.map(capital).collect()
}

/// What the agent says of its last pass.
fn federated(cluster: &ADXCluster) -> Draft {
    let told = told_by_agent(cluster);
    let Some(pass) = told.and_then(|told| told.last_pass.as_ref()) else {
        return Draft::unknown(Phase::Federated, Reason::WaitingForAgent, "the agent has not told of a pass yet");
    };
    let message = pass.message.clone().or_else(|| pass.problems.first().cloned());
    let message = message.unwrap_or_else(|| match cluster.spec.role.unwrap_or_default() {
        ClusterRole::Federated => {
            format!("{} partition(s) live", told.and_then(|told| told.live.clone()).unwrap_or_default())
        }
        ClusterRole::Partition => "every hub has accepted the last heartbeat".to_owned(),
    });
    match pass.outcome.as_str() {
        "done" | "unchanged" => Draft::yes(Phase::Federated, Reason::Federated, message),
        // What a person asked for: `mode: Plan`.
        "planned" => Draft::yes(Phase::Federated, Reason::Planned, message),
        "held" => Draft::no(Phase::Federated, Reason::Held, message),
        "partial" => Draft::no(Phase::Federated, Reason::Partial, message),
        _ => Draft::no(Phase::Federated, Reason::Failed, message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(federation: &Value) -> ADXCluster {
        let cluster = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "hub"},
            "spec": {"clusterName": "hub", "role": "Federated", "federation": {}}, "status": {"federation": federation},
        });
        serde_json::from_value(cluster).unwrap()
    }

    fn pass(outcome: &str) -> Value {
        json!({"time": "2026-01-01T00:00:00Z", "outcome": outcome, "message": "3 of 4 are silent"})
    }

    #[test]
    fn a_pass_that_was_only_planned_is_no_failure() {
        let reasons = ["done", "unchanged", "planned", "held", "partial", "failed"].map(|outcome| {
            let draft = federated(&told(&json!({"lastPass": pass(outcome)})));
            (draft.is_true, draft.reason)
        });
        let reason = |is_true, reason: &str| (Some(is_true), reason.to_owned());
        let expected = [
            reason(true, "Federated"),
            reason(true, "Federated"),
            reason(true, "Planned"),
            reason(false, "Held"),
            reason(false, "Partial"),
            reason(false, "Failed"),
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn a_guard_is_a_condition_that_names_it_and_how_to_release_it() {
        let plan = json!({"hash": "0123456789ab", "changes": []});
        let held = json!({"guard": "mass_expiry,removal_budget", "lastPass": pass("held"), "plan": plan});
        let draft = guarded(&told(&held)).unwrap();
        assert_eq!((draft.phase, draft.is_true, draft.reason.as_str()), (Phase::Guarded, Some(true), "MassExpiry"));
        assert!(draft.message.starts_with("3 of 4 are silent; spec.federation.acknowledgedPlan: 0123456789ab"));
        assert_eq!(guarded(&told(&json!({"lastPass": pass("done")}))), None);
        // A status that somebody else wrote breaks nothing.
        assert!(guarded(&told(&json!({"guard": "_,é"}))).is_some());
    }

    #[test]
    fn what_was_told_in_another_role_or_in_a_federation_that_was_left_is_nothing_that_is_told() {
        let (of_hub, of_partition) = (
            json!({"live": "3/3", "guard": "mass_expiry", "lastPass": pass("done")}),
            json!({"hubs": [{"endpoint": "https://hub.kusto.windows.net"}], "lastPass": pass("done")}),
        );
        let tells = |federation: &Value, role: ClusterRole, is_federated: bool| {
            let mut cluster = told(federation);
            cluster.spec.role = Some(role);
            if !is_federated {
                cluster.spec.federation = None;
            }
            let is_told = federated(&cluster).is_true.is_some();
            assert_eq!(cluster.has_stale_agent_status(), !is_told, "{cluster:?}");
            (is_told, guarded(&cluster).is_some(), cluster.agent_repairs().is_some())
        };
        let nothing = (false, false, false);
        assert_eq!(tells(&of_hub, ClusterRole::Federated, true), (true, true, false));
        assert_eq!(tells(&of_hub, ClusterRole::Partition, true), nothing);
        assert_eq!(tells(&of_partition, ClusterRole::Partition, true), (true, false, false));
        assert_eq!(tells(&of_partition, ClusterRole::Federated, true), nothing);
        assert_eq!(tells(&of_hub, ClusterRole::Federated, false), nothing);
        assert_eq!(tells(&of_partition, ClusterRole::Partition, false), nothing);
    }
}
