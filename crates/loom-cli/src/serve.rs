//! `loom serve`: workflows behind HTTP, on a store that survives the process.

mod definitions;
mod telemetry;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueHint};
use loom_actions::{TriggerRequests, Url};
use loom_engine::{Engine, clock::SystemClock};
use loom_server::{Host, HostSettings, Server, ServerSettings, TelemetrySettings, is_loopback};
use loom_store::{Durability, MemoryStore, Retention, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    args::RunWith,
    bench::NOTHING,
    console::{self, Console},
    data,
    exit::Exit,
    files,
    run::Settings,
    secrets::SecretOptions,
    warnings,
};
use definitions::Watched;

/// How often files are looked at for changes.
const POLL: Duration = Duration::from_secs(1);

/// Options of `loom serve`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct ServeArgs {
    /// Definitions to deploy.
    #[arg(value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// A folder of definitions: `*.json`, and `NAME/workflow.json`. Changes are deployed as they happen.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    workflows: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, value_name = "DIR", default_value = ".loom", value_hint = ValueHint::DirPath)]
    data: PathBuf,
    /// Keep runs in memory only; they end with the process.
    #[arg(long, conflicts_with_all = ["data", "relaxed"])]
    memory: bool,
    /// Do not wait for the disk: runs survive the process, but the last ones not a loss of power.
    #[arg(long)]
    relaxed: bool,
    /// Encrypt what runs hold, with the key in this file: 64 hexadecimal digits. A folder keeps the key it was begun with.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "memory")]
    key_file: Option<PathBuf>,
    /// Where to listen: an address and a port, or a port of this machine alone. Any but a loopback address needs a token. Port 0
    /// takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070", value_parser = address)]
    addr: SocketAddr,
    /// The address that others reach this server under; callbacks and answers are sent there.
    #[arg(long, value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,
    /// A file whose first line is the token that callers must bring as `Authorization: Bearer …`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// The token itself; others on this machine may see it in the list of processes.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// Runs in progress at once; more are refused with 429.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    runs_max: u32,
    /// Days that ended runs are kept with all they did; their rows in lists stay 60 days longer.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    retain_days: u32,
    /// Bytes that all runs may take; beyond that, those that ended first are forgotten.
    #[arg(long, value_name = "BYTES", default_value_t = 10 << 30)]
    retain_bytes: u64,
    /// Ended runs that are kept with all they did. Without it their number does not matter.
    #[arg(long, value_name = "COUNT")]
    retain_runs: Option<u64>,
    /// Rows of forgotten runs that stay in lists. They take a quarter of --retain-bytes at most, too.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    retain_rows: u64,
    /// Seconds that a caller waits for a Response before it is told 504; the run goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    response_timeout: u64,
    /// Seconds that a response may wait for its caller to take any of it, before the connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    write_timeout: u64,
    /// A parameter's value, for every workflow that declares it; JSON, or else text. May be given many times.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Connections: names to addresses and credentials.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    connections: Option<PathBuf>,
    /// Where requests really go: a JSON object of address to address.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    egress: Option<PathBuf>,
    /// A host that actions may send requests to: `example.com`, `example.com:8443`, `*.example.com`. May be given many
    /// times; without it every host may be asked.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Refuse requests to loopback, private and link-local addresses, whatever name or redirect leads to them. Places
    /// that --connections and --egress name are excepted.
    #[arg(long)]
    deny_private: bool,
    /// Send traces of runs to a collector that speaks OTLP over HTTP, such as http://127.0.0.1:4318. The environment's OTEL_…
    /// variables say more, or the same.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Settings of the app and the host, in the form of `local.settings.json`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    settings: Option<PathBuf>,
    #[command(flatten)]
    secrets: SecretOptions,
    /// Have the activity that does nothing, which `loom bench` calls.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  stopped by an interrupt or SIGTERM; unfinished runs go on with the next start
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
    if let Some(folder) = args.workflows.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("--workflows: there is no folder {}", folder.display());
    }
    #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
    let telemetry = telemetry::settings(args.otlp.as_deref(), |name| std::env::var(name).ok())?;
    let token = token(args)?;
    if !is_loopback(args.addr) && token.is_none() {
        bail!("{} can be reached from other machines; that needs --token-file (or --token)", args.addr);
    }
    let stop = stop_on_signals()?;
    let store = open_store(args).await?;
    let listener = TcpListener::bind(args.addr).await.with_context(|| {
        format!("could not listen on {}; `--addr` takes another address, and port 0 a free port", args.addr)
    })?;
    let here = format!("http://{}", reachable(listener.local_addr()?));
    let base = args.public_url.clone().unwrap_or_else(|| here.clone());
    let mut watched = Watched::new(&args.files, args.workflows.as_deref());
    let host = open_host(args, &base, store, &watched, telemetry).await?;
    let refused = watched.deploy_all(&host, console).await;
    if refused > 0 && !args.files.is_empty() {
        host.shut_down().await.ok();
        return Ok(Exit::Refused);
    }
    let recovery = host.recover().await.context("unfinished runs cannot be read")?;
    for (run, error) in &recovery.unreadable {
        eprintln!("loom: run {run} stays as it is: {error}");
    }
    if recovery.runs > 0 {
        eprintln!("loom: {} unfinished runs go on", recovery.runs);
    }
    tell(args, &host, &here);
    let settings = ServerSettings {
        token,
        public_url: args.public_url.clone(),
        write_timeout: Duration::from_secs(args.write_timeout),
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::clone(&host), settings);
    tokio::select! {
        () = server.serve(listener, stop.clone()) => {}
        () = keep_up(&mut watched, &host, console), if args.workflows.is_some() || !args.files.is_empty() => {}
    }
    let left = host.engine().runs_in_progress();
    host.shut_down().await.context("the store could not be closed in order")?;
    match left {
        0 => eprintln!("loom: stopped"),
        left => eprintln!("loom: stopped; {left} unfinished runs go on with the next start"),
    }
    Ok(Exit::Success)
}

