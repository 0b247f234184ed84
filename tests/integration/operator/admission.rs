//! What the API server itself refuses, in our words; and what the operator says of objects that are older than a rule.

use tests::cluster::{TestNamespace, condition_of, documents, message_of};

use crate::drift::try_to_change;

fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: wrong}}\nspec: {{clusterName: wrong, {spec}}}\n"
    )
}

/// What the rules in CEL tell apart; that there is no rule which refuses nothing is seen in `schema.rs`, and what they only just take.
#[tokio::test]
async fn invalid_objects_are_refused_with_the_rule_that_they_break() {
    let test = TestNamespace::new("admission").await;
    let hub = "heartbeatDatabase: D, heartbeatTable: T";
    let target = "{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}";
    let cases = [
        (
            "role: Federated".to_owned(),
            "role Federated must have federation.heartbeatDatabase and federation.heartbeatTable",
        ),
        (
            "role: Federated, federation: {heartbeatDatabase: D}".to_owned(),
            "role Federated must have federation.heartbeatDatabase",
        ),
        (
            "role: Federated, federation: {heartbeatTable: T}".to_owned(),
            "role Federated must have federation.heartbeatDatabase",
        ),
        (
            format!("role: Federated, federation: {{{hub}, federatedClusters: [{target}]}}"),
            "role Federated must not have federatedClusters",
        ),
        (
            format!("role: Federated, federation: {{{hub}, federatedTargets: [{target}]}}"),
            "role Federated must not have federatedClusters, federatedTargets",
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
            "heartbeatInterval must be a duration such as 10s, 10m, 1h30m or 7d, not 'often'",
        ),
        (
            format!("federation: {{federatedClusters: [{target}], schemaInBeats: OnChange, heartbeatTTL: 29m}}"),
            "with schemaInBeats: OnChange, federation.heartbeatTTL must be at least 3 x heartbeatInterval",
        ),
        (
            format!("federation: {{federatedClusters: [{target}], schemaInBeats: OnChange, heartbeatInterval: 21m}}"),
            "with schemaInBeats: OnChange, federation.heartbeatTTL must be at least 3 x heartbeatInterval",
        ),
        ("federation: {federatedTargets: []}".to_owned(), "federatedTargets must name at least one hub"),
        (
            format!("federation: {{federatedClusters: [{target}], heartbeatSchedule: '*/10 * * *'}}"),
            "heartbeatSchedule must have five cron fields (minute, hour, day of month, month, day of week), such as */10 * * * *, not '*/10 * * *'",
        ),
        (
            "databases: [{databaseName: a-b, telemetryType: Logs}]".to_owned(),
            "databaseName must be 1 to 64 letters, digits and underscores, not 'a-b'",
        ),
        (
            "role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: \"a'b\\\"\"}".to_owned(),
            "heartbeatTable must be a Kusto name: 1 to 1024 letters, digits, '_', ' ', '.' and '-', not 'a'b\"'",
        ),
        (
            format!("role: Federated, federation: {{{hub}, reconcileInterval: 1m, reconcileSchedule: '* * * * *'}}"),
            "reconcileSchedule must not be set beside reconcileInterval",
        ),
        ("endpoint: 'http://x.kusto.windows.net'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net:443'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://me@x.kusto.windows.net'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net/path'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://10.0.0.1'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://127.1'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://a.0x7f'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.xn--ksto-0ra.windows.net'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net?a=b'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net#a'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        ("endpoint: 'https://x.kusto.windows.net.'".to_owned(), "an endpoint must be https:// and a full DNS name"),
        (
            "federation: {federatedClusters: [{endpoint: 'http://x.example', heartbeatDatabase: D, heartbeatTable: T}]}".to_owned(),
            "an endpoint must be https:// and a full DNS name",
        ),
        (format!("role: Federated, federation: {{{hub}, schemaInBeats: Always}}"), "role Federated must not have"),
        (format!("role: Federated, federation: {{{hub}, heartbeatSchedule: '* * * * *'}}"), "role Federated must not have"),
        (
            format!("federation: {{federatedClusters: [{target}], heartbeatInterval: 1m, heartbeatSchedule: '* * * * *'}}"),
            "heartbeatSchedule must not be set beside heartbeatInterval",
        ),
        (
            format!("role: Federated, federation: {{{hub}, heartbeatTables: PerPartition}}"),
            "heartbeatTables: PerPartition must have the partitions in allowedPartitions",
        ),
        (
            format!("role: Federated, federation: {{{hub}, heartbeatTables: PerPartition, allowedPartitions: ['https://a.kusto.windows.net'], allowedPartitionPattern: '*'}}"),
            "heartbeatTables: PerPartition must have the partitions in allowedPartitions",
        ),
        (
            format!("role: Federated, federation: {{{hub}, credential: {{azureCli: {{}}, workloadIdentity: {{}}}}}}"),
            "a credential must have exactly one of",
        ),
    ];
    for (spec, message) in cases {
        let refused = test.refused(&cluster(&spec)).await;
        assert!(refused.contains(message), "{spec}:\n{refused}\nlacks: {message}");
    }
    // Each of a hub's fields beside a partition's hubs, in the rule's order.
    let fields = [
        "heartbeatDatabase: D",
        "heartbeatTable: T",
        "heartbeatTables: Shared",
        "heartbeatRetention: 7d",
        "reconcileInterval: 1m",
        "reconcileSchedule: '* * * * *'",
        "macroExpand: {folder: f}",
        "mode: Plan",
        "acknowledgedPlan: ab",
        "membership: {joinAfterBeats: 2}",
        "allowedPartitions: []",
        "allowedPartitionPattern: '*'",
        "blockedPartitions: ['https://a.kusto.windows.net']",
        "canary: true",
        "entityGroups: [{by: geo}]",
        "schemaConflicts: Report",
    ];
    for field in fields {
        let refused = test.refused(&cluster(&format!("federation: {{federatedClusters: [{target}], {field}}}"))).await;
        let rule = refused.split_once("role Partition must not have ").and_then(|(_, rest)| rest.split_once(" beside"));
        let named = rule.map(|(named, _)| named.split(", ").flat_map(|names| names.split(" or ")).collect::<Vec<_>>());
        let all = fields.map(|field| field.split(':').next().unwrap_or_default());
        assert_eq!(named.unwrap_or_default(), all, "{field}:\n{refused}");
    }
    let component = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: adx-mon.azure.com/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    };
    let selector = "adxClusterSelector: {matchLabels: {a: b}}";
    for (text, message) in [
        (
            component("Ingestor", "i", &format!("{selector}, tls: {{}}")),
            "tls must have exactly one of secretRef and hostPath",
        ),
        (
            component("Ingestor", "i", &format!("{selector}, tls: {{secretRef: {{name: s}}, hostPath: /certs}}")),
            "tls must have exactly one of secretRef and hostPath",
        ),
        (
            component("Ingestor", "i", &format!("{selector}, tls: {{hostPath: /certs/../etc}}")),
            "hostPath must be absolute and without ..",
        ),
        (component("Ingestor", "with.dot", selector), "metadata.name must be at most 52 lower-case letters"),
        (component("Collector", &"c".repeat(53), ""), "metadata.name must be at most 52 lower-case letters"),
        (
            component("ADXCluster", "a", "clusterName: abc"),
            "clusterName must have 4 to 22 characters and begin with a letter",
        ),
        (
            component("ADXCluster", "a", "clusterName: 1abc"),
            "clusterName must have 4 to 22 characters and begin with a letter",
        ),
        // No message has two lines.
        (
            component("ADXCluster", "a", "clusterName: \"two\\nlines\""),
            "clusterName must be 1 to 100 letters, digits and hyphens",
        ),
        (
            component("ADXCluster", "a", "clusterName: twenty-three-characters"),
            "clusterName must have 4 to 22 characters and begin with a letter",
        ),
        (
            component("Alerter", "with.dot", &format!("{selector}, notificationEndpoint: 'https://x.example'")),
            "metadata.name must be at most 52 lower-case letters",
        ),
        (
            component(
                "ADXCluster",
                "with.dot",
                &format!("clusterName: abcd, federation: {{federatedClusters: [{target}]}}"),
            ),
            "metadata.name must be at most 52 lower-case letters",
        ),
    ] {
        let refused = test.refused(&text).await;
        assert!(refused.contains(message), "{text}:\n{refused}\nlacks: {message}");
    }
}

