//! Resubmission from an action: the events that the new run takes over from the old one, in order.
//!
//! Every action that had ended is kept, except the one to begin with, those that follow it, and those that were interrupted or
//! follow an interrupted one. The blocks around the action to start from are opened again, and the same rule applies in them. The
//! kept events become the beginning of the new run's own journal, so that it is loaded like any other run.

use std::collections::{BTreeMap, HashMap, HashSet};

use loom_definition::{
    ActionIdx, BlockIdx, Status, VariableIdx, Workflow,
    model::{ActionKind, same_name},
};
use loom_expression::{Object, Timestamp, Value};

use crate::{
    event::{EffectId, Event, OpeningId, Outcome, Phase, Place, Purpose, RunId, TimerId},
    illegal::IllegalEvent,
    start::StartError,
    time,
    unloadable::RecoverError,
};

/// Why a run cannot be resubmitted from an action.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResubmitError {
    /// The engine is stopping.
    #[error("the engine is shutting down and starts no more runs")]
    Stopping,
    /// The new run cannot start: the concurrency limit of its trigger is reached, and as many runs wait as may.
    #[error(transparent)]
    Full(StartError),
    /// There is no such run, or its history has been deleted.
    #[error("the run {run} does not exist, or its history has been deleted")]
    Unknown {
        /// The run.
        run: RunId,
    },
    /// The run has not ended.
    #[error("the run {run} has not ended; cancel it, or wait until it ends")]
    InProgress {
        /// The run.
        run: RunId,
    },
    /// The old or the new definition does not have the action.
    #[error("the workflow '{workflow}' has no action '{action}'")]
    UnknownAction {
        /// The workflow's name.
        workflow: Box<str>,
        /// The action's name.
        action: Box<str>,
    },
    /// The action is repeated, so its name does not identify where to begin.
    #[error("the action '{action}' is inside '{around}', which repeats it; resubmit from '{around}' instead")]
    Repeated {
        /// The action's name.
        action: Box<str>,
        /// The action that repeats it.
        around: Box<str>,
    },
    /// The run did not reach the action.
    #[error(
        "the run did not open the block of '{around}' that contains the action '{action}'; resubmit from '{around}' instead"
    )]
    NotReached {
        /// The action's name.
        action: Box<str>,
        /// The action that contains it.
        around: Box<str>,
    },
    /// An action that would be kept differs between the definitions.
    #[error(
        "the action '{action}' would be kept, but its definition has changed; resubmit from '{action}', or with the \
         definition that the run was started with"
    )]
    Differs {
        /// The action.
        action: Box<str>,
    },
    /// The history is inconsistent, or what would be kept of it is not a history of the new definition.
    #[error("the history of run {run} cannot be continued: {source}; resubmit the run from its start")]
    Illegal {
        /// The run.
        run: RunId,
        /// The event and the reason.
        #[source]
        source: IllegalEvent,
    },
    /// The run cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RecoverError),
    /// The store did not accept the new run.
    #[error("the store did not accept the new run")]
    Store(#[source] loom_store::Error),
}

/// The events that a resubmitted run begins with, except its start.
///
/// `events` are those of the old run, whose definition was `old`. Blocks that are opened again are opened at `now`; kept events
/// keep their times.
pub(crate) fn kept(
    events: &[Event],
    old: &Workflow,
    new: &Workflow,
    from: &str,
    now: Timestamp,
) -> Result<Vec<Event>, ResubmitError> {
    let unknown = |workflow: &Workflow| ResubmitError::UnknownAction {
        workflow: (*workflow.name).into(),
        action: from.into(),
    };
    let first = old.find_action(from).ok_or_else(|| unknown(old))?;
    new.find_action(from).ok_or_else(|| unknown(new))?;
    let opened = Opened::around(events, old, first)?;
    let kept = opened.kept(events, old, first);
    let translation = Translation::between(old, new);
    translation.check(&opened, &kept, old, new)?;
    let mut taken = Taken {
        opened: &opened,
        kept: &kept,
        inside: HashMap::new(),
        effects: HashMap::new(),
        timers: HashMap::new(),
        limits: HashSet::new(),
        variables: Vec::new(),
        now,
        reached: now,
        out: Vec::new(),
    };
    for (at, event) in events.iter().enumerate() {
        taken.take(at, event);
    }
    taken.out.iter().map(|event| translation.event(event)).collect()
}

/// The blocks that are opened again: the workflow's own, and those of the actions around the one to begin with.
struct Opened {
    /// The enclosing actions, outermost first, with the index of the event that last started each.
    around: Vec<(Place, usize)>,
    /// Each opening, with its block and the index of the event that opened it.
    openings: BTreeMap<OpeningId, (BlockIdx, usize)>,
}

