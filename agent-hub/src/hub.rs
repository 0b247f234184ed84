//! What the hub holds now, as values. No I/O; `observe` fills it in, `desired` and `plan` read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, EntityGroupName, FunctionName},
    statements::{Entity, PutFunction, keeper_of, members_hash},
    syntax::{
        ast::{ExprKind, Literal},
        parser::parse_expression,
    },
};

/// The hub as observed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hub {
    /// Its databases.
    pub databases: BTreeMap<DatabaseName, HubDatabase>,
    /// What our record says of groups.
    pub claims: BTreeMap<(DatabaseName, EntityGroupName), Claim>,
    /// How many rows our record of groups has, with those of groups that are gone.
    pub records: usize,
    /// Copies of groups that are adopted in this pass, in databases that could not be read: with members of this hash they are ours.
    pub presumed: BTreeMap<(DatabaseName, EntityGroupName), String>,
    /// How the hub writes functions that we put, where it writes them in other words, by docstring.
    pub rewritten: BTreeMap<String, Written>,
}

/// What our record says of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// We made it: Kusto said so.
    pub is_made: bool,
    /// We were about to make it with members of these hashes, and do not know how that ended.
    pub intended: BTreeSet<String>,
}

impl Claim {
    /// Whether a group that exists is the one that we made. After a lost answer only its members can tell: a person's group of that name has others.
    pub fn covers(&self, group: &ExistingGroup) -> bool {
        self.is_made
            || matches!(group, ExistingGroup::Members(members) if self.intended.contains(&members_hash(members)))
    }
}

/// One database of the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HubDatabase {
    /// Its functions.
    pub functions: BTreeMap<FunctionName, ExistingFunction>,
    /// Tables and views whose name begins like our functions: a function of ours would shadow them.
    pub shadowed: BTreeSet<String>,
    /// Its entity groups; or why they could not be read, in which case the database is left alone in this pass.
    pub groups: Result<BTreeMap<EntityGroupName, ExistingGroup>, String>,
    /// Whether they were read in this pass, and not in an earlier one: only then is one that is missing recorded as gone.
    pub is_fresh: bool,
}

impl Default for HubDatabase {
    fn default() -> Self {
        Self { functions: BTreeMap::new(), shadowed: BTreeSet::new(), groups: Ok(BTreeMap::new()), is_fresh: true }
    }
}

/// Who keeps a function that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// This agent.
    Us,
    /// The agent with this heartbeat database; perhaps this one, before its document named another.
    Another(DatabaseName),
    /// None of our agents put it.
    Person,
}

/// A function that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingFunction {
    /// Who put it, in whatever folder and with whatever content.
    pub keeper: Keeper,
    /// Its docstring, our marker in it if it is ours.
    pub docstring: String,
    /// The rest, as the hub has it.
    pub written: Written,
}

/// What of a function somebody may change without becoming its keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its folder.
    pub folder: String,
    /// A hash of its text and parameters, see [`PutFunction::content_hash`].
    pub content_hash: String,
}

impl Keeper {
    /// By a function's place and docstring. `us`: our heartbeat database.
    pub fn of(database: &DatabaseName, function: &FunctionName, docstring: &str, us: &DatabaseName) -> Self {
        match keeper_of(database, function, docstring) {
            Some(keeper) if keeper == *us => Self::Us,
            Some(keeper) => Self::Another(keeper),
            None => Self::Person,
        }
    }
}

impl Written {
    /// Of a function that is as it should be, where the hub writes what it is sent.
    pub fn of(function: &PutFunction) -> Self {
        Self { folder: function.folder.clone(), content_hash: function.content_hash() }
    }
}

impl ExistingFunction {
    /// Whether we put it.
    pub fn is_ours(&self) -> bool {
        self.keeper == Keeper::Us
    }

    /// Whether it is exactly this: equal docstrings mean that we put it so, the rest that nobody edited or moved it since.
    pub fn is(&self, function: &PutFunction, rewritten: &BTreeMap<String, Written>) -> bool {
        let is_written =
            || self.written == Written::of(function) || rewritten.get(&self.docstring) == Some(&self.written);
        self.docstring == function.docstring() && is_written()
    }

    /// Whether it is ours to drop: also in our folder, since another document with our heartbeat database may keep functions of its own in another.
    pub fn is_droppable(&self, folder: &str) -> bool {
        self.written.folder == folder && self.is_ours()
    }
}

