//! Checks that lists use their indexes, and how much they examine.

use rusqlite::params;

use super::*;
use crate::{ContentHash, Durability, RunRow, sqlite::connect};

fn database() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loom.db");
    let mut connection = connect::writer(&path, Durability::Relaxed, 1 << 20).unwrap();
    crate::sqlite::schema::migrate(&mut connection, &path).unwrap();
    (directory, connection)
}

/// The plan of a statement, one step per line.
fn explain(connection: &Connection, (sql, values): (String, Vec<Value>)) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_list_of_runs_searches_an_index_and_sorts_nothing_but_few_runs() {
    let (_directory, connection) = database();
    for choice in 0..4_096_u32 {
        let with = |bit: u32| choice & (1 << bit) != 0;
        let query = RunQuery {
            workflow: with(0).then(|| "w".into()),
            status: with(1).then_some(1),
            error: with(2).then(|| "e".into()),
            parent: with(3).then_some(RunId::MIN),
            accepted_from: with(4).then_some(UnixMillis(1_000)),
            accepted_before: with(4).then_some(UnixMillis(2_000)),
            order: if with(5) { Order::NewestFirst } else { Order::OldestFirst },
            tracking_id: with(6).then(|| "t".into()),
            flags: Flags(if with(7) { 0x8005 } else { 0 }),
            parked: with(8).then_some(with(9)),
            error_text: with(10).then(|| "x".into()),
            ended_from: with(11).then_some(UnixMillis(1_000)),
            ended_before: with(11).then_some(UnixMillis(2_000)),
            trigger: with(9).then(|| "t".into()),
            started_from: with(9).then_some(UnixMillis(3)),
            ..RunQuery::default()
        };
        let mut plan = Plan::new(&query).unwrap();
        for chosen in 0..plan.candidates.len().max(1) {
            plan.chosen = (!plan.candidates.is_empty()).then_some(chosen);
            let statement = plan.statement(RUN_COLUMNS);
            let sql = statement.0.clone();
            let steps = explain(&connection, statement);
            assert!(steps.starts_with("SEARCH run USING"), "{sql}\n{steps}");
            assert!(!steps.contains("SCAN"), "{sql}\n{steps}");
            let (sorts, index) = match plan.chosen.map(|place| &plan.candidates[place]) {
                Some(candidate) => (!candidate.is_ordered, candidate.index.as_str()),
                None => (false, "INTEGER PRIMARY KEY"),
            };
            assert_eq!(sorts, steps.contains("TEMP B-TREE"), "{sql}\n{steps}");
            assert!(steps.contains(index), "{sql}\n{steps}");
        }
    }
}

/// Inserts runs, of which `change` may change each row.
fn fill(connection: &Connection, runs: i64, change: impl Fn(i64, &mut RunRow)) {
    let definition = ContentHash::of(b"{}");
    let transaction = connection.unchecked_transaction().unwrap();
    for number in 0..runs {
        let mut row = RunRow::new(RunId::first_at(UnixMillis(1_000 + number)), "w", definition, 1);
        row.ended = Some(UnixMillis(2_000 + number));
        change(number, &mut row);
        transaction
            .prepare_cached(
                "INSERT INTO run (id, workflow, definition, status, ended, attempt, error, error_text, details, flags, crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, x'', ?8, ?9)",
            )
            .unwrap()
            .execute(params![
                rows::id(row.id),
                row.workflow,
                row.definition.as_bytes(),
                row.status,
                row.ended.map(|at| at.0),
                row.error,
                row.error_text,
                row.flags.0,
                rows::run_checksum(&row)
            ])
            .unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn the_index_with_the_fewest_runs_serves_the_list() {
    let (_directory, connection) = database();
    fill(&connection, 3_000, |number, row| {
        row.flags = Flags(if number == 7 { 3 } else { 1 });
        row.error = (number % 2 == 0).then(|| "E".into());
        row.workflow = if number < 5 { "rare".into() } else { "w".into() };
    });
    let chosen = |query: RunQuery| {
        let mut plan = Plan::new(&query).unwrap();
        plan.choose(&connection).unwrap();
        plan.chosen.map(|place| plan.candidates[place].index.clone())
    };
    let query = RunQuery { flags: Flags(1), error: Some("E".into()), ..RunQuery::default() };
    assert_eq!(chosen(RunQuery { workflow: Some("rare".into()), ..query.clone() }).unwrap(), "run_workflow");
    assert_eq!(chosen(RunQuery { flags: Flags(3), ..query.clone() }).unwrap(), "run_flag_1");
    assert_eq!(chosen(RunQuery { ended_from: Some(UnixMillis(4_990)), ..query }).unwrap(), "run_ended");
    assert_eq!(chosen(RunQuery::default()), None);
}

#[test]
fn a_page_ends_where_enough_runs_were_examined() {
    let (_directory, connection) = database();
    let count = EXAMINED_MAX as i64 * 2 + 500;
    fill(&connection, count, |number, row| {
        row.error = Some("E".into());
        row.error_text = Some(if number < 3 { "a rare Message" } else { "the usual" }.into());
    });
    let mut query = RunQuery { error_text: Some("RARE".into()), limit: 2, ..RunQuery::default() };
    let mut pages = Vec::new();
    loop {
        let page = runs(&connection, &query).unwrap();
        pages.push(page.rows.len());
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [0, 0, 2, 1], "two pages end early, the third is full");
    let counted = super::count(&connection, &RunQuery { after: None, ..query }).unwrap();
    assert_eq!(counted, Count { runs: 0, is_exact: false });
    let all = RunQuery { limit: 1_000_000, ..RunQuery::default() };
    let counted = super::count(&connection, &all).unwrap();
    assert_eq!(counted, Count { runs: count.cast_unsigned(), is_exact: true });
}
