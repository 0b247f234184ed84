//! One pass over one cluster: look at Azure, begin at most one thing that takes time, remember. Every pass begins with a look, so it may end at any point. I/O: Azure, through the client.

mod databases;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, secrets::without_secrets};
use serde::Serialize;
use shared::document::{
    ADXCluster, fingerprint,
    provisioned::{AppliedProvisionState, FailureStatus, OperationStatus, ProvisionStatus},
    status::whole_seconds,
};

use self::databases::{CHANGE_DATABASE, CREATE_DATABASE, database_of};
use super::{
    Azure,
    desired::{choose_sku, new_cluster, sku_of},
    differ::{absorb, compare},
    endpoint_of,
    roles::Grants,
    stop::{Next, Stop, refusal_of},
    target::{Target, is_unknown, normal, target},
};
use crate::{
    azure::{
        ArmError, Class, ClusterPath, Refusal, Scope,
        operations::{Accepted, Progress},
        told,
        types::{Cluster, NameCheck, NewCluster, ProvisioningState, RegistrationState, State},
    },
    kubernetes::{conditions::Phase, reason::Reason, settings::Settings},
};

/// Marks what we made, in Azure's portal too.
const TAG: &str = "adx-federation";
/// An operation that goes on for longer is not waited for: the cluster itself tells.
const LONGEST_OPERATION: SignedDuration = SignedDuration::from_hours(6);
/// The most failures that are remembered.
const MAX_FAILURES: usize = 16;
const CREATE: &str = "create the cluster";

/// What a cluster turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Running,
    /// It never ran.
    CreationFailed,
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub(super) azure: &'a Azure,
    pub(super) settings: &'a Settings,
    pub(super) cluster: &'a ADXCluster,
    pub(super) desired: AppliedProvisionState,
    pub(super) grants: &'a Grants,
    pub(super) now: Timestamp,
    /// What is remembered, brought up to date.
    pub(super) status: ProvisionStatus,
    pub(super) applied: Option<AppliedProvisionState>,
    pub(super) endpoint: Option<String>,
    /// Phases that are reached.
    pub(super) reached: Vec<(Phase, Reason, String)>,
    /// Why others are not.
    pub(super) stops: Vec<Stop>,
    /// What was begun, for people: a reason and a sentence.
    pub(super) events: Vec<(&'static str, String)>,
    /// The databases that Azure has, in lower case.
    pub(super) there: BTreeSet<String>,
    /// How many requests the looks took.
    pub(super) looks: u32,
}

