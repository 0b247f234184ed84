//! What of the membership is written into the table that remembers it. Pure; `observe` reads it back.
//!
//! The table forgets nobody, and whoever starts reads it whole: names that strangers make up must not fill it.

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, literal, names::DatabaseName};
use shared::runtime::PartitionState;

use super::{Darkness, Membership, Remembered, Scope, Watch};
use crate::setup::members_table;

/// So many names may be in the table before one that is in no group of ours gets into it: several times what large fleets have. Who is a member always does.
pub(super) const MOST_NAMES: usize = 10_000;

/// A line of the table that remembers the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    state: String,
    since: Timestamp,
    silent_since: Option<Timestamp>,
    returns: Vec<Timestamp>,
    reason: String,
    beats: u64,
    counted: Option<Timestamp>,
    zone: String,
    schema_hash: String,
}

impl Membership {
    /// What a restart must not lose and `recorded`, which is what the table says, does not have. A reason that counts beats is recorded with the state alone.
    pub fn changed_since(&self, recorded: &Self) -> Vec<MemberRecord> {
        let partitions = self.recordable(recorded).filter_map(|(endpoint, after)| {
            let before = recorded.partitions.get(endpoint);
            let is_recorded = before.is_some_and(|before| {
                // Where beats decide what comes next, each counts; else they would be recorded one by one for nothing.
                let is_of_watch = [before.watch, after.watch].contains(&Watch::Lost);
                let counts = [PartitionState::Joining, PartitionState::Suspect].contains(&after.state);
                (before.state, before.since, &before.returns, &before.zone, &before.schema_hash)
                    == (after.state, after.since, &after.returns, &after.zone, &after.schema_hash)
                    // Whoever is in no group leaves none, however often it falls silent.
                    && (before.silent_since == after.silent_since || !after.is_member)
                    && (!counts || before.beats == after.beats)
                    // By a clock that was ahead: whoever starts would take it for younger than it is.
                    && before.counted <= after.counted
                    && (before.told() == after.told() || (after.reason.is_some() && !is_of_watch))
            });
            (!is_recorded).then(|| MemberRecord {
                kind: "Partition",
                name: endpoint.to_string(),
                state: after.state.to_string(),
                since: after.since,
                silent_since: after.silent_since,
                returns: after.returns.clone(),
                reason: after.told().cloned().unwrap_or_default(),
                beats: after.beats,
                counted: Some(after.counted),
                zone: after.zone.clone().unwrap_or_default(),
                schema_hash: after.schema_hash.clone().unwrap_or_default(),
            })
        });
        let darkness = self.darkness.iter().filter(|(scope, after)| recorded.darkness.get(scope) != Some(after));
        let darkness = darkness.filter_map(|(scope, after)| {
            let (state, since) = match after {
                Darkness::Dark { since } => ("dark", *since),
                Darkness::Over { at } => ("over", *at),
            };
            let (kind, name) = scope.recorded()?;
            Some(MemberRecord { state: state.to_owned(), ..MemberRecord::of(kind, name, since) })
        });
        let lacking = [
            ("Missing", "databases", &recorded.missing, &self.missing),
            ("Incomplete", "pass", &recorded.incomplete, &self.incomplete),
        ];
        // The time alone is no news.
        let lacking = lacking.into_iter().filter(|(.., before, after)| before.words != after.words);
        let lacking = lacking.map(|(kind, name, _, after)| MemberRecord {
            state: if after.words.is_empty() { "over" } else { "active" }.to_owned(),
            reason: after.words.clone(),
            ..MemberRecord::of(kind, name.to_owned(), after.since)
        });
        partitions.chain(darkness).chain(self.guards_changed_since(recorded)).chain(lacking).collect()
    }

    /// Notes that the table now has what `now` changed.
    pub fn written(&mut self, now: &Self) {
        let partitions: Vec<_> = now.recordable(self).map(|(name, after)| (name.clone(), after.clone())).collect();
        self.partitions.extend(partitions);
        let Self { partitions: _, darkness, guards, missing, incomplete, watching_since: _ } = now;
        self.darkness.clone_from(darkness);
        self.guards.clone_from(guards);
        self.missing.clone_from(missing);
        self.incomplete.clone_from(incomplete);
    }

