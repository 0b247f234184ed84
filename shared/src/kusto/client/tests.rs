//! The client against a scripted server on loopback.

use std::{
    collections::VecDeque,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request as HttpRequest, Response as HttpResponse},
};
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    time::OffsetDateTime,
};
use kql::{
    names::EntityGroupName,
    statements::{DropEntityGroup, HeartbeatSource, MAX_SCRIPT_BYTES, ReadHeartbeats, ShowDatabases, Windows},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const OK_V1: &str = r#"{"Tables":[{"TableName":"Table_0","Columns":[{"ColumnName":"DatabaseName","DataType":"String"}],"Rows":[["Logs"]]}]}"#;
const OK_V2: &str = r#"[{"FrameType":"DataSetHeader"},{"FrameType":"DataTable","TableKind":"PrimaryResult","Columns":[{"ColumnName":"ClusterEndpoint","ColumnType":"string"}],"Rows":[["https://a.kusto.windows.net"]]},{"FrameType":"DataSetCompletion","HasErrors":false,"Cancelled":false}]"#;
const TRANSIENT: &str = r#"{"error":{"code":"Busy","@message":"try again","@permanent":false}}"#;

struct Seen {
    path: String,
    headers: axum::http::HeaderMap,
    body: String,
}

#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<VecDeque<HttpResponse<Body>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> HttpResponse<Body> {
    let mut builder = HttpResponse::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

async fn play(State(script): State<Script>, request: HttpRequest<Body>) -> HttpResponse<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    script.seen().push(Seen {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let next = script.replies.lock().unwrap().pop_front();
    next.unwrap_or_else(|| reply(500, &[], "the script has ended"))
}

/// A server that gives these replies one after another, and a client for it.
async fn scripted(replies: impl IntoIterator<Item = HttpResponse<Body>>) -> (KustoClient, Script) {
    let script = Script { replies: Arc::new(Mutex::new(replies.into_iter().collect())), ..Script::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(play).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (client(port, options()), script)
}

fn options() -> ClientOptions {
    ClientOptions {
        application: "adx-federation/test".to_owned(),
        first_pause: Duration::from_millis(1),
        query_timeout: Duration::from_secs(240),
        ..ClientOptions::default()
    }
}

fn client(port: u16, options: ClientOptions) -> KustoClient {
    let endpoint = ClusterEndpoint::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    KustoClient::new(endpoint, &CredentialConfig::None, options).unwrap()
}

fn database() -> DatabaseName {
    DatabaseName::new("FleetDiscovery").unwrap()
}

fn query() -> Request {
    let (database, table) = (database(), TableName::new("Heartbeats").unwrap());
    ReadHeartbeats {
        database: &database,
        source: &HeartbeatSource::Shared(table),
        windows: Windows { beats: Duration::from_secs(3_600), schemas: Duration::from_secs(60) },
        since: std::time::UNIX_EPOCH,
        interval: Duration::from_secs(600),
    }
    .request()
}

fn show() -> Request {
    ShowDatabases.request()
}

fn control() -> Request {
    let (database, group) = (database(), EntityGroupName::new("Logs_Partitions").unwrap());
    DropEntityGroup { database: &database, group: &group }.request()
}

fn failure<T: std::fmt::Debug>(result: Result<T, KustoError>) -> Failure {
    result.unwrap_err().failure
}

#[tokio::test]
async fn a_query_is_bound_to_read_only_and_to_its_cluster() {
    let (client, script) = scripted([reply(200, &[], OK_V2)]).await;
    let table = client.send(&query()).await.unwrap();
    assert_eq!(table.rows().next().unwrap().string("ClusterEndpoint"), Ok("https://a.kusto.windows.net"));
    let seen = script.seen();
    let Seen { path, headers, body } = &seen[0];
    assert_eq!(path, "/v2/rest/query");
    assert!(headers.get("authorization").is_none());
    assert_eq!(headers["x-ms-app"], "adx-federation/test");
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert!(headers["accept-encoding"].to_str().unwrap().contains("gzip"));
    assert!(headers["x-ms-client-request-id"].to_str().unwrap().starts_with("adx-federation.read_heartbeats;"));
    assert!(headers["x-ms-client-version"].to_str().unwrap().starts_with("adx-federation:"));
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["db"], "FleetDiscovery");
    assert_eq!(body["csl"], query().text());
    assert_eq!(
        body["properties"]["Options"],
        json!({"servertimeout": "00:04:00", "request_readonly": true, "request_remote_entities_disabled": true,
               "request_external_data_disabled": true, "request_callout_disabled": true})
    );
    assert_eq!(body["properties"]["Parameters"], json!(query().parameters()));
}

#[tokio::test]
async fn commands_go_to_the_management_endpoint_without_a_database_of_ours() {
    let (client, script) = scripted([reply(200, &[], OK_V1), reply(200, &[], OK_V1)]).await;
    client.send(&show()).await.unwrap();
    client.send(&control()).await.unwrap();
    let seen = script.seen();
    assert_eq!(seen[0].path, "/v1/rest/mgmt");
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(body.get("db"), None);
    assert_eq!(body["properties"]["Options"]["request_readonly"], true);
    let body: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(body["properties"], json!({"Options": {"servertimeout": "00:05:00"}}));
}

#[tokio::test]
async fn rows_are_streamed_to_the_table_by_its_name() {
    let (client, script) = scripted([reply(200, &[], "")]).await;
    let table = TableName::new("odd name.x").unwrap();
    client.ingest_csv(&database(), &table, "a,b\n").await.unwrap();
    let seen = script.seen();
    assert_eq!(seen[0].path, "/v1/rest/ingest/FleetDiscovery/odd%20name.x?streamFormat=Csv");
    assert_eq!(seen[0].body, "a,b\n");
    assert_eq!(seen[0].headers["content-type"], "text/csv; charset=utf-8");
}

#[tokio::test]
async fn many_records_are_ingested_by_commands_one_after_the_other_and_the_first_that_fails_ends_it() {
    let answer = |has_errors: Value| {
        let columns = ["HasErrors", "OperationId"].map(|name| json!({"ColumnName": name, "DataType": "Object"}));
        let table = json!({"TableName": "Table_0", "Columns": columns, "Rows": [[has_errors, "7f"]]});
        reply(200, &[], json!({"Tables": [table]}).to_string())
    };
    // A record that fills a command, three times.
    let lines = ["a", "b", "c"].map(|letter| format!("{}\n", letter.repeat(MAX_SCRIPT_BYTES - 1)));
    let (database, table) = (database(), TableName::new("Heartbeats").unwrap());
    let records = lines.concat();
    let ingestion = IngestInline { database: &database, table: &table, records: &records };
    for (answers, is_done, commands) in [
        ([json!(false), json!(0), json!(false)], true, 3),
        ([json!(false), json!(true), json!(false)], false, 2),
        ([json!(1), json!(false), json!(false)], false, 1),
    ] {
        let (client, script) = scripted(answers.map(answer)).await;
        let result = client.ingest_inline(&ingestion).await;
        assert_eq!(result.is_ok(), is_done, "{result:?}");
        if let Err(error) = result {
            let why = "NotStored (status 200): the records were not stored, or not all; operation 7f";
            assert_eq!(error.to_string(), format!("ingest_inline failed on {}: {why}", client.endpoint()));
        }
        let seen = script.seen();
        assert_eq!(seen.len(), commands, "none is sent again");
        for (Seen { path, body, .. }, line) in seen.iter().zip(&lines) {
            let body: Value = serde_json::from_str(body).unwrap();
            let is_its = body["csl"] == format!(".ingest inline into table ['Heartbeats'] <|\n{line}");
            assert!(path == "/v1/rest/mgmt" && body["db"] == "FleetDiscovery" && is_its, "{path}");
        }
    }
    let (client, script) = scripted([]).await;
    client.ingest_inline(&IngestInline { records: "", ..ingestion }).await.unwrap();
    assert!(script.seen().is_empty(), "there is nothing to send");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (client, script) = scripted([reply(307, &[("location", "/elsewhere")], "")]).await;
    let error = client.send(&query()).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Redirected { status: 307 }));
    let endpoint = client.endpoint();
    assert_eq!(
        error.to_string(),
        format!(
            "read_heartbeats failed on {endpoint}: the server redirects (status 307), and redirects are not followed"
        )
    );
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_beyond_the_cap_is_given_up_compressed_or_not() {
    let large = " ".repeat(200_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(large.as_bytes()).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1_000);
    let (client, _) = scripted([reply(200, &[], large), reply(200, &[("content-encoding", "gzip")], bomb)]).await;
    let small = ClientOptions { max_answer_bytes: 100_000, ..options() };
    let client = KustoClient::new(client.endpoint().clone(), &CredentialConfig::None, small).unwrap();
    for _ in 0..2 {
        assert!(matches!(failure(client.send(&query()).await), Failure::TooLarge { limit: 100_000 }));
    }
}

/// A server that says `before`, waits the first time until it is asked to go on, and says `after`.
async fn halting(before: String, after: String) -> (u16, tokio::sync::oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", before.len() + after.len());
        let mut halts = Some(may_go_on);
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 65_536]).await;
            stream.write_all(format!("{head}{before}").as_bytes()).await.unwrap();
            if let Some(may_go_on) = halts.take() {
                may_go_on.await.unwrap();
            }
            stream.write_all(after.as_bytes()).await.unwrap();
        }
    });
    (port, go_on)
}

