//! How soon something that failed is tried again. Throws the dice; no other I/O. Used by the agents, with [`Cycle::look_again_after`](super::Cycle::look_again_after).

use std::time::Duration;

use crate::document::JITTER;

/// The first wait.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait: what has failed for hours is not hammered, and is found within the hour when it works again. A schedule that comes sooner is not slowed.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Doubling waits, each up to [`JITTER`] early, so that those who failed together do not return together.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 - JITTER * rand::random::<f64>())
    }

    /// It worked: the next failure is a first one.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let mut longest = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600].to_vec();
        longest.resize(100, 3600);
        for seconds in longest {
            let (wait, longest) = (backoff.next_wait(), Duration::from_secs(seconds));
            assert!(wait <= longest && wait >= longest.mul_f64(1.0 - JITTER), "{wait:?} of {longest:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
