//! Signals: what somebody sends to a run by name, and the actions that wait for it.
//!
//! A signal is a message in the store's inbox from the moment it is answered, and leaves it in the commit that holds the
//! end of the action which received it. So a crash neither loses one nor delivers it twice, one that comes before
//! anybody waits for it is kept, and the journal needs no events of its own for them. In memory are only the names of those
//! that nobody has received yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use loom_definition::{
    Workflow,
    model::{ActionKind, EffectKind, same_name},
};
use loom_expression::{Object, Value};
use loom_store::{Commit, Error as StoreError, InboxId, InboxMessage, InboxQuery, Post, Recipient, Store};
use tokio::sync::watch;

use crate::{
    durable,
    engine::Engine,
    event::{EffectId, EffectResult, ErrorInfo, Outcome, RetryHint, RunId},
    ports::Call,
};

/// What tells signals from other messages in the store's inbox.
const KIND: u16 = 2;

/// Messages read at a time.
const PAGE: usize = 16;

/// How soon a store that could not be read is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The most signals that may wait in one run until an action receives them.
pub const SIGNALS_MAX: u64 = 1_000;

/// The longest name, in characters.
pub const SIGNAL_NAME_MAX: usize = 128;

/// Something that is sent to a run.
#[derive(Clone, Debug)]
pub struct Signal {
    /// Which actions receive it; case does not count.
    pub name: Arc<str>,
    /// What it says.
    pub body: Option<Value>,
    /// A second signal to the run under the same key is the first.
    pub idempotency_key: Option<Arc<str>>,
}

