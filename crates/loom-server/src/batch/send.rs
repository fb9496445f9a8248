//! SendToBatch: sends a message to a Batch trigger of another workflow or of the same one.

use std::sync::{Arc, OnceLock, Weak};

use loom_definition::trigger::{BatchConfiguration, TriggerKind};
use loom_engine::{
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
    trigger_shard,
};
use loom_expression::{Labels, Object, Value};
use loom_store::{Commit, Post, UnixMillis};

use super::message::{KIND, PARTITION, SEAL};
use crate::{deploy::Deployment, host::Host, sealed, trigger_task::AGAIN};

/// The type of the action.
pub(crate) const TYPE: &str = "SendToBatch";

/// The handler of SendToBatch actions.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    host: OnceLock<Weak<Host>>,
}

impl Sender {
    /// Sets the host whose triggers receive the messages.
    pub(crate) fn belongs_to(&self, host: &Arc<Host>) {
        // Called once, by the host that created it.
        self.host.set(Arc::downgrade(host)).ok();
    }
}

impl ActionHandler for Sender {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(async move {
            let Some(host) = self.host.get().and_then(Weak::upgrade) else {
                return failed("ServerStopping", "The server is shutting down.".to_owned(), true);
            };
            match Message::read(call, &host).await {
                Ok(message) => message.leave(&host, call).await,
                Err((code, why)) => failed(code, why, false),
            }
        })
    }
}

fn failed(code: &'static str, message: String, transient: bool) -> EffectResult {
    let hint = RetryHint { transient, after: transient.then_some(AGAIN), ..RetryHint::default() };
    EffectResult::Done { outcome: Outcome::failed(code, ErrorInfo::new(code, message)), hint }
}

/// A message and its recipient.
struct Message {
    workflow: Arc<str>,
    trigger: Arc<str>,
    batch: Arc<str>,
    partition: String,
    id: String,
    content: Value,
    /// The labels of the values in its names.
    labels: Labels,
}

impl Message {
    async fn read(call: &Call, host: &Host) -> Result<Message, Refusal> {
        let inputs = &call.inputs;
        let action = &call.definition().name;
        let text = |value: Option<&Value>| {
            value
                .filter(|value| !value.is_null())
                .map(|value| value.text().into_owned())
                .filter(|text| !text.is_empty())
        };
        let needed = |value: Option<&Value>, member: &str| {
            text(value).ok_or_else(|| {
                ("InvalidTemplateInputs", format!("The action '{action}' requires a string as '{member}'."))
            })
        };
        let receiver = inputs.get("host");
        let id = receiver.and_then(|receiver| receiver.get("workflow")?.get("id"));
        let id = needed(id, "host.workflow.id")?;
        // In Azure this is a resource id, whose last segment is the name.
        let name = id.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let trigger = needed(receiver.and_then(|receiver| receiver.get("triggerName")), "host.triggerName")?;
        let batch = needed(inputs.get("batchName"), "batchName")?;
        let deployment = host
            .deployments
            .get(name)
            .ok_or_else(|| ("WorkflowNotFound", format!("The workflow '{name}' could not be found.")))?;
        let (trigger, batch) = find(host, &deployment, &trigger, &batch).await?;
        Ok(Message {
            workflow: Arc::clone(&deployment.workflow.name),
            trigger,
            batch,
            partition: text(inputs.get("partitionName")).unwrap_or_else(|| PARTITION.to_owned()),
            id: text(inputs.get("messageId")).unwrap_or_else(|| call.action_tracking_id.to_string()),
            content: inputs.get("content").cloned().unwrap_or_default(),
            labels: ["host", "batchName", "partitionName", "messageId"]
                .iter()
                .filter_map(|member| inputs.get(member))
                .map(Value::labels_within)
                .collect(),
        })
    }

