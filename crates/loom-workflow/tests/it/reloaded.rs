//! A served directory whose files change, break, disappear and come back; and the addresses a server may listen on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, mpsc},
    time::Duration,
};

use serde_json::json;

use crate::{
    loom,
    served::{self, Service},
};

/// The maximum time to wait for a line of the server.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server whose standard error is read. It is killed when this value is dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
    said: mpsc::Receiver<String>,
}

impl Served {
    pub(crate) fn start(arguments: &[&str]) -> Served {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .args(["serve", "--memory"])
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the output is text");
        let address = line.trim().strip_prefix("listening on http://").expect("it prints its address");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (hear, said) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| hear.send(line)));
        Served { address: address.to_owned(), child, said }
    }

    /// Waits until the server prints `text`, and returns everything printed so far.
    pub(crate) fn until(&self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let line = self.said.recv_timeout(PATIENCE);
            all += &line.unwrap_or_else(|_| panic!("`{text}` was not printed: {all}"));
            all.push('\n');
        }
        all
    }

    /// Sends SIGHUP.
    pub(crate) fn reload(&self) {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::HUP,
        )
        .expect("it lives");
    }

    pub(crate) fn fire(&self) -> (u16, String) {
        fire(&self.address)
    }
}

/// Fires the only trigger of `orders`, and returns the status and body of the response.
fn fire(address: &str) -> (u16, String) {
    let path = "/workflows/orders/triggers/manual/invoke";
    let answer = served::request(address, "POST", path, b"{}").expect("the server responds");
    (answer.status, answer.body)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A workflow that calls the service and then responds with `answer`.
fn answering(service: &str, answer: &str) -> String {
    let definition = json!({"definition": {
        "triggers": {"manual": {"type": "Request"}},
        "actions": {
            "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": service}, "runAfter": {}},
            "Answer": {"type": "Response", "inputs": {"body": answer}, "runAfter": {"Ask": ["Succeeded"]}},
        },
    }});
    definition.to_string()
}

fn write(path: &Path, text: &str) {
    // Renamed into place, so that a half-written file is never read.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the file can be written");
    std::fs::rename(new, path).expect("the file can be renamed");
}

