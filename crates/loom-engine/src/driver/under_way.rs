//! What a run has under way: making one attempt at a call, and ending what the run does not want any more.

use std::{sync::Arc, time::Duration};

use futures_util::future::AbortHandle;
use loom_definition::model::{ActionKind, EffectKind};

use crate::{
    children,
    engine::Inner,
    event::{EffectResult, ErrorInfo, Note, Outcome, Phase, Place, RetryHint},
    flights::Flight,
    guard::{Guarded, TimeLimit},
    ports::Call,
};

/// How to end something that is under way when the run does not want it any more.
pub(super) struct UnderWay {
    pub(super) place: Place,
    pub(super) aborts: SmallAborts,
    /// Of a call that a service guards, which hears why it ended.
    pub(super) limit: Option<Arc<TimeLimit>>,
    /// Of a call that a stopping engine waits for.
    pub(super) flight: Option<Flight>,
}

/// A call is one future; the wait for an admission is two.
pub(super) type SmallAborts = [Option<AbortHandle>; 2];

impl UnderWay {
    /// Ends it. `timed_out` are the actions whose time is over.
    pub(super) fn end(&self, timed_out: &[Place]) {
        let expires = timed_out.contains(&self.place);
        if expires && self.limit.as_ref().is_some_and(|limit| limit.expire()) {
            // It ends by itself, and its service counts a call that took too long.
            return;
        }
        for abort in self.aborts.iter().flatten() {
            abort.abort();
        }
    }
}

/// Makes one attempt, under the policies of the service it addresses.
pub(super) async fn make_call(
    inner: &Arc<Inner>,
    call: &Call,
    left: Option<Duration>,
    limit: &TimeLimit,
    notes: &mut Vec<Note>,
) -> (EffectResult, Option<Arc<Guarded>>) {
    let effect = match &call.definition().kind {
        ActionKind::Effect { effect, .. } => effect.clone(),
        _ => EffectKind::Custom(Arc::clone(&call.definition().type_name)),
    };
    let handler = inner.handlers.find(&effect);
    let origin = handler.and_then(|handler| handler.service(&call.inputs));
    let work = || async {
        match handler {
            Some(handler) => handler.call(call).await,
            None if effect == EffectKind::Workflow => Box::pin(children::call(inner, call)).await,
            None => unsupported(call),
        }
    };
    // Ending a subscription is not held back: nothing waits for it.
    let guarded =
        (call.phase != Phase::Unsubscribe).then(|| inner.services.of_action(call, origin)).flatten();
    let result = match &guarded {
        None => work().await,
        Some(service) => service.attempt(left, call.attempt, limit, notes, work).await,
    };
    (result, guarded)
}

/// Nobody can execute this type of action.
fn unsupported(call: &Call) -> EffectResult {
    let action = call.definition();
    let message = format!(
        "The action '{}' is of type '{}', which this host cannot execute: no handler is registered for it.",
        action.name, action.type_name
    );
    let error = ErrorInfo::new("ActionTypeNotSupported", message);
    EffectResult::Done { outcome: Outcome::failed("NotImplemented", error), hint: RetryHint::default() }
}
