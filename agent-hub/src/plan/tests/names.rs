//! Partitions choose names, and two of them may give one group.

use super::*;

#[test]
fn no_name_of_a_database_gives_a_partition_the_group_of_another() {
    // The name of the group that functions of 'Alpha' ask where a person's has the usual one.
    let forged = json!([{"database": "federated_Alpha", "tables": ["A"]}]);
    let empty = hub(&["Alpha"]);
    let mut hub = applied(empty.clone(), &planned(&fleet(&[("stranger", 1, forged.clone())]), &empty));
    let both = fleet(&[("eu", 1, json!([{"database": "Alpha", "tables": ["A"]}])), ("stranger", 1, forged)]);
    let asking = |group: &str| format!("macro-expand isfuzzy=true best_effort=true ['{group}'] as X ( X.['A'] )");
    assert_eq!(bodies(&planned(&both, &hub)), [asking("Alpha_Partitions")]);

    let groups = hub.databases.get_mut(&database("Alpha")).unwrap().groups.as_mut().unwrap();
    groups.insert(group("Alpha_Partitions"), ExistingGroup::Members(entities(&["mine"], "Alpha")));
    let plan = planned(&both, &hub);
    assert_eq!(bodies(&plan), [asking("federated_Alpha_Partitions")]);
    let told = "'federated_Alpha' gets no entity group 'federated_Alpha_Partitions': one of another database has that name, which comes first";
    assert!(plan.problems.iter().any(|problem| problem == told), "{:?}", plan.problems);
    let hub = applied(hub, &plan);
    let asked = &hub.databases[&database("Alpha")].groups.as_ref().unwrap()[&group("federated_Alpha_Partitions")];
    assert_eq!(*asked, ExistingGroup::Members(entities(&["eu"], "Alpha")));
    assert_eq!(shown(&planned(&both, &hub)), Vec::<String>::new());

    // The person's goes: until Alpha's functions ask another, theirs stays Alpha's.
    let mut hub = hub;
    let groups = hub.databases.get_mut(&database("Alpha")).unwrap().groups.as_mut().unwrap();
    groups.remove(&group("Alpha_Partitions"));
    for _ in 0..4 {
        let plan = planned(&both, &hub);
        hub = applied(hub, &plan);
        let groups = hub.databases[&database("Alpha")].groups.as_ref().unwrap();
        let asked = groups.get(&group("federated_Alpha_Partitions"));
        let asks_it = hub.databases[&database("Alpha")]
            .functions
            .values()
            .any(|function| format!("{function:?}").contains("federated_Alpha_Partitions"));
        assert!(!asks_it || asked == Some(&ExistingGroup::Members(entities(&["eu"], "Alpha"))), "{asked:?}");
    }
    assert_eq!(shown(&planned(&both, &hub)), Vec::<String>::new());
}

#[test]
fn a_database_comes_before_the_value_of_an_attribute_that_gives_its_groups_name() {
    let settings = grouped_by(&["geo"]);
    let mut fleet = fleet(&[("eu", 1, logs(&[])), ("us", 1, json!([{"database": "Logs_Partitions_X", "tables": []}]))]);
    let beat = &mut fleet.get_mut(&cluster("eu")).unwrap().beat;
    set_attribute(beat, "geo", "X_Partitions");
    let plan = planned_with(&settings, &fleet, &hub(&["Other"]));
    let members: BTreeMap<_, _> = plan
        .changes
        .iter()
        .map(|change| match change {
            Change::CreateGroup { group, members, .. } => (group.as_str(), members.clone()),
            other => panic!("{other}"),
        })
        .collect();
    let expected = [
        ("Logs_Partitions", entities(&["eu"], "Logs")),
        ("Logs_Partitions_X_Partitions", entities(&["us"], "Logs_Partitions_X")),
    ];
    assert_eq!(members, BTreeMap::from(expected));
    let told = "'Logs' gets no entity group 'Logs_Partitions_X_Partitions'";
    assert!(plan.problems.iter().any(|problem| problem.starts_with(told)), "{:?}", plan.problems);
}

