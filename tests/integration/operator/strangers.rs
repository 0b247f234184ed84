//! Strangers' objects under the names of all that the operator makes: each is a conflict that its owner tells of, it stays as it is, and when it goes ours comes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kube::api::ListParams;
use serde_json::Value;
use tests::cluster::{PATIENCE, TestNamespace, message_of};
use tokio::time;

use crate::{
    deleting::until_looked_at,
    support::{CLUSTER, children},
};

const ROLE: &str = "rbac.authorization.k8s.io/v1 Role";
const ROLE_BINDING: &str = "rbac.authorization.k8s.io/v1 RoleBinding";
const CLUSTER_ROLE: &str = "rbac.authorization.k8s.io/v1 ClusterRole";
const CLUSTER_ROLE_BINDING: &str = "rbac.authorization.k8s.io/v1 ClusterRoleBinding";

/// What is made for each kind, and under which names. The story itself sees that there is nothing else.
const NAMES: [(&str, &str, &str); 24] = [
    ("Ingestor", "v1 ServiceAccount", "OWNER-ingestor"),
    ("Ingestor", "v1 Service", "OWNER"),
    ("Ingestor", ROLE, "OWNER-ingestor"),
    ("Ingestor", ROLE_BINDING, "OWNER-ingestor"),
    ("Ingestor", CLUSTER_ROLE, "adx-mon:NAMESPACE:ingestor:OWNER"),
    ("Ingestor", CLUSTER_ROLE_BINDING, "adx-mon:NAMESPACE:ingestor:OWNER"),
    ("Ingestor", "autoscaling/v2 HorizontalPodAutoscaler", "OWNER"),
    ("Ingestor", "apps/v1 StatefulSet", "OWNER"),
    ("Collector", "v1 ServiceAccount", "OWNER-collector"),
    ("Collector", "v1 ConfigMap", "OWNER-config"),
    ("Collector", CLUSTER_ROLE, "adx-mon:NAMESPACE:collector:OWNER"),
    ("Collector", CLUSTER_ROLE_BINDING, "adx-mon:NAMESPACE:collector:OWNER"),
    ("Collector", "apps/v1 DaemonSet", "OWNER"),
    ("Alerter", "v1 ServiceAccount", "OWNER-alerter"),
    ("Alerter", CLUSTER_ROLE, "adx-mon:NAMESPACE:alerter:OWNER"),
    ("Alerter", CLUSTER_ROLE_BINDING, "adx-mon:NAMESPACE:alerter:OWNER"),
    ("Alerter", "apps/v1 Deployment", "OWNER"),
    ("ADXCluster", "v1 ServiceAccount", "OWNER-agent"),
    ("ADXCluster", "v1 ConfigMap", "OWNER-agent"),
    ("ADXCluster", "v1 Service", "OWNER-agent"),
    ("ADXCluster", "policy/v1 PodDisruptionBudget", "OWNER-agent"),
    ("ADXCluster", ROLE, "OWNER-agent"),
    ("ADXCluster", ROLE_BINDING, "OWNER-agent"),
    ("ADXCluster", "apps/v1 Deployment", "OWNER-agent"),
];

const KINDS: [&str; 4] = ["Ingestor", "Collector", "Alerter", "ADXCluster"];

/// An object of somebody else's, and the one of ours that it is in the way of: each has an owner of its own, as the first conflict ends a reconcile.
struct Stranger {
    kind: &'static str,
    name: String,
    owner_kind: &'static str,
    owner: String,
}

impl Stranger {
    fn all(test: &TestNamespace) -> Vec<Self> {
        let strangers = NAMES.map(|(owner_kind, kind, name)| {
            let owner = format!("{}-{}", owner_kind, plain(kind)).to_lowercase();
            let name = name.replace("NAMESPACE", &test.name).replace("OWNER", &owner);
            Self { kind, name, owner_kind, owner }
        });
        strangers.into()
    }

