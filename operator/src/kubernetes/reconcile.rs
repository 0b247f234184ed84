//! One reconcile of one object, of whatever kind: gate, plan, apply, report. I/O: the API server, through the steps.
//!
//! A reconcile never fails outward: whatever happens becomes an [`Outcome`], a condition, and the time of the next try.

use std::{
    convert::Infallible,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, PartialObjectMeta, Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use serde_json::json;
use shared::{kubernetes::AGENT_FIELD_MANAGER, runtime::chain};
use tokio::time;

use super::{
    apply::{Applied, ApplyError, FINALIZER, apply, clean_up, running, set_finalizer, take_finalizer},
    child::{ChildRef, FIELD_MANAGER, Owner},
    conditions::{Draft, Phase, SUSPENDED, last_known, merged, ours, with_summary},
    context::{Context, version_of},
    criteria,
    events::{drift_reverted, event, left_behind, news, overruled, publish, replaced},
    managed::{Managed, Plan},
    provision::Provisioned,
    reason::Reason,
    stored::Stored,
    surplus::take_surplus,
    unreadable::reconcile_unreadable,
    workload::{Said, progress, scale_of, why_not_ready},
};

/// How a reconcile ended: what a person who watches the metric should conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing had to be written to the object's children, and they run. The normal state.
    Unchanged,
    /// Children were made, changed or removed.
    Changed,
    /// The children are as they should be, and their pods are not ready yet.
    Progressing,
    /// Something else has to be there first; the condition says what.
    Waiting,
    /// A person has to change the object.
    Invalid,
    /// Somebody else's object has a name that is needed. A person has to decide.
    Conflict,
    /// The API server refused or could not be asked. Repeated failures need a person.
    Failed,
    /// The object says `suspend`.
    Suspended,
    /// Another operator's object, by its criteria.
    NotMine,
    /// The object is being deleted, and its cluster-scoped children are gone.
    CleanedUp,
}

impl Outcome {
    /// The label's value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Progressing => "progressing",
            Self::Waiting => "waiting",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::NotMine => "not_mine",
            Self::CleanedUp => "cleaned_up",
        }
    }
}

/// What the object's status is to say.
struct Report {
    outcome: Outcome,
    conditions: Vec<Draft>,
    endpoint: Option<String>,
    replicas: Option<i32>,
    is_stalled: bool,
    /// What was done in Azure; without it what the status says of that stays.
    provisioned: Option<Provisioned>,
    /// What was done: people are told also where the status cannot be written, as the next try finds it done.
    done: Vec<Event>,
    /// What the status is about to say, and people are told once it says it: what it could not be made to say is news for the next try.
    events: Vec<Event>,
    /// When to look again for what nothing tells of.
    again: Option<Duration>,
}

/// Reconciles one object.
pub(crate) async fn reconcile<K: Managed>(stored: Arc<Stored<K>>, context: Arc<Context>) -> Result<Action, Infallible> {
    let started = Instant::now();
    let owner = Owner::of(K::KIND, stored.meta());
    if let Some(wait) = context.behind(&owner, stored.meta()) {
        return Ok(Action::requeue(wait));
    }
    let result = match &*stored {
        Stored::Readable(object) => Box::pin(steps(&**object, &owner, &context)).await,
        Stored::Unreadable(unreadable) => reconcile_unreadable(unreadable, &owner, &context).await,
    };
    let (outcome, again) = match result {
        Ok(ended) => ended,
        Err(error) => {
            let error = chain(&error);
            publish(&*stored, &context, &event(EventType::Warning, "ReconcileFailed", &error, None)).await;
            let (kind, name, namespace) = (K::KIND.as_str(), &owner.name, &owner.namespace);
            tracing::error!(kind, name, namespace, error, "reconcile failed");
            (Outcome::Failed, None)
        }
    };
    context.metrics.reconciled(K::KIND, outcome, started.elapsed());
    let wait = match outcome {
        Outcome::Failed | Outcome::Conflict => Some(context.wait_after_failure(&owner)),
        _ => {
            context.forget_failures(&owner);
            None
        }
    };
    Ok(wait.into_iter().chain(again).min().map_or_else(Action::await_change, Action::requeue))
}

