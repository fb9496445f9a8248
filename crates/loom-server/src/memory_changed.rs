//! MemoryChanged triggers: changes of shared memory start runs.
//!
//! The position in the changes is stored in the commit that starts a run, with the changes after it that have started runs
//! already. So after a crash no change is lost, and none starts a second run. Several changes of a key that follow each other
//! quickly may be one, with the newest content.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use loom_definition::trigger::TriggerKind;
use loom_expression::{Object, Timestamp, Value};
use loom_memory::{ChangedPage, Changes, Error, Namespace, Notice, Position, Type};

use tokio_util::sync::CancellationToken;

use crate::{
    deploy::Deployment,
    host::Host,
    trigger_history::{Note, NoteStatus},
    trigger_task::{AGAIN, Fired, TriggerTask},
};

/// How long a position that moves past changes of other keys stays in memory only.
const STORED_AFTER: i128 = Duration::from_secs(30).as_nanos() as i128;

/// What a trigger watches.
struct Watched {
    namespace: Namespace,
    prefix: Arc<str>,
    /// The most changes of one run; `None` for a run for each change.
    batch_size: Option<usize>,
}

/// The stored progress.
#[derive(Clone)]
struct Progress {
    /// Before the changes that come next.
    position: Position,
    /// The changes after `position` that have been handled: the revision of each key, 0 for a deletion. A key is read later
    /// than it changed, so one of these may also be the content of a change that comes later.
    handled: BTreeMap<Arc<str>, u64>,
    /// When it was stored, in nanoseconds since 1970.
    stored: i128,
}

