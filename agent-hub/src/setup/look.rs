//! What the tables of the hub lack. I/O: commands that show, and change nothing.

use std::{collections::BTreeSet, iter, time::Duration};

use futures::{StreamExt as _, stream};
use kql::{
    names::{DatabaseName, TableName},
    request::Request,
    statements::{
        AlterCaching, AlterRetention, AlterSchemaEncoding, CreateHeartbeatTable, CreateMembersTable,
        CreateOwnershipTable, EnableStreaming, HeartbeatPolicy, HeartbeatSource, ShowColumns, ShowDatabases,
        ShowPolicy,
    },
};
use serde_json::Value;
use shared::{
    document::HubConfig,
    kusto::{Failure, KustoClient, KustoError},
    runtime::chain,
};

use super::{Look, Memory, SetupError, TableLook, members_table, ownership_table};
use crate::drift::Content;

/// How many heartbeat tables are looked at at once, where each partition has one.
const CONCURRENT_TABLES: usize = 8;

/// Heartbeats of the last day are hot: those are what passes read.
const HOT_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// Our records must outlive every group: a hundred years.
const RECORD_RETENTION: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);

/// How many columns our record of groups has had since its first version: all.
const FIRST_OF_OWNERSHIP: usize = 6;

/// The same of the memory of partitions: those that came later are behind these.
const FIRST_OF_MEMBERS: usize = 8;

/// And of heartbeats: all.
const FIRST_OF_HEARTBEATS: usize = 4;

/// What is there under the name of a table of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// No table.
    Nothing,
    /// Ours, perhaps as an earlier version made it.
    Ours { lacks_columns: bool },
    /// Somebody else's.
    Another,
}

/// Compares tables and policies with what they should be; changes nothing.
///
/// # Errors
/// [`SetupError`]
pub async fn look(hub: &KustoClient, config: &HubConfig) -> Result<Look, SetupError> {
    let database = &config.heartbeat_database;
    let (ownership, members) = (ownership_table(), members_table());
    let create = CreateOwnershipTable { database, table: &ownership }.request();
    let (found, of_ownership) = look_at_record(hub, config, &ownership, &create, FIRST_OF_OWNERSHIP).await?;
    if found == Found::Another {
        let (ours, follows) = ("our record of entity groups", "nothing on the hub is changed");
        return Err(SetupError::RecordTaken(taken(database, &ownership, ours, &create, follows)));
    }
    let lacks_ownership = found == Found::Nothing;
    let create = CreateMembersTable { database, table: &members };
    let (found, mut of_members) = look_at_record(hub, config, &members, &create.request(), FIRST_OF_MEMBERS).await?;
    let (mut tables, mut taken_by) = (vec![of_ownership], None);
    let memory = match found {
        Found::Nothing => Memory::Absent,
        Found::Ours { lacks_columns } => {
            // Rows would be kept without them, and nobody told.
            of_members.commands.extend(lacks_columns.then(|| create.extension()));
            Memory::Kept
        }
        Found::Another => {
            let follows = "none leaves because of its silence, and federation_status() does not tell of them";
            taken_by = Some(taken(database, &members, "our memory of partitions", &create.request(), follows));
            Memory::Taken
        }
    };
    tables.extend(Some(of_members).filter(|_| memory != Memory::Taken));
    tables.extend(look_at_tables(hub, config, config.heartbeats.tables()).await?);
    let is_absent = |table: &TableLook| table.unread.is_some();
    if lacks_ownership || memory == Memory::Absent || tables.iter().any(is_absent) {
        require_database(hub, database).await?;
    }
    Ok(Look { tables, taken: taken_by, is_whole: true, lacks_ownership, memory })
}

