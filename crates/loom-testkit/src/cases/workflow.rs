//! Workflow cases: a run on the real engine, in virtual time, with mocked calls.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_actions::{
    ArtifactKind, Artifacts, Connections, HostLimit, HostLimitKind, PoliciesError, Project, ProjectError,
    ScriptHandler, check_javascript,
    secrets::{FixedSecrets, NamedProvider, SecretError, Secrets},
};
use loom_definition::{
    LoadOptions, Surroundings, Workflow,
    diagnostic::nearest,
    model::{ActionKind, EffectKind, StaticResult},
    policy::{ChaosPlan, Policies, RetryPolicy, Spelling},
    text::{self, Limits},
};
use loom_engine::{
    Callbacks, Command, Engine, Environment, Event, PolicyBook, RunId, RunRequest, RunState, StartError,
    Started, Watcher, clock::TokioClock, history::History, ports::ActionHandler,
};
use loom_expression::{InvalidTimestamp, Masker, Object, Template, Timestamp, Value};
use loom_memory::StoredMemory;
use loom_resilience::{Clock, Policy, ResilienceRegistry};
use loom_store::{MemoryStore, UnixMillis};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Difference, Verdict,
    answers::Answers,
    expect::{self, Executed},
    memory::{self, Known},
    scripted::{Callback, Scripted, own_handlers},
};

/// The virtual time after which a run is considered stuck.
const PATIENCE: Duration = Duration::from_hours(400 * 24);

/// Capacity of the queue of callbacks; webhooks wait while it is full.
const CALLBACKS_MAX: usize = 1_024;

/// Runs one case.
pub(super) fn run(
    case: &Object,
    directory: &Path,
    now: Timestamp,
    chaos: Option<&Arc<ChaosPlan>>,
    policies: Option<&Arc<Policies>>,
) -> Verdict {
    match set_up(case, directory, now, policies) {
        Err(CaseError::Refused(why)) => expect::refused(case, &why),
        Err(CaseError::Wrong(difference)) => Verdict::Failed(vec![difference]),
        Ok(stage) => Stage { chaos: chaos.cloned(), ..stage }.verdict(case),
    }
}

/// Why a case cannot be run.
enum CaseError {
    /// The definition or its parameter values are rejected, which the case may expect.
    Refused(String),
    /// The case itself is invalid.
    Wrong(Difference),
}

fn wrong(at: &str, what: impl Into<String>) -> CaseError {
    CaseError::Wrong(Difference::of(at, what))
}

/// The mocks for calls, by the names of their workflow and their action in lower case.
pub(super) type Mocks = HashMap<(String, String), Answers>;

/// The key of an action's mocks.
pub(super) fn mock_key(workflow: &str, action: &str) -> (String, String) {
    (workflow.to_lowercase(), action.to_lowercase())
}

/// Everything that a run needs.
struct Stage {
    workflow: Arc<Workflow>,
    parameters: Vec<Value>,
    children: Vec<(Arc<Workflow>, Vec<Value>)>,
    answers: Mocks,
    environment: Environment,
    chaos: Option<Arc<ChaosPlan>>,
    artifacts: Artifacts,
    /// The models of the project that answer without a provider.
    models: Object,
    /// The connections whose descriptions are compared with the calls; none when the case does not ask for it.
    checked: Option<Connections>,
    now: Timestamp,
    /// What keys of shared memory hold at the start.
    memory: Vec<Known>,
}

/// The properties of a case. Others are notes, unless they look like one of these.
const MEMBERS: [&str; 14] = [
    "definition",
    "definitionFile",
    "trigger",
    "parameters",
    "appSettings",
    "connections",
    "artifacts",
    "mocks",
    "memory",
    "checkRequests",
    "workflows",
    "now",
    "defaultRetryPolicy",
    "expected",
];

/// The properties of a child workflow in a case.
const CHILD_MEMBERS: [&str; 4] = ["definition", "definitionFile", "parameters", "mocks"];

/// Common notes, which are not misspelt properties.
const NOTES: [&str; 7] = ["id", "note", "why", "source", "description", "confidence", "inferredFrom"];

