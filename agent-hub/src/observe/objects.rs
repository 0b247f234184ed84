//! What the hub holds: databases, functions, groups, and our record of the groups that we made. I/O: two `.show` commands, one for each database, one query.

use std::collections::BTreeMap;

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

use super::{ObserveError, asking, decoding};
use crate::{
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, HubDatabase},
    setup::ownership_table,
};

/// How many databases are asked for their groups at once.
const CONCURRENT_DATABASES: usize = 4;

const DATABASES: &str = "the list of databases";
const ENTITIES: &str = "the functions of all databases";
const OWNERSHIP: &str = "the record of our entity groups";

/// Reads the hub. Without a record of groups (`has_record`: whether its table exists) none is ours. A database whose groups cannot be read is marked so; any other failure fails the reading.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_hub(hub: &KustoClient, config: &HubConfig, has_record: bool) -> Result<Hub, ObserveError> {
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
    let names = read_databases(&databases.map_err(asking(DATABASES))?).map_err(decoding(DATABASES))?;
    let mut databases: BTreeMap<DatabaseName, HubDatabase> =
        names.into_iter().map(|name| (name, HubDatabase::default())).collect();
    read_entities(&entities.map_err(asking(ENTITIES))?, &mut databases).map_err(decoding(ENTITIES))?;
    let claims = claims?;
    let groups = stream::iter(databases.keys().cloned().collect::<Vec<_>>())
        .map(async |name| (read_groups(hub, &name).await, name))
        .buffer_unordered(CONCURRENT_DATABASES);
    for (groups, name) in groups.collect::<Vec<_>>().await {
        if let Some(database) = databases.get_mut(&name) {
            database.groups = groups;
        }
    }
    Ok(Hub { databases, claims })
}

/// Names that break our rules are Kusto's own (`$systemdb`): nothing of ours belongs there.
fn read_databases(table: &ResultTable) -> Result<Vec<DatabaseName>, DecodeError> {
    let names = table.rows().map(|row| row.string("DatabaseName")).collect::<Result<Vec<_>, _>>()?;
    Ok(names.into_iter().filter_map(|name| DatabaseName::new(name).ok()).collect())
}

fn read_entities(table: &ResultTable, databases: &mut BTreeMap<DatabaseName, HubDatabase>) -> Result<(), DecodeError> {
    for row in table.rows() {
        let (database, kind, name) =
            (row.string("DatabaseName")?, row.string("EntityType")?, row.string("EntityName")?);
        let Some(database) = DatabaseName::new(database).ok().and_then(|database| databases.get_mut(&database)) else {
            continue;
        };
        match (kind, FunctionName::new(name)) {
            ("Function", Ok(function)) => {
                let (folder, docstring) = (row.string("Folder")?.to_owned(), row.string("DocString")?.to_owned());
                database.functions.insert(function, ExistingFunction { folder, docstring });
            }
            ("Function", Err(_)) => {} // Not a name that we could have given.
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

async fn read_groups(
    hub: &KustoClient,
    database: &DatabaseName,
) -> Result<BTreeMap<EntityGroupName, ExistingGroup>, String> {
    let answer = hub.send(&ShowEntityGroups { database }.request()).await;
    let table = answer.map_err(|error| format!("its entity groups could not be read: {}", chain(&error)))?;
    parse_groups(&table).map_err(|error| format!("its entity groups could not be understood: {}", chain(&error)))
}

fn parse_groups(table: &ResultTable) -> Result<BTreeMap<EntityGroupName, ExistingGroup>, DecodeError> {
    let mut groups = BTreeMap::new();
    for row in table.rows() {
        let Ok(name) = EntityGroupName::new(row.string("Name")?) else { continue };
        let entities: Vec<String> =
            serde_json::from_str(row.string("Entities")?).unwrap_or_else(|_| vec![String::new()]);
        groups.insert(name, ExistingGroup::parse(entities.iter().map(String::as_str)));
    }
    Ok(groups)
}
