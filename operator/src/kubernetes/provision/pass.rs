//! One pass over one cluster: look at Azure, do at most one thing, remember. Every pass begins with a look, so it may end at any point. I/O: Azure, through the client.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shared::document::{
    ADXCluster,
    provisioned::{AppliedProvisionState, FailureStatus, OperationStatus, ProvisionStatus},
    status::whole_seconds,
};

use super::{
    Azure,
    desired::{choose_sku, new_cluster},
    differ::{DatabaseStep, compare, next_database},
    endpoint_of,
    roles::Grants,
    stop::{Next, Stop, refusal_of},
    target::{Target, is_unknown, target},
};
use crate::{
    azure::{
        ArmError, Class,
        operations::{Accepted, Progress},
        types::{Cluster, NewDatabase, NewDatabaseProperties, ProvisioningState, RegistrationState, Sku, State},
    },
    kubernetes::{conditions::Phase, settings::Settings},
};

/// Marks what we made, in Azure's portal too.
const TAG: &str = "adx-federation";
/// How long Azure may take to show a database after it was made.
const SHOWN_AFTER: SignedDuration = SignedDuration::from_mins(10);
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
    pub(super) reached: Vec<(Phase, &'static str, String)>,
    /// Why others are not.
    pub(super) stops: Vec<Stop>,
    /// What was begun, for people: a reason and a sentence.
    pub(super) events: Vec<(&'static str, String)>,
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
            self.status.failure = None;
            self.reached.push((Phase::Provisioned, "Provisioned", "Azure has what the spec says".to_owned()));
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
        let is_database = database_of(&operation.what).is_some();
        match progress {
            Progress::Running(after) => {
                let message = format!("Azure is at work since {}: {}", operation.started.0, operation.what);
                return Err(Stop::wait(phase, "WaitingForAzure", message, after));
            }
            Progress::Failed(refusal) => {
                self.status.operation = None;
                self.forget_unseen(&operation.what);
                return Err(self.failed(phase, &operation.what, &refusal));
            }
            // Until it is shown, Azure's word is all there is.
            Progress::Succeeded if is_database && self.now.duration_since(operation.started.0) < SHOWN_AFTER => {}
            Progress::Succeeded => self.status.operation = None,
            Progress::Forgotten => {
                self.status.operation = None;
                self.forget_unseen(&operation.what);
            }
        }
        self.forget_failure(&operation.what);
        Ok(())
    }

    /// A database whose making failed is made anew, not waited for.
    fn forget_unseen(&mut self, what: &str) {
        if let (Some(name), Some(applied)) = (database_of(what), self.applied.as_mut()) {
            applied.databases.retain(|known| known.seen || known.name != name);
        }
    }

    fn forget_failure(&mut self, what: &str) {
        self.status.failure.take_if(|failure| failure.what == what);
    }

    /// Remembers what Azure refused or failed.
    fn failed(&mut self, phase: Phase, what: &str, refusal: &crate::azure::Refusal) -> Stop {
        let failure = FailureStatus {
            what: what.to_owned(),
            status: refusal.status.into(),
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            generation: self.generation(),
        };
        let mut stop = Stop::from_failure(phase, &failure);
        // An operation that failed is not begun again at once.
        if stop.next == Next::Retry && refusal.status == 200 {
            stop.next = Next::Person;
        }
        self.status.failure = Some(failure);
        stop
    }

    fn generation(&self) -> i64 {
        self.cluster.metadata.generation.unwrap_or_default()
    }

    /// What Azure refused for this very spec as wrong is not tried again.
    fn gate(&self, phase: Phase, what: &str) -> Result<(), Stop> {
        let failure = self.status.failure.as_ref().filter(|failure| {
            failure.what == what
                && failure.generation == self.generation()
                && refusal_of(failure).class() == Class::Invalid
        });
        failure.map_or(Ok(()), |failure| Err(Stop::from_failure(phase, failure)))
    }

    /// After a write: its operation is followed, or why there is none.
    fn begun(&mut self, phase: Phase, reason: &'static str, what: &str, result: Result<Accepted, ArmError>) -> Stop {
        match result {
            Ok(Accepted { operation, retry_after }) => {
                self.forget_failure(what);
                let started = whole_seconds(self.now);
                self.status.operation = operation.map(|url| OperationStatus { what: what.to_owned(), url, started });
                self.events.push((reason, format!("began to {what}")));
                Stop::wait(phase, reason, format!("Azure is at work: {what}"), retry_after)
            }
            Err(ArmError::Refused { refusal, .. }) if !matches!(refusal.class(), Class::Busy | Class::Server) => {
                self.failed(phase, what, &refusal)
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
            return Err(Stop::new(phase, "ClusterDeleted", message, Next::Person));
        }
        self.gate(phase, CREATE)?;
        self.intend()?;
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
        if !check.name_available {
            let why = check.message.unwrap_or_default();
            let message =
                format!("spec.clusterName = {}: must be a name that nobody has in {location}: {why}", path.cluster);
            return Err(Stop::new(phase, "NameTaken", message, Next::Person));
        }
        Ok(self.put(target, sku, true).await)
    }

    /// Azure keeps a cluster whose creation failed; the same request tries again.
    async fn create_again(&mut self, target: &Target) -> Result<Stop, Stop> {
        self.gate(Phase::ClusterReady, CREATE)?;
        self.intend()?;
        let sku = self.sku(target).await?;
        Ok(self.put(target, sku, false).await)
    }

    /// What is intended is written down before Azure hears of it: whatever happens to us in between, the next pass knows what was asked for.
    fn intend(&mut self) -> Result<(), Stop> {
        let intended = AppliedProvisionState { databases: Vec::new(), ..self.desired.clone() };
        if self.applied.as_ref() == Some(&intended) {
            return Ok(());
        }
        self.applied = Some(intended);
        let message = "the cluster is going to be made";
        Err(Stop::new(Phase::ClusterReady, "CreatingCluster", message, Next::Now))
    }

    async fn sku(&mut self, target: &Target) -> Result<Sku, Stop> {
        self.looks += 1;
        let offers = self.azure.arm.skus(&target.path.subscription, &target.location).await;
        let offers = offers.map_err(|error| Stop::from_error(Phase::ClusterReady, &error))?;
        let (sku, note) = choose_sku(&self.desired, &offers, &target.location)?;
        self.events.extend(note.map(|note| ("SkuChosen", note)));
        Ok(sku)
    }

    async fn put(&mut self, target: &Target, sku: Sku, only_new: bool) -> Stop {
        let Target { path, location } = target;
        self.status.sku_name = Some(sku.name.clone());
        let body = new_cluster(&self.desired, sku, location, self.tags());
        let result = self.azure.arm.put_cluster(path, &body, only_new).await;
        if result.as_ref().map_or_else(ArmError::maybe_accepted, |_| true) {
            self.status.resource_id = Some(path.id());
        }
        self.begun(Phase::ClusterReady, "CreatingCluster", CREATE, result)
    }

    fn refused(&mut self, phase: Phase, what: &str, error: ArmError) -> Stop {
        match error {
            ArmError::Refused { refusal, .. } => self.failed(phase, what, &refusal),
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
            RegistrationState::Registering => Err(Stop::wait(phase, "RegisteringProvider", message, None)),
            RegistrationState::NotRegistered | RegistrationState::Other(_) => {
                if let Err(error) = arm.register(subscription).await {
                    return Err(self.refused(phase, "register the subscription for Microsoft.Kusto", error));
                }
                self.events.push(("RegisteringProvider", message.to_owned()));
                Err(Stop::wait(phase, "RegisteringProvider", message, None))
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
        let state = properties.state.clone().unwrap_or(State::Other("unknown".to_owned()));
        self.status.state = Some(state.to_string());
        self.status.resource_id = Some(cluster.id.clone().unwrap_or_else(|| target.path.id()));
        self.status.sku_name = Some(cluster.sku.name.clone());
        let why = properties.state_reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let progress = properties.provisioning_state.clone().unwrap_or(ProvisioningState::Succeeded);
        let uri = properties.uri.as_deref().filter(|uri| !uri.is_empty());
        let is_leaving = matches!(state, State::Deleting | State::Deleted);
        if uri.is_none() && !is_leaving && progress.is_terminal() && progress != ProvisioningState::Succeeded {
            return Ok(Seen::CreationFailed);
        }
        let stopped = |reason: &str, what: &str| {
            Err(Stop::new(phase, reason, format!("Azure says that the cluster is {state}{why}: {what}"), Next::Person))
        };
        match &state {
            State::Stopped => return stopped("Stopped", "start it there to have it work; it is not started by itself"),
            State::Stopping => return stopped("Stopping", "it does not answer until somebody starts it"),
            State::Unavailable => return stopped("Unavailable", "it does not answer"),
            State::Deleting | State::Deleted => return stopped("ClusterDeleted", "somebody deletes it"),
            State::Migrated => {
                return stopped("Migrated", "its databases are in another cluster: name that one in spec.endpoint");
            }
            _ => {}
        }
        let Some(uri) = uri else {
            let message = format!("Azure says that the cluster is {state}{why}");
            return Err(Stop::wait(phase, "CreatingCluster", message, None));
        };
        if matches!(state, State::Creating | State::Starting) {
            let reason = if state == State::Creating { "CreatingCluster" } else { "Starting" };
            return Err(Stop::wait(phase, reason, format!("Azure says that the cluster is {state}{why}"), None));
        }
        match endpoint_of(uri, self.settings) {
            Ok(endpoint) => self.endpoint = Some(endpoint),
            Err(rule) => {
                let message = format!("Azure says that the cluster answers at {uri}: {rule}");
                return Err(Stop::new(phase, "UntrustedEndpoint", message, Next::Person));
            }
        }
        self.reached.push((phase, "Running", format!("Azure says that the cluster is {state}")));
        if !progress.is_terminal() {
            // Somebody's change, or one of ours whose answer was lost.
            let message = "Azure is at work on the cluster, and takes no other change meanwhile";
            return Err(Stop::wait(Phase::Provisioned, "WaitingForAzure", message, None));
        }
        self.forget_failure(CREATE);
        Ok(Seen::Running)
    }

    async fn databases(&mut self, target: &Target, cluster: &Cluster) -> Result<(), Stop> {
        let phase = Phase::DatabasesReady;
        self.looks += 1;
        let actual = self.azure.arm.databases(&target.path).await;
        let actual = actual.map_err(|error| Stop::from_error(phase, &error))?;
        let applied = self.applied.get_or_insert_with(|| adopted(&self.desired));
        let mut kept = Vec::new();
        let failed = self.status.failure.as_ref().and_then(|failure| database_of(&failure.what));
        let step = next_database(&self.desired.databases, failed, &mut applied.databases, &actual, &mut kept);
        self.status.notes.extend(kept);
        match step {
            DatabaseStep::Done => {
                if self.status.operation.as_ref().is_some_and(|operation| database_of(&operation.what).is_some()) {
                    self.status.operation = None;
                }
                self.status.failure.take_if(|failure| phase_of(&failure.what) == phase);
                let names: Vec<&str> =
                    self.desired.databases.iter().map(|database| database.name.as_str()).take(20).collect();
                let message = if names.is_empty() {
                    "no database is asked for".to_owned()
                } else {
                    format!("Azure has the databases {}", names.join(", "))
                };
                self.reached.push((phase, "Provisioned", message));
                Ok(())
            }
            DatabaseStep::Busy(name) => {
                Err(Stop::wait(phase, "CreatingDatabase", format!("Azure is at work on the database {name}"), None))
            }
            DatabaseStep::NotShown(name) => {
                if self.status.operation.is_none() {
                    // Azure has forgotten it, or it took too long: it is asked for again, which changes nothing if it is there.
                    self.forget_unseen(&what_of(&name));
                }
                let message = format!("Azure has made the database {name} and does not show it yet");
                Err(Stop::wait(phase, "CreatingDatabase", message, None))
            }
            DatabaseStep::Deleted(name) => {
                let message = format!(
                    "the database {name} was there and is not any more, and it is not made again by itself: take it out of the spec and put it back to have it made again"
                );
                Err(Stop::new(phase, "DatabaseDeleted", message, Next::Person))
            }
            DatabaseStep::Write { database, is_new } => {
                let what =
                    if is_new { what_of(&database.name) } else { format!("{CHANGE_DATABASE}'{}'", database.name) };
                self.gate(phase, &what)?;
                let soft_delete_period = database.soft_delete_period.clone();
                let body = NewDatabase {
                    location: cluster.location.clone(),
                    kind: "ReadWrite",
                    properties: NewDatabaseProperties { soft_delete_period },
                };
                let result = self.azure.arm.put_database(&target.path, &database.name, &body).await;
                if result.is_ok()
                    && is_new
                    && let Some(applied) = self.applied.as_mut()
                {
                    applied.databases.push(database);
                }
                let reason = if is_new { "CreatingDatabase" } else { "UpdatingDatabase" };
                Err(self.begun(phase, reason, &what, result))
            }
        }
    }

    async fn update(&mut self, target: &Target, cluster: &Cluster) -> Result<(), Stop> {
        let difference = compare(&self.desired, &mut self.applied, cluster);
        self.status.notes.extend(difference.kept);
        let Some(update) = difference.update else { return Ok(()) };
        let what = format!("change the cluster: {}", difference.changes.join(", "));
        self.gate(Phase::Provisioned, &what)?;
        let result = self.azure.arm.patch_cluster(&target.path, &update).await;
        Err(self.begun(Phase::Provisioned, "UpdatingCluster", &what, result))
    }

    async fn roles(&mut self, target: &Target) -> Result<(), Stop> {
        let phase = Phase::Provisioned;
        for scope in self.grants.scopes() {
            self.looks += 1;
            let there = match self.azure.arm.assignments(&target.path, &scope).await {
                Ok(there) => there,
                Err(error) => return Err(Stop::from_error(phase, &error)),
            };
            let mut grants = self.grants.grants.iter();
            if let Some(grant) = grants.find(|grant| grant.scope == scope && !grant.is_in(&there)) {
                let what = format!("grant {} the role {}", grant.client_id, grant.role);
                self.gate(phase, &what)?;
                let result = self.azure.arm.put_assignment(&target.path, &scope, &grant.name(), &grant.body()).await;
                return Err(self.begun(phase, "GrantingRole", &what, result));
            }
        }
        Ok(())
    }
}

const CREATE_DATABASE: &str = "create the database ";
const CHANGE_DATABASE: &str = "change how long rows are kept in the database ";

fn what_of(database: &str) -> String {
    format!("{CREATE_DATABASE}'{database}'")
}

/// The database that is being made.
fn database_of(what: &str) -> Option<&str> {
    what.strip_prefix(CREATE_DATABASE).map(|name| name.trim_matches('\''))
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

/// What counts as applied to a cluster that was there before us, or whose status is lost: what the spec says now. What differs in Azure stays, but identities are added.
fn adopted(desired: &AppliedProvisionState) -> AppliedProvisionState {
    let (user_assigned_identities, databases) = (Vec::new(), Vec::new());
    AppliedProvisionState { user_assigned_identities, databases, ..desired.clone() }
}
