//! Measures lists and counts of runs by what their rows say, in a store of 1,000,000 runs.
//!
//! `cargo bench -p loom-store --bench run_lists -- [RUNS]`. Of the runs, 1 in 1,000 is unfinished and waits for a timer,
//! 1 in 50 has failed, and the rest have succeeded. Each row is the slowest and the median of 20 queries on a warm cache; a
//! page has 100 runs, and `pages` says how many were read to fill one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use loom_store::{
    Commit, ContentHash, Durability, Flags, RunId, RunQuery, RunRow, SqliteOptions, SqliteStore, UnixMillis,
    prelude::*,
};

const T0: i64 = 1_700_000_000_000;

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn row(number: i64) -> RunRow {
    let id = RunId::first_at(UnixMillis(T0 + number * 100));
    let workflow = format!("workflow-{}", number % 40);
    let mut row = RunRow::new(id, workflow, ContentHash::of(b"{}"), 3);
    row.started = Some(id.time());
    row.trigger = Some("manual".into());
    row.tracking_id = (number % 10 == 0).then(|| format!("order-{number}").into());
    row.details = Bytes::from_static(b"0123456789abcdef");
    if number % 1_000 == 0 {
        row.status = 1;
        row.wake_at = Some(id.time().plus(3_600_000));
        row.flags = Flags(if number % 100_000 == 0 { 1 | 1 << 4 } else { 1 });
        return row;
    }
    row.ended = Some(id.time().plus(1_500));
    if number % 50 == 1 {
        row.status = 4;
        row.error = Some(if number % 5_000 == 1 { "ActionTimedOut" } else { "ActionFailed" }.into());
        row.error_text = Some(format!("An action failed. No dependent actions succeeded ({number}).").into());
    }
    row
}

async fn fill(store: &SqliteStore, runs: i64) {
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..runs {
        let mut commit = Commit { row: Some(row(number)), ..Commit::new() };
        loop {
            match store.append(commit) {
                Ok(ack) => break waiting.push_back(ack),
                Err(refused) => commit = *refused.commit,
            }
            if let Some(ack) = waiting.pop_front() {
                ack.await.expect("the store works");
            }
        }
    }
    for ack in waiting {
        ack.await.expect("the store works");
    }
}

fn queries(runs: i64) -> Vec<(&'static str, RunQuery)> {
    let all = RunQuery::default();
    let workflow = Some("workflow-1".into());
    vec![
        ("newest", all.clone()),
        ("workflow", RunQuery { workflow: workflow.clone(), ..all.clone() }),
        ("status Failed", RunQuery { status: Some(4), ..all.clone() }),
        (
            "workflow and status Failed",
            RunQuery { workflow: workflow.clone(), status: Some(4), ..all.clone() },
        ),
        ("waiting for a timer", RunQuery { flags: Flags(1), ..all.clone() }),
        ("retrying", RunQuery { flags: Flags(1 << 4), ..all.clone() }),
        ("parked", RunQuery { parked: Some(true), ..all.clone() }),
        ("tracking id", RunQuery { tracking_id: Some("order-500000".into()), ..all.clone() }),
        ("error code", RunQuery { error: Some("ActionTimedOut".into()), ..all.clone() }),
        ("error text, common", RunQuery { error_text: Some("no dependent".into()), ..all.clone() }),
        ("error text, one run", RunQuery { error_text: Some("(51)".into()), ..all.clone() }),
        ("ended within a minute", {
            let at = T0 + runs * 50;
            RunQuery {
                ended_from: Some(UnixMillis(at)),
                ended_before: Some(UnixMillis(at + 60_000)),
                ..all.clone()
            }
        }),
        ("workflow and retrying, none", RunQuery { workflow, flags: Flags(1 << 4), ..all.clone() }),
        ("trigger that no run has", RunQuery { trigger: Some("nothing".into()), ..all }),
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let directory = tempfile::tempdir().expect("a directory can be created");
    let options = SqliteOptions { durability: Durability::Relaxed, ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), options).expect("the store opens");
    let began = now();
    fill(&store, runs).await;
    println!("{runs} runs written in {:.0} s\n", began.elapsed().as_secs_f64());
    println!("| query | list, median ms | list, slowest ms | pages | count, slowest ms |");
    println!("|---|---|---|---|---|");
    for (name, query) in queries(runs) {
        let (mut lists, mut counts) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let began = now();
            store.runs(query.clone()).await.expect("the store works");
            lists.push(began.elapsed());
            let began = now();
            store.count(RunQuery { limit: 10_000, ..query.clone() }).await.expect("the store works");
            counts.push(began.elapsed());
        }
        let (mut pages, mut found, mut after) = (0, 0, None);
        loop {
            let page = store.runs(RunQuery { after, ..query.clone() }).await.expect("the store works");
            (pages, found) = (pages + 1, found + page.rows.len());
            after = page.next;
            if after.is_none() || found >= query.limit {
                break;
            }
        }
        lists.sort_unstable();
        let millis = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
        println!(
            "| {name} | {:.1} | {:.1} | {pages} | {:.1} |",
            millis(lists.get(10)),
            millis(lists.last()),
            millis(counts.iter().max())
        );
    }
}
