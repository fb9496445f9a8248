//! Nodes that lose the database: connections are cut, or go silent in one direction or both.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{Cluster, SHORT, deploy, end_of, eventually, invoke, on_request, server, service, steps};
use crate::served::{pause, setting};

const CALL: Duration = Duration::from_millis(40);

const STEPS: usize = 8;

const RUNS: usize = 20;

#[test]
fn a_node_that_loses_the_database_is_replaced_and_returns() {
    for round in 0..setting("LOOM_CLUSTER_NETWORK_FAULTS", 1) {
        for fault in [Fault::Silent, Fault::Cut, Fault::OneWay, Fault::Stale] {
            is_replaced_and_returns(fault, round);
        }
    }
}

fn is_replaced_and_returns(fault: Fault, round: u64) {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let proxy = Proxy::start(server::shared().socket());
    let far = cluster.through(proxy.port);
    let (a, b) = (far.node_with("a", SHORT, &[]), cluster.node("b"));
    cluster.settles(&b, 2);
    deploy(&b, &[&a], "steps", &steps(&service, STEPS, on_request()));
    // The runs of a request belong to shards of the node that received it.
    let runs: Vec<String> =
        (0..RUNS).map(|number| invoke(&a, "steps", &number.to_string()).unwrap()).collect();
    // The control: while the database answers, calls are made.
    let many = RUNS * (1 + round as usize % (STEPS - 2));
    eventually("calls are made", || seen.count() >= many);
    proxy.set(fault);
    if fault != Fault::Stale {
        a.until("/readyz", |answer| answer.status == 503);
        let made = seen.total();
        loop {
            let total = seen.total();
            if cluster.ask("SELECT count(*) FROM loom.node WHERE NOT fenced") != "2" {
                break;
            }
            assert_eq!(total, made, "{fault:?}: a node starts no call past its lease");
        }
        cluster.settles(&b, 1);
    }
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded", "{fault:?}");
    }
    assert_eq!(seen.count(), STEPS * runs.len());
    let repeated = seen.repeated();
    assert!(repeated <= runs.len(), "{fault:?}: only calls in flight are made again ({repeated})");
    proxy.set(Fault::None);
    // It learns that it was fenced, and joins again without a restart.
    cluster.settles(&b, 2);
    a.until("/readyz", |answer| answer.status == 200);
    let later = invoke(&a, "steps", "later").unwrap();
    assert_eq!(end_of(&b, &later), "Succeeded", "{fault:?}");
    assert_eq!(seen.repeated(), repeated, "{fault:?}: it repeated nothing when it returned");
}

#[test]
fn a_node_whose_database_is_slow_keeps_its_shards() {
    let (service, seen) = service(CALL);
    let cluster = Cluster::new();
    let proxy = Proxy::start(server::shared().socket());
    let (a, b) = (cluster.through(proxy.port).node("a"), cluster.node("b"));
    cluster.settles(&b, 2);
    deploy(&b, &[&a], "steps", &steps(&service, STEPS, on_request()));
    let live = || cluster.ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM loom.node WHERE NOT fenced");
    let before = live();
    proxy.set(Fault::Slow);
    let runs: Vec<String> =
        (0..RUNS).map(|number| invoke(&a, "steps", &number.to_string()).unwrap()).collect();
    for run in &runs {
        assert_eq!(end_of(&b, run), "Succeeded");
    }
    assert_eq!((seen.count(), seen.repeated()), (STEPS * runs.len(), 0));
    assert_eq!(live(), before, "nobody was declared dead");
}

/// What a proxy does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None = 0,
    /// Nothing arrives anywhere.
    Silent = 1,
    /// Connections end, and new ones end at once.
    Cut = 2,
    /// What the node sends arrives, and no answer.
    OneWay = 3,
    /// Connections that exist lead nowhere, for ever. New ones work.
    Stale = 4,
    /// Everything arrives a tenth of a second later, in both directions.
    Slow = 5,
}

/// A proxy between a node and the database.
struct Proxy {
    port: u16,
    shared: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    fault: AtomicU8,
    /// How often connections have become stale.
    generation: AtomicU32,
}

impl Proxy {
    fn start(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<State>::default();
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = UnixStream::connect(&socket) {
                    both_ways(&client, &server, &state);
                }
            }
        });
        Proxy { port, shared }
    }

    fn set(&self, fault: Fault) {
        if fault == Fault::Stale {
            self.shared.generation.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.fault.store(fault as u8, Ordering::SeqCst);
    }
}

fn both_ways(client: &TcpStream, server: &UnixStream, state: &Arc<State>) {
    const STEP: Option<Duration> = Some(Duration::from_millis(10));
    client.set_read_timeout(STEP).unwrap();
    server.set_read_timeout(STEP).unwrap();
    let (from_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let generation = state.generation.load(Ordering::SeqCst);
    let pass = |mut from: Box<dyn Read + Send>, mut to: Box<dyn Write + Send>, lost: &'static [Fault]| {
        let (state, client, server) =
            (Arc::clone(state), client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            pass(&mut *from, &mut *to, &state, generation, lost);
            // When one direction ends, both do.
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        });
    };
    pass(Box::new(from_client), Box::new(server.try_clone().unwrap()), &[Fault::Silent]);
    pass(Box::new(from_server), Box::new(client.try_clone().unwrap()), &[Fault::Silent, Fault::OneWay]);
}

/// Passes bytes on, except during the faults that lose them. A connection that has lost some ends with the fault, unless it is stale.
fn pass(from: &mut dyn Read, to: &mut dyn Write, state: &State, generation: u32, lost: &[Fault]) {
    let mut buffer = vec![0; 64 * 1024];
    let mut has_lost = false;
    loop {
        let read = from.read(&mut buffer);
        let now = state.fault.load(Ordering::SeqCst);
        let is_stale = state.generation.load(Ordering::SeqCst) != generation;
        let is_lost = is_stale || lost.iter().any(|lost| *lost as u8 == now);
        if now == Fault::Cut as u8 || (has_lost && !is_lost) {
            return;
        }
        if now == Fault::Slow as u8 && read.is_ok() {
            pause(Duration::from_millis(100));
        }
        match read {
            Ok(0) => return,
            Ok(_) if is_lost => has_lost = true,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

impl Cluster {
    /// The same database behind a proxy.
    fn through(&self, port: u16) -> Cluster {
        Cluster { url: format!("postgres://postgres@127.0.0.1:{port}/{}", self.name()) }
    }
}
