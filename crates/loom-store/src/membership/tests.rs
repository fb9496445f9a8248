//! A simulated cluster: nodes that are killed, stopped and cut off, messages that are late or lost, and a database that is away. The
//! database executes one request at a time, as the locks of the real one make it. All of it follows from a seed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use crate::{NodeId, Shard, Shards, contract::Seeded};

use super::{Failed, Intent, LeaseSettings, Membership, Outcome};

const NODES: usize = 3;

/// The shards whose work is simulated.
const WATCHED: [u16; 4] = [0, 341, 700, 1_023];

/// Milliseconds.
type Time = u64;

/// What is taken out of the rules, to see that the checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Without {
    #[default]
    Nothing,
    /// Commits are not fenced.
    Fence,
    /// A node starts effects past its deadline.
    Deadline,
    /// The deadline counts from the answer of a renewal, not from before its request.
    Anchor,
    /// Nodes fence others although they are not steady.
    Steadiness,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Everything: nodes, messages, the database.
    Foul,
    /// Only the database is away for longer than a lease.
    Outages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Own(Intent),
    /// The intent of an effect: a commit under a shard.
    Commit(NodeId, Shard),
}

#[derive(Clone, Debug)]
enum Event {
    /// A node has time to work.
    Wake(usize),
    /// A request reaches the database.
    Arrive {
        from: usize,
        life: u32,
        request: Request,
    },
    /// An answer reaches a node: of an intent, or of a commit.
    Own {
        to: usize,
        life: u32,
        answer: Outcome,
    },
    Committed {
        to: usize,
        life: u32,
        node: NodeId,
        shard: Shard,
        is_written: bool,
    },
    /// Something goes wrong, or ends.
    Trouble,
}

#[derive(Debug)]
struct Process {
    machine: Membership,
    /// How often the process was started.
    life: u32,
    is_alive: bool,
    stopped_until: Time,
    /// The speed and the start of its clock.
    drift: i64,
    offset: u64,
    /// Past deadlines that it ignores, in the control.
    last_renewal: Option<Time>,
}

#[derive(Debug)]
struct Database {
    away_until: Time,
    last_node: u64,
    /// Until when the lease of each node runs, and whether it was fenced.
    nodes: BTreeMap<NodeId, (Time, bool)>,
    /// The owner of each shard; 0 if it has none.
    owners: Vec<u64>,
    /// Who wrote the last frame of each watched shard, and who may write.
    writers: BTreeMap<Shard, NodeId>,
}

struct World {
    now: Time,
    random: Seeded,
    without: Without,
    weather: Weather,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    details: BTreeMap<u64, Event>,
    next_event: u64,
    database: Database,
    processes: Vec<Process>,
    effects: u64,
    fenced_alive: u64,
    /// What was violated first.
    violation: Option<String>,
}

const SETTINGS: LeaseSettings = LeaseSettings {
    lease: Duration::from_secs(3),
    renew_every: Duration::from_secs(1),
    margin: Duration::from_millis(500),
    claimed_at_once: 64,
};
const LEASE: Time = 3_000;

impl World {
    fn new(seed: u64, weather: Weather, without: Without) -> Self {
        let mut random = Seeded::new(seed);
        let processes = (0..NODES)
            .map(|_| {
                let (drift, offset) = (random.below(21) as i64 - 10, random.below(1_000_000));
                let machine = Membership::new(SETTINGS, Duration::from_millis(offset));
                Process {
                    machine,
                    life: 0,
                    is_alive: true,
                    stopped_until: 0,
                    drift,
                    offset,
                    last_renewal: None,
                }
            })
            .collect();
        let mut world = Self {
            now: 0,
            random,
            without,
            weather,
            events: BinaryHeap::new(),
            details: BTreeMap::new(),
            next_event: 0,
            database: Database {
                away_until: 0,
                last_node: 0,
                nodes: BTreeMap::new(),
                owners: vec![0; usize::from(Shard::COUNT)],
                writers: BTreeMap::new(),
            },
            processes,
            effects: 0,
            fenced_alive: 0,
            violation: None,
        };
        for node in 0..NODES {
            world.after(node as u64 * 7, Event::Wake(node));
        }
        world.after(4_000, Event::Trouble);
        world
    }

