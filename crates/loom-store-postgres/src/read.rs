//! Reads of runs, messages, values and content. Each is bounded, and served from an index.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use loom_store::{
    Answer, ContentHash, Count, Error, FramePage, FrameQuery, Inbox, InboxId, InboxMessage, InboxQuery,
    KeyPage, KeyQuery, KeyValue, LoadedRun, Named, Recipient, RunId, RunPage, RunQuery, RunRow, Runs, Seq,
    Shards, Timer, TimerKey, TimerQuery, UnixMillis,
};
use tokio_postgres::Row;

use crate::{
    connect::Session,
    list,
    rows::{self, KEY_COLUMNS, RUN_COLUMNS, get},
    store::{PostgresStore, ReadError},
    text,
};

/// How often a run is read again because its journal was removed while it was read.
const LOADS_MAX: usize = 3;

/// Frames and bytes that are read at once.
const FRAMES_AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 16 << 20;

/// A limit in the form that PostgreSQL understands.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows.max(1)).unwrap_or(i64::MAX)
}

/// The row of a run, its snapshot, and where its journal continues, of one moment; then the frames up to there.
pub(crate) async fn load(session: Session, run: RunId) -> Result<Option<LoadedRun>, ReadError> {
    let sql = format!(
        "SELECT {columns}, (SELECT max(f.seq) FROM frame f WHERE f.run = r.id) AS last,
                EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.id AND i.taken_by IS NULL) AS has_messages,
                s.upto, s.codec, s.state, s.snapshot_crc
         FROM run r LEFT JOIN (SELECT run, upto, codec, state, crc AS snapshot_crc FROM snapshot) s ON s.run = r.id WHERE r.id = $1",
        columns = list::columns_of("r"),
    );
    let mut gap = None;
    for _ in 0..LOADS_MAX {
        let Some(found) = session.query_opt(&sql, &[&rows::id(run)]).await? else { return Ok(None) };
        let row = rows::run_row(&found)?;
        let snapshot = match get::<Option<i64>>(&found, "upto")? {
            None => None,
            Some(_) => Some(rows::snapshot(run, &found)?),
        };
        let from = snapshot.as_ref().map_or(Seq::FIRST, |snapshot| snapshot.upto.plus(1));
        let last = get::<Option<i64>>(&found, "last")?.unwrap_or(0).cast_unsigned();
        let next = Seq(last).plus(1).max(from);
        let mut frames = Vec::new();
        let mut place = from;
        while place < next {
            let left = usize::try_from(next.0 - place.0).unwrap_or(usize::MAX);
            let query = FrameQuery {
                run,
                from: place,
                frames_max: left.min(FRAMES_AT_ONCE),
                bytes_max: BYTES_AT_ONCE,
            };
            let page = frame_page(&session, query).await?;
            if page.frames.is_empty() {
                break;
            }
            place = place.plus(page.frames.len() as u64);
            frames.extend(page.frames);
        }
        if place >= next {
            let has_messages = get(&found, "has_messages")?;
            return Ok(Some(LoadedRun { row, snapshot, frames, next, has_messages }));
        }
        gap = Some(place);
    }
    let gap = gap.unwrap_or(Seq::FIRST);
    Err(Error::damaged(format_args!("frame {gap} of run {run} is missing")).into())
}

pub(crate) async fn frames(session: Session, query: FrameQuery) -> Result<FramePage, ReadError> {
    frame_page(&session, query).await
}

