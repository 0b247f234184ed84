//! The requests, typed. Each is one request, but for lists, which have pages. I/O: through the client.

use std::{collections::BTreeMap, time::Duration};

use azure_core::http::Method;
use serde::Serialize;
use serde_json::json;

use super::{
    client::{Answer, ArmClient, Ask, read},
    error::{ArmError, Class, Refusal},
    types::{
        Assignment, Cluster, ClusterUpdate, Database, NameCheck, NewAssignment, NewCluster, NewDatabase, OfferedSku,
        OperationResult, OperationState, Provider,
    },
};

const KUSTO: &str = "Microsoft.Kusto";
const KUSTO_VERSION: &str = "2025-02-14";
const RESOURCES_VERSION: &str = "2025-04-01";

/// A cluster's place and name: the path of everything about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPath {
    /// The subscription's id.
    pub subscription: String,
    /// The resource group.
    pub group: String,
    /// The cluster.
    pub cluster: String,
}

/// What an accepted write is to be followed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Where its operation can be looked at.
    pub operation: Option<String>,
    /// When it is to be looked at.
    pub retry_after: Option<Duration>,
}

/// How an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It goes on; Azure may say when to look again.
    Running(Option<Duration>),
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed(Refusal),
    /// Azure knows it no longer.
    Forgotten,
}

/// What a principal may be allowed on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole cluster.
    Cluster,
    /// One database of it.
    Database(String),
}

impl ClusterPath {
    /// The cluster's resource id.
    pub fn id(&self) -> String {
        format!("/{}", self.segments(&[]).join("/"))
    }

    fn segments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let Self { subscription, group, cluster } = self;
        let mut segments =
            vec!["subscriptions", subscription, "resourceGroups", group, "providers", KUSTO, "clusters", cluster];
        segments.extend_from_slice(more);
        segments
    }
}

impl Scope {
    fn segments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut segments = match self {
            Self::Cluster => Vec::new(),
            Self::Database(database) => vec!["databases", database],
        };
        segments.push("principalAssignments");
        segments.extend_from_slice(more);
        segments
    }
}

const fn kusto<'a>(what: &'static str, method: Method, path: &'a [&'a str]) -> Ask<'a> {
    Ask { what, method, path, api_version: KUSTO_VERSION, only_new: false }
}

const fn resources<'a>(what: &'static str, method: Method, path: &'a [&'a str]) -> Ask<'a> {
    Ask { what, method, path, api_version: RESOURCES_VERSION, only_new: false }
}

