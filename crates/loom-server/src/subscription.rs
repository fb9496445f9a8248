//! Webhook triggers: HttpWebhook and ApiConnectionWebhook.
//!
//! A subscription is a record in the store with its own id, from which its callback URL is derived. The record is stored before
//! the service is called, so that a crash neither loses nor duplicates the subscription: the next process calls the service
//! again, with the same URL and idempotency key. The record is deleted after the service has accepted the unsubscription; so the
//! subscription of a workflow that is removed while the server is down is ended by the next process.
//!
//! The waits between attempts are kept only in memory, on purpose. A process that starts calls the service immediately, because
//! its operator may have corrected the problem. The service is called earlier than planned, but never for a second
//! subscription; and to unsubscribe twice does no harm.

use std::{sync::Arc, time::Duration};

use loom_definition::trigger::Trigger;
use loom_engine::{
    ports::{TriggerCall, TriggerPurpose},
    trigger_shard,
};
use loom_expression::{Object, Value};
use loom_store::{KeyQuery, KeyWrite, Shards};

use crate::{
    deploy::Deployment,
    host::Host,
    keys::key_write,
    poll::record,
    sealed,
    sign::Signer,
    trigger_history::{Note, NoteStatus},
    trigger_task::{AGAIN, Answered, TriggerTask},
};

/// The namespace of subscriptions in the store; keys are their ids.
const NAMESPACE: &str = "subscription";

/// The prefix of callback tokens of triggers.
const TOKEN: &str = "trigger-";

/// The wait between rounds of attempts when a service rejects them. Each round has the trigger's retries.
const NEXT_ROUND: Duration = Duration::from_mins(5);

/// The number of rounds of attempts to unsubscribe before the subscription is abandoned.
const LEAVE_ROUNDS: u32 = 12;

/// The number of records that are read from the store at once.
const PAGE: usize = 200;

/// The phase of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The service is being called to subscribe.
    Subscribing,
    /// The subscription is active.
    Subscribed,
    /// The service is being called to unsubscribe.
    Leaving,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    id: String,
    workflow: Arc<str>,
    trigger: Arc<str>,
    /// An opaque id of its deployment and the server's URL.
    mark: String,
    phase: Phase,
    /// The call that ends it, if one is needed.
    unsubscribe: Option<Unsubscribe>,
}

/// What is needed to unsubscribe, even if the definition no longer exists.
#[derive(Clone, Debug)]
struct Unsubscribe {
    inputs: Value,
    address: Option<Arc<str>>,
    through_connection: bool,
}