async fn frame_page(session: &Session, query: FrameQuery) -> Result<FramePage, ReadError> {
    let from = query.from.max(Seq::FIRST);
    let first = i64::try_from(from.0).unwrap_or(i64::MAX);
    let frames_max = query.frames_max.max(1);
    let bytes_max = i64::try_from(query.bytes_max).unwrap_or(i64::MAX);
    // What is stored is never larger than the payload, so this returns at least what belongs on the page, and one frame more.
    let found = session
        .query(
            "SELECT seq, at, codec, payload, crc FROM
                (SELECT *, coalesce(sum(octet_length(payload)) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
                 FROM (SELECT * FROM frame WHERE run = $1 AND seq >= $2 ORDER BY seq LIMIT $3) AS f) AS g
             WHERE before = 0 OR before < $4 ORDER BY seq",
            &[&rows::id(query.run), &first, &limit(frames_max.saturating_add(1)), &bytes_max],
        )
        .await?;
    let mut page = FramePage::default();
    let mut bytes = 0;
    for row in &found {
        let frame = rows::frame(query.run, row)?;
        let expected = from.plus(page.frames.len() as u64);
        if frame.seq != expected {
            return Err(
                Error::damaged(format_args!("frame {expected} of run {} is missing", query.run)).into()
            );
        }
        if page.frames.len() >= frames_max || (bytes > 0 && bytes >= query.bytes_max) {
            page.next = Some(frame.seq);
            return Ok(page);
        }
        bytes += frame.payload.len();
        page.frames.push(frame);
    }
    // The statement stopped at the limit of bytes, so there may be more.
    if !found.is_empty() && bytes >= query.bytes_max {
        let next = from.plus(page.frames.len() as u64);
        let sql = "SELECT 1 FROM frame WHERE run = $1 AND seq = $2";
        let exists = session.query_opt(sql, &[&rows::id(query.run), &next.0.cast_signed()]).await?;
        page.next = exists.map(|_| next);
    }
    Ok(page)
}

pub(crate) async fn is_empty(session: Session) -> Result<bool, ReadError> {
    let found = session
        .query_opt(
            "SELECT NOT (EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM frame) OR EXISTS (SELECT 1 FROM definition)
                OR EXISTS (SELECT 1 FROM blob_ref) OR EXISTS (SELECT 1 FROM named)
                OR EXISTS (SELECT 1 FROM counter WHERE name = 'inbox' AND number > 0))",
            &[],
        )
        .await?;
    Ok(found.map_or(Ok(true), |row| row.try_get(0))?)
}

fn rows_of(found: &[Row]) -> Result<Vec<RunRow>, ReadError> {
    Ok(found.iter().map(rows::run_row).collect::<Result<Vec<_>, _>>()?)
}

/// Lists unfinished runs; with `awake`, only those that are awake.
async fn open_runs(
    session: Session,
    shards: Shards,
    after: Option<RunId>,
    most: usize,
    awake: bool,
) -> Result<Vec<RunRow>, ReadError> {
    let awake = if awake { " AND wake_at IS NULL" } else { "" };
    let after = after.map_or(-1, rows::id);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let head = format!("SELECT {RUN_COLUMNS} FROM run WHERE ended IS NULL AND id > $1{awake}");
    if shards == Shards::ALL {
        return rows_of(&session.query(&format!("{head} ORDER BY id LIMIT $2"), &[&after, &most]).await?);
    }
    let sql = format!("{head} AND shard = ANY($3) ORDER BY id LIMIT $2");
    rows_of(&session.query(&sql, &[&after, &most, &rows::shard_numbers(&shards)]).await?)
}

impl Runs for PostgresStore {
    fn run(&self, run: RunId) -> Answer<Option<RunRow>> {
        self.read(move |session| async move {
            let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE id = $1");
            let found = session.query_opt(&sql, &[&rows::id(run)]).await?;
            Ok(found.as_ref().map(rows::run_row).transpose()?)
        })
    }

    fn run_by_key(&self, workflow: &str, idempotency_key: &str) -> Answer<Option<RunRow>> {
        let names: Arc<(String, String)> =
            Arc::new((text::stored(workflow).into_owned(), text::stored(idempotency_key).into_owned()));
        self.read(move |session| {
            let names = Arc::clone(&names);
            async move {
                let sql =
                    format!("SELECT {RUN_COLUMNS} FROM run WHERE workflow = $1 AND idempotency_key = $2");
                let found = session.query_opt(&sql, &[&names.0, &names.1]).await?;
                Ok(found.as_ref().map(rows::run_row).transpose()?)
            }
        })
    }

