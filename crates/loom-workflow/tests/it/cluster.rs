//! Several servers on one PostgreSQL database: real processes, killed, stopped and drained under load.
//!
//! The service that all calls go to records each of them by its `Idempotency-Key`. A call may be made twice only if it was in flight
//! when its process was killed.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
#![expect(clippy::disallowed_methods, reason = "real processes take real time")]

mod anywhere;
mod database;
mod formats;
mod limits;
mod network;
mod taken_over;
mod triggers;

#[path = "../../../loom-store-postgres/tests/it/server.rs"]
#[expect(dead_code, reason = "the tests of the store use more of it")]
mod server;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::served::{Answer, Loom, Request, Service, pause, request_with_key};

/// The longest time in which anything must happen.
const PATIENCE: Duration = Duration::from_mins(2);

/// The lease of nodes that are killed.
const SHORT: &str = "3s";

/// The lease of nodes that are not: long enough for a busy machine.
const LONG: &str = "10s";

/// A database of its own, and the nodes on it.
pub(crate) struct Cluster {
    url: String,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster::on(server::shared())
    }

    /// A new database of a server.
    pub(crate) fn on(server: &server::Server) -> Cluster {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cluster_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let operator = server.connect().await;
            operator.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        });
        let socket = server.socket();
        let host = socket.parent().unwrap().to_str().unwrap().replace('/', "%2F");
        Cluster { url: format!("postgres://postgres@{host}/{name}") }
    }

    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    /// Uses a connection to the database.
    pub(crate) fn with_client<T>(&self, work: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            drop(tokio::spawn(connection));
            work(&client).await
        })
    }

    /// The result of a query: one text or number.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let rows = self.with_client(async |client| client.simple_query(sql).await.unwrap());
        let row = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.unwrap().get(0).unwrap().to_owned()
    }

    /// Starts a node and waits until it listens.
    pub(crate) fn node(&self, name: &str) -> Loom {
        self.node_with(name, SHORT, &[])
    }

    pub(crate) fn node_with(&self, name: &str, lease: &str, more: &[&str]) -> Loom {
        let arguments = ["--store", &self.url, "--node-name", name, "--lease", lease, "--drain", "20s"];
        let arguments: Vec<&OsStr> = arguments.iter().chain(more).map(OsStr::new).collect();
        Loom::serve(&arguments)
    }

    /// Waits until the live nodes share all shards.
    #[expect(clippy::unused_self, reason = "it says of which cluster the nodes are")]
    pub(crate) fn settles(&self, through: &Loom, nodes: usize) {
        eventually("the nodes share all shards", || {
            let found = through.get("/api/v1/nodes");
            let shards: Vec<i64> = found["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| node["shards"].as_i64().unwrap())
                .collect();
            shards.len() == nodes
                && shards.iter().sum::<i64>() == 1_024
                && shards.iter().all(|owned| *owned <= 1_024 / nodes as i64 + 1)
        });
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        pause(Duration::from_millis(20));
    }
}

/// What a service has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often each call was made, by its idempotency key.
    pub(crate) calls: Mutex<BTreeMap<String, u32>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The number of calls, with those that were made again.
    pub(crate) fn total(&self) -> u32 {
        self.calls.lock().unwrap().values().sum()
    }

    pub(crate) fn repeated(&self) -> usize {
        self.calls.lock().unwrap().values().filter(|count| **count > 1).count()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }
}

/// A service that takes this long for each call.
pub(crate) fn service(time: Duration) -> (Service, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let record = Arc::clone(&seen);
    let service = Service::start(move |request: Request| {
        let now = record.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        record.most_at_once.fetch_max(now, Ordering::Relaxed);
        let key = request.header("idempotency-key").unwrap_or_default();
        *record.calls.lock().unwrap().entry(key).or_default() += 1;
        pause(time);
        record.at_once.fetch_sub(1, Ordering::Relaxed);
        (200, json!({}))
    });
    (service, seen)
}

/// A workflow of `steps` calls, one after the other.
pub(crate) fn steps(service: &Service, steps: usize, trigger: Value) -> Value {
    let mut actions = serde_json::Map::new();
    for step in 0..steps {
        let after = if step == 0 { json!({}) } else { json!({ format!("step{}", step - 1): ["Succeeded"] }) };
        let inputs = json!({"method": "POST", "uri": format!("{}/step{step}", service.address)});
        let action = json!({"type": "Http", "inputs": inputs, "runAfter": after});
        actions.insert(format!("step{step}"), action);
    }
    definition(trigger, Value::Object(actions))
}

#[expect(clippy::needless_pass_by_value, reason = "callers make the values for it")]
pub(crate) fn definition(trigger: Value, actions: Value) -> Value {
    json!({
        "$schema": "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#",
        "contentVersion": "1.0.0.0",
        "triggers": { "start": trigger },
        "actions": actions,
    })
}

pub(crate) fn on_request() -> Value {
    json!({"type": "Request", "kind": "Http", "inputs": {"schema": {}}})
}

/// Deploys a definition at one node, and waits until another one serves it.
pub(crate) fn deploy(at: &Loom, others: &[&Loom], name: &str, definition: &Value) {
    let path = format!("/api/v1/workflows/{name}");
    let deployed = at.request("PUT", &path, definition.to_string().as_bytes()).unwrap();
    assert!(deployed.status < 300, "{deployed:?}");
    let version = at.get(&path)["version"].clone();
    for other in others {
        eventually("another node follows the deployment", || {
            let found = other.request("GET", &path, b"").unwrap();
            found.status == 200 && serde_json::from_str::<Value>(&found.body).unwrap()["version"] == version
        });
    }
}

/// Invokes a workflow until it is accepted; a refusal that says so is repeated. Returns the run.
pub(crate) fn invoke(node: &Loom, name: &str, key: &str) -> Option<String> {
    let answer = send(node, name, key)?;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.header("x-ms-workflow-run-id")
}

/// Sends a request with an idempotency key; one that the cluster cannot take now is repeated.
pub(crate) fn send(node: &Loom, name: &str, key: &str) -> Option<Answer> {
    let began = Instant::now();
    let path = format!("/workflows/{name}/triggers/start/invoke");
    loop {
        let answer = request_with_key(node.address(), "POST", &path, Some(key), b"{}")?;
        if answer.status != 503 || began.elapsed() > PATIENCE {
            return Some(answer);
        }
        pause(Duration::from_millis(100));
    }
}

/// Waits until a run has ended, as a node sees it. Returns its status.
pub(crate) fn end_of(node: &Loom, run: &str) -> String {
    let mut status = String::new();
    eventually(&format!("run {run} ends"), || {
        let found = node.get(&format!("/api/v1/runs/{run}"));
        found["status"].as_str().unwrap().clone_into(&mut status);
        found.get("endTime").is_some()
    });
    status
}
