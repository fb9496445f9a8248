//! `loom serve`: serves workflows over HTTP, with runs in a durable store.

mod definitions;
mod likeness;
mod reload;
mod telemetry;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueHint};
use loom_actions::TriggerRequests;
use loom_definition::{LoadOptions, catalog::Bump, trigger::TriggerKind};
use loom_engine::{Engine, JOURNAL_FORMAT, clock::SystemClock};
use loom_server::{
    DeployError, Deployment, Host, HostSettings, LiveSettings, Mcp, NodeSettings, Origin, SecretStore,
    Server, ServerSettings, Source, TelemetrySettings, is_loopback,
};
use loom_store::{Durability, LeaseSettings, MemoryStore, Retention, Store};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    bench::NOTHING,
    chaos,
    chat::{self, LocalChat},
    config::{self, Config, Flags, Values},
    console::{self, Console},
    data,
    database::Database,
    exit::Exit,
    files,
    logs::{self, LogLevel},
    remote,
    run::Settings,
    signals::{self, Asked, Signals},
};
use definitions::Watched;
use reload::{Seen, Serving};

/// Options of `loom serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Definitions to deploy.
    #[arg(value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Set a parameter of every workflow that declares it: JSON, or otherwise a string. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    #[command(flatten)]
    flags: Flags<true>,
    /// Hold all runs: resume no unfinished run and start no new one, so that runs can be inspected, cancelled or suspended first.
    /// `loom runs resume` releases one run; a restart without this option releases all.
    #[arg(long)]
    hold_runs: bool,
    /// Inject the faults in this file into calls, to see how workflows cope. Not for production: real calls fail.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    chaos: Option<PathBuf>,
    /// Register the no-op activity that `loom bench` calls.
    #[arg(long, hide = true)]
    bench: bool,
}

pub(crate) const EXIT_CODES: &str = "\
Every option except --param, --config, --chaos and --hold-runs can also be set in the project's `loom.toml`, in an environment variable such as
LOOM_RUNS_MAX, or under `Loom` in `local.settings.json`. `loom config show --origin` shows where each value comes from.

SIGTERM and Ctrl-C shut down gracefully: calls in flight may finish within --drain. SIGHUP reloads definitions, the token and settings.

Exit codes:
  0  stopped by Ctrl-C or SIGTERM; unfinished runs resume at the next start
  2  invalid arguments, a file that cannot be read, an address in use, or a store that cannot be opened
  3  a definition named on the command line is invalid
  130  stopped by a second Ctrl-C, without waiting";

impl ServeArgs {
    /// The arguments that these are.
    pub(crate) fn of(files: Vec<PathBuf>, parameters: Vec<String>, flags: Flags<true>) -> ServeArgs {
        ServeArgs { files, parameters, flags, hold_runs: false, chaos: None, bench: false }
    }

    /// The settings on the command line.
    pub(crate) fn flags(&self) -> &Flags<true> {
        &self.flags
    }
}

/// What standard input and output are for.
#[derive(Clone, Copy)]
pub(crate) enum Front<'a> {
    /// Programs that wait for the address of the server.
    Address,
    /// A client of the Model Context Protocol, which ends the process by closing standard input.
    Mcp,
    /// A person who chats with the only workflow.
    Chat(&'a LocalChat),
}

impl Front<'_> {
    /// Whether the process belongs to one client, which does not wait at a known address.
    fn is_private(self) -> bool {
        !matches!(self, Front::Address)
    }
}

