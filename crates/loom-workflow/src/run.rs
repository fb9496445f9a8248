//! `loom run`: runs one workflow in this process, shows its progress, and prints its response on standard output.

mod kept;
mod result;
mod settings;
mod watch;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, anyhow, bail};
use loom_actions::{CallProblem, Project};
use loom_definition::{
    Bound, Definition, Diagnostic, Diagnostics, LoadOptions, Loaded, RunStatus, Severity, Surroundings,
    Workflow,
    model::{ActionKind, EffectKind},
    policy::ChaosPlan,
    render, text,
    trigger::TriggerKind,
};
use loom_engine::{Engine, RunHandle, RunReport, RunRequest, StartError, Started, Watcher};
use loom_expression::{Object, Value, Visible, nearest};
use loom_store::Store;

use crate::{
    args::{RunArgs, RunWith},
    chaos,
    config::Config,
    console::{self, Console},
    exit::Exit,
    files,
    live::{Live, Spoken, Style, failures},
    secrets,
    signals::Interrupts,
};
use kept::Kept;
pub(crate) use settings::{Settings, policies_in, read_policies};
use watch::{Shown, View, WaitLimits, watch};

/// Runs the command.
pub(crate) fn command(args: &RunArgs, console: Console) -> Result<Exit> {
    console::outlive_readers();
    let config = Config::resolve(&args.with.flags, args.file.as_slice())?;
    let data = args.keep.data.as_ref().unwrap_or(&config.values.data).clone();
    let config = config.with_secrets_beside(&data);
    let children = args.with.children.iter().map(|path| Source::read(path)).collect::<Result<Vec<_>>>()?;
    let given = args.file.as_deref().map(Source::read).transpose()?;
    let prepared = match &given {
        None => None,
        Some(source) => match prepare(source, &children, &args.with, &config, None, console)? {
            Some(prepared) => Some(prepared),
            None => return Ok(Exit::Refused),
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let kept = Kept::open(&args.keep, &config).await?;
        let ended = execute(args, &config, prepared, &children, kept.as_ref(), console).await;
        if let Some(kept) = &kept {
            kept.close().await?;
        }
        ended
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(exit)
}

/// Starts or resumes the run on an engine of its own. Without a definition, the one stored with the run is used.
async fn execute(
    args: &RunArgs,
    config: &Config,
    prepared: Option<Prepared>,
    children: &[Source],
    kept: Option<&Kept>,
    console: Console,
) -> Result<Exit> {
    let prepared = match (prepared, kept) {
        (Some(prepared), _) => prepared,
        (None, Some(kept)) => {
            let source = kept.definition().await?;
            match prepare_again(&source, children, config, console)? {
                Some(prepared) => {
                    let chaos = args.with.chaos.as_deref().map(chaos::plan).transpose()?;
                    Prepared { chaos, ..prepared }
                }
                None => return Ok(Exit::Refused),
            }
        }
        (None, None) => bail!("a definition is required"),
    };
    let longest = prepared.settings.run_duration_max();
    let secrets = secrets::places(&config.values);
    let providers = prepared.settings.secrets().clone();
    providers.tend(console::masker()).await;
    let (engine, request) = prepared.into_parts(kept.map(Kept::store).as_ref())?;
    let execution = Execution { engine: &engine, longest, secrets, with: &args.with, console };
    let running = async {
        match kept {
            None => execution.start(request, None).await,
            Some(kept) => kept.run(&execution, request).await,
        }
    };
    let ended = tokio::select! {
        ended = Box::pin(running) => ended,
        never = secrets::attend(&providers) => match never {},
    };
    engine.shut_down().await;
    ended
}

/// A workflow that is ready to run, and its host settings.
pub(crate) struct Prepared {
    request: RunRequest,
    children: Vec<Child>,
    settings: Settings,
    connections: Value,
    /// Injected into its calls.
    pub(crate) chaos: Option<Arc<ChaosPlan>>,
}

/// The source of a definition, and the name under which it is shown.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether `name` is the path of a file; the other workflows of its project are then beside it.
    pub(crate) is_file: bool,
}

impl Source {
    fn read(path: &Path) -> Result<Source> {
        Ok(Source { name: path.display().to_string(), bytes: files::read(path)?, is_file: path.is_file() })
    }
}

/// Loads a definition and binds its parameters; `connections` is a connections file that is built in. None if the definition is
/// invalid, which has been reported.
pub(crate) fn prepare(
    definition: &Source,
    children: &[Source],
    with: &RunWith,
    config: &Config,
    connections: Option<&str>,
    console: Console,
) -> Result<Option<Prepared>> {
    let mut settings = Settings::read(config)?;
    if let Some(text) = connections {
        settings.define_connections(text)?;
    }
    let warn = !with.quiet;
    let surroundings = settings.surroundings(parameters(&with.parameters)?);
    let choose = with.workflow.as_deref();
    if warn {
        settings.warn_of_others();
    }
    let Some((loaded, values)) = load(definition, &surroundings, choose, warn, console) else {
        return Ok(None);
    };
    if warn && settings.project().disabled().contains(&loaded.workflow.name.to_lowercase()) {
        eprintln!(
            "loom: warning: {} is disabled by its FlowState setting; `loom serve` does not fire its triggers",
            loaded.workflow.name
        );
    }
    let Some(mut known) = load_children(children, &settings, console) else { return Ok(None) };
    if definition.is_file && calls_workflows(&loaded.workflow) {
        add_siblings(Path::new(&definition.name), &loaded.workflow.name, &settings, warn, &mut known)?;
    }
    if warn {
        report_missing(&loaded, &values, &settings);
        let calls = call_warnings(settings.connections().check_calls(&loaded.workflow), &definition.bytes);
        report_diagnostics(&Diagnostics(calls), &definition.bytes, &definition.name, console);
    }
    if warn {
        report_trigger(&loaded.workflow, with);
    }
    let body = with.input.as_deref().map(files::read_input).transpose()?;
    let mut request = RunRequest::manual(Arc::clone(&loaded.workflow), values, body);
    request.trigger = with.trigger.as_deref().map(Arc::from);
    request.wants_response = true;
    with_headers(&mut request);
    let chaos = with.chaos.as_deref().map(chaos::plan).transpose()?;
    Ok(Some(Prepared { request, children: known, settings, connections: loaded.connections, chaos }))
}

/// The host settings of a resumed run, which continues with its own definition and parameters.
fn prepare_again(
    definition: &Source,
    children: &[Source],
    config: &Config,
    console: Console,
) -> Result<Option<Prepared>> {
    let settings = Settings::read(config)?;
    let options = LoadOptions {
        name: Some(Arc::from(definition.name.as_str())),
        accepted_before: true,
        ..LoadOptions::default()
    };
    let loaded = match Definition::parse(&definition.bytes, &options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            report_diagnostics(&diagnostics, &definition.bytes, &definition.name, console);
            return Ok(None);
        }
    };
    let Some(children) = load_children(children, &settings, console) else { return Ok(None) };
    // A resumed run keeps its own inputs; this request only names the workflow.
    let request = RunRequest::manual(loaded.workflow, Vec::new(), None);
    Ok(Some(Prepared { request, children, settings, connections: loaded.connections, chaos: None }))
}