#[test]
fn changed_broken_and_removed_files_are_followed() {
    // The service responds when the test allows it.
    let (come, came) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (come, gone) = (Mutex::new(come), Mutex::new(gone));
    let service = Service::start(move |request| {
        if request.path == "/slow" {
            come.lock().expect("no thread panicked").send(()).expect("the test waits");
            gone.lock().expect("no thread panicked").recv_timeout(PATIENCE).expect("the test sends a permit");
        }
        (200, json!({}))
    });
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("orders.json");
    write(&file, &answering(&format!("{}/slow", service.address), "one"));
    let served =
        Served::start(&["--addr", "127.0.0.1:0", "--workflows", &directory.path().display().to_string()]);
    served.until("orders 1.0.0");
    std::thread::scope(|scope| {
        let address = &served.address;
        let first = scope.spawn(move || fire(address));
        came.recv_timeout(PATIENCE).expect("the run has begun");

        write(&file, &answering(&service.address, "two"));
        served.until("deployed orders 1.0.1");
        assert_eq!(served.fire(), (200, "two".to_owned()));
        go.send(()).expect("the service waits");
        let first = first.join().expect("it received a response");
        assert_eq!(first, (200, "one".to_owned()), "a run finishes on the version that it started with");
    });

    // Invalid JSON and an invalid workflow: the previous version stays in use, and the position is reported.
    write(&file, "{\"definition\": {\"triggers\": }");
    let reported = served.until("orders was not updated");
    assert!(reported.contains("error[L0003]") && reported.contains("orders.json:1:29"), "{reported}");
    assert_eq!(served.fire(), (200, "two".to_owned()));
    write(&file, &answering(&service.address, "three").replace("\"Ask\":[", "\"Aks\":["));
    let reported = served.until("orders was not updated");
    assert!(reported.contains("did you mean `Ask`?"), "{reported}");
    assert_eq!(served.fire(), (200, "two".to_owned()));

    write(&file, &answering(&service.address, "four"));
    served.until("deployed orders 1.0.2");
    assert_eq!(served.fire(), (200, "four".to_owned()));

    std::fs::remove_file(&file).expect("it is there");
    served.until("orders is no longer served");
    assert_eq!(served.fire().0, 404);
    // A file that comes back is the next version, or the same one if its content is the same.
    write(&file, &answering(&service.address, "four"));
    served.until("deployed orders 1.0.2");
    assert_eq!(served.fire(), (200, "four".to_owned()));

    // A second file with parameters, in a directory of its own.
    let inner = directory.path().join("bills");
    std::fs::create_dir(&inner).expect("there is room");
    let text = r#"{"definition": {"parameters": {"p": {"type": "String"}}, "triggers": {"manual": {"type": "Request"}},
        "actions": {"Answer": {"type": "Response", "inputs": {"body": "@parameters('p')"}, "runAfter": {}}}}}"#;
    write(&directory.path().join("parameters.json"), r#"{"p": {"type": "String", "value": "five"}}"#);
    write(&inner.join("workflow.json"), text);
    served.until("deployed bills 1.0.0");
    let bills = || {
        let path = "/workflows/bills/triggers/manual/invoke";
        served::request(&served.address, "POST", path, b"{}").expect("the server responds").body
    };
    assert_eq!(bills(), "five");
    write(&directory.path().join("parameters.json"), r#"{"p": {"type": "String", "value": "sixth"}}"#);
    served.until("deployed bills 1.0.1");
    assert_eq!(bills(), "sixth");
}

#[test]
fn only_a_server_with_a_token_can_be_reached_from_other_machines() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070"] {
        let ended = loom(&["serve", "--memory", "--addr", address]);
        assert_eq!(ended.code, Some(2), "{address}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("which other machines can reach, requires --token-file"),
            "{address}: {}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "", "{address}: it does not listen");
    }
    let directory = tempfile::tempdir().expect("there is room");
    let token = directory.path().join("token");
    std::fs::write(&token, "too short\n").expect("it can be written");
    let token = token.display().to_string();
    let ended = loom(&["serve", "--memory", "--addr", "0.0.0.0:0", "--token-file", &token]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("the token must have at least 16 characters"), "{}", ended.stderr);

    std::fs::write(&token, "long enough for a test\n").expect("it can be written");
    let served = Served::start(&["--addr", "0.0.0.0:0", "--token-file", &token]);
    let ask = |authorization: &str| {
        let mut stream = TcpStream::connect(&served.address).expect("it listens");
        let head = format!("GET /api/v1/runs HTTP/1.0\r\nHost: localhost\r\n{authorization}\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(ask("").as_deref(), Some("401"));
    assert_eq!(ask("Authorization: Bearer something else here\r\n").as_deref(), Some("401"));
    assert_eq!(ask("Authorization: Bearer long enough for a test\r\n").as_deref(), Some("200"));
}

/// The status of the response to a caller with this token.
fn status_with(address: &str, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head =
        format!("GET /api/v1/runs HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("there is a status")
}

#[test]
fn sighup_reloads_token_settings_and_definitions_and_a_mistake_changes_nothing() {
    let directory = tempfile::tempdir().expect("there is room");
    let place = |name: &str| directory.path().join(name);
    write(&place("orders.json"), &answering("http://127.0.0.1:9", "one"));
    write(&place("token"), "the first of the tokens\n");
    write(&place("loom.toml"), "token-file = \"token\"\nruns-max = 5\nwrite-timeout = 7\n");
    let served =
        Served::start(&["--addr", "127.0.0.1:0", "--workflows", &directory.path().display().to_string()]);
    let statuses = || {
        ["the first of the tokens", "the second of the tokens"]
            .map(|token| status_with(&served.address, token))
    };
    assert_eq!(statuses(), [200, 401]);

    write(&place("token"), "the second of the tokens\n");
    write(&place("loom.toml"), "token-file = \"token\"\nruns-max = 6\nwrite-timeout = 8\n");
    served.reload();
    let reported = served.until("loom: reloaded");
    assert!(reported.contains("`write-timeout` takes effect after a restart"), "{reported}");
    assert!(!reported.contains("runs-max"), "{reported}");
    assert_eq!(statuses(), [401, 200]);

    write(&place("token"), "the first of the tokens\n");
    write(&place("loom.toml"), "token-file = \"token\"\nruns-mx = 6\n");
    served.reload();
    let reported = served.until("reload failed, nothing has changed");
    assert!(
        reported.contains("loom.toml:2: unknown setting `runs-mx`; did you mean `runs-max`?"),
        "{reported}"
    );
    assert_eq!(statuses(), [401, 200]);
}

#[test]
fn an_unreadable_directory_changes_nothing() {
    let directory = tempfile::tempdir().expect("there is room");
    let (flows, away) = (directory.path().join("flows"), directory.path().join("away"));
    std::fs::create_dir(&flows).expect("there is room");
    let text = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {}}}"#;
    write(&flows.join("orders.json"), text);
    write(&flows.join("bills.json"), text);
    let served = Served::start(&["--addr", "127.0.0.1:0", "--workflows", &flows.display().to_string()]);
    std::fs::rename(&flows, &away).expect("it can be moved");
    let reported = served.until("the deployed workflows are unchanged");
    assert!(reported.contains(&format!("cannot read {}", flows.display())), "{reported}");
    assert_eq!(served.fire().0, 202);

    // Once the directory can be read again, its changes are followed again.
    std::fs::remove_file(away.join("bills.json")).expect("it is there");
    std::fs::rename(&away, &flows).expect("it can be moved");
    let reported = served.until("bills is no longer served");
    assert!(!reported.contains("loom: orders"), "{reported}");
    assert_eq!(served.fire().0, 202);

    let missing =
        loom(&["serve", "--memory", "--addr", "127.0.0.1:0", "--workflows", &away.display().to_string()]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(2), ""), "{}", missing.stderr);
}

