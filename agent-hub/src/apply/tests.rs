//! What is made of the rows with which a hub answers a script or an ingestion: a hub on loopback.

use std::{collections::BTreeMap, sync::Arc};

use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
    statements::{Body, Entity, FederatedBody, MAX_SCRIPT_BYTES, Members, PutFunction, Source},
    types::ScalarType,
};
use serde_json::{Value, json};
use shared::{
    kusto::{ColumnInfo, KustoClient, ResultTable},
    runtime::GuardReason,
};

use super::{Applied, Outcome, Recorded, all_nodes_forgot, apply, write_members};
use crate::{
    drift::Drift,
    hub::Hub,
    membership::Membership,
    plan::{Change, Plan, PutCause, Record, RecordState},
    testing::{answering_hub, cluster, hub_config, ingested, now},
};

const COLUMNS: [&str; 5] = ["OperationId", "CommandType", "CommandText", "Result", "Reason"];

/// Makes a plan's changes as a process that knows of no object.
async fn apply_new(hub: &KustoClient, plan: Plan) -> Outcome {
    apply(hub, &hub_config(""), &Hub::default(), plan, &mut Drift::default(), now()).await
}

/// The answer to a script: rows of five cells.
fn script_answer(columns: [&str; 5], rows: &[Value]) -> Value {
    let columns = columns.map(|name| json!({"ColumnName": name, "DataType": "String", "ColumnType": "string"}));
    json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": rows}]})
}

/// How each of three changes went, whose script was answered with rows of these results and reasons, under these columns.
async fn outcomes(columns: [&str; 5], rows: &[(&str, &str)]) -> Vec<Result<(), String>> {
    let drop = |name: &str| Change::DropFunction {
        database: DatabaseName::new("Logs").unwrap(),
        function: FunctionName::new(name).unwrap(),
    };
    let changes = ["federated_A", "federated_B", "federated_C"].map(drop);
    // More rows than changes are of the last one.
    let texts = changes.iter().chain(std::iter::repeat(&changes[2])).map(|change| change.request().text().to_owned());
    let rows: Vec<Value> =
        texts.zip(rows).map(|(text, (result, reason))| json!(["id", "DropFunction", text, result, reason])).collect();
    let answer = script_answer(columns, &rows);
    let (hub, _) = answering_hub(move |_| answer.clone()).await;
    let plan = Plan { changes: changes.to_vec(), ..Plan::default() };
    let applied = apply_new(&hub, plan).await.applied;
    assert_eq!(applied.iter().map(|applied| applied.change.clone()).collect::<Vec<_>>(), changes);
    applied.into_iter().map(|applied| applied.result).collect()
}

#[tokio::test]
async fn each_command_of_a_script_has_the_result_of_its_row() {
    let rows = [("Completed", ""), ("Failed", "it is in use"), ("Completed", "")];
    assert_eq!(outcomes(COLUMNS, &rows).await, [Ok(()), Err("Failed: it is in use".to_owned()), Ok(())]);
    let rows = [("Skipped", "of an earlier one"), ("completed", ""), ("", "")];
    let results = outcomes(COLUMNS, &rows).await;
    assert!(results.iter().all(Result::is_err), "only Completed is done: {results:?}");
}

#[tokio::test]
async fn a_script_that_fails_fails_its_own_commands_and_not_those_of_the_next() {
    let logs = DatabaseName::new("Logs").unwrap();
    let entity = |number| Entity { cluster: cluster(&format!("partition-{number}")), database: logs.clone() };
    // Alone in its script.
    let long = Change::CreateGroup {
        database: logs.clone(),
        group: EntityGroupName::new("Logs_Partitions").unwrap(),
        members: Arc::new((0..8_000).map(entity).collect()),
    };
    assert!(long.request().text().len() > MAX_SCRIPT_BYTES);
    let drop = |name| Change::DropFunction { database: logs.clone(), function: FunctionName::new(name).unwrap() };
    let changes = [long, drop("federated_A"), drop("federated_B")];
    for first_fails in [true, false] {
        let (hub, sent) = answering_hub(move |text| {
            let is_first = text.contains(".create entity_group");
            if text.starts_with(".ingest") {
                ingested(false)
            } else if is_first == first_fails {
                json!({"is_down": true})
            } else {
                let row = json!(["id", "kind", "text", "Completed", ""]);
                script_answer(COLUMNS, &vec![row; if is_first { 1 } else { 2 }])
            }
        })
        .await;
        let plan = Plan { changes: changes.to_vec(), ..Plan::default() };
        let applied = apply_new(&hub, plan).await.applied;
        let is_done: Vec<bool> = applied.iter().map(|applied| applied.result.is_ok()).collect();
        assert_eq!(is_done, [!first_fails, first_fails, first_fails], "{applied:?}");
        let scripts = sent.lock().unwrap().iter().filter(|text| text.starts_with(".execute")).count();
        assert_eq!(scripts, 2);
    }
}

