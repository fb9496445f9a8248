//! Executes one script in an interpreter of its own: QuickJS, with limits and without access to anything outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use loom_definition::ScriptMistake;
use rquickjs::{
    Coerced, Context, Ctx, Error, Function, Object, Runtime, Value, context::EvalOptions,
    promise::PromiseState,
};

use super::ScriptLimits;

/// The service's codes for the failures of scripts.
pub(super) const PARSING: &str = "InlineCodeParsingFailure";
pub(super) const TIMEOUT: &str = "InlineCodeExecutionTimeout";
pub(super) const RUNTIME: &str = "InlineCodeScriptRuntimeFailure";
pub(super) const INTERNAL: &str = "InlineCodeInternalFailure";

const PRELUDE: &str = include_str!("prelude.js");
/// The file name of the script in stack traces.
const FILE: &str = "script";
/// The most console lines to keep, and the most characters of each.
const LINES_MAX: u32 = 100;
const LINE_CHARS_MAX: u32 = 1_000;
/// The most characters of an exception to show.
const SHOWN_MAX: usize = 2_000;
/// Mistakes in the syntax are found much sooner.
const CHECK_TIME: Duration = Duration::from_secs(1);

/// The input of the interpreter.
pub(super) struct Script {
    pub(super) code: String,
    /// `workflowContext` as JSON.
    pub(super) context: String,
    /// Milliseconds since 1970, when the clock is to be stopped.
    pub(super) now: Option<f64>,
}

/// The result of a script.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The JSON of the returned value; `None` for `undefined`.
    pub(super) returned: Option<String>,
    pub(super) exception: Option<Exception>,
    /// The lines that were written to the console.
    pub(super) lines: Vec<String>,
}

/// Why a script failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The line and the column (in bytes) in the code of the script, from 1.
    pub(super) at: Option<(usize, usize)>,
}

/// When a script must stop.
#[derive(Debug)]
pub(super) struct Stop {
    cancelled: AtomicBool,
    /// Whether the script was interrupted.
    stopped: AtomicBool,
}

impl Stop {
    pub(super) fn new() -> Arc<Stop> {
        Arc::new(Stop { cancelled: AtomicBool::new(false), stopped: AtomicBool::new(false) })
    }

    /// Nothing waits for the script any more.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn is_due(&self, deadline: Instant) -> bool {
        let due = self.cancelled.load(Ordering::Relaxed) || now() >= deadline;
        if due {
            self.stopped.store(true, Ordering::Relaxed);
        }
        due
    }

    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a script uses real time, even when the clock of its run is stopped"
)]
fn now() -> Instant {
    Instant::now()
}

/// Executes a script on this thread until it ends.
pub(super) fn run(script: &Script, limits: &ScriptLimits, stop: &Arc<Stop>) -> Ended {
    let deadline = now() + limits.time;
    let mut ended = Ended::default();
    let result = within(limits, stop, deadline, |ctx| {
        Execution { ctx, limits, stop, deadline }.execute(script, &mut ended)
    });
    match result {
        Ok(Ok(returned)) => ended.returned = returned,
        Ok(Err(exception)) => ended.exception = Some(exception),
        Err(error) => {
            let message = format!("The interpreter cannot be started: {error}");
            ended.exception = Some(Exception { code: INTERNAL, message, at: None });
        }
    }
    ended
}

/// Finds the first syntax error in the code of a script, without executing it.
pub fn check_javascript(code: &str) -> Option<ScriptMistake> {
    let limits = ScriptLimits::default();
    let (stop, deadline) = (Stop::new(), now() + CHECK_TIME);
    let checked = within(&limits, &stop, deadline, |ctx| {
        let playing = Execution { ctx, limits: &limits, stop: &stop, deadline };
        playing.compile(code).err().map(|error| playing.exception(PARSING, &error, None))
    });
    let exception = checked.ok()??;
    let (line, column) = exception.at.unwrap_or((1, 1));
    Some(ScriptMistake { message: exception.message, offset: offset(code, line, column) })
}

/// The byte offset of a line and a column (in bytes), from 1; at most the end of the line.
fn offset(code: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => code.match_indices('\n').nth(line - 2).map_or(code.len(), |(at, _)| at + 1),
    };
    let rest = &code[start..];
    let end = rest.find('\n').unwrap_or(rest.len());
    code.floor_char_boundary(start + end.min(column.saturating_sub(1)))
}

