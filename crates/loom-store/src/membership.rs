//! What a node does to own shards: the time in, intents out.
//!
//! [`Membership`] is a state machine without clock and without I/O. Its user calls [`tick`](Membership::tick) often, executes the
//! intents, and reports each answer of the database. The times are those of one monotonic clock; where it starts does not matter.
//!
//! The rules:
//!
//! - **A deadline of its own.** A renewal extends the deadline to the time *before* the request plus the lease, less a margin. The lease
//!   in the database was extended later than that, so it ends later. Past the deadline nothing starts
//!   ([`may_start`](Membership::may_start)), whatever the node believes to own.
//! - **Only a steady node fences others.** A node may fence only if all its renewals of a whole lease were answered in time. After an
//!   outage of the database all leases have run out together; a node that was fast to return would fence all others.
//! - **A fair share.** A node owns at most the number of shards divided by the number of nodes, rounded up. It claims the first time
//!   all at once and later a few at a time, and gives surplus shards back a few at a time.
//! - **Gains follow answers.** A shard is the node's once the answer to its claim has arrived; what the claim contains is read after that.

use std::time::Duration;

use crate::{NodeId, Shard, Shards};

/// The settings of a node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a node owns its shards without a renewal; the same as in [`NewNode`](crate::NewNode).
    pub lease: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// How long before the end of the lease nothing starts any more. It covers the difference between the speeds of two clocks, and the
    /// time from a check to the start that it allows.
    pub margin: Duration,
    /// How many shards are claimed at once, after the first time, and how many are given back at once.
    pub claimed_at_once: usize,
}

impl Default for LeaseSettings {
    /// A lease of three seconds, renewed every second.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            renew_every: Duration::from_secs(1),
            margin: Duration::from_millis(500),
            claimed_at_once: 64,
        }
    }
}

/// Something to do. At most one intent of a kind is without an answer at a time, except for fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Call [`register`](crate::Ownership::register).
    Register,
    /// Call [`renew`](crate::Ownership::renew).
    Renew(NodeId),
    /// Call [`nodes`](crate::Ownership::nodes).
    Look,
    /// Call [`fence`](crate::Ownership::fence). The next look shows what became of it; only when a node has fenced itself, report
    /// [`Outcome::Fenced`].
    Fence {
        /// This node.
        by: NodeId,
        /// The node that may be dead, or this one when it leaves.
        node: NodeId,
    },
    /// Call [`claim`](crate::Ownership::claim).
    Claim {
        /// This node.
        node: NodeId,
        /// How many shards.
        shards_max: usize,
    },
    /// Call [`release`](crate::Ownership::release).
    Release {
        /// This node.
        node: NodeId,
        /// The shards, which nobody works on any more.
        shards: Shards,
    },
    /// Read what these shards contain, and work on it.
    Gain(Shards),
    /// Finish or interrupt the work on these shards, wait until its last commit was answered, and report
    /// [`Outcome::Drained`].
    Drain(Shards),
    /// Drop all work: the node was fenced, and its shards may have another owner. Nothing more can be written.
    Drop,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The id of this node.
    Registered(NodeId),
    /// The lease of this node was extended.
    Renewed(NodeId),
    /// The live nodes, and what each of them owns.
    Looked(Vec<(NodeId, Shards)>),
    /// The shards that this node has claimed.
    Claimed(NodeId, Shards),
    /// This node has released the shards.
    Released(NodeId, Shards),
    /// Nobody works any more on these shards of this node.
    Drained(NodeId, Shards),
    /// This node was fenced.
    Fenced(NodeId),
    /// The database did not answer an intent of this kind; whether it was executed is unknown.
    Failed(Failed),
}

/// The kind of intent that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A registration.
    Register,
    /// A renewal.
    Renew,
    /// A look.
    Look,
    /// A claim.
    Claim,
    /// A release.
    Release,
}

/// A point in time of a monotonic clock.
pub type Moment = Duration;

/// The state of one process.
#[derive(Clone, Debug)]
pub struct Membership {
    rules: Rules,
    is_leaving: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    settings: LeaseSettings,
    /// For how long renewals must have been answered in time before others are fenced: a lease.
    steady_for: Duration,
    /// See [`Membership::share_among`].
    sharers: Option<usize>,
}

