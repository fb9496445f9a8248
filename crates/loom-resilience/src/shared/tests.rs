//! A limit that several processes take from, in a simulated second by second.

use std::time::Duration;

use super::SharedLimit;
use crate::{Limit, LimiterConfig};

const AT: Duration = Duration::from_secs(1_700_000_000);

const EARLIER: Duration = Duration::from_secs(1_699_999_970);

/// Three processes whose clocks differ by up to two milliseconds want everything, for ten seconds.
fn granted(config: &LimiterConfig, share: bool) -> u32 {
    let mut states: [Option<SharedLimit>; 3] = [None, None, None];
    let mut granted = 0;
    for step in 0..5_000_u64 {
        let process = (step % 3) as usize;
        let now = AT + Duration::from_millis(2 * step + (step % 3));
        let at = if share { 0 } else { process };
        let (next, grant) = SharedLimit::take(states[at].as_ref(), config, 7, now);
        states[at] = Some(next);
        granted += grant.permits;
    }
    granted
}

#[test]
fn processes_that_share_a_limit_get_no_more_than_one() {
    for (limit, most) in [
        (Limit::per_second(100).burst(10), 1_000 + 10),
        (Limit::per_second(3).burst(1), 30 + 1),
        (Limit::window(50, Duration::from_secs(1)), 50 * 11),
        (Limit::new(1, Duration::from_secs(7)).burst(2), 2 + 1),
    ] {
        let config = LimiterConfig::new(limit);
        let together = granted(&config, true);
        assert!(together <= most, "{limit}: {together}");
        // They get nearly all of it, too.
        assert!(together * 10 >= most * 8, "{limit}: {together}");
        // The control: without sharing they get more.
        assert!(granted(&config, false) > most, "{limit}");
    }
}

#[test]
fn consumption_survives_a_change_of_the_limit_and_a_clock_that_goes_back() {
    let config = LimiterConfig::new(Limit::per_second(10).burst(10));
    let (state, grant) = SharedLimit::take(None, &config, 10, AT);
    assert_eq!(grant.permits, 10);
    let (state, grant) = SharedLimit::take(Some(&state), &config, 1, EARLIER);
    assert_eq!(grant.permits, 0);
    // It does not get back what it had by going back and forth.
    let (state, grant) = SharedLimit::take(Some(&state), &config, 1, AT);
    assert_eq!(grant.permits, 0);
    let wider = LimiterConfig::new(Limit::per_second(20).burst(20));
    let (_, grant) = SharedLimit::take(Some(&state), &wider, 20, AT);
    assert_eq!(grant.permits, 10, "ten of the twenty are spent");
}
