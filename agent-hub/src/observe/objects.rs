//! What the hub holds: databases, functions, groups, and our record of the groups that we made. I/O: two `.show` commands, one for each database that is due, more where
//! these have members that are not known, one query.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    pin::pin,
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

/// Of how many groups, and of how long texts, one answer tells the members: a hub may have more of them than an answer may hold.
const MOST_HASHES: usize = 100;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What a database shows of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    /// Of its members.
    hash: String,
    /// How long their text is.
    bytes: usize,
}

/// The groups of databases that were read before. Asking is one request for each database, so that those are asked whose schema's version changed, and some in
/// turn, in case a hub does not count groups into that. Lives as long as the process.
#[derive(Debug, Default)]
pub struct ObjectMemory {
    /// By their databases, of which the version is known.
    groups: BTreeMap<DatabaseName, (String, BTreeMap<EntityGroupName, Shown>)>,
    turn: usize,
    /// By the hash of their members: most groups are in every database.
    read: HashMap<String, ExistingGroup>,
}

impl ObjectMemory {
    /// Forgets members that no group has any more.
    fn forget_unused(&mut self) {
        let shown = self.groups.values().flat_map(|(_, groups)| groups.values());
        let used: HashSet<&String> = shown.map(|shown| &shown.hash).collect();
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
        let mut unread = self.ask(hub, databases, versions).await;
        // What is in every database is asked of one.
        unread.append(&mut self.ask_members(hub, &self.unknown(databases, true)).await);
        // And of the others only where that one has failed, or has changed since it was asked.
        let lacking: Vec<_> =
            databases.iter().filter(|name| !unread.contains_key(*name) && !self.knows(name)).collect();
        let lacking: Vec<DatabaseName> = lacking.into_iter().cloned().collect();
        unread.append(&mut self.ask(hub, &lacking, versions).await);
        unread.append(&mut self.ask_members(hub, &self.unknown(&lacking, false)).await);
        self.forget_unused();
        unread
    }

    async fn ask(
        &mut self,
        hub: &KustoClient,
        databases: &[DatabaseName],
        versions: &BTreeMap<DatabaseName, String>,
    ) -> BTreeMap<DatabaseName, String> {
        let answers = stream::iter(databases).map(async |database| {
            (database, hub.send(&ShowEntityGroups { database, members_of: None }.request()).await)
        });
        let mut answers = pin!(answers.buffer_unordered(CONCURRENT_DATABASES));
        let mut unread = BTreeMap::new();
        while let Some((database, answer)) = answers.next().await {
            let learnt = answer.map(|table| self.learn(database, &versions[database], &table));
            self.note_unread(database, learnt, &mut unread);
        }
        unread
    }

    /// Asks for the members of these groups, page by page.
    async fn ask_members(
        &mut self,
        hub: &KustoClient,
        pages: &[(DatabaseName, BTreeSet<String>)],
    ) -> BTreeMap<DatabaseName, String> {
        let answers = stream::iter(pages).map(async |(database, hashes)| {
            (database, hub.send(&ShowEntityGroups { database, members_of: Some(hashes) }.request()).await)
        });
        let mut answers = pin!(answers.buffer_unordered(CONCURRENT_DATABASES));
        let mut unread = BTreeMap::new();
        while let Some((database, answer)) = answers.next().await {
            let learnt = answer.map(|table| self.learn_members(&table));
            self.note_unread(database, learnt, &mut unread);
        }
        unread
    }

    /// A database of which nothing is known any more, if that is so, and why.
    fn note_unread(
        &mut self,
        database: &DatabaseName,
        learnt: Result<Result<(), DecodeError>, KustoError>,
        unread: &mut BTreeMap<DatabaseName, String>,
    ) {
        let why = match learnt {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("its entity groups could not be understood: {}", chain(&error)),
            Err(error) => format!("its entity groups could not be read: {}", chain(&error)),
        };
        self.groups.remove(database);
        unread.insert(database.clone(), why);
    }

    /// What a database has shown.
    fn learn(&mut self, database: &DatabaseName, version: &str, table: &ResultTable) -> Result<(), DecodeError> {
        let mut groups = BTreeMap::new();
        for row in table.rows() {
            let Ok(name) = EntityGroupName::new(row.string("Name")?) else { continue };
            let bytes = row.long("Bytes")?.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
            groups.insert(name, Shown { hash: row.string("Hash")?.to_owned(), bytes });
        }
        self.groups.insert(database.clone(), (version.to_owned(), groups));
        Ok(())
    }

    /// The members of some of its groups.
    fn learn_members(&mut self, table: &ResultTable) -> Result<(), DecodeError> {
        for row in table.rows() {
            let hash = row.string("Hash")?;
            if !self.read.contains_key(hash) {
                let entities: Vec<String> =
                    serde_json::from_str(row.string("Entities")?).unwrap_or_else(|_| vec![String::new()]);
                let group = ExistingGroup::parse(entities.iter().map(String::as_str));
                self.read.insert(hash.to_owned(), group);
            }
        }
        Ok(())
    }

    /// The members of which databases are not known, by their hashes and in pages; where each is to be asked for once, without what one before them has.
    fn unknown(&self, databases: &[DatabaseName], each_once: bool) -> Vec<(DatabaseName, BTreeSet<String>)> {
        let (mut asked, mut pages) = (HashSet::new(), Vec::new());
        for name in databases {
            if !each_once {
                asked.clear();
            }
            let (mut page, mut room) = (BTreeSet::new(), MOST_BYTES);
            for Shown { hash, bytes } in self.groups.get(name).into_iter().flat_map(|(_, groups)| groups.values()) {
                if self.read.contains_key(hash) || !asked.insert(hash) {
                    continue;
                }
                if !page.is_empty() && (page.len() == MOST_HASHES || *bytes > room) {
                    pages.push((name.clone(), mem::take(&mut page)));
                    room = MOST_BYTES;
                }
                room = room.saturating_sub(*bytes);
                page.insert(hash.clone());
            }
            if !page.is_empty() {
                pages.push((name.clone(), page));
            }
        }
        pages
    }

