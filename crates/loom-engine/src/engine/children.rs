//! The engine as the tasks of runs see it: starting child workflows, and waking other runs.

use std::{collections::BTreeMap, sync::Arc};

use loom_expression::Value;
use loom_store::InboxId;

use super::Engine;
use crate::{
    children::Caller,
    durable::Written,
    event::RunId,
    fire::Fired,
    other_runs::{Child, OtherRuns, RunsFuture},
    ports::Call,
    shared::Shared,
    start::{RunRequest, StartError},
    unloadable::RecoverError,
};

impl OtherRuns for Shared {
    fn start_children(
        self: Arc<Self>,
        request: RunRequest,
        call: &Call,
    ) -> RunsFuture<'_, Result<Option<Vec<Child>>, StartError>> {
        Box::pin(async move { start(&Engine::of(self), request, &Caller::of(call), None).await })
    }

    fn response_of(self: Arc<Self>, run: RunId) -> RunsFuture<'static, Result<Option<Value>, RecoverError>> {
        Box::pin(async move { Engine::of(self).response_of(run).await })
    }

    fn wake(self: Arc<Self>, run: RunId) {
        Engine::of(self).wake(run);
    }

    fn parked(self: Arc<Self>) {
        Engine::of(self).turn_wheel();
    }
}

/// Starts the children of an attempt, each at most once. The first of them consumes `message`.
pub(super) async fn start(
    engine: &Engine,
    request: RunRequest,
    caller: &Caller,
    message: Option<InboxId>,
) -> Result<Option<Vec<Child>>, StartError> {
    let (workflow, trigger) = (Arc::clone(&request.workflow), request.trigger.clone());
    let Fired::Runs(starts) = engine.decide(&workflow, request).await? else { return Ok(None) };
    let (mut children, mut fresh) = (Vec::with_capacity(starts.len()), BTreeMap::new());
    for (index, run) in starts.ids().enumerate() {
        let known = match &engine.shared().durable {
            Some(durable) => durable.store.run_by_key(&workflow.name, &caller.child_key(index)).await,
            None => Ok(None),
        };
        match known.map_err(StartError::Store)? {
            Some(_) => children.push(Child::Known),
            None => drop(fresh.insert(index, run)),
        }
    }
    let ids: Vec<RunId> = fresh.values().copied().collect();
    let passes = engine.enter(&workflow, trigger.as_deref(), &ids, None)?;
    let mut messages = message.into_iter().collect::<Vec<_>>();
    let starting = starts.enumerate().filter(|(index, _)| fresh.contains_key(index)).map(|(index, start)| {
        let written = Written {
            parent: Some((caller.run, Arc::clone(&caller.key))),
            idempotency_key: Some(caller.child_key(index)),
            messages: std::mem::take(&mut messages),
            ..Written::default()
        };
        (start, written)
    });
    let starting = starting.zip(passes);
    if engine.queues(fresh.len()) {
        engine.accept_all(&workflow, starting).await?;
        children.extend(fresh.values().map(|_| Child::Known));
    } else {
        let spawn =
            |((start, written), pass)| Child::Started(engine.spawn(&workflow, start, written, pass, None));
        children.extend(starting.map(spawn));
    }
    Ok(Some(children))
}
