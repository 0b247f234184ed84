//! The admin port: is the process alive, is it ready and why, what does it count, what does it see. I/O: serves HTTP on one address.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// How long open requests may take after the stop.
const GRACE: Duration = Duration::from_millis(300);

/// What OpenMetrics says its text is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the agent tells the admin port; cheap to clone. Works without a server, so that an agent need not know whether there is one.
#[derive(Debug, Clone)]
pub struct Admin(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    readiness: watch::Sender<Readiness>,
    status: watch::Sender<Value>,
    metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Readiness {
    ready: bool,
    reason: String,
}

impl Admin {
    /// Not ready, with an empty status.
    pub fn new(metrics: Metrics) -> Self {
        let readiness = Readiness { ready: false, reason: "no pass has ended yet".to_owned() };
        Self(Arc::new(Shared {
            readiness: watch::Sender::new(readiness),
            status: watch::Sender::new(json!({})),
            metrics,
        }))
    }

    /// What `/readyz` answers from now on: 200 or 503, with the reason as its body. A change is logged.
    pub fn set_ready(&self, ready: bool, reason: impl Into<String>) {
        let new = Readiness { ready, reason: reason.into() };
        self.0.readiness.send_if_modified(|readiness| {
            if *readiness == new {
                return false;
            }
            if readiness.ready != ready {
                tracing::info!(ready, reason = new.reason, "readiness changed");
            }
            *readiness = new;
            true
        });
    }

    /// Whether `/readyz` answers 200, and its reason.
    pub fn readiness(&self) -> (bool, String) {
        let readiness = self.0.readiness.borrow();
        (readiness.ready, readiness.reason.clone())
    }

    /// What `/status` answers from now on.
    pub fn set_status(&self, status: &impl Serialize) {
        match serde_json::to_value(status) {
            Ok(status) => {
                self.0.status.send_replace(status);
            }
            Err(error) => tracing::error!(%error, "the status cannot be written as JSON"),
        }
    }

    /// What `/status` answers.
    pub fn status(&self) -> Value {
        self.0.status.borrow().clone()
    }
}

/// A running server. It has a thread of its own: it answers while a pass computes, and a probe that waits is a process that gets killed.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: CancellationToken,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl AdminServer {
    /// Binds the address and serves. Port 0 takes any free one.
    ///
    /// # Errors
    /// If the address cannot be bound, or there is no thread to be had.
    pub fn start(address: SocketAddr, admin: Admin) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(async |State(admin): State<Admin>| Json(admin.status())))
            .with_state(admin);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (tell, ended) = oneshot::channel();
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            });
            // Whoever stopped it may have waited long enough.
            let _ = tell.send(served);
        })?;
        tracing::info!(%address, "admin port is open");
        Ok(Self { address, stop, ended })
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and ends when the open ones are answered.
    pub async fn stop(self) {
        self.stop.cancel();
        // A request that never ends must not keep the process.
        let Ok(ended) = timeout(GRACE, self.ended).await else { return };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "admin port failed"),
            Err(error) => tracing::warn!(%error, "admin port broke off"),
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let (ready, reason) = admin.readiness();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{reason}\n"))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], admin.0.metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::PassOutcome;

    #[tokio::test]
    async fn the_admin_port_tells_what_the_agent_told_it() {
        let metrics = Metrics::new();
        let admin = Admin::new(metrics.clone());
        let server = AdminServer::start("127.0.0.1:0".parse().unwrap(), admin.clone()).unwrap();
        let address = server.address();
        let ask = async |path: &str| {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind, answer.text().await.unwrap())
        };
        assert_eq!(ask("/livez").await.2, "alive\n");
        let (status, _, body) = ask("/readyz").await;
        assert_eq!((status, body.as_str()), (503, "no pass has ended yet\n"));
        assert_eq!(ask("/status").await.2, "{}");

        admin.set_ready(true, "a hub accepted a heartbeat 3 s ago");
        admin.set_status(&json!({"hubs": [{"endpoint": "https://hub"}]}));
        metrics.pass(PassOutcome::Done, Duration::from_secs(1));
        let (status, _, body) = ask("/readyz").await;
        assert_eq!((status, body.as_str()), (200, "a hub accepted a heartbeat 3 s ago\n"));
        let (_, kind, body) = ask("/status").await;
        assert_eq!((kind.as_str(), body.as_str()), ("application/json", r#"{"hubs":[{"endpoint":"https://hub"}]}"#));
        let (_, kind, body) = ask("/metrics").await;
        assert_eq!(kind, OPEN_METRICS);
        assert!(
            body.contains("adx_federation_passes_total{outcome=\"done\"} 1\n") && body.ends_with("# EOF\n"),
            "{body}"
        );

        server.stop().await;
        assert!(reqwest::get(format!("http://{address}/livez")).await.is_err());
    }
}
