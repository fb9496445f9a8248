//! The list of runs and their number. The store knows what the row of a run says; whether a run is held is known to this
//! process.

use std::{str::FromStr, sync::Arc};

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use loom_definition::RunStatus;
use loom_engine::{RunId, facts, status_number};
use loom_expression::{Object, Value};
use loom_store::{Error as StoreError, Flags, Order, RunQuery, RunRow};

use crate::{
    listing::{list, moment, not_a_cursor},
    request,
    response::{Answer, Problem, json},
    shared::Shared,
    stopped::{why_held, with_hold},
    view,
};

/// The default and the maximum number of entries of a page.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// The default and the maximum number up to which runs are counted.
const COUNT: usize = 10_000;
const COUNT_MAX: usize = 100_000;

/// The number of pages that are read from the store for one page of runs that are held, or are not.
const PAGES_MAX: usize = 50;

/// What a run can wait for, as a filter and in lists.
const WAITS: [(&str, Flags); 4] = [
    ("timer", facts::WAITS_FOR_TIMER),
    ("callback", facts::WAITS_FOR_CALLBACK),
    ("signal", facts::WAITS_FOR_SIGNAL),
    ("child", facts::WAITS_FOR_CHILD),
];

/// What a run waits for while its trigger has too many runs in progress.
const GATE: &str = "gate";

/// The query parameters of the list, besides `cursor`, `limit` and `order`.
pub(crate) const FILTERS: [&str; 16] = [
    "workflow",
    "status",
    "error",
    "errorText",
    "parent",
    "trigger",
    "trackingId",
    "waitingFor",
    "retrying",
    "parked",
    "from",
    "before",
    "startedFrom",
    "startedBefore",
    "endedFrom",
    "endedBefore",
];

/// `GET /api/v1/runs`.
pub(crate) async fn runs(State(shared): State<Shared>, uri: Uri) -> Answer {
    let (query, wanted) = parse(&shared, &uri, &["cursor", "limit", "order"], (LIMIT, LIMIT_MAX))?;
    let (found, next) = page(&shared, query, wanted).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        rows.push(with_hold(&shared, row, summary(row)).await?);
    }
    Ok(list("runs", rows, next.map(|next| next.to_string())))
}

/// `GET /api/v1/runs/count`.
pub(crate) async fn count(State(shared): State<Shared>, uri: Uri) -> Answer {
    let (query, wanted) = parse(&shared, &uri, &["limit"], (COUNT, COUNT_MAX))?;
    let count = match wanted {
        // Runs that are held are few, or all.
        Wanted::Held => {
            let (rows, next) = page(&shared, query, wanted).await?;
            (rows.len() as u64, next.is_none())
        }
        Wanted::All | Wanted::Status(_) => {
            let status = match wanted {
                Wanted::Status(status) => Some(status_number(status)),
                _ => None,
            };
            let count = shared.host.store.count(RunQuery { status, ..query }).await?;
            (count.runs, count.is_exact)
        }
    };
    let mut object = Object::new();
    object.insert("count", i64::try_from(count.0).unwrap_or(i64::MAX));
    object.insert("exact", count.1);
    Ok(json(StatusCode::OK, &object.into()))
}

/// A run as an entry of a list: what its row says.
fn summary(row: &RunRow) -> Object {
    let mut object = view::run_row(row);
    if let Some(text) = &row.error_text {
        object.insert("errorText", Arc::clone(text));
    }
    if let Some(trigger) = &row.trigger {
        object.insert("triggerName", Arc::clone(trigger));
    }
    let tracking = row.tracking_id.as_ref().map_or_else(|| row.id.to_string().into(), Arc::clone);
    object.insert("clientTrackingId", tracking);
    let mut waits: Vec<Value> = WAITS
        .iter()
        .filter(|(_, flag)| row.flags.contains(*flag))
        .map(|(name, _)| Value::from(*name))
        .collect();
    if row.status == status_number(RunStatus::Waiting) {
        waits.push(GATE.into());
    }
    if !waits.is_empty() {
        object.insert("waitingFor", waits);
    }
    if row.flags.contains(facts::RETRYING) {
        object.insert("retrying", true);
    }
    object
}

