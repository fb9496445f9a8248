//! A client of an event stream that disconnects and reconnects repeatedly.

use crate::served::Loom;

#[test]
fn a_client_that_reconnects_twenty_times_sees_every_event_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("long.json");
    let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Each": {"type": "Foreach", "foreach": "@range(0, 30)", "operationOptions": "Sequential", "runAfter": {}, "actions": {
            "Give": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}},
        "Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}, "runAfter": {"Each": ["Succeeded"]}},
        "Last": {"type": "Compose", "inputs": 1, "runAfter": {"Pause": ["Succeeded"]}}}}"#;
    std::fs::write(&file, definition).unwrap();
    let data = directory.path().join("data");
    let loom = Loom::serve(&[file.as_os_str(), "--data".as_ref(), data.as_os_str()]);
    let answer = loom.request("POST", "/workflows/long/triggers/manual/invoke", b"").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    let mut events: Vec<(u64, String)> = Vec::new();
    for visit in 0..20 {
        // The last connection stays until the stream ends.
        let most = if visit < 19 { 3 } else { usize::MAX };
        let after = events.last().map_or(0, |(seq, _)| *seq);
        events.extend(loom.stream(&format!("/api/v1/runs/{run}/events"), after, most));
    }
    let numbers: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.len() > 60, "{numbers:?}");
    assert_eq!(events.first().unwrap().1, "run.started");
    let ends = events.iter().filter(|(_, kind)| kind == "run.completed").count();
    assert_eq!((ends, events.last().unwrap().1.as_str()), (1, "run.completed"));
}
