//! Databases of a cluster. No I/O; called by the exchange.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call, not_found},
    operation::{Effect, Retention},
    world::{Cluster, Database, World},
};

const KIND: &str = "Microsoft.Kusto/Clusters/Databases";

pub(super) fn list(world: &World, call: &Call<'_>, group: &str, cluster: &str) -> Answer {
    match world.find_parent(call, group, cluster, KIND) {
        Err(refused) => refused,
        Ok(cluster) => {
            let visible = cluster.databases.values().filter(|database| database.visible_at <= world.now);
            call.page(visible.map(|database| shown(cluster, database)).collect())
        }
    }
}

pub(super) fn answer(world: &mut World, call: &Call<'_>, group: &str, cluster: &str, name: &str) -> Answer {
    let answered = match call.method {
        "GET" => get(world, call, group, cluster, name),
        "PUT" | "PATCH" => write(world, call, group, cluster, name),
        _ => delete(world, call, group, cluster, name),
    };
    answered.unwrap_or_else(|refused| refused)
}

fn get(world: &World, call: &Call<'_>, group: &str, cluster: &str, name: &str) -> Result<Answer, Answer> {
    let cluster = world.find_parent(call, group, cluster, KIND)?;
    let database = cluster.databases.get(&name.to_lowercase()).filter(|database| database.visible_at <= world.now);
    let database = database.ok_or_else(|| missing(cluster, group, name))?;
    Ok(Answer::json(200, shown(cluster, database)))
}

fn write(world: &mut World, call: &Call<'_>, group: &str, name: &str, database: &str) -> Result<Answer, Answer> {
    let durations = &call.settings.durations;
    let cluster = world.find_parent(call, group, name, KIND)?;
    world.refuse_overlap(call, cluster)?;
    running(cluster)?;
    let is_valid = |character: char| character.is_alphanumeric() || "-_. ".contains(character);
    if database.is_empty() || database.chars().count() > 260 || !database.chars().all(is_valid) {
        let message = format!("Database name '{database}' is invalid.");
        return Err(Answer::error(400, "InvalidResourceName", &message));
    }
    if call.body["kind"] != "ReadWrite" {
        return Err(Answer::error(400, "InvalidDatabaseKind", "The double has databases of kind 'ReadWrite' only."));
    }
    let key = database.to_lowercase();
    let existing = cluster.databases.get(&key);
    if call.method == "PATCH" && existing.is_none() {
        return Err(missing(cluster, group, database));
    }
    let given = |property: &str, before: Option<&String>| {
        let value = call.body["properties"][property].as_str().map(str::to_owned);
        value.or_else(|| before.filter(|_| call.method == "PATCH").cloned())
    };
    let desired = Retention {
        soft_delete_period: given(
            "softDeletePeriod",
            existing.and_then(|existing| existing.soft_delete_period.as_ref()),
        ),
        hot_cache_period: given("hotCachePeriod", existing.and_then(|existing| existing.hot_cache_period.as_ref())),
    };
    let (status, effect) = match (existing, call.method) {
        (None, _) => (201, Effect::Database { name: key.clone(), desired: None }),
        (Some(_), "PUT") => (200, Effect::Database { name: key.clone(), desired: Some(desired.clone()) }),
        (Some(_), _) => (202, Effect::Database { name: key.clone(), desired: Some(desired.clone()) }),
    };
    let visible_at = world.now + durations.visible_after;
    let databases = &mut world.cluster(name).databases;
    databases
        .entry(key.clone())
        .and_modify(|existing| "Running".clone_into(&mut existing.provisioning_state))
        .or_insert_with(|| Database {
            name: database.to_owned(),
            soft_delete_period: desired.soft_delete_period,
            hot_cache_period: desired.hot_cache_period,
            provisioning_state: "Creating".to_owned(),
            visible_at,
            assignments: std::collections::BTreeMap::new(),
        });
    let kind = if status == 201 { "DatabaseCreate" } else { "DatabaseUpdate" };
    let id = world.begin(name, kind, effect, durations.database);
    let cluster = &world.clusters[&name.to_lowercase()];
    Ok(Answer::json(status, shown(cluster, &cluster.databases[&key])).with_operation(call, world, id))
}

fn delete(world: &mut World, call: &Call<'_>, group: &str, name: &str, database: &str) -> Result<Answer, Answer> {
    let cluster = world.find_parent(call, group, name, KIND)?;
    world.refuse_overlap(call, cluster)?;
    let key = database.to_lowercase();
    if !cluster.databases.contains_key(&key) {
        return Ok(Answer::empty(204));
    }
    let effect = Effect::DeleteDatabase { name: key };
    let id = world.begin(name, "DatabaseDelete", effect, call.settings.durations.database);
    Ok(Answer::empty(202).with_operation(call, world, id))
}

/// Databases and rights are not to be had from a cluster that does not run.
pub(super) fn running(cluster: &Cluster) -> Result<(), Answer> {
    let Cluster { name, state, .. } = cluster;
    if state == "Running" {
        return Ok(());
    }
    let message =
        format!("Operation cannot be performed on cluster '{name}': it is in state '{state}' and has to be 'Running'.");
    Err(Answer::error(400, "ClusterNotRunning", &message))
}

pub(super) fn missing(cluster: &Cluster, group: &str, name: &str) -> Answer {
    not_found(&format!("Microsoft.Kusto/clusters/{}/databases/{name}", cluster.name), group)
}

fn shown(cluster: &Cluster, database: &Database) -> Value {
    let Database { name, soft_delete_period, hot_cache_period, provisioning_state, .. } = database;
    let mut properties = json!({"provisioningState": provisioning_state, "isFollowed": false});
    for (property, period) in [("softDeletePeriod", soft_delete_period), ("hotCachePeriod", hot_cache_period)] {
        if let Some(period) = period {
            properties[property] = period.as_str().into();
        }
    }
    if provisioning_state == "Succeeded" {
        properties["statistics"] = json!({"size": 0.0});
    }
    json!({
        "id": format!("{}/databases/{name}", cluster.id()),
        "name": format!("{}/{name}", cluster.name),
        "type": "Microsoft.Kusto/Clusters/Databases",
        "location": cluster.location,
        "kind": "ReadWrite",
        "properties": properties,
    })
}
