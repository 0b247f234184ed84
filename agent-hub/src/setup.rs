//! The tables that the hub agent needs: heartbeats, in adx-mon's form, our record of the entity groups that we made, and our memory of partitions. I/O: commands on the
//! hub, only where something differs, and never to a table that somebody else made.

mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kql::{
    names::{DatabaseName, TableName},
    request::Request,
};
use shared::{
    document::HubConfig,
    kusto::{KustoClient, KustoError},
    runtime::{ChangeAction, chain},
};

pub use look::{is_permanent, look};
use look::{look_at_tables, wanted};

use crate::{
    drift::{Content, Drift},
    observe::ObserveError,
};

/// How often the tables and policies are looked at, and what is recorded of the membership. They change only when a person changes them, or another agent, so not every pass pays for the look.
pub const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Where our record of entity groups lives, in the heartbeat database.
pub fn ownership_table() -> TableName {
    TableName::new("AdxFederationObjects").expect("the name follows Kusto's rules")
}

/// Where the membership of partitions is remembered, in the heartbeat database.
pub fn members_table() -> TableName {
    TableName::new("AdxFederationMembers").expect("the name follows Kusto's rules")
}

/// The name of the command that adds columns.
const EXTENSION: &str = "extend_members_table";

/// Remembers when the set-up was last found right.
#[derive(Debug, Default)]
pub struct Setup {
    right_since: Option<Instant>,
    /// Tables of which something is not right, or could not be made so.
    unfinished: BTreeSet<TableName>,
    /// Tables that were found right, or made so: what differs of them since then is somebody's doing.
    right: BTreeSet<TableName>,
    /// Tables that were found, or made, whatever their policies are.
    present: BTreeSet<TableName>,
    /// Those of them that were found to be gone, and are not known to be there again.
    removed: BTreeSet<TableName>,
}

/// A command of the set-up: what it does to a table, and whether the hub did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// Makes a table, or changes a policy of it.
    pub action: ChangeAction,
    /// In a sentence if the hub refused: a policy, or a column of our record, without which heartbeats arrive and are read.
    pub result: Result<(), String>,
    /// In a sentence where it undid what somebody did.
    pub repair: Option<String>,
}

impl SetUp {
    const fn refused(action: ChangeAction, why: String) -> Self {
        Self { action, result: Err(why), repair: None }
    }
}

/// What a look found of the tables that it looked at.
#[derive(Debug, Default)]
pub struct Look {
    tables: Vec<TableLook>,
    /// That a table is somebody else's which has the name of ours, in a sentence. Nothing is done to it.
    taken: Option<String>,
    /// Whether all tables were looked at.
    pub is_whole: bool,
    /// Whether there is no table yet that records our objects.
    pub lacks_ownership: bool,
    /// Whether there is one that remembers the membership.
    pub memory: Memory,
}

/// What a look found of one table.
#[derive(Debug)]
struct TableLook {
    table: TableName,
    /// Whether it takes the heartbeats of a single partition: what is wrong with it is that one's trouble alone.
    is_of_partition: bool,
    /// The commands that make it right, in order.
    commands: Vec<Request>,
    /// What nothing is done to, in sentences: policies that the hub does not show, and all of it where it is of a single partition and cannot be looked at or has other columns.
    left_alone: Vec<String>,
    /// Why no heartbeats can be read from it, in a sentence: it is not there yet or, where it is of a single partition, has other columns.
    unread: Option<String>,
}

/// What the set-up lacks.
#[derive(Debug, Default)]
pub struct Missing {
    /// The commands that make it right, in order.
    pub commands: Vec<Request>,
    /// What nothing is done to, in sentences.
    pub left_alone: Vec<String>,
}

/// What a pass may read from.
#[derive(Debug, Default)]
pub struct Tables {
    /// Whether there is no table yet that records our groups.
    pub lacks_ownership: bool,
    /// Whether there is one that remembers the membership.
    pub memory: Memory,
    /// The tables that were looked at.
    pub looked_at: BTreeSet<TableName>,
    /// Why heartbeat tables cannot be read, in sentences.
    pub unread: BTreeMap<TableName, String>,
}

/// The table that remembers the membership.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Memory {
    /// It is there.
    #[default]
    Kept,
    /// It was not there.
    Absent,
    /// A table of somebody else has its name: nothing is read from it or written to it.
    Taken,
}

impl Look {
    /// The tables that something is to be done to, with what they become.
    pub fn changes<'a>(&'a self, config: &HubConfig) -> impl Iterator<Item = (&'a TableName, Content)> {
        let changed = self.tables.iter().filter(|look| !look.commands.is_empty());
        changed.map(|look| (&look.table, wanted(config, &look.table)))
    }

    /// What it found missing, and what can be read as it is.
    pub fn into_parts(self) -> (Missing, Tables) {
        let Self { tables, taken, lacks_ownership, memory, .. } = self;
        let (mut missing, mut found) = (Missing::default(), Tables { lacks_ownership, memory, ..Tables::default() });
        missing.left_alone.extend(taken);
        for TableLook { table, commands, left_alone, unread, .. } in tables {
            missing.commands.extend(commands);
            missing.left_alone.extend(left_alone);
            found.unread.extend(unread.map(|why| (table.clone(), why)));
            found.looked_at.insert(table);
        }
        (missing, found)
    }
}

