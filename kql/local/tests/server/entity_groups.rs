//! Entity groups: the rules that a hub agent must live with.

use serde_json::json;

use crate::support::Local;

#[tokio::test]
async fn a_group_is_shown_with_its_entities_as_a_json_array_in_a_string() {
    let local = Local::start().await;
    let text = ".create entity_group ['G'] (cluster('https://A.example').database('Logs'), database('Metrics'))";
    let expected = json!(["G", r#"["cluster('https://a.example').database('Logs')","database('Metrics')"]"#]);
    assert_eq!(local.command(text).await[0], expected);
    assert_eq!(local.command(".show entity_group G").await[0], expected);
    assert_eq!(local.command(".show entity_groups").await, [expected]);
    assert_eq!(local.command(".show entity_groups | where Name == 'H'").await.len(), 0);
}

#[tokio::test]
async fn creating_a_group_that_exists_fails_unless_ifnotexists_which_changes_nothing() {
    let local = Local::start().await;
    local.command(".create entity_group G (database('Logs'))").await;
    assert_eq!(local.refusal(".create entity_group G (database('Metrics'))").await.1, "BadRequest_EntityAlreadyExists");
    local.command(".create entity_group ['G'] ifnotexists (database('Metrics'))").await;
    local.command(".create entity_group ['G'] ifnotexists (database('Metrics'))").await;
    assert_eq!(local.command(".show entity_group G").await, [json!(["G", "[\"database('Logs')\"]"])]);
}

#[tokio::test]
async fn altering_replaces_and_merging_adds_and_both_need_the_group() {
    let local = Local::start().await;
    assert_eq!(local.refusal(".alter entity_group G (database('Logs'))").await.1, "BadRequest_EntityNotFound");
    assert_eq!(local.refusal(".alter-merge entity_group G (database('Logs'))").await.1, "BadRequest_EntityNotFound");
    local.command(".create entity_group G (database('A'))").await;
    local.command(".alter entity_group G (database('B'), database('C'))").await;
    local.command(".alter-merge entity_group G (database('C'), database('D'))").await;
    let expected = json!(["G", "[\"database('B')\",\"database('C')\",\"database('D')\"]"]);
    assert_eq!(local.command(".show entity_group G").await, [expected]);
}

#[tokio::test]
async fn dropping_a_group_needs_the_group_and_knows_no_ifexists() {
    let local = Local::start().await;
    local.command(".create entity_group G (database('A'))").await;
    assert_eq!(local.refusal(".drop entity_group G ifexists").await.1, "BadRequest_SyntaxError");
    local.command(".drop entity_group G").await;
    assert_eq!(local.refusal(".drop entity_group G").await.1, "BadRequest_EntityNotFound");
    assert_eq!(local.refusal(".show entity_group G").await.1, "BadRequest_EntityNotFound");
}

#[tokio::test]
async fn an_empty_group_is_refused() {
    let local = Local::start().await;
    for text in [".create entity_group G ()", ".create entity_group G"] {
        assert_eq!(local.refusal(text).await.1, "BadRequest_SyntaxError", "{text}");
    }
    local.command(".create entity_group G (database('A'))").await;
    assert_eq!(local.refusal(".alter entity_group G ()").await.1, "BadRequest_SyntaxError");
    assert_eq!(local.command(".show entity_group G").await.len(), 1);
}

#[tokio::test]
async fn group_names_are_case_sensitive_and_belong_to_one_database() {
    let local = Local::start().await;
    local.command(".create entity_group G (database('A'))").await;
    local.command(".create entity_group g (database('B'))").await;
    let (status, body) = local.send("/v1/rest/mgmt", json!({ "db": "Metrics", "csl": ".show entity_groups" })).await;
    assert_eq!(status, 200);
    assert_eq!(body["Tables"][0]["Rows"], json!([]));
    assert_eq!(local.command(".show entity_groups").await.len(), 2);
}