    /// Whether the members of all groups that a database has shown are known. A pass that was dropped may have left some out.
    fn knows(&self, database: &DatabaseName) -> bool {
        self.groups
            .get(database)
            .is_some_and(|(_, groups)| groups.values().all(|shown| self.read.contains_key(&shown.hash)))
    }

    /// The groups of a database, if it was read.
    fn of(&self, database: &DatabaseName) -> Option<BTreeMap<EntityGroupName, ExistingGroup>> {
        let (_, groups) = self.groups.get(database)?;
        groups.iter().map(|(name, shown)| Some((name.clone(), self.read.get(&shown.hash)?.clone()))).collect()
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
    seen.leave_what_is_not_understood();
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

    fn columns<const N: usize>(names: [&str; N]) -> Vec<ColumnInfo> {
        let column = |name: &str| ColumnInfo { name: name.to_owned(), scalar_type: ScalarType::String };
        names.map(column).into()
    }

    /// Groups with the hashes of their members, as a database shows them.
    fn shown(groups: &[(&str, &str, usize)]) -> ResultTable {
        let rows = groups.iter().map(|(name, hash, bytes)| vec![json!(name), json!(hash), json!(bytes)]);
        ResultTable::new(columns(["Name", "Hash", "Bytes"]), rows.collect())
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
        let learn = |memory: &mut ObjectMemory, number: usize, groups: &[(&str, &str, usize)]| {
            memory.learn(&databases[number], "v1", &shown(groups)).unwrap();
        };
        for number in 0..3 {
            learn(&mut memory, number, &[("Logs_Partitions", "a", 9), ("Copy", "a", 9), ("Mine", "b", 9)]);
        }
        learn(&mut memory, 3, &[("Mine", "b", 9), ("More", "c", 9)]);
        let page = |number: usize, hashes: &[&str]| {
            (name(number), hashes.iter().map(|hash| (*hash).to_owned()).collect::<BTreeSet<_>>())
        };
        let once = memory.unknown(&databases, true);
        assert_eq!(once, [page(0, &["a", "b"]), page(3, &["c"])], "the others have what these have");
        let of_each = memory.unknown(&databases, false);
        assert_eq!(of_each[2..], [page(2, &["a", "b"]), page(3, &["b", "c"])]);
        assert_eq!(memory.of(&name(0)), None);
        assert_eq!(memory.due(&versions(&["v1"; 4])), databases, "a pass that ends here leaves them to the next");

        let members = r#"["cluster('https://eu.kusto.windows.net').database('Logs')"]"#;
        let rows = [("Logs_Partitions", "a", members), ("Copy", "a", members), ("Mine", "b", "no list")];
        let rows = rows.map(|(name, hash, text)| vec![name.into(), hash.into(), text.into()]);
        memory.learn_members(&ResultTable::new(columns(["Name", "Hash", "Entities"]), rows.into())).unwrap();
        assert_eq!(memory.unknown(&databases, false), [page(3, &["c"])]);
        let groups = memory.of(&name(2)).unwrap();
        let group = |name: &str| &groups[&EntityGroupName::new(name).unwrap()];
        let (ExistingGroup::Members(one), ExistingGroup::Members(other)) = (group("Logs_Partitions"), group("Copy"))
        else {
            panic!("we would write them so")
        };
        assert!(Arc::ptr_eq(one, other));
        assert_eq!(group("Mine"), &ExistingGroup::Foreign(Arc::default()), "known, too: it is not asked for again");

        for number in [0, 1, 2] {
            memory.forget(&name(number));
        }
        memory.forget_unused();
        assert_eq!(memory.read.keys().collect::<Vec<_>>(), ["b"]);
        memory.forget(&name(3));
        memory.forget_unused();
        assert_eq!(memory.read.len(), 0);
    }
    #[test]
    fn members_are_asked_for_in_pages_that_an_answer_can_hold() {
        let mut memory = ObjectMemory::default();
        let names: Vec<String> = (0..250).map(|number| format!("G{number:03}")).collect();
        let pages = |memory: &mut ObjectMemory, bytes: [usize; 3]| {
            let rest = names[3..].iter().map(|group| (group.as_str(), group.as_str(), 9));
            let first = names.iter().zip(bytes).map(|(group, bytes)| (group.as_str(), group.as_str(), bytes));
            memory.learn(&name(0), "v1", &shown(&first.chain(rest).collect::<Vec<_>>())).unwrap();
            let pages = memory.unknown(&[name(0)], true);
            assert_eq!(pages.iter().map(|(_, hashes)| hashes.len()).sum::<usize>(), names.len());
            pages.into_iter().map(|(_, hashes)| hashes.len()).collect::<Vec<_>>()
        };
        assert_eq!(pages(&mut memory, [9, 9, 9]), [100, 100, 50]);
        assert_eq!(pages(&mut memory, [9, MOST_BYTES, 9]), [1, 1, 100, 100, 48]);
        assert_eq!(pages(&mut memory, [2 * MOST_BYTES, MOST_BYTES, 9]), [1, 1, 100, 100, 48]);
    }
}
