//! Writes the binary seeds of the fuzz targets: the frames of a run, and snapshots of its state.
//!
//! Run `cargo run -p loom-testkit --example seeds` in the root directory of the repository.

use std::{fs, path::Path, sync::Arc};

use loom_engine::{
    Environment, Outcome, RunId, RunStart,
    event::{EffectResult, ErrorInfo, RetryHint},
    journal,
    simulate::Simulation,
};
use loom_expression::{Timestamp, Value};
use loom_testkit::fuzz;

fn main() -> std::io::Result<()> {
    let now = Timestamp::from_unix_millis(1_709_294_400_000);
    let start = RunStart {
        run: RunId::MIN,
        seed: 7,
        parameters: Vec::new(),
        trigger: Value::from_json_str(r#"{"outputs": {"body": [1, {"a": "text", "b": [1.5, null, true]}]}}"#)
            .expect("it is JSON"),
        workflow: Value::from_json_str(r#"{"name": "workflow"}"#).expect("it is JSON"),
        tracking_id: "tracked".into(),
        wants_response: true,
        trace: None,
        depth: 1,
    };
    let seeds = Path::new("fuzz/seeds");
    let mut simulation = Simulation::new(Arc::clone(fuzz::workflow()), Arc::new(Environment::default()), now);
    let mut calls = 0;
    simulation.play(Arc::new(start), 1_000, |_| {
        calls += 1;
        let outcome = match calls {
            1 => Outcome::failed("ServiceUnavailable", ErrorInfo::new("Unavailable", "it is not there")),
            _ => Outcome::ok(Some(Value::from("a response"))),
        };
        EffectResult::Done { outcome, hint: RetryHint { transient: calls == 1, ..RetryHint::default() } }
    });
    let events = simulation.events().to_vec();
    let mut frame = Vec::new();
    journal::encode(&events, &mut frame);
    fs::write(seeds.join("journal/run"), frame)?;
    for (name, share) in [("begun", 3), ("halfway", 2), ("ended", 1)] {
        let mut state = loom_engine::RunState::new(Arc::clone(fuzz::workflow()));
        state.replay(&events[..events.len() / share]).expect("the history is legal");
        fs::write(seeds.join("snapshot").join(name), journal::encode_snapshot(&state))?;
    }
    Ok(())
}
