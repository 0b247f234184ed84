//! Azure provisioning of clusters without an endpoint: level-triggered, one step at a time, in the order of the phases.
//!
//! | module | what | I/O |
//! |---|---|---|
//! | [`pass`] | looks at Azure, begins at most one thing that takes time, remembers | Azure |
//! | [`target`] | where a cluster goes | none |
//! | [`desired`] | what a spec wants of Azure | none |
//! | [`differ`] | what of it is changed, three ways | none |
//! | [`roles`] | who needs which rights | none |
//! | [`stop`] | why a pass ends, and what happens next | none |
//!
//! Nothing is ever deleted in Azure, and what people changed there stays until the spec changes.

mod desired;
mod differ;
mod pass;
mod roles;
mod stop;
mod target;

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use kube::ResourceExt as _;
use shared::{
    document::{
        ADXCluster,
        provisioned::{AppliedProvisionState, ProvisionStatus},
    },
    runtime::Metrics,
};

use self::{
    pass::Pass,
    roles::grants,
    stop::{Next, Stop},
};
use super::{
    clusters::is_elsewhere,
    conditions::{Draft, Phase},
    managed::World,
    reason::Reason,
    settings::Settings,
};
use crate::azure::{ArmClient, AzureSettings, client::ArmRequests, imds::Imds};

/// While Azure is at work and does not say when to look.
const POLL: Duration = Duration::from_secs(15);
/// The least time between two looks that Azure asked for.
const LEAST_POLL: Duration = Duration::from_secs(1);
/// What was written into the status is in the watch by then.
const WRITTEN: Duration = Duration::from_millis(100);
/// The most notes in a status.
const MAX_NOTES: usize = 20;
/// After a failure the machine is not asked where it is for so long, at most.
const IMDS_REST: Duration = Duration::from_secs(60);
/// So many requests may a look at rest take in each interval: one a minute with the default of five minutes.
const LOOKS_PER_INTERVAL: u32 = 5;

/// What all clusters share: one client, so that they are throttled together, and what is known of each.
#[derive(Debug)]
pub struct Azure {
    arm: ArmClient,
    imds: Imds,
    settings: AzureSettings,
    known: Mutex<HashMap<String, Known>>,
}

/// What the last pass over a cluster found.
#[derive(Debug, Clone)]
struct Known {
    /// Of what it was decided from.
    inputs: u64,
    until: Instant,
    provisioned: Provisioned,
}

/// What a pass found, for the status and for what follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Provisioned {
    pub(crate) conditions: Vec<Draft>,
    /// Phases whose condition is news for people.
    pub(crate) troubles: Vec<Phase>,
    /// What was begun, for people: a reason and a sentence.
    pub(crate) events: Vec<(&'static str, String)>,
    pub(crate) endpoint: Option<String>,
    pub(crate) status: ProvisionStatus,
    pub(crate) applied: Option<AppliedProvisionState>,
    /// Whether only a person can help.
    pub(crate) is_stalled: bool,
    /// When to look again.
    pub(crate) again: Duration,
}

impl Azure {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If HTTP cannot be set up.
    pub fn new(settings: AzureSettings, metrics: &Metrics) -> Result<Self, reqwest::Error> {
        let counted = metrics.register(|registry| {
            let requests = ArmRequests::default();
            let help = "Requests to Azure Resource Manager by method and answer";
            registry.register("azure_requests", help, requests.clone());
            requests
        });
        let (arm, imds) =
            (ArmClient::new(&settings, counted)?, Imds::new(settings.imds.clone(), settings.interval.min(IMDS_REST))?);
        Ok(Self { arm, imds, settings, known: Mutex::default() })
    }

