//! Selects the seeds of a simulation, and prints the seed of a failure.

use std::panic::{self, AssertUnwindSafe};

use tokio::runtime::Runtime;

/// The seeds to run: `LOOM_SIM_SEED` selects one, `LOOM_SIM_SEEDS` their number; the default number is `count`.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "the seeds of a test are set from outside")]
    let (one, many) = (std::env::var("LOOM_SIM_SEED"), std::env::var("LOOM_SIM_SEEDS"));
    let number =
        |text: String| text.parse::<u64>().expect("a seed, and a number of seeds, is a whole number");
    match (one.map(number), many.map(number)) {
        (Ok(seed), _) => seed..seed + 1,
        (_, Ok(many)) => 0..many,
        _ => 0..count,
    }
}

/// Runs `simulation` for each seed in paused time, on one thread.
pub(crate) fn play<F: Future<Output = ()>>(seeds: std::ops::Range<u64>, simulation: impl Fn(u64) -> F) {
    for seed in seeds {
        let _told = Told(seed);
        runtime().block_on(simulation(seed));
    }
}

/// The control of a simulation from which a protection was taken out: the number of seeds that fail.
pub(crate) fn failing<F: Future<Output = ()>>(count: u64, simulation: impl Fn(u64) -> F) -> usize {
    let fails = |seed: &u64| {
        let played = AssertUnwindSafe(|| runtime().block_on(simulation(*seed)));
        panic::catch_unwind(played).is_err()
    };
    (0..count).filter(fails).count()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Prints the seed when the test fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("set LOOM_SIM_SEED={} to repeat this", self.0);
        }
    }
}