impl TableLook {
    const fn new(table: TableName, is_of_partition: bool) -> Self {
        Self { table, is_of_partition, commands: Vec::new(), left_alone: Vec::new(), unread: None }
    }
}

impl Tables {
    /// Whether no heartbeat table can be read.
    pub fn has_no_heartbeats(&self, config: &HubConfig) -> bool {
        config.heartbeats.tables().all(|table| self.unread.contains_key(table))
    }
}

/// Why there is no table to read.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The hub has no such database. Databases are a person's, or the operator's, to make.
    #[error("the hub has no database '{0}': make it, or correct heartbeatDatabase")]
    NoDatabase(DatabaseName),
    /// The heartbeat table is one for something else: the retention of heartbeats would take its rows away.
    #[error(
        "the table '{table}' in '{database}' has not the columns of heartbeats ({columns}), and is left as it is: correct heartbeatTable, or give it those columns"
    )]
    NoHeartbeats {
        /// The heartbeat database.
        database: DatabaseName,
        /// The table.
        table: TableName,
        /// Those of heartbeats.
        columns: String,
    },
    /// The table that records our groups is somebody else's, in sentences. Without a record no group may be made or changed, and no guard sees whom the groups list.
    #[error("{0}")]
    RecordTaken(String),
    /// How our objects were left could not be read: what a pass changes could not be told from what somebody else did.
    #[error(transparent)]
    Unread(ObserveError),
    /// A command failed.
    #[error("failed to set up the tables of the heartbeat database ({command})")]
    Command {
        /// The command's name.
        command: &'static str,
        /// Why.
        source: KustoError,
    },
}

/// Whether a command of this name makes a table.
fn creates(command: &str) -> bool {
    command.starts_with("create_")
}

impl Setup {
    /// Looks at tables and policies, if it is time to. `doubtful`: heartbeat tables that are looked at in any case.
    ///
    /// # Errors
    /// [`SetupError`]; the next pass looks again.
    pub async fn look_if_due(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        doubtful: BTreeSet<TableName>,
    ) -> Result<Look, SetupError> {
        if self.is_due(Instant::now()) {
            self.right_since = None;
            return look(hub, config).await;
        }
        // Of a table of a single partition that is not right, the others know nothing.
        let own = self.unfinished.iter().filter(|table| config.heartbeats.tables().any(|known| known == *table));
        let tables: BTreeSet<TableName> = own.cloned().chain(doubtful).collect();
        let tables = look_at_tables(hub, config, tables.iter()).await;
        let tables = tables.inspect_err(|_| self.right_since = None)?;
        Ok(Look { tables, ..Look::default() })
    }

    /// Whether all is to be looked at, and not only what was not right.
    fn is_due(&self, now: Instant) -> bool {
        self.right_since.is_none_or(|since| now.duration_since(since) >= LOOK_AGAIN_AFTER)
    }

    /// Takes for right what an earlier process has left so, as `drift` knows it.
    pub fn recall(&mut self, config: &HubConfig, drift: &Drift, found: &Look) {
        let ours = [ownership_table(), members_table()].into_iter().chain(config.heartbeats.tables().cloned());
        self.right.extend(ours.filter(|table| drift.has_table(table, wanted(config, table))));
        self.present.extend(self.right.iter().cloned());
        // The record does not tell of its own end; it is made before the memory of the membership, which is there.
        if found.lacks_ownership && found.memory == Memory::Kept {
            self.present.insert(ownership_table());
        }
    }

    /// Makes tables and policies as they should be. Returns what was done, and what can be read then; what remembers the membership is told as it was before. A policy that the hub refuses is tried
    /// again in the next pass, and so are columns: heartbeats arrive and are read without them. So is a table that is somebody else's, and one of a single partition.
    ///
    /// # Errors
    /// [`SetupError`] if there is no table to read; the next pass looks again.
    pub async fn make(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        found: Look,
    ) -> (Vec<SetUp>, Result<Tables, SetupError>) {
        let Look { tables, taken, memory, .. } = found;
        let is_taken = taken.is_some();
        let mut done: Vec<_> = taken.map(|why| SetUp::refused(ChangeAction::Alter, why)).into_iter().collect();
        let made = self.make_tables(hub, config, tables, &mut done).await;
        // Somebody may rename it before the next pass.
        self.right_since.take_if(|_| is_taken || made.is_err());
        (done, made.map(|made| Tables { memory, ..made }))
    }