impl Opened {
    fn around(events: &[Event], workflow: &Workflow, first: ActionIdx) -> Result<Opened, ResubmitError> {
        let name = |action: ActionIdx| Box::<str>::from(&*workflow.action(action).name);
        let mut owners = Vec::new();
        let mut block = workflow.action(first).block;
        while let Some(owner) = workflow.block(block).owner {
            let action = workflow.action(owner);
            if action.kind.is_loop() || matches!(action.kind, ActionKind::Agent { .. }) {
                return Err(ResubmitError::Repeated { action: name(first), around: name(owner) });
            }
            owners.push((owner, block));
            block = action.block;
        }
        let mut opened = Opened { around: Vec::new(), openings: BTreeMap::new() };
        let root = events
            .iter()
            .position(|event| matches!(event, Event::BlockOpened { opening: OpeningId::ROOT, .. }));
        let mut since = root.unwrap_or_default();
        opened.openings.insert(OpeningId::ROOT, (Workflow::ROOT, since));
        let mut opening = OpeningId::ROOT;
        for (owner, inner) in owners.into_iter().rev() {
            let place = Place { opening, action: owner };
            let not_reached = || ResubmitError::NotReached { action: name(first), around: name(owner) };
            let later = events.iter().enumerate().skip(since);
            let started = later
                .filter(|(_, event)| matches!(event, Event::ActionStarted { place: at, .. } if *at == place));
            since = started.map(|(at, _)| at).next_back().ok_or_else(not_reached)?;
            opened.around.push((place, since));
            let mut next = None;
            for (at, event) in events.iter().enumerate().skip(since) {
                if let Event::BlockOpened { opening, block, parent: Some(parent), .. } = event
                    && *parent == place
                {
                    opened.openings.insert(*opening, (*block, at));
                    next = if *block == inner { Some(*opening) } else { next };
                }
            }
            opening = next.ok_or_else(not_reached)?;
        }
        Ok(opened)
    }

    /// The actions of the open blocks that are kept.
    fn kept(&self, events: &[Event], workflow: &Workflow, first: ActionIdx) -> HashSet<Place> {
        let mut ended = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            if let Event::ActionEnded { place, outcome, .. } = event
                && self.openings.get(&place.opening).is_some_and(|(_, since)| at > *since)
            {
                ended.insert(*place, outcome);
            }
        }
        let mut kept = HashSet::new();
        for (opening, (block, _)) in &self.openings {
            let actions = &workflow.block(*block).actions;
            let is_new = |action: ActionIdx| {
                let place = Place { opening: *opening, action };
                action == first
                    || self.around.iter().any(|(around, _)| *around == place)
                    || ended.get(&place).is_none_or(|outcome| was_cut_off(outcome))
                    || matches!(workflow.action(action).kind, ActionKind::Terminate { .. })
            };
            let mut anew: HashSet<ActionIdx> = HashSet::new();
            let mut spreading: Vec<ActionIdx> =
                actions.iter().copied().filter(|action| is_new(*action)).collect();
            while let Some(action) = spreading.pop() {
                if anew.insert(action) {
                    spreading.extend(&workflow.action(action).successors);
                }
            }
            let same = actions.iter().filter(|action| !anew.contains(action));
            kept.extend(same.map(|action| Place { opening: *opening, action: *action }));
        }
        kept
    }
}

/// Whether an action was interrupted: by a cancellation, an enclosing timeout, or the end of the run.
fn was_cut_off(outcome: &Outcome) -> bool {
    let by_end = matches!(outcome.code.as_ref(), "ActionCancelled" | "Terminated");
    match outcome.status {
        Status::Cancelled => by_end,
        // An action that was skipped because of its `runAfter` has an error.
        Status::Skipped => by_end || outcome.error.is_none(),
        _ => false,
    }
}

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Drop,
    Keep,
    /// The event belongs to an action that is opened again.
    Reopen,
}

/// Collects the events that are kept.
struct Taken<'a> {
    opened: &'a Opened,
    kept: &'a HashSet<Place>,
    /// The action of an open block that contains each other opening; none when it is not kept.
    inside: HashMap<OpeningId, Option<Place>>,
    effects: HashMap<EffectId, Verdict>,
    timers: HashMap<TimerId, Verdict>,
    /// Timers of timeouts that start again.
    limits: HashSet<TimerId>,
    /// Changes of variables that belong to the action that ends next.
    variables: Vec<Event>,
    now: Timestamp,
    /// The time of the latest event that has one.
    reached: Timestamp,
    out: Vec<Event>,
}

