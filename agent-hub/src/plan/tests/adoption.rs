//! Groups whose record was lost, and groups of ours that somebody changed.

use super::*;

#[test]
fn groups_whose_record_was_lost_are_ours_by_the_functions_that_ask_them() {
    let everybody = fleet(&[("eu", 1, logs(&["A", "OnlyEu"])), ("us", 1, logs(&["A"]))]);
    let hub = hub(&["FleetDiscovery", "Logs"]);
    let mut hub = applied(hub.clone(), &planned(&everybody, &hub));
    hub.claims.clear();
    let lost = hub.clone();
    adopt(&mut hub, &settings());
    assert_eq!(hub.claims.len(), 2, "{:?}", hub.claims);
    // The heartbeats are lost as well, and one partition beats again: the other stays, and its table's function too.
    let (_, judged) = Membership::default().step(
        fleet(&[("us", 1, logs(&["A"]))]).into_values().map(|partition| partition.beat).collect(),
        &hub,
        &Trust::default(),
        now(),
        &settings().thresholds,
        "geo",
    );
    let made = |name| Record { database: database(name), group: group("Logs_Partitions"), state: RecordState::Made };
    let Decision::Apply(plan) = plan(&judged, &hub, &Membership::default(), now(), &settings()) else { panic!() };
    assert_eq!((shown(&plan), plan.records), (Vec::new(), vec![made("FleetDiscovery"), made("Logs")]));
    // Where no function asks it, it may be a person's; so may one that has other members.
    let mut unasked = lost.clone();
    unasked.databases.get_mut(&database("Logs")).unwrap().functions.clear();
    adopt(&mut unasked, &settings());
    assert_eq!(unasked.claims.len(), 0);
    let mut other = lost;
    let groups = other.databases.get_mut(&database("FleetDiscovery")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Members(entities(&["mine"], "Logs")));
    adopt(&mut other, &settings());
    assert_eq!(other.claims.len(), 1);
}

#[test]
fn a_copy_that_cannot_be_read_when_the_record_was_lost_is_ours_when_it_can() {
    let before = fleet(&[("eu", 1, logs(&["A"]))]);
    let hub = hub(&["FleetDiscovery", "Logs", "Metrics"]);
    let mut hub = applied(hub.clone(), &planned(&before, &hub));
    hub.claims.clear();
    let old = hub.databases[&database("Metrics")].clone();
    hub.databases.get_mut(&database("Metrics")).unwrap().groups = Err("throttled".to_owned());
    adopt(&mut hub, &settings());
    // Another partition joins in the same pass: what can be read has new members, and the rest is as it was.
    let after = fleet(&[("eu", 1, logs(&["A"])), ("us", 1, logs(&["A"]))]);
    let plan = planned(&after, &hub);
    let alters = |place: &str| format!("alter entity group Logs_Partitions in {place}");
    assert_eq!(shown(&plan), [alters("FleetDiscovery"), alters("Logs")]);
    let mut hub = applied(hub, &plan);
    hub.databases.insert(database("Metrics"), old);
    // The next pass knows what this one has recorded.
    let claimed = plan.records.into_iter().map(|Record { database, group, state }| {
        let intended = match &state {
            RecordState::Intended(hash) => BTreeSet::from([hash.clone()]),
            RecordState::Made | RecordState::Gone => BTreeSet::new(),
        };
        ((database, group), Claim { is_made: state == RecordState::Made, intended })
    });
    let mut hub = Hub { claims: claimed.collect(), presumed: BTreeMap::new(), ..hub };
    adopt(&mut hub, &settings());
    assert_eq!(shown(&planned(&after, &hub)), [alters("Metrics")]);
}

#[test]
fn a_group_of_ours_that_a_person_changed_is_repaired() {
    let fleet = fleet(&[("eu", 1, logs(&["A"]))]);
    let hub = hub(&["Logs"]);
    let mut hub = applied(hub.clone(), &planned(&fleet, &hub));
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Foreign(entities(&["eu"], "Logs")));
    hub.leave_what_is_not_understood();
    assert_eq!(shown(&planned(&fleet, &hub)), ["alter entity group Logs_Partitions in Logs"]);
    // Somebody's group of which nothing is understood is somebody's.
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Theirs"), ExistingGroup::Foreign(entities(&[], "Logs")));
    hub.leave_what_is_not_understood();
    assert_eq!(shown(&planned(&fleet, &hub)), ["alter entity group Logs_Partitions in Logs"]);
    // Who would leave one of ours is not known, and what is asked of whom.
    let groups = hub.databases.get_mut(&database("Logs")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Logs_Partitions"), ExistingGroup::Foreign(entities(&[], "Logs")));
    hub.leave_what_is_not_understood();
    let plan = planned(&fleet, &hub);
    assert_eq!((shown(&plan), plan.unread_databases), (vec![], 1));
    assert!(plan.problems[0].contains("'Logs_Partitions' is ours, and no member of it is"), "{:?}", plan.problems);
}
