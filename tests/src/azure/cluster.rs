//! Clusters: created, read, changed, deleted, started, stopped. No I/O; called by the exchange.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call, group_not_found},
    desired::{changed, check_capacity, new},
    operation::{Desired, Effect},
    region::{is_cluster_name, name_rule},
    world::{Cluster, TENANT, World, default_uri, normal, uuid_of},
};

pub(super) fn list(world: &World, call: &Call<'_>, group: Option<&str>) -> Answer {
    if let Some(group) = group.filter(|group| !world.has_group(call.subscription, group)) {
        return group_not_found(group);
    }
    let here = world.clusters.values().filter(|cluster| {
        cluster.subscription == call.subscription && group.is_none_or(|group| cluster.is_in(call.subscription, group))
    });
    call.page(here.map(|cluster| shown(world, cluster)).collect())
}

pub(super) fn answer(world: &mut World, call: &Call<'_>, group: &str, name: &str) -> Answer {
    let answered = match call.method {
        "GET" => world.find(call, group, name).map(|cluster| Answer::json(200, shown(world, cluster))),
        "PUT" => put(world, call, group, name),
        "PATCH" => patch(world, call, group, name),
        _ => delete(world, call, group, name),
    };
    answered.unwrap_or_else(|refused| refused)
}

fn put(world: &mut World, call: &Call<'_>, group: &str, name: &str) -> Result<Answer, Answer> {
    world.refuse_unregistered(call)?;
    if !world.has_group(call.subscription, group) {
        return Err(group_not_found(group));
    }
    if !is_cluster_name(name) {
        return Err(Answer::error(400, "InvalidResourceName", &name_rule(name)));
    }
    let key = name.to_lowercase();
    let existing = world.clusters.get(&key);
    let elsewhere = existing.is_some_and(|cluster| !cluster.is_in(call.subscription, group));
    if elsewhere || world.names_taken_elsewhere.contains(&key) {
        let message = format!("Name '{name}' with type Engine is already taken. Please specify a different name");
        return Err(Answer::error(409, "NameAlreadyExists", &message));
    }
    precondition(call, existing)?;
    if let Some(existing) = existing {
        world.refuse_overlap(call, existing)?;
        same_location(call, existing)?;
    }
    let desired = new(world, call, existing)?;
    // A cluster that has never run is created once more.
    if let Some(existing) = existing.filter(|existing| existing.uri.is_some()) {
        check_capacity(world, Some(existing), &desired)?;
        return Ok(begin_update(world, call, name, desired, 200));
    }
    check_capacity(world, None, &desired)?;
    let status = if existing.is_some() { 200 } else { 201 };
    let location = call.body["location"].as_str().unwrap_or_default();
    let offered = world.offers.iter().flat_map(|offer| &offer.locations);
    let location = offered.into_iter().find(|offered| normal(offered) == normal(location)).cloned();
    let Desired { sku, system_identity, user_identities, properties, tags, .. } = desired;
    let cluster = Cluster {
        name: name.to_owned(),
        subscription: call.subscription.to_owned(),
        resource_group: group.to_owned(),
        location: location.expect("the SKU is offered there"),
        sku,
        state: "Creating".to_owned(),
        provisioning_state: "Creating".to_owned(),
        state_reason: None,
        system_identity,
        user_identities,
        properties,
        tags,
        zones: call.body["zones"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        databases: std::collections::BTreeMap::new(),
        assignments: std::collections::BTreeMap::new(),
        uri: None,
        etag: 0,
    };
    world.clusters.insert(key.clone(), cluster);
    let id = world.begin(&key, "Create", Effect::Create, call.settings.durations.create);
    Ok(Answer::json(status, shown(world, &world.clusters[&key])).with_operation(call, world, id))
}

fn patch(world: &mut World, call: &Call<'_>, group: &str, name: &str) -> Result<Answer, Answer> {
    let existing = world.find(call, group, name)?;
    precondition(call, Some(existing))?;
    world.refuse_overlap(call, existing)?;
    if call.body["location"].is_string() {
        same_location(call, existing)?;
    }
    if existing.uri.is_none() {
        let message = format!("Cluster '{name}' cannot be updated: its creation failed. Create it again.");
        return Err(Answer::error(400, "ClusterCreationFailed", &message));
    }
    let desired = changed(world, call, existing)?;
    check_capacity(world, Some(existing), &desired)?;
    Ok(begin_update(world, call, name, desired, 202))
}

fn begin_update(world: &mut World, call: &Call<'_>, name: &str, desired: Desired, status: u16) -> Answer {
    let cluster = world.cluster(name);
    "Updating".clone_into(&mut cluster.state);
    "Running".clone_into(&mut cluster.provisioning_state);
    let effect = Effect::Update(Box::new(desired));
    let id = world.begin(name, "Update", effect, call.settings.durations.update);
    Answer::json(status, shown(world, &world.clusters[&name.to_lowercase()])).with_operation(call, world, id)
}

fn delete(world: &mut World, call: &Call<'_>, group: &str, name: &str) -> Result<Answer, Answer> {
    match world.find(call, group, name) {
        Ok(cluster) => world.refuse_overlap(call, cluster)?,
        Err(refused) if world.has_group(call.subscription, group) => {
            drop(refused);
            return Ok(Answer::empty(204));
        }
        Err(refused) => return Err(refused),
    }
    let cluster = world.cluster(name);
    "Deleting".clone_into(&mut cluster.state);
    "Deleting".clone_into(&mut cluster.provisioning_state);
    let id = world.begin(name, "Delete", Effect::Delete, call.settings.durations.update);
    Ok(Answer::empty(202).with_operation(call, world, id))
}

/// POST of start and stop.
pub(super) fn power(world: &mut World, call: &Call<'_>, group: &str, name: &str, start: bool) -> Answer {
    let found = world.find(call, group, name).and_then(|cluster| world.refuse_overlap(call, cluster));
    if let Err(refused) = found {
        return refused;
    }
    let (kind, from, meanwhile, to) =
        if start { ("Start", "Stopped", "Starting", "Running") } else { ("Stop", "Running", "Stopping", "Stopped") };
    let cluster = world.cluster(name);
    if cluster.state == to {
        return Answer::empty(200);
    }
    if cluster.state != from {
        let message = format!("Cluster '{name}' is {}: it cannot be {meanwhile}.", cluster.state);
        return Answer::error(409, "InvalidClusterState", &message);
    }
    meanwhile.clone_into(&mut cluster.state);
    "Running".clone_into(&mut cluster.provisioning_state);
    let id = world.begin(name, kind, Effect::State(to), call.settings.durations.update);
    Answer::empty(202).with_operation(call, world, id)
}

/// `If-Match` and `If-None-Match`.
fn precondition(call: &Call<'_>, existing: Option<&Cluster>) -> Result<(), Answer> {
    let failed = |message: &str| Err(Answer::error(412, "PreconditionFailed", message));
    match (existing, call.if_none_match, call.if_match) {
        (Some(existing), Some("*"), _) => failed(&format!("The resource '{}' already exists.", existing.name)),
        (None, _, Some(_)) => failed("The resource does not exist."),
        (Some(existing), _, Some(wanted)) if wanted != "*" && wanted != etag(existing) => {
            failed(&format!("The etag of the resource is {}.", etag(existing)))
        }
        _ => Ok(()),
    }
}

fn same_location(call: &Call<'_>, existing: &Cluster) -> Result<(), Answer> {
    let wanted = call.body["location"].as_str().unwrap_or_default();
    if normal(wanted) == normal(&existing.location) {
        return Ok(());
    }
    let Cluster { name, resource_group, location, .. } = existing;
    let message = format!(
        "The resource '{name}' already exists in location '{location}' in resource group '{resource_group}'. A resource with the same name cannot be created in \
         location '{wanted}'. Please select a new resource name."
    );
    Err(Answer::error(409, "InvalidResourceLocation", &message))
}

fn etag(cluster: &Cluster) -> String {
    format!("\"{:016x}\"", cluster.etag)
}

/// As a GET shows it.
pub(super) fn shown(world: &World, cluster: &Cluster) -> Value {
    let Cluster { name, location, sku, state, provisioning_state, state_reason, tags, zones, uri, .. } = cluster;
    let mut properties = json!({
        "trustedExternalTenants": [],
        "enableDiskEncryption": false,
        "enableStreamingIngest": false,
        "enablePurge": false,
        "enableDoubleEncryption": false,
        "enableAutoStop": true,
        "engineType": "V3",
        "publicNetworkAccess": "Enabled",
        "publicIPType": "IPv4",
        "restrictOutboundNetworkAccess": "Disabled",
        "allowedIpRangeList": [],
        "privateEndpointConnections": [],
    });
    for (key, value) in &cluster.properties {
        properties[key] = value.clone();
    }
    properties["state"] = state.as_str().into();
    properties["provisioningState"] = provisioning_state.as_str().into();
    if let Some(reason) = state_reason {
        properties["stateReason"] = reason.as_str().into();
    }
    if let Some(uri) = uri {
        let served = world.served.get(&name.to_lowercase());
        let ingestion = || default_uri(&format!("ingest-{name}"), location);
        properties["uri"] = served.unwrap_or(uri).as_str().into();
        properties["dataIngestionUri"] = served.cloned().unwrap_or_else(ingestion).into();
    }
    let mut body = json!({
        "id": cluster.id(),
        "name": name,
        "type": "Microsoft.Kusto/Clusters",
        "location": location,
        "tags": tags,
        "sku": {"name": sku.name, "tier": sku.tier, "capacity": sku.capacity},
        "etag": etag(cluster),
        "properties": properties,
    });
    if !zones.is_empty() {
        body["zones"] = json!(zones);
    }
    if let Some(identity) = identity(cluster) {
        body["identity"] = identity;
    }
    body
}

fn identity(cluster: &Cluster) -> Option<Value> {
    let kind = match (cluster.system_identity, cluster.user_identities.is_empty()) {
        (false, true) => return None,
        (true, true) => "SystemAssigned",
        (false, false) => "UserAssigned",
        (true, false) => "SystemAssigned, UserAssigned",
    };
    let mut identity = json!({"type": kind});
    let is_ready = cluster.uri.is_some();
    if cluster.system_identity && is_ready {
        identity["principalId"] = uuid_of(&cluster.id()).into();
        identity["tenantId"] = TENANT.into();
    }
    for id in &cluster.user_identities {
        let ids = json!({"clientId": uuid_of(&format!("client of {id}")), "principalId": uuid_of(&format!("principal of {id}"))});
        identity["userAssignedIdentities"][id] = if is_ready { ids } else { json!({}) };
    }
    Some(identity)
}
