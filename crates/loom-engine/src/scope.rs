//! The evaluation context of expressions: the state of the run, seen from the place of an action.

use std::{cell::Cell, sync::Arc};

use loom_definition::{
    ActionIdx,
    model::{ActionKind, LoopVariable},
};
use loom_expression::{Budget, Context, Lookup, LookupError, MemoryForm, Name, Timestamp, Value};

use crate::{
    environment::Environment,
    event::{OpeningId, Place},
    gather::{self, Iterations},
    patience::Counted,
    random::{self, Purpose, Source},
    record::{self, Unopened},
    state::{RunState, Slot, SlotPhase},
};

/// The view from one opening of a block.
pub(crate) struct Scope<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) environment: &'a Environment,
    pub(crate) opening: OpeningId,
    pub(crate) now: Timestamp,
    /// Bound by Query, Select and Table to the current item.
    pub(crate) item: Option<&'a Value>,
    /// The action that `action()` returns.
    pub(crate) current: Option<Place>,
    /// The record that `action()` returns, if it is not in the state yet.
    pub(crate) current_record: Option<Value>,
    /// What `listCallbackUrl()` returns.
    pub(crate) callback: Option<&'a str>,
    pub(crate) draws: Cell<u64>,
    /// The evaluation budget of everything evaluated in this scope.
    pub(crate) budget: Purse<'a>,
}

/// An evaluation budget, owned or borrowed from an outer scope.
pub(crate) enum Purse<'a> {
    Own(Counted<'a>),
    Lent(&'a Budget),
}

impl std::ops::Deref for Purse<'_> {
    type Target = Budget;

    fn deref(&self) -> &Budget {
        match self {
            Purse::Own(counted) => counted.budget(),
            Purse::Lent(budget) => budget,
        }
    }
}

impl<'a> Scope<'a> {
    /// Whether a tool of an agent declares a parameter.
    fn declares(&self, agent: ActionIdx, tool: u32, name: &str) -> bool {
        let ActionKind::Agent { tools, .. } = &self.state.workflow().action(agent).kind else { return false };
        let schema = tools.get(tool as usize).map(|tool| &tool.parameters);
        let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
        properties.is_some_and(|properties| properties.name_ignore_case(name).is_some())
    }

    pub(crate) fn new(
        state: &'a RunState,
        environment: &'a Environment,
        opening: OpeningId,
        now: Timestamp,
    ) -> Self {
        Scope {
            state,
            environment,
            opening,
            now,
            item: None,
            current: None,
            current_record: None,
            callback: None,
            draws: Cell::new(0),
            budget: Purse::Own(Counted::new(
                environment.budgets.evaluation_steps_max,
                environment.budgets.json_values_max,
                &state.patience,
            )),
        }
    }

    /// The same view with `item()` bound.
    pub(crate) fn with_item<'b>(&'b self, item: &'b Value) -> Scope<'b>
    where
        'a: 'b,
    {
        // Draws continue from a new offset, so that no two items draw the same number.
        let draws = self.draws.replace(self.draws.get() + (1 << 20));
        Scope {
            state: self.state,
            environment: self.environment,
            opening: self.opening,
            now: self.now,
            item: Some(item),
            current: self.current,
            current_record: None,
            callback: self.callback,
            draws: Cell::new(draws),
            budget: Purse::Lent(&self.budget),
        }
    }

    /// Counts steps that are not part of the evaluation budget. False if the decision takes too long, and its result does not
    /// matter.
    pub(crate) fn takes(&self, steps: u64) -> bool {
        self.state.patience.spend(steps);
        !self.state.patience.is_over()
    }

    /// A value of the run, unless it holds a secret that can no longer be read.
    #[inline]
    fn usable(&self, value: Value) -> Lookup {
        self.state.unavailable.check(value)
    }

    fn draw(&self) -> u128 {
        let draw = self.draws.get();
        self.draws.set(draw + 1);
        Source::of_state(self.state).draw(Purpose::Expression, [self.state.seq, draw])
    }

