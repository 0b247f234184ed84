use kql::statements::Entity;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    apply::without_record,
    hub::{Claim, HubDatabase},
    membership::Membership,
    plan::{Decision, Plan, plan},
    settings::Settings,
    testing::{applied, cluster, fleet, hub_config, now},
};

/// The hub's.
const DATABASES: [&str; 2] = ["Logs", "Metrics"];

/// What two partitions have, and how functions ask for it: what a pass is about.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// Whether they have the databases `Logs` and `Metrics`, and a second table in `Logs`.
    eu: [bool; 3],
    us: [bool; 3],
    best_effort: bool,
}

impl Wanted {
    fn all() -> Self {
        Self { eu: [true; 3], us: [true; 3], best_effort: true }
    }

    fn any() -> impl Strategy<Value = Self> {
        any::<([bool; 3], [bool; 3], bool)>().prop_map(|(eu, us, best_effort)| Self { eu, us, best_effort })
    }

    fn plan(self, hub: &Hub) -> Plan {
        let schema = |[logs, metrics, more]: [bool; 3]| {
            let tables = if more { vec!["A", "B"] } else { vec!["A"] };
            let all = [
                (logs, json!({"database": "Logs", "tables": tables})),
                (metrics, json!({"database": "Metrics", "tables": ["C"]})),
                // One that lists nothing would not be believed.
                (true, json!({"database": "Other", "tables": ["D"]})),
            ];
            Value::from_iter(all.into_iter().filter(|(has, _)| *has).map(|(_, database)| database))
        };
        let fleet = fleet(&[("eu", 1, schema(self.eu)), ("us", 1, schema(self.us))]);
        let settings = Settings { status: None, best_effort: self.best_effort, ..Settings::from(&hub_config("")) };
        match plan(&fleet, hub, &Membership::default(), now(), &settings) {
            Decision::Apply(plan) => plan,
            Decision::Hold(hold) => panic!("{hold:?}"),
        }
    }
}

/// When a process is killed in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// Before anything was recorded.
    First,
    /// When so many changes were made.
    After(usize),
    /// Before it recorded what was made.
    Last,
}

fn killed() -> impl Strategy<Value = Killed> {
    prop_oneof![Just(Killed::First), (0_usize..8).prop_map(Killed::After), Just(Killed::Last)]
}

/// What becomes of a change, or of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// It is made, and the hub says so.
    #[default]
    Done,
    Refused,
    /// It is made, and the answer is lost.
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Done), 1 => Just(Fate::Refused), 1 => Just(Fate::Lost)]
}

/// How a hub database shows itself in a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Whole,
    /// Without its groups.
    Unread,
    /// Not at all.
    Absent,
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![6 => Just(Shown::Whole), 2 => Just(Shown::Unread), 1 => Just(Shown::Absent)]
}

/// What a pass meets.
#[derive(Debug, Clone, Default)]
struct Meets {
    /// When its process is killed.
    killed: Option<Killed>,
    /// Of changes, in order; the others are made.
    changes: Vec<Fate>,
    /// Of the record before them, and of that after them.
    records: [Fate; 2],
    /// `Logs` and `Metrics`.
    databases: [Shown; 2],
}

fn meets() -> impl Strategy<Value = Meets> {
    let killed = proptest::option::weighted(0.3, killed());
    let all = (killed, proptest::collection::vec(fate(), 0..12), [fate(), fate()], [shown(), shown()]);
    let all = all.prop_map(|(killed, changes, records, databases)| Meets { killed, changes, records, databases });
    // Where neither could be recorded what a change leads to, nor what it has led to, the next process cannot know.
    all.prop_filter("recorded at all", |meets| {
        meets.records[0] != Fate::Refused || (meets.killed.is_none() && meets.records[1] != Fate::Refused)
    })
}

/// A hub, its table of objects, and the processes of its agents.
#[derive(Default)]
struct World {
    hub: Hub,
    /// By database, kind and name: state and content of the newest row.
    rows: BTreeMap<[String; 3], [String; 2]>,
    /// How many older ones there are.
    older: usize,
    /// Two, of which one runs now and then.
    processes: [Drift; 2],
    /// Which one makes the next pass.
    leader: usize,
}

impl World {
    fn new() -> Self {
        let databases = DATABASES.map(|name| (DatabaseName::new(name).unwrap(), HubDatabase::default()));
        let mut world = Self { hub: Hub { databases: databases.into(), ..Hub::default() }, ..Self::default() };
        for leader in [1, 0] {
            world.leader = leader;
            world.restart();
        }
        world
    }

