//! A small fleet, its hub and its agents, and what happens to them. Each event is followed by a pass of the real step and plan functions. No I/O.

use std::{
    array,
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    iter, mem,
    sync::{Arc, LazyLock},
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use serde_json::json;
use shared::{
    heartbeat::{Limits, SchemaInventory, parse_schema},
    runtime::PartitionState,
};

use crate::{
    fleet::{Beat, Inventory},
    guards::{HoldReason, leaving},
    hub::{Hub, HubDatabase},
    membership::{Darkness, MemberRecord, Membership, Scope, Thresholds, Watch},
    plan::{Decision, Plan, plan},
    settings::Settings,
    testing::{applied, cluster},
    trust::{Admission, Trust},
    watcher::{Arrivals, Recall, Watcher},
};

/// How often partitions beat.
pub(super) const INTERVAL: SignedDuration = SignedDuration::from_mins(10);

/// The most partitions of a world.
pub(super) const MOST_PARTITIONS: usize = 12;

/// What happens before a pass, or in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A partition's beat arrives.
    Beat(usize),
    /// An interval passes, and nobody beats in it.
    Silence,
    /// An interval passes, in which all beat.
    AllBeat,
    /// An interval passes, in which only this zone's partitions beat.
    ZoneBeats(&'static str),
    /// The heartbeats cannot be read, or only a part of them: to the agent that is the same.
    ReadFails,
    /// An interval passes in which the hub takes no beats and answers no pass; nothing is recorded of that.
    Outage,
    /// An interval passes in which all beat, and the hub answers no pass, of which nothing is recorded.
    Unseen,
    /// All beat, and one database's groups cannot be read.
    GroupsUnread,
    /// The schema of this partition cannot be read by the pass that follows.
    SchemaUnread(usize),
    /// The table of this partition's heartbeats cannot be read by the pass that follows, and the others' can.
    TableUnread(usize),
    /// This partition's rows go before their time, until it beats again.
    RowsGo(usize),
    /// The agent starts anew: it knows what is recorded.
    Crash,
    /// No agent runs while all but this partition beat; then one starts.
    Replaced(usize),
    /// The agent crashes in its pass, when it has recorded the membership and changed nothing.
    CrashAfterRecord,
    /// The agent crashes in its pass, when it has made the first half of its changes.
    CrashInApply,
    /// The pass cannot record the membership, and goes on.
    RecordFails,
    /// Another agent leads from now on: it knows what is recorded.
    OtherLeads,
    /// The one that led before leads again.
    LeadsAgain,
    /// The one that led before makes a pass with what it remembers: a lease is no mutual exclusion.
    StaleLeads,
    /// The hub's clock is set back by more than a time to live.
    ClockBack,
    /// A person blocks this partition.
    Block(usize),
    /// And takes that back.
    Unblock(usize),
    /// A person makes a list of all but this partition.
    Unlist(usize),
    /// A person makes a list of nobody.
    UnlistAll,
    /// There is no list any more.
    Relist,
    /// A person acknowledges the plan that the last pass showed and did not make.
    Acknowledge,
}

/// What a pass did.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Why it held, if it did.
    pub(super) held: Vec<HoldReason>,
    /// Whether it made all of a plan.
    pub(super) is_applied: bool,
    /// Whether that was one a guard held and a person acknowledged.
    pub(super) is_acknowledged: bool,
}

/// A plan that was shown: its hash, and who leaves by it, with the last beat before their silence.
pub(super) type Shown = (String, BTreeSet<(ClusterEndpoint, Option<Timestamp>)>);

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) hub: Hub,
    /// When each partition last beat; `None`: never.
    pub(super) beats: Vec<Option<Timestamp>>,
    counted: Vec<u64>,
    /// When beats came, of whomever.
    arrivals: Vec<Timestamp>,
    /// Whose beats are in no row any more.
    pub(super) has_no_rows: Vec<bool>,
    /// When each one's table was last not read.
    pub(super) unread_at: Vec<Option<Timestamp>>,
    schema: Arc<SchemaInventory>,
    pub(super) zones: Vec<Option<&'static str>>,
    pub(super) trust: Trust,
    /// Since when each is on no list, while there is one, as far as some agent may believe.
    pub(super) unlisted_since: Vec<Option<Timestamp>>,
    /// The first leads.
    pub(super) agents: [Option<Watcher>; 2],
    /// What the table says.
    pub(super) recorded: Membership,
    /// Since when every pass has seen everything.
    pub(super) sight_since: Option<Timestamp>,
    /// The last pass that saw nothing, of those of which that is recorded.
    pub(super) blind_at: Option<Timestamp>,
    /// Whether what is recorded may be of before a pass that saw nothing, and does not say so.
    pub(super) has_unrecorded_gap: bool,
    /// The last outage: the beat before it, and its end.
    outage: Option<(Timestamp, Timestamp)>,
    /// When a guard of a scope last held, by what is recorded.
    pub(super) held_at: BTreeMap<Scope, Timestamp>,
    shown: Option<Shown>,
    pub(super) acknowledged: Option<Shown>,
    /// How much was recorded and changed so far.
    pub(super) written: usize,
}

