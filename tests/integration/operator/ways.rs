//! Every object in two ways that differ in all that a spec may change, and the other role besides. Both ways are valid, and what is made for them seems to run.

use serde_json::Value;
use tests::cluster::{TestNamespace, condition_of, documents, is_observed};

/// With as little as there may be, and what excludes something of the other way.
pub(crate) const ONE_WAY: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: adx-mon}}
spec:
  clusterName: eu
  endpoint: https://eu.kusto.windows.net
  databases: [{databaseName: Metrics, telemetryType: Metrics}, {databaseName: Logs, telemetryType: Logs}]
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec:
  replicas: 1
  tls: {secretRef: {name: certificate}}
  adxClusterSelector: {matchLabels: {app: adx-mon}}
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: c}
spec: {}
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: a}
spec:
  notificationEndpoint: https://alerts.example.com
  adxClusterSelector: {matchLabels: {app: adx-mon}}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: part}
spec:
  clusterName: part
  endpoint: https://part.kusto.windows.net
  federation:
    federatedClusters:
      - endpoint: https://hub.kusto.windows.net
        heartbeatDatabase: D
        heartbeatTable: T
        managedIdentityClientId: writer
    partitioning: {geo: EU}
    heartbeatInterval: 5m
    managedIdentityClientId: reader
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: hub
  endpoint: https://hub.kusto.windows.net
  role: Federated
  federation:
    heartbeatDatabase: D
    heartbeatTable: T
    reconcileInterval: 5m
    allowedPartitionPattern: '*.kusto.windows.net'
    credential: {managedIdentity: {clientId: reader}}
";

/// With everything that there may be.
pub(crate) const OTHER_WAY: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: eu, labels: {app: adx-mon}}
spec:
  clusterName: moved
  endpoint: https://moved.kusto.windows.net
  criteriaExpression: 'true'
  databases:
    - {databaseName: Metrics, telemetryType: Metrics, retentionInDays: 90, retentionPolicy: '{}'}
    - {databaseName: Logs, telemetryType: Logs}
    - {databaseName: Spans, telemetryType: Traces}
  provision:
    subscriptionId: subscription
    resourceGroup: group
    location: westeurope
    skuName: Standard_L8as_v3
    tier: Basic
    userAssignedIdentities: [identity]
    managedIdentityClientId: identity-of-eu
    autoScale: true
    autoScaleMin: 3
    autoScaleMax: 5
    appliedProvisionState: '{}'
---
apiVersion: adx-mon.azure.com/v1
kind: Ingestor
metadata: {name: i}
spec:
  image: x/ingestor:2
  replicas: 5
  autoscaling: {minReplicas: 2, maxReplicas: 4, targetCPUUtilizationPercentage: 70}
  endpoint: https://ingestor.example.com
  exposeExternally: true
  logDestination: Audit:Ingestor
  tls: {hostPath: /certificates}
  adxClusterSelector: {matchExpressions: [{key: app, operator: In, values: [adx-mon]}]}
  managedIdentityClientId: identity-of-i
  criteriaExpression: 'true'
  podPolicy:
    imagePullSecrets: [{name: registry}]
    nodeSelector: {pool: infra}
    tolerations:
      - {key: pool, operator: Equal, value: infra, effect: NoExecute, tolerationSeconds: 5}
      - {key: '', operator: Exists, value: ''}
  appliedProvisionState: '{}'
---
apiVersion: adx-mon.azure.com/v1
kind: Collector
metadata: {name: c}
spec:
  image: x/collector:2
  ingestorEndpoint: https://other.example.com
  metricsDatabase: Far
  logsDatabase: Away
  criteriaExpression: 'true'
  # The stories' node has no such label: there is no pod.
  podPolicy:
    imagePullSecrets: [{name: registry}]
    nodeSelector: {pool: infra}
    tolerations: [{key: pool, value: infra, effect: NoSchedule}]
