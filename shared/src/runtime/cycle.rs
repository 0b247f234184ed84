//! Pass after pass, on schedule, until the stop. The one place that reads the clock and throws the dice. Used by both agents:
//!
//! ```ignore
//! let mut cycle = world.cycle(config.schedule.clone());
//! while let Some(now) = cycle.next().await {
//!     cycle.pass(one_pass(&config, &clients, &mut state, now)).await;
//! }
//! cycle.exit()
//! ```
//!
//! A pass that could not do all it had to may be followed up before the schedule says so: see [`Cycle::look_again_after`].

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    admin::Admin,
    metrics::Metrics,
    outcome::{Exit, PassOutcome},
};
use crate::{document::Schedule, kubernetes::Standing};

/// How long a pass may go on after the stop: less than the 4 seconds after which `operator standalone` kills an agent, and with the release of the lease below five.
const GRACE: Duration = Duration::from_secs(2);

/// The shortest rest between two passes, whatever the schedule: a pass that takes longer than its interval must not become a busy loop.
const SHORTEST_REST: Duration = Duration::from_millis(100);

/// The schedule at work.
#[derive(Debug)]
pub struct Cycle {
    schedule: Schedule,
    once: bool,
    stop: CancellationToken,
    metrics: Metrics,
    leadership: Option<Leadership>,
    has_not_led: bool,
    number: u64,
    /// The start of the schedule's last pass.
    started: Option<(Timestamp, Instant)>,
    /// When the schedule's next pass is due; worked out when the last one has ended.
    due: Option<Instant>,
    /// When a pass is wanted, if that is sooner.
    wanted: Option<Instant>,
    is_between: bool,
    last: Option<PassOutcome>,
}

impl Cycle {
    /// A cycle that has not begun. `once`: one pass, at once.
    pub const fn new(schedule: Schedule, once: bool, stop: CancellationToken, metrics: Metrics) -> Self {
        Self {
            schedule,
            once,
            stop,
            metrics,
            leadership: None,
            has_not_led: false,
            number: 0,
            started: None,
            due: None,
            wanted: None,
            is_between: false,
            last: None,
        }
    }

    /// The same, with passes only while this process leads.
    #[must_use]
    pub fn led_by(mut self, leadership: Option<Leadership>) -> Self {
        self.leadership = leadership;
        self
    }

    /// Waits for the next pass's time and gives it; `None` when there is none any more: after the stop, or after the one pass.
    pub async fn next(&mut self) -> Option<Timestamp> {
        if self.stop.is_cancelled() || (self.once && self.number > 0) {
            return None;
        }
        let rested = Instant::now() + if self.number > 0 { SHORTEST_REST } else { Duration::ZERO };
        loop {
            if let Some(leadership) = &mut self.leadership {
                if !leadership.standing.borrow().leads() {
                    self.has_not_led = true;
                    self.metrics.forget_fleet();
                }
                tokio::select! {
                    () = leadership.gained() => {}
                    () = self.stop.cancelled() => return None,
                }
            }
            if self.once {
                break;
            }
            let Some(due) = self.due.or_else(|| self.next_due()) else {
                tracing::error!("the schedule has no next time");
                return None;
            };
            self.due = Some(due);
            let next = self.wanted.map_or(due, |wanted| wanted.min(due)).max(rested);
            tokio::select! {
                () = self.stop.cancelled() => return None,
                // Whoever leads by the time of the pass makes it.
                () = lost(&mut self.leadership) => self.has_not_led = true,
                () = sleep_until(next) => {
                    self.is_between = next < due;
                    break;
                }
            }
        }
        let now = Timestamp::now();
        self.number += 1;
        self.wanted = None;
        if !self.is_between {
            self.started = Some((now, Instant::now()));
            self.due = None;
        }
        Some(now)
    }

    /// Asks for a pass after `wait`, unless the schedule has one before. It leaves the schedule as it is, and holds for one pass; of several wishes the
    /// soonest counts. With `once` there is none. For what failed, `wait` comes from a [`Backoff`](super::Backoff):
    ///
    /// ```ignore
    /// cycle.pass(agent.look(now)).await;
    /// if agent.must_look_again() { cycle.look_again_after(backoff.next_wait()) } else { backoff.reset() }
    /// ```
    pub fn look_again_after(&mut self, wait: Duration) {
        let wanted = Instant::now() + wait;
        self.wanted = Some(self.wanted.map_or(wanted, |other| other.min(wanted)));
    }

    /// Whether the pass that [`Self::next`] has given is one that [`Self::look_again_after`] asked for, between two of the schedule's.
    pub const fn is_between(&self) -> bool {
        self.is_between
    }

