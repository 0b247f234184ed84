//! Where a cluster goes: the spec says it, or the operator's settings, or the machine that the operator runs on. Pure.

use shared::document::{ADXCluster, provisioned::ProvisionStatus};

use super::stop::{Next, Stop};
use crate::{
    azure::{ClusterPath, Place},
    kubernetes::{conditions::Phase, reason::Reason},
};

/// A place in Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: ClusterPath,
    /// Without blanks, in lower case: `eastus2`.
    pub(super) location: String,
}

/// AKS makes and deletes groups of this name with its nodes.
const NODE_GROUP: &str = "mc_";

/// What the spec says of the place.
fn of_spec(cluster: &ADXCluster) -> Place {
    let provision = cluster.spec.provision.clone().unwrap_or_default();
    let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Place {
        subscription_id: given(provision.subscription_id),
        resource_group: given(provision.resource_group),
        location: given(provision.location).as_deref().map(normal),
    }
}

/// Whether the specs of two clusters may mean one place: names are unique in a region only.
pub(super) fn may_be_one_place(one: &ADXCluster, other: &ADXCluster) -> bool {
    let (one, other) = (of_spec(one), of_spec(other));
    let may_be = |one: &Option<String>, other: &Option<String>| {
        one.as_ref().zip(other.as_ref()).is_none_or(|(one, other)| one.eq_ignore_ascii_case(other))
    };
    may_be(&one.location, &other.location)
}

/// What the status remembers, once something is intended.
fn remembered(status: &ProvisionStatus) -> Place {
    let ProvisionStatus { subscription_id, resource_group, location, resource_id, .. } = status.clone();
    if resource_id.is_some() { Place { subscription_id, resource_group, location } } else { Place::default() }
}

/// Whether the machine has to be asked where it is.
pub(super) fn is_unknown(cluster: &ADXCluster, status: &ProvisionStatus, settings: &Place) -> bool {
    let sources = [&of_spec(cluster), &remembered(status), settings];
    let has = |field: fn(&Place) -> &Option<String>| sources.iter().any(|place| field(place).is_some());
    !(has(|place| &place.subscription_id) && has(|place| &place.location))
}

/// The place, from all that is known. `here`: what the machine said, or why it did not. Its resource group is not used: on AKS that is the nodes', whatever its name is,
/// and goes with them.
pub(super) fn target(
    cluster: &ADXCluster,
    status: &ProvisionStatus,
    settings: &Place,
    here: &Result<Place, String>,
) -> Result<Target, Stop> {
    let name = cluster.spec.cluster_name.clone();
    // A cluster that has been seen does not move, and has the name that it has.
    let is_there = status.state.is_some();
    let there = status.resource_id.as_deref().and_then(|id| id.rsplit('/').next()).filter(|_| is_there);
    if let Some(there) = there.filter(|there| !there.eq_ignore_ascii_case(&name)) {
        let message = format!(
            "spec.clusterName = {name}: must stay '{there}', as the cluster is called; to have another, make another ADXCluster"
        );
        return Err(Stop::new(Phase::ClusterReady, Reason::NameIsFixed, message, Next::Spec));
    }
    let (spec, known, machine) = (of_spec(cluster), remembered(status), here.clone().unwrap_or_default());
    let pick = |field, spec, known| pick(field, spec, known, is_there);
    let subscription = pick("subscriptionId", &spec.subscription_id, &known.subscription_id)?;
    let subscription = subscription.or(settings.subscription_id.clone()).or(machine.subscription_id);
    let location = pick("location", &spec.location, &known.location)?;
    let location = location.or(settings.location.clone()).or(machine.location).as_deref().map(normal);
    let group = pick("resourceGroup", &spec.resource_group, &known.resource_group)?;
    let group = group.or(settings.resource_group.clone());
    let (Some(subscription), Some(location)) = (&subscription, &location) else {
        let missing = [
            (subscription.is_none(), "spec.provision.subscriptionId (or --azure-subscription)"),
            (location.is_none(), "spec.provision.location (or --azure-location)"),
        ];
        let missing: Vec<_> = missing.iter().filter(|(is_missing, _)| *is_missing).map(|(_, name)| *name).collect();
        let why = here.as_ref().err().map_or("the machine does not say", String::as_str);
        let message = format!("it is not known where the cluster is to be: set {}; {why}", missing.join(" and "));
        return Err(Stop::new(Phase::ClusterReady, Reason::PlaceUnknown, message, Next::Person));
    };
    let group = group.unwrap_or_else(|| format!("adx-mon-{location}"));
    check("subscriptionId", subscription, is_guid(subscription), "must be a GUID")?;
    check("location", location, is_location(location), "must be the name of a region, such as eastus2")?;
    let rule = "must be 1 to 90 letters, digits, '-', '_', '.', '(' and ')', not ending with '.'";
    check("resourceGroup", &group, is_group(&group), rule)?;
    let is_of_nodes = group.to_lowercase().starts_with(NODE_GROUP);
    check("resourceGroup", &group, !is_of_nodes, "must not begin with MC_: AKS deletes such a group with its nodes")?;
    let path = ClusterPath { subscription: subscription.clone(), group, cluster: name };
    Ok(Target { path, location: location.clone() })
}

