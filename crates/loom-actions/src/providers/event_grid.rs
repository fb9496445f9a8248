//! Azure Event Grid: publishes events in the Event Grid schema to a topic.

use loom_expression::{Timestamp, Value};

use super::{
    access::{Access, Given},
    members,
};
use crate::{requests::Spec, url::Url};

pub(super) fn access(given: &Given<'_>) -> Result<Access, String> {
    let address = given.required("topicEndpoint", "")?;
    let key = given.text("accessKey").or_else(|| given.text("topicKey"));
    let authentication = match key {
        Some(key) => members([
            ("type", "Header".into()),
            ("name", "aeg-sas-key".into()),
            ("value", Value::from(key).into_secret()),
        ]),
        None => given.token("https://eventgrid.azure.net"),
    };
    Access::new(&address, authentication)
}

pub(super) fn complete(parameters: &Value, address: &Url, spec: &mut Spec, now: Timestamp) {
    spec.url = address.clone().without_query();
    spec.queries = members([("api-version", "2018-01-01".into())]);
    let events = parameters.get("events").and_then(Value::as_array);
    let events = events.into_iter().flatten().map(|event| {
        let Some(members) = event.as_object() else { return event.clone() };
        let mut event = members.clone();
        // The schema requires both; flows may leave them out.
        if event.get_ignore_case("eventTime").is_none_or(Value::is_null) {
            event.insert("eventTime", now.to_string());
        }
        if event.get_ignore_case("dataVersion").is_none_or(Value::is_null) {
            event.insert("dataVersion", "1.0");
        }
        event.into()
    });
    spec.body = events.collect::<Vec<Value>>().into();
}
