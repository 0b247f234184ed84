//! The tables that the hub agent needs: heartbeats, in adx-mon's form, our record of the entity groups that we made, and our memory of partitions. I/O: commands on the
//! hub, only where something differs, and never to a table that somebody else made.

mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::{Duration, Instant},
};

use kql::{
    names::{DatabaseName, TableName},
    request::Request,
    statements::HeartbeatSource,
};
use shared::{
    document::HubConfig,
    kusto::{KustoClient, KustoError},
    runtime::{ChangeAction, chain},
};

use look::look_at_tables;
pub use look::{is_permanent, look};

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
    /// Tables that this process has found right, or made so: what differs of them since then is somebody's doing.
    right: BTreeSet<TableName>,
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

/// What the set-up lacks.
#[derive(Debug, Default)]
pub struct Missing {
    /// The commands that make it right, in order.
    pub commands: Vec<Request>,
    /// What nothing is done to, in sentences: policies that the hub does not show, and a table that is somebody else's.
    pub left_alone: Vec<String>,
    /// Why heartbeat tables cannot be read, in sentences: they are not there yet or, where each partition has its own, have other columns.
    pub unread: BTreeMap<TableName, String>,
    /// Whether that is so of all.
    pub no_heartbeats: bool,
    /// The tables that were looked at.
    pub looked_at: BTreeSet<TableName>,
    /// Those of single partitions among them of which something is left alone, or was not shown.
    left_alone_of: BTreeMap<String, TableName>,
    /// Whether there is no table yet that records our groups.
    pub ownership_table: bool,
    /// Whether there is a table that remembers the membership.
    pub memory: Memory,
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

impl Missing {
    /// Whether no heartbeat table can be read.
    fn is_unreadable(&self, config: &HubConfig) -> bool {
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
    /// Makes tables and policies as they should be, if it is time to look. `doubtful`: heartbeat tables that are looked at in any case. Returns what was done, and what there was that
    /// remembers the membership, with which heartbeat tables were looked at and cannot be read. A policy that the hub refuses is tried again in the next pass, and so are columns: heartbeats
    /// arrive and are read without them. So is a table that is somebody else's, and one of a single partition.
    ///
    /// # Errors
    /// [`SetupError`] if there is no table to read, with what there was that remembers the membership; the next pass looks again.
    pub async fn ensure(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        doubtful: BTreeSet<TableName>,
    ) -> (Vec<SetUp>, Result<Missing, (Memory, SetupError)>) {
        let missing = if self.right_since.is_some_and(|since| since.elapsed() < LOOK_AGAIN_AFTER) {
            // Of a table of a single partition that is not right, the others know nothing.
            let own = self.unfinished.iter().filter(|table| config.heartbeats.tables().any(|known| known == *table));
            let tables: BTreeSet<TableName> = own.cloned().chain(doubtful).collect();
            if tables.is_empty() {
                return (Vec::new(), Ok(Missing::default()));
            }
            look_at_tables(hub, config, tables.iter(), Missing::default()).await
        } else {
            self.right_since = None;
            look(hub, config).await
        };
        let mut done = Vec::new();
        let set_up = match missing {
            Ok(mut missing) => {
                let made = self.make(hub, config, &mut missing, &mut done).await;
                let Missing { memory, unread, looked_at, .. } = missing;
                made.map(|()| Missing { memory, unread, looked_at, ..Missing::default() })
                    .map_err(|error| (memory, error))
            }
            Err(error) => Err((Memory::Kept, error)),
        };
        if set_up.is_err() {
            self.right_since = None;
        }
        (done, set_up)
    }

    /// What was done is told also where there is an error.
    async fn make(
        &mut self,
        hub: &KustoClient,
        config: &HubConfig,
        missing: &mut Missing,
        done: &mut Vec<SetUp>,
    ) -> Result<(), SetupError> {
        let is_own = matches!(config.heartbeats, HeartbeatSource::PerPartition(_));
        let tables: Vec<_> =
            [ownership_table(), members_table()].into_iter().chain(config.heartbeats.tables().cloned()).collect();
        let table_of = |text: &str| tables.iter().find(|table| text.contains(&table.quoted()));
        let is_of_partition = |table: &TableName| is_own && config.heartbeats.tables().any(|known| known == table);
        // What is wrong with the table of a single partition is looked at in each pass, without the others.
        let mut is_right = true;
        self.unfinished = missing.unread.keys().chain(missing.left_alone_of.values()).cloned().collect();
        for why in mem::take(&mut missing.left_alone) {
            is_right &= missing.left_alone_of.contains_key(&why);
            done.push(SetUp::refused(ChangeAction::Alter, why));
        }
        // Tables that are made in this pass: their policies come with them.
        let (mut made, mut failed) = (BTreeSet::new(), None);
        for command in &mem::take(&mut missing.commands) {
            let table = table_of(command.text());
            let is_new = creates(command.name());
            let action = if is_new { ChangeAction::Create } else { ChangeAction::Alter };
            if table.is_some_and(|table| !is_new && is_of_partition(table) && missing.unread.contains_key(table)) {
                continue;
            }
            match hub.send(command).await {
                Ok(_) => {
                    let was_removed = table.is_some_and(|table| {
                        // An answer that was lost may have been that it is made.
                        self.removed.remove(table) || (is_new && self.right.contains(table))
                    });
                    let was_changed = table.is_some_and(|table| !made.contains(table) && self.right.contains(table));
                    let what = match (was_removed, was_changed) {
                        (true, _) => Some("was removed by somebody and is made again"),
                        (false, true) => Some("was changed by somebody and is put back"),
                        (false, false) => None,
                    };
                    let repair = what.zip(table).map(|(what, table)| {
                        format!("the table '{table}' in '{}' {what}: {}", config.heartbeat_database, command.text())
                    });
                    if let (Some(table), true) = (table, is_new || was_removed) {
                        missing.unread.remove(table);
                        self.unfinished.remove(table);
                        self.right.remove(table);
                        made.insert(table);
                    }
                    done.push(SetUp { action, result: Ok(()), repair });
                    tracing::info!(command = command.text(), "table set up");
                }
                Err(source) if is_new => {
                    let error = SetupError::Command { command: command.name(), source };
                    let gone = table.and_then(|table| self.right.take(table));
                    self.removed.extend(gone);
                    self.unfinished.extend(table.cloned());
                    let Some(table) = table.filter(|table| is_of_partition(table)) else {
                        done.push(SetUp::refused(action, chain(&error)));
                        return Err(error);
                    };
                    // The hub's words may be others in each pass.
                    missing.unread.insert(table.clone(), format!("its heartbeat table '{table}' could not be made"));
                    let why = format!(
                        "its heartbeat table '{table}' could not be made, which is tried again: {}",
                        chain(&error)
                    );
                    done.push(SetUp::refused(action, why));
                    failed = Some(error);
                }
                Err(error) => {
                    let (text, error) = (command.text(), chain(&error));
                    let what = if command.name() == EXTENSION { "columns of our record" } else { "a policy" };
                    let why = format!("the hub refused {what}, which is tried again: {text}: {error}");
                    done.push(SetUp::refused(action, why));
                    is_right &= table.is_some_and(is_of_partition);
                    self.unfinished.extend(table.cloned());
                }
            }
        }
        if let Some(error) = failed.filter(|_| missing.is_unreadable(config)) {
            return Err(error);
        }
        self.right.extend(missing.looked_at.difference(&self.unfinished).cloned());
        // A look at some tables only leaves the time of the last one at all.
        self.right_since = if is_right { self.right_since.or_else(|| Some(Instant::now())) } else { None };
        Ok(())
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