/// Runs the command.
pub(crate) fn command(args: &ServeArgs, console: Console, front: Front<'_>) -> Result<Exit> {
    console::outlive_readers();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(serve(args, console, front));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn serve(args: &ServeArgs, console: Console, front: Front<'_>) -> Result<Exit> {
    if let Some(file) = args.files.iter().find(|file| file.is_dir()) {
        bail!("{0} is a directory; use `--workflows {0}` to serve the definitions in it", file.display());
    }
    for file in &args.files {
        files::readable(file)?;
    }
    config::warn_of_misspelt_variables();
    let config = Config::resolve(&args.flags, &args.files)?;
    let mut config = config.clone().with_secrets_beside(&config.values.data);
    if matches!(front, Front::Chat(_)) {
        // A chat does not fill the data directory of this project.
        let is_kept = config.origin("data").is_some();
        config.values.memory |= !is_kept;
        config.values.addr.set_port(0);
    }
    let values = &config.values;
    #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
    let level = values.log_level.clone().or_else(|| LogLevel::parse(&std::env::var("RUST_LOG").ok()?).ok());
    let quiet = if matches!(front, Front::Chat(_)) { LogLevel::parse("error").ok() } else { None };
    logs::begin(values.log_format, level.or(quiet).unwrap_or_default());
    if args.hold_runs && values.memory {
        bail!("--hold-runs cannot be used with --memory: there are no stored runs to hold");
    }
    if let Some(directory) = values.workflows.as_ref().filter(|directory| !directory.is_dir()) {
        bail!("--workflows: {} is not a directory", directory.display());
    }
    let database = Database::of(&config)?;
    if database.is_some() {
        check_for_cluster(args, values)?;
    }
    #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
    let telemetry = telemetry::settings(values.otlp.as_deref(), |name| std::env::var(name).ok())?;
    let token = token(&config)?;
    if !is_loopback(values.addr) && token.is_none() {
        bail!(
            "listening on {}, which other machines can reach, requires --token-file (or --token)",
            values.addr
        );
    }
    signals::raise_file_limit();
    // Interrupts stop the turns of a chat.
    let (_reload, none) = mpsc::channel(1);
    let (stop, mut reloads) = match front {
        Front::Chat(_) => (CancellationToken::new(), none),
        Front::Address | Front::Mcp => obey(Signals::listen()?),
    };
    config.check_files(&["key-file"])?;
    let store = open_store(values, database.as_ref()).await?;
    let mut addr = values.addr;
    if front.is_private() && config.origin("addr").is_none() {
        // Each client starts a process of its own.
        addr.set_port(0);
    }
    let listener = TcpListener::bind(addr).await.map_err(|error| {
        anyhow!(
            "cannot listen on {addr}: {error}; choose another address with `--addr` (port 0 takes a free port)"
        )
    })?;
    let here = format!("http://{}", config::reachable(listener.local_addr()?));
    let base = values.public_url.clone().unwrap_or_else(|| here.clone());
    let read = Settings::read(&config)?;
    let secrets = SecretStore {
        vault: crate::secrets::embedded(values.secrets.as_deref()),
        providers: read.secrets().clone(),
    };
    // Connections need their secrets at hand.
    secrets.providers.tend(console::masker()).await;
    let mut watched = Watched::new(&args.files, values.workflows.as_deref(), !values.memory);
    let node = database.is_some().then(|| node(values, &read, &here));
    let host = open_host(args, (read, values), &base, (store, node), &mut watched, telemetry).await?;
    host.audit_connections(&secrets);
    reload::warn_of_hidden(&host);
    if let Front::Chat(LocalChat { group: Some(bytes) }) = front {
        deploy_group(&host, bytes).await?;
    }
    let refused = watched.deploy_all(&host, console, false).await?;
    if refused > 0 && !args.files.is_empty() {
        host.shut_down().await.ok();
        return Ok(Exit::Refused);
    }
    if args.hold_runs {
        let held = host.hold_runs().await.context("cannot read unfinished runs")?;
        eprintln!(
            "loom: holding {}; `loom runs resume` releases one run, a restart without --hold-runs releases all",
            unfinished_runs(held)
        );
    } else {
        let recovery = host.recover().await.context("cannot read unfinished runs")?;
        for (run, error) in &recovery.unreadable {
            eprintln!("loom: cannot resume run {run}; it is left unchanged: {error}");
        }
        if recovery.runs > 0 {
            eprintln!("loom: resuming {}", unfinished_runs(recovery.runs));
        }
    }
    if !matches!(front, Front::Chat(_)) {
        print_addresses(values, database.as_ref(), &host, &here);
    }
    match front {
        // For programs that wait for it.
        Front::Address => println!("listening on {here}"),
        Front::Mcp => eprintln!("loom: listening on {here}"),
        Front::Chat(_) => {}
    }
    let secret = token.clone();
    let settings = ServerSettings {
        token,
        public_url: values.public_url.clone(),
        write_timeout: values.write_timeout,
        bodies_bytes_max: values.bodies_bytes_max,
        shown: config.published(),
        secrets: secrets.clone(),
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::clone(&host), settings);
    // Where standard error is kept as a log, a link that gives access must not be in it.
    if let Some(link) = server.login_link().filter(|_| console.live) {
        let base = values.public_url.as_deref().unwrap_or(&here);
        eprintln!("loom: to sign in once within 15 minutes, open {}{link}", base.trim_end_matches('/'));
    }
    let mut serving = Serving {
        args,
        drain: Rc::new(Cell::new(values.drain)),
        config: config.clone(),
        token: server.token(),
        shown: server.shown_settings(),
        policies: Seen::policies(&config),
        providers: Seen::providers(&config),
        secrets: secrets.providers.clone(),
        watched,
        console,
    };
    let drain = Rc::clone(&serving.drain);
    let closed = CancellationToken::new();
    let mcp = server.mcp();
    let exit = Cell::new(Exit::Success);
    let fronting = async {
        exit.set(match front {
            Front::Address => std::future::pending().await,
            Front::Mcp => speak(&mcp, &stop).await,
            Front::Chat(_) => converse(&host, (&here, secret.as_deref()), console).await,
        });
        stop.cancel();
        // The server returns when its connections have ended.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = server.serve(listener, closed.clone()) => {}
        () = fronting => {}
        () = host.attend_secrets(&secrets, values.secret_expiry_days) => {}
        () = serving.keep_up(&host, &mut reloads) => {}
        () = drained(&host, &stop, &drain, &closed) => {}
    }
    let left = host.engine().runs_in_progress();
    host.shut_down().await.context("cannot close the store cleanly")?;
    match left {
        0 if matches!(front, Front::Chat(_)) => {}
        0 => eprintln!("loom: stopped"),
        left => eprintln!("loom: stopped; {} will resume at the next start", unfinished_runs(left)),
    }
    Ok(exit.get())
}

/// Deploys the group that was described on the command line.
async fn deploy_group(host: &Arc<Host>, bytes: &[u8]) -> Result<()> {
    let options = LoadOptions { name: Some(chat::GROUP.into()), ..LoadOptions::default() };
    let bytes = bytes.to_vec();
    let source = Source { bytes, options, origin: Origin::Api, bump: Bump::Patch, only_new: false };
    match host.deploy(&source).await {
        Ok(_) => Ok(()),
        Err(DeployError::Refused(found)) => bail!("the group cannot be used: {found}"),
        Err(error) => Err(error.into()),
    }
}

/// Chats with the only workflow.
async fn converse(host: &Host, (here, token): (&str, Option<&str>), console: Console) -> Exit {
    let deployments = host.deployments();
    let name =
        deployments.first().map(|deployment| Arc::clone(&deployment.workflow.name)).unwrap_or_default();
    match remote::chat_here(here, token, &name, console).await {
        Ok(exit) => exit,
        Err(error) => {
            console::error(format_args!("{error:#}"));
            Exit::Usage
        }
    }
}

/// Serves a client on standard input and output.
async fn speak(mcp: &Mcp, stop: &CancellationToken) -> Exit {
    match mcp.serve(tokio::io::stdin(), tokio::io::stdout(), stop.clone()).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            console::error(format_args!("{error}"));
            Exit::Usage
        }
    }
}

