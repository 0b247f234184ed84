//! The specification and the schema of templates: what they find wrong in requests and in our own answers.

use serde_json::{Value, json};

use super::support::{cluster, path, start, wanted, wanted_database, wanted_right, with_central};
use crate::azure::{exchange::query_of, specification};

/// A body without one of its members, or with another.
fn but(mut body: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("it is a pointer");
    let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("it is there");
    match value {
        Some(value) => drop(parent.insert(name.to_owned(), value)),
        None => drop(parent.remove(name)),
    }
    body
}

#[tokio::test]
async fn a_body_that_azure_would_not_read_is_refused_and_noted() {
    let right = || wanted_right("44444444-4444-4444-4444-444444444444", "Ingestor");
    let database_right = cluster("central/databases/Metrics/principalAssignments/one");
    let check = path("/providers/Microsoft.Kusto/locations/eastus2/checkNameAvailability");
    let cases = [
        ("PUT", cluster("hub1"), but(wanted(), "/sku", None), "\"sku\" is a required property"),
        ("PUT", cluster("hub1"), but(wanted(), "/location", None), "\"location\" is a required property"),
        ("PUT", cluster("hub1"), but(wanted(), "/colour", Some(json!("red"))), "colour"),
        ("PUT", cluster("hub1"), but(wanted(), "/properties/colour", Some(json!("red"))), "colour"),
        ("PUT", cluster("hub1"), but(wanted(), "/properties/state", Some(json!("Running"))), "/properties"),
        ("PUT", cluster("hub1"), but(wanted(), "/sku/tier", Some(json!("Gold"))), "/sku/tier"),
        ("PUT", cluster("hub1"), but(wanted(), "/sku/capacity", Some(json!("two"))), "/sku/capacity"),
        ("PUT", cluster("hub1"), but(wanted(), "/identity/type", Some(json!("Odd"))), "/identity/type"),
        (
            "PUT",
            cluster("hub1"),
            but(wanted(), "/properties/optimizedAutoscale", Some(json!({"isEnabled": true}))),
            "required property",
        ),
        ("PATCH", cluster("central"), json!({"sku": {"name": "Standard_L8as_v3"}}), "\"tier\" is a required property"),
        ("PUT", cluster("central/databases/Logs"), but(wanted_database(), "/kind", None), "oneOf"),
        (
            "PUT",
            cluster("central/databases/Logs"),
            but(wanted_database(), "/properties/softDeletePeriod", Some(json!(30))),
            "oneOf",
        ),
        (
            "PUT",
            database_right.clone(),
            but(right(), "/properties/role", Some(json!("AllDatabasesViewer"))),
            "/properties",
        ),
        ("PUT", database_right, but(right(), "/properties/principalId", None), "principalId"),
        ("PUT", path("/resourcegroups/other"), json!({"tags": {}}), "location"),
        ("POST", check, json!({"name": "hub1", "type": "Microsoft.Mars/clusters"}), "/type"),
        ("POST", cluster("central/start"), json!({}), "a body where none is expected"),
        ("PUT", cluster("hub1"), Value::Null, "no body, though one is required"),
    ];
    for (method, to, body, complaint) in cases {
        let (double, client) = start().await;
        with_central(&double);
        let refused = client.send(method, &to, Some(&body).filter(|body| !body.is_null())).await;
        assert_eq!(refused.refusal(), (400, "InvalidRequestContent"), "{method} {to} {body}");
        let violations = double.take_violations();
        assert!(violations.iter().any(|violation| violation.contains(complaint)), "{body}: {violations:?}");
        assert!(
            violations.iter().all(|violation| violation.starts_with(&format!("{method} {to}: "))),
            "{violations:?}"
        );
        assert!(double.cluster("hub1").is_none());
    }
}

/// The original schema of templates wants `properties`, and the other specification does not.
#[tokio::test]
async fn bodies_of_put_are_held_against_the_schema_of_templates_too() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    let refused = client.put(&cluster("hub1"), &but(wanted(), "/properties", None)).await;
    assert_eq!(refused.refusal(), (400, "InvalidRequestContent"));
    let missing = format!("PUT {}: as a template: : \"properties\" is a required property", cluster("hub1"));
    assert_eq!(double.take_violations(), [missing]);
}

