//! Converts a call of the engine to a script in JavaScript, and its result back.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use loom_engine::{
    event::{EffectResult, Outcome, RetryHint},
    ports::Call,
};
use loom_expression::{Labels, Object, Value};

use super::{
    ScriptLimits,
    interpreter::{self, Ended, Exception, INTERNAL, PARSING, RUNTIME, Script, Stop, TIMEOUT},
    slots::{AllLost, Slots},
};
use crate::{Failure, handlers::failed, requests::WallClock};

/// How much longer than its timeout a script is waited for: it stops itself shortly after the timeout, if its thread
/// is scheduled at all.
const GRACE: Duration = Duration::from_secs(5);

/// Executes scripts in JavaScript, a limited number at once.
#[derive(Clone)]
pub(super) struct JavaScript {
    limits: ScriptLimits,
    slots: Arc<Slots>,
    clock: Option<WallClock>,
}

/// What the waiting side is notified of.
enum Notification {
    Ended(Ended),
    /// The action was cancelled or timed out.
    Cancelled,
}

/// Stops the script when it is dropped, because nothing waits for it any more.
struct Waiting {
    stop: Arc<Stop>,
    wake: SyncSender<Notification>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop.cancel();
        // The channel has room for one notification from each side; otherwise nothing receives it.
        self.wake.try_send(Notification::Cancelled).ok();
    }
}

impl JavaScript {
    pub(super) fn new(limits: ScriptLimits) -> JavaScript {
        JavaScript { limits, slots: Slots::new(limits.at_once.get(), limits.stuck_max), clock: None }
    }

    pub(super) fn with_clock(self, clock: WallClock) -> JavaScript {
        JavaScript { clock: Some(clock), ..self }
    }

    pub(super) async fn call(&self, call: &Call) -> EffectResult {
        let labels = call
            .context
            .iter()
            .fold(call.inputs.labels_within(), |all, context| all | context.labels_within());
        let ended = match self.script(call) {
            Ok(script) => self.run(script).await,
            Err(failure) => Err(failure),
        };
        match ended.and_then(|ended| outputs(call, ended, labels)) {
            Ok(outputs) => {
                EffectResult::Done { outcome: Outcome::ok(Some(outputs)), hint: RetryHint::default() }
            }
            Err(failure) => failed(failure),
        }
    }

    fn script(&self, call: &Call) -> Result<Script, Failure> {
        let code = match call.inputs.get("code") {
            Some(code) => code.as_str().ok_or_else(|| {
                Failure::bad_request(format!("'code' must be a string, found {}.", code.kind()))
            })?,
            None if call.inputs.get("CodeFile").is_some() => {
                return Err(Failure::bad_request(
                    "The script is in a file of its own ('CodeFile'), which is not available here. Put the code into 'code'.",
                ));
            }
            None => return Err(Failure::bad_request("The script has no 'code'.")),
        };
        let most = self.limits.code_chars;
        if code.chars().nth(most).is_some() {
            return Err(Failure::lasting(PARSING, format!("The script has more than {most} characters.")));
        }
        let context =
            call.context.as_ref().map_or_else(|| r#"{"actions":{}}"#.to_owned(), Value::to_json_text);
        if context.len() > self.limits.data_bytes {
            let message =
                format!("The data that the script refers to exceeds {} bytes.", self.limits.data_bytes);
            return Err(Failure::lasting(RUNTIME, message));
        }
        let now = self.clock.as_ref().map(|clock| clock().unix_millis() as f64);
        Ok(Script { code: code.to_owned(), context, now })
    }

    /// Executes a script on a thread of its own. A paused clock does not advance while a script runs, because that
    /// takes real time.
    async fn run(&self, script: Script) -> Result<Ended, Failure> {
        let limits = self.limits;
        let (slot, given_up) = self.slots.enter().await.map_err(|AllLost| {
            Failure::transient(INTERNAL, "All threads for scripts are occupied by scripts that do not end.")
        })?;
        let (sender, receiver) = mpsc::sync_channel(2);
        let stop = Stop::new();
        let waiting = Waiting { stop: Arc::clone(&stop), wake: sender.clone() };
        let waited = tokio::task::spawn_blocking(move || {
            let work = move || {
                let ended = interpreter::run(&script, &limits, &stop);
                sender.send(Notification::Ended(ended)).ok();
            };
            if let Err(error) = slot.work(limits.stack_bytes, work) {
                let message = format!("Cannot start a thread for the script: {error}.");
                return Err(Failure::transient(INTERNAL, message));
            }
            let mut notification = receiver.recv_timeout(limits.time + GRACE);
            if matches!(notification, Ok(Notification::Cancelled)) {
                // Nothing waits for the result any more, but whether the thread is lost must be known.
                notification = receiver.recv_timeout(GRACE);
            }
            match notification {
                Ok(Notification::Ended(ended)) => Ok(ended),
                Ok(Notification::Cancelled) | Err(RecvTimeoutError::Timeout) => {
                    given_up.give_up();
                    Err(Failure::lasting(TIMEOUT, format!("The script took longer than {:?}.", limits.time)))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    Err(Failure::lasting(INTERNAL, "The interpreter failed."))
                }
            }
        });
        let result = waited.await;
        drop(waiting);
        result.unwrap_or_else(|_| Err(Failure::transient(INTERNAL, "The host is shutting down.")))
    }
}

/// The outputs of an action whose script ended.
fn outputs(call: &Call, ended: Ended, labels: Labels) -> Result<Value, Failure> {
    let secret = labels.contains(Labels::SECRET);
    let action = &call.definition().name;
    if !secret {
        for line in &ended.lines {
            tracing::debug!(run_id = %call.run, action = %action, "console: {line}");
        }
    }
    if let Some(exception) = ended.exception {
        return Err(failure_of(&exception, secret));
    }
    let mut outputs = Object::new();
    if let Some(text) = ended.returned {
        let body = Value::from_json_str(&text).map_err(|error| {
            Failure::lasting(RUNTIME, format!("The result of the script '{action}' cannot be read: {error}."))
        })?;
        outputs.insert("body", body.labelled(labels));
    }
    Ok(outputs.into())
}

/// The failure of an action whose script failed. The message of a script that read secrets may contain one, so it is
/// not shown.
fn failure_of(exception: &Exception, secret: bool) -> Failure {
    let slot =
        exception.at.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default();
    let message = if secret && matches!(exception.code, RUNTIME | PARSING) {
        "The script failed. Its message is not shown because it reads secrets."
    } else {
        &exception.message
    };
    Failure::lasting(exception.code, format!("{message}{slot}"))
}
