//! Polling triggers: Http, and ApiConnection with a recurrence.
//!
//! | response | what follows |
//! |---|---|
//! | `200` | a run; the next poll is at the next recurrence, or immediately after `Retry-After: 0` |
//! | `202` | no run; the next poll is no sooner than `Retry-After` |
//! | anything else | a failure in the trigger's history; the next poll is at the next recurrence |
//!
//! A `Location` in either of the first two is polled next time. Conditions that mention the status alone decide whether a run
//! starts. The next URL and time are stored with the run that a response starts. Waits between the attempts of one poll are
//! stored, too: a process that starts during such a wait continues it, and polls no sooner than the service and the policy
//! allow.

use loom_engine::{Permit, ports::TriggerPurpose};
use loom_expression::{Object, Timestamp, Value};

use crate::{
    keys::{moment, number},
    recurrence::Timetable,
    trigger_history::{Note, NoteStatus},
    trigger_task::{AGAIN, Answered, CLOCK_STEP_MAX, Fired, TriggerTask},
};

/// The last firing is stored for `trigger()` in the inputs, without its body if that is longer than this.
const PREVIOUS_BYTES_MAX: usize = 64 << 10;

/// The stored progress of a polling trigger.
#[derive(Clone, Debug)]
struct Progress {
    /// The time from which recurrences are counted, in nanoseconds since 1970.
    anchor: i128,
    /// The time of the next poll.
    due: i128,
    /// When that was decided.
    planned: i128,
    /// The URL of the next poll; None for the one in the inputs.
    address: Option<String>,
    /// The value of `trigger()` in the inputs.
    previous: Option<Value>,
    /// The number of completed polls, successful or not.
    asked: i64,
    /// The next attempt of the next poll, counted from 1.
    attempt: u32,
    /// A response whose runs may not all have started.
    pending: Option<Value>,
}

/// Polls until the recurrence ends.
pub(crate) async fn keep(task: &TriggerTask) -> Result<(), loom_store::Error> {
    let Some(timetable) = task.timetable().await? else { return Ok(()) };
    let mut progress = Progress::load(task, &timetable).await?;
    if let Some(pending) = progress.pending.take() {
        fire(task, pending, None, &progress, Note::new(task.now(), NoteStatus::Succeeded)).await?;
    }
    loop {
        if timetable.count.is_some_and(|count| progress.asked >= i64::from(count))
            || timetable.end.is_some_and(|end| progress.due > end.as_nanosecond())
        {
            return Ok(());
        }
        progress.follow_the_clock(&timetable, task.now());
        if task.sleep_until(progress.due).await {
            progress = ask(task, &timetable, progress).await?;
        }
    }
}

