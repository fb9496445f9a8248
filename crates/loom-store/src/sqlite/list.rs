//! Lists and counts of runs: which index finds them, and what is examined of each run that it finds.
//!
//! SQLite has no statistics here, and what is rare differs from store to store. So where several indexes could serve a
//! query, the number of runs in each is estimated first, by counting a few of its entries. The other conditions are checked
//! on the rows, of which at most [`EXAMINED_MAX`] are read for one page.

use rusqlite::{Connection, params_from_iter, types::Value};

use crate::{Count, Error, Flags, Order, RunId, RunPage, RunQuery, UnixMillis};

use super::rows::{self, RUN_COLUMNS, read_error};

/// How many runs are examined for one page.
pub(super) const EXAMINED_MAX: usize = 10_000;

/// Up to this many entries of an index are counted to estimate how many there are.
const ESTIMATED_MAX: i64 = 1_000;

/// Runs found by their end are sorted, if there are at most this many.
const SORTED_MAX: i64 = 10_000;

/// A condition on the columns of a run. `?` stands for one of its values.
#[derive(Clone, Debug)]
struct Condition {
    sql: String,
    values: Vec<Value>,
}

impl Condition {
    fn new(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), values }
    }

    fn text(column: &str, text: &str) -> Self {
        Self::new(format!("{column} = ?"), vec![Value::Text(text.to_owned())])
    }

    fn number(column: &str, number: i64) -> Self {
        Self::new(format!("{column} = ?"), vec![Value::Integer(number)])
    }
}

/// An index that can find the runs, and what it requires.
#[derive(Clone, Debug)]
struct Candidate {
    index: String,
    /// Conditions that make the index usable, beyond those of the query.
    implied: Vec<Condition>,
    /// The places of the query's conditions that the index serves.
    serves: Vec<usize>,
    /// Whether its entries are in the order of their runs.
    is_ordered: bool,
}

/// How a query is served.
#[derive(Debug)]
pub(super) struct Plan {
    query: RunQuery,
    range: Condition,
    conditions: Vec<Condition>,
    candidates: Vec<Candidate>,
    chosen: Option<usize>,
}

impl Plan {
    /// Without a choice of the index; `None` when no run can match the query's times.
    pub(super) fn new(query: &RunQuery) -> Option<Self> {
        let (low, high) = query.range()?;
        let ids = vec![Value::Integer(rows::id(low)), Value::Integer(rows::id(high))];
        let mut plan = Self {
            query: query.clone(),
            range: Condition::new("id BETWEEN ? AND ?", ids),
            conditions: Vec::new(),
            candidates: Vec::new(),
            chosen: None,
        };
        plan.find();
        plan.chosen = (!plan.candidates.is_empty()).then_some(0);
        Some(plan)
    }

    /// Adds the conditions of the query, and the indexes that serve them: those first that usually have few entries.
    fn find(&mut self) {
        let query = self.query.clone();
        if let Some(parent) = query.parent {
            self.by("run_parent", Condition::number("parent", rows::id(parent)), vec![]);
        }
        if let Some(id) = &query.tracking_id {
            self.by("run_tracking", Condition::text("tracking_id", id), vec![]);
        }
        for bit in (0..u16::BITS).filter(|bit| query.flags.contains(Flags(1 << bit))) {
            let condition = Condition::new(format!("flags & {} <> 0", 1_u16 << bit), vec![]);
            if bit < u32::from(Flags::INDEXED) {
                self.by(&format!("run_flag_{bit}"), condition, vec![]);
            } else {
                self.conditions.push(condition);
            }
        }
        if let Some(error) = &query.error {
            self.by("run_error", Condition::text("error", error), vec![]);
        }
        if let Some(part) = &query.error_text {
            let part = Value::Text(part.to_ascii_lowercase());
            self.conditions.push(Condition::new("ifnull(instr(lower(error_text), ?), 0) > 0", vec![part]));
            self.candidates.push(Candidate {
                index: "run_failed".into(),
                implied: vec![Condition::new("error IS NOT NULL", vec![])],
                serves: vec![],
                is_ordered: true,
            });
        }
        if let Some(parked) = query.parked {
            let parked = Condition::new(
                format!("ended IS NULL AND (wake_at IS NOT NULL) = {}", u8::from(parked)),
                vec![],
            );
            self.by("run_unfinished", parked, vec![]);
        }
        self.by_end(&query);
        let workflow = query.workflow.as_deref().map(|workflow| {
            self.conditions.push(Condition::text("workflow", workflow));
            self.conditions.len() - 1
        });
        let status = query.status.map(|status| {
            self.conditions.push(Condition::number("status", status.into()));
            self.conditions.len() - 1
        });
        let (index, serves) = match (workflow, status) {
            (Some(workflow), Some(status)) => ("run_workflow_status", vec![workflow, status]),
            (Some(workflow), None) => ("run_workflow", vec![workflow]),
            (None, Some(status)) => ("run_status", vec![status]),
            (None, None) => ("", vec![]),
        };
        if !serves.is_empty() {
            let (index, implied) = (index.to_owned(), vec![]);
            self.candidates.push(Candidate { index, implied, serves, is_ordered: true });
        }
        if let Some(trigger) = &query.trigger {
            self.conditions.push(Condition::text("trigger_name", trigger));
        }
        self.between("started", query.started_from, query.started_before);
    }

