//! The feed of changes: one row for each statement that wrote something.
//!
//! The statements of one writer take effect one after the other, so its numbers are positions. A cursor has, for each writer, the
//! number of a statement and how many of its changes were read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use loom_store::{Answer, Change, ChangePage, Changes, Cursor, Error, InboxId, RunId};
use tokio_postgres::Row;

use crate::{
    connect::Session,
    read::limit,
    rows::{self, get},
    store::{PostgresStore, ReadError},
    text,
};

/// How many bits of a position count the changes of one statement.
const COUNT_BITS: u32 = 20;

/// The position after all changes of the statement with this number.
pub(crate) const fn after(number: i64) -> i64 {
    (number + 1) << COUNT_BITS
}

/// A cursor in parts: how many writers had been removed, and the position in each of the others.
#[derive(Debug, Default)]
struct Positions {
    removed: u64,
    writers: BTreeMap<i64, i64>,
}

impl Positions {
    /// `None` for a cursor of another backend.
    fn read(cursor: &Cursor) -> Option<Self> {
        let (removed, rest) = cursor.positions().split_first()?;
        if rest.len() % 2 != 0 {
            return None;
        }
        let pairs = rest.chunks(2).map(|pair| (pair[0].cast_signed(), pair[1].cast_signed()));
        Some(Self { removed: *removed, writers: pairs.collect() })
    }

    fn cursor(&self) -> Cursor {
        let pairs = self
            .writers
            .iter()
            .flat_map(|(writer, position)| [writer.cast_unsigned(), position.cast_unsigned()]);
        Cursor::new(std::iter::once(self.removed).chain(pairs).collect::<Vec<u64>>())
    }
}

impl Changes for PostgresStore {
    fn changes(&self, after: Option<Cursor>, limit: usize) -> Answer<ChangePage> {
        self.read(move |session| page(session, after.clone(), limit))
    }

    fn latest(&self) -> Answer<Cursor> {
        self.read(latest)
    }
}

/// Everything is read by one statement, so that it is of one moment.
async fn page(session: Session, cursor: Option<Cursor>, most: usize) -> Result<ChangePage, ReadError> {
    let known = cursor.as_ref().map(Positions::read);
    let is_strange = matches!(known, Some(None));
    let known = known.flatten();
    let is_new = known.is_none();
    let known = known.unwrap_or_default();
    let writers: Vec<i64> = known.writers.keys().copied().collect();
    let positions: Vec<i64> = known.writers.values().copied().collect();
    let found = session
        .query(
            "SELECT w.id, w.forgotten, m.number AS removed, coalesce(k.position, 0) AS position,
                    c.number, c.runs, c.messages, c.recipients, c.namespaces, c.keys
             FROM meta m LEFT JOIN writer w ON true
             LEFT JOIN unnest($1::int8[], $2::int8[]) AS k(writer, position) ON k.writer = w.id
             LEFT JOIN LATERAL (SELECT * FROM change WHERE change.writer = w.id AND change.number >= coalesce(k.position, 0) >> 20
                                ORDER BY change.number LIMIT $3) AS c ON true
             WHERE m.name = 'writers_removed' ORDER BY w.id, c.number",
            &[&writers, &positions, &limit(most)],
        )
        .await?;
    let mut page = Page { most: most.max(1), ..Page::default() };
    for row in &found {
        page.next.removed = get::<i64>(row, "removed")?.cast_unsigned();
        let Some(writer) = get::<Option<i64>>(row, "id")? else { continue };
        page.read(writer, row)?;
    }
    let is_incomplete = is_strange || page.is_incomplete || (!is_new && page.next.removed != known.removed);
    // What is incomplete from the beginning is what was removed before the reader existed.
    Ok(ChangePage { changes: page.changes, next: page.next.cursor(), has_more: page.has_more, is_incomplete })
}

#[derive(Default)]
struct Page {
    most: usize,
    changes: Vec<Change>,
    runs: BTreeSet<RunId>,
    next: Positions,
    has_more: bool,
    is_incomplete: bool,
    /// Of the writer that is being read: how many changes of each kind were read, and statements.
    read: [usize; 4],
    /// Whether it has more changes than the page may have.
    is_full: bool,
}

impl Page {
    fn read(&mut self, writer: i64, row: &Row) -> Result<(), Error> {
        let position: i64 = get(row, "position")?;
        let forgotten: i64 = get(row, "forgotten")?;
        let is_first = !self.next.writers.contains_key(&writer);
        if is_first {
            self.is_incomplete |= position < forgotten;
            self.next.writers.insert(writer, position.max(forgotten));
            (self.read, self.is_full) = ([0; 4], false);
        }
        let Some(number) = get::<Option<i64>>(row, "number")? else { return Ok(()) };
        let reached = self.next.writers.get(&writer).copied().unwrap_or(position);
        if self.is_full || reached >= after(number) {
            return Ok(());
        }
        self.read[3] += 1;
        let skip = if reached >> COUNT_BITS == number { reached & ((1 << COUNT_BITS) - 1) } else { 0 };
        let changes = changes_of(row)?;
        for (place, (kind, change)) in changes.iter().enumerate().skip(skip as usize) {
            if self.read[*kind] >= self.most {
                (self.has_more, self.is_full) = (true, true);
                self.next.writers.insert(writer, (number << COUNT_BITS) | place as i64);
                return Ok(());
            }
            self.read[*kind] += 1;
            match change {
                Change::Run(run) if !self.runs.insert(*run) => {}
                change => self.changes.push(change.clone()),
            }
        }
        self.next.writers.insert(writer, after(number));
        self.has_more |= self.read[3] >= self.most;
        Ok(())
    }
}

/// The changes of a statement, each with the number of its kind.
fn changes_of(row: &Row) -> Result<Vec<(usize, Change)>, Error> {
    let mut changes = Vec::new();
    for run in get::<Vec<i64>>(row, "runs")? {
        changes.push((0, Change::Run(rows::run_id(run)?)));
    }
    let recipients: Vec<i64> = get(row, "recipients")?;
    for (id, run) in get::<Vec<i64>>(row, "messages")?.into_iter().zip(recipients) {
        let run = if run < 0 { None } else { Some(rows::run_id(run)?) };
        changes.push((1, Change::Message { id: InboxId(id.cast_unsigned()), run }));
    }
    let namespaces: Vec<&str> = get(row, "namespaces")?;
    for (namespace, key) in namespaces.into_iter().zip(get::<Vec<&str>>(row, "keys")?) {
        let name = |stored: &str| {
            let name =
                text::read(stored).ok_or_else(|| Error::damaged("the feed has a name that is not valid"));
            name.map(Arc::<str>::from)
        };
        changes.push((2, Change::Value { namespace: name(namespace)?, key: name(key)? }));
    }
    Ok(changes)
}

async fn latest(session: Session) -> Result<Cursor, ReadError> {
    let found = session
        .query(
            "SELECT w.id, m.number AS removed, greatest(w.forgotten, coalesce((SELECT max(c.number) + 1 FROM change c WHERE c.writer = w.id), 0) << 20) AS position
             FROM meta m LEFT JOIN writer w ON true WHERE m.name = 'writers_removed' ORDER BY w.id",
            &[],
        )
        .await?;
    let mut positions = Positions::default();
    for row in &found {
        positions.removed = get::<i64>(row, "removed")?.cast_unsigned();
        if let Some(writer) = get::<Option<i64>>(row, "id")? {
            positions.writers.insert(writer, get(row, "position")?);
        }
    }
    Ok(positions.cursor())
}