/// Fires for changes until the deployment ends.
pub(crate) async fn keep(task: &TriggerTask) -> Result<(), loom_store::Error> {
    let watched = match watched(task) {
        Ok(Some(watched)) => watched,
        Ok(None) => return Ok(()),
        Err(why) => return task.fails_for_good("InvalidNamespace", &why.to_string()).await,
    };
    loop {
        match follow(task, &watched).await {
            Error::Store(why) => return Err(why),
            why => {
                let (workflow, trigger) = (&task.deployment.workflow.name, &task.trigger().name);
                tracing::warn!(%workflow, %trigger, error = %why, "the changes of shared memory cannot be read; trying again");
                let note = Note::new(task.now(), NoteStatus::Failed).because(why.code(), &why.to_string());
                task.commit(vec![task.note(note)]).await?;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Stores where the triggers of a deployment begin, so that every change after the deployment counts, even if the process is killed
/// before their tasks run.
pub(crate) async fn begin(host: &Arc<Host>, deployment: &Arc<Deployment>) {
    for (place, trigger) in deployment.workflow.triggers.iter().enumerate() {
        let acts = host.acts_for(&deployment.workflow.name, &trigger.name);
        if !acts || !matches!(trigger.kind, TriggerKind::MemoryChanged { .. }) {
            continue;
        }
        let task = TriggerTask::new(
            Arc::clone(host),
            Arc::clone(deployment),
            place,
            CancellationToken::new(),
            CancellationToken::new(),
        );
        // An error in the definition is recorded by the trigger's own task.
        let Ok(Some(watched)) = watched(&task) else { continue };
        let changes = host.engine.memory().changes(watched.namespace.clone(), &watched.prefix);
        if let Err(error) = Progress::load(&task, &watched, &changes).await {
            tracing::warn!(trigger = %trigger.name, %error, "the trigger's position cannot be stored; it begins later");
        }
    }
}

fn watched(task: &TriggerTask) -> Result<Option<Watched>, Error> {
    let TriggerKind::MemoryChanged { namespace, prefix, batch_size } = &task.trigger().kind else {
        return Ok(None);
    };
    let namespace = match &**namespace {
        "workflow" => Namespace::Workflow(Arc::clone(&task.deployment.workflow.name)),
        named => Namespace::parse(named, None)?,
    };
    let batch_size = batch_size.map(|size| size.get() as usize);
    Ok(Some(Watched { namespace, prefix: Arc::clone(prefix), batch_size }))
}

/// Fires for changes until something fails.
async fn follow(task: &TriggerTask, watched: &Watched) -> Error {
    match try_follow(task, watched).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

async fn try_follow(task: &TriggerTask, watched: &Watched) -> Result<std::convert::Infallible, Error> {
    let mut changes = task.host.engine.memory().changes(watched.namespace.clone(), &watched.prefix);
    let mut progress = Progress::load(task, watched, &changes).await?;
    loop {
        let page = changes.read(&progress.position).await?;
        let is_last = page.is_last;
        if !progress.handle(task, watched, page).await? {
            // The limit of concurrent runs is reached. What has changed meanwhile is read again.
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        if progress.stored + STORED_AFTER <= task.now() {
            progress.stored = task.now();
            task.commit(vec![task.state(progress.state(watched))]).await?;
        }
        if is_last {
            changes.changed().await;
        }
    }
}

impl Progress {
    /// The progress of this trigger, also that of an earlier version of the workflow if it watched the same keys. A trigger
    /// without progress begins with the next change.
    async fn load(task: &TriggerTask, watched: &Watched, changes: &Changes) -> Result<Progress, Error> {
        let kept = task.load_any().await?.unwrap_or_default();
        let text = |name: &str| kept.get(name).and_then(Value::as_str);
        let is_same = text("namespace") == Some(&*watched.namespace.to_string())
            && text("prefix") == Some(&*watched.prefix);
        if let Some(position) = text("position").filter(|_| is_same) {
            let handled = kept.get("handled").and_then(Value::as_object).into_iter().flatten();
            let handled = handled.map(|(key, revision)| {
                (Arc::clone(key), revision.as_i64().unwrap_or_default().cast_unsigned())
            });
            let handled = handled.collect();
            return Ok(Progress { position: Position(position.into()), handled, stored: task.now() });
        }
        let progress =
            Progress { position: changes.latest().await?, handled: BTreeMap::new(), stored: task.now() };
        task.commit(vec![task.state(progress.state(watched))]).await?;
        Ok(progress)
    }

    fn state(&self, watched: &Watched) -> Object {
        let handled =
            |(key, revision): (&Arc<str>, &u64)| (Arc::clone(key), Value::from(revision.cast_signed()));
        let mut kept = Object::new();
        kept.insert("namespace", watched.namespace.to_string());
        kept.insert("prefix", Arc::clone(&watched.prefix));
        kept.insert("position", &*self.position.0);
        kept.insert("handled", self.handled.iter().map(handled).collect::<Object>());
        kept
    }

    /// Fires for the changes of a page. Returns false if the limit of concurrent runs stopped it.
    async fn handle(
        &mut self,
        task: &TriggerTask,
        watched: &Watched,
        page: ChangedPage,
    ) -> Result<bool, Error> {
        let ChangedPage { notices, next, is_last } = page;
        let (mut shown, mut new) = (BTreeMap::new(), Vec::new());
        for change in notices.into_iter().filter_map(|notice| Change::of(watched, notice)) {
            let shown_before = shown.insert(Arc::clone(&change.key), change.revision);
            let revision = Some(&change.revision);
            if shown_before.as_ref() != revision && self.handled.get(&change.key) != revision {
                new.push(change);
            }
        }
        let mut batches = new.chunks(watched.batch_size.unwrap_or(1)).peekable();
        while let Some(batch) = batches.next() {
            let mut after = self.clone();
            after.handled.extend(batch.iter().map(|change| (Arc::clone(&change.key), change.revision)));
            after.stored = task.now();
            if batches.peek().is_none() {
                after.end_page(&next, is_last, &shown);
            }
            if !fire(task, watched, batch, after.state(watched)).await? {
                return Ok(false);
            }
            *self = after;
        }
        self.end_page(&next, is_last, &shown);
        Ok(true)
    }

    fn end_page(&mut self, next: &Position, is_last: bool, shown: &BTreeMap<Arc<str>, u64>) {
        self.position = next.clone();
        if is_last {
            // What was handled before this page was read has been shown by its end.
            self.handled.clear();
        }
        self.handled.extend(shown.iter().map(|(key, revision)| (Arc::clone(key), *revision)));
    }
}

/// Starts a run for these changes, and stores the progress with it. Returns false if the limit of concurrent runs is reached.
async fn fire(task: &TriggerTask, watched: &Watched, batch: &[Change], state: Object) -> Result<bool, Error> {
    let (body, name) = if let (None, [change]) = (watched.batch_size, batch) {
        // If the store has lost the changes since the position, all keys are reported: those whose change has started a run
        // do not start another.
        let name = format!("memory:{}:{}/{}:{}", task.key(), watched.namespace, change.key, change.revision);
        (change.shown.clone(), (change.revision > 0).then_some(name))
    } else {
        let changes: Vec<Value> = batch.iter().map(|change| change.shown.clone()).collect();
        let mut body = Object::new();
        body.insert("namespace", watched.namespace.to_string());
        body.insert("changes", changes);
        (body.into(), None)
    };
    let outputs = Object::single("body".into(), body);
    let note = Note::new(task.now(), NoteStatus::Succeeded);
    Ok(match task.fire(outputs.into(), name, None, state, note, Vec::new()).await? {
        Fired::Runs | Fired::NotMet | Fired::Failed => true,
        Fired::NoRoom => false,
    })
}

/// A change.
struct Change {
    key: Arc<str>,
    /// The revision; 0 for a deletion.
    revision: u64,
    /// As runs see it.
    shown: Value,
}

impl Change {
    fn of(watched: &Watched, notice: Notice) -> Option<Change> {
        let (key, kind, revision, value, expires) = match notice {
            Notice::Written { key, kind, revision, value, expires } => {
                (key, Some(kind), revision.0, value, expires)
            }
            Notice::Deleted { key } => (key, None, 0, Value::NULL, None),
            Notice::Reset => return None,
        };
        let key = Arc::clone(key.as_arc_str());
        let mut shown = Object::new();
        shown.insert("change", if kind.is_some() { "written" } else { "deleted" });
        shown.insert("namespace", watched.namespace.to_string());
        shown.insert("key", Arc::clone(&key));
        shown.insert("type", kind.map(Type::name));
        shown.insert("revision", kind.map(|_| revision.cast_signed()));
        shown.insert("value", value);
        shown.insert("expires", expires.map(|expires| Timestamp::from_unix_millis(expires.0).to_string()));
        Some(Change { key, revision, shown: shown.into() })
    }
}

#[cfg(test)]
mod tests;
