//! What must hold for the calls, the histories and the results of runs, wherever the kills fell.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    expect::{self, Expected},
    known::Known,
    world::Seen,
};

/// No completed call is repeated, and a call that may be repeated is repeated once.
pub(super) fn check_calls(seen: &[Seen], known: &Known, context: &str) {
    let mut counts: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for call in seen {
        if let Some(life) = known.completed.get(&call.key) {
            assert!(call.life <= *life, "{context}: completed in life {life}, but repeated: {call:?}");
        }
        if let Some(life) = known.ended.get(call.run()) {
            let owed = |life: usize| known.unsubscribing.contains(&(call.run().to_owned(), life));
            let ends = call.place().contains("/unsubscribe/") && call.life.checked_sub(1).is_some_and(owed);
            assert!(
                call.life <= *life || ends,
                "{context}: a call after its run ended in life {life}: {call:?}"
            );
        }
        *counts.entry((&call.key, call.life)).or_default() += 1;
        let latest = last.entry(&call.key).or_default();
        *latest = call.life.max(*latest);
    }
    let mut repeated: BTreeMap<(&str, &str, usize), BTreeSet<&str>> = BTreeMap::new();
    for call in seen {
        let most = if call.place() == expect::FLAKY.0 { expect::FLAKY.1 } else { 1 };
        assert!(
            counts[&(call.key.as_str(), call.life)] <= most,
            "{context}: called too often in one life: {call:?}"
        );
        if last[call.key.as_str()] > call.life {
            let branch = (call.run(), expect::branch(call.place()), call.life);
            repeated.entry(branch).or_default().insert(&call.key);
        }
    }
    for (branch, keys) in repeated {
        assert!(keys.len() <= 1, "{context}: more than one call of {branch:?} was repeated: {keys:?}");
    }
}

/// A run made all its calls, each under one key, and ended as expected.
pub(super) fn check_run(expected: &Expected, run: &Value, calls: &[&Seen], context: &str) {
    assert_eq!(run["status"], expected.status, "{context}: {run}");
    let places: BTreeSet<&str> = calls.iter().map(|call| call.place()).collect();
    for place in expected.places.iter().filter(|place| !place.ends_with('?')) {
        assert!(places.contains(place), "{context}: {place} was not called; {places:?}");
    }
    for place in &places {
        let meant = expected.places.iter().any(|known| known.trim_end_matches('?') == *place);
        assert!(meant, "{context}: {place} was called");
    }
    for call in calls.iter().filter(|call| call.place() == "Total") {
        let body: Value = serde_json::from_str(&call.body).expect("it is JSON");
        assert_eq!(Some(&body), expected.total.as_ref(), "{context}");
    }
}

/// The history of a run that has ended: dense, in order, and each action in it ends once.
pub(super) fn check_history(events: &[Value], context: &str) {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let kinds: Vec<String> = events.iter().map(|event| text(event, "type")).collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "{context}: {event}");
    }
    assert_eq!(kinds.first().map(String::as_str), Some("run.started"), "{context}");
    assert_eq!(kinds.last().map(String::as_str), Some("run.completed"), "{context}: {kinds:?}");
    for once in ["run.started", "run.completed"] {
        assert_eq!(kinds.iter().filter(|kind| *kind == once).count(), 1, "{context}: {once}");
    }
    if let Some(waited) = kinds.iter().position(|kind| kind == "run.waiting") {
        let admitted = kinds.iter().position(|kind| kind == "run.admitted").unwrap_or(kinds.len());
        let early = kinds[waited..admitted].iter().find(|kind| kind.contains("action."));
        assert_eq!(early, None, "{context}: it did something before its turn came");
    }
    let mut begun: BTreeSet<(String, String)> = BTreeSet::new();
    let mut ended: BTreeSet<(String, String)> = BTreeSet::new();
    let mut latest = String::new();
    for event in events {
        let ts = text(event, "ts");
        assert!(comparable(&ts) >= comparable(&latest), "{context}: {latest} and then {event}");
        latest = ts;
        let Some(action) = event.get("action").and_then(Value::as_str) else { continue };
        let occurrence = (action.to_owned(), event["path"].to_string());
        match event["type"].as_str().unwrap() {
            "action.started" => {
                assert!(begun.insert(occurrence.clone()), "{context}: started twice: {event}");
            }
            "action.completed" | "action.skipped" => {
                assert!(ended.insert(occurrence.clone()), "{context}: ended twice: {event}");
            }
            _ => {}
        }
    }
    let open: Vec<_> = begun.difference(&ended).collect();
    assert!(open.is_empty(), "{context}: started but never ended: {open:?}");
}

/// A time that can be compared as text: fractions of a second have different lengths.
fn comparable(ts: &str) -> String {
    let (second, fraction) =
        ts.trim_end_matches('Z').split_once('.').unwrap_or((ts.trim_end_matches('Z'), ""));
    format!("{second}.{fraction:0<9}")
}

/// Where more runs of a workflow were in progress at the same time than its trigger admits: from the times of their starts and
/// ends.
pub(super) fn exceeds<'r>(name: &str, most: usize, runs: impl Iterator<Item = &'r Value>) -> Option<String> {
    let mut changes = Vec::new();
    for run in runs.filter(|run| run["workflow"] == name) {
        let time = |member: &str| comparable(run[member].as_str().unwrap_or_default());
        // Runs that waited for the end of another start in the same millisecond, at the earliest.
        changes.push((time("startTime"), 1));
        changes.push((time("endTime"), -1));
    }
    changes.sort();
    let mut inside = 0;
    for (at, change) in changes {
        inside += change;
        if inside > most as i32 {
            return Some(format!("{name} admits {most} runs, {inside} were in progress at {at}"));
        }
    }
    None
}