    /// Brings one cluster a step further, or repeats what is known while nothing is due. Called only where [`refusal`] has no objection.
    pub(crate) async fn provision(&self, cluster: &ADXCluster, world: &World<'_>) -> Provisioned {
        let uid = cluster.uid().unwrap_or_default();
        let endpoint = cluster.status.as_ref().and_then(|status| status.endpoint.clone());
        let grants = grants(cluster, endpoint.as_deref(), world);
        // An object that breaks a rule does not come here.
        let desired = desired::desired(cluster).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (cluster.metadata.generation, &grants).hash(&mut hasher);
        desired.databases.iter().for_each(|database| database.name.hash(&mut hasher));
        let inputs = hasher.finish();
        let known = self.known.lock().expect("no holder of this lock panics").get(&uid).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.inputs == inputs)
            && let Some(left) = known.until.checked_duration_since(Instant::now())
        {
            return Provisioned { again: left, events: Vec::new(), ..known.provisioned.clone() };
        }
        // The watch may be behind what we wrote last.
        let (status, applied, endpoint) = match known {
            Some(Known { provisioned, .. }) => {
                (provisioned.status, provisioned.applied, provisioned.endpoint.or(endpoint))
            }
            None => {
                let told = cluster.status.clone().unwrap_or_default();
                let applied = told.applied_provision_state.or_else(|| applied_before_us(cluster, &desired));
                (told.provision.unwrap_or_default(), applied, endpoint)
            }
        };
        let mut pass = Pass {
            azure: self,
            settings: world.settings,
            cluster,
            desired,
            grants: &grants,
            now: Timestamp::now(),
            status,
            applied,
            endpoint,
            reached: Vec::new(),
            stops: Vec::new(),
            events: Vec::new(),
            there: BTreeSet::new(),
            looks: 0,
        };
        pass.run().await;
        let provisioned = self.summed_up(pass);
        let known = Known { inputs, until: Instant::now() + provisioned.again, provisioned: provisioned.clone() };
        let mut all = self.known.lock().expect("no holder of this lock panics");
        all.insert(uid, known);
        // Objects that went without a word.
        if all.len() > world.clusters.len() {
            all.retain(|uid, _| world.clusters.iter().any(|cluster| cluster.uid().as_ref() == Some(uid)));
        }
        provisioned
    }

    /// Another operator may have worked meanwhile: what the objects' status says counts.
    pub(crate) fn forget_all(&self) {
        self.known.lock().expect("no holder of this lock panics").clear();
    }

    /// What is remembered of an object, which the watch may not show yet.
    pub(crate) fn remembered(&self, uid: &str) -> Option<(ProvisionStatus, Option<AppliedProvisionState>)> {
        let known = self.known.lock().expect("no holder of this lock panics");
        known.get(uid).map(|known| (known.provisioned.status.clone(), known.provisioned.applied.clone()))
    }

    /// The object is gone, or another operator's.
    pub(crate) fn forget(&self, uid: &str) {
        self.known.lock().expect("no holder of this lock panics").remove(uid);
    }

    fn summed_up(&self, pass: Pass<'_>) -> Provisioned {
        let again = pass.stops.iter().map(|stop| self.wait(stop)).min().unwrap_or_else(|| self.rest(pass.looks));
        let Pass { cluster, mut status, applied, endpoint, reached, mut stops, events, .. } = pass;
        if status.notes.len() > MAX_NOTES {
            let more = status.notes.len() - MAX_NOTES;
            status.notes.truncate(MAX_NOTES);
            status.notes.push(format!("and {more} more"));
        }
        let existing = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let was_true =
            |phase: Phase| existing.iter().any(|known| known.type_ == phase.as_str() && known.status == "True");
        // Not to see a cluster that works does not make it one that does not.
        for stop in stops.iter_mut().filter(|stop| stop.is_blind && was_true(stop.phase)) {
            stop.phase = Phase::Provisioned;
        }
        let mut conditions = Vec::new();
        for phase in [Phase::ClusterReady, Phase::DatabasesReady, Phase::Provisioned] {
            let own = stops.iter().find(|stop| stop.phase == phase);
            let known = existing.iter().find(|known| known.type_ == phase.as_str());
            let is_reached = reached.iter().find(|(reached, ..)| *reached == phase);
            if let Some(stop) = own {
                conditions.push(Draft::no(phase, stop.reason, stop.message.clone()));
            } else if let Some((_, reason, message)) = is_reached {
                conditions.push(Draft::yes(phase, *reason, message.clone()));
            } else if let Some(known) = known.filter(|known| known.status == "True" && phase != Phase::Provisioned) {
                conditions.push(Draft::in_words_of_others(phase, Some(true), &known.reason, known.message.clone()));
            } else if let Some(stop) = stops.first() {
                conditions.push(Draft::no(phase, Reason::Waiting, format!("{} comes first", stop.phase.as_str())));
            }
        }
        let troubles = stops.iter().filter(|stop| stop.is_trouble()).map(|stop| stop.phase).collect();
        let decides = |stop: &&Stop| stop.phase != Phase::Provisioned;
        let is_stalled = stops.iter().filter(decides).any(|stop| matches!(stop.next, Next::Person | Next::Spec));
        Provisioned { conditions, troubles, events, endpoint, status, applied, is_stalled, again }
    }

    fn wait(&self, stop: &Stop) -> Duration {
        let soon = POLL.min(self.settings.interval);
        match stop.next {
            Next::Now => WRITTEN,
            Next::Wait(Some(after)) => after.max(LEAST_POLL),
            Next::Wait(None) | Next::Retry => soon,
            Next::Later | Next::Person | Next::Spec => self.settings.interval,
        }
    }

    /// The more requests a look takes, the rarer it is.
    fn rest(&self, looks: u32) -> Duration {
        self.settings.interval.saturating_mul(looks.div_ceil(LOOKS_PER_INTERVAL).max(1))
    }
}