/// How it ended, and when it is to be looked at again besides when something changes.
async fn steps<K: Managed>(
    object: &K,
    owner: &Owner,
    context: &Context,
) -> Result<(Outcome, Option<Duration>), ReconcileError> {
    if object.meta().deletion_timestamp.is_some() {
        return Ok((Outcome::CleanedUp, finish::<K>(object.meta(), owner, context).await?));
    }
    if let Some(report) = gate(object, context) {
        if let Some(azure) = context.azure.as_ref().filter(|_| matches!(report.outcome, Outcome::NotMine)) {
            azure.forget(&owner.uid);
        }
        return Ok((tell_all(object, context, report).await?, None));
    }
    let mut world = context.world();
    let newest;
    let object = if object.goes_on_with_status(owner, &world) {
        newest = read_again::<K>(owner, context).await?;
        newest.as_deref().unwrap_or(object)
    } else {
        object
    };
    if let Some(workload) = object.looks_at_what_runs(owner, &world) {
        // What ran, and was deleted by somebody, is no first start. Of one that was invalid, or found another's in its place, nothing did.
        let never = [Reason::Invalid, Reason::Conflict].map(Reason::as_str);
        let mut conditions = object.conditions().iter();
        let ran =
            conditions.any(|known| known.type_ == Phase::WorkloadReady.as_str() && !never.contains(&&*known.reason));
        world.running = running(&context.client, owner, &workload).await?.or_else(|| ran.then(Vec::new));
    }
    if let (Some(azure), Some(cluster)) = (&context.azure, object.to_provision(&world)) {
        world.provisioned = Some(azure.provision(cluster, &world).await);
    }
    let plan = object.plan(owner, &world);
    let mut report = carry_out(object, owner, context, plan).await?;
    if let Some(wait) = context.wait_for_document(owner, object.lacks_document()) {
        report.look_in(wait);
    }
    let again = report.again;
    Ok((tell_all(object, context, report).await?, again))
}

/// The very object as it is now, read as the watches read it. `None`: it is gone, or cannot be read any more, of which the watch tells.
async fn read_again<K: Managed>(owner: &Owner, context: &Context) -> Result<Option<Arc<K>>, ReconcileError> {
    let api = Api::<Stored<K>>::namespaced(context.client.clone(), &owner.namespace);
    match api.get_opt(&owner.name).await.map_err(ReconcileError::Read)? {
        Some(Stored::Readable(object)) if object.meta().uid.as_ref() == Some(&owner.uid) => Ok(Some(object)),
        _ => Ok(None),
    }
}

/// Writes the status, and then the Events: an operator that dies in between has done the more important of the two.
async fn tell_all<K: Managed>(object: &K, context: &Context, mut report: Report) -> Result<Outcome, ReconcileError> {
    let (done, events) = (mem::take(&mut report.done), mem::take(&mut report.events));
    let (outcome, stands) = tell(object, context, report).await;
    publish_all(object, context, &done).await;
    if stands {
        publish_all(object, context, &events).await;
    }
    outcome
}

async fn publish_all<K: Managed>(object: &K, context: &Context, events: &[Event]) {
    for event in events {
        publish(object, context, event).await;
    }
}

