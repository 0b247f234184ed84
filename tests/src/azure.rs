//! A double of Azure: Resource Manager for Microsoft.Kusto and what it needs of Microsoft.Resources, tokens, and the instance's metadata, for stories that run our
//! real operator. It keeps its own clock, checks every request and every answer against Microsoft's descriptions (`tests/arm`), and does what goes wrong on demand.
//! I/O: two loopback ports, a temporary folder; started by stories and by the program `azure-double`.

mod answer;
mod assignment;
mod cluster;
mod database;
mod desired;
mod exchange;
mod fault;
mod gate;
mod metadata;
mod operation;
mod region;
mod route;
mod specification;
mod subscription;
#[cfg(test)]
mod tests;
mod tokens;
mod world;

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, time};

use self::{
    answer::Settings,
    exchange::{Core, State},
    tokens::Tokens,
};
pub use self::{
    exchange::Seen,
    fault::{Fault, FaultKind},
    metadata::Imds,
    world::{Assignment, CLIENT, Cluster, Database, Group, Offer, SUBSCRIPTION, Sku, Subscription, TENANT, World},
};
use crate::listener::{self, Cut, Port};

/// How the double is to be.
#[derive(Debug, Clone)]
pub struct AzureOptions {
    /// How long things take.
    pub durations: Durations,
    /// Links in answers begin with this in place of the double's own address: that of a proxy in front of it.
    pub public_url: Option<String>,
    /// The port of Azure Resource Manager; without it any.
    pub listen: Option<u16>,
    /// Exchanges are appended to this file.
    pub record: Option<PathBuf>,
    /// Entries of a list in one answer.
    pub page_size: usize,
    /// Plain HTTP in place of TLS, for a proxy in front of it.
    pub plain: bool,
}

impl Default for AzureOptions {
    fn default() -> Self {
        Self {
            durations: Durations::default(),
            public_url: None,
            listen: None,
            record: None,
            page_size: 2,
            plain: false,
        }
    }
}

/// How long things take, by the double's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    /// Creating a cluster.
    pub create: Duration,
    /// Changing, starting, stopping and deleting a cluster.
    pub update: Duration,
    /// Writing a database.
    pub database: Duration,
    /// Registering the provider.
    pub register: Duration,
    /// Writing a principal's right.
    pub assignment: Duration,
    /// A new database answers 404 so long after its PUT was answered.
    pub visible_after: Duration,
    /// What Retry-After says, in whole seconds.
    pub retry_after: Duration,
    /// A token's life.
    pub token: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            create: Duration::from_millis(500),
            update: Duration::from_millis(300),
            database: Duration::from_millis(200),
            register: Duration::from_millis(300),
            assignment: Duration::from_millis(100),
            visible_after: Duration::ZERO,
            retry_after: Duration::from_secs(1),
            token: Duration::from_secs(3600),
        }
    }
}

/// The running double; it stops when it is dropped.
#[derive(Debug)]
pub struct AzureDouble {
    core: Arc<Core>,
    url: String,
    imds_url: String,
    folder: TempDir,
    /// The ports live as long as this.
    _alive: watch::Sender<()>,
}

