//! Reads and checks everything: checksums, hashes and gaps.

use loom_store::{ContentHash, Error, RunId};

use crate::{
    connect::Session,
    rows::{self, KEY_COLUMNS, RUN_COLUMNS, get},
    store::ReadError,
};

/// Rows that are read at once.
const AT_ONCE: i64 = 500;

/// Checks all records, and returns how many there are.
pub(crate) async fn verify(session: Session) -> Result<u64, ReadError> {
    let mut records = frames(&session).await?;
    records += by_number(&session, "run", "id", RUN_COLUMNS, |row| rows::run_row(row).map(drop)).await?;
    let columns = "id, shard, run, kind, at, idempotency_key, payload, crc";
    records += by_number(&session, "inbox", "id", columns, |row| rows::inbox_message(row).map(drop)).await?;
    let columns = "run, upto, codec, state, crc AS snapshot_crc";
    records += by_number(&session, "snapshot", "run", columns, |row| {
        rows::snapshot(rows::run_id(get(row, "run")?)?, row).map(drop)
    })
    .await?;
    records += names(&session).await?;
    records += contents(&session, "definition").await?;
    records += contents(&session, "blob").await?;
    Ok(records)
}

async fn by_number(
    session: &Session,
    table: &str,
    key: &str,
    columns: &str,
    check: impl Fn(&tokio_postgres::Row) -> Result<(), Error>,
) -> Result<u64, ReadError> {
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} > $1 ORDER BY {key} LIMIT {AT_ONCE}");
    let (mut after, mut records) = (-1_i64, 0);
    loop {
        let found = session.query(&sql, &[&after]).await?;
        for row in &found {
            check(row)?;
            after = get(row, key)?;
        }
        records += found.len() as u64;
        if (found.len() as i64) < AT_ONCE {
            return Ok(records);
        }
    }
}

async fn frames(session: &Session) -> Result<u64, ReadError> {
    let sql = format!(
        "SELECT run, seq, at, codec, payload, crc FROM frame WHERE (run, seq) > ($1, $2) ORDER BY run, seq LIMIT {AT_ONCE}"
    );
    let (mut last, mut records) = ((-1_i64, 0_i64), 0);
    loop {
        let found = session.query(&sql, &[&last.0, &last.1]).await?;
        for row in &found {
            let run: i64 = get(row, "run")?;
            let id: RunId = rows::run_id(run)?;
            let seq = rows::frame(id, row)?.seq.0.cast_signed();
            let expected = if run == last.0 { last.1 + 1 } else { 1 };
            if seq != expected {
                return Err(Error::damaged(format_args!("frame {expected} of run {id} is missing")).into());
            }
            last = (run, seq);
        }
        records += found.len() as u64;
        if (found.len() as i64) < AT_ONCE {
            return Ok(records);
        }
    }
}

async fn names(session: &Session) -> Result<u64, ReadError> {
    let sql = format!(
        "SELECT namespace, {KEY_COLUMNS} FROM named WHERE (namespace, key) > ($1, $2) ORDER BY namespace, key LIMIT {AT_ONCE}"
    );
    let (mut last, mut records) = ((String::new(), String::new()), 0);
    loop {
        let found = session.query(&sql, &[&last.0, &last.1]).await?;
        for row in &found {
            rows::key_value(&rows::name(row, "namespace")?, row)?;
            last = (get(row, "namespace")?, get(row, "key")?);
        }
        records += found.len() as u64;
        if (found.len() as i64) < AT_ONCE {
            return Ok(records);
        }
    }
}

/// Checks definitions and blobs against their hashes, one at a time.
async fn contents(session: &Session, table: &str) -> Result<u64, ReadError> {
    let sql = format!("SELECT hash, codec, body FROM {table} WHERE hash > $1 ORDER BY hash LIMIT 1");
    let (mut after, mut records) = (Vec::new(), 0);
    while let Some(row) = session.query_opt(&sql, &[&after]).await? {
        let key: Vec<u8> = get(&row, "hash")?;
        let hash = ContentHash::from_bytes(key.as_slice().try_into().map_err(Error::damaged)?);
        match get::<i16>(&row, "codec")? {
            2 => {
                let parts = session
                    .query("SELECT body FROM blob_part WHERE hash = $1 ORDER BY part", &[&key])
                    .await?;
                let mut content = Vec::new();
                for part in &parts {
                    content.extend_from_slice(get(part, "body")?);
                }
                if ContentHash::of(&content) != hash {
                    return Err(Error::damaged(format_args!("content {hash} does not match its hash")).into());
                }
            }
            // Being uploaded.
            3 => {}
            codec => {
                let stored: Option<&[u8]> = get(&row, "body")?;
                drop(rows::content(hash, codec, stored.unwrap_or_default())?);
            }
        }
        after = key;
        records += 1;
    }
    Ok(records)
}
