//! Nodes that are killed, stopped, drained and terminated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};

use super::{Cluster, LONG, deploy, end_of, eventually, invoke, on_request, send, service, steps};
use crate::served::{Loom, pause, setting};

/// The time of one call.
const CALL: Duration = Duration::from_millis(60);

const STEPS: usize = 6;

#[test]
fn runs_of_a_killed_node_continue_at_another_one() {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let count = setting("LOOM_CLUSTER_RUNS", 40) as usize;
    for life in 0..setting("LOOM_CLUSTER_KILLS", 2) {
        let (a, b) = (cluster.node("a"), cluster.node("b"));
        cluster.settles(&b, 2);
        let name = format!("steps{life}");
        deploy(&a, &[&b], &name, &steps(&service, STEPS, on_request()));
        let mut runs = Vec::new();
        for number in 0..count {
            let node = if number % 4 == 0 { &b } else { &a };
            runs.push(invoke(node, &name, &format!("{life}-{number}")).unwrap());
        }
        let before = (seen.count(), seen.repeated());
        a.kill();
        let killed = Instant::now();
        cluster.settles(&b, 1);
        let taken_over = killed.elapsed();
        // The service of this test makes calls one after the other, so a run needs little more than its own calls.
        for run in &runs {
            assert_eq!(end_of(&b, run), "Succeeded");
        }
        eprintln!(
            "of {count} runs, {} calls had been made; the shards were taken over {taken_over:?} after the kill, and all runs had ended after {:?}",
            before.0,
            killed.elapsed()
        );
        let expected = count * STEPS * (life as usize + 1);
        assert_eq!(seen.count(), expected, "each call of each run is made");
        // One call of a run is in flight at a time.
        assert!(seen.repeated() <= count * (life as usize + 1));
        let doubled = seen.calls.lock().unwrap().values().filter(|count| **count > 2).count();
        assert_eq!(doubled, 0, "a call is repeated once for a kill");
        // A request that is repeated at the survivor starts nothing.
        let again = send(&b, &name, &format!("{life}-1")).unwrap();
        assert_eq!(again.header("x-ms-workflow-run-id").as_ref(), Some(&runs[1]), "{again:?}");
        assert_eq!(seen.count(), expected);
        b.terminate();
        assert_eq!(b.exit_within(Duration::from_secs(30)), Some(0));
    }
}

#[test]
fn a_node_that_was_stopped_and_continues_repeats_nothing() {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    cluster.settles(&b, 2);
    deploy(&a, &[&b], "steps", &steps(&service, STEPS, on_request()));
    let runs: Vec<String> = (0..20).map(|number| invoke(&a, "steps", &number.to_string()).unwrap()).collect();
    kill_process(a.pid(), Signal::STOP).unwrap();
    // It is declared dead, and its runs continue.
    cluster.settles(&b, 1);
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    assert_eq!(seen.count(), 20 * STEPS);
    let repeated = seen.repeated();
    assert!(repeated <= 20, "only calls in flight are made again ({repeated})");
    kill_process(a.pid(), Signal::CONT).unwrap();
    // It learns that it was fenced, drops everything, and joins again.
    cluster.settles(&b, 2);
    // A call that it was about to send when it was stopped may still arrive.
    assert!(seen.repeated() <= 20, "at most one call of a run is made again ({})", seen.repeated());
    assert_eq!(seen.count(), 20 * STEPS);
    assert!(seen.calls.lock().unwrap().values().all(|count| *count <= 2));
    let later = invoke(&a, "steps", "later").unwrap();
    assert_eq!(end_of(&b, &later), "Succeeded");
}

/// Load on the nodes of a slice that changes: clients try the next node when one does not answer.
fn load(addresses: Vec<Arc<Loom>>, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<String>> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut runs = Vec::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("load-{number}");
            let taken = (0..).find_map(|attempt: usize| {
                assert!(attempt < 1_000, "no node takes a request");
                let node = &addresses[(number + attempt) % addresses.len()];
                let run = invoke(node, "steps", &key);
                if run.is_none() {
                    pause(Duration::from_millis(20));
                }
                run
            });
            runs.push(taken.unwrap());
            pause(Duration::from_millis(20));
        }
        runs
    })
}

#[test]
fn nodes_that_are_drained_or_terminated_repeat_no_call_and_lose_no_request() {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let nodes: Vec<Arc<Loom>> =
        ["a", "b", "c"].map(|name| Arc::new(cluster.node_with(name, LONG, &[]))).into();
    cluster.settles(&nodes[0], 3);
    deploy(&nodes[0], &[&nodes[1], &nodes[2]], "steps", &steps(&service, 3, on_request()));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = load(nodes.clone(), &stop);
    pause(Duration::from_millis(500));
    // Drained through another node: it gives its shards away, and passes requests on.
    let drained = nodes[1].request("POST", "/api/v1/nodes/a/drain", b"").unwrap();
    assert_eq!(drained.status, 200, "{drained:?}");
    cluster.settles(&nodes[2], 2);
    assert_eq!(nodes[0].request("GET", "/readyz", b"").unwrap().status, 503);
    let through = invoke(&nodes[0], "steps", "through the drained node").unwrap();
    assert_eq!(end_of(&nodes[2], &through), "Succeeded");
    // Terminated: it finishes its calls, and gives its shards back.
    nodes[1].terminate();
    assert_eq!(nodes[1].exit_within(Duration::from_secs(40)), Some(0));
    cluster.settles(&nodes[2], 1);
    pause(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let runs = loads.join().unwrap();
    for run in &runs {
        assert_eq!(end_of(&nodes[2], run), "Succeeded");
    }
    eventually("all calls were made", || seen.count() == 3 * (runs.len() + 1));
    assert_eq!(seen.repeated(), 0, "no call was made twice");
}
