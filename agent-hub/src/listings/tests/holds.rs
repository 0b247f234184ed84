//! Databases that many list no longer: what holds them, and how that ends.

use super::*;

const WITHOUT: &[(&str, &[&str])] = &[("au", ONE), ("eu", ONE), ("in", ONE), ("us", BOTH)];

/// Three of four have lost it for a time to live.
fn held(fields: &str) -> (World, Plan) {
    let mut world = World::new(fields);
    world.pass(0, ALL);
    (10..70).step_by(10).for_each(|minute| drop(world.pass(minute, WITHOUT)));
    let plan = world.pass(70, WITHOUT);
    (world, plan)
}

#[test]
fn what_many_list_no_longer_stays_until_they_list_it_again_or_a_person_acknowledges() {
    let (mut world, held) = held("membership: {guardTimeLimit: 1s}, ");
    let told = held.held[0].to_string();
    assert!(told.starts_with("3 of 4 partitions that had the database 'Logs' are not seen to list it"), "{told}");
    assert_eq!((held.held.len(), shown(&held), held.kept.len()), (1, vec![], 3));
    let hash = held.released.unwrap().hash;
    let mut others = world.clone();
    for minute in (80..1000).step_by(10) {
        // Long after the last list that had it, also by another process each time.
        others.restart();
        for world in [&mut world, &mut others] {
            let plan = world.pass(minute, WITHOUT);
            assert_eq!((&plan.held, shown(&plan)), (&held.held, vec![]), "at minute {minute}");
            assert_eq!(plan.released.unwrap().hash, hash, "at minute {minute}");
        }
    }
    let again = world.clone().pass(1000, ALL);
    assert_eq!((again.held, again.changes), (vec![], vec![]));
    world.acknowledged = Some(hash);
    world.restart();
    let plan = world.pass(1010, WITHOUT);
    assert_eq!((plan.acknowledged, plan.held), (held.held, vec![]));
    for minute in [1020, 1030] {
        assert_eq!(world.members("Logs_Partitions"), ["us"]);
        let plan = world.pass(minute, WITHOUT);
        assert_eq!((plan.held, plan.changes), (vec![], vec![]));
    }
}

#[test]
fn what_a_zone_lists_no_longer_stays_though_the_rest_of_the_fleet_does() {
    let fleet = |lost: usize| -> Vec<(&str, &[&str])> {
        let hosts = ["ap1", "ap2", "ap3", "eu1", "eu2", "eu3", "us1", "us2"];
        hosts.iter().enumerate().map(|(index, host)| (*host, if index < lost { ONE } else { BOTH })).collect()
    };
    for (lost, held) in [(2, None), (3, Some("3 of 3 partitions of zone 'ap' that had the database 'Logs' are not"))] {
        let mut world = World::new("");
        world.zones = fleet(0).into_iter().map(|(host, _)| (host, &host[..2])).collect();
        world.pass(0, &fleet(0));
        (10..70).step_by(10).for_each(|minute| drop(world.pass(minute, &fleet(lost))));
        let plan = world.pass(70, &fleet(lost));
        let told = plan.held.first().map(ToString::to_string).unwrap_or_default();
        assert!(held.map_or(told.is_empty(), |held| told.starts_with(held)), "{lost}: {told}");
        assert_eq!(plan.kept.len(), if held.is_some() { 3 } else { 0 });
        assert_eq!(world.members("Logs_Partitions").len(), if held.is_some() { 8 } else { 6 });
    }
}

