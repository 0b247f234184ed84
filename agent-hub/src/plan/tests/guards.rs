//! Who stays although it would leave, and what ends that.

use super::*;

/// Why nothing is changed.
fn hold(decision: Decision) -> Hold {
    match decision {
        Decision::Hold(hold) => hold,
        Decision::Apply(plan) => panic!("{:?}", shown(&plan)),
    }
}

/// Partitions by host and age in minutes; the first two letters of the host are its zone.
fn in_zones(partitions: &[(&str, i64)]) -> Fleet {
    let mut fleet = fleet(&partitions.iter().map(|(host, age)| (*host, *age, logs(&["A"]))).collect::<Vec<_>>());
    for (endpoint, partition) in &mut fleet {
        let zone = &endpoint.host()[..2];
        set_attribute(&mut partition.beat, "geo", zone);
        partition.zone = Some(zone.to_owned());
    }
    fleet
}

#[test]
fn zero_live_heartbeats_hold_everything_and_the_hold_names_what_would_be_done() {
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["A"]))]), &hub));
    assert_eq!(hold(decided(&fleet(&[]), &hub, &settings())).reason, HoldReason::NoHeartbeatYet);
    for dark in [fleet(&[("eu", 700, logs(&["A"]))]), fleet(&[("eu", 61, logs(&["A"])), ("us", 500, logs(&["A"]))])] {
        let known = dark.len();
        let hold = hold(decided(&dark, &hub, &settings()));
        assert_eq!(hold.reason, HoldReason::NoLiveHeartbeat { known });
        let released: Vec<_> = hold.released.unwrap().changes.iter().map(ToString::to_string).collect();
        assert_eq!(released, ["drop function federated_A in Logs", "drop entity group Logs_Partitions in Logs"]);
    }
}

#[test]
fn a_hold_is_set_aside_by_acknowledging_exactly_what_it_holds_back() {
    let hub = hub(&["Logs"]);
    let dark = fleet(&[("eu", 700, logs(&["A"]))]);
    let hub = applied(hub.clone(), &planned(&fleet(&[("eu", 1, logs(&["A"]))]), &hub));
    let held = hold(decided(&dark, &hub, &settings())).released.unwrap();
    let with = |hash: &str| Settings { acknowledged_plan: Some(hash.to_owned()), ..settings() };
    assert_eq!(hold(decided(&dark, &hub, &with("000000000000"))).released.as_ref(), Some(&held));
    let told = format!(
        "acknowledgedPlan is 000000000000, the hash of another plan: that of the one that is held is {}",
        held.hash
    );
    assert_eq!(held.other_than(Some("000000000000")), Some(told));
    assert_eq!((held.other_than(Some(&held.hash)), held.other_than(None)), (None, None));
    let plan = planned_with(&with(&held.hash), &dark, &hub);
    assert_eq!(plan.changes, held.changes);
    assert_eq!(plan.acknowledged, [HoldReason::NoLiveHeartbeat { known: 1 }]);
    // Nor is the same plan in another silence: nobody was asked about that one.
    let again = fleet(&[("eu", 800, logs(&["A"]))]);
    assert!(matches!(decided(&again, &hub, &with(&held.hash)), Decision::Hold(_)));
    // Another plan is another hash: what was acknowledged once is no licence.
    let more = json!([{"database": "Logs", "tables": ["A", "B"]}]);
    let hub = applied(self::hub(&["Logs"]), &planned(&fleet(&[("eu", 1, more)]), &self::hub(&["Logs"])));
    assert!(matches!(decided(&dark, &hub, &with(&held.hash)), Decision::Hold(_)));
}

