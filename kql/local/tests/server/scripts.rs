//! `.execute database script`: sequential, not transactional, a success whose rows must be read.

use serde_json::json;

use crate::support::Local;

#[tokio::test]
async fn every_command_has_a_row_and_failures_do_not_stop_a_script_that_continues() {
    let local = Local::start().await;
    let script = ".execute database script with (ContinueOnErrors=true) <|\n\
        // tables first\n\
        .create-merge table T (a:long)\n\
        .drop entity_group Missing\n\
        .create entity_group G (database('Logs'))\n\
        .rename table T to U\n\
        .show tables\n\
        .create-or-alter function with (skipvalidation=true) F() {\n  T\n  | count\n}\n";
    let rows = local.records(script).await;
    let outcomes: Vec<_> = rows.iter().map(|row| (row["CommandType"].clone(), row["Result"].clone())).collect();
    assert_eq!(
        outcomes,
        [
            (json!("TableCreate"), json!("Completed")),
            (json!("EntityGroupDrop"), json!("Failed")),
            (json!("EntityGroupCreate"), json!("Completed")),
            (json!("Unknown"), json!("Failed")),
            (json!("Show"), json!("Skipped")),
            (json!("FunctionCreateOrAlter"), json!("Completed")),
        ]
    );
    assert_eq!(rows[1]["CommandText"], ".drop entity_group Missing");
    assert_eq!(rows[1]["Reason"], "Entity ID 'Missing' of kind 'EntityGroup' was not found.");
    assert_eq!(rows[0]["Reason"], "");
    assert_ne!(rows[0]["OperationId"], rows[1]["OperationId"]);
    assert_eq!(local.command(".show functions").await.len(), 1);
}

#[tokio::test]
async fn a_script_stops_at_its_first_failure_by_default_and_keeps_what_was_done() {
    let local = Local::start().await;
    let script =
        ".execute database script <|\n.create table T (a:long)\n.drop entity_group Missing\n.create table U (a:long)";
    let rows = local.records(script).await;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["Result"], "Failed");
    assert_eq!(local.command(".show tables | project TableName").await, [json!(["T"])]);
}

#[tokio::test]
async fn a_script_that_throws_fails_with_its_first_failure() {
    let local = Local::start().await;
    let script =
        ".execute database script with (ThrowOnErrors=true) <|\n.create table T (a:long)\n.drop entity_group Missing";
    assert_eq!(local.refusal(script).await.1, "BadRequest_EntityNotFound");
    assert_eq!(local.command(".show tables").await.len(), 1);
    let both = ".execute database script with (ThrowOnErrors=true, ContinueOnErrors=true) <|\n.create table T (a:long)";
    assert_eq!(local.refusal(both).await.0, 400);
}

#[tokio::test]
async fn a_name_with_a_line_end_in_its_quotes_stays_one_command() {
    let local = Local::start().await;
    local.command(".create table T (a:long)").await;
    let script = ".execute database script with (ContinueOnErrors=true) <|\n\
        .create-or-alter function with (docstring='x\\n.drop table T', skipvalidation=true) F() { T }";
    assert_eq!(local.records(script).await.len(), 1);
    assert_eq!(local.command(".show tables").await.len(), 1);
}
