//! Answers in, memory and rows out.

use std::cell::Cell;

use kql::{names::TableName, types::ScalarType};
use serde_json::json;
use shared::kusto::ColumnInfo;

use super::*;
use crate::testing::{answer_to_query, answering_hub, hub_config};

const NOW: &str = "2025-05-03T12:00:00Z";

const SCHEMA_COLUMNS: [&str; 4] = ["ClusterEndpoint", "Hash", "MetadataText", "SchemaText"];

/// How far back schemas are read.
const RECENT: SignedDuration = SignedDuration::from_hours(2);

/// When all is read.
fn at() -> Timestamp {
    NOW.parse().unwrap()
}

fn table(names: &[&str], rows: Vec<Vec<Value>>) -> ResultTable {
    let column = |name: &&str| ColumnInfo { name: (*name).to_owned(), scalar_type: ScalarType::String };
    ResultTable::new(names.iter().map(column).collect(), rows)
}

/// Rows of [`ReadHeartbeats`]: endpoint, how many minutes ago it was received, hash, bytes.
fn answer(rows: &[(&str, i64, &str, usize)]) -> ResultTable {
    let names = ["ClusterEndpoint", "Received", "NewBeats", "Skew", "Hash", "Bytes", "Now"];
    let cells = |(endpoint, age, hash, bytes): &(&str, i64, &str, usize)| {
        let received = at().as_millisecond() - age * 60_000;
        vec![json!(endpoint), json!(received), json!(1), json!(null), json!(hash), json!(bytes), json!(null)]
    };
    let clock = vec![json!(""), json!(null), json!(null), json!(null), json!(""), json!(null), json!(NOW)];
    table(&names, rows.iter().map(cells).chain([clock]).collect())
}

fn rows(rows: &[(&str, i64, &str, usize)]) -> Newest {
    let trusted = |endpoint: &ClusterEndpoint| {
        if endpoint.host().ends_with(".kusto.windows.net") { Ok(()) } else { Err("it is foreign") }
    };
    parse_rows(&[answer(rows)], &shared(), trusted).unwrap().rows
}

fn shared() -> HeartbeatSource {
    HeartbeatSource::Shared(TableName::new("Heartbeats").unwrap())
}

/// An answer to [`ReadSchemas`], with the hash that the server gives what it has read.
fn schemas(endpoint: &str, hash: &str, text: &str) -> ResultTable {
    schemas_with(endpoint, hash, &json!({"geo": "EU"}), text)
}

fn schemas_with(endpoint: &str, hash: &str, attributes: &Value, text: &str) -> ResultTable {
    table(&SCHEMA_COLUMNS, vec![vec![json!(endpoint), json!(hash), json!(attributes.to_string()), json!(text)]])
}

/// Takes in an answer to [`ReadSchemas`].
fn learn(memory: &mut HeartbeatMemory, answer: &ResultTable, rows: &Newest, config: &HubConfig) {
    let told = answer.clone().fold(schemas_of(rows, config, &mut memory.interner)).unwrap();
    told.into_iter().for_each(|told| memory.learn(told));
}

#[test]
fn two_spellings_of_one_endpoint_are_one_partition_with_its_newest_beat() {
    let (slash, plain) = ("https://eu.kusto.windows.net/", "https://eu.kusto.windows.net");
    for both in [[(slash, 60, "a", 1), (plain, 1, "b", 1)], [(plain, 1, "b", 1), (slash, 60, "a", 1)]] {
        let rows = rows(&both);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.values().next().unwrap().key, plain);
    }
}

#[test]
fn an_endpoint_that_is_not_trusted_or_no_endpoint_is_no_partition() {
    let claim = format!("{FALSE_CLAIM}https://eu.kusto.windows.net");
    let endpoints = ["https://evil.example", "x", &claim, "https://eu.kusto.windows.net"];
    let foreign = |endpoint: &ClusterEndpoint| {
        if endpoint.host().ends_with(".kusto.windows.net") { Ok(()) } else { Err("it is foreign") }
    };
    let table = (TableName::new("Heartbeats_eu").unwrap(), ClusterEndpoint::parse(endpoints[3]).unwrap());
    let own = HeartbeatSource::PerPartition([table].into());
    let Rows { rows, problems, refused, .. } =
        parse_rows(&[answer(&endpoints.map(|endpoint| (endpoint, 1, "a", 1)))], &own, foreign).unwrap();
    assert_eq!(rows.values().map(|row| (row.endpoint.as_str(), row.skew)).collect::<Vec<_>>(), [(endpoints[3], None)]);
    assert_eq!(
        problems,
        [
            "the heartbeats of https://evil.example are ignored: it is foreign",
            "a heartbeat row is ignored: \"x\" is not a cluster endpoint: it must start with https://",
            "heartbeat rows are ignored that name another cluster: written into the table of https://eu.kusto.windows.net",
        ]
    );
    let expected = [RefusalReason::NoEndpoint, RefusalReason::FalseClaim, RefusalReason::Foreign];
    assert_eq!(refused, BTreeMap::from(expected.map(|reason| (reason, 1))));
}

