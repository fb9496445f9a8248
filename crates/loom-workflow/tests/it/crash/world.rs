//! The world around the killed server: a service that remembers each call, by the life of the process that made it.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::served::{self, Answer, Reply, Request, Service, pause};

/// How long the service takes for a call: long enough for kills to interrupt calls.
const WORK: Duration = Duration::from_millis(15);

/// The delay before something that was not acknowledged is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// A call that the service saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The number of the process that made the call, from 0.
    pub(super) life: usize,
    /// `run/action/rounds…`
    pub(super) key: String,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn run(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// The key without the run.
    pub(super) fn place(&self) -> &str {
        self.key.split_once('/').map_or("", |(_, place)| place)
    }
}

/// All calls that the service saw.
#[derive(Default)]
struct Calls {
    all: Vec<Seen>,
    /// How many calls were made under each key.
    by_key: BTreeMap<String, usize>,
    /// The keys of each action of each run, as `run/action`: one for each of its occurrences.
    of_action: BTreeMap<String, BTreeSet<String>>,
}

impl Calls {
    /// Adds a call. Returns the number of earlier calls with its key, and the number of keys of its action.
    fn add(&mut self, call: Seen) -> (usize, usize) {
        let count = self.by_key.entry(call.key.clone()).or_default();
        let before = std::mem::replace(count, *count + 1);
        let action = call.key.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        let keys = self.of_action.entry(action).or_default();
        keys.insert(call.key.clone());
        let keys = keys.len();
        self.all.push(call);
        (before, keys)
    }
}

/// The service, and its settings for the processes.
pub(super) struct World {
    service: Service,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Calls>,
    /// The server's current address; all events are sent there.
    server: Mutex<String>,
    /// The runs that are between two calls which only a limited number of runs may be between, by the name of the limit.
    inside: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Descriptions of violations.
    wrong: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn start() -> World {
        let state = Arc::<State>::default();
        let service = Service::start({
            let state = Arc::clone(&state);
            move |request| state.answer(&request)
        });
        World { service, state }
    }

    /// Writes the files that connect a process with this world.
    pub(super) fn introduce(&self, directory: &Path, life: usize) {
        let base = format!("{}/{life}", self.service.address);
        let egress = json!({"service": base});
        std::fs::write(directory.join("egress.json"), egress.to_string()).unwrap();
        let ok = "http://service/ok";
        let connections = json!({
            "connections": {"crm": {"baseUrl": "http://service"}}, "functions": {"price": {"baseUrl": ok}},
            "activities": {"stamp": ok}, "actors": {"Counter": ok},
        });
        std::fs::write(directory.join("connections.json"), connections.to_string()).unwrap();
    }

    /// Sets the address to which events are sent from now on.
    pub(super) fn serves_at(&self, address: &str) {
        address.clone_into(&mut self.state.server.lock().unwrap());
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().all.clone()
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        self.state.wrong.lock().unwrap().clone()
    }

    /// Notes a violation.
    pub(super) fn note(&self, violation: String) {
        self.state.wrong.lock().unwrap().push(violation);
    }

    /// Sends a request to whichever process is running, until one has responded.
    pub(super) fn insist(&self, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> Answer {
        self.state.insist(method, path, key, body)
    }
}

impl State {
    fn answer(self: &Arc<Self>, request: &Request) -> Reply {
        let mut path = request.path.trim_start_matches('/').split('/');
        let life = path.next().and_then(|life| life.parse().ok()).expect("the egress rule names the life");
        let what = path.next().unwrap_or_default();
        let number = path.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let key = request.header("idempotency-key").expect("unsafe calls carry a key");
        let call = Seen { life, key: key.trim_matches('"').to_owned(), body: request.body.clone() };
        let (before, keys) = self.seen.lock().unwrap().add(call.clone());
        pause(WORK);
        match what {
            "flaky" => (if before < number { 503 } else { 200 }, json!({})),
            "again" => (200, json!({"done": keys >= number})),
            "atlast" => (if keys < number { 503 } else { 200 }, json!({})),
            "down" => (500, json!({})),
            "subscribe" => {
                self.send_event(
                    &request.body,
                    Duration::from_millis(number as u64) + WORK * (1 + before as u32),
                );
                (200, json!({}))
            }
            "enter" => {
                let name = path.next().expect("a limit has a name").to_owned();
                let mut inside = self.inside.lock().unwrap();
                let inside = inside.entry(name.clone()).or_default();
                inside.insert(call.run().to_owned());
                if inside.len() > number {
                    self.wrong
                        .lock()
                        .unwrap()
                        .push(format!("{name} admits {number} runs, inside are {inside:?}"));
                }
                (200, json!({}))
            }
            "leave" => {
                let name = path.next().expect("a limit has a name");
                if let Some(inside) = self.inside.lock().unwrap().get_mut(name) {
                    inside.remove(call.run());
                }
                (200, json!({}))
            }
            "never" => {
                self.wrong.lock().unwrap().push(format!("{} was called", call.key));
                (200, json!({}))
            }
            _ => (200, json!({"took": true})),
        }
    }

    /// Sends the event of a subscription until a server accepts it.
    fn send_event(self: &Arc<Self>, body: &str, after: Duration) {
        let body: Value = serde_json::from_str(body).expect("a subscription is JSON");
        let url = body["url"].as_str().expect("it says where events go").to_owned();
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).expect("an address has a path");
        let state = Arc::clone(self);
        std::thread::spawn(move || {
            pause(after);
            let answer = state.insist("POST", &path, None, br#"{"heard": true}"#);
            // Another event was faster, or the response to this one was lost with its server.
            if !matches!(answer.status, 200 | 410) {
                let text = format!("the event for {path} was refused: {answer:?}");
                state.wrong.lock().unwrap().push(text);
            }
        });
    }

    fn insist(&self, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> Answer {
        loop {
            let server = self.server.lock().unwrap().clone();
            match served::request_with_key(&server, method, path, key, body) {
                Some(answer) if answer.status != 503 => return answer,
                _ => pause(AGAIN),
            }
        }
    }
}
