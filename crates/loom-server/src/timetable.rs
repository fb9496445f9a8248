//! Triggers that fire by the clock: Recurrence and SlidingWindow.
//!
//! A Recurrence that was missed is not made up for; the next one runs. Its progress is kept before it fires, so that no
//! occurrence runs twice. A SlidingWindow processes every window, in order; its progress is kept after the run was
//! accepted, so that none is lost, and a crash between the two may start a window again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use loom_definition::{
    model::Setting,
    trigger::{Trigger, TriggerKind},
};
use loom_expression::{Object, Timestamp, Value};
use loom_store::{Commit, KeyExpectation, KeyWrite};

use crate::{
    deploy::Deployment,
    host::{Fire, FireError, Host, gate_key},
    recurrence::Timetable,
};

/// Where progress is kept among the store's named values.
const NAMESPACE: &str = "trigger";

/// The longest single sleep; the wall clock is looked at again after it, because it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The wait before something that failed for the moment is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How far a trigger has come, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// What occurrences are counted from.
    anchor: i128,
    /// The last occurrence that fired, or the end of the last window.
    last: Option<i128>,
    fired: i64,
}

/// Lets the triggers of a deployment fire until it is retired or the host stops.
pub(crate) fn start(host: &Arc<Host>, deployment: &Arc<Deployment>) {
    for (place, trigger) in deployment.workflow.triggers.iter().enumerate() {
        if !matches!(trigger.kind, TriggerKind::Recurrence | TriggerKind::SlidingWindow { .. }) {
            continue;
        }
        let timetable = match &trigger.recurrence {
            Some(Setting::Fixed(recurrence)) => Timetable::new(recurrence),
            Some(Setting::Computed(_)) => {
                Err("its recurrence is computed, which a server cannot do".to_owned())
            }
            None => Err("it has no recurrence".to_owned()),
        };
        let workflow = &deployment.workflow.name;
        match timetable {
            Err(why) => tracing::warn!(%workflow, trigger = %trigger.name, why, "the trigger does not fire"),
            Ok(timetable) => {
                let (host, deployment) = (Arc::clone(host), Arc::clone(deployment));
                let tasks = host.tasks.clone();
                tasks.spawn(async move {
                    let trigger = &deployment.workflow.triggers[place];
                    let keeper = Keeper { host: &host, deployment: &deployment, trigger, timetable };
                    tokio::select! {
                        () = keeper.keep() => {}
                        () = deployment.retired.cancelled() => {}
                        () = host.stopping.cancelled() => {}
                    }
                });
            }
        }
    }
}

struct Keeper<'a> {
    host: &'a Arc<Host>,
    deployment: &'a Deployment,
    trigger: &'a Trigger,
    timetable: Timetable,
}

impl Keeper<'_> {
    async fn keep(&self) {
        loop {
            match self.fire_on_time().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, trigger = %self.trigger.name, "the trigger waits"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Fires each occurrence when it is due. Ends when there are no more.
    async fn fire_on_time(&self) -> Result<(), loom_store::Error> {
        let mut progress = self.progress().await?;
        let anchor = moment(progress.anchor);
        while self.timetable.count.is_none_or(|count| progress.fired < i64::from(count)) {
            let now = self.host.now().unix_nanos();
            if let TriggerKind::SlidingWindow { delay } = &self.trigger.kind {
                let opens = progress.last.unwrap_or(progress.anchor);
                let Some(closes) = self.timetable.next(moment(opens), anchor) else { return Ok(()) };
                let wait = delay.map_or(0, |delay| delay.approximate().as_nanos() as i128);
                self.sleep_until(closes.as_nanosecond() + wait).await;
                let text = |nanos| Value::from(Timestamp::from_unix_nanos(nanos).to_string());
                let window: Object =
                    [("windowStartTime", text(opens)), ("windowEndTime", text(closes.as_nanosecond()))]
                        .into_iter()
                        .collect();
                let outputs: Object = [("body", window)].into_iter().collect();
                while !self.fire(outputs.clone().into()).await {
                    tokio::time::sleep(AGAIN).await;
                }
                progress.last = Some(closes.as_nanosecond());
                progress.fired += 1;
                self.keep_progress(progress).await?;
            } else {
                // Occurrences of the past are dropped, but for the first of a trigger without a start, which is now.
                let first = progress.last.is_none() && self.timetable.start.is_none();
                let due = if first {
                    Some(anchor)
                } else {
                    self.timetable.next(moment(now.max(progress.last.unwrap_or(now))), anchor)
                };
                let Some(due) = due else { return Ok(()) };
                self.sleep_until(due.as_nanosecond()).await;
                progress.last = Some(due.as_nanosecond());
                progress.fired += 1;
                self.keep_progress(progress).await?;
                self.fire(Object::new().into()).await;
            }
        }
        Ok(())
    }

    /// False when it should be tried again.
    async fn fire(&self, outputs: Value) -> bool {
        let fire = Fire {
            deployment: self.deployment,
            trigger: self.trigger,
            outputs,
            tracking_id: None,
            wants_response: false,
        };
        match self.host.fire(fire).await {
            Ok(_) | Err(FireError::Held { .. }) => true,
            Err(FireError::Busy | FireError::StorePaused) => {
                tracing::warn!(trigger = %self.trigger.name, "the trigger found no room for a run");
                false
            }
            Err(FireError::Start(error)) => {
                tracing::warn!(trigger = %self.trigger.name, %error, "the trigger failed");
                true
            }
        }
    }

    async fn sleep_until(&self, due: i128) {
        loop {
            let left = due - self.host.now().unix_nanos();
            let Ok(left) = u64::try_from(left) else { return };
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(left).min(SLEEP_MAX)).await;
        }
    }

    fn key(&self) -> String {
        gate_key(&self.deployment.workflow.name, &self.trigger.name)
    }

    /// How far the trigger came before; another version begins anew.
    async fn progress(&self) -> Result<Progress, loom_store::Error> {
        let version = self.deployment.version.to_string();
        if let Some(kept) = self.host.store.key(NAMESPACE, &self.key()).await?
            && let Ok(kept) = Value::parse_json(&kept.value)
            && kept.get("version").and_then(Value::as_str) == Some(&version)
            && let Some(anchor) = number(&kept, "anchor")
        {
            let fired = kept.get("fired").and_then(Value::as_i64).unwrap_or(0);
            return Ok(Progress { anchor, last: number(&kept, "last"), fired });
        }
        let now = self.host.now().unix_nanos();
        let anchor = self.timetable.start.map_or(now, jiff::Timestamp::as_nanosecond);
        let progress = Progress { anchor, last: None, fired: 0 };
        self.keep_progress(progress).await?;
        Ok(progress)
    }

    async fn keep_progress(&self, progress: Progress) -> Result<(), loom_store::Error> {
        let mut kept = Object::new();
        kept.insert("version", self.deployment.version.to_string());
        kept.insert("anchor", progress.anchor.to_string());
        kept.insert("last", progress.last.map(|last| last.to_string()));
        kept.insert("fired", progress.fired);
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: NAMESPACE.into(),
            key: self.key().into(),
            expect: KeyExpectation::Any,
            value: Some(Bytes::from(Value::from(kept).to_json_text())),
        });
        self.host.store.commit(commit).await.map(drop)
    }
}

fn number(kept: &Value, name: &str) -> Option<i128> {
    kept.get(name)?.as_str()?.parse().ok()
}

fn moment(nanos: i128) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(nanos).unwrap_or(jiff::Timestamp::MAX)
}