/// Waits for the signal to stop, then for the calls in flight while the server still accepts requests, then closes its port.
async fn drained(host: &Host, stop: &CancellationToken, limit: &Cell<Duration>, closed: &CancellationToken) {
    stop.cancelled().await;
    let left = host.drain(limit.get()).await;
    closed.cancel();
    if left > 0 {
        let calls = if left == 1 { "call" } else { "calls" };
        eprintln!(
            "loom: {left} {calls} in flight did not finish in time and will be repeated at the next start"
        );
    }
    // The server returns when its connections have ended.
    std::future::pending::<()>().await;
}

/// The first interrupt or SIGTERM shuts down gracefully, the second exits at once. SIGHUP requests a reload.
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
                    // Cancelled before the message is written: a blocked standard error must not delay the shutdown.
                    asked.cancel();
                    eprintln!("loom: shutting down; press Ctrl-C again to force exit");
                }
                // A reload that is already queued sees this change as well.
                Asked::Reload => drop(reload.try_send(())),
            }
        }
    });
    (stop, reloads)
}

/// The token that callers must send.
fn token(config: &Config) -> Result<Option<Arc<str>>> {
    let values = &config.values;
    let (token, key) = match &values.token_file {
        None => (values.token.clone(), "token"),
        Some(path) => {
            config.check_files(&["token-file"])?;
            files::warn_if_others_can_read(path);
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            (Some(text.lines().next().unwrap_or_default().trim().to_owned()), "token-file")
        }
    };
    match (token, config.origin(key)) {
        (Some(token), Some(origin)) if token.len() < 16 => {
            bail!(
                "{origin}: the token must have at least 16 characters; `openssl rand -hex 32` generates one"
            )
        }
        (token, _) => Ok(token.map(Arc::from)),
    }
}

