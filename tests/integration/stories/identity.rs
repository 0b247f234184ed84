//! Who an agent signs in as, and to whom it shows that. Azure is not here: the token's issuer and the way out are doubles on loopback, so nothing leaves the
//! machine, and what would leave is seen.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde_json::json;
use tests::{
    kusto::KustoServer,
    process::Process,
    way_out::{TOKEN, WayOut},
    witness,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

use crate::{
    admin::{admin_url, get, until},
    support::{SOON, judge},
};

const FEDERATED_TOKEN: &str = "the-federated-token-that-nobody-may-print";

/// What somebody was sent.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

/// Writes the document of a partition whose cluster and hub are in Azure, by name.
pub(crate) fn partition_document(folder: &Path, cluster: &str, hub: &str, credential: &str) -> PathBuf {
    let document = folder.join("partition.yaml");
    let text = format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata:\n  name: europe\nspec:\n  clusterName: europe\n  endpoint: {cluster}\n  \
         role: Partition\n  federation:\n    heartbeatInterval: 20s\n{credential}    federatedClusters:\n      - endpoint: {hub}\n        \
         heartbeatDatabase: FleetDiscovery\n        heartbeatTable: Heartbeats\n        managedIdentityClientId: client-at-the-hub\n"
    );
    fs::write(&document, text).expect("the folder can be written");
    document
}

/// Writes the document of such a hub.
pub(crate) fn hub_document(folder: &Path, hub: &str) -> PathBuf {
    let document = folder.join("hub.yaml");
    let text = format!(
        "apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {{name: hub}}\nspec:\n  clusterName: hub\n  endpoint: {hub}\n  role: Federated\n  \
         federation: {{heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats, reconcileInterval: 200ms, credential: {{managedIdentity: {{clientId: client-of-the-hub-agent}}}}}}\n"
    );
    fs::write(&document, text).expect("the folder can be written");
    document
}

/// Runs an agent once: how it ended, and what it printed.
pub(crate) async fn once(
    program: &str,
    document: &Path,
    flags: &[&str],
    environment: &[(&str, String)],
) -> (Option<i32>, String) {
    let document = document.display().to_string();
    let arguments: Vec<String> =
        ["--config", &document, "--once"].iter().chain(flags).map(|argument| (*argument).to_owned()).collect();
    let mut agent = Process::start_with_environment(program, &arguments, environment);
    let status = agent.exited_within(SOON).await;
    (status.code(), agent.output())
}

/// Runs one beat of a partition's agent in the public cloud.
async fn beat(cluster: &str, credential: &str, environment: &[(&str, String)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let document = partition_document(folder.path(), cluster, "https://hub.kusto.windows.net", credential);
    once("agent-partition", &document, &[], environment).await
}

#[tokio::test]
async fn managed_identities_are_asked_for_our_audience_and_no_token_is_printed() {
    let way_out = WayOut::watch().await;
    let mut environment = way_out.environment();
    environment.push(("RUST_LOG", "trace".to_owned()));
    let credential = "    credential:\n      managedIdentity:\n        clientId: client-at-home\n";
    let (code, output) = beat("https://europe.kusto.windows.net", credential, &environment).await;
    assert_eq!(code, Some(1), "nothing can be reached: {output}");
    let seen = way_out.seen().join("\n");
    for client in ["client-at-home", "client-at-the-hub"] {
        let asked = seen.lines().any(|line| {
            line.starts_with("GET /token") && line.contains(client) && line.contains("kusto.kusto.windows.net")
        });
        assert!(asked, "{client} in\n{seen}");
    }
    assert!(seen.contains("CONNECT europe.kusto.windows.net:443"), "{seen}");
    assert!(seen.contains("CONNECT hub.kusto.windows.net:443"), "{seen}");
    assert!(!output.contains(TOKEN), "a token was printed");
}

#[tokio::test]
async fn the_azure_cli_is_asked_where_the_document_says_so() {
    let way_out = WayOut::watch().await;
    let tools = tempfile::tempdir().expect("a temporary folder can be made");
    let (az, asked) = (tools.path().join("az"), tools.path().join("asked"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\necho '{{\"accessToken\": \"{TOKEN}\", \"expiresOn\": \"2099-01-01 00:00:00.000000\", \"expires_on\": 4070908800, \"tokenType\": \"Bearer\"}}'\n",
        asked.display()
    );
    fs::write(&az, script).expect("the folder can be written");
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut environment = way_out.environment();
    environment.push(("PATH", format!("{}:{path}", tools.path().display())));
    let (code, output) =
        beat("https://europe.kusto.windows.net", "    credential:\n      azureCli: {}\n", &environment).await;
    assert_eq!(code, Some(1), "nothing can be reached: {output}");
    let asked = fs::read_to_string(asked).unwrap_or_default();
    assert!(
        asked.contains("get-access-token") && asked.contains("https://kusto.kusto.windows.net"),
        "{asked}\n{output}"
    );
    let hosts = way_out.hosts();
    assert!(hosts.contains("europe.kusto.windows.net:443"), "{hosts:?}");
    assert!(!output.contains(TOKEN), "a token was printed");
}

/// What speaks TLS as these hosts; its CA's certificate is in the folder.
fn tls_of(hosts: &[&str], folder: &Path) -> TlsAcceptor {
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
    fs::write(folder.join("ca.pem"), made.cert.pem()).expect("the folder can be written");
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key of a known kind");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is the certificate's");
    TlsAcceptor::from(Arc::new(config))
}

/// A token issuer behind TLS, as workload identity demands one. Notes what it was sent.
async fn tls_double(folder: &Path) -> (String, Seen) {
    let acceptor = tls_of(&["127.0.0.1"], folder);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
    let url = format!("https://{}", listener.local_addr().expect("a bound listener has an address"));
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            // The form is short and ends with the assertion's type or scope; its length is not worth a parser.
            while !String::from_utf8_lossy(&request).contains("client_assertion=") {
                let mut part = [0; 4096];
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&part[..read]),
                }
            }
            noted.lock().expect("no holder of this lock panics").push(String::from_utf8_lossy(&request).into_owned());
            let body = json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, seen)
}

