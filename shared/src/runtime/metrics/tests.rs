//! Names and labels as dashboards and alerts rely on them.

use super::*;
use crate::credential::CredentialError;

fn endpoint(name: &str) -> ClusterEndpoint {
    ClusterEndpoint::parse(&format!("https://{name}.kusto.windows.net")).unwrap()
}

fn values(metrics: &Metrics) -> Vec<String> {
    metrics
        .text()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn metrics_have_the_documented_names_and_labels() {
    let metrics = Metrics::new();
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    metrics.heartbeat_sent(&endpoint("hub"), HeartbeatOutcome::Accepted, now);
    metrics.heartbeat_sent(&endpoint("hub"), HeartbeatOutcome::TimedOut, now);
    metrics.partition_heartbeat(&endpoint("p"), now);
    metrics.missed_heartbeats(&endpoint("p"), 2);
    metrics.partitions(PartitionState::Live, 3);
    metrics.pass(PassOutcome::Done, Duration::from_millis(300));
    metrics.change(ChangeObject::EntityGroup, ChangeAction::Alter, ChangeOutcome::Applied);
    metrics.auth_failure(&endpoint("hub"));
    metrics.guard(GuardReason::IncompleteRead, true);
    let mut values = values(&metrics);
    values.sort();
    assert_eq!(
        values,
        [
            r#"adx_federation_auth_failures_total{endpoint="https://hub.kusto.windows.net"} 1"#,
            r#"adx_federation_changes_total{object="entity_group",action="alter",outcome="applied"} 1"#,
            r#"adx_federation_guard_active{reason="incomplete_read"} 1"#,
            r#"adx_federation_heartbeat_last_success_timestamp_seconds{hub="https://hub.kusto.windows.net"} 1772366400.0"#,
            r#"adx_federation_heartbeats_sent_total{hub="https://hub.kusto.windows.net",outcome="accepted"} 1"#,
            r#"adx_federation_heartbeats_sent_total{hub="https://hub.kusto.windows.net",outcome="timed_out"} 1"#,
            r#"adx_federation_missed_heartbeats_total{partition="https://p.kusto.windows.net"} 2"#,
            r#"adx_federation_partition_last_heartbeat_timestamp_seconds{partition="https://p.kusto.windows.net"} 1772366400.0"#,
            r#"adx_federation_partitions{state="live"} 3"#,
            "adx_federation_pass_duration_seconds_count 1",
            "adx_federation_pass_duration_seconds_sum 0.3",
            r#"adx_federation_passes_total{outcome="done"} 1"#,
        ]
    );
}

#[test]
fn what_never_happened_is_there_as_zero() {
    let metrics = Metrics::new();
    metrics.hub(&endpoint("hub"));
    metrics.cluster(&endpoint("hub"));
    let values = values(&metrics);
    let zero = |line: &str| assert!(values.iter().any(|value| value == line), "{line} in {values:#?}");
    zero(r#"adx_federation_heartbeat_last_success_timestamp_seconds{hub="https://hub.kusto.windows.net"} 0.0"#);
    zero(r#"adx_federation_auth_failures_total{endpoint="https://hub.kusto.windows.net"} 0"#);
    for outcome in HeartbeatOutcome::ALL {
        zero(&format!(
            r#"adx_federation_heartbeats_sent_total{{hub="https://hub.kusto.windows.net",outcome="{outcome}"}} 0"#
        ));
    }
    // Nothing that happened is forgotten when it is declared once more.
    metrics.auth_failure(&endpoint("hub"));
    metrics.cluster(&endpoint("hub"));
    assert!(metrics.text().contains(r#"auth_failures_total{endpoint="https://hub.kusto.windows.net"} 1"#));
}

#[tokio::test]
async fn each_failure_has_its_outcome() {
    // The one error of reqwest that can be had without a network.
    let refused = reqwest::Client::new().get("no address").send().await.unwrap_err();
    let (message, after, status) = (|| "no".to_owned(), Duration::from_secs(1), 200);
    for (failure, outcome) in [
        (Failure::Transport { maybe_received: true, source: refused }, "unreachable"),
        (Failure::TimedOut { after }, "timed_out"),
        (Failure::Credential(CredentialError::TimedOut { credential: "Azure CLI", after }), "refused"),
        (Failure::Unauthorized { status: 401, message: message() }, "refused"),
        (Failure::Unauthorized { status: 403, message: message() }, "refused"),
        (Failure::Throttled { retry_after: Some(after) }, "throttled"),
        (Failure::Rejected { status: 400, code: message(), message: message(), permanent: true }, "rejected"),
        (Failure::Rejected { status: 500, code: message(), message: message(), permanent: false }, "rejected"),
        (Failure::Incomplete { why: message() }, "garbled"),
        (Failure::TooLarge { limit: 1 }, "garbled"),
        (Failure::NotKusto { status, why: message() }, "garbled"),
        (Failure::Redirected { status: 302 }, "garbled"),
    ] {
        assert_eq!(HeartbeatOutcome::from(&failure).as_str(), outcome, "{failure:?}");
    }
}

#[test]
fn a_partition_that_left_takes_its_label_values_with_it() {
    let metrics = Metrics::new();
    for name in ["stays", "leaves"] {
        metrics.partition_heartbeat(&endpoint(name), Timestamp::UNIX_EPOCH);
        metrics.missed_heartbeats(&endpoint(name), 1);
        metrics.auth_failure(&endpoint(name));
    }
    metrics.forget_partition(&endpoint("leaves"));
    assert_eq!(values(&metrics).iter().filter(|line| line.contains("stays")).count(), 3);
    assert!(!metrics.text().contains("leaves"));
}
