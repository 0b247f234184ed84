//! What an agent tells of itself in the status of its ADXCluster. Bounded: a status lives in etcd and travels to everyone who watches. No I/O.

use std::{mem, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::runtime::shortened;

/// The most bytes of the lists in a status, as JSON: together with the conditions it stays below 200 KB.
const MAX_LIST_BYTES: usize = 120_000;
/// The most databases that a status calls missing: strangers' heartbeats name them.
pub const MAX_MISSING_DATABASES: usize = 64;
/// The most bytes of one text.
const MAX_TEXT_BYTES: usize = 1024;

/// A time as the protocol has it: without fractions.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// What an agent sees and does. Texts and lists are cut; what was left out is counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FederationStatus {
    /// Which document the agent that tells this works from: what the annotation `adx-mon.azure.com/config` of its pods says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Hub: live partitions of all that it knows, such as `3/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    /// Hub: why removals are held; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// The last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<PassStatus>,
    /// Hub: changes that are not made now, because a guard holds them or the document says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// Hub: its partitions, those that need a look first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionStatus>,
    /// Hub: how many partitions are left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partitions_omitted: i64,
    /// Hub: the databases with what we made in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseStatus>,
    /// Hub: how many databases are left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub databases_omitted: i64,
    /// Hub: databases that partitions have and the hub lacks: those that the operator provisions the hub with are created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_databases: Vec<String>,
    /// Hub: how many missing databases are left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_databases_omitted: i64,
    /// Partition: the hubs and what became of the last beat to each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<HubStatus>,
    /// Partition: how many hubs are left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hubs_omitted: i64,
}

/// One pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassStatus {
    /// When it began.
    pub time: Time,
    /// How it ended: `done`, `unchanged`, `planned`, `partial`, `held` or `failed`.
    pub outcome: String,
    /// Why nothing was changed although something might have to be, or why the pass failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a person should look at, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Hub: what this pass undid of what somebody else had done to our objects, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
}

/// Changes that are not made now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Tells this plan from any other. Where a guard holds it, `federation.acknowledgedPlan` takes it.
    pub hash: String,
    /// In order, each with its reason.
    pub changes: Vec<String>,
    /// How many changes are left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changes_omitted: i64,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// Its cluster.
    pub endpoint: String,
    /// Where it stands: `joining`, `live`, `suspect`, `flapping`, `expired`, `blocked` or `untrusted`.
    pub state: String,
    /// Its newest heartbeat, by the hub's clock; none where the partition is only remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_beat: Option<Time>,
    /// Why, where the state alone does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was refused of its newest heartbeat, or is wrong with it: the first problems, and how many there are besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The most problems of one partition.
const MAX_PARTITION_PROBLEMS: usize = 3;

/// The first problems, and how many there are besides.
pub fn first_problems(problems: &[Arc<str>]) -> Vec<String> {
    let mut first: Vec<String> = problems.iter().take(MAX_PARTITION_PROBLEMS).map(ToString::to_string).collect();
    if problems.len() > MAX_PARTITION_PROBLEMS {
        first.push(format!("and {} more", problems.len() - MAX_PARTITION_PROBLEMS));
    }
    first
}

/// What we made in one hub database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The database.
    pub name: String,
    /// How many entity groups.
    pub entity_groups: i64,
    /// How many functions.
    pub functions: i64,
}

/// One hub, as a partition sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubStatus {
    /// Its cluster.
    pub endpoint: String,
    /// When it last accepted a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
    /// What became of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

