//! The requests that triggers make: polls, subscriptions and unsubscriptions.

use std::{fmt, sync::Arc};

use hyper::Method;
use loom_engine::{
    event::EffectResult,
    ports::{CallFuture, TriggerCall, TriggerHandler, TriggerPurpose},
};
use loom_expression::{Object, Value};

use crate::{
    Failure,
    handlers::{Kind, RequestHandler, ended, subscription},
    headers::Marks,
    requests::{Answer, Behaviour, Progress, Requests, Spec},
    url::Url,
};

/// Makes the requests of triggers, to a URL or through a connection.
pub struct TriggerRequests {
    requests: Arc<Requests>,
}

impl TriggerRequests {
    /// Uses these connections and settings.
    pub fn new(requests: &Arc<Requests>) -> TriggerRequests {
        TriggerRequests { requests: Arc::clone(requests) }
    }

    async fn attempt(&self, call: &TriggerCall) -> Result<Progress, Failure> {
        let kind = if call.through_connection { Kind::Connection } else { Kind::Address };
        let handler = RequestHandler::new(&self.requests, kind);
        let inputs = match call.ask {
            TriggerPurpose::Subscribe => subscription(&call.inputs),
            TriggerPurpose::Poll | TriggerPurpose::Unsubscribe => call.inputs.clone(),
        };
        let mut spec = handler.spec(&inputs, "")?;
        if inputs.get("method").is_none_or(Value::is_null) {
            spec.method = match call.ask {
                TriggerPurpose::Poll => spec.method,
                TriggerPurpose::Subscribe => Method::POST,
                TriggerPurpose::Unsubscribe => Method::DELETE,
            };
        }
        if let Some(callback) = &call.callback {
            handler.add_callback(&mut spec, &inputs, callback)?;
        }
        if let Some(address) = &call.address {
            continue_at(&mut spec, address)?;
        }
        let behaviour = Behaviour { no_polling: true, ..Behaviour::default() };
        let progress = self.requests.perform(&spec, &marks(call), &behaviour, None).await?;
        Ok(match progress {
            Progress::Final(answer) => Progress::Final(with_whole_location(answer, spec.target())),
            pending @ Progress::Pending { .. } => pending,
        })
    }
}

/// Sends the request where the previous response pointed. That URL is complete, so the queries of the inputs are
/// not added again. A request never goes from an encrypted URL to an unencrypted one.
fn continue_at(spec: &mut Spec, address: &str) -> Result<(), Failure> {
    let url = Url::parse(address)?;
    if spec.url.is_https() && !url.is_https() {
        return Err(Failure::lasting(
            "BadGateway",
            format!("'{}' refers to '{}', which does not use HTTPS.", spec.url.shown(), url.shown()),
        ));
    }
    spec.led_to = Some(url);
    spec.queries = Value::NULL;
    Ok(())
}

/// Makes the `Location` of a response absolute. A value that is not a URL is left as it is.
fn with_whole_location(mut answer: Answer, asked: &Url) -> Answer {
    let Some(outputs) = answer.outputs.as_object() else { return answer };
    let Some(headers) = outputs.get("headers").and_then(Value::as_object) else { return answer };
    let location = headers.get("Location").and_then(Value::as_str);
    let Some(whole) = location.and_then(|location| asked.join(location).ok()) else { return answer };
    let mut headers = headers.clone();
    headers.insert("Location", whole.to_string());
    let mut outputs: Object = outputs.clone();
    outputs.insert("headers", headers);
    answer.outputs = outputs.into();
    answer
}

fn marks(call: &TriggerCall) -> Marks {
    Marks {
        workflow: call.workflow.to_string(),
        version: call.version.to_string(),
        run: String::new(),
        action: call.trigger.to_string(),
        tracking_id: call.tracking_id.to_string(),
        action_tracking_id: call.tracking_id.to_string(),
        idempotency_key: call.idempotency_key.to_string(),
        ..Marks::default()
    }
}

impl TriggerHandler for TriggerRequests {
    fn call<'a>(&'a self, call: &'a TriggerCall) -> CallFuture<'a> {
        Box::pin(async move {
            let result: EffectResult = ended(self.attempt(call).await);
            result
        })
    }
}

impl fmt::Debug for TriggerRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TriggerRequests")
    }
}