/// Why a reconcile could not even be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("failed to read the object")]
    Read(#[source] kube::Error),
    #[error("failed to write the status")]
    Status(#[source] kube::Error),
}

/// Objects that are left alone.
fn gate<K: Managed>(object: &K, context: &Context) -> Option<Report> {
    let left_alone = |outcome, conditions: Vec<Draft>, events: Vec<Event>, is_stalled| {
        let (endpoint, replicas) = (object.status_endpoint().map(str::to_owned), object.status_replicas());
        let (provisioned, done, again) = (None, Vec::new(), None);
        Some(Report { outcome, conditions, endpoint, replicas, is_stalled, provisioned, done, events, again })
    };
    let unknown = |reason, message: &str| vec![Draft::unknown(Phase::Ready, reason, message)];
    if object.suspended() {
        return left_alone(Outcome::Suspended, unknown(Reason::Suspended, SUSPENDED), Vec::new(), false);
    }
    match criteria::is_met(object.criteria().unwrap_or_default(), &context.settings.cluster_labels) {
        Ok(true) => None,
        Ok(false) => {
            let message = "spec.criteriaExpression is false for this operator's cluster labels: nothing is changed";
            left_alone(Outcome::NotMine, unknown(Reason::CriteriaNotMet, message), Vec::new(), false)
        }
        Err(why) => {
            let ready = Draft::no(Phase::Ready, Reason::InvalidCriteria, format!("spec.criteriaExpression: {why}"));
            let events = news(object.conditions(), &ready).into_iter().collect();
            let stalled = Draft { phase: Phase::Stalled, is_true: Some(true), ..ready.clone() };
            left_alone(Outcome::NotMine, vec![ready, stalled], events, true)
        }
    }
}

async fn carry_out<K: Managed>(
    object: &K,
    owner: &Owner,
    context: &Context,
    plan: Plan,
) -> Result<Report, ReconcileError> {
    let Plan { mut conditions, build, workload_phase, endpoint, is_stalled, provisioned, again } = plan;
    let (mut done, mut events) = (Vec::new(), Vec::new());
    // Where the workload is not looked at, what was told last is the last that is known.
    let replicas = object.status_replicas();
    if let Some(provisioned) = &provisioned {
        let begun = provisioned.events.iter();
        done.extend(begun.map(|(reason, note)| event(EventType::Normal, reason, note, None)));
        let troubles = conditions.iter().filter(|why| provisioned.troubles.contains(&why.phase));
        events.extend(troubles.filter_map(|why| news(object.conditions(), why)));
    }
    let for_a_person = |why: &&Draft| is_stalled && why.is_true == Some(false) && provisioned.is_none();
    events.extend(conditions.iter().filter(for_a_person).filter_map(|why| news(object.conditions(), why)));
    let Some(build) = build else {
        let outcome = if is_stalled { Outcome::Invalid } else { Outcome::Waiting };
        // What runs goes on with the endpoint that it has.
        let endpoint = endpoint.or_else(|| object.status_endpoint().map(str::to_owned));
        return Ok(Report { outcome, conditions, endpoint, replicas, is_stalled, provisioned, done, events, again });
    };
    let is_trouble = |draft: &&Draft| match draft.phase {
        Phase::Guarded => draft.is_true == Some(true),
        Phase::Federated => draft.is_true == Some(false) || draft.reason == Reason::AgentSilent.as_str(),
        _ => false,
    };
    events.extend(conditions.iter().filter(is_trouble).filter_map(|why| news(object.conditions(), why)));
    let reference = ChildRef::in_namespace::<K>(owner, &owner.name);
    if !K::cluster_scoped(owner).is_empty() && !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        set_finalizer(&context.client, owner, &reference).await?;
    }
    if let Some((pass, repairs)) = object.agent_repairs()
        && context.is_new_repair(owner, pass)
    {
        done.push(event(EventType::Normal, "HubDriftRepaired", &repairs.join("; "), None));
    }
    let mut applied = Applied { known: context.known(owner), ..Applied::default() };
    let written = apply(&context.client, owner, build, &context.stores.made, &mut applied).await;
    let Applied { workload, changed, created, was_whole, drift, overruled: others, replaced: anew, left, known } =
        applied;
    let fickle = known.fickle(time::Instant::now());
    context.note_known(owner, known);
    let was_whole = was_whole.unwrap_or_else(|| was_complete(object, workload_phase));
    let deleted = if was_whole { created } else { Vec::new() };
    // Whatever fails now, it is not what failed before. Who fights with somebody over an object gets no further by that.
    if changed > drift.len() {
        context.forget_failures(owner);
    }
    context.metrics.drift(K::KIND, drift.len() + deleted.len());
    let of_child =
        |(child, paths): (ChildRef, Vec<String>)| paths.into_iter().map(move |path| (child.clone(), Some(path)));
    let changes = drift.into_iter().flat_map(of_child);
    done.extend(changes.chain(deleted.into_iter().map(|child| (child, None))).map(drift_reverted));
    done.extend(others.into_iter().map(overruled).chain(anew.into_iter().map(replaced)));
    if let Err(error) = written {
        let outcome = if error.reason() == Reason::Conflict { Outcome::Conflict } else { Outcome::Failed };
        let why = Draft::no(workload_phase, error.reason(), chain(&error));
        events.extend(news(object.conditions(), &why));
        conditions.retain(|draft| draft.phase != workload_phase);
        conditions.push(why);
        return Ok(Report { outcome, conditions, endpoint, replicas, is_stalled, provisioned, done, events, again });
    }
    if object.has_stale_agent_status()
        && let Err(error) = clear_agent_status::<K>(owner, context).await
    {
        publish_all(object, context, &done).await;
        return Err(error);
    }
    let outcome = if changed > 0 { Outcome::Changed } else { Outcome::Unchanged };
    let mut report = Report { outcome, conditions, endpoint, replicas, is_stalled, provisioned, done, events, again };
    if let Some(workload) = workload {
        report.add_workload(object, owner, context, &workload, workload_phase).await;
    }
    report.add_left(object.conditions(), workload_phase, &left);
    if let Some((note, wait)) = fickle {
        report.add_fickle(workload_phase, &note, wait);
    }
    Ok(report)
}

