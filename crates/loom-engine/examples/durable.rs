//! A durable run: it waits for a signal, survives a restart of the process, and continues where it stopped.
//!
//! `cargo run -p loom-engine --example durable`

use std::{error::Error, path::Path, sync::Arc};

use loom_definition::{Definition, LoadOptions, RunStatus, Workflow};
use loom_engine::{Engine, Event, RunId, RunRequest, RunState, Signal, Started, Watcher};
use loom_expression::Value;
use loom_store::{SqliteOptions, SqliteStore, Store};

type Fallible<T> = Result<T, Box<dyn Error>>;

const APPROVAL: &str = r#"{
    "triggers": {"manual": {"type": "Request"}},
    "actions": {
        "Approved": {"type": "WaitForSignal", "inputs": {"name": "approved"}, "runAfter": {}},
        "Report": {
            "type": "Compose",
            "inputs": "@{triggerBody()} was approved by @{body('Approved')}",
            "runAfter": {"Approved": ["Succeeded"]}
        }
    },
    "outputs": {"report": {"type": "String", "value": "@outputs('Report')"}}
}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let directory = tempfile::tempdir()?;
    let run = first_process(directory.path()).await?;
    let report = second_process(directory.path(), run).await?;
    assert_eq!(report, Some(Value::from("Order 17 was approved by Ada")));
    Ok(())
}

/// Starts the run, and stops while the run waits.
async fn first_process(directory: &Path) -> Fallible<RunId> {
    let (engine, store) = open(directory)?;
    let workflow = load()?;
    let request = RunRequest::manual(workflow, Vec::new(), Some(Value::from("Order 17")));
    let Started::Runs(runs) = engine.start(request, None)? else { return Err("no run started".into()) };
    let [mut run] = <[_; 1]>::try_from(runs).map_err(|runs| format!("{} runs started", runs.len()))?;
    // From here on the run survives a crash, too.
    if !run.accepted().await {
        return Err("the store did not accept the run".into());
    }
    println!("accepted run {}", run.id);
    engine.shut_down().await;
    store.close().await?;
    Ok(run.id)
}

/// Resumes the run, sends the signal, and returns the output of the workflow.
async fn second_process(directory: &Path, id: RunId) -> Fallible<Option<Value>> {
    let (engine, store) = open(directory)?;
    let mut recovered = engine.recover(None).await?;
    let run = recovered.runs.iter_mut().find(|run| run.id == id).ok_or("the run was not resumed")?;
    println!("resumed run {}", run.id);

    let signal =
        Signal { name: "approved".into(), body: Some(Value::from("Ada")), idempotency_key: Some("1".into()) };
    engine.signal(id, signal).await?;
    let report = run.ended().await.ok_or("the engine stopped before the run ended")?;
    assert_eq!(report.status, RunStatus::Succeeded);

    engine.shut_down().await;
    store.close().await?;
    Ok(report.outputs.as_ref().and_then(|outputs| outputs.get("report").cloned()))
}

fn open(directory: &Path) -> Fallible<(Engine, Arc<dyn Store>)> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory, SqliteOptions::default())?);
    let engine = Engine::builder().store(Arc::clone(&store)).watcher(Arc::new(Printer)).build();
    Ok((engine, store))
}

fn load() -> Fallible<Arc<Workflow>> {
    let options = LoadOptions { name: Some("approval".into()), ..LoadOptions::default() };
    Ok(Definition::parse(APPROVAL.as_bytes(), &options)?.workflow)
}

/// Prints the end of every action and run.
struct Printer;

impl Watcher for Printer {
    fn events(&self, state: &RunState, events: &[Event]) {
        for event in events {
            match event {
                Event::ActionEnded { place, outcome, .. } => {
                    println!("  {} {}", state.workflow().action(place.action).name, outcome.status);
                }
                Event::RunEnded { status, .. } => println!("  run {status}"),
                _ => {}
            }
        }
    }
}