#[test]
fn each_kind_of_resource_has_its_schema_of_templates() {
    let right = |role: &str| wanted_right("44444444-4444-4444-4444-444444444444", role);
    for (rest, body) in [
        ("hub1", wanted()),
        ("hub1/databases/Logs", wanted_database()),
        ("hub1/principalAssignments/one", right("AllDatabasesViewer")),
        ("hub1/databases/Logs/principalAssignments/one", right("Ingestor")),
    ] {
        let complaints = |body: &Value| {
            let wrong = specification::check_request("PUT", &cluster(rest), &query_of(""), body);
            wrong.into_iter().filter(|wrong| wrong.starts_with("as a template: ")).count()
        };
        assert_eq!((complaints(&body), complaints(&but(body, "/properties", None))), (0, 1), "{rest}");
    }
}

#[tokio::test]
async fn a_request_that_is_no_request_of_azure_is_refused_and_noted() {
    let (double, client) = start().await;
    with_central(&double);
    let cases = [
        ("GET", cluster("central?api-version=2024-04-13"), None, (400, "InvalidApiVersionParameter")),
        ("GET", cluster("central?a=b"), None, (400, "MissingApiVersionParameter")),
        ("GET", path("/resourcegroups/fleet?api-version=2025-02-14"), None, (400, "InvalidApiVersionParameter")),
        ("POST", cluster("central/frobnicate"), None, (404, "InvalidResourceType")),
        ("POST", cluster("central"), None, (405, "MethodNotAllowed")),
        ("POST", cluster("central/diagnoseVirtualNetwork"), None, (501, "NotImplemented")),
        ("DELETE", path("/resourcegroups/fleet"), None, (501, "NotImplemented")),
        ("PATCH", cluster("central"), Some("text/plain"), (400, "InvalidRequestContent")),
    ];
    for (method, to, kind, refusal) in cases {
        let answer = match kind {
            Some(kind) => client.send_text(method, &to, "{\"tags\": {}}", kind).await,
            None => client.send(method, &to, None).await,
        };
        assert_eq!(answer.refusal(), refusal, "{method} {to}");
        assert_eq!(double.take_violations().len(), 1, "{method} {to}");
    }
    let answer = client.send_text("PATCH", &cluster("central"), "{", "application/json").await;
    assert_eq!(answer.refusal(), (400, "InvalidRequestContent"));
    assert_eq!(double.take_violations(), [format!("PATCH {}: the body is no JSON", cluster("central"))]);
}

#[tokio::test]
async fn our_own_answers_are_held_against_the_specification() {
    let (double, client) = start().await;
    with_central(&double);
    let central = double.cluster("central").expect("it is there");
    let to = cluster("central");
    let check =
        |status: u16, body: Option<&Value>| specification::check_response("GET", &to, &query_of(""), status, body);
    assert_eq!(check(200, Some(&central)), Vec::<String>::new());
    assert_eq!(check(404, Some(&json!({"error": {"code": "A", "message": "B"}}))), Vec::<String>::new());
    for (status, body) in [
        (200, Some(but(central.clone(), "/sku", None))),
        (200, Some(but(central.clone(), "/colour", Some(json!("red"))))),
        (200, Some(but(central.clone(), "/properties/state", Some(json!("Odd"))))),
        (200, Some(but(central.clone(), "/properties/uri", Some(json!(5))))),
        (200, None),
        (202, Some(central)),
        (404, Some(json!({"message": "B"}))),
    ] {
        assert_ne!(check(status, body.as_ref()), Vec::<String>::new(), "{status} {body:?}");
    }
    // The double does so with each of its answers.
    double.edit(|world| "Odd".clone_into(&mut world.cluster("central").state));
    assert_eq!(client.get(&cluster("central")).await.status, 200);
    let violations = double.take_violations();
    assert!(violations.len() == 1 && violations[0].starts_with("our own answer 200 to GET "), "{violations:?}");
}

#[tokio::test]
async fn requests_are_kept_as_they_came() {
    let (double, client) = start().await;
    with_central(&double);
    let headers = [("if-match", "*"), ("if-none-match", "x"), ("x-ms-client-request-id", "r1")];
    let body = json!({"tags": {}});
    client.try_to_send("PATCH", &cluster("central"), Some(&body), &headers).await.expect("it answers");
    client.get(&path("/resourcegroups/fleet")).await;
    let seen = double.take_requests();
    let [patch, get] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(
        (patch.path.as_str(), patch.query.as_str(), &patch.body),
        (cluster("central").as_str(), "api-version=2025-02-14", &Some(body))
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        (&patch.if_match, &patch.if_none_match, &patch.client_request_id),
        (&text("*"), &text("x"), &text("r1"))
    );
    assert_eq!((patch.status, &patch.cluster, patch.is_write()), (202, &text("central"), true));
    assert_eq!((get.status, &get.cluster, get.is_write()), (200, &None, false));
    assert!(patch.at <= get.at);
    assert_eq!(double.requests(), Vec::new());
}
