//! A kubelet for one namespace: binds pods to a node, sets them running and ready, ends them when they are deleted. A pod of our agent's image is our real agent:
//! started as a child process with its document, under its own service account, and as ready as its probe says. I/O: the API server, processes, files.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use k8s_openapi::api::core::v1::{ConfigMap, EnvVar, Event, Node, ObjectFieldSelector, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time};
use uuid::Uuid;

use super::control_plane::{ControlPlane, token_of};
use crate::{loopback, process::Process};

/// The image that stands for our own.
pub const AGENT_IMAGE: &str = "stories/adx-federation:now";
const NODE: &str = "node-of-the-stories";
/// How an agent is told to listen for whoever asks its pod; the port follows.
const ADMIN: &str = "--admin=0.0.0.0:";

/// How long a probe may take: a process that waits for a processor is as ready as before.
const ANSWER: Duration = Duration::from_secs(15);

/// What a kubelet does with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLife {
    /// Runs and is ready at once.
    Ready,
    /// An image with `missing` in its name cannot be pulled.
    ImageMissing,
    /// With `unmounted`, a volume is not there: its containers are being made for good.
    Unmounted,
    /// With `unhealthy`, it runs and its probe fails.
    Unhealthy,
}

impl PodLife {
    fn of(image: &str) -> Self {
        let named = [("missing", Self::ImageMissing), ("unmounted", Self::Unmounted), ("unhealthy", Self::Unhealthy)];
        named.into_iter().find(|(name, _)| image.contains(name)).map_or(Self::Ready, |(_, life)| life)
    }

    /// Reason and message of the Event that a kubelet writes where the pod's status says less.
    const fn warning(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ready | Self::ImageMissing => None,
            Self::Unmounted => {
                Some(("FailedMount", "MountVolume.SetUp failed for volume \"certs\" : secret \"tls\" not found"))
            }
            Self::Unhealthy => Some(("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")),
        }
    }
}

/// Ends with its namespace's test.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
    agents: Arc<Mutex<HashMap<String, Agent>>>,
    surroundings: Surroundings,
    _folder: TempDir,
}

/// Variables that agents find beside those of their pods.
type Surroundings = Arc<Mutex<Vec<(&'static str, String)>>>;

/// A pod's process.
#[derive(Debug)]
struct Agent {
    process: Process,
    started: Instant,
    /// Where its pod's clients ask: the pod's address, and the port that it is told to listen on.
    place: Option<(String, u16)>,
    /// Where it answers.
    admin: Option<String>,
    /// Whether its pod says that it is ready.
    is_told_ready: bool,
    /// How often it was started again.
    restarts: u32,
    /// What those before it printed.
    earlier: String,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// Starts for a namespace.
    ///
    /// # Panics
    /// If no folder can be made.
    pub async fn start(plane: &'static ControlPlane, namespace: &str) -> Self {
        let client = plane.client().await;
        make_node(&client).await;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let agents = Arc::<Mutex<HashMap<String, Agent>>>::default();
        let surroundings = Surroundings::default();
        let world = World {
            plane,
            pods: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
            folder: folder.path().to_owned(),
            agents: Arc::clone(&agents),
            surroundings: Arc::clone(&surroundings),
        };
        Self { task: tokio::spawn(world.run()), agents, surroundings, _folder: folder }
    }

    /// Agents that are started from now on find these variables, too, as a webhook for identities or a node's proxy would have it.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn surround(&self, variables: Vec<(&'static str, String)>) {
        *self.surroundings.lock().expect("no holder of this lock panics") = variables;
    }

    /// What the agents' processes have printed, by pod.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn output(&self) -> String {
        let agents = self.agents.lock().expect("no holder of this lock panics");
        agents.iter().map(|(pod, agent)| format!("--- {pod}\n{}{}", agent.earlier, agent.process.output())).collect()
    }

    /// Where an agent answers that clients ask at its pod's address and a port; `None` if none is told to listen there.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn behind(&self, address: &str, port: u16) -> Option<String> {
        let agents = self.agents.lock().expect("no holder of this lock panics");
        let is_there = |agent: &&Agent| agent.place.as_ref().is_some_and(|(own, at)| own == address && *at == port);
        agents.values().find(is_there)?.admin.clone()
    }

    /// The agents' process ids, by pod.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let agents = self.agents.lock().expect("no holder of this lock panics");
        agents.iter().filter_map(|(pod, agent)| Some((pod.clone(), agent.process.pid()?))).collect()
    }
}

