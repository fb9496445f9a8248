//! The real binary, stopped and killed: callers, schedules and the state of services survive it.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{Loom, Service, pause, request};

fn serve(directory: &Path, workflows: &[(&str, Value)]) -> Loom {
    let (sources, data) = (directory.join("workflows"), directory.join("data"));
    fs::create_dir_all(&sources).unwrap();
    for (name, definition) in workflows {
        fs::write(sources.join(format!("{name}.json")), definition.to_string()).unwrap();
    }
    let arguments: [&OsStr; 4] =
        ["--workflows".as_ref(), sources.as_os_str(), "--data".as_ref(), data.as_os_str()];
    Loom::serve(&arguments)
}

fn wait(mut done: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if done() {
            return;
        }
        pause(Duration::from_millis(20));
    }
    panic!("the condition does not hold in time");
}

/// Three callers at the moment of SIGTERM: one waits for a Response, one has sent half of its request, one comes after.
#[test]
fn a_shutdown_answers_waiting_callers_and_unfinished_runs_continue() {
    let directory = tempfile::tempdir().unwrap();
    let (slow, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (slow, calls) = (Arc::clone(&slow), Arc::clone(&calls));
        Service::start(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            if slow.load(Ordering::SeqCst) {
                // Longer than the server takes to stop.
                pause(Duration::from_mins(2));
            }
            (200, json!({}))
        })
    };
    let ask = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Call": {"type": "Http", "inputs": {"method": "POST", "uri": format!("{}/work", service.address)}, "runAfter": {}},
        "Answer": {"type": "Response", "kind": "Http", "inputs": {"statusCode": 200, "body": "@triggerBody()"}, "runAfter": {"Call": ["Succeeded"]}}}});
    let workflows = [("ask", ask)];
    let loom = serve(directory.path(), &workflows);
    let path = "/workflows/ask/triggers/manual/invoke";

    let (reported, answers) = mpsc::channel();
    let address = loom.address().to_owned();
    let waiting = std::thread::spawn(move || reported.send(request(&address, "POST", path, b"\"first\"")));
    wait(|| calls.load(Ordering::SeqCst) == 1);
    let body = b"\"second\"";
    let mut half = TcpStream::connect(loom.address()).unwrap();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    half.write_all(head.as_bytes()).unwrap();
    half.write_all(&body[..3]).unwrap();
    // The server has received it once it has responded to a later request.
    loom.get("/api/v1/runs?limit=1");

    loom.terminate();
    let first = answers.recv_timeout(Duration::from_secs(30)).unwrap().expect("its response is complete");
    waiting.join().unwrap().unwrap();
    assert_eq!(first.status, 202, "{first:?}");
    let later = first.header("location").expect("it has the address of the later response");
    wait(|| TcpStream::connect(loom.address()).is_err());
    half.write_all(&body[3..]).unwrap();
    let mut second = String::new();
    half.read_to_string(&mut second).unwrap();
    let was_taken = second.starts_with("HTTP/1.0 202") || second.starts_with("HTTP/1.1 202");
    assert!(was_taken || second.contains(" 503 "), "{second}");
    assert_eq!(loom.exit_within(Duration::from_secs(30)), Some(0), "it stops cleanly and in time");

    slow.store(false, Ordering::SeqCst);
    let loom = serve(directory.path(), &workflows);
    let later = &later[later.find("/answers/").unwrap()..];
    let answer = loom.until(later, |answer| answer.status != 202);
    assert_eq!((answer.status, answer.body.as_str()), (200, "first"));
    let runs = loom.pages("/api/v1/runs?limit=100", "runs", "cursor");
    assert_eq!(runs.len(), 1 + usize::from(was_taken), "accepted runs exist, and no others");
    for run in runs {
        assert_eq!(loom.end_of(run["id"].as_str().unwrap()), "Succeeded");
    }
}

