//! What Microsoft.Resources answers: the subscription, whether it may use Microsoft.Kusto, resource groups. No I/O; called by the exchange.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call, group_not_found},
    world::{Group, TENANT, World, normal},
};

pub(super) fn subscription(call: &Call<'_>) -> Answer {
    let id = call.subscription;
    let body = json!({
        "id": format!("/subscriptions/{id}"), "subscriptionId": id, "tenantId": TENANT, "displayName": "stories", "state": "Enabled",
    });
    Answer::json(200, body)
}

/// GET of the provider, POST of its registration.
pub(super) fn provider(world: &mut World, call: &Call<'_>, namespace: &str) -> Answer {
    if !namespace.eq_ignore_ascii_case("Microsoft.Kusto") {
        let message = format!("The resource namespace '{namespace}' is invalid.");
        return Answer::error(404, "InvalidResourceNamespace", &message);
    }
    let now = world.now;
    let mut locations: Vec<String> = world.offers.iter().flat_map(|offer| offer.locations.clone()).collect();
    locations.sort();
    locations.dedup();
    let subscription = world.subscriptions.get_mut(call.subscription).expect("the exchange looked");
    if call.method == "POST" && subscription.registration != "Registered" {
        "Registering".clone_into(&mut subscription.registration);
        subscription.registered_at.get_or_insert(now + call.settings.durations.register);
    }
    let body = json!({
        "id": format!("/subscriptions/{}/providers/Microsoft.Kusto", call.subscription),
        "namespace": "Microsoft.Kusto",
        "registrationPolicy": "RegistrationRequired",
        "registrationState": subscription.registration,
        "resourceTypes": [{"resourceType": "clusters", "locations": locations, "apiVersions": ["2025-02-14"]}],
    });
    Answer::json(200, body)
}

/// HEAD, GET and PUT of a resource group.
pub(super) fn group(world: &mut World, call: &Call<'_>, name: &str) -> Answer {
    let subscription = world.subscriptions.get_mut(call.subscription).expect("the exchange looked");
    let key = name.to_lowercase();
    let known = subscription.groups.get(&key);
    match (call.method, known) {
        ("HEAD", Some(_)) => Answer::empty(204),
        ("HEAD", None) => Answer::empty(404),
        ("PUT", known) => {
            let location = call.body["location"].as_str().unwrap_or_default();
            if let Some(known) = known.filter(|known| known.location != normal(location)) {
                let message = format!(
                    "Invalid resource group location '{location}'. The Resource group already exists in location '{}'.",
                    known.location
                );
                return Answer::error(409, "InvalidResourceGroupLocation", &message);
            }
            let is_valid = |character: char| character.is_alphanumeric() || "-_.()".contains(character);
            if name.chars().count() > 90 || name.ends_with('.') || !name.chars().all(is_valid) {
                let message = format!("The provided resource group name '{name}' has these invalid characters.");
                return Answer::error(400, "InvalidResourceGroup", &message);
            }
            let status = if known.is_some() { 200 } else { 201 };
            let name = known.map_or_else(|| name.to_owned(), |known| known.name.clone());
            let group = Group { name, location: normal(location), tags: tags_of(call.body) };
            let answer = Answer::json(status, shown(call, &group));
            subscription.groups.insert(key, group);
            answer
        }
        (_, Some(known)) => Answer::json(200, shown(call, known)),
        (_, None) => group_not_found(name),
    }
}

fn shown(call: &Call<'_>, group: &Group) -> Value {
    let Group { name, location, tags } = group;
    json!({
        "id": format!("/subscriptions/{}/resourceGroups/{name}", call.subscription),
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": location,
        "tags": tags,
        "properties": {"provisioningState": "Succeeded"},
    })
}

/// The tags of a body.
pub(super) fn tags_of(body: &Value) -> BTreeMap<String, String> {
    let tags = body["tags"].as_object().into_iter().flatten();
    tags.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