impl Report {
    /// What the workload decides: its phase, how many are to run, and how the reconcile ended.
    async fn add_workload<K: Managed>(
        &mut self,
        object: &K,
        owner: &Owner,
        context: &Context,
        workload: &DynamicObject,
        phase: Phase,
    ) {
        if K::TELLS_REPLICAS {
            self.replicas = scale_of(workload);
        }
        let progress = progress(workload);
        // What the plan itself says of that phase stands.
        let is_told = self.conditions.iter().any(|draft| draft.phase == phase);
        if progress.is_ready {
            let needed = [Phase::ClusterReady, Phase::DatabasesReady];
            let waits = |draft: &Draft| needed.contains(&draft.phase) && draft.is_true == Some(false);
            if is_told || self.conditions.iter().any(waits) {
                self.outcome = Outcome::Waiting;
            }
            if !is_told {
                self.conditions.push(Draft::yes(phase, Reason::Ready, progress.message));
            }
            return;
        }
        self.outcome = Outcome::Progressing;
        let of_workload = version_of(&workload.metadata).unwrap_or_default();
        if is_told {
            self.look_in(context.wait_for_pods(owner, of_workload));
            return;
        }
        let said = Said::of(object.conditions(), phase);
        let (why, version) = match why_not_ready(&context.client, owner, workload, said).await {
            Ok(found) => {
                let why = match found.why {
                    Some((reason, message)) => {
                        let why = Draft::in_words_of_others(phase, Some(false), &reason, message);
                        self.events.extend(news(object.conditions(), &why));
                        why
                    }
                    None => Draft::no(phase, Reason::Progressing, progress.message),
                };
                (why, found.version)
            }
            // Who could not ask has not heard that all is well.
            Err(_) => {
                let known =
                    object.conditions().iter().find(|said| said.type_ == phase.as_str() && said.status == "False");
                let why = match known {
                    Some(said) => Draft::in_words_of_others(phase, Some(false), &said.reason, said.message.clone()),
                    None => Draft::no(phase, Reason::Progressing, progress.message),
                };
                (why, of_workload)
            }
        };
        self.look_in(context.wait_for_pods(owner, version));
        self.conditions.push(why);
    }

    /// It is looked at again, by then at the latest.
    fn look_in(&mut self, wait: Duration) {
        self.again = self.again.into_iter().chain([wait]).min();
    }