/// Rejects properties that look misspelt, which would otherwise be ignored silently.
fn reject_misspelt(case: &Object) -> Result<(), CaseError> {
    for name in case.keys().filter(|name| !MEMBERS.contains(&&***name)) {
        let meant = nearest(name, NOTES.into_iter().chain(MEMBERS));
        if let Some(meant) = meant.filter(|meant| MEMBERS.contains(meant)) {
            return Err(wrong(name, format!("unknown property; did you mean `{meant}`?")));
        }
    }
    Ok(())
}

/// Rejects properties of a child workflow that have no effect.
fn reject_unknown(child: &Object, name: &str) -> Result<(), CaseError> {
    let known = |member: &str| CHILD_MEMBERS.contains(&member) || NOTES.contains(&member);
    let Some(strange) = child.keys().find(|member| !known(member)) else { return Ok(()) };
    let meant = nearest(strange, CHILD_MEMBERS);
    let meant = meant.map_or_else(
        || format!("expected one of `{}`", CHILD_MEMBERS.join("`, `")),
        |meant| format!("did you mean `{meant}`?"),
    );
    Err(wrong(&format!("workflows.{name}.{strange}"), format!("unknown property; {meant}")))
}

fn set_up(
    case: &Object,
    directory: &Path,
    now: Timestamp,
    given: Option<&Arc<Policies>>,
) -> Result<Stage, CaseError> {
    reject_misspelt(case)?;
    let project = project(case, directory)?;
    let policies = given.map_or_else(|| policies(case, directory), |given| Ok(Arc::clone(given)))?;
    let (mut workflow, parameters) = load(case, directory, &project, &policies, None)?;
    let mut children = Vec::new();
    let mut answers = Mocks::new();
    for (name, child) in &object(case, "workflows")? {
        let Some(child) = child.as_object() else {
            return Err(wrong(&format!("workflows.{name}"), "must have `definition` or `definitionFile`"));
        };
        reject_unknown(child, name)?;
        let (mut loaded, values) = load(child, directory, &project, &policies, Some(name))?;
        add_mocks(child, &format!("workflows.{name}.mocks"), &mut loaded, true, &mut answers)?;
        children.push((loaded, values));
    }
    add_mocks(case, "mocks", &mut workflow, false, &mut answers)?;
    let now = match case.get("now") {
        None => now,
        Some(text) => {
            let read = text.as_str().ok_or(InvalidTimestamp).and_then(str::parse);
            read.map_err(|error| wrong("now", error.to_string()))?
        }
    };
    let mut environment = Environment { app_settings: project.app_setting_list(), ..Environment::default() };
    environment.policies = PolicyBook::new(policies);
    limit(&mut environment, &project)?;
    environment.callbacks = Some(Callbacks::new("http://localhost/callbacks", [0; 32]));
    environment.secrets = Some(Arc::new(secrets(&object(case, "secrets")?)?));
    if let Some(policy) = case.get("defaultRetryPolicy") {
        let policy = RetryPolicy::read(policy, Spelling::Wdl)
            .map_err(|problem| wrong("defaultRetryPolicy", problem.message))?;
        environment.default_retry = Arc::new(policy);
    }
    let artifacts = artifacts(case, directory)?;
    let models = models(&project);
    let checked = match case.get("checkRequests").map(Value::as_bool) {
        None | Some(Some(false)) => None,
        Some(Some(true)) => {
            let read = connections(&project)?;
            if read.described_names().next().is_none() {
                let what = "has nothing to check: no connection has a `description`";
                return Err(wrong("checkRequests", what));
            }
            Some(read)
        }
        Some(None) => return Err(wrong("checkRequests", "must be `true` or `false`")),
    };
    let memory =
        memory::read(&object(case, "memory")?, &workflow.name, "memory").map_err(CaseError::Wrong)?;
    Ok(Stage {
        workflow,
        parameters,
        children,
        answers,
        environment,
        chaos: None,
        artifacts,
        models,
        checked,
        now,
        memory,
    })
}

