//! What a spec wants of Azure: SKU, identities, scaling, databases with their retention. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde_json::Value;
use shared::document::{
    ADXCluster, ClusterRole, FederationMode,
    provisioned::{AppliedAutoScale, AppliedDatabase, AppliedProvisionState},
    spec::DatabaseSpec,
    status::MAX_MISSING_DATABASES,
};

use super::{
    stop::{Next, Stop},
    target::normal,
};
use crate::{
    azure::types::{
        Identity, NewCluster, NewClusterProperties, OfferedSku, OptimizedAutoscale, Sku, UserAssignedIdentity,
    },
    kubernetes::{clusters::DEFAULT_DATABASES, conditions::Phase, reason::Reason},
};

/// In the order of preference, where the spec names none.
const PREFERRED: [&str; 3] = ["Standard_L8as_v3", "Standard_L16as_v3", "Standard_L32as_v3"];
/// How the names of SKUs without an SLA begin: tier Basic, one node.
const DEV: &str = "Dev(No SLA)";
const DEFAULT_RETENTION_DAYS: i32 = 30;
/// A status is bounded.
const MAX_DATABASES: usize = 512;

/// A rule that a spec breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// A CamelCase word.
    pub(super) reason: Reason,
    /// The field, its value and the rule.
    pub(super) rule: String,
}

/// The spec as what would be applied if it were now; or the rules that it breaks.
pub(super) fn desired(cluster: &ADXCluster) -> Result<AppliedProvisionState, Vec<Broken>> {
    let provision = cluster.spec.provision.clone().unwrap_or_default();
    let mut wrong = Vec::new();
    let mut breaks = |reason, rule| wrong.push(Broken { reason, rule });
    let sku_name = provision.sku_name.filter(|name| !name.trim().is_empty());
    let is_dev = sku_name.as_deref().is_some_and(|name| name.starts_with(DEV));
    let tier = provision.tier.filter(|tier| !tier.trim().is_empty());
    match tier.as_deref() {
        // The API server's default: a Dev SKU's tier follows from its name.
        None | Some("Standard") => {}
        Some("Basic") if is_dev => {}
        Some("Basic") => {
            breaks(
                Reason::InvalidTier,
                format!("spec.provision.tier = Basic: must be Standard for all SKUs but those that begin with '{DEV}'"),
            );
        }
        Some(other) => breaks(Reason::InvalidTier, format!("spec.provision.tier = {other}: must be Standard or Basic")),
    }
    if is_dev && provision.auto_scale == Some(true) {
        breaks(
            Reason::Invalid,
            format!(
                "spec.provision.autoScale = true: must be false for SKUs that begin with '{DEV}', which have one node"
            ),
        );
    }
    let mut identities = Vec::new();
    for (index, id) in provision.user_assigned_identities.iter().enumerate() {
        if is_identity(id) {
            if !identities.iter().any(|known: &String| known.eq_ignore_ascii_case(id)) {
                identities.push(id.clone());
            }
        } else {
            breaks(
                Reason::Invalid,
                format!(
                    "spec.provision.userAssignedIdentities[{index}] = {id}: must be a resource id such as \
                 /subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…"
                ),
            );
        }
    }
    let auto_scale = provision.auto_scale.map(|enabled| AppliedAutoScale {
        enabled,
        min: provision.auto_scale_min.unwrap_or(2),
        max: provision.auto_scale_max.unwrap_or(10),
    });
    let databases = databases(cluster, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let tier = sku_name.as_deref().map(|name| tier_of(name).to_owned());
    Ok(AppliedProvisionState { sku_name, tier, user_assigned_identities: identities, auto_scale, databases })
}

fn databases(cluster: &ADXCluster, wrong: &mut Vec<Broken>) -> Vec<AppliedDatabase> {
    let mut databases: Vec<AppliedDatabase> = Vec::new();
    let mut add = |name: &str, soft_delete_period: Option<String>, found: bool| {
        if !databases.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            let name = name.to_owned();
            databases.push(AppliedDatabase { name, soft_delete_period, found, ..AppliedDatabase::default() });
        }
    };
    let mut breaks = |rule| wrong.push(Broken { reason: Reason::Invalid, rule });
    if cluster.spec.databases.len() > MAX_DATABASES {
        breaks(format!("spec.databases = {} entries: must be at most {MAX_DATABASES}", cluster.spec.databases.len()));
    }
    for (index, database) in cluster.spec.databases.iter().enumerate() {
        match retention(database) {
            Ok(period) => add(&database.database_name, Some(period), false),
            Err(rule) => {
                let policy = database.retention_policy.as_deref().unwrap_or_default();
                breaks(format!("spec.databases[{index}].retentionPolicy = {policy}: {rule}"));
            }
        }
    }
    if cluster.spec.role.unwrap_or_default() == ClusterRole::Federated {
        // Rows leave the heartbeat table by its own policy, and federated databases hold none.
        let federation = cluster.spec.federation.as_ref();
        if let Some(name) = federation.and_then(|federation| federation.heartbeat_database.as_deref()) {
            if name.bytes().all(|byte| byte == b'.') {
                breaks(format!(
                    "spec.federation.heartbeatDatabase = {name}: must not be dots alone, which are no part of an address"
                ));
            }
            add(name, None, false);
        }
        found_databases(cluster).for_each(|name| add(name, None, true));
    } else if cluster.spec.databases.is_empty() {
        let period = format!("P{DEFAULT_RETENTION_DAYS}D");
        DEFAULT_DATABASES.iter().for_each(|(name, _)| add(name, Some(period.clone()), false));
    }
    databases
}