    fn manifest(&self) -> String {
        let (version, kind) = self.kind.split_once(' ').expect("a version and a kind");
        let owner = &self.owner;
        let template = format!(
            "template: {{metadata: {{labels: {{theirs: {owner}}}}}, spec: {{nodeSelector: {{pool: theirs}}, containers: [{{name: theirs, image: 'x/theirs:1'}}]}}}}"
        );
        let selector = format!("selector: {{matchLabels: {{theirs: {owner}}}}}");
        let reference =
            |role: &str| format!("roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role}, name: theirs}}");
        let content = match kind {
            "ServiceAccount" => "imagePullSecrets: [{name: theirs}]".to_owned(),
            "ConfigMap" => "data: {mine: 'yes'}".to_owned(),
            "Service" => "spec: {ports: [{name: theirs, port: 7}]}".to_owned(),
            "RoleBinding" => reference("Role"),
            "ClusterRoleBinding" => reference("ClusterRole"),
            "PodDisruptionBudget" => format!("spec: {{maxUnavailable: 1, {selector}}}"),
            "HorizontalPodAutoscaler" => {
                "spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: theirs}, maxReplicas: 3}"
                    .to_owned()
            }
            "DaemonSet" => format!("spec: {{{selector}, {template}}}"),
            "StatefulSet" => format!("spec: {{replicas: 0, serviceName: theirs, {selector}, {template}}}"),
            "Deployment" => format!("spec: {{replicas: 0, {selector}, {template}}}"),
            _ => "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]".to_owned(),
        };
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: '{}'}}\n{content}\n", self.name)
    }

    /// What is to be made under its name, among other things.
    fn owners_manifest(&self) -> String {
        let Self { owner_kind, owner, .. } = self;
        let selector = "adxClusterSelector: {matchLabels: {app: adx-mon}}";
        let spec = match *owner_kind {
            "Ingestor" => format!("{selector}, autoscaling: {{maxReplicas: 2}}"),
            "Collector" => "ingestorEndpoint: 'https://i.example.com'".to_owned(),
            "Alerter" => format!("{selector}, notificationEndpoint: 'https://alerts.example.com'"),
            _ => format!(
                "clusterName: x, endpoint: 'https://{owner}.kusto.windows.net', federation: {{image: 'x/agent:1', federatedClusters: [{{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}}]}}"
            ),
        };
        format!("apiVersion: adx-mon.azure.com/v1\nkind: {owner_kind}\nmetadata: {{name: {owner}}}\nspec: {{{spec}}}\n")
    }

    /// How the operator calls it.
    fn told(&self) -> String {
        format!(
            "the {} '{}' exists and was not made by this operator: rename or delete it",
            plain(self.kind),
            self.name
        )
    }

    /// Whether an Event is its owner's, and tells of it.
    fn is_told_by(&self, event: &Value) -> bool {
        let about = &event["regarding"];
        (event["reason"] == "Conflict" && event["type"] == "Warning" && event["note"] == self.told())
            && (about["kind"] == self.owner_kind && about["name"] == self.owner.as_str())
    }

    /// Whether a controller of Kubernetes writes its status.
    fn has_a_controller(&self) -> bool {
        ["apps/", "autoscaling/", "policy/"].iter().any(|group| self.kind.starts_with(group))
    }

    /// The object now: as it is with its version, unless a controller of Kubernetes writes its status.
    async fn now(&self, test: &TestNamespace) -> Value {
        let mut object = test.get(self.kind, &self.name).await;
        if self.has_a_controller() {
            object["status"] = Value::Null;
            object["metadata"]["resourceVersion"] = Value::Null;
            if let Some(managers) = object["metadata"]["managedFields"].as_array_mut() {
                managers.retain(|entry| entry["subresource"].is_null());
            }
        }
        object
    }

    /// The object once its controller has looked at it: a Deployment's writes in the Deployment, before it tells so.
    async fn settled(&self, test: &TestNamespace) -> Value {
        if self.kind.starts_with("apps/") {
            let is_seen = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
            test.until(self.kind, &self.name, is_seen).await;
        }
        self.now(test).await
    }

    /// Waits until the owner tells of the conflict.
    async fn until_told(&self, test: &TestNamespace) {
        let told = test.until_condition(self.owner_kind, &self.owner, "Ready", "False", "Conflict").await;
        assert_eq!(message_of(&told, "Ready"), self.told(), "{told:#}");
    }

    /// The way out: the stranger's goes, and nothing else is done.
    async fn makes_room(&self, test: &TestNamespace) {
        let uid = test.get(self.kind, &self.name).await["metadata"]["uid"].clone();
        test.delete(self.kind, &self.name).await;
        let is_ours = |object: &Value| {
            let metadata = &object["metadata"];
            metadata["labels"]["app.kubernetes.io/managed-by"] == "adx-federation" && metadata["uid"] != uid
        };
        test.until(self.kind, &self.name, is_ours).await;
        // Nobody tells of passes here.
        let condition = if self.owner_kind == "ADXCluster" { "AgentReady" } else { "Ready" };
        test.until_condition(self.owner_kind, &self.owner, condition, "True", "Ready").await;
    }
}

