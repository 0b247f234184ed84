//! What is made of the rows with which a hub answers a script: a hub on loopback that gives every request one answer.

use kql::{
    endpoint::ClusterEndpoint,
    names::{DatabaseName, FunctionName},
    types::ScalarType,
};
use serde_json::{Value, json};
use shared::{
    credential::CredentialConfig,
    kusto::{ClientOptions, ColumnInfo, KustoClient, ResultTable},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{all_nodes_forgot, apply};
use crate::{
    plan::{Change, Plan},
    testing::{hub_config, now},
};

const COLUMNS: [&str; 5] = ["OperationId", "CommandType", "CommandText", "Result", "Reason"];

/// A hub that answers each request so.
async fn hub(answer: Value) -> KustoClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = ClusterEndpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            read_request(&mut connection).await;
            let body = answer.to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let reply = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            connection.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    KustoClient::new(endpoint, &CredentialConfig::None, ClientOptions::default()).unwrap()
}

async fn read_request(connection: &mut TcpStream) {
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = connection.read(&mut part).await.unwrap();
        assert!(read > 0, "the request ends before its end");
        seen.extend_from_slice(&part[..read]);
        let Some(head) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let lines = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
        let length = lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if seen.len() >= head + 4 + length.unwrap_or(0_usize) {
            return;
        }
    }
}

/// How each of three changes went, whose script was answered with rows of these results and reasons, under these columns.
async fn outcomes(columns: [&str; 5], rows: &[(&str, &str)]) -> Vec<Result<(), String>> {
    let drop = |name: &str| Change::DropFunction {
        database: DatabaseName::new("Logs").unwrap(),
        function: FunctionName::new(name).unwrap(),
    };
    let changes = ["federated_A", "federated_B", "federated_C"].map(drop);
    let columns = columns.map(|name| json!({"ColumnName": name, "DataType": "String", "ColumnType": "string"}));
    // More rows than changes are of the last one.
    let texts = changes.iter().chain(std::iter::repeat(&changes[2])).map(|change| change.request().text().to_owned());
    let rows: Vec<Value> =
        texts.zip(rows).map(|(text, (result, reason))| json!(["id", "DropFunction", text, result, reason])).collect();
    let hub = hub(json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": rows}]})).await;
    let plan = Plan { changes: changes.to_vec(), ..Plan::default() };
    let (applied, _) = apply(&hub, &hub_config(""), plan, now()).await;
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
