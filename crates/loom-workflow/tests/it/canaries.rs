//! Secrets with unique values pass through every kind of action, trigger and failure. The test then searches for them in
//! everything that the program writes: API, event streams, metrics, spans, terminal, log, and files, with and without a key file.
//!
//! A workflow uses its secret in pieces. Masking by value does not find pieces, so only labels can hide them. With labels
//! switched off, the test must find a piece from every workflow.

mod cases;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use self::cases::{ARTIFACTS, CASES, Case};
use crate::served::{Request, Service, pause, request};

/// Where watchers of shared memory look.
const WATCH: &str = "a watcher of shared memory";

/// Marks what was found in the data directory.
const IN_DATA: &str = "data:";

/// The maximum time for all runs together.
const PATIENCE: Duration = Duration::from_mins(2);

/// The pieces of a case's secret. They share a prefix, so that one search finds all of them; no function of the language and no part of
/// the program produces them from anything else.
fn pieces(case: usize) -> [String; 3] {
    ["Alpha", "Bravo", "Charlie"].map(|word| format!("Qz{case:02}x{word}"))
}

fn secret(case: usize) -> String {
    pieces(case).join("-")
}

/// The case whose canary is in the text, in any encoding that the program might write.
fn found(text: &str) -> BTreeSet<usize> {
    let text = text.to_lowercase();
    let places = text.match_indices("qz").filter_map(|(at, _)| {
        let number = text.get(at + 2..at + 4)?.parse().ok()?;
        let rest = text.get(at + 4..)?;
        ["xalpha", "xbravo", "xcharlie"].iter().any(|word| rest.starts_with(word)).then_some(number)
    });
    let mut found: BTreeSet<usize> = places.collect();
    for case in 0..CASES.len() {
        for piece in pieces(case) {
            let hex = piece.bytes().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
                hex
            });
            if text.contains(&hex) {
                found.insert(case);
            }
        }
    }
    found
}

/// Where something was found.
#[derive(Debug, Default)]
struct Findings(Vec<(usize, String)>);

impl Findings {
    fn search(&mut self, place: &str, text: &str) {
        for case in found(text) {
            let name = CASES[case].name;
            let at = text.to_lowercase().find(&format!("qz{case:02}x")).unwrap_or(0);
            let around: String = text.chars().skip(at.saturating_sub(160)).take(240).collect();
            self.0.push((case, format!("{name}: {place}: …{around}…")));
        }
    }

    /// The cases whose canary is in the data directory.
    fn in_data(&self) -> BTreeSet<&'static str> {
        let stored = self.0.iter().filter(|(_, place)| place.starts_with(IN_DATA));
        stored.map(|(case, _)| CASES[*case].name).collect()
    }

    fn cases(&self) -> BTreeSet<&'static str> {
        self.0.iter().map(|(case, _)| CASES[*case].name).collect()
    }
}

/// The responses of a provider of secrets. An error repeats the secret, and the token, which is the same.
fn provided(path: &str) -> (u16, Value) {
    let case: Option<usize> = path.rsplit('/').next().and_then(|case| case.parse().ok());
    match (path, case) {
        ("auth/token/lookup-self", _) => (200, json!({"data": {"ttl": 0, "renewable": false}})),
        (path, Some(case)) if path.starts_with("secret/data/good/") => {
            let metadata = json!({"version": 1, "created_time": "2026-01-01T00:00:00Z", "deletion_time": ""});
            (200, json!({"data": {"data": {"value": secret(case)}, "metadata": metadata}}))
        }
        (path, Some(case)) if path.starts_with("secret/data/bad/") => {
            (500, json!({"errors": [secret(case), pieces(case)]}))
        }
        _ => (403, json!({"errors": [secret(Case::number("provider"))]})),
    }
}

/// The files and parameters for the server and the commands.
struct World {
    directory: tempfile::TempDir,
    arguments: Vec<OsString>,
    labels: bool,
    /// The requests that the service received.
    sent: Arc<Mutex<String>>,
    spans: Arc<Mutex<String>>,
    _service: Service,
    collector: Service,
}