impl World {
    /// Partitions that have never beaten, each in a zone or in none.
    pub(super) fn new(zones: &[Option<&'static str>]) -> Self {
        let databases = [(DatabaseName::new("Logs").unwrap(), HubDatabase::default())].into();
        let schema = parse_schema(&json!([{"database": "Logs", "tables": ["A"]}]), Limits::default()).0.unwrap();
        Self {
            now: Timestamp::from_second(1_700_000_000).unwrap(),
            hub: Hub { databases, ..Hub::default() },
            beats: vec![None; zones.len()],
            counted: vec![0; zones.len()],
            arrivals: Vec::new(),
            has_no_rows: vec![false; zones.len()],
            unread_at: vec![None; zones.len()],
            schema: Arc::new(schema),
            zones: zones.to_vec(),
            trust: Trust::default(),
            unlisted_since: vec![None; zones.len()],
            agents: [None, None],
            recorded: Membership::default(),
            sight_since: None,
            blind_at: None,
            has_unrecorded_gap: false,
            outage: None,
            held_at: BTreeMap::new(),
            shown: None,
            acknowledged: None,
            written: 0,
        }
    }

    pub(super) fn beat(&mut self, partition: usize) {
        // By a clock that was set back, the newest may be an earlier one.
        self.beats[partition] = self.beats[partition].max(Some(self.now));
        self.counted[partition] += 1;
        self.has_no_rows[partition] = false;
        if self.arrivals.last() != Some(&self.now) {
            self.arrivals.push(self.now);
        }
    }

    pub(super) fn members(&self) -> BTreeSet<ClusterEndpoint> {
        self.hub.members().map(|entity| entity.cluster.clone()).collect()
    }

    pub(super) fn endpoint(partition: usize) -> ClusterEndpoint {
        // To parse it wherever it is asked for would take a third of the time of all histories.
        static ENDPOINTS: LazyLock<[ClusterEndpoint; MOST_PARTITIONS]> =
            LazyLock::new(|| array::from_fn(|partition| cluster(&format!("p{partition}"))));
        ENDPOINTS[partition].clone()
    }

    /// Whether an outage is over for less than a time to live in which the hub took no beats for longer than makes one suspect, and which nobody could record.
    pub(super) fn was_outage(&self, thresholds: &Thresholds) -> bool {
        let since = self.now - thresholds.time_to_live;
        self.outage.is_some_and(|(from, to)| to > since && to.duration_since(from) > thresholds.silence())
    }

    /// Whether the table says what the agent that leads takes for recorded.
    pub(super) fn is_led_by_what_is_recorded(&self) -> bool {
        self.agents[0].as_ref().is_none_or(|agent| self.is_right(agent))
    }

    fn is_right(&self, agent: &Watcher) -> bool {
        let Membership { guards, darkness, .. } = &agent.recorded;
        agent.recorded.changed_since(&self.recorded).is_empty()
            && (guards, darkness) == (&self.recorded.guards, &self.recorded.darkness)
    }

    /// What the agent that leads knows.
    pub(super) fn leader(&self) -> Option<&Membership> {
        self.agents[0].as_ref().map(|agent| &agent.membership)
    }

    pub(super) fn age(&self, partition: usize) -> Option<SignedDuration> {
        self.beats[partition].map(|beat| self.now.duration_since(beat))
    }

    pub(super) fn is_admitted(&self, partition: usize) -> bool {
        self.trust.admission(&Self::endpoint(partition)) == Admission::Admitted
    }

    pub(super) fn is_blocked(&self, partition: usize) -> bool {
        self.trust.blocked.contains(&Self::endpoint(partition))
    }

    /// Something happens, and a pass runs.
    pub(super) fn step(&mut self, event: Event, settings: &Settings) -> Passed {
        match event {
            Event::Beat(partition) => self.beat(partition),
            Event::Silence => self.now += INTERVAL,
            Event::AllBeat => self.all_beat(),
            Event::ZoneBeats(zone) => {
                self.now += INTERVAL;
                let of_zone = |partition: &usize| self.zones[*partition] == Some(zone);
                let beating: Vec<_> = (0..self.beats.len()).filter(of_zone).collect();
                beating.into_iter().for_each(|partition| self.beat(partition));
            }
            Event::ReadFails => return self.blind(true),
            Event::Outage => {
                let from = self.arrivals.last().copied().unwrap_or(self.now);
                self.now += INTERVAL;
                self.outage = Some((from, self.now));
                return self.blind(false);
            }
            Event::Unseen => {
                self.all_beat();
                return self.blind(false);
            }
            Event::GroupsUnread => {
                self.all_beat();
                let logs = DatabaseName::new("Logs").unwrap();
                let unread =
                    |hub: &mut Hub, groups| mem::replace(&mut hub.databases.get_mut(&logs).unwrap().groups, groups);
                let groups = unread(&mut self.hub, Err("the hub is busy".to_owned()));
                let passed = self.pass(settings, event);
                drop(unread(&mut self.hub, groups));
                return passed;
            }
            Event::ClockBack => self.set_clock_back(),
            Event::RowsGo(partition) => (self.has_no_rows[partition], self.counted[partition]) = (true, 0),
            Event::TableUnread(partition) => (self.unread_at[partition], self.counted[partition]) = (Some(self.now), 0),
            Event::Crash => self.agents[0] = None,
            Event::Replaced(silent) => {
                self.agents[0] = None;
                (0..self.beats.len())
                    .filter(|partition| *partition != silent)
                    .for_each(|partition| self.beat(partition));
            }
            Event::OtherLeads => self.agents = [None, self.agents[0].take()],
            Event::LeadsAgain => {
                self.agents.swap(0, 1);
                self.agents.iter_mut().take(1).flatten().for_each(Watcher::take_over);
            }
            Event::StaleLeads if self.agents[1].is_some() => {
                self.agents.swap(0, 1);
                let passed = self.pass(settings, event);
                self.agents.swap(0, 1);
                // What it recorded may be older than what was, until the one that leads looks.
                self.held_at.clear();
                (self.blind_at, self.has_unrecorded_gap) = (None, true);
                return passed;
            }
            Event::Block(partition) => drop(self.trust.blocked.insert(Self::endpoint(partition))),
            Event::Unblock(partition) => drop(self.trust.blocked.remove(&Self::endpoint(partition))),
            Event::Unlist(partition) => {
                let listed = (0..self.beats.len()).filter(|other| *other != partition);
                self.trust.allowed = Some(listed.map(Self::endpoint).collect());
            }
            Event::UnlistAll => self.trust.allowed = Some(BTreeSet::new()),
            Event::Relist => self.trust.allowed = None,
            Event::Acknowledge => self.acknowledged.clone_from(&self.shown),
            Event::SchemaUnread(_)
            | Event::StaleLeads
            | Event::CrashAfterRecord
            | Event::CrashInApply
            | Event::RecordFails => {}
        }
        self.pass(settings, event)
    }

    fn all_beat(&mut self) {
        self.now += INTERVAL;
        (0..self.beats.len()).for_each(|partition| self.beat(partition));
    }

    /// Of what is ahead of the clock then, nothing tells how long ago it was: it counts as now.
    fn set_clock_back(&mut self) {
        let now = self.now - INTERVAL * 4;
        self.now = now;
        let unlisted = self.unlisted_since.iter_mut().flatten();
        let gaps = self.sight_since.iter_mut().chain(&mut self.blind_at).chain(self.unread_at.iter_mut().flatten());
        for at in self.held_at.values_mut().chain(gaps).chain(unlisted).chain(&mut self.arrivals) {
            *at = (*at).min(now);
        }
    }

    /// A pass that sees nothing, and can record that or not.
    fn blind(&mut self, is_recorded: bool) -> Passed {
        self.sight_since = None;
        let held = HoldReason::IncompleteRead { why: String::new() };
        let mut agent = self.agents[0].take().unwrap_or_default();
        agent.lose_sight();
        agent.membership.note_guard(held.label(), &held.to_string(), self.now);
        if is_recorded {
            let changed = agent.guards_to_record(self.now);
            self.write(&agent.membership, changed);
            agent.guards_are_recorded(self.now);
        }
        self.agents[0] = Some(agent);
        // Perhaps of an earlier one.
        if self.recorded.is_blind() {
            (self.blind_at, self.has_unrecorded_gap) = (Some(self.now), false);
        } else {
            self.has_unrecorded_gap = true;
        }
        Passed { held: vec![held], ..Passed::default() }
    }

    fn seen(&mut self, event: Event) -> Vec<Beat> {
        let beats = self.beats.iter().zip(&mut self.counted).zip(&self.zones).enumerate();
        let beats = beats.filter_map(|(partition, ((beat, counted), zone))| {
            let is_unread = event == Event::SchemaUnread(partition);
            let inventory = if is_unread { Inventory::Unread } else { Inventory::Known(Arc::clone(&self.schema)) };
            let metadata = Arc::new(zone.iter().map(|zone| ("geo".to_owned(), (*zone).into())).collect());
            if event == Event::TableUnread(partition) {
                let (inventory, unread) = (Inventory::Unread, Some("no such column".into()));
                return Some(Beat { inventory, unread, ..Beat::forgotten(Self::endpoint(partition)) });
            }
            if self.has_no_rows[partition] {
                return None;
            }
            let new_beats = mem::take(counted);
            let forgotten = Beat::forgotten(Self::endpoint(partition));
            Some(Beat { received: (*beat)?, new_beats, inventory, metadata, ..forgotten })
        });
        beats.collect()
    }

    pub(super) fn pass(&mut self, settings: &Settings, event: Event) -> Passed {
        self.sight_since.get_or_insert(self.now);
        for partition in 0..self.beats.len() {
            let is_unlisted = matches!(self.trust.admission(&Self::endpoint(partition)), Admission::Refused(_));
            // An old leader goes by when it saw a list without the partition, which may have been an earlier one, and so does whoever starts with what it recorded.
            let believed = self.agents[0].as_ref().filter(|_| event == Event::StaleLeads).and_then(|agent| {
                let known = agent.membership.partitions.get(&Self::endpoint(partition))?;
                (known.state == PartitionState::Untrusted).then_some(known.since)
            });
            let since = self.unlisted_since[partition].into_iter().chain(believed).min().unwrap_or(self.now);
            self.unlisted_since[partition] = is_unlisted.then_some(since);
        }
        let beats = self.seen(event);
        let settings = match &self.acknowledged {
            Some((hash, _)) => Cow::Owned(Settings { acknowledged_plan: Some(hash.clone()), ..settings.clone() }),
            None => Cow::Borrowed(settings),
        };
        let mut agent = self.lead(&settings.thresholds);
        let fleet = agent.see(beats, &self.hub, &self.trust, self.now, &settings);
        let decision = plan(&fleet, &self.hub, &agent.membership, self.now, &settings);
        let (held, released) = match &decision {
            Decision::Hold(hold) => (vec![hold.reason.clone()], &hold.released),
            Decision::Apply(plan) => (plan.held.clone(), &plan.released),
        };
        let silences = leaving(&fleet, &self.hub).map(|partition| {
            let is_silent = partition.state == PartitionState::Expired;
            (partition.beat.endpoint.clone(), is_silent.then_some(partition.beat.received))
        });
        self.shown = released.as_ref().map(|released| (released.hash.clone(), silences.collect()));
        agent.note(&decision, self.now, settings.thresholds.time_to_live);
        if event != Event::RecordFails {
            let scopes = held.iter().flat_map(HoldReason::scopes).collect();
            self.record(&agent, scopes, &settings.thresholds);
            agent.is_recorded();
        }
        let mut passed = Passed { held, ..Passed::default() };
        if let (Decision::Apply(mut plan), true) = (decision, event != Event::CrashAfterRecord) {
            passed.is_applied = event != Event::CrashInApply;
            passed.is_acknowledged = !plan.acknowledged.is_empty();
            if !passed.is_applied {
                plan = Plan { changes: plan.changes[..plan.changes.len() / 2].to_vec(), ..plan };
            }
            self.written += plan.changes.len() + plan.records.len();
            self.hub = applied(mem::take(&mut self.hub), &plan);
        }
        let crashes = matches!(event, Event::CrashAfterRecord | Event::CrashInApply);
        self.agents[0] = (!crashes).then_some(agent);
        passed
    }

    /// The agent that leads, or one that starts, with what it takes for recorded looked at again where that is due.
    fn lead(&mut self, thresholds: &Thresholds) -> Watcher {
        let mut agent = self.agents[0].take().unwrap_or_default();
        match agent.due(self.now, thresholds.time_to_live) {
            Recall::Anew => {
                let arrivals = Arrivals::new(self.arrivals.iter().map(|at| (*at, *at)), self.now);
                let outage = arrivals.end_of_outage(thresholds);
                let outage = outage.filter(|_| agent.believes(&self.recorded));
                agent.begin(self.recorded.clone(), outage, self.now);
            }
            Recall::Again => agent.take_in(self.recorded.clone(), self.now, thresholds.time_to_live, true),
            Recall::Nothing => {}
        }
        agent
    }

    /// Records what the agent that leads knows and takes for recorded otherwise. `scopes`: where a guard holds.
    fn record(&mut self, agent: &Watcher, scopes: BTreeSet<Scope>, thresholds: &Thresholds) {
        let membership = &agent.membership;
        self.write(membership, agent.to_record());
        self.recorded = Self::read_back(&self.recorded, thresholds, self.now);
        // Where it says what an old leader knew, whoever starts goes by that.
        let is_recorded = |scope: &Scope| self.recorded.darkness.get(scope) == membership.darkness.get(scope);
        self.held_at.extend(scopes.into_iter().filter(is_recorded).map(|scope| (scope, self.now)));
        let silences = |membership: &Membership| -> Vec<_> {
            membership.partitions.iter().map(|(name, known)| (name.clone(), known.silent_since)).collect()
        };
        self.has_unrecorded_gap &=
            silences(membership) != silences(&self.recorded) || membership.is_blind() != self.recorded.is_blind();
    }

    /// Writes these records of a membership into the table, which keeps what else it says.
    fn write(&mut self, membership: &Membership, records: Vec<MemberRecord>) {
        self.written += records.len();
        for record in records {
            match record.kind {
                "Partition" => {
                    let endpoint = ClusterEndpoint::parse(&record.name).unwrap();
                    let known = membership.partitions[&endpoint].clone();
                    self.recorded.partitions.insert(endpoint, known);
                }
                "Darkness" => {
                    let scope = Scope::from_record(record.kind, &record.name).unwrap();
                    let darkness = membership.darkness[&scope];
                    self.recorded.darkness.insert(scope, darkness);
                }
                "Guard" => {
                    let guards = membership.guards.iter().filter(|(label, _)| label.as_str() == record.name);
                    self.recorded.guards.extend(guards.map(|(label, guard)| (*label, guard.clone())));
                }
                "Missing" => self.recorded.missing.clone_from(&membership.missing),
                _ => self.recorded.incomplete.clone_from(&membership.incomplete),
            }
        }
    }

    /// What an agent that starts makes of what was written, in which it is not how many beats a partition needs. A darkness that is over for longer than a time to live says nothing any more.
    fn read_back(membership: &Membership, thresholds: &Thresholds, now: Timestamp) -> Membership {
        let Thresholds { join_after, return_after, time_to_live, .. } = *thresholds;
        let mut recorded = Membership { watching_since: None, ..membership.clone() };
        recorded.darkness.retain(|_, darkness| match darkness {
            Darkness::Dark { .. } => true,
            Darkness::Over { at } => now.duration_since(*at) <= time_to_live,
        });
        for remembered in recorded.partitions.values_mut() {
            remembered.is_member = true;
            let is_joining = remembered.state == PartitionState::Joining;
            remembered.needs = if is_joining { join_after.max(return_after) } else { join_after };
        }
        recorded
    }

    /// Those of the events that may lead to different worlds: what happens to one of two partitions that are alike might as well happen to the other.
    pub(super) fn distinct(&self, events: &[Event]) -> Vec<Event> {
        let partitions = self.partitions();
        let mut told = BTreeSet::new();
        let is_new = |event: &&Event| match event {
            Event::Beat(partition) => told.insert((0, &partitions[*partition])),
            Event::SchemaUnread(partition) => told.insert((1, &partitions[*partition])),
            Event::RowsGo(partition) => told.insert((2, &partitions[*partition])),
            Event::TableUnread(partition) => told.insert((3, &partitions[*partition])),
            Event::Replaced(partition) => told.insert((4, &partitions[*partition])),
            _ => true,
        };
        events.iter().filter(is_new).copied().collect()
    }

    fn memories(&self) -> impl Iterator<Item = &Membership> {
        let of_agents =
            self.agents.iter().flatten().flat_map(|agent| {
                iter::once(&agent.membership).chain((!self.is_right(agent)).then_some(&agent.recorded))
            });
        of_agents.chain([&self.recorded])
    }

    /// Each partition in a text, the same for two that are alike.
    fn partitions(&self) -> Vec<String> {
        let age = |at: Timestamp| self.now.duration_since(at).as_secs() / 60;
        let members = self.members();
        let of = |membership: &Membership, endpoint: &ClusterEndpoint, has_no_rows: bool| {
            membership.partitions.get(endpoint).map(|known| {
                let returns: Vec<_> = known.returns.iter().map(|at| age(*at).min(360)).collect();
                (
                    known.state,
                    age(known.since).min(90),
                    known.silent_since.map(|at| (age(at).min(90), self.blind_at.is_some_and(|blind| at < blind))),
                    returns,
                    known.beats.min(3),
                    known.needs,
                    has_no_rows.then_some(age(known.counted).min(90)),
                    match known.watch {
                        Watch::Kept => None,
                        Watch::Lost => Some(-1),
                        Watch::Since(at) => Some(age(at).min(90)),
                    },
                )
            })
        };
        (0..self.beats.len())
            .map(|partition| {
                let endpoint = Self::endpoint(partition);
                let has_no_rows = self.has_no_rows[partition];
                let known: Vec<_> = self.memories().map(|membership| of(membership, &endpoint, has_no_rows)).collect();
                let beat = self.beats[partition].map(|beat| age(beat).min(90));
                let unread = self.unread_at[partition].map(|at| age(at).min(90));
                let zone = self.zones[partition];
                let admission = (self.is_blocked(partition), self.is_admitted(partition));
                let plans = [&self.shown, &self.acknowledged].map(|shown| {
                    let (_, silences) = shown.as_ref()?;
                    let silence = silences.iter().find(|(silent, _)| *silent == endpoint)?.1;
                    Some(silence.map(|beat| age(beat).min(90)))
                });
                let is_member = members.contains(&endpoint);
                format!(
                    "{beat:?} {has_no_rows} {unread:?} {is_member} {} {zone:?} {admission:?} {plans:?} {known:?}",
                    self.counted[partition].min(3)
                )
            })
            .collect()
    }

    /// The same for worlds that differ only in when they are, and in who is who. A hash of what tells them apart: that two of a hundred thousand have the same by chance is one to a
    /// billion.
    pub(super) fn key(&self) -> u64 {
        let age = |at: Timestamp| self.now.duration_since(at).as_secs() / 60;
        let mut partitions = self.partitions();
        partitions.sort();
        let dark = |membership: &Membership| -> BTreeMap<_, _> {
            let ages = membership.darkness.iter().map(|(scope, darkness)| match darkness {
                Darkness::Dark { .. } => (scope.clone(), -1),
                Darkness::Over { at } => (scope.clone(), age(*at)),
            });
            ages.collect()
        };
        let memories: Vec<_> = self
            .memories()
            .map(|known| (dark(known), known.watching_since.map(|since| age(since).min(90)), known.is_blind()))
            .collect();
        let sight = (self.sight_since.map(|since| age(since).min(90)), self.has_unrecorded_gap);
        // What is older than a time to live and a silence, as they are where all histories are followed, tells nothing.
        let arrivals: Vec<_> = self.arrivals.iter().rev().map(|at| age(*at)).take_while(|age| *age <= 50).collect();
        let outage = self.outage.map(|(from, to)| (age(from), age(to))).filter(|(_, to)| *to <= 30);
        let held: Vec<_> = self.held_at.iter().map(|(scope, at)| (scope, age(*at).min(90))).collect();
        let objects = self.hub.databases.values().map(|database| {
            (database.functions.len(), database.groups.as_ref().map_or(0, BTreeMap::len), self.hub.claims.len())
        });
        let objects: Vec<_> = objects.collect();
        let plans = [&self.shown, &self.acknowledged].map(Option::is_some);
        // When it looks again makes no difference to who is right.
        let looks = self.agents.each_ref().map(|agent| {
            let agent = agent.as_ref()?;
            let seen = agent.seen_at.map(|at| age(at).min(90));
            Some((seen, agent.is_blind, agent.recorded_read_at.filter(|_| !self.is_right(agent)).map(age)))
        });
        let mut hasher = DefaultHasher::new();
        format!(
            "{partitions:?} {memories:?} {sight:?} {arrivals:?} {outage:?} {held:?} {objects:?} {plans:?} {looks:?}"
        )
        .hash(&mut hasher);
        hasher.finish()
    }
}