/// Else a story would pass without what it is about.
#[tokio::test]
async fn a_field_that_a_story_misspells_is_refused_however_it_is_sent() {
    let test = TestNamespace::new("misspelled").await;
    let ingestor = "apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {name: i}\nspec: {adxClusterSelector: {}, replicas: 2}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\n";
    let of_ingestor = serde_json::json!({"spec": {"replicsa": 3}});
    let of_map = serde_json::json!({"dtaa": {"a": "c"}});
    for (kind, name, text, (right, wrong), path, patch) in [
        ("Ingestor", "i", ingestor, ("replicas:", "replicsa:"), "spec.replicsa", of_ingestor),
        ("v1 ConfigMap", "m", map, ("\ndata:", "\ndtaa:"), "dtaa", of_map),
    ] {
        let applied = test.refused(&text.replace(right, wrong)).await;
        assert!(applied.contains(&format!(".{path}: field not declared in schema")), "{applied}");
        test.apply(text).await;
        let changed = try_to_change(&test, kind, name, &patch).await.expect_err("nobody knows this field");
        assert!(changed.to_string().contains(&format!("unknown field \"{path}\"")), "{changed}");
    }
    let misspelled = &documents(&ingestor.replace("replicas:", "replicsa:"))[0];
    let rehearsed = test.rehearse(misspelled).await.expect_err("nobody knows this field");
    assert!(rehearsed.message.contains("unknown field \"spec.replicsa\""), "{rehearsed:?}");
}

