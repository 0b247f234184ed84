//! Every statement as it is sent, in one snapshot: a change of any text shows in review.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    endpoint::ClusterEndpoint,
    names::{ColumnName, EntityGroupName, FunctionName, TableName},
    types::ScalarType,
};

fn entities() -> BTreeSet<Entity> {
    let entity = |host: &str| Entity {
        cluster: ClusterEndpoint::parse(&format!("https://{host}.kusto.windows.net")).unwrap(),
        database: DatabaseName::new("Logs").unwrap(),
    };
    BTreeSet::from([entity("us"), entity("eu")])
}

fn put_function(members: Members) -> PutFunction {
    PutFunction {
        database: DatabaseName::new("Logs").unwrap(),
        function: FunctionName::new("federated_Http Requests").unwrap(),
        keeper: DatabaseName::new("FleetDiscovery").unwrap(),
        folder: "people's \\ facades".to_owned(),
        description: "Http Requests of every partition".to_owned(),
        body: Body::Federated(FederatedBody {
            members,
            table: TableName::new("Http Requests").unwrap(),
            source: Source::Table,
            converted: BTreeMap::new(),
            best_effort: true,
        }),
    }
}

fn view_with_conversions() -> PutFunction {
    let column = |name: &str| ColumnName::new(name).unwrap();
    let converted = BTreeMap::from([
        (column("a b"), ScalarType::Long),
        (column("c"), ScalarType::String),
        (column("d"), ScalarType::Real),
        (column("e"), ScalarType::Decimal),
    ]);
    let mut put = put_function(Members::Entities(entities()));
    if let Body::Federated(body) = &mut put.body {
        (body.source, body.converted) = (Source::View, converted);
    }
    put
}

fn status_function() -> PutFunction {
    let (database, table) = (DatabaseName::new("FleetDiscovery").unwrap(), TableName::new("Heartbeats").unwrap());
    let members = TableName::new("AdxFederationMembers").unwrap();
    let source = HeartbeatSource::Shared(table);
    let status = StatusBody {
        database,
        source,
        members,
        window: Duration::from_secs(7 * 24 * 3600),
        time_to_live: Duration::from_secs(3600),
    };
    PutFunction { body: Body::Status(status), ..put_function(Members::Entities(entities())) }
}