#[test]
fn of_groups_that_are_not_made_those_of_most_partitions_are_told_first() {
    let settings = grouped_by(&["geo"]);
    // No name is left for their groups, and they come before all others in any order of names.
    let long = (0..60).map(|number| json!({"database": format!("0{number:0>1019}")}));
    let mut fleet = fleet(&[("eu", 1, logs(&[])), ("us", 1, logs(&[])), ("stranger", 1, long.collect::<Value>())]);
    // What these two would have is the group of a database of the stranger's.
    let Inventory::Known(inventory) = &mut fleet.get_mut(&cluster("stranger")).unwrap().beat.inventory else {
        panic!("it has databases")
    };
    Arc::make_mut(inventory).0.insert(database("Logs_Partitions_X"), Arc::default());
    for host in ["eu", "us"] {
        let beat = &mut fleet.get_mut(&cluster(host)).unwrap().beat;
        set_attribute(beat, "geo", "X_Partitions");
    }
    let plan = planned_with(&settings, &fleet, &hub(&["Other"]));
    let of_groups: Vec<_> = plan.problems.iter().filter(|problem| !problem.contains("the hub has none")).collect();
    assert!(of_groups[0].starts_with("'Logs' gets no entity group 'Logs_Partitions_X_Partitions'"), "{of_groups:?}");
    assert!(of_groups[1].starts_with("not federated: ") && of_groups.len() == 51, "{of_groups:?}");
    assert_eq!(of_groups[50], "11 more problems of entity groups");
}

#[test]
fn a_partition_that_makes_tables_up_takes_no_functions_from_the_others_and_has_so_many_itself() {
    let known = |tables: &[&str]| [("eu", 1, logs(tables)), ("us", 1, logs(tables))];
    let empty = hub(&["Logs"]);
    let hub = applied(empty.clone(), &planned(&fleet(&known(&["A"])), &empty));
    // As much as is believed of each, and before all others in any order of names.
    let made_up = |host: &'static str| {
        let names = (0..8_000).map(|number| format!("0-{host}-{number:0>900}"));
        (host, 1, json!([{"database": "Logs", "tables": names.collect::<Vec<_>>()}]))
    };
    let crowd = fleet(&[known(&["A", "B"]).as_slice(), &["x", "y", "z"].map(made_up)].concat());
    let plan = planned(&crowd, &hub);
    let texts: usize = plan.changes.iter().map(|change| change.request().text().len()).sum();
    assert!(texts < 20 * 1024 * 1024, "{texts} bytes of commands");
    let made = shown(&plan);
    for change in ["alter function federated_A in Logs", "create function federated_B in Logs"] {
        assert!(made.iter().any(|made| made == change), "{change} is not among {} changes", made.len());
    }
    assert!((3_000..8_000).contains(&made.len()), "{} changes", made.len());
    let told = plan.problems.iter().find(|problem| problem.contains("get no function")).expect("it is told");
    assert!(told.starts_with("'0-x-") && told.contains("more tables or views"), "{}", told.len());
    let named = ["x", "y", "z"].map(|host| format!("https://{host}.kusto.windows.net has most of these"));
    assert!(named.iter().any(|named| told.contains(named)), "{}", told.len());

    // What is there stays, and nothing goes to and fro.
    let hub = applied(hub, &plan);
    assert_eq!(shown(&planned(&crowd, &hub)), [""; 0]);
    // A table that others have later has room all the same.
    let later = fleet(&[known(&["A", "B", "Later"]).as_slice(), &["x", "y", "z"].map(made_up)].concat());
    assert_eq!(shown(&planned(&later, &hub)), ["create function federated_Later in Logs"]);
    let honest = ["eu", "us", "x", "y", "z"].map(|host| (host, 1, logs(&["A", "B"])));
    let gone = shown(&planned(&fleet(&honest), &hub));
    let without = gone.iter().filter(|change| change.starts_with("drop function federated_0-")).count();
    assert_eq!(without, made.len() - 3, "their functions go with them");
}