/// Applies the limits in `host.json` that affect a case.
fn limit(environment: &mut Environment, project: &Project) -> Result<(), CaseError> {
    let limits = project.limits();
    for limit in limits.map_err(|error| wrong("definitionFile", format!("host.json: {error}")))? {
        let HostLimit { kind, value, .. } = &limit;
        match kind {
            HostLimitKind::RunDuration => {
                let seconds = value.as_i64().and_then(|seconds| u64::try_from(seconds).ok());
                environment.run_duration_max = Duration::from_secs(seconds.unwrap_or(u64::MAX));
            }
            HostLimitKind::DefaultRetryPolicy => {
                let policy = RetryPolicy::read(value, Spelling::Wdl);
                let policy = policy.map_err(|problem| {
                    let (name, why) = limit.at_fault(&problem.message);
                    wrong("definitionFile", format!("host.json: `{name}` {why}"))
                })?;
                environment.default_retry = Arc::new(policy);
            }
            // A case makes no calls, and stores nothing.
            HostLimitKind::AttemptTimeout | HostLimitKind::RetentionDays => {}
        }
    }
    Ok(())
}

/// The secrets of a case, by name; `provider:name` stands for that of a provider on another machine.
fn secrets(members: &Object) -> Result<Secrets, CaseError> {
    let mut known: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (name, value) in members {
        let text = value.as_str().ok_or_else(|| wrong(&format!("secrets.{name}"), "must be a string"))?;
        let (provider, name) = name.split_once(':').unwrap_or(("", name));
        known.entry(provider).or_default().push((name.to_owned(), text.to_owned()));
    }
    let wrong = |error: SecretError| wrong("secrets", error.to_string());
    let own = FixedSecrets::new(known.remove("").unwrap_or_default()).map_err(wrong)?;
    let mut providers = vec![NamedProvider::new("test", Arc::new(own))];
    for (provider, secrets) in known {
        let given = FixedSecrets::in_place_of_remote(secrets).map_err(wrong)?;
        providers.push(NamedProvider::new(provider, Arc::new(given)));
    }
    Ok(Secrets::of(providers))
}

/// Maps and schemas: those of the project that contains `definitionFile`, overridden by those of the case.
fn artifacts(case: &Object, directory: &Path) -> Result<Artifacts, CaseError> {
    let file = case.get("definitionFile").and_then(Value::as_str).map(|file| directory.join(file));
    let mut artifacts = match file.as_deref().and_then(Path::parent).and_then(Path::parent) {
        Some(project) => Artifacts::read(&project.join("Artifacts"))
            .map_err(|error| wrong("definitionFile", error.to_string()))?,
        None => Artifacts::default(),
    };
    let given = object(case, "artifacts")?;
    for (section, members) in &given {
        let kind = match &**section {
            "maps" => ArtifactKind::Map,
            "schemas" => ArtifactKind::Schema,
            _ => return Err(wrong(&format!("artifacts.{section}"), "expected `maps` or `schemas`")),
        };
        for (name, text) in members.as_object().into_iter().flatten() {
            let at = format!("artifacts.{section}.{name}");
            let text = text.as_str().ok_or_else(|| wrong(&at, "must be a string"))?;
            artifacts.add(kind, name, text);
        }
    }
    Ok(artifacts)
}

/// The models of the connections file that answer without a provider: scripted ones, and those of cassettes that are replayed.
fn models(project: &Project) -> Object {
    let section = project.connections.as_ref().and_then(|file| file.get("models")?.as_object());
    let stands_alone = |model: &Value| {
        let text = |name: &str| model.get(name).and_then(Value::as_str).unwrap_or_default();
        text("api").eq_ignore_ascii_case("scripted")
            || (model.get("cassette").is_some() && !text("cassetteMode").eq_ignore_ascii_case("record"))
    };
    let models = section.into_iter().flatten().filter(|(_, model)| stands_alone(model));
    models.map(|(name, model)| (Arc::clone(name), model.clone())).collect()
}

fn object(case: &Object, member: &str) -> Result<Object, CaseError> {
    match case.get(member) {
        None => Ok(Object::new()),
        Some(value) if value.is_null() => Ok(Object::new()),
        Some(value) => value.as_object().cloned().ok_or_else(|| wrong(member, "must be an object")),
    }
}

/// The project that contains `definitionFile`, with the case's settings and connections overriding those of its files.
fn project(case: &Object, directory: &Path) -> Result<Project, CaseError> {
    let file = case.get("definitionFile").and_then(Value::as_str).map(|file| directory.join(file));
    let project_directory = file.as_deref().and_then(Project::directory_of);
    let mut project = Project::read(project_directory.as_deref(), None, None, read_json)?;
    for (name, value) in &object(case, "appSettings")? {
        let known = project.app_settings.name_ignore_case(name).cloned();
        project.app_settings.insert(known.unwrap_or_else(|| Arc::clone(name)), value.clone());
    }
    if let Some(connections) = case.get("connections") {
        project.connections = Some(connections.clone());
        project.connections_directory = Some(directory.to_path_buf());
    }
    Ok(project)
}