/// What the operator of the seed's design left in the spec. What it did not write down counts as it is.
fn applied_before_us(cluster: &ADXCluster, desired: &AppliedProvisionState) -> Option<AppliedProvisionState> {
    let text = cluster.spec.provision.as_ref()?.applied_provision_state.as_deref()?;
    let told: AppliedProvisionState =
        serde_json::from_str(text).ok().filter(|told| *told != AppliedProvisionState::default())?;
    Some(AppliedProvisionState { auto_scale: desired.auto_scale, databases: Vec::new(), ..told })
}

/// Why a cluster without an endpoint cannot be provisioned at all, whatever Azure says.
pub(crate) fn refusal(cluster: &ADXCluster, world: &World<'_>) -> Option<Draft> {
    let no = |reason: Reason, message: String| Some(Draft::no(Phase::ClusterReady, reason, message));
    let name = &cluster.spec.cluster_name;
    if !is_azure_name(name) {
        let rule = "must be 4 to 22 lower-case letters and digits, beginning with a letter, for a cluster that is to be made in Azure";
        return no(Reason::InvalidClusterName, format!("spec.clusterName = {name}: {rule}"));
    }
    if !world.can_provision {
        let message = "spec.endpoint is absent, and this operator does not make clusters in Azure: set spec.endpoint to an existing one, or start the operator with another --azure-credential than none";
        return no(Reason::ProvisioningDisabled, message.to_owned());
    }
    if let Some(elder) = elder(cluster, world) {
        let message = format!(
            "spec.clusterName = {name}: must be the only one: ADXCluster '{}' in namespace '{}' is older and has it",
            elder.name_any(),
            elder.namespace().unwrap_or_default()
        );
        return no(Reason::DuplicateCluster, message);
    }
    let broken = desired::desired(cluster).err()?;
    let rules: Vec<&str> = broken.iter().map(|broken| broken.rule.as_str()).collect();
    no(broken.first()?.reason, rules.join("; "))
}

/// Another object of the same cluster that was there first: two would fight. One that only operators of other Kubernetes clusters look after is made where they say.
fn elder<'a>(cluster: &ADXCluster, world: &'a World<'_>) -> Option<&'a ADXCluster> {
    let age = |cluster: &ADXCluster| {
        (cluster.creation_timestamp().map(|time| time.0), cluster.namespace(), cluster.name_any())
    };
    let is_rival = |other: &&std::sync::Arc<ADXCluster>| {
        other.spec.endpoint.is_none()
            && other.uid() != cluster.uid()
            && other.metadata.deletion_timestamp.is_none()
            && other.spec.cluster_name.eq_ignore_ascii_case(&cluster.spec.cluster_name)
            && target::may_be_one_place(cluster, other)
            && age(other) < age(cluster)
            && !is_elsewhere(other.spec.criteria_expression.as_deref(), world)
    };
    world.clusters.iter().filter(is_rival).min_by_key(|other| age(other)).map(AsRef::as_ref)
}

