//! What a run receives next: commands, the ends of calls, and timers, in the order of their times.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use loom_definition::{RunStatus, model::WorkflowKind};
use loom_expression::Timestamp;

use super::{Driver, happened::Happened};
use crate::{
    children::{self, is_child},
    clock::Now,
    envelope::Envelope,
    event::{Command, EffectId, TimerId},
    shared::Leave,
    time,
};

/// The maximum duration of a run of a stateless workflow.
const STATELESS_DURATION_MAX: Duration = Duration::from_mins(5);

impl Driver {
    /// Waits for a command, the end of a call or a timer, whichever comes first.
    pub(super) async fn next_command(&mut self) -> Option<Envelope> {
        let (next, deferred) = self.at_hand().await;
        if next.is_some() {
            return next;
        }
        let (draining, leaving) = (self.is_draining(), self.is_leaving());
        // A draining engine starts nothing, so it admits no run either.
        let waits = self.run.state().waits && !draining;
        let now = self.clock.now();
        // A deferred timer waits for what has happened before it. One that became due since it was checked above ends the sleep at
        // once.
        let timer =
            self.first_to_fire(now).map(|(_, wait)| wait).filter(|wait| !(deferred && wait.is_zero()));
        let wait = timer.into_iter().fold(time::between(now.run, self.end_of_time()), Duration::min);
        let until_woken = self.time_to_wake();
        let wait = wait.min(self.parks_in(until_woken).unwrap_or_else(|| self.looks_again_in()));
        let (idle, is_watched) = (self.idle(), self.is_watched());
        tokio::select! {
            biased;
            finished = self.calls.next(), if !self.calls.is_empty() => match finished {
                Some(Ok(finished)) => self.in_order(Happened::Finished(finished)),
                // Aborted calls need no command: the run no longer waits for them.
                Some(Err(_)) | None => None,
            },
            sent = self.inbox.recv(), if !self.inbox.is_closed() => {
                sent.and_then(|sent| self.in_order(Happened::Sent(sent)))
            }
            () = self.pass.admitted(), if waits => Some(Envelope::new(Command::Admit)),
            () = self.shared.flights.drains(), if !draining => None,
            () = asked_to_leave(self.leave.as_ref()), if !leaving => None,
            () = std::future::pending(), if draining => None,
            // The next pass fires the timer that is due then, or the run leaves memory.
            () = tokio::time::sleep(wait), if !draining => None,
            () = self.report.closed(), if is_watched => None,
            () = self.shared.crowds(), if idle.is_some() => None,
        }
    }

    /// What the run receives next, if it has happened already. Also, whether a timer is due that waits for what has happened before
    /// it.
    async fn at_hand(&mut self) -> (Option<Envelope>, bool) {
        let draining = self.is_draining();
        if !draining && self.clock.now().run >= self.end_of_time() {
            return (Some(Envelope::new(Command::TimeOut)), false);
        }
        if let Some(envelope) = self.ready_command() {
            return (Some(envelope), false);
        }
        // A callback that arrived before the run was loaded waits for what has happened before it.
        if let Some(sent) = self.callbacks.front().and_then(|first| first.sent)
            && !draining
            && !self.has_earlier(sent).await
        {
            return (self.first_callback(), false);
        }
        let Some((timer, due)) = self.overdue() else { return (None, false) };
        if self.has_earlier(due).await {
            return (None, true);
        }
        (Some(Envelope::new(Command::TimerFired(timer))), false)
    }

    /// What has happened to the run while it made decisions; none if it continues with them.
    pub(super) async fn happened_meanwhile(&mut self) -> Option<Envelope> {
        #[cfg(test)]
        if self.shared.faults.is_never_interrupted.is_on() {
            return None;
        }
        self.at_hand().await.0
    }

    /// The timer that fires next, and the time until then. The timers of a suspended run fire when it is resumed.
    pub(super) fn first_to_fire(&self, now: Now) -> Option<(TimerId, Duration)> {
        let state = self.run.state();
        (state.status() == RunStatus::Running).then(|| state.first_to_fire(now)).flatten()
    }

    /// The time at which the run reaches its maximum duration.
    pub(super) fn end_of_time(&self) -> Timestamp {
        let most = self.run.environment().run_duration_max;
        let state = self.run.state();
        // The duration counts from the admission.
        if state.waits {
            return Timestamp::MAX;
        }
        let most = match state.workflow().kind {
            WorkflowKind::Stateless => most.min(STATELESS_DURATION_MAX),
            WorkflowKind::Stateful | WorkflowKind::Agentic => most,
        };
        time::after(state.started_at(), most)
    }

