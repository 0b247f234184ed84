//! When an agent's passes run: every so often, or by cron. Pure values; the clock and the dice are the caller's ([`crate::runtime::Cycle`]).

use std::time::Duration;

use jiff::Timestamp;

use super::cron::CronSchedule;

/// The share of an interval by which a pass may come early.
///
/// Early only: a heartbeat that is never later than its interval lets the hub count a missed one as soon as an interval has gone by.
pub const JITTER: f64 = 0.25;

/// When passes run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// One pass every `every`, each up to [`JITTER`] early so that a fleet that started together spreads out.
    Interval {
        /// The longest time from one pass's start to the next one's.
        every: Duration,
    },
    /// At the times of a cron expression, in UTC, without jitter: a person who writes a time means it.
    Cron(CronSchedule),
}

impl Schedule {
    /// How long after `started`, the start of the last pass, the next one starts; `dice` in `0.0..1.0` decides the jitter. `None`: the cron expression
    /// has no next time.
    pub fn delay_after(&self, started: Timestamp, dice: f64) -> Option<Duration> {
        match self {
            Self::Interval { every } => Some(every.mul_f64(1.0 - JITTER * dice.clamp(0.0, 1.0))),
            Self::Cron(cron) => {
                let next = cron.next_after(started)?;
                Duration::try_from(next.duration_since(started)).ok()
            }
        }
    }

    /// How long the first pass after a start waits: a small random part of the interval, at most two seconds. A person who starts an agent sees it work at
    /// once; a fleet whose machines came back together does not hit the hub in the same instant.
    pub fn first_delay(&self, now: Timestamp, dice: f64) -> Option<Duration> {
        match self {
            Self::Interval { every } => {
                Some(every.mul_f64(JITTER).min(Duration::from_secs(2)).mul_f64(dice.clamp(0.0, 1.0)))
            }
            Self::Cron(_) => self.delay_after(now, dice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_never_exceeded_and_at_most_a_quarter_early() {
        let schedule = Schedule::Interval { every: Duration::from_secs(600) };
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(schedule.delay_after(now, 0.0), Some(Duration::from_secs(600)));
        assert_eq!(schedule.delay_after(now, 1.0), Some(Duration::from_secs(450)));
    }

    #[test]
    fn the_first_pass_waits_at_most_two_seconds_and_less_for_short_intervals() {
        let now = Timestamp::UNIX_EPOCH;
        let first = |every| Schedule::Interval { every }.first_delay(now, 1.0);
        assert_eq!(first(Duration::from_secs(600)), Some(Duration::from_secs(2)));
        assert_eq!(first(Duration::from_secs(1)), Some(Duration::from_millis(250)));
    }

    #[test]
    fn cron_gives_the_time_to_its_next_moment() {
        let schedule = Schedule::Cron("*/10 * * * *".parse().unwrap());
        let now: Timestamp = "2026-03-01T12:03:30Z".parse().unwrap();
        assert_eq!(schedule.delay_after(now, 0.5), Some(Duration::from_secs(390)));
        assert_eq!(schedule.first_delay(now, 0.5), Some(Duration::from_secs(390)));
    }
}
