//! Microsoft's own parser reads what the crate `kql` writes: names and literals come back as they went in, and every statement is one known command or a
//! query. Needs Node and `make judges-install`.

mod parameters;
mod recordings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, iter,
    sync::{Mutex, MutexGuard, OnceLock},
    thread,
    time::Duration,
};

use kql::{
    endpoint::ClusterEndpoint,
    literal::{bracketed, string},
    names::{ColumnName, DatabaseName, EntityGroupName, FunctionName, TableName},
    request::Request,
    statements::{
        AlterCaching, AlterEntityGroup, AlterMergeEntityGroup, AlterRetention, AlterSchemaEncoding, Body, Canary,
        ClearRemoteSchema, CreateEntityGroup, CreateHeartbeatTable, CreateMembersTable, CreateOwnershipTable,
        DropEntityGroup, DropFunction, EnableStreaming, Entity, FederatedBody, HeartbeatPolicy, HeartbeatSource,
        IngestInline, Members, PutFunction, ReadArrivals, ReadHeartbeats, ReadLeft, ReadListings, ReadMembers,
        ReadOwnership, ReadSchemas, ShowColumns, ShowEntityGroups, ShowHubEntities, ShowPolicy, Source, StatusBody,
        Windows, partition_table,
    },
    types::ScalarType,
};
use tests::{
    docs,
    oracle::{Kind, Oracle, PLANNED, Question, Reading, difference},
};

/// A process for all that is asked outside of a session. It ends with this program, when its input closes.
pub(crate) fn oracle() -> MutexGuard<'static, Oracle> {
    oracle_of("")
}

/// The process that knows a session: reading takes a processor, and there are two at least.
fn oracle_of(session: &str) -> MutexGuard<'static, Oracle> {
    static ORACLES: [OnceLock<Mutex<Oracle>>; 2] = [const { OnceLock::new() }; 2];
    let number = session.bytes().map(usize::from).sum::<usize>() % ORACLES.len();
    let oracle = ORACLES[number].get_or_init(|| Mutex::new(Oracle::start().expect("node runs")));
    oracle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn read(session: &str, kind: Kind, text: &str) -> Reading {
    let question = Question { kind, text, session, world: None, database: "Hub", unresolved: false };
    let reading = oracle_of(session).read(question).expect("the oracle answers");
    assert!(reading.ok, "{}", reading.complaint("refused", text));
    assert_eq!(difference(text, &reading), None, "{text}");
    reading
}

/// Texts that end a literal, a line, a statement or a name wherever quoting is wrong, that look like something else, or that are merely long.
pub(crate) fn hostile() -> Vec<String> {
    let long = iter::repeat_n("ab'\\\"]\n", 146).collect::<String>() + "xy";
    let texts = [
        "'",
        "''",
        "\"",
        "\\",
        "\\\\",
        "\\'",
        "'\\",
        "\n",
        "\r\n",
        "\t",
        "a\u{0}b",
        "\u{1}\u{1b}\u{7f}",
        "\u{85}",
        "\u{9f}",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "\u{200b}",
        "\u{202e}drop\u{202c}",
        "\u{2066}x\u{2069}",
        "]",
        "']",
        "'] | .drop table ['x",
        "x') | take 1 //",
        "a\n.drop table Requests",
        "a'\n.drop table Requests //",
        "; .drop table Requests",
        "a | project b",
        "// comment",
        "/* comment */",
        "{{table}}",
        "{0} %s ${x}",
        "```",
        "~~~",
        "@'x'",
        "h'x'",
        "\\u0027",
        "\\n",
        " ",
        " lead and trail ",
        "*",
        "a.b",
        "where",
        "['x']",
        "Größe",
        "数据库",
        "😀👨‍👩‍👧",
        "e\u{301}",
        "\u{10ffff}",
        "1",
        "true",
        "null",
        "datetime(2025-01-01)",
    ];
    texts.into_iter().map(str::to_owned).chain([long]).collect()
}

#[test]
fn there_are_enough_hostile_texts_and_the_long_one_has_the_longest_name() {
    assert!(hostile().len() >= 37);
    assert!(hostile().iter().any(|text| text.chars().count() == 1024));
}

#[test]
fn a_bracketed_name_in_a_command_is_read_back_equal() {
    for name in hostile() {
        let reading = read("names", Kind::Command, &format!(".drop table {} ifexists", bracketed(&name)));
        assert_eq!((&*reading.commands, &*reading.names), (&["DropTable".to_owned()][..], &[name][..]));
    }
}