impl AzureDouble {
    /// Starts, with a world of one subscription that has nothing in it.
    ///
    /// # Panics
    /// If a port cannot be bound, or a file not be written.
    pub async fn start(options: AzureOptions) -> Self {
        let AzureOptions { durations, public_url, listen, record, page_size, plain } = options;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (authority, tls) = listener::authority();
        fs::write(folder.path().join("ca.pem"), authority).expect("the folder can be written");
        let port = Port::open(listen.unwrap_or(0), (!plain).then_some(tls)).await;
        let port = port.unwrap_or_else(|error| panic!("port {listen:?} cannot be bound: {error}"));
        let instance = Port::open(0, None).await.expect("a loopback port can be bound");
        let url = format!("{}://{}", if plain { "http" } else { "https" }, port.address());
        let imds_url = format!("http://{}", instance.address());
        let base = public_url.map_or_else(|| url.clone(), |public| public.trim_end_matches('/').to_owned());
        let record = record.map(|path| {
            let file = File::options().create(true).append(true).open(&path);
            file.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()))
        });
        let tokens = Tokens::new(durations.token, vec![url.clone(), base.clone()]);
        let settings = Settings { durations, base, page_size, began_at: Timestamp::now() };
        let core = Arc::new(Core::new(settings, tokens, record));
        let (alive, ends) = watch::channel(());
        serve(port, metadata::azure(Arc::clone(&core)), ends.clone());
        serve(instance, metadata::instance(Arc::clone(&core)), ends.clone());
        tokio::spawn(keep_serving_databases(Arc::clone(&core), ends));
        let double = Self { core, url, imds_url, folder, _alive: alive };
        double.write_assertion();
        double
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.core.state()
    }

    /// Azure Resource Manager's base URL, and the authority's: `https://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base URL of instance metadata and managed-identity tokens: `http://127.0.0.1:port`.
    pub fn imds_url(&self) -> &str {
        &self.imds_url
    }

    /// The certificate that its TLS is to be trusted by, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn assertion_file(&self) -> PathBuf {
        self.folder.path().join("federated-token")
    }

    /// The environment of a pod with workload identity.
    pub fn workload_identity(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_AUTHORITY_HOST", self.url.clone()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", CLIENT.to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", self.assertion_file().display().to_string()),
            ("SSL_CERT_FILE", self.ca_file().display().to_string()),
        ]
    }

    /// The environment of a program with a managed identity.
    pub fn managed_identity(&self) -> Vec<(&'static str, String)> {
        vec![
            ("IDENTITY_ENDPOINT", format!("{}/msi/token", self.imds_url)),
            ("IDENTITY_HEADER", self.state().tokens.header.clone()),
            ("SSL_CERT_FILE", self.ca_file().display().to_string()),
        ]
    }

    /// Writes a new federated token; the one before is refused from now on.
    pub fn rotate_federated_token(&self) {
        self.state().tokens.rotate();
        self.write_assertion();
    }

    /// In one step, as the kubelet does it.
    fn write_assertion(&self) {
        let assertion = self.state().tokens.assertion.clone();
        let new = self.folder.path().join("federated-token.new");
        fs::write(&new, assertion).expect("the folder can be written");
        fs::rename(new, self.assertion_file()).expect("the folder can be written");
    }

    /// Whoever issues tokens answers 503.
    pub fn set_identity_down(&self, down: bool) {
        self.state().tokens.is_down = down;
    }

    /// What instance metadata says from now on.
    pub fn set_imds(&self, imds: Imds) {
        self.state().imds = imds;
    }

    /// Puts the clock forward.
    pub fn advance(&self, by: Duration) {
        self.state().advanced += by;
        drop(self.state());
    }

    /// What goes wrong; several wait for their turn.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How often faults are still to happen.
    pub fn pending_faults(&self) -> usize {
        self.state().faults.iter().map(|fault| fault.times).sum()
    }

    /// A Kusto server stands for a cluster: that has its address once it runs, and its databases are created there too.
    pub fn serve_cluster(&self, name: &str, kusto_url: &str) {
        let mut state = self.state();
        state.world.served.insert(name.to_lowercase(), kusto_url.trim_end_matches('/').to_owned());
    }

    /// All requests to Azure Resource Manager so far, in the order of their coming.
    pub fn requests(&self) -> Vec<Seen> {
        self.state().seen()
    }

    /// The same, and forgets them.
    pub fn take_requests(&self) -> Vec<Seen> {
        let mut state = self.state();
        let seen = state.seen();
        state.forget_seen();
        seen
    }

    /// How often somebody asked for a token.
    pub fn token_requests(&self) -> usize {
        self.state().tokens.asked
    }

    /// Rules that were broken, by clients or by the double itself.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// The same, and forgets them: for a story that breaks a rule by intention.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.state().violations)
    }

    /// Changes the world as people do in Azure; the etags of clusters that are another afterwards change.
    pub fn edit<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        let mut state = self.state();
        let before = state.world.clusters.clone();
        let result = change(&mut state.world);
        let changed = state.world.clusters.iter().filter(|(key, cluster)| before.get(*key) != Some(*cluster));
        let changed: Vec<String> = changed.map(|(key, _)| key.clone()).collect();
        for key in changed {
            state.world.touch(&key);
        }
        result
    }

    /// A cluster as a GET shows it.
    pub fn cluster(&self, name: &str) -> Option<Value> {
        let state = self.state();
        state.world.clusters.get(&name.to_lowercase()).map(|cluster| cluster::shown(&state.world, cluster))
    }

    /// Everything went by the rules, and everything that was to go wrong did.
    ///
    /// # Panics
    /// If not.
    pub fn assert_fine(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "rules were broken:\n{}", violations.join("\n"));
        let state = self.state();
        let pending: Vec<_> = state.faults.iter().filter(|fault| fault.times > 0).cloned().collect();
        drop(state);
        assert!(pending.is_empty(), "faults that nobody met: {pending:?}");
    }
}

fn serve(port: Port, router: axum::Router, mut ends: watch::Receiver<()>) {
    let service = router.into_make_service_with_connect_info::<Cut>();
    let until = async move { drop(ends.changed().await) };
    tokio::spawn(async move { axum::serve(port, service).with_graceful_shutdown(until).await });
}

async fn keep_serving_databases(core: Arc<Core>, mut ends: watch::Receiver<()>) {
    while time::timeout(Duration::from_millis(50), ends.changed()).await.is_err() {
        core.serve_databases().await;
    }
}
