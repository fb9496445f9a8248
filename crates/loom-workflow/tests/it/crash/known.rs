//! What the store says while no process is running: which actions are complete, which runs have ended, and which are parked.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::Arc,
};

use loom_definition::RunStatus;
use loom_engine::{Engine, status_from_number};
use loom_store::{KeyQuery, Shards, SqliteOptions, SqliteStore, Store, prelude::*};

/// The contents of the store after each kill.
#[derive(Default)]
pub(super) struct Known {
    /// The life in which each action was complete, by key.
    pub(super) completed: BTreeMap<String, usize>,
    /// Runs that had ended.
    pub(super) ended: BTreeMap<String, usize>,
    /// The lives in which runs had ended with an unsubscription that was not yet confirmed.
    pub(super) unsubscribing: BTreeSet<(String, usize)>,
    unfinished: BTreeSet<String>,
    /// How many runs of each workflow were parked, over all kills; and of those that waited for their turn, as `workflow, waiting`.
    pub(super) parked: BTreeMap<String, usize>,
}

impl Known {
    /// Reads the store of a process that is dead.
    pub(super) fn read(&mut self, data: &Path, life: usize, accepted: &BTreeSet<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(SqliteStore::open(data, SqliteOptions::default()).unwrap());
            let engine = Engine::builder().store(Arc::clone(&store) as Arc<dyn Store>).build();
            let before = std::mem::take(&mut self.unfinished);
            let mut after = None;
            loop {
                let page = store.unfinished(Shards::ALL, after, 500).await.unwrap();
                for row in &page {
                    self.unfinished.insert(row.id.to_string());
                    if row.wake_at.is_some() {
                        let waits = if status_from_number(row.status) == Some(RunStatus::Waiting) {
                            ", waiting"
                        } else {
                            ""
                        };
                        *self.parked.entry(format!("{}{waits}", row.workflow)).or_default() += 1;
                    }
                    self.note(&engine, row.id, life).await;
                }
                match page.last() {
                    Some(last) => after = Some(last.id),
                    None => break,
                }
            }
            for run in before.iter().chain(accepted).filter(|run| !self.unfinished.contains(*run)) {
                self.ended.entry(run.clone()).or_insert(life);
            }
            let query = KeyQuery {
                namespace: "engine/unsubscribing".into(),
                prefix: String::new(),
                after: None,
                limit: 10_000,
            };
            let page = store.keys(query).await.unwrap();
            self.unsubscribing.extend(page.values.iter().map(|value| (value.key.to_string(), life)));
            store.close().await.unwrap();
        });
    }

    async fn note(&mut self, engine: &Engine, run: loom_engine::RunId, life: usize) {
        let (_, history) = engine.history(run).await.unwrap().expect("a row has a history");
        let workflow = Arc::clone(history.workflow());
        for action in &workflow.actions {
            for occurrence in history.occurrences(action.index).iter().filter(|o| o.status.is_some()) {
                let mut key = format!("{run}/{}", action.name);
                for round in &occurrence.path {
                    write!(key, "/{}", round.index).unwrap();
                }
                self.completed.entry(key).or_insert(life);
            }
        }
    }
}