#[test]
fn when_some_list_it_again_who_does_not_yet_stays_for_one_time_to_live() {
    let some: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", ONE), ("us", BOTH)];
    for is_restarted in [false, true] {
        let mut world = held("").0;
        for minute in (80..140).step_by(10) {
            if is_restarted {
                world.restart();
            }
            let plan = world.pass(minute, some);
            let told = plan.held[0].to_string();
            assert!(told.starts_with("a database is listed again that was held: 1 partition(s)"), "{told}");
            assert_eq!(plan.kept, BTreeMap::from([(cluster("in"), GuardReason::Recovering)]), "at minute {minute}");
            assert_eq!((plan.held.len(), plan.changes), (1, vec![]), "at minute {minute}");
        }
        let mut back = world.clone();
        let plan = back.pass(140, ALL);
        assert_eq!((plan.held, plan.changes), (vec![], vec![]));
        // Who has lost it alone is believed in the end.
        world.pass(140, some);
        world.pass(150, some);
        assert_eq!(world.members("Logs_Partitions"), ["au", "eu", "us"]);
        let plan = world.pass(160, some);
        assert_eq!((plan.held, plan.changes), (vec![], vec![]));
    }
    // Another database is none of that.
    let mut world = held("").0;
    let lists: [(&str, &[&str]); 4] = [("au", ONE), ("eu", ONE), ("in", ONE), ("us", &["Logs"])];
    (80..140).step_by(10).for_each(|minute| drop(world.pass(minute, &lists)));
    let plan = world.pass(140, &lists);
    assert_eq!(plan.kept.len(), 3, "{:?}", plan.held);
    assert_eq!((world.members("Logs_Partitions").len(), world.members("Metrics_Partitions").len()), (4, 3));
}

/// However long it was, and whatever else leaves meanwhile.
#[test]
fn a_hold_of_which_nothing_could_be_read_for_a_while_ends_as_any_other() {
    let some: &[(&str, &[&str])] = &[("au", BOTH), ("eu", BOTH), ("in", ONE), ("us", BOTH)];
    let (held, plan) = held("");
    let is_kept = |world: &mut World, minute: i64, what: &str| {
        let plan = world.pass(minute, some);
        assert_eq!(plan.kept, BTreeMap::from([(cluster("in"), GuardReason::Recovering)]), "{what}: {:?}", plan.held);
        assert_eq!(plan.changes, vec![], "{what}");
    };
    let mut deaf = held.clone();
    deaf.is_deaf = true;
    for minute in (80..210).step_by(10) {
        deaf.restart();
        assert!(matches!(deaf.pass(minute, WITHOUT).held[..], [HoldReason::ListingsUnread { .. }]));
    }
    deaf.is_deaf = false;
    is_kept(&mut deaf, 210, "since when");

    // The groups of all databases, as when the hub agent has lost its role there.
    let mut blind = held.clone();
    let hub = blind.hub.clone();
    blind.hub.databases.values_mut().for_each(|database| database.groups = Err("no".to_owned()));
    for minute in (80..210).step_by(10) {
        let plan = blind.pass(minute, WITHOUT);
        assert!(matches!(plan.held[..], [HoldReason::ListingsUnread { .. }]), "{:?}", plan.held);
    }
    blind.hub = hub;
    is_kept(&mut blind, 210, "groups");
    // Of a database that nobody has any more, there is nothing to wait for.
    let mut gone = held;
    gone.hub.databases.values_mut().for_each(|database| database.groups = Ok(BTreeMap::new()));
    assert_eq!((plan.held.len(), gone.pass(80, WITHOUT).held), (1, vec![]));
}

#[test]
fn a_recovery_ends_when_its_own_hold_says_though_another_goes_on() {
    const NEITHER: &[&str] = &["Other"];
    let mut world = held("").0;
    let lists: [(&str, &[&str]); 4] = [("au", NEITHER), ("eu", NEITHER), ("in", NEITHER), ("us", &["Logs"])];
    (80..150).step_by(10).for_each(|minute| drop(world.pass(minute, &lists)));
    let lists: [(&str, &[&str]); 4] = [("au", &["Logs"]), ("eu", &["Logs"]), ("in", NEITHER), ("us", &["Logs"])];
    let until = at(150) + SignedDuration::from_hours(1);
    for minute in (150..=210).step_by(10) {
        let plan = world.pass(minute, &lists);
        assert!(matches!(plan.held[0], HoldReason::UnlistedDatabases { unlisted: 4, .. }), "{:?}", plan.held);
        assert_eq!(plan.held[1..], [HoldReason::RecoveringDatabases { unlisted: 1, until }], "at minute {minute}");
    }
    assert_eq!(world.pass(220, &lists).held.len(), 1);
    assert_eq!((world.members("Logs_Partitions").len(), world.members("Metrics_Partitions").len()), (3, 4));
}

