//! From a call of the engine to a script in JavaScript, and back.

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
use loom_expression::{Object, Value};

use super::{
    ScriptLimits,
    interpreter::{self, Ended, Exception, INTERNAL, PARSING, RUNTIME, Script, Stop, TIMEOUT},
    places::{AllLost, Places},
};
use crate::{Failure, handlers::failed, requests::WallClock};

/// How much longer than its time a script is waited for: it stops itself a moment after it is due, if its thread gets to
/// run at all.
const GRACE: Duration = Duration::from_secs(5);

/// Runs scripts in JavaScript, so many at once.
#[derive(Clone)]
pub(super) struct JavaScript {
    limits: ScriptLimits,
    places: Arc<Places>,
    clock: Option<WallClock>,
}

/// What wakes whoever waits for a script.
enum News {
    Ended(Ended),
    /// The action was cancelled, or its time is over.
    Cancelled,
}

/// Stops a script that nobody waits for any more.
struct Waiting {
    stop: Arc<Stop>,
    wake: SyncSender<News>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop.cancel();
        // There is room for the news of both sides, or nobody listens.
        self.wake.try_send(News::Cancelled).ok();
    }
}

impl JavaScript {
    pub(super) fn new(limits: ScriptLimits) -> JavaScript {
        JavaScript { limits, places: Places::new(limits.at_once.get(), limits.stuck_max), clock: None }
    }

    pub(super) fn with_clock(self, clock: WallClock) -> JavaScript {
        JavaScript { clock: Some(clock), ..self }
    }

    pub(super) async fn call(&self, call: &Call) -> EffectResult {
        let secret =
            call.inputs.contains_secret() || call.context.as_ref().is_some_and(Value::contains_secret);
        let ended = match self.script(call) {
            Ok(script) => self.run(script).await,
            Err(failure) => Err(failure),
        };
        match ended.and_then(|ended| outputs(call, ended, secret)) {
            Ok(outputs) => {
                EffectResult::Done { outcome: Outcome::ok(Some(outputs)), hint: RetryHint::default() }
            }
            Err(failure) => failed(failure),
        }
    }

    fn script(&self, call: &Call) -> Result<Script, Failure> {
        let code = match call.inputs.get("code") {
            Some(code) => code.as_str().ok_or_else(|| {
                Failure::bad_request(format!("'code' must be a string, not {}.", code.kind()))
            })?,
            None if call.inputs.get("CodeFile").is_some() => {
                return Err(Failure::bad_request(
                    "The script is in a file of its own ('CodeFile'), which is not at hand. Put the code into 'code'.",
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
                format!("What the script refers to has more than {} bytes.", self.limits.data_bytes);
            return Err(Failure::lasting(RUNTIME, message));
        }
        let now = self.clock.as_ref().map(|clock| clock().unix_millis() as f64);
        Ok(Script { code: code.to_owned(), context, now })
    }

    /// Runs a script on a thread of its own. Waiting for it holds the clock of paused time, as it takes real time.
    async fn run(&self, script: Script) -> Result<Ended, Failure> {
        let limits = self.limits;
        let (place, given_up) = self.places.enter().await.map_err(|AllLost| {
            Failure::transient(
                INTERNAL,
                "All places for scripts are kept by scripts that do not end, and no thread is left to spare.",
            )
        })?;
        let (tell, told) = mpsc::sync_channel(2);
        let stop = Stop::new();
        let waiting = Waiting { stop: Arc::clone(&stop), wake: tell.clone() };
        let waited = tokio::task::spawn_blocking(move || {
            let work = move || {
                let ended = interpreter::run(&script, &limits, &stop);
                tell.send(News::Ended(ended)).ok();
            };
            if let Err(error) = place.work(limits.stack_bytes, work) {
                let message = format!("No thread can be had for the script: {error}.");
                return Err(Failure::transient(INTERNAL, message));
            }
            let mut news = told.recv_timeout(limits.time + GRACE);
            if matches!(news, Ok(News::Cancelled)) {
                // Nobody listens any more, but whether the place is lost has to be known.
                news = told.recv_timeout(GRACE);
            }
            match news {
                Ok(News::Ended(ended)) => Ok(ended),
                Ok(News::Cancelled) | Err(RecvTimeoutError::Timeout) => {
                    given_up.give_up();
                    Err(Failure::lasting(TIMEOUT, format!("The script took longer than {:?}.", limits.time)))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    Err(Failure::lasting(INTERNAL, "The interpreter has failed."))
                }
            }
        });
        let result = waited.await;
        drop(waiting);
        result.unwrap_or_else(|_| Err(Failure::transient(INTERNAL, "The host is shutting down.")))
    }
}

/// The outputs of an action whose script has ended.
fn outputs(call: &Call, ended: Ended, secret: bool) -> Result<Value, Failure> {
    let action = &call.definition().name;
    if !secret {
        for line in &ended.lines {
            tracing::debug!(run_id = %call.run, action = %action, "console: {line}");
        }
    }
    if let Some(exception) = ended.exception {
        return Err(told(&exception, secret));
    }
    let mut outputs = Object::new();
    if let Some(text) = ended.returned {
        let body = Value::from_json_str(&text).map_err(|error| {
            Failure::lasting(RUNTIME, format!("What the script '{action}' gave cannot be read: {error}."))
        })?;
        outputs.insert("body", body.secret_if(secret));
    }
    Ok(outputs.into())
}

/// The failure of an action whose script failed. What a script says that has read secrets may be one of them.
fn told(exception: &Exception, secret: bool) -> Failure {
    let place =
        exception.at.map(|(line, column)| format!(" (line {line}, column {column})")).unwrap_or_default();
    let message = if secret && matches!(exception.code, RUNTIME | PARSING) {
        "The script has failed. It reads secrets, so its words are not shown."
    } else {
        &exception.message
    };
    Failure::lasting(exception.code, format!("{message}{place}"))
}
