//! Databases that groups of ours list of a partition and its heartbeats list no longer. A cluster names only the databases on which whoever asks has a role, so that a list without one is no proof: the
//! partition stays in that database's groups until heartbeats that are one time to live apart agree, and none between them says otherwise. The heartbeat table itself is the memory of that. Pure:
//! [`observe`](crate::observe) asks, when [`Listings`] says what; [`guards`](crate::guards) judges what leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use jiff::Timestamp;
use kql::{endpoint::ClusterEndpoint, names::DatabaseName, statements::Entity};
use shared::heartbeat::DatabaseInventory;

use crate::{
    fleet::{Beat, Inventory, Unlisted},
    hub::Hub,
    membership::Thresholds,
};

/// Of how many partitions, and of how many databases in all, one query asks.
const MOST_PARTITIONS: usize = 100;
const MOST_DATABASES: usize = 2000;

/// How many bytes of contents one answer may have. What is longer is not asked for: it is a hundred times what databases are.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The most names in a problem's sentence.
const MOST_TOLD: usize = 3;

/// What the heartbeat table tells of a database that a partition's newest heartbeat does not list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Which.
    pub entity: Entity,
    /// When the first heartbeat came that does not list it, since one did.
    pub first: Timestamp,
    /// When the last one did.
    pub last: Timestamp,
    /// How long the text is of what it had when it was listed. `None`: that is too long ago.
    pub bytes: Option<usize>,
    /// What it had then, if that was asked for.
    pub content: Option<Arc<DatabaseInventory>>,
}

/// What is known of one of them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    /// When its partition's heartbeats began to list it no longer.
    first: Option<Timestamp>,
    /// Whether they have not for one time to live.
    is_confirmed: bool,
    /// When the table was asked.
    asked_at: Option<Timestamp>,
    bytes: Option<usize>,
    content: Option<Arc<DatabaseInventory>>,
    /// Whether what it had was asked for.
    is_content_asked: bool,
}

impl Known {
    /// How long what it had is, if that has to be asked for.
    fn content_to_ask(&self) -> Option<usize> {
        self.bytes.filter(|bytes| !self.is_content_asked && *bytes <= MOST_BYTES)
    }

    /// It is asked anew.
    const fn forget_answer(&mut self) {
        (self.is_confirmed, self.asked_at) = (false, None);
    }
}

/// What this process knows of such databases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listings {
    known: BTreeMap<Entity, Known>,
    /// Those that are listed again since the last pass, with other content.
    changed: BTreeSet<(ClusterEndpoint, DatabaseName)>,
    seen_at: Option<Timestamp>,
}

impl Listings {
    /// Takes in whose newest heartbeats list less than our groups do.
    pub fn see(&mut self, beats: &[Beat], hub: &Hub, now: Timestamp, thresholds: &Thresholds) {
        if self.seen_at.is_none_or(|at| now.duration_since(at).abs() > thresholds.time_to_live) {
            self.lose_sight();
        }
        self.seen_at = Some(now);
        let unlisted: BTreeSet<Entity> = unlisted(beats, hub).collect();
        let beats: BTreeMap<_, _> = beats.iter().map(|beat| (&beat.endpoint, beat)).collect();
        self.known.retain(|entity, known| {
            let is_unlisted = unlisted.contains(entity);
            let Entity { cluster, database } = entity;
            if let Some(Inventory::Known(inventory)) = beats.get(cluster).map(|beat| &beat.inventory)
                && inventory.0.get(database).is_some_and(|content| known.content.as_ref() != Some(content))
            {
                self.changed.insert((cluster.clone(), database.clone()));
            }
            // Of several beats since the last look only the newest was seen. What is not confirmed is asked again when it may leave.
            if known.is_confirmed && beats.get(cluster).is_some_and(|beat| beat.new_beats > 1) {
                known.forget_answer();
            }
            is_unlisted
        });
        for entity in unlisted {
            self.known.entry(entity).or_default();
        }
    }

