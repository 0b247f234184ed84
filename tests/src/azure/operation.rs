//! Long-running operations: begun by a request, due after a while by the double's clock, and then taking effect or failing. No I/O; begun by the files that answer
//! writes, settled before every look at the world.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    route::Route,
    world::{Cluster, Sku, World, default_uri},
};

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) id: String,
    /// `Create`, `Update`, `Delete`, `Start`, `Stop`, ...
    pub(super) kind: &'static str,
    /// The cluster's key.
    pub(super) cluster: String,
    pub(super) subscription: String,
    pub(super) location: String,
    effect: Effect,
    pub(super) began: Duration,
    pub(super) due: Duration,
    /// It will end with this.
    pub(super) failure: Option<Failure>,
    pub(super) ended: bool,
    /// Whoever writes while it runs could not know of it: its beginning was answered with a fault, or people began it, and nobody has looked since.
    pub(super) excused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
}

/// What it does at its end.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    None,
    Create,
    Update(Box<Desired>),
    Delete,
    State(&'static str),
    Database { name: String, desired: Option<Retention> },
    DeleteDatabase { name: String },
    Assignment { database: Option<String>, name: String },
    DeleteAssignment { database: Option<String>, name: String },
}

/// What a cluster is to become.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub(super) sku: Sku,
    pub(super) system_identity: bool,
    pub(super) user_identities: std::collections::BTreeSet<String>,
    pub(super) properties: Map<String, Value>,
    pub(super) tags: std::collections::BTreeMap<String, String>,
    /// The state that it comes back to.
    pub(super) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) soft_delete_period: Option<String>,
    pub(super) hot_cache_period: Option<String>,
}

impl World {
    /// Begins an operation on a cluster; its id.
    pub(super) fn begin(&mut self, cluster: &str, kind: &'static str, effect: Effect, lasting: Duration) -> String {
        let id = format!("00000000-0000-4000-8000-{:012x}", self.count());
        let key = cluster.to_lowercase();
        let (subscription, location) = self
            .clusters
            .get(&key)
            .map(|cluster| (cluster.subscription.clone(), cluster.location.clone()))
            .expect("operations are on clusters that exist");
        self.touch(&key);
        let operation = Operation {
            id: id.clone(),
            kind,
            cluster: key,
            subscription,
            location,
            effect,
            began: self.now,
            due: self.now + lasting,
            failure: None,
            ended: false,
            excused: false,
        };
        self.operations.insert(id.clone(), operation);
        id
    }

    /// What runs on a cluster now.
    pub(super) fn running(&self, cluster: &str) -> Option<&Operation> {
        let key = cluster.to_lowercase();
        self.operations.values().find(|operation| !operation.ended && operation.cluster == key)
    }

    /// A look shows what is at work on what is looked at: who writes now knows of it.
    pub(super) fn show(&mut self, route: &Route) {
        let Some(key) = route.cluster().map(|cluster| cluster.name.to_lowercase()) else { return };
        let Some(cluster) = self.clusters.get(&key) else { return };
        let is_visible = |name: &str| cluster.databases.get(name).is_some_and(|found| found.visible_at <= self.now);
        let is = |key: &str, name: &str| key == name.to_lowercase();
        for operation in self.operations.values_mut().filter(|operation| !operation.ended && operation.cluster == key) {
            let is_shown = match (&operation.effect, route) {
                (Effect::Database { name, .. }, Route::Databases(_)) => is_visible(name),
                (Effect::Database { name, .. }, Route::Database(_, database)) => is(name, database) && is_visible(name),
                (Effect::Assignment { name, .. }, Route::Assignment(_, _, assignment)) => is(name, assignment),
                (Effect::Assignment { database, .. }, Route::Assignments(_, scope)) => {
                    *database == scope.as_ref().map(|scope| scope.to_lowercase())
                }
                // The cluster says so. Of what is being taken away from it nothing does.
                (effect, Route::Cluster(_)) => {
                    matches!(
                        effect,
                        Effect::None | Effect::Create | Effect::Update(_) | Effect::Delete | Effect::State(_)
                    )
                }
                _ => false,
            };
            operation.excused &= !is_shown;
        }
    }