    fn after(&mut self, delay: Time, event: Event) {
        self.events.push(Reverse((self.now + delay, self.next_event)));
        self.details.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn clock(&self, node: usize) -> Duration {
        let process = &self.processes[node];
        let drifted = self.now as i64 + self.now as i64 * process.drift / 1_000;
        Duration::from_millis(process.offset + drifted as u64)
    }

    fn violated(&mut self, what: &str) {
        let now = self.now;
        self.violation.get_or_insert_with(|| format!("at {now} ms: {what}"));
    }

    /// How long a message takes; `None` when it is lost.
    fn delay(&mut self) -> Option<Time> {
        if self.weather == Weather::Outages {
            return Some(1 + self.random.below(5));
        }
        match self.random.below(60) {
            0 => None,
            1 => Some(self.random.below(4_000)),
            _ => Some(1 + self.random.below(20)),
        }
    }

    fn run(&mut self, until: Time) {
        while let Some(Reverse((at, number))) = self.events.peek().copied()
            && at <= until
            && self.violation.is_none()
        {
            self.events.pop();
            self.now = at;
            let event = self.details.remove(&number).expect("each event has details");
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node) => {
                if let Some(wait) =
                    self.processes[node].stopped_until.checked_sub(self.now).filter(|wait| *wait > 0)
                {
                    return self.after(wait, Event::Wake(node));
                }
                if self.processes[node].is_alive {
                    let now = self.clock(node);
                    let intents = self.processes[node].machine.tick(now);
                    self.carry_out(node, intents);
                    self.work(node);
                }
                let pause = 20 + self.random.below(40);
                self.after(pause, Event::Wake(node));
            }
            Event::Arrive { from, life, request } => self.execute(from, life, request),
            Event::Own { to, life, answer } => {
                if let Some(wait) = self.postponed(to, life) {
                    return self.after(wait, Event::Own { to, life, answer });
                }
                if self.processes[to].life == life && self.processes[to].is_alive {
                    if matches!(answer, Outcome::Renewed(_)) {
                        self.processes[to].last_renewal = Some(self.now);
                    }
                    let now = self.clock(to);
                    let intents = self.processes[to].machine.answered(now, answer);
                    self.carry_out(to, intents);
                }
            }
            Event::Committed { to, life, node, shard, is_written } => {
                if let Some(wait) = self.postponed(to, life) {
                    return self.after(wait, Event::Committed { to, life, node, shard, is_written });
                }
                if self.processes[to].life == life && self.processes[to].is_alive && is_written {
                    self.start_effect(to, node, shard);
                }
            }
            Event::Trouble => {
                self.trouble();
                let pause = 500 + self.random.below(4_000);
                self.after(pause, Event::Trouble);
            }
        }
    }

    fn postponed(&self, node: usize, life: u32) -> Option<Time> {
        let process = &self.processes[node];
        process.stopped_until.checked_sub(self.now).filter(|wait| *wait > 0 && process.life == life)
    }

    fn trouble(&mut self) {
        if self.weather == Weather::Outages {
            if self.database.away_until < self.now {
                self.database.away_until = self.now + 1_000 + self.random.below(6_000);
            }
            return;
        }
        let node = self.random.below(NODES as u64) as usize;
        match self.random.below(5) {
            // It is killed, and another process is started.
            0 => {
                let now = self.clock(node);
                let process = &mut self.processes[node];
                process.life += 1;
                process.stopped_until = 0;
                process.last_renewal = None;
                process.machine = Membership::new(SETTINGS, now);
            }
            1 | 2 => self.processes[node].stopped_until = self.now + self.random.below(3 * LEASE),
            3 => self.database.away_until = self.now + self.random.below(2 * LEASE),
            _ => {}
        }
    }

    /// Whether an effect may start: by the machine, or by what a control leaves of it.
    fn may_start(&self, node: usize, shard: Shard) -> bool {
        let process = &self.processes[node];
        let owns = process.machine.owned().contains(shard);
        match self.without {
            Without::Deadline => owns,
            Without::Anchor => owns && process.last_renewal.is_some_and(|at| self.now < at + LEASE),
            _ => process.machine.may_start(self.clock(node), shard),
        }
    }

