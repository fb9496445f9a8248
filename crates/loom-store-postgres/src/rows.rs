//! Converts between records and rows, and checks the checksum of each row.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use loom_store::{
    ContentHash, Error, Flags, InboxId, InboxMessage, KeyValue, Post, RunId, RunRow, Seq, Shard, Shards,
    Snapshot, StoredFrame, Timer, TimerKey, UnixMillis,
};
use tokio_postgres::{Row, types::FromSql};

use crate::{
    pack::{Checksum, unpack},
    text,
};

/// The form in which PostgreSQL stores a run id.
pub(crate) fn id(run: RunId) -> i64 {
    run.as_u64().cast_signed()
}

pub(crate) fn run_id(number: i64) -> Result<RunId, Error> {
    u64::try_from(number)
        .ok()
        .and_then(RunId::from_u64)
        .ok_or_else(|| Error::damaged(format_args!("{number} is not a valid run id")))
}

/// The numbers of the shards.
pub(crate) fn shard_numbers(shards: &Shards) -> Vec<i32> {
    shards.iter().map(|shard| i32::from(shard.number())).collect()
}

/// A failure while reading.
pub(crate) fn read_error(source: tokio_postgres::Error) -> Error {
    Error::io("read", source)
}

/// The value of a column.
pub(crate) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, Error> {
    row.try_get(column).map_err(Error::damaged)
}

fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Error> {
    let found = get::<i32>(row, column).map(i64::from).or_else(|_| get::<i64>(row, column))?;
    T::try_from(found).map_err(|_| Error::damaged(format_args!("column `{column}` cannot be {found}")))
}

fn verify(row: &Row, computed: i64, what: impl FnOnce() -> String) -> Result<(), Error> {
    if get::<i64>(row, "crc")? == computed {
        return Ok(());
    }
    Err(Error::damaged(format_args!("{} does not match its checksum", what())))
}

fn text_of(row: &Row, column: &str) -> Result<Option<Arc<str>>, Error> {
    let Some(stored) = get::<Option<&str>>(row, column)? else { return Ok(None) };
    let text = text::read(stored);
    text.map(|text| Some(Arc::from(text)))
        .ok_or_else(|| Error::damaged(format_args!("column `{column}` has no valid text")))
}

/// The text in a column that is never empty.
pub(crate) fn name(row: &Row, column: &str) -> Result<Arc<str>, Error> {
    Ok(text_of(row, column)?.unwrap_or_default())
}

fn millis(row: &Row, column: &str) -> Result<Option<UnixMillis>, Error> {
    Ok(get::<Option<i64>>(row, column)?.map(UnixMillis))
}

fn maybe_run(row: &Row, column: &str) -> Result<Option<RunId>, Error> {
    get::<Option<i64>>(row, column)?.map(run_id).transpose()
}

pub(crate) fn hash(bytes: &[u8]) -> Result<ContentHash, Error> {
    let bytes = bytes.try_into().map_err(|_| Error::damaged("a content hash does not have 32 bytes"))?;
    Ok(ContentHash::from_bytes(bytes))
}

fn unpacked(codec: i16, stored: &[u8], what: impl fmt::Display) -> Result<Bytes, Error> {
    let found = unpack(codec, stored);
    found
        .map(|payload| payload.into_owned().into())
        .ok_or_else(|| Error::damaged(format_args!("{what} cannot be decompressed")))
}

pub(crate) const RUN_COLUMNS: &str = "id, workflow, definition, status, started, ended, origin, attempt, parent, parent_path, \
     idempotency_key, wake_at, error, error_text, trigger_name, tracking_id, flags, details, purged, crc";

pub(crate) fn run_checksum(row: &RunRow) -> i64 {
    Checksum::of("run")
        .number(id(row.id))
        .bytes(row.workflow.as_bytes())
        .bytes(row.definition.as_bytes())
        .number(row.status.into())
        .maybe_number(row.started.map(|at| at.0))
        .maybe_number(row.ended.map(|at| at.0))
        .maybe_number(row.origin.map(id))
        .number(row.attempt.into())
        .maybe_number(row.parent.map(id))
        .maybe_text(row.parent_path.as_deref())
        .maybe_text(row.idempotency_key.as_deref())
        .maybe_number(row.wake_at.map(|at| at.0))
        .maybe_text(row.error.as_deref())
        .maybe_text(row.error_text.as_deref())
        .maybe_text(row.trigger.as_deref())
        .maybe_text(row.tracking_id.as_deref())
        .number(row.flags.0.into())
        .bytes(&row.details)
        .finish()
}

/// Reads [`RUN_COLUMNS`].
pub(crate) fn run_row(row: &Row) -> Result<RunRow, Error> {
    let run = RunRow {
        id: run_id(get(row, "id")?)?,
        workflow: name(row, "workflow")?,
        definition: hash(get(row, "definition")?)?,
        status: number(row, "status")?,
        started: millis(row, "started")?,
        ended: millis(row, "ended")?,
        origin: maybe_run(row, "origin")?,
        attempt: number(row, "attempt")?,
        parent: maybe_run(row, "parent")?,
        parent_path: text_of(row, "parent_path")?,
        idempotency_key: text_of(row, "idempotency_key")?,
        wake_at: millis(row, "wake_at")?,
        error: text_of(row, "error")?,
        error_text: text_of(row, "error_text")?,
        trigger: text_of(row, "trigger_name")?,
        tracking_id: text_of(row, "tracking_id")?,
        flags: Flags(number(row, "flags")?),
        details: Bytes::copy_from_slice(get(row, "details")?),
        purged: get::<i16>(row, "purged")? > 0,
    };
    verify(row, run_checksum(&run), || format!("the row of run {}", run.id))?;
    Ok(run)
}

