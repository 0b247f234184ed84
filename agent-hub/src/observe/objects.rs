//! What the hub holds: databases, functions, groups, and our record of the groups that we made. I/O: two `.show` commands, one for each database that is due, more where
//! these have members that are not known, one query.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
};

use futures::{StreamExt as _, stream};
use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName},
    statements::{ReadOwnership, ShowDatabases, ShowEntityGroups, ShowHubEntities},
};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
    runtime::chain,
};

use super::{ObserveError, asking, decoding, number_of_records};
use crate::{
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, HubDatabase, Keeper, Written},
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
    /// By their databases, of which the version is known: the hashes of their members.
    groups: BTreeMap<DatabaseName, (String, BTreeMap<EntityGroupName, String>)>,
    turn: usize,
    /// By the hash of their members: most groups are in every database.
    read: HashMap<String, ExistingGroup>,
}

impl ObjectMemory {
    /// Forgets members that no group has any more.
    fn forget_unused(&mut self) {
        let used: HashSet<&String> = self.groups.values().flat_map(|(_, groups)| groups.values()).collect();
        self.read.retain(|hash, _| used.contains(hash));
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
            is_in_turn(*index) || self.groups.get(*name).is_none_or(|(known, _)| known != *version) || !self.knows(name)
        });
        due.map(|(_, (name, _))| name.clone()).collect()
    }

    /// Asks databases for their groups, and for members that are not known; of whoever cannot be read, why not.
    async fn look(
        &mut self,
        hub: &KustoClient,
        databases: &[DatabaseName],
        versions: &BTreeMap<DatabaseName, String>,
    ) -> BTreeMap<DatabaseName, String> {
        let mut unread = self.ask(hub, databases, versions, false).await;
        // What is in every database is asked of one, and of the others only where that one has failed, or has changed since it was asked.
        for each_once in [true, false] {
            let unknown = self.unknown(databases, each_once);
            unread.append(&mut self.ask(hub, &unknown, versions, true).await);
        }
        self.forget_unused();
        unread
    }

    async fn ask(
        &mut self,
        hub: &KustoClient,
        databases: &[DatabaseName],
        versions: &BTreeMap<DatabaseName, String>,
        with_members: bool,
    ) -> BTreeMap<DatabaseName, String> {
        let answers = stream::iter(databases)
            .map(async |database| (database, hub.send(&ShowEntityGroups { database, with_members }.request()).await))
            .buffer_unordered(CONCURRENT_DATABASES);
        let mut answers = pin!(answers);
        let mut unread = BTreeMap::new();
        while let Some((database, answer)) = answers.next().await {
            let learnt = match answer {
                Ok(table) => {
                    let learnt = self.learn(database, &versions[database], &table, with_members);
                    learnt.map_err(|error| format!("its entity groups could not be understood: {}", chain(&error)))
                }
                Err(error) => Err(format!("its entity groups could not be read: {}", chain(&error))),
            };
            if let Err(why) = learnt {
                self.groups.remove(database);
                unread.insert(database.clone(), why);
            }
        }
        unread
    }

    /// What a database has shown.
    fn learn(
        &mut self,
        database: &DatabaseName,
        version: &str,
        table: &ResultTable,
        with_members: bool,
    ) -> Result<(), DecodeError> {
        let mut groups = BTreeMap::new();
        for row in table.rows() {
            let Ok(name) = EntityGroupName::new(row.string("Name")?) else { continue };
            let hash = row.string("Hash")?;
            if with_members && !self.read.contains_key(hash) {
                let entities: Vec<String> =
                    serde_json::from_str(row.string("Entities")?).unwrap_or_else(|_| vec![String::new()]);
                let group = ExistingGroup::parse(entities.iter().map(String::as_str));
                self.read.insert(hash.to_owned(), group);
            }
            groups.insert(name, hash.to_owned());
        }
        self.groups.insert(database.clone(), (version.to_owned(), groups));
        Ok(())
    }

    /// The databases that have members which are not known; where each is to be asked for once, without those that have only what one before them has.
    fn unknown(&self, databases: &[DatabaseName], each_once: bool) -> Vec<DatabaseName> {
        let mut asked = HashSet::new();
        let mut unknown = Vec::new();
        for name in databases {
            let hashes = self.groups.get(name).into_iter().flat_map(|(_, groups)| groups.values());
            let new: Vec<&String> =
                hashes.filter(|hash| !self.read.contains_key(*hash) && !asked.contains(hash)).collect();
            if !new.is_empty() {
                unknown.push(name.clone());
            }
            if each_once {
                asked.extend(new);
            }
        }
        unknown
    }

    /// Whether the members of all groups that a database has shown are known. A pass that was dropped may have left some out.
    fn knows(&self, database: &DatabaseName) -> bool {
        self.groups.get(database).is_some_and(|(_, groups)| groups.values().all(|hash| self.read.contains_key(hash)))
    }

    /// The groups of a database, if it was read.
    fn of(&self, database: &DatabaseName) -> Option<BTreeMap<EntityGroupName, ExistingGroup>> {
        let (_, groups) = self.groups.get(database)?;
        groups.iter().map(|(name, hash)| Some((name.clone(), self.read.get(hash)?.clone()))).collect()
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
            Ok((BTreeMap::new(), 0))
        }
    };
    let (databases, entities, claims) = futures::join!(hub.send(&databases), hub.send(&entities), claims);
    let versions = read_databases(&databases.map_err(asking(DATABASES))?).map_err(decoding(DATABASES))?;
    let mut databases: BTreeMap<DatabaseName, HubDatabase> =
        versions.keys().map(|name| (name.clone(), HubDatabase::default())).collect();
    let entities = entities.map_err(asking(ENTITIES))?;
    read_entities(&entities, &config.heartbeat_database, &mut databases).map_err(decoding(ENTITIES))?;
    let (claims, records) = claims?;
    let mut seen = Hub { databases, claims, records, ..Hub::default() };
    let due = memory.due(&versions);
    for (name, database) in &mut seen.databases {
        database.is_fresh = due.contains(name);
    }
    let mut unread = memory.look(hub, &due, &versions).await;
    for (name, database) in &mut seen.databases {
        database.groups = match (unread.remove(name), memory.of(name)) {
            (None, Some(groups)) => Ok(groups),
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
                let written = Written { folder, content_hash: row.string("ContentHash")?.to_owned() };
                let keeper = Keeper::of(&place, &function, &docstring, us);
                database.functions.insert(function, ExistingFunction { keeper, docstring, written });
            }
            ("Function", Err(_)) => {} // Not a name that we could have given.
            ("EntityGroup", _) => {}   // Groups have names of their own.
            _ => drop(database.shadowed.insert(name.to_owned())),
        }
    }
    Ok(())
}