    fn by(&mut self, index: &str, condition: Condition, implied: Vec<Condition>) {
        self.conditions.push(condition);
        let serves = vec![self.conditions.len() - 1];
        self.candidates.push(Candidate { index: index.to_owned(), implied, serves, is_ordered: true });
    }

    fn by_end(&mut self, query: &RunQuery) {
        let first = self.conditions.len();
        self.between("ended", query.ended_from, query.ended_before);
        if self.conditions.len() > first {
            self.candidates.push(Candidate {
                index: "run_ended".into(),
                implied: vec![Condition::new("purged IN (0, 1, 2) AND ended IS NOT NULL", vec![])],
                serves: (first..self.conditions.len()).collect(),
                is_ordered: false,
            });
        }
    }

    fn between(&mut self, column: &str, from: Option<UnixMillis>, before: Option<UnixMillis>) {
        if let Some(from) = from {
            self.conditions.push(Condition::new(format!("{column} >= ?"), vec![Value::Integer(from.0)]));
        }
        if let Some(before) = before {
            self.conditions.push(Condition::new(format!("{column} < ?"), vec![Value::Integer(before.0)]));
        }
    }

    /// Chooses the index with the fewest entries.
    fn choose(&mut self, connection: &Connection) -> Result<(), Error> {
        let mut fewest = i64::MAX;
        self.chosen = None;
        for place in 0..self.candidates.len() {
            let candidate = &self.candidates[place];
            let most = if candidate.is_ordered { ESTIMATED_MAX } else { SORTED_MAX + 1 };
            if self.candidates.len() == 1 && candidate.is_ordered {
                self.chosen = Some(place);
                return Ok(());
            }
            let (from, mut values) = self.source(Some(place));
            values.push(Value::Integer(most));
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT ?)");
            let count: i64 = connection
                .prepare_cached(&sql)
                .and_then(|mut count| count.query_row(params_from_iter(values), |row| row.get(0)))
                .map_err(read_error)?;
            if count < fewest && (candidate.is_ordered || count <= SORTED_MAX) {
                (fewest, self.chosen) = (count, Some(place));
            }
        }
        Ok(())
    }

    /// The table, the index and the conditions that it serves.
    fn source(&self, chosen: Option<usize>) -> (String, Vec<Value>) {
        let Some(candidate) = chosen.map(|place| &self.candidates[place]) else {
            return (format!("run NOT INDEXED WHERE {}", self.range.sql), self.range.values.clone());
        };
        let served = candidate.serves.iter().map(|place| &self.conditions[*place]);
        let all: Vec<&Condition> = candidate.implied.iter().chain(served).chain([&self.range]).collect();
        let sql = all.iter().map(|condition| condition.sql.as_str()).collect::<Vec<_>>().join(" AND ");
        let values = all.iter().flat_map(|condition| condition.values.clone()).collect();
        (format!("run INDEXED BY {} WHERE {sql}", candidate.index), values)
    }

    /// The conditions that the index does not serve.
    fn rest(&self) -> Vec<&Condition> {
        let served = self.chosen.map_or(&[][..], |place| &self.candidates[place].serves);
        let rest = self.conditions.iter().enumerate().filter(|(place, _)| !served.contains(place));
        rest.map(|(_, condition)| condition).collect()
    }

    /// The statement that examines runs in order: column `hit` says whether a run is on the list.
    pub(super) fn statement(&self, columns: &str) -> (String, Vec<Value>) {
        let rest = self.rest();
        let hit = rest.iter().map(|condition| condition.sql.as_str()).collect::<Vec<_>>().join(" AND ");
        let mut values: Vec<Value> = rest.iter().flat_map(|condition| condition.values.clone()).collect();
        let (from, more) = self.source(self.chosen);
        values.extend(more);
        let order = match self.query.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let hit = if hit.is_empty() { "1" } else { &hit };
        (format!("SELECT ifnull({hit}, 0) AS hit, {columns} FROM {from} ORDER BY id {order}"), values)
    }
}

