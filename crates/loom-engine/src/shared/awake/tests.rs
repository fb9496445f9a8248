//! Every interleaving that a seed chooses: posters, the wheel and crashes beside a run that wants to leave.

use loom_store::contract::Seeded;

use super::*;

const RUN: RunId = RunId::MIN;

/// Where a run is on its way out of memory.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Look,
    Read(Seen),
    Commit(Seen),
    Leave(Seen),
}

/// Where somebody is who has something for the run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Posting {
    Post,
    Notify,
    Load,
    Done,
}

#[derive(Debug, Default)]
struct World {
    awake: Awake<()>,
    /// Durable messages that the run has not handled.
    pending: u32,
    /// Whether the store says that the run is parked.
    parked: bool,
    run: Option<Leaving>,
    handled: u32,
    loads: u32,
    stays: u32,
}

impl World {
    fn load(&mut self) {
        if self.awake.enter(RUN, (), || ()).is_some() {
            assert!(self.run.is_none(), "the run is in memory twice");
            self.run = Some(Leaving::Look);
            self.loads += 1;
        }
    }

    /// One step of the run. Without the guard, a run forgets what it has been notified of while it was leaving.
    fn step(&mut self, guarded: bool) {
        let Some(leaving) = self.run else { return };
        self.run = match leaving {
            Leaving::Look => Some(Leaving::Read(self.awake.look(RUN))),
            Leaving::Read(seen) if self.pending == 0 => Some(Leaving::Commit(seen)),
            Leaving::Read(_) => {
                self.handled += std::mem::take(&mut self.pending);
                self.parked = false;
                Some(Leaving::Look)
            }
            Leaving::Commit(seen) => {
                self.parked = true;
                Some(Leaving::Leave(seen))
            }
            Leaving::Leave(seen) => {
                let seen = if guarded { seen } else { self.awake.look(RUN) };
                let left = self.awake.leave(RUN, seen, || true);
                self.stays += u32::from(!left);
                (!left).then_some(Leaving::Look)
            }
        };
    }

    fn post(&mut self, posting: Posting) -> Posting {
        match posting {
            Posting::Post => {
                self.pending += 1;
                Posting::Notify
            }
            Posting::Notify if self.awake.notify(RUN, |()| ()).is_some() => Posting::Done,
            Posting::Notify => Posting::Load,
            Posting::Load => {
                self.load();
                Posting::Done
            }
            Posting::Done => Posting::Done,
        }
    }

    /// The process ends, and the next one begins: it loads the run if it was awake, or has a message.
    fn crash(&mut self, posters: &mut [Posting]) {
        self.awake = Awake::default();
        self.run = None;
        for posting in posters {
            if matches!(posting, Posting::Notify | Posting::Load) {
                *posting = Posting::Done;
            }
        }
        if !self.parked || self.pending > 0 {
            self.load();
        }
    }
}

/// Plays one seed. Returns the world when everybody is done.
fn play(seed: u64, guarded: bool) -> World {
    let mut random = Seeded::new(seed);
    let mut world = World::default();
    world.load();
    let mut posters = vec![Posting::Post; 1 + random.below(4) as usize];
    for _ in 0..10_000 {
        if world.run.is_none() && posters.iter().all(|posting| *posting == Posting::Done) {
            return world;
        }
        match random.below(20) {
            0 if guarded => world.crash(&mut posters),
            0..10 => world.step(guarded),
            _ => {
                let place = random.below(posters.len() as u64) as usize;
                posters[place] = world.post(posters[place]);
            }
        }
    }
    panic!("seed {seed} does not end: {world:?}");
}

#[test]
fn no_message_is_lost_between_the_commit_that_parks_a_run_and_its_leaving() {
    let (mut stays, mut loads) = (0, 0);
    for seed in 0..20_000 {
        let world = play(seed, true);
        assert_eq!(world.pending, 0, "seed {seed} loses a message: {world:?}");
        assert!(world.parked, "seed {seed}: the store says where the run is");
        stays += world.stays;
        loads += world.loads;
    }
    assert!(stays > 1_000 && loads > 30_000, "too little happened: {stays}, {loads}");
}

/// The control: without the guard, messages are lost.
#[test]
fn a_run_that_leaves_without_checking_loses_messages() {
    let lost = (0..20_000).filter(|seed| play(*seed, false).pending > 0).count();
    assert!(lost > 100, "{lost}");
}

#[test]
fn what_a_run_owns_is_put_aside_in_the_moment_it_leaves() {
    let awake = Awake::default();
    assert_eq!(awake.enter(RUN, 7, || 1), Some(1));
    assert_eq!(awake.enter(RUN, 8, || 2), None, "it is here already");
    let seen = awake.look(RUN);
    assert!(!awake.leave(RUN, seen, || false), "it cannot put aside what it owns");
    assert_eq!(awake.find(RUN, |reached| *reached), Some(7));
    assert!(awake.leave(RUN, seen, || true));
    assert_eq!((awake.len(), awake.notify(RUN, |reached| *reached)), (0, None));
}
