//! The filters of `loom runs list`.

use clap::{Args, builder::PossibleValuesParser};
use hyper::Method;
use loom_definition::RunStatus;
use loom_expression::{Object, Value, percent};

use super::{
    connection::{Connection, Refusal},
    members,
};

/// Which runs to list.
#[derive(Args, Debug)]
pub(super) struct Filters {
    /// Only runs of this workflow.
    #[arg(long)]
    workflow: Option<String>,
    /// Only runs with this status, as the list shows it (such as Failed, or Held).
    #[arg(long, ignore_case = true, hide_possible_values = true, value_parser = statuses())]
    status: Option<String>,
    /// Only runs with this error code.
    #[arg(long)]
    error: Option<String>,
    /// Only runs whose error message contains this.
    #[arg(long, value_name = "TEXT")]
    error_text: Option<String>,
    /// Only runs started by this trigger.
    #[arg(long)]
    trigger: Option<String>,
    /// Only runs with this tracking id.
    #[arg(long, value_name = "ID")]
    tracking_id: Option<String>,
    /// Only runs that wait for this: timer, callback, signal, child, or gate.
    #[arg(long, value_name = "WHAT", hide_possible_values = true, value_parser = ["timer", "callback", "signal", "child", "gate"])]
    waiting_for: Option<String>,
    /// Only runs that are retrying a failed attempt.
    #[arg(long)]
    retrying: bool,
    /// Only runs that have left memory while they wait.
    #[arg(long)]
    parked: bool,
    /// Only runs accepted at or after this time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only runs accepted before this time.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Only runs that ended at or after this time.
    #[arg(long, value_name = "TIME")]
    ended_from: Option<String>,
    /// Only runs that ended before this time.
    #[arg(long, value_name = "TIME")]
    ended_before: Option<String>,
}

impl Filters {
    /// The filters as parameters of a query string.
    pub(super) fn query(&self) -> String {
        let yes = |set: bool| set.then(|| "true".to_owned());
        let mut query = String::new();
        for (name, value) in [
            ("workflow", self.workflow.clone()),
            ("status", self.status.clone()),
            ("error", self.error.clone()),
            ("errorText", self.error_text.clone()),
            ("trigger", self.trigger.clone()),
            ("trackingId", self.tracking_id.clone()),
            ("waitingFor", self.waiting_for.clone()),
            ("retrying", yes(self.retrying)),
            ("parked", yes(self.parked)),
            ("from", self.from.clone()),
            ("before", self.before.clone()),
            ("endedFrom", self.ended_from.clone()),
            ("endedBefore", self.ended_before.clone()),
        ] {
            if let Some(value) = value {
                query.extend(["&", name, "=", &percent::encode(&value)]);
            }
        }
        query
    }
}

/// The statuses by which runs can be filtered: those of the list.
fn statuses() -> PossibleValuesParser {
    PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str).into_iter().chain(["Held"]))
}

/// The first runs of a list, and where it continues. The server examines a limited number of runs for one page, so a page may be
/// short although more runs match.
pub(super) async fn first_runs(connection: &Connection, path: &str, limit: usize) -> Result<Value, Refusal> {
    let mut page = connection.ask(Method::GET, path, "runs").await?;
    let mut runs: Vec<Value> = members(&page, "runs").cloned().collect();
    while let Some(next) = page.get("next").and_then(Value::as_str)
        && runs.len() < limit
    {
        page = connection.ask(Method::GET, &format!("{path}&cursor={next}"), "runs").await?;
        runs.extend(members(&page, "runs").cloned());
    }
    // A later page may hold more than the list has room for; the list then continues after its last run.
    let is_cut = runs.len() > limit;
    runs.truncate(limit);
    let next = if is_cut { runs.last().and_then(|run| run.get("id")) } else { page.get("next") };
    let next = next.cloned();
    let mut list = Object::new();
    list.insert("runs", runs);
    if let Some(next) = next {
        list.insert("next", next);
    }
    Ok(list.into())
}