    /// A node commits the intents of effects.
    fn work(&mut self, node: usize) {
        for shard in WATCHED.map(Shard::new) {
            let Some(id) = self.processes[node].machine.node() else { return };
            if self.may_start(node, shard) && self.random.one_in(4) {
                self.send(node, Request::Commit(id, shard));
            }
        }
    }

    fn start_effect(&mut self, node: usize, id: NodeId, shard: Shard) {
        if self.processes[node].machine.node() != Some(id) || !self.may_start(node, shard) {
            return;
        }
        self.effects += 1;
        if self.database.owner(shard) != Some(id) {
            self.violated(&format!("node {id} starts an effect for shard {shard} that it does not own"));
        }
    }

    fn carry_out(&mut self, node: usize, intents: Vec<Intent>) {
        let life = self.processes[node].life;
        for intent in intents {
            match intent {
                Intent::Gain(_) | Intent::Drop => {}
                Intent::Drain(shards) => {
                    // Its last commits are answered some time later.
                    let id = self.processes[node].machine.node().expect("it has shards");
                    let pause = self.random.below(300);
                    self.after(pause, Event::Own { to: node, life, answer: Outcome::Drained(id, shards) });
                }
                intent => self.send(node, Request::Own(intent)),
            }
        }
    }

    /// Sends a request, which may be lost. Some time later its sender learns that there was no answer.
    fn send(&mut self, from: usize, request: Request) {
        let life = self.processes[from].life;
        match self.delay() {
            Some(delay) => self.after(delay, Event::Arrive { from, life, request }),
            None => self.fail(from, life, request),
        }
    }

    fn fail(&mut self, to: usize, life: u32, request: Request) {
        let Request::Own(intent) = request else { return };
        let failed = match intent {
            Intent::Register => Failed::Register,
            Intent::Renew(_) => Failed::Renew,
            Intent::Look => Failed::Look,
            Intent::Claim { .. } => Failed::Claim,
            Intent::Release { .. } => Failed::Release,
            _ => return,
        };
        let pause = if self.weather == Weather::Outages { 20 } else { 500 + self.random.below(1_000) };
        self.after(pause, Event::Own { to, life, answer: Outcome::Failed(failed) });
    }

    fn execute(&mut self, from: usize, life: u32, request: Request) {
        if self.now < self.database.away_until {
            return self.fail(from, life, request);
        }
        let answer = match request {
            Request::Commit(node, shard) => {
                let is_owner = self.database.owner(shard) == Some(node);
                if is_owner || self.without == Without::Fence {
                    // Once a new owner has written, an old one never does.
                    let last = self.database.writers.insert(shard, node);
                    if last.is_some_and(|last| last > node && !is_owner) {
                        self.violated(&format!("node {node} writes to shard {shard} after its new owner"));
                    }
                }
                let is_written = is_owner || self.without == Without::Fence;
                if let Some(delay) = self.delay() {
                    self.after(delay, Event::Committed { to: from, life, node, shard, is_written });
                }
                return;
            }
            Request::Own(intent) => self.answer(intent),
        };
        let Some(answer) = answer else { return };
        match self.delay() {
            Some(delay) => self.after(delay, Event::Own { to: from, life, answer }),
            // It was executed, and nobody learns of it.
            None => self.fail(from, life, request),
        }
    }

