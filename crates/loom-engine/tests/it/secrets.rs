//! `@secret()`: where it may be used, its errors, and that secrets are never shown.

use std::sync::Arc;

use loom_definition::RunStatus;
use loom_engine::{Environment, Secret, SecretFuture, SecretSource, history::History, simulate::Simulation};

use crate::support::{json, now, ok, start, workflow};

/// A source of one secret.
struct Safe;

impl SecretSource for Safe {
    fn read<'a>(&'a self, name: &'a str, _: Option<&'a str>) -> SecretFuture<'a> {
        Box::pin(std::future::ready(if name == "api-key" {
            Ok(Secret { value: "s3cr3t".into(), name: name.into(), version: None })
        } else {
            Err(format!("Secret not found: {name}"))
        }))
    }
}

/// Runs one Compose with these inputs.
fn compose(inputs: &str, secrets: Option<Arc<dyn SecretSource>>) -> (Option<RunStatus>, History) {
    let workflow = workflow(&format!(r#"{{"A": {{"type": "Compose", "inputs": {inputs}}}}}"#));
    let environment = Arc::new(Environment { secrets, ..Environment::default() });
    let mut simulation = Simulation::new(Arc::clone(&workflow), environment, now());
    let status = simulation.play(start(7), 1_000, |_| ok("{}"));
    let mut history = History::new(workflow);
    history.extend(simulation.events());
    (status, history)
}

fn error(history: &History) -> String {
    let action = history.workflow().find_action("A").expect("it exists");
    let occurrence = history.occurrences(action).last().expect("it ran");
    occurrence.error.as_ref().map(|error| error.message.clone()).unwrap_or_default()
}

#[test]
fn a_secret_can_be_used_in_a_compose_and_inside_objects() {
    for (inputs, expected) in [
        (r#""@secret('api-key')""#, r#""s3cr3t""#),
        (
            r#"{"headers": {"Authorization": "Bearer @{secret('api-key')}"}}"#,
            r#"{"headers": {"Authorization": "Bearer s3cr3t"}}"#,
        ),
    ] {
        let (status, history) = compose(inputs, Some(Arc::new(Safe)));
        assert_eq!(status, Some(RunStatus::Succeeded), "{inputs}");
        let action = history.workflow().find_action("A").expect("it exists");
        let outputs = history.occurrences(action)[0].outputs.clone().expect("it has outputs");
        assert!(outputs.wdl_equals(&json(expected)), "{inputs}");
        assert!(outputs.contains_secret(), "{inputs}");
        assert!(!format!("{outputs:?}").contains("s3cr3t"), "{outputs:?}");
    }
}

#[test]
fn an_unknown_secret_fails_its_action() {
    let (status, history) = compose(r#""@secret('nobody')""#, Some(Arc::new(Safe)));
    assert_eq!(status, Some(RunStatus::Failed));
    assert!(error(&history).contains("Secret not found: nobody"), "{}", error(&history));
}

#[test]
fn without_a_source_a_secret_fails_its_action() {
    let (status, history) = compose(r#""@secret('api-key')""#, None);
    assert_eq!(status, Some(RunStatus::Failed));
    assert!(error(&history).contains("No secrets client configured"), "{}", error(&history));
}
