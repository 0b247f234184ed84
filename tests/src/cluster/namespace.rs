//! One test's part of the cluster: a namespace with a kubelet and an operator that watches it alone, under the operator's own rights. I/O: the API server, a process.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams},
    core::Status,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time;

use super::{
    control_plane::ControlPlane,
    kubelet::{AGENT_IMAGE, Kubelet},
    objects::{apply_yaml, objects_of},
    told::StoryTold,
};
use crate::{
    docs, loopback,
    process::Process,
    witness::{self, Looks},
};

/// How long anything may take to come true, on a machine that is slow and at times busy for seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long at most between two looks at an object.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Every kind that the operator makes.
pub const KINDS: [&str; 12] = [
    "v1 ServiceAccount",
    "v1 ConfigMap",
    "v1 Service",
    "rbac.authorization.k8s.io/v1 Role",
    "rbac.authorization.k8s.io/v1 RoleBinding",
    "rbac.authorization.k8s.io/v1 ClusterRole",
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
    "policy/v1 PodDisruptionBudget",
    "autoscaling/v2 HorizontalPodAutoscaler",
    "apps/v1 Deployment",
    "apps/v1 StatefulSet",
    "apps/v1 DaemonSet",
];

/// A namespace of a test's own.
#[derive(Debug)]
pub struct TestNamespace {
    /// Its name.
    pub name: String,
    /// The control plane.
    pub plane: &'static ControlPlane,
    /// Its kubelet.
    pub kubelet: Kubelet,
    client: Shown<Client>,
    folder: TempDir,
    /// The last part to end.
    _told: StoryTold,
}

/// A client, for structs that can be printed.
#[derive(Clone)]
struct Shown<T>(T);

impl<T> std::fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// How an operator is started.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// More arguments.
    pub arguments: Vec<String>,
    /// The API server's address instead of the real one: a proxy.
    pub server: Option<String>,
    /// Arguments that stories give and this operator is not given.
    pub without: Vec<&'static str>,
    /// Its environment, beside where the API server is.
    pub environment: Vec<(&'static str, String)>,
    /// The path of another program than the operator of this build.
    pub program: Option<String>,
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    /// The process.
    pub process: Process,
}

