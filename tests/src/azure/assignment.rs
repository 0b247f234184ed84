//! Rights of principals, on a cluster or on one of its databases. No I/O; called by the exchange.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call, not_found},
    database::{missing, running},
    operation::Effect,
    world::{Assignment, Cluster, TENANT, World, uuid_of},
};

/// Where rights are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) group: &'a str,
    pub(super) cluster: &'a str,
    pub(super) database: Option<&'a str>,
}

impl Scope<'_> {
    const fn kind(&self) -> &'static str {
        match self.database {
            None => "Microsoft.Kusto/Clusters/PrincipalAssignments",
            Some(_) => "Microsoft.Kusto/Clusters/Databases/PrincipalAssignments",
        }
    }

    /// The cluster of the scope and the rights on it.
    fn find<'w>(
        &self,
        world: &'w World,
        call: &Call<'_>,
    ) -> Result<(&'w Cluster, &'w BTreeMap<String, Assignment>), Answer> {
        let cluster = world.find_parent(call, self.group, self.cluster, self.kind())?;
        let Some(name) = self.database else { return Ok((cluster, &cluster.assignments)) };
        let database = cluster.databases.get(&name.to_lowercase());
        let database = database.filter(|database| database.visible_at <= world.now);
        let database = database.ok_or_else(|| missing(cluster, self.group, name))?;
        Ok((cluster, &database.assignments))
    }

    fn assignments<'w>(&self, world: &'w mut World) -> &'w mut BTreeMap<String, Assignment> {
        let cluster = world.cluster(self.cluster);
        match self.database {
            None => &mut cluster.assignments,
            Some(name) => {
                let database = cluster.databases.get_mut(&name.to_lowercase()).expect("it has just been found");
                &mut database.assignments
            }
        }
    }

    fn shown(&self, cluster: &Cluster, assignment: &Assignment) -> Value {
        let Assignment { name, principal_id, role, principal_type, tenant_id, provisioning_state } = assignment;
        let database = self.database.map(|name| &cluster.databases[&name.to_lowercase()].name);
        let (id, path) = match database {
            None => (cluster.id(), cluster.name.clone()),
            Some(database) => {
                (format!("{}/databases/{database}", cluster.id()), format!("{}/{database}", cluster.name))
            }
        };
        json!({
            "id": format!("{id}/principalAssignments/{name}"),
            "name": format!("{path}/{name}"),
            "type": self.kind(),
            "properties": {
                "principalId": principal_id,
                "role": role,
                "principalType": principal_type,
                "tenantId": tenant_id,
                "tenantName": "stories",
                "principalName": format!("principal {principal_id}"),
                "aadObjectId": uuid_of(&format!("object of {principal_id}")),
                "provisioningState": provisioning_state,
            },
        })
    }
}

pub(super) fn list(world: &World, call: &Call<'_>, scope: Scope<'_>) -> Answer {
    match scope.find(world, call) {
        Err(refused) => refused,
        Ok((cluster, assignments)) => {
            call.page(assignments.values().map(|assignment| scope.shown(cluster, assignment)).collect())
        }
    }
}

pub(super) fn answer(world: &mut World, call: &Call<'_>, scope: Scope<'_>, name: &str) -> Answer {
    let answered = match call.method {
        "GET" => get(world, call, scope, name),
        "PUT" => put(world, call, scope, name),
        _ => delete(world, call, scope, name),
    };
    answered.unwrap_or_else(|refused| refused)
}

fn get(world: &World, call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, Answer> {
    let (cluster, assignments) = scope.find(world, call)?;
    let Some(assignment) = assignments.get(&name.to_lowercase()) else {
        let parent = scope.database.map_or_else(String::new, |database| format!("databases/{database}/"));
        let resource = format!("Microsoft.Kusto/clusters/{}/{parent}principalAssignments/{name}", cluster.name);
        return Err(not_found(&resource, scope.group));
    };
    Ok(Answer::json(200, scope.shown(cluster, assignment)))
}

fn put(world: &mut World, call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, Answer> {
    let (cluster, assignments) = scope.find(world, call)?;
    world.refuse_overlap(call, cluster)?;
    running(cluster)?;
    let text = |property: &str| call.body["properties"][property].as_str().unwrap_or_default().to_owned();
    let key = name.to_lowercase();
    let (principal_id, role) = (text("principalId"), text("role"));
    let same = assignments.iter().find(|(other, assignment)| {
        **other != key && assignment.role == role && assignment.principal_id.eq_ignore_ascii_case(&principal_id)
    });
    if let Some((_, same)) = same {
        let message =
            format!("The principal '{principal_id}' has the role '{role}' already, by the assignment '{}'.", same.name);
        return Err(Answer::error(409, "PrincipalAssignmentAlreadyExists", &message));
    }
    let existing = assignments.get(&key);
    let (status, state) = if existing.is_some() { (200, "Running") } else { (201, "Creating") };
    let tenant = text("tenantId");
    let assignment = Assignment {
        name: existing.map_or(name, |existing| &existing.name).to_owned(),
        principal_id,
        role,
        principal_type: text("principalType"),
        tenant_id: if tenant.is_empty() { TENANT.to_owned() } else { tenant },
        provisioning_state: state.to_owned(),
    };
    scope.assignments(world).insert(key.clone(), assignment);
    let effect = Effect::Assignment { database: scope.database.map(str::to_lowercase), name: key.clone() };
    let id = world.begin(scope.cluster, "PrincipalAssignmentWrite", effect, call.settings.durations.assignment);
    let (cluster, assignments) = scope.find(world, call)?;
    Ok(Answer::json(status, scope.shown(cluster, &assignments[&key])).with_operation(call, world, id))
}

fn delete(world: &mut World, call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, Answer> {
    let (cluster, assignments) = scope.find(world, call)?;
    world.refuse_overlap(call, cluster)?;
    let key = name.to_lowercase();
    if !assignments.contains_key(&key) {
        return Ok(Answer::empty(204));
    }
    let effect = Effect::DeleteAssignment { database: scope.database.map(str::to_lowercase), name: key };
    let id = world.begin(scope.cluster, "PrincipalAssignmentDelete", effect, call.settings.durations.assignment);
    Ok(Answer::empty(202).with_operation(call, world, id))
}
