//! The task of an automatic trigger: its definition, its stored progress, and firing it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use loom_definition::trigger::{Trigger, TriggerKind};
use loom_engine::{
    FiringCommit, Permit, RunId, StartError, TriggerView,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{TriggerCall, TriggerPurpose},
};
use loom_expression::{Object, Value};
use loom_store::{Commit, InboxId, KeyWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    deploy::Deployment,
    fire::{Fire, FireError},
    host::Host,
    keys::{key_write, trigger_key},
    recurrence::Timetable,
    trigger_history::{self, Note, NoteStatus},
};

/// The namespace of progress in the store.
pub(crate) const NAMESPACE: &str = "trigger";

/// The longest single sleep. The wall clock is read again after it, because it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How far the clock may be set back, in nanoseconds, without being taken for one that was ahead: a minute.
pub(crate) const CLOCK_STEP_MAX: i128 = 60_000_000_000;

/// The wait before a temporary failure is retried.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);

/// The task of one automatic trigger.
pub(crate) struct TriggerTask {
    pub(crate) host: Arc<Host>,
    pub(crate) deployment: Arc<Deployment>,
    place: usize,
    /// Ends when the deployment does, or when the trigger is disabled.
    pub(crate) retired: CancellationToken,
    /// The trigger continues in another process: the host drains, or another node acts for it.
    pub(crate) stopped: CancellationToken,
    /// The number of the next entry in its history.
    noted: AtomicU64,
    /// Whether the last poll failed: only the first failure in a row is logged.
    is_failing: AtomicBool,
}

/// The result of a firing, for its trigger.
#[derive(Debug)]
pub(crate) enum Fired {
    /// Runs have started, and the progress is stored.
    Runs,
    /// A condition prevented the runs; the progress is stored.
    NotMet,
    /// An expression of the trigger failed; the progress is stored.
    Failed,
    /// The limit of concurrent runs is reached; the progress is not stored.
    NoRoom,
}

impl TriggerTask {
    /// The task of the trigger at `place` among those of the deployment.
    pub(crate) fn new(
        host: Arc<Host>,
        deployment: Arc<Deployment>,
        place: usize,
        retired: CancellationToken,
        stopped: CancellationToken,
    ) -> TriggerTask {
        TriggerTask {
            host,
            deployment,
            place,
            retired,
            stopped,
            noted: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(crate) fn trigger(&self) -> &Trigger {
        &self.deployment.workflow.triggers[self.place]
    }

    pub(crate) fn view<'a>(
        &'a self,
        previous: Option<&'a Value>,
        callback: Option<&'a str>,
    ) -> TriggerView<'a> {
        TriggerView {
            workflow: &self.deployment.workflow,
            trigger: self.trigger(),
            parameters: &self.deployment.parameters,
            previous,
            callback,
        }
    }

    /// The right to start one run now; none if the run would have to wait for the trigger's concurrency limit.
    pub(crate) fn reserve(&self) -> Option<Permit> {
        self.host.engine.reserve(&self.deployment.workflow, &self.trigger().name)
    }

    /// `workflow/trigger`, in lower case.
    pub(crate) fn key(&self) -> String {
        trigger_key(&self.deployment.workflow.name, &self.trigger().name)
    }

    pub(crate) fn now(&self) -> i128 {
        self.host.now().unix_nanos()
    }

    /// Reads its recurrence. An invalid one is recorded, and disables the trigger until the next deployment.
    pub(crate) async fn timetable(&self) -> Result<Option<Timetable>, loom_store::Error> {
        let recurrence = self.host.engine.trigger_recurrence(self.view(None, None)).await;
        let recurrence = recurrence.map_err(|error| error.message).and_then(|recurrence| {
            Timetable::new(&recurrence.ok_or("The trigger has no recurrence.")?)
                .map_err(|why| format!("The recurrence is invalid: {why}."))
        });
        match recurrence {
            Ok(timetable) => Ok(Some(timetable)),
            Err(why) => {
                self.fails_for_good("InvalidRecurrence", &why).await?;
                Ok(None)
            }
        }
    }

    /// Records an error that disables the trigger permanently.
    pub(crate) async fn fails_for_good(&self, code: &str, why: &str) -> Result<(), loom_store::Error> {
        let (workflow, trigger) = (&self.deployment.workflow.name, &self.trigger().name);
        tracing::warn!(%workflow, %trigger, why, "the trigger is disabled by an error");
        let note = Note::new(self.now(), NoteStatus::Failed).because(code, why);
        self.commit(vec![self.note(note)]).await
    }