#[tokio::test]
async fn a_reason_is_told_without_secrets() {
    let reason = "cannot read 'https://x.blob.core.windows.net/c?sv=2024&sig=hunter2'";
    let results = outcomes(COLUMNS, &[("Failed", reason); 3]).await;
    let told = "Failed: cannot read 'https://x.blob.core.windows.net/c?…'".to_owned();
    assert_eq!(results, vec![Err(told); 3]);
}

#[tokio::test]
async fn a_reason_is_told_in_one_line_and_no_novel() {
    let long = "x".repeat(100_000);
    let rows = [("Failed", long.as_str()), ("Failed", "in\nuse"), (long.as_str(), "")];
    for result in outcomes(COLUMNS, &rows).await {
        let told = result.unwrap_err();
        assert!(told.len() <= 512 && !told.contains('\n'), "{told}");
    }
}

#[tokio::test]
async fn rows_that_are_not_one_for_each_command_tell_of_none() {
    for count in [0, 1, 2, 4] {
        let results = outcomes(COLUMNS, &[("Completed", ""); 4][..count]).await;
        let why = format!("the script of 3 command(s) was answered with {count} result(s)");
        assert_eq!(results, vec![Err(why); 3]);
    }
}

#[tokio::test]
async fn an_answer_without_results_or_reasons_tells_of_none() {
    for wrong in ["Result", "Reason"] {
        let columns = COLUMNS.map(|name| if name == wrong { "Unknown" } else { name });
        let results = outcomes(columns, &[("Completed", ""); 3]).await;
        let names_it = |result: &Result<(), String>| result.as_ref().is_err_and(|why| why.contains(wrong));
        assert!(results.iter().all(names_it), "{results:?}");
    }
}

#[test]
fn a_hub_has_forgotten_columns_when_no_node_of_it_failed_to() {
    let answer = |column: &str, statuses: &[&str]| {
        let column = ColumnInfo { name: column.to_owned(), scalar_type: ScalarType::String };
        all_nodes_forgot(&ResultTable::new(vec![column], statuses.iter().map(|status| vec![json!(status)]).collect()))
    };
    for statuses in [&["Succeeded", "Succeeded"][..], &["Cache cleared for database Logs"], &[]] {
        assert_eq!(answer("Status", statuses), Ok(()), "{statuses:?}");
    }
    let why = Err("a node of the hub answered: Failed".to_owned());
    assert_eq!(answer("Status", &["Succeeded", "Failed"]), why);
    assert!(answer("Unknown", &["Succeeded"]).is_err(), "it tells nothing");
}

/// A group of one member that is about to be made in Logs, and the record of that.
fn new_group(name: &str) -> (Change, Record) {
    let (database, group) = (DatabaseName::new("Logs").unwrap(), EntityGroupName::new(name).unwrap());
    let members = Arc::new([Entity { cluster: cluster("eu"), database: database.clone() }].into());
    let create = Change::CreateGroup { database: database.clone(), group: group.clone(), members };
    (create, Record { database, group, state: RecordState::Intended("0123456789abcdef".to_owned()) })
}

/// A function that is about to be put into Logs, and asks a group there.
fn new_function(group: &str) -> Change {
    let database = DatabaseName::new("Logs").unwrap();
    let body = Body::Federated(FederatedBody {
        members: Members::Group(EntityGroupName::new(group).unwrap()),
        table: TableName::new("A").unwrap(),
        source: Source::Table,
        best_effort: true,
        converted: BTreeMap::new(),
    });
    let function = PutFunction {
        keeper: database.clone(),
        function: FunctionName::new(format!("federated_{group}")).unwrap(),
        folder: "federation_facades".to_owned(),
        description: String::new(),
        database,
        body,
    };
    Change::PutFunction { function, cause: PutCause::Missing }
}

