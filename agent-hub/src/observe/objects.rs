//! What the hub holds: databases, functions, groups, and our record of the groups that we made. I/O: two `.show` commands, one for each database, one query.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName},
    statements::{ReadOwnership, ShowDatabases, ShowEntityGroups, ShowHubEntities},
};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, KustoError, ResultTable},
    runtime::chain,
};

use super::{ObserveError, asking, decoding};
use crate::{
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, HubDatabase, Keeper},
    setup::ownership_table,
};

/// How many databases are asked for their groups at once.
const CONCURRENT_DATABASES: usize = 4;

const DATABASES: &str = "the list of databases";
const ENTITIES: &str = "the functions of all databases";
const OWNERSHIP: &str = "the record of our entity groups";

/// How many databases are asked for their groups in turn, though nothing tells that these changed: a hub with many is looked at within some passes.
const IN_TURN: usize = 2;

/// The groups of databases that were read before. Asking is one request for each database, so that those are asked whose schema's version changed, and some in
/// turn, in case a hub does not count groups into that. Lives as long as the process.
#[derive(Debug, Default)]
pub struct ObjectMemory {
    groups: BTreeMap<DatabaseName, (String, BTreeMap<EntityGroupName, ExistingGroup>)>,
    turn: usize,
    /// Groups by the text of their members: most are in every database.
    read: HashMap<String, ExistingGroup>,
}

impl ObjectMemory {
    /// Forgets members that no group has any more.
    fn forget_unused(&mut self) {
        self.read.retain(|_, group| match group {
            ExistingGroup::Members(members) => Arc::strong_count(members) > 1,
            ExistingGroup::Foreign => false,
        });
    }

    /// A database whose groups we changed is looked at anew, whatever its version says.
    pub fn forget(&mut self, database: &DatabaseName) {
        self.groups.remove(database);
    }

    /// The databases that are to be asked, of all there are with their versions.
    fn due(&mut self, versions: &BTreeMap<DatabaseName, String>) -> Vec<DatabaseName> {
        self.groups.retain(|name, _| versions.contains_key(name));
        // There may be fewer than the last time.
        let first = self.turn % versions.len().max(1);
        self.turn = (first + IN_TURN) % versions.len().max(1);
        let is_in_turn = |index: usize| (index + versions.len() - first) % versions.len() < IN_TURN;
        let due = versions.iter().enumerate().filter(|(index, (name, version))| {
            is_in_turn(*index) || self.groups.get(*name).is_none_or(|(known, _)| known != *version)
        });
        due.map(|(_, (name, _))| name.clone()).collect()
    }
}

/// Reads the hub. Without a record of groups (`has_record`: whether its table exists) none is ours. A database whose groups cannot be read is marked so; any other failure fails the reading.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_hub(
    hub: &KustoClient,
    config: &HubConfig,
    has_record: bool,
    memory: &mut ObjectMemory,
) -> Result<Hub, ObserveError> {
    let ownership = ReadOwnership { database: &config.heartbeat_database, table: &ownership_table() }.request();
    let entities = ShowHubEntities { function_prefix: &config.function_prefix }.request();
    let databases = ShowDatabases.request();
    let claims = async {
        if has_record {
            read_claims(&hub.send(&ownership).await.map_err(asking(OWNERSHIP))?).map_err(decoding(OWNERSHIP))
        } else {
            Ok(BTreeMap::new())
        }
    };
    let (databases, entities, claims) = futures::join!(hub.send(&databases), hub.send(&entities), claims);
    let versions = read_databases(&databases.map_err(asking(DATABASES))?).map_err(decoding(DATABASES))?;
    let mut databases: BTreeMap<DatabaseName, HubDatabase> =
        versions.keys().map(|name| (name.clone(), HubDatabase::default())).collect();
    let entities = entities.map_err(asking(ENTITIES))?;
    read_entities(&entities, &config.heartbeat_database, &mut databases).map_err(decoding(ENTITIES))?;
    let mut seen = Hub { databases, claims: claims?, ..Hub::default() };
    let due = memory.due(&versions);
    for (name, database) in &mut seen.databases {
        database.is_fresh = due.contains(name);
    }
    let looks = stream::iter(due)
        .map(async |name| (hub.send(&ShowEntityGroups { database: &name }.request()).await, name))
        .buffer_unordered(CONCURRENT_DATABASES);
    let mut looks = pin!(looks);
    let mut unread = BTreeMap::new();
    while let Some((answer, name)) = looks.next().await {
        match groups_of(answer, &mut memory.read) {
            Ok(groups) => drop(memory.groups.insert(name.clone(), (versions[&name].clone(), groups))),
            Err(why) => {
                memory.groups.remove(&name);
                unread.insert(name, why);
            }
        }
    }
    memory.forget_unused();
    for (name, database) in &mut seen.databases {
        database.groups = match (unread.remove(name), memory.groups.get(name)) {
            (None, Some((_, groups))) => Ok(groups.clone()),
            (why, _) => Err(why.unwrap_or_else(|| "its entity groups were not read".to_owned())),
        };
    }
    Ok(seen)
}