/// Runs `work` in a new interpreter with limits.
fn within<R>(
    limits: &ScriptLimits,
    stop: &Arc<Stop>,
    deadline: Instant,
    work: impl FnOnce(Ctx<'_>) -> R,
) -> Result<R, Error> {
    let runtime = Runtime::new()?;
    runtime.set_memory_limit(limits.memory_bytes);
    runtime.set_max_stack_size(limits.stack_bytes);
    let watched = Arc::clone(stop);
    runtime.set_interrupt_handler(Some(Box::new(move || watched.is_due(deadline))));
    let context = Context::full(&runtime)?;
    Ok(context.with(work))
}

/// A script that is being executed.
struct Execution<'a, 'js> {
    ctx: Ctx<'js>,
    limits: &'a ScriptLimits,
    stop: &'a Stop,
    deadline: Instant,
}

impl<'js> Execution<'_, 'js> {
    fn execute(&self, script: &Script, ended: &mut Ended) -> Result<Option<String>, Exception> {
        let host = self.host(script).map_err(|error| self.exception(INTERNAL, &error, None))?;
        let result = self.returned(script, &host);
        let lines: Option<Vec<Coerced<String>>> = host.get("lines").ok();
        ended.lines = lines.into_iter().flatten().map(|line| line.0).collect();
        // Nothing after an exception that the script has caught matters.
        self.ctx.catch();
        result
    }

    fn host(&self, script: &Script) -> Result<Object<'js>, Error> {
        let prelude: Function<'js> = self.ctx.eval_with_options(PRELUDE, options("loom"))?;
        prelude.call((&*script.context, script.now, LINES_MAX, LINE_CHARS_MAX))
    }

    fn returned(&self, script: &Script, host: &Object<'js>) -> Result<Option<String>, Exception> {
        let failed = |code, error: Error| self.exception(code, &error, Some(host));
        let body = self.compile(&script.code).map_err(|error| failed(PARSING, error))?;
        let view: Value<'js> = host.get("view").map_err(|error| failed(INTERNAL, error))?;
        let returned: Value<'js> = body.call((view,)).map_err(|error| failed(RUNTIME, error))?;
        let returned = self.settled(returned, host)?;
        let json: Function<'js> = host.get("json").map_err(|error| failed(INTERNAL, error))?;
        let text: Option<rquickjs::String<'js>> =
            json.call((returned,)).map_err(|error| failed(RUNTIME, error))?;
        let text = text.map(|text| text.to_string()).transpose().map_err(|error| failed(RUNTIME, error))?;
        match text {
            Some(text) if text.len() > self.limits.data_bytes => {
                let message = format!("The result has more than {} bytes", self.limits.data_bytes);
                Err(Exception { code: RUNTIME, message, at: None })
            }
            text => Ok(text),
        }
    }

    /// Compiles the script's code as the body of a function. The code is on lines of its own, so that no comment
    /// swallows the closing brace and columns are right.
    fn compile(&self, code: &str) -> Result<Function<'js>, Error> {
        self.ctx.eval_with_options(format!("(function (workflowContext) {{\n{code}\n}})"), options(FILE))
    }

    /// The result of a promise. Nothing outside ever settles one: either the pending jobs do, or it is never settled.
    fn settled(&self, value: Value<'js>, host: &Object<'js>) -> Result<Value<'js>, Exception> {
        let Some(promise) = value.as_promise() else { return Ok(value) };
        loop {
            match promise.state() {
                PromiseState::Resolved | PromiseState::Rejected => {
                    let result = promise.result::<Value<'js>>();
                    let result = result.unwrap_or_else(|| Ok(Value::new_undefined(self.ctx.clone())));
                    return result.map_err(|error| self.exception(RUNTIME, &error, Some(host)));
                }
                PromiseState::Pending
                    if self.stop.is_due(self.deadline) || !self.ctx.execute_pending_job() =>
                {
                    return Err(self.stopped().unwrap_or_else(|| {
                        let message = "The promise that was returned is never settled: scripts have no timers and nothing \
                                       else to wait for";
                        Exception { code: RUNTIME, message: message.to_owned(), at: None }
                    }));
                }
                PromiseState::Pending => {}
            }
        }
    }

    fn stopped(&self) -> Option<Exception> {
        let message = || format!("The script took longer than {:?}", self.limits.time);
        self.stop.has_stopped().then(|| Exception { code: TIMEOUT, message: message(), at: None })
    }

    /// Converts an error of the interpreter to a message for the author of the script.
    fn exception(&self, code: &'static str, error: &Error, host: Option<&Object<'js>>) -> Exception {
        if let Some(stopped) = self.stopped() {
            self.ctx.catch();
            return stopped;
        }
        if !error.is_exception() {
            let message = match code {
                PARSING => "The code is not the body of a function".to_owned(),
                _ => error.to_string(),
            };
            return Exception { code, message, at: None };
        }
        let thrown = self.ctx.catch();
        let asked = |name: &str| -> Option<String> {
            let answer = host?.get::<_, Function<'js>>(name).and_then(|ask| ask.call((thrown.clone(),)));
            let answer: Result<Option<Coerced<String>>, Error> = answer;
            if answer.is_err() {
                self.ctx.catch();
            }
            answer.ok()?.map(|answer| answer.0)
        };
        let own = thrown.as_exception();
        let message = asked("show").or_else(|| {
            let own = own?;
            let name: Option<Coerced<String>> = own.get("name").ok();
            Some(format!("{}: {}", name.map_or_else(|| "Error".to_owned(), |name| name.0), own.message()?))
        });
        if message.as_deref() == Some("InternalError: out of memory") {
            let message = format!("The script needs more than {} bytes of memory", self.limits.memory_bytes);
            return Exception { code: RUNTIME, message, at: None };
        }
        if thrown.is_null() {
            let message = "Null was thrown, which is also what happens when memory runs out".to_owned();
            return Exception { code: RUNTIME, message, at: None };
        }
        let mut message = message.unwrap_or_else(|| "An exception that cannot be shown".to_owned());
        if let Some((end, _)) = message.char_indices().nth(SHOWN_MAX) {
            message.truncate(end);
        }
        if let Some(missing) = missing(&message) {
            message = format!("{message}: {missing}");
        }
        let stack = asked("stack").or_else(|| own?.stack());
        let code = asked("code").and_then(|code| refusal(&code)).unwrap_or(code);
        // Reading an exception may run code of its own.
        self.stopped().unwrap_or(Exception { code, message, at: stack.as_deref().and_then(position) })
    }
}