#[test]
fn a_partition_that_makes_databases_up_takes_no_groups_from_the_others_and_has_so_many_itself() {
    let databases = |names: &[&str]| names.iter().map(|name| json!({"database": name})).collect::<Value>();
    let known = |names: &[&str]| [("eu", 1, databases(names)), ("us", 1, databases(names))];
    let empty = hub(&["Logs", "Metrics"]);
    let hub = applied(empty.clone(), &planned(&fleet(&known(&["Logs", "Shared"])), &empty));
    // As many as are believed of each, and before all others in any order of names.
    let hosts = ["a", "b", "c", "d", "f", "g", "h", "i", "k", "l", "s", "t", "u", "v", "w", "x", "y", "z", "p", "q"];
    let made_up = |host: &'static str| {
        let names = (0..1_000).map(|number| format!("0-{host}-{number:0>20}"));
        (host, 1, names.map(|name| json!({"database": name})).collect::<Value>())
    };
    let crowd = fleet(&[known(&["Logs", "Shared", "New"]).as_slice(), &hosts.map(made_up)].concat());
    let plan = planned(&crowd, &hub);
    let made = shown(&plan);
    for database in ["Logs", "Metrics"] {
        let change = format!("create entity group New_Partitions in {database}");
        assert!(made.contains(&change), "{change} is not among {} changes", made.len());
    }
    assert!((15_000..30_000).contains(&made.len()), "{} changes", made.len());
    let told = plan.problems.iter().find(|problem| problem.contains("more are not made")).expect("it is told");
    assert!(told.starts_with("the entity group '0-"), "{told}");
    let named =
        hosts.iter().any(|host| told.contains(&format!("https://{host}.kusto.windows.net is in most of these")));
    assert!(named, "one that makes them up is named: {told}");
    // What is of more than one is seen before what is made up.
    let lacking: Vec<_> = plan.problems.iter().filter(|problem| problem.contains("the hub has none")).collect();
    assert!(lacking[0].contains("'New'") && lacking[1].contains("'Shared'"), "{lacking:?}");
    assert_eq!(lacking.len(), 50);
    let untold = "19952 more problems of databases that the hub lacks".to_owned();
    assert!(plan.problems.contains(&untold) && plan.problems.len() < 60, "{:?}", plan.problems);
    assert_eq!((plan.missing_databases.len(), &plan.missing_databases[0]), (20_002, &database("New")));

    // What is there stays, and nothing goes to and fro; what others have later has room all the same.
    let hub = applied(hub, &plan);
    assert_eq!(shown(&planned(&crowd, &hub)), [""; 0]);
    let later = fleet(&[known(&["Logs", "Shared", "New", "Later"]).as_slice(), &hosts.map(made_up)].concat());
    let later = shown(&planned(&later, &hub));
    assert_eq!(
        later,
        ["Logs", "Metrics"].map(|database| format!("create entity group Later_Partitions in {database}"))
    );
    // Their groups go with them.
    let honest = fleet(
        &[known(&["Logs", "Shared", "New"]).as_slice(), &hosts.map(|host| (host, 1, databases(&["Logs"])))].concat(),
    );
    let gone = shown(&planned(&honest, &hub));
    assert_eq!(gone.iter().filter(|change| change.starts_with("drop entity group 0-")).count(), made.len() - 2);
}

