//! `loom run`, interrupted: it cancels the run or, with `--durable`, leaves it to another process.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;

use crate::{file, loom, served::Service};

/// A `loom run` in progress, and its output so far.
struct Running {
    child: Child,
    said: String,
    stderr: BufReader<ChildStderr>,
}

/// How it ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    said: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .arg("run")
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, said: String::new(), stderr }
    }

    /// Waits until the output contains `text`.
    fn until(&mut self, text: &str) {
        while !self.said.contains(text) {
            let read = self.stderr.read_line(&mut self.said).unwrap();
            assert!(read > 0, "it ended without `{text}`: {}", self.said);
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.unwrap().success());
    }

    fn end(mut self) -> Ended {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ended { code: self.child.wait().unwrap().code(), stdout, said: self.said }
    }
}

/// Calls the service, waits for an hour or for a signal, and calls the service again.
fn definition(test: &str, service: &str, pause: &str) -> String {
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "First": {{"type": "Http", "inputs": {{"method": "POST", "uri": "{service}/first"}}, "runAfter": {{}}}},
            "Pause": {{{pause}, "runAfter": {{"First": ["Succeeded"]}}}},
            "Last": {{"type": "Http", "inputs": {{"method": "POST", "uri": "{service}/last", "retryPolicy": {{"type": "none"}}}}, "runAfter": {{"Pause": ["Succeeded"]}}}},
            "Answer": {{"type": "Response", "kind": "Http", "inputs": {{"statusCode": 200, "body": "done"}}, "runAfter": {{"Last": ["Succeeded"]}}}}}}}}"#
    );
    file(test, "definition.json", &text).display().to_string()
}

/// Makes no calls.
fn simple(test: &str) -> String {
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}}"#;
    file(test, "definition.json", text).display().to_string()
}

fn counting() -> (Service, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = Service::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        (200, json!({}))
    });
    (service, calls)
}

const HOUR: &str = r#""type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}"#;
const SECOND: &str = r#""type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Second"}}"#;

#[test]
fn an_interrupt_cancels_the_run_and_shows_its_progress() {
    let (service, calls) = counting();
    let path = definition("interrupt", &service.address, HOUR);
    let mut running = Running::start(&[&path]);
    running.until("Pause waits");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    for part in ["cancelling the run", "✔ First", "■ Pause", "run Cancelled"] {
        assert!(ended.said.contains(part), "`{part}` is missing: {}", ended.said);
    }
    assert_eq!((ended.stdout.as_str(), calls.load(Ordering::SeqCst)), ("", 1));
}

#[test]
fn an_interrupted_durable_run_continues_with_resume() {
    let (service, calls) = counting();
    let path = definition("kept", &service.address, SECOND);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("runs").display().to_string();
    let mut running = Running::start(&[&path, "--durable", "--data", &data]);
    running.until("Pause waits");
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    let (_, after) = ended.said.split_once("--resume ").expect("it says how to resume");
    let run: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    finishes(&path, &data, &run);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "completed calls are not repeated");
    // Resumed again, it shows the result and does nothing. The definition is stored with the run.
    finishes(&path, &data, &run);
    finishes_alone(&data, &run);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let listed = loom(&["runs", "list", "--data", &data]);
    assert!(listed.stdout.contains(&run) && listed.stdout.contains("Succeeded"), "{}", listed.stdout);
}

#[test]
fn a_durable_run_survives_kill_9() {
    let (service, calls) = counting();
    let path = definition("killed", &service.address, SECOND);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("runs").display().to_string();
    let mut running = Running::start(&[&path, "--durable", "--data", &data]);
    running.until("Pause waits");
    running.signal("KILL");
    let ended = running.end();
    assert_eq!(ended.code, None);
    let (before, _) = ended.said.split_once(" stored in").expect("it says where the run is");
    let run = before.rsplit(' ').next().unwrap().to_owned();
    // The definition file is no longer needed.
    std::fs::remove_file(&path).unwrap();
    finishes_alone(&data, &run);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[track_caller]
fn finishes_alone(data: &str, run: &str) {
    let ended = loom(&["run", "--durable", "--data", data, "--resume", run]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "\"done\"\n"), "{}", ended.stderr);
}

#[track_caller]
fn finishes(path: &str, data: &str, run: &str) {
    let ended = loom(&["run", path, "--durable", "--data", data, "--resume", run]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "\"done\"\n"), "{}", ended.stderr);
    assert!(Path::new(data).join("loom.db").is_file());
}

#[test]
fn a_run_that_cannot_be_resumed_is_reported() {
    let path = definition("resume-wrong", "http://127.0.0.1:1", SECOND);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().display().to_string();
    let check = |arguments: &[&str], said: &str| {
        let mut all = vec!["run", &path, "--data", &data];
        all.extend(arguments);
        let ended = loom(&all);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    };
    check(&["--durable", "--resume", "nonsense"], "must be a run id (got `nonsense`)");
    check(&["--durable", "--resume", "38gany9ft0000"], "it is not a data directory");
    check(&["--resume", "38gany9ft0000"], "--durable");
    let other = directory.path().join("runs").display().to_string();
    let started = loom(&["run", &simple("resume-other"), "--durable", "--data", &other]);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    for file in [Some(path.as_str()), None] {
        let arguments = ["--durable", "--data", &other, "--resume", "38gany9ft0000"];
        let all: Vec<&str> = ["run"].into_iter().chain(file).chain(arguments).collect();
        let ended = loom(&all);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("no run 38gany9ft0000 in"), "{}", ended.stderr);
    }
}
