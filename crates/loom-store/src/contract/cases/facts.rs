//! Lists and counts of runs, by every fact in their rows.

use std::sync::Arc;

use crate::{Commit, Flags, Order, RunId, RunQuery, RunRow, Store};

use super::{T0, WORKS, row, run, write};
use crate::contract::Seeded;

const RUNS: i64 = 60;

/// A row with facts from the seed.
fn facts(random: &mut Seeded, number: i64) -> RunRow {
    let mut row = row(number, ["orders", "bills"][random.below(2) as usize]);
    row.status = random.below(3) as u16;
    row.trigger = Some(["manual", "daily"][random.below(2) as usize].into());
    row.tracking_id = random.one_in(3).then(|| random.below(4).to_string().into());
    row.flags = Flags(random.below(8) as u16 | if random.one_in(5) { 0x8080 } else { 0 });
    row.started = (!random.one_in(6)).then(|| T0.plus(number + random.below(20) as i64));
    if random.one_in(2) {
        row.ended = row.started.map(|at| at.plus(random.below(50) as i64));
    } else {
        row.wake_at = random.one_in(2).then(|| T0.plus(90_000));
    }
    if random.one_in(3) {
        row.error = Some(["Timeout", "Refused"][random.below(2) as usize].into());
        row.error_text =
            Some(["The call took too long.", "order 17 is Unknown (50%)"][random.below(2) as usize].into());
    }
    row
}

/// A query that narrows by some facts.
fn query(random: &mut Seeded) -> RunQuery {
    let time = |random: &mut Seeded| random.one_in(6).then(|| T0.plus(random.below(RUNS as u64 + 40) as i64));
    RunQuery {
        workflow: random.one_in(3).then(|| "orders".into()),
        status: random.one_in(3).then(|| random.below(4) as u16),
        error: random.one_in(5).then(|| "Timeout".into()),
        error_text: random
            .one_in(5)
            .then(|| Arc::from(["too LONG", "unknown (50%", "", "17 "][random.below(4) as usize])),
        trigger: random.one_in(4).then(|| "daily".into()),
        tracking_id: random.one_in(5).then(|| "1".into()),
        flags: Flags(if random.one_in(2) { 0 } else { 1 << [0, 1, 2, 7, 15][random.below(5) as usize] }),
        parked: random.one_in(4).then(|| random.one_in(2)),
        started_from: time(random),
        started_before: time(random),
        ended_from: time(random),
        ended_before: time(random),
        accepted_from: time(random),
        order: if random.one_in(2) { Order::NewestFirst } else { Order::OldestFirst },
        limit: 1 + random.below(9) as usize,
        ..RunQuery::default()
    }
}

pub(super) async fn lists_and_counts_narrow_by_every_fact(store: Arc<dyn Store>) {
    let mut random = Seeded::new(41);
    let mut rows = Vec::new();
    for number in 0..RUNS {
        // What is listed is what the last commit of the run left, however the run was before.
        let earlier = RunRow { flags: Flags(0xff), wake_at: Some(T0), ..row(number, "orders") };
        let row = facts(&mut random, number);
        if row.workflow == earlier.workflow {
            write(&*store, Commit { row: Some(earlier), ..Commit::new() }).await;
        }
        write(&*store, Commit { row: Some(row.clone()), ..Commit::new() }).await;
        rows.push(row);
    }
    assert_eq!(store.run(run(3)).await.expect(WORKS).as_ref(), Some(&rows[3]));
    let mut found = 0;
    for _ in 0..400 {
        let query = query(&mut random);
        let mut expected: Vec<RunId> =
            rows.iter().filter(|row| query.matches(row)).map(|row| row.id).collect();
        if query.order == Order::NewestFirst {
            expected.reverse();
        }
        let (mut next, mut listed) = (None, Vec::new());
        loop {
            let page = store.runs(RunQuery { after: next, ..query.clone() }).await.expect(WORKS);
            assert!(page.rows.len() <= query.limit);
            listed.extend(page.rows.iter().map(|row| row.id));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(listed, expected, "{query:?}");
        let count = store.count(query.clone()).await.expect(WORKS);
        assert_eq!(count.runs, expected.len().min(query.limit) as u64, "{query:?}");
        assert_eq!(count.is_exact, expected.len() <= query.limit, "{query:?}");
        found += expected.len();
    }
    assert!(found > 1_000, "the queries found {found} runs in all");
}