/// Those that the hub's agent missed once, and those that it misses now: strangers' heartbeats name them, so there is an end to them.
fn found_databases(cluster: &ADXCluster) -> impl Iterator<Item = &str> {
    let status = cluster.status.as_ref();
    let applied = status.and_then(|status| status.applied_provision_state.as_ref());
    let before = applied.map(|applied| applied.databases.as_slice()).unwrap_or_default();
    let before = before.iter().filter(|database| database.found).map(|database| database.name.as_str());
    before.chain(missing_databases(cluster).into_iter().map(String::as_str)).take(MAX_MISSING_DATABASES)
}

/// What the hub's agent misses and may have: none where it only plans, and no names that are wider than the rule for a spec's.
pub(super) fn missing_databases(cluster: &ADXCluster) -> Vec<&String> {
    let federation = cluster.spec.federation.as_ref();
    let only_plans = federation.and_then(|federation| federation.mode) == Some(FederationMode::Plan);
    let told = cluster.status.as_ref().and_then(|status| status.federation.as_ref()).filter(|_| !only_plans);
    told.into_iter().flat_map(|told| &told.missing_databases).filter(|name| is_database_name(name)).collect()
}

/// How long rows are kept, as ISO 8601. The policy goes before the days, which have a default.
fn retention(database: &DatabaseSpec) -> Result<String, &'static str> {
    const RULE: &str = "must be a time span such as 365.00:00:00, 365d or P365D, or a retention policy in JSON with such a SoftDeletePeriod";
    let Some(policy) = database.retention_policy.as_deref().map(str::trim).filter(|policy| !policy.is_empty()) else {
        return Ok(format!("P{}D", database.retention_in_days.unwrap_or(DEFAULT_RETENTION_DAYS)));
    };
    let period = match serde_json::from_str::<Value>(policy) {
        Ok(Value::Object(policy)) => {
            let field =
                |name: &str| policy.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            let recoverable = field("Recoverability").is_none_or(|value| {
                value.as_str().is_some_and(|value| value.eq_ignore_ascii_case("Enabled")) || value == &Value::from(1)
            });
            if !recoverable {
                return Err("must have the Recoverability Enabled: Azure Resource Manager sets no other");
            }
            field("SoftDeletePeriod").and_then(Value::as_str).map(str::to_owned).ok_or(RULE)?
        }
        _ => policy.to_owned(),
    };
    let duration = time_span(&period).ok_or(RULE)?;
    if duration <= SignedDuration::ZERO {
        return Err("must be longer than nothing");
    }
    Ok(iso(duration))
}

