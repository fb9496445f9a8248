//! Commits generated from a seed, for a small number of runs, so that they often conflict.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Commit, Conflict, Definition, Flags, Frame, InboxId, KeyExpectation, KeyWrite, Post, RunId, RunRow, Seq,
    Shard, Snapshot, Timer, TimerKey, UnixMillis, Urgency,
};

use super::NAMESPACE;

/// A random number generator that returns the same numbers for the same seed: SplitMix64, after Steele, Lea and
/// Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// A generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `end`, which must not be zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// `true` with a probability of one in `times`.
    pub const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A payload of at most `length_max` bytes: some compress well, some not at all.
    pub fn payload(&mut self, length_max: u64) -> Bytes {
        let length = self.below(length_max + 1) as usize;
        if self.one_in(2) {
            return vec![self.next_u64() as u8; length].into();
        }
        (0..length).map(|_| self.next_u64() as u8).collect::<Vec<u8>>().into()
    }
}

/// The number of runs that a workload writes to.
const RUNS: usize = 12;

/// An endless sequence of commits. About one in ten contradicts the earlier ones: a frame out of place, a stale
/// version, an idempotency key that was used before.
#[derive(Debug)]
pub struct Workload {
    random: Seeded,
    definitions: [Definition; 2],
    runs: Vec<RunId>,
    /// The workload's view of the next sequence number of each run: correct as long as its commits are accepted.
    next: [Seq; RUNS],
    messages: u64,
    clock: UnixMillis,
    /// Facts of runs, and ends of named values; none in the commits that the fixtures hold.
    facts: Option<Seeded>,
}

impl Workload {
    /// A workload with this seed.
    pub fn new(seed: u64) -> Self {
        let clock = UnixMillis(1_700_000_000_000);
        Self {
            random: Seeded::new(seed),
            definitions: [Bytes::from_static(b"{}"), vec![7_u8; 5_000].into()].map(Definition::new),
            runs: (0..RUNS).map(|run| RunId::first_at(clock.plus(run as i64))).collect(),
            next: [Seq::FIRST; RUNS],
            messages: 0,
            clock,
            facts: None,
        }
    }

    /// The workload with this seed, in which runs have facts, messages a shard, and named values an end.
    pub fn with_facts(seed: u64) -> Self {
        Self { facts: Some(Seeded::new(seed)), ..Self::new(seed) }
    }

    /// Corrects the workload's view after a refusal that says where the journal continues.
    pub fn refused(&mut self, conflict: &Conflict) {
        if let Conflict::Seq { run, actual, .. } = conflict
            && let Some(place) = self.runs.iter().position(|known| known == run)
        {
            self.next[place] = *actual;
        }
    }

    /// Returns the next commit.
    pub fn next_commit(&mut self) -> Commit {
        let Self { random, definitions, runs, next, messages, clock, facts } = self;
        *clock = clock.plus(random.below(50) as i64);
        let clock = *clock;
        let place = random.below(RUNS as u64) as usize;
        let run = runs[place];
        let wrong = random.one_in(15);
        let frames: Vec<Frame> = (0..random.below(4))
            .map(|_| {
                let length_max = if random.one_in(8) { 6_000 } else { 300 };
                Frame { at: clock, payload: random.payload(length_max) }
            })
            .collect();
        let first = if wrong { next[place].plus(1) } else { next[place] };
        let count = frames.len() as u64;
        let mut commit = Commit::to_run(run, first, frames);
        commit.urgency = if random.one_in(3) { Urgency::Lazy } else { Urgency::Now };
        commit.row = Some(row(random, run, place, &definitions[place % 2], clock));
        commit.definitions = vec![definitions[place % 2].clone()];
        if random.one_in(6) && first.0 + count > 1 {
            let state = random.payload(3_000);
            commit.snapshot = Some(Snapshot { run, upto: Seq(first.0 + count - 1), state });
        }
        let timer = |number| TimerKey { run, number };
        if random.one_in(3) {
            let due = clock.plus(random.below(10_000) as i64 - 5_000);
            commit.timers_set.push(Timer { key: timer(random.below(3)), due, kind: random.below(4) as u16 });
        }
        if random.one_in(4) {
            commit.timers_cleared.push(timer(random.below(3)));
        }
        if random.one_in(4) {
            commit.inbox_posted.push(Post {
                run: if random.one_in(3) { None } else { Some(runs[random.below(RUNS as u64) as usize]) },
                kind: random.below(3) as u16,
                at: clock,
                idempotency_key: if random.one_in(2) {
                    Some(random.below(6).to_string().into())
                } else {
                    None
                },
                payload: random.payload(100),
                shard: Shard::default(),
            });
            *messages += 1;
        }
        if *messages > 0 && random.one_in(5) {
            commit.inbox_consumed.push(InboxId(1 + random.below(*messages)));
        }
        if random.one_in(3) {
            let expect = match random.below(6) {
                0 => KeyExpectation::Absent,
                1 => KeyExpectation::Version(random.below(40)),
                _ => KeyExpectation::Any,
            };
            let value = if random.one_in(4) { None } else { Some(random.payload(60)) };
            let key = Arc::from(format!("key-{}", random.below(9)));
            commit.keys.push(KeyWrite {
                namespace: NAMESPACE.into(),
                key,
                expect,
                value,
                ..KeyWrite::default()
            });
        }
        if let Some(facts) = facts {
            add_facts(facts, &mut commit, clock);
        }
        if !wrong {
            next[place] = next[place].plus(count);
        }
        commit
    }
}

fn add_facts(random: &mut Seeded, commit: &mut Commit, clock: UnixMillis) {
    if let Some(row) = &mut commit.row {
        row.flags = Flags(random.below(1_024) as u16);
        row.trigger = random.one_in(2).then(|| "manual".into());
        row.tracking_id = random.one_in(3).then(|| random.below(9).to_string().into());
        row.error_text = row.error.as_ref().map(|_| "The call took too long.".into());
    }
    for post in &mut commit.inbox_posted {
        post.shard = Shard::new(random.below(3) as u16);
    }
    let run = commit.run();
    for write in &mut commit.keys {
        write.expires = random.one_in(3).then(|| clock.plus(random.below(1_000) as i64));
        write.run = run.filter(|_| random.one_in(3));
    }
}

fn row(random: &mut Seeded, run: RunId, place: usize, definition: &Definition, clock: UnixMillis) -> RunRow {
    let mut row =
        RunRow::new(run, format!("workflow-{}", place % 3), definition.hash(), random.below(5) as u16);
    // Runs 0 and 3 belong to one workflow and share a key, so one of them is never accepted.
    row.idempotency_key =
        (place % 4 != 1).then(|| Arc::from(format!("key-{}", if place == 3 { 0 } else { place })));
    row.started = Some(clock);
    row.ended = random.one_in(10).then_some(clock);
    row.error = random.one_in(6).then(|| Arc::from("Timeout"));
    row.parent = (place > 8).then(|| RunId::first_at(UnixMillis(1_700_000_000_000)));
    row.parent_path = row.parent.map(|_| Arc::from("actions/Call"));
    row.wake_at = random.one_in(5).then(|| clock.plus(60_000));
    row.details = random.payload(40);
    row.origin = random.one_in(9).then(|| RunId::first_at(UnixMillis(5)));
    row.attempt = 1 + random.below(3) as u32;
    row
}
