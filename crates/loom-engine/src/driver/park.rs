//! How a run that only waits leaves memory; see `shared::awake` for why nothing is missed.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use loom_expression::Timestamp;
use loom_store::{InboxId, InboxQuery, Recipient, Shards, UnixMillis};
use tokio::time::Instant;

use super::Driver;
use crate::{
    children,
    durable::RunJournal,
    event::{Place, RunId},
    guard::Admission,
    messages, orders,
    parked::Holding,
    shared::{Shared, aside::Owned, gate::Pass},
    time,
};

/// A run that is woken sooner than that is not worth parking.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// See [`Driver::looks_again_in`].
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How long a run stays in memory when something is about to happen to it.
const STAY: Duration = Duration::from_secs(1);

/// Messages read at a time.
const PAGE: usize = 100;

/// Counts a run among those that wait and could leave memory.
pub(super) struct Idle(Arc<Shared>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Driver {
    /// Whether somebody in this process waits for the end of the run, or for its response.
    pub(super) fn is_watched(&self) -> bool {
        self.shared.park_after().is_some() && self.report.receiver_count() > 0
    }

    /// Whether the run only waits for what is in the store, or comes through it.
    fn only_waits(&self) -> bool {
        // One receiver is that of the engine.
        let is_awaited = self.respond.as_ref().is_none_or(|respond| respond.receiver_count() > 1);
        self.shared.park_after().is_some()
            && self.journal.is_some()
            && !is_awaited
            && self.report.receiver_count() == 0
            && self.happened.is_empty()
            && self.callbacks.is_empty()
            && self.inbox.is_empty()
            && self.under_way.values().all(|call| call.waits.load(Ordering::Relaxed))
            && !self.is_draining()
    }

    /// Counts the run as idle, if it could leave memory.
    pub(super) fn idle(&self) -> Option<Idle> {
        self.only_waits().then(|| {
            self.shared.idle.fetch_add(1, Ordering::Relaxed);
            Idle(Arc::clone(&self.shared))
        })
    }

    /// How long the run still waits in memory, if it is to leave memory; `wait` is the time until its first timer.
    pub(super) fn parks_in(&mut self, wait: Duration) -> Option<Duration> {
        let after = self.shared.park_after().filter(|_| wait >= WAIT_MIN && self.only_waits())?;
        let now = Instant::now();
        let idle_since = *self.idle_since.get_or_insert(now);
        let stays = self.stays_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if self.shared.is_crowded() {
            return Some(stays);
        }
        if wait < after {
            return None;
        }
        let state = self.run.state();
        let waits_for_more = state.waits || !self.under_way.is_empty() || state.awaits_callback();
        let idle = now.duration_since(idle_since);
        Some(if waits_for_more { after.saturating_sub(idle).max(stays) } else { stays })
    }

    /// The longest single sleep: then the wall clock is read again, because it may have been adjusted, and somebody who waited
    /// for the run may have gone.
    pub(super) fn looks_again_in(&self) -> Duration {
        self.shared.park_after().map_or(SLEEP_MAX, |after| after.clamp(WAIT_MIN, SLEEP_MAX))
    }

    /// Whether the run is to leave memory now.
    pub(super) fn is_time_to_park(&mut self) -> bool {
        let wait = self.time_to_wake();
        self.parks_in(wait).is_some_and(|left| left.is_zero())
    }

    /// Parks the run: makes durable that it is parked, and leaves. False if something happened meanwhile, or is about to; the run
    /// continues in memory.
    ///
    /// # Errors
    /// The store's error. The run has to be held.
    pub(super) async fn park(&mut self) -> Result<bool, loom_store::Error> {
        let Some(run) = self.run.state().start().map(|start| start.run) else { return Ok(false) };
        // Everything that happens from here on is noticed in `leave`.
        let seen = self.shared.awake.look(run);
        if self.is_concerned(run).await? {
            self.stays_until = Some(Instant::now() + STAY);
            return Ok(false);
        }
        self.adopt_late_pass();
        let engine_now = self.shared.now().run;
        let wait = self.time_to_wake();
        let wake = wake_at(engine_now, wait);
        let holding = self.holding();
        let was_parked = self.journal.as_ref().is_some_and(RunJournal::is_parked);
        if let Some(journal) = &mut self.journal {
            journal.park(self.run.state(), wake, holding.as_ref()).await?;
        }
        if !was_parked {
            self.shared.count_parked();
        }
        self.settle_waited_admissions();
        let shared = Arc::clone(&self.shared);
        let left = shared.awake.leave(run, seen, || {
            // A permit that was given meanwhile, a command that was sent, somebody who waits.
            let leaves = self.only_waits() && self.pass.park();
            if leaves {
                let pass = std::mem::take(&mut self.pass);
                let admissions = std::mem::take(&mut self.admissions);
                #[cfg(test)]
                let (pass, admissions) = if shared.faults.drops_early.is_on() {
                    (Pass::Free, HashMap::new())
                } else {
                    (pass, admissions)
                };
                if !matches!(pass, Pass::Free) || !admissions.is_empty() {
                    shared.aside.keep(run, Owned { pass, admissions: Some(admissions) });
                }
            }
            leaves
        });
        if !left {
            self.stays_until = Some(Instant::now() + STAY);
            return Ok(false);
        }
        shared.wheel.set(run, wake);
        Arc::clone(&self.others).parked();
        if let Some(watcher) = &self.watcher {
            watcher.parked(run);
        }
        Ok(true)
    }

    /// Takes the permit that the run was given because its trigger has a concurrency limit since.
    pub(super) fn adopt_late_pass(&mut self) {
        let (given, is_noted) = self.late.take();
        if let Some(pass) = given {
            self.pass = pass;
        }
        if let Some(journal) = self.journal.as_mut().filter(|_| is_noted) {
            journal.owns_something(true);
        }
    }

    /// The time until the run has to be in memory.
    pub(super) fn time_to_wake(&mut self) -> Duration {
        let now = self.clock.now();
        let end = time::between(now.run, self.end_of_time());
        self.first_to_fire(now).map_or(end, |(_, wait)| wait.min(end))
    }

    /// Whether there is a message that the run is about to handle.
    async fn is_concerned(&mut self, run: RunId) -> Result<bool, loom_store::Error> {
        let shared = Arc::clone(&self.shared);
        let Some(durable) = &shared.durable else { return Ok(true) };
        let ends = children::awaited(&self.run);
        let mut query =
            InboxQuery { recipient: Recipient::Run(run), after: None, limit: PAGE, shards: Shards::ALL };
        loop {
            let page = durable.store.inbox(query).await?;
            let concerns = page.iter().any(|message| match message.post.kind {
                orders::KIND | messages::CALLBACK => !self.handled.contains_key(&message.id),
                messages::END => message.post.idempotency_key.as_ref().is_some_and(|key| ends.contains(key)),
                _ => false,
            });
            if concerns {
                return Ok(true);
            }
            query.after = page.last().map(|message| message.id);
            if page.len() < PAGE {
                return self.mailbox.has_news(&*durable.store, run).await;
            }
        }
    }

    /// The answer to the sender of a message that has been handled; none for a message that is still to be handled.
    pub(super) async fn is_handled(&mut self, message: InboxId) -> Option<bool> {
        if let Some(answer) = self.handled.get(&message) {
            return Some(*answer);
        }
        let shared = Arc::clone(&self.shared);
        let (durable, run) = (shared.durable.as_ref()?, self.run.state().start()?.run);
        self.rest();
        let is_pending = messages::is_pending(&*durable.store, run, message).await;
        self.evaluate();
        // If the store cannot say, its refusal to consume the message does.
        matches!(is_pending, Ok(false)).then_some(true)
    }

    /// What the run owns that others wait for; none if it owns nothing.
    fn holding(&self) -> Option<Holding> {
        if matches!(self.pass, Pass::Free) && self.admissions.is_empty() {
            return None;
        }
        let state = self.run.state();
        let admitted = state.admitted().filter(|(place, _)| self.admissions.contains_key(place));
        Some(Holding {
            trigger: state.start().and_then(|start| start.trigger_name()).map(Arc::from),
            waits: self.pass.waits(),
            admitted: admitted.map(|(place, due)| (place, due.map(time::millis))).collect(),
        })
    }

    /// Replaces admissions that a future of the run holds by values that can be put aside. A service has the new one before it
    /// gets the old one back.
    fn settle_waited_admissions(&mut self) {
        let (state, now) = (self.run.state(), self.clock.now().run);
        let waited = |(place, _): &(Place, Option<Timestamp>)| {
            matches!(self.admissions.get(place), Some(Admission::Waited(_)))
        };
        let again: HashMap<Place, Admission> = state
            .admitted()
            .filter(waited)
            .filter_map(|(place, due)| {
                let service = self.shared.services.of(state.workflow(), place.action, None)?;
                Some((place, service.admit_again(due.map(|due| time::between(now, due)))))
            })
            .collect();
        self.admissions.extend(again);
    }
}

/// The time at which a run has to be woken; rounded up, so that its timer is due then.
fn wake_at(now: Timestamp, wait: Duration) -> UnixMillis {
    let at = time::after(now, wait);
    if at == Timestamp::MAX {
        return UnixMillis(i64::MAX);
    }
    let whole = time::millis(at);
    if Timestamp::from_unix_millis(whole.0) < at { whole.plus(1) } else { whole }
}
