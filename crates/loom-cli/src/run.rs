//! `loom run`: one workflow in this process, shown while it runs, with its answer on standard output.

mod result;
mod settings;

use std::{io::stderr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use loom_definition::{Definition, Diagnostics, LoadOptions, Loaded, render, text};
use loom_engine::{
    Command, Engine, RunHandle, RunReport, RunRequest, StartError, Started, Watcher, clock::SystemClock,
    ports::Clock,
};
use loom_expression::{Object, Value};

use crate::{
    args::{RunArgs, RunWith},
    console::Console,
    exit::Exit,
    files,
    live::{Live, Screen, Style},
};
pub(crate) use settings::Settings;

/// How often the tree is painted.
const FRAME: Duration = Duration::from_millis(80);

/// How long a cancelled run may take to end before the program does.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the command.
pub(crate) fn command(args: &RunArgs, console: Console) -> Result<Exit> {
    let source = Source::read(&args.file)?;
    let children = args.with.children.iter().map(|path| Source::read(path)).collect::<Result<Vec<_>>>()?;
    let Some(prepared) = prepare(&source, &children, &args.with, console)? else { return Ok(Exit::Refused) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let longest = prepared.settings.run_duration_max()?;
        let (engine, request) = prepared.into_parts()?;
        let played = play(&engine, request, longest, &args.with, console).await;
        engine.shut_down().await;
        played
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(exit)
}

/// A workflow that is ready to run, and the host around it.
pub(crate) struct Prepared {
    request: RunRequest,
    children: Vec<(Arc<loom_definition::Workflow>, Vec<Value>)>,
    settings: Settings,
    connections: Value,
}

/// A definition's text, and the name under which it is shown.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Source {
    fn read(path: &Path) -> Result<Source> {
        Ok(Source { name: path.display().to_string(), bytes: files::read(path)? })
    }
}

/// Loads a definition and binds its parameters. None when it is refused, which was told then.
pub(crate) fn prepare(
    definition: &Source,
    children: &[Source],
    with: &RunWith,
    console: Console,
) -> Result<Option<Prepared>> {
    let settings = Settings::read(with, Path::new(&definition.name))?;
    let warn = !with.quiet;
    let Some((loaded, values)) = load(definition, &settings, &parameters(with)?, warn, console) else {
        return Ok(None);
    };
    let mut known = Vec::new();
    for child in children {
        let Some((child, values)) = load(child, &settings, &Object::new(), false, console) else {
            return Ok(None);
        };
        known.push((child.workflow, values));
    }
    let body = with.input.as_deref().map(files::read_input).transpose()?;
    let mut request = RunRequest::manual(Arc::clone(&loaded.workflow), values, body);
    request.trigger = with.trigger.as_deref().map(Arc::from);
    request.wants_response = true;
    Ok(Some(Prepared { request, children: known, settings, connections: loaded.connections }))
}

fn load(
    source: &Source,
    settings: &Settings,
    supplied: &Object,
    warn: bool,
    console: Console,
) -> Option<(Loaded, Vec<Value>)> {
    let Source { name, bytes } = source;
    let options = LoadOptions {
        file_name: Some(Arc::from(name.as_str())),
        parameters_file: settings.parameters_file(),
        ..LoadOptions::default()
    };
    let loaded = match Definition::parse(bytes, &options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            tell(&diagnostics, bytes, name, console);
            return None;
        }
    };
    if warn && !loaded.warnings.is_empty() {
        tell(&Diagnostics(loaded.warnings.clone()), bytes, name, console);
    }
    let mut values = loaded.parameter_values.clone();
    for (parameter, value) in supplied {
        values.insert(Arc::clone(parameter), value.clone());
    }
    let declared = |name: &str| loaded.workflow.parameters.iter().any(|parameter| &*parameter.name == name);
    if declared("$connections") && values.get_ignore_case("$connections").is_none() {
        values.insert("$connections", settings.connections_parameter());
    }
    match loaded.workflow.bind_parameters(&values, &|name| settings.app_setting(name)) {
        Ok(values) => Some((loaded, values)),
        Err(diagnostics) => {
            tell(&diagnostics, bytes, name, console);
            None
        }
    }
}

