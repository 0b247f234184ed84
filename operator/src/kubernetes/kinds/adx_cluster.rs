//! ADXCluster: an existing cluster is ready at once; one with a part in a federation gets its agent.

use std::{hash::Hash, time::Duration};

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use shared::document::{
    self, ADXCluster, ClusterRole, Violation, fingerprint,
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
    const RULES_PHASE: Phase = Phase::ClusterReady;

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
        let repairs = self.agent_repairs().map(|(pass, repairs)| (pass, repairs.to_vec()));
        let told = told_by_agent(self).map(|told| {
            let drafts = [of_last_pass(told, self.spec.role.unwrap_or_default()), of_guard(told)];
            let words = drafts.map(|draft| draft.map(|draft| (draft.is_true, draft.reason, draft.message)));
            (words, told.document.clone(), told.missing_databases.clone())
        });
        (told, repairs)
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
            let parts = agent_parts(cluster, federation, image, &world.settings.agent_arguments);
            let document = fingerprint(&parts.document);
            conditions.push(federated(cluster, &document));
            conditions.extend(guarded(cluster, &document));
            Some(agent(owner, &parts))
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

/// Which guard of the agent holds, and how to release it; unknown while the agent has not told of a pass with the present document, which may have released it.
fn guarded(cluster: &ADXCluster, document: &str) -> Option<Draft> {
    let told = told_by_agent(cluster)?;
    let guard = of_guard(told)?;
    if told.document.as_deref() == Some(document) {
        return Some(guard);
    }
    let message = format!("with the document before, this was held: {}", guard.message);
    Some(Draft::unknown(Phase::Guarded, Reason::WaitingForAgent, message))
}

/// The guard of which the agent tells.
fn of_guard(told: &FederationStatus) -> Option<Draft> {
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

/// What the agent says of its last pass; of a pass with another document than the present one it says nothing of what the object is now to be.
fn federated(cluster: &ADXCluster, document: &str) -> Draft {
    let waiting = |why: &str| Draft::unknown(Phase::Federated, Reason::WaitingForAgent, why);
    let Some(told) = told_by_agent(cluster) else { return waiting("the agent has not told of a pass yet") };
    match (&told.document, of_last_pass(told, cluster.spec.role.unwrap_or_default())) {
        (_, None) => waiting("the agent has not told of a pass yet"),
        (Some(of), Some(draft)) if of == document => draft,
        (Some(_), Some(_)) => waiting("the agent has not told of a pass with the present document yet"),
        (None, Some(_)) => waiting(
            "the agent does not tell which document its last pass was of: it, or the definition of ADXCluster that is installed, is of an earlier version",
        ),
    }
}

/// The pass of which the agent tells.
fn of_last_pass(told: &FederationStatus, role: ClusterRole) -> Option<Draft> {
    let pass = told.last_pass.as_ref()?;
    let message = pass.message.clone().or_else(|| pass.problems.first().cloned());
    let message = message.unwrap_or_else(|| match role {
        ClusterRole::Federated => format!("{} partition(s) live", told.live.clone().unwrap_or_default()),
        ClusterRole::Partition => "every hub has accepted the last heartbeat".to_owned(),
    });
    Some(match pass.outcome.as_str() {
        "done" | "unchanged" => Draft::yes(Phase::Federated, Reason::Federated, message),
        // What a person asked for: `mode: Plan`.
        "planned" => Draft::yes(Phase::Federated, Reason::Planned, message),
        "held" => Draft::no(Phase::Federated, Reason::Held, message),
        "partial" => Draft::no(Phase::Federated, Reason::Partial, message),
        _ => Draft::no(Phase::Federated, Reason::Failed, message),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The fingerprint of the present document.
    const PRESENT: &str = "present";

    fn told(federation: &Value) -> ADXCluster {
        told_of(&json!(PRESENT), federation)
    }

    fn told_of(document: &Value, federation: &Value) -> ADXCluster {
        let mut federation = federation.clone();
        federation["document"] = document.clone();
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
            let draft = federated(&told(&json!({"lastPass": pass(outcome)})), PRESENT);
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
        let draft = guarded(&told(&held), PRESENT).unwrap();
        assert_eq!((draft.phase, draft.is_true, draft.reason.as_str()), (Phase::Guarded, Some(true), "MassExpiry"));
        assert!(draft.message.starts_with("3 of 4 are silent; spec.federation.acknowledgedPlan: 0123456789ab"));
        assert_eq!(guarded(&told(&json!({"lastPass": pass("done")})), PRESENT), None);
        // A status that somebody else wrote breaks nothing.
        assert!(guarded(&told(&json!({"guard": "_,é"})), PRESENT).is_some());
    }

    #[test]
    fn a_pass_with_another_document_says_nothing_of_the_present_one() {
        let done = json!({"live": "3/3", "lastPass": pass("done")});
        let held = json!({"live": "1/4", "guard": "mass_expiry", "lastPass": pass("held")});
        let waits = |federation: &Value, document: &Value| {
            let cluster = told_of(document, federation);
            let drafts = [Some(federated(&cluster, PRESENT)), guarded(&cluster, PRESENT)];
            drafts.into_iter().flatten().map(|draft| (draft.is_true, draft.reason)).collect::<Vec<_>>()
        };
        let waiting = || (None, "WaitingForAgent".to_owned());
        for other in [json!("earlier"), Value::Null] {
            assert_eq!(waits(&done, &other), [waiting()]);
            assert_eq!(waits(&held, &other), [waiting(), waiting()]);
        }
        let told = |is_true, reason: &str| (Some(is_true), reason.to_owned());
        assert_eq!(waits(&done, &json!(PRESENT)), [told(true, "Federated")]);
        assert_eq!(waits(&held, &json!(PRESENT)), [told(false, "Held"), told(true, "MassExpiry")]);
        // The watch goes by what is told, whatever the document: one that only the agent's word tells apart is looked at.
        let hashed = |document: &Value| {
            let mut hasher = std::hash::DefaultHasher::new();
            told_of(document, &done).watched_status().hash(&mut hasher);
            std::hash::Hasher::finish(&hasher)
        };
        assert_ne!(hashed(&json!("earlier")), hashed(&json!(PRESENT)));
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
            let is_told = federated(&cluster, PRESENT).is_true.is_some();
            assert_eq!(cluster.has_stale_agent_status(), !is_told, "{cluster:?}");
            (is_told, guarded(&cluster, PRESENT).is_some(), cluster.agent_repairs().is_some())
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