    #[inline]
    fn action_index(&self, name: Name<'_>) -> Result<ActionIdx, LookupError> {
        let known = name.slot.map(ActionIdx).or_else(|| self.state.workflow.find_action(name.text));
        known.ok_or_else(|| LookupError::Unknown {
            available: self.state.workflow.actions.iter().map(|action| Arc::clone(&action.name)).collect(),
        })
    }

    /// The usual case of [`Scope::find`], without its other results: an action of the same block that has ended and contains
    /// no others.
    #[inline]
    fn sibling(&self, name: Name<'_>) -> Option<&'a Slot> {
        let action = self.state.workflow.action(ActionIdx(name.slot?));
        let opening = self.state.opening(self.opening);
        if opening.block != action.block || record::is_block(action) {
            return None;
        }
        let slot = opening.slots.get(action.position as usize)?;
        (slot.phase == SlotPhase::Ended).then_some(slot)
    }

    /// Where an action's record is, or that it will never have one of its own.
    fn find(&self, name: Name<'_>) -> Result<Found, LookupError> {
        let action = self.action_index(name)?;
        match self.state.locate(self.opening, action) {
            Ok(Some(place)) => match self.state.slot(place).phase {
                SlotPhase::Ended => Ok(Found::Place(place)),
                SlotPhase::Running if self.current == Some(place) => Ok(Found::Place(place)),
                SlotPhase::Running if record::is_block(self.state.workflow.action(action)) => {
                    Ok(Found::Place(place))
                }
                SlotPhase::Running | SlotPhase::Waiting | SlotPhase::Ready => Err(LookupError::NotRun),
            },
            Ok(None) if self.was_passed_by(action) => Ok(Found::NeverOpened(action)),
            Ok(None) => Err(LookupError::NotRun),
            Err(foreach) => self.gathered(foreach, action),
        }
    }

    /// The collected results of an action inside a Foreach.
    fn gathered(&self, foreach: Place, action: ActionIdx) -> Result<Found, LookupError> {
        let slot = self.state.slot(foreach);
        if slot.phase != SlotPhase::Ended {
            return Err(LookupError::NotRun);
        }
        Iterations::of(self.state, foreach, action).map(Found::Gathered).ok_or_else(|| LookupError::Ambiguous {
            why: format!(
                "it ran once for each item of '{}', and its results are kept only if the definition contains its name \
                 literally; use result('{0}') to read all records",
                self.state.workflow.action(foreach.action).name
            ),
        })
    }

    /// Whether the block an action belongs to can no longer be opened.
    fn was_passed_by(&self, action: ActionIdx) -> bool {
        let workflow = &self.state.workflow;
        let Some(owner) = workflow.block(workflow.action(action).block).owner else { return false };
        match self.state.locate(self.opening, owner) {
            Ok(Some(place)) => match self.state.slot(place).phase {
                SlotPhase::Ended => true,
                SlotPhase::Running => {
                    matches!(workflow.action(owner).kind, ActionKind::If { .. } | ActionKind::Switch { .. })
                }
                SlotPhase::Waiting | SlotPhase::Ready => false,
            },
            Ok(None) => self.was_passed_by(owner),
            Err(_) => false,
        }
    }

    /// Loom's own loop variables, such as `loopIndex`, of the innermost loop in the Loom spelling.
    fn loop_variable(&self, name: &str) -> Option<Value> {
        let kind = LoopVariable::parse(name)?;
        let workflow = Arc::clone(&self.state.workflow);
        let condition_of = self.current.filter(|place| workflow.action(place.action).kind.is_loop());
        let (index, opened, place) = if let Some(place) = condition_of {
            // A loop's condition sees the next iteration; before the first there is no progress to read yet.
            let activity = self.state.activity(place);
            match activity.and_then(|activity| activity.looping.as_ref()) {
                Some(looping) => (looping.iterations, self.state.slot(place).started, place),
                None => (0, self.now, place),
            }
        } else {
            let (opening, place) = self.state.enclosing(self.opening, |action| action.kind.is_loop())?;
            (self.state.opening(opening).index, self.state.slot(place).started, place)
        };
        Some(match kind {
            LoopVariable::Index => Value::from(i64::from(index)),
            LoopVariable::Count => Value::from(i64::from(index) + 1),
            LoopVariable::StartTime => record::timestamp(opened),
            LoopVariable::Result => {
                let looping = self.state.activity(place).and_then(|activity| activity.looping.as_ref());
                looping.and_then(|looping| looping.results.last().cloned()).unwrap_or(Value::NULL)
            }
        })
    }
}

enum Found {
    Place(Place),
    NeverOpened(ActionIdx),
    /// In the iterations of a Foreach that has ended.
    Gathered(Iterations),
}

/// The evaluation budget of one trigger.
pub(crate) fn budget(environment: &Environment) -> Budget {
    Budget::new(environment.budgets.evaluation_steps_max, environment.budgets.json_values_max)
}

impl Context for Scope<'_> {
    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }

    fn parameter(&self, name: Name<'_>) -> Lookup {
        let workflow = &self.state.workflow;
        let found = match name.slot {
            Some(slot) => Some(slot as usize),
            None => workflow
                .parameters
                .iter()
                .position(|parameter| loom_definition::model::same_name(&parameter.name, name.text)),
        };
        let start = self.state.start.as_ref();
        let value = found.and_then(|index| start?.parameters.get(index).cloned()).ok_or_else(|| {
            LookupError::Unknown {
                available: workflow.parameters.iter().map(|parameter| Arc::clone(&parameter.name)).collect(),
            }
        })?;
        self.usable(value)
    }

    fn variable(&self, name: Name<'_>) -> Lookup {
        let workflow = &self.state.workflow;
        let found = name
            .slot
            .map(|slot| slot as usize)
            .or_else(|| Some(workflow.find_variable(name.text)?.0 as usize));
        match found {
            Some(index) => {
                let value = self.state.variables[index].clone();
                self.usable(value.ok_or_else(|| LookupError::NotAvailable {
                    why: format!(
                        "the variable '{}' has not been initialized yet",
                        workflow.variables[index].name
                    ),
                })?)
            }
            None => self.loop_variable(name.text).ok_or_else(|| LookupError::Unknown {
                available: workflow.variables.iter().map(|variable| Arc::clone(&variable.name)).collect(),
            }),
        }
    }

    fn action(&self, name: Name<'_>) -> Lookup {
        let record = match self.find(name)? {
            Found::Place(place) => record::record(self.state, place),
            Found::NeverOpened(action) => {
                record::never_opened(self.state, action, &Unopened::of(self.state, self.opening, action))
            }
            Found::Gathered(iterations) => iterations.into_record(&self.state.workflow),
        };
        self.usable(record)
    }

    fn action_outputs(&self, name: Name<'_>) -> Lookup {
        if let Some(slot) = self.sibling(name) {
            return self.usable(slot.outputs.clone().unwrap_or(Value::NULL));
        }
        match self.find(name)? {
            // The recorded result of a condition is not an output.
            Found::Place(place) if record::is_block(self.state.workflow.action(place.action)) => {
                Ok(Value::NULL)
            }
            Found::Place(place) => self.usable(self.state.slot(place).outputs.clone().unwrap_or(Value::NULL)),
            Found::NeverOpened(_) => Ok(Value::NULL),
            Found::Gathered(iterations) => self.usable(iterations.outputs()),
        }
    }

    fn action_body(&self, name: Name<'_>) -> Lookup {
        match self.find(name)? {
            Found::Gathered(iterations) => self.usable(iterations.bodies()),
            Found::Place(_) | Found::NeverOpened(_) => {
                Ok(self.action_outputs(name)?.get("body").cloned().unwrap_or_default())
            }
        }
    }

    fn trigger(&self) -> Lookup {
        let start = self.state.start.as_ref().ok_or(LookupError::NotRun)?;
        self.usable(start.trigger.clone())
    }

    fn trigger_outputs(&self) -> Lookup {
        let trigger = self.trigger()?;
        Ok(trigger.get("outputs").cloned().unwrap_or(Value::NULL))
    }

    fn current_action(&self) -> Lookup {
        match (&self.current_record, self.current) {
            (Some(record), _) => Ok(record.clone()),
            (None, Some(place)) => self.usable(record::record(self.state, place)),
            (None, None) => Err(LookupError::NotAvailable {
                why: "action() is available only in trackedProperties, in the unsubscribe of a webhook and in the \
                      condition of a loop"
                    .to_owned(),
            }),
        }
    }

    fn item(&self) -> Lookup {
        if let Some(item) = self.item {
            return Ok(item.clone());
        }
        let foreach =
            self.state.enclosing(self.opening, |action| matches!(action.kind, ActionKind::Foreach { .. }));
        match foreach.and_then(|(opening, owner)| self.state.item_of(opening, owner)) {
            Some(item) => self.usable(item.clone()),
            None => Err(LookupError::NotAvailable { why: "no Foreach encloses this action".to_owned() }),
        }
    }

    fn items(&self, name: Name<'_>) -> Lookup {
        let wanted = self.action_index(name)?;
        let found = self.state.enclosing_index(self.opening, |action| action == wanted);
        match found.and_then(|(opening, owner)| self.state.item_of(opening, owner)) {
            Some(item) => self.usable(item.clone()),
            None => Err(LookupError::NotAvailable {
                why: format!("'{}' is not a Foreach that encloses this action", name.text),
            }),
        }
    }

    fn iteration_index(&self, name: Name<'_>) -> Lookup {
        let wanted = self.action_index(name)?;
        if let Some(place) = self.current.filter(|place| place.action == wanted) {
            let looping = self.state.activity(place).and_then(|activity| activity.looping.as_ref());
            if let Some(looping) = looping {
                return Ok(Value::from(i64::from(looping.iterations.saturating_sub(1))));
            }
        }
        match self.state.enclosing(self.opening, |action| action.index == wanted && action.kind.is_loop()) {
            Some((opening, _)) => Ok(Value::from(i64::from(self.state.opening(opening).index))),
            None => Err(LookupError::NotAvailable {
                why: format!("'{}' is not a loop that encloses this action", name.text),
            }),
        }
    }

    fn result(&self, name: Name<'_>) -> Lookup {
        let wanted = self.action_index(name)?;
        let place = match self.find(name)? {
            Found::Place(place) => place,
            Found::NeverOpened(_) => {
                return Ok(children_never_opened(self.state, wanted, &Unopened::SKIPPED));
            }
            Found::Gathered(..) => {
                return Err(LookupError::Ambiguous {
                    why: "it contains actions, and ran once for each item of the enclosing loop".to_owned(),
                });
            }
        };
        let slot = self.state.slot(place);
        if slot.phase != SlotPhase::Ended {
            return Err(LookupError::NotRun);
        }
        let result = record_result(self.state, place).ok_or_else(|| LookupError::NotAvailable {
            why: format!("'{}' does not contain other actions", name.text),
        })?;
        self.usable(result)
    }

    fn workflow(&self) -> Lookup {
        self.state.start.as_ref().map(|start| start.workflow.clone()).ok_or(LookupError::NotRun)
    }

    fn callback_url(&self) -> Lookup {
        self.callback.map(Value::from).ok_or_else(|| LookupError::NotAvailable {
            why: if self.environment.callbacks.is_none() {
                "callbacks need a server; run the workflow with `loom serve`".to_owned()
            } else {
                "listCallbackUrl() is available only in webhook triggers and actions".to_owned()
            },
        })
    }

    fn app_setting(&self, name: &str) -> Lookup {
        self.environment.app_setting(name)
    }

    fn agent_parameter(&self, name: &str) -> Lookup {
        let tool =
            self.state.enclosing(self.opening, |action| matches!(action.kind, ActionKind::Agent { .. }));
        let used = tool.and_then(|(opening, place)| {
            let turns = self.state.activity(place)?.call.as_ref()?.turns();
            Some((place.action, turns.get(self.state.opening(opening).index)?))
        });
        let argument = used.and_then(|(agent, used)| {
            let exact = used.arguments.get(name);
            let given = exact.or_else(|| used.arguments.as_object()?.get_ignore_case(name)).cloned();
            // A parameter that the model left out is null.
            given.or_else(|| self.declares(agent, used.tool, name).then_some(Value::NULL))
        });
        argument.ok_or_else(|| LookupError::NotAvailable {
            why: format!("no tool call has an argument '{name}'"),
        })
    }

    fn secret(&self, name: &str) -> Lookup {
        self.state.reads.secret(name)
    }

    fn declassify(&self, _: &Value) -> Result<(), LookupError> {
        self.environment.may_declassify(&self.state.workflow().name)?;
        self.state.reads.declassified();
        Ok(())
    }

    fn memory(&self, address: &str, form: MemoryForm) -> Result<Option<Value>, LookupError> {
        self.state.reads.memory(address, form)
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn random_u64(&self) -> u64 {
        self.draw() as u64
    }

    fn guid(&self) -> u128 {
        random::uuid(self.draw())
    }
}

