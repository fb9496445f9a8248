//! Runs that a worker is evaluating when the process dies: after two such crashes in a row the run is suspended with the
//! reason; other runs never are. Also commands for runs while no server runs, and `--hold-runs`.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use loom_store::{KeyQuery, RunId, SqliteOptions, SqliteStore, prelude::*};
use serde_json::{Value, json};

use crate::served::{Loom, Service, pause};

/// A directory of workflows, a directory of runs, and a service that counts calls by their paths.
struct Place {
    directory: tempfile::TempDir,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Whether `/slow` responds.
    open: Arc<AtomicBool>,
    _service: Service,
}

impl Place {
    fn new() -> Place {
        let (calls, open) = (Arc::<Mutex<BTreeMap<String, usize>>>::default(), Arc::<AtomicBool>::default());
        let service = Service::start({
            let (calls, open) = (Arc::clone(&calls), Arc::clone(&open));
            move |request| {
                *calls.lock().unwrap().entry(request.path.clone()).or_default() += 1;
                while request.path == "/slow" && !open.load(Ordering::SeqCst) {
                    pause(Duration::from_millis(20));
                }
                (200, json!({}))
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let call = |path: &str| {
            json!({"type": "Http", "runAfter": {},
                "inputs": {"method": "POST", "uri": format!("{}{path}", service.address), "retryPolicy": {"type": "none"}}})
        };
        // Evaluating what follows the call takes a worker minutes without a pause.
        let mut heavy = json!({"Call": call("/fast")});
        let mut before = "Call".to_owned();
        for number in 0..60 {
            let name = format!("Heavy_{number}");
            heavy[&name] = json!({"type": "Query", "runAfter": {before: ["Succeeded", "Failed"]},
                "inputs": {"from": "@range(1, 100000)", "where": "@contains(range(1, 100000), -1)"}});
            before = name;
        }
        let done = json!({"type": "Compose", "inputs": "done", "runAfter": {"Call": ["Succeeded"]}});
        let wait =
            json!({"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}});
        fs::create_dir_all(directory.path().join("workflows")).unwrap();
        for (name, actions) in [
            ("heavy", heavy),
            ("calls", json!({"Call": call("/slow"), "Done": done})),
            ("waits", json!({"Wait": wait})),
        ] {
            let definition = json!({"triggers": {"manual": {"type": "Request"}}, "actions": actions});
            let path = directory.path().join("workflows").join(format!("{name}.json"));
            fs::write(path, definition.to_string()).unwrap();
        }
        Place { directory, calls, open, _service: service }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn serve(&self, more: &[&str]) -> Loom {
        let (workflows, data) = (self.directory.path().join("workflows"), self.data());
        let mut arguments: Vec<&OsStr> =
            vec!["--workflows".as_ref(), workflows.as_os_str(), "--data".as_ref(), data.as_os_str()];
        arguments.extend(more.iter().map(OsStr::new));
        Loom::serve(&arguments)
    }

    /// `loom runs …` on the directory.
    fn runs(&self, arguments: &[&str]) -> crate::Ended {
        let data = self.data().display().to_string();
        crate::loom(&[&["runs"], arguments, &["--data", &data]].concat())
    }

    fn calls(&self, path: &str) -> usize {
        self.calls.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    fn wait_for_calls(&self, path: &str, count: usize) {
        wait(|| self.calls(path) >= count);
    }

    /// The crash counts in the directory, by run.
    fn suspects(&self) -> BTreeMap<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::open_read_only(&self.data(), SqliteOptions::default()).unwrap();
            let namespace = "engine/suspects".into();
            let query = KeyQuery { namespace, prefix: String::new(), after: None, limit: 100 };
            let page = store.keys(query).await.unwrap();
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            page.values.iter().map(|value| (value.key.to_string(), text(&value.value))).collect()
        })
    }
}

fn wait(mut done: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        pause(Duration::from_millis(10));
    }
    panic!("the condition does not hold in time");
}

fn start(loom: &Loom, workflow: &str) -> String {
    let answer = loom.request("POST", &format!("/workflows/{workflow}/triggers/manual/invoke"), b"").unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.header("x-ms-workflow-run-id").unwrap()
}

/// Whether a worker is evaluating a run now, according to the page in the directory.
fn is_marked(data: &Path, run: &str) -> bool {
    let run = RunId::from_str(run).unwrap().as_u64();
    let page = fs::read(data.join("loom.marks")).unwrap();
    page[512..].as_chunks::<16>().0.iter().any(|slot| u64::from_ne_bytes(*slot.first_chunk().unwrap()) == run)
}

/// Kills the server while a worker is evaluating a run.
fn kill_while_evaluating(loom: Loom, data: &Path, run: &str) {
    // Not one of the short evaluations before: those are over when it is looked at again.
    let mut times = 0;
    wait(|| {
        times = if is_marked(data, run) { times + 1 } else { 0 };
        times == 5
    });
    loom.kill();
    assert!(is_marked(data, run), "the page survives the process");
}

/// A separate task resumes the run while the server already listens.
fn is_suspended(loom: &Loom, run: &str) {
    loom.until(&format!("/api/v1/runs/{run}"), |answer| answer.body.contains(r#""status":"Suspended""#));
}

fn shown(loom: &Loom, run: &str) -> Value {
    loom.get(&format!("/api/v1/runs/{run}"))
}

#[test]
fn a_run_evaluated_at_two_crashes_in_a_row_is_suspended_with_the_reason() {
    let place = Place::new();
    let data = place.data();
    let loom = place.serve(&[]);
    let bystanders = [start(&loom, "calls"), start(&loom, "waits")];
    place.wait_for_calls("/slow", 1);
    let poison = start(&loom, "heavy");
    kill_while_evaluating(loom, &data, &poison);

    // One crash may be chance. It is evaluated again, so it was not suspended.
    kill_while_evaluating(place.serve(&[]), &data, &poison);

    let loom = place.serve(&[]);
    is_suspended(&loom, &poison);
    let run = shown(&loom, &poison);
    let why = run["suspendedBecause"].as_str().unwrap();
    assert!(why.contains("last 2 times that the process ended"), "{why}");
    assert!(!is_marked(&data, &poison), "it is not being evaluated");
    let listed = loom.get("/api/v1/runs?limit=100");
    for row in listed["runs"].as_array().unwrap() {
        let is_poison = row["id"] == poison.as_str();
        assert_eq!(row["status"], if is_poison { "Suspended" } else { "Running" }, "{row}");
        assert_eq!(row.get("suspendedBecause").is_some(), is_poison, "{row}");
    }
    let server = format!("http://{}", loom.address());
    for arguments in
        [&["runs", "show", &poison, "--server", &server][..], &["runs", "list", "--server", &server]]
    {
        let reported = crate::loom(arguments);
        assert!(reported.stdout.contains("each of the last 2 times"), "{arguments:?}: {}", reported.stdout);
    }
    // A crash during another activity changes nothing.
    loom.kill();
    let loom = place.serve(&[]);
    assert_eq!(shown(&loom, &poison)["status"], "Suspended");

    // Resuming clears the suspicion: two further crashes are needed.
    let server = format!("http://{}", loom.address());
    let resume = std::thread::spawn({
        let poison = poison.clone();
        move || crate::loom(&["runs", "resume", &poison, "--server", &server])
    });
    kill_while_evaluating(loom, &data, &poison);
    // The response may have been in flight when the server was killed.
    resume.join().unwrap();
    kill_while_evaluating(place.serve(&[]), &data, &poison);
    let loom = place.serve(&[]);
    is_suspended(&loom, &poison);
    loom.kill();

    // It can be cancelled without being evaluated.
    let looked = place.runs(&["show", &poison]);
    assert!(looked.stdout.contains("each of the last 2 times"), "{}", looked.stdout);
    let cancelled = place.runs(&["cancel", &poison]);
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    assert!(cancelled.stdout.contains("cancel takes effect when a server next"), "{}", cancelled.stdout);
    let loom = place.serve(&[]);
    assert_eq!(loom.end_of(&poison), "Cancelled");
    for run in &bystanders {
        assert_eq!(shown(&loom, run)["status"], "Running");
    }
    loom.kill();
    assert_eq!(place.suspects(), BTreeMap::new(), "its count is removed");
}

/// Even if the very first decision of the child takes long: its start is stored by then. Its parent only waits, and is not suspected.
#[test]
fn a_child_evaluated_from_its_first_step_is_suspended_too() {
    let place = Place::new();
    let data = place.data();
    let sources = place.directory.path().join("workflows");
    let heavy = fs::read_to_string(sources.join("heavy.json")).unwrap();
    let mut heavy: Value = serde_json::from_str(&heavy).unwrap();
    let actions = heavy["actions"].as_object_mut().unwrap();
    actions.remove("Call");
    actions["Heavy_0"]["runAfter"] = json!({});
    actions.insert(
        "Answer".into(),
        json!({"type": "Response", "inputs": {"statusCode": 200}, "runAfter": {"Heavy_59": ["Succeeded"]}}),
    );
    fs::write(sources.join("child.json"), heavy.to_string()).unwrap();
    let calls = json!({"type": "Workflow", "runAfter": {}, "inputs": {"host": {"workflow": {"id": "child"}, "triggerName": "manual"}}});
    let parent = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {"Child": calls}});
    fs::write(sources.join("parent.json"), parent.to_string()).unwrap();
    let is_any_marked = || {
        let page = fs::read(data.join("loom.marks")).unwrap();
        page[512..].as_chunks::<16>().0.iter().any(|slot| slot[..8] != [0; 8])
    };

    let loom = place.serve(&[]);
    let parent = start(&loom, "parent");
    let child = loom.until("/api/v1/runs?workflow=child", |answer| !answer.body.contains(r#""runs":[]"#));
    let child: Value = serde_json::from_str(&child.body).unwrap();
    let child = child["runs"][0]["id"].as_str().unwrap().to_owned();
    kill_while_evaluating(loom, &data, &child);
    kill_while_evaluating(place.serve(&[]), &data, &child);
    let loom = place.serve(&[]);
    is_suspended(&loom, &child);
    assert_eq!(shown(&loom, &parent)["status"], "Running");
    assert!(!is_any_marked());
}

/// A run whose decisions take long, one after the other, obeys nevertheless.
#[test]
fn a_run_that_is_being_evaluated_is_suspended_resumed_and_cancelled() {
    let place = Place::new();
    let loom = place.serve(&[]);
    let run = start(&loom, "heavy");
    wait(|| is_marked(&place.data(), &run));
    let server = format!("http://{}", loom.address());
    for (command, status) in [("suspend", "Suspended"), ("resume", "Running"), ("cancel", "Cancelled")] {
        let reported = crate::loom(&["runs", command, &run, "--server", &server]);
        assert_eq!(reported.code, Some(0), "{command}: {}", reported.stderr);
        assert_eq!(shown(&loom, &run)["status"], status);
    }
}

/// However often and wherever the process is killed.
#[test]
fn runs_that_wait_or_have_calls_in_flight_are_never_suspected() {
    let place = Place::new();
    let loom = place.serve(&[]);
    let runs = [start(&loom, "calls"), start(&loom, "waits"), start(&loom, "calls")];
    place.wait_for_calls("/slow", 2);
    let mut loom = loom;
    for life in 0..10u64 {
        // Some kills happen during recovery, others long after it.
        pause(Duration::from_millis(life % 4 * 15));
        loom.kill();
        loom = place.serve(&[]);
    }
    for run in &runs {
        let run = shown(&loom, run);
        assert_eq!((&run["status"], run.get("suspendedBecause")), (&json!("Running"), None));
    }
    loom.kill();
    assert_eq!(place.suspects(), BTreeMap::new());
    place.open.store(true, Ordering::SeqCst);
    let loom = place.serve(&[]);
    assert_eq!(loom.end_of(&runs[0]), "Succeeded");
}

#[test]
fn runs_are_cancelled_suspended_and_resumed_without_a_server() {
    let place = Place::new();
    let loom = place.serve(&[]);
    let (ended, stopped, left) = (start(&loom, "calls"), start(&loom, "calls"), start(&loom, "waits"));
    place.wait_for_calls("/slow", 2);
    loom.kill();
    for (command, run) in [("cancel", &ended), ("suspend", &stopped), ("resume", &left)] {
        let reported = place.runs(&[command, run]);
        assert_eq!(reported.code, Some(0), "{}", reported.stderr);
        assert!(
            reported.stdout.contains(&format!("Running; {command} takes effect when a server next uses")),
            "{}",
            reported.stdout
        );
    }
    let refused = place.runs(&["resubmit", &left]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("needs a running server"), "{}", refused.stderr);
    let unknown = place.runs(&["cancel", "0000000000000"]);
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);

    let loom = place.serve(&[]);
    assert_eq!(loom.end_of(&ended), "Cancelled");
    is_suspended(&loom, &stopped);
    assert_eq!(shown(&loom, &left)["status"], "Running");
    assert_eq!(loom.pages("/api/v1/runs?limit=100", "runs", "cursor").len(), 3, "nothing was resubmitted");
    loom.kill();
    let reported = place.runs(&["cancel", &ended]);
    assert_eq!(reported.code, Some(1), "{}", reported.stdout);
    assert!(reported.stderr.contains("has already ended"), "{}", reported.stderr);
    // The calls of the suspended and the cancelled run were not repeated.
    assert_eq!(place.calls("/slow"), 2);

    assert_eq!(place.runs(&["resume", &stopped]).code, Some(0));
    place.open.store(true, Ordering::SeqCst);
    let loom = place.serve(&[]);
    assert_eq!(loom.end_of(&stopped), "Succeeded");
    assert_eq!(place.calls("/slow"), 3);
    // A command is executed once.
    let server = format!("http://{}", loom.address());
    assert_eq!(crate::loom(&["runs", "suspend", &left, "--server", &server]).code, Some(0));
    loom.kill();
    let loom = place.serve(&[]);
    assert_eq!(shown(&loom, &left)["status"], "Suspended");
}

#[test]
fn a_server_that_holds_its_runs_continues_and_starts_none() {
    let place = Place::new();
    let data = place.data();
    let loom = place.serve(&[]);
    let (calls, waits) = (start(&loom, "calls"), start(&loom, "waits"));
    place.wait_for_calls("/slow", 1);
    let poison = start(&loom, "heavy");
    kill_while_evaluating(loom, &data, &poison);

    let loom = place.serve(&["--hold-runs"]);
    let ready = loom.request("GET", "/readyz", b"").unwrap();
    assert!(ready.status == 503 && ready.body.contains("--hold-runs"), "{ready:?}");
    let refused = loom.request("POST", "/workflows/waits/triggers/manual/invoke", b"").unwrap();
    assert!(refused.status == 503 && refused.body.contains("RunsHeld"), "{refused:?}");
    let again = loom.request("POST", &format!("/api/v1/runs/{waits}/resubmit"), b"").unwrap();
    assert!(again.status == 503 && again.body.contains("RunsHeld"), "{again:?}");
    for run in [&calls, &waits, &poison] {
        let run = shown(&loom, run);
        assert_eq!(run["status"], "Running");
        assert!(run["held"].as_str().unwrap().contains("--hold-runs"), "{run}");
    }
    let server = format!("http://{}", loom.address());
    let listed = |status: &str| {
        let listed = crate::loom(&["runs", "list", "--quiet", "--status", status, "--server", &server]);
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        listed.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let newest_first: Vec<&str> = vec![&poison, &waits, &calls];
    assert_eq!(listed("held"), newest_first);
    assert_eq!(listed("Running"), [""; 0], "the list shows them as Held");
    let pages = loom.pages("/api/v1/runs?status=Held&limit=2", "runs", "cursor");
    assert_eq!(pages.iter().map(|run| run["id"].as_str().unwrap()).collect::<Vec<_>>(), newest_first);
    let change = |run: &str, what: &str| {
        let answer = loom.request("POST", &format!("/api/v1/runs/{run}/{what}"), b"").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    assert_eq!(change(&poison, "cancel")["status"], "Cancelled");
    assert_eq!(change(&waits, "suspend")["status"], "Suspended");
    assert_eq!(place.calls("/slow"), 1, "nothing continues automatically");
    assert_eq!(place.calls("/fast"), 1);
    assert!(change(&calls, "resume").get("held").is_none());
    assert_eq!(listed("Held"), [""; 0]);
    assert_eq!(listed("Suspended"), [waits.as_str()]);
    assert_eq!(listed("Running"), [calls.as_str()]);
    place.open.store(true, Ordering::SeqCst);
    assert_eq!(loom.end_of(&calls), "Succeeded", "one that is resumed continues");
    assert_eq!(place.calls("/slow"), 2);
    loom.kill();

    let loom = place.serve(&[]);
    assert_eq!(shown(&loom, &waits)["status"], "Suspended");
    assert_eq!(loom.end_of(&poison), "Cancelled");
    assert_eq!(loom.end_of(&start(&loom, "calls")), "Succeeded", "and requests are accepted again");
}