#[test]
fn every_statement_renders_as_reviewed() {
    let database = &DatabaseName::new("FleetDiscovery").unwrap();
    let table = &TableName::new("Heartbeats").unwrap();
    let group = &EntityGroupName::new("Logs_Partitions").unwrap();
    let function = &FunctionName::new("federated_Requests").unwrap();
    let cluster = &ClusterEndpoint::parse("http://127.0.0.1:8081").unwrap();
    let hour = Duration::from_secs(3600);
    let windows = Windows { beats: 7 * 24 * hour, schemas: 2 * hour };
    let shared = HeartbeatSource::Shared(table.clone());
    let own = entities().into_iter().map(|entity| (partition_table(table, &entity.cluster).unwrap(), entity.cluster));
    let own = HeartbeatSource::PerPartition(own.collect());
    let endpoints = &BTreeSet::from(["https://eu.kusto.windows.net/".into()]);
    let create = CreateEntityGroup { database, group, entities: &entities() }.request();
    let put = put_function(Members::Group(group.clone())).request();
    let policies = [
        HeartbeatPolicy::Retention,
        HeartbeatPolicy::Caching,
        HeartbeatPolicy::StreamingIngestion,
        HeartbeatPolicy::SchemaEncoding,
    ];
    let mut requests = vec![
        ShowDatabases.request(),
        ShowInventory.request(),
        ShowHubEntities { function_prefix: "federated_" }.request(),
        ShowEntityGroups { database, members_of: None }.request(),
        ShowEntityGroups { database, members_of: Some(&["0a".to_owned(), "1'".to_owned()].into()) }.request(),
        create.clone(),
        AlterEntityGroup { database, group, entities: &entities() }.request(),
        AlterMergeEntityGroup { database, group, entities: &entities() }.request(),
        DropEntityGroup { database, group }.request(),
        put.clone(),
        put_function(Members::Entities(entities())).request(),
        put_function(Members::Entities(entities())).create_request(),
        view_with_conversions().request(),
        status_function().create_request(),
        DropFunction { database, function }.request(),
        ClearRemoteSchema { database, cluster, remote_database: &DatabaseName::new("Logs").unwrap() }.request(),
        Canary { database, entity: entities().first().unwrap(), table, source: Source::Table }.request(),
        Canary { database, entity: entities().first().unwrap(), table, source: Source::View }.request(),
        CreateHeartbeatTable { database, table }.request(),
        EnableStreaming { database, table }.request(),
        AlterSchemaEncoding { database, table }.request(),
        AlterRetention { database, table, period: 7 * 24 * hour }.request(),
        AlterCaching { database, table, period: 24 * hour }.request(),
        IngestInline { database, table, records: "2025-05-03T12:34:56Z,x,[],{}\n" }.requests().remove(0),
        ReadHeartbeats { database, source: &shared, windows, since: UNIX_EPOCH + hour, interval: hour }.request(),
        ReadHeartbeats { database, source: &shared, windows, since: UNIX_EPOCH + hour, interval: hour }
            .request_of(&[cluster.clone()].into(), Some("adx-*-prod.*")),
        ReadSchemas { database, source: &shared, windows, endpoints }.request(),
        ReadHeartbeats { database, source: &own, windows, since: UNIX_EPOCH + hour, interval: hour }.request(),
        ReadSchemas { database, source: &own, windows, endpoints }.request(),
        ReadArrivals { database, source: &shared, window: hour, period: hour / 12 }.request(),
        ReadArrivals { database, source: &own, window: hour, period: hour / 12 }.request(),
        ReadListings { database, source: &shared, window: hour, asked: &entities(), with_content: false }.request(),
        ReadListings { database, source: &own, window: hour, asked: &entities(), with_content: false }.request(),
        CreateOwnershipTable { database, table }.request(),
        ReadOwnership { database, table }.request(),
        ReadLeft { database, table }.request(),
        CreateMembersTable { database, table }.request(),
        CreateMembersTable { database, table }.extension(),
        ShowColumns { database, table }.request(),
        ReadMembers { database, table }.request(),
    ];
    requests.extend(policies.map(|policy| ShowPolicy { database, table, policy }.request()));
    requests.extend(scripts(database, &[create, put]).into_iter().map(|(request, _)| request));
    let mut shown = String::new();
    for request in &requests {
        shown += &format!(
            "--- {} {:?} {:?}\n",
            request.name(),
            request.kind(),
            request.database().map(DatabaseName::as_str)
        );
        for (name, value) in request.parameters() {
            shown += &format!("--- {name} = {value}\n");
        }
        shown += request.text();
        shown += "\n";
        assert!(!request.text().contains("{{"), "an unfilled placeholder in {}", request.name());
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn each_partition_has_a_table_of_its_own() {
    let table = TableName::new("Heartbeats").unwrap();
    let name =
        |endpoint: &str| partition_table(&table, &ClusterEndpoint::parse(endpoint).unwrap()).unwrap().to_string();
    let names: BTreeMap<String, &str> = [
        "https://a-b.kusto.windows.net",
        "https://a.b.kusto.windows.net",
        "https://a--b.kusto.windows.net",
        "http://127.0.0.1:80",
        "http://127.0.0.1",
        "http://[::1]:80",
        "http://localhost:80",
    ]
    .into_iter()
    .map(|endpoint| (name(endpoint), endpoint))
    .collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(name("https://EU-1.westeurope.kusto.windows.net/"), "Heartbeats_eu__1_westeurope_kusto_windows_net");
    assert!(names.keys().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')), "{names:?}");
    let long = TableName::new("x".repeat(1022)).unwrap();
    assert!(partition_table(&long, &ClusterEndpoint::parse("https://a.b").unwrap()).is_err());
}

#[test]
fn a_functions_content_shows_in_its_mark() {
    let of_group = put_function(Members::Group(EntityGroupName::new("Logs_Partitions").unwrap()));
    let of_entities = put_function(Members::Entities(entities()));
    assert_eq!(keeper_of(&of_group.database, &of_group.function, &of_group.docstring()), Some(of_group.keeper.clone()));
    assert_ne!(of_group.docstring(), of_entities.docstring());
    assert_eq!(of_group.docstring(), of_group.docstring());
}

#[test]
fn scripts_keep_order_and_split_by_size() {
    let database = &DatabaseName::new("Logs").unwrap();
    let command = |name: String| DropFunction { database, function: &FunctionName::new(name).unwrap() }.request();
    let commands: Vec<_> = (0..2000).map(|number| command(format!("{number:0>1000}"))).collect();
    let packed = scripts(database, &commands);
    assert!(packed.iter().all(|(script, _)| script.text().len() <= MAX_SCRIPT_BYTES + 100));
    assert_eq!(packed.iter().map(|(_, count)| count).sum::<usize>(), 2000);
    assert_eq!(packed.len(), 4);
    let sent: Vec<_> = packed.iter().flat_map(|(script, _)| script.text().lines().skip(1)).collect();
    assert_eq!(sent, commands.iter().map(Request::text).collect::<Vec<_>>());
    assert!(scripts(database, &[]).is_empty());
}

#[test]
fn records_keep_order_and_split_by_size_at_line_ends() {
    let (database, table) = (&DatabaseName::new("Logs").unwrap(), &TableName::new("Heartbeats").unwrap());
    let sent = |lines: &[String]| -> Vec<String> {
        let requests = IngestInline { database, table, records: &lines.concat() }.requests();
        let records = |request: &Request| request.text().split_once(" <|\n").unwrap().1.to_owned();
        requests.iter().map(records).collect()
    };
    let line = |number: usize, bytes: usize| {
        let number = number.to_string();
        format!("{}{number}\n", "0".repeat(bytes - 1 - number.len()))
    };
    let lines: Vec<_> = (0..2000).map(|number| line(number, 1000)).collect();
    let parts = sent(&lines);
    assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [524_000, 524_000, 524_000, 428_000]);
    assert!(parts.concat() == lines.concat() && parts.iter().all(|part| part.ends_with('\n')));
    // What is as long as it may be is one part.
    assert_eq!(sent(&[line(1, MAX_SCRIPT_BYTES - 10), line(2, 10)]).len(), 1);
    assert_eq!(sent(&[line(1, MAX_SCRIPT_BYTES - 10), line(2, 11)]).len(), 2);
    let long = [line(1, 10), line(2, MAX_SCRIPT_BYTES + 1), line(3, 10), line(4, 10)];
    assert_eq!(sent(&long), [long[0].clone(), long[1].clone(), long[2..].concat()]);
    assert!(sent(&[]).is_empty());
}

/// What README grants, or less: Database Admin holds all but Table Ingestor, which is all that a partition's agent has on a hub.
const PERMISSIONS: [&str; 15] = [
    "Database Admin.",
    "Database User (to create), Table Admin (to merge).",
    "Database User, Viewer or Monitor of each database that is to be seen.",
    "Database User, Viewer or Monitor of each hub database.",
    "Database User, Viewer or Monitor.",
    "Database User.",
    "Database Viewer on the partition, for the hub agent.",
    "Database Viewer or Monitor.",
    "Database Viewer.",
    "Function Admin.",
    "Table Admin.",
    "Table Ingestor.",
    "any database role.",
    "the caller needs Viewer on each partition's database.",
    "the caller needs Viewer on the heartbeat database.",
];

#[test]
fn every_text_says_what_it_is_for_who_may_send_it_and_what_it_is_given() {
    let folder = "text";
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let comments: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
        let comment = comments.join("\n");
        let statement = text.lines().skip(comments.len()).collect::<Vec<_>>().join("\n");
        assert!(comment.contains("// Purpose: "), "{}", path.display());
        let permission = comments.iter().find_map(|line| line.strip_prefix("// Permission: ")).unwrap_or_default();
        assert!(PERMISSIONS.contains(&permission), "{}: {permission:?}", path.display());
        for placeholder in statement.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
            let named = format!("{{{{{}}}}}", placeholder.0);
            assert!(comment.contains(&named), "{}: {named}", path.display());
        }
    }
}
