//! The tables, and the migrations from older formats. A change here is a new migration, never an edit of an old one.
//!
//! All nodes may start at once. Migrations run in one transaction under an advisory lock of that transaction, so that one of them
//! migrates and the others find the newest format.

use loom_store::Error;
use tokio_postgres::Client;

/// Entry *n* migrates a schema from format *n* to *n* + 1. The first creates the tables.
const MIGRATIONS: &[&str] = &[include_str!("schema/v1.sql"), include_str!("schema/v2.sql")];

/// The format that this version writes.
pub(crate) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// Marks the schema as a Loom store: "Loom" in ASCII.
const APPLICATION: i64 = 0x4c6f_6f6d;

/// The first half of the key of the advisory lock.
const LOCK: i32 = 0x4c6f_6f6d;

/// Migrates the schema to the newest format, or refuses it.
pub(crate) async fn migrate(client: &Client, schema: &str) -> Result<(), Error> {
    let failed = |source| Error::io("create the tables", source);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    match migrate_inside(client, schema).await {
        Ok(()) => client.batch_execute("COMMIT").await.map_err(failed),
        Err(reason) => {
            client.batch_execute("ROLLBACK").await.map_err(failed)?;
            Err(reason)
        }
    }
}

async fn migrate_inside(client: &Client, schema: &str) -> Result<(), Error> {
    let failed = |source| Error::io("create the tables", source);
    let lock = client.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", &[&LOCK, &schema]).await;
    lock.map_err(failed)?;
    let found = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = n.oid), to_regclass($1 || '.meta') IS NOT NULL
             FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = $1) AS oid) AS n",
            &[&schema],
        )
        .await
        .map_err(failed)?;
    let (has_tables, has_meta): (bool, bool) = (found.get(0), found.get(1));
    let mut format = 0;
    if has_meta {
        let number = |name| {
            let sql = format!("SELECT number FROM {schema}.meta WHERE name = '{name}'");
            async move { client.query_opt(&sql, &[]).await.map_err(failed) }
        };
        let application = number("application").await?.map(|row| row.get::<_, i64>(0));
        if application != Some(APPLICATION) {
            return Err(Error::NotAStore { path: schema.into() });
        }
        format = number("format").await?.map_or(0, |row| row.get::<_, i64>(0));
    } else if has_tables {
        return Err(Error::NotAStore { path: schema.into() });
    }
    if format > FORMAT {
        return Err(Error::NewerFormat { found: format, known: FORMAT });
    }
    if format == 0 {
        client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await.map_err(failed)?;
    }
    for step in &MIGRATIONS[format as usize..] {
        client.batch_execute(step).await.map_err(failed)?;
    }
    if format > 0 && format < FORMAT {
        tracing::info!(from = format, to = FORMAT, "store migrated");
    }
    client
        .batch_execute(&format!(
            "UPDATE {schema}.meta SET number = {FORMAT} WHERE name = 'format' AND number <> {FORMAT}"
        ))
        .await
        .map_err(failed)
}
