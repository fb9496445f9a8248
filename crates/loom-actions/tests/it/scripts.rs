//! Inline scripts in a real engine: their limits, and how secrets stay secret.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use loom_actions::{ScriptHandler, ScriptLimits};
use loom_definition::{Definition, LoadOptions, RunStatus, model::EffectKind};
use loom_engine::{Engine, RunReport, RunRequest};
use loom_expression::Value;

/// Executes actions with one place for scripts. Each action is followed by the next whatever its result, so the run
/// reaches its outputs.
async fn executed(actions: &str, outputs: &str, time: Duration) -> Arc<RunReport> {
    let limits =
        ScriptLimits { time, memory_bytes: 32 << 20, at_once: NonZeroUsize::MIN, ..ScriptLimits::default() };
    let scripts = Arc::new(ScriptHandler::new(limits));
    let engine = Engine::builder().handler(EffectKind::Script(Arc::from("JavaScriptCode")), scripts).build();
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": ACTIONS, "outputs": OUTPUTS,
                   "parameters": {"key": {"type": "securestring", "defaultValue": "hush"}}}"#
        .replace("ACTIONS", actions)
        .replace("OUTPUTS", outputs);
    let loaded = Definition::parse_text(&text, &LoadOptions::default()).unwrap();
    let values = loaded.workflow.bind_parameters(&loaded.parameter_values, &|_| None).unwrap();
    let report = engine.run(RunRequest::manual(loaded.workflow, values, None)).await.unwrap();
    engine.shut_down().await;
    report.expect("the run ends")
}

fn output(report: &RunReport, name: &str) -> Value {
    let outputs = report.outputs.as_ref().unwrap_or_else(|| panic!("the run failed: {:?}", report.error));
    let output = outputs.get(name).unwrap_or_else(|| panic!("no output {name} in {outputs:?}"));
    output.get("value").cloned().unwrap_or_else(|| output.clone())
}

#[tokio::test]
async fn a_script_over_its_limits_fails_and_the_next_one_runs() {
    let actions = r#"{
        "Time": {"type": "JavaScriptCode", "inputs": {"code": "while (true) {}"}},
        "Memory": {"type": "JavaScriptCode", "inputs": {"code": "const all = []; for (;;) all.push([1, 2, 3])"}, "runAfter": {"Time": ["Failed"]}},
        "Stack": {"type": "JavaScriptCode", "inputs": {"code": "const f = () => f(); f()"}, "runAfter": {"Memory": ["Failed"]}},
        "Calm": {"type": "JavaScriptCode", "inputs": {"code": "return ['Time', 'Memory', 'Stack'].map((name) => workflowContext.actions[name].code)",
                 "explicitDependencies": {"actions": ["time", "Memory", "Stack"]}}, "runAfter": {"Stack": ["Failed"]}}}"#;
    let outputs = r#"{"codes": {"type": "array", "value": "@body('Calm')"}}"#;
    let report = executed(actions, outputs, Duration::from_secs(2)).await;
    let failure = "InlineCodeScriptRuntimeFailure";
    let expected: Vec<Value> = ["InlineCodeExecutionTimeout", failure, failure].map(Value::from).into();
    assert_eq!(output(&report, "codes"), Value::from(expected));
}

#[tokio::test]
async fn the_timeout_of_an_action_stops_its_script_and_frees_its_place() {
    let actions = r#"{
        "Long": {"type": "JavaScriptCode", "inputs": {"code": "for (;;);"}, "limit": {"timeout": "PT0.05S"}},
        "Next": {"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.actions.Long.status"}, "runAfter": {"Long": ["TimedOut"]}}}"#;
    let outputs = r#"{"status": {"type": "string", "value": "@body('Next')"}}"#;
    // The timeout of the script itself is longer than this test could wait.
    let report = executed(actions, outputs, Duration::from_hours(1)).await;
    assert_eq!(output(&report, "status"), Value::from("TimedOut"));
}

#[tokio::test]
async fn uninterruptible_scripts_do_not_block_others() {
    // The interpreter does not check whether it must stop while it sorts.
    let stuck = r#"{"type": "JavaScriptCode", "inputs": {"code": "Array.prototype.sort.call({length: Number.MAX_SAFE_INTEGER})"}"#;
    let actions = format!(
        r#"{{
        "Stuck": {stuck}}},
        "Again": {stuck}, "runAfter": {{"Stuck": ["Failed"]}}}},
        "Calm": {{"type": "JavaScriptCode", "inputs": {{"code": "return ['Stuck', 'Again'].map((name) => workflowContext.actions[name].code)",
                 "explicitDependencies": {{"actions": ["Stuck", "Again"]}}}}, "runAfter": {{"Again": ["Failed"]}}}}}}"#
    );
    let outputs = r#"{"codes": {"type": "array", "value": "@body('Calm')"}}"#;
    let report = executed(&actions, outputs, Duration::from_secs(2)).await;
    let expected = ["InlineCodeExecutionTimeout"; 2].map(Value::from);
    assert_eq!(output(&report, "codes"), Value::from(Vec::from(expected)));
}

#[tokio::test]
async fn scripts_take_turns() {
    let script = r#"{"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.workflow.name"}}"#;
    let actions: Vec<String> = (0..20).map(|each| format!(r#""S{each}": {script}"#)).collect();
    let report = executed(&format!("{{{}}}", actions.join(", ")), "{}", Duration::from_mins(1)).await;
    assert_eq!(report.status, RunStatus::Succeeded);
}

#[tokio::test]
async fn the_result_of_a_script_that_reads_secrets_is_secret() {
    let actions = r#"{
        "Key": {"type": "Compose", "inputs": {"key": "@parameters('key')"}},
        "Plain": {"type": "Compose", "inputs": 1},
        "Hidden": {"type": "Compose", "inputs": 2, "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}},
        "Reads": {"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.actions.Key.outputs.key.length"}, "runAfter": {"Key": ["Succeeded"]}},
        "Holds": {"type": "JavaScriptCode", "inputs": {"code": "return '@{parameters('key')}'.length"}},
        "Hides": {"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.actions.Hidden.outputs"}, "runAfter": {"Hidden": ["Succeeded"]}},
        "Other": {"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.actions.Plain.outputs"}, "runAfter": {"Plain": ["Succeeded"]}},
        "Tells": {"type": "JavaScriptCode", "inputs": {"code": "throw new Error(workflowContext.actions.Key.outputs.key)"}, "runAfter": {"Key": ["Succeeded"]}},
        "Told": {"type": "Compose", "inputs": "@actions('Tells')?['error']?['message']", "runAfter": {"Tells": ["Failed"]}}}"#;
    let outputs = r#"{"reads": {"type": "int", "value": "@body('Reads')"}, "holds": {"type": "int", "value": "@body('Holds')"},
                      "hides": {"type": "int", "value": "@body('Hides')"}, "other": {"type": "int", "value": "@body('Other')"},
                      "told": {"type": "string", "value": "@outputs('Told')"}}"#;
    let report = executed(actions, outputs, Duration::from_mins(1)).await;
    for (name, value, secret) in
        [("reads", 4, true), ("holds", 4, true), ("hides", 2, true), ("other", 1, false)]
    {
        let output = output(&report, name);
        assert_eq!((output.as_i64(), output.is_secret()), (Some(value), secret), "{name}");
    }
    let reported = output(&report, "told");
    let reported = reported.as_str().unwrap();
    assert!(!reported.contains("hush") && reported.contains("line 1, column"), "{reported}");
}