/// Compares heartbeat tables with what they should be. What is wrong with the table of one partition, or with the answer about it, is that one's alone.
pub(super) async fn look_at_tables(
    hub: &KustoClient,
    config: &HubConfig,
    tables: impl Iterator<Item = &TableName>,
) -> Result<Vec<TableLook>, SetupError> {
    let is_own = matches!(config.heartbeats, HeartbeatSource::PerPartition(_));
    let looks = stream::iter(tables).map(async |table| (table, look_at_heartbeats(hub, config, table, is_own).await));
    let looks: Vec<_> = looks.buffered(CONCURRENT_TABLES).collect().await;
    let (mut found, mut failed) = (Vec::new(), None);
    for (table, look) in looks {
        match look {
            Ok(look) => found.push(look),
            Err(error) if is_own => {
                let (told, why) = match &error {
                    // The hub's words may be others in each pass.
                    SetupError::Command { .. } => {
                        let told = format!("its heartbeat table '{table}' could not be looked at");
                        (told.clone(), format!("{told}: {}", chain(&error)))
                    }
                    _ => (chain(&error), chain(&error)),
                };
                let look = TableLook::new(table.clone(), is_own);
                found.push(TableLook { left_alone: vec![why], unread: Some(told), ..look });
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let can_be_read = |known: &TableName| !found.iter().any(|look| look.table == *known && look.unread.is_some());
    match failed {
        Some(error) if !config.heartbeats.tables().any(can_be_read) => Err(error),
        _ => Ok(found),
    }
}

/// What is told of somebody else's table in the place of one of ours, and of what follows without that.
fn taken(database: &DatabaseName, table: &TableName, ours: &str, create: &Request, follows: &str) -> String {
    let columns = listed_columns(create);
    format!(
        "the table '{table}' in '{database}' was not made by us and is left alone: rename it to have ours made. It has not the columns of {ours} ({columns}), without which {follows}"
    )
}

/// What a table lacks in which we record something. `first`: how many columns it has had since its first version. Columns come before policies: one that has others is
/// somebody else's, whatever its policies are.
async fn look_at_record(
    hub: &KustoClient,
    config: &HubConfig,
    table: &TableName,
    create: &Request,
    first: usize,
) -> Result<(Found, TableLook), SetupError> {
    let database = &config.heartbeat_database;
    let mut look = TableLook::new(table.clone(), false);
    let retention = AlterRetention { database, table, period: RECORD_RETENTION }.request();
    let shown = show(hub, config, table, HeartbeatPolicy::Retention).await?;
    if matches!(shown, Shown::Absent) {
        look.commands.extend([create.clone(), retention]);
        return Ok((Found::Nothing, look));
    }
    let found = found(create, first, &columns(hub, database, table).await?);
    match shown {
        _ if found == Found::Another => {}
        Shown::Policy(policy) if !has_soft_delete(&policy, RECORD_RETENTION) => look.commands.push(retention),
        Shown::Policy(_) | Shown::Absent => {}
        Shown::Refused(why) => look.left_alone.push(why),
    }
    Ok((found, look))
}

/// Whose a table is by its columns, such as `A:long,B:string`: ours has those that our command lists, in their order, at least the first so many of them. Rows are
/// written by position, so that others may only be behind ours.
fn found(create: &Request, first: usize, present: &str) -> Found {
    let split = |columns: &str| columns.split(',').map(|column| column.trim().to_owned()).collect::<Vec<_>>();
    let (ours, present) = (split(listed_columns(create)), split(present));
    if present.len() >= first && ours.iter().zip(&present).all(|(ours, present)| ours == present) {
        Found::Ours { lacks_columns: present.len() < ours.len() }
    } else {
        Found::Another
    }
}

/// The columns of a table, such as `A:long,B:string`.
async fn columns(hub: &KustoClient, database: &DatabaseName, table: &TableName) -> Result<String, SetupError> {
    let request = ShowColumns { database, table }.request();
    let answer = hub.send(&request).await;
    let answer = answer.map_err(|source| SetupError::Command { command: request.name(), source })?;
    Ok(answer.rows().next().and_then(|row| row.string("Schema").ok().map(str::to_owned)).unwrap_or_default())
}

/// Whether a table's columns, such as `A:long,B:string`, have the names of all that a command lists in its only parenthesis. A person may have given one another type.
fn has_columns(create: &Request, present: &str) -> bool {
    names(listed_columns(create)).is_subset(&names(present))
}

/// Of columns such as `A:long,B:string`.
fn names(columns: &str) -> BTreeSet<&str> {
    columns.split(',').filter_map(|column| Some(column.trim().split_once(':')?.0)).collect()
}

/// What a command lists in its only parenthesis.
fn listed_columns(create: &Request) -> &str {
    create.text().split_once('(').map_or("", |(_, listed)| listed.trim_end_matches(')'))
}

/// What one heartbeat table lacks. `is_own`: whether it is of a single partition.
async fn look_at_heartbeats(
    hub: &KustoClient,
    config: &HubConfig,
    table: &TableName,
    is_own: bool,
) -> Result<TableLook, SetupError> {
    let mut look = TableLook::new(table.clone(), is_own);
    let database = &config.heartbeat_database;
    let create = CreateHeartbeatTable { database, table }.request();
    for policy in POLICIES {
        match show(hub, config, table, policy).await? {
            // The table is there, as it has shown its other policies: what is not there is its column, and a table without it may be another's.
            Shown::Absent if policy == HeartbeatPolicy::SchemaEncoding => {}
            // All of it is to be made, also what was there before it went.
            Shown::Absent => {
                let all = POLICIES.map(|policy| command(policy, table, config));
                let commands = iter::once(create).chain(all).collect();
                let unread = Some(format!("the heartbeat table '{table}' is not there yet"));
                return Ok(TableLook { commands, unread, ..TableLook::new(table.clone(), is_own) });
            }
            Shown::Policy(present) if is_right(policy, &present, config) => continue,
            Shown::Policy(_) => {}
            Shown::Refused(why) => {
                look.left_alone.push(why);
                continue;
            }
        }
        look.commands.push(command(policy, table, config));
    }
    let has_columns = if is_own {
        // One with other types would make the question fail for all; with another order, rows would get into the wrong columns.
        found(&create, FIRST_OF_HEARTBEATS, &columns(hub, database, table).await?) != Found::Another
    } else {
        // Whose policies are right needs no look: nothing is done to it.
        look.commands.is_empty() || has_columns(&create, &columns(hub, database, table).await?)
    };
    if has_columns {
        return Ok(look);
    }
    let columns = listed_columns(&create).to_owned();
    Err(SetupError::NoHeartbeats { database: database.clone(), table: table.clone(), columns })
}

/// A missing database refuses like a missing table; only the list of databases tells them apart.
async fn require_database(hub: &KustoClient, database: &DatabaseName) -> Result<(), SetupError> {
    let request = ShowDatabases.request();
    let answer = hub.send(&request).await;
    let answer = answer.map_err(|source| SetupError::Command { command: request.name(), source })?;
    let mut names = answer.rows().filter_map(|row| DatabaseName::new(row.string("DatabaseName").ok()?).ok());
    if names.any(|name| name == *database) { Ok(()) } else { Err(SetupError::NoDatabase(database.clone())) }
}

const POLICIES: [HeartbeatPolicy; 4] = [
    HeartbeatPolicy::Retention,
    HeartbeatPolicy::Caching,
    HeartbeatPolicy::StreamingIngestion,
    HeartbeatPolicy::SchemaEncoding,
];

fn command(policy: HeartbeatPolicy, table: &TableName, config: &HubConfig) -> Request {
    let database = &config.heartbeat_database;
    match policy {
        HeartbeatPolicy::Retention => AlterRetention { database, table, period: config.heartbeat_retention }.request(),
        HeartbeatPolicy::Caching => AlterCaching { database, table, period: HOT_PERIOD }.request(),
        HeartbeatPolicy::StreamingIngestion => EnableStreaming { database, table }.request(),
        HeartbeatPolicy::SchemaEncoding => AlterSchemaEncoding { database, table }.request(),
    }
}

/// What a table of ours is made by, to tell what somebody did to it from what another document, or another version of ours, asks for.
pub(super) fn wanted(config: &HubConfig, table: &TableName) -> Content {
    let database = &config.heartbeat_database;
    let retention = AlterRetention { database, table, period: RECORD_RETENTION }.request();
    let commands = if *table == ownership_table() {
        vec![CreateOwnershipTable { database, table }.request(), retention]
    } else if *table == members_table() {
        vec![CreateMembersTable { database, table }.request(), retention]
    } else {
        let policies = POLICIES.map(|policy| command(policy, table, config));
        iter::once(CreateHeartbeatTable { database, table }.request()).chain(policies).collect()
    };
    Content::of(&commands.iter().map(Request::text).collect::<Vec<_>>().join("\n"))
}

/// What a hub says of a policy.
enum Shown {
    /// As JSON, null where none is set.
    Policy(Value),
    /// There is no such table or column.
    Absent,
    /// Nothing, though the table is there; in a sentence.
    Refused(String),
}

/// Kusto refuses to show a policy of what is not there, and no code says that it is for that: of a table that is there it shows the columns.
async fn show(
    hub: &KustoClient,
    config: &HubConfig,
    table: &TableName,
    policy: HeartbeatPolicy,
) -> Result<Shown, SetupError> {
    let database = &config.heartbeat_database;
    let request = ShowPolicy { database, table, policy }.request();
    let answer = match hub.send(&request).await {
        Ok(answer) => answer,
        Err(error) if is_permanent(&error) => {
            let present = match columns(hub, database, table).await {
                Err(SetupError::Command { source, .. }) if is_permanent(&source) => String::new(),
                present => present?,
            };
            let is_column_absent = policy == HeartbeatPolicy::SchemaEncoding && !names(&present).contains("Schema");
            if present.is_empty() || is_column_absent {
                return Ok(Shown::Absent);
            }
            let (text, error) = (request.text(), chain(&error));
            return Ok(Shown::Refused(format!(
                "the hub does not show a policy, which is left as it is: {text}: {error}"
            )));
        }
        Err(source) => return Err(SetupError::Command { command: request.name(), source }),
    };
    let text = answer.rows().next().and_then(|row| row.string("Policy").ok().map(str::to_owned)).unwrap_or_default();
    // Most policies are JSON; the encoding policy is a bare word.
    Ok(Shown::Policy(serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Whether the hub refused for good, as it does where there is no such table.
pub fn is_permanent(error: &KustoError) -> bool {
    matches!(error.failure, Failure::Rejected { permanent: true, .. })
}

fn is_right(policy: HeartbeatPolicy, present: &Value, config: &HubConfig) -> bool {
    match policy {
        HeartbeatPolicy::Retention => has_soft_delete(present, config.heartbeat_retention),
        HeartbeatPolicy::Caching => timespan_at(present, "DataHotSpan") == Some(HOT_PERIOD),
        HeartbeatPolicy::StreamingIngestion => present["IsEnabled"] == true,
        HeartbeatPolicy::SchemaEncoding => present.to_string().contains("BigObject32"),
    }
}

fn has_soft_delete(policy: &Value, period: Duration) -> bool {
    timespan_at(policy, "SoftDeletePeriod") == Some(period)
}

/// A timespan in a policy: its text, or an object with the text in `Value`.
fn timespan_at(policy: &Value, key: &str) -> Option<Duration> {
    let value = &policy[key];
    let text = value.as_str().or_else(|| value["Value"].as_str())?;
    let ticks = kql::syntax::time::read_timespan(text)?;
    Some(Duration::from_nanos(u64::try_from(ticks).ok()?.saturating_mul(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of our two tables of records, as Kusto shows them.
    const OWNERSHIP: &str = "Timestamp:datetime,Database:string,Kind:string,Name:string,State:string,Content:string";
    const MEMBERS: &str = "Timestamp:datetime,Kind:string,Name:string,State:string,Since:datetime,SilentSince:datetime,Returns:dynamic,Reason:string,Beats:long,Counted:datetime,Zone:string,SchemaHash:string";

    /// The first so many of these.
    fn first(columns: &str, count: usize) -> String {
        columns.split(',').take(count).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_table_of_records_is_ours_by_its_columns_in_their_order() {
        let database = &DatabaseName::new("FleetDiscovery").unwrap();
        let ownership = CreateOwnershipTable { database, table: &ownership_table() }.request();
        let members = CreateMembersTable { database, table: &members_table() }.request();
        let of_ownership = |columns: &str| found(&ownership, FIRST_OF_OWNERSHIP, columns);
        let of_members = |columns: &str| found(&members, FIRST_OF_MEMBERS, columns);
        let (whole, lacking) = (Found::Ours { lacks_columns: false }, Found::Ours { lacks_columns: true });
        assert_eq!([of_ownership(OWNERSHIP), of_members(MEMBERS)], [whole, whole]);
        // As earlier versions made the one; the other never had fewer.
        for columns in 8..12 {
            assert_eq!(of_members(&first(MEMBERS, columns)), lacking, "{columns}");
        }
        // What a person has added is behind ours.
        assert_eq!(of_ownership(&format!("{OWNERSHIP},Note:string")), whole);
        assert_eq!(of_members(&format!("{MEMBERS},Note:string")), whole);
        let others = [
            String::new(),
            "Order:long,Amount:decimal".to_owned(),
            first(MEMBERS, 7),
            // What is added to it comes behind a column that is not ours.
            format!("{},Note:string", first(MEMBERS, 8)),
            MEMBERS.replace("Since:datetime", "Since:string"),
            MEMBERS.replace("Kind:string,Name:string", "Name:string,Kind:string"),
            OWNERSHIP.to_owned(),
        ];
        for other in others {
            assert_eq!(of_members(&other), Found::Another, "{other}");
        }
        for other in [first(OWNERSHIP, 5), MEMBERS.to_owned(), OWNERSHIP.replace("Name", "name")] {
            assert_eq!(of_ownership(&other), Found::Another, "{other}");
        }
    }
}
