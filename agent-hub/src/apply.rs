//! Makes the changes of a plan. I/O: records of ownership, then one script for each database; every row of every answer is read, and a failure stays with
//! its own change or database.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kql::{
    names::{DatabaseName, EntityGroupName},
    statements::{IngestInline, scripts},
};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
    runtime::chain,
};

use crate::{
    plan::{Change, Plan},
    setup::ownership_table,
};

/// How many databases are changed at once.
const CONCURRENT_DATABASES: usize = 4;

/// A change and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The change.
    pub change: Change,
    /// Kusto's reason if it failed.
    pub result: Result<(), String>,
}

/// Makes all changes; each database's in the plan's order, databases side by side.
pub async fn apply(hub: &KustoClient, config: &HubConfig, plan: Plan, now: Timestamp) -> Vec<Applied> {
    let mut by_database = BTreeMap::<DatabaseName, Vec<Change>>::new();
    for change in plan.changes {
        by_database.entry(change.database().clone()).or_default().push(change);
    }
    // Recorded before it is made: a group without a record would never be ours to change again. A record without a group does no harm.
    let created = created_groups(by_database.values().flatten());
    if let Err(why) = record(hub, config, &created, true, now).await {
        let why = format!("not tried, because the record of our groups could not be written: {why}");
        return by_database
            .into_values()
            .flatten()
            .map(|change| Applied { change, result: Err(why.clone()) })
            .collect();
    }
    let databases = stream::iter(by_database)
        .map(async |(database, changes)| run_scripts(hub, &database, changes).await)
        .buffer_unordered(CONCURRENT_DATABASES);
    let applied: Vec<Applied> = databases.collect::<Vec<_>>().await.into_iter().flatten().collect();
    let gone = groups_no_longer_ours(&applied);
    if let Err(why) = record(hub, config, &gone, false, now).await {
        // The next pass finds no group of these names; until one is made by a person, the stale record has no effect.
        tracing::warn!(error = why, "failed to record that entity groups are gone");
    }
    applied
}

type Groups = Vec<(DatabaseName, EntityGroupName)>;

fn created_groups<'a>(changes: impl Iterator<Item = &'a Change>) -> Groups {
    changes
        .filter_map(|change| match change {
            Change::CreateGroup { database, group, .. } => Some((database.clone(), group.clone())),
            _ => None,
        })
        .collect()
}

/// Dropped groups, and those whose creation Kusto refused: somebody else made one of that name in the meantime.
fn groups_no_longer_ours(applied: &[Applied]) -> Groups {
    applied
        .iter()
        .filter_map(|applied| match (&applied.change, &applied.result) {
            (Change::DropGroup { database, group }, Ok(())) | (Change::CreateGroup { database, group, .. }, Err(_)) => {
                Some((database.clone(), group.clone()))
            }
            _ => None,
        })
        .collect()
}

async fn record(
    hub: &KustoClient,
    config: &HubConfig,
    groups: &Groups,
    present: bool,
    now: Timestamp,
) -> Result<(), String> {
    if groups.is_empty() {
        return Ok(());
    }
    // Names hold no comma, quote or line break (Kusto's rule for names), so they are CSV fields as they stand.
    let records: String =
        groups.iter().map(|(database, group)| format!("{now},{database},EntityGroup,{group},{present}\n")).collect();
    let request =
        IngestInline { database: &config.heartbeat_database, table: &ownership_table(), records: &records }.request();
    hub.send(&request).await.map(drop).map_err(|error| chain(&error))
}

async fn run_scripts(hub: &KustoClient, database: &DatabaseName, changes: Vec<Change>) -> Vec<Applied> {
    let requests: Vec<_> = changes.iter().map(Change::request).collect();
    let mut results = Vec::with_capacity(changes.len());
    for (script, commands) in scripts(database, &requests) {
        let answer = hub.send(&script).await.map_err(|error| chain(&error));
        results.extend(match answer.and_then(|table| script_results(&table, commands)) {
            Ok(rows) => rows,
            Err(why) => vec![Err(why); commands],
        });
    }
    changes.into_iter().zip(results).map(|(change, result)| Applied { change, result }).collect()
}

/// One result for each command of a script, in their order. A script answers success even when its commands failed.
fn script_results(table: &ResultTable, commands: usize) -> Result<Vec<Result<(), String>>, String> {
    let rows = table.rows().map(|row| {
        let (result, reason) = (row.string("Result")?, row.string("Reason")?);
        Ok(if result == "Completed" { Ok(()) } else { Err(format!("{result}: {reason}")) })
    });
    let rows: Vec<_> = rows.collect::<Result<_, DecodeError>>().map_err(|error| chain(&error))?;
    if rows.len() == commands {
        Ok(rows)
    } else {
        Err(format!("the script of {commands} command(s) was answered with {} result(s)", rows.len()))
    }
}