    /// Waits for a time by the clock. False when the clock is set back meanwhile, so that the time must be recomputed.
    pub(crate) async fn sleep_until(&self, due: i128) -> bool {
        let mut latest = self.now();
        loop {
            let now = self.now();
            let left = due - now;
            if left <= 0 {
                return true;
            }
            if now < latest - CLOCK_STEP_MAX {
                return false;
            }
            latest = latest.max(now);
            let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
            tokio::time::sleep(left.min(SLEEP_MAX)).await;
        }
    }

    /// What was kept for this deployment or one before it.
    pub(crate) async fn load_any(&self) -> Result<Option<Value>, loom_store::Error> {
        let kept = self.host.store.key(NAMESPACE, &self.key()).await?;
        Ok(kept.and_then(|kept| Value::parse_json(&kept.value).ok()))
    }

    /// The stored progress of this deployment; another deployment starts from the beginning.
    pub(crate) async fn load(&self) -> Result<Option<Value>, loom_store::Error> {
        let kept = self.load_any().await?;
        let mark = self.deployment.mark(&self.host.signer);
        Ok(kept.filter(|kept| kept.get("mark").and_then(Value::as_str) == Some(&mark)))
    }

    /// The write that stores `state`.
    pub(crate) fn state(&self, mut state: Object) -> KeyWrite {
        state.insert("mark", self.deployment.mark(&self.host.signer));
        key_write(NAMESPACE, &self.key(), Some(state))
    }

    /// The write that adds an entry to the trigger's history.
    pub(crate) fn note(&self, note: Note) -> KeyWrite {
        trigger_history::write(&self.key(), self.noted.fetch_add(1, Ordering::Relaxed), note)
    }

    /// Logs a change between success and failure.
    pub(crate) fn report(&self, failure: Option<(&str, &str)>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        let (workflow, trigger) = (&self.deployment.workflow.name, &self.trigger().name);
        match failure {
            Some((code, message)) if !was_failing => {
                tracing::warn!(%workflow, %trigger, code, message, "a poll of the trigger failed; it will be repeated");
            }
            None if was_failing => {
                tracing::info!(%workflow, %trigger, "the trigger polls successfully again");
            }
            _ => {}
        }
    }