/// Why a signal is not taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// There is no such run.
    #[error("there is no run '{run}'")]
    Unknown {
        /// The id asked for.
        run: RunId,
    },
    /// Nobody will ever receive it.
    #[error("the run '{run}' has ended")]
    Ended {
        /// Which.
        run: RunId,
    },
    /// No action of the definition waits for this name.
    #[error("no action of workflow '{workflow}' waits for a signal '{name}'; {known}")]
    NotAwaited {
        /// The workflow.
        workflow: Arc<str>,
        /// The name asked for.
        name: Arc<str>,
        /// Which ones are waited for, in words.
        known: String,
    },
    /// A name is 1 to [`SIGNAL_NAME_MAX`] characters.
    #[error(
        "the name of a signal has 1 to {SIGNAL_NAME_MAX} characters, and no control characters among them"
    )]
    BadName,
    /// Too many wait already.
    #[error("{SIGNALS_MAX} signals wait in run '{run}' and were not received")]
    Full {
        /// Which.
        run: RunId,
    },
    /// The store does not take it in.
    #[error("the store did not take the signal in")]
    Store(#[source] StoreError),
    /// The run cannot be read.
    #[error(transparent)]
    Unreadable(#[from] durable::RecoverError),
}

impl Engine {
    /// Sends a signal to a run in the store, whether or not it is in progress, and whether or not anybody waits for it yet.
    /// Gives the signal's number, once it is durable. An action that waits for it receives it by and by. One that was sent
    /// under its key before has its number, also when the run has ended since.
    ///
    /// # Errors
    /// [`SignalError`]; nothing was sent then.
    ///
    /// # Cancel safety
    /// The signal is sent, or is not, when the future is dropped.
    pub async fn signal(&self, run: RunId, signal: Signal) -> Result<InboxId, SignalError> {
        if !is_name(&signal.name) {
            return Err(SignalError::BadName);
        }
        let Some(durable) = &self.inner().durable else { return Err(SignalError::Unknown { run }) };
        let row = durable.store.run(run).await.map_err(SignalError::Store)?;
        let row = row.ok_or(SignalError::Unknown { run })?;
        let key = signal.idempotency_key.map(|key| Arc::<str>::from(format!("signal:{key}")));
        if let Some(key) = &key
            && let Some(first) = durable.store.posted(Some(run), key).await.map_err(SignalError::Store)?
        {
            return Ok(first);
        }
        if row.ended.is_some() {
            return Err(SignalError::Ended { run });
        }
        awaited(&*durable.workflow_of(run, &row).await?, &signal.name)?;
        if durable.store.pending(run).await.map_err(SignalError::Store)? >= SIGNALS_MAX {
            return Err(SignalError::Full { run });
        }
        let now = self.inner().clock.now();
        let mut kept = Object::new();
        kept.insert("name", signal.name);
        kept.insert("sentTime", now.to_string());
        if let Some(body) = signal.body {
            kept.insert("body", body);
        }
        let mut commit = Commit::new();
        commit.inbox_posted.push(Post {
            run: Some(run),
            kind: KIND,
            at: durable::millis(now),
            idempotency_key: key,
            payload: Bytes::from(Value::from(kept).to_json_text()),
        });
        let committed = durable.store.commit(commit).await.map_err(SignalError::Store)?;
        self.inner().tell_mailbox(run);
        match committed {
            loom_store::Committed::Written(written) if !written.inbox.is_empty() => Ok(written.inbox[0]),
            // A commit that belongs to no run has no twin, and each post gets its number.
            _ => Err(SignalError::Store(StoreError::Closed)),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= SIGNAL_NAME_MAX && !name.chars().any(char::is_control)
}

/// Refuses a name that no action waits for, unless some action computes the name that it waits for.
fn awaited(workflow: &Workflow, name: &Arc<str>) -> Result<(), SignalError> {
    let mut known: Vec<&str> = Vec::new();
    for action in &workflow.actions {
        let ActionKind::Effect { effect: EffectKind::Signal, inputs } = &action.kind else { continue };
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
        [] => "it has no WaitForSignal".to_owned(),
        known => format!("it waits for '{}'", known.join("', '")),
    };
    Err(SignalError::NotAwaited { workflow: Arc::clone(&workflow.name), name: Arc::clone(name), known })
}

/// The signals of one run in progress.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pending: Mutex<Pending>,
    /// Told when there may be something for somebody who waits.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pending {
    /// The last message that was read.
    read_to: Option<InboxId>,
    /// Names of those that were read and are not received.
    names: BTreeMap<InboxId, Arc<str>>,
    /// Who waits, and for which name; whoever has waited longest goes first.
    waiting: BTreeMap<EffectId, Arc<str>>,
    /// What those who have stopped waiting are given.
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

    /// There may be a new message in the store.
    pub(crate) fn tell(&self) {
        self.news.send_replace(());
    }

    /// Gives the message of a call that has received it away, for the commit of its end.
    pub(crate) fn take(&self, effect: EffectId) -> Option<InboxId> {
        self.lock().given.remove(&effect).map(|(message, _)| message)
    }

    /// A call that has received a message has no use for it.
    pub(crate) fn put_back(&self, effect: EffectId) {
        let mut pending = self.lock();
        if let Some((message, name)) = pending.given.remove(&effect) {
            pending.names.insert(message, name);
            drop(pending);
            self.tell();
        }
    }

    /// Waits for the signal that a call asks for. A message that it gives stays [given](Mailbox::take) to the call.
    ///
    /// # Cancel safety
    /// Dropping the future gives up its turn, and what it was about to receive goes to the next.
    pub(crate) async fn receive(self: Arc<Mailbox>, store: Arc<dyn Store>, call: &Call) -> EffectResult {
        let Some(name) = call.inputs.get("name").and_then(Value::as_str).filter(|name| is_name(name)) else {
            return failed("BadRequest", "InvalidTemplateInputs", SignalError::BadName.to_string());
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
                    tracing::warn!(run_id = %call.run, %error, "the signals of a run cannot be read");
                    self.put_back(call.effect);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn look(&self, store: &dyn Store, call: &Call) -> Result<Option<EffectResult>, StoreError> {
        self.read_on(store, call.run).await?;
        loop {
            let Some(message) = self.lock().give(call.effect) else { return Ok(None) };
            let after = Some(InboxId(message.0.saturating_sub(1)));
            let query = InboxQuery { recipient: Recipient::Run(call.run), after, limit: 1 };
            let found = store.inbox(query).await?.into_iter().find(|found| found.id == message);
            if let Some(found) = found.as_ref().and_then(read) {
                return Ok(Some(EffectResult::Done {
                    outcome: Outcome::ok(Some(found)),
                    hint: RetryHint::default(),
                }));
            }
            // It is gone, or is none of ours.
            self.take(call.effect);
        }
    }

    /// Learns which messages have come since the last look.
    async fn read_on(&self, store: &dyn Store, run: RunId) -> Result<(), StoreError> {
        loop {
            let after = self.lock().read_to;
            let query = InboxQuery { recipient: Recipient::Run(run), after, limit: PAGE };
            let page = store.inbox(query).await?;
            let is_last = page.len() < PAGE;
            let mut pending = self.lock();
            for message in page {
                // Another one who waits may have read the same page meanwhile, and what it had may be received.
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
    /// The oldest message that a call waits for, unless others wait for the same and have waited longer.
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

/// A call that waits.
struct Turn<'m> {
    mailbox: &'m Mailbox,
    effect: EffectId,
    has_received: std::cell::Cell<bool>,
}

impl<'m> Turn<'m> {
    fn of(mailbox: &'m Mailbox, effect: EffectId, name: &str) -> Turn<'m> {
        mailbox.lock().waiting.insert(effect, Arc::from(name));
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
            // Whoever waits behind it is nearer to its turn.
            self.mailbox.tell();
        }
    }
}

/// What a message says, as the action shows it: `{name, sentTime, body?}`.
fn read(message: &InboxMessage) -> Option<Value> {
    (message.post.kind == KIND).then(|| Value::parse_json(&message.post.payload).ok()).flatten()
}

fn failed(code: &'static str, error: &'static str, message: String) -> EffectResult {
    let outcome = Outcome::failed(code, ErrorInfo::new(error, message));
    EffectResult::Done { outcome, hint: RetryHint::default() }
}

/// For runs that no message can reach.
pub(crate) fn unreachable() -> EffectResult {
    let why = "Signals reach runs that are kept in a store, and this one lives in memory alone.";
    failed("NotImplemented", "SignalsNotAvailable", why.to_owned())
}