// serde's `skip_serializing_if` hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl FederationStatus {
    /// Without the times that go on by themselves: what is left changes only when something happened.
    #[must_use]
    pub fn timeless(&self) -> Self {
        let mut status = self.clone();
        let never = || Time(Timestamp::UNIX_EPOCH);
        status.last_pass.iter_mut().for_each(|pass| pass.time = never());
        status
            .partitions
            .iter_mut()
            .for_each(|partition| partition.last_beat = partition.last_beat.is_some().then(never));
        status.hubs.iter_mut().for_each(|hub| hub.last_success = hub.last_success.is_some().then(never));
        status
    }

    /// The same within its bounds: long lists lose their end, long texts theirs, and the status says how much.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Some(pass) = &mut self.last_pass {
            pass.message.iter_mut().chain(&mut pass.problems).chain(&mut pass.repairs).for_each(shorten);
            for list in [&mut pass.problems, &mut pass.repairs] {
                let omitted = cut(list, MAX_LIST_BYTES / 16);
                if omitted > 0 {
                    list.push(format!("and {omitted} more"));
                }
            }
        }
        if let Some(plan) = &mut self.plan {
            plan.changes.iter_mut().for_each(shorten);
            plan.changes_omitted += cut(&mut plan.changes, MAX_LIST_BYTES / 8);
        }
        for partition in &mut self.partitions {
            partition.reason.iter_mut().chain(&mut partition.problems).for_each(shorten);
        }
        self.hubs.iter_mut().filter_map(|hub| hub.message.as_mut()).for_each(shorten);
        // A document names at most 64.
        self.hubs_omitted += cut(&mut self.hubs, MAX_LIST_BYTES / 2);
        let beyond = self.missing_databases.len().saturating_sub(MAX_MISSING_DATABASES);
        self.missing_databases.truncate(MAX_MISSING_DATABASES);
        self.missing_databases_omitted += i64::try_from(beyond).unwrap_or(i64::MAX);
        self.missing_databases_omitted += cut(&mut self.missing_databases, MAX_LIST_BYTES / 8);
        self.partitions_omitted += cut(&mut self.partitions, MAX_LIST_BYTES / 2);
        self.databases_omitted += cut(&mut self.databases, MAX_LIST_BYTES / 4);
        self
    }
}

/// Keeps what fits into `bytes` as JSON; returns how many entries went.
fn cut<T: Serialize>(list: &mut Vec<T>, bytes: usize) -> i64 {
    let mut used = 0;
    let fits = list.iter().take_while(|entry| {
        used += serde_json::to_string(entry).map_or(0, |text| text.len() + 1);
        used <= bytes
    });
    let kept = fits.count();
    i64::try_from(list.drain(kept..).count()).unwrap_or(i64::MAX)
}

fn shorten(text: &mut String) {
    *text = shortened(mem::take(text), MAX_TEXT_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_of_two_thousand_stays_below_200_kb_and_says_what_is_left_out() {
        let time = || Time(Timestamp::UNIX_EPOCH);
        let partition = |number| PartitionStatus {
            endpoint: format!("https://a-partition-with-a-long-name-{number}.southeastasia.kusto.windows.net"),
            state: "live".to_owned(),
            last_beat: Some(time()),
            reason: None,
            problems: Vec::new(),
        };
        let database =
            |number| DatabaseStatus { name: "D".repeat(1000) + &format!("{number}"), entity_groups: 1, functions: 1 };
        let problems = vec!["ü".repeat(5000); 500];
        let message = Some("x".repeat(1 << 20));
        let status = FederationStatus {
            partitions: (0..2000).map(partition).collect(),
            databases: (0..2000).map(database).collect(),
            last_pass: Some(PassStatus {
                time: time(),
                outcome: "partial".to_owned(),
                message,
                problems,
                repairs: Vec::new(),
            }),
            ..FederationStatus::default()
        };
        let status = status.bounded();
        assert!(serde_json::to_string(&status).unwrap().len() < 150_000);
        assert_eq!(i64::try_from(status.partitions.len()).unwrap() + status.partitions_omitted, 2000);
        assert!(status.partitions.len() > 300 && status.databases_omitted > 0);
        assert!(status.last_pass.unwrap().problems.last().unwrap().starts_with("and "));
        let small = FederationStatus { partitions: vec![partition(1)], ..FederationStatus::default() };
        assert_eq!(small.clone().bounded(), small);
    }

    #[test]
    fn missing_databases_and_hubs_that_are_left_out_are_counted() {
        let hub = |number| HubStatus {
            endpoint: format!("https://hub-{number}.kusto.windows.net"),
            last_success: None,
            outcome: Some("rejected".to_owned()),
            message: Some("x".repeat(5000)),
        };
        let names = |count| (0..count).map(|number| format!("D{number}")).collect();
        let status = |databases| FederationStatus {
            missing_databases: names(databases),
            hubs: (0..64).map(hub).collect(),
            ..FederationStatus::default()
        };
        let bounded = status(65).bounded();
        assert_eq!((bounded.missing_databases, bounded.missing_databases_omitted), (names(64), 1));
        let hubs = i64::try_from(bounded.hubs.len()).unwrap();
        assert!(hubs > 50 && bounded.hubs_omitted > 0, "{hubs}");
        assert_eq!(hubs + bounded.hubs_omitted, 64);
        assert_eq!(status(64).bounded().missing_databases_omitted, 0);
        // By their bytes, too: 1003 each, of 15000.
        let long = FederationStatus { missing_databases: vec!["D".repeat(1000); 100], ..FederationStatus::default() };
        let long = long.bounded();
        assert_eq!((long.missing_databases.len(), long.missing_databases_omitted), (14, 86));
    }
}