#[test]
fn a_fleet_that_comes_back_has_one_time_to_live_for_it() {
    let hub = hub(&["Logs"]);
    let all = |ages: [i64; 3]| {
        let named = ["asia", "eu", "us"].into_iter().zip(ages);
        fleet(&named.map(|(host, age)| (host, age, logs(&["A"]))).collect::<Vec<_>>())
    };
    let hub = applied(hub.clone(), &planned(&all([1, 1, 1]), &hub));
    let ttl = settings().thresholds.time_to_live;
    let mut membership = watched();
    membership.partitions.insert(cluster("us"), silent_since(Timestamp::UNIX_EPOCH));
    let mut decide = |fleet: &Fleet, at: Timestamp| {
        let decision = plan(&with_forgotten(fleet.clone(), &hub), &hub, &membership, at, &settings());
        let held = match &decision {
            Decision::Hold(hold) => vec![&hold.reason],
            Decision::Apply(plan) => plan.held.iter().collect(),
        };
        membership.note(&held.into_iter().flat_map(HoldReason::scopes).collect(), at, ttl);
        decision
    };
    assert!(matches!(decide(&all([90, 90, 90]), now()), Decision::Hold(_)));
    let until = now() + ttl;
    let kept = |decision: Decision| match decision {
        Decision::Apply(plan) if plan.changes.is_empty() => plan.held,
        other => panic!("{other:?}"),
    };
    let recovering = HoldReason::Recovering { silent: 1, until };
    // Two of three are back, one is not; then its row is gone, too.
    assert_eq!(kept(decide(&all([1, 1, 90]), now())), std::slice::from_ref(&recovering));
    let us_forgotten = fleet(&[("asia", 1, logs(&["A"])), ("eu", 1, logs(&["A"]))]);
    assert_eq!(kept(decide(&us_forgotten, now())), [recovering]);
    assert_eq!(kept(decide(&all([1, 1, 1]), until)), []);
    // One time to live after the hold it is believed to be gone.
    let later = until + SignedDuration::from_secs(1);
    let Decision::Apply(plan) = decide(&us_forgotten, later) else { panic!("beats are there") };
    assert_eq!(plan.changes[0].reason(), "joined: none; left: https://us.kusto.windows.net");
}

#[test]
fn partitions_that_fall_silent_together_stay_and_one_alone_leaves() {
    let partitions = |ages: [i64; 4]| {
        let hosts = ["asia", "au", "eu", "us"];
        fleet(&hosts.iter().zip(ages).map(|(host, age)| (*host, age, logs(&["A"]))).collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&partitions([1; 4]), &hub));
    // Beats stopped together, so the first expires while the others are suspect.
    for (ages, silent) in [([61, 59, 58, 1], 3), ([61, 62, 63, 1], 3), ([61, 59, 58, 57], 4)] {
        let plan = planned(&partitions(ages), &hub);
        let mass = HoldReason::MassExpiry { silent, of: 4, zone: None };
        assert_eq!((shown(&plan), &plan.held), (vec![], &vec![mass]), "{ages:?}");
        assert!(plan.released.is_some());
    }
    for ages in [[61, 1, 1, 1], [61, 59, 1, 1]] {
        let plan = planned(&partitions(ages), &hub);
        assert_eq!(plan.held, []);
        assert_eq!(plan.changes[0].reason(), "joined: none; left: https://asia.kusto.windows.net");
    }
    // What a person added to a group hides nobody who is in it.
    let mut odd = hub.clone();
    for content in odd.databases.values_mut() {
        for group in content.groups.as_mut().unwrap().values_mut() {
            *group = ExistingGroup::Foreign(group.members().clone());
        }
    }
    let plan = planned(&partitions([61, 59, 58, 1]), &odd);
    assert_eq!(plan.held, [HoldReason::MassExpiry { silent: 3, of: 4, zone: None }]);
    let Change::AlterGroup { members, .. } = &plan.changes[0] else { panic!("{:?}", shown(&plan)) };
    assert_eq!((plan.changes.len(), members.len()), (1, 4));
    // What has left long ago weighs nothing.
    let without = applied(hub.clone(), &planned(&partitions([61, 1, 1, 1]), &hub));
    assert_eq!(planned(&partitions([9999, 1, 1, 1]), &without), Plan::default());
}