---
apiVersion: adx-mon.azure.com/v1
kind: Alerter
metadata: {name: a}
spec:
  image: x/alerter:2
  notificationEndpoint: https://other.example.com
  adxClusterSelector: {matchExpressions: [{key: app, operator: In, values: [adx-mon]}]}
  managedIdentityClientId: identity-of-a
  criteriaExpression: 'true'
  podPolicy:
    imagePullSecrets: [{name: registry}]
    nodeSelector: {pool: infra}
    tolerations: [{key: pool, value: infra, effect: NoSchedule}]
  appliedProvisionState: '{}'
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: part}
spec:
  clusterName: part-moved
  endpoint: https://part-moved.kusto.windows.net
  criteriaExpression: 'true'
  federation:
    image: x/agent:2
    federatedTargets:
      - endpoint: https://hub.kusto.windows.net
        heartbeatDatabase: Fleet
        heartbeatTable: Beats
        heartbeatTables: PerPartition
        credential: {workloadIdentity: {clientId: writer, tenantId: tenant}}
      - {endpoint: 'https://hub-us.kusto.windows.net', heartbeatDatabase: Fleet, heartbeatTable: Beats}
    partitioning: {geo: US, tier: 2}
    heartbeatSchedule: '0 * * * *'
    heartbeatTTL: 2h
    schemaInBeats: OnChange
    credential: {workloadIdentity: {clientId: identity-of-part, tenantId: tenant}}
    podPolicy:
      imagePullSecrets: [{name: registry}]
      nodeSelector: {pool: infra}
      tolerations: [{key: pool, value: infra, effect: NoSchedule}]
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: hub}
spec:
  clusterName: hub-moved
  endpoint: https://hub-moved.kusto.windows.net
  criteriaExpression: 'true'
  role: Federated
  federation:
    image: x/agent:2
    heartbeatDatabase: Fleet
    heartbeatTable: Beats
    heartbeatTables: PerPartition
    heartbeatInterval: 20m
    heartbeatTTL: 2h
    heartbeatRetention: 14d
    reconcileSchedule: '30 * * * *'
    macroExpand: {functionPrefix: all_, bestEffort: false, folder: all}
    mode: Plan
    acknowledgedPlan: abcdefabcdef
    membership:
      joinAfterBeats: 2
      returnAfterBeats: 3
      suspectAfterMissedBeats: 2
      flappingReturns: 4
      flappingWindow: 8h
      removalPercent: 20
      massExpiryPercent: 60
      massExpiryPartitions: 4
      zoneAttribute: location
      guardTimeLimit: 1d
    allowedPartitions: ['https://part.kusto.windows.net']
    blockedPartitions: ['https://blocked.kusto.windows.net']
    entityGroups: [{by: geo}]
    schemaConflicts: Report
    canary: true
    credential: {workloadIdentity: {clientId: identity-of-hub, tenantId: tenant}}
    podPolicy:
      imagePullSecrets: [{name: registry}]
      nodeSelector: {pool: infra}
      tolerations: [{key: pool, value: infra, effect: NoSchedule}]
";

/// A partition and a hub.
pub(crate) const ROLES: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: turned}
spec:
  clusterName: turned
  endpoint: https://turned.kusto.windows.net
  federation:
    federatedClusters: [{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}]
    credential: {azureCli: {}}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: swapped}
spec:
  clusterName: swapped
  endpoint: https://swapped.kusto.windows.net
  role: Federated
  federation:
    image: x/agent:3
    heartbeatDatabase: D
    heartbeatTable: T
    credential: {workloadIdentity: {clientId: identity-of-swapped}}
    podPolicy:
      imagePullSecrets: [{name: registry}]
      nodeSelector: {pool: infra}
      tolerations: [{key: pool, value: infra, effect: NoSchedule}]
";

/// The same two, each in the other's role.
pub(crate) const OTHER_ROLES: &str = "
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: turned}
spec:
  clusterName: turned
  endpoint: https://turned.kusto.windows.net
  role: Federated
  federation: {heartbeatDatabase: D, heartbeatTable: T}
---
apiVersion: adx-mon.azure.com/v1
kind: ADXCluster
metadata: {name: swapped}
spec:
  clusterName: swapped
  endpoint: https://swapped.kusto.windows.net
  federation:
    federatedClusters: [{endpoint: 'https://hub.kusto.windows.net', heartbeatDatabase: D, heartbeatTable: T}]
";

/// An object of ours: kind and name.
pub(crate) type Owner = (String, String);

/// The objects of manifests.
pub(crate) fn owners(manifests: &str) -> Vec<Owner> {
    let text = |value: &Value| value.as_str().expect("an object has a kind and a name").to_owned();
    documents(manifests).iter().map(|object| (text(&object["kind"]), text(&object["metadata"]["name"]))).collect()
}

/// Waits until what is said of each of these objects is said of its present spec, and the pods run that it asks for.
pub(crate) async fn until_settled(test: &TestNamespace, owners: &[Owner]) {
    for (kind, name) in owners {
        let settled = |object: &Value| {
            // Agents that only seem to run make no pass.
            let phase = if object["spec"]["federation"].is_null() { "Ready" } else { "AgentReady" };
            is_observed(object) && condition_of(object, phase).is_some_and(|condition| condition["status"] == "True")
        };
        test.until(kind, name, settled).await;
    }
}