#[derive(Clone, Debug)]
enum State {
    /// It has no id yet, or no id any more. When to ask for one, and since when an answer is awaited.
    Absent {
        ask_at: Moment,
        asked: Option<Moment>,
    },
    Joined(Box<Joined>),
    /// It has left, and does nothing more.
    Left,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether one kind of request is on its way")]
struct Joined {
    node: NodeId,
    /// Nothing starts at this time or later.
    deadline: Moment,
    /// Since when every renewal was answered in time.
    steady_since: Moment,
    renew_at: Moment,
    renewing: Option<Moment>,
    look_at: Moment,
    looking: bool,
    /// Whether the look that is awaited shows what this node owns: nothing was released since it was asked for.
    shows_mine: bool,
    claiming: bool,
    has_claimed: bool,
    owned: Shards,
    /// Those that nothing starts for any more.
    draining: Shards,
    /// Those of them that nobody works on any more.
    drained: Shards,
    releasing: bool,
    release_at: Moment,
    /// When the node fences itself, or does so again, once it is leaving and owns nothing.
    leave_at: Moment,
}

/// How long after a failure the same thing is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Membership {
    /// A process that is no node yet.
    pub const fn new(settings: LeaseSettings, now: Moment) -> Self {
        let rules = Rules { settings, steady_for: settings.lease, sharers: None };
        Self { rules, is_leaving: false, state: State::Absent { ask_at: now, asked: None } }
    }

    /// The id of this node, while it has one.
    pub fn node(&self) -> Option<NodeId> {
        match &self.state {
            State::Joined(joined) => Some(joined.node),
            State::Absent { .. } | State::Left => None,
        }
    }

    /// What the node owns, also while it may not start anything.
    pub fn owned(&self) -> Shards {
        match &self.state {
            State::Joined(joined) => joined.owned,
            State::Absent { .. } | State::Left => Shards::NONE,
        }
    }

    /// Whether something that others can observe may start now on behalf of a shard.
    pub fn may_start(&self, now: Moment, shard: Shard) -> bool {
        match &self.state {
            State::Joined(joined) => {
                now < joined.deadline && joined.owned.contains(shard) && !joined.draining.contains(shard)
            }
            State::Absent { .. } | State::Left => false,
        }
    }

    /// Until when something that others can observe may start; none while it is no node.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Joined(joined) => Some(joined.deadline),
            State::Absent { .. } | State::Left => None,
        }
    }

    /// Whether it has left.
    pub const fn has_left(&self) -> bool {
        matches!(self.state, State::Left)
    }

    /// Sets the number of nodes that can claim shards, if not all can.
    pub fn share_among(&mut self, nodes: Option<usize>) {
        self.rules.sharers = nodes;
    }

    /// Begins to leave: all shards are drained and released, and then the node fences itself.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Returns what is due.
    pub fn tick(&mut self, now: Moment) -> Vec<Intent> {
        let mut intents = Vec::new();
        match &mut self.state {
            State::Left => {}
            State::Absent { .. } if self.is_leaving => self.state = State::Left,
            State::Absent { ask_at, asked } => {
                if asked.is_none() && now >= *ask_at {
                    *asked = Some(now);
                    intents.push(Intent::Register);
                }
            }
            State::Joined(joined) => {
                if joined.renewing.is_none() && now >= joined.renew_at {
                    joined.renewing = Some(now);
                    intents.push(Intent::Renew(joined.node));
                }
                if !joined.drained.is_empty() && !joined.releasing && now >= joined.release_at {
                    (joined.releasing, joined.shows_mine) = (true, false);
                    intents.push(Intent::Release { node: joined.node, shards: joined.drained });
                }
                if self.is_leaving {
                    joined.leave(now, &mut intents);
                }
                // A node that leaves looks too, because it passes requests on to those that take its shards over.
                if !joined.looking && now >= joined.look_at && now < joined.deadline {
                    (joined.looking, joined.shows_mine) = (true, !joined.releasing && !joined.claiming);
                    intents.push(Intent::Look);
                }
            }
        }
        intents
    }

    /// Takes note of an answer, and returns what follows from it.
    pub fn answered(&mut self, now: Moment, answer: Outcome) -> Vec<Intent> {
        let (rules, settings) = (self.rules, self.rules.settings);
        let (joined, answer) = match (&mut self.state, answer) {
            (State::Absent { asked: Some(asked), .. }, Outcome::Registered(node)) => {
                // The first lease counts from the registration.
                let deadline = (*asked + settings.lease).saturating_sub(settings.margin);
                self.state = State::Joined(Box::new(Joined::new(node, deadline, now)));
                return Vec::new();
            }
            (State::Absent { ask_at, asked }, Outcome::Failed(Failed::Register)) => {
                (*ask_at, *asked) = (now + RETRY, None);
                return Vec::new();
            }
            (State::Joined(joined), Outcome::Fenced(node)) if joined.node == node => {
                self.state = State::Absent { ask_at: now, asked: None };
                return vec![Intent::Drop];
            }
            (State::Joined(joined), answer) => (joined, answer),
            // Answers to an earlier life.
            _ => return Vec::new(),
        };
        joined.answered(now, answer, rules, self.is_leaving)
    }
}

impl Joined {
    fn new(node: NodeId, deadline: Moment, now: Moment) -> Self {
        Self {
            node,
            deadline,
            steady_since: now,
            renew_at: now,
            renewing: None,
            look_at: now,
            looking: false,
            shows_mine: false,
            claiming: false,
            has_claimed: false,
            owned: Shards::NONE,
            draining: Shards::NONE,
            drained: Shards::NONE,
            releasing: false,
            release_at: now,
            leave_at: now,
        }
    }