    /// Of what admission makes something else of each time, where nothing else is wrong.
    fn add_fickle(&mut self, phase: Phase, note: &str, wait: Duration) {
        self.look_in(wait);
        let own = [Reason::Ready, Reason::Progressing].map(Reason::as_str);
        let is_own = |draft: &&mut Draft| draft.phase == phase && own.contains(&draft.reason.as_str());
        if let Some(draft) = self.conditions.iter_mut().find(is_own).filter(|draft| !draft.message.contains(note)) {
            draft.message = format!("{}; {note}", draft.message);
        }
    }

    /// Of what is left of an earlier version, where the workload itself is fine: else that comes first.
    fn add_left(&mut self, said: &[Condition], phase: Phase, left: &[ChildRef]) {
        let mut drafts = self.conditions.iter_mut();
        let draft = drafts.find(|draft| draft.phase == phase && draft.is_true == Some(true));
        if let (Some(draft), Some((note, event))) = (draft, left_behind(left)) {
            let is_said = |known: &Condition| known.type_ == phase.as_str() && known.message.contains(&note);
            if !said.iter().any(is_said) {
                self.events.push(event);
            }
            draft.message = format!("{}; {note}", draft.message);
        }
    }
}

/// Whether everything of this very object was made before: a workload that is missing now, somebody deleted.
fn was_complete<K: Managed>(object: &K, workload_phase: Phase) -> bool {
    let known = object.conditions().iter().find(|condition| condition.type_ == workload_phase.as_str());
    // A collector that runs may wait for its ingestor all the same.
    let runs = object.status_endpoint().is_some();
    known.is_some_and(|known| {
        known.observed_generation == object.meta().generation
            && match known.reason.as_str() {
                "Progressing" => true,
                "WaitingForIngestor" | "AmbiguousIngestor" => runs,
                _ => known.status == "True",
            }
    })
}

/// Writes the status where it differs. How the reconcile ended with that, and whether the status says now what it was to.
async fn tell<K: Managed>(object: &K, context: &Context, report: Report) -> (Result<Outcome, ReconcileError>, bool) {
    let Report { outcome, conditions, endpoint, replicas, is_stalled, provisioned, done: _, events: _, again: _ } =
        report;
    let has_summary = conditions.iter().any(|draft| draft.phase == Phase::Ready);
    let drafts = if has_summary { conditions } else { with_summary(conditions, is_stalled) };
    let generation = object.meta().generation;
    let mut conditions = merged(object.conditions(), drafts, generation, Timestamp::now());
    if matches!(outcome, Outcome::Suspended | Outcome::NotMine) {
        conditions.splice(0..0, last_known(object.conditions()).cloned());
    }
    // The API server keeps them in an order of its own.
    let sorted = |mut conditions: Vec<Condition>| {
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        conditions
    };
    // What is left out of an applied status goes: what is known of Azure is said each time.
    let (known_status, known_applied) = object.provision_status();
    let (provision, applied) = match provisioned {
        Some(provisioned) => (Some(provisioned.status), provisioned.applied),
        // The watch may not show yet what was written last.
        None => match context.azure.as_ref().and_then(|azure| azure.remembered(&object.uid().unwrap_or_default())) {
            Some((status, applied)) => (Some(status), applied),
            None => (known_status.cloned(), known_applied.cloned()),
        },
    };
    let owner = Owner::of(K::KIND, object.meta());
    let same = !context.is_unsure(&owner)
        && sorted(conditions.clone()) == sorted(ours(object.conditions()).cloned().collect())
        && endpoint.as_deref() == object.status_endpoint()
        && replicas == object.status_replicas()
        && generation == object.observed_generation()
        && (provision.as_ref(), applied.as_ref()) == (known_status, known_applied);
    if same {
        return (Ok(outcome), true);
    }
    note_transition(object, &conditions);
    let mut status = json!({"conditions": conditions, "observedGeneration": generation});
    if let Some(endpoint) = endpoint {
        status["endpoint"] = endpoint.into();
    }
    if let Some(replicas) = replicas {
        status["replicas"] = replicas.into();
    }
    if let Some(provision) = provision {
        status["provision"] = json!(provision);
    }
    if let Some(applied) = applied {
        status["appliedProvisionState"] = json!(applied);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": status,
    });
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &namespace, &ApiResource::erase::<K>(&()));
    match api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&patch)).await
    {
        Ok(written) => {
            context.note_written(&owner, &written);
            let outcome = match take_surplus(&api, &written, &patch["status"]).await {
                Ok(true) => Ok(outcome),
                // Another write came before: all of it once more.
                Ok(false) => Ok(Outcome::Failed),
                Err(error) => Err(ReconcileError::Status(error)),
            };
            (outcome, true)
        }
        // Deleted since we looked.
        Err(kube::Error::Api(status)) if status.code == 404 => (Ok(outcome), false),
        // Perhaps made anew since then, which is another look's.
        Err(kube::Error::Api(status)) if status.code == 409 => (Ok(Outcome::Failed), false),
        Err(error) => {
            context.note_unsure(&owner);
            (Err(ReconcileError::Status(error)), false)
        }
    }
}

