//! Converts between records and rows, and checks the checksum of each row.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};

use crate::{
    ContentHash, Error, Flags, InboxId, InboxMessage, KeyValue, Post, RunId, RunRow, Seq, Shard, Snapshot,
    StoredFrame, UnixMillis,
    checksum::Checksum,
    pack::{Codec, unpack},
};

/// The form in which SQLite stores a run id.
pub(super) fn id(run: RunId) -> i64 {
    run.as_u64().cast_signed()
}

pub(super) fn run_id(number: i64) -> Result<RunId, Error> {
    u64::try_from(number)
        .ok()
        .and_then(RunId::from_u64)
        .ok_or_else(|| Error::damaged(format_args!("{number} is not a valid run id")))
}

pub(super) fn hash(bytes: &[u8]) -> Result<ContentHash, Error> {
    let bytes = bytes.try_into().map_err(|_| Error::damaged("a content hash does not have 32 bytes"))?;
    Ok(ContentHash::from_bytes(bytes))
}

/// Translates a failure of SQLite while reading.
pub(super) fn read_error(source: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => Error::damaged(source),
        _ if matches!(
            source,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::Utf8Error(..)
        ) =>
        {
            Error::damaged(source)
        }
        _ => Error::io("read", source),
    }
}

fn verify(row: &Row<'_>, computed: u32, what: impl FnOnce() -> String) -> Result<(), Error> {
    let stored: i64 = row.get("crc").map_err(read_error)?;
    if stored == i64::from(computed) {
        return Ok(());
    }
    Err(Error::damaged(format_args!("{} does not match its checksum", what())))
}

fn blob<'r>(row: &'r Row<'_>, column: &str) -> Result<&'r [u8], Error> {
    row.get_ref(column).map_err(read_error)?.as_blob().map_err(|source| Error::damaged(source.to_string()))
}

fn text(row: &Row<'_>, column: &str) -> Result<Option<Arc<str>>, Error> {
    match row.get_ref(column).map_err(read_error)? {
        ValueRef::Null => Ok(None),
        value => {
            value.as_str().map(|text| Some(text.into())).map_err(|source| Error::damaged(source.to_string()))
        }
    }
}

fn millis(row: &Row<'_>, column: &str) -> Result<Option<UnixMillis>, Error> {
    Ok(row.get::<_, Option<i64>>(column).map_err(read_error)?.map(UnixMillis))
}

fn maybe_run(row: &Row<'_>, column: &str) -> Result<Option<RunId>, Error> {
    row.get::<_, Option<i64>>(column).map_err(read_error)?.map(run_id).transpose()
}

fn unpacked(codec: i64, stored: &[u8], what: impl FnOnce() -> String) -> Result<Cow<'_, [u8]>, Error> {
    Codec::from_number(codec)
        .and_then(|codec| unpack(codec, stored))
        .ok_or_else(|| Error::damaged(format_args!("{} cannot be decompressed", what())))
}

pub(super) const RUN_COLUMNS: &str = "id, workflow, definition, status, started, ended, origin, attempt, parent, \
     parent_path, idempotency_key, wake_at, error, error_text, trigger_name, tracking_id, flags, details, purged, crc";

pub(super) fn run_checksum(row: &RunRow) -> u32 {
    let sum = Checksum::of("run")
        .number(row.id.as_u64())
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
        .bytes(&row.details);
    // Rows of older formats have none of these, and keep their checksum.
    if row.error_text.is_none()
        && row.trigger.is_none()
        && row.tracking_id.is_none()
        && row.flags == Flags::NONE
    {
        return sum.finish();
    }
    sum.maybe_text(row.error_text.as_deref())
        .maybe_text(row.trigger.as_deref())
        .maybe_text(row.tracking_id.as_deref())
        .number(row.flags.0.into())
        .finish()
}

pub(super) fn run_row(row: &Row<'_>) -> Result<RunRow, Error> {
    let run = RunRow {
        id: run_id(row.get("id").map_err(read_error)?)?,
        workflow: text(row, "workflow")?.unwrap_or_default(),
        definition: hash(blob(row, "definition")?)?,
        status: row.get("status").map_err(read_error)?,
        started: millis(row, "started")?,
        ended: millis(row, "ended")?,
        origin: maybe_run(row, "origin")?,
        attempt: row.get("attempt").map_err(read_error)?,
        parent: maybe_run(row, "parent")?,
        parent_path: text(row, "parent_path")?,
        idempotency_key: text(row, "idempotency_key")?,
        wake_at: millis(row, "wake_at")?,
        error: text(row, "error")?,
        error_text: text(row, "error_text")?,
        trigger: text(row, "trigger_name")?,
        tracking_id: text(row, "tracking_id")?,
        flags: Flags(row.get("flags").map_err(read_error)?),
        details: Bytes::copy_from_slice(blob(row, "details")?),
        purged: row.get::<_, i64>("purged").map_err(read_error)? > 0,
    };
    verify(row, run_checksum(&run), || format!("the row of run {}", run.id))?;
    Ok(run)
}

pub(super) fn frame_checksum(run: RunId, seq: Seq, at: UnixMillis, codec: i64, stored: &[u8]) -> u32 {
    let head = Checksum::of("frame").number(run.as_u64()).number(seq.0).signed(at.0);
    head.signed(codec).bytes(stored).finish()
}