impl Pass<'_> {
    /// Everything in its order; what stops one part does not stop the parts after it, unless Azure is at work on it.
    pub(super) async fn run(&mut self) {
        if let Err(stop) = self.steps().await {
            self.stops.push(stop);
        }
    }

    async fn steps(&mut self) -> Result<(), Stop> {
        let target = self.target().await?;
        self.operation().await?;
        self.looks += 1;
        let found = self.azure.arm.cluster(&target.path).await;
        let cluster = match found.map_err(|error| Stop::from_error(Phase::ClusterReady, &error))? {
            Some(cluster) => cluster,
            None => return Err(self.create(&target).await.unwrap_or_else(|stop| stop)),
        };
        if self.see(&target, &cluster)? == Seen::CreationFailed {
            return Err(self.create_again(&target).await.unwrap_or_else(|stop| stop));
        }
        self.status.notes = self.grants.notes.clone();
        let databases = self.databases(&target, &cluster).await;
        self.settle(databases)?;
        let update = self.update(&target, &cluster).await;
        self.settle(update)?;
        self.roles(&target).await?;
        if self.stops.is_empty() {
            self.status.failures.clear();
            self.status.requested = None;
            self.reached.push((Phase::Provisioned, Reason::Provisioned, "Azure has what the spec says".to_owned()));
        }
        Ok(())
    }

    /// A trouble is kept and the pass goes on; where Azure is at work, or cannot be asked, it ends.
    fn settle(&mut self, result: Result<(), Stop>) -> Result<(), Stop> {
        match result {
            Err(stop) if stop.is_trouble() && !stop.is_blind => {
                self.stops.push(stop);
                Ok(())
            }
            other => other,
        }
    }

    async fn target(&mut self) -> Result<Target, Stop> {
        let defaults = &self.azure.settings.place;
        let here = if is_unknown(self.cluster, &self.status, defaults) {
            self.azure.imds.place().await
        } else {
            Err("it does not have to be asked".to_owned())
        };
        let target = target(self.cluster, &self.status, defaults, &here)?;
        self.status.subscription_id = Some(target.path.subscription.clone());
        self.status.resource_group = Some(target.path.group.clone());
        self.status.location = Some(target.location.clone());
        Ok(target)
    }

    /// How what was begun stands.
    async fn operation(&mut self) -> Result<(), Stop> {
        let Some(operation) = self.status.operation.clone() else { return Ok(()) };
        let phase = phase_of(&operation.what);
        self.looks += 1;
        let progress = match self.azure.arm.progress(&operation.url).await {
            Ok(progress) => progress,
            // Not Azure's address, or no answer of Azure's: the look at the cluster will tell.
            Err(ArmError::Unreadable { .. }) => Progress::Forgotten,
            Err(error) => return Err(Stop::from_error(phase, &error)),
        };
        let is_old = self.now.duration_since(operation.started.0) > LONGEST_OPERATION;
        match progress {
            Progress::Running(after) if !is_old => {
                let message = format!("Azure is at work since {}: {}", operation.started.0, operation.what);
                return Err(Stop::wait(phase, Reason::WaitingForAzure, message, after));
            }
            Progress::Failed(refusal) => {
                self.status.operation = None;
                // A database whose making failed is made anew, not waited for.
                if let (Some(name), Some(applied)) = (database_of(&operation.what), self.applied.as_mut()) {
                    applied.databases.retain(|known| known.seen || known.name != name);
                }
                return Err(self.failed(phase, &operation.what, &operation.request, &refusal));
            }
            Progress::Running(_) | Progress::Succeeded | Progress::Forgotten => self.status.operation = None,
        }
        self.forget_failure(&operation.what);
        Ok(())
    }

    fn forget_failure(&mut self, what: &str) {
        self.status.failures.retain(|failure| failure.what != what);
    }

    /// Remembers what Azure refused or failed.
    fn failed(&mut self, phase: Phase, what: &str, request: &str, refusal: &Refusal) -> Stop {
        let failure = FailureStatus {
            what: what.to_owned(),
            status: refusal.status.into(),
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            request: request.to_owned(),
            generation: self.generation(),
        };
        let mut stop = Stop::from_failure(phase, &failure);
        // An operation that failed is not begun again at once.
        if stop.next == Next::Retry && refusal.status == 200 {
            stop.next = Next::Later;
        }
        self.forget_failure(what);
        self.status.failures.push(failure);
        let surplus = self.status.failures.len().saturating_sub(MAX_FAILURES);
        self.status.failures.drain(..surplus);
        stop
    }

    fn generation(&self) -> i64 {
        self.cluster.metadata.generation.unwrap_or_default()
    }

    /// What Azure called wrong is not asked for again as it was, until the spec changes.
    fn gate(&self, phase: Phase, what: &str, request: &str) -> Result<(), Stop> {
        let is_same = |failure: &&FailureStatus| {
            failure.what == what
                && (failure.request.as_str(), failure.generation) == (request, self.generation())
                && refusal_of(failure).class() == Class::Invalid
        };
        let failure = self.status.failures.iter().find(is_same);
        failure.map_or(Ok(()), |failure| Err(Stop::from_failure(phase, failure)))
    }

    /// After a write: its operation is followed, or why there is none.
    fn begun(&mut self, step: Step<'_>, result: Result<Accepted, ArmError>) -> Stop {
        let Step { phase, reason, what, request } = step;
        match result {
            Ok(Accepted { operation, retry_after }) => {
                self.forget_failure(what);
                self.status.operation = operation.map(|url| OperationStatus {
                    what: what.to_owned(),
                    url,
                    started: whole_seconds(self.now),
                    request: request.to_owned(),
                });
                self.events.push((reason.as_str(), format!("began to {what}")));
                Stop::wait(phase, reason, format!("Azure is at work: {what}"), retry_after)
            }
            Err(ArmError::Refused { refusal, .. }) if !matches!(refusal.class(), Class::Busy | Class::Server) => {
                self.failed(phase, what, request, &refusal)
            }
            // Whether it was accepted shows when we look next.
            Err(error) => Stop::from_error(phase, &error),
        }
    }

    /// The cluster is not there: everything that it needs, and then itself. Ends with a stop either way.
    async fn create(&mut self, target: &Target) -> Result<Stop, Stop> {
        let phase = Phase::ClusterReady;
        let error = |error: ArmError| Stop::from_error(phase, &error);
        let Target { path, location } = target;
        if self.status.state.is_some() {
            self.status.state = Some("Deleted".to_owned());
            let message = format!(
                "the cluster {} was there and is not any more, and it is not made again by itself: make this ADXCluster anew to have it made again",
                path.id()
            );
            return Err(Stop::new(phase, Reason::ClusterDeleted, message, Next::Person));
        }
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| self.status.resource_id.is_none()) {
            return Err(endpoint_removed(endpoint, &format!("there is none at {}", path.id())));
        }
        if let Some(sku) = self.intended(path) {
            return Ok(self.put(target, sku, true).await);
        }
        self.register(&path.subscription).await?;
        self.looks += 1;
        let arm = &self.azure.arm;
        if !arm.has_group(&path.subscription, &path.group).await.map_err(error)? {
            let made = arm.put_group(&path.subscription, &path.group, location, &self.tags()).await;
            if let Err(failed) = made {
                return Err(self.refused(phase, &format!("create the resource group '{}'", path.group), failed));
            }
            let note = format!("made the resource group '{}' in {location}", path.group);
            self.events.push(("CreatedResourceGroup", note));
        }
        let sku = self.sku(target).await?;
        let check = arm.check_name(&path.subscription, location, &path.cluster).await.map_err(error)?;
        if let Some(taken) = taken(&check, target) {
            return Err(taken);
        }
        self.gate(phase, CREATE, &self.new_cluster(target, sku.clone()).1)?;
        Ok(self.intend(path, sku))
    }

    /// Azure keeps a cluster whose creation failed; the same request tries again.
    async fn create_again(&mut self, target: &Target) -> Result<Stop, Stop> {
        match self.intended(&target.path) {
            Some(sku) => Ok(self.put(target, sku, false).await),
            None => {
                let sku = self.sku(target).await?;
                self.gate(Phase::ClusterReady, CREATE, &self.new_cluster(target, sku.clone()).1)?;
                Ok(self.intend(&target.path, sku))
            }
        }
    }

    /// What is intended is written down before Azure hears of it: whatever happens to us in between, the next pass knows what was asked for, and where.
    fn intend(&mut self, path: &ClusterPath, sku: String) -> Stop {
        let intention = (Some(without_databases(&self.desired)), Some(path.id()), Some(sku));
        let is_known = (&self.applied, &self.status.resource_id, &self.status.sku_name)
            == (&intention.0, &intention.1, &intention.2);
        (self.applied, self.status.resource_id, self.status.sku_name) = intention;
        written_first(Phase::ClusterReady, Reason::CreatingCluster, "the cluster is going to be made", is_known)
    }

    /// The SKU of what was written down, if that is still what is wanted.
    fn intended(&self, path: &ClusterPath) -> Option<String> {
        let written = self.cluster.status.as_ref()?;
        let provision = written.provision.as_ref()?;
        let is_here = provision.resource_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&path.id()));
        let applied = written.applied_provision_state.as_ref().map(without_databases);
        let is_wanted = applied.as_ref() == Some(&without_databases(&self.desired));
        // What was taken back is not intended, though the object may not show that yet.
        let is_standing = self.status.resource_id.is_some();
        provision.sku_name.clone().filter(|_| is_here && is_wanted && is_standing)
    }

    async fn sku(&mut self, target: &Target) -> Result<String, Stop> {
        self.looks += 1;
        let offers = self.azure.arm.skus(&target.path.subscription, &target.location).await;
        let offers = offers.map_err(|error| Stop::from_error(Phase::ClusterReady, &error))?;
        let (sku, note) = choose_sku(&self.desired, &offers, &target.location)?;
        self.events.extend(note.map(|note| ("SkuChosen", note)));
        Ok(sku)
    }

    /// What makes the cluster, and its hash.
    fn new_cluster(&self, target: &Target, sku: String) -> (NewCluster, String) {
        let Target { path, location } = target;
        let body = new_cluster(&self.desired, sku_of(sku, &self.desired), location, self.tags());
        let request = hash_of(&(path.id(), &body));
        (body, request)
    }

    async fn put(&mut self, target: &Target, sku: String, only_new: bool) -> Stop {
        let (body, request) = self.new_cluster(target, sku);
        let step =
            Step { phase: Phase::ClusterReady, reason: Reason::CreatingCluster, what: CREATE, request: &request };
        if let Err(refused) = self.gate(step.phase, CREATE, &request) {
            return refused;
        }
        let result = self.azure.arm.put_cluster(&target.path, &body, only_new).await;
        let was_refused = result.as_ref().is_err_and(|error| {
            error.refusal().is_some_and(|refusal| !matches!(refusal.class(), Class::Busy | Class::Server))
        });
        if was_refused && self.status.state.is_none() {
            // Nothing is there: the next try may be elsewhere, or of another SKU.
            (self.status.resource_id, self.applied) = (None, None);
        }
        self.begun(step, result)
    }

    fn refused(&mut self, phase: Phase, what: &str, error: ArmError) -> Stop {
        match error {
            ArmError::Refused { refusal, .. } => self.failed(phase, what, "", &refusal),
            error => Stop::from_error(phase, &error),
        }
    }

    async fn register(&mut self, subscription: &str) -> Result<(), Stop> {
        let phase = Phase::ClusterReady;
        self.looks += 1;
        let arm = &self.azure.arm;
        let provider = arm.provider(subscription).await.map_err(|error| Stop::from_error(phase, &error))?;
        let message = "the subscription is being registered for Microsoft.Kusto";
        match provider.registration_state {
            RegistrationState::Registered => Ok(()),
            RegistrationState::Registering => Err(Stop::wait(phase, Reason::RegisteringProvider, message, None)),
            RegistrationState::NotRegistered | RegistrationState::Other(_) => {
                if let Err(error) = arm.register(subscription).await {
                    return Err(self.refused(phase, "register the subscription for Microsoft.Kusto", error));
                }
                self.events.push(("RegisteringProvider", message.to_owned()));
                Err(Stop::wait(phase, Reason::RegisteringProvider, message, None))
            }
        }
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let name = self.cluster.metadata.name.as_deref().unwrap_or_default();
        let namespace = self.cluster.metadata.namespace.as_deref().unwrap_or_default();
        BTreeMap::from([(TAG.to_owned(), format!("{namespace}/{name}"))])
    }

    /// What the cluster does, and what follows from that.
    fn see(&mut self, target: &Target, cluster: &Cluster) -> Result<Seen, Stop> {
        let phase = Phase::ClusterReady;
        let properties = &cluster.properties;
        // Our request carries it. What we remember tells of what we saw or meant, which others may have made.
        let is_ours = cluster.tags.as_ref().is_some_and(|tags| tags.get(TAG) == self.tags().get(TAG));
        let state = properties.state.clone().unwrap_or(State::Other("unknown".to_owned()));
        let why = properties.state_reason.as_deref().map(|why| format!(" ({})", told(why))).unwrap_or_default();
        let progress = properties.provisioning_state.clone().unwrap_or(ProvisioningState::Succeeded);
        let uri = properties.uri.as_deref().filter(|uri| !uri.is_empty());
        let is_leaving = matches!(state, State::Deleting | State::Deleted);
        let never_ran = uri.is_none() || state == State::Creating;
        // One that others did not get to run, or that goes as we first see it, leaves its name and its place to the one that is wanted.
        if self.status.state.is_some() || !is_leaving && (is_ours || !never_ran) {
            self.remember(target, cluster, &state, uri)?;
        }
        let stopped = |reason: Reason, what: &str| {
            Err(Stop::new(phase, reason, format!("Azure says that the cluster is {state}{why}: {what}"), Next::Person))
        };
        if never_ran && !is_leaving && progress.is_failed() {
            return if is_ours {
                Ok(Seen::CreationFailed)
            } else {
                stopped(
                    Reason::CreationFailed,
                    "somebody else began to make it, which failed; delete it there, or choose another spec.clusterName",
                )
            };
        }
        match &state {
            State::Stopped => {
                return stopped(Reason::Stopped, "start it there to have it work; it is not started by itself");
            }
            State::Stopping => return stopped(Reason::Stopping, "it does not answer until somebody starts it"),
            State::Unavailable => return stopped(Reason::Unavailable, "it does not answer"),
            State::Deleting | State::Deleted if self.status.state.is_none() => {
                let message =
                    format!("Azure says that the cluster is {state}{why}: it is made anew once that one is gone");
                return Err(Stop::wait(phase, Reason::WaitingForAzure, message, None));
            }
            State::Deleting | State::Deleted => return stopped(Reason::ClusterDeleted, "somebody deletes it"),
            State::Migrated => {
                return stopped(
                    Reason::Migrated,
                    "its databases are in another cluster: name that one in spec.endpoint",
                );
            }
            _ => {}
        }
        let Some(uri) = uri.filter(|_| !matches!(state, State::Creating | State::Starting)) else {
            let reason = if state == State::Starting { Reason::Starting } else { Reason::CreatingCluster };
            return Err(Stop::wait(phase, reason, format!("Azure says that the cluster is {state}{why}"), None));
        };
        match endpoint_of(uri, self.settings) {
            Ok(endpoint) => self.endpoint = Some(endpoint),
            Err(rule) => {
                let uri = told(&without_secrets(uri));
                let message = format!("Azure says that the cluster answers at {uri}: {rule}");
                return Err(Stop::new(phase, Reason::UntrustedEndpoint, message, Next::Person));
            }
        }
        self.reached.push((phase, Reason::Running, format!("Azure says that the cluster is {state}")));
        if !progress.is_terminal() {
            // Somebody's change, or one of ours whose answer was lost.
            let message = "Azure is at work on the cluster, and takes no other change meanwhile";
            return Err(Stop::wait(Phase::Provisioned, Reason::WaitingForAzure, message, None));
        }
        self.forget_failure(CREATE);
        Ok(Seen::Running)
    }

    /// From now on it is this one: it is not made anew, and stays where it is. `uri`: where Azure says that it answers.
    fn remember(&mut self, target: &Target, cluster: &Cluster, state: &State, uri: Option<&str>) -> Result<(), Stop> {
        let parse = |text: &str| ClusterEndpoint::parse(text).ok();
        let known = self.endpoint.as_deref().filter(|_| self.status.resource_id.is_none()).and_then(parse);
        // Names are unique in a region only.
        if let Some((known, other)) = known.zip(uri.and_then(parse)).filter(|(known, found)| known != found) {
            let what = format!("{} is another cluster, {other}", target.path.id());
            return Err(endpoint_removed(&known.to_string(), &what));
        }
        self.status.state = Some(state.to_string());
        self.status.resource_id = Some(cluster.id.clone().unwrap_or_else(|| target.path.id()));
        self.status.sku_name = Some(cluster.sku.name.clone());
        self.status.location = Some(normal(&cluster.location));
        Ok(())
    }

    /// What Azure is going to be asked to change is written down first: what it has then is no person's doing.
    fn request(&mut self, phase: Phase) -> Result<(), Stop> {
        let written = self.cluster.status.as_ref().and_then(|status| status.provision.as_ref());
        if written.and_then(|written| written.requested.as_ref()) == Some(&self.desired) {
            return Ok(());
        }
        let requested = Some(self.desired.clone());
        let is_known = self.status.requested == requested;
        self.status.requested = requested;
        Err(written_first(phase, Reason::UpdatingCluster, "Azure is going to be asked for a change", is_known))
    }

    async fn update(&mut self, target: &Target, cluster: &Cluster) -> Result<(), Stop> {
        let phase = Phase::Provisioned;
        if let (Some(requested), Some(applied)) = (&self.status.requested, self.applied.as_mut()) {
            absorb(requested, applied, cluster);
        }
        let difference = compare(&self.desired, &mut self.applied, cluster);
        self.status.notes.extend(difference.kept);
        let Some(update) = difference.update else { return Ok(()) };
        let what = format!("change the cluster: {}", difference.changes.join(", "));
        let request = hash_of(&(target.path.id(), &update));
        self.gate(phase, &what, &request)?;
        self.request(phase)?;
        let result = self.azure.arm.patch_cluster(&target.path, &update).await;
        Err(self.begun(Step { phase, reason: Reason::UpdatingCluster, what: &what, request: &request }, result))
    }

    async fn roles(&mut self, target: &Target) -> Result<(), Stop> {
        let phase = Phase::Provisioned;
        for scope in self.grants.scopes() {
            // A database that is not there has its own condition.
            if matches!(&scope, Scope::Database(database) if !self.there.contains(&database.to_lowercase())) {
                continue;
            }
            self.looks += 1;
            let there = self.azure.arm.assignments(&target.path, &scope).await;
            let there = there.map_err(|error| Stop::from_error(phase, &error))?;
            for grant in self.grants.grants.iter().filter(|grant| grant.scope == scope && !grant.is_in(&there)) {
                let what = format!("grant {} the role {}", grant.client_id, grant.role);
                let result = self.azure.arm.put_assignment(&target.path, &scope, &grant.name(), &grant.body()).await;
                let mut stop =
                    self.begun(Step { phase, reason: Reason::GrantingRole, what: &what, request: "" }, result);
                // An identity that is not there yet may come.
                if stop.next == Next::Spec {
                    stop.next = Next::Person;
                }
                // One that Azure refuses holds up no other.
                self.settle(Err(stop))?;
            }
        }
        Ok(())
    }
}

