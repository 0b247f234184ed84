//! Our own rule of what is sent again: a decision over values. The default rule of Azure's pipeline would send every request again, ingestion and
//! commands too. No I/O.

use std::time::Duration;

use super::error::Failure;

/// How often a request is sent again at most.
pub(super) const MAX_REPEATS: u32 = 2;

/// A server that wants a longer pause gets it by our giving up: the next pass asks again.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long to wait before the request is sent again; `None`: not again.
///
/// `repeatable`: sending the request twice has the same end as sending it once. `repeats`: how often it was sent again so far. `dice` in `0.0..1.0`
/// spreads clients that failed together.
pub(super) fn pause(failure: &Failure, repeatable: bool, repeats: u32, first: Duration, dice: f64) -> Option<Duration> {
    if repeats >= MAX_REPEATS {
        return None;
    }
    let backoff = first.saturating_mul(1 << repeats).mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0);
    match failure {
        // Certainly not executed: anything may be sent again.
        Failure::Transport { maybe_received: false, .. } => Some(backoff),
        Failure::Throttled { retry_after } => match retry_after {
            Some(pause) if *pause > LONGEST_PAUSE => None,
            Some(pause) => Some((*pause).max(backoff)),
            None => Some(backoff),
        },
        // Perhaps executed.
        Failure::Transport { maybe_received: true, .. }
        | Failure::Incomplete { .. }
        | Failure::Rejected { permanent: false, .. }
        // A gateway's page, while the cluster behind it restarts.
        | Failure::NotKusto { status: 500.., .. } => repeatable.then_some(backoff),
        // A time-out has used up the time that the caller had; the rest fails again the same way.
        Failure::TimedOut { .. }
        | Failure::Credential(_)
        | Failure::Unauthorized { .. }
        | Failure::Rejected { permanent: true, .. }
        | Failure::TooLarge { .. }
        | Failure::NotKusto { .. }
        | Failure::Redirected { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);

    fn failures() -> Vec<(Failure, bool, bool)> {
        let rejected = |permanent| Failure::Rejected { status: 500, code: "c".into(), message: "m".into(), permanent };
        // The failure; whether a repeatable request is sent again; whether any other is.
        vec![
            (Failure::Throttled { retry_after: None }, true, true),
            (Failure::Incomplete { why: "cut".into() }, true, false),
            (rejected(false), true, false),
            (rejected(true), false, false),
            (Failure::TimedOut { after: FIRST }, false, false),
            (Failure::Unauthorized { status: 403, message: "no".into() }, false, false),
            (Failure::TooLarge { limit: 1 }, false, false),
            (Failure::NotKusto { status: 200, why: "html".into() }, false, false),
            (Failure::NotKusto { status: 502, why: "html".into() }, true, false),
            (Failure::Redirected { status: 302 }, false, false),
        ]
    }

    #[test]
    fn only_what_is_safe_and_may_help_is_sent_again() {
        for (failure, repeatable, other) in failures() {
            assert_eq!(pause(&failure, true, 0, FIRST, 0.0).is_some(), repeatable, "{failure:?}");
            assert_eq!(pause(&failure, false, 0, FIRST, 0.0).is_some(), other, "{failure:?}");
        }
    }

    #[test]
    fn nothing_is_sent_more_than_three_times() {
        for (failure, ..) in failures() {
            assert_eq!(pause(&failure, true, MAX_REPEATS, FIRST, 0.0), None, "{failure:?}");
        }
    }

    #[test]
    fn pauses_double_and_spread_over_their_upper_half() {
        let failure = Failure::Incomplete { why: "cut".into() };
        let millis = |repeats, dice| pause(&failure, true, repeats, FIRST, dice).unwrap().as_millis();
        assert_eq!((millis(0, 0.0), millis(0, 1.0)), (500, 1_000));
        assert_eq!((millis(1, 0.0), millis(1, 1.0)), (1_000, 2_000));
    }

    #[test]
    fn the_servers_wish_is_met_or_we_give_up() {
        let wish = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            pause(&Failure::Throttled { retry_after }, true, 0, FIRST, 1.0)
        };
        assert_eq!(wish(0), Some(FIRST));
        assert_eq!(wish(7), Some(Duration::from_secs(7)));
        assert_eq!(wish(31), None);
    }
}