#[tokio::test]
async fn rows_are_taken_while_the_answer_arrives_and_count_when_it_is_complete() {
    // The last piece, and whether it ends the answer.
    for (end, is_whole) in [(r#"]},{"FrameType":"DataSetCompletion","HasErrors":false}]"#, true), ("]}]", false)] {
        let cut = OK_V2.find("]},{\"FrameType\":\"DataSetCompletion").unwrap();
        let (port, go_on) = halting(OK_V2[..cut].to_owned(), end.to_owned()).await;
        let mut go_on = Some(go_on);
        // Nothing more comes before the first row is taken.
        let take = |endpoints: &mut Vec<String>, row: Row<'_>| {
            endpoints.push(row.string("ClusterEndpoint")?.to_owned());
            go_on.take().into_iter().for_each(|go_on| go_on.send(()).unwrap());
            Ok(())
        };
        let told = client(port, options()).fold(&query(), take).await;
        if is_whole {
            assert_eq!(told.unwrap().unwrap(), ["https://a.kusto.windows.net"]);
        } else {
            assert!(matches!(failure(told), Failure::Incomplete { .. }));
        }
    }
}

#[tokio::test]
async fn rows_of_an_answer_that_broke_off_do_not_count_beside_those_of_the_next() {
    let cut = &OK_V2[..OK_V2.find("]},{\"FrameType\":\"DataSetCompletion").unwrap()];
    let (client, script) = scripted([reply(200, &[], cut), reply(200, &[], OK_V2)]).await;
    let mut taken = 0;
    let take = |endpoints: &mut Vec<String>, row: Row<'_>| {
        taken += 1;
        endpoints.push(row.string("ClusterEndpoint")?.to_owned());
        Ok(())
    };
    assert_eq!(client.fold(&query(), take).await.unwrap().unwrap(), ["https://a.kusto.windows.net"]);
    assert_eq!((script.seen().len(), taken), (2, 2));
}