    /// Lets everything that is due take effect, in order.
    pub(super) fn settle(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let now = self.now;
        for subscription in self.subscriptions.values_mut() {
            if subscription.registered_at.is_some_and(|at| at <= now) {
                subscription.registered_at = None;
                "Registered".clone_into(&mut subscription.registration);
            }
        }
        let mut due: Vec<Operation> =
            self.operations.values().filter(|operation| !operation.ended && operation.due <= now).cloned().collect();
        due.sort_by(|one, other| (one.due, &one.id).cmp(&(other.due, &other.id)));
        for operation in due {
            self.touch(&operation.cluster);
            let ended = self.operations.get_mut(&operation.id).expect("operations are never removed");
            ended.ended = true;
            match (self.clusters.get_mut(&operation.cluster), operation.failure) {
                (Some(cluster), Some(failure)) => cluster.fail(operation.effect, &failure),
                (Some(_), None) if matches!(operation.effect, Effect::Delete) => {
                    self.clusters.remove(&operation.cluster);
                }
                (Some(cluster), None) => cluster.take_effect(operation.effect),
                (None, None) => {
                    let message = "Somebody deleted the resource while the operation ran.".to_owned();
                    ended.failure = Some(Failure { code: "ResourceNotFound".to_owned(), message });
                }
                (None, Some(_)) => {}
            }
        }
    }

    /// A change: the cluster's etag is another.
    pub(super) fn touch(&mut self, cluster: &str) {
        let etag = self.count();
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.etag = etag;
        }
    }
}

impl Cluster {
    fn succeed(&mut self, state: &str) {
        state.clone_into(&mut self.state);
        "Succeeded".clone_into(&mut self.provisioning_state);
        self.state_reason = None;
        if state == "Running" && self.uri.is_none() {
            self.uri = Some(default_uri(&self.name, &self.location));
        }
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::None => "Succeeded".clone_into(&mut self.provisioning_state),
            Effect::Create => self.succeed("Running"),
            Effect::Update(desired) => {
                let Desired { sku, system_identity, user_identities, properties, tags, state } = *desired;
                self.sku = sku;
                self.system_identity = system_identity;
                self.user_identities = user_identities;
                self.properties = properties;
                self.tags = tags;
                self.succeed(&state);
            }
            // Whoever settles takes it away.
            Effect::Delete => {}
            Effect::State(state) => self.succeed(state),
            Effect::Database { name, desired } => {
                if let Some(database) = self.databases.get_mut(&name) {
                    "Succeeded".clone_into(&mut database.provisioning_state);
                    if let Some(desired) = desired {
                        database.soft_delete_period = desired.soft_delete_period;
                        database.hot_cache_period = desired.hot_cache_period;
                    }
                }
            }
            Effect::DeleteDatabase { name } => drop(self.databases.remove(&name)),
            Effect::Assignment { database, name } => self.set_assignment(database.as_deref(), &name, "Succeeded"),
            Effect::DeleteAssignment { database, name } => {
                let assignments = match database {
                    None => Some(&mut self.assignments),
                    Some(database) => self.databases.get_mut(&database).map(|database| &mut database.assignments),
                };
                if let Some(assignments) = assignments {
                    assignments.remove(&name);
                }
            }
        }
    }

    /// The operation came to nothing.
    fn fail(&mut self, effect: Effect, failure: &Failure) {
        match effect {
            Effect::Database { name, .. } | Effect::DeleteDatabase { name } => {
                if let Some(database) = self.databases.get_mut(&name) {
                    "Failed".clone_into(&mut database.provisioning_state);
                }
                return;
            }
            Effect::Assignment { database, name } | Effect::DeleteAssignment { database, name } => {
                return self.set_assignment(database.as_deref(), &name, "Failed");
            }
            Effect::Update(desired) => self.state = desired.state,
            Effect::Create => "Unavailable".clone_into(&mut self.state),
            Effect::State("Running") => "Stopped".clone_into(&mut self.state),
            Effect::None | Effect::Delete | Effect::State(_) => "Running".clone_into(&mut self.state),
        }
        "Failed".clone_into(&mut self.provisioning_state);
        self.state_reason = Some(failure.message.clone());
    }

    fn set_assignment(&mut self, database: Option<&str>, name: &str, state: &str) {
        let assignments = match database {
            None => Some(&mut self.assignments),
            Some(database) => self.databases.get_mut(database).map(|database| &mut database.assignments),
        };
        if let Some(assignment) = assignments.and_then(|assignments| assignments.get_mut(name)) {
            state.clone_into(&mut assignment.provisioning_state);
        }
    }
}