#[test]
fn a_bracketed_name_in_a_query_is_read_back_equal() {
    for name in hostile() {
        let reading = read("columns", Kind::Query, &format!("print {} = 1", bracketed(&name)));
        assert_eq!(reading.columns, Some(vec![(name, "long".to_owned())]));
    }
}

#[test]
fn string_literals_of_a_function_are_read_back_equal() {
    for text in hostile() {
        let (literal, name) = (string(&text), bracketed(&text));
        let command = format!(
            ".create-or-alter function with (folder={literal}, docstring={literal}, skipvalidation=true) {name} () {{ print {literal} }}"
        );
        let reading = read("functions", Kind::Command, &command);
        assert_eq!(reading.commands, ["CreateOrAlterFunction"]);
        assert_eq!(reading.names, ["folder", "docstring", "skipvalidation", &text]);
        assert_eq!(reading.strings, [&*text, &text, &text, &text]);
    }
}

#[test]
fn string_literals_of_a_query_are_read_back_equal() {
    for text in hostile() {
        let reading = read("literals", Kind::Query, &format!("print s = {}", string(&text)));
        assert_eq!((reading.names, reading.strings), (vec!["s".to_owned()], vec![text]));
    }
}

#[test]
fn string_literals_after_a_show_command_are_read_back_equal() {
    for text in hostile() {
        let command = format!(".show tables | where TableName == {}", string(&text));
        let reading = read("filters", Kind::Command, &command);
        assert_eq!((reading.commands, reading.strings), (vec!["ShowTables".to_owned()], vec![text]));
    }
}

#[test]
fn an_entity_group_of_hostile_places_is_one_command() {
    for text in hostile() {
        let (name, place) = (bracketed(&text), string(&text));
        let reading =
            read("groups", Kind::Command, &format!(".create entity_group {name} (cluster({place}).database({place}))"));
        assert_eq!(reading.strings, [&*text, &text, &text]);
        assert_eq!(reading.commands.len(), 1);
    }
}

/// Names that Kusto accepts and that look like something else.
fn strange_names() -> Vec<String> {
    let names = [
        "where",
        "a.b-c d",
        "drop table X",
        "1",
        "take 10",
        "cluster",
        "datetime",
        "true",
        "_a",
        "project-away",
        "a b",
    ];
    names.into_iter().map(str::to_owned).chain([iter::repeat_n('n', 1000).collect()]).collect()
}

/// No unit of time divides it: a literal that loses a part of it shows.
const PERIOD: Duration = Duration::from_millis(61_001);

/// A statement about things of one name: what it is, and what must be read back from it, as a name or as a string.
struct About {
    request: Request,
    kind: Kind,
    command: &'static str,
    texts: Vec<String>,
}