/// What `result()` returns for an action that has ended; none for an action that does not contain others.
fn record_result(state: &RunState, place: Place) -> Option<Value> {
    let workflow = &state.workflow;
    let action = workflow.action(place.action);
    let slot = state.slot(place);
    let unopened = Unopened::ended(slot.status, &slot.code);
    let children = |block: loom_definition::BlockIdx| {
        let activity = state.activity(place);
        let opened = activity.and_then(|activity| {
            activity.openings.iter().copied().rev().find(|opening| state.opening(*opening).block == block)
        });
        match opened {
            Some(opening) => record::opening_records(state, opening),
            None => workflow
                .block(block)
                .actions
                .iter()
                .map(|child| record::never_opened(state, *child, &unopened))
                .collect(),
        }
    };
    let records: Vec<Value> = match &action.kind {
        ActionKind::Scope { body } | ActionKind::Retry { body, .. } => children(*body),
        ActionKind::If { then, otherwise, .. } => {
            children(*then).into_iter().chain(children(*otherwise)).collect()
        }
        ActionKind::Switch { cases, default, .. } => {
            cases.iter().map(|case| case.block).chain(*default).flat_map(children).collect()
        }
        ActionKind::Parallel { branches } => branches.iter().copied().flat_map(children).collect(),
        ActionKind::Loop(looping) => {
            let iterations = state.activity(place).and_then(|activity| activity.looping.as_ref());
            let iterations = iterations.map_or(0, |looping| i64::from(looping.iterations));
            let counted = |record: Value| match record.into_object() {
                Some(mut members) if iterations > 0 => {
                    members.insert("repetitionCount", iterations);
                    Value::from(members)
                }
                members => members.map_or(Value::NULL, Value::from),
            };
            children(looping.body).into_iter().map(counted).collect()
        }
        ActionKind::Foreach { body, .. } => {
            let each = state.activity(place).and_then(|activity| activity.each.as_ref());
            let results = each.and_then(|each| each.results.as_ref()).filter(|_| action.result_wanted);
            let Some(results) = results else {
                return Some(children_never_opened(state, place.action, &unopened));
            };
            let names = &workflow.block(*body).actions;
            names
                .iter()
                .zip(results)
                .map(|(child, iterations)| gather::record(workflow, *child, iterations.clone()))
                .collect()
        }
        _ => return None,
    };
    Some(Value::from(records))
}

fn children_never_opened(state: &RunState, action: ActionIdx, owner: &Unopened<'_>) -> Value {
    let workflow = &state.workflow;
    let owned = workflow.blocks.iter().filter(|block| block.owner == Some(action));
    let records: Vec<Value> = owned
        .flat_map(|block| block.actions.iter().map(|child| record::never_opened(state, *child, owner)))
        .collect();
    Value::from(records)
}
