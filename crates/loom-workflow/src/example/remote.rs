//! The example in which one Loom calls another: a server in one process, and a run in a second, which knows the server by the
//! document that describes its API.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use anyhow::{Context, Result, bail};
use loom_expression::{Object, Value};
use tokio::time::interval;

use super::{
    Example, NO_PROCESS,
    killed::{LOOK, ended},
    typed,
};
use crate::{exit::Exit, signals::Interrupts};

/// What the server prints before its address.
const LISTENING: &str = "listening on ";

/// A server, which ends with this value. It keeps the end of the pipe that the server prints to.
struct Serving(Child, Option<BufReader<ChildStdout>>);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the server, and then the run that calls it.
pub(super) async fn execute(example: &Example) -> Result<Exit> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write("workflow.json", example.definition)?;
    for (name, text) in example.children {
        write(name, text)?;
    }
    write("loom.openapi.json", loom_server::OPENAPI)?;
    // The processes receive an interrupt too; this one must outlive them.
    let _interrupts = Interrupts::listen()?;

    let (served, data) = (place("prices.json"), place("runs"));
    let mut server = typed(&["serve", &served, "--data", &data, "--addr", "127.0.0.1:0"])?;
    let mut server = Serving(server.stdout(Stdio::piped()).spawn().context(NO_PROCESS)?, None);
    let address = address(&mut server)?;

    let entry: Object = [("description", "loom.openapi.json"), ("baseUrl", &address)].into_iter().collect();
    let connections =
        Object::single("connections".into(), Object::single("loom".into(), entry.into()).into());
    write("connections.json", &Value::from(connections).to_json_text_pretty())?;
    let mut run = typed(&["run", &place("workflow.json"), "--connections", &place("connections.json")])?;
    let mut run = run.spawn().context(NO_PROCESS)?;
    let mut looks = interval(LOOK);
    let status = loop {
        looks.tick().await;
        if let Some(status) = run.try_wait().context("cannot wait for the process")? {
            break status;
        }
    };
    Ok(ended(status))
}

/// The address that a server prints as soon as it listens.
fn address(server: &mut Serving) -> Result<String> {
    let Some(output) = server.0.stdout.take() else { bail!("the server has no output") };
    let output = server.1.insert(BufReader::new(output));
    let mut line = String::new();
    while output.read_line(&mut line).context("cannot read what the server prints")? > 0 {
        if let Some(address) = line.strip_prefix(LISTENING) {
            return Ok(address.trim().to_owned());
        }
        line.clear();
    }
    bail!("the server ended before it listened")
}
