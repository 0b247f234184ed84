//! For what a token is asked, and which hosts may be shown it: clouds beside the public one, suffixes that a person trusts, and servers that name an audience of their own.
//! Nothing leaves the machine, as in [`crate::identity`].

use std::collections::BTreeSet;

use axum::{
    Router,
    http::{
        HeaderMap, Method, StatusCode, Uri,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse as _, Response},
};
use futures::future::join_all;
use serde_json::json;
use tests::{
    kusto::KustoServer,
    loopback,
    process::Process,
    way_out::{TOKEN, WayOut},
};
use tokio::net::TcpListener;

use crate::{
    faulty_hub::Hub,
    identity::{hub_document, once, partition_document, surroundings, way_to},
    support::{SOON, judge, until_so},
};

const AUDIENCE: &str = "https://kusto.kusto.windows.net";
/// Domains that are no cloud's.
const CLUSTER: &str = "https://europe.kusto.example.com";
const HUB: &str = "https://hub.kusto.example.org";
const TRUSTED: &str = "--trusted-suffix=.kusto.example.com,.kusto.example.org";

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

/// One beat of a partition's agent that sees nothing of the world but its way out.
async fn beat(cluster: &str, hub: &str, flags: &[&str], way_out: &WayOut) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let document = partition_document(folder.path(), cluster, hub, "");
    once("agent-partition", &document, flags, &way_out.environment()).await
}

/// One pass of a hub's.
async fn pass(hub: &str, flags: &[&str], way_out: &WayOut) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    once("agent-hub", &hub_document(folder.path(), hub), flags, &way_out.environment()).await
}

/// That an agent does not begin: no request, none for a token either, and a word for a person.
fn assert_refused(way_out: &WayOut, cloud: &str, (code, output): &(Option<i32>, String)) {
    assert_eq!(*code, Some(2), "{output}");
    let told = format!("is not a trusted Kusto endpoint of the cloud '{cloud}': no request is sent to it");
    assert!(output.contains(&told), "{output}");
    assert_eq!(way_out.seen(), [""; 0], "{output}");
}

#[tokio::test]
async fn hosts_under_other_domains_are_asked_where_a_person_trusts_them_and_get_nothing_where_not() {
    for flags in [
        &["--trusted-suffix=.kusto.example.net"][..],
        // One of the two: the other is not asked either.
        &["--trusted-suffix=.kusto.example.com"],
        &["--trusted-suffix=.kusto.example.org"],
        &["--trusted-suffix=.europe.kusto.example.com,.example.org"],
        &[],
    ] {
        let way_out = WayOut::watch().await;
        assert_refused(&way_out, "public", &beat(CLUSTER, HUB, flags, &way_out).await);
    }
    let way_out = WayOut::watch().await;
    assert_refused(&way_out, "public", &pass(HUB, &["--trusted-suffix=.kusto.example.com"], &way_out).await);

    let (code, output) = beat(CLUSTER, HUB, &[TRUSTED], &way_out).await;
    assert_eq!(code, Some(1), "nothing can be reached: {output}");
    assert_eq!(way_out.hosts(), set(["europe.kusto.example.com:443", "hub.kusto.example.org:443"]), "{output}");
    assert_eq!(way_out.audiences(), set([AUDIENCE]), "{output}");
    let way_out = WayOut::watch().await;
    let (code, output) = pass(HUB, &[TRUSTED], &way_out).await;
    assert_eq!(code, Some(1), "nothing can be reached: {output}");
    assert_eq!(way_out.hosts(), set(["hub.kusto.example.org:443"]), "{output}");
    assert_eq!(way_out.audiences(), set([AUDIENCE]), "{output}");
}

#[tokio::test]
async fn a_supervisor_passes_the_trust_of_its_person_on_to_its_agents() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let document = partition_document(folder.path(), CLUSTER, HUB, "");
    let start = |way_out: &WayOut, flags: &[&str]| {
        let document = document.display().to_string();
        let arguments = ["standalone", "-f", &document].into_iter().chain(flags.iter().copied());
        let arguments: Vec<String> = arguments.map(str::to_owned).collect();
        Process::start_with_environment("operator", &arguments, &way_out.environment())
    };
    let way_out = WayOut::watch().await;
    let mut untrusting = start(&way_out, &[]);
    let code = untrusting.exited_within(SOON).await.code();
    assert_refused(&way_out, "public", &(code, untrusting.output()));

    let mut trusting = start(&way_out, &[TRUSTED]);
    let both = set(["europe.kusto.example.com:443", "hub.kusto.example.org:443"]);
    until_so(|| format!("{:?}\n{}", way_out.hosts(), trusting.output()), || way_out.hosts() == both).await;
    trusting.stop().await;
    assert_eq!(way_out.audiences(), set([AUDIENCE]));

    let way_out = WayOut::watch().await;
    let mut elsewhere = start(&way_out, &["--cloud=china", TRUSTED]);
    until_so(|| format!("{:?}\n{}", way_out.hosts(), elsewhere.output()), || way_out.hosts() == both).await;
    elsewhere.stop().await;
    assert_eq!(way_out.audiences(), set(["https://kusto.kusto.chinacloudapi.cn"]));
}

