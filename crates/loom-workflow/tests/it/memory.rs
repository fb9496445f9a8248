//! `loom memory` on a data directory, and shared memory in a server that is killed.

mod actors;
mod changed;
mod kills;
mod linear;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    Ended, ended, json,
    served::{Loom, pause, request},
};

fn loom(directory: &Path, arguments: &[&str], input: &str) -> Ended {
    ended(Command::new(env!("CARGO_BIN_EXE_loom")).args(arguments).current_dir(directory), input)
}

#[test]
fn shared_memory_is_read_and_changed_in_a_data_directory() {
    let directory = tempfile::tempdir().expect("there is room");
    let directory = directory.path();
    let workflow = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {}}"#;
    fs::write(directory.join("nothing.json"), workflow).expect("it can be written");
    let run = loom(directory, &["run", "nothing.json", "--durable"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);

    let memory = |arguments: &[&str], input: &str| {
        let mut all = vec!["memory"];
        all.extend_from_slice(arguments);
        all.extend_from_slice(&["--data", ".loom"]);
        loom(directory, &all, input)
    };
    let works = |arguments: &[&str], input: &str| {
        let ended = memory(arguments, input);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    };
    let fails = |arguments: &[&str], code: i32, message: &str| {
        let ended = memory(arguments, "");
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments:?}: {}", ended.stderr);
    };

    fails(&["get", "global/limit"], 3, "is absent");
    let set = works(&["set", "global/limit", "-", "--if-absent"], r#"{"a": [1, -2.5]}"#);
    let revision = set.trim().strip_prefix("revision ").expect("a revision").to_owned();
    assert_eq!(works(&["get", "global/limit"], ""), "{\"a\":[1,-2.5]}\n");
    let whole = json(&works(&["get", "global/limit", "--json"], ""));
    assert_eq!(whole.get("revision").expect("a revision").to_json_text(), revision);
    works(&["set", "global/limit", "-1", "--if-revision", &revision], "");
    fails(&["set", "global/limit", "2", "--if-revision", &revision], 1, "has changed: expected revision");
    fails(&["delete", "global/limit", "--if-revision", &revision], 1, "has changed: expected revision");
    fails(&["append", "global/limit", "2"], 1, "holds a value, but `append` needs a list");

    assert!(works(&["increment", "chat:42/n"], "").starts_with("1  revision "));
    assert!(works(&["increment", "chat:42/n", "-3"], "").starts_with("-2  revision "));
    for item in ["1", "\"two\"", "[3]"] {
        works(&["append", "chat:42/log", item, "--max", "2", "--ttl", "PT1H"], "");
    }
    assert_eq!(works(&["get", "chat:42/log"], ""), "[\"two\",[3]]\n");
    let keys = works(&["list", "chat:42"], "");
    let lines: Vec<&str> = keys.lines().collect();
    assert!(lines[0].starts_with("list     revision ") && lines[0].contains("  log  expires 2"), "{keys}");
    assert!(lines[1].starts_with("counter  revision ") && lines[1].ends_with("  n"), "{keys}");
    assert_eq!(works(&["list", "chat:42", "--prefix", "n", "--json"], "").lines().count(), 1);
    assert_eq!(works(&["delete", "chat:42/n"], ""), "chat:42/n  deleted\n");
    fails(&["delete", "chat:42/n"], 3, "is absent");

    fails(&["get", "limit"], 1, "expected NAMESPACE/KEY, such as `global/limit`");
    fails(&["set", "globe/limit", "1"], 1, "expected `global`, `run:ID`");
    fails(&["set", "global/limit", "1", "--ttl", "1h"], 1, "a duration such as PT1H");
}

