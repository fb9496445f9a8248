//! A scripted HTTP server that plays outside services, and remembers what it was asked.
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
//! | member of a rule | meaning |
//! |---|---|
//! | `method` | any method when absent |
//! | `path` | as it is sent, escapes included; `*` stands for the rest of one segment, `**` at the end for all that follows |
//! | `query` | members that must be there, decoded; `null` means present with any value |
//! | `headers` | must be there with this value; `null` means with any value |
//! | `body` | the members that the JSON body must have (deeply); any other value must be equal; text is compared with a body that is no JSON |
//! | `responses` | one after the other, the last one for ever; one alone may be `response`; none is an empty 200 |
//! | `calls` | how often it must have been asked, for [`Mock::problems`] |
//!
//! A response has `status` (200), `headers`, `body` (text as it is, other values as JSON), `base64` instead of `body`,
//! `times` (1), `delayMs`, and `hangup: true` to close the connection without an answer. `{{base}}` in headers and bodies
//! stands for the server's own address. The first rule that fits counts; a request that fits none is answered 404
//! and is a problem.

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
    /// How many requests have come.
    came: watch::Receiver<usize>,
    /// How many of them, in order of arrival, may be answered by now.
    answered: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    base: String,
    rules: Vec<Rule>,
    requests: Vec<Recorded>,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Upper case.
    pub method: String,
    /// As sent, escapes included.
    pub path: String,
    /// As sent, without the `?`; empty for none.
    pub query: String,
    /// Names in lower case; repeated ones joined by `, `.
    pub headers: Object,
    /// The bytes.
    pub body: Vec<u8>,
    /// Which rule answered, from 0.
    pub rule: Option<usize>,
}

impl Recorded {
    /// The body as JSON, or as text when it is none.
    pub fn body_value(&self) -> Value {
        rule::body_value(&self.body)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get_ignore_case(name)?.as_str()
    }
}

/// Why a script cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mock script: {reason}")]
pub struct ScriptError {
    /// What is wrong, naming the rule and member.
    pub reason: String,
}

impl Mock {
    /// Starts a server that follows a script: `{"rules": […]}`, or the rules alone.
    ///
    /// # Errors
    /// [`io::Error`] when no port can be had, or, of kind `InvalidInput`, a [`ScriptError`].
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
                // A mock that is gone holds nobody back.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Answers the first `count` requests only; later ones wait until a larger count is given.
    pub fn answer_only(&self, count: usize) {
        self.answered.send_replace(count);
    }

    /// Waits until so many requests have come.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn came(&self, count: usize) {
        // The server lives as long as the mock, and the count with it.
        self.came.clone().wait_for(|came| *came >= count).await.ok();
    }

    /// Everything that was asked so far, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// What did not go by the script: requests that no rule expects, and rules asked too often or too seldom. Names
    /// methods and paths, so that it can be shown as it is.
    pub fn problems(&self) -> Vec<String> {
        let state = lock(&self.state);
        let strays = state.requests.iter().filter(|request| request.rule.is_none());
        let mut problems: Vec<String> =
            strays.map(|request| format!("no rule expects {} {}", request.method, request.path)).collect();
        problems.extend(state.rules.iter().filter_map(Rule::problem));
        problems
    }

    /// Stops it once requests in progress have ended.
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
