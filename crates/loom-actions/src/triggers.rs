//! The requests that triggers make: polls, subscriptions and unsubscriptions.

use std::{fmt, sync::Arc};

use hyper::Method;
use loom_engine::{
    event::EffectResult,
    ports::{CallFuture, TriggerCall, TriggerHandler, TriggerPurpose},
};
use loom_expression::{Object, Value};

use loom_connectors::Poll;

use crate::{
    Failure, content,
    described::{self, Described},
    handlers::{Kind, RequestHandler, ended, nothing_to_end, subscription},
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
        if let Some(described) = handler.described(&inputs) {
            return self.attempt_described(call, &described?, &inputs).await;
        }
        let inputs = match described::subscribed(&inputs) {
            None => inputs,
            // A connection without a description ends its subscription at the address that the service named.
            Some(_) if call.address.is_none() => return Ok(Progress::Final(nothing_to_end())),
            Some(_) => {
                let host = inputs.get("host").cloned().unwrap_or_default();
                Object::single("host".into(), host).into()
            }
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
        Ok(absolute(progress, spec.target()))
    }
}

/// The parameters for the query of the next poll, in the place of an address: `?name=value&…`.
const STATE: char = '?';

impl TriggerRequests {
    /// A request for an operation of a connection with a description.
    async fn attempt_described(
        &self,
        call: &TriggerCall,
        described: &Described,
        inputs: &Value,
    ) -> Result<Progress, Failure> {
        let behaviour = Behaviour { no_polling: true, ..Behaviour::default() };
        if call.ask == TriggerPurpose::Unsubscribe
            && let Some((inputs, response)) = described::subscribed(inputs)
        {
            return match described.unsubscription(inputs, response)? {
                Some(spec) => self.requests.perform(&spec, &marks(call), &behaviour, None).await,
                None => Ok(Progress::Final(nothing_to_end())),
            };
        }
        let callback = call.callback.as_deref().filter(|_| call.ask == TriggerPurpose::Subscribe);
        let mut plan = described.plan(inputs, callback)?;
        let state = call.address.as_deref().and_then(|address| address.strip_prefix(STATE));
        if let Some(state) = state {
            plan.set_queries(&queries_of(state));
        }
        if let Some(address) = call.address.as_deref().filter(|_| state.is_none()) {
            let mut spec = plan.spec(&[])?;
            continue_at(&mut spec, address)?;
            let progress = self.requests.perform(&spec, &marks(call), &behaviour, None).await?;
            return Ok(absolute(plan.received(progress), spec.target()));
        }
        let asked = plan.spec(&vec![Value::NULL; plan.lookups().len()])?;
        let progress = self.requests.perform_plan(&plan, &marks(call), &behaviour, None).await?;
        Ok(match (progress, plan.poll()) {
            (Progress::Final(answer), Some(poll)) if call.ask == TriggerPurpose::Poll => {
                Progress::Final(polled(answer, &poll, state))
            }
            (progress, _) => absolute(progress, asked.target()),
        })
    }
}

/// The response to a poll whose state is in its query. Without items, and the first time, it starts no run: the first poll
/// only finds out where the service is. The state replaces the address for the next poll.
fn polled(mut answer: Answer, poll: &Poll, state: Option<&str>) -> Answer {
    let Some(mut outputs) = answer.outputs.as_object().cloned().filter(|_| answer.is_success()) else {
        return answer;
    };
    let found = poll.read(outputs.get("body").unwrap_or(&Value::NULL));
    let is_empty = found.items.is_null() || found.items.as_array().is_some_and(|items| items.is_empty());
    let mut queries = state.map(queries_of).unwrap_or_default();
    queries.extend(found.queries.iter().map(|(name, value)| (Arc::clone(name), value.clone())));
    let fields: Vec<(String, String)> =
        queries.iter().map(|(name, value)| (name.to_string(), value.text().into_owned())).collect();
    let mut headers = outputs.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
    headers.insert("Location", format!("{STATE}{}", content::encode_form(&fields)));
    outputs.insert("headers", headers);
    if is_empty || state.is_none() {
        answer.status = 202;
        outputs.insert("statusCode", 202);
    }
    answer.outputs = outputs.into();
    answer
}

fn queries_of(state: &str) -> Object {
    let fields = content::decode_form(state.as_bytes());
    let fields = fields.as_array().into_iter().flatten().filter_map(|field| {
        let name = field.get("key")?.as_str().filter(|name| !name.is_empty())?;
        Some((name, field.get("value")?.clone()))
    });
    fields.collect()
}

fn absolute(progress: Progress, asked: &Url) -> Progress {
    match progress {
        Progress::Final(answer) => Progress::Final(with_whole_location(answer, asked)),
        pending @ Progress::Pending { .. } => pending,
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
