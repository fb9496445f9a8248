//! A process that owns shards, is stopped, and continues after another one has taken over.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use loom_store::{Commit, Conflict, Error, NewNode, Seq, Shards, Under, prelude::*};
use loom_store_postgres::{PostgresOptions, PostgresStore};

use crate::{
    faults::{frame, run, stored},
    server::shared,
};

const LEASE: Duration = Duration::from_millis(300);

/// The name of the variable that tells the child where its tables are.
const CHILD: &str = "LOOM_TEST_ZOMBIE";

fn node(name: &str) -> NewNode {
    NewNode { name: name.into(), address: "".into(), lease: LEASE, ..NewNode::default() }
}

/// The child: writes frames under its own node until it has lost its shards, and prints what was acknowledged.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the parent tells its child where its tables are")]
async fn child_that_writes_until_it_is_fenced() {
    // Without a parent there is nothing to do.
    let Ok(place) = std::env::var(CHILD) else { return };
    let (schema, address) = place.split_once(' ').unwrap();
    let options = PostgresOptions { schema: schema.into(), ..PostgresOptions::new(address) };
    let store = PostgresStore::open(options).await.unwrap();
    let node = store.register(node("zombie")).await.unwrap();
    assert_eq!(store.claim(node, usize::MAX).await.unwrap(), Shards::ALL);
    let under = Some(Under { node, shard: run(1).shard() });
    for seq in 1.. {
        if seq % 20 == 0 {
            store.renew(node).await.ok();
        }
        match store.commit(Commit { under, ..Commit::to_run(run(1), Seq(seq), vec![frame()]) }).await {
            Ok(_) => println!("acknowledged {seq}"),
            Err(Error::Conflict(Conflict::Lost { .. })) => {
                println!("lost");
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn a_process_that_was_stopped_and_continues_writes_nothing() {
    for round in 0..4 {
        let options = shared().options();
        let store = PostgresStore::open(options.clone()).await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "zombie::child_that_writes_until_it_is_fenced", "--nocapture"])
            .env(CHILD, format!("{} {}", options.schema, options.url))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let number =
            |line: &str| line.split_once("acknowledged ").and_then(|(_, seq)| seq.parse::<u64>().ok());
        let mut acknowledged = 0;
        while acknowledged < 20 + round {
            acknowledged = number(&lines.next().unwrap()).unwrap_or(acknowledged);
        }
        signal(&child, "-STOP");
        let heir = store.register(node("heir")).await.unwrap();
        let old = store.nodes().await.unwrap()[0].id;
        assert_ne!(old, heir);
        // The lease of the child runs out while it is stopped.
        while !store.fence(heir, old).await.unwrap() {
            store.renew(heir).await.unwrap();
        }
        assert_eq!(store.claim(heir, usize::MAX).await.unwrap(), Shards::ALL);
        let before = stored(&store, run(1)).await;
        signal(&child, "-CONT");
        let under = Some(Under { node: heir, shard: run(1).shard() });
        for seq in before + 1..before + 30 {
            store.commit(Commit { under, ..Commit::to_run(run(1), Seq(seq), vec![frame()]) }).await.unwrap();
        }
        let rest: Vec<String> = lines.collect();
        acknowledged = rest.iter().rev().find_map(|line| number(line)).unwrap_or(acknowledged);
        assert!(rest.iter().any(|line| line.ends_with("lost")), "{rest:?}");
        assert!(child.wait().unwrap().success());
        assert!(acknowledged <= before, "{acknowledged} acknowledged, {before} read after the claim");
        assert_eq!(stored(&store, run(1)).await, before + 29);
        // Frames of the old node end where those of the new one begin.
        let operator = shared().connect().await;
        let sql = format!(
            "SELECT max(seq) FILTER (WHERE node = $1), min(seq) FILTER (WHERE node = $2) FROM {}.frame",
            options.schema
        );
        let ids = (old.0.cast_signed(), heir.0.cast_signed());
        let row = operator.query_one(&sql, &[&ids.0, &ids.1]).await.unwrap();
        assert_eq!(
            (row.get::<_, i64>(0), row.get::<_, i64>(1)),
            (before.cast_signed(), before.cast_signed() + 1)
        );
    }
}
