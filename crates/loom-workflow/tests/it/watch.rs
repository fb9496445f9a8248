//! Clients of an event stream that disconnect and reconnect.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use crate::{loom, served::Loom};

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

/// Responds to one request after the other; returns the `last-event-id` of each.
fn respond(listener: &TcpListener, responses: &[String]) -> Vec<String> {
    let position = |response: &String| {
        let (connection, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&connection);
        let mut after = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(id) = line.to_ascii_lowercase().strip_prefix("last-event-id:") {
                id.trim().clone_into(&mut after);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        (&connection).write_all(response.as_bytes()).unwrap();
        after
    };
    responses.iter().map(position).collect()
}

#[test]
fn runs_watch_reconnects_after_its_last_event() {
    let event = |seq: u32, kind: &str, data: &str| {
        format!(
            "id: {seq}\nevent: {kind}\ndata: {{\"seq\": {seq}, \"type\": \"{kind}\", \"data\": {{{data}}}}}\n\n"
        )
    };
    let stream =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 5\n\n";
    let (first, second) = (event(1, "run.suspended", ""), event(2, "run.resumed", ""));
    let last = event(3, "run.completed", "\"status\": \"Cancelled\"");
    let responses = [
        // Breaks in the middle of an event.
        format!("{stream}{first}{}", &second[..20]),
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        // Sends an event again.
        format!("{stream}{first}{second}"),
        format!("{stream}: still here\n\n{last}"),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || respond(&listener, &responses));
    let watched = loom(&["runs", "watch", "0000000000001", "--json", "--server", &address]);
    assert_eq!(server.join().unwrap(), ["0", "1", "1", "2"]);
    assert_eq!(watched.code, Some(4), "{}", watched.stderr);
    let seen: Vec<&str> = watched.stdout.lines().map(|line| &line[..8]).collect();
    assert_eq!(seen, ["{\"seq\":1", "{\"seq\":2", "{\"seq\":3"]);
}