/// A Recurrence and a SlidingWindow, both of one second, in a server that is killed again and again.
#[test]
fn each_occurrence_fires_once_despite_repeated_kills() {
    let directory = tempfile::tempdir().unwrap();
    let every_second = json!({"frequency": "Second", "interval": 1});
    let takes = |kind: &str| {
        json!({"triggers": {"tick": {"type": kind, "recurrence": every_second}}, "actions": {
            "Note": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}})
    };
    let workflows = [("recurs", takes("Recurrence")), ("slides", takes("SlidingWindow"))];
    for life in 0..5u64 {
        let loom = serve(directory.path(), &workflows);
        // Shortly before and after the moments at which something fires.
        pause(Duration::from_millis(900 + 130 * life));
        loom.kill();
    }
    let loom = serve(directory.path(), &workflows);
    pause(Duration::from_millis(1_500));
    let count = || loom.pages("/api/v1/runs?limit=100", "runs", "cursor").len();
    let so_far = count();
    wait(|| count() > so_far + 2);
    let histories = |name: &str| {
        let path = format!("/api/v1/workflows/{name}/triggers/tick/histories");
        loom.get(&path)["histories"].as_array().unwrap().clone()
    };
    // The history lists every firing with its time and its runs.
    for name in ["recurs", "slides"] {
        let mut seen = BTreeMap::new();
        for entry in histories(name) {
            let at = entry["scheduledTime"].as_str().unwrap_or_else(|| panic!("{entry}")).to_owned();
            let runs = entry["runs"].as_array().map_or(0, Vec::len);
            assert!(seen.insert(at, runs).is_none(), "{name} fired twice: {entry}");
            assert_eq!(runs, 1, "{name}: {entry}");
        }
        assert!(seen.len() >= 5, "{name}: {seen:?}");
    }
    let mut windows: Vec<(String, String)> = Vec::new();
    for run in loom.pages("/api/v1/runs?workflow=slides&limit=100", "runs", "cursor") {
        let shown = loom.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
        let body = &shown["trigger"]["outputs"]["body"];
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
        windows.push((text("windowStartTime"), text("windowEndTime")));
    }
    windows.sort();
    assert!(windows.len() >= 5, "{windows:?}");
    for pair in windows.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "a window is lost, or was processed twice: {windows:?}");
    }
}

/// The state of a circuit and the consumption of a limit survive a crash.
#[test]
fn open_circuits_and_used_permits_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let calls = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let service = {
        let calls = Arc::clone(&calls);
        Service::start(move |request| {
            *calls.lock().unwrap().entry(request.path.clone()).or_default() += 1;
            (if request.path == "/bad" { 503 } else { 200 }, json!({}))
        })
    };
    let call = |path: &str, guard: (&str, Value)| {
        json!({"triggers": {"manual": {"type": "Request"}}, "actions": {"Call": {"type": "Http", guard.0: guard.1, "runAfter": {},
            "inputs": {"method": "GET", "uri": format!("{}{path}", service.address), "retryPolicy": {"type": "none"}}}}})
    };
    let breaker = json!({"name": "bad", "failureThreshold": 2, "timeout": 6000});
    let limit = json!({"name": "few", "requests": 2, "per": "hour", "maxWait": 0});
    let other = json!({"name": "other", "failureThreshold": 2});
    let workflows = [
        ("bad", call("/bad", ("circuitBreaker", breaker))),
        ("few", call("/few", ("rateLimit", limit))),
        ("other", call("/other", ("circuitBreaker", other))),
    ];
    let run = |loom: &Loom, name: &str| {
        let answer = loom.request("POST", &format!("/workflows/{name}/triggers/manual/invoke"), b"").unwrap();
        let run = answer.header("x-ms-workflow-run-id").unwrap_or_else(|| panic!("{answer:?}"));
        loom.end_of(&run);
        loom.get(&format!("/api/v1/runs/{run}/actions/Call"))["occurrences"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let loom = serve(directory.path(), &workflows);
    assert_eq!([run(&loom, "few"), run(&loom, "few")], ["OK", "OK"]);
    assert_eq!(run(&loom, "other"), "OK");
    assert_eq!(run(&loom, "bad"), "ServiceUnavailable");
    assert_ne!(run(&loom, "bad"), "CircuitBreakerOpen");
    assert_eq!(run(&loom, "bad"), "CircuitBreakerOpen");
    // Once this request has a response, everything before it is stored.
    let answer = loom.request("POST", "/api/v1/resilience/other/close", b"").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    loom.kill();

    let loom = serve(directory.path(), &workflows);
    assert_eq!(run(&loom, "bad"), "CircuitBreakerOpen", "the circuit stays open for its duration");
    assert_eq!(run(&loom, "few"), "RateLimitExceeded", "used permits stay used");
    assert_eq!(run(&loom, "other"), "OK");
    assert_eq!(calls.lock().unwrap()["/bad"], 2);
    assert_eq!(calls.lock().unwrap()["/few"], 2);
    wait(|| run(&loom, "bad") != "CircuitBreakerOpen");
    assert_eq!(calls.lock().unwrap()["/bad"], 3, "then it is probed");
}

/// The same without a later request: a circuit is stored as soon as it opens.
#[test]
fn a_circuit_is_stored_as_soon_as_it_opens() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(|_| (503, json!({})));
    let call = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {"Call": {"type": "Http", "runAfter": {},
        "circuitBreaker": {"name": "bad", "failureThreshold": 1, "timeout": 3_600_000},
        "inputs": {"method": "GET", "uri": format!("{}/", service.address), "retryPolicy": {"type": "none"}}}}});
    let workflows = [("bad", call)];
    let loom = serve(directory.path(), &workflows);
    let commits = |loom: &Loom| {
        let page = loom.request("GET", "/metrics", b"").unwrap().body;
        let line = page.lines().find(|line| line.starts_with("loom_store_commits_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = commits(&loom);
    let answer = loom.request("POST", "/workflows/bad/triggers/manual/invoke", b"").unwrap();
    loom.end_of(&answer.header("x-ms-workflow-run-id").unwrap());
    // The commits: the start, the end, and the circuit between or after them.
    wait(|| commits(&loom) >= before + 3);
    loom.kill();
    let loom = serve(directory.path(), &workflows);
    let answer = loom.request("POST", "/workflows/bad/triggers/manual/invoke", b"").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    loom.end_of(&run);
    let call = loom.get(&format!("/api/v1/runs/{run}/actions/Call"));
    assert_eq!(call["occurrences"][0]["code"], "CircuitBreakerOpen", "{call}");
}

/// Signals acknowledged before a kill and sent again under their keys after it; and one that is left in the directory while
/// no server runs.
#[test]
fn signals_survive_kills_and_are_received_once() {
    let directory = tempfile::tempdir().unwrap();
    let collect = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "V": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "got", "type": "array", "value": []}]}, "runAfter": {}},
        "Each": {"type": "Foreach", "foreach": "@range(0, 8)", "operationOptions": "Sequential", "runAfter": {"V": ["Succeeded"]}, "actions": {
            "Wait": {"type": "WaitForSignal", "inputs": {"name": "next"}, "limit": {"timeout": "P7D"}, "runAfter": {}},
            "Keep": {"type": "AppendToArrayVariable", "inputs": {"name": "got", "value": "@body('Wait')"}, "runAfter": {"Wait": ["Succeeded"]}}}},
        "All": {"type": "Compose", "inputs": "@variables('got')", "runAfter": {"Each": ["Succeeded"]}}}});
    let workflows = [("collect", collect)];
    let mut loom = serve(directory.path(), &workflows);
    let answer = loom.request("POST", "/workflows/collect/triggers/manual/invoke", b"").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    let send = |number: usize, whom: &[&str]| {
        let (body, key) = (number.to_string(), format!("number {number}"));
        let mut arguments = vec!["runs", "signal", &run, "Next", "--body", &body, "--idempotency-key", &key];
        arguments.extend(whom);
        let sent = crate::loom(&arguments);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
        sent.stdout
    };
    for number in 0..6 {
        let server = format!("http://{}", loom.address());
        let sent = send(number, &["--server", &server]);
        loom.kill();
        if number == 3 {
            let data = directory.path().join("data").display().to_string();
            assert_eq!(send(number, &["--data", &data]), sent, "it is the same signal");
            send(6, &["--data", &data]);
        }
        loom = serve(directory.path(), &workflows);
        let server = format!("http://{}", loom.address());
        assert_eq!(send(number, &["--server", &server]), sent, "it is the same signal");
    }
    let server = format!("http://{}", loom.address());
    send(7, &["--server", &server]);
    assert_eq!(loom.end_of(&run), "Succeeded");
    let all = loom.get(&format!("/api/v1/runs/{run}/actions/All"));
    assert_eq!(all["occurrences"][0]["outputs"], json!([0, 1, 2, 3, 6, 4, 5, 7]));
    let refused = crate::loom(&["runs", "signal", &run, "next", "--server", &server]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("has ended"), "{}", refused.stderr);
}