fn connections(project: &Project) -> Result<Connections, CaseError> {
    let connections = project.connections(&Secrets::default(), &Masker::new());
    connections.map_err(|error| wrong("connections", error.to_string()))
}

/// The named policies of the project that contains `definitionFile`.
fn policies(case: &Object, directory: &Path) -> Result<Arc<Policies>, CaseError> {
    let file = case.get("definitionFile").and_then(Value::as_str).map(|file| directory.join(file));
    let project_directory = file.as_deref().and_then(Project::directory_of);
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong("definitionFile", format!("{}: {error}", path.display()))),
    };
    match Project::policies(project_directory.as_deref(), None, read) {
        Ok(policies) => Ok(Arc::new(policies)),
        Err(PoliciesError::Unread(obstacle)) => Err(obstacle),
        Err(PoliciesError::Refused { path, diagnostics, .. }) => {
            Err(wrong("definitionFile", format!("{}: {diagnostics}", path.display())))
        }
    }
}

/// The JSON of a file; none when there is no such file.
fn read_json(path: &Path) -> Result<Option<Value>, CaseError> {
    let unread = |error: String| wrong("definitionFile", format!("{}: {error}", path.display()));
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| unread(error.to_string()))?,
    };
    let source = text::decode(&bytes).map_err(|error| unread(error.to_string()))?;
    let read = text::read(&source, &Limits::default()).map_err(|error| unread(error.message.clone()))?;
    Ok(Some(read.root.to_value()))
}

impl From<ProjectError> for CaseError {
    fn from(error: ProjectError) -> CaseError {
        wrong("definitionFile", error.to_string())
    }
}

/// Loads the definition of a case, or of one of its `workflows`, in the same way as every command.
fn load(
    case: &Object,
    directory: &Path,
    project: &Project,
    policies: &Arc<Policies>,
    name: Option<&Arc<str>>,
) -> Result<(Arc<Workflow>, Vec<Value>), CaseError> {
    let mut options =
        LoadOptions { name: name.cloned(), script_check: Some(check_javascript), ..LoadOptions::default() };
    let bytes = if let Some(definition) = case.get("definition") {
        definition.to_json_text().into_bytes()
    } else {
        let Some(file) = case.get("definitionFile").and_then(Value::as_str) else {
            return Err(wrong("definitionFile", "must be the name of a file"));
        };
        options.file_name = Some(Arc::from(file));
        let path = directory.join(file);
        fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                wrong("definitionFile", format!("the file {} does not exist", path.display()))
            }
            _ => wrong("definitionFile", format!("{}: {error}", path.display())),
        })?
    };
    let connections = connections(project)?;
    let surroundings = Surroundings {
        parameters_file: project.parameters.clone(),
        app_settings: project.app_setting_list(),
        connections: connections.parameter_value(),
        parameters: object(case, "parameters")?,
        policies: Some(Arc::clone(policies)),
        ..Surroundings::default()
    };
    let bound = surroundings.load(&bytes, &options);
    let bound = bound.map_err(|diagnostics| CaseError::Refused(diagnostics.to_string()))?;
    Ok((bound.loaded.workflow, bound.parameters))
}

/// Registers the `mocks` of a case or of one of its child workflows, which are at `place` in the case.
fn add_mocks(
    of: &Object,
    place: &str,
    workflow: &mut Arc<Workflow>,
    is_child: bool,
    answers: &mut Mocks,
) -> Result<(), CaseError> {
    let mocks = object(of, "mocks").map_err(|_| wrong(place, "must be an object"))?;
    for (name, value) in &mocks {
        let at = format!("{place}.{name}");
        let read = Answers::read(value).map_err(|why| wrong(&at, why))?;
        add_answers(workflow, name, read, is_child, answers).map_err(|why| wrong(&at, why))?;
    }
    Ok(())
}

