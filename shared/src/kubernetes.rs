//! What a program does differently in a Kubernetes cluster: one of several replicas leads, and the ADXCluster's status tells what its agent sees. Absent
//! everywhere else. I/O: the API server.

mod lease;
mod status;

use std::{env, time::Duration};

use kube::{Client, Config, client::ClientBuilder};
use tower::timeout::TimeoutLayer;

pub use lease::{Lease, Standing, lead};
pub use status::{AGENT_FIELD_MANAGER, StatusWriter, silent_from};

/// The longest wait for an answer to begin, and for more of it: longer than the 10 seconds that the API server gives a webhook by default. What is tried again
/// within the client counts as one answer, so that a `Retry-After` is heeded for no longer than this either.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest silence of a watch. The API server ends each after 290 seconds.
const WATCH_SILENCE: Duration = Duration::from_secs(300);

/// Why the cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither in a cluster nor with a kubeconfig.
    #[error("there is no Kubernetes cluster to connect to: run in a pod, or set KUBECONFIG")]
    Configuration(#[source] kube::config::InferConfigError),
    /// The client cannot be built.
    #[error("failed to set up the client of the API server")]
    Client(#[source] kube::Error),
}

/// A client of the cluster that this process runs in, or that its kubeconfig names. An answer that does not come is an error after 20 seconds: whoever waits for
/// it, waits for no more. Not for watches.
///
/// # Errors
/// [`ConnectError`]
pub async fn connect() -> Result<Client, ConnectError> {
    bounded(infer().await?, ANSWER)
}

/// The same for watches, which say nothing for as long as nothing happens. Their answers must begin in time all the same.
///
/// # Errors
/// [`ConnectError`]
pub async fn connect_watches() -> Result<Client, ConnectError> {
    bounded(infer().await?, WATCH_SILENCE)
}

async fn infer() -> Result<Config, ConnectError> {
    Config::infer().await.map_err(ConnectError::Configuration)
}

fn bounded(mut config: Config, silence: Duration) -> Result<Client, ConnectError> {
    (config.connect_timeout, config.read_timeout, config.write_timeout) = (Some(ANSWER), Some(silence), Some(ANSWER));
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
    Ok(builder.with_layer(&TimeoutLayer::new(ANSWER)).build())
}

/// Who this replica is among its like: its pod, or something that no other process is called.
pub fn identity() -> String {
    env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("process-{}", uuid::Uuid::new_v4()))
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, response::IntoResponse as _};
    use tokio::{
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;

    /// A client of a server that answers nothing but this.
    async fn client_of(router: Router, silence: Duration) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        bounded(Config::new(address.parse().unwrap()), silence).unwrap()
    }

    /// How long a request took, and whether it failed for want of an answer.
    async fn wait_for(client: &Client) -> (Duration, bool) {
        let request = axum::http::Request::get("/").body(Vec::new()).unwrap();
        let (started, answer) =
            (Instant::now(), timeout(Duration::from_secs(3600), client.request_text(request)).await);
        (started.elapsed(), answer.is_ok_and(|answer| answer.is_err()))
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_waited_for_without_end() {
        for silence in [ANSWER, WATCH_SILENCE] {
            let silent = Router::new().fallback(std::future::pending::<StatusCode>);
            let (waited, has_failed) = wait_for(&client_of(silent, silence).await).await;
            assert!(has_failed && waited <= ANSWER + Duration::from_secs(1), "{waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_a_long_pause_gets_no_longer_one_than_an_answer_may_take() {
        let busy = || async { (StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "600")]).into_response() };
        let (waited, has_failed) = wait_for(&client_of(Router::new().fallback(busy), ANSWER).await).await;
        assert!(has_failed && waited <= ANSWER + Duration::from_secs(1), "{waited:?}");
    }
}
