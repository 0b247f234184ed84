//! What Microsoft.Kusto answers for a region: SKUs, names, operations. No I/O; called by the exchange.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call},
    world::{Offer, World, normal},
};

/// The SKUs of a region.
pub(super) fn skus(world: &World, call: &Call<'_>, location: &str) -> Answer {
    if let Err(refused) = world.refuse_unregistered(call) {
        return refused;
    }
    let offers = world.offers.iter().filter(|offer| offer.is_in(location));
    call.page(offers.map(|offer| shown(offer, location)).collect())
}

fn shown(offer: &Offer, location: &str) -> Value {
    let Offer { name, tier, locations, .. } = offer;
    let here = locations.iter().find(|offered| normal(offered) == normal(location));
    let restrictions = if offer.is_restricted_in(location) {
        json!([{
            "type": "Location", "values": [here], "reasonCode": "NotAvailableForSubscription",
            "restrictionInfo": {"locations": [here], "zones": ["1", "2", "3"]},
        }])
    } else {
        json!([])
    };
    json!({
        "resourceType": "clusters", "name": name, "tier": tier, "locations": [here],
        "locationInfo": [{"location": here, "zones": ["1", "2", "3"]}], "restrictions": restrictions,
    })
}

/// Whether a cluster's name is free.
pub(super) fn check_name(world: &World, call: &Call<'_>) -> Answer {
    if let Err(refused) = world.refuse_unregistered(call) {
        return refused;
    }
    let name = call.body["name"].as_str().unwrap_or_default();
    let key = name.to_lowercase();
    let refused = if !is_cluster_name(name) {
        Some(("Invalid", name_rule(name)))
    } else if world.clusters.contains_key(&key) || world.names_taken_elsewhere.contains(&key) {
        Some((
            "AlreadyExists",
            format!("Name '{name}' with type Engine is already taken. Please specify a different name"),
        ))
    } else {
        None
    };
    let body = match refused {
        None => json!({"name": name, "nameAvailable": true}),
        Some((reason, message)) => json!({"name": name, "nameAvailable": false, "reason": reason, "message": message}),
    };
    Answer::json(200, body)
}

/// The rule for names of clusters.
pub(super) fn is_cluster_name(name: &str) -> bool {
    let letters = name.chars().all(|character| character.is_ascii_lowercase() || character.is_ascii_digit());
    letters && name.starts_with(|first: char| first.is_ascii_lowercase()) && (4..=22).contains(&name.len())
}

pub(super) fn name_rule(name: &str) -> String {
    format!(
        "Cluster name '{name}' is invalid. A name has 4 to 22 lower-case letters and digits, and begins with a letter."
    )
}

/// How an operation stands: as a resource of its own, or as the status of its `Location`.
pub(super) fn operation(world: &World, call: &Call<'_>, location: &str, id: &str) -> Answer {
    let found = world.operations.get(&id.to_lowercase());
    let here = found.filter(|operation| {
        normal(&operation.location) == normal(location) && operation.subscription == call.subscription
    });
    let Some(operation) = here else {
        return Answer::error(404, "OperationNotFound", &format!("The operation '{id}' was not found."));
    };
    if call.query.get("operationResultResponseType").is_some_and(|kind| kind == "Location") {
        return match (&operation.failure, operation.ended) {
            (_, false) => Answer::empty(202).with_retry_after(call),
            (None, true) => Answer::empty(200),
            (Some(failure), true) => Answer::error(409, &failure.code, &failure.message),
        };
    }
    let status = match (&operation.failure, operation.ended) {
        (_, false) => "Running",
        (None, true) => "Succeeded",
        (Some(_), true) => "Failed",
    };
    let mut body = json!({
        "id": call.path,
        "name": operation.id,
        "status": status,
        "startTime": call.timestamp(operation.began),
        "percentComplete": if operation.ended { 100.0 } else { 50.0 },
        "properties": {"operationKind": operation.kind, "provisioningState": status},
    });
    let answer_later = !operation.ended;
    if operation.ended {
        body["endTime"] = call.timestamp(operation.due).into();
    }
    if let Some(failure) = operation.failure.as_ref().filter(|_| operation.ended) {
        body["error"] = json!({"code": failure.code, "message": failure.message});
    }
    let answer = Answer::json(200, body);
    if answer_later { answer.with_retry_after(call) } else { answer }
}