/// The members of a group. The same group is in every hub database, so that its members are shared.
pub type MemberSet = Arc<BTreeSet<Entity>>;

/// A group that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExistingGroup {
    /// Its members.
    Members(MemberSet),
    /// It has others than `cluster('https://..').database('..')`, which we certainly would not write; these are what we would.
    Foreign(MemberSet),
}

impl ExistingGroup {
    /// Reads the texts of a group's members, `cluster('https://host').database('name')` each.
    pub fn parse<'a>(entities: impl IntoIterator<Item = &'a str>) -> Self {
        let mut has_others = false;
        let members = entities.into_iter().filter_map(|text| {
            let entity = parse_entity(text);
            has_others |= entity.is_none();
            entity
        });
        let members = MemberSet::new(members.collect());
        if has_others { Self::Foreign(members) } else { Self::Members(members) }
    }

    /// The members that are understood.
    pub const fn members(&self) -> &MemberSet {
        let (Self::Members(members) | Self::Foreign(members)) = self;
        members
    }
}

impl Hub {
    /// How a database is spelled in our names: as the hub spells it; else as the group of all its partitions is named, its name less the suffix; else as one by a value is. A partition that
    /// joins with another spelling renames nothing.
    pub fn spellings(&self, suffix: &str) -> BTreeMap<DatabaseName, DatabaseName> {
        let whole = self.claims.keys().filter_map(|(_, group)| group.as_str().strip_suffix(suffix));
        let whole = whole.filter_map(|spelling| DatabaseName::new(spelling).ok());
        // A value, or a database's name, may hold the suffix: its members tell which part of a group's name is the database's.
        let by_value = self.own_groups().filter_map(|(group, members)| {
            let listed = &members.first()?.database;
            let names = group.as_str().match_indices(suffix).map(|(end, _)| &group.as_str()[..end]);
            names.filter_map(|name| DatabaseName::new(name).ok()).find(|name| name == listed)
        });
        let mut spellings = BTreeMap::new();
        for spelling in self.databases.keys().cloned().chain(whole).chain(by_value) {
            spellings.entry(spelling.clone()).or_insert(spelling);
        }
        spellings
    }

    /// Whether a group of this name exists that is not ours.
    pub fn is_taken(&self, database: &DatabaseName, name: &EntityGroupName) -> bool {
        let groups = self.databases.get(database).and_then(|content| content.groups.as_ref().ok());
        groups.and_then(|groups| groups.get(name)).is_some_and(|group| !self.owns(database, name, group))
    }

    /// Whether a group of this name exists that is ours.
    pub fn has_own(&self, database: &DatabaseName, name: &EntityGroupName) -> bool {
        let groups = self.databases.get(database).and_then(|content| content.groups.as_ref().ok());
        groups.and_then(|groups| groups.get(name)).is_some_and(|group| self.owns(database, name, group))
    }

    /// Whether a group of this name that is ours, in any database, lists partitions' database of that name.
    pub fn lists(&self, name: &EntityGroupName, listed: &DatabaseName) -> bool {
        self.databases.iter().filter(|(database, _)| self.has_own(database, name)).any(|(_, content)| {
            let group = content.groups.as_ref().ok().and_then(|groups| groups.get(name));
            group.is_some_and(|group| group.members().iter().any(|entity| entity.database == *listed))
        })
    }

    /// Whether a group that exists is ours.
    pub fn owns(&self, database: &DatabaseName, name: &EntityGroupName, group: &ExistingGroup) -> bool {
        self.claims.get(&(database.clone(), name.clone())).is_some_and(|claim| claim.covers(group))
    }