    fn answer(&mut self, intent: Intent) -> Option<Outcome> {
        let now = self.now;
        let database = &mut self.database;
        Some(match intent {
            Intent::Register => {
                database.last_node += 1;
                let node = NodeId(database.last_node);
                database.nodes.insert(node, (now + LEASE, false));
                Outcome::Registered(node)
            }
            Intent::Renew(node) => match database.nodes.get_mut(&node) {
                Some((until, false)) => {
                    *until = now + LEASE;
                    Outcome::Renewed(node)
                }
                _ => Outcome::Fenced(node),
            },
            Intent::Look => {
                let live = database.nodes.iter().filter(|(_, (_, fenced))| !fenced).map(|(node, _)| *node);
                Outcome::Looked(live.map(|node| (node, database.owned(node))).collect())
            }
            Intent::Fence { by, node } => {
                if !database.is_live(by) {
                    return Some(Outcome::Fenced(by));
                }
                let is_over =
                    database.nodes.get(&node).is_some_and(|(until, fenced)| !fenced && *until < now);
                if is_over || (by == node && database.is_live(node)) {
                    database.nodes.insert(node, (0, true));
                    let is_working = |process: &Process| {
                        process.machine.node() == Some(node)
                            && process.is_alive
                            && process.stopped_until <= now
                    };
                    if by == node {
                        return Some(Outcome::Fenced(node));
                    }
                    self.fenced_alive += u64::from(self.processes.iter().any(is_working));
                }
                return None;
            }
            Intent::Claim { node, shards_max } => {
                if !database.is_live(node) {
                    return Some(Outcome::Fenced(node));
                }
                let claimed: Shards = database.free().into_iter().take(shards_max).collect();
                claimed.iter().for_each(|shard| database.owners[usize::from(shard.number())] = node.0);
                Outcome::Claimed(node, claimed)
            }
            Intent::Release { node, shards } => {
                for (shard, owner) in (0..).map(Shard::new).zip(&mut database.owners) {
                    if *owner == node.0 && shards.contains(shard) {
                        *owner = 0;
                    }
                }
                Outcome::Released(node, shards)
            }
            Intent::Gain(_) | Intent::Drain(_) | Intent::Drop => return None,
        })
    }
}

impl Database {
    fn is_live(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|(_, fenced)| !fenced)
    }

    /// The owner of a shard, unless it was fenced.
    fn owner(&self, shard: Shard) -> Option<NodeId> {
        let owner = NodeId(self.owners[usize::from(shard.number())]);
        Some(owner).filter(|owner| self.is_live(*owner))
    }

    fn owned(&self, node: NodeId) -> Shards {
        let owners = (0..).map(Shard::new).zip(&self.owners);
        owners.filter(|(_, owner)| **owner == node.0).map(|(shard, _)| shard).collect()
    }

    /// The shards that nobody owns, or a node that was fenced.
    fn free(&self) -> Vec<Shard> {
        let live: Vec<u64> =
            self.nodes.iter().filter(|(_, (_, fenced))| !fenced).map(|(node, _)| node.0).collect();
        let owners = (0..).map(Shard::new).zip(&self.owners);
        owners.filter(|(_, owner)| !live.contains(owner)).map(|(shard, _)| shard).collect()
    }
}

/// Simulates a cluster in trouble, then in peace, and returns it.
fn simulate(seed: u64, weather: Weather, without: Without) -> World {
    let mut world = World::new(seed, weather, without);
    if without == Without::Steadiness {
        world.processes.iter_mut().for_each(|process| process.machine.rules.steady_for = Duration::ZERO);
    }
    world.run(15_000);
    world
}

fn check(seeds: std::ops::Range<u64>, weather: Weather) -> u64 {
    let mut effects = 0;
    for seed in seeds {
        let mut world = simulate(seed, weather, Without::Nothing);
        assert_eq!(world.violation, None, "seed {seed}");
        if weather == Weather::Outages {
            assert_eq!(
                world.fenced_alive, 0,
                "seed {seed}: a node that was only cut off by the outage was fenced"
            );
        }
        // In peace, every shard gets an owner, and the shares are fair.
        if seed % 16 == 0 {
            settle(seed, &mut world);
        }
        effects += world.effects;
    }
    effects
}

fn settle(seed: u64, world: &mut World) {
    world.weather = Weather::Outages;
    world.database.away_until = 0;
    world.processes.iter_mut().for_each(|process| process.stopped_until = 0);
    world.events.retain(|Reverse((_, number))| !matches!(world.details[number], Event::Trouble));
    let start = world.now;
    world.run(start + 40_000);
    assert_eq!(world.violation, None, "seed {seed}");
    let live: Vec<NodeId> = world.processes.iter().filter_map(|process| process.machine.node()).collect();
    assert_eq!(live.len(), NODES, "seed {seed}");
    assert_eq!(world.database.free(), [], "seed {seed}");
    for (process, node) in world.processes.iter().zip(live) {
        let owned = world.database.owned(node);
        assert_eq!(owned, process.machine.owned(), "seed {seed}: node {node}");
        assert!(
            owned.len() <= usize::from(Shard::COUNT).div_ceil(NODES),
            "seed {seed}: node {node} has {}",
            owned.len()
        );
    }
}