/// Passes the runs that match to `take`, in order, until it returns false. Returns the last run that was examined if
/// there may be more to examine.
fn examine(
    connection: &Connection,
    plan: &Plan,
    columns: &str,
    mut take: impl FnMut(&rusqlite::Row<'_>) -> Result<bool, Error>,
) -> Result<Option<RunId>, Error> {
    let (sql, values) = plan.statement(columns);
    let mut statement = connection.prepare_cached(&sql).map_err(read_error)?;
    let mut found = statement.query(params_from_iter(values)).map_err(read_error)?;
    let everything_matches = plan.rest().is_empty();
    let mut examined = 0;
    while let Some(row) = found.next().map_err(read_error)? {
        if row.get("hit").map_err(read_error)? && !take(row)? {
            return Ok(None);
        }
        examined += 1;
        if examined == EXAMINED_MAX && !everything_matches {
            return rows::run_id(row.get("id").map_err(read_error)?).map(Some);
        }
    }
    Ok(None)
}

pub(super) fn runs(connection: &Connection, query: &RunQuery) -> Result<RunPage, Error> {
    let Some(mut plan) = Plan::new(query) else { return Ok(RunPage::default()) };
    plan.choose(connection)?;
    let mut page = RunPage::default();
    let limit = query.limit.max(1);
    let mut is_full = false;
    let rest = examine(connection, &plan, RUN_COLUMNS, |row| {
        // One row more than requested tells whether there is another page.
        is_full = page.rows.len() == limit;
        if !is_full {
            page.rows.push(rows::run_row(row)?);
        }
        Ok(!is_full)
    })?;
    page.next = if is_full { page.rows.last().map(|row| row.id) } else { rest };
    Ok(page)
}

pub(super) fn count(connection: &Connection, query: &RunQuery) -> Result<Count, Error> {
    let query = RunQuery { after: None, ..query.clone() };
    let Some(mut plan) = Plan::new(&query) else { return Ok(Count { runs: 0, is_exact: true }) };
    plan.choose(connection)?;
    if plan.rest().is_empty() {
        let (from, mut values) = plan.source(plan.chosen);
        let most = i64::try_from(query.limit).unwrap_or(i64::MAX);
        values.push(Value::Integer(most.saturating_add(1)));
        let found: i64 = connection
            .prepare_cached(&format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT ?)"))
            .and_then(|mut count| count.query_row(params_from_iter(values), |row| row.get(0)))
            .map_err(read_error)?;
        return Ok(Count { runs: found.min(most).cast_unsigned(), is_exact: found <= most });
    }
    let (mut runs, mut is_over) = (0, false);
    let rest = examine(connection, &plan, "id", |_| {
        is_over = runs == query.limit as u64;
        runs += u64::from(!is_over);
        Ok(!is_over)
    })?;
    Ok(Count { runs, is_exact: rest.is_none() && !is_over })
}

#[cfg(test)]
mod tests;
