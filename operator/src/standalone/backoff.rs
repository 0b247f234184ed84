//! How long a supervisor waits before it starts a stopped agent again. Pure.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A child that ran this long starts over with the first wait.
const STEADY: Duration = Duration::from_secs(120);

/// Doubling waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after a child that ran for `ran`.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_over_after_a_steady_run() {
        let mut backoff = Backoff::new();
        let mut waits: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        waits.push(backoff.after(STEADY).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 1]);
    }
}
