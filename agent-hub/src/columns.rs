//! Of which partition databases the hub may remember columns as they were, and has to be told to forget them. Pure; the pass reads, tells and records.
//!
//! A pass may end anywhere: by an error, or because another replica leads. What it has read is not read again, so nothing is let go of before it is done.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use kql::{endpoint::ClusterEndpoint, names::DatabaseName};

use crate::fleet::{Fleet, Inventory};

/// Of how many databases the hub is told in one pass: it takes seconds of a minute. Whoever may write heartbeats may make names up, and change them with each.
const MOST_TOLD: usize = 1_000;

/// What is still to be told. Lives as long as the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaleColumns {
    /// Databases whose columns changed, and of which the hub has not been told yet.
    databases: BTreeSet<(ClusterEndpoint, DatabaseName)>,
    /// Partitions whose schemas are not those that were recorded, with what tells the ones that they have now.
    outdated: BTreeMap<ClusterEndpoint, String>,
    /// Of whom this process knew no schema before, until they have been judged.
    first: BTreeSet<ClusterEndpoint>,
    /// Another process may have led, and told of other schemas than this one has read, until that has been judged.
    is_recalled: bool,
}

impl StaleColumns {
    /// A reading of heartbeats: databases that differ from what this process read before, and whose schemas it has read for the first time.
    pub fn read(
        &mut self,
        changed: impl IntoIterator<Item = (ClusterEndpoint, DatabaseName)>,
        first: impl IntoIterator<Item = ClusterEndpoint>,
    ) {
        self.databases.extend(changed);
        self.first.extend(first);
    }

    /// What was recorded counts, and not what this process has seen before.
    pub const fn recalled(&mut self) {
        self.is_recalled = true;
    }

    /// `outdated`: whose schemas are not those that were recorded.
    pub fn judge(&mut self, outdated: BTreeMap<ClusterEndpoint, String>, fleet: &Fleet) {
        let (first, is_recalled) = (mem::take(&mut self.first), mem::take(&mut self.is_recalled));
        for endpoint in outdated.keys().filter(|endpoint| is_recalled || first.contains(*endpoint)) {
            // Another process saw other columns, and was not there to tell the hub of these: which database they are of is not known.
            if let Some(Inventory::Known(inventory)) = fleet.get(endpoint).map(|partition| &partition.beat.inventory) {
                self.databases.extend(inventory.0.keys().map(|database| (endpoint.clone(), database.clone())));
            }
        }
        self.outdated = outdated;
        // Nobody asks what is not there; where the hub refuses to be told, it would be kept for ever.
        self.databases.retain(|(endpoint, database)| {
            fleet.get(endpoint).is_some_and(|partition| match &partition.beat.inventory {
                Inventory::Known(inventory) => {
                    inventory.0.contains_key(database) || partition.beat.unlisted.contains_key(database)
                }
                Inventory::Unknown | Inventory::Unread => true,
            })
        });
    }

    /// What the hub is to be told to forget in this pass: of each partition the first before the second of any.
    pub fn due(&self) -> BTreeSet<(ClusterEndpoint, DatabaseName)> {
        let mut of_partitions = HashMap::<&ClusterEndpoint, usize>::new();
        let ranked = self.databases.iter().map(|stale| {
            let place = of_partitions.entry(&stale.0).or_default();
            *place += 1;
            (*place, stale)
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(place, _)| *place);
        ranked.into_iter().take(MOST_TOLD).map(|(_, stale)| stale.clone()).collect()
    }

    /// The hub was told of these, and of none that failed.
    pub fn told_of(
        &mut self,
        due: &BTreeSet<(ClusterEndpoint, DatabaseName)>,
        failed: &BTreeSet<(ClusterEndpoint, DatabaseName)>,
    ) {
        self.databases.retain(|stale| !due.contains(stale) || failed.contains(stale));
    }

    /// Of which partitions the hub remembers no columns as they were, with what tells their schemas.
    pub fn told(&mut self) -> BTreeMap<ClusterEndpoint, String> {
        let mut told = mem::take(&mut self.outdated);
        told.retain(|endpoint, _| !self.databases.iter().any(|(stale, _)| stale == endpoint));
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{cluster, fleet};

    #[test]
    fn what_a_pass_has_read_and_not_told_is_told_by_the_next() {
        let logs = || (cluster("eu"), DatabaseName::new("Logs").unwrap());
        let fleet = fleet(&[("eu", 1, json!([{"database": "Logs", "tables": ["A"]}]))]);
        let outdated = || BTreeMap::from([(cluster("eu"), "1".to_owned())]);
        let mut columns = StaleColumns::default();
        // A process that is new reads a schema that was not recorded; its pass ends before anything is judged.
        columns.read([], [cluster("eu")]);
        columns.read([], []);
        columns.judge(outdated(), &fleet);
        assert_eq!(columns.due(), [logs()].into());
        // The next one is dropped while it tells, and its successor knows the schema by now.
        columns.judge(outdated(), &fleet);
        assert_eq!(columns.due(), [logs()].into());
        columns.told_of(&[logs()].into(), &[logs()].into());
        assert_eq!(columns.told(), BTreeMap::new(), "the hub refused");
        columns.judge(outdated(), &fleet);
        columns.told_of(&[logs()].into(), &[].into());
        assert_eq!(columns.told(), outdated());
        assert_eq!(columns, StaleColumns::default());
        // Another led, read another schema and told of it; this one sees again what it has known all the time.
        columns.recalled();
        columns.judge(outdated(), &fleet);
        assert_eq!(columns.due(), [logs()].into());
        columns.told_of(&[logs()].into(), &[].into());
        assert_eq!(columns.told(), outdated());
        // What changed while this process watched is told by its database; what was recorded needs no word.
        columns.read([logs()], []);
        columns.judge([].into(), &fleet);
        assert_eq!(columns.due(), [logs()].into());
    }
    #[test]
    fn what_one_partition_makes_up_keeps_no_other_waiting_and_is_forgotten_with_it() {
        let schema = |prefix: &str, databases: usize| {
            let databases = (0..databases).map(|number| json!({"database": format!("{prefix}{number}"), "tables": []}));
            databases.collect::<serde_json::Value>()
        };
        let all = fleet(&[("a", 1, schema("A", 990)), ("b", 1, schema("B", 990)), ("eu", 1, schema("Logs", 2))]);
        let stale = |fleet: &Fleet| {
            let names = |(endpoint, partition): (&ClusterEndpoint, &crate::fleet::Partition)| {
                let Inventory::Known(inventory) = &partition.beat.inventory else { unreachable!("they have schemas") };
                inventory.0.keys().map(|name| (endpoint.clone(), name.clone())).collect::<Vec<_>>()
            };
            fleet.iter().flat_map(names).collect::<BTreeSet<_>>()
        };
        let mut columns = StaleColumns::default();
        columns.read(stale(&all), []);
        columns.judge([].into(), &all);
        let due = columns.due();
        let of = |host: &str| due.iter().filter(|(endpoint, _)| *endpoint == cluster(host)).count();
        assert_eq!(["a", "b", "eu"].map(of), [499, 499, 2]);
        columns.told_of(&due, &[].into());
        assert_eq!(columns.due().len(), 982);
        // One of them lists others by now, and one is gone.
        columns.judge([].into(), &fleet(&[("a", 1, schema("C", 990)), ("eu", 1, schema("Logs", 2))]));
        assert_eq!(columns, StaleColumns::default());
    }
}
