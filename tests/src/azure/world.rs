//! What there is in the double's Azure: subscriptions, groups, clusters with their databases and rights, and what a region offers. Stories change it as people do
//! in the portal, through [`AzureDouble::edit`](super::AzureDouble::edit). No I/O; read and changed by the files beside it that answer requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use serde_json::{Map, Value};

use super::operation::{Effect, Operation};

/// The subscription that there is.
pub const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
/// Its tenant.
pub const TENANT: &str = "22222222-2222-2222-2222-222222222222";
/// The application that our operator is.
pub const CLIENT: &str = "33333333-3333-3333-3333-333333333333";

/// Everything.
#[derive(Debug, Clone)]
pub struct World {
    /// By id.
    pub subscriptions: BTreeMap<String, Subscription>,
    /// By name in lower case: cluster names are unique in all of Azure.
    pub clusters: BTreeMap<String, Cluster>,
    /// Cluster names that other people's subscriptions hold, in lower case.
    pub names_taken_elsewhere: BTreeSet<String>,
    /// SKUs, in the order of the answer.
    pub offers: Vec<Offer>,
    /// Actions whose name contains this are denied, for example `clusters/write` or `/read`; the empty text denies all.
    pub forbidden: Option<String>,
    /// Nothing whose resource id contains this can be changed, for example `/resourceGroups/fleet`; the empty text locks all.
    pub locked: Option<String>,
    /// No more cores for this subscription.
    pub quota_exceeded: bool,
    pub(super) operations: BTreeMap<String, Operation>,
    /// Addresses of Kusto servers that stand for clusters, by the clusters' keys.
    pub(super) served: BTreeMap<String, String>,
    /// The double's clock when this was last looked at.
    pub(super) now: Duration,
    counter: u64,
}

/// A subscription.
#[derive(Debug, Clone, Default)]
pub struct Subscription {
    /// `NotRegistered`, `Registering` or `Registered`: whether Microsoft.Kusto may be used.
    pub registration: String,
    /// When `Registering` ends.
    pub registered_at: Option<Duration>,
    /// By name in lower case.
    pub groups: BTreeMap<String, Group>,
}

/// A resource group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As it was first written.
    pub name: String,
    /// Where its metadata lives, without blanks: `eastus2`.
    pub location: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A SKU that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// For example `Standard_L8as_v3`.
    pub name: String,
    /// `Basic` or `Standard`.
    pub tier: String,
    /// Display names, as Azure gives them: `East US 2`.
    pub locations: Vec<String>,
    /// Display names of the locations where this subscription may not use it.
    pub restricted_in: BTreeSet<String>,
    /// The fewest nodes.
    pub minimum: i64,
    /// The most nodes.
    pub maximum: i64,
}

/// What a cluster runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sku {
    /// For example `Standard_L8as_v3`.
    pub name: String,
    /// `Basic` or `Standard`.
    pub tier: String,
    /// Nodes.
    pub capacity: i64,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// As it was first written.
    pub name: String,
    /// Where it is.
    pub subscription: String,
    /// As it was first written.
    pub resource_group: String,
    /// Display name: `East US 2`.
    pub location: String,
    /// What it runs on.
    pub sku: Sku,
    /// `Creating`, `Running`, `Stopped`, ...
    pub state: String,
    /// `Creating`, `Running` (something is done to it), `Succeeded`, `Failed`, ...
    pub provisioning_state: String,
    /// Why it is in this state.
    pub state_reason: Option<String>,
    /// Whether it has an identity of its own.
    pub system_identity: bool,
    /// Resource ids of the user-assigned identities that it has.
    pub user_identities: BTreeSet<String>,
    /// What can be set of `properties`: `optimizedAutoscale`, `enableStreamingIngest`, ...
    pub properties: Map<String, Value>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Availability zones.
    pub zones: Vec<String>,
    /// By name in lower case.
    pub databases: BTreeMap<String, Database>,
    /// Rights on the whole cluster, by assignment name in lower case.
    pub assignments: BTreeMap<String, Assignment>,
    /// Its address; `None` until it has run once.
    pub uri: Option<String>,
    pub(super) etag: u64,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// As it was first written.
    pub name: String,
    /// ISO 8601.
    pub soft_delete_period: Option<String>,
    /// ISO 8601.
    pub hot_cache_period: Option<String>,
    /// `Creating`, `Running`, `Succeeded`, `Failed`.
    pub provisioning_state: String,
    /// GET answers 404 until then.
    pub visible_at: Duration,
    /// By assignment name in lower case.
    pub assignments: BTreeMap<String, Assignment>,
}

/// A right of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// As it was first written.
    pub name: String,
    /// An application's or group's id, or a mail address.
    pub principal_id: String,
    /// `Ingestor`, `AllDatabasesViewer`, ...
    pub role: String,
    /// `App`, `Group`, `User`.
    pub principal_type: String,
    /// The principal's tenant.
    pub tenant_id: String,
    /// `Creating`, `Running`, `Succeeded`, `Failed`.
    pub provisioning_state: String,
}