fn tell(diagnostics: &Diagnostics, bytes: &[u8], name: &str, console: Console) {
    let source = text::decode(bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    for diagnostic in &diagnostics.0 {
        eprintln!("{}", render(diagnostic, &source, name, console.color));
    }
}

/// `--param name=value`: JSON if it reads as JSON, else text.
pub(crate) fn parameters(with: &RunWith) -> Result<Object> {
    let mut values = Object::new();
    for argument in &with.parameters {
        let Some((name, text)) = argument.split_once('=') else {
            bail!("--param takes NAME=VALUE, and '{argument}' has no `=`");
        };
        let value = match text.strip_prefix('@') {
            Some(path) if Path::new(path).is_file() => files::read_json(Path::new(path))?,
            _ => Value::from_json_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        values.insert(name, value);
    }
    Ok(values)
}

impl Prepared {
    /// The engine that this workflow runs on.
    fn engine(&self) -> Result<Engine> {
        let builder = Engine::builder().environment(self.settings.environment()?);
        let engine = self.settings.handlers(builder, &self.connections)?.build();
        for (child, parameters) in &self.children {
            engine.deploy(Arc::clone(child), parameters.clone());
        }
        Ok(engine)
    }

    /// The engine and the request, for whoever plays the run.
    pub(crate) fn into_parts(self) -> Result<(Engine, RunRequest)> {
        Ok((self.engine()?, self.request))
    }
}

/// Starts the run, shows it, and prints what came of it.
async fn play(
    engine: &Engine,
    request: RunRequest,
    longest: Option<Duration>,
    with: &RunWith,
    console: Console,
) -> Result<Exit> {
    let workflow = Arc::clone(&request.workflow);
    let style = if with.quiet || console.live { Style::Silent } else { Style::Lines };
    let live = Arc::new(Live::new(workflow, style, console));
    let shown = if console.live && !with.quiet { Shown::Painted } else { Shown::No };
    let runs = match start(engine, request, &live)? {
        Outset::Runs(runs) => runs,
        Outset::None(exit) => return Ok(exit),
    };
    let mut exit = Exit::Success;
    for (index, run) in runs.into_iter().enumerate() {
        // Of many runs that `splitOn` starts, the first is shown; the others are only waited for.
        let shown = if index == 0 { shown } else { Shown::No };
        let report = watch(run, &live, shown, longest, console).await?;
        exit = exit.worse(Exit::of_run(report.status));
        if index == 0 {
            result::print(&report, &live.history(), with.json);
        } else if with.json {
            result::print_report(&report);
        }
        if with.quiet
            && let Some(error) = &report.error
        {
            eprintln!("loom: run {}: {}", report.status, error.message);
        }
    }
    Ok(exit)
}

/// Plays one run and leaves its tree on standard error, terminal or not, and its answer on standard output.
pub(crate) async fn play_shown(
    engine: &Engine,
    request: RunRequest,
    live: &Arc<Live>,
    console: Console,
) -> Result<Exit> {
    let run = match start(engine, request, live)? {
        Outset::Runs(mut runs) if runs.len() == 1 => runs.remove(0),
        Outset::Runs(runs) => bail!("{} runs were started where one was meant", runs.len()),
        Outset::None(exit) => return Ok(exit),
    };
    let shown = if console.live { Shown::Painted } else { Shown::AtTheEnd };
    let report = watch(run, live, shown, None, console).await?;
    result::print(&report, &live.history(), false);
    Ok(Exit::of_run(report.status))
}

/// What came of starting.
enum Outset {
    Runs(Vec<RunHandle>),
    /// Nothing was started, which was told.
    None(Exit),
}

fn start(engine: &Engine, request: RunRequest, live: &Arc<Live>) -> Result<Outset> {
    let watcher = Arc::clone(live) as Arc<dyn Watcher>;
    match engine.start(request, Some(&watcher)) {
        Ok(Started::Runs(runs)) => Ok(Outset::Runs(runs)),
        Ok(Started::Held { condition }) => {
            eprintln!("loom: condition {condition} of the trigger does not hold; no run was started");
            Ok(Outset::None(Exit::Success))
        }
        Err(error @ StartError::UnknownTrigger { .. }) => Err(anyhow!(error)),
        Err(error) => {
            eprintln!("loom: {error}");
            Ok(Outset::None(Exit::Failure))
        }
    }
}

/// How a run's tree is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Not at all.
    No,
    /// Painted again and again on a terminal.
    Painted,
    /// Once, when the run has ended.
    AtTheEnd,
}

/// Waits for the end of a run. The first interrupt cancels it; the second, or the end of the grace, gives it up.
async fn watch(
    mut run: RunHandle,
    live: &Live,
    shown: Shown,
    longest: Option<Duration>,
    console: Console,
) -> Result<Arc<RunReport>> {
    let over = tokio::time::sleep(longest.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    let mut told = false;
    let mut screen = Screen::default();
    let mut frames = tokio::time::interval(FRAME);
    let mut interrupts = 0;
    let grace = tokio::time::sleep(Duration::MAX);
    tokio::pin!(grace);
    loop {
        tokio::select! {
            biased;
            report = run.ended() => {
                if shown != Shown::No {
                    paint(live, &mut screen, console, usize::MAX);
                }
                return report.context("the run stopped without a result");
            }
            signal = tokio::signal::ctrl_c() => {
                signal.context("interrupts cannot be heard")?;
                interrupts += 1;
                if interrupts > 1 {
                    bail!("interrupted again before the run had ended");
                }
                eprintln!("loom: cancelling the run; interrupt again to leave at once");
                screen = Screen::default();
                run.cancel().await;
                grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
            }
            () = &mut over, if longest.is_some() && !told => {
                told = true;
                run.command(Command::TimeOut).await;
            }
            () = &mut grace, if interrupts > 0 => bail!("the run did not end after it was cancelled"),
            _ = frames.tick(), if shown == Shown::Painted => paint(live, &mut screen, console, Screen::size().1.saturating_sub(1)),
        }
    }
}

fn paint(live: &Live, screen: &mut Screen, console: Console, rows: usize) {
    let lines = live.tree(SystemClock.now(), console.color, (Screen::size().0, rows));
    // A terminal that is gone does not stop the run.
    screen.paint(&lines, &mut stderr().lock()).ok();
}
