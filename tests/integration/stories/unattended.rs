//! What somebody does to the hub agent's objects while none runs.

use tests::kusto::KustoServer;

use crate::faulty_hub::Hub;

/// How an agent tells of a repair.
const REPAIRED: &str = "by somebody";

/// One thing that a person does, and what the next agent tells of it.
struct Deed {
    database: &'static str,
    command: String,
    told: &'static str,
}

/// Puts the function `federated_A` as it is, but for the beginning of its docstring: that is no part of what says whose it is.
async fn docstring_edited(hub: &KustoServer) -> String {
    let shown = hub.command("Logs", ".show functions | where Name == 'federated_A' | project Folder, DocString, Body");
    let shown = shown.await.expect("the hub answers");
    let [folder, docstring, body] = ["Folder", "DocString", "Body"].map(|column| shown.column(column).remove(0));
    format!(".create-or-alter function with (folder='{folder}', docstring='Mine: {docstring}') federated_A() {body}")
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
        deed(
            "Logs",
            &docstring_edited(&hub.server).await,
            "the function 'federated_A' in 'Logs' was edited by somebody and is put back",
        ),
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

    // What is told of its own tables is told whatever went with them.
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
    let recorded = hub.whole_content().await;
    let of = |content: &[String]| {
        let left = content
            .iter()
            .filter(|line| ["Group", "Members", "Function", "Table"].iter().any(|kind| line.contains(kind)));
        left.cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(&recorded), of(&undisturbed), "the record is whole again");

    // What partitions, and the document, change meanwhile is nobody's doing.
    for with in [false, true] {
        hub.turn(with).await;
        let (code, output) = hub.pass().await;
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 0), "{output}");
    }
    let document = std::fs::read_to_string(&hub.document).expect("it was just written");
    for change in ["heartbeatRetention: 14d, macroExpand: {bestEffort: false}, ", "functionPrefix: every_, "] {
        let changed = document.replace("heartbeatDatabase:", &format!("{change}heartbeatDatabase:"));
        std::fs::write(&hub.document, changed).expect("the folder can be written");
        let (code, output) = hub.pass().await;
        assert!(output.contains("hub changed"), "{change}: {output}");
        assert_eq!((code, output.matches(REPAIRED).count()), (Some(0), 0), "{change}: {output}");
    }
    hub.ends_quietly().await;
}