/// Looks after files, for ever.
async fn keep_up(watched: &mut Watched, host: &Arc<Host>, console: Console) {
    let mut polls = tokio::time::interval(POLL);
    loop {
        polls.tick().await;
        watched.deploy_changes(host, console).await;
    }
}

/// The first interrupt, or SIGTERM, stops in order; the second leaves at once.
fn stop_on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("SIGTERM cannot be heard")?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .context("interrupts cannot be heard")?;
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process")]
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            // Stopping never waits for somebody to read about it.
            asked.cancel();
            eprintln!("loom: stopping; press Ctrl-C again to leave at once");
        }
    });
    Ok(stop)
}

/// An IP address and a port; a port alone, and `localhost`, mean the loopback address.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse().ok();
    let local = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    local.or_else(|| text.parse().ok()).ok_or_else(|| {
        "an IP address and a port are wanted, such as 127.0.0.1:7070 or [::1]:0, or a port alone; ports end at 65535"
            .to_owned()
    })
}

/// An address that others reach, without a slash at its end.
fn public_url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(_) if text.contains(['?', '#']) => {
            Err("it has a query or a fragment; only a place can be named".to_owned())
        }
        Ok(_) => Ok(text.trim_end_matches('/').to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn token(args: &ServeArgs) -> Result<Option<Arc<str>>> {
    let token = match &args.token_file {
        None => args.token.clone(),
        Some(path) => {
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

async fn open_store(args: &ServeArgs) -> Result<Arc<dyn Store>> {
    if args.memory {
        return Ok(Arc::new(MemoryStore::default()));
    }
    let durability = if args.relaxed { Durability::Relaxed } else { Durability::Durable };
    data::open(&args.data, durability, args.key_file.as_deref()).await
}

async fn open_host(
    args: &ServeArgs,
    base: &str,
    store: Arc<dyn Store>,
    watched: &Watched,
    telemetry: Option<TelemetrySettings>,
) -> Result<Arc<Host>> {
    let with = RunWith {
        connections: args.connections.clone(),
        egress: args.egress.clone(),
        settings: args.settings.clone(),
        parameters: args.parameters.clone(),
        secrets: args.secrets.clone().beside(&args.data),
        ..RunWith::default()
    };
    let first = watched.first().unwrap_or_else(|| PathBuf::from("workflow"));
    let mut settings = Settings::read(&with, &first)?;
    settings.limit_egress(&args.allow_host, args.deny_private)?;
    if args.bench {
        settings.activities().register(NOTHING, async |call| Ok(call.input));
    }
    let environment = settings.environment()?;
    let requests = settings.requests(&watched.connections())?;
    let mut host = HostSettings::new(base);
    host.trigger_calls = Some(Arc::new(TriggerRequests::new(&requests)));
    let builder = settings.handlers_on(Engine::builder(), requests);
    host.app_settings.clone_from(&environment.app_settings);
    host.connections = settings.connections_parameter();
    host.typed_parameters = crate::run::parameters(&args.parameters)?;
    host.runs_max = args.runs_max as usize;
    host.retention = retention(args);
    host.telemetry = telemetry;
    host.response_timeout = Duration::from_secs(args.response_timeout);
    Ok(Host::open(builder, environment, store, Arc::new(SystemClock), host).await?)
}

fn retention(args: &ServeArgs) -> Retention {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let kept = i64::from(args.retain_days) * DAY_MS;
    Retention {
        age_max_ms: Some(kept),
        runs_max: args.retain_runs,
        bytes_max: Some(args.retain_bytes),
        row_age_max_ms: Some(kept + 60 * DAY_MS),
        rows_max: Some(args.retain_rows),
    }
}

/// Says what is served, and where. The address goes to standard output, for programs that wait for it.
fn tell(args: &ServeArgs, host: &Host, here: &str) {
    let deployments = host.deployments();
    if deployments.is_empty() {
        match &args.workflows {
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
        eprintln!("loom: {} {}", workflow.name, deployment.version);
        for trigger in &workflow.triggers {
            if matches!(trigger.kind, loom_definition::trigger::TriggerKind::Request { .. }) {
                eprintln!("      {}", host.trigger_url(&workflow.name, &trigger.name));
            }
        }
    }
    let sealed = if args.key_file.is_some() { ", encrypted" } else { "" };
    let kept = if args.memory { "in memory".to_owned() } else { format!("in {}{sealed}", shown(&args.data)) };
    eprintln!("loom: runs are kept {kept}");
    if let Some(telemetry) = host.telemetry() {
        eprintln!("loom: traces are sent to {}", telemetry.address);
    }
    if let Some(url) = &args.public_url {
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