impl Taken<'_> {
    fn is_open(&self, opening: OpeningId, at: usize) -> bool {
        self.opened.openings.get(&opening).is_some_and(|(_, since)| at >= *since)
    }

    /// The action of an open block that a place belongs to.
    fn unit(&self, place: Place, at: usize) -> Option<Place> {
        if self.is_open(place.opening, at) {
            Some(place)
        } else {
            self.inside.get(&place.opening).copied().flatten()
        }
    }

    fn verdict(&self, place: Place, at: usize) -> Verdict {
        match self.unit(place, at) {
            Some(unit) if self.kept.contains(&unit) => Verdict::Keep,
            Some(unit) if unit == place && self.opened.around.iter().any(|(around, _)| *around == place) => {
                Verdict::Reopen
            }
            _ => Verdict::Drop,
        }
    }

    fn push_if(&mut self, verdict: Verdict, event: &Event) {
        if verdict != Verdict::Drop {
            self.out.push(event.clone());
        }
    }

    fn take(&mut self, at: usize, event: &Event) {
        match event {
            Event::RunStarted { at, .. } => self.reached = *at,
            Event::RunWaiting { .. }
            | Event::RunAdmitted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::RunEnded { .. } => {}
            Event::BlockOpened { opening, block, parent, index, at: time } => {
                self.reached = *time;
                if self.opened.openings.get(opening).is_some_and(|(_, opening)| *opening == at) {
                    let (opening, block, parent, index) = (*opening, *block, *parent, *index);
                    return self.out.push(Event::BlockOpened { opening, block, parent, index, at: self.now });
                }
                let unit = parent.and_then(|parent| self.unit(parent, at));
                let unit = unit.filter(|unit| self.kept.contains(unit));
                self.inside.insert(*opening, unit);
                if unit.is_some() {
                    self.out.push(event.clone());
                }
            }
            Event::ActionStarted { place, at: time, inputs } => {
                self.reached = *time;
                match self.verdict(*place, at) {
                    Verdict::Keep => self.out.push(event.clone()),
                    Verdict::Reopen if self.opened.around.contains(&(*place, at)) => {
                        self.out.push(Event::ActionStarted {
                            place: *place,
                            at: self.now,
                            inputs: inputs.clone(),
                        });
                    }
                    Verdict::Reopen | Verdict::Drop => {}
                }
            }
            Event::LoopStarted { place, .. } => self.push_if(self.verdict(*place, at), event),
            Event::AttemptStarted { place, effect, phase, at: time, .. } => {
                self.reached = *time;
                // A subscription is not ended twice.
                let verdict =
                    if *phase == Phase::Unsubscribe { Verdict::Drop } else { self.verdict(*place, at) };
                self.effects.insert(*effect, verdict);
                self.push_if(verdict, event);
            }
            Event::AttemptNoted { effect, .. } | Event::AttemptEnded { effect, .. } => {
                let verdict = self.effects.get(effect).copied().unwrap_or(Verdict::Drop);
                self.push_if(verdict, event);
            }
            Event::TimerSet { timer, due, place, purpose } => {
                let verdict = self.verdict(*place, at);
                self.timers.insert(*timer, verdict);
                if verdict == Verdict::Reopen && *purpose == Purpose::Limit {
                    self.limits.insert(*timer);
                    let due = time::after(self.now, time::between(self.reached, *due));
                    return self.out.push(Event::TimerSet {
                        timer: *timer,
                        due,
                        place: *place,
                        purpose: *purpose,
                    });
                }
                self.push_if(verdict, event);
            }
            Event::TimerEnded { timer } => {
                if !self.limits.contains(timer) {
                    let verdict = self.timers.get(timer).copied().unwrap_or(Verdict::Drop);
                    self.push_if(verdict, event);
                }
            }
            Event::VariableSet { .. } | Event::VariableAppended { .. } => self.variables.push(event.clone()),
            Event::Responded { place, .. } | Event::Tracked { place, .. } => {
                let verdict = self.verdict(*place, at);
                if verdict == Verdict::Keep {
                    self.out.push(event.clone());
                }
            }
            Event::ActionEnded { place, at: time, .. } => {
                self.reached = *time;
                let changed = std::mem::take(&mut self.variables);
                if self.verdict(*place, at) == Verdict::Keep {
                    self.out.extend(changed);
                    self.out.push(event.clone());
                }
            }
        }
    }
}

/// Translates the indices of one definition to those of another, by name.
struct Translation<'w> {
    old: &'w Workflow,
    /// None when both definitions are the same.
    new: Option<&'w Workflow>,
}

