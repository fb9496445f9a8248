//! The server under test: started in a separate process, or already running.

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
use loom_expression::{Value, percent};
use tempfile::TempDir;

use super::{
    callers::{Reply, Target, Wire},
    metrics::Metrics,
    shapes::Job,
};
use crate::remote::token;

/// The server under test.
pub(super) struct Server {
    pub(super) target: Target,
    process: Option<Process>,
}

/// A server that was started for the benchmark. Its data directory is deleted with it.
struct Process {
    child: Child,
    /// Held open so that the server can write to it.
    _out: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its data is discarded anyway, so it need not shut down gracefully.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The resources that a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Current resident memory, in bytes.
    pub(super) resident: Option<u64>,
    /// Peak resident memory, in bytes.
    pub(super) peak: Option<u64>,
    /// CPU time, in microseconds.
    pub(super) cpu_micros: Option<u64>,
}

impl Server {
    /// Starts a server on the loopback address, with its data in a new directory below `parent`.
    pub(super) fn start(parent: Option<&Path>, service: &str, options: &[OsString]) -> Result<Server> {
        let directory = match parent {
            None => tempfile::Builder::new().prefix("loom-bench-").tempdir(),
            Some(parent) => tempfile::Builder::new().prefix("loom-bench-").tempdir_in(parent),
        }
        .context("cannot create a directory for the server's data")?;
        let program = std::env::current_exe().context("cannot determine the path of this program")?;
        let log = directory.path().join("log.txt");
        let mut command = Command::new(program);
        command.args([
            "serve",
            "--bench",
            "--log-level",
            "warn",
            "--addr",
            "127.0.0.1:0",
            "--param",
            &format!("service={service}"),
        ]);
        if !options.iter().any(|option| option == "--memory") {
            command.arg("--data").arg(directory.path().join("data"));
        }
        let mut child = command
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start the server")?;
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://").map(str::to_owned) else {
            child.wait()?;
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("the server did not start:\n{}", said.trim_end());
        };
        let process = Process { child, _out: out, directory };
        Ok(Server { target: Target { address, token: None }, process: Some(process) })
    }

    /// A server that is already running.
    pub(super) fn running(url: &str, token_file: Option<&Path>) -> Result<Server> {
        let address = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .ok_or_else(|| anyhow!("--url must be `http://HOST:PORT` (got `{url}`)"))?;
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
        let token = token_file.map(|path| token(path, &"--token-file")).transpose()?;
        Ok(Server { target: Target { address, token }, process: None })
    }

    /// The data directory of the server, if it was started here.
    pub(super) fn data(&self) -> Option<PathBuf> {
        self.process.as_ref().map(|process| process.directory.path().join("data"))
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<Reply> {
        let path: Uri = path.parse().context("invalid request path")?;
        Wire::open(&self.target).await?.send(&self.target, method, &path, body).await
    }

    /// Deploys a workflow and returns the path that starts a run of it.
    pub(super) async fn deploy(&self, job: &Job) -> Result<Uri> {
        let path = format!("/api/v1/workflows/{}", percent::encode(&job.workflow));
        let reply = self.ask("PUT", &path, job.definition.clone().into()).await?;
        if !reply.status.is_success() {
            bail!("cannot deploy {}: {}", job.shown, message(&reply));
        }
        let path = format!(
            "/workflows/{}/triggers/{}/invoke",
            percent::encode(&job.workflow),
            percent::encode(&job.trigger)
        );
        path.parse().context("invalid trigger path")
    }

    /// Deletes a workflow.
    pub(super) async fn remove(&self, job: &Job) -> Result<()> {
        let path = format!("/api/v1/workflows/{}", percent::encode(&job.workflow));
        self.ask("DELETE", &path, Bytes::new()).await.map(drop)
    }

    /// The server's metrics.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        let reply = self.ask("GET", "/metrics", Bytes::new()).await?;
        if reply.status != StatusCode::OK {
            bail!("cannot read the server's metrics: {}", message(&reply));
        }
        Ok(Metrics::read(&String::from_utf8_lossy(&reply.body)))
    }

    /// The resources used by the server process; known only on Linux, and only if the server was started here.
    pub(super) fn usage(&self) -> Usage {
        let Some(process) = &self.process else { return Usage::default() };
        let directory = PathBuf::from(format!("/proc/{}", process.child.id()));
        let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()
        };
        let stat = fs::read_to_string(directory.join("stat")).unwrap_or_default();
        Usage {
            resident: kibibytes("VmRSS").map(|kibibytes| kibibytes << 10),
            peak: kibibytes("VmHWM").map(|kibibytes| kibibytes << 10),
            cpu_micros: cpu_micros(&stat),
        }
    }
}

/// User and system time of a process from its `stat` file (proc(5)): fields 14 and 15, in hundredths of a second.
fn cpu_micros(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may contain spaces.
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