/// Parses the query string. `others` are the parameters besides the filters.
pub(crate) fn parse(
    shared: &Shared,
    uri: &Uri,
    others: &[&str],
    (limit, limit_max): (usize, usize),
) -> Result<(RunQuery, Wanted), Problem> {
    let known: Vec<&str> = FILTERS.iter().chain(others).copied().collect();
    request::only(uri, &known)?;
    let mut query = RunQuery { limit, ..RunQuery::default() };
    let (mut wanted, mut at_gate) = (Wanted::All, false);
    for (name, value) in request::queries(uri) {
        match name.as_str() {
            // The store compares names exactly; the deployed workflow has the right spelling.
            "workflow" => {
                let known = shared.host.deployments.get(&value);
                query.workflow = Some(known.map_or(value.into(), |known| Arc::clone(&known.workflow.name)));
            }
            "status" => {
                wanted = Wanted::parse(&value).ok_or_else(|| {
                    let known = RunStatus::ALL.map(RunStatus::as_str).join("', '");
                    Problem::bad(format!("'status' must be one of '{known}', '{HELD}' (got '{value}')."))
                })?;
            }
            "error" => query.error = Some(value.into()),
            "errorText" => query.error_text = Some(value.into()),
            "trigger" => query.trigger = Some(value.into()),
            "trackingId" => {
                // A run without a tracking id of its own has its id as one.
                query.tracking_id = Some(value.into());
            }
            "waitingFor" if value == GATE => at_gate = true,
            "waitingFor" => {
                let flag = WAITS.iter().find(|(name, _)| *name == value).map(|(_, flag)| *flag);
                query.flags = query.flags.with(flag.ok_or_else(|| {
                    let known = WAITS.map(|(name, _)| name).join("', '");
                    Problem::bad(format!("'waitingFor' must be one of '{known}', '{GATE}' (got '{value}')."))
                })?);
            }
            "retrying" if truth(&name, &value)? => query.flags = query.flags.with(facts::RETRYING),
            "retrying" => {
                return Err(Problem::bad("'retrying' must be 'true'; leave it out to list all runs."));
            }
            "parked" => query.parked = Some(truth(&name, &value)?),
            "from" => query.accepted_from = Some(moment(&value)?),
            "before" => query.accepted_before = Some(moment(&value)?),
            "startedFrom" => query.started_from = Some(moment(&value)?),
            "startedBefore" => query.started_before = Some(moment(&value)?),
            "endedFrom" => query.ended_from = Some(moment(&value)?),
            "endedBefore" => query.ended_before = Some(moment(&value)?),
            "cursor" => {
                let cursor = RunId::from_str(&value);
                query.after = Some(cursor.map_err(|_| not_a_cursor())?);
            }
            "parent" => {
                let parent = RunId::from_str(&value);
                let parent = parent
                    .map_err(|_| Problem::bad(format!("'parent' must be a run id (got '{value}').")))?;
                query.parent = Some(parent);
            }
            "limit" => {
                let limit = value.parse::<usize>().ok().filter(|limit| (1..=limit_max).contains(limit));
                query.limit = limit.ok_or_else(|| {
                    Problem::bad(format!("'limit' must be between 1 and {limit_max} (got '{value}')."))
                })?;
            }
            "order" => {
                query.order = match value.as_str() {
                    "newest" => Order::NewestFirst,
                    "oldest" => Order::OldestFirst,
                    other => {
                        let message = format!("'order' must be 'newest' or 'oldest' (got '{other}').");
                        return Err(Problem::bad(message));
                    }
                }
            }
            // The names were checked above.
            _ => {}
        }
    }
    if at_gate {
        match wanted {
            Wanted::All | Wanted::Status(RunStatus::Waiting) => wanted = Wanted::Status(RunStatus::Waiting),
            Wanted::Status(_) | Wanted::Held => {
                let message = "A run that waits for its gate has the status 'Waiting'; leave out 'status', or set it to that.";
                return Err(Problem::bad(message));
            }
        }
    }
    Ok((query, wanted))
}

pub(crate) fn truth(name: &str, value: &str) -> Result<bool, Problem> {
    value.parse().map_err(|_| Problem::bad(format!("'{name}' must be 'true' or 'false' (got '{value}').")))
}