    /// Whether another process may have led since the last pass: what this one remembers may be old. Asked once before each pass.
    pub const fn takes_over(&mut self) -> bool {
        std::mem::replace(&mut self.has_not_led, false)
    }

    /// Whether the last pass was dropped because another process leads.
    pub const fn has_lost_the_lead(&self) -> bool {
        self.has_not_led
    }

    /// When the schedule's next pass is due. What a long pass has overrun is not made up for.
    fn next_due(&self) -> Option<Instant> {
        let dice = rand::random();
        // In this order a time of a cron expression may come late by what lies between, and never early: it would come once more.
        let (clock, now) = (Timestamp::now(), Instant::now());
        let (from, delay) = match (self.started, &self.schedule) {
            (None, schedule) => (now, schedule.first_delay(clock, dice)),
            (Some((started, instant)), Schedule::Interval { .. }) => {
                (instant, self.schedule.delay_after(started, dice))
            }
            (Some(_), Schedule::Cron(_)) => (now, self.schedule.delay_after(clock, dice)),
        };
        Some(from + delay?)
    }

    /// Runs one pass in its span, and counts and times it. After the stop it has some seconds to end; then it is dropped where it stands, which every
    /// pass must survive anyway.
    pub async fn pass(&mut self, pass: impl Future<Output = PassOutcome>) -> PassOutcome {
        let span = tracing::info_span!("pass", number = self.number);
        let started = Instant::now();
        let outcome = async {
            let mut pass = std::pin::pin!(pass);
            let ended = tokio::select! {
                outcome = &mut pass => Ended::Pass(outcome),
                () = self.stop.cancelled() => Ended::Stop,
                () = lost(&mut self.leadership) => Ended::Leadership,
            };
            match ended {
                Ended::Pass(outcome) => outcome,
                Ended::Leadership => {
                    self.has_not_led = true;
                    tracing::warn!("pass was dropped: another replica leads now");
                    PassOutcome::Failed
                }
                Ended::Stop => timeout(GRACE, pass).await.unwrap_or_else(|_| {
                    tracing::warn!("pass was dropped: it did not end after the stop");
                    PassOutcome::Failed
                }),
            }
        };
        let outcome = outcome.instrument(span.clone()).await;
        let duration = started.elapsed();
        self.metrics.pass(outcome, duration);
        span.in_scope(|| tracing::info!(%outcome, seconds = duration.as_secs_f64(), "pass ended"));
        self.last = Some(outcome);
        outcome
    }

    /// How the process ends: with `once`, as its pass did; otherwise it was asked to stop, which is no failure.
    pub fn exit(&self) -> Exit {
        match self.last {
            Some(outcome) if self.once => outcome.into(),
            _ => Exit::Done,
        }
    }
}

/// What a pass came to an end by.
enum Ended {
    Pass(PassOutcome),
    Stop,
    Leadership,
}

/// Ends when the leadership does; never without one.
async fn lost(leadership: &mut Option<Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Whether this process leads, of several that are able to.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// See [`crate::kubernetes::lead`].
    pub standing: watch::Receiver<Standing>,
    /// Told while this process does not lead.
    pub admin: Admin,
    /// What it was told before that.
    before: Option<(bool, String)>,
}

impl Leadership {
    /// Nobody knows yet who leads.
    pub const fn new(standing: watch::Receiver<Standing>, admin: Admin) -> Self {
        Self { standing, admin, before: None }
    }

