//! `loom serve`: workflows behind HTTP, on a store that survives the process.

mod definitions;
mod reload;
mod telemetry;

use std::{
    cell::Cell,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueHint};
use loom_actions::TriggerRequests;
use loom_engine::{Engine, clock::SystemClock};
use loom_server::{Host, HostSettings, LiveSettings, Server, ServerSettings, TelemetrySettings, is_loopback};
use loom_store::{Durability, MemoryStore, Retention, Store};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    bench::NOTHING,
    config::{self, Config, Flags, Values},
    console::{self, Console},
    data,
    exit::Exit,
    files,
    run::Settings,
    signals::{self, Asked, Signals},
    warnings,
};
use definitions::Watched;
use reload::Serving;

/// Options of `loom serve`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ServeArgs {
    /// Definitions to deploy.
    #[arg(value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// A parameter's value, for every workflow that declares it; JSON, or else text. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    #[command(flatten)]
    flags: Flags<true>,
    /// Continue no run and start none, so that runs can be inspected, cancelled and suspended first. `loom runs resume` releases
    /// one run; restart without this option to release all.
    #[arg(long)]
    hold_runs: bool,
    /// Have the activity that does nothing, which `loom bench` calls.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXIT_CODES: &str = "\
Every option but --param, --config and --hold-runs can also be set in `loom.toml` of the project, as a variable such as LOOM_RUNS_MAX, or under
`Loom` in `local.settings.json`; `loom config show --origin` tells what is set where.

SIGTERM and Ctrl-C stop in order: calls in flight are given the time of --drain. SIGHUP reloads definitions, the token and settings.

Exit codes:
  0  stopped by an interrupt or SIGTERM; unfinished runs continue at the next start
  130  stopped by a second one, without waiting
  2  the arguments are wrong, a file cannot be read, the address cannot be had, or the store cannot be opened
  3  a definition that was named is refused";

/// Runs the command.
pub(crate) fn command(args: &ServeArgs, console: Console) -> Result<Exit> {
    console::outlive_readers();
    warnings::show();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(serve(args, console));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn serve(args: &ServeArgs, console: Console) -> Result<Exit> {
    if let Some(file) = args.files.iter().find(|file| file.is_dir()) {
        bail!("{0} is a folder; `--workflows {0}` serves the definitions in it", file.display());
    }
    for file in &args.files {
        files::readable(file)?;
    }
    config::warn_of_misspelt_variables();
    let config = Config::resolve(&args.flags, &args.files)?;
    let config = config.clone().with_secrets_beside(&config.values.data);
    let values = &config.values;
    if args.hold_runs && values.memory {
        bail!("--hold-runs holds the runs of a data directory; with --memory there are none");
    }
    if let Some(folder) = values.workflows.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("--workflows: there is no folder {}", folder.display());
    }
    #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
    let telemetry = telemetry::settings(values.otlp.as_deref(), |name| std::env::var(name).ok())?;
    let token = token(values)?;
    if !is_loopback(values.addr) && token.is_none() {
        bail!("{} can be reached from other machines; that needs --token-file (or --token)", values.addr);
    }
    signals::raise_file_limit();
    let (stop, mut reloads) = obey(Signals::hear()?);
    let store = open_store(values).await?;
    let listener = TcpListener::bind(values.addr).await.with_context(|| {
        format!("could not listen on {}; `--addr` takes another address, and port 0 a free port", values.addr)
    })?;
    let here = format!("http://{}", reachable(listener.local_addr()?));
    let base = values.public_url.clone().unwrap_or_else(|| here.clone());
    let mut watched = Watched::new(&args.files, values.workflows.as_deref());
    let host = open_host(args, &config, &base, store, &watched, telemetry).await?;
    let refused = watched.deploy_all(&host, console, false).await?;
    if refused > 0 && !args.files.is_empty() {
        host.shut_down().await.ok();
        return Ok(Exit::Refused);
    }
    if args.hold_runs {
        let held = host.hold_runs().await.context("unfinished runs cannot be read")?;
        eprintln!(
            "loom: holding {held} unfinished runs; `loom runs resume` releases one, a restart without --hold-runs all"
        );
    } else {
        let recovery = host.recover().await.context("unfinished runs cannot be read")?;
        for (run, error) in &recovery.unreadable {
            eprintln!("loom: run {run} stays as it is: {error}");
        }
        if recovery.runs > 0 {
            eprintln!("loom: {} unfinished runs go on", recovery.runs);
        }
    }
    tell(values, &host, &here);
    let settings = ServerSettings {
        token,
        public_url: values.public_url.clone(),
        write_timeout: values.write_timeout,
        bodies_bytes_max: values.bodies_bytes_max,
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::clone(&host), settings);
    let mut serving = Serving {
        args,
        drain: Rc::new(Cell::new(values.drain)),
        config: config.clone(),
        token: server.token(),
        watched,
        console,
    };
    let drain = Rc::clone(&serving.drain);
    let closed = CancellationToken::new();
    tokio::select! {
        () = server.serve(listener, closed.clone()) => {}
        () = serving.keep_up(&host, &mut reloads) => {}
        () = drained(&host, &stop, &drain, &closed) => {}
    }
    let left = host.engine().runs_in_progress();
    host.shut_down().await.context("the store could not be closed in order")?;
    match left {
        0 => eprintln!("loom: stopped"),
        left => eprintln!("loom: stopped; {left} unfinished runs go on with the next start"),
    }
    Ok(Exit::Success)
}