    fn answered(&mut self, now: Moment, answer: Outcome, rules: Rules, is_leaving: bool) -> Vec<Intent> {
        let settings = rules.settings;
        let mut intents = Vec::new();
        match answer {
            Outcome::Renewed(node) if node == self.node => {
                if let Some(asked) = self.renewing.take() {
                    if now >= self.deadline {
                        // The lease may have run out meanwhile, like those of the others.
                        self.steady_since = now;
                    }
                    self.deadline =
                        self.deadline.max((asked + settings.lease).saturating_sub(settings.margin));
                    self.renew_at = asked + settings.renew_every;
                }
            }
            Outcome::Looked(nodes) => {
                self.looking = false;
                self.look_at = now + settings.renew_every;
                if !is_leaving {
                    self.looked(now, &nodes, rules, &mut intents);
                }
            }
            Outcome::Claimed(node, shards) if node == self.node => {
                self.claiming = false;
                self.gain(shards, &mut intents);
            }
            Outcome::Released(node, shards) if node == self.node => {
                (self.releasing, self.shows_mine) = (false, false);
                self.owned = self.owned.without(shards);
                self.draining = self.draining.without(shards);
                self.drained = self.drained.without(shards);
            }
            Outcome::Drained(node, shards) if node == self.node => {
                self.drained = self.drained.or(shards);
                self.shows_mine = false;
            }
            Outcome::Failed(failed) => self.failed(now, failed),
            // Answers to an earlier life.
            Outcome::Renewed(_) | Outcome::Claimed(..) | Outcome::Released(..) | Outcome::Drained(..) => {}
            Outcome::Registered(_) | Outcome::Fenced(_) => {}
        }
        intents
    }

    fn failed(&mut self, now: Moment, failed: Failed) {
        // The database may be away for everybody.
        self.steady_since = now;
        match failed {
            Failed::Renew => (self.renewing, self.renew_at) = (None, now + RETRY),
            Failed::Look => (self.looking, self.look_at) = (false, now + RETRY),
            // The next look shows what the node owns.
            Failed::Claim => self.claiming = false,
            // Releasing twice is releasing once.
            Failed::Release => (self.releasing, self.release_at) = (false, now + RETRY),
            Failed::Register => {}
        }
    }

    fn gain(&mut self, shards: Shards, intents: &mut Vec<Intent>) {
        let new = shards.without(self.owned);
        if !new.is_empty() {
            self.owned = self.owned.or(new);
            intents.push(Intent::Gain(new));
        }
    }

    fn looked(
        &mut self,
        now: Moment,
        nodes: &[(NodeId, Shards)],
        Rules { settings, steady_for, sharers }: Rules,
        intents: &mut Vec<Intent>,
    ) {
        let Some((_, mine)) = nodes.iter().find(|(node, _)| *node == self.node) else { return };
        if now >= self.deadline {
            return;
        }
        // A renewal that has no answer yet may be one that failed.
        let is_answered = self.renewing.is_none_or(|asked| now.saturating_sub(asked) < settings.margin);
        if is_answered && now.saturating_sub(self.steady_since) >= steady_for {
            let others = nodes.iter().filter(|(node, _)| *node != self.node);
            intents.extend(others.map(|(node, _)| Intent::Fence { by: self.node, node: *node }));
        }
        if self.claiming || self.releasing {
            return;
        }
        // The answer of a claim may have been lost.
        if self.shows_mine {
            self.gain(*mine, intents);
        }
        let share = usize::from(Shard::COUNT).div_ceil(sharers.unwrap_or(nodes.len()).clamp(1, nodes.len()));
        let owned = self.owned.len();
        if owned < share {
            let missing = share - owned;
            let shards_max = if self.has_claimed { missing.min(settings.claimed_at_once) } else { missing };
            (self.claiming, self.has_claimed) = (true, true);
            intents.push(Intent::Claim { node: self.node, shards_max });
        } else if owned > share && self.draining.is_empty() {
            let surplus = (owned - share).min(settings.claimed_at_once);
            let surplus: Shards = self.owned.iter().skip(owned - surplus).collect();
            self.draining = surplus;
            intents.push(Intent::Drain(surplus));
        }
    }

    /// Drains what is left, and leaves once nothing is.
    fn leave(&mut self, now: Moment, intents: &mut Vec<Intent>) {
        if self.claiming {
            return;
        }
        let rest = self.owned.without(self.draining);
        if !rest.is_empty() {
            self.draining = self.owned;
            intents.push(Intent::Drain(rest));
        } else if self.owned.is_empty() && now >= self.leave_at {
            // Repeated until the answer is that it was fenced.
            self.leave_at = now + RETRY;
            intents.push(Intent::Fence { by: self.node, node: self.node });
        }
    }
}

#[cfg(test)]
mod tests;
