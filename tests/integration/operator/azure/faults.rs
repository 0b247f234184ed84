//! Whatever goes wrong on the way to Azure, or with us: in the end there is one cluster, as it was asked for, and no operation was begun twice.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tests::{
    azure::{AzureDouble, AzureOptions, Fault, FaultKind, Seen},
    cluster::{OperatorOptions, PATIENCE, TestNamespace, message_of},
};
use tokio::time;

use super::support::{azure, name_for, operator, options, until, until_provisioned, with_spec, zero_config};
use crate::leading::TRIES;

/// How many namespaces with an operator each are at work at once.
const AT_ONCE: usize = 4;
const CLIENT: &str = "33333333-3333-3333-3333-333333333333";

/// A cluster with everything that takes a request: identities, scaling, databases, a right.
pub(crate) fn document(name: &str) -> String {
    with_spec(
        name,
        &format!(
            "
provision: {{autoScale: true, autoScaleMin: 2, autoScaleMax: 8}}
databases:
  - {{databaseName: Logs, telemetryType: Logs, retentionInDays: 90}}
  - {{databaseName: Metrics, telemetryType: Metrics}}
federation:
  managedIdentityClientId: {CLIENT}
  federatedClusters: [{{endpoint: 'https://hub.eastus2.kusto.windows.net', heartbeatDatabase: Fleet, heartbeatTable: Heartbeats}}]
  partitioning: {{geo: US}}
"
        ),
    )
}

/// What Azure has in the end, without what tells one run from another.
fn end_state(azure: &AzureDouble, name: &str) -> Value {
    let mut cluster = azure.cluster(name).expect("it is in Azure");
    for field in ["id", "name", "etag", "tags"] {
        cluster[field] = Value::Null;
    }
    for field in ["uri", "dataIngestionUri"] {
        cluster["properties"][field] = Value::Null;
    }
    cluster["identity"] = cluster["identity"]["type"].clone();
    let (databases, rights, clusters, groups) = azure.edit(|world| {
        let (clusters, groups) =
            (world.clusters.len(), world.subscriptions.values().map(|known| known.groups.len()).sum::<usize>());
        let cluster = world.cluster(name);
        let databases: Vec<_> = cluster
            .databases
            .values()
            .map(|database| (database.name.clone(), database.soft_delete_period.clone()))
            .collect();
        let rights: Vec<_> =
            cluster.assignments.values().map(|right| (right.principal_id.clone(), right.role.clone())).collect();
        (databases, rights, clusters, groups)
    });
    json!({"cluster": cluster, "databases": databases, "rights": rights, "clusters": clusters, "groups": groups})
}

/// How many requests were answered whose method and path's end are these.
fn count(requests: &[Seen], method: &str, end: &str) -> usize {
    requests.iter().filter(|seen| seen.method == method && seen.path.ends_with(end)).count()
}

/// An undisturbed run: what it leaves, and its requests.
async fn reference() -> (Value, Vec<Seen>) {
    let test = TestNamespace::new("reference").await;
    let azure = azure().await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&document(&name)).await;
    until_provisioned(&test, &name).await;
    azure.assert_fine();
    (end_state(&azure, &name), azure.requests())
}