/// Reads columns `seq, at, codec, payload, crc`.
pub(super) fn frame(run: RunId, row: &Row<'_>) -> Result<StoredFrame, Error> {
    let seq = Seq(row.get("seq").map_err(read_error)?);
    let at = UnixMillis(row.get("at").map_err(read_error)?);
    let codec: i64 = row.get("codec").map_err(read_error)?;
    let stored = blob(row, "payload")?;
    let what = || format!("frame {seq} of run {run}");
    verify(row, frame_checksum(run, seq, at, codec, stored), what)?;
    Ok(StoredFrame { seq, at, payload: unpacked(codec, stored, what)?.into_owned().into() })
}

pub(super) fn snapshot_checksum(run: RunId, upto: Seq, codec: i64, stored: &[u8]) -> u32 {
    Checksum::of("snapshot").number(run.as_u64()).number(upto.0).signed(codec).bytes(stored).finish()
}

/// Reads columns `upto, codec, state, crc`.
pub(super) fn snapshot(run: RunId, row: &Row<'_>) -> Result<Snapshot, Error> {
    let upto = Seq(row.get("upto").map_err(read_error)?);
    let codec: i64 = row.get("codec").map_err(read_error)?;
    let stored = blob(row, "state")?;
    let what = || format!("the snapshot of run {run}");
    verify(row, snapshot_checksum(run, upto, codec, stored), what)?;
    Ok(Snapshot { run, upto, state: unpacked(codec, stored, what)?.into_owned().into() })
}

pub(super) fn inbox_checksum(post: &Post) -> u32 {
    let sum = Checksum::of("inbox")
        .maybe_number(post.run.map(id))
        .number(post.kind.into())
        .signed(post.at.0)
        .maybe_text(post.idempotency_key.as_deref())
        .bytes(&post.payload);
    // Messages of older formats have no shard, and keep their checksum.
    match (post.run, post.shard.number()) {
        (Some(_), _) | (None, 0) => sum.finish(),
        (None, shard) => sum.number(shard.into()).finish(),
    }
}

/// Reads columns `id, run, kind, at, idempotency_key, payload, shard, crc`.
pub(super) fn inbox_message(row: &Row<'_>) -> Result<InboxMessage, Error> {
    let id: u64 = row.get("id").map_err(read_error)?;
    let post = Post {
        run: maybe_run(row, "run")?,
        kind: row.get("kind").map_err(read_error)?,
        at: UnixMillis(row.get("at").map_err(read_error)?),
        idempotency_key: text(row, "idempotency_key")?,
        payload: Bytes::copy_from_slice(blob(row, "payload")?),
        shard: Shard::new(row.get("shard").map_err(read_error)?),
    };
    verify(row, inbox_checksum(&post), || format!("message {id} of the inbox"))?;
    Ok(InboxMessage { id: InboxId(id), post })
}

/// The checksum of a named value. `life` is when it expires, and its run.
pub(super) fn key_checksum(
    namespace: &str,
    key: &str,
    version: u64,
    value: &[u8],
    life: (Option<UnixMillis>, Option<RunId>),
) -> u32 {
    let sum =
        Checksum::of("named").bytes(namespace.as_bytes()).bytes(key.as_bytes()).number(version).bytes(value);
    // Values of older formats have neither, and keep their checksum.
    match life {
        (None, None) => sum.finish(),
        (expires, run) => sum.maybe_number(expires.map(|at| at.0)).maybe_number(run.map(id)).finish(),
    }
}

/// The columns that [`key_value`] reads.
pub(super) const KEY_COLUMNS: &str = "key, version, value, expires, run, crc";

/// Reads [`KEY_COLUMNS`].
pub(super) fn key_value(namespace: &str, row: &Row<'_>) -> Result<KeyValue, Error> {
    let key = text(row, "key")?.unwrap_or_default();
    let version: u64 = row.get("version").map_err(read_error)?;
    let value = blob(row, "value")?;
    let (expires, run) = (millis(row, "expires")?, maybe_run(row, "run")?);
    verify(row, key_checksum(namespace, &key, version, value, (expires, run)), || {
        format!("the value `{namespace}/{key}`")
    })?;
    Ok(KeyValue { version, value: Bytes::copy_from_slice(value), key, expires, run })
}

/// Reads columns `codec, body`: content that is checked against its hash.
pub(super) fn content(hash: ContentHash, row: &Row<'_>) -> Result<Bytes, Error> {
    let codec: i64 = row.get("codec").map_err(read_error)?;
    let what = || format!("content {hash}");
    // A damaged LZ4 block may claim any length, so the claim is limited before it is used.
    let stored = blob(row, "body")?;
    if codec == Codec::Lz4 as i64 {
        let claimed = stored.first_chunk().map_or(u32::MAX, |length| u32::from_le_bytes(*length));
        if u64::from(claimed) > stored.len() as u64 * 256 {
            return Err(Error::damaged(format_args!("{} cannot be decompressed", what())));
        }
    }
    let content = unpacked(codec, stored, what)?.into_owned();
    if ContentHash::of(&content) != hash {
        return Err(Error::damaged(format_args!("{} does not match its hash", what())));
    }
    Ok(content.into())
}