/// How often a write is tried that others come before.
const MOST_TRIES: usize = 5;

/// An agent that is gone tells nothing any more: what it told goes, as if it had taken it back. The next agent may have told something since the watch showed this
/// object, and it does not say it twice: so what is taken back is what is there now, and nothing that is told meanwhile.
async fn clear_agent_status<K: Managed>(owner: &Owner, context: &Context) -> Result<(), ReconcileError> {
    let statuses: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), &owner.namespace);
    let params = PatchParams { field_manager: Some(AGENT_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let mut tries = 0;
    loop {
        tries += 1;
        let now = read_again::<K>(owner, context).await?;
        let Some(now) = now.filter(|now| now.has_stale_agent_status()) else { return Ok(()) };
        // Whoever else has it too, as a restored backup.
        let patch = json!({"metadata": {"resourceVersion": now.resource_version()}, "status": {"federation": null}});
        match statuses.patch_status(&owner.name, &params, &Patch::Merge(&patch)).await {
            // Somebody has written since: that is looked at first.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < MOST_TRIES => {}
            // Deleted since we looked.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            other => return other.map(drop).map_err(ReconcileError::Status),
        }
    }
}

/// A line in the log when readiness changes.
fn note_transition<K: Managed>(object: &K, conditions: &[Condition]) {
    let ready = |conditions: &[Condition]| {
        conditions
            .iter()
            .find(|condition| condition.type_ == Phase::Ready.as_str())
            .map(|ready| (ready.status.clone(), ready.reason.clone()))
    };
    let (before, after) = (ready(object.conditions()), ready(conditions));
    if before != after {
        // A field called message would stand beside the line's own.
        let told = conditions
            .iter()
            .find(|condition| condition.type_ == Phase::Ready.as_str())
            .map(|ready| ready.message.as_str());
        let (status, reason) = after.unwrap_or_default();
        let (name, namespace) = (object.name_any(), object.namespace());
        tracing::info!(kind = K::KIND.as_str(), name, namespace, ready = status, reason, told, "readiness changed");
    }
}

/// How soon an object is looked at again whose finalizer could not be taken away for a conflict.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The object is being deleted: what Kubernetes does not collect goes first. Says when to look again, where somebody has written it, or it has gone, since it was seen.
///
/// # Errors
/// [`ReconcileError::Apply`]
pub(crate) async fn finish<K: Managed>(
    metadata: &ObjectMeta,
    owner: &Owner,
    context: &Context,
) -> Result<Option<Duration>, ReconcileError> {
    if let Some(azure) = &context.azure {
        azure.forget(&owner.uid);
    }
    if metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
        clean_up(&context.client, owner, &K::cluster_scoped(owner)).await?;
        let reference = ChildRef::in_namespace::<K>(owner, &owner.name);
        if !take_finalizer(&context.client, &reference, metadata).await? {
            return Ok(Some(LOOK_AGAIN));
        }
    }
    Ok(None)
}
