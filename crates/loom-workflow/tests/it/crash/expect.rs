//! The expected result of each workflow of the crash test, however often it is interrupted.

use serde_json::{Value, json};

/// One workflow.
pub(super) struct Expected {
    pub(super) name: &'static str,
    pub(super) status: &'static str,
    /// Positions that make at least one call each; those with `?` may make none.
    pub(super) places: &'static [&'static str],
    /// The body of the last call, which proves that variables and outputs are neither lost nor counted twice.
    pub(super) total: Option<Value>,
}

/// Calls that may be made three times because the service requests a retry.
pub(super) const FLAKY: (&str, usize) = ("Flaky", 3);

/// Workflows whose triggers have a concurrency limit, which refuse requests while too many runs wait.
pub(super) const LIMITED: [(&str, usize); 2] = [("gate", 3), ("desk", 6)];

/// Workflows that are started by others.
pub(super) const CALLED: [(&str, &str); 2] = [("child", "parent"), ("slow", "patron")];

/// All workflows. Those in [`CALLED`] are started by other workflows, the others by requests.
pub(super) fn all() -> [Expected; 17] {
    let of = |name, status, places, total| Expected { name, status, places, total };
    [
        of(
            "calls",
            "Succeeded",
            &[
                "First", "Flaky", "Item/0", "Item/1", "Item/2", "Item/3", "Step/0", "Step/1", "Step/2",
                "Total",
            ],
            Some(json!({"number": 3, "length": 4})),
        ),
        of(
            "blocks",
            "Succeeded",
            &[
                "Deep",
                "Ask/0",
                "Ask/1",
                "In_while/0",
                "In_while/1",
                "In_do/0",
                "In_do/1",
                "Left_first",
                "Left_then",
                "Right_first",
                "Right_then",
                "At_last/0",
                "At_last/1",
                "Total",
            ],
            Some(json!({"rounds": 4})),
        ),
        of("parent", "Succeeded", &["Before", "Total"], Some(json!({"answer": 21}))),
        of("child", "Succeeded", &["Work", "Tidy"], None),
        of("hook", "Succeeded", &["Hook", "Hook/unsubscribe/1?", "Total"], Some(json!({"heard": true}))),
        of("answer", "Succeeded", &["Before", "Later"], None),
        of("stop", "Failed", &["Total"], Some(json!({"pretended": 5}))),
        // An open circuit refuses calls, so each of these may be missing.
        of("broken", "Succeeded", &["Try/0?", "Try/1?", "Try/2?", "Total"], Some(json!({"failed": 1}))),
        of(
            "own",
            "Succeeded",
            &["Stamp", "Counter", "Function", "Connector", "Total"],
            Some(json!({"chosen": 2, "text": "1-2"})),
        ),
        // The others are parked while they wait.
        of("rest", "Succeeded", &["Before", "Total"], Some(json!({"rested": true}))),
        of("patient", "Succeeded", &["Hook", "Hook/unsubscribe/1?", "Total"], Some(json!({"heard": true}))),
        of("patron", "Succeeded", &["Total"], Some(json!({"answer": 21}))),
        of("slow", "Succeeded", &["Work"], None),
        // One signal, which arrives close to the deadline of the first wait for it.
        of("race", "Succeeded", &["Total"], Some(json!({"received": 1}))),
        of("order", "Cancelled", &["First?"], None),
        of("gate", "Succeeded", &["Enter", "Leave"], None),
        of("desk", "Succeeded", &["Enter", "Leave"], None),
    ]
}

/// The branch of a run that a position belongs to; within a branch, actions run one after the other.
pub(super) fn branch(place: &str) -> &str {
    if place.starts_with("Item/") || place.contains("/unsubscribe/") {
        place
    } else if place.starts_with("Left_") {
        "left"
    } else if place.starts_with("Right_") {
        "right"
    } else {
        "main"
    }
}