fn options(file: &str) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(file.to_owned());
    options
}

/// The codes of the exceptions that the prelude throws.
fn refusal(code: &str) -> Option<&'static str> {
    const CODES: [&str; 3] =
        ["InlineCodeCannotModifyWorkflowContext", "InlineCodeOperationMissing", "InlineCodeInvalidProperty"];
    CODES.into_iter().find(|known| *known == code)
}

/// The position in the script: the first position in the stack trace that is in it. Its code starts on the second
/// line.
fn position(stack: &str) -> Option<(usize, usize)> {
    stack.lines().find_map(|line| {
        let place = line.trim().trim_end_matches(')');
        let place = &place[place.rfind(FILE)?..];
        let (line, column) = place.strip_prefix(FILE)?.strip_prefix(':')?.split_once(':')?;
        let line: usize = line.parse().ok()?;
        Some((line.checked_sub(1)?.max(1), column.parse().ok()?))
    })
}

/// A hint for scripts that use what other JavaScript hosts have.
fn missing(message: &str) -> Option<&'static str> {
    let name = message.strip_prefix("ReferenceError: ")?.strip_suffix(" is not defined")?;
    match name {
        "require" | "module" | "exports" => Some("scripts have no modules"),
        "setTimeout" | "setInterval" | "setImmediate" | "clearTimeout" | "clearInterval" => {
            Some("scripts have no timers; use a Wait action")
        }
        "fetch" | "XMLHttpRequest" | "WebSocket" => {
            Some("scripts have no network access; use an Http action")
        }
        "process" | "Buffer" | "global" | "fs" | "URL" | "URLSearchParams" | "TextEncoder"
        | "TextDecoder" | "Intl" | "window" | "document" => {
            Some("scripts have only the objects of the language itself")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