#[test]
fn whose_table_cannot_be_read_does_not_beat_and_is_silent_only_if_it_was() {
    let partly_read = |ages: &[i64], unread: bool| {
        let hosts: Vec<String> = (0..ages.len()).map(|number| format!("p{number}")).collect();
        let partitions = hosts.iter().zip(ages).map(|(host, age)| (host.as_str(), *age, logs(&["A"])));
        let mut fleet = fleet(&partitions.collect::<Vec<_>>());
        fleet.last_entry().unwrap().get_mut().beat.unread = unread.then(|| "no such column".into());
        fleet
    };
    let mass = |silent, of| vec![HoldReason::MassExpiry { silent, of, zone: None }];
    let empty = hub(&["Logs"]);
    // Three make a mass, and more than a half of all. Whoever was silent when it was read last is silent all the same.
    for (ages, read, unread) in
        [([61, 59, 58, 1, 1, 1].as_slice(), vec![], mass(3, 5)), (&[61, 59, 1, 58], mass(3, 4), mass(3, 4))]
    {
        let hub = applied(empty.clone(), &planned(&partly_read(&vec![1; ages.len()], false), &empty));
        let held = |unread| planned(&partly_read(ages, unread), &hub).held;
        assert_eq!((held(false), held(true)), (read, unread), "{ages:?}");
    }
    // Where nobody else beats, nothing is decided.
    let hub = applied(empty.clone(), &planned(&partly_read(&[1, 1], false), &empty));
    assert_eq!(
        hold(decided(&partly_read(&[61, 1], true), &hub, &settings())).reason,
        HoldReason::NoLiveHeartbeat { known: 2 }
    );
}

