//! Output on a terminal: no control sequence from outside, no forged line, and no failure when the output is closed.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
use std::{
    io::{BufRead, BufReader, PipeWriter},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Ended, file, loom, served::request};

/// A pipe whose reading end is closed.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

fn definition(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#)
}

/// Asserts that neither stream contains a control sequence.
fn assert_plain(ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        let obeyed = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(obeyed), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    }
}

#[test]
fn a_server_whose_standard_error_is_closed_serves_deploys_and_stops() {
    let path = file("terminal-closed", "one.json", &definition(r#""A": {"type": "Compose", "inputs": 1}"#));
    let mut child = Command::new(env!("CARGO_BIN_EXE_loom"))
        .args(["serve", "--memory", "--addr", "127.0.0.1:0", "--workflows"])
        .arg(path.parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(closed())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Dropping the reader closes standard output too.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
    // A changed file makes the server print something; so does the signal.
    std::fs::write(&path, definition(r#""Changed": {"type": "Compose", "inputs": 2}"#)).unwrap();
    let deployed = || request(&address, "GET", "/api/v1/workflows/one", b"").unwrap().body;
    while !deployed().contains("Changed") && !deployed().contains("1.0.1") {
        assert!(child.try_wait().unwrap().is_none(), "it ended at the change");
        crate::served::pause(std::time::Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_output_does_not_change_how_a_run_ends() {
    let flow = r#""A": {"type": "Compose", "inputs": 1},
        "R": {"type": "Response", "inputs": {"statusCode": 200, "body": "x"}, "runAfter": {"A": ["Succeeded"]}}"#;
    let path = file("terminal-run", "one.json", &definition(flow));
    let data = path.with_file_name("data");
    let status = Command::new(env!("CARGO_BIN_EXE_loom"))
        .args(["run", "--durable", "--data"])
        .args([&data, &path])
        .stdout(closed())
        .stderr(closed())
        .status();
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn a_command_that_only_prints_ends_when_its_output_is_closed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    assert_eq!(command.arg("explain").stdout(closed()).status().unwrap().code(), Some(141));
}

#[test]
fn names_and_excerpts_are_shown_escaped() {
    let text = "{\"triggers\": {}, \"actions\": {\n\"A\u{202e}\\u001b[2J\\nforged\": {\"type\": \"Compose\", \"inputs\": \"@lenght('\u{202e}\u{9b}')\"}}}";
    let path = file("terminal-names", "odd\nforged\u{1b}[31m.json", text).display().to_string();
    let ended = loom(&["validate", &path]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_plain(&ended);
    assert!(ended.stderr.contains(r"odd\nforged\u{1b}[31m.json:2:"), "{}", ended.stderr);
    // An escaped character takes one column, so that the carets are under the right place.
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let marks = lines.iter().position(|line| line.contains("^^^^^^")).unwrap();
    let column = |line: &str, text: &str| line.find(text).map(|at| line[..at].chars().count());
    assert_eq!(column(lines[marks], "^^^^^^"), column(lines[marks - 1], "lenght"), "{}", ended.stderr);

    let missing = format!("{}/no\nforged\u{1b}[31m", Path::new(env!("CARGO_TARGET_TMPDIR")).display());
    for command in ["validate", "run", "test", "serve"] {
        let ended = loom(&[command, &missing]);
        assert_eq!(ended.code, Some(2));
        assert_plain(&ended);
    }
    assert_plain(&loom(&["no\nforged\u{1b}[2J"]));
    assert_plain(&loom(&["eval", "@add(1, '\u{202e}\nforged')"]));
    assert_plain(&loom(&["eval", "@nothing\u{1b}[2J('\nforged')"]));
}

#[test]
fn cases_are_reported_escaped() {
    let cases = r#"{"cases": [{"id": "a\nforged\u001b[2J", "expression": "@concat('x', decodeUriComponent('%0Aforged%1B'))", "expected": "y\nforged"},
        {"id": "b\nforged", "definitionFile": "none\nforged.json", "expected": {}}]}"#;
    let path = file("terminal-cases", "odd.test.json", cases).display().to_string();
    let ended = loom(&["test", &path]);
    assert!(ended.stdout.contains(r"failed  a\nforged\u{1b}[2J"), "{}", ended.stdout);
    assert_plain(&ended);
}

#[test]
fn codes_and_messages_of_runs_are_shown_escaped() {
    let flow = r#""A\nforged": {"type": "Terminate", "inputs": {"runStatus": "Failed",
        "runError": {"code": "Bad\nforged", "message": "m\nforged \u001b]0;title\u0007 \u202e"}}}"#;
    let path = file("terminal-codes", "odd.json", &definition(flow));
    let data = path.with_file_name("data").display().to_string();
    drop(std::fs::remove_dir_all(&data));
    let ended = loom(&["run", "--durable", "--data", &data, &path.display().to_string()]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_plain(&ended);
    let quiet = loom(&["run", "--quiet", &path.display().to_string()]);
    assert_plain(&quiet);
    let list = loom(&["runs", "list", "--data", &data]);
    assert!(list.stdout.contains(r"Bad\nforged"), "{} {}", list.stdout, list.stderr);
    assert_plain(&list);
    let id = list.stdout.lines().nth(1).and_then(|line| line.split(' ').next()).unwrap();
    for arguments in [&["show"][..], &["watch"], &["events"], &["show", "--json"]] {
        let mut call = vec!["runs"];
        call.extend(arguments);
        call.extend([id, "--data", &data]);
        let shown = loom(&call);
        assert!(shown.stdout.contains("forged"), "{call:?}: {}", shown.stdout);
        assert_plain(&shown);
    }
}
