//! What the calls of each service did in every minute of the last hour, and how its circuit changed.
//!
//! For operators who look at a service now. It is kept in memory, by the node that makes the calls, and limited in every
//! direction: services, minutes and changes. Figures over longer times are the business of the metrics.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use loom_engine::ports::Clock;
use loom_expression::{Object, Timestamp, Value};
use loom_resilience::{Event, Observer, Verdict};

use crate::{
    circuit_names::phase_name,
    tally::{Named, lock},
};

/// The minutes that are kept, and the changes of one circuit.
const MINUTES: usize = 60;
const CHANGES_MAX: usize = 100;

const MINUTE_MS: i64 = 60_000;

thread_local! {
    /// Whether this thread is changing a circuit for an operator.
    static BY_HAND: Cell<bool> = const { Cell::new(false) };
}

/// Changes a circuit for an operator: what the circuit reports meanwhile is not recorded, because the operator's change is.
/// Observers are called on the thread of the change.
pub(crate) fn by_hand<T>(change: impl FnOnce() -> T) -> T {
    BY_HAND.set(true);
    let result = change();
    BY_HAND.set(false);
    result
}

/// The histories of all services.
pub(crate) struct Histories {
    clock: Arc<dyn Clock>,
    services: Mutex<Named<Mutex<History>>>,
}

impl fmt::Debug for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histories(..)")
    }
}

/// The history of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Minutes with calls, refusals or waits, in their order. The number of a minute counts from 1970.
    minutes: VecDeque<(i64, Minute)>,
    /// In their order.
    changes: VecDeque<Change>,
}

/// What calls did in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// Attempts that ended, except those that were cancelled on our side.
    calls: u64,
    /// Those among them that count against the service.
    failures: u64,
    /// Attempts that were refused before they were made.
    refused: u64,
    /// Attempts that waited for a permit or a place and then proceeded.
    waits: u64,
    /// How long they waited.
    waited: Duration,
    /// How long all calls took.
    took: Duration,
}

