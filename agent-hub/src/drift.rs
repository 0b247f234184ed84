//! What a pass left on the hub, so that the next one can tell a repair of what somebody else did from work of its own. Pure; a process that has just started has
//! nothing to compare with but the record of groups that were made, and texts that are not as our docstrings say.

use std::collections::{BTreeMap, BTreeSet};

use kql::names::{DatabaseName, EntityGroupName, FunctionName};

use crate::{
    apply::Applied,
    hub::{ExistingGroup, Hub, MemberSet},
    plan::{Change, PutCause},
};

/// Our objects as the last pass left them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    databases: BTreeMap<DatabaseName, Objects>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Objects {
    groups: BTreeMap<EntityGroupName, MemberSet>,
    functions: BTreeSet<FunctionName>,
}

impl Left {
    /// Of changes that were made, those that undo somebody's, in sentences.
    pub fn repairs(&self, hub: &Hub, applied: &[Applied]) -> Vec<String> {
        applied
            .iter()
            .filter(|applied| applied.result.is_ok())
            .filter_map(|applied| self.repair(hub, &applied.change))
            .collect()
    }

    fn repair(&self, hub: &Hub, change: &Change) -> Option<String> {
        let left = self.databases.get(change.database());
        let (what, name, happened) = match change {
            Change::PutFunction { function, cause: PutCause::Edited } => {
                ("function", function.function.to_string(), "was edited by somebody and is put back")
            }
            Change::PutFunction { function, cause: PutCause::Missing } => {
                left?.functions.get(&function.function)?;
                ("function", function.function.to_string(), "was removed by somebody and is made again")
            }
            Change::CreateGroup { database, group, .. } => {
                // Also what was there before this process, or could not be made again at once.
                let is_made = || hub.claims.get(&(database.clone(), group.clone())).is_some_and(|claim| claim.is_made);
                let was_there = left.is_some_and(|left| left.groups.contains_key(group)) || is_made();
                was_there.then_some(())?;
                ("entity group", group.to_string(), "was removed by somebody and is made again")
            }
            Change::AlterGroup { group, before, .. } if left?.groups.get(group)? != before => {
                ("entity group", group.to_string(), "was changed by somebody and is put back")
            }
            Change::AlterGroup { .. }
            | Change::PutFunction { cause: PutCause::Outdated, .. }
            | Change::DropFunction { .. }
            | Change::DropGroup { .. } => return None,
        };
        Some(format!("the {what} '{name}' in '{}' {happened}", change.database()))
    }

    /// Remembers what is there now: what was seen, and what was changed since. Of a database that could not be read, what was known.
    pub fn remember(&mut self, hub: &Hub, applied: &[Applied]) {
        self.databases.retain(|name, _| hub.databases.contains_key(name));
        for (name, present) in &hub.databases {
            let Ok(groups) = &present.groups else { continue };
            let groups = groups.iter().filter_map(|(group, existing)| match existing {
                ExistingGroup::Members(members) if hub.owns(name, group, existing) => {
                    Some((group.clone(), members.clone()))
                }
                _ => None,
            });
            let functions = present.functions.iter().filter(|(_, function)| function.is_ours());
            let functions = functions.map(|(function, _)| function.clone()).collect();
            self.databases.insert(name.clone(), Objects { groups: groups.collect(), functions });
        }
        for applied in applied.iter().filter(|applied| applied.result.is_ok()) {
            let objects = self.databases.entry(applied.change.database().clone()).or_default();
            match &applied.change {
                Change::CreateGroup { group, members, .. } | Change::AlterGroup { group, members, .. } => {
                    objects.groups.insert(group.clone(), members.clone());
                }
                Change::PutFunction { function, .. } => drop(objects.functions.insert(function.function.clone())),
                Change::DropFunction { function, .. } => drop(objects.functions.remove(function)),
                Change::DropGroup { group, .. } => drop(objects.groups.remove(group)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kql::statements::Entity;
    use serde_json::json;

    use super::*;
    use crate::{
        hub::Hub,
        membership::Membership,
        plan::{Decision, Plan, plan},
        settings::Settings,
        testing::{applied, cluster, fleet, hub_config, now},
    };

    fn changes(hub: &Hub) -> Plan {
        let settings = Settings { status: None, ..Settings::from(&hub_config("")) };
        let fleet = fleet(&[("eu", 1, json!([{"database": "Logs", "tables": ["A"]}]))]);
        match plan(&fleet, hub, &Membership::default(), now(), &settings) {
            Decision::Apply(plan) => plan,
            Decision::Hold(hold) => panic!("{hold:?}"),
        }
    }

    fn made(plan: &Plan) -> Vec<Applied> {
        plan.changes.iter().map(|change| Applied { change: change.clone(), result: Ok(()) }).collect()
    }

    #[test]
    fn what_somebody_did_to_our_objects_is_told_from_work_of_our_own() {
        let logs = DatabaseName::new("Logs").unwrap();
        let empty = Hub { databases: [(logs.clone(), crate::hub::HubDatabase::default())].into(), ..Hub::default() };
        let first = changes(&empty);
        let mut left = Left::default();
        assert_eq!(first.changes.len(), 2);
        assert_eq!(left.repairs(&empty, &made(&first)), Vec::<String>::new(), "they were never there");
        left.remember(&empty, &made(&first));
        let ours = applied(empty.clone(), &first);
        let mut again = left.clone();
        again.remember(&ours, &[]);
        assert_eq!(again, left, "what was made is what is seen next");

        let removed = changes(&empty);
        assert_eq!(
            left.repairs(&empty, &made(&removed)),
            [
                "the entity group 'Logs_Partitions' in 'Logs' was removed by somebody and is made again",
                "the function 'federated_A' in 'Logs' was removed by somebody and is made again",
            ]
        );
        // One that has just started knows which groups were made.
        let found = Hub { claims: ours.claims.clone(), ..empty.clone() };
        assert_eq!(
            Left::default().repairs(&found, &made(&removed)),
            ["the entity group 'Logs_Partitions' in 'Logs' was removed by somebody and is made again"]
        );
        assert_eq!(Left::default().repairs(&empty, &made(&removed)), Vec::<String>::new());
        let mut changed = ours;
        let database = changed.databases.get_mut(&logs).unwrap();
        let foreign = Entity { cluster: cluster("us"), database: logs.clone() };
        *database.groups.as_mut().unwrap().values_mut().next().unwrap() =
            ExistingGroup::Members(Arc::new([foreign].into()));
        database.functions.values_mut().next().unwrap().written.content_hash = "another".to_owned();
        let expected = [
            "the entity group 'Logs_Partitions' in 'Logs' was changed by somebody and is put back",
            "the function 'federated_A' in 'Logs' was edited by somebody and is put back",
        ];
        let back = changes(&changed);
        assert_eq!(left.repairs(&changed, &made(&back)), expected);
        let refused = back.changes.into_iter().map(|change| Applied { change, result: Err("no".to_owned()) });
        assert_eq!(left.repairs(&changed, &refused.collect::<Vec<_>>()), Vec::<String>::new(), "nothing was put back");
    }
}