/// The name of runs that are held, as a filter by status.
pub(crate) const HELD: &str = "Held";

/// The statuses of unfinished runs.
const UNFINISHED: [RunStatus; 3] = [RunStatus::Waiting, RunStatus::Running, RunStatus::Suspended];

/// The status by which a list is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Runs of any status.
    All,
    /// Runs with this status that are not held.
    Status(RunStatus),
    /// Unfinished runs that are held.
    Held,
}

impl Wanted {
    /// Parses the query parameter `status`, ignoring case.
    pub(crate) fn parse(text: &str) -> Option<Wanted> {
        if text.eq_ignore_ascii_case(HELD) {
            return Some(Wanted::Held);
        }
        let status = RunStatus::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text));
        status.map(Wanted::Status)
    }
}

/// The rows of a page, and the run after which the next page begins, if there is one.
pub(crate) async fn page(
    shared: &Shared,
    mut query: RunQuery,
    wanted: Wanted,
) -> Result<(Vec<RunRow>, Option<RunId>), StoreError> {
    match wanted {
        Wanted::All => {
            let page = shared.host.store.runs(query).await?;
            Ok((page.rows, page.next))
        }
        Wanted::Status(status) if status.is_final() => {
            query.status = Some(status_number(status));
            let page = shared.host.store.runs(query).await?;
            Ok((page.rows, page.next))
        }
        Wanted::Status(status) => unfinished(shared, query, status).await,
        Wanted::Held if shared.host.is_holding() => held_by_order(shared, query).await,
        Wanted::Held => {
            // Few runs are held one by one, and the engine knows them.
            let mut rows = Vec::new();
            for run in shared.host.engine.held_runs() {
                if let Some(row) = shared.host.store.run(run).await?
                    && row.ended.is_none()
                    && query.matches(&row)
                {
                    rows.push(row);
                }
            }
            let range = query.range();
            rows.retain(|row| range.is_some_and(|(low, high)| (low..=high).contains(&row.id)));
            sort(&mut rows, query.order);
            let next = cut(&mut rows, query.limit);
            Ok((rows, next))
        }
    }
}

fn sort(rows: &mut [RunRow], order: Order) {
    match order {
        Order::NewestFirst => rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id)),
        Order::OldestFirst => rows.sort_unstable_by_key(|row| row.id),
    }
}

/// Runs with an unfinished status that are not held.
async fn unfinished(
    shared: &Shared,
    mut query: RunQuery,
    status: RunStatus,
) -> Result<(Vec<RunRow>, Option<RunId>), StoreError> {
    query.status = Some(status_number(status));
    let mut rows = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = shared.host.store.runs(query.clone()).await?;
        rows.extend(page.rows.into_iter().filter(|row| why_held(shared, row).is_none()));
        if rows.len() > query.limit {
            let next = cut(&mut rows, query.limit);
            return Ok((rows, next));
        }
        query.after = page.next;
        if query.after.is_none() || rows.len() == query.limit {
            break;
        }
    }
    Ok((rows, query.after))
}

/// Runs that are held because the server was started that way: all that it has not been told to release.
async fn held_by_order(shared: &Shared, query: RunQuery) -> Result<(Vec<RunRow>, Option<RunId>), StoreError> {
    let mut rows = Vec::new();
    for status in UNFINISHED {
        let mut part = RunQuery { status: Some(status_number(status)), ..query.clone() };
        let mut found = 0;
        loop {
            let page = shared.host.store.runs(part.clone()).await?;
            let held = page.rows.into_iter().filter(|row| why_held(shared, row).is_some());
            let before = rows.len();
            rows.extend(held);
            found += rows.len() - before;
            part.after = page.next;
            if part.after.is_none() || found > query.limit {
                break;
            }
        }
    }
    sort(&mut rows, query.order);
    let next = cut(&mut rows, query.limit);
    Ok((rows, next))
}

/// Cuts rows to a page. Returns the last run of the page if there are more.
fn cut(rows: &mut Vec<RunRow>, limit: usize) -> Option<RunId> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|row| row.id)
}
