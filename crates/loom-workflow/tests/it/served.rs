//! A served `loom` as a child process, a service that it calls, and plain HTTP to speak with both.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
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

/// How long a run, or a process, may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "the full count of a proof is asked for from outside")]
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Real processes keep real time.
pub(crate) fn pause(time: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    never.recv_timeout(time).ok();
}

/// One request to `host:port`; none when whoever listens there died before it had answered in full.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // A head that came alone was cut off in its body.
    let length: usize = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    (body.len() >= length).then(|| Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// `loom serve` on a free port.
pub(crate) struct Loom {
    child: Arc<Mutex<Child>>,
    address: String,
}

/// What was answered.
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
    /// Starts it, and waits until it listens.
    pub(crate) fn serve(arguments: &[&OsStr]) -> Loom {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .arg("serve")
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").expect("it says where it listens").to_owned();
        Loom { child: Arc::new(Mutex::new(child)), address }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it, as `kill -9` does, when the time is over.
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

    /// Kills it, as `kill -9` does, now.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child.lock().unwrap())
    }

    /// Asks it to stop, as a supervisor does.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// The code it ends with; none when it does not end in time.
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

    /// Asks again and again until the answer is as wanted.
    pub(crate) fn until(&self, path: &str, mut wanted: impl FnMut(&Answer) -> bool) -> Answer {
        let mut left = PATIENCE;
        loop {
            let answer = self.request("GET", path, b"").expect("the server answers");
            if wanted(&answer) {
                return answer;
            }
            let step = Duration::from_millis(50);
            left = left.checked_sub(step).unwrap_or_else(|| panic!("{path} stays {answer:?}"));
            pause(step);
        }
    }

    /// One request; none when the process died before it had answered in full.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        request(&self.address, method, path, body)
    }

    /// What is at an address of the API, which must be there.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, b"").expect("the server answers");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The status that a run ends with.
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

    /// All members called `name` of all pages at `path`, which has a query.
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

    /// At most `most` events of a stream, after the one with number `after`: numbers and types.
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

/// A request that a service got.
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

/// What a service answers: a status, and JSON.
pub(crate) type Reply = (u16, Value);

/// A service that answers what `work` says. It lives as long as the test.
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

/// Reads one request and answers it. A caller that died meanwhile is no mistake.
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
