//! Content that is found by its hash. Content of up to [`BLOB_ROW_MAX`] bytes travels with the commit; larger content is uploaded in
//! parts before the commit, and pinned until a commit refers to it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use loom_store::{Answer, BLOB_ROW_MAX, Blob, Blobs, ContentHash, Error, RunId};

use crate::{
    connect::Session,
    pack::pack,
    read,
    rows::{self, get},
    store::{PostgresStore, ReadError},
};

/// Bytes in each part of uploaded content.
const PART: usize = 256 * 1024;

/// The codec of content in parts.
const IN_PARTS: i16 = 2;

/// What this process has uploaded or is about to refer to. A pin is a row, so that retention of every node sees it; the row is removed
/// some time after the last blob of the process with that hash is gone.
#[derive(Default)]
pub(crate) struct Pins {
    held: Mutex<Held>,
    /// Rows are written and removed by one task at a time, so that none is removed that was just written.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    counts: HashMap<ContentHash, usize>,
    released: Vec<ContentHash>,
}

/// One count in [`Pins`], released when dropped.
struct Pin {
    pins: Arc<Pins>,
    hash: ContentHash,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pin").field(&self.hash).finish()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.counts.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                held.counts.remove(&self.hash);
                held.released.push(self.hash);
            }
        }
    }
}

impl Pins {
    fn pin(self: &Arc<Self>, hash: ContentHash) -> Pin {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.counts.entry(hash).or_insert(0) += 1;
        Pin { pins: Arc::clone(self), hash }
    }

    /// The hashes of which no blob of this process is left.
    fn take_released(&self) -> Vec<Vec<u8>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let released = std::mem::take(&mut held.released);
        let gone = released.into_iter().filter(|hash| !held.counts.contains_key(hash));
        gone.map(|hash| hash.as_bytes().to_vec()).collect()
    }

    /// Removes the rows of pins that were released.
    pub(crate) async fn clean(&self, session: &Session, holder: i64) -> Result<(), tokio_postgres::Error> {
        let _turn = self.turn.lock().await;
        let released = self.take_released();
        if !released.is_empty() {
            let sql = "DELETE FROM blob_pin WHERE holder = $1 AND hash = ANY($2)";
            session.execute(sql, &[&holder, &released]).await?;
        }
        Ok(())
    }

    async fn write(&self, session: &Session, holder: i64, hash: &[u8]) -> Result<(), tokio_postgres::Error> {
        let _turn = self.turn.lock().await;
        let sql = "INSERT INTO blob_pin (hash, holder) VALUES ($1, $2)
            ON CONFLICT (hash, holder) DO UPDATE SET made = clock_timestamp()";
        session.execute(sql, &[&hash, &holder]).await.map(drop)
    }
}

impl Blobs for PostgresStore {
    fn blobs_of(&self, run: RunId) -> Answer<Vec<ContentHash>> {
        self.read(move |session| async move {
            let sql = "SELECT hash FROM blob_ref WHERE run = $1 ORDER BY hash";
            let found = session.query(sql, &[&run.as_u64().cast_signed()]).await?;
            found.iter().map(|row| Ok(rows::hash(get(row, "hash")?)?)).collect()
        })
    }

    fn definition(&self, hash: ContentHash) -> Answer<Option<Bytes>> {
        self.read(move |session| read::definition(session, hash))
    }

    fn put_blob(&self, content: Bytes) -> Answer<Blob> {
        let hash = ContentHash::of(&content);
        let size = content.len() as u64;
        if content.len() <= BLOB_ROW_MAX {
            let (codec, bytes) = pack(&content);
            // The codecs of carried content are 0 and 1.
            let blob = Blob::carried(hash, size, codec as u8, bytes);
            let closed = self.backend().is_closed();
            return Box::pin(async move { if closed { Err(Error::Closed) } else { Ok(blob) } });
        }
        let backend = self.backend();
        self.read(move |session| {
            let (backend, content) = (Arc::clone(&backend), content.clone());
            async move {
                let pin = backend.pins.pin(hash);
                backend.pins.clean(&session, backend.holder).await?;
                backend.pins.write(&session, backend.holder, hash.as_bytes()).await?;
                upload(&session, hash, &content).await?;
                Ok(Blob::written(hash, size, pin))
            }
        })
    }

