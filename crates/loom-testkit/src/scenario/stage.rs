//! One case of a scenario: a mock, an engine with the real request handlers, and the run.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use loom_actions::{Connections, Egress, Settings, Sources, request_handlers, requests};
use loom_definition::{
    Bound, LoadOptions, Surroundings, Workflow,
    policy::{RetryPolicy, Spelling},
};
use loom_engine::{
    Engine, Environment, Started, Watcher,
    clock::{SystemClock, TokioClock},
    label_settings,
    ports::Clock,
};
use loom_expression::{InvalidTimestamp, Object, Value};

use super::calls;
use crate::{
    cases::{
        Difference, Verdict,
        expect::{self, Executed},
        workflow::{Recorder, request},
    },
    mock::Mock,
};

/// The time after which a run is considered stuck.
const PATIENCE: Duration = Duration::from_mins(1);

const MEMBERS: [&str; 16] = [
    "id",
    "note",
    "definition",
    "parametersFile",
    "connections",
    "appSettings",
    "trigger",
    "rules",
    "calls",
    "anyOrder",
    "workflows",
    "now",
    "expected",
    "evidence",
    "subscription",
    "answersLater",
];

/// Rejects unknown properties.
pub(super) fn check_members(case: &Object) -> Result<(), String> {
    match case.keys().find(|name| !MEMBERS.contains(&&***name)) {
        Some(name) => Err(format!("unknown property `{name}`; expected one of {}", MEMBERS.join(", "))),
        None => Ok(()),
    }
}

/// Everything that a run needs, except the mock.
pub(super) struct Stage {
    workflow: Arc<Workflow>,
    parameters: Vec<Value>,
    children: Vec<(Arc<Workflow>, Vec<Value>)>,
    connections: Connections,
    environment: Environment,
    clock: Option<loom_expression::Timestamp>,
}

impl Stage {
    /// Loads what the case refers to. `directory` is that of the scenario, which may hold descriptions of connectors.
    pub(super) fn set_up(
        case: &Object,
        definition: &Path,
        directory: Option<&Path>,
    ) -> Result<Stage, String> {
        let member = |name: &str| case.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let app_settings = member("appSettings");
        let parameters_file = member("parametersFile");
        let sources = Sources {
            app_settings: app_settings
                .iter()
                .map(|(name, value)| (name.to_string(), value.text().into_owned()))
                .collect::<BTreeMap<_, _>>(),
            parameters: parameters_file
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            directory: directory.map(Path::to_path_buf),
            ..Sources::default()
        };
        let connections = Value::from(member("connections"));
        let mut connections =
            Connections::from_json(&connections, &sources).map_err(|error| error.to_string())?;
        let options = LoadOptions {
            file_name: definition.file_name().map(|name| Arc::from(&*name.to_string_lossy())),
            ..LoadOptions::default()
        };
        let surroundings = Surroundings {
            parameters_file: (!parameters_file.is_empty()).then(|| parameters_file.clone().into()),
            app_settings: label_settings(&app_settings, &[]),
            connections: connections.parameter_value(),
            ..Surroundings::default()
        };
        let bytes = fs::read(definition).map_err(|error| format!("{}: {error}", definition.display()))?;
        let Bound { loaded, parameters } =
            surroundings.load(&bytes, &options).map_err(|found| found.to_string())?;
        connections.learn(&loaded.connections);
        let mut children = Vec::new();
        let around = Surroundings { parameters_file: None, ..surroundings };
        for (name, child) in &member("workflows") {
            let options = LoadOptions { name: Some(Arc::clone(name)), ..LoadOptions::default() };
            let child = around.load(child.to_json_text().as_bytes(), &options);
            let child = child.map_err(|found| format!("workflows.{name}: {found}"))?;
            children.push((child.loaded.workflow, child.parameters));
        }
        let none: Value = [("type", "none")].into_iter().collect::<Object>().into();
        let none = RetryPolicy::read(&none, Spelling::Wdl).map_err(|problem| problem.message)?;
        let app_settings = label_settings(&app_settings, &[]);
        let environment =
            Environment { app_settings, default_retry: Arc::new(none), ..Environment::default() };
        let clock = match case.get("now") {
            None => None,
            Some(now) => {
                let now = now.as_str().ok_or(InvalidTimestamp).and_then(str::parse);
                Some(now.map_err(|error| format!("`now`: {error}"))?)
            }
        };
        Ok(Stage { workflow: loaded.workflow, parameters, children, connections, environment, clock })
    }