    fn runs(&self, query: RunQuery) -> Answer<RunPage> {
        self.read(move |session| list::runs(session, query.clone()))
    }

    fn count(&self, query: RunQuery) -> Answer<Count> {
        self.read(move |session| list::count(session, query.clone()))
    }

    fn unfinished(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(move |session| open_runs(session, shards, after, limit, false))
    }

    fn awake(&self, shards: Shards, after: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(move |session| open_runs(session, shards, after, limit, true))
    }

    fn parked(&self, shards: Shards) -> Answer<u64> {
        self.read(move |session| async move {
            let sql = "SELECT count(*) FROM run WHERE ended IS NULL AND wake_at IS NOT NULL AND ($1 OR shard = ANY($2))";
            let found = session.query_opt(sql, &[&(shards == Shards::ALL), &rows::shard_numbers(&shards)]).await?;
            Ok(found.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.cast_unsigned())
        })
    }

    fn newest_run(&self, shards: Shards) -> Answer<Option<RunId>> {
        self.read(move |session| async move {
            let sql = "SELECT max(n.id) FROM unnest($1::int4[]) AS s(shard)
                CROSS JOIN LATERAL (SELECT r.id FROM run r WHERE r.shard = s.shard ORDER BY r.id DESC LIMIT 1) AS n";
            let found = session.query_opt(sql, &[&rows::shard_numbers(&shards)]).await?;
            let newest = found.map_or(Ok(None), |row| row.try_get::<_, Option<i64>>(0))?;
            Ok(newest.map(rows::run_id).transpose()?)
        })
    }

    fn timers(&self, query: TimerQuery) -> Answer<Vec<Timer>> {
        self.read(move |session| async move {
            let (due, key) = query.start().unwrap_or((UnixMillis(i64::MIN), TimerKey { run: RunId::MIN, number: 0 }));
            // Without a position to continue after, no timer sorts before the start; with one, the start itself is skipped.
            let number = if query.after.is_some() { key.number.cast_signed() } else { -1 };
            let found = session
                .query(
                    "SELECT run, number, due, kind FROM timer WHERE (due, run, number) > ($1, $2, $3) AND due <= $4
                        AND ($5 OR shard = ANY($6)) ORDER BY due, run, number LIMIT $7",
                    &[
                        &due.0,
                        &rows::id(key.run),
                        &number,
                        &query.until.0,
                        &(query.shards == Shards::ALL),
                        &rows::shard_numbers(&query.shards),
                        &limit(query.limit),
                    ],
                )
                .await?;
            Ok(found.iter().map(rows::timer).collect::<Result<Vec<_>, _>>()?)
        })
    }
}

impl Inbox for PostgresStore {
    fn inbox(&self, query: InboxQuery) -> Answer<Vec<InboxMessage>> {
        self.read(move |session| async move {
            let to = match query.recipient {
                Recipient::Anyone => "",
                Recipient::Nobody => " AND run IS NULL",
                Recipient::Run(_) => " AND run = $5",
            };
            let sql = format!(
                "SELECT id, shard, run, kind, at, idempotency_key, payload, crc FROM inbox
                 WHERE taken_by IS NULL AND id > $1 AND ($2 OR shard = ANY($3)){to} ORDER BY id LIMIT $4"
            );
            let after = query.after.map_or(0, |after| i64::try_from(after.0).unwrap_or(i64::MAX));
            let (all, shards) = (query.shards == Shards::ALL, rows::shard_numbers(&query.shards));
            let most = limit(query.limit);
            let found = match query.recipient {
                Recipient::Run(run) => {
                    session.query(&sql, &[&after, &all, &shards, &most, &rows::id(run)]).await?
                }
                Recipient::Anyone | Recipient::Nobody => {
                    session.query(&sql, &[&after, &all, &shards, &most]).await?
                }
            };
            Ok(found.iter().map(rows::inbox_message).collect::<Result<Vec<_>, _>>()?)
        })
    }