/// Rejects what a node of a cluster cannot do.
fn check_for_cluster(args: &ServeArgs, values: &Values) -> Result<()> {
    if !args.files.is_empty() || values.workflows.is_some() {
        bail!(
            "with --store, definitions are in the database, for all nodes; start the server without files and --workflows, and deploy \
             them with `loom deploy PATH --server URL`"
        );
    }
    if args.hold_runs {
        bail!("--hold-runs cannot be used with --store: other nodes would continue the runs");
    }
    Ok(())
}

/// This process as a node.
fn node(values: &Values, settings: &Settings, here: &str) -> NodeSettings {
    let address = values.node_address.clone();
    let address = address.unwrap_or_else(|| here.trim_start_matches("http://").to_owned());
    let name = values.node_name.clone().unwrap_or_else(machine);
    let lease = values.lease;
    let lease =
        LeaseSettings { lease, renew_every: lease / 3, margin: lease / 6, ..LeaseSettings::default() };
    NodeSettings {
        name: name.into(),
        address: address.into(),
        lease,
        version: crate::args::VERSION.into(),
        format: values.journal_format.map_or(JOURNAL_FORMAT, |format| format as u32),
        likeness: likeness::of(settings, values),
    }
}

/// The name of the machine.
fn machine() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = "node".to_owned();
    name
}

async fn open_store(values: &Values, database: Option<&Database>) -> Result<Arc<dyn Store>> {
    if values.memory {
        return Ok(Arc::new(MemoryStore::default()));
    }
    let durability = if values.relaxed { Durability::Relaxed } else { Durability::Durable };
    if let Some(database) = database {
        if values.key_file.is_none() {
            eprintln!(
                "loom: warning: runs, and the secrets that they have read, are stored in the database as they are; encrypt them with \
                 --key-file, the same on every node"
            );
        }
        return database.open(durability, values.key_file.as_deref()).await;
    }
    data::open(&values.data, durability, values.key_file.as_deref()).await
}

