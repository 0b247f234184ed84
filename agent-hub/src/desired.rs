//! What the hub should hold for a fleet: entity groups and federated functions. Pure; called by `plan`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName, NameError, TableName},
    statements::{Entity, FederatedBody, Members, PutFunction},
};

use crate::{
    fleet::{Fleet, Inventory},
    hub::Hub,
    settings::Settings,
};

/// What every group's name ends with, by the seed.
const GROUP_SUFFIX: &str = "_Partitions";

/// What the hub should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Entity groups, wanted in every hub database: name to members.
    pub groups: BTreeMap<EntityGroupName, BTreeSet<Entity>>,
    /// Federated functions by the hub database they belong to.
    pub functions: BTreeMap<DatabaseName, BTreeMap<FunctionName, PutFunction>>,
    /// Hub databases in which nothing may be dropped, because a partition whose schema is not known has (or may have) tables there.
    pub uncertain: BTreeSet<DatabaseName>,
    /// What could not be federated, in sentences.
    pub problems: Vec<Problem>,
}

/// Something that a person should look at; the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Partitions have a database that the hub lacks: its tables get no functions.
    HubDatabaseMissing {
        /// The database.
        database: DatabaseName,
        /// How many partitions have it.
        partitions: usize,
    },
    /// A name of ours would break Kusto's rules.
    NameRefused(NameError),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HubDatabaseMissing { database, partitions } => write!(
                f,
                "{partitions} partition(s) have the database '{database}', but the hub has none of that name: create it on the hub to get its functions"
            ),
            Self::NameRefused(error) => write!(f, "not federated: {error}"),
        }
    }
}

/// The partitions of one database: which tables each known one has, and which ones are there without a known schema.
#[derive(Debug, Default)]
struct DatabaseMembers {
    /// The spelling that names the group: the hub's own if it has the database, else the first partition's.
    spelling: Option<DatabaseName>,
    members: BTreeSet<Entity>,
    unknown: BTreeSet<Entity>,
    tables: BTreeMap<TableName, BTreeSet<Entity>>,
}

/// Computes groups and functions of the federated partitions. `hub` tells which databases the hub has, and of which groups a partition with an unknown schema
/// is a member now: it stays there.
pub fn desired(fleet: &Fleet, hub: &Hub, settings: &Settings) -> Desired {
    let mut desired = Desired::default();
    for (database, members) in databases(fleet, hub) {
        let spelling = members.spelling.clone().unwrap_or_else(|| database.clone());
        let group = match EntityGroupName::new(format!("{spelling}{GROUP_SUFFIX}")) {
            Ok(group) => group,
            Err(error) => {
                desired.problems.push(Problem::NameRefused(error));
                continue;
            }
        };
        if hub.databases.contains_key(&database) {
            let group = (!hub.is_taken(&database, &group)).then_some(&group);
            let functions = functions(&spelling, group, &members, settings, &mut desired.problems);
            desired.functions.insert(spelling, functions);
        } else {
            let partitions = members.members.len();
            desired.problems.push(Problem::HubDatabaseMissing { database: spelling, partitions });
        }
        if !members.unknown.is_empty() {
            desired.uncertain.insert(database);
        }
        desired.groups.insert(group, members.members);
    }
    desired
}

fn databases(fleet: &Fleet, hub: &Hub) -> BTreeMap<DatabaseName, DatabaseMembers> {
    let mut databases = BTreeMap::<DatabaseName, DatabaseMembers>::new();
    let federated = fleet.values().filter(|partition| partition.is_federated());
    for partition in federated {
        let cluster = &partition.beat.endpoint;
        match &partition.beat.inventory {
            Inventory::Known(inventory) => {
                for (database, content) in &inventory.0 {
                    let entity = Entity { cluster: cluster.clone(), database: database.clone() };
                    let members = databases.entry(database.clone()).or_default();
                    members.spelling.get_or_insert_with(|| {
                        hub.spelling_of(database, GROUP_SUFFIX).unwrap_or_else(|| database.clone())
                    });
                    members.members.insert(entity.clone());
                    for table in content.tables.keys() {
                        members.tables.entry(table.clone()).or_default().insert(entity.clone());
                    }
                }
            }
            Inventory::Unknown => {
                for entity in hub.memberships_of(cluster) {
                    let members = databases.entry(entity.database.clone()).or_default();
                    members.spelling.get_or_insert_with(|| {
                        hub.spelling_of(&entity.database, GROUP_SUFFIX).unwrap_or_else(|| entity.database.clone())
                    });
                    members.members.insert(entity.clone());
                    members.unknown.insert(entity.clone());
                }
            }
        }
    }
    databases
}

/// `group`: the database's stored group, unless a person's group has its name: our functions must not answer from somebody else's list.
fn functions(
    database: &DatabaseName,
    group: Option<&EntityGroupName>,
    members: &DatabaseMembers,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> BTreeMap<FunctionName, PutFunction> {
    let mut functions = BTreeMap::new();
    for (table, having) in &members.tables {
        let function = match FunctionName::new(format!("{}{table}", settings.function_prefix)) {
            Ok(function) => function,
            Err(error) => {
                problems.push(Problem::NameRefused(error));
                continue;
            }
        };
        // A partition whose schema is not known may have the table; macro-expand is fuzzy, so a leg too many costs nothing.
        let having: BTreeSet<Entity> = having.union(&members.unknown).cloned().collect();
        let all = having == members.members;
        let description = if all {
            format!("{table} of every partition of {database}")
        } else {
            format!("{table} of the partitions of {database} that have it")
        };
        let members = match group {
            Some(group) if all => Members::Group(group.clone()),
            _ => Members::Entities(having),
        };
        let put = PutFunction {
            database: database.clone(),
            function: function.clone(),
            folder: settings.folder.clone(),
            description,
            body: FederatedBody { members, table: table.clone(), best_effort: settings.best_effort },
        };
        functions.insert(function, put);
    }
    functions
}
