//! What goes wrong on demand, each kind once, and what clients must not do then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{LONG, SLOW, cluster, path, start, start_with, wanted, wanted_database, with_central};
use crate::azure::{AzureDouble, AzureOptions, Durations, Fault, FaultKind};

/// The next that fits.
fn order(double: &AzureDouble, method: &'static str, path_contains: &str, kind: FaultKind) {
    double.fault(Fault { method, path_contains: path_contains.to_owned(), skip: 0, times: 1, kind });
}

fn error(status: u16, retry_after: Option<u64>) -> FaultKind {
    FaultKind::Answer { status, code: "Odd".to_owned(), message: "It did not work.".to_owned(), retry_after }
}

#[tokio::test]
async fn each_fault_happens_once_and_has_its_effect_or_has_not() {
    let cases = [
        ("an error", error(429, Some(17)), Some(429), false, false),
        ("a server's error", error(500, None), Some(500), false, true),
        ("an error after the effect", FaultKind::AnswerAfterEffect { status: 504 }, Some(504), true, true),
        ("a cut", FaultKind::Reset, None, false, true),
        ("a cut after the effect", FaultKind::ResetAfterEffect, None, true, true),
        ("a page", FaultKind::Html { status: 502 }, Some(502), false, true),
        ("a delay", FaultKind::Delay(Duration::from_millis(200)), Some(202), true, false),
    ];
    for (name, kind, status, has_effect, is_unsure) in cases {
        let (double, client) = start().await;
        with_central(&double);
        order(&double, "PATCH", "/CLUSTERS/central", kind.clone());
        let (to, body) = (cluster("central"), json!({"tags": {"a": "b"}}));
        let began = Instant::now();
        let answer = client.try_to_send("PATCH", &to, Some(&body), &[]).await;
        assert_eq!(answer.as_ref().ok().map(|answer| answer.status), status, "{name}: {answer:?}");
        match (&kind, &answer) {
            (FaultKind::Answer { retry_after, .. }, Ok(answer)) => {
                let header = retry_after.map_or(String::new(), |seconds| seconds.to_string());
                assert_eq!((answer.code(), answer.header("retry-after")), ("Odd", header.as_str()), "{name}");
            }
            (FaultKind::Html { .. }, Ok(answer)) => {
                assert_eq!((answer.header("content-type"), answer.body.clone()), ("text/html", Value::Null), "{name}");
            }
            (FaultKind::Delay(delay), Ok(_)) => assert!(began.elapsed() >= *delay, "{name}"),
            _ => {}
        }
        assert_eq!(double.pending_faults(), 0, "{name}");
        let state = |double: &AzureDouble| {
            double.cluster("central").expect("it is there")["properties"]["provisioningState"].clone()
        };
        assert_eq!(state(&double), json!(if has_effect { "Running" } else { "Succeeded" }), "{name}");
        let seen = double.requests().pop().expect("it was seen");
        assert_eq!(
            (seen.method.as_str(), seen.status, seen.body),
            ("PATCH", status.unwrap_or(0), Some(body.clone())),
            "{name}"
        );
        // Who does not know whether it was taken has to look.
        double.assert_fine();
        let again = client.patch(&to, &body).await;
        assert_eq!(again.status, if has_effect { 409 } else { 202 }, "{name}");
        let without_a_look = format!("PATCH {to} without a look, though nobody knows what became of PATCH {to}");
        let overlap = format!("overlap: PATCH {to} while Update of central runs");
        let is_told_of = has_effect && !is_unsure;
        let noted = [(is_unsure, without_a_look), (is_told_of, overlap)];
        let noted: Vec<String> = noted.into_iter().filter(|(is_noted, _)| *is_noted).map(|(_, text)| text).collect();
        assert_eq!(double.take_violations(), noted, "{name}");
        double.advance(LONG);
        assert_eq!(state(&double), "Succeeded", "{name}");
    }
}

#[tokio::test]
async fn who_looks_after_a_lost_answer_may_write_again_unless_the_look_shows_work() {
    let kinds = [
        (FaultKind::Reset, false),
        (error(503, None), false),
        (FaultKind::Html { status: 200 }, false),
        (FaultKind::ResetAfterEffect, true),
        (FaultKind::AnswerAfterEffect { status: 504 }, true),
    ];
    let writes = [
        (cluster("central"), cluster("central"), json!({"tags": {"a": "b"}}), "Update"),
        (cluster("central/databases/Logs"), cluster("central/databases/Logs"), wanted_database(), "DatabaseCreate"),
        (cluster("central/databases/Logs"), cluster("central/databases"), wanted_database(), "DatabaseCreate"),
    ];
    for (kind, has_effect) in kinds {
        for (to, look, body, what) in &writes {
            let (double, client) = start().await;
            with_central(&double);
            let method = if *what == "Update" { "PATCH" } else { "PUT" };
            order(&double, method, "/clusters/central", kind.clone());
            drop(client.try_to_send(method, to, Some(body), &[]).await);
            // Of what else is looked at nothing is learnt.
            assert_eq!(client.get(&cluster("central/databases/Metrics")).await.status, 200);
            let status = if has_effect { 409 } else { 202 - u16::from(method == "PUT") };
            let again = || async { client.send(method, to, Some(body)).await.status };
            assert_eq!(again().await, status, "{kind:?} {to}");
            double.assert_fine();
            if has_effect {
                client.get(look).await;
                assert_eq!(again().await, status);
                assert_eq!(double.take_violations(), [format!("overlap: {method} {to} while {what} of central runs")]);
            }
        }
    }
}

