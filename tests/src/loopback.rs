//! HTTP to programs on this machine. I/O: loopback HTTP.

use std::sync::LazyLock;

use crate::{process::Process, witness};

/// The client of the whole suite.
pub fn client() -> &'static reqwest::Client {
    // One, because a new one reads all certificates that the machine trusts. It keeps no connection, since that would end with the runtime of the test that opened it.
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("the client can be built")
    });
    &CLIENT
}

/// The address that a program has printed for its admin port, if it has.
pub fn admin_url(process: &Process) -> Option<String> {
    process.output().lines().find_map(|line| line.strip_prefix("admin ").map(str::to_owned))
}

/// What an admin port answers: status and text.
///
/// # Errors
/// If it does not.
pub async fn get(url: &str) -> Result<(u16, String), reqwest::Error> {
    let answer = client().get(url).send().await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    witness::keep(&text);
    Ok((status, text))
}
