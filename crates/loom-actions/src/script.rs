//! Inline scripts: JavaScript is executed, other languages are not.

#[cfg(feature = "javascript")]
mod interpreter;
#[cfg(feature = "javascript")]
mod javascript;
#[cfg(feature = "javascript")]
mod slots;

use std::{num::NonZeroUsize, thread, time::Duration};

use loom_definition::model::{ActionKind, EffectKind};
use loom_engine::ports::{ActionHandler, Call, CallFuture};

use crate::{Failure, handlers::failed, requests::WallClock};

#[cfg(feature = "javascript")]
pub use self::interpreter::check_javascript;

/// The limits of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLimits {
    /// The timeout. The time that a script waits for its turn does not count. Default 15 s.
    pub time: Duration,
    /// The most memory, in bytes. Default 128 MiB.
    pub memory_bytes: usize,
    /// The most stack, in bytes. Default 512 KiB.
    pub stack_bytes: usize,
    /// The most characters of code. Default 100,000.
    pub code_chars: usize,
    /// The most bytes of JSON for the data that it sees, and for its result. Default 50 MiB each.
    pub data_bytes: usize,
    /// How many scripts run at once; others wait their turn. Default: the number of processors.
    pub at_once: NonZeroUsize,
    /// How many scripts that do not end after their timeout, and cannot be interrupted, may continue while others
    /// take their slots. Each occupies a thread and up to `memory_bytes`, and uses processor time until it ends.
    /// Default 16.
    pub stuck_max: usize,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        ScriptLimits {
            time: Duration::from_secs(15),
            memory_bytes: 128 << 20,
            stack_bytes: 512 << 10,
            code_chars: 100_000,
            data_bytes: 50 << 20,
            at_once: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            stuck_max: 16,
        }
    }
}

/// Executes scripts in JavaScript. Fails others with a message that says so, because a script must not look as if it
/// had been executed.
#[derive(Clone)]
pub struct ScriptHandler {
    #[cfg(feature = "javascript")]
    javascript: javascript::JavaScript,
}

impl std::fmt::Debug for ScriptHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptHandler").finish_non_exhaustive()
    }
}

impl Default for ScriptHandler {
    fn default() -> Self {
        ScriptHandler::new(ScriptLimits::default())
    }
}

impl ScriptHandler {
    /// A handler. Its clones share the number of scripts that `limits` allows at once.
    #[cfg_attr(not(feature = "javascript"), expect(unused_variables, reason = "there is nothing to limit"))]
    pub fn new(limits: ScriptLimits) -> ScriptHandler {
        ScriptHandler {
            #[cfg(feature = "javascript")]
            javascript: javascript::JavaScript::new(limits),
        }
    }

    /// The same, with the clock of the host program. A script sees that clock stopped at the time when it started.
    /// Without it, scripts see the system clock.
    #[must_use]
    #[cfg_attr(
        not(feature = "javascript"),
        expect(unused_variables, clippy::needless_pass_by_value, reason = "no clock is read")
    )]
    pub fn with_clock(self, clock: WallClock) -> ScriptHandler {
        ScriptHandler {
            #[cfg(feature = "javascript")]
            javascript: self.javascript.with_clock(clock),
        }
    }
}

impl ActionHandler for ScriptHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let action = call.definition();
        let is_javascript = matches!(&action.kind, ActionKind::Effect { effect: EffectKind::Script(language), .. }
            if &**language == "JavaScriptCode");
        #[cfg(feature = "javascript")]
        if is_javascript {
            return Box::pin(self.javascript.call(call));
        }
        let what = if is_javascript { "in this build" } else { "in this language" };
        let message = format!(
            "The action '{}' is a script of type '{}', and Loom does not run scripts {what}. Use JavaScriptCode or \
             expressions, or register an activity and call it.",
            action.name, action.type_name
        );
        Box::pin(async move { failed(Failure::lasting("ActionTypeNotSupported", message)) })
    }
}