#[test]
fn half_a_fleet_may_leave_bit_by_bit_more_is_not_believed_and_a_whole_one_never() {
    let hosts: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    let silent = |count: usize, age: i64| {
        let age_of = |index: usize| if index < count { age } else { 1 };
        let partitions = hosts.iter().enumerate().map(|(index, host)| (host.as_str(), age_of(index), logs(&["A"])));
        fleet(&partitions.collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let all = applied(hub.clone(), &planned(&silent(0, 1), &hub));
    assert_eq!(planned(&silent(10, 61), &all).held, [HoldReason::RemovalBudget { leaving: 10, allowed: 3 }]);
    assert_eq!(planned(&silent(11, 61), &all).held, [HoldReason::MassExpiry { silent: 11, of: 20, zone: None }]);
    // Of two, both fell silent together: one of them a little earlier.
    let two = |first, second| fleet(&[("eu", first, logs(&["A"])), ("us", second, logs(&["A"]))]);
    let both = applied(hub.clone(), &planned(&two(1, 1), &hub));
    assert_eq!(planned(&two(61, 59), &both).held, [HoldReason::MassExpiry { silent: 2, of: 2, zone: None }]);
}

#[test]
fn every_reason_has_the_label_of_its_name() {
    let reasons = [
        (HoldReason::NoHeartbeatYet, "no_live_heartbeat"),
        (HoldReason::NoLiveHeartbeat { known: 1 }, "no_live_heartbeat"),
        (HoldReason::MassExpiry { silent: 1, of: 1, zone: None }, "mass_expiry"),
        (HoldReason::Recovering { silent: 1, until: now() }, "recovering"),
        (HoldReason::RecoveringDatabases { unlisted: 1, until: now() }, "recovering"),
        (HoldReason::StartupGrace { silent: 1 }, "startup_grace"),
        (HoldReason::RemovalBudget { leaving: 2, allowed: 1 }, "removal_budget"),
        (
            HoldReason::UnlistedDatabases {
                database: database("Logs"),
                unlisted: 3,
                of: 4,
                zone: None,
                more: 0,
                own: Vec::new(),
            },
            "unlisted_databases",
        ),
        (HoldReason::ListingsUnread { databases: Vec::new() }, "unlisted_databases"),
        (HoldReason::IncompleteRead { why: String::new() }, "incomplete_read"),
    ];
    for (reason, label) in &reasons {
        assert_eq!(reason.label().as_str(), *label);
    }
    let labels: BTreeSet<_> = reasons.iter().map(|(reason, _)| reason.label()).collect();
    assert_eq!(labels.len(), GuardReason::ALL.len());
}

#[test]
fn a_zone_that_falls_silent_together_stays_while_the_rest_of_the_fleet_goes_on() {
    let zoned = |ages: [i64; 8]| {
        let hosts = ["eu1", "eu2", "eu3", "us1", "us2", "us3", "us4", "us5"];
        in_zones(&hosts.iter().copied().zip(ages).collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&zoned([1; 8]), &hub));
    let plan = planned(&zoned([61, 62, 63, 90, 1, 1, 1, 1]), &hub);
    assert_eq!(plan.held, [HoldReason::MassExpiry { silent: 3, of: 3, zone: Some("eu".to_owned()) }]);
    assert_eq!(plan.changes[0].reason(), "joined: none; left: https://us1.kusto.windows.net");
    // Most of a zone is as much as all of it, and here less than half of the fleet.
    let plan = planned(&zoned([1, 1, 1, 61, 62, 63, 1, 1]), &hub);
    assert_eq!(plan.held, [HoldReason::MassExpiry { silent: 3, of: 5, zone: Some("us".to_owned()) }]);
    assert_eq!(plan.changes, []);
}

#[test]
fn a_zone_that_comes_back_has_one_time_to_live_for_it_and_a_time_limit_ends_that() {
    let zoned = |ages: [i64; 6]| {
        let hosts = ["eu1", "eu2", "eu3", "us1", "us2", "us3"];
        in_zones(&hosts.iter().copied().zip(ages).collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&zoned([1; 6]), &hub));
    let ttl = settings().thresholds.time_to_live;
    let mut membership = watched();
    membership.note(&[crate::membership::Scope::Zone("eu".to_owned())].into(), now(), ttl);
    let decide = |ages: [i64; 6], settings: &Settings| match plan(&zoned(ages), &hub, &membership, now(), settings) {
        Decision::Apply(plan) => (plan.held, plan.changes.len()),
        Decision::Hold(hold) => panic!("{}", hold.reason),
    };
    // One of the zone that was dark is not back; one of another zone is as good as alone.
    let recovering = HoldReason::Recovering { silent: 1, until: now() + ttl };
    assert_eq!(decide([61, 1, 1, 1, 1, 1], &settings()), (vec![recovering], 0));
    assert_eq!(decide([1, 1, 1, 61, 1, 1], &settings()), (vec![], 1));
    // The fixture's partitions have been expired since their last beat.
    let mut limited = settings();
    limited.guards.time_limit = Some(SignedDuration::from_mins(61));
    assert_eq!(decide([61, 1, 1, 1, 1, 1], &limited), (vec![], 1));
}

#[test]
fn a_few_leave_in_one_pass_those_first_that_are_silent_for_the_longest() {
    let hosts: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    let partitions = |age: fn(usize) -> i64| {
        let named = hosts.iter().enumerate();
        fleet(&named.map(|(number, host)| (host.as_str(), age(number), logs(&["A"]))).collect::<Vec<_>>())
    };
    let hub = hub(&["Logs"]);
    let mut hub = applied(hub.clone(), &planned(&partitions(|_| 1), &hub));
    let some = partitions(|number| if number < 5 { 100 + i64::try_from(number).unwrap() } else { 1 });
    let plan = planned(&some, &hub);
    assert_eq!(plan.held, [HoldReason::RemovalBudget { leaving: 5, allowed: 3 }]);
    assert!(plan.changes[0].reason().ends_with(
        "left: https://p02.kusto.windows.net, https://p03.kusto.windows.net, https://p04.kusto.windows.net"
    ));
    hub = applied(hub, &plan);
    let rest = planned(&some, &hub);
    assert_eq!(rest.held, []);
    assert_eq!(planned(&some, &applied(hub, &rest)), Plan::default());
}

#[test]
fn an_agent_that_has_not_watched_for_a_time_to_live_removes_nobody() {
    let two = |age| fleet(&[("eu", age, logs(&["A"])), ("us", 1, logs(&["A"])), ("asia", 1, logs(&["A"]))]);
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&two(1), &hub));
    let mut membership = Membership { watching_since: Some(now() - SignedDuration::from_mins(59)), ..watched() };
    let decide = |membership: &Membership| match plan(&two(61), &hub, membership, now(), &settings()) {
        Decision::Apply(plan) => (plan.held, plan.changes.len()),
        Decision::Hold(hold) => panic!("{}", hold.reason),
    };
    assert_eq!(decide(&membership), (vec![HoldReason::StartupGrace { silent: 1 }], 0));
    // An earlier process saw it fall silent long enough ago.
    membership.partitions.insert(cluster("eu"), silent_since(now() - SignedDuration::from_mins(60)));
    assert_eq!(decide(&membership), (vec![], 1));
    let watched = Membership { watching_since: Some(now() - SignedDuration::from_mins(60)), ..Membership::default() };
    assert_eq!(decide(&watched), (vec![], 1));
}

