//! Databases, tables, functions, policies, mappings, principals and what shows them.

use serde_json::{Value, json};

use crate::support::Local;

#[tokio::test]
async fn databases_are_shown_created_and_dropped() {
    let local = Local::start().await;
    let shown = local.records(".show databases").await;
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["DatabaseName"], "Logs");
    assert_eq!(shown[0]["IsCurrent"], true);
    assert_eq!(shown[0]["Version"], "v1.1");
    local.command(".create database Extra persist (@'c:\\md', @'c:\\data')").await;
    local.send("/v1/rest/mgmt", json!({ "db": "Extra", "csl": ".create table Kept (a:long)" })).await;
    assert_eq!(local.records(".create database extra ifnotexists").await[0]["Created"], "false");
    let (_, kept) = local.send("/v1/rest/mgmt", json!({ "db": "Extra", "csl": ".show tables" })).await;
    assert_eq!(kept["Tables"][0]["Rows"][0][0], "Kept");
    assert_eq!(local.refusal(".create database EXTRA").await.1, "BadRequest_EntityAlreadyExists");
    local.command(".drop database Extra").await;
    assert_eq!(local.refusal(".drop database Extra").await.1, "BadRequest_DatabaseNotExist");
    assert_eq!(local.command(".show databases").await.len(), 2);
}

#[tokio::test]
async fn a_table_is_created_merged_shown_and_dropped() {
    let local = Local::start().await;
    let created = local
        .records(".create table ['My T'] (Timestamp:datetime, ['a b']:long) with (folder='f', docstring='d')")
        .await;
    assert_eq!(created[0]["TableName"], "My T");
    assert_eq!(created[0]["Folder"], "f");
    let schema: Value = serde_json::from_str(created[0]["Schema"].as_str().unwrap()).unwrap();
    assert_eq!(
        schema["OrderedColumns"][0],
        json!({ "Name": "Timestamp", "Type": "System.DateTime", "CslType": "datetime" })
    );
    local.command(".create-merge table ['My T'] (['a b']:long, More:dynamic)").await;
    local.command(".alter-merge table ['My T'] (Last:string)").await;
    let shown = local.records(".show table ['My T'] cslschema").await;
    assert_eq!(shown[0]["Schema"], "Timestamp:datetime,['a b']:long,More:dynamic,Last:string");
    assert_eq!(local.command(".show table ['My T']").await.len(), 4);
    assert_eq!(local.records(".show tables").await[0]["DocString"], "d");
    assert_eq!(local.command(".drop table ['My T']").await, Vec::<Value>::new());
    assert_eq!(local.refusal(".drop table ['My T']").await.1, "BadRequest_EntityNotFound");
    local.command(".drop table ['My T'] ifexists").await;
}

#[tokio::test]
async fn creating_a_table_again_succeeds_with_the_same_columns_only() {
    let local = Local::start().await;
    local.command(".create table T (a:long)").await;
    local.command(".create table T (a:long)").await;
    assert_eq!(local.refusal(".create table T (a:string)").await.1, "BadRequest_EntityAlreadyExists");
    assert_eq!(local.refusal(".create-merge table T (a:string)").await.1, "General_BadRequest");
    assert_eq!(local.refusal(".alter-merge table U (a:string)").await.1, "BadRequest_EntityNotFound");
}

#[tokio::test]
async fn table_names_are_case_sensitive_and_database_names_are_not() {
    let local = Local::start().await;
    local.command(".create table T (a:long)").await;
    assert_eq!(local.refusal(".show table t cslschema").await.0, 400);
    let body = json!({ "db": "lOGS", "csl": ".show table T cslschema" });
    let (status, body) = local.send("/v1/rest/mgmt", body).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["Tables"][0]["Rows"][0][2], "Logs");
}

#[tokio::test]
async fn functions_are_stored_shown_and_dropped() {
    let local = Local::start().await;
    let text = ".create-or-alter function with (folder='adx', docstring='hash', skipvalidation=true) ['F']() { Missing | take 1 }";
    let expected = json!({ "Name": "F", "Parameters": "()", "Body": "{ Missing | take 1 }", "Folder": "adx", "DocString": "hash" });
    assert_eq!(local.records(text).await[0], expected);
    assert_eq!(local.records(".show function F").await[0], expected);
    assert_eq!(local.records(".show functions").await, [expected]);
    assert_eq!(local.refusal(".create function F() { T }").await.1, "BadRequest_EntityAlreadyExists");
    local.command(".create-or-alter function with (skipvalidation=true) G(a:long) { print a }").await;
    assert_eq!(local.refusal(".drop functions (F, H)").await.1, "BadRequest_EntityNotFound");
    assert_eq!(local.command(".show functions").await.len(), 2);
    local.command(".drop functions (F, H) ifexists").await;
    local.command(".drop function ['G'] ifexists").await;
    local.command(".drop function ['G'] ifexists").await;
    assert_eq!(local.command(".show functions").await.len(), 0);
    assert_eq!(local.refusal(".show function F").await.1, "BadRequest_EntityNotFound");
}

