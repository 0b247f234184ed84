//! Groups of ours whose record was lost, as with the tables of the heartbeat database. Without it they would count as a person's: no guard would see their members, and
//! functions would shrink to whoever beats first. A function of ours that asks a group shows that we made the group, since none asks a person's. Pure; called
//! between `observe` and `membership`.

use std::collections::BTreeSet;

use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
    statements::{Body, FederatedBody, Members, PutFunction, Source, members_hash},
};

use crate::{
    desired::{described, group_of},
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, MemberSet},
    settings::Settings,
};

/// Claims every group that no record tells of and that functions of ours ask, with its copies in the hub's other databases.
pub fn adopt(hub: &mut Hub, settings: &Settings) {
    let shown: Vec<(EntityGroupName, MemberSet)> =
        hub.databases.keys().filter_map(|database| shown_group(hub, database, settings)).collect();
    let mut adopted = Vec::new();
    for (group, members) in shown {
        for (database, content) in &hub.databases {
            let key = (database.clone(), group.clone());
            let present = content.groups.as_ref().ok().and_then(|groups| groups.get(&group));
            if present == Some(&ExistingGroup::Members(members.clone())) && !hub.claims.contains_key(&key) {
                adopted.push((key, members_hash(&members)));
            }
        }
    }
    // As after a lost answer: the plan records that it is made.
    let claims =
        adopted.into_iter().map(|(key, hash)| (key, Claim { is_made: false, intended: BTreeSet::from([hash]) }));
    hub.claims.extend(claims);
}

/// The group of a hub database, if no record tells of it and a function there asks it.
fn shown_group(hub: &Hub, database: &DatabaseName, settings: &Settings) -> Option<(EntityGroupName, MemberSet)> {
    let content = hub.databases.get(database)?;
    let group = group_of(database).ok()?;
    let ExistingGroup::Members(members) = content.groups.as_ref().ok()?.get(&group)? else { return None };
    if hub.claims.contains_key(&(database.clone(), group.clone())) {
        return None;
    }
    let mut ours = content.functions.iter().filter(|(_, existing)| existing.is_ours());
    ours.any(|(function, existing)| asks(database, &group, function, existing, settings))
        .then(|| (group, members.clone()))
}

/// Whether a function is, by its docstring, one that we put over exactly this group.
fn asks(
    database: &DatabaseName,
    group: &EntityGroupName,
    function: &FunctionName,
    existing: &ExistingFunction,
    settings: &Settings,
) -> bool {
    let table = function.as_str().strip_prefix(&settings.function_prefix).and_then(|table| TableName::new(table).ok());
    let Some(table) = table else { return false };
    [(Source::Table, true), (Source::Table, false), (Source::View, true), (Source::View, false)].into_iter().any(
        |(source, best_effort)| {
            let body = FederatedBody {
                members: Members::Group(group.clone()),
                table: table.clone(),
                source,
                converted: [].into(),
                best_effort,
            };
            let put = PutFunction {
                database: database.clone(),
                function: function.clone(),
                keeper: settings.keeper.clone(),
                folder: existing.folder.clone(),
                description: described(&table, source, database, true),
                body: Body::Federated(body),
            };
            put.docstring() == existing.docstring
        },
    )
}