impl Minute {
    fn add(&mut self, other: Minute) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.refused += other.refused;
        self.waits += other.waits;
        self.waited += other.waited;
        self.took += other.took;
    }

    fn show(self, object: &mut Object) {
        for (name, count) in [
            ("calls", self.calls),
            ("failures", self.failures),
            ("refused", self.refused),
            ("waits", self.waits),
            ("waitedMs", millis(self.waited)),
            ("tookMs", millis(self.took)),
        ] {
            object.insert(name, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A change of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// Why, in words.
    pub(crate) cause: Option<String>,
    /// How long an open circuit refuses all calls.
    pub(crate) open_for: Option<Duration>,
    /// The operator who made the change; none if the calls did.
    pub(crate) by: Option<Arc<str>>,
}

impl Change {
    fn document(&self) -> Object {
        let mut object = Object::new();
        object.insert("at", self.at.to_string());
        object.insert("from", self.from);
        object.insert("to", self.to);
        object.insert("cause", self.cause.as_deref());
        object.insert("openForMs", self.open_for.map(|time| millis(time) as i64));
        object.insert("by", self.by.as_deref());
        object
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn minute_of(at: Timestamp) -> i64 {
    at.unix_millis().div_euclid(MINUTE_MS)
}

impl History {
    /// Counts what happened in the minute `now`.
    fn count(&mut self, now: i64, what: Minute) {
        // A clock that was set back counts in the last minute that it has shown, so that the minutes stay in their order.
        match self.minutes.back_mut() {
            Some((last, minute)) if *last >= now => minute.add(what),
            _ => self.minutes.push_back((now, what)),
        }
        self.drop_old(now);
    }

    fn drop_old(&mut self, now: i64) {
        while self.minutes.front().is_some_and(|(minute, _)| *minute <= now - MINUTES as i64) {
            self.minutes.pop_front();
        }
    }

    fn change(&mut self, change: Change) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// The sum of the minutes.
    fn total(&self) -> Minute {
        let mut total = Minute::default();
        for (_, minute) in &self.minutes {
            total.add(*minute);
        }
        total
    }
}

impl Histories {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Histories {
        Histories { clock, services: Mutex::default() }
    }

    /// Records a change of a circuit.
    pub(crate) fn changed(&self, service: &str, change: Change) {
        let history = lock(&self.services).of(service);
        lock(&history).change(change);
    }

    fn count(&self, service: &str, what: Minute) {
        let history = lock(&self.services).of(service);
        lock(&history).count(minute_of(self.clock.now()), what);
    }

    /// The history of a service, without the minutes that are over for an hour; empty if it has none.
    fn of(&self, service: &str) -> History {
        let known = lock(&self.services).0.get(service).cloned();
        let mut history = known.map(|known| lock(&known).clone()).unwrap_or_default();
        history.drop_old(minute_of(self.clock.now()));
        history
    }

    /// What the calls of a service did in the last hour, as the API shows it.
    pub(crate) fn last_hour(&self, service: &str) -> Object {
        let mut object = Object::new();
        self.of(service).total().show(&mut object);
        object
    }

    /// When the circuit of a service changed last, as far as this process has seen it.
    pub(crate) fn since(&self, service: &str) -> Option<Timestamp> {
        self.of(service).changes.back().map(|change| change.at)
    }

    /// The history of a service, as the API shows it: all minutes of the last hour, also quiet ones, and the changes, newest first.
    pub(crate) fn document(&self, service: &str) -> Object {
        let history = self.of(service);
        let now = minute_of(self.clock.now());
        let mut known = history.minutes.iter().peekable();
        let minutes = (now - (MINUTES as i64 - 1)..=now).map(|number| {
            let minute = known.next_if(|(minute, _)| *minute == number).map(|(_, minute)| *minute);
            let mut shown = Object::new();
            shown.insert("minute", Timestamp::from_unix_millis(number * MINUTE_MS).to_string());
            minute.unwrap_or_default().show(&mut shown);
            Value::from(shown)
        });
        let mut object = Object::new();
        object.insert("name", service);
        object.insert("minutes", minutes.collect::<Vec<_>>());
        let changes = history.changes.iter().rev().map(|change| Value::from(change.document()));
        object.insert("changes", changes.collect::<Vec<_>>());
        object
    }
}

impl Observer for Histories {
    fn on_event(&self, event: &Event<'_>) {
        match *event {
            Event::Attempt { service, verdict, took, .. } if verdict != Verdict::Cancelled => {
                let failures = u64::from(verdict.is_failure());
                self.count(service, Minute { calls: 1, failures, took, ..Minute::default() });
            }
            Event::Refused { service, enforced: true, .. } => {
                self.count(service, Minute { refused: 1, ..Minute::default() });
            }
            Event::Waited { service, waited, .. } => {
                self.count(service, Minute { waits: 1, waited, ..Minute::default() });
            }
            Event::StateChanged { service, from, to, cause, open_for, .. } if !BY_HAND.get() => {
                let (from, to) = (phase_name(from), phase_name(to));
                let (at, cause) = (self.clock.now(), cause.map(|cause| cause.to_string()));
                self.changed(service, Change { at, from, to, cause, open_for, by: None });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use loom_resilience::{CircuitState, Instant, TripCause, WaitFor};

    use super::*;

    /// A clock that the test sets, in milliseconds since 1970.
    struct Set(AtomicI64);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn histories() -> (Arc<Set>, Histories) {
        let clock = Arc::new(Set(AtomicI64::new(100 * MINUTE_MS)));
        (Arc::clone(&clock), Histories::new(clock))
    }

    fn attempt(verdict: Verdict) -> Event<'static> {
        Event::Attempt {
            service: "billing",
            number: 1,
            verdict,
            took: Duration::from_millis(20),
            timed_out: false,
        }
    }

    fn calls(histories: &Histories) -> Vec<i64> {
        let document = Value::from(histories.document("billing"));
        let minutes = document.get("minutes").and_then(Value::as_array).expect("minutes").clone();
        minutes.iter().map(|minute| minute.get("calls").and_then(Value::as_i64).expect("calls")).collect()
    }

    #[test]
    fn calls_are_counted_in_their_minute_for_an_hour() {
        let (clock, histories) = histories();
        histories.on_event(&attempt(Verdict::Ok));
        histories.on_event(&attempt(Verdict::Rejected));
        histories.on_event(&attempt(Verdict::Transient));
        histories.on_event(&attempt(Verdict::Cancelled));
        clock.0.fetch_add(MINUTE_MS, Ordering::Relaxed);
        histories.on_event(&attempt(Verdict::NotSent));
        histories.on_event(&Event::Waited {
            service: "billing",
            on: WaitFor::Bulkhead,
            waited: Duration::from_secs(2),
        });
        let shown = calls(&histories);
        assert_eq!((shown.len(), &shown[57..]), (MINUTES, &[0, 3, 1][..]));
        let total = Value::from(histories.last_hour("billing"));
        let of = |name: &str| total.get(name).and_then(Value::as_i64).expect("a count");
        assert_eq!((of("calls"), of("failures"), of("tookMs")), (4, 2, 80));
        assert_eq!((of("waits"), of("waitedMs"), of("refused")), (1, 2_000, 0));
        // The first minute is over for an hour, then the second.
        clock.0.fetch_add(59 * MINUTE_MS, Ordering::Relaxed);
        assert_eq!((calls(&histories).iter().sum::<i64>(), calls(&histories)[0]), (1, 1));
        clock.0.fetch_add(MINUTE_MS, Ordering::Relaxed);
        assert_eq!(calls(&histories).iter().sum::<i64>(), 0);
        assert_eq!(calls(&histories).len(), MINUTES);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        let (clock, histories) = histories();
        histories.on_event(&attempt(Verdict::Ok));
        clock.0.fetch_sub(MINUTE_MS / 2, Ordering::Relaxed);
        histories.on_event(&attempt(Verdict::Ok));
        clock.0.fetch_add(MINUTE_MS / 2, Ordering::Relaxed);
        assert_eq!(calls(&histories)[59], 2);
    }

    #[test]
    fn the_latest_changes_of_a_circuit_are_kept() {
        let (clock, histories) = histories();
        let cause = Some(TripCause::Consecutive { failures: 5 });
        let at = Instant::from_nanos(0);
        for _ in 0..CHANGES_MAX + 10 {
            clock.0.fetch_add(1, Ordering::Relaxed);
            histories.on_event(&Event::StateChanged {
                service: "billing",
                from: CircuitState::Closed,
                to: CircuitState::Open,
                cause,
                open_for: Some(Duration::from_secs(30)),
                at,
            });
        }
        let document = Value::from(histories.document("billing"));
        let changes = document.get("changes").and_then(Value::as_array).expect("changes").clone();
        assert_eq!(changes.len(), CHANGES_MAX);
        let text = |name: &str| changes[0].get(name).and_then(Value::as_str).expect("a text").to_owned();
        assert_eq!(
            (text("from"), text("to"), text("cause")),
            ("Closed".into(), "Open".into(), "5 failures in a row".into())
        );
        assert_eq!(text("at"), clock.now().to_string(), "the newest comes first");
        assert_eq!(changes[0].get("openForMs").and_then(Value::as_i64), Some(30_000));
        assert_eq!(histories.since("billing"), Some(clock.now()));
    }
}