/// A run of a trigger with a limit is over at the next start before anybody has looked at it; its place is free again.
#[test]
fn killed_a_trigger_with_a_limit_has_all_its_places_again() {
    let folder = tempfile::tempdir().unwrap();
    let trigger = |concurrency: Value| json!({"manual": {"type": "Request", "runtimeConfiguration": {"concurrency": concurrency}}});
    let rest = |count: u32, unit: &str| json!({"Rest": {"type": "Wait", "inputs": {"interval": {"count": count, "unit": unit}}, "runAfter": {}}});
    let limit = json!({"runs": 1, "maximumWaitingRuns": 1});
    let one = json!({"triggers": trigger(limit), "actions": rest(2, "Second")});
    let many = json!({"triggers": {"manual": {"type": "Request"}}, "actions": rest(1, "Hour")});
    let workflows = [("one", one), ("many", many)];
    let fire = |loom: &Loom, name: &str| {
        let path = format!("/workflows/{name}/triggers/manual/invoke");
        let answer = loom.request("POST", &path, b"{}").expect("it is answered");
        (answer.status, answer.header("x-ms-workflow-run-id"))
    };
    let loom = serve(folder.path(), &workflows);
    let (status, over) = fire(&loom, "one");
    assert_eq!(status, 202);
    let (status, waits) = fire(&loom, "one");
    assert_eq!(status, 202);
    assert_eq!(fire(&loom, "one").0, 429);
    for _ in 0..200 {
        assert_eq!(fire(&loom, "many").0, 202);
    }
    loom.kill();
    pause(Duration::from_secs(3));
    let loom = serve(folder.path(), &workflows);
    for run in [over.unwrap(), waits.unwrap()] {
        assert_eq!(loom.end_of(&run), "Succeeded");
    }
    let (status, next) = fire(&loom, "one");
    assert_eq!(status, 202);
    assert_eq!(loom.end_of(&next.unwrap()), "Succeeded");
}

