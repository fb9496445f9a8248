//! The real binary on a full disk: accepted requests are safe, new ones are rejected, and it continues automatically when there
//! is space.
//!
//! A file size limit stands in for the disk. It can be set on a running process, and removed again, without being root.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use loom_store::{SqliteOptions, SqliteStore, prelude::*};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::served::{Answer, Loom, Service, request};

/// A service that delays its responses until it is opened, and counts calls by their keys.
#[derive(Default)]
struct Held {
    open: Mutex<bool>,
    news: Condvar,
    calls: Mutex<BTreeMap<String, usize>>,
}

impl Held {
    fn start(self: &Arc<Self>) -> Service {
        let held = Arc::clone(self);
        Service::start(move |request| {
            // A structured header: a string in quotes.
            let key = request.header("idempotency-key").unwrap_or_default().trim_matches('"').to_owned();
            *held.calls.lock().unwrap().entry(key).or_default() += 1;
            held.news.notify_all();
            let open = held.open.lock().unwrap();
            drop(held.news.wait_while(open, |open| !*open).unwrap());
            (200, json!({"done": true}))
        })
    }

    fn called(&self) {
        drop(self.news.wait_while(self.calls.lock().unwrap(), |calls| calls.is_empty()).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.news.notify_all();
    }
}

fn workflows(directory: &Path, service: &str) {
    fs::create_dir_all(directory).unwrap();
    let call = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Call": {"type": "Http", "inputs": {"method": "POST", "uri": format!("{service}/work"), "retryPolicy": {"type": "none"}}, "runAfter": {}},
        "After": {"type": "Compose", "inputs": "@body('Call')['done']", "runAfter": {"Call": ["Succeeded"]}}}});
    let note = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Note": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}});
    let ask = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Call": {"type": "Http", "inputs": {"method": "POST", "uri": format!("{service}/work"), "retryPolicy": {"type": "none"}}, "runAfter": {}},
        "Answer": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "@body('Call')['done']"}, "runAfter": {"Call": ["Succeeded"]}}}});
    fs::write(directory.join("ask.json"), ask.to_string()).unwrap();
    fs::write(directory.join("call.json"), call.to_string()).unwrap();
    fs::write(directory.join("note.json"), note.to_string()).unwrap();
}

fn serve(directory: &Path) -> Loom {
    let (workflows, data) = (directory.join("workflows"), directory.join("data"));
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), workflows.as_os_str(), "--data".as_ref(), data.as_os_str()];
    Loom::serve(&arguments)
}

/// Sets or removes the limit: with it, nothing can be written beyond the first page of any file.
fn room(loom: &Loom, is_there: bool) {
    let limit = Rlimit { current: (!is_there).then_some(4_096), maximum: None };
    prlimit(Some(loom.pid()), Resource::Fsize, limit).unwrap();
}

fn fire(loom: &Loom, workflow: &str) -> Answer {
    let path = format!("/workflows/{workflow}/triggers/manual/invoke");
    loom.request("POST", &path, br#"{"n": 1}"#).expect("the server responds")
}

fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.header("x-ms-workflow-run-id").unwrap()
}

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("StoreUnavailable"), "{answer:?}");
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
}

fn runs(loom: &Loom) -> Vec<Value> {
    loom.pages("/api/v1/runs?limit=100", "runs", "cursor")
}

/// A server with an ended run and one whose call is in flight when the disk fills up; the service responds after that.
fn without_room(directory: &Path, held: &Arc<Held>) -> (Loom, String, String) {
    let service = held.start();
    workflows(&directory.join("workflows"), &service.address);
    let loom = serve(directory);
    let before = accepted(&fire(&loom, "note"));
    assert_eq!(loom.end_of(&before), "Succeeded");
    let under_way = accepted(&fire(&loom, "call"));
    held.called();
    room(&loom, false);
    for _ in 0..3 {
        refused(&fire(&loom, "note"));
    }
    let ready = loom.request("GET", "/readyz", b"").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("is paused"), "{ready:?}");
    held.open();
    loom.until(&format!("/api/v1/runs/{under_way}"), |answer| answer.body.contains("\"held\""));
    (loom, before, under_way)
}