    /// The groups of ours that list a partition, with the databases that they list of it.
    pub fn groups_of<'a>(
        &'a self,
        cluster: &'a ClusterEndpoint,
    ) -> impl Iterator<Item = (&'a EntityGroupName, &'a Entity)> + 'a {
        self.own_groups().flat_map(move |(name, members)| {
            members.iter().filter(move |entity| entity.cluster == *cluster).map(move |entity| (name, entity))
        })
    }

    /// The databases of a partition that some group of ours lists now.
    pub fn memberships_of<'a>(&'a self, cluster: &'a ClusterEndpoint) -> impl Iterator<Item = &'a Entity> + 'a {
        self.members().filter(move |entity| entity.cluster == *cluster)
    }

    /// Everything that some group of ours lists now; what several groups list comes several times.
    pub fn members(&self) -> impl Iterator<Item = &Entity> + '_ {
        self.own_groups().flat_map(|(_, members)| members)
    }

    /// Groups of ours, as often as databases have them, with their members.
    pub fn own_groups(&self) -> impl Iterator<Item = (&EntityGroupName, &BTreeSet<Entity>)> + '_ {
        self.databases
            .iter()
            .flat_map(|(database, content)| {
                content.groups.iter().flatten().map(move |(name, group)| (database, name, group))
            })
            .filter(|(database, name, group)| self.owns(database, name, group))
            .map(|(_, name, group)| (name, &**group.members()))
    }

    /// Leaves a database alone that shows a group of ours of which nothing is understood: nobody knows then who is its member, and who would leave it.
    pub fn leave_what_is_not_understood(&mut self) {
        let unknown = self.databases.iter().filter_map(|(database, content)| {
            let mut groups = content.groups.iter().flatten();
            let (name, _) = groups.find(|(name, group)| {
                matches!(group, ExistingGroup::Foreign(members) if members.is_empty())
                    && self.owns(database, name, group)
            })?;
            Some((database.clone(), name.clone()))
        });
        for (database, name) in unknown.collect::<Vec<_>>() {
            if let Some(content) = self.databases.get_mut(&database) {
                content.groups = Err(format!(
                    "its entity group '{name}' is ours, and no member of it is cluster('https://…').database('…'): drop that group to have it made anew"
                ));
            }
        }
    }
}

/// `None` for anything but `cluster('endpoint').database('name')`.
fn parse_entity(text: &str) -> Option<Entity> {
    let ExprKind::MemberCall { target, name, arguments } = parse_expression(text).ok()?.kind else { return None };
    let ExprKind::Call { name: outer, arguments: cluster } = target.kind else { return None };
    let string = |arguments: &[kql::syntax::ast::Argument]| match arguments {
        [argument] => match &argument.value.kind {
            ExprKind::Literal(Literal::String(text)) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    if outer.name != "cluster" || name.name != "database" {
        return None;
    }
    // Kusto takes a bare host for the https endpoint, and may print one.
    let cluster = string(&cluster)?;
    let cluster =
        ClusterEndpoint::parse(&cluster).or_else(|_| ClusterEndpoint::parse(&format!("https://{cluster}"))).ok()?;
    let database = DatabaseName::new(string(&arguments)?).ok()?;
    Some(Entity { cluster, database })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(host: &str, database: &str) -> Entity {
        let cluster = ClusterEndpoint::parse(&format!("https://{host}.kusto.windows.net")).unwrap();
        Entity { cluster, database: DatabaseName::new(database).unwrap() }
    }

    #[test]
    fn what_we_write_as_members_reads_back_equal() {
        let members = BTreeSet::from([entity("eu", "Logs"), entity("us", "My Logs.1")]);
        let texts: Vec<_> = members.iter().map(Entity::render).collect();
        assert_eq!(ExistingGroup::parse(texts.iter().map(String::as_str)), ExistingGroup::Members(Arc::new(members)));
    }

    #[test]
    fn other_quotes_and_cases_are_the_same_member() {
        let read = ExistingGroup::parse(["cluster(\"https://EU.kusto.windows.net/\").database(\"Logs\")"]);
        assert_eq!(read, ExistingGroup::Members(Arc::new(BTreeSet::from([entity("eu", "Logs")]))));
    }

    #[test]
    fn members_that_we_would_not_write_make_a_group_foreign_and_hide_no_others() {
        for text in [
            "database('Logs')",
            "cluster('eu').database('Logs')",
            "cluster('https://a.b').database(X)",
            "f('https://a.b').database('X')",
            "1",
            "cluster(",
        ] {
            assert_eq!(ExistingGroup::parse([text]), ExistingGroup::Foreign(MemberSet::default()), "{text}");
            let ours = entity("eu", "Logs");
            let both = ExistingGroup::parse([text, &ours.render()]);
            assert_eq!(both, ExistingGroup::Foreign(MemberSet::new([ours].into())), "{text}");
        }
    }
}