impl Phase {
    const ALL: [(Phase, &'static str); 3] =
        [(Phase::Subscribing, "subscribing"), (Phase::Subscribed, "subscribed"), (Phase::Leaving, "leaving")];
}

impl Subscription {
    fn read(host: &Host, id: &str, kept: &[u8]) -> Option<Subscription> {
        let (kept, was_sealed) = sealed::read(&host.store.sealer(), NAMESPACE, kept)?;
        let mut subscription = Subscription::from_value(id, &kept)?;
        if was_sealed && let Some(unsubscribe) = &mut subscription.unsubscribe {
            unsubscribe.inputs = unsubscribe.inputs.clone().into_secret();
        }
        Some(subscription)
    }

    /// What is stored. The request that ends it may hold secrets.
    fn write(&self, host: &Host) -> KeyWrite {
        let secret = self.unsubscribe.as_ref().is_some_and(|end| end.inputs.contains_secret());
        let value = sealed::write(&host.store.sealer(), NAMESPACE, self.to_object(), secret);
        KeyWrite {
            namespace: NAMESPACE.into(),
            key: self.id.as_str().into(),
            value: Some(value),
            ..KeyWrite::default()
        }
    }

    fn from_value(id: &str, kept: &Value) -> Option<Subscription> {
        let text = |name: &str| kept.get(name).and_then(Value::as_str);
        let phase = Phase::ALL.iter().find(|(_, name)| Some(*name) == text("phase"))?.0;
        let unsubscribe = kept.get("unsubscribe").filter(|kept| !kept.is_null()).map(|kept| Unsubscribe {
            inputs: kept.get("inputs").cloned().unwrap_or_default(),
            address: kept.get("address").and_then(Value::as_str).map(Arc::from),
            through_connection: kept.get("throughConnection").and_then(Value::as_bool).unwrap_or(false),
        });
        Some(Subscription {
            id: id.to_owned(),
            workflow: text("workflow")?.into(),
            trigger: text("trigger")?.into(),
            mark: text("mark")?.to_owned(),
            phase,
            unsubscribe,
        })
    }

    fn to_object(&self) -> Object {
        let mut kept = Object::new();
        kept.insert("workflow", Arc::clone(&self.workflow));
        kept.insert("trigger", Arc::clone(&self.trigger));
        kept.insert("mark", self.mark.as_str());
        let phase = Phase::ALL.iter().find(|(phase, _)| *phase == self.phase);
        kept.insert("phase", phase.map(|(_, name)| *name));
        if let Some(unsubscribe) = &self.unsubscribe {
            let mut end = Object::new();
            end.insert("inputs", unsubscribe.inputs.clone());
            end.insert("address", unsubscribe.address.as_deref());
            end.insert("throughConnection", unsubscribe.through_connection);
            kept.insert("unsubscribe", end);
        }
        kept
    }

    /// Whether it belongs to this trigger.
    fn is_of(&self, deployment: &Deployment, trigger: &Trigger) -> bool {
        self.workflow.to_lowercase() == deployment.workflow.name.to_lowercase()
            && self.trigger.to_lowercase() == trigger.name.to_lowercase()
    }

    /// The callback URL for the service.
    fn callback_url(&self, host: &Host) -> String {
        format!("{}/callbacks/{}", host.settings.base, token(&host.signer, &self.id))
    }
}

fn token(signer: &Signer, id: &str) -> String {
    format!("{TOKEN}{id}-{}", signer.mark(&["subscription", id]))
}

/// The owner of a subscription: a deployment, served under a URL. It changes each time the trigger is enabled.
fn mark(host: &Host, deployment: &Deployment, trigger: &str) -> String {
    let deployed = deployment.mark(&host.signer);
    let mut parts = vec!["subscriber", &deployed, &host.settings.base];
    let enabled = host.switches.times_enabled(&deployment.workflow.name, trigger).to_string();
    if enabled != "0" {
        parts.push(&enabled);
    }
    host.signer.mark(&parts)
}

/// The trigger that a callback is for.
#[derive(Debug)]
pub(crate) enum Found {
    /// A trigger of the current deployment.
    Trigger(Arc<Deployment>, Arc<str>),
    /// A subscription that has ended.
    Ended,
    /// Not a valid callback URL.
    Unknown,
}

/// Whether a callback token belongs to a trigger.
pub(crate) fn is_token(token: &str) -> bool {
    token.starts_with(TOKEN)
}

/// Finds the trigger of a callback.
pub(crate) async fn find(host: &Host, given: &str) -> Result<Found, loom_store::Error> {
    let id = given.strip_prefix(TOKEN).and_then(|rest| rest.split_once('-')).map(|(id, _)| id);
    let Some(id) = id.filter(|id| crate::sign::same(token(&host.signer, id).as_bytes(), given.as_bytes()))
    else {
        return Ok(Found::Unknown);
    };
    let Some(subscription) = load(host, id).await? else { return Ok(Found::Ended) };
    let deployment = host.deployments.get(&subscription.workflow);
    let current =
        deployment.filter(|deployment| mark(host, deployment, &subscription.trigger) == subscription.mark);
    Ok(match current {
        // A service may call back before its response to the subscription has arrived.
        Some(deployment) if subscription.phase != Phase::Leaving => {
            Found::Trigger(deployment, subscription.trigger)
        }
        _ => Found::Ended,
    })
}

async fn load(host: &Host, id: &str) -> Result<Option<Subscription>, loom_store::Error> {
    let kept = host.store.key(NAMESPACE, id).await?;
    Ok(kept.and_then(|kept| Subscription::read(host, id, &kept.value)))
}

async fn all(host: &Host) -> Result<Vec<Subscription>, loom_store::Error> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
        let page = host.store.keys(query).await?;
        found.extend(page.values.iter().filter_map(|kept| Subscription::read(host, &kept.key, &kept.value)));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

async fn save(host: &Host, subscription: &Subscription) -> Result<(), loom_store::Error> {
    let mut commit = loom_store::Commit::new();
    host.fence(&subscription.workflow, &subscription.trigger, &mut commit)?;
    commit.keys.push(subscription.write(host));
    host.store.commit(commit).await.map(drop)
}

async fn forget(host: &Host, subscription: &Subscription) -> Result<(), loom_store::Error> {
    let mut commit = loom_store::Commit::new();
    host.fence(&subscription.workflow, &subscription.trigger, &mut commit)?;
    commit.keys.push(key_write(NAMESPACE, &subscription.id, None));
    host.store.commit(commit).await.map(drop)
}

/// Ends the subscriptions without an enabled trigger, of triggers in these shards. Called when all definitions are deployed, and
/// when the shards become this process's.
pub(crate) async fn end_orphans(host: &Arc<Host>, shards: Shards) -> Result<(), loom_store::Error> {
    for subscription in all(host).await? {
        if !shards.contains(trigger_shard(&subscription.workflow, &subscription.trigger)) {
            continue;
        }
        let deployment = host.deployments.get(&subscription.workflow);
        let wanted = deployment.is_some_and(|deployment| {
            deployment.trigger(&subscription.trigger).is_some()
                && host.disabled_by(&deployment, Some(&subscription.trigger)).is_none()
                && mark(host, &deployment, &subscription.trigger) == subscription.mark
        });
        if !wanted || subscription.phase == Phase::Leaving {
            end(host, subscription);
        }
    }
    Ok(())
}

/// Ends a subscription in a task of the host.
fn end(host: &Arc<Host>, subscription: Subscription) {
    let (host, tasks) = (Arc::clone(host), host.tasks.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = leave(&host, subscription) => {}
            // The next process continues.
            () = host.stopping.cancelled() => {}
        }
    });
}