/// What the spec says, which must be where the cluster is; while it is only intended, the spec may still choose.
fn pick(field: &str, spec: &Option<String>, known: &Option<String>, is_there: bool) -> Result<Option<String>, Stop> {
    match (spec, known) {
        (Some(spec), Some(known)) if is_there && !spec.eq_ignore_ascii_case(known) => {
            let message = format!(
                "spec.provision.{field} = {spec}: must stay '{known}', where the cluster is; to have it elsewhere, make another ADXCluster"
            );
            Err(Stop::new(Phase::ClusterReady, Reason::PlaceIsFixed, message, Next::Spec))
        }
        (_, Some(known)) if is_there => Ok(Some(known.clone())),
        (spec, known) => Ok(spec.clone().or_else(|| known.clone())),
    }
}

fn check(field: &str, value: &str, is_right: bool, rule: &str) -> Result<(), Stop> {
    if is_right {
        return Ok(());
    }
    let message = format!("spec.provision.{field} = {value} (from the spec or the operator's settings): {rule}");
    Err(Stop::new(Phase::ClusterReady, Reason::Invalid, message, Next::Spec))
}

/// `East US 2` and `eastus2` are one.
pub(super) fn normal(location: &str) -> String {
    location.chars().filter(|character| !character.is_whitespace()).flat_map(char::to_lowercase).collect()
}

fn is_guid(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| is_hex(part))
}

