//! Azure Service Bus: the REST API of namespaces. A message that is received is locked; what identifies it in later calls, its
//! sequence number and its lock, is in `lockToken`.

use std::time::SystemTime;

use loom_expression::{Object, Timestamp, Value, envelope};

use super::{
    Response,
    access::{Access, ConnectionString, Given},
    below, members, text,
};
use crate::{Failure, requests::Spec, url::Url};

/// The properties of a message that the API has in one header: here, and there.
const BROKER: [(&str, &str); 9] = [
    ("sessionId", "SessionId"),
    ("messageId", "MessageId"),
    ("to", "To"),
    ("replyTo", "ReplyTo"),
    ("replyToSession", "ReplyToSessionId"),
    ("label", "Label"),
    ("correlationId", "CorrelationId"),
    ("scheduledEnqueueTimeUtc", "ScheduledEnqueueTimeUtc"),
    ("timeToLive", "TimeToLive"),
];

pub(super) fn access(given: &Given<'_>) -> Result<Access, String> {
    let Some(text) = given.text("connectionString") else {
        let host = given.required("fullyQualifiedNamespace", " and no 'connectionString'")?;
        return Access::new(&format!("https://{host}"), given.token("https://servicebus.azure.net/"));
    };
    let settings = ConnectionString::parse(&text);
    let endpoint = settings.required("Endpoint")?;
    let scheme = if settings.is_true("UseDevelopmentEmulator") { "http" } else { "https" };
    let address = match endpoint.split_once("://") {
        Some(("sb", rest)) => format!("{scheme}://{}", rest.trim_end_matches('/')),
        _ => endpoint.to_owned(),
    };
    let authentication = match settings.get("SharedAccessSignature") {
        Some(signature) => members([("type", "Raw".into()), ("value", Value::from(signature).into_secret())]),
        None => members([
            ("type", "ServiceBusSharedKey".into()),
            ("keyName", settings.required("SharedAccessKeyName")?.into()),
            ("key", Value::from(settings.required("SharedAccessKey")?).into_secret()),
        ]),
    };
    Access::new(&address, authentication)
}

pub(super) fn complete(
    operation: &str,
    parameters: &Value,
    address: &Url,
    spec: &mut Spec,
) -> Result<(), Failure> {
    spec.queries = Value::NULL;
    let entity = text(parameters, "entityName");
    let queue = text(parameters, "queueName");
    let (topic, subscription) = (text(parameters, "topicName"), text(parameters, "subscriptionName"));
    let source: Vec<&str> = if queue.is_empty() {
        topic.split('/').chain(["subscriptions", subscription.as_str()]).collect()
    } else {
        queue.split('/').collect()
    };
    match operation {
        "sendMessage" | "sendMessages" => {
            let path: Vec<&str> = entity.split('/').chain(["messages"]).collect();
            spec.url = below(address, &path)?;
            spec.remove_header("Content-Type");
            if operation == "sendMessage" {
                send(parameters.get("message").unwrap_or(&Value::NULL), spec)?;
            } else {
                let messages = parameters.get("messages").and_then(Value::as_array);
                let batch: Result<Vec<Value>, Failure> =
                    messages.into_iter().flatten().map(batched).collect();
                spec.body = batch?.into();
                spec.add_plain_header("Content-Type", "application/vnd.microsoft.servicebus.json");
            }
        }
        "getMessagesFromQueueV2" | "getMessagesFromTopicV2" => {
            spec.url = below(address, &[&source, &["messages", "head"][..]].concat())?;
        }
        _ => {
            let token = text(parameters, "lockToken");
            let (number, lock) = token.split_once('/').ok_or_else(|| {
                Failure::bad_request(
                    "'lockToken' must be the `lockToken` of a message that was received with `getMessagesFromQueueV2` or \
                     `getMessagesFromTopicV2`.",
                )
            })?;
            spec.url = below(address, &[&source, &["messages", number, lock][..]].concat())?;
        }
    }
    Ok(())
}

/// One message: its content is the body, everything else is in headers.
fn send(message: &Value, spec: &mut Spec) -> Result<(), Failure> {
    spec.body = message.get("contentData").cloned().unwrap_or_default();
    if let Some(kind) = message.get("contentType").filter(|kind| !kind.is_null()) {
        spec.add_plain_header("Content-Type", &kind.text());
    }
    let broker = broker(message)?;
    if !broker.is_empty() {
        spec.add_plain_header("BrokerProperties", &Value::from(broker).to_json_text());
    }
    let own = message.get("userProperties").and_then(Value::as_object);
    for (name, value) in own.into_iter().flatten() {
        // Text is quoted, which tells it from a number.
        spec.add_plain_header(name, &value.to_json_text());
    }
    Ok(())
}