/// A child workflow and the values of its parameters.
type Child = (Arc<loom_definition::Workflow>, Vec<Value>);

/// Loads child workflows. None if one is invalid, which has been reported.
fn load_children(children: &[Source], settings: &Settings, console: Console) -> Option<Vec<Child>> {
    let mut known = Vec::new();
    for child in children {
        let (child, values) = load(child, &settings.surroundings(Vec::new()), None, false, console)?;
        known.push((child.workflow, values));
    }
    Some(known)
}

/// Whether a workflow calls child workflows.
fn calls_workflows(workflow: &Workflow) -> bool {
    let is_call = |kind: &ActionKind| matches!(kind, ActionKind::Effect { effect: EffectKind::Workflow, .. });
    workflow.actions.iter().any(|action| is_call(&action.kind))
}

/// Adds the other workflows of the project that `NAME/workflow.json` belongs to, which a server would deploy together with it.
/// Those given with `--child` take precedence.
fn add_siblings(
    path: &Path,
    own: &str,
    settings: &Settings,
    warn: bool,
    known: &mut Vec<Child>,
) -> Result<()> {
    let Some(directory) = Project::directory_of(&files::naming_path(path)) else { return Ok(()) };
    let surroundings = settings.surroundings(Vec::new());
    for path in files::workflows_in(&directory)? {
        let bytes = files::read(&path)?;
        if files::role(&path, &bytes) != files::Role::Definition {
            continue;
        }
        let options = LoadOptions {
            file_name: Some(Arc::from(path.to_string_lossy().as_ref())),
            script_check: Some(loom_actions::check_javascript),
            ..LoadOptions::default()
        };
        match surroundings.load(&bytes, &options) {
            Ok(Bound { loaded, parameters }) => {
                let name = loaded.workflow.name.to_lowercase();
                let is_known = |(child, _): &Child| child.name.to_lowercase() == name;
                if name != own.to_lowercase() && !known.iter().any(is_known) {
                    known.push((loaded.workflow, parameters));
                }
            }
            // It matters only if the run calls it.
            Err(_) if warn => eprintln!(
                "loom: warning: {0} is invalid and cannot be called as a child workflow; see `loom validate {0}`",
                path.display()
            ),
            Err(_) => {}
        }
    }
    Ok(())
}