/// A kind without its version.
fn plain(kind: &str) -> &str {
    kind.split_once(' ').map_or(kind, |(_, plain)| plain)
}

/// Waits until an Event tells of each.
async fn until_events(test: &TestNamespace, strangers: &[Stranger]) {
    let started = Instant::now();
    loop {
        let list = test.api("events.k8s.io/v1 Event").list(&ListParams::default()).await;
        let events: Vec<Value> =
            list.expect("the API server lists").items.into_iter().map(|event| event.data).collect();
        let untold: Vec<String> = strangers
            .iter()
            .filter(|stranger| !events.iter().any(|event| stranger.is_told_by(event)))
            .map(Stranger::told)
            .collect();
        if untold.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no Event tells that {untold:#?}, only {events:#?}");
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is made for an owner of each kind, as [`NAMES`] has it.
async fn made_for_one_of_each(test: &TestNamespace) -> BTreeSet<(String, String, String)> {
    let (children, mut made) = (children(test).await, BTreeSet::new());
    for owner_kind in KINDS {
        let owner = format!("{owner_kind}-ServiceAccount").to_lowercase();
        let is_its = |child: &Value| child["metadata"]["labels"]["app.kubernetes.io/instance"] == owner.as_str();
        for (kind, child) in children.iter().filter(|(_, child)| is_its(child)) {
            let name = child["metadata"]["name"].as_str().expect("a child has a name");
            let name = name.replace(&test.name, "NAMESPACE").replace(&owner, "OWNER");
            made.insert((owner_kind.to_owned(), (*kind).to_owned(), name));
        }
    }
    made
}

#[tokio::test]
async fn a_strangers_object_under_any_name_of_ours_is_told_of_and_makes_room_when_it_goes() {
    let test = TestNamespace::new("strangers").await;
    let strangers = Stranger::all(&test);
    let manifests = |of: fn(&Stranger) -> String| strangers.iter().map(of).collect::<Vec<_>>().join("---\n");
    test.apply(&manifests(Stranger::manifest)).await;
    let before = join_all(strangers.iter().map(|stranger| stranger.settled(&test))).await;
    let operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(&manifests(Stranger::owners_manifest)).await;
    join_all(strangers.iter().map(|stranger| stranger.until_told(&test))).await;
    until_events(&test, &strangers).await;
    // A second look is no other than the first.
    let seen = operator.metrics().await;
    until_looked_at(&operator, &KINDS, "conflict", &seen).await;
    let made: Vec<_> = children(&test).await.into_iter().map(|(_, child)| child["metadata"].clone()).collect();
    assert!(made.is_empty(), "nothing is half made: {made:#?}");
    for (stranger, before) in strangers.iter().zip(before) {
        assert_eq!(stranger.now(&test).await, before, "not even a label");
    }
    join_all(strangers.iter().map(|stranger| stranger.makes_room(&test))).await;
    let names = NAMES.map(|(owner, kind, name)| (owner.to_owned(), kind.to_owned(), name.to_owned()));
    assert_eq!(made_for_one_of_each(&test).await, names.into(), "what is made, and the names that were taken");
    drop(operator);
}