/// Waits for the signal to stop, then for the calls in flight while the server still answers, and has it close its port.
async fn drained(host: &Host, stop: &CancellationToken, limit: &Cell<Duration>, closed: &CancellationToken) {
    stop.cancelled().await;
    let left = host.drain(limit.get()).await;
    closed.cancel();
    if left > 0 {
        eprintln!("loom: {left} calls are cut off; they are made again at the next start");
    }
    // The server returns when its connections have ended.
    std::future::pending::<()>().await;
}

/// The first interrupt or SIGTERM stops in order; the second leaves at once. SIGHUP asks for a reload.
fn obey(mut signals: Signals) -> (CancellationToken, mpsc::Receiver<()>) {
    let (reload, reloads) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let asked = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process")]
    tokio::spawn(async move {
        loop {
            match signals.next().await {
                Asked::Stop if asked.is_cancelled() => std::process::exit(130),
                Asked::Stop => {
                    // Stopping never waits for somebody to read about it.
                    asked.cancel();
                    eprintln!("loom: stopping; press Ctrl-C again to leave at once");
                }
                // When one is asked for already, that one sees this change, too.
                Asked::Reload => drop(reload.try_send(())),
            }
        }
    });
    (stop, reloads)
}

/// The token that callers must send.
fn token(values: &Values) -> Result<Option<Arc<str>>> {
    let token = match &values.token_file {
        None => values.token.clone(),
        Some(path) => {
            files::warn_if_others_can_read(path);
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("could not read {}", path.display()))?;
            Some(text.lines().next().unwrap_or_default().trim().to_owned())
        }
    };
    match token {
        Some(token) if token.len() < 16 => {
            bail!("the token is too short to be safe; take at least 16 characters")
        }
        token => Ok(token.map(Arc::from)),
    }
}

async fn open_store(values: &Values) -> Result<Arc<dyn Store>> {
    if values.memory {
        return Ok(Arc::new(MemoryStore::default()));
    }
    let durability = if values.relaxed { Durability::Relaxed } else { Durability::Durable };
    data::open(&values.data, durability, values.key_file.as_deref()).await
}

async fn open_host(
    args: &ServeArgs,
    config: &Config,
    base: &str,
    store: Arc<dyn Store>,
    watched: &Watched,
    telemetry: Option<TelemetrySettings>,
) -> Result<Arc<Host>> {
    let mut settings = Settings::read(config)?;
    if args.bench {
        settings.activities().register(NOTHING, async |call| Ok(call.input));
    }
    settings.warn_of_others();
    let environment = settings.environment();
    let requests = settings.requests(&watched.connections()?)?;
    let mut host = HostSettings::new(base);
    host.trigger_calls = Some(Arc::new(TriggerRequests::new(&requests)));
    let builder = settings.handlers_on(Engine::builder(), requests);
    let surroundings = settings.surroundings(crate::run::parameters(&args.parameters)?);
    host.app_settings = surroundings.app_settings;
    host.connections = surroundings.connections;
    host.typed_parameters = surroundings.typed_parameters;
    host.template_parameters = surroundings.template_parameters;
    host.parameters_file = surroundings.parameters_file;
    host.disabled = settings.project().disabled();
    let live = live(&config.values);
    host.runs_max = live.runs_max;
    host.retention = live.retention;
    host.response_timeout = live.response_timeout;
    host.telemetry = telemetry;
    Ok(Host::open(builder, environment, store, Arc::new(SystemClock), host).await?)
}

/// What a reload may change while the host is open.
fn live(values: &Values) -> LiveSettings {
    LiveSettings {
        runs_max: values.runs_max as usize,
        response_timeout: values.response_timeout,
        retention: retention(values),
    }
}

fn retention(values: &Values) -> Retention {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let kept = values.retain_days as i64 * DAY_MS;
    Retention {
        age_max_ms: Some(kept),
        runs_max: values.retain_runs,
        bytes_max: Some(values.retain_bytes),
        row_age_max_ms: Some(kept + 60 * DAY_MS),
        rows_max: Some(values.retain_rows),
    }
}

/// Says what is served, and where. The address goes to standard output, for programs that wait for it.
fn tell(values: &Values, host: &Host, here: &str) {
    let deployments = host.deployments();
    if deployments.is_empty() {
        match &values.workflows {
            Some(folder) => eprintln!(
                "loom: there are no workflows in {} yet; they are served as they come",
                folder.display()
            ),
            None => eprintln!(
                "loom: there is no workflow yet; name its file, or a folder of them with --workflows"
            ),
        }
    }
    for deployment in deployments {
        let workflow = &deployment.workflow;
        let disabled = if deployment.disabled { ", disabled" } else { "" };
        eprintln!("loom: {} {}{disabled}", workflow.name, deployment.version);
        for trigger in &workflow.triggers {
            if matches!(trigger.kind, loom_definition::trigger::TriggerKind::Request { .. }) {
                eprintln!("      {}", host.trigger_url(&workflow.name, &trigger.name));
            }
        }
    }
    let sealed = if values.key_file.is_some() { ", encrypted" } else { "" };
    let kept =
        if values.memory { "in memory".to_owned() } else { format!("in {}{sealed}", shown(&values.data)) };
    eprintln!("loom: runs are kept {kept}");
    if let Some(telemetry) = host.telemetry() {
        eprintln!("loom: traces are sent to {}", telemetry.address);
    }
    if let Some(url) = &values.public_url {
        eprintln!("loom: others reach this server at {url}");
    }
    println!("listening on {here}");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// An address that listens everywhere is reached from here by way of the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}