#[tokio::test]
async fn a_token_is_for_the_agents_cloud_and_shown_to_hosts_of_that_cloud_alone() {
    static CLOUDS: [(&str, &str, &str); 3] = [
        ("public", "kusto.windows.net", "https://kusto.kusto.windows.net"),
        ("us-government", "kusto.usgovcloudapi.net", "https://kusto.kusto.usgovcloudapi.net"),
        ("china", "kusto.chinacloudapi.cn", "https://kusto.kusto.chinacloudapi.cn"),
    ];
    let pairs = CLOUDS.iter().flat_map(|own| CLOUDS.iter().map(move |of| (own, of)));
    // Most of the time of those that send something is spent before it is sent again.
    join_all(pairs.map(|((cloud, _, audience), (of, domain, _))| async move {
        let flag = format!("--cloud={cloud}");
        let (cluster, hub) = (format!("europe.{domain}"), format!("hub.{domain}"));
        let way_out = WayOut::watch().await;
        let ended = beat(&format!("https://{cluster}"), &format!("https://{hub}"), &[&flag], &way_out).await;
        if cloud != of {
            assert_refused(&way_out, cloud, &ended);
            return;
        }
        assert_eq!(ended.0, Some(1), "nothing can be reached: {}", ended.1);
        assert_eq!(way_out.hosts(), set([&format!("{cluster}:443"), &format!("{hub}:443")]), "{}", ended.1);
        assert_eq!(way_out.audiences(), set([audience]), "{}", ended.1);
    }))
    .await;
}

#[tokio::test]
async fn partitions_of_the_hubs_cloud_and_under_trusted_suffixes_are_federated_and_no_others() {
    let hub = Hub::start().await;
    hub.document("heartbeatTTL: 1h");
    let members = async |flags: &[&str]| {
        let (code, output) = hub.run(flags).await;
        assert_eq!(code, Some(0), "{output}");
        let groups = hub.server.command("Logs", ".show entity_groups | where Name == 'Logs_Partitions'").await;
        (groups.expect("the hub answers").column("Entities").concat(), output)
    };
    let [public, china, own] =
        ["https://eu.kusto.windows.net", "https://eu.kusto.chinacloudapi.cn", "https://eu.kusto.example.com"];
    hub.beat_as(&[public, china, own], "EU", &json!([{"database": "Logs", "tables": ["A"]}])).await;
    let foreign =
        |endpoint: &str| format!("the heartbeats of {endpoint} are ignored: it is no Kusto endpoint of this cloud");
    let suffixes = "--trusted-suffix=.kusto.example.com,.kusto.chinacloudapi.cn";
    // Each trusts whom the one before does: who is federated leaves by the guards' rules, whatever is thought of them.
    for (flags, trusted) in [
        (&["--once", "--cloud=china"][..], &[china][..]),
        (&["--once", "--cloud=china", TRUSTED][..], &[china, own][..]),
        (&["--once", suffixes][..], &[china, own, public][..]),
    ] {
        let (entities, output) = members(flags).await;
        for endpoint in [public, china, own] {
            let is_trusted = trusted.contains(&endpoint);
            assert_eq!(output.contains(&foreign(endpoint)), !is_trusted, "{flags:?} {endpoint}: {output}");
            assert_eq!(entities.contains(endpoint), is_trusted, "{flags:?} {endpoint}: {entities}");
        }
    }
    hub.end().await;
}