/// A message in a batch.
fn batched(message: &Value) -> Result<Value, Failure> {
    let mut broker = broker(message)?;
    if let Some(kind) = message.get("contentType").filter(|kind| !kind.is_null()) {
        broker.insert("ContentType", kind.clone());
    }
    let content = message.get("contentData").cloned().unwrap_or_default();
    let content = envelope::text(&content).into_owned();
    Ok(members([
        ("Body", content.into()),
        ("BrokerProperties", if broker.is_empty() { Value::NULL } else { broker.into() }),
        ("UserProperties", message.get("userProperties").cloned().unwrap_or_default()),
    ]))
}

fn broker(message: &Value) -> Result<Object, Failure> {
    let mut broker = Object::new();
    for (ours, theirs) in BROKER {
        let Some(value) = message.get(ours).filter(|value| !value.is_null()) else { continue };
        let value = match ours {
            "scheduledEnqueueTimeUtc" => http_date(&value.text())?.into(),
            "timeToLive" => seconds(&value.text())?,
            _ => Value::from(value.text().as_ref()).labelled(value.labels()),
        };
        broker.insert(theirs, value);
    }
    Ok(broker)
}

fn http_date(text: &str) -> Result<String, Failure> {
    let time: Timestamp = text.parse().map_err(|_| {
        Failure::bad_request(format!(
            "'scheduledEnqueueTimeUtc' must be a time such as 2026-01-31T12:00:00Z (got '{text}')."
        ))
    })?;
    let millis = u64::try_from(time.unix_millis()).unwrap_or_default();
    Ok(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis)))
}

/// The seconds in a number, or in `[d.]hh:mm:ss`.
fn seconds(text: &str) -> Result<Value, Failure> {
    let wrong = || {
        Failure::bad_request(format!(
            "'timeToLive' must be a number of seconds or a time span such as 00:05:00 (got '{text}')."
        ))
    };
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(i64::from(seconds).into());
    }
    let (days, rest) = match text.split_once('.') {
        Some((days, rest)) if !days.contains(':') => (days.parse::<u32>().map_err(|_| wrong())?, rest),
        _ => (0, text),
    };
    let parts: Vec<u32> =
        rest.split(':').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds] = parts[..] else { return Err(wrong()) };
    Ok((i64::from(days) * 86_400 + i64::from(hours) * 3_600 + i64::from(minutes) * 60 + i64::from(seconds))
        .into())
}

pub(super) fn received(response: &Response<'_>) -> Option<Value> {
    let receives = response.operation.starts_with("getMessages") && response.answer.is_success();
    if !receives {
        return None;
    }
    if response.answer.status == 204 {
        return Some(Vec::<Value>::new().into());
    }
    let headers = response.headers();
    let broker = headers.get_ignore_case("BrokerProperties").map(|text| text.text().into_owned());
    let broker = Value::from_json_str(&broker.unwrap_or_default()).unwrap_or_default();
    let of = |name: &str| broker.get(name).cloned().unwrap_or_default();
    let mut message = vec![
        ("contentData", response.body()),
        ("contentType", headers.get_ignore_case("Content-Type").cloned().unwrap_or_default()),
        ("lockToken", format!("{}/{}", of("SequenceNumber").text(), of("LockToken").text()).into()),
        ("sequenceNumber", of("SequenceNumber").text().as_ref().into()),
        ("enqueuedTimeUtc", of("EnqueuedTimeUtc")),
        ("lockedUntilUtc", of("LockedUntilUtc")),
        ("deliveryCount", of("DeliveryCount")),
        ("userProperties", own_properties(&headers)),
    ];
    message.extend(BROKER.map(|(ours, theirs)| (ours, of(theirs))));
    Some(vec![members(message)].into())
}

/// The sender's own properties: text among them is quoted, other headers are not.
fn own_properties(headers: &Object) -> Value {
    let quoted = headers.iter().filter_map(|(name, value)| {
        let text = value.as_str()?.strip_prefix('"')?.strip_suffix('"')?;
        let is_own = !name.eq_ignore_ascii_case("ETag");
        is_own.then(|| (std::sync::Arc::clone(name), Value::from(text)))
    });
    quoted.collect::<Object>().into()
}