/// Names that break our rules are Kusto's own (`$systemdb`): nothing of ours belongs there.
fn read_databases(table: &ResultTable) -> Result<BTreeMap<DatabaseName, String>, DecodeError> {
    let rows = table.rows().map(|row| Ok((row.string("DatabaseName")?, row.string("Version")?.to_owned())));
    let rows = rows.collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(rows.into_iter().filter_map(|(name, version)| Some((DatabaseName::new(name).ok()?, version))).collect())
}

/// `us`: our heartbeat database, which marks our functions.
fn read_entities(
    table: &ResultTable,
    us: &DatabaseName,
    databases: &mut BTreeMap<DatabaseName, HubDatabase>,
) -> Result<(), DecodeError> {
    for row in table.rows() {
        let (database, kind, name) =
            (row.string("DatabaseName")?, row.string("EntityType")?, row.string("EntityName")?);
        let Ok(place) = DatabaseName::new(database) else { continue };
        let Some(database) = databases.get_mut(&place) else { continue };
        match (kind, FunctionName::new(name)) {
            ("Function", Ok(function)) => {
                let (folder, docstring) = (row.string("Folder")?.to_owned(), row.string("DocString")?.to_owned());
                let content_hash = row.string("ContentHash")?.to_owned();
                let keeper = Keeper::of(&place, &function, &docstring, us);
                database.functions.insert(function, ExistingFunction { keeper, folder, docstring, content_hash });
            }
            ("Function", Err(_)) => {} // Not a name that we could have given.
            ("EntityGroup", _) => {}   // Groups have names of their own.
            _ => drop(database.shadowed.insert(name.to_owned())),
        }
    }
    Ok(())
}

fn read_claims(table: &ResultTable) -> Result<BTreeMap<(DatabaseName, EntityGroupName), Claim>, DecodeError> {
    let mut claims = BTreeMap::new();
    for row in table.rows() {
        let names = (DatabaseName::new(row.string("Database")?), EntityGroupName::new(row.string("Name")?));
        let (Ok(database), Ok(group)) = names else { continue };
        let contents = row.dynamic("Contents")?;
        let contents = contents.as_array().into_iter().flatten();
        let intended = contents.filter_map(|content| content.as_str().map(str::to_owned)).collect();
        claims.insert((database, group), Claim { is_made: row.bool("IsMade")? == Some(true), intended });
    }
    Ok(claims)
}

/// The groups of one answer; why not, in a sentence.
fn groups_of(
    answer: Result<ResultTable, KustoError>,
    read: &mut HashMap<String, ExistingGroup>,
) -> Result<BTreeMap<EntityGroupName, ExistingGroup>, String> {
    let table = answer.map_err(|error| format!("its entity groups could not be read: {}", chain(&error)))?;
    parse_groups(&table, read).map_err(|error| format!("its entity groups could not be understood: {}", chain(&error)))
}