    async fn gained(&mut self) {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            match standing {
                Standing::Leads => return self.leads(),
                Standing::StandsBy => self.tells(true, "standing by: another replica leads"),
                Standing::Seeks(why) => self.tells(false, &why),
            }
            // The sender lives until the stop.
            if self.standing.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn tells(&mut self, ready: bool, why: &str) {
        self.before.get_or_insert_with(|| self.admin.readiness());
        self.admin.set_ready(ready, why);
    }

    /// The next pass may be long in coming: until then counts what was told last by the one who leads now, or that it was ready to.
    fn leads(&mut self) {
        let Some((was_ready, reason)) = self.before.take() else { return };
        if was_ready || !self.admin.readiness().0 {
            self.admin.set_ready(was_ready, reason);
        } else {
            self.admin.set_ready(true, "leads since a moment ago: the next pass comes by the schedule");
        }
    }

    async fn lost(&mut self) {
        if self.standing.wait_for(|standing| !standing.leads()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use kql::endpoint::ClusterEndpoint;
    use tokio::time::sleep;

    use super::*;
    use crate::runtime::{GuardReason, World};

    fn every(millis: u64) -> Schedule {
        Schedule::Interval { every: Duration::from_millis(millis) }
    }

    #[tokio::test]
    async fn once_is_one_pass_at_once_and_its_outcome() {
        for (outcome, exit) in [
            (PassOutcome::Done, Exit::Done),
            (PassOutcome::Unchanged, Exit::Done),
            (PassOutcome::Partial, Exit::Failed),
            (PassOutcome::Failed, Exit::Failed),
            (PassOutcome::Held, Exit::Held),
        ] {
            let world = World { once: true, ..World::new("test") };
            let mut cycle = world.cycle(every(3_600_000));
            let mut passes = 0;
            assert!(world.metrics.text().contains(&format!("passes_total{{outcome=\"{outcome}\"}} 0")));
            while cycle.next().await.is_some() {
                passes += 1;
                cycle.pass(async { outcome }).await;
            }
            assert_eq!((passes, cycle.exit()), (1, exit), "{outcome}");
            assert!(world.metrics.text().contains(&format!("passes_total{{outcome=\"{outcome}\"}} 1")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cycle_by_cron_waits_for_the_expressions_next_minute() {
        let world = World::new("test");
        let mut cycle = world.cycle(Schedule::Cron("*/5 * * * *".parse().unwrap()));
        // The pass before the last wait overruns a time of the expression: it is not made up for.
        for pass in [1, 400, 1] {
            // Only tokio's clock is paused: by the wall's, a pass takes no time.
            let (clock, started) = (Timestamp::now().as_second(), Instant::now());
            cycle.next().await.unwrap();
            let waited = started.elapsed();
            let seconds = i64::try_from(waited.as_secs()).unwrap();
            // It looked at the clock in between.
            let mut dues = (clock..=Timestamp::now().as_second()).map(|clock| 300 - clock % 300);
            assert!(dues.any(|due| (due - 1..=due + 1).contains(&seconds)), "waited {seconds} s from {clock} on");
            assert!(!waited.is_zero() && !cycle.is_between(), "a pass of the schedule's");
            let outcome = async {
                sleep(Duration::from_secs(pass)).await;
                PassOutcome::Done
            };
            cycle.pass(outcome).await;
        }
    }

    /// How long the passes of one agent wait, without the time that a pass takes.
    async fn waits(passes: usize) -> Vec<Duration> {
        let world = World::new("test");
        let mut cycle = world.cycle(every(600_000));
        let mut waits = Vec::new();
        for _ in 0..passes {
            let started = Instant::now();
            cycle.next().await.unwrap();
            waits.push(started.elapsed());
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn passes_come_up_to_a_quarter_early_and_no_two_agents_or_passes_by_the_same_time() {
        let agents = [waits(200).await, waits(200).await];
        let secs = |wait: &Duration| wait.as_secs_f64();
        for waits in &agents {
            // The timer counts whole milliseconds.
            assert!(waits[0] <= Duration::from_millis(2_001), "the first is soon: {:?}", waits[0]);
            let later = &waits[1..];
            assert!(later.iter().all(|wait| (449.99..=600.01).contains(&secs(wait))), "{later:?}");
            let mean = later.iter().map(secs).sum::<f64>() / later.len() as f64;
            // Spread over the whole quarter: the mean of 199 lies 16 standard deviations within, and an edge is missed with one chance in 10^9.
            assert!((475.0..575.0).contains(&mean), "{mean}");
            let near = |from: f64, to: f64| later.iter().any(|wait| (from..to).contains(&secs(wait)));
            assert!(near(449.0, 465.0) && near(585.0, 601.0), "{later:?}");
            let distinct: std::collections::BTreeSet<_> = later.iter().collect();
            assert!(distinct.len() > 150, "{} of 199 differ", distinct.len());
        }
        let same = agents[0].iter().zip(&agents[1]).filter(|(one, other)| one == other).count();
        assert!(same < 20, "two agents wait the same time {same} times of 200");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_may_be_followed_up_before_the_schedules_next_one_which_stays_where_it_was() {
        let world = World::new("test");
        let mut cycle = world.cycle(every(600_000));
        cycle.next().await.unwrap();
        let started = Instant::now();
        cycle.look_again_after(Duration::from_secs(50));
        cycle.look_again_after(Duration::from_secs(5));
        cycle.next().await.unwrap();
        assert_eq!((started.elapsed().as_secs(), cycle.is_between()), (5, true));
        cycle.look_again_after(Duration::from_secs(10));
        cycle.next().await.unwrap();
        assert_eq!((started.elapsed().as_secs(), cycle.is_between()), (15, true));
        // Nothing more is asked for, or later than the schedule has it.
        cycle.look_again_after(Duration::from_secs(601));
        cycle.next().await.unwrap();
        let regular = started.elapsed();
        assert!(!cycle.is_between() && (450..=600).contains(&regular.as_secs()), "{regular:?}");
        let started = Instant::now();
        cycle.next().await.unwrap();
        assert!(!cycle.is_between() && started.elapsed() >= Duration::from_secs(450), "a wish holds for one pass");
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_that_is_faster_than_the_wish_is_left_alone() {
        let world = World::new("test");
        let mut cycle = world.cycle(every(500));
        let started = Instant::now();
        for _ in 0..10 {
            cycle.next().await.unwrap();
            assert!(!cycle.is_between());
            cycle.look_again_after(Duration::from_secs(4));
        }
        assert!(started.elapsed() >= Duration::from_millis(9 * 375), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn passes_run_only_while_the_process_leads() {
        let world = World::new("test");
        let (standing, receiver) = watch::channel(Standing::StandsBy);
        let leadership = Leadership::new(receiver, world.admin.clone());
        let mut cycle = world.cycle(every(10)).led_by(Some(leadership));
        assert!(timeout(Duration::from_millis(100), cycle.next()).await.is_err(), "another leads");
        assert!(world.admin.readiness().1.contains("standing by"));
        // Nobody leads, as far as is known: that is not ready.
        standing.send_replace(Standing::Seeks("the lease cannot be read".to_owned()));
        assert!(timeout(Duration::from_millis(100), cycle.next()).await.is_err());
        assert_eq!(world.admin.readiness(), (false, "the lease cannot be read".to_owned()));
        standing.send_replace(Standing::Leads);
        cycle.next().await.unwrap();
        assert!(cycle.takes_over() && !cycle.takes_over());
        let europe = ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap();
        world.metrics.partition_heartbeat(&europe, Timestamp::UNIX_EPOCH);
        world.metrics.missed_heartbeats(&europe, 7);
        world.metrics.guard(GuardReason::MassExpiry, true);
        let outcome = cycle
            .pass(async {
                standing.send_replace(Standing::StandsBy);
                std::future::pending().await
            })
            .await;
        assert_eq!(outcome, PassOutcome::Failed, "it was dropped");
        let told = |sample: &str| world.metrics.text().contains(sample);
        assert!(told("guard_active{reason=\"mass_expiry\"} 1"));
        assert!(timeout(Duration::from_millis(100), cycle.next()).await.is_err());
        // What it saw is not told any more by whoever does not look; what it counted is.
        assert!(!told("guard_active{") && !told("last_heartbeat_timestamp_seconds{partition"));
        assert!(told("missed_heartbeats_total{partition=\"https://eu.kusto.windows.net\"} 7"));
        standing.send_replace(Standing::Leads);
        assert!(cycle.next().await.is_some());
        assert!(cycle.takes_over());
        cycle.pass(async { PassOutcome::Unchanged }).await;
        cycle.next().await.unwrap();
        assert!(!cycle.takes_over());
    }

    #[tokio::test]
    async fn passes_follow_one_another_until_the_stop_which_is_no_failure() {
        let world = World::new("test");
        let mut cycle = world.cycle(every(10));
        let mut passes = 0;
        while let Some(now) = cycle.next().await {
            assert!(now.duration_since(Timestamp::now()).abs() < jiff::SignedDuration::from_secs(60));
            passes += 1;
            cycle.pass(async { PassOutcome::Failed }).await;
            if passes == 3 {
                world.stop.cancel();
            }
        }
        assert_eq!((passes, cycle.exit()), (3, Exit::Done));
    }

    #[tokio::test]
    async fn a_pass_that_is_under_way_at_the_stop_may_end() {
        let world = World::new("test");
        let mut cycle = world.cycle(every(10));
        cycle.next().await.unwrap();
        let stop = world.stop.clone();
        let outcome = cycle
            .pass(async move {
                stop.cancel();
                sleep(Duration::from_millis(30)).await;
                PassOutcome::Done
            })
            .await;
        assert_eq!(outcome, PassOutcome::Done);
        assert_eq!(cycle.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_for_the_next_pass() {
        let world = World::new("test");
        let mut cycle = world.cycle(every(3_600_000));
        cycle.next().await.unwrap();
        let stop = world.stop.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            stop.cancel();
        });
        let started = Instant::now();
        assert_eq!(cycle.next().await, None);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