    /// The partitions that may be recorded. Of those who are not let in, or have nothing to federate, those beyond the bound are new again to the next process.
    fn recordable<'a>(&'a self, recorded: &'a Self) -> impl Iterator<Item = (&'a ClusterEndpoint, &'a Remembered)> {
        let mut room = MOST_NAMES.saturating_sub(recorded.partitions.len());
        self.partitions.iter().filter(move |(endpoint, after)| {
            after.is_member || recorded.partitions.contains_key(*endpoint) || {
                let has_room = room > 0;
                room = room.saturating_sub(1);
                has_room
            }
        })
    }

    /// How many partitions there is no room for in the table, in a sentence, if there are any.
    pub fn unrecorded(&self, recorded: &Self) -> Option<String> {
        let count = self.partitions.len() - self.recordable(recorded).count();
        (count > 0).then(|| {
            let table = members_table();
            format!(
                "{count} partition(s) that no group has are not recorded, as '{table}' takes {MOST_NAMES} names, and are unknown again whenever an agent starts: when the made-up ones beat no more, drop the table and restart the agent, which makes it again with those that beat unless it is suspended or in mode Plan"
            )
        })
    }

    /// Takes in what another agent has recorded, and this one knows nothing of: guards, and who is dark. Whoever sees ends both.
    pub fn take_in(&mut self, recorded: &Self, now: Timestamp, time_to_live: SignedDuration) {
        // Or it would neither be ended here nor taken in.
        self.forget_recovered(now, time_to_live);
        for (label, guard) in &recorded.guards {
            self.guards.entry(*label).or_insert_with(|| guard.clone());
        }
        for (scope, darkness) in &recorded.darkness {
            if matches!(darkness, Darkness::Dark { .. }) {
                self.darkness.entry(scope.clone()).or_insert(*darkness);
            }
        }
    }

    /// Of what a restart must not lose and `recorded` does not have, the guards.
    pub fn guards_changed_since(&self, recorded: &Self) -> impl Iterator<Item = MemberRecord> {
        let guards = self.guards.iter().filter(|(label, after)| recorded.guards.get(label) != Some(after));
        guards.map(|(label, after)| MemberRecord {
            state: if after.is_active { "active" } else { "over" }.to_owned(),
            reason: after.reason.clone(),
            ..MemberRecord::of("Guard", label.to_string(), after.since)
        })
    }
}

impl Scope {
    /// By which kind of row and which name it is recorded. `None`: the table would keep another name.
    fn recorded(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Fleet => Some(("Darkness", "fleet".to_owned())),
            Self::Zone(zone) => Some(("Darkness", format!("zone {zone}"))),
            Self::Database(database) if kept_text(database.as_str()) == database.as_str() => {
                Some(("Unlisted", database.to_string()))
            }
            Self::Database(_) => None,
        }
    }

    /// From what is recorded. `None`: that is no scope.
    pub fn from_record(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "Darkness" => Some(name.strip_prefix("zone ").map_or(Self::Fleet, |zone| Self::Zone(zone.to_owned()))),
            "Unlisted" => DatabaseName::new(name).ok().map(Self::Database),
            _ => None,
        }
    }
}

/// A text as the table keeps it. Of what it would keep otherwise than it was given, it would never be found to have it.
pub(super) fn kept_text(text: &str) -> String {
    text.chars().take(512).map(|c| if literal::is_control(c) { ' ' } else { c }).collect()
}

