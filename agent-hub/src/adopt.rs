//! Groups of ours whose record was lost, as with the tables of the heartbeat database. Without it they would count as a person's: no guard would see their members, and
//! functions would shrink to whoever beats first. A function of ours that asks a group shows that we made the group, since none asks a person's. Pure; called
//! between `observe` and `membership`.

use std::collections::BTreeSet;

use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
    statements::{Body, FederatedBody, Members, PutFunction, Source, members_hash},
};

use crate::{
    desired::{asked_groups, described, group_of},
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, MemberSet},
    settings::Settings,
};

/// Claims every group that no record tells of and that functions of ours ask, with its copies in the hub's other databases. A copy that cannot be read now may be
/// read when this pass has altered the others, and tells then by the members that they have now.
pub fn adopt(hub: &mut Hub, settings: &Settings) {
    let shown: Vec<(EntityGroupName, MemberSet)> =
        hub.databases.keys().flat_map(|database| shown_groups(hub, database, settings)).collect();
    let mut adopted = Vec::new();
    for (group, members) in shown {
        for (database, content) in &hub.databases {
            let key = (database.clone(), group.clone());
            if hub.claims.contains_key(&key) {
                continue;
            }
            match &content.groups {
                Ok(groups) if groups.get(&group) == Some(&ExistingGroup::Members(members.clone())) => {
                    adopted.push((key, members_hash(&members)));
                }
                Ok(_) => {}
                Err(_) => {
                    hub.presumed.insert(key, members_hash(&members));
                }
            }
        }
    }
    // As after a lost answer: the plan records that it is made.
    let claims =
        adopted.into_iter().map(|(key, hash)| (key, Claim { is_made: false, intended: BTreeSet::from([hash]) }));
    hub.claims.extend(claims);
}

/// The groups that functions of a hub database may ask, if no record tells of them and one does.
fn shown_groups(hub: &Hub, database: &DatabaseName, settings: &Settings) -> Vec<(EntityGroupName, MemberSet)> {
    let Some(content) = hub.databases.get(database) else { return Vec::new() };
    let (Ok(group), Ok(present)) = (group_of(database), &content.groups) else { return Vec::new() };
    let is_asked = |group: &EntityGroupName| {
        let mut ours = content.functions.iter().filter(|(_, existing)| existing.is_ours());
        ours.any(|(function, existing)| asks(database, group, function, existing, settings))
    };
    asked_groups(&group, settings)
        .filter(|group| !hub.claims.contains_key(&(database.clone(), group.clone())))
        .filter_map(|group| match present.get(&group)? {
            ExistingGroup::Members(members) if is_asked(&group) => Some((group, members.clone())),
            _ => None,
        })
        .collect()
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
                folder: settings.folder.clone(),
                description: described(&table, source, database, true),
                body: Body::Federated(body),
            };
            put.docstring() == existing.docstring
        },
    )
}