#[tokio::test]
async fn of_a_refusal_the_beginning_is_read_however_long_it_is() {
    let (client, _) = scripted([reply(403, &[], "no ".repeat(100_000))]).await;
    let small = ClientOptions { max_answer_bytes: 100_000, ..options() };
    let client = KustoClient::new(client.endpoint().clone(), &CredentialConfig::None, small).unwrap();
    let failure = failure(client.send(&query()).await);
    assert!(
        matches!(&failure, Failure::Unauthorized { status: 403, message } if message.starts_with("no no")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn compressed_answers_are_read() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(OK_V2.as_bytes()).unwrap();
    let (client, _) = scripted([reply(200, &[("content-encoding", "gzip")], encoder.finish().unwrap())]).await;
    assert_eq!(client.send(&query()).await.unwrap().len(), 1);
}

/// A server that reads a request, says `answer`, and then closes the connection or holds it open; and how many it was sent.
async fn raw(answer: &'static str, hold: bool) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let mut buffer = [0; 65_536];
            let _ = stream.read(&mut buffer).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            if hold {
                held.push(stream);
            }
        }
    });
    (port, sent)
}

#[tokio::test]
async fn no_full_answer_in_time_is_a_time_out_and_not_sent_again() {
    let options = ClientOptions {
        query_timeout: Duration::from_millis(150),
        command_timeout: Duration::from_millis(150),
        margin: Duration::from_millis(50),
        ..options()
    };
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n["] {
        let (port, sent) = raw(answer, true).await;
        let failure = failure(client(port, options.clone()).send(&query()).await);
        assert!(matches!(failure, Failure::TimedOut { after } if after == Duration::from_millis(200)), "{failure:?}");
        // One that was sent last is seen by then.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_cut_off_body_is_incomplete() {
    let (port, _) =
        raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"FrameType\":\"DataSetHeader\"}]", false).await;
    let failure = failure(client(port, options()).send(&query()).await);
    assert!(matches!(failure, Failure::Incomplete { .. }), "{failure:?}");
}