#[test]
fn unreadable_parameters_are_not_treated_as_missing() {
    let directory = tempfile::tempdir().expect("there is room");
    let inner = directory.path().join("orders");
    std::fs::create_dir(&inner).expect("there is room");
    let text = |answer: &str| {
        format!(
            r#"{{"definition": {{"parameters": {{"p": {{"type": "String", "defaultValue": "default"}}}}, "triggers": {{"manual": {{"type": "Request"}}}},
            "actions": {{"Answer": {{"type": "Response", "inputs": {{"body": "@concat(parameters('p'), '{answer}')"}}, "runAfter": {{}}}}}}}}}}"#
        )
    };
    let parameters = directory.path().join("parameters.json");
    write(&parameters, r#"{"p": {"type": "String", "value": "own"}}"#);
    write(&inner.join("workflow.json"), &text("1"));
    let served =
        Served::start(&["--addr", "127.0.0.1:0", "--workflows", &directory.path().display().to_string()]);
    assert_eq!(served.fire(), (200, "own1".to_owned()));
    write(&parameters, "{");
    served.until("parameters.json is not valid JSON");
    write(&inner.join("workflow.json"), &text("2"));
    assert_eq!(served.fire(), (200, "own1".to_owned()));
    write(&parameters, r#"{"p": {"type": "String", "value": "new"}}"#);
    served.until("deployed orders 1.0.1");
    assert_eq!(served.fire(), (200, "new2".to_owned()));
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_on_open_files_is_raised_and_world_readable_secret_files_are_reported() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("there is room");
    let token = directory.path().join("token");
    std::fs::write(&token, "long enough for a test\n").expect("it can be written");
    let serve = |mode: u32| {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        let script = "ulimit -Sn 256 && exec \"$0\" serve --memory --addr 127.0.0.1:0 --token-file \"$1\"";
        let mut child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_loom")])
            .arg(&token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the output is text");
        assert!(line.starts_with("listening"), "{line}");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("it lives");
        child.kill().expect("it lives");
        let reported = child.wait_with_output().expect("it ends").stderr;
        (limits, String::from_utf8(reported).expect("it is text"))
    };
    let (limits, reported) = serve(0o644);
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is listed");
    let numbers: Vec<&str> = line["Max open files".len()..].split_whitespace().take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert!(reported.contains("run `chmod 600"), "{reported}");
    assert!(!serve(0o600).1.contains("chmod"));
}
