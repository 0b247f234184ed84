//! Objects with everything that their kind can have, and what breaks the rules in CEL in them; objects that only just keep these; objects with the least that they must
//! have. No I/O.

use serde_json::{Value, json};

use super::rules::patch;

/// Valid objects, in which every rule of the schemas has something to break. An ADXCluster cannot have all fields at once, nor a certificate.
pub(super) const WHOLE: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: partition}
spec:
  clusterName: partition
  endpoint: https://partition.kusto.windows.net
  criteriaExpression: region == 'eu'
  databases: [{databaseName: Logs, telemetryType: Logs, retentionInDays: 30}]
  provision: {autoScale: true, autoScaleMin: 2, autoScaleMax: 4}
  role: Partition
  federation:
    federatedClusters:
      - endpoint: https://hub.kusto.windows.net
        heartbeatDatabase: Fleet
        heartbeatTable: Beats
        heartbeatTables: Shared
        credential: {managedIdentity: {clientId: identity}}
    heartbeatInterval: 10m
    heartbeatTTL: 1h
    schemaInBeats: OnChange
    credential: {managedIdentity: {}}
    podPolicy:
      imagePullSecrets: [{name: registry}]
      tolerations: [{key: pool, operator: Equal, value: infra, effect: NoExecute, tolerationSeconds: 5}]
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: present}
spec:
  clusterName: present
  endpoint: https://present.kusto.windows.net
  federation:
    federatedTargets:
      - endpoint: https://hub.kusto.windows.net
        heartbeatDatabase: Fleet
        heartbeatTable: Beats
        heartbeatTables: PerPartition
        credential: {workloadIdentity: {}}
    heartbeatSchedule: '*/10 * * * *'
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: hub
  endpoint: https://hub.kusto.windows.net
  role: Federated
  federation:
    heartbeatDatabase: Fleet
    heartbeatTable: Beats
    heartbeatTables: Shared
    heartbeatInterval: 10m
    heartbeatTTL: 1h
    heartbeatRetention: 7d
    reconcileInterval: 10m
    mode: Apply
    acknowledgedPlan: abcdefabcdef
    membership:
      joinAfterBeats: 1
      returnAfterBeats: 2
      suspectAfterMissedBeats: 1
      flappingReturns: 3
      flappingWindow: 6h
      removalPercent: 15
      massExpiryPercent: 55
      massExpiryPartitions: 3
      zoneAttribute: geo
      guardTimeLimit: 1d
    allowedPartitions: ['https://partition.kusto.windows.net']
    allowedPartitionPattern: '*.kusto.windows.net'
    blockedPartitions: ['https://blocked.kusto.windows.net']
    entityGroups: [{by: geo}]
    schemaConflicts: Coerce
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: scheduled}
spec:
  clusterName: scheduled
  endpoint: https://scheduled.kusto.windows.net
  role: Federated
  federation: {heartbeatDatabase: Fleet, heartbeatTable: Beats, reconcileSchedule: '*/10 * * * *'}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: ingestor}
spec:
  replicas: 2
  endpoint: https://ingestor.example.com
  logDestination: Logs:Ingestor
  tls: {secretRef: {name: certificate}}
  adxClusterSelector: {matchLabels: {app: adx-mon}, matchExpressions: [{key: app, operator: In, values: [adx-mon]}]}
  autoscaling: {minReplicas: 1, maxReplicas: 4, targetCPUUtilizationPercentage: 80}
  criteriaExpression: region == 'eu'
  podPolicy:
    imagePullSecrets: [{name: registry}]
    tolerations: [{key: pool, operator: Equal, value: infra, effect: NoExecute, tolerationSeconds: 5}]
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: folder}
spec:
  adxClusterSelector: {matchLabels: {app: adx-mon}}
  tls: {hostPath: /certificates}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: collector}
spec:
  ingestorEndpoint: https://ingestor.example.com
  metricsDatabase: Metrics_1
  logsDatabase: Logs
  criteriaExpression: region == 'eu'
  podPolicy:
    imagePullSecrets: [{name: registry}]
    tolerations: [{key: pool, operator: Equal, value: infra, effect: NoExecute, tolerationSeconds: 5}]
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: alerter}
spec:
  notificationEndpoint: https://alerts.example.com
  adxClusterSelector: {matchLabels: {app: adx-mon}, matchExpressions: [{key: app, operator: In, values: [adx-mon]}]}
  criteriaExpression: region == 'eu'
  podPolicy:
    imagePullSecrets: [{name: registry}]
    tolerations: [{key: pool, operator: Equal, value: infra, effect: NoExecute, tolerationSeconds: 5}]
";

