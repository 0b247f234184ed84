//! Databases that groups of ours list of a partition and its heartbeats list no longer. A cluster names only the databases on which whoever asks has a role, so that a list without one is no proof: the
//! partition stays in that database's groups until heartbeats that are one time to live apart agree, and none between them says otherwise. The heartbeat table itself is the memory of that. Pure:
//! [`observe`](crate::observe) asks, when [`Listings`] says what; [`guards`](crate::guards) judges what leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName, statements::Entity};
use shared::heartbeat::DatabaseInventory;

use crate::{
    fleet::{Beat, Inventory, Unlisted},
    hub::Hub,
};

/// The most databases of one partition that are kept so: one that makes names up must not keep all of them. Those that the hub has come first.
const MOST_OF_A_PARTITION: usize = 100;

/// The most that one pass asks for: what the answer holds of each may be long.
const MOST_ASKED: usize = 200;

/// The most names in a problem's sentence.
const MOST_TOLD: usize = 3;

/// What the heartbeat table tells of a database that a partition's newest heartbeat does not list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Which.
    pub entity: Entity,
    /// When a heartbeat listed it last, as far back as that is read.
    pub listed: Option<Timestamp>,
    /// When the first heartbeat since then came that does not.
    pub first: Timestamp,
    /// When the last one did.
    pub last: Timestamp,
    /// What it had when it was listed.
    pub content: Option<Arc<DatabaseInventory>>,
}

/// What is known of one of them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    listed: Option<Timestamp>,
    content: Option<Arc<DatabaseInventory>>,
    /// When heartbeats began to list it no longer.
    first: Option<Timestamp>,
    /// Whether the answer of this pass says that it is gone.
    is_confirmed: bool,
    /// In which pass it was asked for last.
    asked: u64,
}

/// What this process knows of such databases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listings {
    known: BTreeMap<Entity, Known>,
    passes: u64,
}

impl Listings {
    /// Takes in whose newest heartbeats list less than our groups do. Gives what has to be asked: what is new, and what may leave by now, those first that have waited for the longest.
    pub fn due(&mut self, beats: &[Beat], hub: &Hub, now: Timestamp, time_to_live: SignedDuration) -> BTreeSet<Entity> {
        self.passes += 1;
        let unlisted: BTreeSet<Entity> = unlisted(beats, hub).collect();
        self.known.retain(|entity, _| unlisted.contains(entity));
        for entity in unlisted {
            self.known.entry(entity).or_default().is_confirmed = false;
        }
        let may_leave = |known: &Known| known.first.is_none_or(|first| now.duration_since(first) >= time_to_live);
        let mut due: Vec<_> = self.known.iter_mut().filter(|(_, known)| may_leave(known)).collect();
        due.sort_by_key(|(_, known)| known.asked);
        let due = due.into_iter().take(MOST_ASKED).map(|(entity, known)| {
            known.asked = self.passes;
            entity.clone()
        });
        due.collect()
    }

    /// Takes in the answer.
    pub fn learn(&mut self, listings: Vec<Listing>, time_to_live: SignedDuration) {
        for Listing { entity, listed, first, last, content } in listings {
            let Some(known) = self.known.get_mut(&entity) else { continue };
            known.is_confirmed = last.duration_since(first) >= time_to_live;
            known.first = Some(first);
            // What is too long ago to be read was known once.
            if listed.is_some() {
                (known.listed, known.content) = (listed, content);
            }
        }
    }

    /// Tells each beat what of its partition stays.
    pub fn tell(&self, beats: &mut [Beat]) {
        let mut of_partitions = BTreeMap::<&ClusterEndpoint, BTreeMap<DatabaseName, Unlisted>>::new();
        for (Entity { cluster, database }, Known { listed, content, is_confirmed, .. }) in &self.known {
            let unlisted = Unlisted { listed: *listed, content: content.clone(), stays: !is_confirmed };
            of_partitions.entry(cluster).or_default().insert(database.clone(), unlisted);
        }
        for beat in beats {
            let Some(unlisted) = of_partitions.remove(&beat.endpoint) else { continue };
            beat.problems.insert(0, problem(&unlisted).into());
            beat.unlisted = unlisted;
        }
    }
}

/// What groups of ours list and the newest list that is known of the partition does not.
fn unlisted(beats: &[Beat], hub: &Hub) -> impl Iterator<Item = Entity> {
    let mut members = BTreeMap::<&ClusterEndpoint, BTreeSet<&Entity>>::new();
    for entity in hub.members() {
        members.entry(&entity.cluster).or_default().insert(entity);
    }
    beats.iter().flat_map(move |beat| {
        let Inventory::Known(inventory) = &beat.inventory else { return Vec::new() };
        let listed = members.get(&beat.endpoint).into_iter().flatten().copied();
        let mut unlisted: Vec<_> = listed.filter(|entity| !inventory.0.contains_key(&entity.database)).collect();
        unlisted.sort_by_key(|entity| !hub.databases.contains_key(&entity.database));
        unlisted.truncate(MOST_OF_A_PARTITION);
        unlisted.into_iter().cloned().collect()
    })
}

/// What a person is told of it, in a sentence that stays the same: it is recorded.
fn problem(unlisted: &BTreeMap<DatabaseName, Unlisted>) -> String {
    let mut names: Vec<String> = unlisted.keys().take(MOST_TOLD).map(|name| format!("'{name}'")).collect();
    if let more @ 1.. = unlisted.len() - names.len() {
        names.push(format!("{more} more"));
    }
    format!(
        "its heartbeats list {} no longer, where its agent may have lost its role: what the hub has of a database stays until heartbeats have not listed it for one heartbeatTTL",
        names.join(", "),
    )
}

#[cfg(test)]
mod tests;