fn parse_groups(
    table: &ResultTable,
    read: &mut HashMap<String, ExistingGroup>,
) -> Result<BTreeMap<EntityGroupName, ExistingGroup>, DecodeError> {
    let mut groups = BTreeMap::new();
    for row in table.rows() {
        let Ok(name) = EntityGroupName::new(row.string("Name")?) else { continue };
        let text = row.string("Entities")?;
        let group = match read.get(text) {
            Some(known) => known.clone(),
            None => {
                let entities: Vec<String> = serde_json::from_str(text).unwrap_or_else(|_| vec![String::new()]);
                let group = ExistingGroup::parse(entities.iter().map(String::as_str));
                read.insert(text.to_owned(), group.clone());
                group
            }
        };
        groups.insert(name, group);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use kql::types::ScalarType;
    use shared::kusto::ColumnInfo;

    use super::*;

    fn name(number: usize) -> DatabaseName {
        DatabaseName::new(format!("Db{number}")).unwrap()
    }

    /// Databases `Db0`, `Db1`, ... of these versions.
    fn versions(versions: &[&str]) -> BTreeMap<DatabaseName, String> {
        versions.iter().enumerate().map(|(number, version)| (name(number), (*version).to_owned())).collect()
    }

    /// The numbers of the databases that are asked, each of which answers.
    fn asked(memory: &mut ObjectMemory, versions: &BTreeMap<DatabaseName, String>) -> Vec<usize> {
        let due = memory.due(versions);
        for name in &due {
            memory.groups.insert(name.clone(), (versions[name].clone(), BTreeMap::new()));
        }
        (0..versions.len()).filter(|number| due.contains(&name(*number))).collect()
    }

    #[test]
    fn databases_are_asked_at_first_in_turn_where_their_version_changed_and_where_we_changed_them() {
        let mut memory = ObjectMemory::default();
        let all = versions(&["v1"; 6]);
        assert_eq!(asked(&mut memory, &all), [0, 1, 2, 3, 4, 5], "nothing is known");
        // Each comes within three looks, and then again.
        for turn in [[2, 3], [4, 5], [0, 1], [2, 3]] {
            assert_eq!(asked(&mut memory, &all), turn);
        }
        let changed = versions(&["v1", "v1", "v2", "v1", "v1", "v1"]);
        assert_eq!(asked(&mut memory, &changed), [2, 4, 5], "somebody changed it");
        assert_eq!(asked(&mut memory, &changed), [0, 1], "that was looked at");
        memory.forget(&name(4));
        assert_eq!(asked(&mut memory, &changed), [2, 3, 4], "we changed it");
        // One that could not be read is asked until it can be.
        memory.groups.remove(&name(0));
        assert_eq!(asked(&mut memory, &changed), [0, 4, 5]);
        // Of one that is gone nothing stays, and the turn goes on among fewer.
        let fewer = versions(&["v1", "v1"]);
        assert_eq!(asked(&mut memory, &fewer), [0, 1]);
        assert_eq!(memory.groups.len(), 2);
        assert_eq!(asked(&mut memory, &changed), [0, 1, 2, 3, 4, 5]);
        assert_eq!(asked(&mut memory, &BTreeMap::new()), [0; 0]);
    }

    #[test]
    fn members_are_read_once_for_all_databases_and_forgotten_with_their_last_group() {
        let mut memory = ObjectMemory::default();
        let column = |name: &str| ColumnInfo { name: name.to_owned(), scalar_type: ScalarType::String };
        let members = r#"["cluster('https://eu.kusto.windows.net').database('Logs')"]"#;
        let table = ResultTable::new(
            vec![column("Name"), column("Entities")],
            [("Logs_Partitions", members), ("Copy", members), ("Mine", "no list")]
                .map(|(name, text)| vec![name.into(), text.into()])
                .into(),
        );
        let groups = parse_groups(&table, &mut memory.read).unwrap();
        let group = |name: &str| &groups[&EntityGroupName::new(name).unwrap()];
        let (ExistingGroup::Members(one), ExistingGroup::Members(other)) = (group("Logs_Partitions"), group("Copy"))
        else {
            panic!("we would write them so")
        };
        assert!(Arc::ptr_eq(one, other));
        assert_eq!(group("Mine"), &ExistingGroup::Foreign);
        memory.groups.insert(name(0), ("v1".to_owned(), groups));
        memory.forget_unused();
        assert_eq!(memory.read.len(), 1);
        memory.forget(&name(0));
        memory.forget_unused();
        assert_eq!(memory.read.len(), 0);
    }
}