impl<'w> Translation<'w> {
    fn between(old: &'w Workflow, new: &'w Workflow) -> Translation<'w> {
        Translation { old, new: (old.hash != new.hash).then_some(new) }
    }

    /// Checks that everything that is kept is the same in both definitions.
    fn check(
        &self,
        opened: &Opened,
        kept: &HashSet<Place>,
        old: &Workflow,
        new: &Workflow,
    ) -> Result<(), ResubmitError> {
        if self.new.is_none() {
            return Ok(());
        }
        let differs =
            |action: ActionIdx| ResubmitError::Differs { action: (*old.action(action).name).into() };
        let sources = (Value::from_json_str(&old.source), Value::from_json_str(&new.source));
        let (Ok(old_source), Ok(new_source)) = sources else {
            return opened.around.first().map_or(Ok(()), |(place, _)| Err(differs(place.action)));
        };
        let mut wanted: Vec<ActionIdx> = kept.iter().map(|place| place.action).collect();
        wanted.sort_unstable();
        for action in wanted {
            let name = &old.action(action).name;
            let (before, after) = (find(&old_source, name), find(&new_source, name));
            if before.is_none() || before != after || !self.is_at_same_place(action) {
                return Err(differs(action));
            }
        }
        for (place, _) in &opened.around {
            let name = &old.action(place.action).name;
            let own = |source| find(source, name).map(without_blocks);
            let (before, after) = (own(&old_source), own(&new_source));
            if before.is_none() || before != after || !self.is_at_same_place(place.action) {
                return Err(differs(place.action));
            }
        }
        Ok(())
    }

    fn is_at_same_place(&self, action: ActionIdx) -> bool {
        let Some(new) = self.new else { return true };
        let Some(there) = new.find_action(&self.old.action(action).name) else { return false };
        self.block(self.old.action(action).block).is_ok_and(|block| new.action(there).block == block)
    }

    fn action(&self, action: ActionIdx) -> Result<ActionIdx, ResubmitError> {
        let Some(new) = self.new else { return Ok(action) };
        let name = &self.old.action(action).name;
        new.find_action(name).ok_or_else(|| ResubmitError::Differs { action: (**name).into() })
    }

    fn block(&self, block: BlockIdx) -> Result<BlockIdx, ResubmitError> {
        let Some(new) = self.new else { return Ok(block) };
        let here = self.old.block(block);
        let Some(owner) = here.owner else { return Ok(Workflow::ROOT) };
        let there = self.action(owner)?;
        let fits =
            |known: &loom_definition::model::Block| known.owner == Some(there) && known.role == here.role;
        let found = new.blocks.iter().position(fits);
        found
            .map(|found| BlockIdx(found as u32))
            .ok_or_else(|| ResubmitError::Differs { action: (*self.old.action(owner).name).into() })
    }

    fn variable(&self, variable: VariableIdx) -> Result<VariableIdx, ResubmitError> {
        let Some(new) = self.new else { return Ok(variable) };
        let name = &self.old.variables[variable.0 as usize].name;
        new.find_variable(name).ok_or_else(|| ResubmitError::Differs { action: (**name).into() })
    }

    fn place(&self, place: Place) -> Result<Place, ResubmitError> {
        Ok(Place { opening: place.opening, action: self.action(place.action)? })
    }

    fn event(&self, event: &Event) -> Result<Event, ResubmitError> {
        let mut event = event.clone();
        match &mut event {
            Event::BlockOpened { block, parent, .. } => {
                *block = self.block(*block)?;
                *parent = parent.map(|parent| self.place(parent)).transpose()?;
            }
            Event::ActionStarted { place, .. }
            | Event::LoopStarted { place, .. }
            | Event::AttemptStarted { place, .. }
            | Event::AttemptEnded { place, .. }
            | Event::TimerSet { place, .. }
            | Event::Responded { place, .. }
            | Event::ActionEnded { place, .. }
            | Event::Tracked { place, .. } => *place = self.place(*place)?,
            Event::VariableSet { variable, .. } | Event::VariableAppended { variable, .. } => {
                *variable = self.variable(*variable)?;
            }
            Event::RunStarted { .. }
            | Event::AttemptNoted { .. }
            | Event::TimerEnded { .. }
            | Event::RunWaiting { .. }
            | Event::RunAdmitted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::RunEnded { .. } => {}
        }
        Ok(event)
    }
}

/// Finds an action in the source of a definition. Names are unique within a definition.
fn find<'v>(source: &'v Value, name: &str) -> Option<&'v Value> {
    if let Some(items) = source.as_array() {
        return items.iter().find_map(|item| find(item, name));
    }
    let members = source.as_object()?;
    let own = members.iter().filter(|(key, _)| same_name(key, "actions")).find_map(|(_, actions)| {
        actions.as_object()?.iter().find(|(key, _)| same_name(key, name)).map(|(_, action)| action)
    });
    own.or_else(|| members.iter().find_map(|(_, member)| find(member, name)))
}

/// An action without the actions that it contains.
fn without_blocks(action: &Value) -> Object {
    const BLOCKS: [&str; 5] = ["actions", "else", "cases", "default", "branches"];
    let members = action.as_object().into_iter().flatten();
    members
        .filter(|(key, _)| !BLOCKS.iter().any(|block| same_name(key, block)))
        .map(|(key, value)| (std::sync::Arc::clone(key), value.clone()))
        .collect()
}
