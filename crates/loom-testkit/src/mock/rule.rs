//! One rule of a script: the requests it matches, and its responses.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use loom_expression::{Object, Value};

use super::ScriptError;
use crate::server::{Answer, Received, query_members};

#[derive(Debug)]
pub(super) struct Rule {
    method: Option<String>,
    path: String,
    query: Object,
    headers: Object,
    body: Option<Value>,
    responses: Vec<Reply>,
    calls: Option<u64>,
    asked: u64,
}

#[derive(Clone, Debug)]
struct Reply {
    status: StatusCode,
    headers: Object,
    body: Content,
    times: u64,
    delay: Duration,
    hangup: bool,
}

#[derive(Clone, Debug)]
enum Content {
    Text(String, Option<&'static str>),
    Bytes(Vec<u8>),
}

/// Parses a script.
pub(super) fn rules(script: &Value) -> Result<Vec<Rule>, ScriptError> {
    let rules = script.get("rules").unwrap_or(script);
    let rules =
        rules.as_array().ok_or_else(|| ScriptError { reason: "'rules' must be an array".to_owned() })?;
    let read = rules.iter().enumerate().map(|(at, rule)| {
        Rule::from_json(rule).map_err(|reason| ScriptError { reason: format!("rule {at}: {reason}") })
    });
    read.collect()
}

impl Rule {
    fn from_json(value: &Value) -> Result<Rule, String> {
        known(
            value,
            &["method", "path", "query", "headers", "body", "response", "responses", "calls", "name"],
        )?;
        let path = value.get("path").and_then(Value::as_str).ok_or("'path' is missing or not a string")?;
        let responses = match (value.get("responses"), value.get("response")) {
            (Some(all), None) => all.as_array().ok_or("'responses' must be an array")?.to_vec(),
            (None, Some(one)) => vec![one.clone()],
            (None, None) => vec![Object::new().into()],
            (Some(_), Some(_)) => return Err("'response' and 'responses' cannot be combined".to_owned()),
        };
        if responses.is_empty() {
            return Err("'responses' must not be empty".to_owned());
        }
        Ok(Rule {
            method: value.get("method").and_then(Value::as_str).map(str::to_ascii_uppercase),
            path: path.to_owned(),
            query: object(value, "query")?,
            headers: object(value, "headers")?,
            body: value.get("body").cloned(),
            responses: responses.iter().map(Reply::from_json).collect::<Result<_, _>>()?,
            calls: number(value, "calls")?,
            asked: 0,
        })
    }

    pub(super) fn fits(&self, received: &Received) -> bool {
        let members = query_members(&received.query);
        let has_member = |name: &str, wanted: &Value| {
            members.iter().any(|(key, value)| key == name && (wanted.is_null() || wanted.text() == *value))
        };
        let has_header = |name: &str, wanted: &Value| {
            received
                .headers
                .get_all(name)
                .iter()
                .any(|value| wanted.is_null() || wanted.text().as_bytes() == value.as_bytes())
        };
        self.method.as_ref().is_none_or(|method| method == received.method.as_str())
            && path_fits(&self.path, &received.path)
            && self.query.iter().all(|(name, wanted)| has_member(name, wanted))
            && self.headers.iter().all(|(name, wanted)| has_header(name, wanted))
            && self.body.as_ref().is_none_or(|wanted| contains(&body_value(&received.body), wanted))
    }

    pub(super) fn answer(&mut self, base: &str) -> (Duration, Answer) {
        let mut left = self.asked;
        self.asked += 1;
        let mut responses = self.responses.iter();
        let mut chosen = responses.next().expect("a rule has a response");
        while left >= chosen.times {
            left -= chosen.times;
            match responses.next() {
                Some(next) => chosen = next,
                None => break,
            }
        }
        (chosen.delay, chosen.answer(base))
    }

    pub(super) fn problem(&self) -> Option<String> {
        let calls = self.calls.filter(|calls| *calls != self.asked)?;
        let method = self.method.as_deref().unwrap_or("*");
        Some(format!("expected {calls} requests of {method} {}, got {}", self.path, self.asked))
    }
}

impl Reply {
    fn from_json(value: &Value) -> Result<Reply, String> {
        known(value, &["status", "headers", "body", "base64", "times", "delayMs", "hangup"])?;
        let status = number(value, "status")?.unwrap_or(200);
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let body = match (value.get("body"), value.get("base64").and_then(Value::as_str)) {
            (_, Some(base64)) => {
                Content::Bytes(STANDARD.decode(base64).map_err(|_| "'base64' is not valid base64")?)
            }
            (None, None) => Content::Text(String::new(), None),
            (Some(body), None) => match body.as_str() {
                Some(text) => Content::Text(text.to_owned(), Some("text/plain; charset=utf-8")),
                None => Content::Text(body.to_json_text(), Some("application/json; charset=utf-8")),
            },
        };
        Ok(Reply {
            status: status.ok_or("'status' must be an HTTP status code")?,
            headers: object(value, "headers")?,
            body,
            times: number(value, "times")?.unwrap_or(1),
            delay: Duration::from_millis(number(value, "delayMs")?.unwrap_or(0)),
            hangup: value.get("hangup").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    fn answer(&self, base: &str) -> Answer {
        if self.hangup {
            return Answer::Hangup;
        }
        let (bytes, kind) = match &self.body {
            Content::Text(text, kind) => (Bytes::from(text.replace("{{base}}", base)), *kind),
            Content::Bytes(bytes) => (Bytes::from(bytes.clone()), None),
        };
        let mut response = Response::new(Full::new(bytes));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in &self.headers {
            let value = value.text().replace("{{base}}", base);
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
            {
                headers.insert(name, value);
            }
        }
        Answer::Reply(response)
    }
}

/// The response to a request that matches no rule.
pub(super) fn unexpected(received: &Received) -> Answer {
    let text = format!("no rule matches {} {}", received.method, received.path);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    Answer::Reply(response)
}

/// The body as JSON, or as a string if it is not JSON; null if it is empty.
pub(super) fn body_value(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::NULL;
    }
    Value::parse_json(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).as_ref().into())
}

/// Whether a value contains what is wanted: the properties of objects at any depth; everything else must be equal.
fn contains(value: &Value, wanted: &Value) -> bool {
    match (value.as_object(), wanted.as_object()) {
        (Some(value), Some(wanted)) => {
            wanted.iter().all(|(name, wanted)| value.get(name).is_some_and(|member| contains(member, wanted)))
        }
        _ => value.wdl_equals(wanted),
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some(wanted), Some(given)) => match wanted.strip_suffix('*') {
                Some(start) if given.starts_with(start) => {}
                None if wanted == given => {}
                _ => return false,
            },
            _ => return false,
        }
    }
}

fn known(value: &Value, names: &[&str]) -> Result<(), String> {
    let members = value.as_object().ok_or("must be an object")?;
    match members.keys().find(|name| !names.contains(&&***name)) {
        Some(name) => Err(format!("unknown property '{name}'; expected one of {}", names.join(", "))),
        None => Ok(()),
    }
}

fn object(value: &Value, name: &str) -> Result<Object, String> {
    match value.get(name) {
        None => Ok(Object::new()),
        Some(member) => member.as_object().cloned().ok_or_else(|| format!("'{name}' must be an object")),
    }
}

fn number(value: &Value, name: &str) -> Result<Option<u64>, String> {
    let Some(member) = value.get(name) else { return Ok(None) };
    let number = member.as_i64().and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("'{name}' must be a non-negative integer"))
}
