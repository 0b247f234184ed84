//! How figures are taken and printed.

use std::{
    fs,
    time::{Duration, Instant},
};

use tests::process::starts_released_programs;
use tokio::time;

/// Runs something several times and gives the fastest and the median time.
pub(crate) async fn timed<F: Future>(runs: usize, mut run: impl FnMut() -> F) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        run().await;
        times.push(started.elapsed());
    }
    times.sort();
    (times[0], times[times.len() / 2])
}

/// Gives programs the time to come to rest before their memory is measured; little where these were built with the tests, which only shows that the benchmarks work.
pub(crate) async fn rest() {
    time::sleep(Duration::from_secs(if starts_released_programs() { 5 } else { 1 })).await;
}

/// One line: what, and its figures.
pub(crate) fn line(what: &str, figures: &str) {
    println!("  {what:<58} {figures}");
}

/// Milliseconds with one digit.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Resident memory of a process in MB.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// That, and what of it is the process's own: the rest is pages of its program, which processes share.
pub(crate) fn memory(pid: u32) -> String {
    format!("{:.1} MB, its own {:.1} MB", resident_mb(pid), status_mb(pid, "RssAnon:"))
}

/// The most resident memory that a process had, in MB.
pub(crate) fn peak_mb(pid: u32) -> f64 {
    status_mb(pid, "VmHWM:")
}

/// Only as it is released does a program take the same memory on every machine: built for release, and linked with all that it needs, so that no library of the machine is in
/// its memory.
pub(crate) fn is_as_released(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    starts_released_programs() && !maps.contains(".so")
}

fn status_mb(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
}

/// The processor time that a process has used, in seconds.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the program's name, which is in parentheses; user and system time are the twelfth and thirteenth fields from there, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}
