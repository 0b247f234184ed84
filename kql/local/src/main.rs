//! `kusto-local`: starts one server, says where, and runs until it is told to stop.

use std::{error::Error, io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use kusto_local::{Server, ServerError, ServerOptions};
use tracing_subscriber::EnvFilter;

/// A Kusto-compatible server in memory, for a laptop and for tests. Asks nobody for a token and listens on loopback addresses only.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: 127.0.0.1:PORT or [::1]:PORT; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A database that is there from the start; may be repeated. None given: NetDefaultDB.
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// Append a JSON line for each request to this file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Let every request wait this many milliseconds, as a round trip would.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Let requests fail on purpose, by the rules in this JSON file; it is read again when it changes.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Let the server's clock be ahead of the machine's by the timespan in this file, such as 90m, -3h or -1.12:00:00; it is read again when it changes.
    #[arg(long, value_name = "FILE")]
    clock_offset: Option<PathBuf>,
    /// Stop when standard input ends: whoever started the server and held the other end is gone, however it died.
    #[arg(long)]
    stop_with_stdin: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(log).with_ansi(colours).with_writer(std::io::stderr);
    // Where nobody reads them any more, the complaint about it would panic in whoever logs.
    logs.log_internal_errors(false).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(cause = error.source(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), ServerError> {
    let Arguments { listen, databases, record, delay, faults, clock_offset, stop_with_stdin } = arguments;
    let delay = Duration::from_millis(delay);
    let options = ServerOptions { listen, databases, record, delay, faults, clock_offset, ..ServerOptions::default() };
    let server = Server::start(options).await?;
    println!("{}", server.url());
    tokio::select! {
        () = stop_signal() => {}
        () = end_of_stdin(), if stop_with_stdin => {}
    }
    server.shutdown().await;
    Ok(())
}

/// Reads standard input to its end, on a thread of its own: a blocking read in the runtime's pool would keep the process from ending.
async fn end_of_stdin() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Ctrl-C or SIGTERM, whichever comes first.
async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("a signal handler can be installed once the runtime has started");
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if let Err(error) = interrupt.await {
        tracing::error!(%error, "the server cannot be told to stop by Ctrl-C");
    }
}
