//! ADXCluster: an existing cluster is ready at once; one with a part in a federation gets its agent.

use std::{hash::Hash, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kql::endpoint::ClusterEndpoint;
use shared::{
    document::{
        self, ADXCluster, ClusterRole, Violation, fingerprint,
        provisioned::{AppliedProvisionState, ProvisionStatus},
        spec::FederationSpec,
        status::FederationStatus,
    },
    kubernetes::silent_from,
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

/// How soon, and how late, an object looks whether its agent is silent by now.
const LISTEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));

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
                // Some rules are about the endpoint, which nobody knew before.
                let violations = broken_rules(&cluster, world);
                if violations.is_empty() {
                    with_agent(&cluster, owner, world, conditions, endpoint)
                } else {
                    let invalid = Draft::no(Phase::AgentReady, Reason::Invalid, violations.join("; "));
                    let plan = Plan::nothing(invalid, true);
                    let conditions = conditions.into_iter().chain(plan.conditions).collect();
                    Plan { conditions, endpoint: Some(endpoint), ..plan }
                }
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
        let again = plan.again.into_iter().chain([provisioned.again]).min();
        let is_stalled = is_stalled || plan.is_stalled;
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

    /// A watch that is older than the installed definition shows an object without the fields that are newer, and one that goes on where it ended does not show that
    /// object again.
    fn goes_on_with_status(&self, _owner: &Owner, _world: &World<'_>) -> bool {
        self.lacks_document()
    }

    fn lacks_document(&self) -> bool {
        told_by_agent(self).is_some_and(|told| told.last_pass.is_some() && told.document.is_none())
    }

    fn has_stale_agent_status(&self) -> bool {
        let has_status = self.status.as_ref().is_some_and(|status| status.federation.is_some());
        has_status && told_by_agent(self).is_none()
    }

    /// What its agent tells decides on the condition `Federated`, and on which databases a hub gets. Where the cluster is, is told by this operator alone: what others
    /// write there is mended.
    fn watched_status(&self) -> impl Hash {
        let repairs = self.agent_repairs().map(|(pass, repairs)| (pass, repairs.to_vec()));
        let told = told_by_agent(self).map(|told| {
            let drafts = [of_last_pass(told, self.spec.role.unwrap_or_default()), of_guard(told)];
            let words = drafts.map(|draft| draft.map(|draft| (draft.is_true, draft.reason, draft.message)));
            (words, told.document.clone(), told.missing_databases.clone())
        });
        (told, repairs, heard_again(self), self.status_endpoint().map(str::to_owned))
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
    let mut again = None;
    let build = match (&cluster.spec.federation, &world.settings.images.agent) {
        (None, _) => Some(no_agent(owner)),
        (Some(federation), Some(image)) => {
            let parts = agent_parts(cluster, federation, image, &world.settings.agent_arguments);
            let document = fingerprint(&parts.document);
            conditions.push(federated(cluster, &document, world.now));
            conditions.extend(guarded(cluster, &document, world.now));
            again = listen_again(cluster, world.now);
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
        again,
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
        if !world.settings.trusts(&parsed) {
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

/// Which guard of the agent holds, and how to release it; unknown while the agent has not told of a pass with the present document, or of one for too long, which may
/// have released it.
fn guarded(cluster: &ADXCluster, document: &str, now: Timestamp) -> Option<Draft> {
    let told = told_by_agent(cluster)?;
    let guard = of_guard(told)?;
    let (reason, when) = if told.document.as_deref() != Some(document) {
        (Reason::WaitingForAgent, "with the document before")
    } else if silence(cluster).is_some_and(|(_, from)| from <= now) {
        (Reason::AgentSilent, "when the agent told last")
    } else {
        return Some(guard);
    };
    Some(Draft::unknown(Phase::Guarded, reason, format!("{when}, this was held: {}", guard.message)))
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

/// The pass that the agent told of last, and from when on it is silent that tells of no other. It writes the status also while it changes nothing, as for a plan.
fn silence(cluster: &ADXCluster) -> Option<(Timestamp, Timestamp)> {
    let told = told_by_agent(cluster)?.last_pass.as_ref()?.time.0;
    let document = document::validate(cluster).ok()?;
    Some((told, silent_from(document.schedule(), told)?))
}

/// When to look whether the agent is silent by then; not while it is, as its next word is an event.
fn listen_again(cluster: &ADXCluster, now: Timestamp) -> Option<Duration> {
    let (_, from) = silence(cluster)?;
    let wait = Duration::try_from(from.duration_since(now)).ok().filter(|wait| !wait.is_zero())?;
    let (soonest, latest) = LISTEN;
    Some(wait.clamp(soonest, latest))
}

/// The last pass of an agent that is called silent: another is news even if it went as the last one did.
fn heard_again(cluster: &ADXCluster) -> Option<Timestamp> {
    let last = told_by_agent(cluster)?.last_pass.as_ref()?;
    let is_called_silent = |condition: &Condition| condition.reason == Reason::AgentSilent.as_str();
    cluster.conditions().iter().any(is_called_silent).then_some(last.time.0)
}

/// What the agent says of its last pass; of a pass with another document than the present one, or of long ago, it says nothing of what the object is now to be.
fn federated(cluster: &ADXCluster, document: &str, now: Timestamp) -> Draft {
    let waiting = |why: &str| Draft::unknown(Phase::Federated, Reason::WaitingForAgent, why);
    let Some(told) = told_by_agent(cluster) else { return waiting("the agent has not told of a pass yet") };
    match (&told.document, of_last_pass(told, cluster.spec.role.unwrap_or_default())) {
        (_, None) => waiting("the agent has not told of a pass yet"),
        (Some(of), Some(draft)) if of == document => match silence(cluster) {
            Some((told, from)) if from <= now => {
                let message = format!(
                    "the agent has told of no pass since {told}, and was to tell of another long before {from}: see its log, whether it may write the status, and its clock"
                );
                Draft::unknown(Phase::Federated, Reason::AgentSilent, message)
            }
            _ => draft,
        },
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
    use crate::kubernetes::{provision::Provisioned, settings::Settings};

    /// The fingerprint of the present document.
    const PRESENT: &str = "present";

    /// Some minutes after the pass that is told of.
    fn soon() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn told(federation: &Value) -> ADXCluster {
        told_of(&json!(PRESENT), federation)
    }

    fn told_of(document: &Value, federation: &Value) -> ADXCluster {
        let mut federation = federation.clone();
        federation["document"] = document.clone();
        let cluster = json!({
            "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "hub"},
            "spec": {
                "clusterName": "hub", "endpoint": "https://hub.kusto.windows.net", "role": "Federated",
                "federation": {"heartbeatDatabase": "Fleet", "heartbeatTable": "Beats", "reconcileInterval": "20m"},
            },
            "status": {"federation": federation},
        });
        serde_json::from_value(cluster).unwrap()
    }

    fn pass(outcome: &str) -> Value {
        json!({"time": "2026-01-01T00:00:00Z", "outcome": outcome, "message": "3 of 4 are silent"})
    }

    #[test]
    fn rules_about_an_endpoint_are_asked_once_azure_has_told_it() {
        let hub = json!({"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats", "heartbeatTables": "PerPartition"});
        let with = |hubs: &[&Value]| {
            let cluster = json!({
                "apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "part", "namespace": "n", "uid": "u"},
                "spec": {"clusterName": "part", "federation": {"federatedClusters": hubs}},
            });
            let cluster: ADXCluster = serde_json::from_value(cluster).unwrap();
            let settings = Settings::of_tests(None);
            let provisioned = Provisioned {
                conditions: vec![Draft::yes(Phase::ClusterReady, Reason::Running, "it runs")],
                troubles: Vec::new(),
                events: Vec::new(),
                endpoint: Some("https://part.eastus2.kusto.windows.net".to_owned()),
                status: ProvisionStatus::default(),
                applied: None,
                is_stalled: false,
                again: Duration::from_secs(60),
            };
            let world = World { can_provision: true, provisioned: Some(provisioned), ..World::of_tests(&settings) };
            assert!(broken_rules(&cluster, &world).is_empty(), "before, nothing is known of it");
            cluster.plan(&Owner::of(Kind::AdxCluster, &cluster.metadata), &world)
        };
        let plan = with(&[&hub]);
        assert!(plan.build.is_some() && !plan.is_stalled, "{plan:?}");
        let plan = with(&[&hub, &hub]);
        assert!(plan.build.is_none() && plan.is_stalled, "{plan:?}");
        let told: Vec<_> = plan.conditions.iter().map(|draft| (draft.phase, draft.is_true, &*draft.message)).collect();
        let rule = "spec.federation.federatedClusters[1].endpoint = https://hub.kusto.windows.net: must be listed once: each hub gets one heartbeat";
        assert_eq!(told, [(Phase::ClusterReady, Some(true), "it runs"), (Phase::AgentReady, Some(false), rule)]);
    }

    #[test]
    fn a_pass_that_was_only_planned_is_no_failure() {
        let reasons = ["done", "unchanged", "planned", "held", "partial", "failed"].map(|outcome| {
            let draft = federated(&told(&json!({"lastPass": pass(outcome)})), PRESENT, soon());
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
        let draft = guarded(&told(&held), PRESENT, soon()).unwrap();
        assert_eq!((draft.phase, draft.is_true, draft.reason.as_str()), (Phase::Guarded, Some(true), "MassExpiry"));
        assert!(draft.message.starts_with("3 of 4 are silent; spec.federation.acknowledgedPlan: 0123456789ab"));
        assert_eq!(guarded(&told(&json!({"lastPass": pass("done")})), PRESENT, soon()), None);
        // A status that somebody else wrote breaks nothing.
        assert!(guarded(&told(&json!({"guard": "_,é"})), PRESENT, soon()).is_some());
    }

    #[test]
    fn of_an_agent_that_has_told_nothing_for_too_long_nothing_is_known() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let held = told(&json!({"guard": "mass_expiry", "lastPass": pass("held")}));
        let seen = |now: Timestamp| {
            let drafts = [Some(federated(&held, PRESENT, now)), guarded(&held, PRESENT, now)];
            (drafts.map(|draft| draft.map(|draft| (draft.is_true, draft.reason))), listen_again(&held, now))
        };
        let told_of = |is_true, reason: &str| Some((is_true, reason.to_owned()));
        let (known, silent) = (
            [told_of(Some(false), "Held"), told_of(Some(true), "MassExpiry")],
            [told_of(None, "AgentSilent"), told_of(None, "AgentSilent")],
        );
        // Five minutes, the interval, and half an hour.
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(seen(at("2026-01-01T00:10:00Z")), (known.clone(), seconds(45 * 60)));
        assert_eq!(seen(at("2026-01-01T00:54:59.9Z")), (known.clone(), seconds(1)));
        assert_eq!(seen(at("2026-01-01T00:55:00Z")), (silent.clone(), None));
        assert_eq!(seen(at("2026-06-01T00:00:00Z")), (silent, None));
        // A clock that is behind the agent's.
        assert_eq!(seen(at("2025-06-01T00:00:00Z")), (known, seconds(24 * 60 * 60)));
        let message = federated(&held, PRESENT, at("2026-06-01T00:00:00Z")).message;
        assert!(
            message.contains("since 2026-01-01T00:00:00Z") && message.contains("before 2026-01-01T00:55:00Z"),
            "{message}"
        );
    }

    #[test]
    fn an_agents_word_without_its_document_is_looked_for_anew() {
        let told_by = |document: &Value, federation: &Value| told_of(document, federation).lacks_document();
        let last = json!({"lastPass": pass("done")});
        assert!(told_by(&Value::Null, &last));
        assert!(!told_by(&json!("earlier"), &last) && !told_by(&Value::Null, &json!({})));
    }

    #[test]
    fn the_next_word_of_a_silent_agent_is_an_event_and_that_of_another_is_none() {
        let hashed = |reason: &str, time: &str| {
            let mut pass = pass("done");
            pass["time"] = time.into();
            let mut cluster = told(&json!({"lastPass": pass}));
            let said = Draft::in_words_of_others(Phase::Federated, None, reason, "");
            let said = crate::kubernetes::conditions::merged(&[], vec![said], Some(1), Timestamp::UNIX_EPOCH);
            cluster.status.as_mut().unwrap().conditions = said;
            let mut hasher = std::hash::DefaultHasher::new();
            cluster.watched_status().hash(&mut hasher);
            std::hash::Hasher::finish(&hasher)
        };
        let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z");
        assert_ne!(hashed("AgentSilent", first), hashed("AgentSilent", second));
        assert_eq!(hashed("Federated", first), hashed("Federated", second));
    }

    #[test]
    fn a_pass_with_another_document_says_nothing_of_the_present_one() {
        let done = json!({"live": "3/3", "lastPass": pass("done")});
        let held = json!({"live": "1/4", "guard": "mass_expiry", "lastPass": pass("held")});
        let waits = |federation: &Value, document: &Value| {
            let cluster = told_of(document, federation);
            let drafts = [Some(federated(&cluster, PRESENT, soon())), guarded(&cluster, PRESENT, soon())];
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
            let is_told = federated(&cluster, PRESENT, soon()).is_true.is_some();
            assert_eq!(cluster.has_stale_agent_status(), !is_told, "{cluster:?}");
            (is_told, guarded(&cluster, PRESENT, soon()).is_some(), cluster.agent_repairs().is_some())
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