#[tokio::test]
async fn nobody_can_know_of_a_database_that_does_not_show() {
    let durations = Durations { visible_after: LONG, ..SLOW };
    let (double, client) = start_with(AzureOptions { durations, plain: true, ..AzureOptions::default() }).await;
    with_central(&double);
    let to = cluster("central/databases/Logs");
    order(&double, "PUT", "/databases/", FaultKind::ResetAfterEffect);
    drop(client.try_to_send("PUT", &to, Some(&wanted_database()), &[]).await);
    for look in [&to, &cluster("central/databases"), &cluster("central")] {
        client.get(look).await;
        assert_eq!(client.put(&to, &wanted_database()).await.refusal(), (409, "ServiceIsInMaintenance"));
    }
    double.assert_fine();
}

#[tokio::test]
async fn a_look_that_came_to_nothing_is_none() {
    let (double, client) = start().await;
    with_central(&double);
    order(&double, "PATCH", "/clusters/central", FaultKind::Reset);
    order(&double, "GET", "/clusters/central", error(500, None));
    let (to, body) = (cluster("central"), json!({"tags": {"a": "b"}}));
    drop(client.try_to_send("PATCH", &to, Some(&body), &[]).await);
    assert_eq!((client.get(&to).await.status, client.patch(&to, &body).await.status), (500, 202));
    assert_eq!(double.take_violations().len(), 1);
}

#[tokio::test]
async fn a_fault_fits_its_method_and_path_and_lets_others_pass_before() {
    let (double, client) = start().await;
    with_central(&double);
    double.fault(Fault {
        method: "GET",
        path_contains: "/clusters/central".to_owned(),
        skip: 1,
        times: 2,
        kind: error(500, None),
    });
    order(&double, "GET", "skiptoken", error(418, None));
    assert_eq!(client.send("HEAD", &path("/resourcegroups/fleet"), None).await.status, 204);
    assert_eq!(client.get(&path("/resourcegroups/fleet")).await.status, 200);
    assert_eq!(double.pending_faults(), 3);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get(&cluster("central")).await.status);
    }
    assert_eq!(statuses, [200, 500, 500, 200]);
    let page = path("/providers/Microsoft.Kusto/locations/eastus2/skus?api-version=2025-02-14&$skiptoken=2");
    assert_eq!((client.get(&page).await.status, client.get(&page).await.status), (418, 200));
    double.assert_fine();
}

#[tokio::test]
async fn an_operation_fails_only_when_one_begins() {
    let (double, client) = start().await;
    with_central(&double);
    let kind = FaultKind::OperationFails { code: "Odd".to_owned(), message: "It did not work.".to_owned() };
    order(&double, "POST", "/clusters/central", kind);
    assert_eq!((client.post(&cluster("central/start")).await.status, double.pending_faults()), (200, 1));
    let begun = client.post(&cluster("central/stop")).await;
    assert_eq!((begun.status, double.pending_faults()), (202, 0));
    double.advance(LONG);
    let operation = client.get(begun.header("azure-asyncoperation")).await.body;
    assert_eq!(
        (&operation["status"], &operation["error"]),
        (&json!("Failed"), &json!({"code": "Odd", "message": "It did not work."}))
    );
    let central = double.cluster("central").expect("it is there");
    assert_eq!(
        (&central["properties"]["state"], &central["properties"]["provisioningState"]),
        (&json!("Running"), &json!("Failed"))
    );
    // Failed is an end too: the next write is taken.
    assert_eq!(client.post(&cluster("central/stop")).await.status, 202);
    double.assert_fine();
}

#[tokio::test]
async fn what_was_ordered_and_did_not_happen_is_not_fine() {
    let (double, client) = start().await;
    order(&double, "GET", "/clusters/", error(500, None));
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| double.assert_fine()));
    assert!(tried.is_err());
    double.clear_faults();
    double.assert_fine();
    client.put(&cluster("hub1"), &json!({})).await;
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| double.assert_fine()));
    assert!(tried.is_err());
}

#[tokio::test]
async fn who_does_not_wait_for_an_answer_has_written_nevertheless() {
    let (double, client) = start().await;
    double.edit(|world| world.add_group("fleet", "eastus2"));
    order(&double, "PUT", "/clusters/hub1", FaultKind::Delay(Duration::from_secs(1)));
    let (to, body) = (cluster("hub1"), wanted());
    let has_come = async {
        while !double.requests().iter().any(|seen| seen.method == "PUT") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        answer = client.try_to_send("PUT", &to, Some(&body), &[]) => panic!("it is delayed: {answer:?}"),
        () = has_come => {}
    }
    assert!(double.cluster("hub1").is_none());
    let began = Instant::now();
    while double.cluster("hub1").is_none() && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(double.cluster("hub1").is_some());
    double.assert_fine();
}