#[test]
fn a_refusal_that_is_not_told_is_not_written_out() {
    struct Counted<'a>(&'a Cell<usize>);
    impl fmt::Display for Counted<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("it is refused")
        }
    }
    let written = Cell::new(0);
    let mut refusals = Refusals::default();
    for reason in [RefusalReason::NoEndpoint, RefusalReason::Foreign].repeat(MAX_TOLD) {
        refusals.add(reason, Counted(&written));
    }
    let (told, counts) = refusals.finish();
    assert_eq!((written.get(), told.len()), (MAX_TOLD, MAX_TOLD + 1));
    assert_eq!(told[MAX_TOLD], "20 more heartbeat rows are ignored");
    assert!(counts.values().all(|count| *count == MAX_TOLD), "{counts:?}");
}

#[test]
fn a_name_that_looks_like_ours_for_a_false_claim_is_a_strangers_and_is_told_without_line_breaks() {
    let forged = format!("{FALSE_CLAIM}x\nplan 0123456789ab\u{1b}[2J");
    let owner = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
    let own = HeartbeatSource::PerPartition([(TableName::new("Heartbeats_eu").unwrap(), owner)].into());
    for (key, source) in
        [(&forged, shared()), (&forged, own), (&format!("{FALSE_CLAIM}https://eu.kusto.windows.net"), shared())]
    {
        let Rows { problems, refused, .. } =
            parse_rows(&[answer(&[(key.as_str(), 1, "a", 1)])], &source, |_| Ok(())).unwrap();
        assert_eq!(refused, BTreeMap::from([(RefusalReason::NoEndpoint, 1)]), "{key:?}");
        assert!(!problems[0].contains(char::is_control), "{problems:?}");
    }
}

#[test]
fn a_crowd_leaves_room_for_all_that_are_federated_or_listed_and_takes_none_from_them() {
    let some = |prefix: &str, count: usize| -> BTreeSet<ClusterEndpoint> {
        let name = |number| format!("https://{prefix}{number}.kusto.windows.net");
        (0..count).map(|number| ClusterEndpoint::parse(&name(number)).unwrap()).collect()
    };
    let asked = |needed, watched| {
        let known = Known { needed: some("z", needed), watched: some("a", watched), pattern: None };
        let endpoints = known.endpoints()?;
        Some((endpoints.len(), some("z", needed).is_subset(&endpoints)))
    };
    let enough = ReadHeartbeats::ENOUGH;
    assert_eq!(asked(3, 5), Some((8, true)));
    assert_eq!(asked(3, 2 * enough), Some((enough, true)));
    assert_eq!(asked(enough, 5), Some((enough, true)));
    assert_eq!(asked(enough + 1, 5), None);
}

#[test]
fn what_is_in_two_answers_counts_once() {
    let (eu, foreign) = ("https://eu.kusto.windows.net", "https://evil.example");
    let both = [answer(&[(eu, 1, "a", 1), (foreign, 1, "a", 1)]), answer(&[(foreign, 1, "a", 1), (eu, 1, "a", 1)])];
    let trusted = |endpoint: &ClusterEndpoint| if endpoint.host() == "evil.example" { Err("no") } else { Ok(()) };
    let Rows { rows, problems, refused, .. } = parse_rows(&both, &shared(), trusted).unwrap();
    assert_eq!((rows.len(), problems.len(), refused), (1, 1, [(RefusalReason::Foreign, 1)].into()));
}

#[test]
fn an_answer_without_the_servers_time_is_not_whole() {
    let names = ["ClusterEndpoint", "Received", "NewBeats", "Skew", "Hash", "Bytes", "Now"];
    assert!(parse_rows(&[table(&names, Vec::new())], &shared(), |_| Ok(())).is_err());
}