    fn drift(&mut self) -> &mut Drift {
        &mut self.processes[self.leader]
    }

    /// As a process reads it.
    fn recorded(&self) -> (Left, usize) {
        let mut recorded = Left::default();
        for ([database, kind, name], [state, content]) in &self.rows {
            if state == "Left" {
                recorded.read(database, kind, name, content);
            }
        }
        (recorded, self.rows.len() + self.older)
    }

    /// Another process begins.
    fn restart(&mut self) {
        let (recorded, rows) = self.recorded();
        *self.drift() = Drift::default();
        self.drift().begin(recorded, rows);
    }

    fn write(&mut self, lines: Option<Lines>, fate: Fate) -> usize {
        let Some(lines) = lines else { return 0 };
        let count = lines.objects.len();
        if fate != Fate::Refused {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines.text.as_bytes());
            for line in reader.records() {
                let fields: Vec<String> = line.expect("a line is CSV").iter().skip(1).map(str::to_owned).collect();
                let [database, kind, name, state, content] = fields.try_into().expect("a line has six fields");
                self.rows.insert([database, kind, name], [state, content]);
            }
        }
        let drift = self.drift();
        if fate == Fate::Done {
            drift.is_recorded(lines);
        } else {
            drift.may_be_recorded(lines);
        }
        count
    }

    /// A pass: what it tells, and how many lines it writes.
    fn pass(&mut self, wanted: Wanted, meets: &Meets) -> (Vec<String>, usize) {
        let mut observed = self.hub.clone();
        for (name, shown) in DATABASES.into_iter().zip(meets.databases) {
            let name = DatabaseName::new(name).unwrap();
            match shown {
                Shown::Whole => {}
                Shown::Unread => observed.databases.get_mut(&name).unwrap().groups = Err("not now".to_owned()),
                Shown::Absent => drop(observed.databases.remove(&name)),
            }
        }
        let Plan { mut changes, records, uncertain, .. } = wanted.plan(&observed);
        let suspects = self.drift().suspects(&observed, &changes);
        if !suspects.is_empty() {
            let (recorded, rows) = self.recorded();
            self.drift().take_in(&suspects, recorded, rows);
        }
        let before = self.drift().before(&changes, now());
        if meets.killed == Some(Killed::First) {
            self.restart();
            return (Vec::new(), 0);
        }
        let is_unrecorded = meets.records[0] != Fate::Done && (before.is_some() || !records.is_empty());
        let mut written = self.write(before, meets.records[0]);
        let (mut done, mut dropped) = (Vec::new(), Vec::new());
        let (untried, waiting) =
            if is_unrecorded { without_record(&mut changes, &records) } else { Default::default() };
        done.extend(untried.into_iter().map(|change| Applied { change, result: Err("not tried".to_owned()) }));
        for (index, change) in changes.into_iter().enumerate() {
            if meets.killed == Some(Killed::After(index)) {
                break;
            }
            let fate = meets.changes.get(index).copied().unwrap_or_default();
            if fate != Fate::Refused {
                self.hub = applied(self.hub.clone(), &Plan { changes: vec![change.clone()], ..Plan::default() });
                if let Change::DropGroup { database, group } = &change {
                    dropped.push((database.clone(), group.clone()));
                }
            }
            done.push(Applied { change, result: if fate == Fate::Done { Ok(()) } else { Err("no".to_owned()) } });
        }
        let repairs = self.drift().repairs(&observed, &done);
        if meets.killed.is_none() {
            self.drift().remember(&observed, &uncertain, &done, &waiting);
            let after = self.drift().to_record(now());
            written += self.write(after, meets.records[1]);
        } else {
            // The record of groups does not say yet that they are gone.
            self.hub.claims.extend(dropped.into_iter().map(|key| (key, Claim { is_made: true, ..Claim::default() })));
            self.restart();
        }
        (repairs, written)
    }

    fn quiet_pass(&mut self, wanted: Wanted) -> (Vec<String>, usize) {
        self.pass(wanted, &Meets::default())
    }

    /// Whether there is an object of which a sentence tells.
    fn has_what_is_told_of(&self, told: &str) -> bool {
        self.hub.databases.iter().any(|(database, present)| {
            let groups = present.groups.iter().flatten().map(|(name, _)| format!("entity group '{name}'"));
            let functions = present.functions.keys().map(|name| format!("function '{name}'"));
            groups.chain(functions).any(|object| told.starts_with(&format!("the {object} in '{database}' ")))
        })
    }

    /// Somebody does something to the object of this number. Returns what is to be told of that, if there is one of that number.
    fn meddle(&mut self, deed: Deed, number: usize) -> Option<String> {
        let groups = self.hub.databases.iter().flat_map(|(database, present)| {
            present.groups.iter().flatten().map(move |(name, _)| (database.clone(), name.clone()))
        });
        let functions =
            self.hub.databases.iter().flat_map(|(database, present)| {
                present.functions.keys().map(move |name| (database.clone(), name.clone()))
            });
        let (what, name, database) = match deed {
            Deed::RemoveGroup | Deed::ChangeGroup => {
                let (database, name) = groups.collect::<Vec<_>>().into_iter().nth(number)?;
                let groups = self.hub.databases.get_mut(&database)?.groups.as_mut().ok()?;
                if deed == Deed::RemoveGroup {
                    groups.remove(&name);
                } else {
                    let foreign = Entity { cluster: cluster("asia"), database: database.clone() };
                    groups.insert(name.clone(), ExistingGroup::Members(Arc::new([foreign].into())));
                }
                ("entity group", name.to_string(), database)
            }
            Deed::RemoveFunction | Deed::EditFunction | Deed::EditDocstring => {
                let (database, name) = functions.collect::<Vec<_>>().into_iter().nth(number)?;
                let functions = &mut self.hub.databases.get_mut(&database)?.functions;
                match deed {
                    Deed::RemoveFunction => drop(functions.remove(&name)),
                    Deed::EditFunction => functions.get_mut(&name)?.written.content_hash = "another".to_owned(),
                    _ => functions.get_mut(&name)?.docstring.insert_str(0, "Mine: "),
                }
                ("function", name.to_string(), database)
            }
        };
        let happened = match deed {
            Deed::RemoveGroup | Deed::RemoveFunction => "was removed by somebody and is made again",
            Deed::ChangeGroup => "was changed by somebody and is put back",
            Deed::EditFunction | Deed::EditDocstring => "was edited by somebody and is put back",
        };
        Some(format!("the {what} '{name}' in '{database}' {happened}"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    RemoveGroup,
    ChangeGroup,
    RemoveFunction,
    EditFunction,
    EditDocstring,
}

const DEEDS: [Deed; 5] =
    [Deed::RemoveGroup, Deed::ChangeGroup, Deed::RemoveFunction, Deed::EditFunction, Deed::EditDocstring];

#[test]
fn what_somebody_did_to_any_object_is_told_by_the_same_process_and_by_the_next_one() {
    // The other asks in all functions otherwise.
    let wanted = [Wanted::all(), Wanted { best_effort: false, ..Wanted::all() }];
    for (is_new_process, next) in [false, true].into_iter().flat_map(|is_new| wanted.map(|next| (is_new, next))) {
        for deed in DEEDS {
            let mut told = 0;
            for number in 0.. {
                let mut world = World::new();
                assert_eq!(world.quiet_pass(Wanted::all()).0, Vec::<String>::new(), "they were never there");
                let Some(expected) = world.meddle(deed, number) else { break };
                if is_new_process {
                    world.restart();
                }
                let (repairs, _) = world.quiet_pass(next);
                assert_eq!(repairs, [expected], "{deed:?}, new process: {is_new_process}, {next:?}");
                assert_eq!(world.quiet_pass(next), (Vec::new(), 0), "it is put right, and nothing is written");
                told += 1;
            }
            assert!(told >= 3, "{told} of {deed:?}");
        }
    }
}

#[test]
fn what_could_not_be_put_right_is_told_when_it_is() {
    for deed in DEEDS {
        let mut world = World::new();
        world.quiet_pass(Wanted::all());
        let expected = world.meddle(deed, 0).unwrap();
        for _ in 0..2 {
            world.restart();
            let refuses = Meets { changes: vec![Fate::Refused], ..Meets::default() };
            assert_eq!(world.pass(Wanted::all(), &refuses), (Vec::new(), 0), "{deed:?}");
        }
        assert_eq!(world.quiet_pass(Wanted::all()).0, [expected]);
    }
}

#[test]
fn a_hub_that_writes_texts_otherwise_is_nobody_and_an_edit_there_is_somebodys() {
    let rewrite = |world: &mut World| {
        for function in world.hub.databases.values_mut().flat_map(|present| present.functions.values_mut()) {
            function.written.content_hash.insert_str(0, "in other words: ");
            world.hub.rewritten.insert(function.docstring.clone(), function.written.clone());
        }
    };
    let mut world = World::new();
    world.quiet_pass(Wanted::all());
    rewrite(&mut world);
    assert_eq!(world.quiet_pass(Wanted::all()).0, Vec::<String>::new());
    assert_eq!(world.quiet_pass(Wanted::all()), (Vec::new(), 0), "it is known by now");
    // The next process puts them again, as it cannot know that the hub would write them like this.
    let expected = world.meddle(Deed::EditFunction, 1).unwrap();
    world.restart();
    world.hub.rewritten.clear();
    assert_eq!(world.quiet_pass(Wanted::all()).0, [expected]);
    rewrite(&mut world);
    assert_eq!(world.quiet_pass(Wanted::all()).0, Vec::<String>::new());
}

#[test]
fn what_waits_for_a_group_without_a_record_is_told_when_it_is_put_right() {
    for deed in [Deed::RemoveFunction, Deed::EditFunction, Deed::EditDocstring] {
        let mut world = World::new();
        world.quiet_pass(Wanted::all());
        let mut expected = Vec::from_iter(world.meddle(deed, 0));
        expected.extend(world.meddle(Deed::RemoveGroup, 0));
        // As another agent would have left it.
        world.hub.claims.clear();
        world.restart();
        let unrecorded = Meets { records: [Fate::Refused, Fate::Done], ..Meets::default() };
        assert_eq!(world.pass(Wanted::all(), &unrecorded).0, Vec::<String>::new(), "{deed:?}");
        let mut told = world.quiet_pass(Wanted::all()).0;
        told.sort_by(|one, other| other.cmp(one));
        expected.sort_by(|one, other| other.cmp(one));
        assert_eq!(told, expected, "{deed:?}");
    }
}

#[test]
fn an_edit_that_shows_is_told_when_it_is_put_right_even_if_nothing_was_recorded() {
    let mut world = World::new();
    world.quiet_pass(Wanted::all());
    let expected = world.meddle(Deed::EditFunction, 0).unwrap();
    world.rows.clear();
    world.restart();
    let refuses = Meets { changes: vec![Fate::Refused], ..Meets::default() };
    assert_eq!(world.pass(Wanted::all(), &refuses).0, Vec::<String>::new());
    world.restart();
    assert_eq!(world.quiet_pass(Wanted::all()).0, [expected]);
}

#[test]
fn a_record_that_is_gone_is_written_anew_and_one_without_rows_of_ours_tells_of_nobody() {
    let mut world = World::new();
    let (_, written) = world.quiet_pass(Wanted::all());
    world.rows.clear();
    world.drift().read_again(Left::default(), 0);
    // Of the groups it was written twice.
    assert_eq!(world.quiet_pass(Wanted::all()), (Vec::new(), written));
    let recorded = world.rows.clone();
    world.rows.clear();
    world.restart();
    for deed in [Deed::RemoveGroup, Deed::ChangeGroup, Deed::RemoveFunction, Deed::EditDocstring] {
        world.meddle(deed, 1).unwrap();
    }
    assert_eq!(world.quiet_pass(Wanted::all()).0, Vec::<String>::new());
    assert_eq!(world.rows, recorded);
}

#[test]
fn of_a_record_that_is_too_long_what_changes_is_not_known_any_more() {
    let mut world = World::new();
    world.quiet_pass(Wanted { best_effort: true, ..Wanted::all() });
    let before = world.rows.len();
    world.older = MOST_ROWS;
    world.drift().rows += MOST_ROWS;
    let other = Wanted { eu: [true, true, false], us: [false, true, false], best_effort: true };
    world.quiet_pass(other);
    assert_eq!(world.rows.len(), before, "no object is new to it");
    let unknown: Vec<&str> =
        world.rows.iter().filter(|(_, [state, _])| state == "Unknown").map(|([.., name], _)| name.as_str()).collect();
    // The one changed, the other is no more.
    assert_eq!(unknown, ["Logs_Partitions", "federated_B"]);
    assert_eq!(world.quiet_pass(other), (Vec::new(), 0), "and that is written once");
    world.restart();
    world.meddle(Deed::ChangeGroup, 0).unwrap();
    world.meddle(Deed::RemoveFunction, 0).unwrap();
    assert_eq!(
        world.quiet_pass(other).0,
        ["the function 'federated_A' in 'Logs' was removed by somebody and is made again"]
    );
}

#[test]
fn a_row_that_nobody_understands_is_as_good_as_none() {
    let mut left = Left::default();
    for (kind, name, contents) in [
        ("EntityGroup", "Logs_Partitions", "00"),
        ("Column", "A", "00"),
        ("Members", "a'b", "00"),
        ("Group", "Logs_Partitions", ""),
        ("Members", "Logs_Partitions", ""),
        ("Members", "Logs_Partitions", "00 xyz"),
        ("Function", "federated_A", "00"),
    ] {
        left.read("", kind, name, contents);
        assert_eq!(left, Left::default(), "{kind} {name} {contents}");
    }
}

#[test]
fn of_what_the_hub_refuses_each_time_nothing_is_written_each_time() {
    let less = Wanted { us: [false; 3], ..Wanted::all() };
    for (before, after) in
        [(Wanted { best_effort: false, ..less }, Wanted::all()), (less, Wanted { eu: [false; 3], ..less })]
    {
        let mut world = World::new();
        world.quiet_pass(before);
        let refuses = Meets { changes: vec![Fate::Refused; 20], ..Meets::default() };
        let written: Vec<usize> = (0..3).map(|_| world.pass(after, &refuses).1).collect();
        assert!(written[0] > 0 && written[1..] == [0, 0], "{written:?}");
    }
}

#[test]
fn a_table_that_becomes_something_else_is_not_known_until_it_has() {
    let (week, month) = (Content::of("softdelete = 7d"), Content::of("softdelete = 30d"));
    let heartbeats = TableName::new("Heartbeats").unwrap();
    let mut world = World::new();
    world.drift().table_is_right(&heartbeats, week);
    world.quiet_pass(Wanted::all());
    // An agent with another document ends when it has changed the policy, and the document is put back.
    world.restart();
    assert!(world.drift().has_table(&heartbeats, week));
    world.drift().table_changes(&heartbeats, week);
    assert_eq!(world.drift().to_record(now()), None, "this is what it was left like");
    world.drift().table_changes(&heartbeats, month);
    let lines = world.drift().to_record(now());
    assert_eq!(world.write(lines, Fate::Done), 1);
    world.restart();
    assert!(!world.drift().has_table(&heartbeats, week) && !world.drift().has_table(&heartbeats, month));
}

proptest! {
    /// Whatever our own agents did, one after the other, wherever they were killed, whatever the hub refused, did not show, or did without saying so, and whatever became of the record: nothing of it is
    /// called somebody's doing. Nor where two make passes in turns, as long as both see, do and record everything.
    #[test]
    fn nothing_that_our_agents_did_is_told_as_somebodys(
        are_two in any::<bool>(),
        passes in proptest::collection::vec((Wanted::any(), meets(), any::<bool>(), 0_usize..12), 1..24)
    ) {
        let mut world = World::new();
        for (wanted, mut meets, is_other, happens) in passes {
            world.leader = usize::from(are_two && is_other);
            if are_two {
                meets = Meets::default();
            }
            match happens {
                0 | 1 => world.restart(),
                2 if !are_two => {
                    world.rows.clear();
                    world.drift().read_again(Left::default(), 0);
                }
                3 => {
                    let (recorded, rows) = world.recorded();
                    world.drift().read_again(recorded, rows);
                }
                _ => {}
            }
            let (told, _) = world.pass(wanted, &meets);
            prop_assert_eq!(told, Vec::<String>::new());
        }
    }

    /// What somebody does after a pass that saw and made everything is told, whatever was before and whatever is wanted now, and only that: of what is not wanted any more, nothing is repaired.
    #[test]
    fn what_somebody_did_is_told_after_any_history(
        passes in proptest::collection::vec((Wanted::any(), meets()), 0..12),
        last in Wanted::any(),
        next in proptest::option::of(Wanted::any()),
        deed in proptest::sample::select(&DEEDS),
        number in 0_usize..4,
    ) {
        let mut world = World::new();
        for (wanted, meets) in passes {
            world.pass(wanted, &meets);
        }
        world.quiet_pass(last);
        let done = world.meddle(deed, number);
        world.restart();
        let next = next.unwrap_or(last);
        let mut wanted = World::new();
        wanted.quiet_pass(next);
        let (told, _) = world.quiet_pass(next);
        let expected = done.filter(|done| wanted.has_what_is_told_of(done));
        prop_assert_eq!(told, Vec::from_iter(expected));
    }
}