fn load(
    source: &Source,
    surroundings: &Surroundings,
    choose: Option<&str>,
    warn: bool,
    console: Console,
) -> Option<(Loaded, Vec<Value>)> {
    let Source { name, bytes, .. } = source;
    let options = LoadOptions {
        file_name: Some(Arc::from(files::naming_path(Path::new(name)).to_string_lossy().as_ref())),
        choose: choose.map(Arc::from),
        script_check: Some(loom_actions::check_javascript),
        ..LoadOptions::default()
    };
    match surroundings.load(bytes, &options) {
        Ok(Bound { loaded, parameters }) => {
            if warn && !loaded.warnings.is_empty() {
                report_diagnostics(&Diagnostics(loaded.warnings.clone()), bytes, name, console);
            }
            Some((loaded, parameters))
        }
        Err(diagnostics) => {
            report_diagnostics(&diagnostics, bytes, name, console);
            // A value that was meant to be JSON is shown with the position of its error.
            let broken = surroundings.typed_parameters.iter().find(|(_, text)| {
                text.trim_start().starts_with(['[', '{']) && Value::from_json_str(text).is_err()
            });
            if let Some((name, text)) = broken {
                console::error(format_args!("{:#}", files::not_json(&format!("--param {name}"), text)));
            }
            None
        }
    }
}