#[test]
fn a_schema_is_fetched_once_and_an_unreadable_one_leaves_what_was_known() {
    let endpoint = "https://eu.kusto.windows.net";
    let mut memory = HeartbeatMemory::default();
    let row = |hash| rows(&[(endpoint, 1, hash, 9)]);
    let lacks = |memory: &HeartbeatMemory, hash| memory.lacks(row(hash).values().next().unwrap());
    assert!(lacks(&memory, "1"));
    let known = r#"[{"database": "Logs", "tables": ["A"]}]"#;
    learn(&mut memory, &schemas(endpoint, "1", known), &row("1"), &hub_config(""));
    assert_eq!(memory.changed, BTreeSet::new());
    assert!(!lacks(&memory, "1") && lacks(&memory, "2"));
    for (hash, wrong) in [("2", "7"), ("3", ""), ("2", "[]")] {
        learn(&mut memory, &schemas(endpoint, hash, wrong), &row(hash), &hub_config(""));
        assert!(!lacks(&memory, hash), "what cannot be read is not fetched again and again");
        let beat = memory.beat(row(hash).into_values().next().unwrap(), at(), RECENT);
        let Inventory::Known(inventory) = beat.inventory else { panic!("the last readable schema counts") };
        assert_eq!(inventory.to_json(), json!([{"database": "Logs", "tables": ["A"]}]));
        assert_eq!(beat.metadata["geo"], "EU");
        assert_eq!(beat.problems.len(), 1);
        assert_eq!(
            beat.hash.as_deref(),
            Some("1"),
            "the hub is told of a schema when it is another than the known one"
        );
    }
    let changed = r#"[{"database": "Logs", "tables": ["A", "B"]}]"#;
    learn(&mut memory, &schemas(endpoint, "4", changed), &row("4"), &hub_config(""));
    assert_eq!(memory.changed.len(), 1, "the hub must forget the old columns of Logs");
    // One for which there was no room is fetched when there is.
    assert!(!lacks(&memory, "4"));
    memory.partitions.values_mut().for_each(|known| known.left_out = Some(Full { bytes: 1 }));
    assert!(lacks(&memory, "4"));
    memory.refuse_long_schemas(rows(&[(endpoint, 1, "4", MAX_SCHEMA_BYTES + 1)]).values());
    assert!(!lacks(&memory, "4"), "nor is one that is too long now");
}

#[test]
fn a_beat_without_a_schema_is_told_as_long_as_it_is_recent() {
    const ENDPOINT: &str = "https://eu.kusto.windows.net";
    let row = |minutes: i64| rows(&[(ENDPOINT, minutes, "1", 9)]);
    let mut memory = HeartbeatMemory::default();
    learn(&mut memory, &schemas(ENDPOINT, "1", ""), &row(1), &hub_config(""));
    let told = |minutes: i64| memory.beat(row(minutes).into_values().next().unwrap(), at(), RECENT).problems;
    assert_eq!(told(120), [NO_SCHEMA.into()]);
    // It is silent for longer than as far back as schemas are read.
    assert_eq!(told(121), []);
}

#[test]
fn a_schema_that_comes_and_goes_between_the_two_queries_is_not_kept_for_the_one_that_beats() {
    const ENDPOINT: &str = "https://eu.kusto.windows.net";
    let schema = |table: &str| json!([{"database": "Logs", "tables": [table]}]);
    let mut memory = HeartbeatMemory::default();
    let row = || rows(&[(ENDPOINT, 1, "a", 9)]);
    let beat = |memory: &HeartbeatMemory| {
        let beat = memory.beat(row().into_values().next().unwrap(), at(), RECENT);
        let Inventory::Known(inventory) = beat.inventory else { panic!("a schema was read") };
        (inventory.to_json(), beat.hash)
    };
    // The beat was A's when the heartbeats were read, B's when the schemas were, and is A's again ever after.
    learn(&mut memory, &schemas(ENDPOINT, "b", &schema("B").to_string()), &row(), &hub_config(""));
    assert_eq!(beat(&memory), (schema("B"), Some("b".to_owned())), "what is told of the schema is the schema's");
    assert_eq!(memory.wanted(&row(), |_| true), [BTreeSet::from([ENDPOINT.to_owned()])]);
    learn(&mut memory, &schemas(ENDPOINT, "a", &schema("A").to_string()), &row(), &hub_config(""));
    assert_eq!(beat(&memory), (schema("A"), Some("a".to_owned())));
    assert_eq!(memory.wanted(&row(), |_| true), []);
}

