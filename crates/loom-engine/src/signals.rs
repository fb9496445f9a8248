//! Signals: named messages to a run, and the actions that wait for them.
//!
//! A signal is a message in the store's inbox. It is durable when its sender receives the response, and is consumed by the commit that
//! records the end of the action that received it. A crash therefore neither loses a signal nor delivers it twice, a signal
//! that arrives before an action waits for it is kept, and the journal needs no events for signals. Only the names of signals
//! that have not been received are in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use loom_definition::{
    Workflow,
    model::{ActionKind, EffectKind, same_name},
};
use loom_expression::{Timestamp, Value};
use loom_store::{Error as StoreError, Inbox, InboxId, InboxMessage, InboxQuery, Recipient, Shards, Store};
use tokio::sync::watch;

use crate::{
    event::{EffectId, EffectResult, ErrorInfo, Outcome, RetryHint, RunId},
    ports::Call,
    questions,
    unloadable::RecoverError,
};

/// The kind of inbox messages that are signals.
pub(crate) const KIND: u16 = 2;

/// Messages read at a time.
const PAGE: usize = 16;

/// The delay before the store is read again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// The maximum number of signals of one run that have not been received.
pub const SIGNALS_MAX: u64 = 1_000;

/// The maximum length of a signal's name, in characters.
pub const SIGNAL_NAME_MAX: usize = 128;

/// A message to a run.
#[derive(Clone, Debug)]
pub struct Signal {
    /// The name that actions wait for, 1 to [`SIGNAL_NAME_MAX`] characters; compared without regard to case.
    pub name: Arc<str>,
    /// The content, if there is any.
    pub body: Option<Value>,
    /// Signals to the same run with the same key are delivered once.
    pub idempotency_key: Option<Arc<str>>,
}

/// Why a signal is not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The run does not exist.
    #[error("the run '{run}' does not exist")]
    Unknown {
        /// The run.
        run: RunId,
    },
    /// The run has ended.
    #[error("the run '{run}' has ended")]
    Ended {
        /// The run.
        run: RunId,
    },
    /// No action of the definition waits for this name.
    #[error("no action of workflow '{workflow}' waits for a signal '{name}'; {known}")]
    NotAwaited {
        /// The workflow's name.
        workflow: Arc<str>,
        /// The signal's name.
        name: Arc<str>,
        /// The names that the workflow waits for, as a clause such as "it waits for 'approved'".
        known: String,
    },
    /// The name is empty, longer than [`SIGNAL_NAME_MAX`] characters, or contains control characters.
    #[error("a signal name must have 1 to {SIGNAL_NAME_MAX} characters and no control characters")]
    BadName,
    /// [`SIGNALS_MAX`] signals have not been received yet.
    #[error(
        "{SIGNALS_MAX} signals to run '{run}' have not been received yet; no more are accepted until then"
    )]
    Full {
        /// The run.
        run: RunId,
    },
    /// The store did not accept the signal.
    #[error("the store did not accept the signal")]
    Store(#[source] StoreError),
    /// The run cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
}

/// Whether this may be the name of a signal.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= SIGNAL_NAME_MAX && !name.chars().any(char::is_control)
}

/// Rejects a name that no action waits for, unless an action computes the name that it waits for.
pub(crate) fn awaited(workflow: &Workflow, name: &Arc<str>) -> Result<(), SignalError> {
    let mut known: Vec<&str> = Vec::new();
    for action in &workflow.actions {
        let ActionKind::Effect { effect: EffectKind::Signal, inputs } = &action.kind else { continue };
        if questions::asks(action) {
            continue;
        }
        let Some(waits_for) = inputs.source_value().get("name").and_then(Value::as_str) else {
            return Ok(());
        };
        if waits_for.contains('@') || same_name(waits_for, name) {
            return Ok(());
        }
        if !known.contains(&waits_for) {
            known.push(waits_for);
        }
    }
    let known = match &known[..] {
        [] => "it has no WaitForSignal action".to_owned(),
        known => format!("it waits for '{}'", known.join("', '")),
    };
    Err(SignalError::NotAwaited { workflow: Arc::clone(&workflow.name), name: Arc::clone(name), known })
}

/// The result of a wait for a signal.
#[derive(Debug)]
pub(crate) struct Received {
    /// The outcome of the action that waited.
    pub(crate) result: EffectResult,
    /// When the signal was sent, if there is one.
    pub(crate) sent: Option<Timestamp>,
}