#[test]
fn whoever_a_person_blocks_leaves_at_once_and_guards_do_not_ask() {
    let four = |state: PartitionState| {
        let mut fleet = fleet(&["a", "b", "c", "d"].map(|host| (host, 1, logs(&["A"]))));
        fleet.iter_mut().take(3).for_each(|(_, partition)| partition.state = state);
        fleet
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&four(PartitionState::Live), &hub));
    let blocked = planned(&four(PartitionState::Blocked), &hub);
    assert_eq!((blocked.held, blocked.changes.len()), (vec![], 1));
    // A list that excludes most of the fleet may be a slip.
    let untrusted = planned(&four(PartitionState::Untrusted), &hub);
    assert_eq!(untrusted.held, [HoldReason::MassExpiry { silent: 3, of: 4, zone: None }]);
}

#[test]
fn a_list_that_excludes_partitions_is_acknowledged_although_they_go_on_beating() {
    let excluded = |age| {
        let mut fleet = fleet(&["a", "b", "c", "d"].map(|host| (host, age, logs(&["A"]))));
        for partition in fleet.values_mut().take(3) {
            (partition.state, partition.since) = (PartitionState::Untrusted, now() - SignedDuration::from_hours(1));
        }
        fleet
    };
    let all = fleet(&["a", "b", "c", "d"].map(|host| (host, 1, logs(&["A"]))));
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&all, &hub));
    let held = planned(&excluded(1), &hub);
    assert!(held.held[0].to_string().contains("are not trusted any more"), "{:?}", held.held);
    let hash = held.released.map(|released| released.hash);
    let acknowledged = Settings { acknowledged_plan: hash, ..settings() };
    let plan = planned_with(&acknowledged, &excluded(2), &hub);
    assert_eq!((plan.held, plan.changes.len()), (vec![], 1));
    let mut limited = settings();
    (limited.guards.removal_percent, limited.guards.time_limit) = (100, Some(SignedDuration::from_hours(1)));
    let plan = planned_with(&limited, &excluded(1), &hub);
    assert_eq!((plan.held, plan.changes.len()), (vec![], 1));
}

#[test]
fn a_zone_is_held_also_while_its_attributes_cannot_be_read_and_when_its_rows_are_gone() {
    let settings = settings();
    let hosts = ["eu1", "eu2", "eu3", "us1", "us2", "us3", "us4", "us5"];
    let all = fleet(&hosts.map(|host| (host, 1, logs(&["A"]))));
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&all, &hub));
    let beats = |is_read: bool, are_there: bool| {
        let fleet = in_zones(&hosts.map(|host| (host, if host < "us" { 61 } else { 1 })));
        let beats = fleet.into_values().map(|partition| partition.beat);
        let beats = beats.filter(move |beat| are_there || beat.endpoint.host() > "us").map(move |mut beat| {
            if !is_read {
                beat = Beat { inventory: Inventory::Unknown, metadata: Arc::default(), ..beat };
            }
            beat
        });
        beats.collect::<Vec<_>>()
    };
    let judged = |membership: &Membership, beats| {
        let thresholds = &settings.thresholds;
        let (after, fleet) = membership.step(beats, &hub, &Trust::default(), now(), thresholds, "geo");
        let after = Membership { watching_since: Some(Timestamp::UNIX_EPOCH), ..after };
        let Decision::Apply(plan) = plan(&fleet, &hub, &after, now(), &settings) else { panic!("five beat") };
        (after, plan.held)
    };
    let zone = HoldReason::MassExpiry { silent: 3, of: 3, zone: Some("eu".to_owned()) };
    let (known, held) = judged(&watched(), beats(true, true));
    assert_eq!(held, std::slice::from_ref(&zone));
    assert_eq!(
        judged(&known, beats(false, true)).1,
        std::slice::from_ref(&zone),
        "restarted, with a reading that lacks schemas"
    );
    let mut wordless = beats(true, true);
    wordless.iter_mut().for_each(|beat| beat.metadata = Arc::default());
    assert_eq!(judged(&known, wordless).1, std::slice::from_ref(&zone), "attributes that nobody can read");
    let (known, held) = judged(&known, beats(true, false));
    assert_eq!(held, std::slice::from_ref(&zone), "heartbeatRetention is over");
    // Nothing tells that they are members while the groups cannot be read, and nothing of their zone but what was known.
    let mut unread = hub.clone();
    unread.databases.values_mut().for_each(|database| database.groups = Err("throttled".to_owned()));
    let (mut known, thresholds) = (known, &settings.thresholds);
    for _ in 0..2 {
        known = known.step(beats(true, false), &unread, &Trust::default(), now(), thresholds, "geo").0;
    }
    assert_eq!(judged(&known, beats(true, false)).1, [zone], "the groups can be read again");
}

