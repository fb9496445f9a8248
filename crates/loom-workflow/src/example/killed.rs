//! The example whose process is killed: a run in a process of its own, which dies in the middle, and another process that
//! goes on with the run. The service that it calls lives in this one.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use loom_store::Durability;
use loom_testkit::flaky::Flaky;
use tokio::time::{interval, sleep};

use super::Example;
use crate::{data, exit::Exit, signals::Interrupts};

/// The path of the service whose second call the kill follows, while its action waits before the third.
const WATCHED: &str = "/flaky";

/// From that call to the kill. The wait that is cut in two takes three seconds.
const UNTIL_KILL: Duration = Duration::from_millis(1_200);

/// How often the process and the service are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Starts the run, kills its process, and goes on with it in another.
pub(super) async fn play(example: &Example, service: &Flaky) -> Result<Exit> {
    let folder = tempfile::tempdir().context("there is no room for the run")?;
    let definition = folder.path().join(format!("{}.json", example.name));
    std::fs::write(&definition, example.definition).context("the definition cannot be written")?;
    let data = folder.path().join("runs");
    // Both processes hear an interrupt; this one goes on for as long as the other does.
    let _interrupts = Interrupts::hear()?;

    let (file, kept) = (definition.display().to_string(), data.display().to_string());
    let parameter = format!("service={}", service.base_url());
    let mut first = start(&["run", &file, "--durable", "--data", &kept, "--param", &parameter])?;
    if let Some(status) = until_it_waits(&mut first, service).await? {
        return Ok(ended(status));
    }
    let process = first.id();
    first.kill().context("the process cannot be killed")?;
    first.wait().context("the process cannot be waited for")?;
    eprint!("\n$ kill -9 {process}\n\n");

    let run = newest(&data).await?;
    let mut second = start(&["run", "--durable", "--data", &kept, "--resume", &run])?;
    let mut looks = interval(LOOK);
    let status = loop {
        looks.tick().await;
        if let Some(status) = second.try_wait().context("the process cannot be waited for")? {
            break status;
        }
    };
    let charges = service.calls(WATCHED);
    eprint!(
        "\nThe card was asked {charges} times in all, by two processes; what had succeeded before the kill was not done again.\n"
    );
    Ok(ended(status))
}

/// Says a command as it would be typed, and starts it.
fn start(arguments: &[&str]) -> Result<Child> {
    eprintln!("$ loom {}", arguments.join(" "));
    let program = std::env::current_exe().context("this program does not know where it is")?;
    Command::new(program).args(arguments).spawn().context("this program cannot be started again")
}

/// Returns in the middle of the wait before the third call; with a status when the process ended of itself.
async fn until_it_waits(child: &mut Child, service: &Flaky) -> Result<Option<ExitStatus>> {
    let mut looks = interval(LOOK);
    while service.calls(WATCHED) < 2 {
        looks.tick().await;
        if let Some(status) = child.try_wait().context("the process cannot be waited for")? {
            return Ok(Some(status));
        }
    }
    sleep(UNTIL_KILL).await;
    child.try_wait().context("the process cannot be waited for")
}

/// The id of the run in the folder that nobody has open any more.
async fn newest(data: &Path) -> Result<String> {
    let store = data::open(data, Durability::default(), None).await?;
    let run = store.newest_run().await?;
    store.close().await?;
    match run {
        Some(run) => Ok(run.to_string()),
        None => bail!("the run was not kept"),
    }
}

fn ended(status: ExitStatus) -> Exit {
    match status.code() {
        Some(0) => Exit::Success,
        Some(130) => Exit::Interrupted,
        _ => Exit::Failure,
    }
}
