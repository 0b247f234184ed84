//! The judge of recordings refuses what it is there for.

use std::fs;

use serde_json::{Value, json};
use tests::oracle::{Kind, Names, Question, Reading, Verdict, difference};

use crate::{hostile, oracle};

/// Judges requests as if one server had recorded them.
pub(crate) fn judge(lines: impl IntoIterator<Item = Value>) -> Verdict {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let recording: String = lines.into_iter().map(|line| line.to_string() + "\n").collect();
    fs::write(folder.path().join("hub.jsonl"), recording).expect("the folder can be written");
    oracle().judge_recordings(folder.path(), Names::MustBeKnown).expect("the recording can be read")
}

#[test]
fn a_recording_is_judged_text_by_text_in_its_order() {
    let sent = [
        ("/v1/rest/mgmt", 200, Some(".create table ['T'] (['a b']:long)")),
        ("/v1/rest/ingest/Hub/T", 200, None),
        ("/v2/rest/query", 200, Some("T | project ['a b']")),
        ("/v2/rest/query", 200, Some("T | project ['a b']")),
        ("/v2/rest/query", 400, Some("NoSuchTable | count")),
        ("/v1/rest/mgmt", 200, Some(".drop table ['T'] ifexists\n.frobnicate")),
        ("/v1/rest/query", 200, Some("NoSuchTable | count")),
    ];
    let line = |(path, status, csl)| json!({"path": path, "db": "Hub", "csl": csl, "status": status});
    let verdict = judge(sent.map(line));
    assert_eq!((verdict.texts, verdict.refused.len()), (5, 2));
    assert!(
        verdict.refused[0].contains(".frobnicate") && verdict.refused[1].contains("KS204"),
        "{:?}",
        verdict.refused
    );
}

/// Which agent sends what is what its role is held against.
#[test]
fn a_statement_that_is_unknown_or_another_kind_or_another_agents_is_refused() {
    let sent = |application: &str, statement: &str, text: &str| {
        let id = format!("adx-federation.{statement};1");
        let mut line = json!({"path": "/v1/rest/mgmt", "db": "Hub", "csl": text, "client_request_id": id});
        line["application"] = application.into();
        // Of a text that the server has refused no table is asked for.
        line["status"] = 400.into();
        judge([line]).refused
    };
    let (hub, partition) = ("adx-federation/agent-hub", "adx-federation/agent-partition");
    let (databases, entities) = (".show databases", ".show databases entities");
    let (beat, record) =
        (".ingest inline into table ['Heartbeats'] <|\n1", ".ingest inline into table ['AdxFederationMembers'] <|\n1");
    assert_eq!(sent(hub, "show_databases", databases), [""; 0]);
    assert_eq!(sent(partition, "show_inventory", entities), [""; 0]);
    assert_eq!(sent(partition, "ingest_inline", beat), [""; 0]);
    assert_eq!(sent(hub, "ingest_inline", record), [""; 0]);
    for (application, statement, text, why) in [
        (
            partition,
            "show_databases",
            databases,
            "'show_databases' is none of what 'adx-federation/agent-partition' sends",
        ),
        (hub, "show_inventory", entities, "'show_inventory' is none of what 'adx-federation/agent-hub' sends"),
        (partition, "ingest_inline", record, "'ingest_inline' is into a record of the hub's agent"),
        ("", "show_databases", databases, "'show_databases' is none of what '' sends"),
        (hub, "show_databases", entities, "'show_databases' is a ShowDatabasesEntities"),
        (hub, "drop_everything", databases, "an unknown statement 'drop_everything'"),
    ] {
        let refused = sent(application, statement, text);
        assert!(refused.len() == 1 && refused[0].contains(why), "{why}: {refused:?}");
    }
}

/// A text is parsed once, and bound to the names that are known where and when it is asked.
#[test]
fn what_a_text_meant_before_it_does_not_mean_elsewhere() {
    let ask = |session, kind, text| {
        let question = Question { kind, text, session, world: None, database: "Hub", unresolved: false };
        oracle().read(question).expect("the oracle answers")
    };
    let columns = |session| {
        let reading = ask(session, Kind::Query, "Anew | take 1");
        (reading.ok, reading.columns.unwrap_or_default())
    };
    let codes = |reading: Reading| reading.diagnostics.into_iter().map(|found| found.code).collect::<Vec<_>>();
    assert_eq!(codes(ask("anew", Kind::Query, "Anew | take 1")), ["KS204"]);
    assert_eq!(codes(ask("anew", Kind::Command, ".show table Anew details")), ["KS204"]);
    assert!(ask("anew", Kind::Command, ".create table Anew (a:long)").ok);
    assert!(ask("beside", Kind::Command, ".create table Anew (b:string)").ok);
    let one = |name: &str, scalar: &str| (true, vec![(name.to_owned(), scalar.to_owned())]);
    assert_eq!((columns("anew"), columns("beside")), (one("a", "long"), one("b", "string")));
    assert!(ask("anew", Kind::Command, ".show table Anew details").ok);
    assert_eq!(columns("nowhere"), (false, Vec::new()));
}

/// Why judging recordings leaves rows out.
#[test]
fn nothing_that_is_ingested_is_read_as_part_of_its_command() {
    let read = |rows: &str| {
        let Reading { commands, names, strings, literals, .. } =
            reading(Kind::Command, &format!(".ingest inline into table ['T'] <|\n{rows}"));
        (commands, names, strings, literals)
    };
    let one = read("row");
    assert_eq!(one.0, ["IngestInlineIntoTable"]);
    for rows in hostile().into_iter().chain(["<| .drop table T".to_owned()]) {
        assert_eq!(read(&rows), one, "{rows:?}");
    }
}

