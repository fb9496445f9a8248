//! A served folder whose files change, break, disappear and come back; and who may listen where.

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

/// How long the server may take to say something.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server whose words are heard. It dies with this value.
struct Served {
    child: Child,
    address: String,
    said: mpsc::Receiver<String>,
}

impl Served {
    fn start(arguments: &[&str]) -> Served {
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
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (hear, said) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| hear.send(line)));
        Served { address: address.to_owned(), child, said }
    }

    /// Waits until it says this, and gives everything that it has said by then.
    fn until(&self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let line = self.said.recv_timeout(PATIENCE);
            all += &line.unwrap_or_else(|_| panic!("it does not say `{text}`, but: {all}"));
            all.push('\n');
        }
        all
    }

    fn fire(&self) -> (u16, String) {
        fire(&self.address)
    }
}

/// Fires the one trigger of `orders`, and gives the status and the body of the answer.
fn fire(address: &str) -> (u16, String) {
    let path = "/workflows/orders/triggers/manual/invoke";
    let answer = served::request(address, "POST", path, b"{}").expect("the server answers");
    (answer.status, answer.body)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A workflow that asks the service and then answers this.
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
    // Renamed into place, as careful tools do: no half of a file can be read.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the file can be written");
    std::fs::rename(new, path).expect("the file can be put in place");
}

#[test]
fn changed_broken_and_removed_files_are_followed() {
    // The service lets a call go when the test says so.
    let (come, came) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (come, gone) = (Mutex::new(come), Mutex::new(gone));
    let service = Service::start(move |request| {
        if request.path == "/slow" {
            come.lock().expect("nobody panicked").send(()).expect("the test waits");
            gone.lock().expect("nobody panicked").recv_timeout(PATIENCE).expect("the test says go");
        }
        (200, json!({}))
    });
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("orders.json");
    write(&file, &answering(&format!("{}/slow", service.address), "one"));
    let served =
        Served::start(&["--addr", "127.0.0.1:0", "--workflows", &folder.path().display().to_string()]);
    served.until("orders 1.0.0");
    std::thread::scope(|scope| {
        let address = &served.address;
        let first = scope.spawn(move || fire(address));
        came.recv_timeout(PATIENCE).expect("the run has begun");

        write(&file, &answering(&service.address, "two"));
        served.until("orders is now 1.0.1");
        assert_eq!(served.fire(), (200, "two".to_owned()));
        go.send(()).expect("the service waits");
        let first = first.join().expect("it was answered");
        assert_eq!(first, (200, "one".to_owned()), "a run ends on the definition that it began with");
    });

    // Broken, as text and as a workflow: the version before goes on, and the place is told.
    write(&file, "{\"definition\": {\"triggers\": }");
    let told = served.until("orders stays as it was");
    assert!(told.contains("error[L0003]") && told.contains("orders.json:1:29"), "{told}");
    assert_eq!(served.fire(), (200, "two".to_owned()));
    write(&file, &answering(&service.address, "three").replace("\"Ask\":[", "\"Aks\":["));
    let told = served.until("orders stays as it was");
    assert!(told.contains("did you mean `Ask`?"), "{told}");
    assert_eq!(served.fire(), (200, "two".to_owned()));

    write(&file, &answering(&service.address, "four"));
    served.until("orders is now 1.0.2");
    assert_eq!(served.fire(), (200, "four".to_owned()));

    std::fs::remove_file(&file).expect("it is there");
    served.until("orders is no longer served");
    assert_eq!(served.fire().0, 404);
    // What comes back is the next version, or the one that it was.
    write(&file, &answering(&service.address, "four"));
    served.until("orders is now 1.0.2");
    assert_eq!(served.fire(), (200, "four".to_owned()));

    // A second file, and parameters beside it, in a folder of its own.
    let inner = folder.path().join("bills");
    std::fs::create_dir(&inner).expect("there is room");
    let text = r#"{"definition": {"parameters": {"p": {"type": "String"}}, "triggers": {"manual": {"type": "Request"}},
        "actions": {"Answer": {"type": "Response", "inputs": {"body": "@parameters('p')"}, "runAfter": {}}}}}"#;
    write(&folder.path().join("parameters.json"), r#"{"p": {"type": "String", "value": "five"}}"#);
    write(&inner.join("workflow.json"), text);
    served.until("bills is now 1.0.0");
    let bills = || {
        let path = "/workflows/bills/triggers/manual/invoke";
        served::request(&served.address, "POST", path, b"{}").expect("the server answers").body
    };
    assert_eq!(bills(), "five");
    write(&folder.path().join("parameters.json"), r#"{"p": {"type": "String", "value": "sixth"}}"#);
    served.until("bills is now 1.0.1");
    assert_eq!(bills(), "sixth");
}

#[test]
fn only_a_server_with_a_token_can_be_reached_from_other_machines() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070"] {
        let ended = loom(&["serve", "--memory", "--addr", address]);
        assert_eq!(ended.code, Some(2), "{address}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("can be reached from other machines; that needs --token-file"),
            "{address}: {}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "", "{address}: it does not listen");
    }
    let folder = tempfile::tempdir().expect("there is room");
    let token = folder.path().join("token");
    std::fs::write(&token, "too short\n").expect("it can be written");
    let token = token.display().to_string();
    let ended = loom(&["serve", "--memory", "--addr", "0.0.0.0:0", "--token-file", &token]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("the token is too short to be safe"), "{}", ended.stderr);

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