pub(crate) fn frame_checksum(run: RunId, seq: Seq, at: UnixMillis, codec: i16, stored: &[u8]) -> i64 {
    let head = Checksum::of("frame").number(id(run)).number(seq.0.cast_signed()).number(at.0);
    head.number(codec.into()).bytes(stored).finish()
}

/// Reads columns `seq, at, codec, payload, crc`.
pub(crate) fn frame(run: RunId, row: &Row) -> Result<StoredFrame, Error> {
    let seq = Seq(number(row, "seq")?);
    let at = UnixMillis(get(row, "at")?);
    let codec: i16 = get(row, "codec")?;
    let stored: &[u8] = get(row, "payload")?;
    verify(row, frame_checksum(run, seq, at, codec, stored), || format!("frame {seq} of run {run}"))?;
    Ok(StoredFrame { seq, at, payload: unpacked(codec, stored, format_args!("frame {seq} of run {run}"))? })
}

pub(crate) fn snapshot_checksum(run: RunId, upto: Seq, codec: i16, stored: &[u8]) -> i64 {
    let head = Checksum::of("snapshot").number(id(run)).number(upto.0.cast_signed());
    head.number(codec.into()).bytes(stored).finish()
}

/// Reads columns `upto, codec, state, snapshot_crc`.
pub(crate) fn snapshot(run: RunId, row: &Row) -> Result<Snapshot, Error> {
    let upto = Seq(number(row, "upto")?);
    let codec: i16 = get(row, "codec")?;
    let stored: &[u8] = get(row, "state")?;
    if get::<i64>(row, "snapshot_crc")? != snapshot_checksum(run, upto, codec, stored) {
        return Err(Error::damaged(format_args!("the snapshot of run {run} does not match its checksum")));
    }
    Ok(Snapshot { run, upto, state: unpacked(codec, stored, format_args!("the snapshot of run {run}"))? })
}

/// Reads columns `run, number, due, kind`.
pub(crate) fn timer(row: &Row) -> Result<Timer, Error> {
    let key = TimerKey { run: run_id(get(row, "run")?)?, number: number(row, "number")? };
    Ok(Timer { key, due: UnixMillis(get(row, "due")?), kind: number(row, "kind")? })
}

pub(crate) fn inbox_checksum(post: &Post) -> i64 {
    Checksum::of("inbox")
        .maybe_number(post.run.map(id))
        .number(post.shard().number().into())
        .number(post.kind.into())
        .number(post.at.0)
        .maybe_text(post.idempotency_key.as_deref())
        .bytes(&post.payload)
        .finish()
}

/// Reads columns `id, shard, run, kind, at, idempotency_key, payload, crc`.
pub(crate) fn inbox_message(row: &Row) -> Result<InboxMessage, Error> {
    let id: u64 = number(row, "id")?;
    let post = Post {
        run: maybe_run(row, "run")?,
        shard: Shard::new(number(row, "shard")?),
        kind: number(row, "kind")?,
        at: UnixMillis(get(row, "at")?),
        idempotency_key: text_of(row, "idempotency_key")?,
        payload: Bytes::copy_from_slice(get(row, "payload")?),
    };
    verify(row, inbox_checksum(&post), || format!("message {id} of the inbox"))?;
    Ok(InboxMessage { id: InboxId(id), post })
}

/// The checksum of a named value, without its version, which the database assigns. `life` is when it expires, and its run.
pub(crate) fn key_checksum(
    namespace: &str,
    key: &str,
    value: &[u8],
    (expires, run): (Option<UnixMillis>, Option<RunId>),
) -> i64 {
    Checksum::of("named")
        .bytes(namespace.as_bytes())
        .bytes(key.as_bytes())
        .bytes(value)
        .maybe_number(expires.map(|at| at.0))
        .maybe_number(run.map(id))
        .finish()
}

/// The columns that [`key_value`] reads.
pub(crate) const KEY_COLUMNS: &str = "key, version, value, expires, run, crc";

/// Reads [`KEY_COLUMNS`].
pub(crate) fn key_value(namespace: &str, row: &Row) -> Result<KeyValue, Error> {
    let key = name(row, "key")?;
    let value: &[u8] = get(row, "value")?;
    let (expires, run) = (millis(row, "expires")?, maybe_run(row, "run")?);
    verify(row, key_checksum(namespace, &key, value, (expires, run)), || {
        format!("the value `{namespace}/{key}`")
    })?;
    Ok(KeyValue { version: number(row, "version")?, value: Bytes::copy_from_slice(value), key, expires, run })
}

/// Content that is checked against its hash.
pub(crate) fn content(hash: ContentHash, codec: i16, stored: &[u8]) -> Result<Bytes, Error> {
    let content = unpacked(codec, stored, format_args!("content {hash}"))?;
    if ContentHash::of(&content) != hash {
        return Err(Error::damaged(format_args!("content {hash} does not match its hash")));
    }
    Ok(content)
}