#[test]
fn a_hold_goes_on_while_since_when_cannot_be_read() {
    let (mut world, held) = held("");
    world.restart();
    world.is_deaf = true;
    let deaf = world.pass(80, WITHOUT);
    let unread = HoldReason::ListingsUnread { databases: vec![DatabaseName::new("Logs").unwrap()] };
    assert_eq!((deaf.held, deaf.changes), (vec![unread], vec![]));
    world.is_deaf = false;
    assert_eq!(world.pass(90, WITHOUT).held, held.held);
    // What was never held is not, and so is what is over.
    let mut one = World::new("");
    one.pass(0, ALL);
    one.is_deaf = true;
    let plan = one.pass(10, &[("au", ONE), ("eu", BOTH), ("in", BOTH), ("us", BOTH)]);
    assert_eq!((plan.held, plan.changes), (vec![], vec![]));
}

#[test]
fn a_hold_does_not_end_because_some_of_them_fall_silent_or_cannot_be_read() {
    let (world, held) = held("membership: {removalPercent: 100}, ");
    // One after the other.
    for silent in ["au", "eu", "in"] {
        let mut world = world.clone();
        for minute in (80..130).step_by(10) {
            let beating: Vec<_> = WITHOUT.iter().filter(|(host, _)| *host != silent).copied().collect();
            let plan = world.pass(minute, &beating);
            assert_eq!((plan.held, plan.changes), (held.held.clone(), vec![]), "{silent} at minute {minute}");
        }
    }
    // All three, of whom none has expired yet, and then have.
    let mut world = world;
    for minute in (80..400).step_by(10) {
        let plan = world.pass(minute, &[("us", BOTH)]);
        assert_eq!(plan.changes, vec![], "at minute {minute}");
    }
}

#[test]
fn who_expires_leaves_as_a_whole_although_its_database_is_held() {
    let (mut world, _) = held("membership: {massExpiryPercent: 100}, ");
    // By that share, nothing is held.
    assert_eq!(world.members("Logs_Partitions"), ["us"]);
    world = held("").0;
    for minute in (80..150).step_by(10) {
        world.pass(minute, &[("eu", ONE), ("in", ONE), ("us", BOTH)]);
    }
    assert_eq!(world.members("Metrics_Partitions"), ["eu", "in", "us"]);
    assert_eq!(world.members("Logs_Partitions"), ["eu", "in", "us"], "and the rest is held as before");
}

#[test]
fn both_of_two_are_held_and_one_of_two_and_what_one_alone_has_are_not() {
    for (lists, leaves) in [(&[("eu", ONE), ("us", ONE)][..], false), (&[("eu", ONE), ("us", BOTH)], true)] {
        let mut world = World::new("");
        world.pass(0, &[("eu", BOTH), ("us", BOTH)]);
        let plans: Vec<Plan> = [10, 20, 40, 60, 70].map(|minute| world.pass(minute, lists)).into();
        assert_eq!(!plans[4].changes.is_empty(), leaves, "{lists:?}");
        assert_eq!(plans[4].held.is_empty(), leaves, "{lists:?}");
    }
    let mut world = World::new("");
    world.pass(0, &[("eu", BOTH), ("us", ONE)]);
    for minute in [10, 20, 40, 60, 70] {
        world.pass(minute, &[("eu", ONE), ("us", ONE)]);
    }
    assert_eq!(world.members("Logs_Partitions"), Vec::<String>::new());
}
