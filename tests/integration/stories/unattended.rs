//! What somebody does to the hub agent's objects while none runs.

use serde_json::json;
use tests::kusto::KustoServer;

use crate::faulty_hub::{Hub, accuses_nobody};

/// How an agent tells of a repair.
const REPAIRED: &str = "by somebody and is ";

const EDITED: &str = "the function 'federated_A' in 'Logs' was edited by somebody and is put back";

/// One thing that a person does, and what the next agent tells of it.
struct Deed {
    database: &'static str,
    command: String,
    told: &'static str,
}

/// Puts the function `federated_A` as it is, but with other words at the beginning of its docstring, which is no part of what says whose it is, and of its text.
async fn edited(hub: &KustoServer, of_docstring: &str, of_text: &str) -> String {
    let shown = hub.command("Logs", ".show functions | where Name == 'federated_A' | project Folder, DocString, Body");
    let shown = shown.await.expect("the hub answers");
    let [folder, docstring, body] = ["Folder", "DocString", "Body"].map(|column| shown.column(column).remove(0));
    let text = body.trim_start().trim_start_matches('{');
    format!(
        ".create-or-alter function with (folder='{folder}', docstring='{of_docstring}{docstring}', skipvalidation=true) federated_A() {{{of_text}{text}"
    )
}

#[tokio::test]
async fn what_somebody_did_while_no_agent_ran_is_put_right_and_told_by_the_next_one() {
    let hub = Hub::start().await;
    hub.turn(true).await;
    hub.pass().await;
    let undisturbed = hub.whole_content().await;
    let deed = |database, command: &str, told| Deed { database, command: command.to_owned(), told };
    let deeds = [
        deed(
            "Logs",
            ".drop function federated_A",
            "the function 'federated_A' in 'Logs' was removed by somebody and is made again",
        ),
        deed(
            "FleetDiscovery",
            ".drop function federation_status",
            "the function 'federation_status' in 'FleetDiscovery' was removed by somebody and is made again",
        ),
        deed("Logs", &edited(&hub.server, "Mine: ", "").await, EDITED),
        deed("Logs", &edited(&hub.server, "", "// Mine\n").await, EDITED),
        deed(
            "Metrics",
            ".drop entity_group Logs_Partitions",
            "the entity group 'Logs_Partitions' in 'Metrics' was removed by somebody and is made again",
        ),
        deed(
            "Logs",
            ".alter entity_group Logs_Partitions (cluster('http://127.0.0.1:1').database('Logs'))",
            "the entity group 'Logs_Partitions' in 'Logs' was changed by somebody and is put back",
        ),
        deed(
            "FleetDiscovery",
            ".alter-merge table Heartbeats policy retention softdelete = 99d",
            "the table 'Heartbeats' in 'FleetDiscovery' was changed by somebody and is put back: .alter-merge table",
        ),
        deed(
            "FleetDiscovery",
            ".alter-merge table AdxFederationObjects policy retention softdelete = 1d",
            "the table 'AdxFederationObjects' in 'FleetDiscovery' was changed by somebody and is put back: .alter-merge table",
        ),
    ];
    for Deed { database, command, told } in deeds {
        hub.server.command(database, &command).await.expect("the hub does what a person says");
        let is_policy = command.starts_with(".alter-merge table");
        assert_eq!(hub.whole_content().await == undisturbed, is_policy, "{command}");
        let (code, output) = hub.pass().await;
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 1), "{command}: {output}");
        assert!(output.contains(told), "{command}: {output}");
        assert_eq!(hub.whole_content().await, undisturbed, "{command}");
    }

    // What partitions, and the document, change meanwhile is nobody's doing.
    for with in [false, true] {
        hub.turn(with).await;
        let (code, output) = hub.pass().await;
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 0), "{output}");
    }
    let document = std::fs::read_to_string(&hub.document).expect("it was just written");
    let document_with = |change: &str| {
        let changed = document.replace("heartbeatDatabase:", &format!("{change}heartbeatDatabase:"));
        std::fs::write(&hub.document, changed).expect("the folder can be written");
    };
    for change in
        ["heartbeatRetention: 14d, macroExpand: {bestEffort: false}, ", "macroExpand: {functionPrefix: every_}, ", ""]
    {
        document_with(change);
        let (code, output) = hub.pass().await;
        assert!(output.contains("hub changed"), "{change}: {output}");
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 0), "{change}: {output}");
    }

    // An edit of what the document changes, too, is somebody's all the same; what no document asks for any more is not put right.
    let edit = edited(&hub.server, "", "// Mine\n").await;
    for (change, times) in [("macroExpand: {bestEffort: false}, ", 1), ("macroExpand: {functionPrefix: every_}, ", 0)] {
        hub.server.command("Logs", &edit).await.expect("a person may");
        document_with(change);
        let (code, output) = hub.pass().await;
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), times), "{change}: {output}");
        assert_eq!(output.matches(EDITED).count(), times, "{change}: {output}");
    }
    assert_eq!(hub.rests().await, Ok(()));

    // Its own tables go at last: without their record, groups by an attribute are nobody's.
    let before = hub.whole_content().await;
    for table in ["AdxFederationMembers", "AdxFederationObjects"] {
        hub.server.command("FleetDiscovery", &format!(".drop table {table}")).await.expect("a person may");
        let (_, output) = hub.pass().await;
        let told = format!(
            "the table '{table}' in 'FleetDiscovery' was removed by somebody and is made again: .create-merge table"
        );
        assert!(output.contains(&told) && output.matches(REPAIRED).count() == 1, "{output}");
        let (code, output) = hub.pass().await;
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 0), "{output}");
    }
    let of = |content: &[String]| -> Vec<String> {
        let kinds = ["Group", "Members", "Function", "Table"].map(|kind| format!("String({kind:?})"));
        let is_left = |line: &&String| line.starts_with("recorded") && kinds.iter().any(|kind| line.contains(kind));
        content.iter().filter(is_left).filter(|line| !line.contains("_Partitions_EU")).cloned().collect()
    };
    assert_eq!(of(&hub.whole_content().await), of(&before), "the record is whole again");
    hub.end().await;
}

