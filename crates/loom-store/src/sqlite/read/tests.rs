//! Checks that the statements use their indexes.

use rusqlite::Connection;

use super::*;
use crate::{Durability, sqlite::connect};

/// The plan of a statement, one step per line.
fn plan(connection: &Connection, sql: &str, values: Vec<Value>) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps =
        statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    steps.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_list_of_runs_searches_an_index_and_sorts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loom.db");
    let mut connection = connect::writer(&path, Durability::Relaxed, 1 << 20).unwrap();
    crate::sqlite::schema::migrate(&mut connection, &path).unwrap();
    for choice in 0..128_u32 {
        let with = |bit: u32| choice & (1 << bit) != 0;
        let query = RunQuery {
            workflow: with(0).then(|| "w".into()),
            status: with(1).then_some(1),
            error: with(2).then(|| "e".into()),
            parent: with(3).then_some(RunId::MIN),
            accepted_from: with(4).then_some(UnixMillis(1_000)),
            accepted_before: with(5).then_some(UnixMillis(2_000)),
            order: if with(6) { Order::NewestFirst } else { Order::OldestFirst },
            ..RunQuery::default()
        };
        let (sql, values) = list_statement(&query).unwrap();
        let plan = plan(&connection, &sql, values);
        assert!(plan.starts_with("SEARCH run USING"), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{sql}\n{plan}");
        let narrowed = [0, 1, 2, 3].into_iter().any(with);
        assert_eq!(narrowed, plan.contains("USING INDEX run_"), "{sql}\n{plan}");
    }
}

#[test]
fn unfinished_runs_are_found_by_an_index_and_not_sorted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loom.db");
    let mut connection = connect::writer(&path, Durability::Relaxed, 1 << 20).unwrap();
    crate::sqlite::schema::migrate(&mut connection, &path).unwrap();
    let both = format!("{} UNION ALL {} ORDER BY id LIMIT ?2", unfinished_where(0), unfinished_where(1));
    for sql in [format!("{} ORDER BY id LIMIT ?2", unfinished_where(0)), both] {
        let plan = plan(&connection, &sql, vec![Value::Integer(0), Value::Integer(9)]);
        assert!(plan.contains("SEARCH run USING INDEX run_unfinished (<expr>=? AND id>?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
    }
}
