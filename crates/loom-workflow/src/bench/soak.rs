//! `loom bench soak`: executes many runs and samples memory, disk use and latency over time.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use loom_expression::{Object, Value};
use tokio::time::{Instant, interval};

use super::{
    What,
    callers::{Until, call},
    drain,
    report::{mebibytes, millis, number, shown},
    server::Server,
    shapes::Shape,
};
use crate::{
    args::whole_number,
    console::{self, Console},
    exit::Exit,
};

/// The number of samples in one soak.
const SAMPLES: u64 = 20;

/// The interval at which it is checked whether the next sample is due.
const LOOK: Duration = Duration::from_millis(20);

const ABOUT: &str = "\
The built-in workflow makes an HTTP call, loops, sets variables, evaluates a condition and carries 2 KiB of data.

  RSS     resident memory of the server process
  data    size of its data directory, including the write-ahead log of the database

Pass options for `loom serve`, such as those for retention, after `--`.

Exit codes:
  0  every run succeeded and no limit was exceeded
  1  a run did not succeed, or a limit was exceeded";

/// Options of `loom bench soak`.
#[derive(Args, Debug)]
#[command(after_help = ABOUT)]
pub(super) struct SoakArgs {
    #[command(flatten)]
    what: What,
    /// The number of runs.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The number of concurrent callers.
    #[arg(long, default_value_t = 64, value_parser = whole_number(1_u32, 4000))]
    callers: u32,
    /// Fail if the server's resident memory exceeds this limit in any sample, in MiB.
    #[arg(long, value_name = "MIB")]
    rss_max: Option<u64>,
    /// Fail if the data directory exceeds this limit in any sample, in MiB.
    #[arg(long, value_name = "MIB")]
    data_max: Option<u64>,
}

/// One sample.
#[derive(Debug)]
struct Sample {
    runs: u64,
    at: Duration,
    runs_per_second: f64,
    /// Latencies since the previous sample, in milliseconds.
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    resident: Option<u64>,
    data: Option<u64>,
}

/// The latencies since the last sample, in microseconds.
type Window = Arc<Mutex<Vec<u32>>>;