    /// Runs the case and compares the results.
    pub(super) fn verdict(self, case: &Object) -> Verdict {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let executed = match runtime {
            Err(error) => Err(error.to_string()),
            Ok(runtime) => runtime.block_on(self.run(case)),
        };
        match executed {
            Ok(verdict) => verdict,
            Err(why) => Verdict::Failed(vec![Difference::of("scenario", why)]),
        }
    }

    async fn run(self, case: &Object) -> Result<Verdict, String> {
        let rules = case.get("rules").cloned().unwrap_or_else(|| Vec::<Value>::new().into());
        let mock = Mock::start(&rules).await.map_err(|error| error.to_string())?;
        let clock: Arc<dyn Clock> = match self.clock {
            Some(now) => Arc::new(TokioClock::starting_at(now)),
            None => Arc::new(SystemClock),
        };
        let egress = Egress::default().map("*", &mock.base_url()).map_err(|error| error.to_string())?;
        let settings = Settings { egress, connections: self.connections, ..Settings::default() };
        let requests = requests(settings, Arc::clone(&clock)).map_err(|error| error.to_string())?;
        let mut builder = Engine::builder().environment(self.environment).clock(clock);
        for (effect, handler) in request_handlers(&requests) {
            builder = builder.handler(effect, handler);
        }
        let engine = builder.build();
        for (child, parameters) in self.children {
            engine.deploy(child, parameters);
        }
        let recorder = Arc::new(Recorder::default());
        let watcher = Arc::clone(&recorder) as Arc<dyn Watcher>;
        let request = request(case, &self.workflow, self.parameters);
        let mut executed = Executed::default();
        match engine.start(request, Some(&watcher)).map_err(|error| error.to_string())? {
            Started::NotMet { .. } => executed.held = true,
            Started::Runs(runs) => {
                for mut run in runs {
                    let report = tokio::time::timeout(PATIENCE, run.ended()).await;
                    let report =
                        report.map_err(|_| "the run did not end")?.ok_or("the run left no result")?;
                    executed.runs.push((recorder.history(run.id, &self.workflow), report));
                }
            }
        }
        engine.shut_down().await;
        let mut found = compare(case, &executed);
        found.extend(mock.problems().into_iter().map(|problem| Difference::of("rules", problem)));
        if let Some(expected) = case.get("calls").and_then(Value::as_array) {
            let any_order = case.get("anyOrder").and_then(Value::as_bool).unwrap_or(false);
            calls::compare(expected, &mock.requests(), any_order, &mut found);
        }
        Ok(if found.is_empty() { Verdict::Passed } else { Verdict::Failed(found) })
    }
}

/// The differences from what the case expects. Of several alternatives, one must match (for runs that use random numbers);
/// if none does, the differences from the closest are reported.
fn compare(case: &Object, executed: &Executed) -> Vec<Difference> {
    let differences = |case: &Object| match expect::check(case, executed) {
        Verdict::Failed(found) => found,
        Verdict::Passed => Vec::new(),
    };
    let Some(choices) = case.get("expected").and_then(Value::as_array) else { return differences(case) };
    let one = |expected: &Value| {
        let mut case = case.clone();
        case.insert("expected", expected.clone());
        differences(&case)
    };
    choices.iter().map(one).min_by_key(Vec::len).unwrap_or_else(|| differences(case))
}
