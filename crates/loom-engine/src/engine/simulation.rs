//! Whole engines under thousands of seeds: processes come and go, runs leave memory and return, and what happens to them comes at
//! any time. The order in which a run receives it, and what runs own, are compared with rules that know nothing of the engine.
//!
//! Each law has a control: with one protection taken out, some seeds break it.

mod busy;
mod consumed;
mod order;
mod ownership;

use std::{sync::Arc, time::Duration};

use loom_definition::{Definition, LoadOptions, Workflow};
use loom_expression::Timestamp;
use loom_store::contract::Seeded;

use crate::shared::faults::Faults;

/// The time at which each simulation begins.
fn begin() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

/// Takes a protection out of an engine.
type Break = fn(&Faults);

/// Nothing is taken out.
fn whole(_: &Faults) {}

fn parse(text: &str) -> Arc<Workflow> {
    let options = LoadOptions { name: Some("w".into()), ..LoadOptions::default() };
    Definition::parse(text.as_bytes(), &options).expect("the definition is valid").workflow
}

/// Times at which a process is running, in milliseconds from the beginning: each from a start up to a stop. The last one does not
/// stop.
#[derive(Debug)]
struct Lives(Vec<(u64, u64)>);

impl Lives {
    fn draw(random: &mut Seeded, count: u64, longest: u64) -> Lives {
        let (mut lives, mut at) = (Vec::new(), 0);
        for life in 0..=count {
            let stop = if life == count { u64::MAX } else { at + 1_000 * (1 + random.below(longest)) };
            lives.push((at, stop));
            at = stop.saturating_add(1_000 * (1 + random.below(longest)));
        }
        Lives(lives)
    }

    fn is_up(&self, at: u64) -> bool {
        self.0.iter().any(|(start, stop)| (*start..*stop).contains(&at))
    }

    /// The first time from `at` on at which a process is running.
    fn next_up(&self, at: u64) -> u64 {
        let next = self.0.iter().find(|(_, stop)| at < *stop).expect("the last one does not stop");
        at.max(next.0)
    }
}

/// How long runs of a process wait in memory; none keeps them there.
fn park_after(random: &mut Seeded) -> Option<Duration> {
    [None, Some(1), Some(1), Some(10)][random.below(4) as usize].map(Duration::from_secs)
}

/// Plays seeds in paused time, and returns the first broken law of each that has one.
fn play<F: Future<Output = Result<(), String>>>(
    seeds: std::ops::Range<u64>,
    simulation: impl Fn(u64) -> F,
) -> Vec<String> {
    let broken = seeds.filter_map(|seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let played = runtime.expect("a runtime").block_on(simulation(seed));
        played.err().map(|why| format!("seed {seed}: {why}"))
    });
    broken.collect()
}