/// `None` for what Azure says is not there. A proxy's page, or a subscription that is out of sight, says nothing about the thing itself.
fn found<T>(result: Result<T, ArmError>) -> Result<Option<T>, ArmError> {
    match result {
        Err(ArmError::Refused { refusal, .. })
            if refusal.status == 404
                && ["ResourceNotFound", "ResourceGroupNotFound"].contains(&refusal.code.as_str()) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

impl From<Answer> for Accepted {
    fn from(answer: Answer) -> Self {
        Self { operation: answer.operation, retry_after: answer.retry_after }
    }
}

/// # Errors
/// All of these: [`ArmError`].
#[allow(clippy::missing_errors_doc)] // Said once above.
impl ArmClient {
    /// Whether the subscription may use Microsoft.Kusto.
    pub async fn provider(&self, subscription: &str) -> Result<Provider, ArmError> {
        let what = "the registration of Microsoft.Kusto";
        let path = ["subscriptions", subscription, "providers", KUSTO];
        read(what, &self.ask::<()>(resources(what, Method::Get, &path), None).await?)
    }

    /// Lets the subscription use Microsoft.Kusto.
    pub async fn register(&self, subscription: &str) -> Result<Provider, ArmError> {
        let what = "the registration of Microsoft.Kusto";
        let path = ["subscriptions", subscription, "providers", KUSTO, "register"];
        read(what, &self.ask(resources(what, Method::Post, &path), Some(&json!({}))).await?)
    }

    /// Whether a resource group is there.
    pub async fn has_group(&self, subscription: &str, group: &str) -> Result<bool, ArmError> {
        let path = ["subscriptions", subscription, "resourcegroups", group];
        let ask = resources("the resource group", Method::Head, &path);
        match self.ask::<()>(ask, None).await {
            Ok(_) => Ok(true),
            // An answer to HEAD has no words.
            Err(ArmError::Refused { refusal, .. }) if refusal.status == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a resource group.
    pub async fn put_group(
        &self,
        subscription: &str,
        group: &str,
        location: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ArmError> {
        let path = ["subscriptions", subscription, "resourcegroups", group];
        let ask = resources("the resource group", Method::Put, &path);
        self.ask(ask, Some(&json!({"location": location, "tags": tags}))).await.map(drop)
    }

    /// What a region offers.
    pub async fn skus(&self, subscription: &str, location: &str) -> Result<Vec<OfferedSku>, ArmError> {
        let path = ["subscriptions", subscription, "providers", KUSTO, "locations", location, "skus"];
        self.list(kusto("the SKUs of the region", Method::Get, &path)).await
    }

    /// Whether a new cluster may have a name.
    pub async fn check_name(&self, subscription: &str, location: &str, name: &str) -> Result<NameCheck, ArmError> {
        let what = "the cluster's name";
        let path = ["subscriptions", subscription, "providers", KUSTO, "locations", location, "checkNameAvailability"];
        let body = json!({"name": name, "type": "Microsoft.Kusto/clusters"});
        read(what, &self.ask(kusto(what, Method::Post, &path), Some(&body)).await?)
    }

    /// A cluster; `None` if it, or its resource group, is not there.
    pub async fn cluster(&self, path: &ClusterPath) -> Result<Option<Cluster>, ArmError> {
        let what = "the cluster";
        let segments = path.segments(&[]);
        let answer = found(self.ask::<()>(kusto(what, Method::Get, &segments), None).await)?;
        answer.map(|answer| read(what, &answer)).transpose()
    }

    /// Makes a cluster. `only_new`: Azure refuses if there is one by now.
    pub async fn put_cluster(
        &self,
        path: &ClusterPath,
        cluster: &NewCluster,
        only_new: bool,
    ) -> Result<Accepted, ArmError> {
        let segments = path.segments(&[]);
        let ask = Ask { only_new, ..kusto("to make the cluster", Method::Put, &segments) };
        self.ask(ask, Some(cluster)).await.map(Accepted::from)
    }

    /// Changes a cluster.
    pub async fn patch_cluster(&self, path: &ClusterPath, update: &ClusterUpdate) -> Result<Accepted, ArmError> {
        let segments = path.segments(&[]);
        self.ask(kusto("to change the cluster", Method::Patch, &segments), Some(update)).await.map(Accepted::from)
    }

    /// The databases of a cluster.
    pub async fn databases(&self, path: &ClusterPath) -> Result<Vec<Database>, ArmError> {
        let segments = path.segments(&["databases"]);
        self.list(kusto("the databases", Method::Get, &segments)).await
    }

    /// Changes how long a database keeps rows; whatever else is set there stays.
    pub async fn patch_database(
        &self,
        path: &ClusterPath,
        name: &str,
        database: &NewDatabase,
    ) -> Result<Accepted, ArmError> {
        let segments = path.segments(&["databases", name]);
        let ask = kusto("to change the database", Method::Patch, &segments);
        self.ask(ask, Some(database)).await.map(Accepted::from)
    }

    /// Makes a database.
    pub async fn put_database(
        &self,
        path: &ClusterPath,
        name: &str,
        database: &NewDatabase,
    ) -> Result<Accepted, ArmError> {
        let segments = path.segments(&["databases", name]);
        self.write("to make the database", &segments, database).await
    }

    /// Who may do what.
    pub async fn assignments(&self, path: &ClusterPath, scope: &Scope) -> Result<Vec<Assignment>, ArmError> {
        let more = scope.segments(&[]);
        let segments = path.segments(&more);
        self.list(kusto("the principal assignments", Method::Get, &segments)).await
    }

    /// Lets a principal do something.
    pub async fn put_assignment(
        &self,
        path: &ClusterPath,
        scope: &Scope,
        name: &str,
        assignment: &NewAssignment,
    ) -> Result<Accepted, ArmError> {
        let more = scope.segments(&[name]);
        let segments = path.segments(&more);
        self.write("to write the principal assignment", &segments, assignment).await
    }

    async fn write<B: Serialize>(&self, what: &'static str, segments: &[&str], body: &B) -> Result<Accepted, ArmError> {
        self.ask(kusto(what, Method::Put, segments), Some(body)).await.map(Accepted::from)
    }

    /// How an operation stands. `link` is what Azure gave: an operation's address, or a result's, which answers 202 until it is there.
    pub async fn progress(&self, link: &str) -> Result<Progress, ArmError> {
        let what = "the operation";
        let answer = match self.get_link(what, link).await {
            Ok(answer) => answer,
            Err(ArmError::Refused { what, refusal }) => {
                return match refusal.class() {
                    Class::Busy => Ok(Progress::Running(None)),
                    Class::Auth | Class::Server => Err(ArmError::Refused { what, refusal }),
                    // What a result's address answers when its operation failed.
                    _ if matches!(refusal.status, 400 | 409 | 422) => Ok(Progress::Failed(refusal)),
                    // Azure knows it no longer, or tells it to others: the cluster itself tells, too.
                    _ => Ok(Progress::Forgotten),
                };
            }
            Err(error) => return Err(error),
        };
        if answer.status == 202 {
            return Ok(Progress::Running(answer.retry_after));
        }
        // A result's address answers with the resource, which has no status, or with nothing.
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !body["status"].is_string() {
            return Ok(Progress::Succeeded);
        }
        let result: OperationResult = read(what, &answer)?;
        Ok(match result.status {
            OperationState::Succeeded => Progress::Succeeded,
            state if state.is_failed() => {
                let text = format!("the operation ended as {state}, and Azure does not say why");
                Progress::Failed(Refusal::new(200, result.error.as_ref(), &text))
            }
            _ => Progress::Running(answer.retry_after),
        })
    }
}