#[test]
fn whoever_has_no_row_any_more_is_silent_since_its_last_beat_that_was_seen() {
    let settings = settings();
    let hosts = ["eu", "us", "asia", "india"];
    let all = fleet(&hosts.map(|host| (host, 1, logs(&["A"]))));
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&all, &hub));
    // Somebody deletes the rows of one, or makes its table anew.
    let judged = |membership: &Membership, minutes: i64| {
        let at = now() + SignedDuration::from_mins(minutes);
        let beats = all.values().map(|partition| Beat { received: at, ..partition.beat.clone() });
        let beats = beats.filter(|beat| minutes == 0 || beat.endpoint != cluster("eu")).collect();
        let (after, fleet) = membership.step(beats, &hub, &Trust::default(), at, &settings.thresholds, "geo");
        let Decision::Apply(plan) = plan(&fleet, &hub, &after, at, &settings) else { panic!("three beat") };
        (after, fleet[&cluster("eu")].state, plan.changes.len())
    };
    let mut known = judged(&watched(), 0).0;
    for (minutes, state, changes) in
        [(5, PartitionState::Live, 0), (20, PartitionState::Suspect, 0), (60, PartitionState::Suspect, 0)]
    {
        let judged = judged(&known, minutes);
        assert_eq!((judged.1, judged.2), (state, changes), "{minutes}");
        known = judged.0;
    }
    // That it is silent was seen first at minute 20.
    for (minutes, changes) in [(61, 0), (79, 0), (80, 1)] {
        let judged = judged(&known, minutes);
        assert_eq!((judged.1, judged.2), (PartitionState::Expired, changes), "{minutes}");
    }
    // Of all, none is seen to beat.
    let at = now() + SignedDuration::from_mins(5);
    let (after, fleet) = known.step(Vec::new(), &hub, &Trust::default(), at, &settings.thresholds, "geo");
    assert!(fleet.values().all(|partition| partition.state != PartitionState::Expired));
    let Decision::Hold(hold) = plan(&fleet, &hub, &after, at, &settings) else { panic!("there is no row at all") };
    assert_eq!(hold.reason, HoldReason::NoHeartbeatYet);
}

#[test]
fn a_guard_with_a_time_limit_ends_by_it() {
    let three = |age| fleet(&["a", "b", "c", "d"].map(|host| (host, if host == "d" { 1 } else { age }, logs(&["A"]))));
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&three(1), &hub));
    let mut settings = settings();
    settings.guards.removal_percent = 100;
    settings.guards.time_limit = Some(SignedDuration::from_hours(2));
    for (age, leaves) in [(119, false), (120, true)] {
        let plan = planned_with(&settings, &three(age), &hub);
        assert_eq!(plan.held.is_empty(), leaves, "{age}");
        assert_eq!(plan.changes.len(), usize::from(leaves));
    }
}

#[test]
fn while_removals_are_held_what_joins_is_added() {
    let three = |age, tables: &[&str]| {
        fleet(&[
            ("asia", age, logs(&["A"])),
            ("au", age, logs(&["A"])),
            ("eu", age, logs(&["A"])),
            ("us", 1, logs(tables)),
        ])
    };
    let hub = hub(&["Logs"]);
    let hub = applied(hub.clone(), &planned(&three(1, &["A"]), &hub));
    let plan = planned(&three(61, &["A", "New"]), &hub);
    assert_eq!(plan.held.len(), 1);
    assert_eq!(shown(&plan), ["create function federated_New in Logs"]);
}