pub(super) async fn soak(args: &SoakArgs, console: Console) -> Result<Exit> {
    let setting = args.what.setting().await?;
    let server = &setting.server;
    let Some(jobs) = args.what.jobs(&[Shape::Mixed], &setting.service.base_url(), console)? else {
        return Ok(Exit::Refused);
    };
    let job = &jobs[0];
    let path = server.deploy(job).await?;
    let before = server.metrics().await?;
    if !args.what.json {
        println!("{}", head());
    }
    let (window, done) = (Window::default(), Arc::new(AtomicU64::new(0)));
    let seen = {
        let (window, done) = (Arc::clone(&window), Arc::clone(&done));
        move |took: Duration| {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            window.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let began = Instant::now();
    let left = Until::Runs(Arc::new(AtomicU64::new(args.runs)));
    let body = job.body.clone().into();
    let calls = call(&server.target, &path, &body, args.callers, left, seen);
    tokio::pin!(calls);
    let mut samples: Vec<Sample> = Vec::new();
    let mut look = interval(LOOK);
    let tally = loop {
        let over = tokio::select! {
            tally = &mut calls => Some(tally?),
            _ = look.tick() => None,
        };
        let runs = done.load(Ordering::Relaxed);
        let due = args.runs.max(SAMPLES) / SAMPLES * (samples.len() as u64 + 1);
        if runs >= due || (over.is_some() && samples.last().is_none_or(|last| last.runs < runs)) {
            let sample = take(server, &window, runs, began.elapsed(), samples.last());
            if !args.what.json {
                println!("{}", line(&sample));
            }
            samples.push(sample);
        }
        if let Some(tally) = over {
            break tally;
        }
    };
    let took = began.elapsed();
    drain(server).await?;
    let grown = server.metrics().await?.since(&before);
    server.remove(job).await?;
    let mut sorted = tally.micros;
    sorted.sort_unstable();
    let succeeded = grown.sum_where("loom_runs_ended_total", "status", "Succeeded");
    let ended = grown.sum("loom_runs_ended_total");
    let trend = trend(&samples);
    if args.what.json {
        let mut object = Object::new();
        object.insert("runs", sorted.len() as i64);
        object.insert("seconds", took.as_secs_f64());
        object.insert("p50Ms", number(millis(&sorted, 0.5)));
        object.insert("p99Ms", number(millis(&sorted, 0.99)));
        object.insert("maxMs", number(millis(&sorted, 1.0)));
        object.insert("refused", tally.refused as i64);
        object.insert("failed", tally.failed as i64);
        object.insert("runsNotSucceeded", ended - succeeded);
        object.insert("residentGrowthBytes", number(trend));
        object.insert("samples", samples.iter().map(json).collect::<Vec<Value>>());
        console::json(&Value::from(object).to_json_text());
    } else {
        println!(
            "{} runs in {:.1} s: p50 {} ms, p99 {} ms, longest {} ms; {} refused, {} failed",
            sorted.len(),
            took.as_secs_f64(),
            shown(millis(&sorted, 0.5), 2),
            shown(millis(&sorted, 0.99), 2),
            shown(millis(&sorted, 1.0), 2),
            tally.refused,
            tally.failed,
        );
        if let Some(bytes) = trend {
            let mebibytes = bytes / f64::from(1 << 20);
            println!(
                "mean memory in the last quarter of the runs: {mebibytes:+.1} MiB compared with the second quarter"
            );
        }
    }
    let mut troubles = bounds(&samples, args);
    troubles.extend(tally.why.map(|why| format!("{} calls failed, first error: {why}", tally.failed)));
    if ended > succeeded {
        troubles.push(format!("{} runs did not succeed", ended - succeeded));
    }
    for trouble in &troubles {
        eprintln!("loom: {trouble}");
    }
    Ok(if troubles.is_empty() { Exit::Success } else { Exit::Failure })
}

fn take(server: &Server, window: &Window, runs: u64, at: Duration, last: Option<&Sample>) -> Sample {
    let mut micros = std::mem::take(&mut *window.lock().unwrap_or_else(PoisonError::into_inner));
    micros.sort_unstable();
    let since = at.saturating_sub(last.map_or(Duration::ZERO, |last| last.at));
    let new = runs - last.map_or(0, |last| last.runs);
    Sample {
        runs,
        at,
        runs_per_second: new as f64 / since.as_secs_f64(),
        p50: millis(&micros, 0.5),
        p99: millis(&micros, 0.99),
        max: millis(&micros, 1.0),
        resident: server.usage().resident,
        data: server.data().map(|directory| size(&directory)),
    }
}

/// The total size of all files below a directory, in bytes. Files that disappear meanwhile are ignored.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// The growth of mean memory from the second to the last quarter of the samples, in bytes. The first quarter is excluded because
/// caches fill in it.
fn trend(samples: &[Sample]) -> Option<f64> {
    let quarter = samples.len() / 4;
    let mean = |part: &[Sample]| {
        let known: Vec<u64> = part.iter().filter_map(|sample| sample.resident).collect();
        (!known.is_empty()).then(|| known.iter().sum::<u64>() as f64 / known.len() as f64)
    };
    Some(mean(&samples[samples.len() - quarter..])? - mean(&samples[quarter..2 * quarter])?)
}

fn bounds(samples: &[Sample], args: &SoakArgs) -> Vec<String> {
    let most = |of: fn(&Sample) -> Option<u64>| samples.iter().filter_map(of).max();
    let checks = [
        ("memory", args.rss_max, most(|sample| sample.resident)),
        ("the data directory", args.data_max, most(|sample| sample.data)),
    ];
    let over = checks.into_iter().filter_map(|(what, bound, most)| {
        let (bound, most) = (bound?, most?);
        (most > bound << 20).then(|| format!("{what} reached {} MiB (limit {bound} MiB)", most >> 20))
    });
    over.collect()
}

fn head() -> String {
    format!(
        "{:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "runs", "seconds", "runs/s", "p50 ms", "p99 ms", "max ms", "RSS MiB", "data MiB"
    )
}

fn line(sample: &Sample) -> String {
    format!(
        "{:>9} {:>8.1} {:>8.0} {:>8} {:>8} {:>8} {:>8} {:>9}",
        sample.runs,
        sample.at.as_secs_f64(),
        sample.runs_per_second,
        shown(sample.p50, 2),
        shown(sample.p99, 2),
        shown(sample.max, 2),
        mebibytes(sample.resident),
        mebibytes(sample.data),
    )
}

fn json(sample: &Sample) -> Value {
    let mut object = Object::new();
    object.insert("runs", sample.runs as i64);
    object.insert("seconds", sample.at.as_secs_f64());
    object.insert("runsPerSecond", sample.runs_per_second);
    object.insert("p50Ms", number(sample.p50));
    object.insert("p99Ms", number(sample.p99));
    object.insert("maxMs", number(sample.max));
    object.insert("residentBytes", number(sample.resident.map(|bytes| bytes as f64)));
    object.insert("dataBytes", number(sample.data.map(|bytes| bytes as f64)));
    object.into()
}
