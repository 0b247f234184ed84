//! Our programs as a kubelet starts them: in nothing but what the image holds, as the pod's user, with its arguments and environment, and with what it mounts.
//! I/O: root's rights (chroot), files, processes, the API server.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

use http::Uri;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, PodSpec, ServiceAccount, Volume},
};
use kube::{Api, ResourceExt as _, api::PostParams};
use tempfile::TempDir;

use super::{
    kubelet::{text_of, value_of},
    namespace::TestNamespace,
};
use crate::{
    docs::root,
    process::{Process, binary},
    witness,
};

/// What the image holds beside what belongs to it.
const PROGRAMS: [&str; 3] = ["operator", "agent-hub", "agent-partition"];

/// What every container has in its environment, and what the image adds.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/"),
    ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
];

/// The image's root, as `deploy/images` lays it out, with the programs that cargo built.
#[derive(Debug)]
pub struct ImageRoot {
    folder: TempDir,
}

impl ImageRoot {
    /// Lays it out; where nothing can be run in it that is said, and in CI it is a failure.
    ///
    /// # Panics
    /// If it cannot be laid out; in CI, if nothing can be run in it.
    pub fn lay_out() -> Option<Self> {
        let can_run = Command::new("chroot").args(["--userspec=65532:65532", "/", "true"]).output();
        if !can_run.is_ok_and(|output| output.status.success()) {
            assert!(env::var_os("CI").is_none(), "running programs in the image's root needs root (chroot)");
            println!("skipped: running programs in the image's root needs root (chroot)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).expect("the temporary folder can be written");
        for name in PROGRAMS {
            // Without debug information, which is most of a program.
            succeed(Command::new("strip").arg("-o").arg(programs.join(name)).arg(binary(name)));
        }
        let script = root().join("deploy/images/root");
        succeed(Command::new(script).arg(&programs).arg(folder.path().join("root")));
        Some(Self { folder })
    }

    /// Runs the first container of a pod of ours; the process is the pod's.
    ///
    /// # Panics
    /// If the pod asks for something that no pod of ours has asked for yet.
    pub async fn run(&self, test: &TestNamespace, pod: &Pod) -> Process {
        let spec = pod.spec.as_ref().expect("a pod has a spec");
        let container = spec.containers.first().expect("a pod has a container");
        let (user, group) = user_of(spec);
        let own = self.folder.path().join(pod.name_any());
        // Links to the same files, which nobody writes to.
        succeed(Command::new("cp").arg("-al").arg(self.folder.path().join("root")).arg(&own));
        // A pod's root is read-only.
        fs::set_permissions(own.join("tmp"), Permissions::from_mode(0o555)).expect("the temporary folder is ours");
        for mount in container.volume_mounts.iter().flatten() {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let folder = own.join(mount.mount_path.trim_start_matches('/'));
            fs::create_dir_all(&folder).expect("the temporary folder can be written");
            fill(test, pod, volume.expect("what is mounted is a volume"), &folder, user).await;
        }
        let mut environment: BTreeMap<&str, String> =
            ENVIRONMENT.map(|(name, value)| (name, value.to_owned())).into_iter().collect();
        let server: Uri = test.plane.url().parse().expect("the API server has an address");
        environment.insert("KUBERNETES_SERVICE_HOST", server.host().expect("with a host").to_owned());
        environment.insert("KUBERNETES_SERVICE_PORT", server.port_u16().unwrap_or(443).to_string());
        for variable in container.env.iter().flatten() {
            environment.insert(&variable.name, value_of(variable, pod));
        }
        let arguments = container.args.iter().flatten();
        // Pods have addresses of their own; these processes share one.
        let arguments = arguments.map(|argument| argument.replace("--admin=0.0.0.0:9090", "--admin=127.0.0.1:0"));
        let mut command = tokio::process::Command::new("chroot");
        command.arg(format!("--userspec={user}:{group}")).arg(&own);
        command.args(container.command.iter().flatten()).args(arguments).env_clear().envs(environment);
        Process::start_command(&pod.name_any(), command)
    }
}

/// Runs a command that must succeed.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Who a pod runs as.
fn user_of(spec: &PodSpec) -> (u32, u32) {
    let context = spec.security_context.as_ref().expect("a pod of ours says who it runs as");
    let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok()).expect("a pod of ours says who it runs as");
    (id(context.run_as_user), id(context.run_as_group))
}

/// Puts what a volume holds into the folder where it is mounted.
async fn fill(test: &TestNamespace, pod: &Pod, volume: &Volume, folder: &Path, user: u32) {
    let write = |file: &str, text: &str| fs::write(folder.join(file), text).expect("the temporary folder is ours");
    if let Some(map) = &volume.config_map {
        for (file, text) in data_of(test, &map.name).await {
            write(&file, &text);
        }
    }
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for source in sources {
        if let Some(map) = &source.config_map {
            let data = data_of(test, &map.name).await;
            for item in map.items.iter().flatten() {
                write(&item.path, &data[&item.key]);
            }
        }
        for item in source.downward_api.iter().flat_map(|fields| fields.items.iter().flatten()) {
            write(&item.path, &text_of(pod, item.field_ref.as_ref().expect("it is a field")));
        }
        if let Some(token) = &source.service_account_token {
            write(&token.path, &token_of(test, pod, token.expiration_seconds).await);
            // The user's alone, as a kubelet has it where all containers run as one.
            let path = folder.join(&token.path);
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file was just written");
            chown(&path, Some(user), None).expect("root gives files away");
        }
    }
}

/// The controllers put the API server's certificate into each namespace, a while after that is made.
async fn data_of(test: &TestNamespace, name: &str) -> BTreeMap<String, String> {
    test.until("v1 ConfigMap", name, |map| !map.is_null()).await;
    let maps: Api<ConfigMap> = Api::namespaced(test.client(), &test.name);
    maps.get(name).await.expect("it was just there").data.unwrap_or_default()
}

/// A token that ends with the pod.
async fn token_of(test: &TestNamespace, pod: &Pod, expiration_seconds: Option<i64>) -> String {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(test.client(), &test.name);
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec { bound_object_ref: Some(bound), expiration_seconds, ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = accounts.create_token_request(&account, &PostParams::default(), &request).await;
    let token = made.expect("the API server gives a token").status.expect("with a status").token;
    witness::secret(&token);
    token
}