impl Operator {
    /// The address of its admin port, once it has printed it.
    ///
    /// # Panics
    /// If it does not.
    async fn admin(&self) -> String {
        let started = Instant::now();
        loop {
            if let Some(url) = loopback::admin_url(&self.process) {
                return url;
            }
            assert!(started.elapsed() < PATIENCE, "no admin address in:\n{}", self.process.output());
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it leads and its watches are synced.
    ///
    /// # Panics
    /// If it does not get there.
    pub async fn until_leading(&self) {
        let started = Instant::now();
        loop {
            let (status, reason) = self.ask("/readyz").await;
            if status == 200 && reason.starts_with("leading") {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "not leading: {reason}\n{}", self.process.output());
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its admin port answers at a path: status and text.
    ///
    /// # Panics
    /// If the admin port does not answer.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.admin().await);
        loopback::get(&url).await.expect("the admin port answers")
    }

    /// Its metrics.
    ///
    /// # Panics
    /// If the admin port does not answer.
    pub async fn metrics(&self) -> String {
        self.ask("/metrics").await.1
    }
}

impl TestNamespace {
    /// A new namespace; `name` begins its name.
    ///
    /// # Panics
    /// If the API server refuses it.
    pub async fn new(name: &str) -> Self {
        Self::on(ControlPlane::shared().await, name).await
    }

    /// The same on a control plane that is not everybody's.
    ///
    /// # Panics
    /// If the API server refuses it.
    pub async fn on(plane: &'static ControlPlane, name: &str) -> Self {
        let client = plane.client().await;
        let name = format!("{name}-{:06x}", rand_suffix());
        let namespaces: Api<Namespace> = Api::all(client);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.expect("the API server takes the namespace");
        let test = Self::of_others(plane, &name).await;
        test.install_rbac().await;
        test
    }

    /// A namespace that somebody else makes, and the operator's service account in it.
    ///
    /// # Panics
    /// If the API server does not answer.
    pub async fn of_others(plane: &'static ControlPlane, name: &str) -> Self {
        let kubelet = Kubelet::start(plane, name).await;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (client, told) = (Shown(plane.client().await), StoryTold::new(plane, name));
        Self { name: name.to_owned(), plane, kubelet, client, folder, _told: told }
    }

    /// The operator's service account in this namespace, with exactly the rights that `deploy/kustomize` grants.
    async fn install_rbac(&self) {
        let text = docs::read("deploy/kustomize/rbac.yaml");
        // Namespaces of stories live side by side, so the cluster-scoped binding is named after the namespace.
        let text = text.replace("namespace: adx-federation", &format!("namespace: {}", self.name)).replace(
            "kind: ClusterRoleBinding\nmetadata:\n  name: adx-federation-operator",
            &format!("kind: ClusterRoleBinding\nmetadata:\n  name: adx-federation-operator-{}", self.name),
        );
        self.apply(&text).await;
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.0.clone()
    }

    /// Objects of a kind here.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        objects_of(&self.client.0, &self.name, kind)
    }

    /// Applies YAML that the API server must take.
    ///
    /// # Panics
    /// If it does not.
    pub async fn apply(&self, text: &str) -> Vec<DynamicObject> {
        apply_yaml(&self.client.0, &self.name, text).await.unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Applies YAML that the API server must refuse: its message.
    ///
    /// # Panics
    /// If it does not refuse.
    pub async fn refused(&self, text: &str) -> String {
        match apply_yaml(&self.client.0, &self.name, text).await {
            Ok(_) => panic!("the API server took\n{text}"),
            Err(error) => error.to_string(),
        }
    }

    /// A new object of ours as the API server would store it; nothing is stored. A field that it does not know is refused.
    ///
    /// # Errors
    /// What the API server refuses.
    ///
    /// # Panics
    /// If the value names no kind, or the API server does not answer.
    pub async fn rehearse(&self, object: &Value) -> Result<Value, Box<Status>> {
        let kind = object["kind"].as_str().expect("an object names its kind");
        // `PostParams` cannot say how fields are validated.
        let url = format!("{}?dryRun=All&fieldValidation=Strict", self.api(kind).resource_url());
        let request = http::Request::post(url).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).expect("a URL makes a request");
        match self.client().request(request).await {
            Ok(made) => Ok(made),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic!("the API server does not answer: {error}"),
        }
    }

    /// Starts an operator for this namespace.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn operator(&self) -> Operator {
        let operator = self.operator_with(&OperatorOptions::default()).await;
        operator.until_leading().await;
        operator
    }

    /// The same, otherwise; does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn operator_with(&self, options: &OperatorOptions) -> Operator {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.0.clone(), &self.name);
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let token = accounts.create_token_request("adx-federation-operator", &PostParams::default(), &request).await;
        let token = token.expect("the API server gives a token").status.expect("with a status").token;
        let mut kubeconfig = serde_json::to_value(self.plane.kubeconfig_with(&token)).expect("a kubeconfig is JSON");
        if let Some(server) = &options.server {
            kubeconfig["clusters"][0]["cluster"]["server"] = server.clone().into();
        }
        let file = self.folder.path().join(format!("operator-{:06x}.yaml", rand_suffix()));
        std::fs::write(&file, kubeconfig.to_string()).expect("the temporary folder can be written");
        let mut arguments = vec![
            "run".to_owned(),
            format!("--namespace={}", self.name),
            format!("--lease-namespace={}", self.name),
            format!("--agent-image={AGENT_IMAGE}"),
            // The Kusto servers of stories are on this machine.
            "--allow-loopback".to_owned(),
            "--admin=127.0.0.1:0".to_owned(),
            "--azure-credential=none".to_owned(),
        ];
        // A test's own arguments take the place of these.
        let name = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
        arguments.retain(|argument| !options.arguments.iter().any(|own| name(own) == name(argument)));
        arguments.retain(|argument| !options.without.contains(&name(argument).as_str()));
        arguments.extend(options.arguments.iter().cloned());
        let mut environment = options.environment.clone();
        environment.push(("KUBECONFIG", file.display().to_string()));
        let program = options.program.as_deref().unwrap_or("operator");
        Operator { process: Process::start_with_environment(program, &arguments, &environment) }
    }