#[tokio::test]
async fn throttled_requests_of_every_kind_are_sent_again() {
    let throttled = || reply(429, &[("retry-after", "0")], "");
    let (client, script) =
        scripted([throttled(), throttled(), reply(200, &[], OK_V1), throttled(), reply(200, &[], OK_V2)]).await;
    client.send(&control()).await.unwrap();
    client.send(&query()).await.unwrap();
    let ids: std::collections::BTreeSet<_> =
        script.seen().iter().map(|seen| seen.headers["x-ms-client-request-id"].to_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 5, "every try has its own id");
}

#[tokio::test]
async fn a_throttling_that_wants_too_long_a_pause_is_told_to_the_caller() {
    let (client, script) = scripted([reply(429, &[("retry-after", "3600")], "")]).await;
    let failure = failure(client.send(&query()).await);
    assert!(matches!(failure, Failure::Throttled { retry_after: Some(pause) } if pause.as_secs() == 3_600));
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn transient_errors_are_repeated_only_where_that_is_safe() {
    let (repeated, script) = scripted([reply(503, &[], TRANSIENT), reply(200, &[], OK_V2)]).await;
    repeated.send(&query()).await.unwrap();
    assert_eq!(script.seen().len(), 2);
    let (refused, script) = scripted([reply(503, &[], TRANSIENT)]).await;
    assert!(matches!(failure(refused.send(&control()).await), Failure::Rejected { permanent: false, .. }));
    assert_eq!(script.seen().len(), 1);
    let (ended, script) = scripted((0..5).map(|_| reply(503, &[], TRANSIENT))).await;
    assert!(matches!(failure(ended.send(&query()).await), Failure::Rejected { .. }));
    assert_eq!(script.seen().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_an_authentication_failure_and_final() {
    let body = r#"{"error":{"code":"Forbidden","@message":"Principal is not authorized","@permanent":true}}"#;
    let (client, script) = scripted([reply(401, &[], ""), reply(403, &[], body)]).await;
    assert!(client.send(&query()).await.unwrap_err().is_auth());
    let error = client.send(&query()).await.unwrap_err();
    assert!(error.is_auth());
    assert!(
        matches!(&error.failure, Failure::Unauthorized { status: 403, message } if message == "Principal is not authorized")
    );
    assert_eq!(script.seen().len(), 2);
}

/// An issuer that counts: `token-1`, `token-2`.
#[derive(Debug, Default)]
struct Counting(AtomicU32);

#[async_trait::async_trait]
impl TokenCredential for Counting {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let end = OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1);
        Ok(AccessToken::new(format!("token-{number}"), end))
    }
}

/// The client as it is for a host in Azure, which loopback cannot be: it signs in.
fn signed_in(client: &KustoClient) -> KustoClient {
    let Inner { endpoint, base, http, options, .. } = &*client.0;
    KustoClient(Arc::new(Inner {
        endpoint: endpoint.clone(),
        base: base.clone(),
        http: http.clone(),
        token: Some(TokenSource::of_issuer(Arc::new(Counting::default()))),
        limiter: RateLimiter::direct(Quota::per_second(options.requests_per_second)),
        options: options.clone(),
    }))
}

#[tokio::test]
async fn every_request_carries_the_token_and_a_new_one_after_it_was_refused() {
    let forbidden = r#"{"error":{"code":"Forbidden","@message":"no right","@permanent":true}}"#;
    let replies = [
        reply(200, &[], OK_V2),
        reply(200, &[], ""),
        reply(403, &[], forbidden),
        reply(200, &[], OK_V1),
        reply(401, &[], ""),
        reply(200, &[], OK_V1),
        reply(200, &[], OK_V2),
    ];
    let (client, script) = scripted(replies).await;
    let client = signed_in(&client);
    client.send(&query()).await.unwrap();
    client.ingest_csv(&database(), &TableName::new("Heartbeats").unwrap(), "a\n").await.unwrap();
    // Whoever lacks a right is known all the same: another token would say the same.
    assert!(client.send(&query()).await.unwrap_err().is_auth());
    client.send(&control()).await.unwrap();
    assert!(client.send(&show()).await.unwrap_err().is_auth());
    client.send(&show()).await.unwrap();
    client.send(&query()).await.unwrap();
    let seen = script.seen();
    let sent: Vec<_> = seen.iter().map(|seen| seen.headers["authorization"].to_str().unwrap()).collect();
    let (first, second) = ("Bearer token-1", "Bearer token-2");
    assert_eq!(sent, [first, first, first, first, first, second, second]);
    assert!(!format!("{client:?}").contains("token-"));
}

#[tokio::test]
async fn a_connection_that_was_never_made_is_tried_again_even_for_commands() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let started = Instant::now();
    let options = ClientOptions { first_pause: Duration::from_millis(40), ..options() };
    let failure = failure(client(port, options).send(&control()).await);
    assert!(matches!(failure, Failure::Transport { maybe_received: false, .. }), "{failure:?}");
    assert!(started.elapsed() >= Duration::from_millis(20 + 40), "two pauses");
}

