//! The rows of a report, as a table and as JSON.

use std::time::Duration;

use loom_expression::{Object, Value};

use super::{callers::Tally, metrics::Metrics, server::Usage, shapes::Job};

/// One row: a workflow with a number of callers.
#[derive(Debug)]
pub(super) struct Row {
    shape: String,
    callers: u32,
    /// The results of the callers, sorted.
    tally: Tally,
    /// The time from the first call to the last response.
    answered: Duration,
    /// The time from the first call to the end of the last run.
    ended_after: Duration,
    runs_ended: f64,
    runs_failed: f64,
    syncs: f64,
    /// The median and the 99th percentile of sync durations, in seconds.
    sync_quantiles: [Option<f64>; 2],
    usage: Usage,
    cpu_micros: Option<u64>,
}

impl Row {
    pub(super) fn new(
        job: &Job,
        callers: u32,
        mut tally: Tally,
        (answered, ended_after): (Duration, Duration),
        metrics: &Metrics,
        (usage, cpu_micros): (Usage, Option<u64>),
    ) -> Row {
        tally.micros.sort_unstable();
        let status = |name: &str| metrics.sum_where("loom_runs_ended_total", "status", name);
        let sync = |quantile| metrics.quantile("loom_store_sync_seconds", quantile);
        let runs_ended = metrics.sum("loom_runs_ended_total");
        Row {
            shape: job.shown.clone(),
            callers,
            tally,
            answered,
            ended_after,
            runs_ended,
            runs_failed: runs_ended - status("Succeeded"),
            syncs: metrics.get("loom_store_sync_seconds_count").unwrap_or_default(),
            sync_quantiles: [sync(0.5), sync(0.99)],
            usage,
            cpu_micros,
        }
    }

    fn runs(&self) -> usize {
        self.tally.micros.len()
    }

    fn runs_per_second(&self) -> f64 {
        self.runs() as f64 / self.answered.as_secs_f64()
    }

    fn ended_per_second(&self) -> f64 {
        self.runs_ended / self.ended_after.as_secs_f64()
    }

    fn cpu_micros_per_run(&self) -> Option<f64> {
        self.cpu_micros.filter(|_| self.runs() > 0).map(|micros| micros as f64 / self.runs() as f64)
    }

    /// A message if the row is not valid: calls or runs failed, or there were none.
    pub(super) fn trouble(&self) -> Option<String> {
        let (shape, callers) = (&self.shape, self.callers);
        if let Some(why) = &self.tally.why {
            return Some(format!(
                "{shape}, {callers} callers: {} calls failed, first error: {why}",
                self.tally.failed
            ));
        }
        if self.runs_failed > 0.0 {
            return Some(format!("{shape}, {callers} callers: {} runs did not succeed", self.runs_failed));
        }
        (self.runs() == 0).then(|| format!("{shape}, {callers} callers: no response was received in time"))
    }
}

/// A quantile (0 to 1) of sorted values in microseconds, in milliseconds.
pub(super) fn millis(sorted: &[u32], quantile: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * quantile).ceil().max(1.0) as usize - 1;
    sorted.get(place).map(|micros| f64::from(*micros) / 1_000.0)
}

pub(super) fn head() -> String {
    format!(
        "{:<12} {:>7} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>10} {:>12} {:>7}",
        "workflow",
        "callers",
        "runs",
        "runs/s",
        "ended/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "sync p50",
        "sync p99",
        "CPU µs/run",
        "RSS/peak MiB",
        "refused"
    )
}

pub(super) fn line(row: &Row) -> String {
    let sorted = &row.tally.micros;
    let ms = |quantile| shown(millis(sorted, quantile), 2);
    let sync = |which: usize| shown(row.sync_quantiles[which].map(|seconds| seconds * 1_000.0), 2);
    let (resident, peak) = (mebibytes(row.usage.resident), mebibytes(row.usage.peak));
    format!(
        "{:<12} {:>7} {:>8} {:>9.0} {:>9.0} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>10} {:>12} {:>7}",
        row.shape,
        row.callers,
        row.runs(),
        row.runs_per_second(),
        row.ended_per_second(),
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(1.0),
        sync(0),
        sync(1),
        shown(row.cpu_micros_per_run(), 0),
        format!("{resident}/{peak}"),
        row.tally.refused,
    )
}

/// All rows as JSON: times in milliseconds or microseconds, memory in bytes.
pub(super) fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| -> Value {
        let sorted = &row.tally.micros;
        let mut object = Object::new();
        object.insert("workflow", row.shape.as_str());
        object.insert("callers", i64::from(row.callers));
        object.insert("runs", row.runs() as i64);
        object.insert("runsPerSecond", row.runs_per_second());
        object.insert("endedPerSecond", row.ended_per_second());
        for (name, quantile) in [("p50Ms", 0.5), ("p90Ms", 0.9), ("p99Ms", 0.99), ("maxMs", 1.0)] {
            object.insert(name, number(millis(sorted, quantile)));
        }
        object.insert("syncs", row.syncs);
        object.insert("syncP50Ms", number(row.sync_quantiles[0].map(|seconds| seconds * 1_000.0)));
        object.insert("syncP99Ms", number(row.sync_quantiles[1].map(|seconds| seconds * 1_000.0)));
        object.insert("cpuMicrosPerRun", number(row.cpu_micros_per_run()));
        object.insert("residentBytes", number(row.usage.resident.map(|bytes| bytes as f64)));
        object.insert("residentBytesPeak", number(row.usage.peak.map(|bytes| bytes as f64)));
        object.insert("refused", row.tally.refused as i64);
        object.insert("failed", row.tally.failed as i64);
        object.insert("runsNotSucceeded", row.runs_failed);
        object.into()
    };
    rows.iter().map(row).collect::<Vec<Value>>().into()
}

/// A number, or null.
pub(super) fn number(value: Option<f64>) -> Value {
    value.map_or(Value::NULL, Value::from)
}

pub(super) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

pub(super) fn mebibytes(bytes: Option<u64>) -> String {
    shown(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 0)
}

#[cfg(test)]
mod tests;
