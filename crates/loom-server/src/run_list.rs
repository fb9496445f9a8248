//! A page of the list of runs. The store knows only the status of a run; whether a run is held is known to this process.

use loom_definition::RunStatus;
use loom_engine::{RunId, status_number};
use loom_store::{Error as StoreError, Order, RunQuery, RunRow};

use crate::server::Shared;

/// The name of runs that are held, as a filter by status.
pub(crate) const HELD: &str = "Held";

/// The number of rows that are read from the store at once to find the wanted ones among them.
const PAGE: usize = 200;

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

/// Why a run is held; none if it is not.
pub(crate) fn why_held(shared: &Shared, row: &RunRow) -> Option<String> {
    let engine = &shared.host.engine;
    if row.ended.is_some() {
        return None;
    }
    if let Some(why) = engine.why_held(row.id) {
        return Some(why.to_string());
    }
    let holds = shared.host.is_holding() && !engine.is_in_progress(row.id);
    holds.then(|| "the server was started with --hold-runs; resume the run to release it".to_owned())
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
        Wanted::Status(status) => {
            let mut rows = unfinished(shared, &query, status, false).await?;
            let next = cut(&mut rows, query.limit);
            Ok((rows, next))
        }
        Wanted::Held => {
            let mut rows = Vec::new();
            for status in UNFINISHED {
                rows.extend(unfinished(shared, &query, status, true).await?);
            }
            match query.order {
                Order::NewestFirst => rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id)),
                Order::OldestFirst => rows.sort_unstable_by_key(|row| row.id),
            }
            let next = cut(&mut rows, query.limit);
            Ok((rows, next))
        }
    }
}

/// The first runs of an unfinished status that are held, or are not: one more than the page takes, if there are as many.
async fn unfinished(
    shared: &Shared,
    query: &RunQuery,
    status: RunStatus,
    held: bool,
) -> Result<Vec<RunRow>, StoreError> {
    let mut found = Vec::new();
    let mut after = query.after;
    loop {
        let part = RunQuery { status: Some(status_number(status)), after, limit: PAGE, ..query.clone() };
        let page = shared.host.store.runs(part).await?;
        found.extend(page.rows.into_iter().filter(|row| why_held(shared, row).is_some() == held));
        match page.next {
            Some(next) if found.len() <= query.limit => after = Some(next),
            _ => return Ok(found),
        }
    }
}

/// Cuts rows to a page. Returns the last run of the page if there are more.
fn cut(rows: &mut Vec<RunRow>, limit: usize) -> Option<RunId> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|row| row.id)
}
