//! Durable runs: stored in a data directory, and resumed with `--resume`.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_engine::{RunHandle, RunId, RunRequest, Watcher};
use loom_store::{Durability, Store};

use super::{Execution, Source};
use crate::{args::DurableArgs, config::Config, data, exit::Exit, live::Live, signals::Interrupts};

/// An open data directory.
pub(super) struct Kept {
    directory: PathBuf,
    store: Arc<dyn Store>,
    resume: Option<RunId>,
}

impl Kept {
    /// Opens the data directory if the run is durable.
    pub(super) async fn open(durable: &DurableArgs, config: &Config) -> Result<Option<Kept>> {
        if !durable.durable {
            return Ok(None);
        }
        let data = durable.data.as_ref().unwrap_or(&config.values.data);
        if durable.key_file.is_none() {
            config.check_files(&["key-file"])?;
        }
        let key_file = durable.key_file.as_ref().or(config.values.key_file.as_ref());
        let resume = match &durable.resume {
            None => None,
            Some(text) => {
                let id = RunId::from_str(text);
                Some(id.map_err(|_| {
                    anyhow!(
                        "--resume must be a run id (got `{text}`); `loom runs list --data {}` lists the runs",
                        data.display()
                    )
                })?)
            }
        };
        // A missing store is not created: the run cannot be in it.
        if resume.is_some() && !data.join("loom.db").is_file() {
            bail!(
                "cannot resume a run from {}: it is not a data directory (it has no loom.db)",
                data.display()
            );
        }
        let store = data::open(data, Durability::Durable, key_file.map(PathBuf::as_path)).await?;
        Ok(Some(Kept { directory: data.clone(), store, resume }))
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The definition with which the run to resume was started.
    pub(super) async fn definition(&self) -> Result<Source> {
        let id = self.resume.context("a definition is required to start a run")?;
        let Some(row) = self.store.run(id).await? else { return Err(self.unknown(id)) };
        let bytes = self.store.definition(row.definition).await?;
        let bytes = bytes
            .with_context(|| format!("the definition of run {id} is no longer stored; name its file"))?;
        Ok(Source { name: row.workflow.to_string(), bytes: bytes.to_vec(), is_file: false })
    }

    fn unknown(&self, id: RunId) -> anyhow::Error {
        let directory = self.directory.display();
        anyhow!("no run {id} in {directory}; `loom runs list --data {directory}` lists the runs")
    }

    pub(super) async fn close(&self) -> Result<()> {
        self.store.close().await.context("cannot close the data directory cleanly")
    }

    /// Starts the run, or resumes the requested one.
    pub(super) async fn run(&self, execution: &Execution<'_>, request: RunRequest) -> Result<Exit> {
        execution.engine.continue_numbering().await?;
        let Some(id) = self.resume else { return execution.start(request, Some(self)).await };
        let interrupts = Interrupts::listen()?;
        let Some((_, history)) = execution.engine.history(id).await? else {
            return Err(self.unknown(id));
        };
        let report = history.report();
        let live = Arc::new(Live::resumed(history, execution.style(), execution.console));
        if let Some(report) = report {
            if !execution.with.quiet {
                eprintln!("loom: run {id} has already ended with status {}", report.status);
            }
            execution.print(&report, &live);
            return Ok(Exit::of_run(report.status));
        }
        let watcher = Arc::clone(&live) as Arc<dyn Watcher>;
        let run = execution.engine.recover_run(id, Some(&watcher)).await?;
        let run = run.with_context(|| format!("cannot resume run {id}"))?;
        execution.follow(vec![run], &live, Some(self), interrupts).await
    }

    /// Waits until the run is stored, and reports where.
    pub(super) async fn announce(&self, run: &mut RunHandle, quiet: bool) -> Result<()> {
        if !run.accepted().await {
            bail!("cannot store the run in {}; nothing was started", self.directory.display());
        }
        if !quiet {
            let how = if self.resume.is_some() { "resumed from" } else { "stored in" };
            eprintln!("loom: run {} {how} {}", run.id, self.directory.display());
        }
        Ok(())
    }
}

impl Kept {
    /// Reports that a run was interrupted and how to resume it.
    pub(super) fn report_interrupted(&self, run: RunId) {
        let directory = self.directory.display();
        eprintln!(
            "loom: run {run} was interrupted; resume it with `loom run --durable --data {directory} --resume {run}` and the other \
             options unchanged"
        );
    }
}
