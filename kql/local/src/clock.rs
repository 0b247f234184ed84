//! The one place of this server that reads the clock. Called where a request arrives: rows that it stores, and all that it is answered, have that time. I/O: the machine's
//! clock, and the file of `--clock-offset`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use kql::{
    literal::{MAX_DATETIME_TICKS, UNIX_EPOCH_TICKS},
    syntax::time::read_timespan,
};

/// The machine's clock, in ticks of 100 ns since year 1.
pub fn now_ticks() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ticks = i64::try_from(since_epoch.as_nanos() / 100).unwrap_or(i64::MAX);
    UNIX_EPOCH_TICKS.saturating_add(ticks)
}

/// A server's clock: the machine's, or one that is ahead of it or behind.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// `None`: it is the machine's.
    file: Option<PathBuf>,
    /// How far it is ahead, in ticks, as the file said last.
    offset: AtomicI64,
}

impl Clock {
    /// Ahead by the timespan in a file, which must be there and hold one; it is read again whenever the clock is.
    pub(crate) fn with_offset(file: PathBuf) -> io::Result<Self> {
        let offset = read_offset(&file)?.into();
        Ok(Self { file: Some(file), offset })
    }

    /// Now, in ticks of 100 ns since year 1. A file that is being written keeps the offset as it was.
    pub(crate) fn now_ticks(&self) -> i64 {
        if let Some(file) = &self.file {
            match read_offset(file) {
                Ok(offset) => self.offset.store(offset, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, file = %file.display(), "the clock's offset stays as it was"),
            }
        }
        now_ticks().saturating_add(self.offset.load(Ordering::Relaxed)).clamp(0, MAX_DATETIME_TICKS)
    }
}

fn read_offset(file: &Path) -> io::Result<i64> {
    let text = fs::read_to_string(file)?;
    read_timespan(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no timespan such as -3h")))
}