#[tokio::test]
async fn an_operator_that_is_killed_after_any_request_leaves_what_the_next_one_completes() {
    let (expected, requests) = reference().await;
    let whole = requests.len();
    println!(
        "{whole} requests make a cluster with two databases and a right; the operator is killed after each of them"
    );
    let kill_after = async |after: usize| {
        let test = TestNamespace::new("killed").await;
        let azure = azure().await;
        let mut first = operator(&test, &azure).await;
        let name = name_for(&test);
        test.apply(&document(&name)).await;
        let started = time::Instant::now();
        while azure.requests().len() < after {
            assert!(started.elapsed() < PATIENCE, "{after} requests never came");
            time::sleep(Duration::from_millis(1)).await;
        }
        first.process.kill().await;
        let mut next = options(&azure);
        // The lease of the one that was killed runs for some seconds more.
        next.arguments.push("--lease-name=the-next".to_owned());
        let _next = test.operator_with(&next).await;
        until_provisioned(&test, &name).await;
        azure.assert_fine();
        assert_eq!(end_state(&azure, &name), expected, "killed after request {after}");
        let requests = azure.requests();
        // A group that is written twice is no operation, and stays as it is.
        let is_operation =
            |seen: &&Seen| seen.is_write() && seen.status < 300 && !seen.path.contains("/resourcegroups/");
        let accepted: Vec<&str> = requests.iter().filter(is_operation).map(|seen| seen.path.as_str()).collect();
        let different: BTreeSet<&str> = accepted.iter().copied().collect();
        assert_eq!(accepted.len(), different.len(), "killed after request {after}: {accepted:?}");
    };
    stream::iter(1..=whole).map(kill_after).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// The calls of a whole provisioning, by method and a part of their path; `{}` stands for the cluster's name.
const CALLS: [(&str, &str); 14] = [
    ("GET", "clusters/{}?"),
    ("GET", "providers/Microsoft.Kusto?"),
    ("HEAD", "/resourcegroups/"),
    ("PUT", "/resourcegroups/adx-mon-eastus2?"),
    ("GET", "/skus?"),
    ("POST", "/checkNameAvailability?"),
    ("PUT", "clusters/{}?"),
    ("GET", "/operationResults/"),
    ("GET", "clusters/{}/databases?"),
    ("PUT", "/databases/Logs?"),
    ("PUT", "/databases/Metrics?"),
    ("GET", "/principalAssignments?"),
    ("PUT", "/principalAssignments/"),
    ("PATCH", "clusters/{}?"),
];

#[tokio::test]
async fn every_fault_at_every_call_leaves_one_cluster_as_it_was_asked_for() {
    let answer = |status, code: &str, retry_after| FaultKind::Answer {
        status,
        code: code.to_owned(),
        message: "on purpose".to_owned(),
        retry_after,
    };
    let kinds = [
        FaultKind::Reset,
        FaultKind::ResetAfterEffect,
        FaultKind::AnswerAfterEffect { status: 504 },
        FaultKind::Html { status: 502 },
        FaultKind::Delay(Duration::from_millis(1500)),
        FaultKind::OperationFails { code: "InternalError".to_owned(), message: "on purpose".to_owned() },
        answer(429, "TooManyRequests", Some(1)),
        answer(500, "InternalServerError", None),
        answer(409, "ServiceIsInMaintenance", None),
        answer(409, "RequestConflict", None),
        answer(403, "AuthorizationFailed", None),
        answer(401, "ExpiredAuthenticationToken", None),
    ];
    let meet = async |kind: FaultKind| {
        let test = TestNamespace::new("fault").await;
        let azure = azure().await;
        let name = name_for(&test);
        for (method, path) in CALLS {
            // Only requests that begin an operation can have one that fails.
            let has_operation = matches!(method, "PUT" | "PATCH") && !path.contains("resourcegroups");
            if matches!(kind, FaultKind::OperationFails { .. }) && !has_operation {
                continue;
            }
            let path_contains = path.replace("{}", &name);
            azure.fault(Fault { method, path_contains, skip: 0, times: 1, kind: kind.clone() });
        }
        let _operator = operator(&test, &azure).await;
        test.apply(&document(&name)).await;
        until_provisioned(&test, &name).await;
        // One more, for the PATCH.
        test.apply(&document(&name).replace("autoScaleMax: 8", "autoScaleMax: 9")).await;
        until(&format!("{kind:?}: the change"), async || {
            azure.cluster(&name).is_some_and(|cluster| {
                cluster["properties"]["optimizedAutoscale"]["maximum"] == 9
                    && cluster["properties"]["provisioningState"] == "Succeeded"
            })
        })
        .await;
        until_provisioned(&test, &name).await;
        assert_eq!(azure.violations(), Vec::<String>::new(), "{kind:?}");
        // An operation whose address was lost with the answer is not looked up: the cluster tells.
        assert!(azure.pending_faults() <= 1, "{kind:?}: {} faults were met by nobody", azure.pending_faults());
        (end_state(&azure, &name), kind)
    };
    let ends: Vec<_> = stream::iter(kinds).map(meet).buffer_unordered(AT_ONCE).collect().await;
    let (mut expected, _) = reference().await;
    expected["cluster"]["properties"]["optimizedAutoscale"]["maximum"] = 9.into();
    for (end, kind) in ends {
        assert_eq!(end, expected, "{kind:?}");
    }
}

/// Twenty clusters at once, and whether requests came too fast.
async fn twenty_clusters(name: &str) -> Result<(), String> {
    const PER_SECOND: u32 = 20;
    /// A request arrives this long after it was sent, at the latest.
    const UNDER_WAY: Duration = Duration::from_secs(1);
    let test = TestNamespace::new(name).await;
    let azure = azure().await;
    let mut options = options(&azure);
    options.arguments.retain(|argument| !argument.contains("-per-second") && !argument.contains("-interval"));
    options.arguments.extend([format!("--azure-requests-per-second={PER_SECOND}"), "--azure-interval=1m".to_owned()]);
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let names: Vec<String> = (0..20).map(|number| format!("{}n{number}", name_for(&test))).collect();
    azure.fault(Fault {
        method: "GET",
        path_contains: "/databases?".to_owned(),
        skip: 5,
        times: 1,
        kind: FaultKind::Answer {
            status: 429,
            code: "TooManyRequests".to_owned(),
            message: "slowly".to_owned(),
            retry_after: Some(4),
        },
    });
    let started = time::Instant::now();
    for name in &names {
        test.apply(&zero_config(name)).await;
    }
    for name in &names {
        until_provisioned(&test, name).await;
    }
    let took = started.elapsed();
    azure.assert_fine();
    let requests = azure.requests();
    println!("{} requests made 20 clusters with 40 databases in {took:.1?}", requests.len());
    assert_eq!(azure.edit(|world| world.clusters.len()), 20);
    assert_eq!(count(&requests, "PUT", "/databases/Logs"), 20);
    assert_eq!(count(&requests, "PUT", "/databases/Metrics"), 20);
    // What was saved up at rest is four seconds' worth. In any span of time no more arrive than that and what was earned meanwhile, and while the first was under way.
    for (index, first) in requests.iter().enumerate() {
        for (more, last) in requests[index..].iter().enumerate() {
            let span = last.at - first.at;
            let earned = (span + UNDER_WAY).as_secs_f64() * f64::from(PER_SECOND);
            let most = f64::from(PER_SECOND * 4) + earned + 1.0;
            if f64::from(u32::try_from(more).expect("some hundreds") + 1) > most {
                return Err(format!("{} requests within {span:?} from {:?}", more + 1, first.at));
            }
        }
    }
    let throttled = requests.iter().find(|seen| seen.status == 429).expect("one was").at;
    // Those that were on their way arrive.
    let silent = throttled + UNDER_WAY..throttled + Duration::from_millis(3900);
    let heard: Vec<_> = requests.iter().filter(|seen| silent.contains(&seen.at)).collect();
    if !heard.is_empty() {
        return Err(format!("Azure asked for four seconds of silence: {heard:#?}"));
    }
    Ok(())
}

/// Where somebody waits for a processor, requests that were sent one after another arrive at once. What comes too fast each time is sent so.
#[tokio::test]
async fn twenty_clusters_at_once_keep_to_the_throttle() {
    let mut fast = Vec::new();
    while let Err(why) = twenty_clusters(&format!("twenty{}", fast.len())).await {
        fast.push(why);
        assert!(fast.len() < TRIES, "{fast:#?}");
    }
}

#[tokio::test]
async fn a_token_that_ends_or_is_refused_midway_is_replaced() {
    let test = TestNamespace::new("tokens").await;
    let mut double = AzureOptions::default();
    // Not before the story says so.
    double.durations.create = Duration::from_secs(3600);
    let azure = AzureDouble::start(double).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    test.until("ADXCluster", &name, |object| object["status"]["provision"]["operation"].is_object()).await;
    let before = azure.token_requests();
    // Two hours at once: to the operator's clock its token is fresh, and to Azure's it is over. The federated token is another by then, too.
    azure.rotate_federated_token();
    azure.advance(Duration::from_secs(2 * 3600));
    until_provisioned(&test, &name).await;
    let asked = azure.token_requests() - before;
    assert!((1..=3).contains(&asked), "{asked} tokens were asked for");
    assert!(azure.requests().iter().any(|seen| seen.status == 401), "the old token was shown once");
    azure.assert_fine();
}

#[tokio::test]
async fn an_identity_that_is_away_is_waited_for() {
    let waits = async |kind: &str| {
        let test = TestNamespace::new("identity").await;
        let azure = azure().await;
        azure.set_identity_down(true);
        let environment = if kind == "workloadIdentity" { azure.workload_identity() } else { azure.managed_identity() };
        let mut arguments = options(&azure).arguments;
        arguments[0] = format!("--azure-credential={kind}");
        let operator =
            test.operator_with(&OperatorOptions { arguments, environment, ..OperatorOptions::default() }).await;
        operator.until_leading().await;
        let name = name_for(&test);
        test.apply(&zero_config(&name)).await;
        let object = test.until_condition("ADXCluster", &name, "ClusterReady", "False", "SignInFailed").await;
        assert!(message_of(&object, "ClusterReady").starts_with("failed to sign in to Azure: "), "{object:#}");
        assert_eq!(azure.requests().len(), 0, "nobody asks without a token");
        azure.rotate_federated_token();
        azure.set_identity_down(false);
        until_provisioned(&test, &name).await;
        // Away while there is a token that is good: nothing is noticed.
        azure.set_identity_down(true);
        test.apply(&with_spec(&name, "databases: [{databaseName: More, telemetryType: Logs}]")).await;
        until_provisioned(&test, &name).await;
        azure.assert_fine();
    };
    tokio::join!(waits("workloadIdentity"), waits("managedIdentity"));
}

#[tokio::test]
async fn other_settings_after_a_kill_make_no_second_cluster_elsewhere() {
    let test = TestNamespace::new("elsewhere").await;
    let azure = azure().await;
    let name = name_for(&test);
    let at = |location: &str, lease: &str| {
        let mut options = options(&azure);
        options.arguments.extend([format!("--azure-location={location}"), format!("--lease-name={lease}")]);
        options
    };
    let mut first = test.operator_with(&at("eastus2", "one")).await;
    first.until_leading().await;
    test.apply(&zero_config(&name)).await;
    until("the cluster is asked for", async || count(&azure.requests(), "PUT", &name) == 1).await;
    first.process.kill().await;
    let _next = test.operator_with(&at("westeurope", "two")).await;
    let object = until_provisioned(&test, &name).await;
    assert_eq!(object["status"]["provision"]["location"], "eastus2");
    assert_eq!(azure.edit(|world| world.clusters.len()), 1);
    assert_eq!(count(&azure.requests(), "PUT", &name), 1);
    azure.assert_fine();
}

#[tokio::test]
async fn an_object_that_is_suspended_while_azure_is_at_work_forgets_nothing() {
    let test = TestNamespace::new("suspended").await;
    let mut double = AzureOptions::default();
    // Not before the story says so.
    let long = Duration::from_secs(20 * 60);
    double.durations.create = long;
    let azure = AzureDouble::start(double).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    until("the cluster is asked for", async || count(&azure.requests(), "PUT", &name) == 1).await;
    test.apply(&with_spec(&name, "suspend: true")).await;
    test.until_condition("ADXCluster", &name, "Ready", "Unknown", "Suspended").await;
    let asked = azure.requests().len();
    time::sleep(Duration::from_secs(3)).await;
    assert!(azure.requests().len() <= asked + 2, "nothing is done for an object that is suspended");
    let object = test.get("ADXCluster", &name).await;
    assert!(object["status"]["provision"]["operation"]["url"].is_string(), "{object:#}");
    assert!(object["status"]["appliedProvisionState"].is_object(), "{object:#}");
    test.apply(&zero_config(&name)).await;
    azure.advance(long);
    until_provisioned(&test, &name).await;
    assert_eq!(count(&azure.requests(), "PUT", &name), 1);
    azure.assert_fine();
}

#[tokio::test]
async fn a_database_that_azure_does_not_show_yet_is_not_asked_for_again() {
    let test = TestNamespace::new("notshown").await;
    let mut double = AzureOptions::default();
    double.durations.visible_after = Duration::from_secs(3);
    let azure = AzureDouble::start(double).await;
    let _operator = operator(&test, &azure).await;
    let name = name_for(&test);
    test.apply(&zero_config(&name)).await;
    until_provisioned(&test, &name).await;
    for database in ["/databases/Metrics", "/databases/Logs"] {
        assert_eq!(count(&azure.requests(), "PUT", database), 1, "{database}");
    }
    azure.assert_fine();
}