    /// Tables that were as they should be, whatever somebody has done to them since.
    pub fn right_tables<'a>(&'a self, config: &HubConfig) -> impl Iterator<Item = (&'a TableName, Content)> {
        self.right.iter().map(|table| (table, wanted(config, table)))
    }

    /// What was done is told also where there is an error.
    async fn make_tables(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        found: Vec<TableLook>,
        done: &mut Vec<SetUp>,
    ) -> Result<Tables, SetupError> {
        if found.is_empty() {
            return Ok(Tables::default());
        }
        let (mut tables, mut is_right, mut failed) = (Tables::default(), true, None);
        self.unfinished.clear();
        for found in found {
            let (table, is_of_partition) = (found.table.clone(), found.is_of_partition);
            let is_left_alone = !found.left_alone.is_empty();
            let made = self.make_table(hub, &config.heartbeat_database, found, done).await;
            // What is wrong with the table of a single partition is looked at in each pass, without the others.
            is_right &= is_of_partition || !(is_left_alone || self.unfinished.contains(&table));
            match made {
                Ok(unread) => tables.unread.extend(unread.map(|why| (table.clone(), why))),
                Err(error) if is_of_partition => {
                    // The hub's words may be others in each pass.
                    tables.unread.insert(table.clone(), format!("its heartbeat table '{table}' could not be made"));
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
            tables.looked_at.insert(table);
        }
        if let Some(error) = failed.filter(|_| tables.has_no_heartbeats(config)) {
            return Err(error);
        }
        // A look at some tables only leaves the time of the last one at all.
        self.right_since = if is_right { self.right_since.or_else(|| Some(Instant::now())) } else { None };
        Ok(tables)
    }

    /// Sends what makes one table right, and tells why it cannot be read then.
    ///
    /// # Errors
    /// [`SetupError`] if it could not be made.
    async fn make_table(
        &mut self,
        hub: &KustoClient,
        database: &DatabaseName,
        found: TableLook,
        done: &mut Vec<SetUp>,
    ) -> Result<Option<String>, SetupError> {
        let TableLook { table, is_of_partition, commands, left_alone, mut unread } = found;
        let is_shown = left_alone.is_empty();
        // What all share is looked at no more often because the hub does not show all of it.
        let mut is_whole = is_shown || !is_of_partition;
        done.extend(left_alone.into_iter().map(|why| SetUp::refused(ChangeAction::Alter, why)));
        // Its policies come with it then.
        let mut is_made = false;
        for command in &commands {
            let is_new = creates(command.name());
            let action = if is_new { ChangeAction::Create } else { ChangeAction::Alter };
            match hub.send(command).await {
                Ok(_) => {
                    // An answer that was lost may have been that it is made.
                    let was_removed = self.removed.remove(&table) || (is_new && self.present.contains(&table));
                    let what = if was_removed {
                        Some("was removed by somebody and is made again")
                    } else if self.right.contains(&table) && !is_made {
                        Some("was changed by somebody and is put back")
                    } else {
                        None
                    };
                    let repair =
                        what.map(|what| format!("the table '{table}' in '{database}' {what}: {}", command.text()));
                    if is_new || was_removed {
                        (unread, is_made) = (None, true);
                        self.right.remove(&table);
                    }
                    done.push(SetUp { action, result: Ok(()), repair });
                    tracing::info!(command = command.text(), "table set up");
                }
                Err(source) if is_new => {
                    self.removed.extend(self.present.take(&table));
                    self.right.remove(&table);
                    let error = SetupError::Command { command: command.name(), source };
                    let of_partition =
                        format!("its heartbeat table '{table}' could not be made, which is tried again: ");
                    let what = if is_of_partition { of_partition } else { String::new() };
                    done.push(SetUp::refused(action, what + &chain(&error)));
                    self.unfinished.insert(table);
                    return Err(error);
                }
                Err(error) => {
                    let (text, error) = (command.text(), chain(&error));
                    let what = if command.name() == EXTENSION { "columns of our record" } else { "a policy" };
                    let why = format!("the hub refused {what}, which is tried again: {text}: {error}");
                    done.push(SetUp::refused(action, why));
                    is_whole = false;
                }
            }
        }
        if unread.is_none() {
            self.present.insert(table.clone());
        }
        match (is_whole && unread.is_none(), is_shown) {
            (true, true) => drop(self.right.insert(table)),
            (true, false) => {}
            (false, _) => drop(self.unfinished.insert(table)),
        }
        Ok(unread)
    }

    /// One that has looked just now, and found all as it should be.
    #[cfg(test)]
    pub fn right() -> Self {
        Self { right_since: Some(Instant::now()), ..Self::default() }
    }

    /// Whether all was as it should be when it was looked at last.
    pub const fn is_right(&self) -> bool {
        self.right_since.is_some()
    }

    /// Looks again in the next pass: the hub did not answer as one that is set up.
    pub const fn doubt(&mut self) {
        self.right_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_looked_at_again_after_an_hour() {
        let (mut setup, now) = (Setup::right(), Instant::now());
        let minutes = |minutes: u64| now + Duration::from_secs(60 * minutes);
        assert_eq!([0, 59, 61].map(|after| setup.is_due(minutes(after))), [false, false, true]);
        setup.doubt();
        assert!(setup.is_due(now));
        assert!(Setup::default().is_due(now));
    }
}