/// Objects with the least that they must have, and with every section that has defaults.
pub(super) const LEAST: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: partition}
spec: {clusterName: partition}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: least
  databases: [{databaseName: Logs, telemetryType: Logs}]
  provision: {}
  role: Federated
  federation: {heartbeatDatabase: Fleet, heartbeatTable: Beats, macroExpand: {}, membership: {}}
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: ingestor}
spec: {adxClusterSelector: {}, autoscaling: {maxReplicas: 2}}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: collector}
spec: {}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: alerter}
spec: {adxClusterSelector: {}, notificationEndpoint: 'https://alerts.example.com'}
";

/// What breaks a rule in CEL.
pub(super) struct Breach {
    /// How the rule's message begins.
    pub(super) message: &'static str,
    /// The object in which it is broken; any that has its place, if there is none.
    pub(super) object: Option<&'static str>,
    /// A merge patch of what is at its place.
    pub(super) patch: Value,
}

/// One for each rule in CEL, wherever in the schemas it is, but for those that say a pattern.
pub(super) fn breaches() -> Vec<Breach> {
    let breach = |message, object, patch| Breach { message, object, patch };
    let hub =
        json!([{"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"}]);
    vec![
        breach("metadata.name must be at most 52", None, json!({"metadata": {"name": "with.dot"}})),
        breach("without an endpoint the cluster is", None, json!({"endpoint": null, "clusterName": "abc"})),
        breach("role Federated must have", Some("hub"), json!({"federation": {"heartbeatDatabase": null}})),
        breach("role Federated must not have", Some("hub"), json!({"federation": {"federatedTargets": hub}})),
        breach(
            "a federation of role Partition must name",
            Some("partition"),
            json!({"federation": {"federatedClusters": null}}),
        ),
        breach("role Partition must not have", Some("partition"), json!({"federation": {"mode": "Plan"}})),
        breach("federation.heartbeatTTL must be", Some("hub"), json!({"federation": {"heartbeatTTL": "29m"}})),
        breach("with schemaInBeats: OnChange,", Some("partition"), json!({"federation": {"heartbeatTTL": "29m"}})),
        breach("federatedClusters must name at least", None, json!([])),
        breach("federatedTargets must name at least", None, json!([])),
        breach("heartbeatSchedule must not be", Some("partition"), json!({"heartbeatSchedule": "0 * * * *"})),
        breach("reconcileSchedule must not be", Some("hub"), json!({"reconcileSchedule": "0 * * * *"})),
        breach("heartbeatTables: PerPartition must", Some("hub"), json!({"heartbeatTables": "PerPartition"})),
        breach("an endpoint must be https://", None, json!("http://hub.kusto.windows.net")),
        breach("a credential must have exactly one", None, json!({"azureCli": {}})),
        breach("autoScaleMin must be at most", None, json!({"autoScaleMin": 5})),
        breach("a toleration without a key must", None, json!({"key": null})),
        breach("a toleration with operator Exists must", None, json!({"operator": "Exists"})),
        breach("tolerationSeconds must have", None, json!({"effect": "NoSchedule"})),
        breach("minReplicas must be at most", None, json!({"minReplicas": 5})),
        breach("logDestination must be", None, json!("Logs")),
        breach("metricsDatabase must be", None, json!("a b")),
        breach("logsDatabase must be", None, json!("Logs-1")),
        breach("tls must have exactly one", None, json!({"hostPath": "/certificates"})),
        breach("hostPath must be absolute", None, json!("certificates")),
        breach("notificationEndpoint must start", None, json!("mailto:alerts@example.com")),
    ]
}