    /// Stores the message, once for all attempts of the same occurrence of the action.
    async fn leave(self, host: &Host, call: &Call) -> EffectResult {
        let shard = trigger_shard(&self.workflow, &self.trigger);
        let mut kept = Object::new();
        kept.insert("workflow", self.workflow);
        kept.insert("trigger", self.trigger);
        kept.insert("batchName", Arc::clone(&self.batch));
        kept.insert("partitionName", self.partition.as_str());
        kept.insert("messageId", self.id.as_str());
        // JSON text has no labels.
        let labels = self.content.labels_within() | self.labels;
        let secret = labels.contains(Labels::SECRET);
        kept.insert("secret", secret);
        kept.insert("untrusted", labels.contains(Labels::UNTRUSTED));
        kept.insert("content", self.content);
        let mut commit = Commit::new();
        commit.inbox_posted.push(Post {
            run: None,
            kind: KIND,
            at: UnixMillis(host.now().unix_millis()),
            idempotency_key: Some(format!("batch:{}", call.idempotency_key).into()),
            payload: sealed::write(&host.store.sealer(), SEAL, kept, secret),
            shard,
        });
        if let Err(error) = host.store.commit(commit).await {
            // A failure of the store is not a failure of the action: the attempt is repeated under the same key.
            let message = format!("The message could not be stored: {error}.");
            let outcome = Outcome::failed("ServiceUnavailable", ErrorInfo::new("StoreUnavailable", message));
            return EffectResult::Pending { outcome, after: AGAIN, resume: Value::NULL };
        }
        // The message is durable. If this fails, the next call of `catch_up` finds it.
        if let Err(error) = host.piles.catch_up(&*host.store).await {
            tracing::warn!(%error, "cannot read batch messages from the store; retrying later");
        }
        let mut body = Object::new();
        body.insert("batchName", self.batch);
        body.insert("messageId", self.id);
        body.insert("partitionName", self.partition);
        let body = Value::from(body).labelled(self.labels);
        let outputs: Object = [("body", body)].into_iter().collect();
        EffectResult::Done { outcome: Outcome::ok(Some(outputs.into())), hint: RetryHint::default() }
    }
}

/// The code and message of a rejection.
type Refusal = (&'static str, String);

/// The trigger and the batch in the spelling of the definition.
async fn find(
    host: &Host,
    deployment: &Deployment,
    trigger: &str,
    batch: &str,
) -> Result<(Arc<str>, Arc<str>), Refusal> {
    let workflow = &deployment.workflow;
    let found = deployment.trigger(trigger).filter(|found| matches!(found.kind, TriggerKind::Batch { .. }));
    let found = found.ok_or_else(|| {
        let why = format!("The workflow '{}' has no Batch trigger named '{trigger}'.", workflow.name);
        ("WorkflowTriggerNotFound", why)
    })?;
    let view = loom_engine::TriggerView {
        workflow,
        trigger: found,
        parameters: &deployment.parameters,
        previous: None,
        callback: None,
    };
    let inputs = host.engine.trigger_inputs(view, None).await.map_err(|error| error.message);
    let batches = inputs.and_then(|inputs| {
        BatchConfiguration::from_inputs(&inputs.unwrap_or_default()).map_err(|error| error.message)
    });
    let batches = batches.map_err(|why| {
        let why = format!(
            "The batch configuration of trigger '{}' of workflow '{}' is invalid: {why}.",
            found.name, workflow.name
        );
        ("InvalidBatchConfiguration", why)
    })?;
    let named = batches.iter().find(|known| known.name.to_lowercase() == batch.to_lowercase());
    let named = named.ok_or_else(|| {
        let known: Vec<&str> = batches.iter().map(|known| &*known.name).collect();
        let why = format!(
            "The trigger '{}' of workflow '{}' has no batch named '{batch}'; its batches are {}.",
            found.name,
            workflow.name,
            known.join(", ")
        );
        ("BatchNotFound", why)
    })?;
    Ok((Arc::clone(&found.name), Arc::clone(&named.name)))
}