fn report_diagnostics(diagnostics: &Diagnostics, bytes: &[u8], name: &str, console: Console) {
    let source = text::decode(bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    for diagnostic in &diagnostics.0 {
        console::note_styled(&(render(diagnostic, &source, name, console.color) + "\n"));
    }
}

/// What is wrong with a call, as an error of the definition in `source`.
pub(crate) fn call_problem(call: CallProblem, source: &str) -> Diagnostic {
    let found = Diagnostic::call(&call.pointer, source, call.message, call.fault);
    Diagnostic { hint: call.hint, ..found }
}

/// What is wrong with calls, as warnings: an action that is not reached does not fail.
pub(crate) fn call_warnings(calls: Vec<CallProblem>, bytes: &[u8]) -> Vec<Diagnostic> {
    let source = text::decode(bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    let warning = |call| Diagnostic { severity: Severity::Warning, ..call_problem(call, &source) };
    calls.into_iter().map(warning).collect()
}

/// The connections that a definition uses and no file defines, each with what to do about it.
pub(crate) fn missing_connections(
    loaded: &Loaded,
    values: &[Value],
    settings: &Settings,
) -> Vec<(String, String)> {
    let workflow = &loaded.workflow;
    let place = workflow.parameters.iter().position(|parameter| &*parameter.name == "$connections");
    let own = place.and_then(|place| values.get(place)).unwrap_or(&loaded.connections);
    let connections = settings.connections();
    let remedy = |name: &str| {
        if let Some(near) = nearest(name, connections.names()) {
            return format!("did you mean '{near}'?");
        }
        let remedy = if connections.is_provider(name) {
            "it is a connection of a built-in service provider, whose protocol Loom does not implement; add it under 'connections' \
             with the 'baseUrl' of an HTTP service that accepts its operations (see `loom explain connections`)"
        } else {
            "define it in the connections file (connections.json of the project, or --connections FILE); \
             `loom explain connections` shows its format"
        };
        remedy.to_owned()
    };
    let missing = connections.missing(workflow, own);
    missing.into_iter().map(|name| (name.clone(), remedy(&name))).collect()
}

/// Reports missing connections before anything runs.
fn report_missing(loaded: &Loaded, values: &[Value], settings: &Settings) {
    for (name, remedy) in missing_connections(loaded, values, settings) {
        eprintln!("loom: connection '{name}' is not defined; {remedy}");
    }
}

/// Reports which of several triggers fires if none was chosen.
fn report_trigger(workflow: &Workflow, with: &RunWith) {
    if let ([first, others @ ..], None) = (&workflow.triggers[..], &with.trigger)
        && !others.is_empty()
    {
        let others: Vec<String> = others.iter().map(|trigger| format!("'{}'", trigger.name)).collect();
        eprintln!(
            "loom: firing trigger '{}'; use --trigger for another one: {}",
            first.name,
            others.join(", ")
        );
    }
}

/// Adds the headers of a request trigger, which definitions rely on.
fn with_headers(request: &mut RunRequest) {
    let workflow = &request.workflow;
    let trigger = match &request.trigger {
        Some(name) => workflow.find_trigger(name),
        None => workflow.triggers.first(),
    };
    let Some(mut outputs) = request.outputs.as_object().cloned() else { return };
    if !trigger.is_some_and(|trigger| matches!(trigger.kind, TriggerKind::Request { .. })) {
        return;
    }
    let mut headers = Object::new();
    if outputs.get("body").is_some() {
        headers.insert("Content-Type", "application/json; charset=utf-8");
    }
    outputs.insert("headers", headers);
    request.outputs = outputs.into();
}

/// Parses `--param name=value` into names and strings; `@file` stands for the contents of a file.
pub(crate) fn parameters(arguments: &[String]) -> Result<Vec<(Arc<str>, String)>> {
    let read = |argument: &String| {
        let Some((name, text)) = argument.split_once('=') else {
            bail!("--param must be NAME=VALUE (got `{argument}`)");
        };
        let text = match text.strip_prefix('@') {
            Some(path) if Path::new(path).is_file() => files::read_text(Path::new(path))?,
            _ => text.to_owned(),
        };
        Ok((Arc::from(name), text))
    };
    arguments.iter().map(read).collect()
}

impl Prepared {
    /// Builds the engine that the workflow runs on.
    fn engine(&self, store: Option<&Arc<dyn Store>>) -> Result<Engine> {
        let mut builder = Engine::builder().environment(self.settings.environment());
        if let Some(plan) = &self.chaos {
            // Jitter and random values belong to what a seed repeats.
            builder = builder.seed(plan.seed).chaos(Arc::clone(plan));
        }
        if let Some(store) = store {
            builder = builder.store(Arc::clone(store));
        }
        let engine = self.settings.handlers(builder, &self.connections, store)?.build();
        for (child, parameters) in &self.children {
            engine.deploy(Arc::clone(child), parameters.clone());
        }
        Ok(engine)
    }

    /// The engine and the request that starts the run.
    pub(crate) fn into_parts(self, store: Option<&Arc<dyn Store>>) -> Result<(Engine, RunRequest)> {
        Ok((self.engine(store)?, self.request))
    }
}

/// How runs are executed and shown on the command line.
struct Execution<'a> {
    engine: &'a Engine,
    longest: Option<Duration>,
    /// The files in which secrets are looked up.
    secrets: String,
    with: &'a RunWith,
    console: Console,
}

impl Execution<'_> {
    fn style(&self) -> Style {
        if self.with.quiet || self.console.live { Style::Silent } else { Style::Lines }
    }

    /// Starts the run, shows it, and prints what came of it.
    async fn start(&self, request: RunRequest, kept: Option<&Kept>) -> Result<Exit> {
        let live = Arc::new(Live::new(Arc::clone(&request.workflow), self.style(), self.console));
        // Registered before the start, so that no interrupt is missed.
        let interrupts = Interrupts::listen()?;
        match start(self.engine, request, &live).await? {
            Launch::Runs(runs) => self.follow(runs, &live, kept, interrupts).await,
            Launch::None(exit) => Ok(exit),
        }
    }

    /// Waits for runs in progress, shows the first one, and prints their results.
    async fn follow(
        &self,
        runs: Vec<RunHandle>,
        live: &Live,
        kept: Option<&Kept>,
        mut interrupts: Interrupts,
    ) -> Result<Exit> {
        let mut exit = Exit::Success;
        for (index, mut run) in runs.into_iter().enumerate() {
            let id = run.id;
            if let Some(kept) = kept {
                kept.announce(&mut run, self.with.quiet).await?;
            }
            // Of several runs started by `splitOn`, only the first is shown.
            let painted = index == 0 && self.console.live && !self.with.quiet;
            let shown = if painted { Shown::Painted } else { Shown::No };
            let speaks = index == 0 && self.style() == Style::Lines;
            let view = View { live, shown, console: self.console, speaks };
            let workflow = Arc::clone(live.history().workflow());
            let spoken = Spoken::new(self.engine.live_texts(id), workflow);
            let limits = WaitLimits { longest: self.longest, leaves: kept.is_some() };
            match watch(run, spoken, &view, limits, &mut interrupts).await? {
                watch::End::Left => {
                    if let Some(kept) = kept {
                        kept.report_interrupted(id);
                    }
                    return Ok(Exit::Interrupted);
                }
                watch::End::Ended { report, interrupted } => {
                    let ended = if interrupted { Exit::Interrupted } else { Exit::of_run(report.status) };
                    exit = exit.worse(ended);
                    if index == 0 {
                        self.print(&report, live);
                    } else if self.with.json {
                        result::print_report(&report);
                    }
                }
            }
        }
        Ok(exit)
    }

    /// Prints the result of the run that was shown.
    fn print(&self, report: &RunReport, live: &Live) {
        let history = live.history();
        result::print(report, &history, self.with.json);
        for name in result::missing_secrets(&history) {
            eprintln!(
                "loom: set the missing secret with `loom secrets set {name}`; it is neither in {} nor in a LOOM_SECRET_* variable",
                self.secrets
            );
        }
        if self.with.quiet && report.status != RunStatus::Succeeded {
            for failure in failures(&history) {
                console::note_styled(&format!("loom: {failure}\n"));
            }
            let why = report.error.as_ref().map(|error| format!(": {}", Visible(&error.message)));
            console::note_styled(&format!("loom: run {}{}\n", report.status, why.unwrap_or_default()));
        }
    }
}

