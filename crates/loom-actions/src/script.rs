//! Inline scripts: JavaScript is run, other languages are not.

#[cfg(feature = "javascript")]
mod interpreter;
#[cfg(feature = "javascript")]
mod javascript;
#[cfg(feature = "javascript")]
mod places;

use std::{num::NonZeroUsize, thread, time::Duration};

use loom_definition::model::{ActionKind, EffectKind};
use loom_engine::ports::{ActionHandler, Call, CallFuture};

use crate::{Failure, handlers::failed, requests::WallClock};

#[cfg(feature = "javascript")]
pub use self::interpreter::check_javascript;

/// What a script may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLimits {
    /// How long it may run: 15 s. The time that it waits for its turn does not count.
    pub time: Duration,
    /// The most bytes of memory: 128 MiB.
    pub memory_bytes: usize,
    /// The most bytes of stack: 512 KiB.
    pub stack_bytes: usize,
    /// The most characters of code: 100,000.
    pub code_chars: usize,
    /// The most bytes of what it sees, as JSON, and of what it gives: 50 MiB each.
    pub data_bytes: usize,
    /// How many run at once; others wait their turn. As many as there are processors.
    pub at_once: NonZeroUsize,
    /// How many scripts that do not end after their time, and cannot be made to, may go on while others have their places:
    /// 16. Each keeps a thread and up to `memory_bytes`, and takes processor time until the process ends.
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

/// Runs scripts in JavaScript. Fails others with a message that says so: a script must not look as if it had run.
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
    /// A handler whose clones share the places that `limits` gives to scripts.
    #[cfg_attr(not(feature = "javascript"), expect(unused_variables, reason = "there is nothing to limit"))]
    pub fn new(limits: ScriptLimits) -> ScriptHandler {
        ScriptHandler {
            #[cfg(feature = "javascript")]
            javascript: javascript::JavaScript::new(limits),
        }
    }

    /// The same, with a clock of the host's. For scripts it stands still where it was when they began. Without one they
    /// see the system's.
    #[must_use]
    #[cfg_attr(
        not(feature = "javascript"),
        expect(unused_variables, clippy::needless_pass_by_value, reason = "nobody looks at a clock")
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