/// Registers the mocks of one action: by name, for an action that makes calls; as a static result in the definition, for one
/// that does not. A child's call of a workflow also becomes a static result, because the engine must still handle the call
/// of the child itself.
fn add_answers(
    workflow: &mut Arc<Workflow>,
    name: &str,
    read: Answers,
    is_child: bool,
    answers: &mut Mocks,
) -> Result<(), String> {
    let Some(index) = workflow.find_action(name) else {
        return Err(expect::no_action(workflow, name));
    };
    let handled = match &workflow.action(index).kind {
        ActionKind::Effect { effect, .. } => !is_child || *effect != EffectKind::Workflow,
        ActionKind::Agent { .. } => true,
        _ => false,
    };
    if handled {
        answers.insert(mock_key(&workflow.name, name), read);
        return Ok(());
    }
    let canned = Template::constant(read.get(0, 1).record());
    let workflow = Arc::get_mut(workflow).ok_or("the definition is shared")?;
    let place = u32::try_from(workflow.static_results.len()).map_err(|_| "too many static results")?;
    workflow.static_results.push(StaticResult { name: Arc::from(name), content: canned });
    workflow.actions[index.0 as usize].static_result = Some(place);
    Ok(())
}

impl Stage {
    fn verdict(self, case: &Object) -> Verdict {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        match runtime {
            Err(error) => Verdict::Failed(vec![Difference::of("case", error.to_string())]),
            Ok(runtime) => match runtime.block_on(self.run(case)) {
                Ok(executed) => expect::check(case, &executed),
                Err(verdict) => verdict,
            },
        }
    }

    async fn run(self, case: &Object) -> Result<Executed, Verdict> {
        let failed = |at: &str, what: String| Verdict::Failed(vec![Difference::of(at, what)]);
        let registry = ResilienceRegistry::builder().defaults(Policy::none()).clock(Clock::tokio()).build();
        let registry = registry.map_err(|error| failed("case", error.to_string()))?;
        let (callbacks, mut arriving) = mpsc::channel(CALLBACKS_MAX);
        let clock = Arc::new(TokioClock::starting_at(self.now));
        let scripts = ScriptHandler::default().with_clock({
            let clock = Arc::clone(&clock);
            Arc::new(move || loom_engine::ports::Clock::now(&*clock))
        });
        let memory = {
            let clock = Arc::clone(&clock);
            let now = move || UnixMillis(loom_engine::ports::Clock::now(&*clock).unix_millis());
            StoredMemory::new(Arc::new(MemoryStore::default()), Arc::new(now))
        };
        memory::fill(&memory, &self.memory).await.map_err(|wrong| Verdict::Failed(vec![wrong]))?;
        let environment = Environment { memory: Some(memory.clone()), ..self.environment };
        let scripted = Arc::new(Scripted {
            memory: memory.clone(),
            answers: self.answers,
            scripts,
            own: own_handlers(&self.artifacts, &self.models, &clock)
                .map_err(|why| Verdict::Failed(vec![Difference::of("connections", why)]))?,
            occurrences: Mutex::default(),
            unanswered: Mutex::default(),
            checked: self.checked,
            wrong_requests: Mutex::default(),
            callbacks,
        });
        let mut builder =
            Engine::builder().environment(environment).registry(Arc::new(registry)).clock(clock);
        for effect in effects(&self.workflow, &self.children, &scripted.answers) {
            builder = builder.handler(effect, Arc::clone(&scripted) as Arc<dyn ActionHandler>);
        }
        if let Some(plan) = self.chaos {
            builder = builder.seed(plan.seed).chaos(plan);
        }
        let engine = builder.build();
        for (child, parameters) in self.children {
            engine.deploy(child, parameters);
        }
        let recorder = Arc::new(Recorder::default());
        let watcher = Arc::clone(&recorder) as Arc<dyn Watcher>;
        let request = request(case, &self.workflow, self.parameters);
        if let Err(refused) = engine.check_request(&request) {
            return Err(expect::trigger_failed(case, &format!("{}: {refused}", refused.code)));
        }
        let started = match engine.start(request, Some(&watcher)) {
            Ok(started) => started,
            Err(StartError::Trigger(error)) => return Err(expect::trigger_failed(case, &error.message)),
            Err(error) => return Err(failed("trigger", error.to_string())),
        };
        let mut executed = Executed::default();
        let Started::Runs(runs) = started else {
            executed.held = true;
            return Ok(executed);
        };
        let deadline = Instant::now() + PATIENCE;
        for mut run in runs {
            loop {
                tokio::select! {
                    biased;
                    report = run.ended() => {
                        let Some(report) = report else {
                            return Err(failed("run", "the run stopped without a result".to_owned()));
                        };
                        executed.runs.push((recorder.history(run.id, &self.workflow), report));
                        break;
                    }
                    Some(callback) = arriving.recv() => {
                        let Callback { run, effect, payload, at } = callback;
                        tokio::time::sleep_until(at).await;
                        engine.command(run, Command::Callback { effect, payload }).await;
                    }
                    () = tokio::time::sleep_until(deadline) => {
                        let what = "the run did not end: it waits for something that the case does not provide";
                        return Err(failed("run", what.to_owned()));
                    }
                }
            }
        }
        engine.shut_down().await;
        let expected = case.get("expected").and_then(|expected| expected.get("memory"));
        if let Some(expected) = expected.and_then(Value::as_object) {
            match memory::read(expected, &self.workflow.name, "expected.memory") {
                Ok(known) => memory::check(&memory, &known, &mut executed.memory).await,
                Err(wrong) => executed.memory.push(wrong),
            }
        }
        let unanswered = scripted.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let mismatches = scripted.wrong_requests.lock().unwrap_or_else(PoisonError::into_inner);
        executed.wrong_requests.clone_from(&mismatches);
        let own = |workflow: &str| *workflow == *self.workflow.name;
        executed.unanswered = unanswered
            .iter()
            .map(|(workflow, name)| {
                let place =
                    if own(workflow) { "mocks".to_owned() } else { format!("workflows.{workflow}.mocks") };
                (place, (**name).to_owned())
            })
            .collect();
        Ok(executed)
    }
}