#[tokio::test]
async fn workload_identity_shows_the_federated_token_and_asks_for_our_audience() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (issuer, issued) = tls_double(folder.path()).await;
    let way_out = WayOut::watch().await;
    let file = folder.path().join("token");
    fs::write(&file, FEDERATED_TOKEN).expect("the folder can be written");
    witness::secret(FEDERATED_TOKEN);
    let environment = [
        ("AZURE_AUTHORITY_HOST", issuer),
        ("SSL_CERT_FILE", folder.path().join("ca.pem").display().to_string()),
        ("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string()),
        ("AZURE_CLIENT_ID", "client-of-the-pod".to_owned()),
        ("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111".to_owned()),
        ("HTTPS_PROXY", way_out.url.clone()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:9/not-asked".to_owned()),
        ("IDENTITY_HEADER", "header".to_owned()),
    ];
    let credential = "    credential:\n      workloadIdentity: {}\n";
    let (code, output) = beat("https://europe.kusto.windows.net", credential, &environment).await;
    assert_eq!(code, Some(1), "nothing can be reached: {output}");
    let issued = issued.lock().expect("no holder of this lock panics").join("\n");
    for part in
        ["POST /11111111-1111-1111-1111-111111111111/", "client-of-the-pod", FEDERATED_TOKEN, "kusto.kusto.windows.net"]
    {
        assert!(issued.contains(part), "{part} in\n{issued}\n{output}");
    }
    let hosts = way_out.hosts();
    assert!(hosts.contains("europe.kusto.windows.net:443"), "{hosts:?}\n{output}");
    assert!(!output.contains(TOKEN) && !output.contains(FEDERATED_TOKEN), "a token was printed");
}

#[tokio::test]
async fn a_host_that_is_no_kusto_endpoint_gets_no_request_and_no_token_is_asked_for() {
    let way_out = WayOut::watch().await;
    for cluster in ["https://europe.kusto.windows.net.evil.example", "https://evilkusto.windows.net"] {
        let (code, output) = beat(cluster, "", &way_out.environment()).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("is not a trusted Kusto endpoint"), "{output}");
    }
    assert_eq!(way_out.seen(), [""; 0]);
}

