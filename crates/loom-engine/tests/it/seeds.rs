//! Which seeds a simulation plays, and the seed in the output when one fails.

/// The seeds to play: `LOOM_SIM_SEED` names one, `LOOM_SIM_SEEDS` says how many, and `count` is played otherwise.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "whoever looks for a failure says where")]
    let (one, many) = (std::env::var("LOOM_SIM_SEED"), std::env::var("LOOM_SIM_SEEDS"));
    let number =
        |text: String| text.parse::<u64>().expect("a seed, and a number of seeds, is a whole number");
    match (one.map(number), many.map(number)) {
        (Ok(seed), _) => seed..seed + 1,
        (_, Ok(many)) => 0..many,
        _ => 0..count,
    }
}

/// Plays `simulation` for each seed in paused time, on one thread.
pub(crate) fn play<F: Future<Output = ()>>(seeds: std::ops::Range<u64>, simulation: impl Fn(u64) -> F) {
    for seed in seeds {
        let _told = Told(seed);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(simulation(seed));
    }
}

/// Says which seed it was, when the test fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("LOOM_SIM_SEED={} plays this again", self.0);
        }
    }
}
