//! `loom bench`: measures the throughput and latency of workflows over HTTP, memory and disk use over many runs, and how long requests
//! wait under load.
//!
//! The server runs in a separate process with its own data directory, so that its memory and CPU time can be distinguished from
//! those of the callers. Callers, server and the service that workflows call share the machine.

mod callers;
mod fair;
mod metrics;
mod report;
mod server;
mod shapes;
mod soak;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueHint};
use loom_testkit::flaky::Flaky;
use tokio::time::{Instant, sleep};

use crate::{
    args::whole_number,
    console::{self, Console},
    exit::Exit,
};
use callers::{Until, call};
use fair::FairArgs;
use report::Row;
use server::Server;
pub(crate) use shapes::NOTHING;
use shapes::{Job, Shape};
use soak::SoakArgs;

/// The interval at which the number of runs in progress is polled.
const LOOK: Duration = Duration::from_millis(10);

/// How long runs may take to end after the last one was accepted.
const DRAIN: Duration = Duration::from_mins(1);

const ABOUT: &str = "\
Each row is one workflow with a number of concurrent callers. Every caller has its own connection and starts the next run
as soon as it has received the response of the last one.

  runs/s    responses per second
  ended/s   runs that ended per second, up to the end of the last run
  p50 …     latency from the request to the complete response, in milliseconds
  sync      duration of the disk syncs that make runs durable, in milliseconds, as measured by the server
  CPU       CPU time of the server process per run
  RSS       resident memory of the server process, at the end and at its peak

Pass options for `loom serve` after `--`:

  loom bench --callers 64 -- --relaxed";

/// Options of `loom bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = ABOUT)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    speed: SpeedArgs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Execute many runs and report memory and disk use over time.
    Soak(SoakArgs),
    /// Measure how long requests wait while runs evaluate for long and histories are read.
    Fair(FairArgs),
}

/// The workflow and the server.
#[derive(Args, Debug)]
struct What {
    /// A workflow to measure instead of the built-in ones. Its parameter `service`, if it has one, is set to the URL of a test
    /// service in this process.
    #[arg(value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The trigger body for that workflow: JSON, `@file`, or `-` for standard input.
    #[arg(long, short, value_name = "JSON|@FILE|-", requires = "file")]
    input: Option<String>,
    /// A running server to measure, as `http://HOST:PORT`. The workflow is deployed there as `bench-…` and deleted at the end.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "serve"])]
    url: Option<String>,
    /// A file whose first line is that server's token.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "url")]
    token_file: Option<PathBuf>,
    /// The directory for the server's temporary data; its disk determines much of the result [default: the system's temporary
    /// directory].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Options for `loom serve`.
    #[arg(last = true, value_name = "SERVE OPTIONS")]
    serve: Vec<OsString>,
}

#[derive(Args, Debug)]
struct SpeedArgs {
    #[command(flatten)]
    what: What,
    /// A built-in workflow to measure. May be repeated [default: all except `mixed`; with --url, also except `steps`].
    #[arg(long, value_enum, conflicts_with = "file")]
    shape: Vec<Shape>,
    /// The numbers of concurrent callers, one row for each.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1,64", value_parser = whole_number(1_u32, 4000))]
    callers: Vec<u32>,
    /// The duration of each row in seconds, after at most one second of warm-up.
    #[arg(long, default_value_t = 3, value_parser = whole_number(1_u64, 3600))]
    seconds: u64,
}

/// Runs the command.
pub(crate) fn command(args: &BenchArgs, console: Console) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let work = async {
            match &args.command {
                None => speed(&args.speed, console).await,
                Some(BenchCommand::Soak(args)) => soak::soak(args, console).await,
                Some(BenchCommand::Fair(args)) => fair::fair(args, console).await,
            }
        };
        tokio::select! {
            exit = work => exit,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// The server under test, and the service that workflows call.
struct Setting {
    server: Server,
    service: Flaky,
}

impl What {
    async fn setting(&self) -> Result<Setting> {
        let service = Flaky::start().await?;
        let server = match &self.url {
            Some(url) => Server::running(url, self.token_file.as_deref())?,
            None => Server::start(self.data.as_deref(), &service.base_url(), &self.serve)?,
        };
        Ok(Setting { server, service })
    }

    /// The user's workflow, or the given built-in ones. None if it is invalid, which has been reported.
    fn jobs(&self, shapes: &[Shape], service: &str, console: Console) -> Result<Option<Vec<Job>>> {
        match &self.file {
            Some(file) => Ok(shapes::of_file(file, self.input.as_deref(), console)?.map(|job| vec![job])),
            None => Ok(Some(shapes.iter().map(|shape| shape.job(service)).collect())),
        }
    }
}

async fn speed(args: &SpeedArgs, console: Console) -> Result<Exit> {
    let setting = args.what.setting().await?;
    let all = [Shape::Accept, Shape::Steps, Shape::Effects, Shape::Compose, Shape::Foreach];
    // Only a server started by the benchmark has the no-op activity.
    let all = all.into_iter().filter(|shape| *shape != Shape::Steps || args.what.url.is_none());
    let all: Vec<Shape> = all.collect();
    let shapes = if args.shape.is_empty() { &all[..] } else { &args.shape[..] };
    let Some(jobs) = args.what.jobs(shapes, &setting.service.base_url(), console)? else {
        return Ok(Exit::Refused);
    };
    let mut rows = Vec::new();
    if !args.what.json {
        println!("{}", report::head());
    }
    for job in &jobs {
        for &callers in &args.callers {
            let row = measure(&setting.server, job, callers, Duration::from_secs(args.seconds)).await?;
            if !args.what.json {
                println!("{}", report::line(&row));
            }
            rows.push(row);
        }
    }
    if args.what.json {
        console::json(&report::json(&rows).to_json_text());
    }
    let failed: Vec<String> = rows.iter().filter_map(Row::trouble).collect();
    for trouble in &failed {
        eprintln!("loom: {trouble}");
    }
    Ok(if failed.is_empty() { Exit::Success } else { Exit::Failure })
}

/// Measures one row: deploys the workflow, warms up, measures, waits for all runs to end.
async fn measure(server: &Server, job: &Job, callers: u32, time: Duration) -> Result<Row> {
    let path = server.deploy(job).await?;
    let body = job.body.clone().into();
    let warm_up = (time / 4).min(Duration::from_secs(1));
    call(&server.target, &path, &body, callers, Until::Time(warm_up), |_| {}).await?;
    drain(server).await?;
    let (before, usage) = (server.metrics().await?, server.usage());
    let began = Instant::now();
    let tally = call(&server.target, &path, &body, callers, Until::Time(time), |_| {}).await?;
    let answered = began.elapsed();
    drain(server).await?;
    let ended = began.elapsed();
    let (after, used) = (server.metrics().await?, server.usage());
    server.remove(job).await?;
    let cpu_micros = used.cpu_micros.zip(usage.cpu_micros).map(|(used, before)| used - before);
    Ok(Row::new(job, callers, tally, (answered, ended), &after.since(&before), (used, cpu_micros)))
}

/// Waits until no run is in progress.
async fn drain(server: &Server) -> Result<()> {
    let began = Instant::now();
    while server.metrics().await?.get("loom_runs_in_progress").is_some_and(|runs| runs > 0.0) {
        if began.elapsed() > DRAIN {
            bail!("runs are still in progress {} s after the last one was accepted", DRAIN.as_secs());
        }
        sleep(LOOK).await;
    }
    Ok(())
}
