//! What the store has of a parked run besides its row: the timer that wakes it, and what it owns meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use loom_definition::ActionIdx;
use loom_expression::{Array, Object, Value};
use loom_store::{KeyWrite, Timer, TimerKey, UnixMillis};

use crate::event::{OpeningId, Place, RunId};

/// Namespace of the named values that say what parked runs own.
pub(crate) const NAMESPACE: &str = "engine/parked";

/// The kind of timer that wakes a parked run. A run has one, with number 0.
pub(crate) const KIND: u16 = 1;

/// The timer that wakes a run.
pub(crate) fn alarm(run: RunId, due: UnixMillis) -> Timer {
    Timer { key: alarm_key(run), due, kind: KIND }
}

/// Identifies the timer that wakes a run.
pub(crate) const fn alarm_key(run: RunId) -> TimerKey {
    TimerKey { run, number: 0 }
}

/// What a parked run owns, as it is stored: `{"trigger", "waits", "admitted": [[frame, action, due?]]}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The trigger whose gate it passed, or waits at.
    pub(crate) trigger: Option<Arc<str>>,
    /// Whether it waits there.
    pub(crate) waits: bool,
    /// Actions that were admitted to a service, and the end of the time that each may take.
    pub(crate) admitted: Vec<(Place, Option<UnixMillis>)>,
}

impl Holding {
    /// Reads what [`Holding::write`] wrote; none if it is not that.
    pub(crate) fn read(stored: &[u8]) -> Option<Holding> {
        let stored = Value::parse_json(stored).ok()?;
        let admitted = |entry: &Value| {
            let entry = entry.as_array()?;
            let number = |place: usize| entry.get(place).and_then(Value::as_i64);
            let index = |place| u32::try_from(number(place)?).ok();
            let place = Place { opening: OpeningId(index(0)?), action: ActionIdx(index(1)?) };
            Some((place, number(2).map(UnixMillis)))
        };
        Some(Holding {
            trigger: stored.get("trigger").and_then(Value::as_str).map(Arc::from),
            waits: stored.get("waits").and_then(Value::as_bool).unwrap_or_default(),
            admitted: stored.get("admitted")?.as_array()?.iter().filter_map(admitted).collect(),
        })
    }

    /// The named value that says what a run owns.
    pub(crate) fn write(&self, run: RunId) -> KeyWrite {
        let mut stored = Object::new();
        stored.insert("trigger", self.trigger.clone().map_or(Value::NULL, Value::from));
        stored.insert("waits", self.waits);
        let admitted = self.admitted.iter().map(|(place, due)| {
            let numbers =
                [Some(i64::from(place.opening.0)), Some(i64::from(place.action.0)), due.map(|due| due.0)];
            Value::from(numbers.into_iter().flatten().map(Value::from).collect::<Array>())
        });
        stored.insert("admitted", admitted.collect::<Array>());
        key_write(run, Some(Bytes::from(Value::from(stored).to_json_text())))
    }
}

/// Deletes the named value that says what a run owns.
pub(crate) fn owns_nothing(run: RunId) -> KeyWrite {
    key_write(run, None)
}

fn key_write(run: RunId, value: Option<Bytes>) -> KeyWrite {
    let (namespace, key) = (Arc::from(NAMESPACE), Arc::from(run.to_string()));
    KeyWrite { namespace, key, value, ..KeyWrite::default() }
}