#[test]
fn attributes_that_partitions_make_up_take_no_groups_from_those_that_several_have() {
    let settings = grouped_by(&["geo"]);
    let names: Vec<String> = (0..9).map(|number| format!("Db{number}")).collect();
    let databases: Vec<&str> = names.iter().map(String::as_str).chain(["Logs"]).collect();
    let zoned = |partitions: &[(&str, &str)]| {
        let mut fleet = fleet(&partitions.iter().map(|(host, _)| (*host, 1, logs(&[]))).collect::<Vec<_>>());
        for (host, zone) in partitions {
            let beat = &mut fleet.get_mut(&cluster(host)).unwrap().beat;
            set_attribute(beat, "geo", *zone);
        }
        fleet
    };
    let planned = |fleet: &Fleet, hub: &Hub| planned_with(&settings, fleet, hub);
    let is_of = |change: &str, group: &str| databases.iter().any(|database| change == format!("{group} in {database}"));
    let known = [("eu", "z-north"), ("us", "z-north"), ("solo", "z-solo")];
    let empty = hub(&databases);
    let hub = applied(empty.clone(), &planned(&zoned(&known), &empty));
    // Each has a zone of its own, as long as an attribute may be, and before all others in any order of names.
    let crowd: Vec<(String, String)> = (0..2_000).map(|one| (format!("c{one}"), format!("0{one:0>255}"))).collect();
    let crowd: Vec<(&str, &str)> = crowd.iter().map(|(host, zone)| (&**host, &**zone)).collect();
    let grown = [known.as_slice(), &[("asia", "z-south"), ("india", "z-south")]].concat();
    let plan = planned(&zoned(&[&*grown, &*crowd].concat()), &hub);
    let made = shown(&plan);
    let south = made.iter().filter(|made| is_of(made, "create entity group Logs_Partitions_z-south"));
    assert_eq!(south.count(), databases.len(), "two partitions are in it");
    assert!((14_000..17_000).contains(&made.len()), "{} changes, of 20 thousand that are announced", made.len());
    assert!(!made.iter().any(|made| made.starts_with("drop")), "what is there stays");
    let told = plan.problems.iter().find(|problem| problem.contains("more are not made")).expect("it is told");
    assert!(told.starts_with("the entity group 'Logs_Partitions_00") && told.contains("https://c"), "{told}");

    // Nothing goes to and fro; a zone that several have later has room all the same, one of a single partition has none.
    let hub = applied(hub, &plan);
    assert_eq!(shown(&planned(&zoned(&[&*grown, &*crowd].concat()), &hub)), [""; 0]);
    let late = format!("z{:->255}", "");
    let later = [&*grown, &[("a", "z-later"), ("b", "z-later"), ("c", &*late)]].concat();
    let changes = shown(&planned(&zoned(&[&*later, &*crowd].concat()), &hub));
    let of = |group: &str| changes.iter().filter(|change| is_of(change, group)).count();
    assert_eq!(of("create entity group Logs_Partitions_z-later"), databases.len());
    assert_eq!(of("alter entity group Logs_Partitions"), databases.len());
    assert_eq!(changes.len(), 2 * databases.len(), "{changes:?}");
}

#[test]
fn a_value_of_two_attributes_names_the_groups_of_those_who_have_them_and_else_of_most() {
    let settings = grouped_by(&["geo", "tenant"]);
    let with = |partitions: &[(&str, &str)]| {
        let mut fleet = fleet(&partitions.iter().map(|(host, _)| (*host, 1, logs(&[]))).collect::<Vec<_>>());
        for (host, attribute) in partitions {
            let beat = &mut fleet.get_mut(&cluster(host)).unwrap().beat;
            set_attribute(beat, attribute, "prod");
        }
        fleet
    };
    let members = |hub: &Hub| {
        let groups = hub.databases[&database("Other")].groups.as_ref().unwrap();
        groups[&group("Logs_Partitions_prod")].clone()
    };
    let of = |hosts: &[&str]| ExistingGroup::Members(entities(hosts, "Logs"));
    let after = |fleet: &Fleet, hub: &Hub, told: Option<&str>| {
        let plan = planned_with(&settings, fleet, hub);
        let problem = plan.problems.iter().find(|problem| problem.starts_with("'prod' is a value of both"));
        assert_eq!(problem.map(|problem| problem.split(':').next().unwrap()), told);
        applied(hub.clone(), &plan)
    };
    let (of_tenant, of_geo) =
        (Some("'prod' is a value of both tenant and geo"), Some("'prod' is a value of both geo and tenant"));
    // One partition takes no group from two by its own attribute, though that comes first.
    let hub = after(&with(&[("a", "tenant"), ("b", "tenant"), ("x", "geo")]), &hub(&["Other"]), of_tenant);
    assert_eq!(members(&hub), of(&["a", "b"]));
    // Nor do many that come later.
    let crowd = [("a", "tenant"), ("b", "tenant"), ("x", "geo"), ("y", "geo"), ("z", "geo")];
    let hub = after(&with(&crowd), &hub, of_tenant);
    assert_eq!(members(&hub), of(&["a", "b"]));
    let hub = after(&with(&crowd[1..]), &hub, of_tenant);
    assert_eq!(members(&hub), of(&["b"]));
    // Nor does one that joins by both, is in many groups of its own, and then drops the other attribute.
    let many = (0..20).map(|number| json!({"database": format!("Own{number}")})).chain([json!({"database": "Logs"})]);
    let many = many.collect::<Value>();
    let stranger = |attributes: &[&str]| {
        let mut fleet = with(&crowd[..2]);
        fleet.extend(super::fleet(&[("s", 1, many.clone())]));
        let beat = &mut fleet.get_mut(&cluster("s")).unwrap().beat;
        attributes.iter().for_each(|attribute| set_attribute(beat, attribute, "prod"));
        fleet
    };
    let joined = after(&stranger(&["geo", "tenant"]), &hub, of_tenant);
    assert_eq!(members(&joined), of(&["a", "b", "s"]));
    assert_eq!(members(&after(&stranger(&["geo"]), &joined, of_tenant)), of(&["a", "b"]));
    // Once nobody has it by that attribute any more, it is theirs, and whoever has it by the other gets none.
    let hub = after(&with(&crowd[2..]), &hub, None);
    assert_eq!(members(&hub), of(&["x", "y", "z"]));
    assert_eq!(members(&after(&with(&crowd), &hub, of_geo)), of(&["x", "y", "z"]));
}

