//! A plan that is not made, in the log: what `--plan` prints, once for each plan, and within bounds. Pure but for the log; called by [`super::Report`].

use kql::request::Request;
use shared::runtime::{PassOutcome, shortened};

use super::{ChangeStatus, PlanStatus, ended};
use crate::{
    plan::{Change, Plan, Released},
    setup::Missing,
};

/// Why tables and policies are set up.
pub const SET_UP: &str = "a table or policy that this agent needs";

/// The most changes of one plan that are logged: with all, a first plan of a large hub would have a line for each of its functions.
const MOST_CHANGES: usize = 100;

/// The most bytes of one text: a function may list every partition.
const MOST_BYTES: usize = 4096;

/// The plan that was logged last: its commands that set up, and its hash.
#[derive(Debug, Default)]
pub(super) struct Logged(String);

/// A change in the log.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    change: String,
    reason: String,
    command: String,
}

impl Logged {
    /// Logs a plan unless it is the one that was logged last.
    pub(super) fn log(&mut self, set_up: &[Request], hash: &str, changes: &[Change]) {
        let plan = set_up.iter().map(Request::text).chain([hash]).collect::<Vec<_>>().join("\n");
        if plan == self.0 {
            return;
        }
        self.0 = plan;
        let (count, plan) = (set_up.len() + changes.len(), hash);
        if count == 0 {
            return;
        }
        tracing::info!(plan, changes = count, "changes are planned and not made");
        for (index, Line { change, reason, command }) in lines(set_up, changes).take(MOST_CHANGES).enumerate() {
            tracing::info!(plan, step = index + 1, change, reason, command, "planned change");
        }
        if count > MOST_CHANGES {
            tracing::info!(
                plan,
                omitted = count - MOST_CHANGES,
                "more changes are planned: agent-hub --plan prints all"
            );
        }
    }
}

/// In the plan's order.
fn lines<'a>(set_up: &'a [Request], changes: &'a [Change]) -> impl Iterator<Item = Line> + 'a {
    let set_up = set_up.iter().map(|command| ("set up".to_owned(), SET_UP.to_owned(), command.text().to_owned()));
    let changes =
        changes.iter().map(|change| (change.to_string(), change.reason(), change.request().text().to_owned()));
    set_up.chain(changes).map(|(change, reason, command)| Line {
        change: shortened(change, MOST_BYTES),
        reason: shortened(reason, MOST_BYTES),
        command: shortened(command, MOST_BYTES),
    })
}

/// How a pass ends that makes none of its changes: as if it had made them, a plan from an incomplete view is no whole one.
pub fn planned_outcome(missing: &Missing, plan: &Plan, failures: &[String]) -> PassOutcome {
    let (failed, count) = (plan.unread_databases + failures.len(), plan.changes.len() + missing.commands.len());
    ended(failed, !plan.held.is_empty(), count, PassOutcome::Planned)
}

/// For `/status` and the object's.
pub(super) fn planned_of(released: &Released) -> PlanStatus {
    PlanStatus { hash: released.hash.clone(), changes: released.changes.iter().map(planned_change).collect() }
}

/// One change of it.
pub(super) fn planned_change(change: &Change) -> ChangeStatus {
    ChangeStatus { change: change.to_string(), reason: change.reason(), failure: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kql::{
        names::{DatabaseName, EntityGroupName, TableName},
        statements::{CreateHeartbeatTable, Entity},
    };

    use super::*;
    use crate::testing::cluster;

    #[test]
    fn a_plan_is_logged_in_its_order_with_reasons_and_commands_that_are_not_too_long() {
        let (database, table) = (DatabaseName::new("Logs").unwrap(), TableName::new("Heartbeats").unwrap());
        let create = CreateHeartbeatTable { database: &database, table: &table }.request();
        let group = |hosts: usize| {
            let entity =
                |host: usize| Entity { cluster: cluster(&format!("partition-{host}")), database: database.clone() };
            Change::CreateGroup {
                database: database.clone(),
                group: EntityGroupName::new("Logs_Partitions").unwrap(),
                members: Arc::new((0..hosts).map(entity).collect()),
            }
        };
        let changes = [group(1), group(200)];
        let logged: Vec<Line> = lines(std::slice::from_ref(&create), &changes).collect();
        let [first, second, third] = logged.as_slice() else { panic!("{logged:?}") };
        assert_eq!([&*first.change, &first.command], ["set up", create.text()]);
        let command = changes[0].request();
        let expected =
            ["create entity group Logs_Partitions in Logs", "1 partition(s) have the database", command.text()];
        assert_eq!([&*second.change, &second.reason, &second.command], expected);
        let whole = changes[1].request();
        let (begin, end) = third.command.split_at(third.command.len() - '…'.len_utf8());
        assert!(begin.len() == MOST_BYTES && whole.text().starts_with(begin) && end == "…", "{third:?}");
    }

    #[test]
    fn a_plan_is_told_from_another_by_its_hash_and_by_what_it_sets_up() {
        let (database, table) = (DatabaseName::new("Logs").unwrap(), TableName::new("Heartbeats").unwrap());
        let create = CreateHeartbeatTable { database: &database, table: &table }.request();
        let mut logged = Logged::default();
        let mut known = vec![String::new()];
        let create = [create];
        for (set_up, hash) in [(0, "0123456789ab"), (1, "0123456789ab"), (0, "ba9876543210")] {
            logged.log(&create[..set_up], hash, &[]);
            assert!(!known.contains(&logged.0), "{logged:?}");
            known.push(logged.0.clone());
        }
        // Nothing is planned: what comes next is news, also if it was told before.
        logged.log(&[], "", &[]);
        assert_eq!(logged.0, "");
    }
}
