//! The HTTP server: listens on a loopback address and answers Kusto's REST protocol. `main`, the tests and the harness start it.
//!
//! Nobody is asked who they are, so nobody but this machine is let in: any other address is refused at the start. A token is neither required, nor looked at, nor
//! recorded.

mod body;
mod exchange;
mod faults;
mod routes;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::serve::ListenerExt;
use kql::names::{DatabaseName, NameError};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::faults::Faults;
use crate::{catalog::Catalog, clock::Clock, engine::RemoteClusters, error::KustoError, record::Recorder};

pub(crate) use self::faults::Fault;

/// The database of requests that name none, as in Kusto; it is there when no other is asked for.
pub const DEFAULT_DATABASE: &str = "NetDefaultDB";

/// How long a stop waits for requests under way.
const GRACE: Duration = Duration::from_millis(500);

/// How to run a server. `..ServerOptions::default()` fills what does not matter.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// A loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Databases that are there from the start; none means [`DEFAULT_DATABASE`].
    pub databases: Vec<String>,
    /// Where requests are recorded.
    pub record: Option<PathBuf>,
    /// How long every request waits before it is looked at.
    pub delay: Duration,
    /// What goes wrong on purpose: a file of rules.
    pub faults: Option<PathBuf>,
    /// How far the server's clock is ahead of the machine's: a file with a timespan such as `-3h`.
    pub clock_offset: Option<PathBuf>,
    /// How many requests may be under way; one more is answered with 429.
    pub concurrent_requests: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            databases: Vec::new(),
            record: None,
            delay: Duration::ZERO,
            faults: None,
            clock_offset: None,
            concurrent_requests: 256,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not the machine's own.
    #[error(
        "{0} is no loopback address: this server asks nobody for a token, so it listens on 127.0.0.1 or [::1] only"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A database's name is none.
    #[error("failed to create a database: {0}")]
    DatabaseName(#[from] NameError),
    /// A database is named twice.
    #[error("failed to create a database: {0}")]
    Database(#[from] KustoError),
    /// The file for `--faults` cannot be read, or holds no rules.
    #[error("failed to read {} for faults", path.display())]
    Faults {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file for `--clock-offset` cannot be read, or holds no timespan.
    #[error("failed to read {} for the clock's offset", path.display())]
    ClockOffset {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file for `--record` cannot be opened.
    #[error("failed to open {} to record requests", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets requests under way finish.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

/// What all requests share.
#[derive(Debug)]
struct App {
    catalog: Arc<Catalog>,
    remote: RemoteClusters,
    recorder: Option<Recorder>,
    delay: Duration,
    faults: Option<Faults>,
    clock: Clock,
    permits: Semaphore,
}

impl Server {
    /// Starts a server and returns when it listens.
    ///
    /// # Errors
    /// [`ServerError`] says which option cannot be met.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let ServerOptions { listen, databases, record, delay, faults, clock_offset, concurrent_requests } = options;
        if !listen.ip().is_loopback() {
            return Err(ServerError::NotLoopback(listen));
        }
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| ServerError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| ServerError::Listen { address: listen, source })?;
        let catalog = Catalog::new(format!("http://{address}"));
        let databases = if databases.is_empty() { vec![DEFAULT_DATABASE.to_owned()] } else { databases };
        for name in databases {
            catalog.create_database(DatabaseName::new(name)?.as_str())?;
        }
        let recorder = match record {
            None => None,
            Some(path) => {
                let opened = Recorder::open(&path).await;
                Some(opened.map_err(|source| ServerError::Record { path, source })?)
            }
        };
        let faults = match faults {
            None => None,
            Some(path) => {
                let opened = Faults::open(path.clone());
                Some(opened.map_err(|source| ServerError::Faults { path, source })?)
            }
        };
        let clock = match clock_offset {
            None => Clock::default(),
            Some(path) => {
                let read = Clock::with_offset(path.clone());
                read.map_err(|source| ServerError::ClockOffset { path, source })?
            }
        };
        let app = Arc::new(App {
            catalog: Arc::new(catalog),
            remote: RemoteClusters::default(),
            recorder,
            delay,
            faults,
            clock,
            permits: Semaphore::new(concurrent_requests),
        });
        let stopping = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::clone(&app), stopping.clone()));
        Ok(Self { app, stopping, task })
    }

    /// The server's URL without a slash at its end: `http://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        self.app.catalog.own_endpoint()
    }

    /// The databases, for tests that look or change behind the protocol.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.app.catalog
    }

    /// Stops listening, gives requests under way half a second, and ends.
    pub async fn shutdown(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            tracing::info!("requests under way were cut off by the stop");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.task.abort();
        if let Some(recorder) = &self.app.recorder {
            recorder.stop();
        }
    }
}

async fn serve(listener: TcpListener, app: Arc<App>, stopping: CancellationToken) {
    // Answers are small and clients wait for them: nothing is gained by waiting for more to send.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps the system's delay");
        }
    });
    let served = axum::serve(listener, routes::router(app)).with_graceful_shutdown(stopping.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the server stopped listening");
    }
}
