//! When heartbeats came to the hub. I/O: one query, of an agent that starts where an earlier one recorded that a partition is silent.

use std::{collections::BTreeMap, time::Duration};

use kql::{names::TableName, statements::ReadArrivals};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
};

use super::{ObserveError, asking, decoding};
use crate::{membership::Thresholds, watcher::Arrivals};

const ARRIVALS: &str = "when heartbeats came";

/// In how many periods at most the hub tells of them.
const MOST_PERIODS: u32 = 10_000;

/// Reads it, as far back as an outage counts. `unread`: tables of single partitions that are not read.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_arrivals(
    hub: &KustoClient,
    config: &HubConfig,
    unread: &BTreeMap<TableName, String>,
    thresholds: &Thresholds,
) -> Result<Arrivals, ObserveError> {
    let database = &config.heartbeat_database;
    let source = &config.heartbeats.without(|table| unread.contains_key(table));
    let window = Duration::try_from(Arrivals::window(thresholds)).unwrap_or(Duration::MAX);
    // Within one of these, no gap is too long; but where that were too many.
    let period = Duration::try_from(thresholds.silence() / 2).unwrap_or_default().max(window / MOST_PERIODS);
    let request = ReadArrivals { database, source, window, period }.request();
    parse(&hub.send(&request).await.map_err(asking(ARRIVALS))?).map_err(decoding(ARRIVALS))
}

fn parse(table: &ResultTable) -> Result<Arrivals, DecodeError> {
    let (mut periods, mut now) = (Vec::new(), None);
    for row in table.rows() {
        match (row.datetime("First")?, row.datetime("Last")?) {
            (Some(first), Some(last)) => periods.push((first, last)),
            _ => now = row.datetime("Now")?.or(now),
        }
    }
    // An answer without it is not whole.
    let now = now.ok_or(DecodeError::NoRow { expected: "row with the server's time" })?;
    Ok(Arrivals::new(periods, now))
}
