use kql::statements::Entity;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    hub::{Claim, HubDatabase},
    membership::Membership,
    plan::{Decision, Plan, plan},
    settings::Settings,
    testing::{applied, cluster, fleet, hub_config, now},
};

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
    Never,
    /// Before anything was recorded.
    First,
    /// When so many changes were made.
    After(usize),
    /// Before it recorded what was made.
    Last,
}

fn killed() -> impl Strategy<Value = Killed> {
    prop_oneof![
        4 => Just(Killed::Never),
        1 => Just(Killed::First),
        2 => (0_usize..8).prop_map(Killed::After),
        1 => Just(Killed::Last),
    ]
}

/// A hub, its table of objects, and a process.
#[derive(Default)]
struct World {
    hub: Hub,
    /// By database, kind and name: state and content of the newest row.
    rows: BTreeMap<[String; 3], [String; 2]>,
    drift: Drift,
}

impl World {
    fn new() -> Self {
        let databases = ["Logs", "Metrics"].map(|name| (DatabaseName::new(name).unwrap(), HubDatabase::default()));
        let mut world = Self { hub: Hub { databases: databases.into(), ..Hub::default() }, ..Self::default() };
        world.restart();
        world
    }

    /// Another process begins.
    fn restart(&mut self) {
        let mut recorded = Left::default();
        for ([database, kind, name], [state, content]) in &self.rows {
            if state == "Left" {
                recorded.read(database, kind, name, content);
            }
        }
        self.drift = Drift::default();
        self.drift.begin(recorded, self.rows.len());
    }

    fn write(&mut self, lines: Option<Lines>) -> usize {
        let Some(lines) = lines else { return 0 };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines.text.as_bytes());
        let mut count = 0;
        for line in reader.records() {
            let fields: Vec<String> = line.expect("a line is CSV").iter().skip(1).map(str::to_owned).collect();
            let [database, kind, name, state, content] = fields.try_into().expect("a line has six fields");
            self.rows.insert([database, kind, name], [state, content]);
            count += 1;
        }
        self.drift.is_recorded(lines);
        count
    }

    /// A pass, in which the hub refuses some changes, and does not show the groups of `unread`. What it tells, and how many lines it writes.
    fn pass(&mut self, wanted: Wanted, killed: Killed, refused: &[bool], unread: Option<&str>) -> (Vec<String>, usize) {
        let mut observed = self.hub.clone();
        if let Some(name) = unread {
            let database = observed.databases.get_mut(&DatabaseName::new(name).unwrap()).unwrap();
            database.groups = Err("not now".to_owned());
        }
        let changes = wanted.plan(&observed).changes;
        let before = self.drift.before(&observed, &changes, now());
        if killed == Killed::First {
            self.restart();
            return (Vec::new(), 0);
        }
        let mut written = self.write(before);
        let (mut done, mut dropped) = (Vec::new(), Vec::new());
        for (index, change) in changes.into_iter().enumerate() {
            if killed == Killed::After(index) {
                break;
            }
            let is_refused = refused.get(index) == Some(&true);
            if !is_refused {
                self.hub = applied(self.hub.clone(), &Plan { changes: vec![change.clone()], ..Plan::default() });
                if let Change::DropGroup { database, group } = &change {
                    dropped.push((database.clone(), group.clone()));
                }
            }
            done.push(Applied { change, result: if is_refused { Err("no".to_owned()) } else { Ok(()) } });
        }
        let repairs = self.drift.repairs(&observed, &done);
        if killed == Killed::Never {
            self.drift.remember(&observed, &done);
            written += self.write(self.drift.to_record(now()));
        } else {
            // The record of groups does not say yet that they are gone.
            self.hub.claims.extend(dropped.into_iter().map(|key| (key, Claim { is_made: true, ..Claim::default() })));
            self.restart();
        }
        (repairs, written)
    }

    fn quiet_pass(&mut self, wanted: Wanted) -> (Vec<String>, usize) {
        self.pass(wanted, Killed::Never, &[], None)
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
    for is_new_process in [false, true] {
        for deed in DEEDS {
            let mut told = 0;
            for number in 0.. {
                let mut world = World::new();
                assert_eq!(world.quiet_pass(Wanted::all()).0, Vec::<String>::new(), "they were never there");
                let Some(expected) = world.meddle(deed, number) else { break };
                if is_new_process {
                    world.restart();
                }
                let (repairs, _) = world.quiet_pass(Wanted::all());
                assert_eq!(repairs, [expected], "{deed:?}, new process: {is_new_process}");
                assert_eq!(world.quiet_pass(Wanted::all()), (Vec::new(), 0), "it is put right, and nothing is written");
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
            assert_eq!(world.pass(Wanted::all(), Killed::Never, &[true], None), (Vec::new(), 0), "{deed:?}");
        }
        assert_eq!(world.quiet_pass(Wanted::all()).0, [expected]);
    }
}

#[test]
fn a_record_that_is_gone_is_written_anew_and_one_without_rows_of_ours_tells_of_nobody() {
    let mut world = World::new();
    let (_, written) = world.quiet_pass(Wanted::all());
    world.rows.clear();
    world.drift.is_lost();
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
    world.drift.rows = MOST_ROWS;
    let other = Wanted { eu: [true, true, false], us: [false, true, false], best_effort: true };
    world.quiet_pass(other);
    assert_eq!(world.rows.len(), before, "no object is new to it");
    let unknown: Vec<&str> =
        world.rows.iter().filter(|(_, [state, _])| state == "Unknown").map(|([.., name], _)| name.as_str()).collect();
    // The one changed, the other is no more.
    assert_eq!(unknown, ["Logs_Partitions", "federated_B"]);
    world.drift.rows = MOST_ROWS;
    assert_eq!(world.quiet_pass(other), (Vec::new(), 0), "and that is written once");
    // This process knows it.
    world.meddle(Deed::ChangeGroup, 0).unwrap();
    assert_eq!(world.quiet_pass(other).0.len(), 1);
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

proptest! {
    /// Whatever our own agents did, wherever they were killed, and whatever the hub refused or did not show: nothing of it is called somebody's doing.
    #[test]
    fn nothing_that_our_agents_did_is_told_as_somebodys(
        passes in proptest::collection::vec((Wanted::any(), killed(), proptest::collection::vec(any::<bool>(), 0..12), 0_usize..6, any::<bool>()), 1..12)
    ) {
        let mut world = World::new();
        for (wanted, killed, refused, unread, restarts) in passes {
            if restarts {
                world.restart();
            }
            let unread = ["Logs", "Metrics"].get(unread).copied();
            let (told, _) = world.pass(wanted, killed, &refused, unread);
            prop_assert_eq!(told, Vec::<String>::new());
        }
    }

    /// What somebody does after a pass that saw and made everything is told, whatever was before, and only that.
    #[test]
    fn what_somebody_did_is_told_after_any_history(
        passes in proptest::collection::vec((Wanted::any(), killed(), proptest::collection::vec(any::<bool>(), 0..12)), 0..6),
        last in Wanted::any(),
        deed in proptest::sample::select(&DEEDS),
        number in 0_usize..4,
    ) {
        let mut world = World::new();
        for (wanted, killed, refused) in passes {
            world.pass(wanted, killed, &refused, None);
        }
        world.quiet_pass(last);
        let expected = world.meddle(deed, number);
        world.restart();
        prop_assert_eq!(world.quiet_pass(last).0, Vec::from_iter(expected));
    }
}