/// Every statement of ours that holds a name or a literal.
fn statements_about(text: &str) -> Vec<About> {
    let text = text.to_owned();
    let database = DatabaseName::new(text.clone()).expect("the name follows Kusto's rules");
    let table = TableName::new(text.clone()).expect("the name follows Kusto's rules");
    let (group_name, function_name) = (format!("{text}_Partitions"), format!("federated_{text}"));
    let group = EntityGroupName::new(group_name.clone()).expect("the name follows Kusto's rules");
    let function = FunctionName::new(function_name.clone()).expect("the name follows Kusto's rules");
    let cluster = ClusterEndpoint::parse("https://eu.kusto.windows.net").expect("an endpoint");
    let entities = BTreeSet::from([Entity { cluster: cluster.clone(), database: database.clone() }]);
    let (database, period) = (&database, PERIOD);
    let column = ColumnName::new(text.clone()).expect("the name follows Kusto's rules");
    let body = FederatedBody {
        members: Members::Group(group.clone()),
        table: table.clone(),
        source: Source::Table,
        converted: [(column, ScalarType::Long)].into(),
        best_effort: true,
    };
    let put = PutFunction {
        database: database.clone(),
        function: function.clone(),
        keeper: database.clone(),
        folder: text.clone(),
        description: text.clone(),
        body: Body::Federated(body.clone()),
    };
    let listed = FederatedBody { members: Members::Entities(entities.clone()), ..body.clone() };
    let listed = PutFunction { body: Body::Federated(listed), ..put.clone() };
    let viewed = FederatedBody { source: Source::View, ..body };
    let viewed = PutFunction { body: Body::Federated(viewed), ..put.clone() };
    let entity = [cluster.as_str(), &text];
    let group_of = [&[&*group_name][..], &entity].concat();
    let (group_alone, table_alone) = (vec![&*group_name], vec![&*text]);
    let commands: Vec<(Request, &'static str, Vec<&str>)> = vec![
        (
            CreateEntityGroup { database, group: &group, entities: &entities }.request(),
            "CreateEntityGroupCommand",
            group_of.clone(),
        ),
        (AlterEntityGroup { database, group: &group, entities: &entities }.request(), "AlterEntityGroup", group_of),
        (CreateHeartbeatTable { database, table: &table }.request(), "CreateMergeTable", table_alone.clone()),
        (CreateOwnershipTable { database, table: &table }.request(), "CreateMergeTable", table_alone.clone()),
        (
            EnableStreaming { database, table: &table }.request(),
            "AlterTablePolicyStreamingIngestion",
            table_alone.clone(),
        ),
        (
            AlterSchemaEncoding { database, table: &table }.request(),
            "AlterColumnPolicyEncodingType",
            table_alone.clone(),
        ),
        (
            AlterRetention { database, table: &table, period }.request(),
            "AlterMergeTablePolicyRetention",
            table_alone.clone(),
        ),
        (AlterCaching { database, table: &table, period }.request(), "AlterTablePolicyCaching", table_alone),
        (
            ClearRemoteSchema { database, cluster: &cluster, remote_database: database }.request(),
            "ClearRemoteClusterDatabaseSchema",
            entity.to_vec(),
        ),
        (put.request(), "CreateOrAlterFunction", vec![&function_name, &text, &group_name]),
        (put.create_request(), "CreateFunction", vec![&function_name, &text, &group_name]),
        (listed.request(), "CreateOrAlterFunction", [&[&*function_name][..], &entity].concat()),
        (viewed.request(), "CreateOrAlterFunction", vec![&function_name, &text, &group_name]),
        (CreateMembersTable { database, table: &table }.request(), "CreateMergeTable", vec![&text]),
        (ShowColumns { database, table: &table }.request(), "ShowTableCslSchema", vec![&text]),
        (
            AlterMergeEntityGroup { database, group: &group, entities: &entities }.request(),
            "AlterMergeEntityGroup",
            [&[&*group_name][..], &entity].concat(),
        ),
        (DropFunction { database, function: &function }.request(), "DropFunction", vec![&function_name]),
        (DropEntityGroup { database, group: &group }.request(), "DropEntityGroup", group_alone),
    ];
    let own = partition_table(&table, &cluster).expect("the name is short enough");
    let shared = HeartbeatSource::Shared(table.clone());
    let tables = HeartbeatSource::PerPartition([(own.clone(), cluster.clone())].into());
    let status = |source: &HeartbeatSource| {
        let body = StatusBody {
            database: database.clone(),
            source: source.clone(),
            members: table.clone(),
            window: period,
            time_to_live: period * 2,
        };
        PutFunction { body: Body::Status(body), ..put.clone() }.request()
    };
    let records = "2025-05-03T12:34:56Z,x,[],{}\n";
    let windows = Windows { beats: period, schemas: period };
    let since = std::time::UNIX_EPOCH;
    let endpoints = &BTreeSet::from([cluster.to_string()]);
    let canary =
        |source| Canary { database, entity: entities.first().expect("there is one"), table: &table, source }.request();
    let more: Vec<(Request, &'static str, Vec<&str>)> = vec![
        (CreateHeartbeatTable { database, table: &own }.request(), "CreateMergeTable", vec![own.as_str()]),
        (IngestInline { database, table: &table, records }.requests().remove(0), "IngestInlineIntoTable", vec![&text]),
        (ShowEntityGroups { database, members_of: None }.request(), "ShowEntityGroups", vec![]),
        (ShowEntityGroups { database, members_of: Some(endpoints) }.request(), "ShowEntityGroups", vec![]),
        (ShowHubEntities { function_prefix: &text }.request(), "ShowDatabasesEntities", vec![&text]),
        (
            ShowPolicy { database, table: &table, policy: HeartbeatPolicy::Retention }.request(),
            "ShowTablePolicyRetention",
            vec![&text],
        ),
        (
            ShowPolicy { database, table: &table, policy: HeartbeatPolicy::SchemaEncoding }.request(),
            "ShowColumnPolicyEncoding",
            vec![&text],
        ),
        (status(&shared), "CreateOrAlterFunction", vec![&text, &text, &text]),
        (status(&tables), "CreateOrAlterFunction", vec![own.as_str(), cluster.as_str(), &text]),
    ];
    let queries: Vec<(Request, Vec<&str>)> = vec![
        (ReadHeartbeats { database, source: &shared, windows, since, interval: period }.request(), vec![&text]),
        (
            ReadHeartbeats { database, source: &tables, windows, since, interval: period }.request(),
            vec![own.as_str(), cluster.as_str()],
        ),
        (
            // A pattern becomes a literal of the text.
            ReadHeartbeats { database, source: &shared, windows, since, interval: period }
                .request_of(&[cluster.clone()].into(), Some(&text)),
            vec![&text],
        ),
        (ReadSchemas { database, source: &shared, windows, endpoints }.request(), vec![&text]),
        (ReadSchemas { database, source: &tables, windows, endpoints }.request(), vec![own.as_str(), cluster.as_str()]),
        (ReadArrivals { database, source: &shared, window: period, period }.request(), vec![&text]),
        (
            ReadArrivals { database, source: &tables, window: period, period }.request(),
            vec![own.as_str(), cluster.as_str()],
        ),
        (
            ReadListings { database, source: &shared, window: period, asked: &entities, with_content: true }.request(),
            vec![&text],
        ),
        (
            ReadListings { database, source: &tables, window: period, asked: &entities, with_content: true }.request(),
            vec![own.as_str(), cluster.as_str()],
        ),
        (ReadOwnership { database, table: &table }.request(), vec![&text]),
        (ReadLeft { database, table: &table }.request(), vec![&text]),
        (ReadMembers { database, table: &table }.request(), vec![&text]),
        (canary(Source::Table), entity.to_vec()),
        (canary(Source::View), entity.to_vec()),
    ];
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    // Groups and tables go at the end: what a statement is about must be there.
    let commands = more.into_iter().chain(commands);
    let commands =
        commands.map(|(request, command, texts)| About { request, kind: Kind::Command, command, texts: owned(texts) });
    let queries = queries.into_iter().map(|(request, texts)| About {
        request,
        kind: Kind::Query,
        command: "",
        texts: owned(texts),
    });
    let (first, rest): (Vec<_>, Vec<_>) = commands.partition(|about| about.command.starts_with("CreateMergeTable"));
    first.into_iter().chain(queries).chain(rest).collect()
}