/// From a partition to a hub, both under a domain of a person's own: a heartbeat, and what is made of it.
#[tokio::test]
async fn a_fleet_under_a_trusted_suffix_is_federated_with_tokens_of_our_audience() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let hosts = ["europe.kusto.example.com", "hub.kusto.example.com"];
    let [cluster, hub] = hosts.map(|host| format!("https://{host}"));
    let start = async |databases: &[&str], name: &str| {
        KustoServer::start(0, databases, &folder.path().join(format!("{name}.jsonl")), &[]).await
    };
    let mut home = start(&["Logs"], "home").await;
    let mut server = start(&["FleetDiscovery", "Logs"], "hub").await;
    home.command("Logs", ".create table Requests (Region:string)").await.expect("the partition takes a table");
    for command in [
        ".create table Heartbeats (Timestamp:datetime, ClusterEndpoint:string, Schema:dynamic, PartitionMetadata:dynamic)",
        ".alter table Heartbeats policy streamingingestion enable",
    ] {
        server.command("FleetDiscovery", command).await.expect("the hub takes the table");
    }
    let way_out = WayOut::watch().await;
    let (proxy, seen) = way_to(&[(hosts[0], home.port()), (hosts[1], server.port())], folder.path()).await;
    let environment = surroundings(&way_out, proxy, folder.path());
    let flags = ["--trusted-suffix=.kusto.example.com"];
    let partition = partition_document(folder.path(), &cluster, &hub, "");
    let (code, output) = once("agent-partition", &partition, &flags, &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let beats = server.query("FleetDiscovery", "Heartbeats | project ClusterEndpoint").await;
    assert_eq!(beats.expect("the hub answers").column("ClusterEndpoint"), [cluster.as_str()]);
    let (code, output) = once("agent-hub", &hub_document(folder.path(), &hub), &flags, &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let groups = server.command("Logs", ".show entity_groups | where Name == 'Logs_Partitions'").await;
    let members = groups.expect("the hub answers").column("Entities").concat();
    assert!(members.contains(&cluster), "{members}");
    let functions = server.command("Logs", ".show functions | project Name").await.expect("the hub answers");
    assert!(functions.column("Name").contains(&"federated_Requests".to_owned()), "{functions:?}");
    let seen = seen.lock().expect("no holder of this lock panics").concat();
    for host in hosts {
        assert!(seen.contains(&format!("CONNECT {host}:443")), "{seen}");
    }
    assert!(seen.contains(&format!("authorization: Bearer {TOKEN}")), "{seen}");
    assert_eq!(way_out.audiences(), set([AUDIENCE]));
    for server in [&mut home, &mut server] {
        server.process().stop().await;
    }
    judge(folder.path());
}

/// Whose tokens a server of another mind wants.
const ANOTHER: &str = "https://management.azure.com";

/// A server that names another audience wherever one can: in its metadata, in the challenge of its refusals and in their words.
async fn of_another_mind() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    port
}

async fn answer(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method == Method::GET && uri.path() == "/v1/rest/auth/metadata" {
        let azure = json!({"LoginEndpoint": "https://login.evil.example", "KustoClientAppId": "x", "KustoServiceResourceId": ANOTHER});
        return json!({"AzureAD": azure}).to_string().into_response();
    }
    let challenge =
        format!("Bearer authorization_uri=\"https://login.evil.example/common\", resource_id=\"{ANOTHER}\"");
    // Who is shown a token may show it back.
    let token = headers.get(AUTHORIZATION).and_then(|token| token.to_str().ok()).unwrap_or("none");
    let message = format!("the token's audience is not {ANOTHER}: {token}");
    let error = json!({"error": {"code": "Unauthorized", "message": message, "@message": message, "@permanent": true}});
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], error.to_string()).into_response()
}

/// What a server says of audiences is not even asked for: neither its metadata nor its challenge can have a token made for something else.
#[tokio::test]
async fn a_server_that_names_another_audience_is_shown_ours_and_its_refusal_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = of_another_mind().await;
    let (_, metadata) =
        loopback::get(&format!("http://127.0.0.1:{port}/v1/rest/auth/metadata")).await.expect("the double answers");
    assert!(metadata.contains(ANOTHER), "{metadata}");
    let hosts = ["europe.kusto.windows.net", "hub.kusto.windows.net"];
    let [cluster, hub] = hosts.map(|host| format!("https://{host}"));
    for program in ["agent-partition", "agent-hub"] {
        let document = match program {
            "agent-hub" => hub_document(folder.path(), &hub),
            _ => partition_document(folder.path(), &cluster, &hub, ""),
        };
        let way_out = WayOut::watch().await;
        let (proxy, seen) = way_to(&hosts.map(|host| (host, port)), folder.path()).await;
        let environment = surroundings(&way_out, proxy, folder.path());
        let (code, output) = once(program, &document, &[], &environment).await;
        assert_eq!(code, Some(1), "{output}");
        let told = format!("access was refused (status 401): the token's audience is not {ANOTHER}");
        assert!(output.contains(&told) && !output.contains(TOKEN), "{output}");
        assert_eq!(way_out.audiences(), set([AUDIENCE]), "{output}");
        let seen = seen.lock().expect("no holder of this lock panics");
        assert!(seen.iter().any(|sent| sent.contains(&format!("authorization: Bearer {TOKEN}"))), "{seen:?}");
        let asked = seen.iter().filter_map(|sent| sent.strip_prefix("CONNECT ")?.split(':').next());
        let asked: BTreeSet<&str> = asked.collect();
        assert!(asked.iter().all(|host| hosts.contains(host)), "{asked:?}");
        assert!(seen.iter().all(|sent| !sent.starts_with("GET ")), "what it says of itself is not asked for: {seen:?}");
    }
}
