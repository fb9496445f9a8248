//! Runs: lists and their filters, details, actions, and commands for a run in progress.

use std::sync::Arc;

use hyper::Method;
use loom_definition::{Definition, LoadOptions, RunStatus};
use loom_engine::{Event, RunId, RunStart, journal, status_number};
use loom_expression::{Timestamp, Value};
use loom_store::{Commit, Frame, FrameQuery, MemoryStore, RunRow, Seq, Store, UnixMillis};
use loom_testkit::mock::Mock;

use crate::support::{Plan, World, json, list, on_disk, requested, text};

/// A workflow that waits until it is cancelled.
fn waiting() -> String {
    requested(
        r#"{"Pause": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}},
            "After": {"type": "Compose", "inputs": 1, "runAfter": {"Pause": ["Succeeded"]}}}"#,
    )
}

/// A workflow that fails with the code in its body.
fn choosy() -> String {
    requested(
        r#"{"Choose": {"type": "If", "expression": "@equals(triggerBody()?['fail'], true)", "runAfter": {},
            "actions": {"Stop": {"type": "Terminate", "runAfter": {},
                "inputs": {"runStatus": "Failed", "runError": {"code": "Spoilt", "message": "as reported"}}}}}}"#,
    )
}

fn ids(page: &Value) -> Vec<&str> {
    list(page, "runs").iter().map(|row| text(row, "id")).collect()
}

#[tokio::test]
async fn runs_are_listed_by_filter() {
    let world = World::new().await;
    world.deploy("Choosy", &choosy()).await;
    world.deploy("waiting", &waiting()).await;
    let good = world.invoke("choosy", "{}").await;
    let bad = world.invoke("choosy", r#"{"fail": true}"#).await;
    world.ended(&good).await;
    let failed = world.ended(&bad).await;
    assert_eq!(failed.get("error").map(|error| text(error, "code")), Some("Spoilt"));
    let slow = world.invoke("waiting", "").await;
    let asked = async |query: &str| {
        let page = world.get(&format!("/api/v1/runs{query}")).await.json();
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(asked("").await, [slow.as_str(), bad.as_str(), good.as_str()]);
    assert_eq!(asked("?order=oldest").await, [good.as_str(), bad.as_str(), slow.as_str()]);
    assert_eq!(asked("?workflow=choosy").await, [bad.as_str(), good.as_str()]);
    assert_eq!(asked("?status=failed").await, [bad.as_str()]);
    assert_eq!(asked("?status=Running").await, [slow.as_str()]);
    assert_eq!(asked("?error=Spoilt").await, [bad.as_str()]);
    assert_eq!(asked("?workflow=choosy&status=Succeeded").await, [good.as_str()]);
    assert!(asked("?workflow=nobody").await.is_empty());
    let row = world.get(&format!("/api/v1/runs/{bad}")).await.json();
    let accepted = text(&row, "acceptedTime");
    assert_eq!(asked(&format!("?from={accepted}&workflow=waiting")).await, [slow.as_str()]);
    assert!(asked(&format!("?before={accepted}")).await.iter().all(|run| *run == good));
    assert!(asked("?from=2999-01-01T00:00:00Z").await.is_empty());
    assert!(asked("?before=0").await.is_empty());
    for wrong in [
        "?status=Happy",
        "?limit=0",
        "?limit=1001",
        "?limit=many",
        "?order=random",
        "?from=yesterday",
        "?colour=red",
    ] {
        let reply = world.get(&format!("/api/v1/runs{wrong}")).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "BadRequest"), "{wrong}");
    }
}

#[tokio::test]
async fn a_cursor_leads_through_all_pages_without_gaps_or_repeats() {
    let world = World::new().await;
    world.deploy("choosy", &choosy()).await;
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(world.invoke("choosy", "{}").await);
    }
    for order in ["newest", "oldest"] {
        if order == "oldest" {
            all.sort();
        } else {
            all.sort_by(|left, right| right.cmp(left));
        }
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = world.get(&format!("/api/v1/runs?limit=3&order={order}{cursor}")).await.json();
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            pages += 1;
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
            if pages == 1 && order == "newest" {
                // A run that starts meanwhile does not shift the pages.
                world.invoke("choosy", "{}").await;
            }
        }
        let expected: Vec<&String> = all.iter().collect();
        assert_eq!(seen.iter().filter(|run| all.contains(run)).collect::<Vec<_>>(), expected);
        assert_eq!(pages, 3, "{order}");
    }
    let wrong = world.get("/api/v1/runs?cursor=nothing").await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "BadRequest"));
}