/// Subscribes, and unsubscribes when the deployment is retired. Subscriptions survive a shutdown of the host.
pub(crate) async fn keep(task: &TriggerTask) {
    let subscription = tokio::select! {
        subscription = subscribe_on(task) => subscription,
        () = task.stopped.cancelled() => return,
    };
    tokio::select! {
        () = task.retired.cancelled() => {}
        () = task.stopped.cancelled() => return,
    }
    if let Some(subscription) = subscription {
        tokio::select! {
            () = leave(&task.host, subscription) => {}
            () = task.stopped.cancelled() => {}
        }
    }
}

/// Subscribes, and restarts from the stored state whenever the store has failed.
async fn subscribe_on(task: &TriggerTask) -> Option<Subscription> {
    loop {
        match subscribe(task).await {
            Ok(subscription) => return subscription,
            Err(error) => {
                tracing::warn!(%error, trigger = %task.trigger().name, "the subscription is waiting for the store");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = task.retired.cancelled() => return None,
        }
    }
}

/// Returns the subscription when it is active, or in its current phase when the deployment is retired.
async fn subscribe(task: &TriggerTask) -> Result<Option<Subscription>, loom_store::Error> {
    let host = &task.host;
    task.count_notes().await?;
    let mark = mark(host, &task.deployment, &task.trigger().name);
    let known = all(host).await?.into_iter().find(|known| {
        known.is_of(&task.deployment, task.trigger()) && known.mark == mark && known.phase != Phase::Leaving
    });
    let mut subscription = match known {
        Some(known) if known.phase == Phase::Subscribed => return Ok(Some(known)),
        Some(known) => known,
        None => {
            let Some(id) = fresh_id() else {
                task.fails_for_good("NoRandomBytes", "The system provides no random bytes.").await?;
                return Ok(None);
            };
            let new = Subscription {
                id,
                workflow: Arc::clone(&task.deployment.workflow.name),
                trigger: Arc::clone(&task.trigger().name),
                mark,
                phase: Phase::Subscribing,
                unsubscribe: None,
            };
            save(host, &new).await?;
            new
        }
    };
    let callback = subscription.callback_url(host);
    loop {
        let start = task.now();
        let note = Note::new(start, NoteStatus::Failed);
        let asked = match subscribe_inputs(task, &callback).await {
            Ok(inputs) => {
                // The service may accept the subscription although its response never arrives.
                if subscription.unsubscribe.is_none() && !refers_to_response(task) {
                    subscription.unsubscribe = unsubscribe_of(task, &inputs, None, &callback).await;
                    save(host, &subscription).await?;
                }
                let call = subscribe_call(task, &subscription, inputs.clone());
                let answered = tokio::select! {
                    answered = task.request(&call) => answered,
                    // A subscription that can be ended without its response does not wait for it.
                    () = task.retired.cancelled(), if subscription.unsubscribe.is_some() => {
                        return Ok(Some(subscription));
                    }
                };
                Ok((inputs, answered))
            }
            Err((code, message)) => Err((code, message)),
        };
        match asked {
            Ok((inputs, answered)) if answered.outcome.status == loom_definition::Status::Succeeded => {
                subscription.unsubscribe = unsubscribe_of(task, &inputs, Some(&answered), &callback).await;
                subscription.phase = Phase::Subscribed;
                let note = Note::new(start, NoteStatus::Succeeded);
                let note = note.until(task.now()).code(&answered.outcome.code);
                let kept = subscription.write(host);
                task.commit(vec![kept, task.note(note)]).await?;
                return Ok(Some(subscription));
            }
            Ok((_, answered)) => {
                let (code, message) = answered.error();
                refused(task, note, &code, &message).await?;
            }
            Err((code, message)) => refused(task, note, &code, &message).await?,
        }
        tokio::select! {
            () = tokio::time::sleep(NEXT_ROUND) => {}
            () = task.retired.cancelled() => return Ok(Some(subscription)),
        }
    }
}

async fn refused(task: &TriggerTask, note: Note, code: &str, message: &str) -> Result<(), loom_store::Error> {
    let (workflow, trigger) = (&task.deployment.workflow.name, &task.trigger().name);
    tracing::warn!(%workflow, %trigger, code, message, "the trigger cannot subscribe");
    task.commit(vec![task.note(note.until(task.now()).because(code, message))]).await
}

/// The request that subscribes: the property `subscribe`, or all inputs.
async fn subscribe_inputs(task: &TriggerTask, callback: &str) -> Result<Value, (String, String)> {
    let inputs = async |member: Option<&str>| {
        let view = task.view(None, Some(callback));
        let inputs = task.host.engine.trigger_inputs(view, member).await;
        inputs.map_err(|error| (error.code.to_string(), error.message))
    };
    match inputs(Some("subscribe")).await? {
        // The connection may be given outside `subscribe`.
        Some(subscribe) => {
            let mut whole = Object::new();
            whole.insert("subscribe", subscribe);
            if let Some(host) = inputs(Some("host")).await? {
                whole.insert("host", host);
            }
            Ok(whole.into())
        }
        None => Ok(inputs(None).await?.unwrap_or_default()),
    }
}

fn subscribe_call(task: &TriggerTask, subscription: &Subscription, inputs: Value) -> TriggerCall {
    let mut call =
        task.call(TriggerPurpose::Subscribe, inputs, &format!("{}/{}", task.key(), subscription.id));
    call.callback = Some(subscription.callback_url(&task.host).into());
    call
}

/// Whether the request that ends the subscription depends on the service's response to the one that made it.
fn refers_to_response(task: &TriggerTask) -> bool {
    let inputs = task.trigger().kind.inputs().map(|inputs| inputs.source_value().clone());
    let unsubscribe = inputs.as_ref().and_then(|inputs| inputs.get("unsubscribe"));
    unsubscribe.is_some_and(|unsubscribe| unsubscribe.to_json_text().to_lowercase().contains("trigger"))
}

/// The call that will end the subscription: `unsubscribe`, which may refer to the response of the service; or, for a connection
/// without it, a DELETE of the `Location` in the response.
async fn unsubscribe_of(
    task: &TriggerTask,
    inputs: &Value,
    answered: Option<&Answered>,
    callback: &str,
) -> Option<Unsubscribe> {
    let through_connection = task.call(TriggerPurpose::Unsubscribe, Value::NULL, "").through_connection;
    let outputs = answered.and_then(|answered| answered.outcome.outputs.as_ref()?.as_object().cloned());
    let outputs = outputs.unwrap_or_default();
    let record = record(task, outputs, task.now());
    let view = task.view(Some(&record), Some(callback));
    match task.host.engine.trigger_inputs(view, Some("unsubscribe")).await {
        Ok(Some(own)) if !own.is_null() => {
            let mut own = own.as_object().cloned().unwrap_or_default();
            if through_connection
                && own.get_ignore_case("host").is_none()
                && let Some(host) = inputs.get("host")
            {
                own.insert("host", host.clone());
            }
            Some(Unsubscribe { inputs: own.into(), address: None, through_connection })
        }
        Ok(_) => {
            let location = answered?.location().filter(|_| through_connection);
            let host = inputs.get("host").or_else(|| inputs.get("subscribe")?.get("host"))?;
            let mut request: Object = [("host", host.clone())].into_iter().collect();
            // A connector with a description may name another operation that ends the subscription.
            if through_connection && host.get("operationId").is_some() {
                request = inputs.as_object().cloned().unwrap_or_default();
                request.insert("$subscribed", response_of(answered?.outcome.outputs.as_ref()?));
            } else {
                location?;
            }
            Some(Unsubscribe {
                inputs: request.into(),
                address: location.map(Into::into),
                through_connection,
            })
        }
        Err(error) => {
            let trigger = &task.trigger().name;
            tracing::warn!(%trigger, error = %error.message, "cannot evaluate `unsubscribe`; the service will not be called to unsubscribe");
            None
        }
    }
}

/// The parts of the response to a subscription that the request which ends it may need.
fn response_of(outputs: &Value) -> Value {
    let headers = outputs.get("headers").and_then(Value::as_object);
    let location = headers.and_then(|headers| headers.get_ignore_case("Location")).cloned();
    let body = outputs.get("body").filter(|body| body.bytes() <= RESPONSE_BYTES_MAX).cloned();
    let headers = location.map(|location| Value::from(Object::single("Location".into(), location)));
    let parts = [("headers", headers), ("body", body)];
    parts.into_iter().filter_map(|(name, part)| Some((name, part?))).collect::<Object>().into()
}

/// The most bytes of a body that is stored with a subscription.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

/// Unsubscribes and deletes the record. If the service keeps failing, the subscription is abandoned in the end.
async fn leave(host: &Arc<Host>, mut subscription: Subscription) {
    subscription.phase = Phase::Leaving;
    while let Err(error) = save(host, &subscription).await {
        tracing::warn!(%error, "ending a subscription is waiting for the store");
        tokio::time::sleep(AGAIN).await;
    }
    if let Some(unsubscribe) = &subscription.unsubscribe {
        let call = TriggerCall {
            workflow: Arc::clone(&subscription.workflow),
            version: Arc::from(""),
            trigger: Arc::clone(&subscription.trigger),
            ask: TriggerPurpose::Unsubscribe,
            through_connection: unsubscribe.through_connection,
            inputs: unsubscribe.inputs.clone(),
            callback: None,
            address: unsubscribe.address.clone(),
            idempotency_key: format!("{}/unsubscribe", subscription.id).into(),
            tracking_id: subscription.id.as_str().into(),
        };
        for round in 1..=LEAVE_ROUNDS {
            let Some(calls) = &host.settings.trigger_calls else { break };
            let loom_engine::event::EffectResult::Done { outcome, hint } = calls.call(&call).await else {
                break;
            };
            if outcome.status == loom_definition::Status::Succeeded {
                break;
            }
            let (workflow, trigger) = (&subscription.workflow, &subscription.trigger);
            tracing::warn!(%workflow, %trigger, code = %outcome.code, round, "cannot unsubscribe");
            // A permanent error, such as 404, means that the subscription is gone.
            if !hint.transient {
                break;
            }
            let wait = AGAIN * 2u32.pow(round.min(6));
            tokio::time::sleep(wait.max(hint.after.unwrap_or_default().min(NEXT_ROUND))).await;
        }
    }
    while let Err(error) = forget(host, &subscription).await {
        tracing::warn!(%error, "ending a subscription is waiting for the store");
        tokio::time::sleep(AGAIN).await;
    }
}

/// A new random id.
fn fresh_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_le_bytes(bytes)))
}
