//! Runs that survive the program: kept in a folder, gone on with when asked for.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_engine::{RunHandle, RunId, RunReport, RunRequest, Watcher};
use loom_store::{Durability, Store};

use super::{Play, Source};
use crate::{args::Keep, data, exit::Exit, live::Live, signals::Interrupts};

/// The folder of kept runs, open.
pub(super) struct Kept {
    folder: PathBuf,
    store: Arc<dyn Store>,
    resume: Option<RunId>,
}

impl Kept {
    /// Opens the folder, if the run is to be kept.
    pub(super) async fn open(keep: &Keep) -> Result<Option<Kept>> {
        if !keep.durable {
            return Ok(None);
        }
        let resume = match &keep.resume {
            None => None,
            Some(text) => {
                let id = RunId::from_str(text);
                Some(id.map_err(|_| {
                    anyhow!("--resume takes the id of a run, such as `loom runs list --data {}` shows; '{text}' is none",
                        keep.data.display())
                })?)
            }
        };
        // What is not there is not made for a run that cannot be in it.
        if resume.is_some() && !keep.data.join("loom.db").is_file() {
            bail!("{} holds no store, so there is no run in it to go on with", keep.data.display());
        }
        let store = data::open(&keep.data, Durability::Durable, keep.key_file.as_deref()).await?;
        Ok(Some(Kept { folder: keep.data.clone(), store, resume }))
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The definition that the run to go on with began with.
    pub(super) async fn definition(&self) -> Result<Source> {
        let id = self.resume.context("a definition is wanted for a run that is started")?;
        let Some(row) = self.store.run(id).await? else { return Err(self.unknown(id)) };
        let bytes = self.store.definition(row.definition).await?;
        let bytes =
            bytes.with_context(|| format!("the definition of run {id} is no longer kept; name its file"))?;
        Ok(Source { name: row.workflow.to_string(), bytes: bytes.to_vec() })
    }

    fn unknown(&self, id: RunId) -> anyhow::Error {
        let folder = self.folder.display();
        anyhow!("there is no run {id} in {folder}; `loom runs list --data {folder}` shows those there are")
    }

    pub(super) async fn close(&self) -> Result<()> {
        self.store.close().await.context("the folder of runs could not be closed in order")
    }

    /// Starts the run, or goes on with the one that was asked for.
    pub(super) async fn play(&self, play: &Play<'_>, request: RunRequest) -> Result<Exit> {
        play.engine.number_on().await?;
        let Some(id) = self.resume else { return play.start(request, Some(self)).await };
        let interrupts = Interrupts::hear()?;
        let Some((_, history)) = play.engine.history(id).await? else {
            return Err(self.unknown(id));
        };
        let report = history.status.is_final().then(|| RunReport {
            id,
            status: history.status,
            error: history.error.clone(),
            outputs: history.outputs.clone(),
            response: history.response.clone(),
        });
        let live = Arc::new(Live::going_on(history, play.style(), play.console));
        if let Some(report) = report {
            if !play.with.quiet {
                eprintln!("loom: run {id} has ended as {} before", report.status);
            }
            play.print(&report, &live);
            return Ok(Exit::of_run(report.status));
        }
        let watcher = Arc::clone(&live) as Arc<dyn Watcher>;
        let run = play.engine.recover_run(id, Some(&watcher)).await?;
        let run = run.with_context(|| format!("run {id} cannot go on"))?;
        play.follow(vec![run], &live, Some(self), interrupts).await
    }

    /// Waits until the run is on the disk, and tells how it can go on.
    pub(super) async fn tell(&self, run: &mut RunHandle, quiet: bool) -> Result<()> {
        if !run.accepted().await {
            bail!("the run could not be written to {}; nothing was started", self.folder.display());
        }
        if !quiet {
            let how = if self.resume.is_some() { "goes on; it is kept in" } else { "is kept in" };
            eprintln!("loom: run {} {how} {}", run.id, self.folder.display());
        }
        Ok(())
    }
}

impl Kept {
    /// Tells that a run stays where it is.
    pub(super) fn tell_left(&self, run: RunId) {
        let folder = self.folder.display();
        eprintln!(
            "loom: run {run} stays where it is; `loom run --durable --data {folder} --resume {run}` goes on with it, with the \
             other options as they were"
        );
    }
}
