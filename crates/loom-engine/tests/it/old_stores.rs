//! Stores that earlier versions left behind, with runs in them: what ended is shown as it was, and what had not ended continues.
//!
//! `tests/fixtures/store-N` has the database of a server that wrote format N and ended while three runs of one definition were
//! in it: one had ended, one waited for a timer, and one had made a call that was not answered. `history.txt` has the histories
//! of all three, once they have ended. Fixtures are never changed.

use std::{fs, path::Path, sync::Arc, time::Duration};

use loom_definition::{RunStatus, model::EffectKind};
use loom_engine::{Engine, RunId, clock::TokioClock, ports::ActionHandler};
use loom_expression::Timestamp;
use loom_store::{Order, RunQuery, SqliteOptions, SqliteStore, Store};

use crate::{
    pins::told,
    support::{Service, ok},
};

/// The formats of the store that have a fixture.
const FORMATS: [u8; 2] = [2, 3];

/// 2 December 2026: after the timers of the runs, and before the longest time that a run may take.
const LATER_MS: i64 = 1_796_169_600_000;

fn fixture(format: u8, file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-{format}")).join(file)
}

/// A copy of a fixture, which is migrated when it is opened.
fn copied(format: u8) -> (tempfile::TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().expect("a directory can be created");
    let bytes = fs::read(fixture(format, "store.sqlite")).expect("the fixture is there");
    // The format is at offset 60 of the database's header, big-endian.
    assert_eq!(bytes[60..64], u32::from(format).to_be_bytes());
    fs::write(directory.path().join("loom.db"), bytes).expect("the fixture can be copied");
    // A fixture does not include the key of sealed values, and none is sealed.
    fs::write(directory.path().join("loom.key"), "").expect("a file can be created");
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).expect("it is migrated");
    (directory, Arc::new(store))
}

async fn runs_of(store: &dyn Store) -> Vec<RunId> {
    let query = RunQuery { order: Order::OldestFirst, ..RunQuery::default() };
    store.runs(query).await.expect("it can be read").rows.iter().map(|row| row.id).collect()
}

fn engine(store: &Arc<dyn Store>, service: &Arc<Service>) -> Engine {
    let later = Timestamp::from_unix_millis(LATER_MS);
    Engine::builder()
        .clock(Arc::new(TokioClock::starting_at(later)))
        .handler(EffectKind::Http, Arc::clone(service) as Arc<dyn ActionHandler>)
        .store(Arc::clone(store))
        .build()
}

async fn history_of(engine: &Engine, run: RunId) -> (RunStatus, String) {
    let (row, history) = engine.history(run).await.expect("it can be read").expect("it is there");
    assert_eq!(&*row.workflow, "kept");
    (history.status, told(&history))
}

#[tokio::test]
async fn runs_in_stores_of_older_formats_are_shown_and_continued() {
    for format in FORMATS {
        let (_directory, store) = copied(format);
        let service = Service::new(|_, _| (Duration::ZERO, ok(r#"{"statusCode": 200, "body": "taken"}"#)));
        let engine = engine(&store, &service);
        let runs = runs_of(&*store).await;
        assert_eq!(runs.len(), 3, "format {format}");
        let (status, ended) = history_of(&engine, runs[0]).await;
        assert_eq!(status, RunStatus::Succeeded, "format {format}");

        let mut recovered = engine.recover(None).await.expect("it can be read");
        assert!(recovered.unreadable.is_empty(), "format {format}: {:?}", recovered.unreadable);
        assert_eq!(recovered.runs.iter().map(|run| run.id).collect::<Vec<_>>(), runs[1..], "format {format}");
        for run in &mut recovered.runs {
            let report = run.ended().await.expect("it ends");
            assert_eq!(report.status, RunStatus::Succeeded, "format {format}: {:?}", report.error);
            let count = report.outputs.as_ref().and_then(|outputs| outputs.get("count")?.as_i64());
            assert_eq!(count, Some(3), "format {format}: a variable has the value that it had");
        }
        // The call that was not answered is the only one that is made again, under the key that the service knows.
        let keys: Vec<String> = service.by_key().into_keys().collect();
        assert_eq!(keys, [format!("{}/Silent", runs[2])], "format {format}");
        let mut all = ended;
        for run in &runs[1..] {
            all += &history_of(&engine, *run).await.1;
        }
        assert_eq!(all, fs::read_to_string(fixture(format, "history.txt")).expect("the fixture is there"));
        engine.shut_down().await;
        assert!(store.verify().await.expect("nothing is damaged") > 0);
        store.close().await.expect("it closes");
    }
}