fn whole_and_sound(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(&directory.join("data"), SqliteOptions::default()).unwrap();
        store.verify().await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn a_full_disk_holds_runs_until_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let held = Arc::new(Held::default());
    let (loom, before, under_way) = without_room(directory.path(), &held);
    let address = format!("http://{}", loom.address());
    let listed = crate::loom(&["runs", "list", "--server", &address]);
    let line = listed.stdout.lines().find(|line| line.contains(&under_way)).expect("it is listed");
    assert!(line.contains("Held") && line.contains("is paused"), "{line}");
    assert_eq!(runs(&loom).len(), 2, "a rejected request is not a run");

    room(&loom, true);
    loom.until("/readyz", |answer| answer.status == 200);
    assert_eq!(loom.end_of(&under_way), "Succeeded");
    let after = accepted(&fire(&loom, "note"));
    assert_eq!(loom.end_of(&after), "Succeeded");
    let ids: Vec<Value> = runs(&loom).iter().map(|run| run["id"].clone()).collect();
    assert_eq!(ids, [after, under_way.clone(), before], "a rejected request never ran");
    assert!(runs(&loom).iter().all(|run| run.get("held").is_none()));
    // The response could not be stored, so the call was repeated once, under the same key.
    let calls = held.calls.lock().unwrap().clone();
    assert_eq!(calls, BTreeMap::from([(format!("{under_way}/Call"), 2)]));
    loom.terminate();
    assert_eq!(loom.exit_within(Duration::from_secs(30)), Some(0));
    whole_and_sound(directory.path());
}

#[test]
fn after_a_kill_on_a_full_disk_the_next_process_continues() {
    let directory = tempfile::tempdir().unwrap();
    let held = Arc::new(Held::default());
    let (loom, before, under_way) = without_room(directory.path(), &held);
    loom.kill();
    whole_and_sound(directory.path());
    let loom = serve(directory.path());
    assert_eq!(loom.end_of(&under_way), "Succeeded");
    let ids: Vec<Value> = runs(&loom).iter().map(|run| run["id"].clone()).collect();
    assert_eq!(ids, [under_way, before]);
}

#[test]
fn a_shutdown_on_a_full_disk_is_clean_and_the_next_process_continues() {
    let directory = tempfile::tempdir().unwrap();
    let held = Arc::new(Held::default());
    let (loom, _, under_way) = without_room(directory.path(), &held);
    loom.terminate();
    assert_eq!(loom.exit_within(Duration::from_secs(30)), Some(0));
    whole_and_sound(directory.path());
    let loom = serve(directory.path());
    assert_eq!(loom.end_of(&under_way), "Succeeded");
}

#[test]
fn on_a_full_disk_a_waiting_caller_receives_the_address_of_its_response() {
    let directory = tempfile::tempdir().unwrap();
    let held = Arc::new(Held::default());
    let service = held.start();
    workflows(&directory.path().join("workflows"), &service.address);
    let loom = serve(directory.path());
    let address = loom.address().to_owned();
    let caller = std::thread::spawn(move || {
        request(&address, "POST", "/workflows/ask/triggers/manual/invoke", b"")
            .expect("its response is complete")
    });
    held.called();
    room(&loom, false);
    refused(&fire(&loom, "note"));
    held.open();
    let answer = caller.join().unwrap();
    assert_eq!(answer.status, 202, "the run has not ended: {answer:?}");
    let later = answer.header("location").unwrap();
    let later = &later[later.find("/answers/").unwrap()..];
    room(&loom, true);
    let answer = loom.until(later, |answer| answer.status != 202);
    assert_eq!((answer.status, answer.body.as_str()), (200, "true"));
}

/// The server is asked to stop before it has noticed that the disk is full.
#[test]
fn a_shutdown_that_finds_the_disk_full_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    workflows(&directory.path().join("workflows"), "http://127.0.0.1:9");
    let loom = serve(directory.path());
    let run = accepted(&fire(&loom, "note"));
    assert_eq!(loom.end_of(&run), "Succeeded");
    room(&loom, false);
    loom.terminate();
    assert_eq!(loom.exit_within(Duration::from_secs(30)), Some(0));
    whole_and_sound(directory.path());
}