impl World {
    fn new(labels: bool, encrypted: bool) -> World {
        let directory = tempfile::tempdir().expect("there is room");
        let sent = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&sent);
        let service = Service::start(move |request: Request| {
            let mut seen = seen.lock().expect("no thread panicked");
            let _ = writeln!(seen, "{} {}", request.path, request.body);
            for name in ["authorization", "x-a"] {
                let _ = writeln!(seen, "{}", request.header(name).unwrap_or_default());
            }
            // `/given/07` returns the secret of case 7, which has no label there.
            if let Some(path) = request.path.strip_prefix("/v1/") {
                return provided(path);
            }
            match request.path.strip_prefix("/given/").and_then(|case| case.parse().ok()) {
                Some(case) => (200, json!({"pieces": pieces(case), "whole": secret(case)})),
                None if request.path.starts_with("/echo") => {
                    (200, serde_json::from_str(&request.body).unwrap_or(Value::Null))
                }
                // An actor that keeps its arguments, or responds with something else.
                None if request.path.ends_with("/keep") => {
                    let body: Value = serde_json::from_str(&request.body).unwrap_or(Value::Null);
                    (200, json!({"result": body["args"], "state": body["args"]}))
                }
                None if request.path.starts_with("/fail") => (400, json!({"said": "no"})),
                None => (200, json!({})),
            }
        });
        let spans = Arc::new(Mutex::new(String::new()));
        let reported = Arc::clone(&spans);
        let collector = Service::start(move |request: Request| {
            reported.lock().expect("no thread panicked").push_str(&request.body);
            (200, json!({}))
        });
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("flows")).expect("it can be made");
        for (number, case) in CASES.iter().enumerate() {
            let text = case.definition(number, &service.address);
            fs::write(path("flows").join(format!("{}.json", case.name)), text).expect("it can be written");
        }
        let connections = json!({
            "connections": {"provider": {"baseUrl": &service.address}},
            "functions": {"echo": {"baseUrl": format!("{}/ok", service.address)}},
            "actors": {"keeper": {"baseUrl": format!("{}/actors", service.address), "state": true}},
        });
        fs::write(path("flows/connections.json"), connections.to_string()).expect("it can be written");
        for (file, text) in ARTIFACTS {
            let file = path("flows/Artifacts").join(file);
            fs::create_dir_all(file.parent().expect("it has one")).expect("it can be made");
            fs::write(file, text).expect("it can be written");
        }
        let mut settings = json!({
            "Values": {"REGION": "west", "Plain": secret(Case::number("listed-setting")),
                "API_KEY": secret(Case::number("app-setting")),
                "Sql": format!("Server=db;Password={}", secret(Case::number("connection-string")))},
            "SecretValues": ["plain"],
            "Loom": {"defaultRetryPolicy": "none"},
        });
        settings["Loom"]["authority"] = json!("http://127.0.0.1:1");
        fs::write(path("settings.json"), settings.to_string()).expect("it can be written");
        fs::write(path("key"), "0f".repeat(32)).expect("it can be written");
        let token = format!("LOOM_SECRET_CASE_{:02}", Case::number("provider"));
        let providers = json!({"providers": {"vault": {"type": "vault", "url": &service.address,
            "auth": {"type": "token", "token": {"variable": token}}}}});
        fs::write(path("providers.json"), providers.to_string()).expect("it can be written");
        let mut arguments: Vec<OsString> =
            vec!["--settings".into(), path("settings.json").into(), "--data".into(), path("data").into()];
        arguments.extend(["--secret-providers".into(), path("providers.json").into()]);
        if encrypted {
            arguments.extend(["--key-file".into(), path("key").into()]);
        }
        World { directory, arguments, labels, sent, spans, _service: service, collector }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
        command.arg(name).env("NO_COLOR", "1").current_dir(self.directory.path());
        for case in 0..CASES.len() {
            command.env(format!("LOOM_SECRET_CASE_{case:02}"), secret(case));
        }
        if !self.labels {
            command.env("LOOM_CONTROL_WITHOUT_LABELS", "1");
        }
        command
    }

    fn parameters() -> Vec<OsString> {
        let text = Case::number("secure-string");
        let object = Case::number("secure-object");
        let object = json!({"list": pieces(object), "text": secret(object)});
        vec![
            "--param".into(),
            format!("text={}", secret(text)).into(),
            "--param".into(),
            format!("object={object}").into(),
        ]
    }

    fn serve(&self) -> Served {
        let log = fs::File::create(self.directory.path().join("log")).expect("it can be written");
        let mut child = self
            .command("serve")
            .args(["--addr", "127.0.0.1:0", "--workflows", "flows", "--otlp", &self.collector.address])
            .args(&self.arguments)
            .args(World::parameters())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it can be read");
        let address = line.trim().strip_prefix("listening on http://").expect("it prints its address");
        Served { child, address: address.to_owned() }
    }
}

struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn get(&self, path: &str) -> String {
        request(&self.address, "GET", path, b"").unwrap_or_else(|| panic!("{path} has no response")).body
    }

    fn list(&self, path: &str, name: &str) -> Vec<Value> {
        let page: Value = serde_json::from_str(&self.get(path)).expect("it is JSON");
        page[name].as_array().cloned().unwrap_or_default()
    }

    /// All runs, once there are `count` of them and all have ended.
    fn ended_runs(&self, count: usize) -> Vec<Value> {
        let mut left = PATIENCE;
        loop {
            let runs = self.list("/api/v1/runs?limit=500", "runs");
            assert!(runs.len() <= count, "{count} runs are expected: {runs:?}");
            if runs.len() == count && runs.iter().all(|run| run.get("endTime").is_some()) {
                return runs;
            }
            let step = Duration::from_millis(100);
            left = left.checked_sub(step).unwrap_or_else(|| panic!("{count} runs do not end: {runs:?}"));
            pause(step);
        }
    }

    fn stream(&self, run: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let head = format!(
            "GET /api/v1/runs/{run}/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it ends with the run");
        text
    }
}

impl Served {
    /// What a watcher of shared memory is shown first: the keys of a namespace.
    fn watched(&self, namespace: &str, keys: usize) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let head = format!(
            "GET /api/v1/memory/{namespace}?keys=true HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is taken");
        let (mut text, mut reader) = (String::new(), BufReader::new(stream));
        // An event ends with an empty line.
        while text.matches("event: memory.written").count() < keys || !text.ends_with("\n\n") {
            assert!(reader.read_line(&mut text).expect("it continues") > 0, "the stream has ended: {text}");
        }
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs all cases and searches everything that was written.
fn findings(labels: bool, encrypted: bool) -> Findings {
    let world = World::new(labels, encrypted);
    let mut findings = Findings::default();
    let mut server = world.serve();
    for (number, case) in CASES.iter().enumerate() {
        if !case.is_called() {
            continue;
        }
        let path = format!("/workflows/{}/triggers/manual/invoke", case.name);
        let answer = request(&server.address, "POST", &path, b"{\"a\":1}").expect("it receives a response");
        let called = [case.name, &answer.status.to_string(), &answer.body].join(" ");
        if case.answers {
            assert!(
                answer.body.contains(&pieces(number)[0]),
                "what is sent to the caller is not altered: {called}"
            );
        } else {
            findings.search("the answer to the caller", &called);
            assert!(answer.status == 202 || case.refused, "{called}");
        }
        for name in ["x-ms-client-tracking-id", "x-ms-tracking-id"] {
            findings.search(name, &answer.header(name).unwrap_or_default());
        }
    }
    let runs = server.ended_runs(CASES.iter().map(|case| case.runs).sum());
    for path in [
        "/api/v1/runs?limit=500",
        "/metrics",
        "/api/v1/resilience",
        "/api/v1/workflows",
        "/healthz",
        "/readyz",
        "/api/v1/secrets",
        "/api/v1/secret-audit?limit=1000",
        "/api/v1/memory/global",
        "/api/v1/memory/global/value",
        "/api/v1/memory/global/list",
        "/api/v1/memory/global/hash",
        "/api/v1/memory/actor:keeper/default",
        "/ui/secrets",
    ] {
        findings.search(path, &server.get(path));
    }
    findings.search(WATCH, &server.watched("global", 3));
    findings.search(WATCH, &server.watched("actor:keeper", 1));
    for case in CASES.iter().filter(|case| case.polls()) {
        let path = format!("/api/v1/workflows/{}/triggers/manual/histories", case.name);
        let mut left = PATIENCE;
        while !server.get(&path).contains("Failed") {
            left = left.checked_sub(Duration::from_millis(100)).expect("the trigger fails");
            pause(Duration::from_millis(100));
        }
        findings.search(&path, &server.get(&path));
    }
    for run in &runs {
        let id = run["id"].as_str().expect("a run has an id");
        let name = run["workflow"].as_str().unwrap_or_default();
        let of = |path: &str| format!("/api/v1/runs/{id}{path}");
        for path in ["", "/actions", "/events"] {
            findings.search(&format!("{name}{path}"), &server.get(&of(path)));
        }
        let actions: Value = serde_json::from_str(&server.get(&of("/actions"))).expect("it is JSON");
        for action in actions["actions"].as_array().into_iter().flatten() {
            let path = of(&format!("/actions/{}", action["name"].as_str().unwrap_or_default()));
            findings.search(&format!("{name}: an action"), &server.get(&path));
        }
        findings.search(&format!("{name}: its stream"), &server.stream(id));
    }
    let asked = |arguments: &[&str]| {
        let mut command = world.command("runs");
        command.args(arguments).args(["--url", &format!("http://{}", server.address)]);
        let ended = crate::ended(&mut command, "");
        format!("{}{}", ended.stdout, ended.stderr)
    };
    findings.search("loom runs list", &asked(&["list", "--limit", "500"]));
    for run in runs.iter().take(4) {
        let id = run["id"].as_str().expect("a run has an id");
        findings.search("loom runs show", &asked(&["show", id]));
        findings.search("loom runs watch", &asked(&["watch", id]));
    }
    // A graceful stop, so that pending spans are sent.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&server.child),
        rustix::process::Signal::TERM,
    )
    .expect("it lives");
    server.child.wait().expect("it ends");
    drop(server);
    let mut audit = world.command("secrets");
    audit.args(["audit", "--limit", "1000", "--data", "data"]);
    let audited = crate::ended(&mut audit, "");
    findings.search("loom secrets audit", &format!("{}{}", audited.stdout, audited.stderr));
    findings.search("the log", &fs::read_to_string(world.directory.path().join("log")).expect("it is there"));
    let spans = world.spans.lock().expect("no thread panicked").clone();
    assert!(spans.contains("loom.action.name"), "spans were sent");
    findings.search("spans", &spans);
    for file in files(&world.directory.path().join("data")) {
        let bytes = fs::read(&file).expect("it can be read");
        let text = String::from_utf8_lossy(&bytes);
        for case in found(&text) {
            let name = CASES[case].name;
            let low = text.to_lowercase();
            let at = low.find(&format!("qz{case:02}x")).unwrap_or(0);
            let around: String = low.chars().skip(at.saturating_sub(200)).take(300).collect();
            findings
                .0
                .push((case, format!("{IN_DATA} {}: {name}: {}", file.display(), around.escape_debug())));
        }
    }
    let sent = world.sent.lock().expect("no thread panicked").clone();
    for case in ["http-headers", "echo"] {
        assert!(
            sent.contains(&pieces(Case::number(case))[0]),
            "what is sent to a service is not altered: {case}"
        );
    }
    findings
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory)
        .expect("it is a directory")
        .map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn nothing_in(findings: &Findings) {
    let shown: Vec<&String> = findings.0.iter().map(|(_, place)| place).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}