/// One spelling of the address that Azure gave, if a token may go there.
fn endpoint_of(uri: &str, settings: &Settings) -> Result<String, String> {
    let endpoint = ClusterEndpoint::parse(uri).map_err(|error| error.to_string())?;
    if settings.trusts(&endpoint) {
        Ok(endpoint.to_string())
    } else {
        Err(format!("that is no Kusto endpoint of the operator's cloud ({})", settings.trust.cloud))
    }
}

/// Azure's own rule, narrower than the CRD's, which existing clusters may use.
fn is_azure_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (4..=22).contains(&name.len())
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{differ::compare, *};

    const SPECS: &str = "Standard_L8as_v3";
    const AZURES: &str = "Standard_L16as_v3";
    const X: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x";

    fn cluster(applied: &str) -> ADXCluster {
        let provision = json!({"skuName": SPECS, "autoScale": true, "appliedProvisionState": applied});
        let spec = json!({"clusterName": "fleet", "provision": provision});
        let cluster = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "fleet"}, "spec": spec});
        serde_json::from_value(cluster).unwrap()
    }

    /// What is changed of a cluster in Azure that has another SKU than the spec, and how much is kept.
    fn compared(applied: &str) -> (Vec<String>, Vec<String>) {
        let cluster = cluster(applied);
        let desired = desired::desired(&cluster).unwrap();
        let scale = json!({"version": 1, "isEnabled": true, "minimum": 2, "maximum": 10});
        let actual = json!({"location": "East US 2", "sku": {"name": AZURES, "tier": "Standard", "capacity": 5}, "properties": {"optimizedAutoscale": scale}});
        let mut before = applied_before_us(&cluster, &desired);
        let difference = compare(&desired, &mut before, &serde_json::from_value(actual).unwrap());
        (difference.changes, difference.kept)
    }

    #[test]
    fn what_an_operator_before_us_applied_tells_a_persons_change_from_the_specs() {
        let ours = vec![format!("the SKU from {AZURES} to {SPECS}")];
        // In adx-mon's words, and in those of the seed's design.
        for name in ["skuName", "SkuName"] {
            let (changes, kept) = compared(&json!({name: SPECS}).to_string());
            assert_eq!(changes, Vec::<String>::new(), "a person chose it");
            assert!(kept.len() == 1 && kept[0].contains(AZURES), "{kept:?}");
            assert_eq!(compared(&json!({name: AZURES}).to_string()), (ours.clone(), Vec::new()), "the spec changed");
        }
        // What tells nothing is as if it were not there: nothing is touched.
        for nothing in ["", "{}", "no JSON", "{\"skuName\": 1}"] {
            let (changes, kept) = compared(nothing);
            assert_eq!((changes.len(), kept.len()), (0, 1), "{nothing}");
        }
    }

    #[test]
    fn what_an_operator_before_us_did_not_write_down_counts_as_it_is() {
        let text = json!({"SkuName": AZURES, "Tier": "Standard", "UserAssignedIdentities": [X], "databases": [{"name": "Logs"}]});
        let cluster = cluster(&text.to_string());
        let desired = desired::desired(&cluster).unwrap();
        let expected = AppliedProvisionState {
            sku_name: Some(AZURES.to_owned()),
            tier: Some("Standard".to_owned()),
            user_assigned_identities: vec![X.to_owned()],
            auto_scale: desired.auto_scale,
            databases: Vec::new(),
        };
        assert!(desired.auto_scale.is_some());
        assert_eq!(applied_before_us(&cluster, &desired), Some(expected));
    }
    #[test]
    fn azure_takes_few_names() {
        let longest = "a".repeat(22);
        for name in ["abcd", "a123", &longest] {
            assert!(is_azure_name(name), "{name}");
        }
        let too_long = format!("{longest}a");
        for name in ["", "abc", "1abc", "Abcd", "abCd", "ab-c", "ab_c", "abcé", &too_long] {
            assert!(!is_azure_name(name), "{name}");
        }
    }
}