    fn pending(&self, run: RunId) -> Answer<u64> {
        self.read(move |session| async move {
            let sql = "SELECT count(*) FROM inbox WHERE run = $1 AND taken_by IS NULL";
            let found = session.query_opt(sql, &[&rows::id(run)]).await?;
            Ok(found.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?.cast_unsigned())
        })
    }

    fn posted(&self, run: Option<RunId>, idempotency_key: &str) -> Answer<Option<InboxId>> {
        let key: Arc<str> = text::stored(idempotency_key).into();
        self.read(move |session| {
            let key = Arc::clone(&key);
            async move {
                let sql = "SELECT id FROM inbox WHERE coalesce(run, -1) = $1 AND idempotency_key = $2";
                let found = session.query_opt(sql, &[&run.map_or(-1, rows::id), &&*key]).await?;
                let id = found.map(|row| row.try_get::<_, i64>(0)).transpose()?;
                Ok(id.map(|id| InboxId(id.cast_unsigned())))
            }
        })
    }
}

impl Named for PostgresStore {
    fn key(&self, namespace: &str, key: &str) -> Answer<Option<KeyValue>> {
        let names: Arc<(String, String)> = Arc::new((namespace.to_owned(), key.to_owned()));
        self.read(move |session| {
            let names = Arc::clone(&names);
            async move {
                let sql = format!("SELECT {KEY_COLUMNS} FROM named WHERE namespace = $1 AND key = $2");
                let found =
                    session.query_opt(&sql, &[&text::stored(&names.0), &text::stored(&names.1)]).await?;
                Ok(found.map(|row| rows::key_value(&names.0, &row)).transpose()?)
            }
        })
    }

    fn keys(&self, query: KeyQuery) -> Answer<KeyPage> {
        self.read(move |session| {
            let query = query.clone();
            async move {
                let prefix = text::stored(&query.prefix).into_owned();
                let after = query.after.as_deref().map(|after| text::stored(after).into_owned());
                let start = after.clone().map_or_else(|| prefix.clone(), |after| after.max(prefix.clone()));
                // Names that begin with the prefix follow each other, so the first that does not ends the list.
                let most = query.limit.max(1);
                let sql = format!(
                    "SELECT {KEY_COLUMNS} FROM named WHERE namespace = $1 AND key >= $2 AND ($3::text IS NULL OR key > $3)
                     ORDER BY namespace, key LIMIT $4"
                );
                let params = (text::stored(&query.namespace), limit(most.saturating_add(1)));
                let found = session.query(&sql, &[&params.0, &start, &after, &params.1]).await?;
                let mut values = VecDeque::new();
                for row in &found {
                    if !get::<&str>(row, "key")?.starts_with(&prefix) {
                        break;
                    }
                    values.push_back(rows::key_value(&query.namespace, row)?);
                }
                let has_more = values.len() > most;
                values.truncate(most);
                let next = values.back().filter(|_| has_more).map(|value| Arc::clone(&value.key));
                Ok(KeyPage { values: values.into(), next })
            }
        })
    }

    fn namespace_from(&self, start: &str) -> Answer<Option<Arc<str>>> {
        let start: Arc<str> = text::stored(start).into();
        self.read(move |session| {
            let start = Arc::clone(&start);
            async move {
                let sql = "SELECT namespace FROM named WHERE namespace >= $1 ORDER BY namespace LIMIT 1";
                let found = session.query_opt(sql, &[&&*start]).await?;
                let Some(row) = found else { return Ok(None) };
                let read = text::read(get::<&str>(&row, "namespace")?);
                let read = read.ok_or_else(|| {
                    Error::damaged("a namespace is not in the form in which texts are stored")
                })?;
                Ok(Some(Arc::from(read)))
            }
        })
    }
}

/// Reads a definition.
pub(crate) async fn definition(session: Session, hash: ContentHash) -> Result<Option<Bytes>, ReadError> {
    let found = session
        .query_opt("SELECT codec, body FROM definition WHERE hash = $1", &[&&hash.as_bytes()[..]])
        .await?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(rows::content(hash, get(&found, "codec")?, get(&found, "body")?)?))
}