fn is_location(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_group(text: &str) -> bool {
    let is_inner = |character: char| character.is_alphanumeric() || "-_.()".contains(character);
    (1..=90).contains(&text.chars().count()) && text.chars().all(is_inner) && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "11111111-1111-1111-1111-111111111111";
    const B: &str = "22222222-2222-2222-2222-222222222222";

    fn cluster(provision: &Value) -> ADXCluster {
        let cluster = json!({"apiVersion": "adx-mon.azure.com/v1", "kind": "ADXCluster", "metadata": {"name": "x"}, "spec": {"clusterName": "fleet", "provision": provision}});
        serde_json::from_value(cluster).unwrap()
    }

    fn place(subscription: &str, group: &str, location: &str) -> Place {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Place { subscription_id: given(subscription), resource_group: given(group), location: given(location) }
    }

    fn found(
        provision: &Value,
        status: &ProvisionStatus,
        settings: &Place,
        here: &Result<Place, String>,
    ) -> Result<[String; 3], String> {
        let target = target(&cluster(provision), status, settings, here);
        target
            .map(|Target { path, location }| [path.subscription, path.group, location])
            .map_err(|stop| format!("{}: {}", stop.reason, stop.message))
    }

    fn texts(expected: [&str; 3]) -> Result<[String; 3], String> {
        Ok(expected.map(str::to_owned))
    }

    #[test]
    fn the_spec_goes_before_the_settings_and_those_before_the_machine() {
        let none = ProvisionStatus::default();
        let here = Ok(place(A, "vm-group", "East US 2"));
        assert_eq!(found(&json!({}), &none, &Place::default(), &here), texts([A, "adx-mon-eastus2", "eastus2"]));
        let settings = place("", "group", "westeurope");
        assert_eq!(found(&json!({}), &none, &settings, &here), texts([A, "group", "westeurope"]));
        let spec = json!({"subscriptionId": B, "resourceGroup": "mine", "location": "North Europe"});
        assert_eq!(found(&spec, &none, &settings, &here), texts([B, "mine", "northeurope"]));
        assert!(!is_unknown(&cluster(&spec), &none, &Place::default()));
        assert!(is_unknown(&cluster(&json!({"location": "x"})), &none, &settings));
    }

    #[test]
    fn never_into_the_group_of_aks_nodes() {
        let none = ProvisionStatus::default();
        // An AKS cluster's node group may have any name.
        for group in ["MC_rg_aks_eastus2", "nodes-of-our-aks"] {
            let here = Ok(place(A, group, "eastus2"));
            assert_eq!(found(&json!({}), &none, &Place::default(), &here), texts([A, "adx-mon-eastus2", "eastus2"]));
        }
        let here = Ok(place(A, "", "eastus2"));
        let spec = json!({"resourceGroup": "mc_rg_aks_eastus2"});
        assert!(
            found(&spec, &none, &Place::default(), &here)
                .unwrap_err()
                .starts_with("Invalid: spec.provision.resourceGroup = mc_rg")
        );
    }

    #[test]
    fn what_is_missing_is_listed_with_why() {
        let none = ProvisionStatus::default();
        let error = found(&json!({}), &none, &Place::default(), &Err("no machine".to_owned())).unwrap_err();
        assert_eq!(
            error,
            "PlaceUnknown: it is not known where the cluster is to be: set spec.provision.subscriptionId (or --azure-subscription) and \
             spec.provision.location (or --azure-location); no machine"
        );
        // A group of our own needs nobody's word.
        let spec = json!({"subscriptionId": A, "location": "eastus2"});
        let cut_off = Err("cut off".to_owned());
        assert_eq!(found(&spec, &none, &Place::default(), &cut_off), texts([A, "adx-mon-eastus2", "eastus2"]));
    }

    #[test]
    fn what_is_there_stays_where_it_is() {
        let there = ProvisionStatus {
            subscription_id: Some(A.to_owned()),
            resource_group: Some("adx-mon-eastus2".to_owned()),
            location: Some("eastus2".to_owned()),
            resource_id: Some("/subscriptions/a/clusters/fleet".to_owned()),
            state: Some("Running".to_owned()),
            ..ProvisionStatus::default()
        };
        let moved = Ok(place(B, "other", "westus"));
        assert_eq!(found(&json!({}), &there, &place(B, "z", "y"), &moved), texts([A, "adx-mon-eastus2", "eastus2"]));
        let same = json!({"location": "East US 2", "resourceGroup": "ADX-MON-eastus2"});
        assert!(found(&same, &there, &Place::default(), &moved).is_ok());
        let error = found(&json!({"location": "westus"}), &there, &Place::default(), &moved).unwrap_err();
        assert!(error.starts_with("PlaceIsFixed: spec.provision.location = westus: must stay 'eastus2'"), "{error}");
        // What is only intended is kept from settings and machine, and the spec may still choose.
        let intended = ProvisionStatus { state: None, ..there.clone() };
        let settings = place(B, "z", "y");
        assert_eq!(found(&json!({}), &intended, &settings, &moved), texts([A, "adx-mon-eastus2", "eastus2"]));
        let elsewhere = json!({"location": "westus"});
        assert_eq!(found(&elsewhere, &intended, &settings, &moved), texts([A, "adx-mon-eastus2", "westus"]));
        // Before that nothing is.
        let nothing = ProvisionStatus { resource_id: None, ..intended };
        assert_eq!(found(&json!({}), &nothing, &settings, &moved), texts([B, "z", "y"]));
        let other = ProvisionStatus { resource_id: Some("/x/clusters/other".to_owned()), ..there };
        let error = found(&json!({}), &other, &Place::default(), &moved).unwrap_err();
        assert!(error.starts_with("NameIsFixed: spec.clusterName = fleet: must stay 'other'"), "{error}");
    }

    #[test]
    fn what_would_be_another_path_is_refused() {
        let none = ProvisionStatus::default();
        let here = Err(String::new());
        for (field, value) in [
            ("subscriptionId", "../x"),
            ("subscriptionId", "1111"),
            ("location", "east/us"),
            ("resourceGroup", ".."),
            ("resourceGroup", "a/b"),
        ] {
            let mut spec = json!({"subscriptionId": A, "location": "eastus2", "resourceGroup": "g"});
            spec[field] = value.into();
            let error = found(&spec, &none, &Place::default(), &here).unwrap_err();
            assert!(error.starts_with(&format!("Invalid: spec.provision.{field} = ")), "{error}");
        }
    }
}
