//! What the hub refuses beside the changes of a plan is told as those are: in the status and the log, and by how the pass ends. So is what it does not let be read,
//! where changes are only planned.

use serde_json::{Value, json};

use crate::{
    admin::{admin_url, until},
    faulty_hub::Hub,
    support::until_printed,
};

/// An error that is final: nothing is sent again in that pass.
fn refuse(text: &str, skip: usize) -> Value {
    json!([{"text": text, "skip": skip, "fault": {"status": 400}}])
}

/// Whether an agent's last pass ended so, and told of this among its problems, once however often it was refused.
fn tells(status: &str, outcome: &str, told: &str) -> bool {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let pass = &status["lastPass"];
    let problems = pass["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    pass["outcome"] == outcome && problems.filter(|problem| problem.contains(told)).count() == 1
}

/// Whether all is well again.
fn is_quiet(status: &str) -> bool {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    status["lastPass"]["outcome"] == "unchanged" && status["lastPass"]["problems"] == json!([])
}

/// An agent that runs once and one that goes on meet what the hub refuses, and tell of it until it is refused no more.
async fn is_told(hub: &Hub, rules: &Value, told: &str) {
    hub.fail(rules);
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(1), "{rules}: {output}");
    assert!(output.contains(told), "{rules}: {output}");
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| tells(status, "partial", told)).await;
    hub.fail(&json!([]));
    until(&url, "/status", |_, status| is_quiet(status)).await;
    agent.stop().await;
}

const CLEAR: &str = ".clear cache remote-schema";

#[tokio::test]
async fn a_membership_that_cannot_be_recorded_is_a_problem_of_a_pass_that_is_partial() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    let (record, told) =
        ("into table ['AdxFederationMembers']", "failed to record the membership, which is tried again");
    let rules = refuse(record, 0);
    hub.fail(&rules);
    let before = hub.sent_with(record);
    let (_, output) = hub.pass().await;
    assert_eq!(hub.sent_with(record) - before, 2, "before the changes and after them: {output}");
    assert_eq!(output.matches(told).count(), 1, "{output}");
    is_told(&hub, &rules, told).await;
    hub.end().await;
}

/// The pass that makes its table anew fails, and what was remembered is written by one after it.
#[tokio::test]
async fn a_memory_that_was_lost_is_written_whole_by_whichever_pass_comes_to_it() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| is_quiet(status)).await;
    hub.server.command("FleetDiscovery", ".drop table AdxFederationMembers").await.expect("anybody may");
    // The first makes the agent doubt its tables, the second strikes in the pass that makes them.
    hub.fail(&json!([{"text": "NewBeats", "count": 2, "fault": {"status": 400}}]));
    until(&url, "/metrics", |_, metrics| metrics.contains("adx_federation_passes_total{outcome=\"held\"} 2\n")).await;
    until(&url, "/status", |_, status| is_quiet(status)).await;
    let remembered = "AdxFederationMembers | where Kind == 'Partition' and State == 'live' | summarize dcount(Name)";
    let remembered = hub.server.query("FleetDiscovery", remembered).await.expect("the table is there");
    assert_eq!(remembered.rows, [[json!(3)]], "{}", agent.output());
    agent.stop().await;
    hub.end().await;
}

#[tokio::test]
async fn a_policy_that_is_refused_is_a_problem_of_a_pass_that_is_partial_and_of_one_that_is_held() {
    let hub = Hub::start().await;
    let other = ".alter table Heartbeats policy caching hot = 2d";
    hub.server.command("FleetDiscovery", other).await.expect("anybody may");
    let (rules, told) =
        (refuse("policy caching hot", 0), "the hub refused a policy, which is tried again: .alter table");
    // Nobody has beaten.
    hub.fail(&rules);
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains(told), "{output}");
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| tells(status, "held", told)).await;
    agent.stop().await;

    hub.turn(false).await;
    is_told(&hub, &rules, told).await;
    hub.end().await;
}

/// A record that an earlier version began, before `Beats` and what follows it.
pub(crate) const RECORD_OF_BEFORE: &str = ".create table AdxFederationMembers (Timestamp:datetime, Kind:string, Name:string, State:string, Since:datetime, SilentSince:datetime, Returns:dynamic, Reason:string)";

#[tokio::test]
async fn a_record_of_an_earlier_version_gets_the_columns_that_it_lacks_and_serves_without_them() {
    let hub = Hub::start().await;
    for command in [".drop table AdxFederationMembers ifexists", RECORD_OF_BEFORE] {
        hub.server.command("FleetDiscovery", command).await.expect("anybody may");
    }
    hub.turn(false).await;
    let told =
        "the hub refused columns of our record, which is tried again: .create-merge table ['AdxFederationMembers']";
    is_told(&hub, &refuse(".create-merge table ['AdxFederationMembers']", 0), told).await;
    assert_eq!(hub.is_complete(false).await, Ok(()));
    // Given a column, everything that is told from now on is recorded whole.
    hub.turn(true).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    let whole = "AdxFederationMembers | where Kind == 'Partition' | summarize arg_max(ingestion_time(), SchemaHash) by Name | where isempty(SchemaHash)";
    let lacking = hub.server.query("FleetDiscovery", whole).await.expect("the record has the column");
    assert_eq!(lacking.text_rows(), [[""; 0]; 0], "{output}");
    let members = hub
        .server
        .query("FleetDiscovery", "AdxFederationMembers | where Kind == 'Partition' and isnotempty(SchemaHash) | count")
        .await;
    assert_ne!(members.expect("the record has the column").column("Count"), ["0"], "{output}");
    hub.end().await;
}

