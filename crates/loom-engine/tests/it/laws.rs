//! The laws that every history must obey, whatever the definition, the results of calls and the crashes were.
//!
//! Derived from the language's rules and the definition alone: nothing here uses the engine's own state.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use loom_definition::{
    ActionIdx, BlockIdx, RunStatus, Status, Workflow,
    model::{ActionKind, Setting},
    policy::{RetryPolicy, RetrySetting},
};
use loom_engine::{
    EffectId, Event, OpeningId, Outcome, Place, TimerId,
    event::{Next, Phase, Purpose},
};
use loom_expression::Timestamp;

/// Assumptions about the time in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Time never goes back, the process never crashes, and timers fire when they are due.
    Steady,
    /// Time never goes back, but there may be downtime: timers may fire late.
    Interrupted,
}

/// How late a timer may fire in steady time.
const LATE_MAX: Duration = Duration::from_millis(5);

/// Checks a whole history, from a run's start to its end.
///
/// # Errors
/// Which law was violated, and where.
pub(crate) fn check(workflow: &Workflow, events: &[Event], time: Time) -> Result<(), String> {
    let mut book = Book {
        workflow,
        time,
        openings: BTreeMap::new(),
        effects: HashMap::new(),
        last_effect: None,
        timers: BTreeMap::new(),
        ended_timers: HashSet::new(),
        tries: HashMap::new(),
        unapproved: HashSet::new(),
        answered: HashSet::new(),
        counts: Counts::default(),
        latest: Timestamp::MIN,
        suspended: false,
        resumed: Timestamp::MIN,
        ended: None,
    };
    for (number, event) in events.iter().enumerate() {
        book.event(event).map_err(|why| format!("event {number}, {event:?}: {why}"))?;
    }
    book.finish()
}

struct Book<'w> {
    workflow: &'w Workflow,
    time: Time,
    openings: BTreeMap<OpeningId, Opened>,
    /// Calls that have no outcome yet.
    effects: HashMap<EffectId, (Place, Phase)>,
    last_effect: Option<EffectId>,
    timers: BTreeMap<TimerId, (Timestamp, Place, Purpose)>,
    ended_timers: HashSet<TimerId>,
    /// Attempts of each running occurrence.
    tries: HashMap<Place, Tries>,
    /// Actions with untrusted inputs that they do not accept, which nobody has approved yet.
    unapproved: HashSet<Place>,
    /// The people whose approvals were used; in a simulation, each answers once.
    answered: HashSet<String>,
    counts: Counts,
    latest: Timestamp,
    /// Whether the run is suspended, and when it was last resumed.
    suspended: bool,
    resumed: Timestamp,
    ended: Option<RunStatus>,
}

#[derive(Default)]
struct Counts {
    increments: i64,
    appends: usize,
    appended: usize,
    stopped: bool,
}

struct Opened {
    block: BlockIdx,
    parent: Option<Place>,
    started: HashSet<ActionIdx>,
    ended: HashMap<ActionIdx, Status>,
    /// Number of iterations of each loop in this block.
    rounds: HashMap<ActionIdx, HashSet<u32>>,
    /// The deadline of each action with a timeout.
    limits: HashMap<ActionIdx, Timestamp>,
}

#[derive(Default)]
struct Tries {
    attempt: u32,
    /// No attempt is made before this.
    due: Option<Timestamp>,
    /// The current attempt has not ended, or will be polled.
    open: bool,
    /// Attempts that were rejected locally.
    refusals: u32,
}

