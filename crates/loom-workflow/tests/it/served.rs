//! A served `loom` as a child process, a service that it calls, and plain HTTP to speak with both.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The maximum time in which a run or a process must end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A number from an environment variable.
#[expect(clippy::disallowed_methods, reason = "a longer run sets the count from outside")]
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits in real time, because real processes do.
pub(crate) fn pause(time: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    never.recv_timeout(time).ok();
}

/// Sends one request to `host:port`; `None` if the process there died before its response was complete.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    request_with_key(address, method, path, None, body)
}

/// Like [`request`], with an `Idempotency-Key`.
pub(crate) fn request_with_key(
    address: &str,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let key = key.map(|key| format!("Idempotency-Key: \"{key}\"\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // A head without its whole body was cut off.
    let length: usize = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    (body.len() >= length).then(|| Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// `loom serve` on a free port.
pub(crate) struct Loom {
    child: Arc<Mutex<Child>>,
    address: String,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim().to_owned())
}

impl Loom {
    /// Starts the server and waits until it listens.
    pub(crate) fn serve(arguments: &[&OsStr]) -> Loom {
        Loom::serve_with(arguments, Stdio::null())
    }

    /// Like [`Loom::serve`], with standard error where it is wanted.
    pub(crate) fn serve_with(arguments: &[&OsStr], stderr: Stdio) -> Loom {
        Loom::serve_under(&[], arguments, stderr)
    }

    /// Like [`Loom::serve_with`], with environment variables.
    pub(crate) fn serve_under(variables: &[(&str, &str)], arguments: &[&OsStr], stderr: Stdio) -> Loom {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .arg("serve")
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").expect("it prints its address").to_owned();
        Loom { child: Arc::new(Mutex::new(child)), address }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills the process, as `kill -9` does, after this time.
    pub(crate) fn kill_after(&self, time: Duration) -> JoinHandle<()> {
        let child = Arc::clone(&self.child);
        std::thread::spawn(move || {
            pause(time);
            child.lock().unwrap().kill().unwrap();
        })
    }

    pub(crate) fn wait_for_end(&mut self) {
        self.child.lock().unwrap().wait().unwrap();
    }

    /// Kills the process now, as `kill -9` does.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child.lock().unwrap())
    }

    /// Sends SIGTERM, as a supervisor does.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits for the exit code; `None` if the process does not exit in time.
    pub(crate) fn exit_within(&self, time: Duration) -> Option<i32> {
        let step = Duration::from_millis(20);
        let mut left = time;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status.code();
            }
            left = left.checked_sub(step)?;
            pause(step);
        }
    }

    /// Repeats a request until its response satisfies a condition.
    pub(crate) fn until(&self, path: &str, mut wanted: impl FnMut(&Answer) -> bool) -> Answer {
        let mut left = PATIENCE;
        loop {
            let answer = self.request("GET", path, b"").expect("the server responds");
            if wanted(&answer) {
                return answer;
            }
            let step = Duration::from_millis(50);
            left = left.checked_sub(step).unwrap_or_else(|| panic!("{path} stays {answer:?}"));
            pause(step);
        }
    }

    /// Sends one request; `None` if the process died before its response was complete.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        request(&self.address, method, path, body)
    }

    /// The JSON at a route of the API, which must exist.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, b"").expect("the server responds");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Waits for a run to end and returns its status.
    pub(crate) fn end_of(&self, run: &str) -> String {
        let mut left = PATIENCE;
        loop {
            let run = self.get(&format!("/api/v1/runs/{run}"));
            if run.get("endTime").is_some() {
                return run["status"].as_str().unwrap().to_owned();
            }
            let step = Duration::from_millis(50);
            left = left.checked_sub(step).unwrap_or_else(|| panic!("the run does not end: {run}"));
            pause(step);
        }
    }

    /// The items of the list `name` from all pages at `path`, which has a query.
    pub(crate) fn pages(&self, path: &str, name: &str, next: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut page = self.get(path);
        loop {
            all.append(page[name].as_array_mut().expect("a page has members"));
            match &page["next"] {
                Value::String(cursor) => page = self.get(&format!("{path}&{next}={cursor}")),
                _ => return all,
            }
        }
    }

    /// At most `most` events of a stream after number `after`: their numbers and types.
    pub(crate) fn stream(&self, path: &str, after: u64, most: usize) -> Vec<(u64, String)> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: {after}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut events = Vec::new();
        let mut id = None;
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.parse().ok();
            } else if let Some(kind) = line.strip_prefix("event: ") {
                events.push((id.take().expect("each event has a number"), kind.to_owned()));
                if events.len() >= most {
                    break;
                }
            }
        }
        events
    }
}

impl Drop for Loom {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        child.kill().ok();
        child.wait().ok();
    }
}

/// A request that a service received.
#[derive(Debug)]
pub(crate) struct Request {
    head: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

/// The response of a service: a status and JSON.
pub(crate) type Reply = (u16, Value);

/// A service whose responses `work` computes. It runs until the test ends.
pub(crate) struct Service {
    pub(crate) address: String,
}

impl Service {
    pub(crate) fn start(work: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let work = Arc::new(work);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let work = Arc::clone(&work);
                std::thread::spawn(move || answer(&stream, &*work));
            }
        });
        Service { address }
    }
}

/// Reads one request and responds. A caller that has died in the meantime is not an error.
fn answer(stream: &TcpStream, work: &dyn Fn(Request) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let (status, body) = work(Request { head, path, body: String::from_utf8(body).ok()? });
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
}
