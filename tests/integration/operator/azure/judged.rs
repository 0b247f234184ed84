//! Microsoft's and others' tools judge what our client asks and what the double answers: Prism between them, by the specification; oav, Microsoft's own validator of
//! live traffic, over the recording.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tests::{
    azure::{AzureDouble, AzureOptions},
    cluster::{OperatorOptions, PATIENCE, TestNamespace},
    docs,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time,
};

use super::{
    faults::document,
    support::{name_for, until, until_provisioned, with_spec},
};

fn tool(name: &str) -> PathBuf {
    docs::root().join("tests/arm").join(name)
}

/// Prism in front of an address, and its own. It lives as long as its standard input.
async fn prism(upstream: &str) -> (Child, String) {
    let mut prism = Command::new("node");
    prism.arg(tool("prism.js")).arg(upstream).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut prism = prism.spawn().expect("node runs");
    let mut lines = BufReader::new(prism.stdout.take().expect("it is piped")).lines();
    let line = time::timeout(PATIENCE, lines.next_line()).await.expect("Prism starts");
    let line = line.expect("its output can be read").expect("it prints its address: run `make judges-install` first");
    let said: Value = serde_json::from_str(&line).expect("one line of JSON");
    (prism, said["url"].as_str().expect("it says its address").trim_end_matches('/').to_owned())
}

async fn judge(tool_name: &str, recording: &Path) -> String {
    let judged = Command::new("node").arg(tool(tool_name)).arg(recording).output().await.expect("node runs");
    let said = format!("{}{}", String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
    assert!(judged.status.success(), "{tool_name} ended with {}:\n{said}", judged.status);
    said
}

#[tokio::test]
async fn microsofts_descriptions_allow_all_that_we_ask_and_are_answered() {
    let test = TestNamespace::new("judged").await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let recording = folder.path().join("arm.jsonl");
    // Prism must know where the double is, and the double how its links begin: one address is chosen first.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
    let (_prism, url) = prism(&format!("http://127.0.0.1:{port}")).await;
    let azure = AzureDouble::start(AzureOptions {
        listen: Some(port),
        public_url: Some(url.clone()),
        plain: true,
        record: Some(recording.clone()),
        ..AzureOptions::default()
    })
    .await;
    azure.edit(|world| {
        let subscription = world.subscriptions.values_mut().next().expect("there is one");
        subscription.registration = "NotRegistered".to_owned();
    });
    let operator = test
        .operator_with(&OperatorOptions {
            arguments: vec![
                "--azure-credential=managedIdentity".to_owned(),
                format!("--azure-endpoint={url}"),
                format!("--imds-endpoint={}", azure.imds_url()),
                "--azure-interval=1s".to_owned(),
                "--azure-requests-per-second=50".to_owned(),
            ],
            environment: azure.managed_identity(),
            ..OperatorOptions::default()
        })
        .await;
    operator.until_leading().await;
    let name = name_for(&test);
    test.apply(&document(&name)).await;
    until_provisioned(&test, &name).await;
    // Every kind of change.
    let identity = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities";
    let changed = |identities: &str, sku: &str, days: i32| {
        with_spec(
            &name,
            &format!(
                "provision: {{skuName: {sku}, autoScale: false, userAssignedIdentities: [{identities}]}}\n\
                 databases: [{{databaseName: Logs, telemetryType: Logs, retentionInDays: {days}}}, {{databaseName: New, telemetryType: Traces}}]"
            ),
        )
    };
    for (identities, sku, days) in [
        (format!("{identity}/x"), "Standard_L16as_v3", 30),
        (format!("{identity}/y"), "Standard_L8as_v3", 60),
        (String::new(), "Standard_L8as_v3", 60),
    ] {
        test.apply(&changed(&identities, sku, days)).await;
        until("the change", async || {
            azure.edit(|world| {
                let cluster = world.cluster(&name);
                let ids: Vec<_> = cluster.user_identities.iter().cloned().collect();
                ids.join(", ") == identities && cluster.sku.name == sku && cluster.provisioning_state == "Succeeded"
            })
        })
        .await;
        until_provisioned(&test, &name).await;
    }
    azure.assert_fine();
    let requests = azure.requests();
    // What Prism refuses does not get to the double, and what it holds of an answer against the double ends as an error 500.
    let output = operator.process.output();
    assert!(!output.contains("stoplight"), "{output}");
    let kinds: std::collections::BTreeSet<_> = requests.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["GET", "HEAD", "PATCH", "POST", "PUT"]);
    println!("{} exchanges went through Prism", requests.len());
    println!("{}", judge("oav.js", &recording).await.trim());
}

/// Before anything runs, settings that would send a token somewhere are refused.
#[tokio::test]
async fn settings_that_cannot_be_right_are_refused_with_the_rule() {
    let refused = async |arguments: &[&str]| {
        let arguments: Vec<String> = ["run"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let mut operator = tests::process::Process::start("operator", "operator", &arguments);
        let status = operator.exited_within(PATIENCE).await;
        (status.code(), operator.output())
    };
    for (arguments, words) in [
        (
            &["--azure-endpoint=http://management.azure.com"][..],
            "--azure-endpoint = http://management.azure.com: must begin with https://",
        ),
        (&["--azure-endpoint=https://user@x"][..], "--azure-endpoint = https://user@x: must be a scheme and a host"),
        (
            &["--azure-credential=workloadIdentity", "--cloud=us-secret"][..],
            "has no public address of Azure Resource Manager",
        ),
        (&["--azure-interval=10ms"][..], "must be at least 1s"),
        (&["--azure-interval=soon"][..], "--azure-interval"),
        (&["--azure-requests-per-second=0"][..], "--azure-requests-per-second"),
        (&["--azure-audience=https://x"][..], "--azure-endpoint"),
    ] {
        let (code, output) = refused(arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
        assert!(output.contains(words), "{arguments:?}: {output}");
    }
}