/// An address of a pod's own. The API server lets no endpoint have one of this machine's, so nobody answers there: see [`Kubelet::behind`].
fn address_of(pod: &Pod) -> String {
    let uid = Uuid::parse_str(&pod.uid().unwrap_or_default()).unwrap_or_default();
    let [first, second, third, ..] = uid.into_bytes();
    format!("172.{}.{second}.{third}", 16 + first % 16)
}

/// Where clients ask a pod's program.
fn place_of(pod: &Pod) -> Option<(String, u16)> {
    let container = pod.spec.as_ref()?.containers.first()?;
    let port = container.args.iter().flatten().find_map(|argument| argument.strip_prefix(ADMIN))?;
    Some((address_of(pod), port.parse().ok()?))
}

/// DaemonSets need one.
async fn make_node(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    let made = nodes.patch(NODE, &PatchParams::apply("tests").force(), &Patch::Apply(&node)).await;
    made.expect("the API server takes the node");
    // A new node is tainted until the controller that is not here finds it ready.
    let untainted = json!({"spec": {"taints": null}});
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&untainted)).await.expect("the API server takes the node");
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Story", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}]}});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("the API server takes its status");
}

/// What a container finds in a variable.
pub(super) fn value_of(variable: &EnvVar, pod: &Pod) -> String {
    let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    field.map_or_else(|| variable.value.clone().unwrap_or_default(), |field| text_of(pod, field))
}

/// What a field of a pod says.
pub(super) fn text_of(pod: &Pod, field: &ObjectFieldSelector) -> String {
    match field.field_path.as_str() {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        path => match path.strip_prefix("metadata.annotations['").and_then(|path| path.strip_suffix("']")) {
            Some(key) => pod.annotations().get(key).cloned().unwrap_or_default(),
            None => panic!("no pod of ours has asked for {path} yet"),
        },
    }
}

struct World {
    plane: &'static ControlPlane,
    client: Client,
    pods: Api<Pod>,
    namespace: String,
    folder: PathBuf,
    agents: Arc<Mutex<HashMap<String, Agent>>>,
    surroundings: Surroundings,
}

