//! Waits for a run: paints its tree, enforces its timeout and handles interrupts.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use loom_engine::{Command, RunHandle, RunReport, clock::SystemClock, ports::Clock};

use crate::{
    console::{self, Console},
    exit::Exit,
    live::{Live, Screen, Spoken},
    signals::Interrupts,
};

/// The interval at which the tree is painted.
const FRAME: Duration = Duration::from_millis(80);

/// How long a cancelled run may take to end before the program exits anyway.
const GRACE: Duration = Duration::from_secs(5);

/// How a run's tree is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not at all.
    No,
    /// Repainted on a terminal while the run is in progress.
    Painted,
    /// Printed once, when the run has ended.
    AtTheEnd,
}

/// The view of a run, and where it is shown.
pub(super) struct View<'a> {
    pub(super) live: &'a Live,
    pub(super) shown: Shown,
    pub(super) console: Console,
    /// Whether the text of models is shown as lines while it arrives.
    pub(super) speaks: bool,
}

/// The limits of the wait for a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitLimits {
    /// The timeout of the run.
    pub(super) longest: Option<Duration>,
    /// Whether an interrupt leaves a durable run in its place, to be resumed later, instead of cancelling it.
    pub(super) leaves: bool,
}

/// How the wait ended.
pub(super) enum End {
    /// The run has ended.
    Ended { report: Arc<RunReport>, interrupted: bool },
    /// The run was interrupted and can be resumed.
    Left,
}

/// Waits for the end of a run. The first interrupt cancels the run or leaves it to be resumed; the second ends the program.
pub(super) async fn watch(
    mut run: RunHandle,
    mut spoken: Spoken,
    view: &View<'_>,
    limits: WaitLimits,
    interrupts: &mut Interrupts,
) -> Result<End> {
    let over = tokio::time::sleep(limits.longest.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    let mut reported = false;
    let mut screen = Screen::default();
    let mut frames = tokio::time::interval(FRAME);
    let mut interrupted = false;
    let grace = tokio::time::sleep(Duration::MAX);
    tokio::pin!(grace);
    loop {
        tokio::select! {
            biased;
            report = run.ended() => {
                say(view, &mut spoken);
                if view.shown != Shown::No {
                    paint(view, &mut screen, usize::MAX, &[]);
                }
                let report = report.context("the run stopped without a result")?;
                return Ok(End::Ended { report, interrupted });
            }
            () = interrupts.next() => {
                if interrupted {
                    eprintln!("loom: exiting; the run has not ended");
                    std::process::exit(Exit::Interrupted as i32);
                }
                interrupted = true;
                if limits.leaves {
                    return Ok(End::Left);
                }
                run.cancel().await;
                eprintln!("loom: cancelling the run; press Ctrl-C again to force exit");
                screen = Screen::default();
                grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
            }
            () = &mut over, if limits.longest.is_some() && !reported => {
                reported = true;
                run.command(Command::TimeOut).await;
            }
            () = &mut grace, if interrupted => bail!("the run did not end within {} s of its cancellation", GRACE.as_secs()),
            _ = frames.tick(), if view.shown == Shown::Painted => {
                let (columns, rows) = Screen::size();
                let tail = spoken.tail(columns);
                paint(view, &mut screen, rows.saturating_sub(1 + tail.len()), &tail);
            }
            () = spoken.changed(), if view.speaks => say(view, &mut spoken),
        }
    }
}

/// Prints the lines of text that have arrived.
fn say(view: &View<'_>, spoken: &mut Spoken) {
    if view.speaks {
        spoken.lines().iter().for_each(|line| eprintln!("{line}"));
    }
}

fn paint(view: &View<'_>, screen: &mut Screen, rows: usize, below: &[String]) {
    let mut lines = view.live.tree(SystemClock.now(), view.console.color, (Screen::size().0, rows));
    lines.extend_from_slice(below);
    // A closed terminal does not stop the run.
    screen.paint(&lines, &mut console::Terminal).ok();
}