async fn open_host(
    args: &ServeArgs,
    (mut settings, values): (Settings, &Values),
    base: &str,
    (store, node): (Arc<dyn Store>, Option<NodeSettings>),
    watched: &mut Watched,
    telemetry: Option<TelemetrySettings>,
) -> Result<Arc<Host>> {
    if args.bench {
        settings.activities().register(NOTHING, async |call| Ok(call.input));
    }
    settings.warn_of_others();
    let environment = settings.environment();
    watched.check_against(settings.connections());
    let requests = settings.requests(&watched.connections()?, Some(&store))?;
    let mut host = HostSettings::new(base);
    host.node = node;
    host.trigger_calls = Some(Arc::new(TriggerRequests::new(&requests)));
    let mut builder = settings.handlers_on(Engine::builder(), requests);
    if let Some(path) = &args.chaos {
        builder = builder.chaos(chaos::plan(path)?);
    }
    let surroundings = settings.surroundings(crate::run::parameters(&args.parameters)?);
    host.app_settings = surroundings.app_settings;
    host.connections = surroundings.connections;
    host.typed_parameters = surroundings.typed_parameters;
    host.template_parameters = surroundings.template_parameters;
    host.parameters_file = surroundings.parameters_file;
    host.policies = Some(Arc::clone(settings.policies()));
    host.disabled = settings.project().disabled();
    let live = live(values);
    host.runs_max = live.runs_max;
    // A run that an operator released must not look held again because it has left memory.
    host.park_after = (!args.hold_runs).then_some(values.park_after);
    host.retention = live.retention;
    host.response_timeout = live.response_timeout;
    host.telemetry = telemetry;
    crate::args::VERSION.clone_into(&mut host.version);
    host.process = Some(crate::process::usage);
    Ok(Host::open(builder, environment, store, Arc::new(SystemClock), host).await?)
}

/// The settings that a reload can change while the host is open.
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

/// Prints the signed URLs of a workflow's triggers.
fn print_triggers(host: &Host, deployment: &Deployment) {
    let workflow = &deployment.workflow;
    for trigger in &workflow.triggers {
        if matches!(trigger.kind, TriggerKind::Request { .. }) {
            eprintln!("      {}", host.trigger_url(&workflow.name, &trigger.name));
        }
    }
}

/// Prints the workflows and their trigger URLs.
fn print_addresses(values: &Values, database: Option<&Database>, host: &Host, here: &str) {
    let deployments = host.deployments();
    if deployments.is_empty() {
        match &values.workflows {
            Some(directory) => eprintln!(
                "loom: no workflows in {} yet; definitions are deployed as they appear",
                directory.display()
            ),
            None if database.is_some() => {
                eprintln!("loom: no workflows yet; deploy them with `loom deploy PATH --server {here}`");
            }
            None => {
                eprintln!("loom: no workflows to serve; name a definition, or a directory with --workflows");
            }
        }
    }
    for deployment in deployments {
        let disabled = if deployment.disabled { ", disabled" } else { "" };
        eprintln!("loom: {} {}{disabled}", deployment.workflow.name, deployment.version);
        print_triggers(host, &deployment);
    }
    let sealed = if values.key_file.is_some() { ", encrypted" } else { "" };
    let kept = match database {
        Some(database) => format!("in {}{sealed}", database.shown()),
        None if values.memory => "in memory".to_owned(),
        None => format!("in {}{sealed}", shown(&values.data)),
    };
    eprintln!("loom: runs are stored {kept}");
    if let Some(telemetry) = host.telemetry() {
        eprintln!("loom: sending traces to {}", telemetry.address);
    }
    if let Some(url) = &values.public_url {
        eprintln!("loom: public URL: {url}");
    }
    eprintln!("loom: open {here}/ui/ in a browser to see runs");
}

/// `1 unfinished run`, `2 unfinished runs`.
fn unfinished_runs(count: usize) -> String {
    format!("{count} unfinished run{}", if count == 1 { "" } else { "s" })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