/// Polls once, and fires if the response requires it.
async fn ask(
    task: &TriggerTask,
    timetable: &Timetable,
    mut progress: Progress,
) -> Result<Progress, loom_store::Error> {
    let start = task.now();
    let note = Note::new(start, NoteStatus::Skipped).scheduled(progress.due);
    let by_recurrence = |now: i128, anchor: i128| {
        let next = timetable.next(moment(now), moment(anchor));
        next.map_or(i128::MAX, jiff::Timestamp::as_nanosecond)
    };
    // A trigger that cannot start a run now does not poll: the response would be lost.
    let Some(permit) = task.reserve() else {
        progress.next_question(start, by_recurrence(start, progress.anchor));
        let note = note.skipped("The limit of concurrent runs is reached.");
        return keep_progress(task, progress, note).await;
    };
    let view = task.view(progress.previous.as_ref(), None);
    let inputs = match task.host.engine.trigger_inputs(view, None).await {
        Ok(inputs) => inputs.unwrap_or_default(),
        Err(error) => {
            progress.next_question(start, by_recurrence(start, progress.anchor));
            task.report(Some((&error.code, &error.message)));
            return keep_progress(task, progress, note.because(&error.code, &error.message)).await;
        }
    };
    let question = format!("{}/{}/{}", task.key(), progress.anchor, progress.asked);
    let mut call = task.call(TriggerPurpose::Poll, inputs, &question);
    call.address = progress.address.as_deref().map(Into::into);
    let answered = task.attempt(&call, progress.attempt).await;
    let now = task.now();
    if let Some(wait) = answered.retry {
        progress.attempt += 1;
        progress.planned = now;
        progress.due = now.saturating_add(i128::try_from(wait.as_nanos()).unwrap_or(i128::MAX));
        task.commit(vec![task.state(progress.state())]).await?;
        return Ok(progress);
    }
    let note = note.until(now).code(&answered.outcome.code);
    let status = answered.status();
    if let Some(200 | 202) = status
        && let Some(location) = answered.location()
    {
        progress.address = Some(location.to_owned());
    }
    progress.next_question(now, next_time(timetable, &answered, now, by_recurrence(now, progress.anchor)));
    let asks_conditions = status.is_some() && conditions_ask_for_the_status(task);
    match (&answered.outcome.outputs, status) {
        (Some(outputs), Some(status)) if status == 200 || asks_conditions => {
            task.report(None);
            progress.previous = Some(previous(task, outputs, now));
            fire(task, outputs.clone(), Some(permit), &progress, note).await?;
            Ok(progress)
        }
        (_, Some(202)) => {
            task.report(None);
            keep_progress(task, progress, note).await
        }
        _ => {
            let (code, message) = answered.error();
            task.report(Some((&code, &message)));
            keep_progress(task, progress, note.because(&code, &message)).await
        }
    }
}

