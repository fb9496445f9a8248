//! A server that is asked to stop while calls are in flight.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
use std::{
    ffi::OsStr,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::{
    file,
    served::{Loom, Service},
};

/// The maximum time for a process to exit.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service that does not respond until it is opened.
struct Slow {
    service: Service,
    calls: Arc<AtomicUsize>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Slow {
    fn start() -> Slow {
        let calls = Arc::new(AtomicUsize::new(0));
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let (counted, door) = (Arc::clone(&calls), Arc::clone(&open));
        let service = Service::start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (lock, changed) = &*door;
            drop(changed.wait_while(lock.lock().unwrap(), |open| !*open).unwrap());
            (200, json!({}))
        });
        Slow { service, calls, open }
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Two calls, one after the other.
fn definition(test: &str, service: &str) -> PathBuf {
    let call = |name: &str, after: &str| {
        format!(
            r#""{name}": {{"type": "Http", "inputs": {{"method": "POST", "uri": "{service}/{name}", "retryPolicy": {{"type": "none"}}}}, "runAfter": {after}}}"#
        )
    };
    let (first, second) = (call("First", "{}"), call("Second", r#"{"First": ["Succeeded"]}"#));
    let text =
        format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{first}, {second}}}}}"#);
    file(test, "slow.json", &text)
}

fn serve(test: &str, slow: &Slow, options: &[&str]) -> Loom {
    let flow = definition(test, &slow.service.address);
    let data = flow.with_file_name("data");
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("--data"), data.as_os_str()];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(flow.as_os_str());
    Loom::serve(&arguments)
}

/// A server with one call in flight, and the run that made it.
fn in_flight(test: &str, slow: &Slow, options: &[&str]) -> (Loom, String) {
    drop(std::fs::remove_dir_all(definition(test, "").with_file_name("data")));
    let loom = serve(test, slow, options);
    let answer = loom.request("POST", "/workflows/slow/triggers/manual/invoke", b"").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    while slow.calls() == 0 {
        crate::served::pause(Duration::from_millis(5));
    }
    (loom, run)
}

#[test]
fn calls_in_flight_finish_before_the_server_exits_and_are_not_repeated() {
    let slow = Slow::start();
    let (loom, run) = in_flight("drained", &slow, &[]);
    loom.terminate();
    // The port still responds, and `/readyz` says that nothing new is accepted.
    loom.until("/readyz", |answer| answer.status == 503);
    assert_eq!(loom.request("GET", "/healthz", b"").unwrap().status, 200);
    assert_eq!(loom.get(&format!("/api/v1/runs/{run}"))["status"], "Running");
    assert_eq!(loom.request("POST", "/workflows/slow/triggers/manual/invoke", b"").unwrap().status, 503);
    slow.open();
    assert_eq!(loom.exit_within(PATIENCE), Some(0));
    assert_eq!(slow.calls(), 1, "the next action waits for the next process");

    let again = serve("drained", &slow, &[]);
    assert_eq!(again.end_of(&run), "Succeeded");
    assert_eq!(slow.calls(), 2, "the first call is not repeated");
}

#[test]
fn the_time_for_calls_in_flight_is_bounded() {
    let slow = Slow::start();
    let (loom, run) = in_flight("drained-bound", &slow, &["--drain", "0s"]);
    loom.terminate();
    assert_eq!(loom.exit_within(PATIENCE), Some(0));
    slow.open();
    let again = serve("drained-bound", &slow, &[]);
    assert_eq!(again.end_of(&run), "Succeeded");
    assert_eq!(slow.calls(), 3, "the interrupted call is repeated");
}

#[test]
fn a_second_signal_exits_immediately() {
    let slow = Slow::start();
    let (loom, _) = in_flight("drained-twice", &slow, &["--drain", "1h"]);
    loom.terminate();
    loom.until("/readyz", |answer| answer.status == 503);
    kill_process(loom.pid(), Signal::INT).unwrap();
    assert_eq!(loom.exit_within(PATIENCE), Some(130));
}