/// A write, for messages and memory.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    phase: Phase,
    reason: Reason,
    what: &'a str,
    /// A hash of what is asked for.
    request: &'a str,
}

/// The phase that waits for something.
fn phase_of(what: &str) -> Phase {
    if what == CREATE {
        Phase::ClusterReady
    } else if what.starts_with(CREATE_DATABASE) || what.starts_with(CHANGE_DATABASE) {
        Phase::DatabasesReady
    } else {
        Phase::Provisioned
    }
}

/// Why a new cluster may not have its name, if it may not.
fn taken(check: &NameCheck, Target { path, location }: &Target) -> Option<Stop> {
    let why = told(check.message.as_deref().unwrap_or_default());
    let message = format!("spec.clusterName = {}: must be a name that nobody has in {location}: {why}", path.cluster);
    (!check.name_available).then(|| Stop::new(Phase::ClusterReady, Reason::NameTaken, message, Next::Person))
}

/// The address that the object had is not one that we gave it. `what`: what there is instead.
fn endpoint_removed(known: &str, what: &str) -> Stop {
    let message = format!(
        "spec.endpoint is absent, and was {known} before; {what}: put it back; to have the cluster at that place instead, make this ADXCluster anew"
    );
    Stop::new(Phase::ClusterReady, Reason::EndpointRemoved, message, Next::Person)
}

/// Goes on once the object shows what was written. `is_known`: it was written before and does not show, because the watch is late, or because the API server has
/// definitions of an older version, which know no such fields: then it would go round for ever.
fn written_first(phase: Phase, reason: Reason, message: &str, is_known: bool) -> Stop {
    if is_known {
        let message = format!("{message}, once the status shows it: are this version's definitions installed?");
        Stop::wait(phase, reason, message, None)
    } else {
        Stop::new(phase, reason, message, Next::Now)
    }
}

fn hash_of(request: &impl Serialize) -> String {
    fingerprint(&serde_json::to_string(request).expect("a body is JSON"))
}

fn without_databases(state: &AppliedProvisionState) -> AppliedProvisionState {
    AppliedProvisionState { databases: Vec::new(), ..state.clone() }
}

/// What counts as applied to a cluster that was there before us, or whose status is lost: what the spec says now. What differs in Azure stays, but identities are added.
fn adopted(desired: &AppliedProvisionState) -> AppliedProvisionState {
    AppliedProvisionState { user_assigned_identities: Vec::new(), ..without_databases(desired) }
}

#[cfg(test)]
mod tests;