/// The signal reaches the directory before the deadline, and the run after it.
#[test]
fn killed_a_run_receives_the_signal_that_came_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let wait = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Go": {"type": "WaitForSignal", "inputs": {"name": "go"}, "limit": {"timeout": "PT4S"}, "runAfter": {}}}});
    let workflows = [("waits", wait)];
    for _ in 0..3 {
        let loom = serve(folder.path(), &workflows);
        let answer = loom.request("POST", "/workflows/waits/triggers/manual/invoke", b"{}").unwrap();
        let run = answer.header("x-ms-workflow-run-id").unwrap();
        loom.until(&format!("/api/v1/runs/{run}/events"), |events| events.body.contains("timer.set"));
        loom.kill();
        let data = folder.path().join("data");
        let mut signal = Command::new(env!("CARGO_BIN_EXE_loom"));
        let sent = signal.args(["runs", "signal", &run, "go", "--data"]).arg(&data).output().unwrap();
        assert!(sent.status.success(), "{sent:?}");
        pause(Duration::from_secs(5));
        let loom = serve(folder.path(), &workflows);
        assert_eq!(loom.end_of(&run), "Succeeded");
        loom.kill();
    }
}

/// Both copies of a hedged call are in flight when the process is killed. The service does the work of each key once.
#[test]
fn killed_during_a_hedge_a_run_repeats_the_attempt_under_its_key_and_continues() {
    let directory = tempfile::tempdir().unwrap();
    let (hangs, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(BTreeMap::new())));
    let (done, shipped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (hangs, asked) = (Arc::clone(&hangs), Arc::clone(&asked));
        let (done, shipped) = (Arc::clone(&done), Arc::clone(&shipped));
        Service::start(move |request| {
            if request.path == "/ship" {
                shipped.fetch_add(1, Ordering::SeqCst);
                return (200, json!({}));
            }
            let key = request.header("idempotency-key").expect("every copy has one");
            let copies = {
                let mut asked = asked.lock().unwrap();
                let copies: &mut usize = asked.entry(key).or_default();
                *copies += 1;
                *copies
            };
            if copies == 1 {
                // The work was done, although no copy has been answered before the kill.
                done.fetch_add(1, Ordering::SeqCst);
            }
            if hangs.load(Ordering::SeqCst) {
                pause(Duration::from_mins(2));
            }
            (200, json!({"charged": done.load(Ordering::SeqCst)}))
        })
    };
    let charge = json!({"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Charge": {"type": "Http", "runAfter": {}, "hedge": {"delay": 50, "idempotent": true},
            "inputs": {"method": "POST", "uri": format!("{}/charge", service.address)}},
        "Ship": {"type": "Http", "inputs": {"method": "POST", "uri": format!("{}/ship", service.address)}, "runAfter": {"Charge": ["Succeeded"]}}}});
    let workflows = [("charge", charge)];
    let mut loom = serve(directory.path(), &workflows);
    let answer = loom.request("POST", "/workflows/charge/triggers/manual/invoke", b"{}").unwrap();
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    wait(|| asked.lock().unwrap().values().sum::<usize>() == 2);
    loom.kill_after(Duration::ZERO).join().unwrap();
    loom.wait_for_end();

    hangs.store(false, Ordering::SeqCst);
    let loom = serve(directory.path(), &workflows);
    assert_eq!(loom.end_of(&run), "Succeeded");
    let asked = asked.lock().unwrap();
    assert_eq!(
        (asked.len(), done.load(Ordering::SeqCst)),
        (1, 1),
        "all copies, in both lives, have one key: {asked:?}"
    );
    assert!((3..=4).contains(asked.values().next().unwrap()), "the attempt is repeated once: {asked:?}");
    assert_eq!(shipped.load(Ordering::SeqCst), 1, "the run continues once");
    let events = loom.pages(&format!("/api/v1/runs/{run}/events?limit=500"), "events", "after");
    let ends = |action: &str| {
        let of_action = events.iter().filter(|event| event["action"] == action);
        of_action.filter(|event| event["type"] == "action.completed").count()
    };
    assert_eq!((ends("Charge"), ends("Ship")), (1, 1), "the effect is recorded once: {events:?}");
    let attempts =
        events.iter().filter(|event| event["action"] == "Charge" && event["type"] == "attempt.started");
    assert_eq!(attempts.count(), 1, "the copies are one attempt, which the second process repeats");
}
