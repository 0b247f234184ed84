//! scratch
use kusto_local::{Server, ServerOptions, engine::{Limits, QueryContext, RemoteClusters, run_query}};
#[tokio::test(flavor = "multi_thread")]
async fn scratch() {
    let server = Server::start(ServerOptions::default()).await.unwrap();
    if let Ok(setup) = std::env::var("SETUP") { for line in std::fs::read_to_string(setup).unwrap().lines() {
        let r = reqwest::Client::new().post(format!("{}/v1/rest/mgmt", server.url())).json(&serde_json::json!({"db":"NetDefaultDB","csl":line})).send().await.unwrap();
        if !r.status().is_success() { println!("SETUP {line}: {}", r.text().await.unwrap()); }
    } }
    let context = QueryContext { catalog: server.catalog().clone(), database: "NetDefaultDB".into(), now: 638_000_000_000_000_000, parameters: Default::default(), limits: Limits::default(), deadline: None, remote: RemoteClusters::default() };
    let text = std::fs::read_to_string(std::env::var("Q").unwrap()).unwrap();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        println!("{line}");
        match run_query(&context, line).await {
            Ok(tables) => for t in tables { println!("   => {:?}\n      {}", t.schema.columns().iter().map(|c| format!("{}:{}", c.name, c.scalar_type)).collect::<Vec<_>>(), serde_json::to_string(&t.json()).unwrap()); for w in t.warnings { println!("   !! {w}") } },
            Err(e) => println!("   => ERR {e}"),
        }
    }
}
