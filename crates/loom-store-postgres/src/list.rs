//! Lists and counts of runs: which index finds them, and what is examined of each run that it finds.
//!
//! The conditions that one index serves find runs in the order of their ids; the other conditions are checked on their rows. At most
//! [`EXAMINED_MAX`] rows are examined for a page, so that a query takes no longer because the store is larger.

use std::fmt::Write as _;

use loom_store::{Count, Flags, Order, RunId, RunPage, RunQuery, UnixMillis};
use tokio_postgres::types::ToSql;

use crate::{
    connect::Session,
    read::limit,
    rows::{self, RUN_COLUMNS, get},
    store::ReadError,
    text,
};

/// How many runs are examined for one page.
const EXAMINED_MAX: i64 = 10_000;

/// How many are examined at first; each further step examines more.
const EXAMINED_FIRST: i64 = 250;

type Value = Box<dyn ToSql + Sync + Send>;

/// A query in parts: the conditions that an index serves, and the others.
#[derive(Default)]
struct Plan {
    params: Vec<Value>,
    served: Vec<String>,
    rest: Vec<String>,
}

/// The columns of a run, of the table with this alias.
pub(crate) fn columns_of(alias: &str) -> String {
    let columns: Vec<String> =
        RUN_COLUMNS.split(',').map(|column| format!("{alias}.{}", column.trim())).collect();
    columns.join(", ")
}

impl Plan {
    fn put(&mut self, value: impl ToSql + Sync + Send + 'static, cast: &str) -> String {
        self.params.push(Box::new(value));
        format!("${}::{cast}", self.params.len())
    }

    fn text(&mut self, column: &str, wanted: &str) -> String {
        let value = self.put(text::stored(wanted).into_owned(), "text");
        format!("{column} = {value}")
    }

    fn number(&mut self, column: &str, comparison: &str, wanted: i64) -> String {
        let value = self.put(wanted, "int8");
        format!("{column} {comparison} {value}")
    }

    /// Adds a condition. The first that can be served by an index is.
    fn add(&mut self, condition: String, has_index: bool) {
        if has_index && self.served.is_empty() {
            self.served.push(condition);
        } else {
            self.rest.push(condition);
        }
    }

    /// Those conditions first that usually few runs meet.
    fn new(query: &RunQuery) -> Self {
        let mut plan = Self::default();
        if let Some(parent) = query.parent {
            let condition = plan.number("parent", "=", rows::id(parent));
            plan.add(condition, true);
        }
        if let Some(id) = &query.tracking_id {
            let condition = plan.text("tracking_id", id);
            plan.add(condition, true);
        }
        if let Some(error) = &query.error {
            let condition = plan.text("error", error);
            plan.add(condition, true);
        }
        if let Some(parked) = query.parked {
            let parked = if parked { "wake_at IS NOT NULL" } else { "wake_at IS NULL" };
            plan.add("ended IS NULL".into(), true);
            plan.add(parked.into(), false);
        }
        if query.flags != Flags::NONE {
            plan.add("flags <> 0".into(), true);
            let flags = plan.put(i32::from(query.flags.0), "int4");
            plan.add(format!("flags & {flags} = {flags}"), false);
        }
        if let Some(part) = &query.error_text {
            plan.add("error_text IS NOT NULL".into(), false);
            let part = plan.put(text::stored(&part.to_ascii_lowercase()).into_owned(), "text");
            // In the collation of the column, only ASCII letters have a lower case.
            plan.add(format!("position({part} IN lower(error_text)) > 0"), false);
        }
        if let Some(workflow) = &query.workflow {
            let condition = plan.text("workflow", workflow);
            plan.add(condition, true);
        }
        if let Some(status) = query.status {
            let condition = plan.number("status", "=", status.into());
            plan.add(condition, true);
        }
        if let Some(trigger) = &query.trigger {
            let condition = plan.text("trigger_name", trigger);
            plan.add(condition, false);
        }
        plan.between("started", query.started_from, query.started_before);
        plan.between("ended", query.ended_from, query.ended_before);
        plan
    }

    fn between(&mut self, column: &str, from: Option<UnixMillis>, before: Option<UnixMillis>) {
        if let Some(from) = from {
            let condition = self.number(column, ">=", from.0);
            self.add(condition, false);
        }
        if let Some(before) = before {
            let condition = self.number(column, "<", before.0);
            self.add(condition, false);
        }
    }