    /// Continues the numbering of the stored history.
    pub(crate) async fn count_notes(&self) -> Result<(), loom_store::Error> {
        let next = trigger_history::next_number(&*self.host.store, &self.key()).await?;
        self.noted.store(next, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) async fn commit(&self, keys: Vec<KeyWrite>) -> Result<(), loom_store::Error> {
        let mut commit = Commit::new();
        commit.keys = keys;
        self.host.fence(&self.deployment.workflow.name, &self.trigger().name, &mut commit)?;
        self.host.store.commit(commit).await.map(drop)
    }

    /// Fires. The progress is stored with the run that starts, or immediately afterwards if none or several start.
    ///
    /// `permit` is the right to start one run; without one, the run waits for the trigger's concurrency limit. The run
    /// consumes `messages`, if one starts.
    ///
    /// # Errors
    /// The store failed. Its contents tell whether the run has started.
    pub(crate) async fn fire(
        &self,
        outputs: Value,
        name: Option<String>,
        permit: Option<Permit>,
        state: Object,
        note: Note,
        messages: Vec<InboxId>,
    ) -> Result<Fired, loom_store::Error> {
        let trigger = self.trigger();
        let fire = Fire {
            deployment: &self.deployment,
            trigger,
            outputs,
            tracking_id: None,
            wants_response: false,
            trace: None,
        };
        let (kept, key) = (self.state(state), self.key());
        let number = self.noted.fetch_add(1, Ordering::Relaxed);
        let keys = {
            let (kept, key, note) = (kept.clone(), key.clone(), note.clone());
            move |runs: &[RunId]| {
                vec![kept, trigger_history::write(&key, number, note.with_runs(runs.iter().copied()))]
            }
        };
        let along = FiringCommit {
            name: name.map(Arc::from),
            keys: Some(Box::new(keys)),
            messages,
            permit,
            ..FiringCommit::default()
        };
        match self.host.fire_along(fire, along).await {
            Ok(_) => Ok(Fired::Runs),
            Err(FireError::NotMet { .. } | FireError::Disabled { .. }) => Ok(Fired::NotMet),
            Err(FireError::Busy) => Ok(Fired::NoRoom),
            Err(FireError::Start(StartError::Trigger(error))) => {
                tracing::warn!(trigger = %trigger.name, error = %error.message, "the trigger failed to fire");
                let note = note.because(&error.code, &error.message);
                self.commit(vec![kept, trigger_history::write(&key, number, note)]).await?;
                Ok(Fired::Failed)
            }
            Err(FireError::Start(StartError::Store(error))) => Err(error),
            Err(FireError::StorePaused | FireError::RunsHeld | FireError::Start(_)) => {
                Err(self.store_error())
            }
        }
    }

    /// Why the store is unavailable.
    fn store_error(&self) -> loom_store::Error {
        match self.host.store.health().condition {
            loom_store::Condition::Paused(error) => error,
            loom_store::Condition::Running | loom_store::Condition::Closed => loom_store::Error::Closed,
        }
    }

    /// Sends a request with the trigger's retries; returns the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request in progress.
    pub(crate) async fn request(&self, call: &TriggerCall) -> Answered {
        let mut attempt = 1;
        loop {
            let answered = self.attempt(call, attempt).await;
            let Some(wait) = answered.retry else { return answered };
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Makes one attempt at a request, counted from 1, and decides by the trigger's policy whether another follows.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request.
    pub(crate) async fn attempt(&self, call: &TriggerCall, attempt: u32) -> Answered {
        let (outcome, hint) = self.request_once(call).await;
        let outcome = outcome.withheld(&call.inputs, self.host.engine.masker());
        let failed = outcome.status != loom_definition::Status::Succeeded;
        let seed = self.now().unsigned_abs() as u64;
        let retry = if failed {
            let view = self.view(None, None);
            self.host.engine.trigger_retry(view, attempt, &outcome, hint, seed).await
        } else {
            None
        };
        Answered { outcome, after: hint.after, retry }
    }

    async fn request_once(&self, call: &TriggerCall) -> (Outcome, RetryHint) {
        let Some(calls) = &self.host.settings.trigger_calls else {
            let error =
                ErrorInfo::new("NotSupported", "This server does not send requests for triggers.".to_owned());
            return (Outcome::failed("NotSupported", error), RetryHint::default());
        };
        match calls.call(call).await {
            EffectResult::Done { outcome, hint } => (outcome, hint),
            EffectResult::Pending { outcome, after, .. } => {
                (outcome, RetryHint { after: Some(after), ..RetryHint::default() })
            }
            EffectResult::Turn { outcome, .. } => (outcome, RetryHint::default()),
            EffectResult::Admitted => (Outcome::ok(None), RetryHint::default()),
        }
    }

    /// A request of this trigger.
    pub(crate) fn call(&self, ask: TriggerPurpose, inputs: Value, key: &str) -> TriggerCall {
        TriggerCall {
            callback: None,
            workflow: Arc::clone(&self.deployment.workflow.name),
            version: self.deployment.version.to_string().into(),
            trigger: Arc::clone(&self.trigger().name),
            ask,
            through_connection: matches!(
                self.trigger().kind,
                TriggerKind::ApiConnection { .. } | TriggerKind::ApiConnectionWebhook { .. }
            ),
            inputs,
            address: None,
            idempotency_key: key.into(),
            tracking_id: key.into(),
        }
    }
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    /// The `Retry-After` of the response.
    pub(crate) after: Option<Duration>,
    /// The wait before the next attempt, if there is one.
    pub(crate) retry: Option<Duration>,
}

impl Answered {
    /// The status of the response, if there was one.
    pub(crate) fn status(&self) -> Option<i64> {
        self.outcome.outputs.as_ref()?.get("statusCode")?.as_i64()
    }

    /// The `Location` of the response.
    pub(crate) fn location(&self) -> Option<&str> {
        let headers = self.outcome.outputs.as_ref()?.get("headers")?.as_object()?;
        headers.get_ignore_case("Location")?.as_str()
    }

    /// The error for the history: code and message.
    pub(crate) fn error(&self) -> (String, String) {
        match &self.outcome.error {
            Some(error) => (error.code.to_string(), error.message.clone()),
            None => {
                (self.outcome.code.to_string(), format!("The service responded with {}.", self.outcome.code))
            }
        }
    }
}
