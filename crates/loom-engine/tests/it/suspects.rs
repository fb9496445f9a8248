//! Runs that crash the process before their start is in the store.

use std::sync::{Arc, Mutex};

use loom_engine::{Event, RunState, Watcher};
use loom_store::{RunId, Seq, SqliteOptions, SqliteStore, Store, Upkeep};

use crate::support::{Service, engine, ok, run, workflow};

/// The events of each report.
#[derive(Default)]
struct Reports(Mutex<Vec<usize>>);

impl Watcher for Reports {
    fn events(&self, _: &RunState, events: &[Event]) {
        self.0.lock().unwrap().push(events.len());
    }
}

/// After such a crash, the start of each run is stored before anything of the run is evaluated: the next process can count its
/// crashes, and suspend it.
#[tokio::test]
async fn a_start_is_stored_before_the_first_decision_after_a_crash_in_a_first_decision() {
    for has_crashed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let open = || SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        let store = open();
        if has_crashed {
            // As a killed process leaves it.
            std::mem::forget(store.at_work(RunId::MAX, Seq::FIRST));
        }
        store.close().await.unwrap();
        drop(store);

        let (store, reports): (Arc<dyn Store>, _) = (Arc::new(open()), Arc::<Reports>::default());
        let service = Service::new(|_, _| (std::time::Duration::ZERO, ok("{}")));
        let engine = engine(&service)
            .store(Arc::clone(&store))
            .watcher(Arc::clone(&reports) as Arc<dyn Watcher>)
            .build();
        engine.recover(None).await.unwrap();
        let workflow = workflow(r#"{"Say": {"type": "Compose", "inputs": "@add(1, 1)", "runAfter": {}}}"#);
        run(&engine, &workflow).await;
        engine.shut_down().await;
        store.close().await.unwrap();
        let reports = std::mem::take(&mut *reports.0.lock().unwrap());
        let expected = if has_crashed { 2 } else { 1 };
        assert_eq!(reports.len(), expected, "the start is reported alone, or with what follows: {reports:?}");
    }
}
