//! The histories of automatic triggers: fired, skipped, failed. The last hundred entries of each are stored.

use loom_engine::RunId;
use loom_expression::{Object, Timestamp, Value};
use loom_store::{KeyQuery, KeyWrite, Named};

use crate::keys::key_write;

/// The namespace of entries in the store; their keys are `workflow/trigger/slot`.
const NAMESPACE: &str = "trigger-history";

/// The number of entries per trigger; a new one replaces the oldest.
const ENTRIES: u64 = 100;

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    start: i128,
    end: i128,
    scheduled: Option<i128>,
    status: NoteStatus,
    code: Option<String>,
    message: Option<String>,
    runs: Vec<RunId>,
}

/// The status of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoteStatus {
    /// The trigger fired, or its subscription was established.
    Succeeded,
    /// There was nothing to fire for.
    Skipped,
    /// It failed.
    Failed,
}

impl Note {
    /// Something that happened at `at`, in nanoseconds since 1970.
    pub(crate) fn new(at: i128, status: NoteStatus) -> Note {
        Note { start: at, end: at, scheduled: None, status, code: None, message: None, runs: Vec::new() }
    }

    /// Sets the scheduled time.
    pub(crate) fn scheduled(mut self, at: i128) -> Note {
        self.scheduled = Some(at);
        self
    }

    /// Sets the end time.
    pub(crate) fn until(mut self, end: i128) -> Note {
        self.end = end;
        self
    }

    /// Sets the status code of the service.
    pub(crate) fn code(mut self, code: &str) -> Note {
        self.code = Some(code.to_owned());
        self
    }

    /// Marks it as failed, with the error.
    pub(crate) fn because(mut self, code: &str, message: &str) -> Note {
        self.status = NoteStatus::Failed;
        self.code = Some(code.to_owned());
        self.message = Some(message.to_owned());
        self
    }

    /// Marks it as fired.
    pub(crate) fn fired(mut self) -> Note {
        self.status = NoteStatus::Succeeded;
        self
    }

    /// Marks it as skipped, with the reason.
    pub(crate) fn skipped(mut self, message: &str) -> Note {
        self.status = NoteStatus::Skipped;
        self.message = Some(message.to_owned());
        self
    }

    /// Sets the runs that it started. Without any, it was skipped.
    pub(crate) fn with_runs(mut self, runs: impl Iterator<Item = RunId>) -> Note {
        self.runs = runs.collect();
        if self.runs.is_empty() {
            self.status = NoteStatus::Skipped;
        }
        self
    }
}

/// The write that stores an entry.
pub(crate) fn write(trigger: &str, number: u64, note: Note) -> KeyWrite {
    let text = |at: i128| Value::from(Timestamp::from_unix_nanos(at).to_string());
    let mut kept = Object::new();
    kept.insert("number", i64::try_from(number).unwrap_or(i64::MAX));
    kept.insert("startTime", text(note.start));
    kept.insert("endTime", text(note.end));
    if let Some(scheduled) = note.scheduled {
        kept.insert("scheduledTime", text(scheduled));
    }
    let status = match note.status {
        NoteStatus::Succeeded => "Succeeded",
        NoteStatus::Skipped => "Skipped",
        NoteStatus::Failed => "Failed",
    };
    kept.insert("status", status);
    kept.insert("fired", !note.runs.is_empty());
    if let Some(code) = note.code {
        kept.insert("code", code);
    }
    if let Some(message) = note.message {
        kept.insert("message", message);
    }
    // `splitOn` can start a hundred thousand runs; the list of runs has the rest.
    let shown = note.runs.iter().take(100).map(|run| Value::from(run.to_string()));
    kept.insert("runs", shown.collect::<Vec<Value>>());
    kept.insert("runsCount", note.runs.len() as i64);
    key_write(NAMESPACE, &format!("{trigger}/{:03}", number % ENTRIES), Some(kept))
}

/// The entries of a trigger, newest first.
pub(crate) async fn read(store: &dyn Named, trigger: &str) -> Result<Vec<Value>, loom_store::Error> {
    let query = KeyQuery {
        namespace: NAMESPACE.into(),
        prefix: format!("{trigger}/"),
        after: None,
        limit: ENTRIES as usize,
    };
    let page = store.keys(query).await?;
    let mut entries: Vec<Value> =
        page.values.iter().filter_map(|found| Value::parse_json(&found.value).ok()).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(number_of(entry)));
    Ok(entries)
}

/// The number of the next entry.
pub(crate) async fn next_number(store: &dyn Named, trigger: &str) -> Result<u64, loom_store::Error> {
    let entries = read(store, trigger).await?;
    Ok(entries.first().map_or(0, |newest| number_of(newest).unsigned_abs() + 1))
}

fn number_of(entry: &Value) -> i64 {
    entry.get("number").and_then(Value::as_i64).unwrap_or(0)
}
