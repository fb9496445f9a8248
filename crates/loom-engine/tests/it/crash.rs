//! Crashes: a run continues from every durable point, completed calls are never repeated, calls in flight are repeated with the
//! same key, and a replayed history yields the same state as the live one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use loom_definition::{RunStatus, Workflow};
use loom_engine::{
    Environment, RunRequest, Started,
    event::{Command, Event},
    journal,
    simulate::Simulation,
};
use loom_store::{MemoryStore, Store};

use crate::support::{Service, engine, load, now, ok, start, unavailable, workflow};

/// One of each kind of action with state: branches, loops, retries, waits, variables, scopes.
pub(crate) const BUSY: &str = r#"{
    "N": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "n", "type": "array", "value": []}]}, "runAfter": {}},
    "Each": {"type": "Foreach", "foreach": "@range(0, 4)", "runAfter": {"N": ["Succeeded"]},
        "runtimeConfiguration": {"concurrency": {"repetitions": 2}},
        "actions": {
            "Get": {"type": "Http", "inputs": {"method": "GET", "uri": "@{concat('http://s/', string(items('Each')))}"}, "runAfter": {}},
            "Keep": {"type": "AppendToArrayVariable", "inputs": {"name": "n", "value": "@body('Get')"}, "runAfter": {"Get": ["Succeeded"]}}}},
    "Poll": {"type": "Until", "expression": "@equals(iterationIndexes('Poll'), 2)", "runAfter": {"Each": ["Succeeded"]}, "actions": {
        "Rest": {"type": "Wait", "inputs": {"interval": {"count": 5, "unit": "Second"}}, "runAfter": {}},
        "Post": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/poll"}, "runAfter": {"Rest": ["Succeeded"]}}}},
    "Try": {"type": "Scope", "runAfter": {"Poll": ["Succeeded"]}, "actions": {
        "Choose": {"type": "If", "expression": "@equals(length(variables('n')), 4)", "runAfter": {},
            "actions": {"Last": {"type": "Http", "inputs": {"method": "PUT", "uri": "http://s/last"}, "runAfter": {}}},
            "else": {"actions": {"Wrong": {"type": "Terminate", "inputs": {"runStatus": "Failed"}, "runAfter": {}}}}}}},
    "Out": {"type": "Compose", "inputs": "@sort(variables('n'))", "runAfter": {"Try": ["Succeeded"]}}}"#;

/// Succeeds, except for the first attempt at each POST.
pub(crate) fn answer(call: &loom_engine::ports::Call) -> loom_engine::event::EffectResult {
    if call.inputs.get("method").and_then(|method| method.as_str()) == Some("POST") && call.attempt == 1 {
        return unavailable();
    }
    let uri = call.inputs.get("uri").and_then(|uri| uri.as_str()).unwrap_or_default();
    ok(&format!(r#"{{"statusCode": 200, "body": "{uri}"}}"#))
}

fn simulation(workflow: &Arc<Workflow>) -> Simulation {
    Simulation::new(Arc::clone(workflow), Arc::new(Environment::default()), now())
}

#[test]
fn a_run_continues_from_every_durable_point() {
    let workflow = workflow(BUSY);
    // Live, step by step: after each command, the history so far is what a store would contain.
    let mut live = simulation(&workflow);
    live.command(Command::Start(start(3)));
    let mut points = vec![(live.events().len(), live.now())];
    let mut completed: Vec<String> = Vec::new();
    let mut completed_at = vec![0];
    while let Some(choice) = live.choices().first().copied() {
        live.choose(choice, |call| {
            let result = answer(call);
            completed.push(format!("{}#{}", call.idempotency_key, call.attempt));
            result
        });
        points.push((live.events().len(), live.now()));
        completed_at.push(completed.len());
    }
    assert_eq!(live.run().state().status(), RunStatus::Succeeded);
    let expected = outputs_of(&live, "Out");
    let whole: Vec<Event> = live.events().to_vec();
    assert!(points.len() > 15, "the workflow is busy");
    for (point, (length, at)) in points.iter().enumerate() {
        let mut frame = Vec::new();
        journal::encode(&whole[..*length], &mut frame);
        let history = journal::decode(&frame).expect("what was written can be read");
        assert_eq!(history, whole[..*length]);
        let mut again =
            Simulation::resume(Arc::clone(&workflow), Arc::new(Environment::default()), *at, &history)
                .expect("the history is legal");
        let mut repeated = Vec::new();
        let status = again.play_on(10_000, |call| {
            let key = format!("{}#{}", call.idempotency_key, call.attempt);
            if completed[..completed_at[point]].contains(&key) {
                repeated.push(key);
            }
            answer(call)
        });
        assert_eq!(status, Some(RunStatus::Succeeded), "after a crash at point {point}");
        assert_eq!(repeated, Vec::<String>::new(), "calls repeated after a crash at point {point}");
        let rest: Vec<Event> = history.iter().chain(again.events()).cloned().collect();
        let mut all = loom_engine::history::History::new(Arc::clone(&workflow));
        all.extend(&rest);
        let out = all.occurrences(workflow.find_action("Out").unwrap());
        assert_eq!(out[0].outputs.as_ref(), Some(&expected), "after a crash at point {point}");
    }
}

#[test]
fn replay_equals_live() {
    let workflow = workflow(BUSY);
    let mut live = simulation(&workflow);
    live.command(Command::Start(start(3)));
    loop {
        let replayed = Simulation::resume(
            Arc::clone(&workflow),
            Arc::new(Environment::default()),
            live.now(),
            live.events(),
        )
        .expect("the history is legal");
        assert_eq!(format!("{:?}", replayed.run().state()), format!("{:?}", live.run().state()));
        let Some(choice) = live.choices().last().copied() else { break };
        live.choose(choice, answer);
    }
}

fn outputs_of(simulation: &Simulation, name: &str) -> loom_expression::Value {
    let workflow = simulation.run().state().workflow();
    let mut history = loom_engine::history::History::new(Arc::clone(workflow));
    history.extend(simulation.events());
    history.occurrences(workflow.find_action(name).unwrap())[0].outputs.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_continues_where_the_last_one_stopped() {
    let store = MemoryStore::default();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let workflow = load(
        r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
            "First": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/1"}, "runAfter": {}},
            "Second": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/2"}, "runAfter": {"First": ["Succeeded"]}},
            "Third": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/3"}, "runAfter": {"Second": ["Succeeded"]}}}}"#,
    );
    // The second call hangs, and the process ends during it.
    let service = Service::new(|call, _| {
        let hangs = call.definition().name.as_ref() == "Second";
        (if hangs { Duration::from_hours(24) } else { Duration::ZERO }, ok(r#"{"statusCode": 200}"#))
    });
    let first = engine(&service).store(Arc::clone(&shared)).build();
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = first.start(request, None) else { panic!("no run started") };
    assert!(runs[0].accepted().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.shut_down().await;
    assert_eq!(service.count(), 2);

    let healed = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200}"#)));
    let second = engine(&healed).store(shared).build();
    let mut recovered = second.recover(None).await.expect("the store can be read");
    assert_eq!((recovered.runs.len(), recovered.unreadable.len()), (1, 0));
    let report = recovered.runs[0].ended().await.expect("it ends");
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(report.id, runs[0].id);
    // The call in flight was repeated with the same key; the completed one was not.
    let (before, after): (HashMap<_, _>, HashMap<_, _>) = (service.by_key(), healed.by_key());
    let key = |name: &str| format!("{}/{name}", report.id);
    assert_eq!(before.get(&key("First")), Some(&1));
    assert_eq!(after.get(&key("First")), None);
    assert_eq!((before.get(&key("Second")), after.get(&key("Second"))), (Some(&1), Some(&1)));
    assert_eq!(after.get(&key("Third")), Some(&1));
    assert!(second.recover(None).await.expect("the store can be read").runs.is_empty());
    second.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_call_fails_if_the_definition_says_so() {
    let shared: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let workflow = workflow(
        r#"{"Pay": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/pay"}, "onUncertain": "fail", "runAfter": {}}}"#,
    );
    let hangs = Service::new(|_, _| (Duration::from_hours(24), ok("{}")));
    let first = engine(&hangs).store(Arc::clone(&shared)).build();
    let request = RunRequest::manual(Arc::clone(&workflow), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = first.start(request, None) else { panic!("no run started") };
    assert!(runs[0].accepted().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.shut_down().await;
    let second = engine(&hangs).store(shared).build();
    let mut recovered = second.recover(None).await.expect("the store can be read");
    let report = recovered.runs[0].ended().await.expect("it ends");
    assert_eq!((report.status, hangs.count()), (RunStatus::Failed, 1));
    second.shut_down().await;
}