#[tokio::test]
async fn a_group_is_made_where_the_hub_says_that_its_record_was_stored_and_only_there() {
    let database = DatabaseName::new("Logs").unwrap();
    let function = FunctionName::new("federated_A").unwrap();
    let drop_function = Change::DropFunction { database, function };
    // The state whose record is not stored; whether the group is made; what is told of the records.
    for (lost, is_made, told) in [
        ("Never", true, None),
        ("Intended", false, Some("failed to record what becomes of our objects, which is tried again: ")),
        ("Made", true, Some("failed to record what became of our objects, which the next pass settles: ")),
    ] {
        let (hub, sent) = answering_hub(move |text| {
            if text.starts_with(".ingest inline") {
                return ingested(text.contains(&format!(",{lost},")));
            }
            let commands = text.matches("\n.").count();
            script_answer(COLUMNS, &vec![json!(["id", "Unknown", "", "Completed", ""]); commands])
        })
        .await;
        let (create, record) = new_group("Logs_Partitions");
        // One would ask the group, another asks one that is there.
        let [put, put_other] = ["Logs_Partitions", "Metrics_Partitions"].map(new_function);
        let changes = vec![create.clone(), put, put_other.clone(), drop_function.clone()];
        let plan = Plan { changes, records: vec![record], ..Plan::default() };
        let Outcome { applied, recorded: Recorded { failures, .. }, .. } = apply_new(&hub, plan).await;

        let why = |error: &String| error.contains("NotStored") && error.contains("operation 7f");
        let (waiting, failures): (Vec<_>, Vec<_>) = failures.into_iter().partition(|error| error.contains("wait for"));
        assert_eq!(failures.len(), usize::from(told.is_some()), "{lost}: {failures:?}");
        assert!(failures.iter().all(|error| why(error) && error.starts_with(told.unwrap())), "{lost}: {failures:?}");
        let waits = "1 function(s) wait for entity groups that are not made, because their record could not be written";
        assert_eq!(waiting, if is_made { vec![] } else { vec![waits] }, "{lost}");
        let result = |of: &Change| applied.iter().find(|Applied { change, .. }| change == of).unwrap().result.clone();
        for waits_for_none in [&drop_function, &put_other] {
            assert_eq!(result(waits_for_none), Ok(()), "{lost}: what needs no record waits for none");
        }
        let untried = "not tried, because the record of our groups could not be written: ";
        let sent = sent.lock().unwrap();
        match result(&create) {
            Ok(()) => assert!(is_made, "{lost}"),
            Err(error) => assert!(!is_made && why(&error) && error.starts_with(untried), "{lost}: {error}"),
        }
        for text in [".create entity_group", "['Logs_Partitions'] as X"] {
            assert_eq!(sent.iter().any(|sent| sent.contains(text)), is_made, "{lost}: {sent:?}");
        }
    }
}

#[tokio::test]
async fn records_that_are_too_many_for_one_command_are_all_stored_before_anything_is_made() {
    const LINES: usize = 1_200;
    let name = |number: usize| format!("{number:0>1000}");
    // Of three commands the second fails.
    let struck = name(LINES / 2);
    let is_struck = struck.clone();
    let (hub, sent) = answering_hub(move |text| ingested(text.contains(&is_struck))).await;
    let (changes, records): (Vec<Change>, Vec<Record>) = (0..LINES).map(|number| new_group(&name(number))).unzip();
    let plan = Plan { changes, records, ..Plan::default() };
    let Outcome { applied, recorded: Recorded { failures, .. }, .. } = apply_new(&hub, plan).await;
    assert_eq!((applied.len(), failures.len()), (LINES, 1));
    assert!(applied.iter().all(|applied| applied.result.is_err()), "what was recorded before is not made either");
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 2, "none follows the one that failed");
    for (text, holds) in sent.iter().zip([name(0), struck]) {
        assert!(text.starts_with(".ingest inline into table ['AdxFederationObjects']") && text.contains(&holds));
        assert!(text.len() < MAX_SCRIPT_BYTES + 100, "{} bytes", text.len());
    }
}

#[tokio::test]
async fn the_membership_is_written_where_the_hub_says_that_it_was_stored_and_only_there() {
    let mut membership = Membership::default();
    membership.note_guards(&[(GuardReason::IncompleteRead, "no answer".to_owned())].into(), now());
    let records = membership.changed_since(&Membership::default());
    for has_errors in [false, true] {
        let (hub, sent) = answering_hub(move |_| ingested(has_errors)).await;
        let written = write_members(&hub, &hub_config(""), &records, now()).await;
        assert_eq!(written.is_err(), has_errors, "{written:?}");
        let sent = sent.lock().unwrap();
        assert!(sent.len() == 1 && sent[0].contains("['AdxFederationMembers']"), "{sent:?}");
    }
}
