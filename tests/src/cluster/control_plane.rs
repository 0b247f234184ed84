//! The control plane: started once for a test program, with a CA of its own. `KUBEBUILDER_ASSETS` names a folder with the three binaries instead of ours;
//! `USE_EXISTING_CLUSTER=true` with `KUBECONFIG` names a running throw-away cluster without nodes. I/O: processes, files.

use std::{
    collections::BTreeSet,
    env, fs,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::Value;
use shared::runtime::PARENT_PIPE;
use tokio::{sync::OnceCell, time};

use super::{
    built::built,
    objects::documents,
    rights::{AUDIT_POLICY, Asked, asked_in, rights_used},
    told::Listener,
};
use crate::{process::binary, witness};

/// How long each part may take to get ready.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: Kubeconfig,
    /// Certificates, data and logs, and what runs in it; both go when this program does.
    folder: Option<(PathBuf, Mutex<Vec<Supervised>>)>,
    /// Where there is a witness.
    listener: Option<Listener>,
}

impl ControlPlane {
    /// The control plane of this test program, with the CRDs installed.
    ///
    /// # Panics
    /// If it cannot be started; with the reason.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        static READY: OnceCell<()> = OnceCell::const_new();
        READY
            .get_or_init(|| async {
                let existing = env::var("USE_EXISTING_CLUSTER").is_ok_and(|value| value == "true");
                let plane = if existing { Self::existing() } else { Self::start().await };
                plane.install_crds().await;
                let plane = SHARED.get_or_init(|| plane);
                // Garbage collection of our kinds works at once only if they are there before the controllers.
                if !existing {
                    plane.start_controllers().await;
                }
            })
            .await;
        SHARED.get().expect("it was just set")
    }

    /// Another control plane: just an API server that has never known the CRDs, for one story. It ends with this test program.
    ///
    /// # Panics
    /// If it cannot be started; with the reason.
    pub async fn without_definitions() -> &'static Self {
        Box::leak(Box::new(Self::start().await))
    }

    /// Another control plane, with the CRDs of another build, which has never known others. It ends with this program.
    ///
    /// # Panics
    /// If it cannot be started; with the reason.
    pub async fn with_definitions(definitions: &str) -> &'static Self {
        let plane = Self::without_definitions().await;
        plane.install(definitions).await;
        plane.start_controllers().await;
        plane
    }

    /// Whether one can be started here besides the one that all stories share; where it cannot, that is said.
    pub fn can_start() -> bool {
        let can = own_binary().is_some() || env::var_os("KUBEBUILDER_ASSETS").is_some();
        if !can {
            println!("skipped: there are no programs to start another control plane with");
        }
        can
    }

    /// The program that `make control-plane` builds, if it is there.
    pub fn own_binary() -> Option<PathBuf> {
        own_binary()
    }

    /// Whether none can be started: neither ours nor another is there.
    pub fn is_missing() -> bool {
        let others = ["KUBEBUILDER_ASSETS", "USE_EXISTING_CLUSTER"];
        own_binary().is_none() && others.iter().all(|name| env::var_os(name).is_none())
    }

    fn existing() -> Self {
        let path = env::var_os("KUBECONFIG").expect("USE_EXISTING_CLUSTER=true needs KUBECONFIG");
        let kubeconfig = Kubeconfig::read_from(Path::new(&path)).expect("KUBECONFIG can be read");
        Self { listener: Listener::start(&kubeconfig), kubeconfig, folder: None }
    }

    async fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("adx-federation-cluster-").tempdir().expect("a folder can be made");
        // A static is never dropped: those who run in the folder remove it.
        let folder = folder.keep();
        let pki = Pki::write(&folder);
        let [client, peer, secure] = free_ports();
        let etcd_url = format!("http://127.0.0.1:{client}");
        let mut children = vec![spawn(
            &folder,
            "etcd",
            &[
                format!("--data-dir={}", folder.join("etcd").display()),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        )];
        let token = uuid::Uuid::new_v4().to_string();
        fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,system:masters\n"))
            .expect("the folder can be written");
        fs::write(folder.join("audit.json"), AUDIT_POLICY).expect("the folder can be written");
        let file = |name: &str| folder.join(name).display().to_string();
        children.push(spawn(
            &folder,
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={secure}"),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--cert-dir={}", file("apiserver")),
                format!("--tls-cert-file={}", file("server.pem")),
                format!("--tls-private-key-file={}", file("server.key")),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", file("accounts.pub")),
                format!("--service-account-signing-key-file={}", file("accounts.key")),
                format!("--token-auth-file={}", file("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                // As in OpenShift: whoever sets an owner is asked for rights over both, so that every story needs those that `deploy/kustomize` grants for it.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
                "--allow-privileged=true".to_owned(),
                "--profiling=false".to_owned(),
                format!("--audit-policy-file={}", file("audit.json")),
                format!("--audit-log-path={}", file("audit.log")),
                // In megabytes: one file, whatever there is to note.
                "--audit-log-maxsize=100000".to_owned(),
            ],
        ));
        let url = format!("https://127.0.0.1:{secure}");
        let kubeconfig = kubeconfig(&url, &pki.authority, &token);
        let mut plane = Self { kubeconfig, folder: Some((folder, Mutex::new(children))), listener: None };
        plane.until_ready("/readyz").await;
        plane.listener = Listener::start(&plane.kubeconfig);
        plane
    }

    async fn start_controllers(&self) {
        let Some((folder, children)) = &self.folder else { return };
        // They look for kinds to collect as they start, and only now and then after that.
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await);
        let there = definitions.list_metadata(&ListParams::default()).await.expect("the API server lists the CRDs");
        let ours = there.iter().filter(|definition| definition.name_any().ends_with(".adx-mon.azure.com"));
        assert_eq!(ours.count(), 4, "the CRDs come before the controllers");
        let file = |name: &str| folder.join(name).display().to_string();
        self.write_kubeconfig(&folder.join("admin.yaml"));
        let [secure, _, _] = free_ports();
        let child = spawn(
            folder,
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", file("admin.yaml")),
                "--authentication-skip-lookup=true".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={secure}"),
                format!("--cert-dir={}", file("controllers")),
                format!("--service-account-private-key-file={}", file("accounts.key")),
                format!("--root-ca-file={}", file("ca.pem")),
                "--leader-elect=false".to_owned(),
                "--use-service-account-credentials=false".to_owned(),
                "--allocate-node-cidrs=false".to_owned(),
                // All stories at once are its one cluster: 20 requests a second, as it comes, are for one.
                "--kube-api-qps=1000".to_owned(),
                "--kube-api-burst=2000".to_owned(),
                // The node of the stories has no heartbeat.
                "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller".to_owned(),
            ],
        );
        children.lock().expect("no holder of this lock panics").push(child);
        self.until_service_accounts_are_made().await;
    }

    /// The controller manager is at work when it has given the namespace `default` its service account.
    async fn until_service_accounts_are_made(&self) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, "default");
        let started = Instant::now();
        while accounts.get_opt("default").await.ok().flatten().is_none() {
            assert!(
                started.elapsed() < PATIENCE,
                "the controllers do nothing:\n{}",
                self.log("kube-controller-manager")
            );
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_ready(&self, path: &str) {
        let started = Instant::now();
        let client = self.client().await;
        loop {
            let request = http::Request::get(path).body(Vec::new()).expect("a path makes a request");
            match client.request_text(request).await {
                Ok(_) => return,
                Err(error) => assert!(
                    started.elapsed() < PATIENCE,
                    "the API server is not ready: {error}\n{}\n{}",
                    self.log("etcd"),
                    self.log("kube-apiserver")
                ),
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Installs the CRDs that the operator prints, and waits until all are served.
    ///
    /// # Panics
    /// If the API server refuses one, or does not come to serve it.
    pub async fn install_crds(&self) {
        self.install(&definitions_of(&binary("operator"))).await;
    }

    async fn install(&self, definitions: &str) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client().await);
        for definition in documents(definitions) {
            let name = definition["metadata"]["name"].as_str().expect("a CRD has a name").to_owned();
            // In the name of whom README.md has apply them, who can then change them without a conflict.
            let patch = PatchParams::apply("kubectl").force();
            api.patch(&name, &patch, &Patch::Apply(&definition)).await.expect("the API server takes the CRD");
            let started = Instant::now();
            while !self.serves(&definition).await {
                assert!(started.elapsed() < PATIENCE, "{name} is not served");
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn serves(&self, definition: &Value) -> bool {
        let spec = &definition["spec"];
        let (group, plural) =
            (spec["group"].as_str().unwrap_or_default(), spec["names"]["plural"].as_str().unwrap_or_default());
        let version = spec["versions"][0]["name"].as_str().unwrap_or_default();
        let resource = kube::api::ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: spec["names"]["kind"].as_str().unwrap_or_default().to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<kube::api::DynamicObject> = Api::all_with(self.client().await, &resource);
        api.list(&ListParams::default().limit(1)).await.is_ok()
    }

    /// A client with all rights. Each test has its own: a connection lives in the runtime that made it.
    ///
    /// # Panics
    /// If the configuration is wrong.
    pub async fn client(&self) -> Client {
        client_of(&self.kubeconfig).await
    }

    /// A client with a service account's rights alone.
    ///
    /// # Panics
    /// If there is no such account.
    pub async fn client_of_account(&self, namespace: &str, account: &str) -> Client {
        let token = token_of(self.client().await, namespace, account).await.expect("the API server gives a token");
        client_of(&self.kubeconfig_with(&token)).await
    }

    /// The kubeconfig of somebody with a token.
    ///
    /// # Panics
    /// If the control plane's own configuration lacks its cluster.
    pub fn kubeconfig_with(&self, token: &str) -> Kubeconfig {
        let cluster = self.kubeconfig.clusters[0].cluster.clone().expect("the cluster is configured");
        let authority = cluster.certificate_authority_data.unwrap_or_default();
        kubeconfig_of(&cluster.server.unwrap_or_default(), &authority, token)
    }

    /// A kubeconfig with all rights.
    ///
    /// # Panics
    /// Never: a kubeconfig is JSON.
    pub fn admin_kubeconfig(&self) -> Value {
        serde_json::to_value(&self.kubeconfig).expect("a kubeconfig is JSON")
    }

    fn write_kubeconfig(&self, path: &Path) {
        fs::write(path, serde_json::to_string(&self.kubeconfig).expect("a kubeconfig is JSON"))
            .expect("the file can be written");
    }

    /// The address of the API server.
    ///
    /// # Panics
    /// If the configuration lacks it.
    pub fn url(&self) -> String {
        self.kubeconfig.clusters[0]
            .cluster
            .clone()
            .and_then(|cluster| cluster.server)
            .expect("the cluster has an address")
    }

    /// An HTTP client that trusts the API server's certificate.
    ///
    /// # Panics
    /// If the configuration is wrong.
    pub fn http_client(&self) -> reqwest::Client {
        use base64::Engine as _;
        let cluster = self.kubeconfig.clusters[0].cluster.clone().expect("the cluster is configured");
        let authority = cluster.certificate_authority_data.unwrap_or_default();
        let authority = base64::engine::general_purpose::STANDARD.decode(authority).expect("the certificate is base64");
        let authority = reqwest::Certificate::from_pem(&authority).expect("the certificate is PEM");
        reqwest::Client::builder().tls_certs_only([authority]).build().expect("the client can be built")
    }

    /// The rights that a service account has used, as [`rights_of`](super::rights_of) gives those that it has; `None` where the API server is not ours and tells
    /// nobody.
    ///
    /// # Panics
    /// If the API server has not begun to note them.
    pub fn rights_used_by(&self, namespace: &str, account: &str) -> Option<BTreeSet<String>> {
        let log = self.audit_log()?;
        Some(rights_used(&String::from_utf8_lossy(&log), &format!("system:serviceaccount:{namespace}:{account}")))
    }

    /// What the service accounts of a namespace have asked for, in order; `None` where the API server is not ours and tells nobody. A request is there when it has its
    /// answer, or a moment later.
    ///
    /// # Panics
    /// If the API server has not begun to note it.
    pub fn asked_in(&self, namespace: &str) -> Option<Vec<Asked>> {
        let log = self.audit_log()?;
        Some(asked_in(&String::from_utf8_lossy(&log), namespace))
    }

    /// Keeps what is told in a namespace now, where there is a witness.
    pub(super) fn keep_told_in(&self, namespace: &str) -> Result<(), String> {
        self.listener.as_ref().map_or(Ok(()), |listener| listener.keep_those_in(namespace))
    }

    fn audit_log(&self) -> Option<Vec<u8>> {
        let (folder, _) = self.folder.as_ref()?;
        Some(fs::read(folder.join("audit.log")).expect("the API server notes who asks for what"))
    }

    fn log(&self, name: &str) -> String {
        let Some((folder, _)) = &self.folder else { return String::new() };
        let text = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{name}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

/// The CRDs that a build of the operator prints.
///
/// # Panics
/// If it prints none.
pub fn definitions_of(operator: &Path) -> String {
    let printed = Command::new(operator).arg("crds").output().expect("the operator can be started");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).expect("CRDs are text")
}

/// A client with the rights that a kubeconfig gives.
pub(super) async fn client_of(kubeconfig: &Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig is right");
    Client::try_from(config).expect("the client can be built")
}

/// A token of a service account's.
pub(super) async fn token_of(client: Client, namespace: &str, account: &str) -> Result<String, kube::Error> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.expect("a request that was taken has a token").token)
}

/// A program that runs in a folder of its own until this value or this process is gone, however it dies: the kernel closes the pipe that its supervisor reads.
/// The last one of a folder takes the folder along.
#[derive(Debug)]
struct Supervised {
    supervisor: Child,
}

/// Signals of a terminal reach everyone in it: the supervisor must outlive them.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
folder=$1
shift
"$@" < /dev/null &
cat > /dev/null
kill -9 $!
wait
rm -rf "$folder"
"#;

impl Supervised {
    fn start(folder: &Path, log: &str, program: &Path, arguments: &[String]) -> Self {
        // A bare name is looked up in PATH.
        assert!(program.parent() == Some(Path::new("")) || program.is_file(), "{} is not there", program.display());
        let log = File::create(folder.join(log)).expect("the folder can be written");
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(folder)
            .arg(program)
            .args(arguments)
            // Its standard input is nobody's life.
            .env_remove(PARENT_PIPE)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("a supervisor cannot be started: {error}"));
        Self { supervisor }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

fn spawn(folder: &Path, name: &str, arguments: &[String]) -> Supervised {
    let log = format!("{name}.log");
    match env::var_os("KUBEBUILDER_ASSETS") {
        Some(assets) => Supervised::start(folder, &log, &PathBuf::from(assets).join(name), arguments),
        None => {
            let program = own_binary().expect("the control plane is not built: run `make control-plane` first");
            let arguments: Vec<String> = [name.to_owned()].into_iter().chain(arguments.iter().cloned()).collect();
            Supervised::start(folder, &log, &program, &arguments)
        }
    }
}

fn own_binary() -> Option<PathBuf> {
    built("ADX_FEDERATION_CONTROL_PLANE", "control-plane-")
}

/// Ports that nobody listens on now.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a loopback port can be bound"));
    let ports =
        listeners.each_ref().map(|listener| listener.local_addr().expect("a bound listener has an address").port());
    drop(listeners);
    thread::yield_now();
    ports
}

fn kubeconfig(url: &str, authority: &str, token: &str) -> Kubeconfig {
    use base64::Engine as _;
    kubeconfig_of(url, &base64::engine::general_purpose::STANDARD.encode(authority), token)
}

fn kubeconfig_of(url: &str, authority: &str, token: &str) -> Kubeconfig {
    witness::secret(token);
    let config = serde_json::json!({
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    });
    serde_json::from_value(config).expect("a kubeconfig has this form")
}

/// What the API server shows and signs with.
struct Pki {
    authority: String,
}

impl Pki {
    fn write(folder: &Path) -> Self {
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("the folder can be written");
        let authority_key = KeyPair::generate().expect("a key can be made");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names are right names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "stories");
        let certificate = authority.self_signed(&authority_key).expect("a certificate can be made");
        let issuer = Issuer::new(authority, authority_key);
        let names = ["kubernetes.default.svc", "localhost"].map(str::to_owned);
        let mut server = CertificateParams::new(names).expect("DNS names");
        server.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().expect("an address")));
        let server_key = KeyPair::generate().expect("a key can be made");
        let signed = server.signed_by(&server_key, &issuer).expect("a certificate can be signed");
        let accounts = KeyPair::generate().expect("a key can be made");
        write("ca.pem", &certificate.pem());
        write("server.pem", &signed.pem());
        write("server.key", &server_key.serialize_pem());
        write("accounts.key", &accounts.serialize_pem());
        write("accounts.pub", &accounts.public_key_pem());
        Self { authority: certificate.pem() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What makes its own life easy to see: it writes into its folder for as long as it lives, and knows nothing of a parent.
    const WRITES: &str = "while sleep 0.01; do echo alive >> \"$1\"; done";

    #[test]
    fn what_runs_for_a_test_program_ends_with_it_and_leaves_no_folder() {
        let folder = tempfile::tempdir().unwrap().keep();
        let start = |name: &str| {
            let file = folder.join(name).display().to_string();
            let arguments = ["-c".to_owned(), WRITES.to_owned(), "writes".to_owned(), file];
            Supervised::start(&folder, &format!("{name}.log"), Path::new("sh"), &arguments)
        };
        let (first, mut second) = (start("first"), start("second"));
        let started = Instant::now();
        while !folder.join("first").exists() || !folder.join("second").exists() {
            assert!(started.elapsed() < PATIENCE, "nothing runs");
            thread::sleep(Duration::from_millis(10));
        }
        // As the kernel does it for a process that is killed.
        drop(second.supervisor.stdin.take());
        second.supervisor.wait().unwrap();
        drop(first);
        assert!(!folder.exists(), "{}", folder.display());
        thread::sleep(Duration::from_millis(100));
        assert!(!folder.exists(), "somebody still writes into {}", folder.display());
    }
}
