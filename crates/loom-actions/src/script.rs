//! Inline scripts, which Loom does not run.

use loom_engine::ports::{ActionHandler, Call, CallFuture};

use crate::{Failure, handlers::failed};

/// Fails every script with a message that says so. An engine for a foreign language is a large thing to trust and to
/// carry; until there is one, a script must not look as if it had run.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScriptHandler;

impl ActionHandler for ScriptHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        let action = call.definition();
        let message = format!(
            "The action '{}' is a script of type '{}', and Loom does not run scripts. Use expressions, or register an \
             activity and call it.",
            action.name, action.type_name
        );
        Box::pin(async move { failed(Failure::lasting("ActionTypeNotSupported", message)) })
    }
}
