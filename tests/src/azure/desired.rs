//! What a PUT or a PATCH wants a cluster to become, and whether Azure offers that. No I/O; called by what answers for clusters.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    answer::{Answer, Call},
    operation::Desired,
    subscription::tags_of,
    world::{Cluster, Sku, World, normal},
};

/// A PUT says everything; only identities stay as they are if it says nothing of them.
pub(super) fn new(world: &World, call: &Call<'_>, existing: Option<&Cluster>) -> Result<Desired, Answer> {
    let location = call.body["location"].as_str().unwrap_or_default();
    let sku = sku(world, &call.body["sku"], location)?;
    let properties = call.body["properties"].as_object().cloned().unwrap_or_default();
    let (system_identity, user_identities) = match (call.body.get("identity"), existing) {
        (Some(identity), _) => identities(identity, &BTreeSet::new(), &BTreeSet::new())?,
        (None, Some(existing)) => (existing.system_identity, existing.user_identities.clone()),
        (None, None) => (false, BTreeSet::new()),
    };
    let state = state_of(existing);
    let desired = Desired { sku, system_identity, user_identities, properties, tags: tags_of(call.body), state };
    check_autoscale(&desired)?;
    Ok(desired)
}

/// A PATCH says what is to be another.
pub(super) fn changed(world: &World, call: &Call<'_>, existing: &Cluster) -> Result<Desired, Answer> {
    let sku = match call.body.get("sku") {
        Some(wanted) => sku(world, wanted, &existing.location)?,
        None => existing.sku.clone(),
    };
    let mut properties: Map<String, Value> = existing.properties.clone();
    for (name, value) in call.body["properties"].as_object().into_iter().flatten() {
        properties.insert(name.clone(), value.clone());
    }
    let before = &existing.user_identities;
    let (system_identity, user_identities) = match call.body.get("identity") {
        Some(identity) => identities(identity, before, before)?,
        None => (existing.system_identity, before.clone()),
    };
    let tags = if call.body["tags"].is_object() { tags_of(call.body) } else { existing.tags.clone() };
    let state = state_of(Some(existing));
    let desired = Desired { sku, system_identity, user_identities, properties, tags, state };
    check_autoscale(&desired)?;
    Ok(desired)
}

/// Stopped clusters stay stopped.
fn state_of(existing: Option<&Cluster>) -> String {
    existing.map_or("Running", |existing| existing.state.as_str()).to_owned()
}

/// Whether its cores are to be had.
pub(super) fn check_capacity(world: &World, before: Option<&Cluster>, desired: &Desired) -> Result<(), Answer> {
    let more =
        before.is_none_or(|before| before.sku.name != desired.sku.name || before.sku.capacity < desired.sku.capacity);
    if world.quota_exceeded && more {
        let message = "SubscriptionQuotaExceeded: operation could not be completed as it results in exceeding approved Total Regional Cores quota. Please submit a \
                       new support request to increase the quota.";
        return Err(Answer::error(409, "QuotaExceeded", message));
    }
    Ok(())
}

fn sku(world: &World, wanted: &Value, location: &str) -> Result<Sku, Answer> {
    let refused = |code: &str, message: &str| Err(Answer::error(400, code, message));
    let name = wanted["name"].as_str().unwrap_or_default();
    let here = || world.offers.iter().filter(|offer| offer.is_in(location));
    if here().next().is_none() {
        let mut locations: Vec<String> =
            world.offers.iter().flat_map(|offer| &offer.locations).map(|location| normal(location)).collect();
        locations.sort();
        locations.dedup();
        let locations = locations.join(",");
        let message = format!(
            "The provided location '{location}' is not available for resource type 'Microsoft.Kusto/clusters'. List of available regions for the resource type is '{locations}'."
        );
        return refused("LocationNotAvailableForResourceType", &message);
    }
    let Some(offer) = here().find(|offer| offer.name == name && !offer.is_restricted_in(location)) else {
        let message = format!("The SKU '{name}' is not available for this subscription in location '{location}'.");
        return refused("SkuNotAvailable", &message);
    };
    let tier = wanted["tier"].as_str().unwrap_or_default();
    if tier != offer.tier {
        return refused("InvalidSkuTier", &format!("The SKU '{name}' is of tier '{}', not '{tier}'.", offer.tier));
    }
    let capacity = wanted["capacity"].as_i64().unwrap_or(offer.minimum);
    if !(offer.minimum..=offer.maximum).contains(&capacity) {
        let (minimum, maximum) = (offer.minimum, offer.maximum);
        let message = format!("The SKU '{name}' takes a capacity from {minimum} to {maximum}, not {capacity}.");
        return refused("InvalidSkuCapacity", &message);
    }
    Ok(Sku { name: name.to_owned(), tier: tier.to_owned(), capacity })
}

fn check_autoscale(desired: &Desired) -> Result<(), Answer> {
    let autoscale = &desired.properties.get("optimizedAutoscale").cloned().unwrap_or_default();
    if autoscale["isEnabled"] != true {
        return Ok(());
    }
    let (minimum, maximum) = (autoscale["minimum"].as_i64(), autoscale["maximum"].as_i64());
    let is_right = desired.sku.tier == "Standard" && minimum >= Some(2) && minimum <= maximum;
    if is_right && autoscale["version"] == 1 {
        return Ok(());
    }
    let message = "Optimized autoscale wants version 1, a SKU of tier 'Standard', at least two instances, and a minimum that is not above the maximum.";
    Err(Answer::error(400, "InvalidOptimizedAutoscale", message))
}

/// An identity block, on top of the user-assigned identities that stay: `{}` adds one, null removes one. `known` gives a key the case that it has already.
fn identities(
    block: &Value,
    staying: &BTreeSet<String>,
    known: &BTreeSet<String>,
) -> Result<(bool, BTreeSet<String>), Answer> {
    let refused = |message: &str| Err(Answer::error(400, "InvalidIdentity", message));
    let kind = block["type"].as_str().unwrap_or_default();
    let given = block["userAssignedIdentities"].as_object();
    let is_system = kind.starts_with("SystemAssigned");
    if !kind.ends_with("UserAssigned") {
        let names_some = given.is_some_and(|given| given.values().any(|value| !value.is_null()));
        return if names_some {
            refused(&format!("User-assigned identities are given, but the type is '{kind}'."))
        } else {
            Ok((is_system, BTreeSet::new()))
        };
    }
    let mut identities = staying.clone();
    for (id, value) in given.into_iter().flatten() {
        let parts: Vec<String> = id.to_lowercase().split('/').map(str::to_owned).collect();
        let words: Vec<&str> = parts.iter().map(String::as_str).collect();
        let [
            "",
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            "microsoft.managedidentity",
            "userassignedidentities",
            _,
        ] = words.as_slice()
        else {
            let message = format!("'{id}' is not the resource id of a user-assigned identity.");
            return Err(Answer::error(400, "LinkedInvalidPropertyId", &message));
        };
        let key = known.iter().find(|known| known.eq_ignore_ascii_case(id)).unwrap_or(id);
        if value.is_null() {
            identities.remove(key);
        } else {
            identities.insert(key.clone());
        }
    }
    if identities.is_empty() {
        return refused("The type says that there are user-assigned identities, but none is given.");
    }
    Ok((is_system, identities))
}