/// A proxy that knows these hosts: it ends the TLS that the agent begins, and passes on what is in it to the host's server, by its port on this machine. Notes what it was sent.
pub(crate) async fn way_to(hosts: &[(&str, u16)], folder: &Path) -> (String, Seen) {
    let acceptor = tls_of(&hosts.iter().map(|(host, _)| *host).collect::<Vec<_>>(), folder);
    let ports: BTreeMap<String, u16> = hosts.iter().map(|(host, port)| (format!("{host}:443"), *port)).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
    let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, noted, ports) = (acceptor.clone(), Arc::clone(&noted), ports.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let port = text.split(' ').nth(1).and_then(|host| ports.get(host)).copied();
                noted.lock().expect("no holder of this lock panics").push(text);
                // Whoever wants to go elsewhere does not come there.
                let Some(port) = port else { return Ok(()) };
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let (mut from_agent, mut to_agent) = tokio::io::split(acceptor.accept(stream).await?);
                let (mut from_hub, mut to_hub) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_hub, &mut to_agent).await });
                let mut part = [0; 4096];
                loop {
                    let read = from_agent.read(&mut part).await?;
                    if read == 0 {
                        return to_hub.shutdown().await;
                    }
                    let text = String::from_utf8_lossy(&part[..read]).into_owned();
                    noted.lock().expect("no holder of this lock panics").push(text);
                    to_hub.write_all(&part[..read]).await?;
                }
            });
        }
    });
    (url, seen)
}

/// What a program finds that gets tokens from the one and goes out by [`way_to`].
pub(crate) fn surroundings(way_out: &WayOut, proxy: String, folder: &Path) -> Vec<(&'static str, String)> {
    let mut environment = way_out.issuer();
    environment.extend([("HTTPS_PROXY", proxy), ("SSL_CERT_FILE", folder.join("ca.pem").display().to_string())]);
    environment
}

#[tokio::test]
async fn a_hub_agent_signs_in_at_its_hub_and_prints_no_token_whatever_the_hub_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut hub = KustoServer::start_faulty(&["FleetDiscovery", "Logs"], &folder.path().join("hub.jsonl")).await;
    let way_out = WayOut::watch().await;
    let (proxy, seen) = way_to(&[("hub.kusto.windows.net", hub.port())], folder.path()).await;
    let document = hub_document(folder.path(), "https://hub.kusto.windows.net");
    let mut environment = surroundings(&way_out, proxy, folder.path());
    environment.push(("RUST_LOG", "trace".to_owned()));
    let arguments = ["--config", &document.display().to_string(), "--admin", "127.0.0.1:0"].map(str::to_owned);
    let mut agent = Process::start_with_environment("agent-hub", &arguments, &environment);
    let url = admin_url(&agent).await;
    until(&url, "/status", |_, status| status.contains("no heartbeat yet")).await;
    let row = "2026-01-01T00:00:00Z,https://europe.kusto.windows.net,\"[{\"\"database\"\":\"\"Logs\"\",\"\"tables\"\":[\"\"A\"\"]}]\",{}";
    let beat = format!(".ingest inline into table Heartbeats <|\n{row}\n");
    hub.command("FleetDiscovery", &beat).await.expect("the hub takes a heartbeat");
    until(&url, "/status", |_, status| status.contains("federated_A")).await;
    // What is refused is told, in logs and in the status, and a new token is asked for.
    for status in [401, 403, 500] {
        let tokens = way_out.seen().len();
        hub.fail(&json!([{"fault": {"status": status}}]));
        until(&url, "/status", |_, text| text.contains(&format!("status {status}"))).await;
        hub.fail(&json!([]));
        until(&url, "/status", |_, status| status.contains("\"outcome\":\"unchanged\"")).await;
        let more = way_out.seen().len() - tokens;
        assert!(status != 401 || more > 0, "the token that was refused is forgotten");
    }
    let (_, metrics) = get(&url, "/metrics").await;
    agent.stop().await;
    hub.process().stop().await;
    judge(folder.path());
    let seen = seen.lock().expect("no holder of this lock panics").concat();
    assert!(
        seen.contains(&format!("authorization: Bearer {TOKEN}")) && seen.contains(".execute database script"),
        "{seen}"
    );
    let issued = way_out.seen().join("\n");
    assert!(issued.contains("client-of-the-hub-agent") && issued.contains("kusto.kusto.windows.net"), "{issued}");
    let output = agent.output();
    assert!(output.contains("TRACE") && metrics.contains("adx_federation_"), "it tells all it can");
    assert!(!output.contains(TOKEN) && !metrics.contains(TOKEN), "a token was printed");
}