pub(crate) fn request(case: &Object, workflow: &Arc<Workflow>, parameters: Vec<Value>) -> RunRequest {
    let mut request = RunRequest::manual(Arc::clone(workflow), parameters, None);
    let mut outputs = Object::new();
    if let Some(trigger) = case.get("trigger").and_then(Value::as_object) {
        for (name, value) in trigger {
            if &**name == "name" {
                request.trigger = value.as_str().map(Arc::from);
            } else {
                outputs.insert(Arc::clone(name), value.clone());
            }
        }
    }
    let headers = outputs.get("headers").and_then(Value::as_object);
    let tracking_id = headers.and_then(|headers| headers.get_ignore_case("x-ms-client-tracking-id"));
    request.tracking_id = tracking_id.and_then(Value::as_str).map(Arc::from);
    request.outputs = outputs.into();
    request.wants_response = true;
    request
}

/// The kinds of calls that the workflows make, so that none has an external effect. The engine handles calls of child
/// workflows, unless the case mocks them.
fn effects(
    workflow: &Arc<Workflow>,
    children: &[(Arc<Workflow>, Vec<Value>)],
    answers: &Mocks,
) -> Vec<EffectKind> {
    let mut found = Vec::new();
    for workflow in children.iter().map(|(child, _)| child).chain([workflow]) {
        for action in &workflow.actions {
            let effect = match &action.kind {
                ActionKind::Effect { effect, .. } => effect.clone(),
                ActionKind::Agent { .. } => EffectKind::Custom(Arc::clone(&action.type_name)),
                _ => continue,
            };
            let answered = answers.contains_key(&mock_key(&workflow.name, &action.name));
            let inside = matches!(effect, EffectKind::Compute(_) | EffectKind::Workflow | EffectKind::Memory);
            if (answered || !inside) && !found.contains(&effect) {
                found.push(effect);
            }
        }
    }
    found
}

/// Records the history of every run that it watches.
#[derive(Default)]
pub(crate) struct Recorder {
    histories: Mutex<BTreeMap<RunId, History>>,
}

impl Recorder {
    pub(crate) fn history(&self, run: RunId, workflow: &Arc<Workflow>) -> History {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.remove(&run).unwrap_or_else(|| History::new(Arc::clone(workflow)))
    }
}

impl Watcher for Recorder {
    fn events(&self, state: &RunState, events: &[Event]) {
        let Some(start) = state.start() else { return };
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        let history =
            histories.entry(start.run).or_insert_with(|| History::new(Arc::clone(state.workflow())));
        history.extend(events);
    }
}
