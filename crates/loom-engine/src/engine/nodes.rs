//! The engine as one of several nodes on a store: gaining and losing shards, and runs that other nodes continue.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use loom_definition::{
    Workflow,
    trigger::{Trigger, TriggerKind},
};
use loom_store::{Commit, Conflict, Error as StoreError, InboxMessage, InboxQuery, Recipient, Shard, Shards};
use tokio::time::{Instant, sleep, timeout};

use super::{Engine, children, recovery::Recovered};
use crate::{
    children::elsewhere::{Asked, refused},
    event::RunId,
    messages::START,
    other_runs::Child,
    shared::Leave,
    start::{RunRequest, StartError},
    state::RunState,
    time,
    unloadable::RecoverError,
};

/// The delays between two looks at a run that another node continues.
const LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// Messages read at a time.
const PAGE: usize = 100;

/// How often runs that have to leave are looked for.
const STRAGGLERS: Duration = Duration::from_millis(20);

/// The shard of a trigger: the node that owns it acts for the trigger.
pub fn trigger_shard(workflow: &str, trigger: &str) -> Shard {
    Shard::of(&format!("{workflow}/{trigger}"))
}

impl Engine {
    /// The shard in which every run of a trigger starts. None when any node starts its runs, in any of its shards: it fires at a
    /// request and has no concurrency limit.
    pub fn shard_of(&self, workflow: &Workflow, trigger: Option<&Trigger>) -> Option<Shard> {
        let trigger = trigger?;
        let is_requested = match &trigger.kind {
            TriggerKind::Request { .. }
            | TriggerKind::Manual
            | TriggerKind::Event { .. }
            | TriggerKind::HttpWebhook { .. }
            | TriggerKind::ApiConnectionWebhook { .. }
            | TriggerKind::Other { .. } => true,
            TriggerKind::Recurrence
            | TriggerKind::SlidingWindow { .. }
            | TriggerKind::HttpPoll { .. }
            | TriggerKind::ApiConnection { .. }
            | TriggerKind::Batch { .. }
            | TriggerKind::MemoryChanged { .. }
            | TriggerKind::RunEnded { .. } => false,
        };
        let is_free = is_requested && !self.shared.gates.limits(workflow, Some(&trigger.name));
        (!is_free).then(|| trigger_shard(&workflow.name, &trigger.name))
    }

    /// The shard for the runs of a firing; none if this process is no node.
    pub(super) fn shard_for(
        &self,
        workflow: &Workflow,
        trigger: Option<&Trigger>,
    ) -> Result<Option<Shard>, StartError> {
        let Some(node) = &self.shared.node else { return Ok(None) };
        let shard = match self.shard_of(workflow, trigger) {
            Some(shard) if node.is_open(shard) => Some(shard),
            Some(shard) => return Err(StartError::Elsewhere { shard: Some(shard) }),
            None => node.next_open(),
        };
        shard.map(Some).ok_or(StartError::Elsewhere { shard: None })
    }

    /// Continues the runs of shards that this node owns now, as [`Engine::recover`] does at a start.
    ///
    /// # Errors
    /// When the store cannot be read. Call it again.
    pub async fn gain(&self, shards: Shards) -> Result<Recovered, StoreError> {
        let recovered = self.recover_shards(shards, None).await?;
        self.shared.wheel.start_over();
        Ok(recovered)
    }

