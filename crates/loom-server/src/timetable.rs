//! Recurrence and SlidingWindow triggers.
//!
//! The progress of a trigger is stored in the transaction that starts its run, so no occurrence fires twice, and one that is
//! due fires late rather than never. Recurrences that were missed while the server was down are skipped, except for the last
//! one if it was missed during a short restart. A SlidingWindow processes every window, in order.
//!
//! A clock that was ahead and comes back leaves progress in the future. The trigger then continues by the clock as
//! it is: what it did at times that have not come yet is ignored, except for the one occurrence that is due next.

use loom_definition::trigger::TriggerKind;
use loom_expression::{Object, Timestamp, Value};
use loom_store::Named;

use crate::{
    keys::{moment, number},
    recurrence::Timetable,
    trigger_history::{Note, NoteStatus},
    trigger_task::{AGAIN, CLOCK_STEP_MAX, Fired, NAMESPACE, TriggerTask},
};

/// The maximum delay, in nanoseconds, with which a missed occurrence is still fired: one minute, the time of a restart.
const LATE_MAX: i128 = 60_000_000_000;

/// What names of firings of a Recurrence begin with.
const OCCURRENCE: &str = "occurrence";

/// The stored progress of a trigger; times are in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The time of deployment.
    since: i128,
    /// The time from which occurrences are counted.
    anchor: i128,
    /// The last occurrence that fired, or the end of the last window.
    last: Option<i128>,
    fired: i64,
    /// How often the clock was found to have been ahead. Part of the names of firings, because the same times come again.
    turn: i64,
}

