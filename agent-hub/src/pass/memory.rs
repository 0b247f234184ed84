//! What passes record, so that the next process knows it, and what they read of that. I/O: queries and ingestions of the tables of records.

use jiff::Timestamp;
use shared::runtime::{ChangeAction, ChangeObject, chain};

use super::HubAgent;
use crate::{
    apply::{write_members, write_objects},
    drift::Left,
    hub::Hub,
    membership::{MemberRecord, Membership},
    observe::{ObserveError, read_arrivals, read_left, read_members},
    plan::Change,
    setup::{self, Look, Memory, SetupError, Tables},
    watcher::Recall,
};

impl HubAgent {
    /// Reads how our objects were left, where this process does not know it, and again whenever it looks at its tables: another agent may have written since. `found`: what there is of them.
    pub(super) async fn recall_left(&mut self, found: &Look) -> Result<(), SetupError> {
        let is_recalled = self.drift.is_recalled();
        if is_recalled && !found.is_whole {
            return Ok(());
        }
        let read =
            if found.lacks_ownership { Ok((Left::default(), 0)) } else { read_left(&self.hub, &self.config).await };
        match read {
            Ok((recorded, rows)) if is_recalled => self.drift.read_again(recorded, rows),
            Ok((recorded, rows)) => {
                self.drift.begin(recorded, rows);
                self.setup.recall(&self.config, &self.drift, found);
            }
            Err(error) if is_recalled => {
                tracing::warn!(error = chain(&error), "what another agent may have recorded is read the next time");
            }
            Err(error) => return Err(SetupError::Unread(error)),
        }
        Ok(())
    }

    /// Notes which tables become something else, before they do. What could not be recorded of it is told when it could not be recorded after all.
    pub(super) async fn note_table_changes(&mut self, found: &Look, now: Timestamp) {
        for (table, content) in found.changes(&self.config) {
            self.drift.table_changes(table, content);
        }
        if !found.lacks_ownership {
            drop(self.record_left(now).await);
        }
    }

    /// Asks what another agent may have recorded before changes are made that look like repairs. Says in a sentence if that failed: then this process goes by what it knows.
    pub(super) async fn doubt_repairs(&mut self, hub: &Hub, changes: &[Change]) -> Option<String> {
        let suspects = self.drift.suspects(hub, changes);
        if suspects.is_empty() {
            return None;
        }
        match read_left(&self.hub, &self.config).await {
            Ok((recorded, rows)) => self.drift.take_in(&suspects, recorded, rows),
            Err(error) => return Some(format!("failed to read again how our objects were left: {}", chain(&error))),
        }
        None
    }

    /// Records how our objects were left, where a pass changes nothing. Says in a sentence if that failed.
    pub(super) async fn record_left(&mut self, now: Timestamp) -> Option<String> {
        let lines = self.drift.to_record(now)?;
        let written = write_objects(&self.hub, &self.config, &lines.text).await;
        let is_written = usize::from(written.is_ok());
        self.report.wrote(ChangeObject::Record, ChangeAction::Alter, is_written, 1 - is_written);
        match written {
            Ok(()) => self.drift.is_recorded(lines),
            Err(error) => {
                self.drift.may_be_recorded(lines);
                let why = chain(&error);
                return Some(format!("failed to record how our objects were left, which is tried again: {why}"));
            }
        }
        None
    }

    /// Reads what is recorded, where that is due. Says in a sentence what it can do without.
    pub(super) async fn recall(&mut self, now: Timestamp, tables: &Tables) -> Result<Option<String>, ObserveError> {
        let memory = tables.memory;
        if memory == Memory::Taken {
            // What this process sees is forgotten with it, and the next one would not know what it held: nobody's silence counts as watched.
            self.watcher.membership.lose_sight();
        }
        match (self.watcher.due(now, self.patience()), memory) {
            (Recall::Anew, _) => {
                let recorded = match memory {
                    Memory::Kept => read_members(&self.hub, &self.config).await?,
                    Memory::Absent | Memory::Taken => Membership::default(),
                };
                let (outage, problem) =
                    if self.watcher.believes(&recorded) { self.last_outage(now, tables).await } else { (None, None) };
                self.columns.recalled();
                self.watcher.begin(recorded, outage, now);
                Ok(problem)
            }
            (Recall::Again, Memory::Kept) => Ok(self.recall_again(now).await),
            (Recall::Again, _) | (Recall::Nothing, _) => Ok(None),
        }
    }

    /// When the last one was over in which the hub took nobody's heartbeats, if there was one. Where that cannot be told, there may have been one until now: then also in a sentence, why.
    async fn last_outage(&self, now: Timestamp, tables: &Tables) -> (Option<Timestamp>, Option<String>) {
        let thresholds = &self.settings.thresholds;
        match read_arrivals(&self.hub, &self.config, &tables.unread, thresholds).await {
            Ok(arrivals) => (arrivals.end_of_outage(thresholds), None),
            Err(error) => {
                let why = chain(&error);
                (Some(now), Some(format!("no silence that was recorded is believed: {why}")))
            }
        }
    }

    /// Asks as seldom as for the set-up, and after a pass that saw nothing. Nothing is decided by it: where it cannot be read, the next pass asks again.
    async fn recall_again(&mut self, now: Timestamp) -> Option<String> {
        match read_members(&self.hub, &self.config).await {
            Ok(recorded) => {
                let time_to_live = self.settings.thresholds.time_to_live;
                self.watcher.take_in(recorded, now, time_to_live, self.setup.is_right());
            }
            Err(error) => {
                // Its table may have gone.
                self.setup.doubt();
                return Some(format!("failed to read again what is recorded of the membership: {}", chain(&error)));
            }
        }
        None
    }

    /// Records what a restart must not lose. Says in a sentence if that failed.
    pub(super) async fn record(&mut self, now: Timestamp, memory: Memory) -> Option<String> {
        let written = self.write(self.watcher.to_record(), now, memory).await?;
        if written.is_ok() {
            self.watcher.is_recorded();
        }
        written.err()
    }

    /// The same for a pass that saw nothing.
    pub(super) async fn record_guards(&mut self, now: Timestamp, memory: Memory) -> Option<String> {
        let changed = self.watcher.guards_to_record(now);
        let written = self.write(changed, now, memory).await?;
        if written.is_ok() {
            self.watcher.guards_are_recorded(now);
        }
        written.err()
    }

    /// Writes into the table that remembers the membership, where it is ours and there is something to write.
    async fn write(
        &mut self,
        records: Vec<MemberRecord>,
        now: Timestamp,
        memory: Memory,
    ) -> Option<Result<(), String>> {
        if records.is_empty() || memory == Memory::Taken {
            return None;
        }
        let written = write_members(&self.hub, &self.config, &records, now).await;
        let is_written = usize::from(written.is_ok());
        self.report.wrote(ChangeObject::Record, ChangeAction::Alter, is_written, 1 - is_written);
        // Its table may have gone.
        if written.as_ref().is_err_and(setup::is_permanent) {
            self.setup.doubt();
        }
        let failed = |error| format!("failed to record the membership, which is tried again: {}", chain(&error));
        Some(written.map_err(failed))
    }

    /// Records of which partitions the hub remembers no columns as they were: of those another process need not tell it.
    pub(super) async fn remember_columns(&mut self, now: Timestamp, memory: Memory) -> Option<String> {
        for (endpoint, hash) in self.columns.told() {
            if let Some(known) = self.watcher.membership.partitions.get_mut(&endpoint) {
                known.schema_hash = Some(hash);
            }
        }
        self.record(now, memory).await
    }
}