#[tokio::test]
async fn a_function_without_skipvalidation_must_mean_something() {
    let local = Local::start().await;
    let (status, code, message) = local.refusal(".create-or-alter function F() { Missing | take 1 }").await;
    assert_eq!((status, code.as_str()), (400, "General_BadRequest"), "{message}");
    assert!(message.contains("SEM"), "{message}");
    assert_eq!(local.command(".show functions").await.len(), 0);
}

#[tokio::test]
async fn a_materialized_view_is_read_like_a_table() {
    let local = Local::start().await;
    local.command(".create table T (Key:string, Value:long)").await;
    let text = ".create materialized-view with (folder='f', docstring='d') Last on table T { T | where Value > 0 | summarize Value = max(Value) by Key }";
    let made = json!({
        "Name": "Last", "SourceTable": "T", "Query": "T | where Value > 0 | summarize Value = max(Value) by Key",
        "IsHealthy": true, "IsEnabled": true, "Folder": "f", "DocString": "d",
    });
    assert_eq!(local.records(text).await, std::slice::from_ref(&made));
    assert_eq!(local.records(".show materialized-views").await, [made]);
    local.command(".create ifnotexists materialized-view Last on table T { T | summarize count() }").await;
    local.command(".ingest inline into table T <| a,1\na,2\nb,0").await;
    assert_eq!(local.query("Last").await, [json!(["a", 2])]);
    assert_eq!(local.query("union La* | project Value").await, [json!([2])]);
    assert_eq!(local.query("database('Logs').Last | count").await, [json!([1])]);
    let shown = local.records(".show databases entities | where EntityType == 'MaterializedView'").await;
    assert_eq!(shown[0]["CslOutputSchema"], "Key:string, Value:long");
    let schema = local.records(".show database Logs schema as json").await;
    assert!(schema[0]["DatabaseSchema"].as_str().unwrap().contains(r#""MaterializedViews":{"Last":"#), "{schema:?}");
    for taken in [
        ".create table Last (a:long)",
        ".create function Last() { T }",
        ".create materialized-view T on table T { T | summarize count() }",
        ".create materialized-view Last on table T { T | summarize count() }",
    ] {
        assert_eq!(local.refusal(taken).await.1, "BadRequest_EntityAlreadyExists", "{taken}");
    }
    for query in ["T", "T | take 1", "U | summarize count()", "T | summarize count() by Key | summarize count()"] {
        let (_, code, message) = local.refusal(&format!(".create materialized-view V on table T {{ {query} }}")).await;
        assert_eq!(code, "General_BadRequest", "{query}");
        assert!(message.contains("must read the table 'T' and end with its only 'summarize'"), "{message}");
    }
    let missing = ".create materialized-view V on table U { U | summarize count() }";
    assert_eq!(local.refusal(missing).await.1, "BadRequest_EntityNotFound");
    local.command(".drop materialized-view Last").await;
    assert_eq!(local.refusal(".drop materialized-view Last").await.1, "BadRequest_EntityNotFound");
    assert_eq!(local.command(".show materialized-views").await, Vec::<Value>::new());
}

#[tokio::test]
async fn entities_of_all_databases_are_shown_in_one_call() {
    let local = Local::start().await;
    local.command(".create table T (a:long, ['b c']:string) with (docstring='d')").await;
    local.command(".create entity_group G (database('Metrics'))").await;
    local.command(".create-or-alter function with (folder='f') F() { print x = 1 }").await;
    let body = json!({ "db": "Metrics", "csl": ".create table M (v:real)" });
    assert_eq!(local.send("/v1/rest/mgmt", body).await.0, 200);
    let shown = local.records(".show databases entities with (resolveFunctionSchema=true)").await;
    let expected = |database: &str, kind: &str, name: &str| {
        json!({
            "DatabaseName": database, "EntityType": kind, "EntityName": name, "DocString": "", "Folder": "", "CslInputSchema": "", "Content": "",
            "CslOutputSchema": "", "Properties": {},
        })
    };
    let mut table = expected("Logs", "Table", "T");
    table["DocString"] = "d".into();
    table["CslOutputSchema"] = "a:long, ['b c']:string".into();
    let mut group = expected("Logs", "EntityGroup", "G");
    group["Content"] = r#"["database('Metrics')"]"#.into();
    let mut function = expected("Logs", "Function", "F");
    function["Folder"] = "f".into();
    function["CslInputSchema"] = "()".into();
    function["Content"] = "{ print x = 1 }".into();
    let mut other = expected("Metrics", "Table", "M");
    other["CslOutputSchema"] = "v:real".into();
    function["CslOutputSchema"] = "x:long".into();
    assert_eq!(shown, [table, group, function, other]);
}

#[tokio::test]
async fn schemas_come_as_json_and_only_when_they_are_newer() {
    let local = Local::start().await;
    local.command(".create table T (a:long)").await;
    local.command(".create-or-alter function with (skipvalidation=true) F(x:long) { T }").await;
    let schema = async |csl: &str| -> Value {
        let rows = local.command(csl).await;
        serde_json::from_str(rows[0][0].as_str().unwrap()).unwrap()
    };
    let whole = schema(".show databases (Logs, Metrics) schema as json").await;
    let logs = &whole["Databases"]["Logs"];
    assert_eq!(logs["Tables"]["T"]["OrderedColumns"][0]["CslType"], "long");
    assert_eq!(logs["Functions"]["F"]["InputParameters"][0]["CslType"], "long");
    assert_eq!((&logs["MajorVersion"], &logs["MinorVersion"]), (&json!(1), &json!(3)));
    assert_eq!(whole["Databases"]["Metrics"]["Tables"], json!({}));
    let tables = schema(".show databases (Logs) schema as json with (Tables=true)").await;
    assert_eq!(tables["Databases"]["Logs"]["Functions"], json!({}));
    let newer = schema(".show database Logs schema if_later_than \"v1.2\" as json").await;
    assert_eq!(newer["Databases"]["Logs"]["MinorVersion"], 3);
    let same = schema(".show database Logs schema if_later_than \"v1.3\" as json").await;
    assert_eq!(same, json!({ "Databases": {} }));
    assert_eq!(local.command(".show database Logs schema if_later_than \"v1.3\"").await.len(), 0);
    let flat = local.records(".show database Logs schema").await;
    assert_eq!(flat[0]["Version"], "v1.3");
    assert_eq!((&flat[2]["ColumnName"], &flat[2]["ColumnType"]), (&json!("a"), &json!("System.Int64")));
}

#[tokio::test]
async fn every_schema_change_raises_the_version_and_nothing_else_does() {
    let local = Local::start().await;
    let version = async || local.records(".show database").await[0]["Version"].clone();
    assert_eq!(version().await, "v1.1");
    for changing in [
        ".create table T (a:long)",
        ".create-merge table T (b:long)",
        ".create-or-alter function with (skipvalidation=true) F() { T }",
        ".create entity_group G (database('Metrics'))",
        ".drop function F",
    ] {
        let before = version().await;
        local.command(changing).await;
        assert_ne!(version().await, before, "{changing}");
    }
    for neutral in [
        ".create table T (a:long, b:long)",
        ".create-merge table T (b:long)",
        ".create entity_group G ifnotexists (database('Metrics'))",
        ".alter table T policy streamingingestion enable",
        ".ingest inline into table T <| 1,2",
        ".drop function F ifexists",
    ] {
        let before = version().await;
        local.command(neutral).await;
        assert_eq!(version().await, before, "{neutral}");
    }
}

#[tokio::test]
async fn policies_are_shown_as_kusto_prints_them_and_null_where_unset() {
    let local = Local::start().await;
    local.command(".create table T (a:long, Schema:dynamic)").await;
    let policy = async |csl: &str| local.records(csl).await[0]["Policy"].as_str().unwrap().to_owned();
    assert_eq!(policy(".show table T policy retention").await, "null");
    let shown = local.records(".alter-merge table T policy retention softdelete = 7d recoverability = disabled").await;
    assert_eq!(shown[0]["PolicyName"], "RetentionPolicy");
    assert_eq!(shown[0]["EntityName"], "[Logs].[T]");
    assert_eq!(shown[0]["EntityType"], "Table");
    assert_eq!(shown[0]["Policy"], r#"{"SoftDeletePeriod":"7.00:00:00","Recoverability":"Disabled"}"#);
    local.command(".alter-merge table T policy retention softdelete = 1d").await;
    let expected = r#"{"SoftDeletePeriod":"1.00:00:00","Recoverability":"Disabled"}"#;
    assert_eq!(policy(".show table T policy retention").await, expected);
    local.command(".alter table T policy caching hot = 1d").await;
    assert!(policy(".show table T policy caching").await.starts_with(r#"{"DataHotSpan":{"Value":"1.00:00:00"}"#));
    local.command(".alter table T policy streamingingestion enable").await;
    assert_eq!(
        policy(".show table T policy streamingingestion").await,
        r#"{"IsEnabled":true,"HintAllocatedRate":null}"#
    );
    local.command(".alter database Logs policy streamingingestion '{\"IsEnabled\": false}'").await;
    assert!(policy(".show database Logs policy streamingingestion").await.contains("false"));
    assert_eq!(policy(".show column T.Schema policy encoding").await, "null");
    local.command(".alter column T.Schema policy encoding type='BigObject32'").await;
    assert_eq!(policy(".show column T.Schema policy encoding").await, "BigObject32");
    assert_eq!(
        local.refusal(".alter column T.Missing policy encoding type='BigObject32'").await.1,
        "BadRequest_EntityNotFound"
    );
}

#[tokio::test]
async fn principals_are_kept_once() {
    let local = Local::start().await;
    local.command(".create table T (a:long)").await;
    local.command(".add table T ingestors ('aadapp=id;tenant') 'agent'").await;
    local.command(".add table T ingestors ('aadapp=id;tenant') 'agent'").await;
    let shown = local.records(".show table T principals").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["Role"], "Table T Ingestor");
    assert_eq!(shown[0]["PrincipalFQN"], "aadapp=id;tenant");
    local.command(".add database Logs viewers ('aaduser=a@b', 'aadgroup=g')").await;
    assert_eq!(local.command(".show database Logs principals").await.len(), 2);
    assert_eq!(local.refusal(".add database Logs viewers ('nobody')").await.0, 400);
}

#[tokio::test]
async fn operators_may_follow_a_show_command() {
    let local = Local::start().await;
    local.command(".create table A (a:long)").await;
    local.command(".create table B (a:long)").await;
    assert_eq!(local.command(".show tables | where TableName == 'A' | project TableName").await, [json!(["A"])]);
    assert_eq!(local.command(".show tables | count").await, [json!([2])]);
    let entities = ".show databases entities | where EntityType == 'Table' and EntityName == 'B' | project EntityName";
    assert_eq!(local.command(entities).await, [json!(["B"])]);
}

#[tokio::test]
async fn an_unknown_command_is_refused_with_its_name_and_position() {
    let local = Local::start().await;
    let (status, code, message) = local.refusal(".show journal").await;
    assert_eq!((status, code.as_str()), (400, "BadRequest_NotSupported"));
    assert_eq!(
        message,
        "'.show' of this is not supported by this server: 'journal' in '.show journal' [line:position=1:7]"
    );
    let (_, code, message) = local.refusal(".show tables extra").await;
    assert_eq!(code, "BadRequest_SyntaxError");
    assert!(message.contains("expected the end of the text"), "{message}");
}

#[tokio::test]
async fn commands_without_an_effect_here_answer_as_kusto_does() {
    let local = Local::start().await;
    let cleared = local.records(".clear cache remote-schema cluster('https://c.example').database('D')").await;
    assert_eq!(cleared, [json!({ "NodeId": "0", "Status": "Cache cleared for database D" })]);
    assert_eq!(local.records(".show version").await[0]["ServiceType"], "Engine");
    assert_eq!(local.command(".show cluster").await.len(), 1);
    assert_eq!(local.records(".show diagnostics").await[0]["IsHealthy"], true);
}

#[tokio::test]
async fn functions_keep_their_folder_and_docstring_and_answer_whether_or_not_they_are_views() {
    let local = Local::start().await;
    local.command(".create-or-alter function with (folder='f', docstring='d', view=true) V() { print x = 1 }").await;
    local.command(".create-or-alter function with (view=false) F() { print x = 2 }").await;
    let shown = local.records(".show functions | project Name, Folder, DocString").await;
    assert!(shown.contains(&json!({ "Name": "V", "Folder": "f", "DocString": "d" })), "{shown:?}");
    assert_eq!(local.query("V | union F | summarize sum(x)").await, [json!([3])]);
    local.command(".drop function V ifexists").await;
    local.command(".drop function V ifexists").await;
    assert_eq!(local.refusal(".show function V").await.0, 400);
}

#[tokio::test]
async fn a_remote_schema_is_remembered_until_it_is_cleared() {
    let (hub, partition) = (Local::start().await, Local::start().await);
    let remote = format!("cluster('{}').database('Logs')", partition.server.url());
    let columns = format!("{remote}.T | getschema | project ColumnName");
    partition.command(".create table T (old:long)").await;
    assert_eq!(hub.query(&columns).await, [json!(["old"])]);
    partition.command(".drop table T").await;
    partition.command(".create table T (fresh:long)").await;
    assert_eq!(hub.query(&columns).await, [json!(["old"])]);
    hub.command(&format!(".clear cache remote-schema {remote}")).await;
    assert_eq!(hub.query(&columns).await, [json!(["fresh"])]);
}