/// Fires each occurrence when it is due; returns when there are no more.
pub(crate) async fn keep(task: &TriggerTask) -> Result<(), loom_store::Error> {
    let Some(timetable) = task.timetable().await? else { return Ok(()) };
    let mut progress = Progress::load(task, &timetable).await?;
    while timetable.count.is_none_or(|count| progress.fired < i64::from(count)) {
        progress = progress.by_the_clock(&timetable, task.now());
        let next = match &task.trigger().kind {
            TriggerKind::SlidingWindow { delay } => {
                let delay = delay.map_or(0, |delay| delay.approximate().as_nanos() as i128);
                fire_window(task, &timetable, progress, delay).await?
            }
            _ => fire_occurrence(task, &timetable, progress).await?,
        };
        match next {
            Some(next) => progress = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Waits for the next window to close and fires. None if there are no more.
async fn fire_window(
    task: &TriggerTask,
    timetable: &Timetable,
    progress: Progress,
    delay: i128,
) -> Result<Option<Progress>, loom_store::Error> {
    let opens = progress.last.unwrap_or(progress.anchor);
    let Some(closes) = timetable.next(moment(opens), moment(progress.anchor)) else { return Ok(None) };
    let closes = closes.as_nanosecond();
    if !task.sleep_until(closes + delay).await {
        return Ok(Some(progress));
    }
    let text = |nanos| Value::from(Timestamp::from_unix_nanos(nanos).to_string());
    let window: Object =
        [("windowStartTime", text(opens)), ("windowEndTime", text(closes))].into_iter().collect();
    let outputs: Object = [("body", window)].into_iter().collect();
    let next = progress.after(closes);
    loop {
        let note = Note::new(task.now(), NoteStatus::Succeeded).scheduled(closes + delay);
        let name = Some(progress.name("window", &task.key(), closes));
        match task.fire(outputs.clone().into(), name, None, next.state(), note, Vec::new()).await? {
            Fired::Runs | Fired::NotMet | Fired::Failed => return Ok(Some(next)),
            // Every window must be processed, so this one waits for room.
            Fired::NoRoom => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Waits for the next occurrence and fires. None if there are no more.
async fn fire_occurrence(
    task: &TriggerTask,
    timetable: &Timetable,
    progress: Progress,
) -> Result<Option<Progress>, loom_store::Error> {
    let anchor = moment(progress.anchor);
    let now = task.now();
    let due = if progress.last.is_none() && timetable.begins_at_once() {
        Some(anchor)
    } else {
        // Occurrences before the deployment, or while the trigger was disabled, are never fired.
        let (workflow, trigger) = (&task.deployment.workflow.name, &task.trigger().name);
        let enabled = task.host.switches.enabled_at(workflow, trigger).unwrap_or(i128::MIN);
        let from = progress.last.unwrap_or(progress.since).max(now - LATE_MAX).max(enabled.min(now));
        timetable
            .last_within(moment(from), moment(now), anchor)
            .or_else(|| timetable.next(moment(now.max(from)), anchor))
    };
    let Some(due) = due.map(jiff::Timestamp::as_nanosecond) else { return Ok(None) };
    if !task.sleep_until(due).await {
        return Ok(Some(progress));
    }
    let next = progress.after(due);
    let note = Note::new(task.now(), NoteStatus::Succeeded).scheduled(due);
    let name = Some(progress.occurrence(&task.key(), due));
    match task.fire(Object::new().into(), name, None, next.state(), note.clone(), Vec::new()).await? {
        Fired::Runs | Fired::NotMet | Fired::Failed => Ok(Some(next)),
        Fired::NoRoom => {
            // A recurrence without room is skipped.
            let next = Progress { fired: progress.fired, ..next };
            let note = note.skipped("The limit of concurrent runs is reached.");
            task.commit(vec![task.state(next.state()), task.note(note)]).await?;
            Ok(Some(next))
        }
    }
}

/// The progress of the trigger with this key, in any deployment.
pub(crate) async fn last_state(store: &dyn Named, key: &str) -> Result<Option<Progress>, loom_store::Error> {
    let kept = store.key(NAMESPACE, key).await?;
    Ok(kept.and_then(|kept| Progress::read(&Value::parse_json(&kept.value).ok()?)))
}

impl Progress {
    /// The progress of a new trigger.
    pub(crate) fn begun(timetable: &Timetable, now: i128) -> Progress {
        let anchor = timetable.start.map_or(now, jiff::Timestamp::as_nanosecond);
        Progress { since: now, anchor, last: None, fired: 0, turn: 0 }
    }

    /// The occurrences after `now`, at most `most`, in nanoseconds since 1970.
    pub(crate) fn upcoming(self, timetable: &Timetable, now: i128, most: usize) -> Vec<i128> {
        let left = timetable.count.map_or(i64::MAX, |count| i64::from(count) - self.fired).max(0);
        let mut found = Vec::new();
        let mut after = self.last.unwrap_or(self.since).max(now);
        while found.len() < most && (found.len() as i64) < left {
            let Some(next) = timetable.next(moment(after), moment(self.anchor)) else { break };
            after = next.as_nanosecond();
            found.push(after);
        }
        found
    }

    fn read(kept: &Value) -> Option<Progress> {
        Some(Progress {
            since: number(kept, "since")?,
            anchor: number(kept, "anchor")?,
            last: number(kept, "last"),
            fired: kept.get("fired").and_then(Value::as_i64).unwrap_or(0),
            turn: turn(kept),
        })
    }

    /// The time from which occurrences are counted, in nanoseconds since 1970.
    pub(crate) fn anchor(self) -> i128 {
        self.anchor
    }

    /// The name of the firing of an occurrence.
    pub(crate) fn occurrence(self, key: &str, due: i128) -> String {
        self.name(OCCURRENCE, key, due)
    }

    /// Loads the stored progress, or stores the initial one.
    async fn load(task: &TriggerTask, timetable: &Timetable) -> Result<Progress, loom_store::Error> {
        if let Some(progress) = task.load().await?.as_ref().and_then(Progress::read) {
            return Ok(progress);
        }
        let since = task.now();
        // Another deployment's times may come again, too.
        let before = task.load_any().await?.unwrap_or_default();
        let ahead = number(&before, "last").is_some_and(|last| last > since + CLOCK_STEP_MAX);
        let begun = Progress::begun(timetable, since);
        let progress = Progress { turn: turn(&before) + i64::from(ahead), ..begun };
        task.commit(vec![task.state(progress.state())]).await?;
        Ok(progress)
    }

    fn after(self, last: i128) -> Progress {
        Progress { last: Some(last), fired: self.fired + 1, ..self }
    }

    /// The progress as it counts at `now`: unchanged, unless the clock was ahead when it was made.
    fn by_the_clock(self, timetable: &Timetable, now: i128) -> Progress {
        let present = now + CLOCK_STEP_MAX;
        let mut progress = Progress { since: self.since.min(now), ..self };
        if timetable.start.is_none() && progress.anchor > present {
            progress.anchor = now;
        }
        let Some(last) = progress.last.filter(|last| *last > present) else { return progress };
        let anchor = moment(progress.anchor);
        let next = timetable.next(moment(now), anchor).map(jiff::Timestamp::as_nanosecond);
        // The clock came back by less than the time between two occurrences, and the next one has fired already.
        if next == Some(last) {
            return progress;
        }
        // A window begins where one ends.
        let bound = timetable.last_until(moment(now), anchor).map(jiff::Timestamp::as_nanosecond);
        progress.last = Some(bound.unwrap_or(now.min(progress.anchor)));
        progress.turn += 1;
        progress
    }

    /// The name of a firing, which starts its runs at most once.
    fn name(&self, kind: &str, key: &str, at: i128) -> String {
        match self.turn {
            0 => format!("{kind}:{key}:{at}"),
            turn => format!("{kind}:{key}:{at}:{turn}"),
        }
    }

    fn state(self) -> Object {
        let mut kept = Object::new();
        kept.insert("since", self.since.to_string());
        kept.insert("anchor", self.anchor.to_string());
        kept.insert("last", self.last.map(|last| last.to_string()));
        kept.insert("fired", self.fired);
        kept.insert("turn", self.turn);
        kept
    }
}

fn turn(kept: &Value) -> i64 {
    kept.get("turn").and_then(Value::as_i64).unwrap_or(0)
}