#[test]
fn where_the_record_of_groups_is_long_no_new_one_of_a_single_partition_is_made() {
    let databases = |names: &[&str]| names.iter().map(|name| json!({"database": name})).collect::<Value>();
    let empty = hub(&["Logs", "Own"]);
    let known = fleet(&[("eu", 1, databases(&["Logs", "Old"])), ("us", 1, databases(&["Logs"]))]);
    let mut hub = applied(empty.clone(), &planned(&known, &empty));
    let news = ["Logs", "Old", "Own", "Made", "Up", "Shared"];
    let grown = fleet(&[("eu", 1, databases(&news)), ("us", 1, databases(&["Logs", "Shared"]))]);
    let made = |groups: &[&str]| {
        let in_each = |group: &&str| ["Logs", "Own"].map(|place| format!("create entity group {group} in {place}"));
        groups.iter().flat_map(in_each).collect::<BTreeSet<_>>()
    };
    let changes = |hub: &Hub| shown(&planned(&grown, hub)).into_iter().collect::<BTreeSet<_>>();
    hub.records = 999_999;
    assert_eq!(
        changes(&hub),
        made(&["Made_Partitions", "Own_Partitions", "Shared_Partitions", "Up_Partitions"]),
        "that is not too long"
    );
    // What is there stays, the hub's own database has its group, and so has what two have.
    hub.records = 1_000_000;
    assert_eq!(changes(&hub), made(&["Own_Partitions", "Shared_Partitions"]));
    let told = "the entity group 'Made_Partitions' and 1 more are not made: 'AdxFederationObjects' has too many rows for new groups; https://eu.kusto.windows.net is in most of these: if it makes names up, block it, and then shorten it as README.md says under 'A record that is too long'";
    let problems = planned(&grown, &hub).problems;
    assert!(problems.iter().any(|problem| problem == told), "{problems:?}");
    // Two may make up the same names.
    hub.records = 2_999_999;
    assert_eq!(changes(&hub), made(&["Own_Partitions", "Shared_Partitions"]));
    hub.records = 3_000_000;
    assert_eq!(changes(&hub), made(&["Own_Partitions"]));
}

#[test]
fn a_partition_with_another_spelling_renames_no_group_of_a_value_where_that_of_all_is_left_out() {
    let settings = grouped_by(&["geo"]);
    let planned = |fleet: &Fleet, hub: &Hub| planned_with(&settings, fleet, hub);
    let in_north = |mut fleet: Fleet| {
        fleet.values_mut().for_each(|partition| set_attribute(&mut partition.beat, "geo", "north"));
        fleet
    };
    // The other name begins as another spelling of the one's groups would.
    let both = json!([{"database": "Logs", "tables": []}, {"database": "LOGS_Partitions_x", "tables": []}]);
    let (first, empty) = (in_north(fleet(&[("us", 1, both.clone())])), hub(&["Other"]));
    let mut hub = applied(empty.clone(), &planned(&first, &empty));
    // The record has no room for another.
    let (place, whole) = (database("Other"), EntityGroupName::new("Logs_Partitions").unwrap());
    hub.records = 3_000_000;
    hub.claims.remove(&(place.clone(), whole.clone()));
    hub.databases.get_mut(&place).unwrap().groups.as_mut().unwrap().remove(&whole);
    assert_eq!(shown(&planned(&first, &hub)), [""; 0]);
    let joined = in_north(fleet(&[("asia", 1, json!([{"database": "LOGS", "tables": []}])), ("us", 1, both)]));
    assert_eq!(shown(&planned(&joined, &hub)), ["alter entity group Logs_Partitions_north in Other"]);
}

