//! The one place of this server that reads the clock. Called where a request arrives and where rows are stored.

use std::time::{SystemTime, UNIX_EPOCH};

use kql::literal::UNIX_EPOCH_TICKS;

/// Now, in ticks of 100 ns since year 1.
pub fn now_ticks() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ticks = i64::try_from(since_epoch.as_nanos() / 100).unwrap_or(i64::MAX);
    UNIX_EPOCH_TICKS.saturating_add(ticks)
}
