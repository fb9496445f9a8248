//! The server under test: one of our own in a process of its own, or one that runs already.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use hyper::{StatusCode, Uri};
use loom_expression::Value;
use tempfile::TempDir;

use super::{
    callers::{Reply, Target, Wire},
    metrics::Metrics,
    shapes::Job,
};
use crate::remote::{escape, token};

/// The server under test.
pub(super) struct Server {
    pub(super) target: Target,
    process: Option<Process>,
}

/// A server of our own. Its folder goes with it.
struct Process {
    child: Child,
    /// Kept open, so that the server can write to it.
    _out: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is wanted any more.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Resident memory now, in bytes.
    pub(super) resident: Option<u64>,
    /// The most resident memory there was, in bytes.
    pub(super) peak: Option<u64>,
    /// Processor time, in microseconds.
    pub(super) cpu_micros: Option<u64>,
}

impl Server {
    /// Starts one on the loopback address, with its data in a new folder below `parent`.
    pub(super) fn start(parent: Option<&Path>, service: &str, options: &[OsString]) -> Result<Server> {
        let folder = match parent {
            None => tempfile::Builder::new().prefix("loom-bench-").tempdir(),
            Some(parent) => tempfile::Builder::new().prefix("loom-bench-").tempdir_in(parent),
        }
        .context("there is no place for the server's data")?;
        let program = std::env::current_exe().context("the program cannot find itself")?;
        let log = folder.path().join("log.txt");
        let mut command = Command::new(program);
        command.args(["serve", "--bench", "--addr", "127.0.0.1:0", "--param", &format!("service={service}")]);
        if !options.iter().any(|option| option == "--memory") {
            command.arg("--data").arg(folder.path().join("data"));
        }
        let mut child = command
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("the server cannot be started")?;
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://").map(str::to_owned) else {
            child.wait()?;
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the server did not start:\n{}", said.trim_end());
        };
        let process = Process { child, _out: out, folder };
        Ok(Server { target: Target { address, token: None }, process: Some(process) })
    }

    /// One that runs already.
    pub(super) fn running(url: &str, token_file: Option<&Path>) -> Result<Server> {
        let address = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .ok_or_else(|| anyhow!("--url takes `http://host:port`, and not '{url}'"))?;
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
        let token = token_file.map(token).transpose()?;
        Ok(Server { target: Target { address, token }, process: None })
    }

    /// Where the server keeps its runs, if it is ours.
    pub(super) fn data(&self) -> Option<PathBuf> {
        self.process.as_ref().map(|process| process.folder.path().join("data"))
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<Reply> {
        let path: Uri = path.parse().context("the path of a request")?;
        Wire::open(&self.target).await?.send(&self.target, method, &path, body).await
    }

    /// Deploys a workflow; gives the path that starts a run of it.
    pub(super) async fn deploy(&self, job: &Job) -> Result<Uri> {
        let path = format!("/api/v1/workflows/{}", escape(&job.workflow));
        let reply = self.ask("PUT", &path, job.definition.clone().into()).await?;
        if !reply.status.is_success() {
            bail!("{} could not be deployed: {}", job.shown, message(&reply));
        }
        let path = format!("/workflows/{}/triggers/{}/invoke", escape(&job.workflow), escape(&job.trigger));
        path.parse().context("the path of the trigger")
    }

    /// Takes a workflow away again.
    pub(super) async fn remove(&self, job: &Job) -> Result<()> {
        let path = format!("/api/v1/workflows/{}", escape(&job.workflow));
        self.ask("DELETE", &path, Bytes::new()).await.map(drop)
    }

    /// What the server counts.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        let reply = self.ask("GET", "/metrics", Bytes::new()).await?;
        if reply.status != StatusCode::OK {
            bail!("the server's metrics cannot be read: {}", message(&reply));
        }
        Ok(Metrics::read(&String::from_utf8_lossy(&reply.body)))
    }

    /// What the server's process has used, where the system tells (Linux).
    pub(super) fn usage(&self) -> Usage {
        let Some(process) = &self.process else { return Usage::default() };
        let folder = PathBuf::from(format!("/proc/{}", process.child.id()));
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()
        };
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        Usage {
            resident: kibibytes("VmRSS").map(|kibibytes| kibibytes << 10),
            peak: kibibytes("VmHWM").map(|kibibytes| kibibytes << 10),
            cpu_micros: cpu_micros(&stat),
        }
    }
}

/// User and system time of a process, from its `stat` file (proc(5)): the 14th and 15th field, in hundredths of a second.
fn cpu_micros(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 10_000)
}

fn message(reply: &Reply) -> String {
    let said = Value::parse_json(&reply.body).unwrap_or_default();
    let error = said.get("error").cloned().unwrap_or_default();
    let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let mut out = format!("{} {text}", reply.status.as_u16());
    for detail in error.get("details").and_then(Value::as_array).into_iter().flat_map(|all| all.iter()) {
        if let Some(text) = detail.get("message").and_then(Value::as_str) {
            out.push_str("\n  ");
            out.push_str(text);
        }
    }
    out
}

#[cfg(test)]
mod tests;
