//! A scripted HTTP server that mocks external services and records the requests it receives.
//!
//! A script is JSON, so that a scenario needs no Rust:
//!
//! ```json
//! {"rules": [
//!   {"method": "GET", "path": "/crm/customers/*", "query": {"page": "1"}, "headers": {"x-api-key": "k"},
//!    "body": {"id": 7},
//!    "responses": [{"status": 503, "times": 2}, {"status": 200, "headers": {"x-a": "b"}, "body": {"name": "Ada"}}],
//!    "calls": 3}
//! ]}
//! ```
//!
//! | property of a rule | meaning |
//! |---|---|
//! | `method` | the method; any method when absent |
//! | `path` | the path as sent, escapes included; `*` matches the rest of one segment, `**` at the end matches everything that follows |
//! | `query` | required query parameters, decoded; `null` matches any value |
//! | `headers` | required headers; `null` matches any value |
//! | `body` | the properties that the JSON body must have, at any depth; any other value must be equal; a string is compared with a body that is not JSON |
//! | `responses` | one after the other, the last one repeatedly; a single one may be `response`; without any, an empty 200 |
//! | `calls` | the expected number of requests, checked by [`Mock::problems`] |
//!
//! A response has `status` (default 200), `headers`, `body` (a string as it is, other values as JSON), `base64` instead of
//! `body`, `times` (default 1), `delayMs`, and `hangup: true` to close the connection without a response. `{{base}}` in headers
//! and bodies is replaced by the server's own URL. The first matching rule applies; a request that matches no rule gets a 404
//! and is reported as a problem.

mod rule;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use loom_expression::{Object, Value};
use tokio::sync::watch;

use self::rule::Rule;
use crate::server::{Answer, Received, Respond, Server};

/// A running mock.
#[derive(Debug)]
pub struct Mock {
    server: Server,
    state: Arc<Mutex<State>>,
    /// The number of requests received.
    came: watch::Receiver<usize>,
    /// The number of them, in order of arrival, that may be answered.
    answered: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    base: String,
    rules: Vec<Rule>,
    requests: Vec<Recorded>,
}

/// A request that the mock has received.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The method, in upper case.
    pub method: String,
    /// The path as sent, escapes included.
    pub path: String,
    /// The query as sent, without the `?`; empty if there is none.
    pub query: String,
    /// The headers, with names in lower case; repeated ones are joined by `, `.
    pub headers: Object,
    /// The body, in bytes.
    pub body: Vec<u8>,
    /// The index of the rule that matched, from 0.
    pub rule: Option<usize>,
}

impl Recorded {
    /// The body as JSON, or as a string if it is not JSON.
    pub fn body_value(&self) -> Value {
        rule::body_value(&self.body)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get_ignore_case(name)?.as_str()
    }
}

/// The error of a script that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mock script: {reason}")]
pub struct ScriptError {
    /// What is wrong, naming the rule and property.
    pub reason: String,
}

impl Mock {
    /// Starts a server that follows a script: `{"rules": […]}`, or the rules alone.
    ///
    /// # Errors
    /// [`io::Error`] when no port is available; of kind `InvalidInput`, with a [`ScriptError`], when the script is not valid.
    pub async fn start(script: &Value) -> io::Result<Mock> {
        let rules =
            rule::rules(script).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let state = Arc::new(Mutex::new(State { rules, ..State::default() }));
        let scripted = Arc::clone(&state);
        let (counter, came) = watch::channel(0);
        let (answered, answers) = watch::channel(usize::MAX);
        let respond: Respond = Arc::new(move |received| {
            let (number, (delay, answer)) = {
                let mut state = lock(&scripted);
                (state.requests.len(), state.take(received))
            };
            counter.send_modify(|came| *came += 1);
            let mut answers = answers.clone();
            Box::pin(async move {
                // A mock that has been dropped delays no response.
                answers.wait_for(|answered| *answered > number).await.ok();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                answer
            })
        });
        let server = Server::start(0, respond).await?;
        lock(&state).base = format!("http://{}", server.address());
        Ok(Mock { server, state, came, answered })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Responds only to the first `count` requests; later ones wait until this is called with a larger count.
    pub fn answer_only(&self, count: usize) {
        self.answered.send_replace(count);
    }

    /// Waits until `count` requests have arrived.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn came(&self, count: usize) {
        // The server lives as long as the mock, and the count with it.
        self.came.clone().wait_for(|came| *came >= count).await.ok();
    }

    /// All requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// Deviations from the script: requests that match no rule, and rules whose number of requests is not `calls`. Each message
    /// names the method and path.
    pub fn problems(&self) -> Vec<String> {
        let state = lock(&self.state);
        let strays = state.requests.iter().filter(|request| request.rule.is_none());
        let mut problems: Vec<String> =
            strays.map(|request| format!("no rule matches {} {}", request.method, request.path)).collect();
        problems.extend(state.rules.iter().filter_map(Rule::problem));
        problems
    }

    /// Stops the mock after requests in progress have ended.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn take(&mut self, received: Received) -> (std::time::Duration, Answer) {
        let rule = self.rules.iter().position(|rule| rule.fits(&received));
        let answer = match rule.and_then(|rule| self.rules.get_mut(rule)) {
            Some(rule) => rule.answer(&self.base),
            None => (std::time::Duration::ZERO, rule::unexpected(&received)),
        };
        let mut headers = Object::new();
        for name in received.headers.keys() {
            let values: Vec<_> = received
                .headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            headers.insert(name.as_str(), values.join(", "));
        }
        self.requests.push(Recorded {
            method: received.method.to_string(),
            path: received.path,
            query: received.query,
            headers,
            body: received.body.to_vec(),
            rule,
        });
        answer
    }
}

#[cfg(test)]
mod tests;