/// `365.00:00:00`, `12:00:00`, `365d` or `P365D`.
pub(super) fn time_span(text: &str) -> Option<SignedDuration> {
    if text.starts_with(['P', 'p']) {
        let span: Span = text.parse().ok()?;
        return span.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    }
    if text.contains(':') {
        let (days, clock) = text.split_once('.').unwrap_or(("0", text));
        let days: i64 = days.parse().ok()?;
        let parts: Vec<i64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [hours @ 0..24, minutes @ 0..60, seconds @ 0..60] = parts[..] else { return None };
        let seconds = days.checked_mul(86_400)?.checked_add(hours * 3600 + minutes * 60 + seconds)?;
        return Some(SignedDuration::from_secs(seconds));
    }
    let parsed = shared::document::parse_duration(text).ok()?;
    SignedDuration::try_from(parsed).ok()
}

fn iso(duration: SignedDuration) -> String {
    let (days, rest) = (duration.as_secs() / 86_400, duration.as_secs() % 86_400);
    if rest == 0 { format!("P{days}D") } else { format!("P{days}DT{}H{}M{}S", rest / 3600, rest / 60 % 60, rest % 60) }
}

/// Whether a name that heartbeats brought may become a database: narrower than Kusto's rule.
fn is_database_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_identity(id: &str) -> bool {
    let parts: Vec<String> = id.split('/').map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    matches!(
        words[..],
        ["", "subscriptions", a, "resourcegroups", b, "providers", "microsoft.managedidentity", "userassignedidentities", c]
            if ![a, b, c].contains(&"")
    )
}

/// A SKU's tier follows from its name.
pub(super) fn tier_of(sku_name: &str) -> &'static str {
    if sku_name.starts_with(DEV) { "Basic" } else { "Standard" }
}

/// How many nodes a SKU has at least.
pub(super) fn fewest_nodes(sku_name: &str) -> i32 {
    if sku_name.starts_with(DEV) { 1 } else { 2 }
}