/// What the record says of groups, and how many rows it has.
type Claims = (BTreeMap<(DatabaseName, EntityGroupName), Claim>, usize);

fn read_claims(table: &ResultTable) -> Result<Claims, DecodeError> {
    let mut claims = BTreeMap::new();
    for row in table.rows() {
        if row.long("Records")?.is_some() {
            continue;
        }
        let names = (DatabaseName::new(row.string("Database")?), EntityGroupName::new(row.string("Name")?));
        let (Ok(database), Ok(group)) = names else { continue };
        let contents = row.dynamic("Contents")?;
        let contents = contents.as_array().into_iter().flatten();
        let intended = contents.filter_map(|content| content.as_str().map(str::to_owned)).collect();
        claims.insert((database, group), Claim { is_made: row.bool("IsMade")? == Some(true), intended });
    }
    Ok((claims, number_of_records(table)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kql::types::ScalarType;
    use serde_json::json;
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

    fn column(name: &str) -> ColumnInfo {
        ColumnInfo { name: name.to_owned(), scalar_type: ScalarType::String }
    }

    /// Groups with the hashes of their members, as a database shows them.
    fn shown(groups: &[(&str, &str)]) -> ResultTable {
        let rows = groups.iter().map(|(name, hash)| vec![(*name).into(), (*hash).into()]);
        ResultTable::new(vec![column("Name"), column("Hash")], rows.collect())
    }

    #[test]
    fn the_record_tells_of_groups_and_in_a_row_without_names_how_long_it_is() {
        let types = [ScalarType::String, ScalarType::String, ScalarType::Bool, ScalarType::Dynamic, ScalarType::Long];
        let columns = ["Database", "Name", "IsMade", "Contents", "Records"].into_iter().zip(types);
        let columns = columns.map(|(name, scalar_type)| ColumnInfo { name: name.to_owned(), scalar_type });
        let rows = [
            json!(["Logs", "Logs_Partitions", true, "[\"a\",\"b\"]", null]),
            // As a union fills up what a row lacks.
            json!(["", "", null, null, 7_001]),
            json!(["Logs", "Meant_Partitions", false, ["c"], null]),
        ];
        let rows = rows.map(|row| row.as_array().unwrap().clone());
        let columns: Vec<_> = columns.collect();
        let cut = read_claims(&ResultTable::new(columns.clone(), rows[..1].into())).unwrap_err().to_string();
        assert!(cut.contains("row with the number of records"), "{cut}");
        let (claims, records) = read_claims(&ResultTable::new(columns, rows.into())).unwrap();
        let claim = |name: &str, is_made, intended: &[&str]| {
            let intended = intended.iter().map(|hash| (*hash).to_owned()).collect();
            let names = (DatabaseName::new("Logs").unwrap(), EntityGroupName::new(name).unwrap());
            (names, Claim { is_made, intended })
        };
        let expected = [claim("Logs_Partitions", true, &["a", "b"]), claim("Meant_Partitions", false, &["c"])];
        assert_eq!((claims, records), (BTreeMap::from(expected), 7_001));
    }

    #[test]
    fn members_are_asked_for_once_and_forgotten_with_their_last_group() {
        let mut memory = ObjectMemory::default();
        let databases: Vec<DatabaseName> = (0..4).map(name).collect();
        let learn = |memory: &mut ObjectMemory, number: usize, groups: &[(&str, &str)]| {
            memory.learn(&databases[number], "v1", &shown(groups), false).unwrap();
        };
        for number in 0..3 {
            learn(&mut memory, number, &[("Logs_Partitions", "a"), ("Copy", "a"), ("Mine", "b")]);
        }
        learn(&mut memory, 3, &[("Mine", "b"), ("More", "c")]);
        assert_eq!(memory.unknown(&databases, true), [name(0), name(3)], "the others have what these have");
        assert_eq!(memory.unknown(&databases, false), databases);
        assert_eq!(memory.of(&name(0)), None);
        assert_eq!(memory.due(&versions(&["v1"; 4])), databases, "a pass that ends here leaves them to the next");

        let members = r#"["cluster('https://eu.kusto.windows.net').database('Logs')"]"#;
        let rows = [("Logs_Partitions", "a", members), ("Copy", "a", members), ("Mine", "b", "no list")];
        let rows = rows.map(|(name, hash, text)| vec![name.into(), hash.into(), text.into()]);
        let table = ResultTable::new(["Name", "Hash", "Entities"].map(column).into(), rows.into());
        memory.learn(&name(0), "v1", &table, true).unwrap();
        assert_eq!(memory.unknown(&databases, false), [name(3)]);
        let groups = memory.of(&name(2)).unwrap();
        let group = |name: &str| &groups[&EntityGroupName::new(name).unwrap()];
        let (ExistingGroup::Members(one), ExistingGroup::Members(other)) = (group("Logs_Partitions"), group("Copy"))
        else {
            panic!("we would write them so")
        };
        assert!(Arc::ptr_eq(one, other));
        assert_eq!(group("Mine"), &ExistingGroup::Foreign, "known, too: it is not asked for again");

        for number in [0, 1, 2] {
            memory.forget(&name(number));
        }
        memory.forget_unused();
        assert_eq!(memory.read.keys().collect::<Vec<_>>(), ["b"]);
        memory.forget(&name(3));
        memory.forget_unused();
        assert_eq!(memory.read.len(), 0);
    }
}
