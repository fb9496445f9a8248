//! Calls in progress: making one attempt at a call, and ending calls that the run no longer waits for.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use futures_util::future::AbortHandle;
use loom_definition::model::{ActionKind, EffectKind};

use crate::{
    children,
    event::{EffectResult, ErrorInfo, Note, Outcome, Phase, Place, RetryHint},
    flights::Flight,
    guard::{Guarded, TimeLimit},
    other_runs::OtherRuns,
    ports::Call,
    shared::Shared,
};

/// A future of a run that is in progress, and how to end it when the run no longer waits for it.
pub(super) struct UnderWay {
    pub(super) place: Place,
    pub(super) aborts: SmallAborts,
    /// For a call: tells the guarding service that the call timed out.
    pub(super) limit: Option<Arc<TimeLimit>>,
    /// For a call that a draining engine waits for.
    pub(super) flight: Option<Flight>,
    /// Whether it only waits for a message to the run, and is begun again after the run was parked.
    pub(super) waits: Arc<AtomicBool>,
}

/// A call is one future; the wait for an admission is two.
pub(super) type SmallAborts = [Option<AbortHandle>; 2];

impl UnderWay {
    /// Ends it. `timed_out` are the actions that have timed out.
    pub(super) fn end(&self, timed_out: &[Place]) {
        let expires = timed_out.contains(&self.place);
        if expires && self.limit.as_ref().is_some_and(|limit| limit.expire()) {
            // The call ends on its own, and its service counts a timeout.
            return;
        }
        for abort in self.aborts.iter().flatten() {
            abort.abort();
        }
    }
}

/// Makes one attempt, under the policies of the service it addresses.
pub(super) async fn make_call(
    (shared, others): (&Shared, &Arc<dyn OtherRuns>),
    call: &Call,
    left: Option<Duration>,
    limit: &TimeLimit,
    notes: &mut Vec<Note>,
    waits: &AtomicBool,
) -> (EffectResult, Option<Arc<Guarded>>) {
    let effect = match &call.definition().kind {
        ActionKind::Effect { effect, .. } => effect.clone(),
        _ => EffectKind::Custom(Arc::clone(&call.definition().type_name)),
    };
    let handler = shared.handlers.find(&effect);
    let origin = handler.and_then(|handler| handler.service(&call.inputs));
    let send = || async {
        // An effect needs a lease that is still running: the next owner of the run may begin when it ends.
        if let Some(node) = &shared.node {
            node.until_it_may_start(call.run.shard()).await;
        }
        match handler {
            Some(handler) => handler.call(call).await,
            None if effect == EffectKind::Workflow => {
                Box::pin(children::call(shared, others, call, waits)).await
            }
            None => unsupported(call),
        }
    };
    let (injected, addressed) = (Mutex::new(Vec::new()), origin.clone());
    let work = || async {
        match &shared.chaos {
            Some(chaos) if call.phase != Phase::Unsubscribe => {
                chaos.inject(call, addressed.as_deref(), &injected, &send).await
            }
            _ => send().await,
        }
    };
    // A request to unsubscribe is not guarded: nothing waits for it.
    let guarded =
        (call.phase != Phase::Unsubscribe).then(|| shared.services.of_action(call, origin)).flatten();
    let result = match &guarded {
        None => work().await,
        Some(service) => {
            if let Some(opens) = shared.services.opens() {
                opens.await;
            }
            let idempotent = handler.is_some_and(|handler| handler.is_idempotent(&call.inputs));
            Box::pin(service.attempt(left, call.attempt, idempotent, limit, notes, work)).await
        }
    };
    notes.append(&mut injected.into_inner().unwrap_or_else(PoisonError::into_inner));
    (result, guarded)
}

/// The result of an action that has no handler.
fn unsupported(call: &Call) -> EffectResult {
    let action = call.definition();
    let message = format!(
        "The action '{}' is of type '{}', which this host cannot execute: no handler is registered for this type.",
        action.name, action.type_name
    );
    let error = ErrorInfo::new("ActionTypeNotSupported", message);
    EffectResult::Done { outcome: Outcome::failed("NotImplemented", error), hint: RetryHint::default() }
}