#[tokio::test]
async fn a_run_is_shown_with_its_actions_inputs_outputs_and_attempts() {
    let world = World::new().await;
    let rules = r#"{"rules": [{"path": "/quote", "responses": [{"status": 503, "times": 2}, {"body": {"price": 7}}]}]}"#;
    let mock = Mock::start(&json(rules)).await.unwrap();
    let base = mock.base_url();
    let workflow = requested(&format!(
        r#"{{"Quote": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/quote", "body": {{"id": "@triggerBody()?['id']"}}}},
                "retryPolicy": {{"maxAttempts": 4, "initialDelay": 1}}}},
            "Tell": {{"type": "Compose", "inputs": "@body('Quote').price", "runAfter": {{"Quote": ["Succeeded"]}}}},
            "Never": {{"type": "Compose", "inputs": 1, "runAfter": {{"Quote": ["Failed"]}}}}}}"#
    ));
    world.deploy("quote", &workflow).await;
    let run = world.run("quote", r#"{"id": 5}"#).await;
    assert_eq!(text(&run, "status"), "Succeeded");
    let trigger = run.get("trigger").unwrap();
    assert_eq!(trigger.get("outputs").and_then(|outputs| outputs.get("body")), Some(&json(r#"{"id": 5}"#)));
    for time in ["acceptedTime", "startTime", "endTime"] {
        assert!(text(&run, time).ends_with('Z'), "{run:?}");
    }
    let id = text(&run, "id");
    let actions = world.get(&format!("/api/v1/runs/{id}/actions")).await.json();
    let statuses: Vec<(&str, &str)> =
        list(&actions, "actions").iter().map(|one| (text(one, "name"), text(one, "status"))).collect();
    assert_eq!(statuses, [("Quote", "Succeeded"), ("Tell", "Succeeded"), ("Never", "Skipped")]);
    let quote = world.get(&format!("/api/v1/runs/{id}/actions/quote")).await.json();
    let [quote] = list(&quote, "occurrences") else { panic!("{quote:?}") };
    assert_eq!(quote.get("inputs").and_then(|inputs| inputs.get("body")), Some(&json(r#"{"id": 5}"#)));
    assert_eq!(quote.get("outputs").and_then(|outputs| outputs.get("body")), Some(&json(r#"{"price": 7}"#)));
    let attempts = list(quote, "attempts");
    let codes: Vec<&str> = attempts.iter().map(|attempt| text(attempt, "code")).collect();
    assert_eq!(codes, ["ServiceUnavailable", "ServiceUnavailable", "OK"]);
    assert!(attempts[0].get("nextDue").is_some() && attempts[2].get("nextDue").is_none());
    assert_eq!(mock.requests().len(), 3);
    for (path, code) in [
        (format!("/api/v1/runs/{id}/actions/Nobody"), "ActionNotFound"),
        ("/api/v1/runs/0000000000000/actions".to_owned(), "RunNotFound"),
        ("/api/v1/runs/0000000000000".to_owned(), "RunNotFound"),
        ("/api/v1/runs/no-id".to_owned(), "RunNotFound"),
        ("/api/v1/runs/%ff".to_owned(), "BadRequest"),
    ] {
        assert_eq!(world.get(&path).await.error(), code, "{path}");
    }
    mock.stop().await;
}

#[tokio::test]
async fn iterations_are_paged() {
    let world = World::new().await;
    let workflow = requested(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 25)", "runAfter": {}, "actions": {
                "Say": {"type": "Compose", "inputs": "@mul(item(), 2)", "runAfter": {}}}}}"#,
    );
    world.deploy("loop", &workflow).await;
    let run = world.run("loop", "").await;
    let id = text(&run, "id");
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.get(&format!("/api/v1/runs/{id}/actions/Say?limit=10{cursor}")).await.json();
        assert!(list(&page, "occurrences").len() <= 10);
        for one in list(&page, "occurrences") {
            let [round] = list(one, "path") else { panic!("{one:?}") };
            let round = round.as_array().unwrap();
            assert_eq!(round[0], Value::from("Each"));
            assert_eq!(one.get("outputs"), Some(&Value::from(round[1].as_i64().unwrap() * 2)));
            seen.push(one.get("number").and_then(Value::as_i64).unwrap());
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=25).collect::<Vec<i64>>());
    let actions = world.get(&format!("/api/v1/runs/{id}/actions")).await.json();
    let say = list(&actions, "actions").iter().find(|one| text(one, "name") == "Say").unwrap();
    assert_eq!(say.get("occurrenceCount"), Some(&Value::from(25i64)));
    assert_eq!(say.get("occurrenceStatuses"), Some(&json(r#"{"Succeeded": 25}"#)));
    for wrong in ["?limit=0", "?limit=x", "?cursor=x", "?page=1"] {
        let reply = world.get(&format!("/api/v1/runs/{id}/actions/Say{wrong}")).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, "BadRequest"), "{wrong}");
    }
}

#[tokio::test]
async fn a_run_is_suspended_resumed_and_cancelled() {
    let world = World::new().await;
    world.deploy("waiting", &waiting()).await;
    let run = world.invoke("waiting", "").await;
    let change = async |what: &str| world.post(&format!("/api/v1/runs/{run}/{what}"), "").await;
    for (what, status) in [
        ("suspend", "Suspended"),
        ("suspend", "Suspended"),
        ("resume", "Running"),
        ("resume", "Running"),
        ("suspend", "Suspended"),
        ("cancel", "Cancelled"),
    ] {
        let reply = change(what).await;
        assert_eq!((reply.status, text(&reply.json(), "status")), (200, status), "{what}");
        let shown = world.get(&format!("/api/v1/runs/{run}")).await.json();
        assert_eq!(text(&shown, "status"), status);
    }
    for what in ["suspend", "resume", "cancel"] {
        let reply = change(what).await;
        assert_eq!((reply.status, reply.error().as_str()), (409, "RunEnded"), "{what}");
        let unknown = world.post(&format!("/api/v1/runs/0000000000000/{what}"), "").await;
        assert_eq!((unknown.status, unknown.error().as_str()), (404, "RunNotFound"));
    }
    let actions = world.get(&format!("/api/v1/runs/{run}/actions")).await.json();
    let statuses: Vec<&str> = list(&actions, "actions").iter().map(|one| text(one, "status")).collect();
    assert_eq!(statuses, ["Cancelled", "Skipped"]);
}

#[tokio::test]
async fn a_run_is_resubmitted_from_its_trigger() {
    let world = World::new().await;
    let said = |word: &str| {
        requested(&format!(
            r#"{{"Say": {{"type": "Compose", "inputs": "{word} @{{triggerBody()?['id']}}", "runAfter": {{}}}}}}"#
        ))
    };
    world.deploy("orders", &said("old")).await;
    let first = world.run("orders", r#"{"id": 9}"#).await;
    let first = text(&first, "id");
    world.deploy("orders", &said("new")).await;
    for (query, output) in [("", "old 9"), ("?definition=same", "old 9"), ("?definition=current", "new 9")] {
        let reply = world.post(&format!("/api/v1/runs/{first}/resubmit{query}"), "").await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let reply = reply.json();
        assert_eq!(text(&reply, "resubmitOf"), first);
        let again = world.ended(text(&reply, "id")).await;
        assert_eq!((text(&again, "status"), text(&again, "resubmitOf")), ("Succeeded", first));
        let said = world.get(&format!("/api/v1/runs/{}/actions/Say", text(&again, "id"))).await.json();
        assert_eq!(text(&list(&said, "occurrences")[0], "outputs"), output);
    }
    let wrong = world.post(&format!("/api/v1/runs/{first}/resubmit?definition=best"), "").await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "BadRequest"));
    world.host.withdraw("orders");
    let gone = world.post(&format!("/api/v1/runs/{first}/resubmit?definition=current"), "").await;
    assert_eq!((gone.status, gone.error().as_str()), (404, "WorkflowNotFound"));
    let unknown = world.post("/api/v1/runs/0000000000000/resubmit", "").await;
    assert_eq!((unknown.status, unknown.error().as_str()), (404, "RunNotFound"));
}

#[tokio::test]
async fn a_run_is_resubmitted_from_an_action() {
    let world = World::new().await;
    let rules = r#"{"rules": [{"path": "/first", "response": {"body": "one"}},
        {"path": "/second", "responses": [{"status": 400}, {"body": "two"}]}]}"#;
    let mock = Mock::start(&json(rules)).await.unwrap();
    let base = mock.base_url();
    let definition = |word: &str| {
        requested(&format!(
            r#"{{"First": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/first"}}, "runAfter": {{}}}},
                "Second": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{base}/second"}}, "runAfter": {{"First": ["Succeeded"]}}}},
                "Tell": {{"type": "Compose", "inputs": "{word} @{{body('First')}} @{{body('Second')}}", "runAfter": {{"Second": ["Succeeded"]}}}},
                "Each": {{"type": "Foreach", "foreach": "@range(0, 2)", "runAfter": {{}}, "actions": {{
                    "Inner": {{"type": "Compose", "inputs": 1, "runAfter": {{}}}}}}}}}}"#
        ))
    };
    world.deploy("orders", &definition("old")).await;
    let failed = world.run("orders", "{}").await;
    assert_eq!(text(&failed, "status"), "Failed");
    let id = text(&failed, "id");
    world.deploy("orders", &definition("new")).await;
    let asked = [
        ("?from=second", "", "old"),
        ("", r#"{"from": "Second", "definition": "current"}"#, "new"),
        ("?definition=same", r#"{"from": "Second", "definition": "same"}"#, "old"),
    ];
    for (query, body, word) in asked {
        let reply = world.post(&format!("/api/v1/runs/{id}/resubmit{query}"), body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let reply = reply.json();
        assert_eq!(
            (text(&reply, "resubmitOf"), text(&reply, "from").to_lowercase().as_str()),
            (id, "second")
        );
        let again = world.ended(text(&reply, "id")).await;
        assert_eq!((text(&again, "status"), text(&again, "resubmitOf")), ("Succeeded", id));
        let said = world.get(&format!("/api/v1/runs/{}/actions/Tell", text(&again, "id"))).await.json();
        assert_eq!(text(&list(&said, "occurrences")[0], "outputs"), format!("{word} one two"));
    }
    let firsts = mock.requests().iter().filter(|request| request.path == "/first").count();
    assert_eq!((firsts, mock.requests().len()), (1, 5), "kept actions are not called again");
    world.deploy("waiting", &waiting()).await;
    let waits = world.invoke("waiting", "").await;
    world.deploy("orders", &definition("new").replace("/first", "/other")).await;
    for (run, query, body, status, code) in [
        (id, "?from=Nobody", "", 404, "ActionNotFound"),
        (id, "?from=Inner", "", 409, "ActionNotResubmittable"),
        (id, "?from=Second&definition=current", "", 409, "DefinitionDiffers"),
        (waits.as_str(), "?from=After", "", 409, "RunInProgress"),
        (id, "?from=Second", r#"{"from": "Nobody"}"#, 404, "ActionNotFound"),
        (id, "", r#"{"form": "First"}"#, 400, "BadRequest"),
        (id, "", r#"{"from": 1}"#, 400, "BadRequest"),
        (id, "", "[]", 400, "BadRequest"),
        (id, "", "{", 400, "BadRequest"),
        ("0000000000000", "?from=First", "", 404, "RunNotFound"),
    ] {
        let reply = world.post(&format!("/api/v1/runs/{run}/resubmit{query}"), body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, code), "{query} {body}");
    }
    mock.stop().await;
}

#[tokio::test]
async fn any_trigger_can_be_fired_manually() {
    let world = World::new().await;
    let text_of = r#"{"definition": {
        "triggers": {"Nightly": {"type": "Recurrence", "recurrence": {"frequency": "Month", "interval": 1, "startTime": "2999-01-01T00:00:00Z"}}},
        "actions": {"Say": {"type": "Compose", "inputs": "@triggerOutputs()?['reason']", "runAfter": {}}}}}"#;
    world.deploy("nightly", text_of).await;
    let fired =
        world.post("/api/v1/workflows/nightly/triggers/nightly/run", r#"{"reason": "by hand"}"#).await;
    assert_eq!(fired.status, 202);
    let fired = fired.json();
    let [run] = list(&fired, "runs") else { panic!("{fired:?}") };
    let run = world.ended(run.as_str().unwrap()).await;
    let said = world.get(&format!("/api/v1/runs/{}/actions/Say", text(&run, "id"))).await.json();
    assert_eq!(text(&list(&said, "occurrences")[0], "outputs"), "by hand");
    for (path, body, status, code) in [
        ("/api/v1/workflows/nightly/triggers/daily/run", "", 404, "WorkflowTriggerNotFound"),
        ("/api/v1/workflows/weekly/triggers/nightly/run", "", 404, "WorkflowNotFound"),
        ("/api/v1/workflows/nightly/triggers/nightly/run", "{", 400, "BadRequest"),
    ] {
        let reply = world.post(path, body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, code));
    }
}

#[tokio::test]
async fn an_ended_run_is_deleted_with_everything_of_it_and_an_unfinished_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    let text_of_200_kib = "x".repeat(200 << 10);
    world.deploy("done", &requested(&format!(r#"{{"Keep": {{"type": "Compose", "inputs": "{text_of_200_kib}", "runAfter": {{}}}}, "Answer": {{"type": "Response", "inputs": {{"body": 1}}, "runAfter": {{"Keep": ["Succeeded"]}}}}}}"#))).await;
    world.deploy("waits", &requested(r#"{"Wait": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}, "runAfter": {}}}"#)).await;
    let run_of = async |workflow: &str| {
        let runs = world.get(&format!("/api/v1/runs?workflow={workflow}")).await.json();
        list(&runs, "runs").first().map(|run| text(run, "id").to_owned())
    };
    assert_eq!(world.post("/workflows/waits/triggers/manual/invoke", "").await.status, 202);
    let waiting = run_of("waits").await.unwrap();
    let refused = world.call(Method::DELETE, &format!("/api/v1/runs/{waiting}"), "").await;
    assert_eq!((refused.status, refused.error().as_str()), (409, "RunNotEnded"));
    assert!(refused.text().contains("loom runs cancel"), "{}", refused.text());
    assert_eq!(world.get(&format!("/api/v1/runs/{waiting}")).await.status, 200);

    assert_eq!(world.post("/workflows/done/triggers/manual/invoke", "").await.status, 200);
    let done = run_of("done").await.unwrap();
    let path = format!("/api/v1/runs/{done}");
    // A Response is sent before the run has ended.
    while text(&world.get(&path).await.json(), "status") != "Succeeded" {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.call(Method::DELETE, &path, "").await.status, 204);
    for gone in [&path, &format!("{path}/actions"), &format!("{path}/events")] {
        assert_eq!(world.get(gone).await.status, 404, "{gone}");
    }
    assert_eq!(run_of("done").await, None);
    for unknown in [path.as_str(), "/api/v1/runs/nothing"] {
        let again = world.call(Method::DELETE, unknown, "").await;
        assert_eq!((again.status, again.error().as_str()), (404, "RunNotFound"));
    }
    world.stop().await;
}

/// The journal of a run can be read, but starts the run twice. The run is shown with the reason and what to do, the server serves
/// everything else, and nothing is written to the journal.
#[tokio::test]
async fn a_run_with_an_inconsistent_journal_is_unreadable() {
    let definition = waiting();
    let workflow = Definition::parse(definition.as_bytes(), &LoadOptions::default()).unwrap().workflow;
    let run: RunId = "0000000000002".parse().unwrap();
    let start = Arc::new(RunStart {
        run,
        seed: 1,
        parameters: Vec::new(),
        trigger: json("{}"),
        workflow: json("{}"),
        tracking_id: Arc::from("test"),
        wants_response: false,
        trace: None,
        depth: 0,
    });
    let mut payload = Vec::new();
    let started = Event::RunStarted { start, at: Timestamp::from_unix_millis(0) };
    journal::encode([&started, &started], &mut payload);
    let frame = Frame { at: UnixMillis(0), payload: payload.into() };
    let definition = loom_store::Definition::new(workflow.source.as_bytes().to_vec().into());
    let mut commit = Commit::to_run(run, Seq::FIRST, vec![frame]);
    let running = status_number(RunStatus::Running);
    commit.row = Some(RunRow::new(run, Arc::clone(&workflow.name), definition.hash(), running));
    commit.definitions.push(definition);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    store.commit(commit).await.unwrap();
    let before = store.load(run).await.unwrap();

    let world = World::start(Plan { store: Arc::clone(&store), ..Plan::default() }).await;
    world.deploy("choosy", &choosy()).await;
    let other = world.invoke("choosy", "{}").await;
    world.ended(&other).await;
    let because = "event 2 (RunStarted) cannot occur here: the run has already started";
    let shown = world.get(&format!("/api/v1/runs/{run}")).await.json();
    assert!(text(&shown, "unreadable").contains(because), "{shown:?}");
    assert!(text(&shown, "unreadable").contains(&format!("`loom runs resubmit {run}`")));
    let page = world.get("/api/v1/runs?status=Running").await.json();
    assert!(text(&list(&page, "runs")[0], "unreadable").contains(because));
    for change in ["cancel", "suspend", "resume"] {
        let reply = world.post(&format!("/api/v1/runs/{run}/{change}"), "").await;
        assert_eq!((reply.status, reply.error().as_str()), (409, "RunUnreadable"), "{change}");
    }
    let reply = world.post(&format!("/api/v1/runs/{run}/resubmit"), "").await;
    assert_eq!(reply.status, 202, "its trigger can be read");
    assert_eq!(store.load(run).await.unwrap(), before, "nothing was written to the run");
    assert_eq!(store.frames(FrameQuery::of(run)).await.unwrap().frames.len(), 1);
    world.stop().await;
}