#[tokio::test]
async fn a_group_whose_making_cannot_be_recorded_is_a_problem_of_a_pass_that_is_partial() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    // What is to be made is recorded, and that it was made is not.
    hub.fail(&refuse("into table ['AdxFederationObjects']", 1));
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("failed to record what became of our objects"), "{output}");
    assert_eq!(hub.is_complete(false).await, Ok(()), "{output}");
    hub.fail(&json!([]));
    assert_eq!(hub.converges(|| hub.is_complete(false)).await, Ok(()));
    hub.end().await;
}

#[tokio::test]
async fn columns_that_the_hub_does_not_forget_are_a_problem_of_a_pass_that_is_partial() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    let mut agent = hub.agent();
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| is_quiet(status)).await;
    hub.fail(&refuse(CLEAR, 0));
    // What each of the three says of a database is another than before.
    hub.beat(&[("Logs", &["A", "C"])]).await;
    let told = "failed to clear a remote schema, 3 in all, which is tried again: 'Logs' of http://127.0.0.1:1: ";
    until(&url, "/status", |_, status| tells(status, "partial", told)).await;
    until_printed(&agent, told).await;
    hub.fail(&json!([]));
    until(&url, "/status", |_, status| is_quiet(status)).await;
    agent.stop().await;
    hub.end().await;
}

#[tokio::test]
async fn a_table_of_which_the_hub_does_not_tell_is_not_taken_for_one_that_is_not_there() {
    let hub = Hub::start().await;
    hub.turn(false).await;
    let (code, output) = hub.pass().await;
    assert_eq!((code, hub.is_complete(false).await), (Some(0), Ok(())), "{output}");
    for look in ["['AdxFederationObjects'] policy", "['Heartbeats'] policy caching", "['Heartbeats'].Schema policy"] {
        hub.fail(&refuse(look, 0));
        let written = hub.written().len();
        let (code, output) = hub.pass().await;
        hub.fail(&json!([]));
        assert_eq!(code, Some(1), "{look}: {output}");
        assert!(output.contains("the hub does not show a policy, which is left as it is: .show "), "{look}: {output}");
        assert_eq!(hub.written().split_off(written), [""; 0], "{look}: {output}");
    }
    hub.ends_quietly().await;
}

#[tokio::test]
async fn a_plan_from_what_could_not_all_be_read_is_shown_and_is_partial() {
    const DUE: &str = "create function federation_status in Metrics";
    let hub = Hub::start().await;
    hub.document("canary: false");
    hub.beat(&[("Logs", &["A"])]).await;
    let (code, output) = hub.pass().await;
    assert_eq!(code, Some(0), "{output}");
    hub.server.command("Metrics", ".drop function federation_status").await.expect("anybody may");
    // There is something to do in Logs, too.
    hub.beat(&[("Logs", &["A", "B"])]).await;
    hub.document("mode: Plan");
    let written = hub.written().len();
    for (rules, told) in [
        (
            json!([{"database": "Logs", "text": ".show entity_groups", "fault": {"status": 400}}]),
            "the hub database 'Logs' is left as it is: its entity groups could not be read: ",
        ),
        (refuse("_endpoints", 0), "3 schema(s) could not be read: "),
        (refuse("['Heartbeats'] policy caching", 0), "the hub does not show a policy, which is left as it is: .show "),
    ] {
        hub.fail(&rules);
        for how in ["--plan", "--once"] {
            let (code, output) = hub.run(&[how]).await;
            assert_eq!(code, Some(1), "{how}: {rules}: {output}");
            assert!(output.contains(told) && output.contains(DUE), "{how}: {rules}: {output}");
        }
        let mut agent = hub.agent();
        let url = admin_url(&agent).await;
        let is_told = |_: u16, status: &str| tells(status, "partial", told) && status.contains(DUE);
        until(&url, "/status", is_told).await;
        hub.fail(&json!([]));
        let is_whole = |_: u16, status: &str| {
            let status: Value = serde_json::from_str(status).unwrap_or_default();
            let pass = &status["lastPass"];
            let shows_both = [DUE, "federated_B"].iter().all(|due| pass["planned"].to_string().contains(due));
            pass["outcome"] == "planned" && pass["problems"] == json!([]) && shows_both
        };
        until(&url, "/status", is_whole).await;
        agent.stop().await;
    }
    let (code, output) = hub.run(&["--plan"]).await;
    assert!(code == Some(0) && output.contains(DUE) && output.contains("federated_B"), "{code:?}: {output}");
    assert_eq!(hub.written().split_off(written), [""; 0]);
    hub.end().await;
}