/// The name of a new cluster's SKU, and what a person may want to know about it.
pub(super) fn choose_sku(
    desired: &AppliedProvisionState,
    offers: &[OfferedSku],
    location: &str,
) -> Result<(String, Option<String>), Stop> {
    let here = |offer: &&OfferedSku| {
        offer.restrictions.is_empty() && offer.locations.iter().any(|offered| normal(offered) == location)
    };
    let usable: Vec<&OfferedSku> = offers.iter().filter(here).collect();
    let find = |name: &str| usable.iter().find(|offer| offer.name == name);
    let (name, note) = match &desired.sku_name {
        Some(name) if find(name).is_some() => (name.clone(), None),
        Some(name) => {
            let mut names: Vec<&str> = usable.iter().map(|offer| offer.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(20);
            let message = format!(
                "spec.provision.skuName = {name}: must be one that this subscription may have in {location}: {}",
                names.join(", ")
            );
            return Err(Stop::new(Phase::ClusterReady, Reason::SkuNotAvailable, message, Next::Spec));
        }
        None => {
            let preferred = PREFERRED.iter().find_map(|name| find(name));
            let standard = || usable.iter().find(|offer| offer.tier == "Standard");
            let Some(offer) = preferred.or_else(standard) else {
                let message = format!(
                    "this subscription may have no SKU of tier Standard in {location}: choose another spec.provision.location"
                );
                return Err(Stop::new(Phase::ClusterReady, Reason::SkuNotAvailable, message, Next::Person));
            };
            let note = (offer.name != PREFERRED[0])
                .then(|| format!("{} is not to be had in {location}: the SKU is {}", PREFERRED[0], offer.name));
            (offer.name.clone(), note)
        }
    };
    Ok((name, note))
}

/// A new cluster's SKU.
pub(super) fn sku_of(name: String, desired: &AppliedProvisionState) -> Sku {
    let fewest = fewest_nodes(&name);
    let capacity = desired.auto_scale.filter(|scale| scale.enabled).map_or(fewest, |scale| scale.min.max(fewest));
    Sku { tier: tier_of(&name).to_owned(), name, capacity: Some(capacity) }
}

/// Azure's form of how a cluster is scaled.
pub(super) const fn autoscale_of(scale: AppliedAutoScale) -> OptimizedAutoscale {
    OptimizedAutoscale { version: 1, is_enabled: scale.enabled, minimum: scale.min, maximum: scale.max }
}

/// The body that makes the cluster.
pub(super) fn new_cluster(
    desired: &AppliedProvisionState,
    sku: Sku,
    location: &str,
    tags: BTreeMap<String, String>,
) -> NewCluster {
    let ids = &desired.user_assigned_identities;
    let added = || ids.iter().map(|id| (id.clone(), Some(UserAssignedIdentity {}))).collect();
    let identity = Identity {
        kind: if ids.is_empty() { "SystemAssigned" } else { "UserAssigned" }.to_owned(),
        user_assigned_identities: (!ids.is_empty()).then(added),
    };
    let optimized_autoscale = desired.auto_scale.filter(|scale| scale.enabled).map(autoscale_of);
    let properties = NewClusterProperties { enable_streaming_ingest: true, optimized_autoscale };
    NewCluster { location: location.to_owned(), sku, identity, tags, properties }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(spec: &Value) -> ADXCluster {
        let mut cluster = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "x"}, "spec": spec});
        cluster["spec"]["clusterName"] = "fleet".into();
        serde_json::from_value(cluster).unwrap()
    }

    fn shown(desired: &AppliedProvisionState) -> Vec<(&str, Option<&str>)> {
        desired
            .databases
            .iter()
            .map(|database| (database.name.as_str(), database.soft_delete_period.as_deref()))
            .collect()
    }

    #[test]
    fn a_partition_that_says_nothing_gets_metrics_and_logs() {
        let wanted = desired(&cluster(&json!({}))).unwrap();
        assert_eq!(shown(&wanted), [("Metrics", Some("P30D")), ("Logs", Some("P30D"))]);
    }

    #[test]
    fn a_hub_gets_its_heartbeat_database_and_what_its_agent_misses() {
        let mut hub =
            cluster(&json!({"role": "Federated", "federation": {"heartbeatDatabase": "Fleet", "heartbeatTable": "T"}}));
        let status = json!({"federation": {"missingDatabases": ["Logs", "fleet", "../x", "", "Logs"]}});
        hub.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(shown(&desired(&hub).unwrap()), [("Fleet", None), ("Logs", None)]);
        // It stays one of the hub's when it is there, and so is not made again by itself when somebody deletes it.
        let made = json!({"appliedProvisionState": {"databases": [{"name": "Logs", "found": true, "seen": true}]}});
        hub.status = Some(serde_json::from_value(made).unwrap());
        assert_eq!(shown(&desired(&hub).unwrap()), [("Fleet", None), ("Logs", None)]);
        // However many heartbeats name.
        let many: Vec<String> = (0..500).map(|number| format!("D{number}")).collect();
        hub.status.as_mut().unwrap().federation =
            Some(serde_json::from_value(json!({"missingDatabases": many})).unwrap());
        assert_eq!(desired(&hub).unwrap().databases.len(), 1 + MAX_MISSING_DATABASES);
        // Who only plans makes nothing.
        hub.spec.federation.as_mut().unwrap().mode = Some(FederationMode::Plan);
        assert_eq!(shown(&desired(&hub).unwrap()), [("Fleet", None), ("Logs", None)]);
        hub.spec.federation.as_mut().unwrap().heartbeat_database = Some("..".to_owned());
        assert!(desired(&hub).unwrap_err()[0].rule.starts_with("spec.federation.heartbeatDatabase = ..: must not"));
    }

    #[test]
    fn retention_is_a_policy_or_days() {
        let of = |database: Value| {
            let mut database = database;
            (database["databaseName"], database["telemetryType"]) = ("D".into(), "Logs".into());
            let wanted = desired(&cluster(&json!({"databases": [database]})));
            wanted
                .map(|wanted| wanted.databases[0].soft_delete_period.clone().unwrap())
                .map_err(|wrong| wrong[0].rule.clone())
        };
        assert_eq!(of(json!({})).unwrap(), "P30D");
        assert_eq!(of(json!({"retentionInDays": 90})).unwrap(), "P90D");
        for (policy, period) in [
            (r#"{"SoftDeletePeriod": "365.00:00:00", "Recoverability": "Enabled"}"#, "P365D"),
            ("10.12:30:00", "P10DT12H30M0S"),
            ("12:00:00", "P0DT12H0M0S"),
            ("7d", "P7D"),
            ("P1W", "P7D"),
        ] {
            assert_eq!(of(json!({"retentionInDays": 30, "retentionPolicy": policy})).unwrap(), period, "{policy}");
        }
        for policy in [
            "forever",
            r#"{"Recoverability": "Enabled"}"#,
            "-1.00:00:00",
            "00:00:00",
            "1.25:00:00",
            "[1]",
            r#"{"SoftDeletePeriod": "7d", "Recoverability": "Disabled"}"#,
        ] {
            let error = of(json!({"retentionPolicy": policy})).unwrap_err();
            assert!(error.starts_with(&format!("spec.databases[0].retentionPolicy = {policy}: must ")), "{error}");
        }
    }

    #[test]
    fn a_tier_follows_from_the_sku() {
        let of = |provision: Value| desired(&cluster(&json!({"provision": provision})));
        let dev = "Dev(No SLA)_Standard_E2a_v4";
        for tier in ["Standard", "Basic"] {
            assert_eq!(of(json!({"skuName": dev, "tier": tier})).unwrap().tier.as_deref(), Some("Basic"));
        }
        assert_eq!(of(json!({"skuName": "Standard_E8ads_v5"})).unwrap().tier.as_deref(), Some("Standard"));
        for (provision, error) in [
            (json!({"skuName": "Standard_E8ads_v5", "tier": "Basic"}), "spec.provision.tier = Basic: must be Standard"),
            (json!({"tier": "Premium"}), "spec.provision.tier = Premium: must be"),
            (json!({"skuName": dev, "autoScale": true}), "spec.provision.autoScale = true: must be false"),
            (json!({"userAssignedIdentities": ["mine"]}), "spec.provision.userAssignedIdentities[0] = mine: must be"),
        ] {
            let wrong = of(provision).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].rule.starts_with(error), "{wrong:?}");
        }
    }

    #[test]
    fn a_sku_is_chosen_by_preference_among_what_the_region_has() {
        let offer = |name: &str, tier: &str, locations: &[&str], restricted: bool| OfferedSku {
            name: name.to_owned(),
            tier: tier.to_owned(),
            locations: locations.iter().map(|&location| location.to_owned()).collect(),
            restrictions: if restricted { vec![json!({"type": "Location"})] } else { Vec::new() },
        };
        let here = ["East US 2"].as_slice();
        let all = [
            offer("Dev(No SLA)_Standard_E2a_v4", "Basic", here, false),
            offer("Standard_E8ads_v5", "Standard", here, false),
            offer("Standard_L8as_v3", "Standard", here, false),
            offer("Standard_L16as_v3", "Standard", here, true),
        ];
        let nothing = AppliedProvisionState::default();
        let chosen = |desired: &AppliedProvisionState, offers: &[OfferedSku]| {
            choose_sku(desired, offers, "eastus2")
                .map(|(name, note)| (sku_of(name, desired), note))
                .map(|(sku, note)| (sku.name, sku.tier, sku.capacity.unwrap(), note))
                .map_err(|stop| stop.message)
        };
        assert_eq!(chosen(&nothing, &all).unwrap(), ("Standard_L8as_v3".to_owned(), "Standard".to_owned(), 2, None));
        let (name, _, _, note) = chosen(&nothing, &[all[0].clone(), all[1].clone(), all[3].clone()]).unwrap();
        assert_eq!((name.as_str(), note.is_some()), ("Standard_E8ads_v5", true));
        assert!(
            chosen(&nothing, &[all[0].clone(), offer("Standard_L8as_v3", "Standard", &["West US"], false)]).is_err()
        );
        let wanted =
            |name: &str| AppliedProvisionState { sku_name: Some(name.to_owned()), ..AppliedProvisionState::default() };
        let dev = chosen(&wanted("Dev(No SLA)_Standard_E2a_v4"), &all).unwrap();
        assert_eq!((dev.1.as_str(), dev.2), ("Basic", 1));
        let error = chosen(&wanted("Standard_L16as_v3"), &all).unwrap_err();
        assert!(error.starts_with("spec.provision.skuName = Standard_L16as_v3: must be one that"), "{error}");
        let scaled = AppliedProvisionState {
            auto_scale: Some(AppliedAutoScale { enabled: true, min: 4, max: 8 }),
            ..AppliedProvisionState::default()
        };
        assert_eq!(chosen(&scaled, &all).unwrap().2, 4);
    }
}