#[test]
fn what_two_partitions_make_up_together_leaves_room_for_groups_of_the_hubs_own_databases() {
    let settings = grouped_by(&["geo"]);
    let planned = |fleet: &Fleet, hub: &Hub| planned_with(&settings, fleet, hub);
    let made_up = |pair: usize| {
        let names = (0..1_000).map(|number| json!({"database": format!("0-{pair}-{number:0>20}")}));
        names.collect::<Value>()
    };
    let hosts: Vec<String> = (0..40).map(|host| format!("h{host}")).collect();
    let crowd = hosts.iter().enumerate().map(|(number, host)| (host.as_str(), 1, made_up(number / 2)));
    let honest = ["eu", "us"].map(|host| (host, 1, logs(&[])));
    let mut fleet = fleet(&honest.into_iter().chain(crowd).collect::<Vec<_>>());
    let empty = hub(&["Logs", "Metrics"]);
    let plan = planned(&fleet, &empty);
    let made = shown(&plan).len();
    assert!((20_000..28_000).contains(&made), "{made} changes, of forty thousand that are announced");
    let hub = applied(empty, &plan);
    for host in ["eu", "us"] {
        set_attribute(&mut fleet.get_mut(&cluster(host)).unwrap().beat, "geo", "north");
    }
    let north = ["Logs", "Metrics"].map(|place| format!("create entity group Logs_Partitions_north in {place}"));
    assert_eq!(shown(&planned(&fleet, &hub)), north);
}

#[test]
fn more_databases_than_can_be_looked_at_are_left_out_and_those_of_most_partitions_are_not() {
    let databases = |names: &[&str]| names.iter().map(|name| json!({"database": name})).collect::<Value>();
    let known = |names: &[&str]| [("eu", 1, databases(names)), ("us", 1, databases(names))];
    let settings = grouped_by(&["geo", "tenant"]);
    let planned = |fleet: &Fleet, hub: &Hub| planned_with(&settings, fleet, hub);
    let empty = hub(&["Logs"]);
    let mut zoned = fleet(&[("solo", 1, databases(&["Alone"]))]);
    set_attribute(&mut zoned.get_mut(&cluster("solo")).unwrap().beat, "geo", "north");
    let hub = applied(empty.clone(), &planned(&zoned, &empty));
    // Before all others in any order of names.
    let hosts: Vec<String> = (0..40).map(|host| format!("h{host}")).collect();
    let made_up =
        |host: &String| (0..1_000).map(|number| json!({"database": format!("0-{host}-{number}")})).collect::<Value>();
    let crowd: Vec<_> = hosts.iter().map(|host| (host.as_str(), 1, made_up(host))).collect();
    let mut crowd = fleet(&[known(&["Logs", "New"]).as_slice(), &crowd].concat());
    for (host, partition) in hosts.iter().zip(crowd.values_mut()) {
        set_attribute(&mut partition.beat, "geo", host.clone());
        set_attribute(&mut partition.beat, "tenant", format!("t-{host}"));
    }
    crowd.extend(zoned);
    let plan = planned(&crowd, &hub);
    let lacking = plan.missing_databases.len();
    assert!((20_000..32_000).contains(&lacking), "{lacking} databases are looked at, of forty thousand");
    assert_eq!(plan.missing_databases[0], database("New"));
    let made = shown(&plan);
    assert!(made.contains(&"create entity group New_Partitions in Logs".to_owned()), "{} changes", made.len());
    assert!(!made.iter().any(|made| made.starts_with("drop") || made.contains("Alone")), "what is there stays");
    let told = plan.problems.iter().find(|problem| problem.contains("more databases get no entity groups"));
    let told = told.expect("it is told");
    assert!(told.starts_with("'0-h") && told.contains(".kusto.windows.net has most of these"), "{told}");
    let hub = applied(hub, &plan);
    assert_eq!(shown(&planned(&crowd, &hub)), [""; 0], "nothing goes to and fro");
}