#[tokio::test]
async fn what_agents_did_without_an_answer_or_a_record_is_nobodys_doing() {
    /// Where a pass is struck in which a partition joins: at the record before its changes, at the changes, at the record after them, and at that of the membership.
    const STRUCK: [(&str, usize); 4] = [
        ("into table ['AdxFederationObjects']", 0),
        (".execute database script", 0),
        ("into table ['AdxFederationObjects']", 1),
        ("into table ['AdxFederationMembers']", 0),
    ];
    let hub = Hub::start().await;
    hub.turn(false).await;
    hub.pass().await;
    // With each that joins, groups become what they never were. The fourth is blocked.
    let mut host = 4;
    let mut joins = async || {
        host += 1;
        hub.beat_of(&[&host.to_string()], &json!([{"database": "Logs", "tables": ["A"]}])).await;
        hub.pass().await
    };
    for fault in [json!("lost"), json!("cut"), json!("failedIngest"), json!("failedScript")] {
        for (request, skip) in STRUCK {
            let sent = hub.sent_with(request);
            // Once: what is recorded neither before nor after, no other process can know.
            hub.fail(&json!([{"text": request, "skip": skip, "count": 1, "fault": fault}]));
            let (_, output) = joins().await;
            assert!(
                hub.sent_with(request) > sent + skip,
                "{request} was not sent {skip} times and once more: {output}"
            );
            assert_eq!(accuses_nobody(&output), Ok(()), "{fault} at {request}");
            hub.fail(&json!([]));
            let (code, output) = joins().await;
            assert_eq!((code, accuses_nobody(&output)), (Some(0), Ok(())), "after {fault} at {request}");
        }
    }
    hub.ends_quietly().await;
}