#[test]
fn a_server_neither_shows_secrets_nor_stores_them_in_the_clear() {
    nothing_in(&findings(true, true));
}

#[test]
fn a_server_without_a_key_file_stores_no_secret_in_the_clear() {
    nothing_in(&findings(true, false));
}

#[test]
#[cfg(debug_assertions)]
fn without_labels_every_case_is_caught() {
    let findings = findings(false, false);
    let caught = findings.cases();
    let missed: Vec<&str> = CASES
        .iter()
        .filter(|case| !case.uses_other_secrets)
        .map(|case| case.name)
        .filter(|name| !caught.contains(name))
        .collect();
    assert!(missed.is_empty(), "no canary of {missed:?} was found");
    let watched = findings.0.iter().filter(|(_, place)| place.contains(WATCH));
    let watched: BTreeSet<&str> = watched.map(|(case, _)| CASES[*case].name).collect();
    assert_eq!(watched, BTreeSet::from(["memory", "actor-state"]), "the watchers were shown canaries");
    // Without labels nothing is sealed.
    let stored = findings.in_data();
    let missed: Vec<&str> = CASES
        .iter()
        .filter(|case| !case.uses_other_secrets && !case.refused)
        .map(|case| case.name)
        .filter(|name| !stored.contains(name))
        .collect();
    assert!(missed.is_empty(), "nothing of {missed:?} is in the data directory");
}

#[test]
fn no_secret_is_shown_by_a_run_on_the_terminal() {
    let mut findings = Findings::default();
    let world = World::new(true, true);
    for case in CASES.iter().filter(|case| case.is_called() && !case.needs_server) {
        // Output that is not JSON shows only the response or the outputs of a run.
        let ends_with_values = case.answers || case.name == "run-outputs";
        for json in [true, false].into_iter().take(1 + usize::from(ends_with_values)) {
            let mut command = world.command("run");
            command.arg(format!("flows/{}.json", case.name)).args([
                "--input",
                "{\"a\":1}",
                "--settings",
                "settings.json",
                "--secret-providers",
                "providers.json",
            ]);
            if json {
                command.arg("--json");
            }
            let own = ["text", "object"].map(|name| case.body.contains(&format!("parameters('{name}')")));
            for (own, given) in own.into_iter().zip(World::parameters().chunks(2)) {
                if own {
                    command.args(given);
                }
            }
            let ended = crate::ended(&mut command, "");
            findings.search("standard output", &ended.stdout);
            findings.search("standard error", &ended.stderr);
        }
    }
    nothing_in(&findings);
}
