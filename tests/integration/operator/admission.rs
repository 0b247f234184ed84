//! What the API server itself refuses, in our words; and what the operator says of objects that are older than a rule.

use tests::cluster::TestNamespace;

fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: wrong}}\nspec: {{clusterName: wrong, {spec}}}\n"
    )
}

#[tokio::test]
async fn invalid_objects_are_refused_with_the_rule_that_they_break() {
    let test = TestNamespace::new("admission").await;
    let hub = "heartbeatDatabase: D, heartbeatTable: T";
    let target = "{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}";
    let cases = [
        ("role: Hub".to_owned(), "Unsupported value: \"Hub\""),
        (
            "role: Federated".to_owned(),
            "role Federated must have federation.heartbeatDatabase and federation.heartbeatTable",
        ),
        (
            "role: Federated, federation: {heartbeatDatabase: D}".to_owned(),
            "role Federated must have federation.heartbeatDatabase",
        ),
        (
            format!("role: Federated, federation: {{{hub}, federatedClusters: [{target}]}}"),
            "role Federated must not have federatedClusters",
        ),
        ("federation: {partitioning: {geo: EU}}".to_owned(), "a federation of role Partition must name its hubs"),
        (
            format!("federation: {{federatedClusters: [{target}], federatedTargets: [{target}]}}"),
            "in one of federatedClusters and federatedTargets",
        ),
        (
            format!("federation: {{federatedClusters: [{target}], {hub}}}"),
            "role Partition must not have heartbeatDatabase",
        ),
        (
            format!("role: Federated, federation: {{{hub}, heartbeatTTL: 20m}}"),
            "heartbeatTTL must be at least 3 x heartbeatInterval",
        ),
        (
            format!("role: Federated, federation: {{{hub}, heartbeatTTL: 1d, heartbeatInterval: 9h}}"),
            "heartbeatTTL must be at least 3 x heartbeatInterval",
        ),
        (
            format!("role: Federated, federation: {{{hub}, heartbeatInterval: often}}"),
            "must be a duration such as 10s, 10m, 1h30m or 7d",
        ),
        (
            format!("role: Federated, federation: {{{hub}, reconcileInterval: 1m, reconcileSchedule: '* * * * *'}}"),
            "reconcileSchedule must not be set beside reconcileInterval",
        ),
        ("endpoint: 'http://x.kusto.windows.net'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net:443'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://me@x.kusto.windows.net'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net/path'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("provision: {autoScaleMin: 9, autoScaleMax: 4}".to_owned(), "autoScaleMin must be at most autoScaleMax"),
        ("databases: [{databaseName: 'a b', telemetryType: Logs}]".to_owned(), "databaseName"),
        ("databases: [{databaseName: a, telemetryType: Smoke}]".to_owned(), "Unsupported value: \"Smoke\""),
        (
            format!("role: Federated, federation: {{{hub}, credential: {{azureCli: {{}}, workloadIdentity: {{}}}}}}"),
            "a credential must have exactly one of",
        ),
    ];
    for (spec, message) in cases {
        let refused = test.refused(&cluster(&spec)).await;
        assert!(refused.contains(message), "{spec}:\n{refused}\nlacks: {message}");
    }
    let component = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: adx-mon.azure.com/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    let selector = "adxClusterSelector: {matchLabels: {a: b}}";
    for (text, message) in [
        (component("Ingestor", "i", ""), "adxClusterSelector: Required value"),
        (component("Ingestor", "i", &format!("{selector}, replicas: -1")), "replicas"),
        (
            component("Ingestor", "i", &format!("{selector}, autoscaling: {{minReplicas: 5, maxReplicas: 2}}")),
            "minReplicas must be at most maxReplicas",
        ),
        (component("Ingestor", "with.dot", selector), "metadata.name must be at most 52 lower-case letters"),
        (component("Collector", &"c".repeat(53), ""), "metadata.name must be at most 52 lower-case letters"),
        (
            component("ADXCluster", "a", "clusterName: abc"),
            "clusterName must have 4 to 22 characters and begin with a letter",
        ),
        (
            component("ADXCluster", "a", "clusterName: twenty-three-characters"),
            "clusterName must have 4 to 22 characters and begin with a letter",
        ),
        (component("Alerter", "a", selector), "notificationEndpoint: Required value"),
        (
            component("Alerter", "a", &format!("{selector}, notificationEndpoint: 'mailto:me'")),
            "notificationEndpoint must start with http",
        ),
    ] {
        let refused = test.refused(&text).await;
        assert!(refused.contains(message), "{text}:\n{refused}\nlacks: {message}");
    }
}

#[tokio::test]
async fn valid_corners_are_taken_and_defaults_are_filled_in() {
    let test = TestNamespace::new("corners").await;
    for spec in [
        "endpoint: 'https://X.kusto.windows.net/'",
        "endpoint: 'http://127.0.0.1:8080'",
        "endpoint: 'http://[::1]:8080'",
        "role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T, heartbeatTTL: 1d12h, heartbeatInterval: 12h}",
        "role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T, heartbeatTTL: 30m}",
        "role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T, heartbeatTTL: 4s, heartbeatInterval: 500ms}",
    ] {
        test.apply(&cluster(spec)).await;
    }
    let made = test.apply(&cluster("databases: [{databaseName: a, telemetryType: Logs}], provision: {location: x}, endpoint: 'https://x.kusto.windows.net'")).await;
    let spec = &made[0].data["spec"];
    assert_eq!(
        (&spec["role"], &spec["databases"][0]["retentionInDays"]),
        (&"Partition".into(), &30.into()),
        "{spec:#}"
    );
    assert_eq!(
        (&spec["provision"]["autoScaleMin"], &spec["provision"]["autoScaleMax"]),
        (&2.into(), &10.into()),
        "{spec:#}"
    );
}

#[tokio::test]
async fn what_no_schema_can_say_is_said_in_a_condition() {
    let test = TestNamespace::new("conditions").await;
    let operator = test.operator().await;
    for (name, spec, reason, message) in [
        (
            "elsewhere",
            "endpoint: 'https://kusto.windows.net.evil.example'",
            "Invalid",
            "must be a Kusto endpoint of the operator's cloud (public)",
        ),
        (
            "double",
            "endpoint: 'https://x.kusto.windows.net', databases: [{databaseName: A, telemetryType: Logs}, {databaseName: a, telemetryType: Logs}]",
            "Invalid",
            "must be listed once",
        ),
        ("badcriteria", "criteriaExpression: 'region =='", "InvalidCriteria", "it is no CEL expression"),
    ] {
        test.apply(&cluster(spec).replace("{name: wrong}", &format!("{{name: {name}}}"))).await;
        let object = test.until_condition("ADXCluster", name, "Ready", "False", reason).await;
        let stalled = tests::cluster::condition_of(&object, "Stalled");
        assert!(object.to_string().contains(message), "{object:#}");
        assert!(stalled.is_some(), "only a person can mend it: {object:#}");
    }
    drop(operator);
}