/// What is sent has other ports and times in each run.
#[test]
fn servers_of_one_folder_see_each_other_under_their_ports() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let query = |table: &str| format!("cluster('http://127.0.0.1:40002').database('D').{table} | count");
    for (name, path, text) in [
        ("a-40002", "/v1/rest/mgmt", ".create table T (a:long)".to_owned()),
        ("b-40001", "/v2/rest/query", query("T")),
        ("c-40003", "/v2/rest/query", query("U")),
        ("d-40004", "/v1/rest/mgmt", ".ingest inline into table T <|\n2026-11-26T18:25:40.2901507Z,'x'".to_owned()),
    ] {
        let line = json!({"path": path, "db": "D", "csl": text, "status": 200});
        fs::write(folder.path().join(format!("{name}.jsonl")), line.to_string()).expect("the folder can be written");
    }
    let verdict = oracle().judge_recordings(folder.path(), Names::MustBeKnown).expect("the recordings can be read");
    assert_eq!((verdict.texts, verdict.refused.len()), (4, 1), "{:#?}", verdict.refused);
    assert!(verdict.refused[0].contains("'U'"), "{:#?}", verdict.refused);
}

/// What Microsoft's parser reads, without the errors that unknown names are.
fn reading(kind: Kind, text: &str) -> Reading {
    let question = Question { kind, text, session: "read alike", world: None, database: "Hub", unresolved: true };
    let reading = oracle().read(question).expect("the oracle answers");
    assert!(reading.ok, "{}", reading.complaint("refused", text));
    reading
}

#[test]
fn names_and_strings_of_every_form_are_read_alike() {
    let texts = [
        (Kind::Query, r#"print a = 'x' "y" @'z''' ```f\'enced```, ['n "m'] = h'obfuscated', c = d['i'].['j k']"#),
        (
            Kind::Query,
            r#"print dynamic({"k": 'v', "z": ["w", datetime('2025-01-01')]}), datetime('2025-01-01'), time("1d"), 'after'"#,
        ),
        (
            Kind::Query,
            "// 'no string\nunion withsource = ['S T'] T1*, T2 // \"nor this\n| where ['😀 b'] == '😀' and c == 'é'",
        ),
        (
            Kind::Query,
            "T | join hint.strategy=broadcast (U) on k | extend p = a*b, hint.x, [ \"y z\" ], d[ 'i' ] | project-away T*, *d | project-reorder R*x* desc, * asc",
        ),
        (Kind::Command, ".create table ['T 1'] (['a b']:long, c:datetime) with (folder='f', docstring=\"d\\\"\")"),
        (Kind::Command, ".ingest inline into table ['T 1'] with (format='csv') <| 'no \"string\n\\x, ['no name']"),
        (
            Kind::Command,
            ".execute database script with (ContinueOnErrors=true) <|\n// 'no string\n.drop table ['a 😀 b'] ifexists\n\n.create-or-alter function with (docstring='two\\nlines') ['f g'] () {\n  T\n  | where ['a b'] == ```fenced\ntext```\n}\n.drop table c ifexists",
        ),
    ];
    for (kind, text) in texts {
        let reading = reading(kind, text);
        assert_eq!(difference(text, &reading), None, "{text}\n{reading:?}");
    }
}

/// Changes what Microsoft's parser read.
type Doctor = dyn Fn(&mut Reading);

#[test]
fn a_name_or_a_string_that_is_read_otherwise_is_told() {
    let text = "T | where ['a b'] == 'x' and c == 'y'";
    let right = reading(Kind::Query, text);
    let owned = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
    assert_eq!((&right.names, &right.strings), (&owned(["T", "a b", "c"]), &owned(["a b", "x", "y"])));
    let told = |doctor: &Doctor| {
        let mut reading = right.clone();
        doctor(&mut reading);
        difference(text, &reading)
    };
    assert_eq!(told(&|_| ()), None);
    let doctored: [(&str, &Doctor); 8] = [
        ("another value", &|reading| reading.strings[1] = "X".to_owned()),
        ("another place", &|reading| reading.string_starts[1] += 1),
        ("a string less", &|reading| drop((reading.strings.pop(), reading.string_starts.pop()))),
        ("a string more", &|reading| {
            reading.strings.push("z".to_owned());
            reading.string_starts.push(37);
        }),
        ("another bare name", &|reading| reading.names[0] = "U".to_owned()),
        ("another bracketed name", &|reading| reading.names[1] = "a".to_owned()),
        ("a name elsewhere", &|reading| reading.name_starts[2] += 1),
        ("a name of several words", &|reading| reading.names[2] = "c == ".to_owned()),
    ];
    for (what, doctor) in doctored {
        assert!(told(doctor).is_some(), "{what}");
    }
    let text = "T | project-away A*, *d";
    let mut other = reading(Kind::Query, text);
    assert_eq!(difference(text, &other), None);
    other.names[1] = "A*b".to_owned();
    assert!(difference(text, &other).is_some(), "another pattern");
    assert!(difference("T | where a == `b`", &right).is_some_and(|why| why.contains("our lexer")), "no token of ours");
}
