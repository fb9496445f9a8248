//! Checks that the statements use their indexes.

use rusqlite::{Connection, types::Value};

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