/// `loom memory watch` against a server: the keys that exist, then changes, and from where another watcher continues.
#[test]
fn changes_are_watched_from_the_command_line() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let server = Loom::serve(&["--data".as_ref(), data.as_os_str()]);
    let url = format!("http://{}", server.address());
    let write = |operations: &str| {
        let body = format!(r#"{{"operations": [{operations}]}}"#);
        let answer = server.request("POST", "/api/v1/memory/chat:1", body.as_bytes()).expect("it responds");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let watch = |arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
            .args(["memory", "watch", "chat:1", "--server", &url])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        (Watching(child), lines.map(|line| line.expect("the output is text")))
    };
    write(r#"{"operation": "set", "key": "a", "value": 1}, {"operation": "set", "key": "b", "value": 0}"#);
    let (_watching, mut lines) = watch(&["--keys", "--prefix", "a"]);
    // It is connected once it has shown what exists.
    let first = lines.next().expect("a line");
    assert!(first.starts_with("value    revision ") && first.ends_with("  a  1"), "{first}");
    write(
        r#"{"operation": "append", "key": "a/list", "value": "x"}, {"operation": "set", "key": "b", "value": 2}"#,
    );
    let second = lines.next().expect("a line");
    assert!(second.starts_with("list     revision ") && second.ends_with(r#"  a/list  ["x"]"#), "{second}");
    write(r#"{"operation": "delete", "key": "a"}"#);
    assert_eq!(lines.next().as_deref(), Some("deleted  a"));

    let (_watching, mut lines) = watch(&["--keys", "--json"]);
    let mut events = Vec::new();
    while events.len() < 3 {
        let event = json(&lines.next().expect("a line"));
        let text = |name: &str| event.get(name).map(|value| value.text().into_owned());
        events.push((text("key"), text("position").expect("a position")));
    }
    let keys: Vec<Option<&str>> = events.iter().map(|(key, _)| key.as_deref()).collect();
    assert_eq!(keys, [None, Some("a/list"), Some("b")], "a reset, then the keys");
    write(r#"{"operation": "set", "key": "c", "value": 3}"#);
    let (_watching, mut lines) = watch(&["--after", &events[2].1]);
    let next = lines.next().expect("a line");
    assert!(next.ends_with("  c  3"), "{next}");

    // Without a server there is nothing to watch.
    server.kill();
    let refused = loom(directory.path(), &["memory", "watch", "chat:1", "--data", "data"], "");
    assert!(refused.code != Some(0) && refused.stderr.contains("needs a server"), "{}", refused.stderr);
}

/// A watcher, which is ended with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Callers count and append in one transaction each, while the server is killed again and again.
#[test]
fn kills_lose_no_acknowledged_write_and_repeat_none() {
    const CALLERS: i64 = 4;
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let arguments: [&std::ffi::OsStr; 2] = ["--data".as_ref(), data.as_os_str()];
    let (mut acknowledged, mut tried) = (Vec::new(), 0_usize);
    for life in 0..3 {
        let loom = Loom::serve(&arguments);
        let answered = Arc::new(AtomicUsize::new(0));
        let address = loom.address().to_owned();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (address, answered) = (address.clone(), Arc::clone(&answered));
                std::thread::spawn(move || {
                    let mut written = Vec::new();
                    for number in 0.. {
                        let item = (life * CALLERS + caller) * 1_000_000 + number;
                        let body = format!(
                            r#"{{"operations": [{{"operation": "increment", "key": "n"}},
                                {{"operation": "append", "key": "items", "value": {item}}}]}}"#
                        );
                        let path = "/api/v1/memory/global";
                        match request(&address, "POST", path, body.as_bytes()) {
                            Some(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
                            None => return (written, number as usize + 1),
                        }
                        written.push(item);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    unreachable!("the server is killed")
                })
            })
            .collect();
        while answered.load(Ordering::Relaxed) < 20 && callers.iter().all(|caller| !caller.is_finished()) {
            pause(Duration::from_millis(5));
        }
        loom.kill();
        for caller in callers {
            let (written, numbers) = caller.join().expect("no response is wrong");
            acknowledged.extend(written);
            tried += numbers;
        }
    }
    let loom = Loom::serve(&arguments);
    let read = |key: &str| loom.get(&format!("/api/v1/memory/global/{key}"))["value"].clone();
    let count = read("n").as_u64().expect("a counter") as usize;
    let items: Vec<i64> = serde_json::from_value(read("items")).expect("a list of numbers");
    assert_eq!(items.len(), count, "a transaction takes effect as a whole");
    let different: BTreeSet<i64> = items.iter().copied().collect();
    assert_eq!(different.len(), count, "no write is made twice");
    assert!(acknowledged.iter().all(|item| different.contains(item)), "no acknowledged write is lost");
    assert!(!acknowledged.is_empty() && count <= tried, "{} of {count} of {tried}", acknowledged.len());
}
