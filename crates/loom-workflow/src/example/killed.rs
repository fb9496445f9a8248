//! The example whose process is killed: a run starts in a separate process, which is killed halfway, and a second process
//! resumes the run. The service that the run calls lives in this process.

use std::{
    path::Path,
    process::{Child, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use loom_store::{Durability, Shards};
use loom_testkit::flaky::Flaky;
use tokio::time::{interval, sleep};

use super::{Example, NO_PROCESS, typed};
use crate::{data, exit::Exit, signals::Interrupts};

/// The process is killed after the second call to this path, while the action waits for its third attempt.
const WATCHED: &str = "/flaky";

/// The delay from that call to the kill. The interrupted wait takes three seconds.
const UNTIL_KILL: Duration = Duration::from_millis(1_200);

/// The interval at which the process and the service are checked.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Starts the run, kills its process, and resumes the run in another process.
pub(super) async fn execute(example: &Example, service: &Flaky) -> Result<Exit> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let definition = directory.path().join(format!("{}.json", example.name));
    std::fs::write(&definition, example.definition).context("cannot write the definition")?;
    let data = directory.path().join("runs");
    // Both processes receive an interrupt; this one must outlive the other.
    let _interrupts = Interrupts::listen()?;

    let (file, kept) = (definition.display().to_string(), data.display().to_string());
    let parameter = format!("service={}", service.base_url());
    let mut first = start(&["run", &file, "--durable", "--data", &kept, "--param", &parameter])?;
    if let Some(status) = until_it_waits(&mut first, service).await? {
        return Ok(ended(status));
    }
    let process = first.id();
    first.kill().context("cannot kill the process")?;
    first.wait().context("cannot wait for the process")?;
    eprint!("\n$ kill -9 {process}\n\n");

    let run = newest(&data).await?;
    let mut second = start(&["run", "--durable", "--data", &kept, "--resume", &run])?;
    let mut looks = interval(LOOK);
    let status = loop {
        looks.tick().await;
        if let Some(status) = second.try_wait().context("cannot wait for the process")? {
            break status;
        }
    };
    let charges = service.calls(WATCHED);
    eprint!(
        "\nThe payment service was called {charges} times, by two processes; actions that had succeeded before the kill were not repeated.\n"
    );
    Ok(ended(status))
}

fn start(arguments: &[&str]) -> Result<Child> {
    typed(arguments)?.spawn().context(NO_PROCESS)
}

/// Returns during the wait for the third attempt, or earlier with a status if the process has ended.
async fn until_it_waits(child: &mut Child, service: &Flaky) -> Result<Option<ExitStatus>> {
    let mut looks = interval(LOOK);
    while service.calls(WATCHED) < 2 {
        looks.tick().await;
        if let Some(status) = child.try_wait().context("cannot wait for the process")? {
            return Ok(Some(status));
        }
    }
    sleep(UNTIL_KILL).await;
    child.try_wait().context("cannot wait for the process")
}

/// The id of the newest run in a data directory that no process has open.
async fn newest(data: &Path) -> Result<String> {
    let store = data::open(data, Durability::default(), None).await?;
    let run = store.newest_run(Shards::ALL).await?;
    store.close().await?;
    match run {
        Some(run) => Ok(run.to_string()),
        None => bail!("the run was not stored"),
    }
}

pub(super) fn ended(status: ExitStatus) -> Exit {
    match status.code() {
        Some(0) => Exit::Success,
        Some(130) => Exit::Interrupted,
        _ => Exit::Failure,
    }
}
