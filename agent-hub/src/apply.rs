//! Makes the changes of a plan. I/O: records of ownership, then scripts for each database; every row of every answer is read, and a failure stays with
//! its own change or database.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kql::{
    names::DatabaseName,
    statements::{IngestInline, scripts},
};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, KustoError, ResultTable, server_words},
    runtime::chain,
};

use crate::{
    drift::{Drift, Lines},
    hub::Hub,
    membership::MemberRecord,
    plan::{Change, Plan, Record, RecordState},
    setup::{members_table, ownership_table},
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

/// What became of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// Its changes.
    pub applied: Vec<Applied>,
    /// Those of them that undid what somebody else did, in sentences.
    pub repairs: Vec<String>,
    /// What was recorded of them.
    pub recorded: Recorded,
}

/// What became of our record of objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// How many times it was written.
    pub written: usize,
    /// Why it was not, in sentences.
    pub failures: Vec<String>,
}

/// Makes all changes; each database's in the plan's order, databases side by side. `observed`: what the plan was made from.
pub async fn apply(
    hub: &KustoClient,
    config: &HubConfig,
    observed: &Hub,
    plan: Plan,
    drift: &mut Drift,
    now: Timestamp,
) -> Outcome {
    let Plan { mut changes, records, uncertain, .. } = plan;
    let (mut applied, mut recorded) = (Vec::new(), Recorded::default());
    // Recorded before it is made: a group without a record would never be ours to change again. A record without a group does no harm.
    let before = drift.before(&changes, now);
    let written = recorded.write(hub, config, &records, before, drift, now).await;
    let mut waiting = Vec::new();
    if let Err(why) = written {
        recorded.failures.push(format!("failed to record what becomes of our objects, which is tried again: {why}"));
        let why = format!("not tried, because the record of our groups could not be written: {why}");
        let untried;
        (untried, waiting) = without_record(&mut changes, &records);
        if !waiting.is_empty() {
            recorded.failures.push(format!(
                "{} function(s) wait for entity groups that are not made, because their record could not be written",
                waiting.len()
            ));
        }
        applied.extend(untried.into_iter().map(|change| Applied { change, result: Err(why.clone()) }));
    }
    let mut by_database = BTreeMap::<DatabaseName, Vec<Change>>::new();
    for change in changes {
        by_database.entry(change.database().clone()).or_default().push(change);
    }
    let databases = stream::iter(by_database)
        .map(async |(database, changes)| run_scripts(hub, &database, changes).await)
        .buffer_unordered(CONCURRENT_DATABASES);
    applied.extend(databases.collect::<Vec<_>>().await.into_iter().flatten());
    let repairs = drift.repairs(observed, &applied);
    drift.remember(observed, &uncertain, &applied, &waiting);
    let outcomes: Vec<Record> = applied.iter().filter_map(outcome).collect();
    let after = drift.to_record(now);
    if let Err(why) = recorded.write(hub, config, &outcomes, after, drift, now).await {
        // The next pass sees what is there, and settles the record by it.
        recorded
            .failures
            .push(format!("failed to record what became of our objects, which the next pass settles: {why}"));
    }
    Outcome { applied, repairs, recorded }
}

/// Takes out the changes that are not tried where these records could not be written: those of their groups, and those of functions that wait for them.
pub(crate) fn without_record(changes: &mut Vec<Change>, records: &[Record]) -> (Vec<Change>, Vec<Change>) {
    // In whatever database: a group whose record was lost is known by its copies, which must stay equal until there is a record again.
    let groups: BTreeSet<_> = records.iter().map(|record| &record.group).collect();
    let is_recorded = |change: &mut Change| change.group().is_some_and(|group| groups.contains(group));
    let untried: Vec<Change> = changes.extract_if(.., is_recorded).collect();
    // A function would ask a group that is not there.
    let absent: BTreeSet<_> = untried.iter().filter_map(Change::created_group).collect();
    let asks_absent = |change: &mut Change| change.asked_group().is_some_and(|group| absent.contains(&group));
    let waiting = changes.extract_if(.., asks_absent).collect();
    (untried, waiting)
}