/// The signals of one run in progress.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pending: Mutex<Pending>,
    /// Notified when there may be a signal for a waiting call.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The last message that was read.
    read_to: Option<InboxId>,
    /// Names of the signals that were read and have not been received.
    names: BTreeMap<InboxId, Arc<str>>,
    /// Waiting calls, with the name each waits for; the one that has waited longest is first.
    waiting: BTreeMap<EffectId, Arc<str>>,
    /// The signals that calls have received.
    given: BTreeMap<EffectId, (InboxId, Arc<str>)>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox { pending: Mutex::default(), news: watch::channel(()).0 }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that there may be a new message in the store.
    pub(crate) fn notify(&self) {
        self.news.send_replace(());
    }

    /// Takes the message that a call has received, to be consumed by the commit that records the call's end.
    pub(crate) fn take(&self, effect: EffectId) -> Option<InboxId> {
        self.lock().given.remove(&effect).map(|(message, _)| message)
    }

    /// Puts back the message that a call has received but does not need.
    pub(crate) fn put_back(&self, effect: EffectId) {
        let mut pending = self.lock();
        if let Some((message, name)) = pending.given.remove(&effect) {
            pending.names.insert(message, name);
            drop(pending);
            self.notify();
        }
    }

    /// Waits for the signal that a call waits for. The message stays assigned to the call until [`Mailbox::take`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the call's turn; a signal that it was about to receive goes to the next call.
    pub(crate) async fn receive(self: Arc<Mailbox>, store: Arc<dyn Store>, call: &Call) -> Received {
        let named = || call.inputs.get("name").and_then(Value::as_str).filter(|name| is_name(name));
        let Some(name) = questions::answered_as(call).or_else(|| named().map(Arc::from)) else {
            let result = failed("BadRequest", "InvalidTemplateInputs", SignalError::BadName.to_string());
            return Received { result, sent: None };
        };
        let turn = Turn::of(&self, call.effect, name);
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            match self.look(&*store, call).await {
                Ok(Some(received)) => {
                    turn.over();
                    return received;
                }
                Ok(None) => {
                    // The sender lives as long as the mailbox.
                    news.changed().await.ok();
                }
                Err(error) => {
                    tracing::warn!(run_id = %call.run, %error, "cannot read the signals of a run; trying again");
                    self.put_back(call.effect);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Whether a call that waits is about to receive a signal that is in the store by now.
    pub(crate) async fn has_news(&self, store: &dyn Inbox, run: RunId) -> Result<bool, StoreError> {
        if self.lock().waiting.is_empty() {
            return Ok(false);
        }
        self.read_on(store, run).await?;
        let has_news = {
            let pending = self.lock();
            let has = |(effect, wanted): (&EffectId, &Arc<str>)| {
                pending.given.contains_key(effect)
                    || pending.names.values().any(|name| same_name(name, wanted))
            };
            pending.waiting.iter().any(has)
        };
        if has_news {
            self.notify();
        }
        Ok(has_news)
    }

    async fn look(&self, store: &dyn Inbox, call: &Call) -> Result<Option<Received>, StoreError> {
        self.read_on(store, call.run).await?;
        loop {
            let Some(message) = self.lock().give(call.effect) else { return Ok(None) };
            let after = Some(InboxId(message.0.saturating_sub(1)));
            let query =
                InboxQuery { recipient: Recipient::Run(call.run), after, limit: 1, shards: Shards::ALL };
            let found = store.inbox(query).await?.into_iter().find(|found| found.id == message);
            if let Some((signal, sent)) = found.as_ref().and_then(|found| Some((read(found)?, found.post.at)))
            {
                let outcome = Outcome::ok(Some(signal));
                return Ok(Some(Received {
                    result: EffectResult::Done { outcome, hint: RetryHint::default() },
                    sent: Some(Timestamp::from_unix_millis(sent.0)),
                }));
            }
            // The message has been consumed, or is not a signal.
            self.take(call.effect);
        }
    }

    /// Reads the messages that have arrived since the last time.
    async fn read_on(&self, store: &dyn Inbox, run: RunId) -> Result<(), StoreError> {
        loop {
            let after = self.lock().read_to;
            let query =
                InboxQuery { recipient: Recipient::Run(run), after, limit: PAGE, shards: Shards::ALL };
            let page = store.inbox(query).await?;
            let is_last = page.len() < PAGE;
            let mut pending = self.lock();
            for message in page {
                // Another waiting call may have read the same page in the meantime, and its signals may be received.
                if pending.read_to.is_some_and(|read_to| message.id <= read_to) {
                    continue;
                }
                pending.read_to = Some(message.id);
                let name = read(&message).and_then(|signal| signal.get("name")?.as_str().map(Arc::from));
                if let Some(name) = name {
                    pending.names.insert(message.id, name);
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

impl Pending {
    /// The oldest message that a call waits for, less those for calls that have waited longer for the same name.
    fn give(&mut self, effect: EffectId) -> Option<InboxId> {
        let name = Arc::clone(self.waiting.get(&effect)?);
        let before = |(other, wanted): &(&EffectId, &Arc<str>)| **other < effect && same_name(wanted, &name);
        let before = self.waiting.iter().filter(before).filter(|(other, _)| !self.given.contains_key(other));
        let turn = before.count();
        let mut fitting = self.names.iter().filter(|(_, known)| same_name(known, &name));
        let (message, known) = fitting.nth(turn).map(|(message, known)| (*message, Arc::clone(known)))?;
        self.names.remove(&message);
        self.given.insert(effect, (message, known));
        Some(message)
    }
}

/// The place of a waiting call in the queue.
struct Turn<'m> {
    mailbox: &'m Mailbox,
    effect: EffectId,
    has_received: std::cell::Cell<bool>,
}

impl<'m> Turn<'m> {
    fn of(mailbox: &'m Mailbox, effect: EffectId, name: Arc<str>) -> Turn<'m> {
        mailbox.lock().waiting.insert(effect, name);
        Turn { mailbox, effect, has_received: std::cell::Cell::new(false) }
    }

    fn over(&self) {
        self.has_received.set(true);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.mailbox.lock().waiting.remove(&self.effect);
        if !self.has_received.get() {
            self.mailbox.put_back(self.effect);
            // The calls behind it move up.
            self.mailbox.notify();
        }
    }
}

/// The content of a signal, which becomes the action's outputs: `{name, sentTime, body?}`.
fn read(message: &InboxMessage) -> Option<Value> {
    (message.post.kind == KIND).then(|| Value::parse_json(&message.post.payload).ok()).flatten()
}

fn failed(code: &'static str, error: &'static str, message: String) -> EffectResult {
    let outcome = Outcome::failed(code, ErrorInfo::new(error, message));
    EffectResult::Done { outcome, hint: RetryHint::default() }
}

/// The result of a wait for a signal in a run that is not in a store.
pub(crate) fn unreachable() -> EffectResult {
    let why = "Signals require a store, and this run exists only in memory.";
    failed("NotImplemented", "SignalsNotAvailable", why.to_owned())
}