fn read_about(name: &str, About { request, kind, .. }: &About) -> Reading {
    // A world for each name: a statement may be about what an earlier one has made. Partitions are not in it.
    let session = &format!("statements about {name}");
    let question =
        Question { kind: *kind, text: request.text(), session, world: None, database: name, unresolved: true };
    let reading = oracle_of(session).read(question).expect("the oracle answers");
    assert!(reading.ok, "{}", reading.complaint("refused", request.text()));
    assert_eq!(difference(request.text(), &reading), None, "{}", request.text());
    reading
}

#[test]
fn the_names_in_our_statements_are_read_back_equal() {
    let count = |reading: &Reading| reading.strings.len() + reading.names.len();
    let plain: Vec<usize> = statements_about("Plain").iter().map(|about| count(&read_about("Plain", about))).collect();
    let judge = &|name: &str| {
        for (about, plain) in statements_about(name).iter().zip(&plain) {
            let reading = read_about(name, about);
            let text = about.request.text();
            if about.kind == Kind::Command {
                assert_eq!(reading.commands, [about.command], "{text}");
            }
            for expected in &about.texts {
                let read_back = reading.strings.iter().chain(&reading.names).any(|read| read == expected);
                assert!(read_back, "{expected:?} is not read back from {text}");
            }
            assert_eq!(count(&reading), *plain, "a strange name says neither more nor less than a plain one: {text}");
        }
    };
    thread::scope(|scope| {
        for name in strange_names() {
            scope.spawn(move || judge(&name));
        }
    });
}