/// Objects that only just keep the rules in CEL, and the reverse of [`breaches`]: a rule that refuses one of them is stricter than it says.
pub(super) fn corners() -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "adx-mon.azure.com/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let endpoint = "https://corner.kusto.windows.net";
    let cluster = |more: Value| {
        let mut spec = json!({"clusterName": "corner", "endpoint": endpoint});
        patch(&mut spec, &more);
        object("ADXCluster", "corner", spec)
    };
    let hubs =
        json!([{"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"}]);
    let partition = |more: Value| {
        let mut spec = json!({"federation": {"federatedClusters": hubs}});
        patch(&mut spec["federation"], &more);
        cluster(spec)
    };
    let hub = |more: Value| {
        let federation = json!({"heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"});
        let mut spec = json!({"role": "Federated", "federation": federation});
        patch(&mut spec["federation"], &more);
        cluster(spec)
    };
    let selector = json!({"matchLabels": {"app": "adx-mon"}});
    let ingestor = |more: Value| {
        let mut spec = json!({"adxClusterSelector": selector});
        patch(&mut spec, &more);
        object("Ingestor", "corner", spec)
    };
    let mut corners = vec![
        partition(json!({"schemaInBeats": "OnChange", "heartbeatTTL": "30m"})),
        // Of cron no interval is known, and a partition that always sends its schema uses no time to live.
        partition(json!({"schemaInBeats": "OnChange", "heartbeatTTL": "1m", "heartbeatSchedule": "*/10 * * * *"})),
        partition(json!({"schemaInBeats": "Always", "heartbeatTTL": "1m"})),
        partition(json!({"heartbeatSchedule": "\t0,30  */2 1-7 JAN-DEC,12 mon,? "})),
        hub(json!({"heartbeatTTL": "1d12h", "heartbeatInterval": "12h"})),
        hub(json!({"heartbeatTTL": "30m"})),
        hub(json!({"heartbeatTTL": "4s", "heartbeatInterval": "500ms"})),
        hub(json!({"allowedPartitionPattern": "eu-*.WestEurope.kusto.windows.net"})),
        cluster(json!({"endpoint": "https://X.kusto.windows.net/"})),
        cluster(json!({"endpoint": "http://127.0.0.1:8080"})),
        cluster(json!({"endpoint": "http://[::1]:8080"})),
        // As short and as long as Azure has them, and longer where the cluster is there already.
        cluster(json!({"endpoint": null, "clusterName": "abcd"})),
        cluster(json!({"endpoint": null, "clusterName": "c".repeat(22)})),
        cluster(json!({"clusterName": "c".repeat(23)})),
        cluster(json!({"clusterName": "1"})),
        cluster(json!({"provision": {"autoScaleMin": 3, "autoScaleMax": 3}})),
        // The other bound is the default.
        cluster(json!({"provision": {"autoScaleMin": 10}})),
        cluster(json!({"provision": {"autoScaleMax": 2}})),
        ingestor(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 2}})),
        ingestor(json!({"autoscaling": {"maxReplicas": 1}})),
        // As adx-mon's users leave what they do not use.
        ingestor(json!({"tls": {"secretRef": {"name": "certificate"}, "hostPath": ""}, "logDestination": ""})),
        ingestor(json!({"tls": {"hostPath": "/"}, "logDestination": "L:I"})),
        ingestor(json!({"podPolicy": {"tolerations": [
            {"operator": "Exists"},
            {"operator": "Exists", "key": "pool", "value": ""},
            {"key": "pool"},
        ]}})),
    ];
    // What is not to become a name in a cluster may have any that Kubernetes has.
    corners.push(object("ADXCluster", "with.dot", json!({"clusterName": "corner", "endpoint": endpoint})));
    let alerts = "https://alerts.example.com";
    for name in ["n".to_owned(), longest_name()] {
        let federation = json!({"federatedClusters": hubs});
        corners.extend([
            object(
                "ADXCluster",
                &name,
                json!({"clusterName": "corner", "endpoint": endpoint, "federation": federation}),
            ),
            object("Ingestor", &name, json!({"adxClusterSelector": selector})),
            object("Collector", &name, json!({})),
            object("Alerter", &name, json!({"adxClusterSelector": selector, "notificationEndpoint": alerts})),
        ]);
    }
    corners
}

/// 52 characters.
fn longest_name() -> String {
    "name".repeat(13)
}

/// What a federation of the other role has, field by field: the object that must not have it, the field, and the merge patch of that object's federation.
pub(super) fn foreign() -> Vec<(&'static str, &'static str, Value)> {
    let target =
        json!([{"endpoint": "https://hub.kusto.windows.net", "heartbeatDatabase": "Fleet", "heartbeatTable": "Beats"}]);
    let of_partitions = [
        ("federatedClusters", target.clone()),
        ("federatedTargets", target),
        ("heartbeatSchedule", json!("0 * * * *")),
        ("schemaInBeats", json!("Always")),
    ];
    let of_hubs = [
        ("heartbeatDatabase", json!("Fleet")),
        ("heartbeatTable", json!("Beats")),
        ("heartbeatTables", json!("Shared")),
        ("heartbeatRetention", json!("7d")),
        ("reconcileInterval", json!("10m")),
        ("reconcileSchedule", json!("0 * * * *")),
        ("macroExpand", json!({})),
        ("mode", json!("Apply")),
        ("acknowledgedPlan", json!("abcdefabcdef")),
        ("membership", json!({})),
        ("allowedPartitions", json!(["https://partition.kusto.windows.net"])),
        ("allowedPartitionPattern", json!("*.kusto.windows.net")),
        ("blockedPartitions", json!(["https://blocked.kusto.windows.net"])),
        ("canary", json!(true)),
        ("entityGroups", json!([{"by": "geo"}])),
        ("schemaConflicts", json!("Coerce")),
    ];
    // Beside its interval a schedule would break another rule.
    let in_hub = of_partitions.map(|(field, value)| ("hub", field, json!({field: value, "heartbeatInterval": null})));
    let in_partition = of_hubs.map(|(field, value)| ("partition", field, json!({field: value})));
    in_hub.into_iter().chain(in_partition).collect()
}