/// Executes one run; prints its tree on standard error, terminal or not, and its response on standard output.
pub(crate) async fn run_shown(
    engine: &Engine,
    request: RunRequest,
    live: &Arc<Live>,
    console: Console,
) -> Result<Exit> {
    let run = match start(engine, request, live).await? {
        Launch::Runs(mut runs) if runs.len() == 1 => runs.remove(0),
        Launch::Runs(runs) => bail!("expected one run, but {} were started", runs.len()),
        Launch::None(exit) => return Ok(exit),
    };
    let shown = if console.live { Shown::Painted } else { Shown::AtTheEnd };
    let view = View { live, shown, console, speaks: false };
    let spoken = Spoken::new(engine.live_texts(run.id), Arc::clone(live.history().workflow()));
    let limits = WaitLimits { longest: None, leaves: false };
    match watch(run, spoken, &view, limits, &mut Interrupts::listen()?).await? {
        watch::End::Left => Ok(Exit::Interrupted),
        watch::End::Ended { report, interrupted } => {
            result::print(&report, &live.history(), false);
            Ok(if interrupted { Exit::Interrupted } else { Exit::of_run(report.status) })
        }
    }
}

/// The result of a start.
enum Launch {
    Runs(Vec<RunHandle>),
    /// Nothing was started, which has been reported.
    None(Exit),
}

async fn start(engine: &Engine, request: RunRequest, live: &Arc<Live>) -> Result<Launch> {
    let watcher = Arc::clone(live) as Arc<dyn Watcher>;
    let names = request.workflow.triggers.iter().map(|trigger| format!("'{}'", trigger.name));
    let names = names.collect::<Vec<_>>().join(", ");
    let without_body = request.outputs.get("body").is_none();
    if let Err(refused) = engine.check_request(&request) {
        let hint = if without_body { " Pass a body with --input." } else { "" };
        eprintln!("loom: {}: {refused}{hint}", refused.code);
        return Ok(Launch::None(Exit::Failure));
    }
    match engine.start_reading(request, Some(&watcher)).await {
        Ok(Started::Runs(runs)) => Ok(Launch::Runs(runs)),
        Ok(Started::NotMet { condition }) => {
            eprintln!("loom: trigger condition {condition} is not met; no run was started");
            Ok(Launch::None(Exit::Success))
        }
        Err(error @ StartError::UnknownTrigger { .. }) => Err(anyhow!("{error}; available: {names}")),
        Err(error) => {
            let hint = if without_body && matches!(error, StartError::Trigger(_)) {
                " The trigger was fired without a body; pass one with --input."
            } else {
                ""
            };
            eprintln!("loom: {error}{hint}");
            Ok(Launch::None(Exit::Failure))
        }
    }
}
