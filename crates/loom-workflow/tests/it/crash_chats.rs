//! Group chats with tools, a person and handoffs in the real binary, killed without warning at seeded moments.
//!
//! As in `crash_agents`, a service sees which process made each call, and after each kill the test reads from the store what is
//! recorded. Beside that, a person answers the question of each chat, again and again, as long as there is no response.
//!
//! - A call of a model or a tool that was recorded at a kill is never made again.
//! - The answer of the person is neither lost nor used twice, and an answer after it is refused.
//! - The history is whole and in order, in the outputs and in shared memory, and the budget counts every call once.
//!
//! `LOOM_CRASH_KILLS` sets how many kills there are, `LOOM_CRASH_SEED` where they fall.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    crash_agents::{Seen, check, recorded},
    served::{self, Loom, Reply, Request, Service, pause},
};

/// The longest time before a kill, in milliseconds.
const LIFE_MILLIS: u64 = 1_400;

/// How long the service takes for a call.
const WORK: Duration = Duration::from_millis(15);

/// The tokens of each call of the model, and how many calls a chat makes.
const TOKENS: (i64, i64) = (10, 5);
const CALLS: i64 = 4;

/// The answer of the model to a request, which follows from the request alone.
fn answer(request: &Value) -> Value {
    let messages = request["messages"].as_array().unwrap();
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let is_desk = messages.iter().any(|message| text(message).contains("You are Desk"));
    let has_looked = messages.iter().any(|message| message["role"] == "tool");
    let has_decision = messages.iter().any(|message| text(message).starts_with("yes "));
    let call = |name: &str, arguments: &str| json!({"id": name, "type": "function", "function": {"name": name, "arguments": arguments}});
    let (text, call) = match (is_desk, has_looked, has_decision) {
        (true, false, _) => ("I look.", Some(call("find", r#"{"n": 3}"#))),
        (true, true, false) => ("Owner decides.", Some(call("transfer_to_Owner", "{}"))),
        (true, true, true) => ("Sales sells.", Some(call("transfer_to_Sales", "{}"))),
        (false, ..) => ("Sold.", None),
    };
    let mut message = json!({"role": "assistant", "content": text});
    let reason = if call.is_none() { "stop" } else { "tool_calls" };
    if let Some(call) = call {
        message["tool_calls"] = json!([call]);
    }
    json!({
        "id": "x", "model": "m-1", "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1, "total_tokens": TOKENS.0 + TOKENS.1},
    })
}

fn serve(seen: &Mutex<Vec<Seen>>, request: &Request) -> Reply {
    let mut path = request.path.trim_start_matches('/').split('/');
    let life = path.next().and_then(|life| life.parse().ok()).expect("the address names the life");
    let key = request.header("idempotency-key").expect("calls carry a key").trim_matches('"').to_owned();
    seen.lock().unwrap().push(Seen { life, key, body: request.body.clone() });
    pause(WORK);
    let body: Value = serde_json::from_str(&request.body).unwrap();
    match path.next() {
        Some("v1") => (200, answer(&body)),
        _ => (200, json!({"n": body["n"]})),
    }
}

fn is_known(place: &str) -> bool {
    place == "Find/0" || place.starts_with("Chat/turn-") || place.starts_with("Find/")
}

/// A person who answers the questions of runs, each time with another answer.
#[derive(Default)]
struct Person {
    answers: u64,
    /// The answers that were sent for each run.
    sent: BTreeMap<String, Vec<String>>,
    /// The answer of each run that was accepted.
    accepted: BTreeMap<String, String>,
}

impl Person {
    /// Answers the run if it asks, even if an answer was accepted already. `None` if the process has died.
    fn answer(&mut self, loom: &Loom, run: &str) -> Option<()> {
        let asked = loom.request("GET", &format!("/api/v1/runs/{run}/questions"), b"")?;
        if asked.status != 200 || !asked.body.contains("May we sell?") {
            return Some(());
        }
        self.answers += 1;
        let message = format!("yes {run} {}", self.answers);
        let body = json!({"message": message, "by": "Olga"}).to_string();
        self.sent.entry(run.to_owned()).or_default().push(message.clone());
        let answered = loom.request("POST", &format!("/api/v1/runs/{run}/answers"), body.as_bytes())?;
        match answered.status {
            202 => {
                let earlier = self.accepted.insert(run.to_owned(), message);
                assert_eq!(earlier, None, "a question is answered twice");
            }
            // Answered by a request whose response was lost, or a moment ago.
            404 | 409 | 503 => {}
            other => panic!("an answer gets {other}: {answered:?}"),
        }
        Some(())
    }
}

/// Checks what a run that has ended knows of its chat.
fn check_run(loom: &Loom, run: &Value, seen: &[Seen], person: &Person, context: &str) {
    assert_eq!(run["status"], "Succeeded", "{context}: {run}");
    let id = run["id"].as_str().unwrap();
    let output = &run["outputs"]["chat"];
    let chat = if output["value"].is_object() { &output["value"] } else { output };
    let said = |items: &Value| {
        let line = |item: &Value| {
            format!("{}: {}", item["name"].as_str().unwrap_or("-"), item["content"].as_str().unwrap())
        };
        items.as_array().unwrap().iter().map(line).collect::<Vec<String>>()
    };
    let history = said(&chat["history"]);
    let answers = person.sent.get(id).cloned().unwrap_or_default();
    let used: Vec<&String> =
        answers.iter().filter(|answer| history.contains(&format!("Owner: {answer}"))).collect();
    assert_eq!(used.len(), 1, "{context}: {history:?} has one answer of the person, of {answers:?}");
    if let Some(accepted) = person.accepted.get(id) {
        assert_eq!(used[0], accepted, "{context}: the accepted answer is the one that is used");
    }
    let expected = [
        "-: What is left?".to_owned(),
        "Desk: I look.".to_owned(),
        "Desk: Owner decides.".to_owned(),
        format!("Owner: {}", used[0]),
        "Desk: Sales sells.".to_owned(),
        "Sales: Sold.".to_owned(),
    ];
    assert_eq!(history, expected, "{context}");
    let call = &chat["history"][1]["toolCalls"][0];
    assert_eq!(
        (call["name"].as_str(), call["result"].as_str()),
        (Some("find"), Some(r#"{"n":3}"#)),
        "{context}"
    );
    let kept = loom.get(&format!("/api/v1/memory/chat:{id}/history"));
    assert_eq!(said(&kept["value"]), expected, "{context}: shared memory has every message once, in order");
    let usage = (&chat["usage"]["inputTokens"], &chat["usage"]["outputTokens"], &chat["calls"]);
    let counted = (&json!(CALLS * TOKENS.0), &json!(CALLS * TOKENS.1), &json!(CALLS));
    assert_eq!(usage, counted, "{context}: each call is counted once");
    let keys: BTreeSet<&str> =
        seen.iter().filter(|call| call.key.starts_with(id)).map(|call| call.key.as_str()).collect();
    assert_eq!(keys.len() as i64, CALLS + 1, "{context}: {keys:?}");
    let audit = loom.get(&format!("/api/v1/secret-audit?run={id}&operation=reply"));
    let entries = audit["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{context}: {audit}");
    assert_eq!(entries[0]["by"], "Olga via api");
}

#[test]
fn repeated_kills_of_a_chat_with_a_person_repeat_nothing_and_lose_nothing() {
    let kills = served::setting("LOOM_CRASH_KILLS", 20) as usize;
    let seed = served::setting("LOOM_CRASH_SEED", 20_261_130);
    let mut random = seed;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let service = Service::start({
        let seen = Arc::clone(&seen);
        move |request| serve(&seen, &request)
    });
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let start = |life: usize| {
        let base = format!("{}/{life}", service.address);
        std::fs::write(directory.path().join("egress.json"), json!({"service": base}).to_string()).unwrap();
        let model = json!({"api": "compatible", "baseUrl": format!("{base}/v1"), "model": "m-1"});
        let connections = json!({"models": {"m": model}});
        std::fs::write(directory.path().join("connections.json"), connections.to_string()).unwrap();
        let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash_chats/workflows");
        let file = |name: &str| directory.path().join(name);
        Loom::serve(&[
            "--workflows".as_ref(),
            workflows.as_os_str(),
            "--data".as_ref(),
            data.as_os_str(),
            "--egress".as_ref(),
            file("egress.json").as_os_str(),
            "--connections".as_ref(),
            file("connections.json").as_os_str(),
            // Chats that wait for a person leave memory, also in the short life of a process.
            "--park-after".as_ref(),
            "1s".as_ref(),
        ])
    };
    let (mut started, mut ended, mut person) = (BTreeSet::new(), Vec::new(), Person::default());
    for life in 0..kills {
        let mut loom = start(life);
        let killer = loom.kill_after(Duration::from_millis(30 + below(LIFE_MILLIS)));
        while let Some(answer) = loom.request("POST", "/workflows/chat/triggers/manual/invoke", b"{}") {
            assert_eq!(answer.status, 202, "{answer:?}");
            started.insert(answer.header("x-ms-workflow-run-id").unwrap());
            pause(Duration::from_millis(40));
            // Half of those that ask are answered in this life, if they are not killed before.
            let some: Vec<String> = started.iter().filter(|_| below(2) == 0).cloned().collect();
            if some.iter().any(|run| person.answer(&loom, run).is_none()) {
                break;
            }
        }
        killer.join().unwrap();
        loom.wait_for_end();
        ended.push(recorded(&data, &started));
    }
    let loom = start(kills);
    let context = format!("seed {seed}, {kills} kills");
    assert!(!started.is_empty(), "{context}: some run was accepted before the kills");
    for run in &started {
        loom.until(&format!("/api/v1/runs/{run}"), |answer| {
            person.answer(&loom, run).expect("the server responds");
            // Its actions have times of their own.
            let run: Value = serde_json::from_str(&answer.body).unwrap();
            run["endTime"].is_string()
        });
    }
    let seen = seen.lock().unwrap().clone();
    check(&seen, &ended, is_known).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
    for run in &started {
        let shown = loom.get(&format!("/api/v1/runs/{run}"));
        check_run(&loom, &shown, &seen, &person, &format!("{context}, run {run}"));
        let late = loom.request("POST", &format!("/api/v1/runs/{run}/answers"), br#"{"message": "late"}"#);
        assert_eq!(late.map(|late| late.status), Some(409), "{context}: the run has ended");
    }
    let keys: BTreeSet<&str> = seen.iter().map(|call| call.key.as_str()).collect();
    let repeated = seen.len() - keys.len();
    eprintln!(
        "{context}: {} runs, {} calls, {repeated} of them repeated after a kill, {} answers sent, {} accepted",
        started.len(),
        seen.len(),
        person.answers,
        person.accepted.len(),
    );
}

/// The control of the test above: a call that is made again after it was recorded is noticed, and so is one that no chat makes.
#[test]
fn a_repeated_call_of_a_chat_is_noticed() {
    let call = |life, key: &str| Seen { life, key: key.to_owned(), body: String::new() };
    let recorded = vec![BTreeSet::from(["run/Find/0".to_owned()]), BTreeSet::new()];
    assert_eq!(check(&[call(0, "run/Find/0")], &recorded, is_known), Ok(()));
    assert!(check(&[call(0, "run/Find/0"), call(1, "run/Find/0")], &recorded, is_known).is_err());
    assert!(check(&[call(0, "run/Other/0")], &recorded, is_known).is_err());
}