    /// Examines a number of runs in order: those that match, the number of those that were examined, and the last of them.
    fn statement(
        &mut self,
        (low, high): (RunId, RunId),
        order: Order,
        examined: i64,
        most: i64,
        columns: &str,
    ) -> String {
        let (low, high) = (self.put(rows::id(low), "int8"), self.put(rows::id(high), "int8"));
        let (examined, most) = (self.put(examined, "int8"), self.put(most, "int8"));
        let mut source = format!("FROM run WHERE id BETWEEN {low} AND {high}");
        for condition in &self.served {
            let _ = write!(source, " AND {condition}");
        }
        let (direction, last) = match order {
            Order::NewestFirst => ("DESC", "min"),
            Order::OldestFirst => ("ASC", "max"),
        };
        let hit = if self.rest.is_empty() { "true".into() } else { self.rest.join(" AND ") };
        format!(
            "WITH seen AS MATERIALIZED (SELECT {columns}, coalesce({hit}, false) AS hit {source} ORDER BY id {direction} LIMIT {examined}),
                  hits AS (SELECT * FROM seen WHERE hit ORDER BY id {direction} LIMIT {most})
             SELECT e.examined, e.last_examined, hits.* FROM (SELECT count(*) AS examined, {last}(id) AS last_examined FROM seen) AS e
             LEFT JOIN hits ON true ORDER BY hits.id {direction}"
        )
    }
}

/// Passes the runs that match to `take`, in order, until there are `most`. Returns the last run that was examined if there may be
/// more to examine.
async fn examine(
    session: &Session,
    query: &RunQuery,
    most: usize,
    columns: &str,
    mut take: impl FnMut(&tokio_postgres::Row) -> Result<(), ReadError>,
) -> Result<Option<RunId>, ReadError> {
    let mut query = query.clone();
    let (mut found_all, mut examined_all, mut step) = (0, 0, EXAMINED_FIRST);
    loop {
        let Some(range) = query.range() else { return Ok(None) };
        let mut plan = Plan::new(&query);
        let left = most - found_all;
        // Without other conditions, every run that the index finds is on the list.
        let examined = if plan.rest.is_empty() { limit(left) } else { step.min(EXAMINED_MAX - examined_all) };
        let is_direct = plan.rest.is_empty();
        let sql = plan.statement(range, query.order, examined, limit(left), columns);
        let params: Vec<&(dyn ToSql + Sync)> =
            plan.params.iter().map(|param| -> &(dyn ToSql + Sync) { &**param }).collect();
        let found = session.query(&sql, &params).await?;
        let Some(first) = found.first() else { return Ok(None) };
        let (count, last): (i64, Option<i64>) = (get(first, "examined")?, get(first, "last_examined")?);
        for row in &found {
            if get::<Option<i64>>(row, "id")?.is_some() {
                take(row)?;
                found_all += 1;
            }
        }
        examined_all += count;
        let Some(last) = last.filter(|_| count == examined) else { return Ok(None) };
        let last = rows::run_id(last)?;
        if is_direct || found_all >= most || examined_all >= EXAMINED_MAX {
            return Ok(Some(last));
        }
        query.after = Some(last);
        step *= 4;
    }
}

pub(crate) async fn runs(session: Session, query: RunQuery) -> Result<RunPage, ReadError> {
    let most = query.limit.max(1);
    let mut found = Vec::new();
    // One row more than requested tells whether there is another page.
    let rest = examine(&session, &query, most.saturating_add(1), RUN_COLUMNS, |row| {
        found.push(rows::run_row(row)?);
        Ok(())
    })
    .await?;
    let is_full = found.len() > most;
    found.truncate(most);
    let next = if is_full { found.last().map(|row| row.id) } else { rest };
    // A search in texts may find two characters that together only look like another one.
    found.retain(|row| query.matches(row));
    Ok(RunPage { rows: found, next })
}

pub(crate) async fn count(session: Session, query: RunQuery) -> Result<Count, ReadError> {
    let query = RunQuery { after: None, ..query };
    let mut runs = 0;
    let rest = examine(&session, &query, query.limit.saturating_add(1), "id", |_| {
        runs += 1;
        Ok(())
    })
    .await?;
    let is_over = runs > query.limit;
    Ok(Count { runs: runs.min(query.limit) as u64, is_exact: rest.is_none() && !is_over })
}