    /// Gives up the runs of shards that this node has closed or lost. Runs begin nothing more, and leave when their calls in flight
    /// have ended, or after `patience`. Returns when none is in memory and everything that they wrote has been answered.
    pub async fn lose(&self, shards: Shards, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let in_shards = |run: RunId| shards.contains(run.shard());
            let staying: Vec<Leave> =
                self.shared.awake.collect(|run, reached| reached.leave.clone().filter(|_| in_shards(run)));
            if staying.is_empty() {
                break;
            }
            for leave in staying {
                leave.soon.cancel();
                if Instant::now() >= end {
                    leave.now.cancel();
                }
            }
            timeout(STRAGGLERS, self.shared.queue.left()).await.ok();
        }
        let stays = |run: RunId| !shards.contains(run.shard());
        self.shared.aside.retain(stays);
        self.shared.queue.retain(stays);
        self.shared.messaged.lock().unwrap_or_else(PoisonError::into_inner).retain(|run| stays(*run));
        {
            let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.runs.retain(|run, _| stays(*run));
            held.unreadable.retain(|run, _| stays(*run));
        }
        if let Err(error) = self.count_those_parked().await {
            tracing::debug!(%error, "cannot count the parked runs");
        }
    }

    /// To be called when another process may have posted a message to a run.
    pub fn notice(&self, run: RunId) {
        if !self.shared.may_load(run) || self.shared.standing_by.load(Ordering::Relaxed) {
            return;
        }
        if self.shared.awake.notify(run, |reached| reached.mailbox.notify()).is_some() {
            return;
        }
        self.shared.messaged.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
        self.wake(run);
    }

    /// Starts the child workflows that other nodes have asked this one for. Returns whether some are left.
    ///
    /// # Errors
    /// The store's error.
    pub async fn start_asked(&self) -> Result<bool, StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(false) };
        let (shards, recipient) = (Shards::ALL, Recipient::Nobody);
        let mut query = InboxQuery { recipient, shards, after: None, limit: PAGE };
        let mut are_left = false;
        loop {
            let page = durable.store.inbox(query).await?;
            query.after = page.last().map(|message| message.id);
            for message in page.iter().filter(|message| message.post.kind == START) {
                are_left |= !self.start_one(message).await?;
            }
            if page.len() < PAGE {
                return Ok(are_left);
            }
        }
    }

    /// Starts one child. Returns false if it cannot be started now.
    async fn start_one(&self, message: &InboxMessage) -> Result<bool, StoreError> {
        let mut done = Commit { inbox_consumed: vec![message.id], ..Commit::new() };
        if let Some(node) = &self.shared.node {
            match node.under(message.post.shard) {
                Ok(under) => done.under = Some(under),
                Err(_) => return Ok(true),
            }
        }
        let Some(asked) = Asked::read(&message.post.payload) else {
            return self.consume(done).await;
        };
        let now = time::millis(self.shared.clock.now());
        let refuse = |code: (&str, &str, &str), transient: bool| refused(&asked.caller, code, transient, now);
        let Some((workflow, parameters)) = self.shared.workflow(&asked.workflow) else {
            let why = format!("The child workflow '{}' is not deployed.", asked.workflow);
            done.keys.push(refuse(("BadRequest", "WorkflowNotFound", &why), false));
            return self.consume(done).await;
        };
        let request = RunRequest {
            workflow,
            trigger: asked.trigger.clone(),
            outputs: asked.outputs.clone(),
            parameters,
            tracking_id: asked.tracking_id.clone(),
            wants_response: true,
            trace: None,
            depth: asked.depth,
        };
        match children::start(self, request, &asked.caller, Some(message.id)).await {
            Ok(Some(children)) => {
                let (mut accepted, mut were_known) = (true, true);
                for child in children {
                    if let Child::Started(mut run) = child {
                        were_known = false;
                        accepted &= run.accepted().await;
                    }
                }
                if were_known { self.consume(done).await } else { Ok(accepted) }
            }
            Ok(None) => {
                let why = format!(
                    "The child workflow '{}' did not start: a condition of its trigger is not met.",
                    asked.workflow
                );
                done.keys.push(refuse(("BadRequest", "TriggerConditionNotMet", &why), false));
                self.consume(done).await
            }
            Err(StartError::Store(error)) => Err(error),
            Err(StartError::Elsewhere { .. } | StartError::Stopping) => Ok(false),
            Err(error) => {
                let transient = matches!(error, StartError::Full { .. });
                let why = error.to_string();
                done.keys.push(refuse(("BadRequest", "ChildWorkflowNotStarted", &why), transient));
                self.consume(done).await
            }
        }
    }

    async fn consume(&self, commit: Commit) -> Result<bool, StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(true) };
        match durable.store.commit(commit).await {
            // Somebody else has consumed it.
            Err(StoreError::Conflict(Conflict::Taken { .. } | Conflict::Lost { .. })) => Ok(true),
            written => written.map(|_| true),
        }
    }

    /// Waits until a run that another node continues has responded or ended, or until this node owns it. None in the latter
    /// case.
    pub(super) async fn response_elsewhere(&self, run: RunId) -> Result<Option<Found>, RecoverError> {
        let [mut wait, longest] = LOOKS;
        while !self.shared.may_load(run) && !self.shared.stopping.is_cancelled() {
            match self.state_of(run).await? {
                Some((_, state)) if state.response().is_some() || state.status().is_final() => {
                    return Ok(Some(Found::State(Box::new(state))));
                }
                Some(_) => {}
                None => return Ok(Some(Found::Nothing)),
            }
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
        Ok(None)
    }

    /// Continues the numbering of runs after the newest ones of these shards, and finds the messages to their runs.
    pub(super) async fn continue_numbering_in(&self, shards: Shards) -> Result<(), StoreError> {
        let Some(durable) = &self.shared.durable else { return Ok(()) };
        if let Some(newest) = durable.store.newest_run(shards).await? {
            self.shared.ids.lock().unwrap_or_else(PoisonError::into_inner).continue_after(newest);
        }
        self.find_messages(shards).await
    }
}

/// What the store has of a run that another node continues.
pub(super) enum Found {
    /// Its state: it has responded or ended.
    State(Box<RunState>),
    /// There is no such run.
    Nothing,
}