impl World {
    async fn run(self) {
        let mut changed =
            watcher(self.pods.clone(), watcher::Config::default()).default_backoff().touched_objects().boxed();
        let mut looks = 0_u32;
        loop {
            tokio::select! {
                pod = changed.try_next() => if let Ok(Some(pod)) = pod { self.look_at(&pod).await },
                () = time::sleep(Duration::from_millis(200)) => {
                    self.restart().await;
                    self.probe().await;
                    looks += 1;
                    // What the API server refused is tried again.
                    if looks.is_multiple_of(5) {
                        for pod in self.pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                            self.look_at(&pod).await;
                        }
                    }
                }
            }
        }
    }

    /// The pod may be gone, and another be there under its name, as a StatefulSet makes them: whatever is written is for the one that was seen.
    async fn look_at(&self, pod: &Pod) {
        let (name, uid) = (pod.name_any(), pod.uid());
        if pod.metadata.deletion_timestamp.is_some() {
            let agent = self.agents.lock().expect("no holder of this lock panics").remove(&name);
            if let Some(mut agent) = agent {
                agent.process.stop().await;
            }
            let preconditions = Some(Preconditions { uid, ..Preconditions::default() });
            let now = DeleteParams { preconditions, ..DeleteParams::default().grace_period(0) };
            let _ = self.pods.delete(&name, &now).await;
            return;
        }
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": uid}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
            let bound: Result<Value, _> =
                self.pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
            drop(bound);
            return;
        }
        let is_new = pod.status.as_ref().is_none_or(|status| status.container_statuses.is_none());
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
        let image = container.image.clone().unwrap_or_default();
        if !is_new {
            return;
        }
        if image == AGENT_IMAGE {
            // It may have been started for what was seen of the pod before.
            let is_started = self.agents.lock().expect("no holder of this lock panics").contains_key(&name);
            if !is_started {
                let Some(process) = self.start_agent(pod).await else { return };
                let agent = Agent {
                    process,
                    started: Instant::now(),
                    place: place_of(pod),
                    admin: None,
                    is_told_ready: false,
                    restarts: 0,
                    earlier: String::new(),
                };
                self.agents.lock().expect("no holder of this lock panics").insert(name, agent);
            }
            self.tell(pod, &container.name, &image, PodLife::Ready, false).await;
        } else {
            let life = PodLife::of(&image);
            // What is told of a pod is looked at when its status changes.
            if let Some((reason, message)) = life.warning()
                && !self.warn(pod, reason, message).await
            {
                return;
            }
            self.tell(pod, &container.name, &image, life, life == PodLife::Ready).await;
        }
    }

    /// Writes an Event about a pod, if the API server takes it.
    async fn warn(&self, pod: &Pod, reason: &str, message: &str) -> bool {
        let name = format!("{}.{}", pod.name_any(), reason.to_lowercase());
        let about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": self.namespace, "name": pod.name_any(), "uid": pod.uid()});
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": about,
            "type": "Warning", "reason": reason, "message": message, "source": {"component": "kubelet"}, "count": 1,
        });
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        events.patch(&name, &PatchParams::apply("kubelet").force(), &Patch::Apply(&event)).await.is_ok()
    }

    async fn tell(&self, pod: &Pod, container: &str, image: &str, life: PodLife, is_ready: bool) {
        let ready = if is_ready { "True" } else { "False" };
        let state = match life {
            PodLife::Ready | PodLife::Unhealthy => json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            PodLife::Unmounted => json!({"waiting": {"reason": "ContainerCreating"}}),
            PodLife::ImageMissing => {
                json!({"waiting": {"reason": "ImagePullBackOff", "message": format!("Back-off pulling image \"{image}\"")}})
            }
        };
        let runs = matches!(life, PodLife::Ready | PodLife::Unhealthy);
        let phase = if runs { "Running" } else { "Pending" };
        let restarts = {
            let agents = self.agents.lock().expect("no holder of this lock panics");
            agents.get(&pod.name_any()).map_or(0, |agent| agent.restarts)
        };
        let address = address_of(pod);
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": null});
        let status = json!({"metadata": {"uid": pod.uid()}, "status": {
            "phase": phase,
            "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [condition("PodScheduled", "True"), condition("Initialized", "True"), condition("ContainersReady", ready), condition("Ready", ready)],
            "containerStatuses": [{
                "name": container, "image": image, "imageID": image, "ready": is_ready, "restartCount": restarts,
                "started": runs, "state": state,
            }],
        }});
        let name = pod.name_any();
        let told = self.pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
        if told.is_ok()
            && let Some(agent) = self.agents.lock().expect("no holder of this lock panics").get_mut(&name)
        {
            agent.is_told_ready = is_ready;
        }
    }

    /// Starts the program that the pod names, with its ConfigMaps as files, unless the API server gives not all that it needs.
    async fn start_agent(&self, pod: &Pod) -> Option<Process> {
        let name = pod.name_any();
        let spec = pod.spec.clone().unwrap_or_default();
        let container = spec.containers.first().cloned().unwrap_or_default();
        let folder = self.folder.join(&name);
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let mut arguments = container.args.clone().unwrap_or_default();
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        for volume in spec.volumes.iter().flatten() {
            let Some(map) = volume.config_map.as_ref().map(|source| source.name.clone()) else { continue };
            let map = maps.get(&map).await.ok()?;
            for (file, text) in map.data.iter().flatten() {
                std::fs::write(folder.join(file), text).expect("the temporary folder can be written");
            }
            let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == volume.name);
            let path = mount.map(|mount| mount.mount_path.clone()).unwrap_or_default();
            for argument in &mut arguments {
                *argument = argument.replace(&path, &folder.display().to_string());
            }
        }
        // Pods have addresses of their own; these processes share one.
        for argument in arguments.iter_mut().filter(|argument| argument.starts_with(ADMIN)) {
            "--admin=127.0.0.1:0".clone_into(argument);
        }
        let kubeconfig = folder.join("kubeconfig");
        let account = spec.service_account_name.clone().unwrap_or_default();
        let token = token_of(self.client.clone(), &self.namespace, &account).await.ok()?;
        let config = serde_json::to_string(&self.plane.kubeconfig_with(&token)).expect("a kubeconfig is JSON");
        std::fs::write(&kubeconfig, config).expect("the temporary folder can be written");
        let program = container.command.iter().flatten().next().cloned().unwrap_or_default();
        let variables = container.env.as_deref().unwrap_or_default();
        let mut environment: Vec<_> =
            variables.iter().map(|variable| (variable.name.as_str(), value_of(variable, pod))).collect();
        environment.push(("KUBECONFIG", kubeconfig.display().to_string()));
        environment.extend(self.surroundings.lock().expect("no holder of this lock panics").iter().cloned());
        Some(Process::start_with_environment(program.trim_start_matches('/'), &arguments, &environment))
    }

    /// A program that has ended is started again, as often as once a second.
    async fn restart(&self) {
        let ended: Vec<String> = {
            let mut agents = self.agents.lock().expect("no holder of this lock panics");
            let rested = agents.iter_mut().filter(|(_, agent)| agent.started.elapsed() > Duration::from_secs(1));
            rested.filter_map(|(pod, agent)| agent.process.ended().map(|_| pod.clone())).collect()
        };
        for name in ended {
            let Ok(Some(pod)) = self.pods.get_opt(&name).await else { continue };
            if pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let Some(process) = self.start_agent(&pod).await else { continue };
            let mut before = {
                let mut agents = self.agents.lock().expect("no holder of this lock panics");
                let Some(agent) = agents.get_mut(&name) else { continue };
                let before = std::mem::replace(&mut agent.process, process);
                (agent.started, agent.admin, agent.restarts) = (Instant::now(), None, agent.restarts + 1);
                before
            };
            // All of its last lines.
            before.exited_within(Duration::from_secs(5)).await;
            if let Some(agent) = self.agents.lock().expect("no holder of this lock panics").get_mut(&name) {
                agent.earlier.push_str(&before.output());
            }
            self.tell(&pod, "agent", AGENT_IMAGE, PodLife::Ready, false).await;
        }
    }

    /// Readiness of the agents, by their own probes.
    async fn probe(&self) {
        let agents: Vec<(String, Option<String>, bool)> = {
            let mut agents = self.agents.lock().expect("no holder of this lock panics");
            for agent in agents.values_mut().filter(|agent| agent.admin.is_none()) {
                agent.admin = loopback::admin_url(&agent.process);
            }
            agents.iter().map(|(pod, agent)| (pod.clone(), agent.admin.clone(), agent.is_told_ready)).collect()
        };
        // Side by side: one that hangs must not keep the other pods waiting.
        let known = agents.into_iter().filter_map(|(pod, admin, told)| Some((pod, admin?, told)));
        let asked = known.map(|(pod, admin, told)| async move {
            let asked = time::timeout(ANSWER, loopback::get(&format!("{admin}/readyz"))).await;
            (pod, told, asked.is_ok_and(|answer| answer.is_ok_and(|(status, _)| status == 200)))
        });
        for (pod, told, ready) in join_all(asked).await {
            if ready != told
                && let Ok(Some(pod)) = self.pods.get_opt(&pod).await
            {
                self.tell(&pod, "agent", AGENT_IMAGE, PodLife::Ready, ready).await;
            }
        }
    }
}