#[test]
fn what_no_group_can_be_named_after_is_told_of_its_partition_and_its_database_has_its_group() {
    let settings = grouped_by(&["geo"]);
    let mut fleet = fleet(&[("eu", 1, logs(&[])), ("us", 1, logs(&[]))]);
    for (host, value) in [("eu", "it's"), ("us", "US")] {
        let beat = &mut fleet.get_mut(&cluster(host)).unwrap().beat;
        set_attribute(beat, "geo", value);
    }
    let refused = |host| desired::RefusedNames::new(&settings).of(&fleet[&cluster(host)].beat);
    assert_eq!(
        refused("eu"),
        [
            "PartitionMetadata.geo: no entity group can be named after 'it's': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only, and does not end with '__'"
        ]
    );
    assert_eq!(refused("us"), [""; 0]);
    let plan = planned_with(&settings, &fleet, &hub(&["Other"]));
    assert_eq!(
        shown(&plan),
        ["Logs_Partitions", "Logs_Partitions_US"].map(|group| format!("create entity group {group} in Other"))
    );
    let lacking = "2 partition(s) have the database 'Logs', but the hub has none of that name: create it on the hub to get its functions";
    assert_eq!(plan.problems, [lacking]);
}

#[test]
fn names_that_are_too_long_with_what_is_put_before_or_behind_them_are_told_of_their_partition() {
    let settings = Settings { group_attributes: vec!["geo".to_owned()], ..settings() };
    let long = |letter: &str, chars: usize| letter.repeat(chars);
    let (table, database) = (long("t", 1015), long("d", 1013));
    let schema = json!([
        {"database": "Logs", "tables": ["A", table, long("u", 1016)], "views": [table, long("v", 1014)]},
        {"database": "Other", "tables": [long("w", 1020)]},
        // With the suffix it is as long as a name may be, with a value behind that it is not.
        {"database": database, "tables": []},
        {"database": long("é", 1014), "tables": []},
    ]);
    let mut all = fleet(&[("eu", 1, schema), ("us", 1, logs(&["A", &long("t", 1014)]))]);
    let mut refused = desired::RefusedNames::new(&settings);
    let of_groups = |more: usize, first: &str| {
        format!(
            "the database '{}…' and {more} more get not all of their entity groups: with '_Partitions', or the value of an attribute behind that, a name would have more than 1024 characters",
            first.repeat(64)
        )
    };
    let of_tables = format!(
        "'{}…' in 'Logs' and 2 more tables or views get no function: behind 'federated_' its name would have more than 1024 characters",
        long("t", 64)
    );
    assert_eq!(refused.of(&all[&cluster("eu")].beat), [of_groups(0, "é"), of_tables.clone()]);
    assert_eq!(refused.of(&all[&cluster("us")].beat), [""; 0]);
    let europe = &mut all.get_mut(&cluster("eu")).unwrap().beat;
    set_attribute(europe, "geo", "EU");
    assert_eq!(refused.of(europe), [of_groups(1, "d"), of_tables]);
    // The plan leaves out the same, and nothing else.
    let plan = planned_with(&settings, &all, &hub(&["Logs"]));
    let functions = plan.changes.iter().filter(|change| change.kind().0 == ChangeObject::Function).count();
    assert_eq!(functions, 3, "{:#?}", shown(&plan));
}

#[test]
fn an_attribute_that_no_partition_has_is_told_where_all_of_them_can_be_read() {
    let settings = grouped_by(&["Geo", "geo"]);
    let mut fleet = fleet(&[("eu", 1, logs(&[])), ("us", 1, logs(&[]))]);
    let told = |fleet: &Fleet| {
        let problems = planned_with(&settings, fleet, &hub(&["Logs"])).problems;
        problems.into_iter().filter(|problem| problem.starts_with("entityGroups names")).collect::<Vec<_>>()
    };
    set_attribute(&mut fleet.get_mut(&cluster("eu")).unwrap().beat, "geo", "EU");
    let known = fleet[&cluster("us")].beat.inventory.clone();
    fleet.get_mut(&cluster("us")).unwrap().beat.inventory = Inventory::Unread;
    assert_eq!(told(&fleet), [""; 0], "what the other one has is not known");
    // It has none, as one that writes no attributes.
    fleet.get_mut(&cluster("us")).unwrap().beat.inventory = known;
    let expected = "entityGroups names 'Geo', which no federated partition has among the attributes that can be used: there are no groups by it, and case matters";
    assert_eq!(told(&fleet), [expected]);
}