/// What is recorded after a change. Nothing where it failed: the answer may be what was lost, or another hub agent was faster.
fn outcome(Applied { change, result }: &Applied) -> Option<Record> {
    let (database, group, state) = match (change, result) {
        (Change::CreateGroup { database, group, .. }, Ok(())) => (database, group, RecordState::Made),
        (Change::DropGroup { database, group }, Ok(())) => (database, group, RecordState::Gone),
        _ => return None,
    };
    Some(Record { database: database.clone(), group: group.clone(), state })
}

impl Recorded {
    /// Writes all of them, or fails: then some may be written, which does no harm. The newest record of a state counts, so that one that is written again changes nothing.
    async fn write(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        records: &[Record],
        lines: Option<Lines>,
        drift: &mut Drift,
        now: Timestamp,
    ) -> Result<(), String> {
        if records.is_empty() && lines.is_none() {
            return Ok(());
        }
        let of_groups = records.iter().map(|record| csv_line(record, now));
        let text: String = of_groups.chain(lines.as_ref().map(|lines| lines.text.clone())).collect();
        let written = write_objects(hub, config, &text).await;
        self.written += usize::from(written.is_ok());
        if let Some(lines) = lines {
            if written.is_ok() { drift.is_recorded(lines) } else { drift.may_be_recorded(lines) }
        }
        written.map_err(|error| chain(&error))
    }
}

/// Names hold no comma, quote or line break (Kusto's rule for names); the quotes keep blanks at their ends.
fn csv_line(Record { database, group, state }: &Record, now: Timestamp) -> String {
    let (state, content) = match state {
        RecordState::Intended(content) => ("Intended", content.as_str()),
        RecordState::Made => ("Made", ""),
        RecordState::Gone => ("Gone", ""),
    };
    format!("{now},\"{database}\",EntityGroup,\"{group}\",{state},{content}\n")
}

/// Records what is told of our objects.
///
/// # Errors
/// [`KustoError`]; as for the membership.
pub async fn write_objects(hub: &KustoClient, config: &HubConfig, lines: &str) -> Result<(), KustoError> {
    let (database, table) = (&config.heartbeat_database, &ownership_table());
    hub.ingest_inline(&IngestInline { database, table, records: lines }).await
}

/// Records what changed of the membership.
///
/// # Errors
/// [`KustoError`]; the caller tries all of it again. What was written of it does no harm: the newest row of a name counts.
pub async fn write_members(
    hub: &KustoClient,
    config: &HubConfig,
    changed: &[MemberRecord],
    now: Timestamp,
) -> Result<(), KustoError> {
    let lines: String = changed.iter().map(|record| record.csv_line(now)).collect();
    let (database, table) = (&config.heartbeat_database, &members_table());
    hub.ingest_inline(&IngestInline { database, table, records: &lines }).await
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

/// The answer to a command that makes the hub forget a partition's columns: a row for each of its nodes. Microsoft's example of one that succeeded is a sentence, its
/// word for one that failed is this. No row tells of no failure: to ask again in each pass would not make a hub tell more.
///
/// # Errors
/// In a sentence.
pub fn all_nodes_forgot(nodes: &ResultTable) -> Result<(), String> {
    for node in nodes.rows() {
        let status = node.string("Status").map_err(|error| chain(&error))?;
        if status.to_ascii_lowercase().starts_with("failed") {
            return Err(format!("a node of the hub answered: {}", server_words(status)));
        }
    }
    Ok(())
}

/// One result for each command of a script, in their order. A script answers success even when its commands failed.
fn script_results(table: &ResultTable, commands: usize) -> Result<Vec<Result<(), String>>, String> {
    let rows = table.rows().map(|row| {
        let (result, reason) = (row.string("Result")?, row.string("Reason")?);
        Ok(if result == "Completed" { Ok(()) } else { Err(server_words(&format!("{result}: {reason}"))) })
    });
    let rows: Vec<_> = rows.collect::<Result<_, DecodeError>>().map_err(|error| chain(&error))?;
    if rows.len() == commands {
        Ok(rows)
    } else {
        Err(format!("the script of {commands} command(s) was answered with {} result(s)", rows.len()))
    }
}

#[cfg(test)]
mod tests;