/// Columns, short names and the category, as kubectl finds them.
#[tokio::test]
async fn kubectl_finds_the_kinds_by_short_names_and_category() {
    let test = TestNamespace::new("discovery").await;
    let request = http::Request::get("/apis/adx-mon.azure.com/v1").body(Vec::new()).expect("a path makes a request");
    let found: serde_json::Value = test.client().request(request).await.expect("the API server tells");
    let resources = found["resources"].as_array().cloned().unwrap_or_default();
    for (plural, short) in [("adxclusters", "adx"), ("ingestors", "adxi"), ("collectors", "adxc"), ("alerters", "adxa")]
    {
        let resource = resources.iter().find(|resource| resource["name"] == plural).expect("the kind is served");
        assert_eq!(resource["shortNames"], serde_json::json!([short]));
        assert_eq!(resource["categories"], serde_json::json!(["adx-mon"]));
        let path = format!("/apis/adx-mon.azure.com/v1/namespaces/{}/{plural}", test.name);
        let table = http::Request::get(path).header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let table: serde_json::Value =
            test.client().request(table.body(Vec::new()).expect("a path makes a request")).await.expect("it prints");
        let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
        assert!(names.contains(&"Ready") && names.contains(&"Age"), "{plural}: {names:?}");
    }
}

#[tokio::test]
async fn an_object_whose_criteria_are_not_met_is_left_alone_until_they_are() {
    let test = TestNamespace::new("criteria").await;
    let options = tests::cluster::OperatorOptions {
        arguments: vec!["--cluster-labels=region=eu,tier=gold,cluster=c1".to_owned()],
        ..tests::cluster::OperatorOptions::default()
    };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let with = |text: &str, expression: &str| {
        text.replace("spec:\n", &format!("spec:\n  criteriaExpression: \"{expression}\"\n"))
            .replace("spec: {", &format!("spec: {{criteriaExpression: \"{expression}\", "))
            .replace(", }", "}")
    };
    let all = format!("{}---{}", crate::support::CLUSTER, crate::support::COMPONENTS);
    test.apply(&with(&all, "region == 'us'")).await;
    for (kind, name) in [("ADXCluster", "eu"), ("Ingestor", "i"), ("Collector", "c"), ("Alerter", "a")] {
        test.until_condition(kind, name, "Ready", "Unknown", "CriteriaNotMet").await;
    }
    assert!(crate::support::made(&test).await.is_empty());
    test.apply(&with(&all, "region == 'eu' && tier == 'gold'")).await;
    crate::support::until_ready(&test).await;
    // The labels are also what components are told of their cluster.
    let told = async |workload: &str, name: &str| {
        let arguments = crate::components::arguments(&test.get(workload, name).await).into_iter();
        let of_labels =
            |argument: &String| ["--region=", "--cluster-labels="].iter().any(|flag| argument.starts_with(flag));
        arguments.filter(of_labels).collect::<Vec<_>>()
    };
    let of_ingestor =
        ["--region=eu", "--cluster-labels=cluster=c1", "--cluster-labels=region=eu", "--cluster-labels=tier=gold"];
    assert_eq!(told("apps/v1 StatefulSet", "i").await, of_ingestor);
    assert_eq!(told("apps/v1 Deployment", "a").await, ["--region=eu"]);
    let map = test.get("v1 ConfigMap", "c-config").await;
    let config = map["data"]["config.toml"].as_str().unwrap_or_default();
    for line in ["region = \"eu\"", "cluster = \"c1\""] {
        assert!(config.lines().any(|found| found == line), "no {line} in:\n{config}");
    }
    drop(operator);
}