    /// Waits until an object fits, and gives it.
    ///
    /// # Panics
    /// With the object as it is, if it does not get there.
    pub async fn until(&self, kind: &str, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let (api, started) = (self.api(kind), Instant::now());
        // What takes long is asked for less often: each look takes time from what it waits for.
        let (mut pause, mut looks) = (Duration::from_millis(25), Looks::default());
        loop {
            let object = api.get_opt(name).await.expect("the API server answers");
            let value = object.map_or(Value::Null, |object| serde_json::to_value(object).expect("an object is JSON"));
            looks.keep(&value);
            if fits(&value) {
                return value;
            }
            assert!(started.elapsed() < PATIENCE, "{kind} {name} is still\n{value:#}\n{}", self.kubelet.output());
            time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until a condition of an object has this status and reason.
    ///
    /// # Panics
    /// If it does not get there.
    pub async fn until_condition(&self, kind: &str, name: &str, condition: &str, status: &str, reason: &str) -> Value {
        let fits = |object: &Value| {
            condition_of(object, condition).is_some_and(|found| found["status"] == status && found["reason"] == reason)
        };
        self.until(kind, name, fits).await
    }

    /// The object now.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        let object = self.api(kind).get(name).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        let value = serde_json::to_value(object).expect("an object is JSON");
        witness::keep(&value.to_string());
        value
    }

    /// Names of the objects of a kind that carry our mark.
    ///
    /// # Panics
    /// If they cannot be listed.
    pub async fn ours(&self, kind: &str) -> Vec<String> {
        let marked = ListParams::default().labels("app.kubernetes.io/managed-by=adx-federation");
        let list = self.api(kind).list(&marked).await.expect("the API server lists");
        let mut names: Vec<String> = list.items.into_iter().filter_map(|object| object.metadata.name).collect();
        names.sort();
        names
    }

    /// Everything that carries our mark, with its kind.
    ///
    /// # Panics
    /// If the API server does not answer.
    pub async fn children(&self) -> Vec<(&'static str, Value)> {
        let mut children = Vec::new();
        for kind in KINDS {
            for name in self.ours(kind).await {
                // Cluster-scoped objects of other stories come and go.
                if name.starts_with("adx-mon:") && !name.contains(&format!(":{}:", self.name)) {
                    continue;
                }
                let Some(child) = self.api(kind).get_opt(&name).await.expect("the API server answers") else {
                    continue;
                };
                let child = serde_json::to_value(child).expect("an object is JSON");
                witness::keep(&child.to_string());
                children.push((kind, child));
            }
        }
        children
    }

    /// Deletes an object.
    ///
    /// # Panics
    /// If the API server refuses.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.expect("the API server deletes");
    }

    /// Notes of the Events here, with their reasons. The witness has them without this.
    ///
    /// # Panics
    /// If they cannot be listed.
    pub async fn events(&self) -> Vec<(String, String)> {
        let list = self.api("events.k8s.io/v1 Event").list(&ListParams::default()).await.expect("the API server lists");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.items.into_iter().map(|event| (text(&event.data["reason"]), text(&event.data["note"]))).collect()
    }
}

/// A condition of an object.
pub fn condition_of<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

/// What a condition of an object says; empty where it has none.
pub fn message_of<'a>(object: &'a Value, name: &str) -> &'a str {
    condition_of(object, name).and_then(|found| found["message"].as_str()).unwrap_or_default()
}

/// Whether the operator has looked at the present spec.
pub fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn rand_suffix() -> u32 {
    uuid::Uuid::new_v4().as_fields().0 & 0x00ff_ffff
}
