//! Resubmission from an action: what is kept, what is executed again, and what is rejected.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Engine, Event, ResubmitError, RunHandle, RunId, RunRequest, RunState, Started, Watcher, history::History,
    journal,
};
use loom_expression::Value;
use loom_store::{FrameQuery, MemoryStore, Store, prelude::*};

use crate::support::{Service, engine, json, ok, unavailable, workflow};

/// Responds with the number of the call; the broken actions fail until they are repaired.
struct World {
    engine: Engine,
    store: Arc<MemoryStore>,
    service: Arc<Service>,
    broken: Arc<Mutex<Vec<&'static str>>>,
    live: Arc<Live>,
}

/// The last reported state of each run.
#[derive(Default)]
struct Live(Mutex<Vec<(RunId, Vec<u8>)>>);

impl Watcher for Live {
    fn events(&self, state: &RunState, _: &[Event]) {
        let run = state.start().expect("it has started").run;
        self.0.lock().unwrap().push((run, journal::encode_snapshot(state)));
    }
}

impl World {
    fn new(broken: &[&'static str]) -> World {
        World::on(Arc::new(MemoryStore::default()), broken)
    }

    fn on(store: Arc<MemoryStore>, broken: &[&'static str]) -> World {
        let broken = Arc::new(Mutex::new(broken.to_vec()));
        let known = Arc::clone(&broken);
        let service = Service::new(move |call, number| {
            let name = &*call.definition().name;
            let result = if known.lock().unwrap().contains(&name) {
                unavailable()
            } else {
                ok(&format!(r#"{{"statusCode": 200, "body": "{name} {number}"}}"#))
            };
            let wait = if name.starts_with("Slow") { Duration::from_hours(1) } else { Duration::ZERO };
            (wait, result)
        });
        let live = Arc::new(Live::default());
        let engine = engine(&service)
            .store(Arc::clone(&store) as Arc<dyn Store>)
            .watcher(Arc::clone(&live) as Arc<dyn Watcher>)
            .build();
        World { engine, store, service, broken, live }
    }

    fn mend(&self) {
        self.broken.lock().unwrap().clear();
    }

    fn start(&self, workflow: &Arc<Workflow>) -> RunHandle {
        let body = Some(json(r#"{"id": 5}"#));
        let request = RunRequest::manual(Arc::clone(workflow), Vec::new(), body);
        match self.engine.start(request, None).unwrap() {
            Started::Runs(mut runs) => runs.remove(0),
            held @ Started::NotMet { .. } => panic!("{held:?}"),
        }
    }

    async fn run(&self, workflow: &Arc<Workflow>) -> (RunId, RunStatus) {
        let mut run = self.start(workflow);
        let report = run.ended().await.expect("it ends");
        (report.id, report.status)
    }

    /// Resubmits, waits for the end, and checks that the journal equals what was reported.
    async fn again(&self, workflow: &Arc<Workflow>, run: RunId, from: &str) -> (RunStatus, History) {
        let mut new = self.engine.resubmit_from(workflow, Vec::new(), run, from).await.unwrap();
        let report = new.ended().await.expect("it ends");
        let (row, history) = self.engine.history(new.id).await.unwrap().unwrap();
        assert_eq!(row.origin, Some(run));
        assert_eq!(history.start.as_ref().unwrap().trigger, {
            let (_, before) = self.engine.history(run).await.unwrap().unwrap();
            before.start.unwrap().trigger.clone()
        });
        self.check_replay(workflow, new.id).await;
        (report.status, history)
    }

    async fn check_replay(&self, workflow: &Arc<Workflow>, run: RunId) {
        let page = self.store.frames(FrameQuery::of(run)).await.unwrap();
        assert!(page.next.is_none());
        let mut state = RunState::new(Arc::clone(workflow));
        for frame in &page.frames {
            state.replay(&journal::decode(&frame.payload).unwrap()).expect("the history is legal");
        }
        let seen = self.live.0.lock().unwrap();
        let (_, last) = seen.iter().rfind(|(known, _)| *known == run).expect("it was seen");
        assert_eq!(journal::encode_snapshot(&state), *last, "the loaded state equals the reported one");
    }

    async fn refused(&self, workflow: &Arc<Workflow>, run: RunId, from: &str) -> ResubmitError {
        self.engine.resubmit_from(workflow, Vec::new(), run, from).await.map(|new| new.id).unwrap_err()
    }

    fn calls(&self) -> usize {
        self.service.count()
    }
}

fn outputs(history: &History, name: &str) -> Value {
    let action = history.workflow().find_action(name).unwrap();
    let last = history.occurrences(action).last().unwrap_or_else(|| panic!("{name} did not run"));
    last.outputs.clone().unwrap_or_default()
}

fn status(history: &History, name: &str) -> String {
    let action = history.workflow().find_action(name).unwrap();
    history.status_of(action).map_or("none", loom_definition::Status::as_str).to_owned()
}

fn http(after: &str) -> String {
    format!(
        r#"{{"type": "Http", "inputs": {{"method": "POST", "uri": "http://s"}}, "retryPolicy": {{"type": "none"}}, "runAfter": {{{after}}}}}"#
    )
}

fn compose(inputs: &str, after: &str) -> String {
    format!(r#"{{"type": "Compose", "inputs": "{inputs}", "runAfter": {{{after}}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_chain_continues_where_it_failed() {
    let workflow = workflow(&format!(
        r#"{{"A": {}, "B": {}, "C": {}, "D": {}}}"#,
        http(""),
        compose("b @{body('A')} @{guid()}", r#""A": ["Succeeded"]"#),
        http(r#""B": ["Succeeded"]"#),
        compose(
            "@{body('A')}, @{outputs('B')}, @{body('C')}, @{triggerBody()?['id']}",
            r#""C": ["Succeeded"]"#
        ),
    ));
    let world = World::new(&["C"]);
    let (run, ended) = world.run(&workflow).await;
    assert_eq!((ended, world.calls()), (RunStatus::Failed, 2));
    let (_, before) = world.engine.history(run).await.unwrap().unwrap();
    world.mend();
    let (ended, history) = world.again(&workflow, run, "c").await;
    assert_eq!((ended, world.calls()), (RunStatus::Succeeded, 3), "only C was called again");
    // Kept outputs are identical, including random values.
    assert_eq!(outputs(&history, "B"), outputs(&before, "B"));
    let a = workflow.find_action("A").unwrap();
    assert_eq!(history.occurrences(a)[0].started, before.occurrences(a)[0].started);
    let told = outputs(&history, "D");
    assert_eq!(told.as_str().unwrap(), format!("A 1, {}, C 3, 5", outputs(&before, "B").as_str().unwrap()));
    // A resubmitted run can be resubmitted, even from the first action.
    let (ended, history) = world.again(&workflow, history.start.as_ref().unwrap().run, "A").await;
    assert_eq!((ended, world.calls()), (RunStatus::Succeeded, 5));
    assert_ne!(outputs(&history, "B"), outputs(&before, "B"));
    // The calls of each run have separate keys.
    assert!(world.service.by_key().values().all(|count| *count == 1));
    assert!(matches!(world.refused(&workflow, run, "Nobody").await, ResubmitError::UnknownAction { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_kept_and_interrupted_actions_run_again() {
    let workflow = workflow(&format!(
        r#"{{"L1": {}, "L2": {}, "R1": {}, "R2": {}, "Slow": {}, "Join": {}, "Caught": {}}}"#,
        http(""),
        http(r#""L1": ["Succeeded"]"#),
        http(""),
        http(r#""R1": ["Succeeded"]"#),
        http(""),
        compose("@{body('L2')}, @{body('R2')}", r#""L2": ["Succeeded"], "R2": ["Succeeded"]"#),
        compose("caught", r#""R2": ["Failed"]"#),
    ));
    let world = World::new(&["R2"]);
    let run = world.start(&workflow);
    while world.service.count() < 5 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(world.refused(&workflow, run.id, "R2").await, ResubmitError::InProgress { .. }));
    let (id, mut run) = (run.id, run);
    run.cancel().await;
    assert_eq!(run.ended().await.unwrap().status, RunStatus::Cancelled);
    world.mend();
    let (ended, history) = world.again(&workflow, id, "R2").await;
    assert_eq!(ended, RunStatus::Succeeded);
    // R2 is the action to begin with, Slow was interrupted; the others are kept.
    assert_eq!(world.calls(), 7);
    assert_eq!(
        (status(&history, "Caught").as_str(), status(&history, "Slow").as_str()),
        ("Skipped", "Succeeded")
    );
    let joined = outputs(&history, "Join");
    assert!(joined.as_str().unwrap().starts_with("L2 "), "{joined:?}");
}

#[tokio::test(start_paused = true)]
async fn variables_have_the_values_they_had_before() {
    let workflow = workflow(&format!(
        r#"{{
        "Init": {{"type": "InitializeVariable", "runAfter": {{}}, "inputs": {{"variables": [
            {{"name": "n", "type": "integer", "value": 1}}, {{"name": "list", "type": "array", "value": []}}]}}}},
        "Add": {{"type": "IncrementVariable", "inputs": {{"name": "n", "value": 10}}, "runAfter": {{"Init": ["Succeeded"]}}}},
        "Each": {{"type": "Foreach", "foreach": "@range(0, 3)", "runAfter": {{"Add": ["Succeeded"]}}, "actions": {{
            "Push": {{"type": "AppendToArrayVariable", "inputs": {{"name": "list", "value": "@item()"}}, "runAfter": {{}}}}}}}},
        "More": {{"type": "IncrementVariable", "inputs": {{"name": "n", "value": 100}}, "runAfter": {{"Each": ["Succeeded"]}}}},
        "Last": {{"type": "AppendToArrayVariable", "inputs": {{"name": "list", "value": "last"}}, "runAfter": {{"More": ["Succeeded"]}}}},
        "Tell": {}}}"#,
        compose("@{variables('n')} @{variables('list')}", r#""Last": ["Succeeded"]"#),
    ));
    let world = World::new(&[]);
    let (run, ended) = world.run(&workflow).await;
    assert_eq!(ended, RunStatus::Succeeded);
    for (from, told) in [
        ("More", r#"111 [0,1,2,"last"]"#),
        ("Tell", r#"111 [0,1,2,"last"]"#),
        ("Each", r#"111 [0,1,2,"last"]"#),
        ("Init", r#"111 [0,1,2,"last"]"#),
    ] {
        let (ended, history) = world.again(&workflow, run, from).await;
        assert_eq!(ended, RunStatus::Succeeded);
        let said = outputs(&history, "Tell");
        let said = said.as_str().unwrap().replace(' ', "").replace("111[", "111 [");
        assert_eq!(said, told, "from {from}");
        let push = workflow.find_action("Push").unwrap();
        assert_eq!(history.occurrences(push).len(), 3, "from {from}");
    }
    let repeated = world.refused(&workflow, run, "Push").await;
    assert_eq!(
        repeated.to_string(),
        "the action 'Push' is inside 'Each', which repeats it; resubmit from 'Each' instead"
    );
}

fn scoped() -> String {
    format!(
        r#"{{"Before": {}, "Choose": {{"type": "If", "expression": "@equals(1, 1)", "runAfter": {{"Before": ["Succeeded"]}},
            "actions": {{"Work": {{"type": "Scope", "runAfter": {{}}, "limit": {{"timeout": "PT2H"}},
                "actions": {{"S1": {}, "Slow": {}, "S2": {}, "S3": {}}}}},
                "Beside": {}}},
            "else": {{"actions": {{"Never": {}}}}}}},
          "After": {}, "Caught": {}}}"#,
        http(""),
        http(""),
        http(r#""S1": ["Succeeded"]"#),
        http(r#""Slow": ["Succeeded"]"#),
        compose("@{body('S1')}, @{body('S2')}", r#""S2": ["Succeeded"]"#),
        http(""),
        compose("never", ""),
        compose("@{outputs('S3')}; @{length(result('Work'))}", r#""Choose": ["Succeeded"]"#),
        compose("caught", r#""Choose": ["Failed"]"#),
    )
}

#[tokio::test(start_paused = true)]
async fn the_enclosing_blocks_are_opened_again() {
    let workflow = workflow(&scoped());
    let world = World::new(&["S2"]);
    let (run, ended) = world.run(&workflow).await;
    // Caught is the end of one branch, and After of another, skipped after a failure.
    assert_eq!((ended, world.calls()), (RunStatus::Failed, 5));
    // Hours later, the timeout of the scope starts again.
    tokio::time::advance(Duration::from_hours(9)).await;
    world.mend();
    let (ended, history) = world.again(&workflow, run, "S2").await;
    assert_eq!((ended, world.calls()), (RunStatus::Succeeded, 6));
    assert_eq!(outputs(&history, "After").as_str().unwrap(), "S1 3, S2 6; 4");
    assert_eq!(status(&history, "Caught"), "Skipped");
    let never = world.refused(&workflow, run, "Never").await;
    assert!(matches!(never, ResubmitError::NotReached { .. }), "{never:?}");
    // From the scope itself, everything in it runs again, and what is outside is kept.
    let (ended, _) = world.again(&workflow, run, "Work").await;
    assert_eq!((ended, world.calls()), (RunStatus::Succeeded, 9));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_block_starts_again() {
    let text = scoped().replace("PT2H", "PT30M");
    let workflow = workflow(&text);
    let world = World::new(&[]);
    let (run, ended) = world.run(&workflow).await;
    assert_eq!(ended, RunStatus::Failed);
    let (ended, history) = world.again(&workflow, run, "Slow").await;
    assert_eq!((ended, status(&history, "Work").as_str()), (RunStatus::Failed, "TimedOut"));
    let work = workflow.find_action("Work").unwrap();
    let took = history.occurrences(work)[0].took(crate::support::now());
    assert_eq!(took, Duration::from_mins(30));
}

#[tokio::test(start_paused = true)]
async fn a_different_definition_must_contain_the_kept_actions() {
    let old = workflow(&scoped());
    let world = World::new(&["S2"]);
    let (run, _) = world.run(&old).await;
    world.mend();
    // Different indices for everything, a new action, and a changed action to begin with.
    let changed = scoped()
        .replacen(r#"{"Before""#, &format!(r#"{{"New": {}, "Before""#, compose("new", "")), 1)
        .replace("@{body('S1')}, @{body('S2')}", "mended @{body('S1')}, @{body('S2')}");
    let new = workflow(&changed);
    let (ended, history) = world.again(&new, run, "S2").await;
    assert_eq!(ended, RunStatus::Succeeded);
    assert_eq!(outputs(&history, "New").as_str(), Some("new"));
    assert!(outputs(&history, "After").as_str().unwrap().starts_with("mended S1 3, S2 "));
    for (text, which) in [
        (scoped().replacen("http://s", "http://other", 1), "Before"),
        (scoped().replace("@equals(1, 1)", "@equals(2, 2)"), "Choose"),
        (scoped().replace("PT2H", "PT3H"), "Work"),
        (scoped().replace("Beside", "Apart"), "Beside"),
    ] {
        let other = workflow(&text);
        let refused = world.refused(&other, run, "S2").await;
        assert!(matches!(&refused, ResubmitError::Differs { action } if **action == *which), "{refused:?}");
    }
    let gone = workflow(&scoped().replace("S2", "S9"));
    assert!(matches!(world.refused(&gone, run, "S2").await, ResubmitError::UnknownAction { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_resubmitted_run_survives_the_process() {
    let workflow = workflow(&scoped());
    let store = Arc::new(MemoryStore::default());
    let world = World::on(Arc::clone(&store), &["S2"]);
    let (run, _) = world.run(&workflow).await;
    world.mend();
    let new = world.engine.resubmit_from(&workflow, Vec::new(), run, "Slow").await.unwrap();
    while world.calls() < 6 {
        tokio::task::yield_now().await;
    }
    world.engine.shut_down().await;
    assert!(world.refused(&workflow, run, "Slow").await.to_string().contains("shutting down"));

    let world = World::on(store, &[]);
    let mut recovered = world.engine.recover(None).await.unwrap();
    assert_eq!(recovered.runs.len(), 1);
    let report = recovered.runs[0].ended().await.unwrap();
    assert_eq!((report.id, report.status), (new.id, RunStatus::Succeeded));
    // The call in flight was repeated, and the one after it was made; kept calls were not repeated.
    assert_eq!(world.calls(), 2);
    world.check_replay(&workflow, new.id).await;
    let (row, history) = world.engine.history(new.id).await.unwrap().unwrap();
    assert_eq!(row.origin, Some(run));
    assert_eq!(outputs(&history, "After").as_str().unwrap(), "S1 3, S2 2; 4");
}