#[tokio::test]
async fn what_no_schema_can_say_is_said_in_a_condition_until_it_is_mended() {
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
        (
            "hubinparts",
            "endpoint: 'https://x.kusto.windows.net', role: Federated, federation: {heartbeatDatabase: D, heartbeatTable: T, partitioning: {geo: EU}}",
            "Invalid",
            "spec.federation.partitioning = 1 entr",
        ),
        ("badcriteria", "criteriaExpression: 'region =='", "InvalidCriteria", "it is no CEL expression"),
    ] {
        test.apply(&cluster(spec).replace("{name: wrong}", &format!("{{name: {name}}}"))).await;
        let object = test.until_condition("ADXCluster", name, "Ready", "False", reason).await;
        let stalled = condition_of(&object, "Stalled");
        assert!(object.to_string().contains(message), "{object:#}");
        assert!(stalled.is_some(), "only a person can mend it: {object:#}");
        crate::support::until_event(&test, reason, message).await;
    }
    let ingestor = |more: &str| crate::components::ingestor("i", more);
    test.apply(crate::support::CLUSTER).await;
    test.apply(&ingestor(", endpoint: 'a b'")).await;
    let object = test.until_condition("Ingestor", "i", "Ready", "False", "Invalid").await;
    let rule = "spec.endpoint = https://a b: must have no blanks";
    assert_eq!(message_of(&object, "WorkloadReady"), rule);
    assert!(condition_of(&object, "Stalled").is_some(), "only a person can mend it: {object:#}");
    crate::support::until_event(&test, "Invalid", rule).await;
    let made = crate::support::made(&test).await;
    assert!(made.is_empty(), "{made:#?}");
    // Mended, with another edit besides.
    test.apply(&ingestor(", endpoint: 'https://a.example.com', image: 'x/i:2'")).await;
    let object = test.until_condition("Ingestor", "i", "Ready", "True", "Ready").await;
    assert!(condition_of(&object, "Stalled").is_none(), "{object:#}");
    assert_eq!(object["status"]["endpoint"], "https://a.example.com");
    let set = test.get("apps/v1 StatefulSet", "i").await;
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "x/i:2");
    drop(operator);
}

/// The operators of other stories have `--allow-loopback`.
#[tokio::test]
async fn without_its_flag_an_operator_makes_nothing_for_an_endpoint_on_its_own_machine() {
    let test = TestNamespace::new("loopback").await;
    let options = tests::cluster::OperatorOptions {
        without: vec!["--allow-loopback"],
        ..tests::cluster::OperatorOptions::default()
    };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let (here, elsewhere) = ("http://127.0.0.1:1", "https://x.kusto.windows.net");
    for (name, endpoint, hub, path) in [
        ("ownhere", here, elsewhere, "spec.endpoint"),
        ("hubhere", elsewhere, here, "spec.federation.federatedClusters[0].endpoint"),
    ] {
        let hubs = format!("federatedClusters: [{{endpoint: '{hub}', heartbeatDatabase: D, heartbeatTable: T}}]");
        let text = cluster(&format!("endpoint: '{endpoint}', federation: {{{hubs}}}"));
        test.apply(&text.replace("{name: wrong}", &format!("{{name: {name}}}"))).await;
        let object = test.until_condition("ADXCluster", name, "Ready", "False", "Invalid").await;
        let rule = format!("{path} = {here}: must be a Kusto endpoint of the operator's cloud (public)");
        let told = condition_of(&object, "ClusterReady").expect("it is judged");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(told["status"] == "False" && told["reason"] == "Invalid" && message.contains(&rule), "{object:#}");
    }
    let made = crate::support::made(&test).await;
    assert!(made.is_empty(), "{made:#?}");
    drop(operator);
}