#[test]
fn nothing_starts_or_is_written_by_a_node_that_does_not_own_the_shard() {
    let threads: Vec<_> = (0..4)
        .map(|part| std::thread::spawn(move || check(part * 2_000..(part + 1) * 2_000, Weather::Foul)))
        .collect();
    let effects: u64 = threads.into_iter().map(|thread| thread.join().expect("no violation")).sum();
    assert!(effects > 100_000, "the nodes worked: {effects} effects");
}

#[test]
fn an_outage_of_the_database_fences_nobody() {
    let threads: Vec<_> = (0..2)
        .map(|part| std::thread::spawn(move || check(part * 1_000..(part + 1) * 1_000, Weather::Outages)))
        .collect();
    for thread in threads {
        assert!(thread.join().is_ok(), "somebody is fenced");
    }
}

/// How many seeds show a violation without a rule.
fn violations(without: Without) -> usize {
    (0..300).filter(|seed| simulate(*seed, Weather::Foul, without).violation.is_some()).count()
}

#[test]
fn without_the_fence_old_owners_write() {
    assert!(violations(Without::Fence) > 0);
}

#[test]
fn without_the_deadline_effects_start_twice() {
    assert!(violations(Without::Deadline) > 0);
}

#[test]
fn a_deadline_from_the_answer_is_too_late() {
    assert!(violations(Without::Anchor) > 0);
}

#[test]
fn without_steadiness_an_outage_fences_nodes_that_are_alive() {
    let storms: u64 =
        (0..100).map(|seed| simulate(seed, Weather::Outages, Without::Steadiness).fenced_alive).sum();
    assert!(storms > 0);
}

#[test]
fn a_node_leaves_once_its_shards_are_drained_and_released() {
    let at = Duration::from_millis;
    let node = NodeId(7);
    let shards: Shards = [1, 2].into_iter().map(Shard::new).collect();
    let mut machine = Membership::new(SETTINGS, at(0));
    assert_eq!(machine.tick(at(0)), [Intent::Register]);
    assert_eq!(machine.answered(at(5), Outcome::Registered(node)), []);
    assert_eq!(machine.tick(at(6)), [Intent::Renew(node), Intent::Look]);
    assert_eq!(machine.answered(at(9), Outcome::Renewed(node)), []);
    let looked = machine.answered(at(10), Outcome::Looked(vec![(node, Shards::NONE)]));
    assert_eq!(looked, [Intent::Claim { node, shards_max: 1_024 }]);
    assert!(!machine.may_start(at(11), Shard::new(1)));
    assert_eq!(machine.answered(at(12), Outcome::Claimed(node, shards)), [Intent::Gain(shards)]);
    assert!(machine.may_start(at(2_505), Shard::new(1)));
    assert!(
        !machine.may_start(at(2_506), Shard::new(1)),
        "the lease counts from before the request, less the margin"
    );
    machine.leave();
    assert_eq!(machine.tick(at(20)), [Intent::Drain(shards)]);
    assert!(!machine.may_start(at(20), Shard::new(1)));
    assert_eq!(machine.answered(at(30), Outcome::Drained(node, shards)), []);
    assert_eq!(machine.tick(at(31)), [Intent::Release { node, shards }]);
    assert_eq!(machine.answered(at(40), Outcome::Failed(Failed::Release)), []);
    assert_eq!(machine.tick(at(41)), []);
    assert_eq!(machine.tick(at(140)), [Intent::Release { node, shards }]);
    assert_eq!(machine.answered(at(150), Outcome::Released(node, shards)), []);
    let leaving = machine.tick(at(1_050));
    assert!(leaving.contains(&Intent::Fence { by: node, node }), "{leaving:?}");
    assert_eq!(machine.answered(at(1_060), Outcome::Fenced(node)), [Intent::Drop]);
    assert_eq!(machine.tick(at(1_061)), []);
    assert!(machine.has_left());
}