#[test]
fn a_schema_beyond_all_reason_is_not_fetched_and_what_was_known_stays() {
    let endpoint = "https://eu.kusto.windows.net";
    let mut memory = HeartbeatMemory::default();
    let row = |hash, bytes| rows(&[(endpoint, 1, hash, bytes)]);
    learn(
        &mut memory,
        &schemas(endpoint, "1", r#"[{"database": "Logs", "tables": ["A"]}]"#),
        &row("1", 9),
        &hub_config(""),
    );
    let just = BTreeSet::from([endpoint.to_owned()]);
    assert_eq!(memory.wanted(&row("2", MAX_SCHEMA_BYTES), |_| true), [just]);
    assert_eq!(memory.wanted(&row("2", MAX_SCHEMA_BYTES), |_| false), [], "a stranger's is not wanted at all");
    let long = row("2", MAX_SCHEMA_BYTES + 1);
    assert_eq!(memory.wanted(&long, |_| true), []);
    assert!(!memory.lacks(long.values().next().unwrap()));
    let beat = memory.beat(long.into_values().next().unwrap(), at(), RECENT);
    assert!(matches!(beat.inventory, Inventory::Known(_)) && beat.metadata["geo"] == "EU");
    assert!(beat.problems[0].contains("they are not read"), "{:?}", beat.problems);
    assert_eq!(beat.hash.as_deref(), Some("1"));
}

#[test]
fn a_partitions_words_take_little_memory_and_what_touches_all_of_it_comes_first() {
    let endpoint = "https://eu.kusto.windows.net";
    let attributes = (1..64).map(|number| (format!("made-up-{number}"), json!("x".repeat(200))));
    let attributes = Value::from_iter(attributes.chain([("geo".to_owned(), json!("EU"))]));
    let databases: Vec<_> =
        (0..60).map(|number| json!({"database": format!("{number}/{}", "x".repeat(200))})).collect();
    let mut memory = HeartbeatMemory::default();
    let row = rows(&[(endpoint, 1, "1", 9)]);
    let answer = schemas_with(endpoint, "1", &attributes, &json!(databases).to_string());
    learn(&mut memory, &answer, &row, &hub_config("entityGroups: [{by: geo}], "));
    let beat = memory.beat(row.into_values().next().unwrap(), at(), RECENT);
    assert_eq!(beat.metadata["geo"], "EU");
    let first = beat.problems[0].starts_with("its heartbeat lists no database that can be used");
    let last = beat.problems.last().is_some_and(|last| last.ends_with(" more problems"));
    assert!(first && last && beat.problems.len() > 2, "{:?}", beat.problems);
    let attributes = beat.metadata.iter().map(|(name, value)| name.len() + value.to_string().len());
    let bytes: usize = beat.problems.iter().map(|problem| problem.len()).chain(attributes).sum();
    assert!(bytes < 6_500, "{bytes}");
}

#[test]
fn of_what_is_read_only_so_much_counts() {
    let endpoint = "https://eu.kusto.windows.net";
    let read = |schema: Value| {
        let mut memory = HeartbeatMemory::default();
        let row = rows(&[(endpoint, 1, "1", 9)]);
        learn(&mut memory, &schemas(endpoint, "1", &schema.to_string()), &row, &hub_config(""));
        let beat = memory.beat(row.into_values().next().unwrap(), at(), RECENT);
        let Inventory::Known(inventory) = beat.inventory else { panic!("it is a schema") };
        (inventory, beat.problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let names = |count: usize| (0..count).map(|number| format!("N{number}")).collect::<Vec<_>>();
    let tables = |count: usize| {
        let (inventory, problems) = read(json!([{"database": "Logs", "tables": names(count)}]));
        (inventory.0.values().map(|database| database.tables.len()).sum::<usize>(), problems)
    };
    let only = |what: &str, bytes: &str| {
        vec![format!("Schema: only the first {what}, or {bytes} bytes of their names, are used")]
    };
    assert_eq!(tables(19_999), (19_999, vec![]));
    assert_eq!(tables(20_001), (20_000, only("20000 tables and views", "8388608")));
    let (inventory, problems) = read(names(1_001).iter().map(|name| json!({"database": name})).collect());
    assert_eq!((inventory.0.len(), problems), (1_000, only("1000 databases", "262144")));
    let columns: Vec<_> = names(2_001).iter().map(|name| format!("{name}:long")).collect();
    let schema = json!([{"database": "Logs", "tables": ["A"], "tableSchemas": {"A": columns.join(",")}}]);
    let (inventory, problems) = read(schema);
    assert!(inventory.0.values().all(|database| database.tables.values().all(Option::is_none)));
    assert_eq!(problems, ["Logs.tableSchemas.A: it has more than 2000 columns"]);
}

#[test]
fn schemas_are_fetched_in_pages_and_a_huge_one_alone() {
    let rows = rows(&[
        ("https://a.kusto.windows.net", 1, "1", 1),
        ("https://b.kusto.windows.net", 1, "1", PAGE_BYTES + 1),
        ("https://c.kusto.windows.net", 1, "1", PAGE_BYTES - 1),
        ("https://d.kusto.windows.net", 1, "1", 1),
        ("https://e.kusto.windows.net", 1, "1", 1),
    ]);
    let hosts =
        |page: &BTreeSet<String>| page.iter().map(|key| key["https://".len()..][..1].to_owned()).collect::<String>();
    assert_eq!(pages(rows.values()).iter().map(hosts).collect::<Vec<_>>(), ["a", "b", "cd", "e"]);
}

#[test]
fn attributes_that_cannot_be_read_are_those_of_before_or_else_unknown() {
    let (endpoint, text) = ("https://eu.kusto.windows.net", r#"[{"database": "Logs", "tables": []}]"#);
    let beat = |answers: &[(&str, Value)]| {
        let mut memory = HeartbeatMemory::default();
        let mut beat = None;
        for (hash, attributes) in answers {
            let newest = rows(&[(endpoint, 1, hash, 1)]);
            learn(&mut memory, &schemas_with(endpoint, hash, attributes, text), &newest, &hub_config(""));
            beat = Some(memory.beat(newest.into_values().next().unwrap(), at(), RECENT));
        }
        // Also when its table cannot be read then.
        let unread = memory.unread_beat(&ClusterEndpoint::parse(endpoint).unwrap(), "no");
        let told = [beat.unwrap(), unread].map(|beat| (beat.metadata.get("geo").cloned(), beat.has_unread_metadata));
        assert_eq!(told[0], told[1]);
        let [told, _] = told;
        told
    };
    let [read, unread] = [json!({"geo": "EU"}), json!(["EU"])];
    assert_eq!(beat(&[("1", unread.clone())]), (None, true));
    assert_eq!(beat(&[("1", unread.clone()), ("2", unread.clone())]), (None, true));
    assert_eq!(beat(&[("1", read.clone()), ("2", unread.clone())]), (Some(json!("EU")), false));
    assert_eq!(beat(&[("1", unread), ("2", read)]), (Some(json!("EU")), false));
    assert_eq!(beat(&[("1", json!({}))]), (None, false));
}

#[tokio::test]
async fn whose_schema_has_no_room_beside_the_old_ones_of_its_page_is_asked_for_it_again_in_that_reading() {
    let endpoints = ["https://eu.kusto.windows.net", "https://us.kusto.windows.net"];
    let schema = |endpoint: &str, turn: &str| {
        let table = format!("{turn}{}", endpoint[8..10].repeat(200));
        json!([{"database": "Logs", "tables": [table]}])
    };
    let looked = Cell::new(0);
    let asked = Cell::new(0);
    let as_sent = |table: ResultTable| {
        let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
        let cells = |row: Row<'_>| names.iter().map(|name| row.value(name).unwrap().clone()).collect();
        answer_to_query(&names.iter().map(|name| (*name, "string")).collect::<Vec<_>>(), table.rows().map(cells))
    };
    let (hub, _) = answering_hub(move |text| {
        let turn = |before: usize| if before == 0 { "Old" } else { "New" };
        if text.contains("NewBeats") {
            let hash = turn(looked.replace(looked.get() + 1));
            return as_sent(answer(&endpoints.map(|endpoint| (endpoint, 1, hash, 9))));
        }
        let before = asked.replace(asked.get() + 1);
        // The first time anew, both of a page are asked for, and after that the one for which there was no room.
        let of = |endpoint: &&str| schemas(endpoint, turn(before), &schema(endpoint, turn(before)).to_string());
        let rows = endpoints[usize::from(before == 2)..].iter().map(of);
        let rows: Vec<ResultTable> = rows.collect();
        let all = rows.iter().flat_map(|table| table.rows());
        let cells = |row: Row<'_>| SCHEMA_COLUMNS.map(|name| row.value(name).unwrap().clone()).to_vec();
        as_sent(table(&SCHEMA_COLUMNS, all.map(cells).collect()))
    })
    .await;
    // Three have room, and a fourth has not.
    let mut memory = HeartbeatMemory { interner: Interner::with_most(2_600), ..HeartbeatMemory::default() };
    let (config, unread) = (hub_config(""), BTreeMap::new());
    for turn in ["Old", "New"] {
        let reading = read_heartbeats(&hub, &config, &unread, &mut memory, Known::default, |_| Ok(()), |_| true).await;
        for beat in reading.unwrap().beats {
            let Inventory::Known(inventory) = beat.inventory else { panic!("{:?} has none", beat.endpoint) };
            assert_eq!(inventory.to_json(), schema(beat.endpoint.as_str(), turn), "{turn}");
            assert_eq!(beat.problems, [], "{turn}");
        }
    }
}