    /// The oldest callback that arrived before the run was loaded, unless a timer was due before.
    fn first_callback(&mut self) -> Option<Envelope> {
        let sent = self.callbacks.front()?.sent?;
        if let Some((timer, due)) = self.overdue()
            && due < sent
        {
            return Some(Envelope::new(Command::TimerFired(timer)));
        }
        self.callbacks.pop_front()
    }

    /// A command that is available without waiting: the end of a call, or one that was sent.
    pub(super) fn ready_command(&mut self) -> Option<Envelope> {
        loop {
            let happened = if let Some(happened) = self.happened.pop_front() {
                happened
            } else if let Some(Some(finished)) = self.calls.next().now_or_never() {
                // Aborted calls need no command: the run no longer waits for them.
                let Ok(finished) = finished else { continue };
                Happened::Finished(finished)
            } else {
                Happened::Sent(self.inbox.try_recv().ok()?)
            };
            if let Some(envelope) = self.in_order(happened) {
                return Some(envelope);
            }
        }
    }

    /// The command that follows from what has happened, unless a timer was due before: then that timer fires first.
    fn in_order(&mut self, happened: Happened) -> Option<Envelope> {
        let at = happened.at();
        #[cfg(test)]
        let at = at.filter(|_| !self.shared.faults.ignores_times.is_on());
        if let Some(at) = at {
            if self.callbacks.front().and_then(|first| first.sent).is_some_and(|sent| sent < at) {
                self.happened.push_front(happened);
                return self.first_callback();
            }
            if let Some((timer, due)) = self.overdue()
                && due < at
            {
                self.happened.push_front(happened);
                return Some(Envelope::new(Command::TimerFired(timer)));
            }
        }
        match happened {
            Happened::Finished(finished) => self.finished(finished),
            Happened::Sent(envelope) => Some(envelope),
        }
    }

    /// The timer that fires now, and the time for which it was set. A draining engine fires none.
    fn overdue(&mut self) -> Option<(TimerId, Timestamp)> {
        if self.is_draining() {
            return None;
        }
        let now = self.clock.now();
        let (timer, wait) = self.first_to_fire(now)?;
        let due = self.run.state().timer(timer)?.due;
        wait.is_zero().then_some((timer, due))
    }

    /// Whether something happened before `due` that the run has not received yet: a signal that is in the store, or, while no
    /// process was running, the end of a child workflow. One of the run's futures is about to report it.
    async fn has_earlier(&mut self, due: Timestamp) -> bool {
        #[cfg(test)]
        if self.shared.faults.ignores_times.is_on() {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        let Some(durable) = &shared.durable else { return false };
        let Some(run) = self.run.state().start().map(|start| start.run) else { return false };
        let mut earlier = match self.mailbox.has_news(&*durable.store, run).await {
            Ok(has_news) => has_news,
            Err(error) => return self.unreadable(&error),
        };
        if due >= self.loaded {
            return earlier;
        }
        let outstanding: Vec<EffectId> = self.run.state().calls().map(|(effect, _)| effect).collect();
        for call in outstanding.into_iter().filter_map(|effect| self.run.call(effect)).collect::<Vec<_>>() {
            if !is_child(&call) {
                continue;
            }
            match children::had_ended(&shared, &call, due).await {
                Ok(false) => continue,
                Ok(true) => earlier = true,
                Err(error) => return self.unreadable(&error),
            }
            let place = self.run.state().call(call.effect).map(|asked| asked.place);
            if let Some(place) = place.filter(|_| !self.under_way.contains_key(&call.effect)) {
                // The child needs no time any more.
                self.send(call, place, None);
            }
        }
        earlier
    }

    /// The store cannot tell what happened before a timer was due. The timer fires: if the store does not work, the run is
    /// held before that has an effect.
    fn unreadable(&self, error: &loom_store::Error) -> bool {
        let run = self.run.state().start().map(|start| start.run);
        tracing::warn!(run_id = ?run, %error, "cannot read the messages to a run before a timer fires");
        false
    }
}

/// Waits until the run has to leave this process.
async fn asked_to_leave(leave: Option<&Leave>) {
    match leave {
        Some(leave) => leave.soon.cancelled().await,
        None => std::future::pending().await,
    }
}
