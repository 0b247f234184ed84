//! Entity groups: the stored lists of partition databases that `macro-expand` runs over.

use std::collections::BTreeSet;

use crate::{
    endpoint::ClusterEndpoint,
    literal,
    names::{DatabaseName, EntityGroupName},
    request::{Request, RequestKind},
    statements::{request, short_hash},
};

/// One member of a group: a database of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The cluster.
    pub cluster: ClusterEndpoint,
    /// The database there.
    pub database: DatabaseName,
}

impl Entity {
    /// `cluster('https://host').database('name')`
    pub fn render(&self) -> String {
        format!("{}.database({})", self.cluster.cluster_call(), literal::string(self.database.as_str()))
    }
}

/// Members in one line, sorted, so that equal sets give equal texts.
pub(super) fn render_entities(entities: &BTreeSet<Entity>) -> String {
    entities.iter().map(Entity::render).collect::<Vec<_>>().join(", ")
}

/// Equal members have equal hashes, in any order: 24 hexadecimal digits.
pub fn members_hash(entities: &BTreeSet<Entity>) -> String {
    short_hash([render_entities(entities).as_str()])
}

/// The groups of one database. Columns: Name:string, Hash:string (of the members' text, 64 hexadecimal digits), and Bytes:long, how long that text is. Or, once for each
/// hash that is asked for: Hash, and Entities:string, a JSON array of entity texts.
#[derive(Debug, Clone, Copy)]
pub struct ShowEntityGroups<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The hashes of those whose members are asked for, if they are: a hundred bytes for each partition and group.
    pub members_of: Option<&'a BTreeSet<String>>,
}

impl ShowEntityGroups<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        let what = self.members_of.map_or_else(
            || "project Name, Hash, Bytes = string_size(Entities)".to_owned(),
            |hashes| {
                let hashes: Vec<String> = hashes.iter().map(|hash| literal::string(hash)).collect();
                format!("where Hash in ({}) | summarize Entities = take_any(Entities) by Hash", hashes.join(", "))
            },
        );
        let file = include_str!("../../text/show_entity_groups.kql");
        request("show_entity_groups", RequestKind::Show, Some(self.database), file, &[("what", &what)])
    }
}

/// A new group; fails when the name exists. `entities` must not be empty: Kusto refuses an empty group.
#[derive(Debug, Clone, Copy)]
pub struct CreateEntityGroup<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The group.
    pub group: &'a EntityGroupName,
    /// Its members.
    pub entities: &'a BTreeSet<Entity>,
}

impl CreateEntityGroup<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "create_entity_group",
            RequestKind::Control,
            Some(self.database),
            include_str!("../../text/create_entity_group.kql"),
            &[("group", &self.group.quoted()), ("entities", &render_entities(self.entities))],
        )
    }
}

/// New members for a group that exists. `entities` must not be empty.
#[derive(Debug, Clone, Copy)]
pub struct AlterEntityGroup<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The group.
    pub group: &'a EntityGroupName,
    /// All its members from now on.
    pub entities: &'a BTreeSet<Entity>,
}

impl AlterEntityGroup<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "alter_entity_group",
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/alter_entity_group.kql"),
            &[("group", &self.group.quoted()), ("entities", &render_entities(self.entities))],
        )
    }
}

/// More members for a group that exists. `entities` must not be empty.
#[derive(Debug, Clone, Copy)]
pub struct AlterMergeEntityGroup<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The group.
    pub group: &'a EntityGroupName,
    /// The members that it gets beside those it has.
    pub entities: &'a BTreeSet<Entity>,
}

impl AlterMergeEntityGroup<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "alter_merge_entity_group",
            RequestKind::IdempotentControl,
            Some(self.database),
            include_str!("../../text/alter_merge_entity_group.kql"),
            &[("group", &self.group.quoted()), ("entities", &render_entities(self.entities))],
        )
    }
}

/// Removes a group; fails when it does not exist.
#[derive(Debug, Clone, Copy)]
pub struct DropEntityGroup<'a> {
    /// The hub database.
    pub database: &'a DatabaseName,
    /// The group.
    pub group: &'a EntityGroupName,
}

impl DropEntityGroup<'_> {
    /// Renders the command.
    pub fn request(&self) -> Request {
        request(
            "drop_entity_group",
            RequestKind::Control,
            Some(self.database),
            include_str!("../../text/drop_entity_group.kql"),
            &[("group", &self.group.quoted())],
        )
    }
}