impl Book<'_> {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        if self.ended.is_some() {
            return Err("an event follows the end of the run".to_owned());
        }
        self.tick(event)?;
        match event {
            Event::RunStarted { .. } | Event::RunWaiting { .. } | Event::RunAdmitted { .. } => {}
            Event::BlockOpened { opening, block, parent, index, .. } => {
                self.open(*opening, *block, *parent, *index)?;
            }
            Event::ActionStarted { place, inputs, .. } => {
                self.begin(*place)?;
                let is_untrusted = inputs.as_ref().is_some_and(loom_expression::Value::contains_untrusted);
                if is_untrusted && !self.workflow.action(place.action).accepts_untrusted {
                    self.unapproved.insert(*place);
                }
            }
            Event::LoopStarted { .. } | Event::Tracked { .. } | Event::AttemptNoted { .. } => {}
            Event::AttemptStarted { place, attempt, effect, phase, at, .. } => {
                self.attempt(*place, *attempt, *effect, *phase, *at)?;
            }
            Event::AttemptEnded { place, effect, outcome, next, at } => {
                self.attempt_ended(*place, *effect, outcome, next, *at)?;
            }
            Event::TimerSet { timer, due, place, purpose } => {
                if self.timers.insert(*timer, (*due, *place, *purpose)).is_some()
                    || self.ended_timers.contains(timer)
                {
                    return Err("a timer id is reused".to_owned());
                }
                if *purpose == Purpose::Limit {
                    self.frame_mut(*place)?.limits.insert(place.action, *due);
                }
            }
            Event::TimerEnded { timer } => {
                let Some((due, place, purpose)) = self.timers.remove(timer) else {
                    return Err("a timer ends that was not set, or ends twice".to_owned());
                };
                self.ended_timers.insert(*timer);
                // The event has no time of its own; the next event is checked against the time so far. The timer of an approval also
                // ends with the approval.
                if purpose != Purpose::Limit || !self.unapproved.contains(&place) {
                    self.latest = self.latest.max(due);
                }
            }
            Event::VariableSet { .. } => {}
            Event::VariableAppended { .. } => self.counts.appends += 1,
            Event::Responded { place, .. } => {
                self.frame_mut(*place)?;
            }
            Event::ActionEnded { place, at, outcome, .. } => self.end(*place, *at, outcome)?,
            Event::Suspended { .. } => self.suspended = true,
            Event::Resumed { at } => (self.suspended, self.resumed) = (false, *at),
            Event::RunEnded { status, outputs, .. } => {
                self.ended = Some(*status);
                if let Some(outputs) = outputs {
                    let n = outputs.get("n").and_then(loom_expression::Value::as_i64);
                    if n.is_some_and(|n| n != self.counts.increments) {
                        return Err(format!("{} increments gave {n:?}", self.counts.increments));
                    }
                    let list = outputs.get("list").and_then(|list| list.as_array()).map(|list| list.len());
                    if list.is_some_and(|length| length != self.counts.appended) {
                        return Err(format!("{} appends gave {list:?} items", self.counts.appended));
                    }
                }
            }
        }
        Ok(())
    }

    /// Time does not go back.
    fn tick(&mut self, event: &Event) -> Result<(), String> {
        let Some(at) = event.at() else { return Ok(()) };
        if at < self.latest {
            return Err(format!("it happens before {}", self.latest));
        }
        self.latest = self.latest.max(at);
        Ok(())
    }

    fn opening(&self, place: Place) -> Result<&Opened, String> {
        let opening = self.openings.get(&place.opening).ok_or("its block was not opened")?;
        if self.workflow.action(place.action).block == opening.block {
            Ok(opening)
        } else {
            Err("its block's place was reused by another block".to_owned())
        }
    }

    fn frame_mut(&mut self, place: Place) -> Result<&mut Opened, String> {
        self.opening(place)?;
        Ok(self.openings.get_mut(&place.opening).expect("it was just found"))
    }

    fn open(
        &mut self,
        opening: OpeningId,
        block: BlockIdx,
        parent: Option<Place>,
        index: u32,
    ) -> Result<(), String> {
        if let Some(parent) = parent {
            let around = self.frame_mut(parent)?;
            if !around.started.contains(&parent.action) || around.ended.contains_key(&parent.action) {
                return Err("it is opened by an action that is not running".to_owned());
            }
            let action = self.workflow.action(parent.action);
            let looped = matches!(
                action.kind,
                ActionKind::Foreach { .. } | ActionKind::Loop(_) | ActionKind::Retry { .. }
            );
            let admitted = action.resilience.is_some();
            let around = self.frame_mut(parent)?;
            if looped && !around.rounds.entry(parent.action).or_default().insert(index) && !admitted {
                return Err("an iteration is started twice".to_owned());
            }
            if let ActionKind::Foreach { concurrency: Setting::Fixed(concurrency), .. } = &action.kind {
                let open = self.openings.values().filter(|opened| {
                    opened.parent == Some(parent)
                        && opened.ended.len() < self.workflow.block(opened.block).actions.len()
                });
                if open.count() >= *concurrency as usize {
                    return Err(format!("more than {concurrency} concurrent iterations"));
                }
            }
        }
        if let Some(old) = self.openings.remove(&opening) {
            self.complete(&old)?;
        }
        self.openings.insert(
            opening,
            Opened {
                block,
                parent,
                started: HashSet::new(),
                ended: HashMap::new(),
                rounds: HashMap::new(),
                limits: HashMap::new(),
            },
        );
        Ok(())
    }

    /// Every action of an opened block has ended.
    fn complete(&self, opened: &Opened) -> Result<(), String> {
        let missing =
            self.workflow.block(opened.block).actions.iter().find(|a| !opened.ended.contains_key(a));
        match missing {
            Some(action) => Err(format!("'{}' has no end", self.workflow.action(*action).name)),
            None => Ok(()),
        }
    }

    /// Whether the `runAfter` of an action is met.
    fn run_after(&self, place: Place) -> Result<bool, String> {
        let opening = self.opening(place)?;
        let mut met = true;
        for dependency in &self.workflow.action(place.action).run_after {
            match opening.ended.get(&dependency.action) {
                None => return Err("it does not wait for what it runs after".to_owned()),
                Some(status) => met &= dependency.statuses.contains(*status),
            }
        }
        Ok(met)
    }

    fn begin(&mut self, place: Place) -> Result<(), String> {
        if !self.run_after(place)? {
            return Err("it starts although its runAfter is not met".to_owned());
        }
        let tried_again = self.tries.get(&place).is_some_and(|tries| tries.attempt > 0);
        let opening = self.frame_mut(place)?;
        if opening.ended.contains_key(&place.action) {
            return Err("it starts after its end".to_owned());
        }
        if !opening.started.insert(place.action) && !tried_again {
            return Err("it starts twice".to_owned());
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        place: Place,
        attempt: u32,
        effect: EffectId,
        phase: Phase,
        at: Timestamp,
    ) -> Result<(), String> {
        if self.last_effect.is_some_and(|last| effect <= last) {
            return Err("a call id is reused".to_owned());
        }
        self.last_effect = Some(effect);
        self.effects.insert(effect, (place, phase));
        if phase == Phase::Unsubscribe {
            return self.opening(place).map(drop);
        }
        if phase == Phase::Approve {
            let asks = self.unapproved.contains(&place) && attempt == 0;
            return asks
                .then_some(())
                .ok_or_else(|| "an approval is asked for that is not needed".to_owned());
        }
        if self.unapproved.contains(&place) {
            return Err("it calls with untrusted inputs that nobody has approved".to_owned());
        }
        if !self.run_after(place)? {
            return Err("it calls although its runAfter is not met".to_owned());
        }
        if self.opening(place)?.ended.contains_key(&place.action) {
            return Err("it calls after its end".to_owned());
        }
        if phase == Phase::Admit {
            self.frame_mut(place)?.started.insert(place.action);
        }
        let most = attempts_max(self.workflow, place.action);
        let tries = self.tries.entry(place).or_default();
        if tries.open && attempt == tries.attempt {
            // The same attempt continues: it is polled.
            return Ok(());
        }
        if attempt != tries.attempt + 1 || tries.open {
            return Err(format!("attempt {attempt} follows attempt {}", tries.attempt));
        }
        // Local rejections are not attempts at the service; the same number is allowed in addition.
        if attempt - tries.refusals.min(attempt) > most || tries.refusals > most {
            return Err(format!("the policy allows {most} attempts, and as many local rejections"));
        }
        if tries.due.is_some_and(|due| at < due) {
            return Err("it does not wait until the time that was announced".to_owned());
        }
        *tries = Tries { attempt, due: None, open: true, refusals: tries.refusals };
        Ok(())
    }

    fn attempt_ended(
        &mut self,
        place: Place,
        effect: EffectId,
        outcome: &Outcome,
        next: &Next,
        at: Timestamp,
    ) -> Result<(), String> {
        let admitted = matches!(next, Next::Retry { .. }) && is_local(self.workflow, place.action);
        let ended = self.effects.remove(&effect);
        if ended.is_none() && !admitted {
            return Err("a call ends that was not started, or ends twice".to_owned());
        }
        if let Some((_, Phase::Approve)) = ended {
            return self.approved(place, outcome);
        }
        let tries = self.tries.entry(place).or_default();
        match next {
            Next::Retry { due } => {
                if outcome.status == Status::Succeeded {
                    return Err("a successful attempt is retried".to_owned());
                }
                if *due < at {
                    return Err("the next attempt is due in the past".to_owned());
                }
                tries.due = Some(*due);
                let refused = ["CircuitBreakerOpen", "RateLimitExceeded", "BulkheadFull"];
                tries.refusals += u32::from(refused.contains(&outcome.code.as_ref()));
                tries.open = false;
            }
            Next::Poll { .. }
            | Next::Callback
            | Next::Execute
            | Next::Proceed
            | Next::End
            | Next::Turn { .. } => {}
        }
        Ok(())
    }

    /// An approval was used.
    fn approved(&mut self, place: Place, outcome: &Outcome) -> Result<(), String> {
        let answer = outcome.outputs.as_ref().ok_or("an approval has no answer")?;
        if answer.get("approved").and_then(loom_expression::Value::as_bool) != Some(true) {
            return Err("a rejection is treated as an approval".to_owned());
        }
        let by = answer.get("by").and_then(loom_expression::Value::as_str).ok_or("nobody has approved it")?;
        if by != "the default" && !self.answered.insert(by.to_owned()) {
            return Err(format!("the approval by {by} is used twice"));
        }
        self.unapproved.remove(&place);
        // The timeout of the call begins now.
        self.frame_mut(place)?.limits.remove(&place.action);
        Ok(())
    }

    fn end(&mut self, place: Place, at: Timestamp, outcome: &Outcome) -> Result<(), String> {
        let status = outcome.status;
        let code = outcome.error.as_ref().map(|error| error.code.as_ref());
        if status != Status::Skipped && !self.run_after(place)? {
            return Err("it ran although its runAfter is not met".to_owned());
        }
        if code == Some("ActionConditionFailed") && self.run_after(place)? {
            return Err("it is skipped although its runAfter is met".to_owned());
        }
        let still_open = self.openings.values().any(|opened| {
            opened.parent == Some(place)
                && opened.ended.len() < self.workflow.block(opened.block).actions.len()
        });
        if still_open {
            return Err("a block inside it has not ended".to_owned());
        }
        let (steady, suspended, resumed) = (self.time == Time::Steady, self.suspended, self.resumed);
        let opening = self.frame_mut(place)?;
        if status == Status::Skipped && opening.started.contains(&place.action) {
            return Err("it is skipped although it started".to_owned());
        }
        if opening.ended.insert(place.action, status).is_some() {
            return Err("it ends twice".to_owned());
        }
        let limit = opening.limits.remove(&place.action);
        if let Some(limit) = limit
            && steady
            && !suspended
            && milliseconds(at) - milliseconds(limit.max(resumed)) > LATE_MAX.as_millis() as i64
            && status != Status::Cancelled
        {
            return Err(format!("its deadline was {limit}"));
        }
        if code == Some("ActionTimedOut") && limit.is_some_and(|limit| at < limit) {
            return Err("its deadline had not passed".to_owned());
        }
        self.tries.remove(&place);
        self.unapproved.remove(&place);
        // Its calls end with it, except requests to unsubscribe.
        self.effects.retain(|_, (owner, phase)| *owner != place || *phase == Phase::Unsubscribe);
        self.timers.retain(|_, (_, owner, _)| *owner != place);
        if status == Status::Succeeded {
            let action = self.workflow.action(place.action);
            match action.type_name.as_ref() {
                "IncrementVariable" => self.counts.increments += 1,
                "AppendToArrayVariable" => self.counts.appended += 1,
                "Terminate" => self.counts.stopped = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), String> {
        let Some(status) = self.ended else { return Err("the run has no end".to_owned()) };
        for opened in self.openings.values() {
            self.complete(opened)?;
        }
        if let Some((effect, _)) = self.effects.iter().find(|(_, (_, phase))| *phase != Phase::Unsubscribe) {
            return Err(format!("call {effect:?} outlives its action"));
        }
        if self.counts.appends != self.counts.appended {
            return Err(format!("{} appends by {} actions", self.counts.appends, self.counts.appended));
        }
        let natural = matches!(status, RunStatus::Succeeded | RunStatus::Failed) && !self.counts.stopped;
        let failed = self.leaves_failed();
        let outputs_fail = status == RunStatus::Failed && !failed && !self.workflow.outputs.is_empty();
        if natural && !outputs_fail && failed != (status == RunStatus::Failed) {
            return Err(format!("the run is {status:?}, and its leaves say failed: {failed}"));
        }
        Ok(())
    }

    /// A run fails when a leaf failed, or was skipped after an action that failed.
    fn leaves_failed(&self) -> bool {
        let Some(root) = self.openings.get(&OpeningId::ROOT) else { return false };
        let mut bad: HashMap<ActionIdx, bool> = HashMap::new();
        // Actions are in no particular order, so the loop repeats until nothing changes.
        let actions = &self.workflow.block(root.block).actions;
        for _ in 0..actions.len() {
            for action in actions {
                let Some(status) = root.ended.get(action) else { continue };
                let behind = |bad: &HashMap<ActionIdx, bool>| {
                    self.workflow
                        .action(*action)
                        .run_after
                        .iter()
                        .any(|dependency| bad.get(&dependency.action).copied().unwrap_or(false))
                };
                let is_bad = status.is_bad() || (*status == Status::Skipped && behind(&bad));
                bad.insert(*action, is_bad);
            }
        }
        let leaf = |action: &ActionIdx| self.workflow.action(*action).successors.is_empty();
        actions.iter().filter(|action| leaf(action)).any(|action| bad.get(action).copied().unwrap_or(false))
    }
}

/// The maximum number of attempts by an action's policy.
fn attempts_max(workflow: &Workflow, action: ActionIdx) -> u32 {
    let action = workflow.action(action);
    match action.resilience.as_deref().map(|resilience| &resilience.retry) {
        Some(RetrySetting::Fixed(policy)) => policy.max_attempts,
        Some(RetrySetting::Computed(..)) => u32::MAX,
        Some(RetrySetting::Default) | None if is_local(workflow, action.index) => 1,
        Some(RetrySetting::Default) | None => RetryPolicy::wdl_default().max_attempts,
    }
}

/// Whether the engine executes the action itself.
fn is_local(workflow: &Workflow, action: ActionIdx) -> bool {
    !matches!(workflow.action(action).kind, ActionKind::Effect { .. } | ActionKind::Agent { .. })
}

/// Whether an action has a literal timeout in the definition.
pub(crate) fn is_limited(workflow: &Workflow, action: ActionIdx) -> bool {
    matches!(workflow.action(action).timeout, Some(Setting::Fixed(_)))
}

fn milliseconds(at: Timestamp) -> i64 {
    at.unix_millis()
}