#[test]
fn the_periods_in_our_statements_are_read_as_they_were_meant() {
    // `61s` of a policy, `00:01:01.001` of all else.
    let period = |text: &str| match text.strip_suffix('s') {
        Some(seconds) => Duration::from_secs(seconds.parse().expect("digits")),
        None => parameters::duration(text),
    };
    let mut found = Vec::new();
    for about in statements_about("Periods").iter().filter(|about| about.kind == Kind::Command) {
        let literals = read_about("Periods", about).literals.into_iter();
        let periods = literals.filter(|(scalar_type, _)| scalar_type == "timespan").map(|(_, inside)| period(&inside));
        found.push((about.command, periods.collect::<Vec<_>>()));
    }
    found.retain(|(_, periods)| !periods.is_empty());
    // Policies count whole seconds.
    let whole = Duration::from_secs(PERIOD.as_secs());
    let expected = [
        ("CreateOrAlterFunction", vec![PERIOD, PERIOD * 2]),
        ("CreateOrAlterFunction", vec![PERIOD, PERIOD * 2]),
        ("AlterMergeTablePolicyRetention", vec![whole]),
        ("AlterTablePolicyCaching", vec![whole]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_kusto_is_refused() {
    let refused = [
        (Kind::Command, ".frobnicate b"),
        (Kind::Command, ".drop table A ifexists\n.drop table B ifexists"),
        (Kind::Command, ".execute database script <|\n.show tables\n.frobnicate b"),
        (Kind::Command, "print 1"),
        (Kind::Query, ".show tables"),
        (Kind::Query, "print 'a"),
        (Kind::Query, "NoSuchTable | count"),
    ];
    for (kind, text) in refused {
        let question = Question { kind, text, session: "refused", world: None, database: "Hub", unresolved: false };
        assert!(!oracle().read(question).expect("the oracle answers").ok, "{text}");
    }
}

/// The snapshot of the crate `kql` is the reviewed list of every statement that our programs send.
#[test]
fn every_statement_of_ours_is_accepted() {
    let snapshots = docs::root().join("kql/src/statements/snapshots");
    let path = snapshots.join("kql__statements__tests__every_statement_renders_as_reviewed.snap");
    let snapshot = fs::read_to_string(path).expect("the snapshot exists");
    let (_, statements) = snapshot.split_once("\n---\n").expect("a snapshot has a header");
    // What `federation_status()` asks is in another database than the function.
    let database = &DatabaseName::new("FleetDiscovery").expect("the name follows Kusto's rules");
    let names =
        ["Heartbeats", "Heartbeats_eu_kusto_windows_net", "Heartbeats_us_kusto_windows_net", "AdxFederationMembers"];
    let [shared, eu, us, members] = &names.map(|name| TableName::new(name).expect("it follows Kusto's rules"));
    for (database, request) in [
        (database.as_str(), CreateHeartbeatTable { database, table: shared }.request()),
        ("Hub", CreateHeartbeatTable { database, table: eu }.request()),
        ("Hub", CreateHeartbeatTable { database, table: us }.request()),
        (database.as_str(), CreateMembersTable { database, table: members }.request()),
    ] {
        let (kind, text, session) = (Kind::Command, request.text(), "statements");
        let question = Question { kind, text, session, world: None, database, unresolved: false };
        assert!(oracle().read(question).expect("the oracle answers").ok, "{text}");
    }
    let (mut kind, mut name) = (Kind::Query, String::new());
    let mut sent = BTreeMap::<String, BTreeSet<String>>::new();
    let mut read_statements = 0;
    for statement in statements.split("--- ").skip(1) {
        // `name Kind database`, or `parameter = value`; the text follows the last of them.
        let (header, text) = statement.split_once('\n').expect("a header is a line");
        if !header.contains(" = ") {
            kind = if header.contains("Query ") { Kind::Query } else { Kind::Command };
        }
        if !header.contains(" = ") {
            name = header.split(' ').next().unwrap_or_default().to_owned();
        }
        if !text.is_empty() {
            let reading = read("statements", kind, text.trim_end_matches('\n'));
            sent.entry(name.clone()).or_default().extend(reading.commands);
            read_statements += 1;
        }
    }
    assert!(read_statements >= 20, "{read_statements} statements");
    // The kinds that recordings of our agents are held against.
    for planned in PLANNED.iter().filter(|planned| !["script", "ingest_csv"].contains(&planned.statement)) {
        let kinds: BTreeSet<String> = planned.kinds.iter().map(|kind| (*kind).to_owned()).collect();
        assert_eq!(sent.get(planned.statement), Some(&kinds), "{}", planned.statement);
    }
}

/// Who sends what is held against recordings: so no agent of ours sends what the role that it is given does not hold.
#[test]
fn each_agents_role_holds_what_its_statements_need() {
    for planned in &PLANNED {
        // What has no text of its own needs what another one does.
        let text = match planned.statement {
            "extend_members_table" => "create_members_table",
            "ingest_csv" => "ingest_inline",
            statement => statement,
        };
        let text = docs::read(&format!("kql/text/{text}.kql"));
        let permission = text.lines().find_map(|line| line.strip_prefix("// Permission: ")).expect("a text says it");
        for sender in planned.senders {
            assert!(
                sender.permissions().contains(&permission),
                "{sender:?} sends '{}': {permission}",
                planned.statement
            );
        }
    }
}