/// Starts the runs of a response. With `splitOn` there may be too many for one commit; so the response is stored first, and fired
/// again after a crash under the same name, which starts only the missing runs.
async fn fire(
    task: &TriggerTask,
    outputs: Value,
    permit: Option<Permit>,
    progress: &Progress,
    note: Note,
) -> Result<(), loom_store::Error> {
    let name = format!("poll:{}:{}:{}", task.key(), progress.anchor, progress.asked);
    if task.trigger().split_on.is_some() {
        let pending = Progress { pending: Some(outputs.clone()), ..progress.clone() };
        task.commit(vec![task.state(pending.state())]).await?;
    }
    let mut permit = permit;
    loop {
        let (outputs, name, note) = (outputs.clone(), Some(name.clone()), note.clone().fired());
        match task.fire(outputs, name, permit.take(), progress.state(), note, Vec::new()).await? {
            Fired::Runs | Fired::NotMet | Fired::Failed => return Ok(()),
            // The service may not give this response again, so it is held until there is room.
            Fired::NoRoom => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn keep_progress(
    task: &TriggerTask,
    progress: Progress,
    note: Note,
) -> Result<Progress, loom_store::Error> {
    task.commit(vec![task.state(progress.state()), task.note(note)]).await?;
    Ok(progress)
}

/// When to ask again, after an answer at `now`.
fn next_time(timetable: &Timetable, answered: &Answered, now: i128, by_recurrence: i128) -> i128 {
    let (status, after) = (answered.status(), answered.after);
    let Some(after) = after.filter(|_| matches!(status, Some(200 | 202))) else { return by_recurrence };
    let asked_for = now.saturating_add(i128::try_from(after.as_nanos()).unwrap_or(i128::MAX));
    if (status == Some(200) && after.is_zero()) || timetable.is_under_a_minute() {
        return asked_for;
    }
    asked_for.max(by_recurrence)
}

/// Whether a condition mentions the status: then it decides, in the place of the rule that `200` fires.
fn conditions_ask_for_the_status(task: &TriggerTask) -> bool {
    task.trigger().conditions.iter().any(|condition| {
        let text = condition.source().to_lowercase();
        let text: String = text.chars().filter(|c| !matches!(c, ' ' | '?')).collect();
        ["statuscode", ").code", ")['code']"].iter().any(|part| text.contains(part))
    })
}

/// The value of `trigger()` in the next poll.
fn previous(task: &TriggerTask, outputs: &Value, now: i128) -> Value {
    let mut outputs = outputs.as_object().cloned().unwrap_or_default();
    let body = outputs.get("body").map_or(0, |body| body.to_json_text().len());
    if body > PREVIOUS_BYTES_MAX {
        outputs.remove("body");
    }
    record(task, outputs, now)
}

/// A record of a trigger, in the form of `trigger()`.
pub(crate) fn record(task: &TriggerTask, outputs: Object, now: i128) -> Value {
    let at = Value::from(Timestamp::from_unix_nanos(now).to_string());
    let mut record = Object::new();
    record.insert("name", std::sync::Arc::clone(&task.trigger().name));
    if let Some(code) = outputs.get("statusCode") {
        record.insert("code", code.clone());
    }
    record.insert("outputs", outputs);
    record.insert("startTime", at.clone());
    record.insert("endTime", at);
    record.insert("status", "Succeeded");
    secured(task, record.into())
}

/// Labels the record as secret if the definition secures the trigger's outputs.
fn secured(task: &TriggerTask, record: Value) -> Value {
    record.secret_if(task.trigger().secure.outputs)
}

impl Progress {
    async fn load(task: &TriggerTask, timetable: &Timetable) -> Result<Progress, loom_store::Error> {
        if let Some(kept) = task.load().await?
            && let (Some(anchor), Some(due)) = (number(&kept, "anchor"), number(&kept, "due"))
        {
            let present = |name: &str| kept.get(name).filter(|value| !value.is_null()).cloned();
            return Ok(Progress {
                anchor,
                due,
                planned: number(&kept, "planned").unwrap_or(i128::MIN),
                address: present("address").and_then(|address| address.as_str().map(str::to_owned)),
                previous: present("previous").map(|record| secured(task, record)),
                asked: kept.get("asked").and_then(Value::as_i64).unwrap_or(0),
                attempt: kept.get("attempt").and_then(Value::as_i64).map_or(1, |attempt| attempt as u32),
                pending: present("pending"),
            });
        }
        let now = task.now();
        let anchor = timetable.start.map_or(now, jiff::Timestamp::as_nanosecond);
        let due = if timetable.begins_at_once() {
            now
        } else {
            let next = timetable.next(moment(now), moment(anchor));
            next.map_or(i128::MAX, jiff::Timestamp::as_nanosecond)
        };
        let progress = Progress {
            anchor,
            due,
            planned: now,
            address: None,
            previous: None,
            asked: 0,
            attempt: 1,
            pending: None,
        };
        task.commit(vec![task.state(progress.state())]).await?;
        Ok(progress)
    }

    /// Completes the current poll at `now` and schedules the next.
    fn next_question(&mut self, now: i128, due: i128) {
        self.asked += 1;
        self.attempt = 1;
        self.planned = now;
        self.due = due;
    }

    /// After a clock that was ahead has come back: waits as long as was decided, from now on.
    fn follow_the_clock(&mut self, timetable: &Timetable, now: i128) {
        let present = now + CLOCK_STEP_MAX;
        if timetable.start.is_none() && self.anchor > present {
            self.anchor = now;
        }
        if self.planned > present {
            self.due = now.saturating_add((self.due - self.planned).max(0));
            self.planned = now;
        }
    }

    fn state(&self) -> Object {
        let mut kept = Object::new();
        kept.insert("anchor", self.anchor.to_string());
        kept.insert("due", self.due.to_string());
        kept.insert("planned", self.planned.to_string());
        kept.insert("address", self.address.as_deref());
        kept.insert("previous", self.previous.clone());
        kept.insert("asked", self.asked);
        kept.insert("attempt", i64::from(self.attempt));
        kept.insert("pending", self.pending.clone());
        kept
    }
}