    fn blob(&self, hash: ContentHash, offset: u64, length: usize) -> Answer<Option<Bytes>> {
        self.read(move |session| content(session, hash, offset, length))
    }
}

/// Uploads content, unless it is there.
async fn upload(session: &Session, hash: ContentHash, content: &Bytes) -> Result<(), ReadError> {
    let key = &hash.as_bytes()[..];
    // The lock waits for a transaction that is removing the blob.
    let sql = "SELECT 1 FROM blob WHERE hash = $1 AND codec = $2 FOR KEY SHARE";
    if session.query_opt(sql, &[&key, &IN_PARTS]).await?.is_some() {
        return Ok(());
    }
    let size = content.len() as i64;
    session
        .execute(
            "INSERT INTO blob (hash, size, codec) VALUES ($1, $2, 3) ON CONFLICT DO NOTHING",
            &[&key, &size],
        )
        .await?;
    for (number, part) in (0_i32..).zip(content.chunks(PART)) {
        let sql = "INSERT INTO blob_part (hash, part, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        session.execute(sql, &[&key, &number, &part]).await?;
    }
    session.execute("UPDATE blob SET codec = $2 WHERE hash = $1 AND codec = 3", &[&key, &IN_PARTS]).await?;
    Ok(())
}

async fn content(
    session: Session,
    hash: ContentHash,
    offset: u64,
    length: usize,
) -> Result<Option<Bytes>, ReadError> {
    let key = &hash.as_bytes()[..];
    let sql = "SELECT size, codec, body FROM blob WHERE hash = $1 AND codec <> 3 AND EXISTS (SELECT 1 FROM blob_ref WHERE hash = $1)";
    let Some(found) = session.query_opt(sql, &[&key]).await? else { return Ok(None) };
    let codec: i16 = get(&found, "codec")?;
    let slice = |whole: &Bytes| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        whole.slice(start..start.saturating_add(length).min(whole.len()))
    };
    if codec != IN_PARTS {
        let stored: Option<&[u8]> = get(&found, "body")?;
        return Ok(Some(slice(&rows::content(hash, codec, stored.unwrap_or_default())?)));
    }
    let size = get::<i64>(&found, "size")?.cast_unsigned();
    let end = offset.saturating_add(length as u64).min(size);
    if offset >= end {
        return Ok(Some(Bytes::new()));
    }
    let (first, last) = (offset / PART as u64, (end - 1) / PART as u64);
    let mut read = BytesMut::with_capacity((end - offset) as usize + 2 * PART);
    for part in first..=last {
        let sql = "SELECT body FROM blob_part WHERE hash = $1 AND part = $2";
        let Some(found) = session.query_opt(sql, &[&key, &(part as i32)]).await? else {
            return missing(&session, hash, part).await;
        };
        read.extend_from_slice(get(&found, "body")?);
    }
    let read = read.freeze();
    let from = (offset - first * PART as u64) as usize;
    let wanted = from..from + (end - offset) as usize;
    let is_whole = wanted == (0..size as usize);
    if read.len() < wanted.end || (is_whole && ContentHash::of(&read[wanted.clone()]) != hash) {
        return Err(Error::damaged(format_args!("content {hash} does not match its hash")).into());
    }
    Ok(Some(read.slice(wanted)))
}

/// A part that is not there is damage, unless the content was removed meanwhile.
async fn missing(session: &Session, hash: ContentHash, part: u64) -> Result<Option<Bytes>, ReadError> {
    match session.query_opt("SELECT 1 FROM blob WHERE hash = $1", &[&&hash.as_bytes()[..]]).await? {
        None => Ok(None),
        Some(_) => Err(Error::damaged(format_args!("part {part} of content {hash} is missing")).into()),
    }
}