impl Default for World {
    fn default() -> Self {
        let offer = |name: &str, tier: &str, minimum: i64, maximum: i64| Offer {
            name: name.to_owned(),
            tier: tier.to_owned(),
            locations: vec!["East US 2".to_owned(), "West Europe".to_owned()],
            restricted_in: BTreeSet::new(),
            minimum,
            maximum,
        };
        let subscription = Subscription { registration: "Registered".to_owned(), ..Subscription::default() };
        Self {
            subscriptions: BTreeMap::from([(SUBSCRIPTION.to_owned(), subscription)]),
            clusters: BTreeMap::new(),
            names_taken_elsewhere: BTreeSet::new(),
            offers: vec![
                offer("Dev(No SLA)_Standard_E2a_v4", "Basic", 1, 1),
                offer("Standard_E8ads_v5", "Standard", 2, 1000),
                offer("Standard_L8as_v3", "Standard", 2, 1000),
                offer("Standard_L16as_v3", "Standard", 2, 1000),
                offer("Standard_L32as_v3", "Standard", 2, 1000),
            ],
            forbidden: None,
            locked: None,
            quota_exceeded: false,
            operations: BTreeMap::new(),
            served: BTreeMap::new(),
            now: Duration::ZERO,
            counter: 0,
        }
    }
}

impl World {
    /// A cluster by its name, in any case.
    ///
    /// # Panics
    /// If there is none.
    pub fn cluster(&mut self, name: &str) -> &mut Cluster {
        self.clusters.get_mut(&name.to_lowercase()).unwrap_or_else(|| panic!("Azure has no cluster {name}"))
    }

    /// Adds a resource group to the subscription that there is.
    pub fn add_group(&mut self, name: &str, location: &str) {
        let group = Group { name: name.to_owned(), location: normal(location), tags: BTreeMap::new() };
        self.subscriptions.entry(SUBSCRIPTION.to_owned()).or_default().groups.insert(name.to_lowercase(), group);
    }

    /// Adds a cluster that runs, and its resource group, as somebody did by hand. It has two nodes of a Standard SKU and no databases.
    pub fn add_cluster(&mut self, group: &str, name: &str, location: &str) -> &mut Cluster {
        if !self.subscriptions.get(SUBSCRIPTION).is_some_and(|known| known.groups.contains_key(&group.to_lowercase())) {
            self.add_group(group, location);
        }
        let cluster = Cluster {
            name: name.to_owned(),
            subscription: SUBSCRIPTION.to_owned(),
            resource_group: group.to_owned(),
            location: location.to_owned(),
            sku: Sku { name: "Standard_L8as_v3".to_owned(), tier: "Standard".to_owned(), capacity: 2 },
            state: "Running".to_owned(),
            provisioning_state: "Succeeded".to_owned(),
            state_reason: None,
            system_identity: false,
            user_identities: BTreeSet::new(),
            properties: Map::new(),
            tags: BTreeMap::new(),
            zones: Vec::new(),
            databases: BTreeMap::new(),
            assignments: BTreeMap::new(),
            uri: Some(default_uri(name, location)),
            etag: self.count(),
        };
        self.clusters.entry(name.to_lowercase()).insert_entry(cluster).into_mut()
    }

    /// Somebody in Azure begins something that takes a while: no write is taken meanwhile.
    pub fn begin_maintenance(&mut self, cluster: &str, lasting: Duration) {
        self.cluster(cluster).provisioning_state = "Running".to_owned();
        let id = self.begin(cluster, "Maintenance", Effect::None, lasting);
        self.operations.get_mut(&id).expect("it has just begun").excused = true;
    }

    pub(super) const fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

impl Database {
    /// A database that is there.
    pub fn ready(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            soft_delete_period: None,
            hot_cache_period: None,
            provisioning_state: "Succeeded".to_owned(),
            visible_at: Duration::ZERO,
            assignments: BTreeMap::new(),
        }
    }
}

impl Cluster {
    pub(super) fn id(&self) -> String {
        let Self { subscription, resource_group, name, .. } = self;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.Kusto/clusters/{name}"
        )
    }
}

impl Offer {
    /// Whether a location, by any of its names, has it.
    pub(super) fn is_in(&self, location: &str) -> bool {
        self.locations.iter().any(|offered| normal(offered) == normal(location))
    }

    pub(super) fn is_restricted_in(&self, location: &str) -> bool {
        self.restricted_in.iter().any(|restricted| normal(restricted) == normal(location))
    }
}

/// `East US 2` and `eastus2` are one.
pub(super) fn normal(location: &str) -> String {
    location.to_lowercase().replace(' ', "")
}

/// What a cluster's address would be in Azure.
pub(super) fn default_uri(name: &str, location: &str) -> String {
    format!("https://{}.{}.kusto.windows.net", name.to_lowercase(), normal(location))
}

/// The same text has the same id everywhere.
pub(super) fn uuid_of(text: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text.to_lowercase()).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(1), half(2));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