/// A time of this machine's clock as the table keeps it: finer than Kusto's are.
pub(super) fn kept_time(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

impl MemberRecord {
    fn of(kind: &'static str, name: String, since: Timestamp) -> Self {
        let (state, reason, zone, schema_hash) = Default::default();
        Self {
            kind,
            name,
            state,
            since,
            silent_since: None,
            returns: Vec::new(),
            reason,
            beats: 0,
            counted: None,
            zone,
            schema_hash,
        }
    }

    /// The line with its end. Zones and reasons are strangers' texts.
    pub fn csv_line(&self, now: Timestamp) -> String {
        let Self { kind, name, state, since, silent_since, returns, reason, beats, counted, zone, schema_hash } = self;
        let field = |text: &str| format!("\"{}\"", kept_text(text).replace('"', "\"\""));
        let returns: Vec<String> = returns.iter().map(|at| format!("\"{at}\"")).collect();
        let [silent_since, counted] = [silent_since, counted].map(|at| at.map(|at| at.to_string()).unwrap_or_default());
        let returns = format!("\"[{}]\"", returns.join(",").replace('"', "\"\""));
        let [name, reason, zone, schema_hash] = [name, reason, zone, schema_hash].map(|text| field(text));
        format!(
            "{now},{kind},{name},{state},{since},{silent_since},{returns},{reason},{beats},{counted},{zone},{schema_hash}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    use jiff::SignedDuration;
    use kql::{names::EntityGroupName, statements::Entity};
    use shared::runtime::GuardReason;

    use super::*;
    use crate::{
        fleet::Beat,
        hub::{Claim, ExistingGroup, Hub, HubDatabase},
        settings::Settings,
        testing::{cluster, hub_config},
        trust::Trust,
    };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn only_what_changed_is_recorded_and_strangers_texts_are_quoted() {
        let endpoint = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
        let beat = || Beat { received: at(0), new_beats: 1, ..Beat::forgotten(endpoint.clone()) };
        let thresholds = Settings::from(&hub_config("")).thresholds;
        let step = |membership: &Membership, now| {
            membership.step(vec![beat()], &Hub::default(), &Trust::default(), at(now), &thresholds, "geo").0
        };
        let first = step(&Membership::default(), 0);
        assert_eq!(first.changed_since(&Membership::default()).len(), 1);
        let second = step(&first, 5);
        assert_eq!(second.changed_since(&first), []);
        let mut told = second.clone();
        told.partitions.values_mut().for_each(|known| known.schema_hash = Some("0123456789abcdef".to_owned()));
        let line = told.changed_since(&second).remove(0).csv_line(at(5));
        assert!(line.ends_with(",\"0123456789abcdef\"\n"), "{line}");
        // What was refused of a heartbeat is told as long as it is.
        let mut refused = second.clone();
        refused
            .partitions
            .values_mut()
            .for_each(|known| known.problem = Some("Logs.tables[0]: it is no text".to_owned()));
        let line = refused.changed_since(&second).remove(0).csv_line(at(5));
        assert!(line.contains(",live,") && line.contains(",\"Logs.tables[0]: it is no text\","), "{line}");
        assert_eq!(second.changed_since(&refused).len(), 1);
        let mut dark = step(&second, 20);
        dark.note(
            &BTreeSet::from([Scope::Zone("a\",\u{2028}.drop".to_owned())]),
            at(20),
            SignedDuration::from_hours(1),
        );
        let lines: Vec<String> = dark.changed_since(&second).iter().map(|record| record.csv_line(at(20))).collect();
        assert_eq!(
            lines,
            [
                "2023-11-14T22:33:20Z,Partition,\"https://eu.kusto.windows.net\",suspect,2023-11-14T22:33:20Z,2023-11-14T22:33:20Z,\"[]\",\"\",0,2023-11-14T22:13:20Z,\"\",\"\"\n",
                "2023-11-14T22:33:20Z,Darkness,\"zone a\"\", .drop\",dark,2023-11-14T22:33:20Z,,\"[]\",\"\",0,,\"\",\"\"\n",
            ]
        );
        // A pass that sees nothing tells of its guard alone.
        let recorded = dark.clone();
        dark.lose_sight();
        dark.note_guard(GuardReason::IncompleteRead, "no answer", at(21));
        assert!(dark.is_blind() && !recorded.is_blind());
        let blind: Vec<String> = dark.guards_changed_since(&recorded).map(|record| record.csv_line(at(21))).collect();
        assert_eq!(
            blind,
            [
                "2023-11-14T22:34:20Z,Guard,\"incomplete_read\",active,2023-11-14T22:34:20Z,,\"[]\",\"no answer\",0,,\"\",\"\"\n"
            ]
        );
        // However long it could not be told that it is over.
        let told = dark.clone();
        dark.note_guards(&[].into(), at(22));
        dark.note_guards(&[].into(), at(9999));
        let over: Vec<String> = dark.guards_changed_since(&told).map(|record| record.state).collect();
        assert_eq!(over, ["over"]);
    }

    #[test]
    fn names_that_are_made_up_fill_the_table_so_far_and_keep_no_member_out() {
        let thresholds = Settings::from(&hub_config("")).thresholds;
        let crowd = |pass: usize| (0..3_000).map(move |number| format!("a{pass}-{number}"));
        let member = cluster("z");
        let group = BTreeSet::from([Entity { cluster: member.clone(), database: DatabaseName::new("Logs").unwrap() }]);
        let groups = BTreeMap::from([(
            EntityGroupName::new("Logs_Partitions").unwrap(),
            ExistingGroup::Members(Arc::new(group)),
        )]);
        let database = HubDatabase { groups: Ok(groups), ..HubDatabase::default() };
        let claim = Claim { is_made: true, ..Claim::default() };
        let hub = Hub {
            databases: [(DatabaseName::new("Logs").unwrap(), database)].into(),
            claims: [((DatabaseName::new("Logs").unwrap(), EntityGroupName::new("Logs_Partitions").unwrap()), claim)]
                .into(),
            ..Hub::default()
        };

        let (mut membership, mut recorded, mut lines) = (Membership::default(), Membership::default(), 0);
        for (pass, unrecorded) in [0, 0, 0, 2_000, 3_000].into_iter().enumerate() {
            let now = at(10 * i64::try_from(pass).unwrap());
            let names = crowd(pass).chain((pass == 4).then(|| "z".to_owned()));
            let beat = |name: String| Beat { received: now, new_beats: 1, ..Beat::forgotten(cluster(&name)) };
            let hub = if pass == 4 { hub.clone() } else { Hub::default() };
            membership = membership.step(names.map(beat).collect(), &hub, &Trust::default(), now, &thresholds, "geo").0;
            lines += membership.changed_since(&recorded).len();
            recorded.written(&membership);
            assert_eq!(membership.changed_since(&recorded), [], "it is written once");
            let told = membership.unrecorded(&recorded);
            let says = |told: &String| told.starts_with(&format!("{unrecorded} partition(s) that no group has "));
            assert_eq!(told.as_ref().map(says), (unrecorded > 0).then_some(true), "{told:?}");
        }
        assert_eq!((lines, recorded.partitions.len()), (MOST_NAMES + 1, MOST_NAMES + 1));
        assert!(recorded.partitions.contains_key(&member));
        // Of whom it has, all that changes is.
        let late = membership.step(Vec::new(), &hub, &Trust::default(), at(500), &thresholds, "geo").0;
        assert_eq!(late.changed_since(&recorded).len(), 1);
    }
}
