//! Callback URLs: what they identify, and that nothing a run exposes reveals one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, model::EffectKind};
use loom_engine::{
    Callbacks, Command, Delivered, Environment, RunRequest, Started, event::Phase, ports::ActionHandler,
};
use loom_store::MemoryStore;

use crate::support::{Service, engine, json, ok, play, unavailable, workflow};

/// A second attempt to subscribe sends the same callback URL as the first one.
#[tokio::test(start_paused = true)]
async fn a_retried_subscription_keeps_its_callback_url() {
    let hook = r#"{
        "Hook": {"type": "HttpWebhook", "runAfter": {}, "inputs": {
            "subscribe": {"method": "POST", "uri": "http://s/on", "body": "@listCallbackUrl()",
                "retryPolicy": {"type": "fixed", "count": 2, "interval": "PT10S"}},
            "unsubscribe": {"method": "POST", "uri": "http://s/off", "body": "@listCallbackUrl()"}}},
        "Rest": {"type": "Wait", "runAfter": {"Hook": ["Succeeded"]}, "inputs": {"interval": {"count": 1, "unit": "Day"}}}}"#;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    let service = Service::new(move |call, number| {
        let sent = match call.phase {
            Phase::Unsubscribe => call.inputs.get("body").cloned(),
            _ => call.inputs.get("subscribe").and_then(|subscribe| subscribe.get("body").cloned()),
        };
        shared.lock().unwrap().push(sent.unwrap_or_default().text().into_owned());
        (Duration::ZERO, if number == 1 { unavailable() } else { ok(r#"{"statusCode": 200}"#) })
    });
    let callbacks = Callbacks::new("http://here/callbacks", [3; 32]);
    let engine = engine(&service)
        .handler(EffectKind::HttpWebhook, Arc::clone(&service) as Arc<dyn ActionHandler>)
        .environment(Environment { callbacks: Some(callbacks.clone()), ..Environment::default() })
        .store(Arc::new(MemoryStore::default()))
        .build();
    let request = RunRequest::manual(workflow(hook), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    let mut run = runs.remove(0);
    while service.count() < 2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let address = seen.lock().unwrap()[1].clone();
    assert_eq!(seen.lock().unwrap()[0], address);
    let token = address.rsplit_once('/').unwrap().1;
    let (named, effect) = callbacks.recognize(token).expect("the address is ours");
    assert_eq!(named, run.id);
    assert_eq!(engine.deliver(run.id, effect, json("{}")).await, Delivered::Taken);
    // The service repeats the callback while the run does something else.
    assert_eq!(engine.deliver(run.id, effect, json("{}")).await, Delivered::NotAwaited);
    while service.count() < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(seen.lock().unwrap()[2], address, "the subscription is ended under the same address");
    assert_eq!(run.ended().await.map(|report| report.status), Some(RunStatus::Succeeded));
    assert!(!engine.command(run.id, Command::Cancel).await);
    assert_eq!(engine.deliver(run.id, effect, json("{}")).await, Delivered::NotInProgress);
    engine.shut_down().await;
}

/// One step of SplitMix64; `unmix` is its inverse.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unmix(mut z: u64) -> u64 {
    let unshift = |z: u64, by: u32| (0..64 / by).fold(z, |found, _| z ^ (found >> by));
    z = unshift(z, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = unshift(z, 27).wrapping_mul(0x96de_1b17_3f11_9089);
    unshift(z, 30).wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

/// With an invertible generator, one drawn number reveals the next one. Here it does not.
#[test]
fn a_drawn_number_does_not_reveal_the_next() {
    assert_eq!(unmix(mix(0x1234_5678_9abc_def0)), 0x1234_5678_9abc_def0);
    let draws = r#"{"Draw": {"type": "Compose", "runAfter": {}, "inputs": ["@guid()", "@guid()"]}}"#;
    let drawn = play(draws).outputs("Draw");
    let halves: Vec<(u64, u64)> = drawn
        .as_array()
        .unwrap()
        .iter()
        .map(|guid| u128::from_str_radix(&guid.text().replace('-', ""), 16).unwrap())
        .map(|guid| ((guid >> 64) as u64, guid as u64))
        .collect();
    // A UUID hides four bits of one half and two of the other; an attacker tries all combinations.
    let version = |bits: u64| (0..16).map(move |hidden| bits & !0xf000 | hidden << 12);
    let variant = |bits: u64| (0..4).map(move |hidden| bits & !(3 << 62) | hidden << 62);
    // An earlier version computed each half as `mix(base ^ draw)`, with the same base.
    let mut bases = version(halves[0].0).map(unmix);
    let other: Vec<u64> = variant(halves[0].1).map(|half| unmix(half) ^ 1).collect();
    assert!(bases.all(|base| !other.contains(&base)), "{drawn:?} shows where it comes from");
    assert_eq!(play(draws).outputs("Draw"), drawn, "the same run draws the same");
    assert_ne!(halves[0], halves[1]);
}

/// The service may have accepted a subscription although no response arrived. One that rejected it has nothing to end.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_failed_without_a_response_is_ended() {
    let hook = r#"{"Hook": {"type": "HttpWebhook", "runAfter": {}, "inputs": {
        "subscribe": {"method": "POST", "uri": "http://s/on", "body": "@listCallbackUrl()", "retryPolicy": {"type": "none"}},
        "unsubscribe": {"method": "POST", "uri": "http://s/off", "body": "@listCallbackUrl()"}}}}"#;
    for (status, ended) in [(None, true), (Some(503), true), (Some(404), false)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let service = Service::new(move |call, _| {
            shared.lock().unwrap().push(call.phase);
            let mut failed = unavailable();
            if let loom_engine::event::EffectResult::Done { outcome, .. } = &mut failed {
                outcome.outputs = status.map(|status| json(&format!(r#"{{"statusCode": {status}}}"#)));
            }
            (Duration::ZERO, failed)
        });
        let engine = engine(&service)
            .handler(EffectKind::HttpWebhook, Arc::clone(&service) as Arc<dyn ActionHandler>)
            .environment(Environment {
                callbacks: Some(Callbacks::new("http://here/callbacks", [3; 32])),
                ..Environment::default()
            })
            .store(Arc::new(MemoryStore::default()))
            .build();
        let report = engine.run(RunRequest::manual(workflow(hook), Vec::new(), None)).await.unwrap().unwrap();
        assert_eq!(report.status, RunStatus::Failed);
        engine.shut_down().await;
        let expected = [Phase::Subscribe, Phase::Unsubscribe];
        assert_eq!(*seen.lock().unwrap(), expected[..if ended { 2 } else { 1 }], "{status:?}");
    }
}