#[tokio::test]
async fn requests_are_held_to_the_rate() {
    let (client, _) = scripted((0..8).map(|_| reply(200, &[], OK_V2))).await;
    let slow = ClientOptions { requests_per_second: NonZeroU32::new(5).unwrap(), ..options() };
    let client = KustoClient::new(client.endpoint().clone(), &CredentialConfig::None, slow).unwrap();
    let started = Instant::now();
    for _ in 0..7 {
        client.send(&query()).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(350), "five at once, then one each 200 ms");
}

#[test]
fn no_client_is_made_for_a_host_that_must_not_get_a_token() {
    let make = |endpoint: &str, credential| {
        KustoClient::new(ClusterEndpoint::parse(endpoint).unwrap(), credential, ClientOptions::default())
            .map(|client| format!("{client:?}"))
            .map_err(|error| error.to_string())
    };
    let cli = CredentialConfig::AzureCli;
    assert_eq!(
        make("https://x.kusto.windows.net.evil.example", &cli).unwrap_err(),
        "https://x.kusto.windows.net.evil.example is not a trusted Kusto endpoint of the cloud 'public': no request is sent to it"
    );
    assert_eq!(
        make("https://x.kusto.windows.net", &CredentialConfig::None).unwrap_err(),
        "https://x.kusto.windows.net needs a credential: only loopback addresses are asked without a token"
    );
    assert!(make("https://x.kusto.windows.net", &cli).is_ok());
    assert!(make("http://localhost:1", &cli).is_ok());
}
