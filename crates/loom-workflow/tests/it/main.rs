//! Tests of the binary: its standard output, its standard error and its exit codes.

mod batches;
mod bench;
mod canaries;
#[cfg(feature = "postgres-tests")]
mod cluster;
mod connectors;
mod crash;
mod crash_agents;
mod crash_approvals;
mod crash_chats;
mod crash_mcp;
mod directory;
mod disk_full;
mod docs;
mod doors;
mod drained;
mod encrypted;
mod errors_page;
mod eval;
mod examples;
mod files;
mod graph;
mod guide;
mod interrupted;
mod logs;
mod managed;
mod memory;
mod newcomer;
mod poison;
mod policies;
mod project;
mod reference;
mod reloaded;
mod restarts;
mod rotated;
mod run;
mod run_ended;
mod secrets;
mod secrets_served;
mod served;
mod settings;
mod store_faults;
mod terminal;
mod traced;
mod watch;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The result of running the binary.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the binary with empty standard input.
fn loom(arguments: &[&str]) -> Ended {
    loom_with_input(arguments, "")
}

fn loom_with_input(arguments: &[&str], input: &str) -> Ended {
    ended(Command::new(env!("CARGO_BIN_EXE_loom")).args(arguments), input)
}

/// Runs a command with `input` on standard input, to its end.
fn ended(command: &mut Command, input: &str) -> Ended {
    let mut child = command
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A call that fails early does not read its input.
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).ok();
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the binary ends");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A file with this text, in a directory of this test's own.
fn file(test: &str, name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test).join(name);
    std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("the directory can be made");
    std::fs::write(&path, text).expect("the file can be written");
    path
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

fn json(text: &str) -> loom_expression::Value {
    loom_expression::Value::from_json_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