    /// What came meanwhile was not seen: all of it is asked anew.
    pub fn lose_sight(&mut self) {
        self.known.values_mut().for_each(Known::forget_answer);
    }

    /// Whose columns the hub may remember as they were, now that they are listed again.
    pub fn take_changed(&mut self) -> BTreeSet<(ClusterEndpoint, DatabaseName)> {
        mem::take(&mut self.changed)
    }

    /// What has to be asked, in pages: what is new, and what may leave by now, once for each time that it may have been told of.
    pub fn due(&self, now: Timestamp, thresholds: &Thresholds) -> Vec<BTreeSet<Entity>> {
        let is_due = |known: &Known| {
            let Some(asked_at) = known.asked_at else { return true };
            let may_leave = known.first.is_none_or(|first| now.duration_since(first) >= thresholds.time_to_live);
            !known.is_confirmed && may_leave && now.duration_since(asked_at).abs() >= thresholds.interval
        };
        pages(self.known.iter().filter(|(_, known)| is_due(known)).map(|(entity, _)| (entity, 0)))
    }

    /// Of which the contents have to be asked for, in pages.
    pub fn lacking(&self) -> Vec<BTreeSet<Entity>> {
        pages(self.known.iter().filter_map(|(entity, known)| Some((entity, known.content_to_ask()?))))
    }

    /// Takes in the answer to what was asked.
    pub fn learn(&mut self, asked: &BTreeSet<Entity>, listings: Vec<Listing>, now: Timestamp, thresholds: &Thresholds) {
        for entity in asked {
            if let Some(known) = self.known.get_mut(entity) {
                known.asked_at = Some(now);
            }
        }
        for Listing { entity, first, last, bytes, content: _ } in listings {
            let Some(known) = self.known.get_mut(&entity) else { continue };
            known.is_confirmed = last.duration_since(first) >= thresholds.time_to_live;
            known.first = Some(first);
            known.bytes = bytes.or(known.bytes);
        }
    }

    /// Takes in what was in them.
    pub fn learn_contents(&mut self, asked: &BTreeSet<Entity>, listings: Vec<Listing>) {
        for entity in asked {
            if let Some(known) = self.known.get_mut(entity) {
                known.is_content_asked = true;
            }
        }
        for Listing { entity, content, .. } in listings {
            if let Some(known) = self.known.get_mut(&entity) {
                known.content = content;
            }
        }
    }

    /// Tells each beat what of its partition stays.
    pub fn tell(&self, beats: &mut [Beat]) {
        let mut of_partitions = BTreeMap::<&ClusterEndpoint, BTreeMap<DatabaseName, Unlisted>>::new();
        for (Entity { cluster, database }, known) in &self.known {
            let (content, is_known) = (known.content.clone(), known.asked_at.is_some());
            let is_unread = content.is_none() && (!is_known || known.content_to_ask().is_some());
            let unlisted = Unlisted { content, is_known, is_unread, stays: !known.is_confirmed };
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
        let listed = members.get(&beat.endpoint).into_iter().flatten();
        listed.filter(|entity| !inventory.0.contains_key(&entity.database)).map(|entity| (*entity).clone()).collect()
    })
}

/// With how many bytes each takes in the answer.
fn pages<'a>(entities: impl Iterator<Item = (&'a Entity, usize)>) -> Vec<BTreeSet<Entity>> {
    let mut pages = Vec::<BTreeSet<Entity>>::new();
    let (mut room, mut partitions) = (0, BTreeSet::new());
    for (entity, bytes) in entities {
        let is_full = pages.last().is_none_or(|page| page.len() == MOST_DATABASES)
            || bytes > room
            || (partitions.len() == MOST_PARTITIONS && !partitions.contains(&entity.cluster));
        if is_full {
            pages.push(BTreeSet::new());
            (room, partitions) = (MOST_BYTES, BTreeSet::new());
        }
        room = room.saturating_sub(bytes);
        partitions.insert(&entity.cluster);
        if let Some(page) = pages.last_mut() {
            page.insert(entity.clone());
        }
    }
    pages
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
