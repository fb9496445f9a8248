//! The encoding of a run's state, so that recovery need not begin at the run's first event.
//!
//! Derived data is omitted and recomputed: timers by due time, the work that is ready, a Foreach's items (they are its
//! inputs), and the number of slots of an opening (its block defines it).

use std::sync::Arc;

use loom_definition::{ActionIdx, BlockIdx, Workflow};
use loom_expression::Value;

use super::{
    events::{
        phase_tag, purpose_tag, read_error, read_phase, read_place, read_purpose, read_run_status,
        read_start, read_status, read_trace, read_use, write_error, write_place, write_run_status,
        write_start, write_trace, write_use,
    },
    format::Unreadable,
    primitive::{Reader, Writer},
};
use crate::{
    event::{EffectId, OpeningId, Place, RunStart, TimerId},
    state::{
        Activity, CallState, EachState, LoopState, Opening, OpeningPhase, PendingCall, RunState, Slot,
        SlotPhase, Timer, TurnState,
    },
};

type Read<T> = Result<T, Unreadable>;

pub(super) fn write(w: &mut Writer<'_>, state: &RunState) {
    w.uint(state.seq);
    w.option(state.start.as_deref(), |w, start| {
        write_start(w, start);
        w.option(start.trace.as_ref(), write_trace);
    });
    write_run_status(w, state.status);
    w.time(state.started);
    w.option(state.ended, Writer::time);
    w.list(&state.variables, |w, variable| w.option(variable.as_ref(), Writer::value));
    w.list(&state.openings, write_opening);
    w.list(&state.free, |w, opening| w.uint(u64::from(opening.0)));
    w.uint(state.effects.len() as u64);
    for (effect, call) in state.effects.iter() {
        w.uint(u64::from(effect.0));
        write_place(w, call.place);
        w.byte(phase_tag(call.phase));
        w.uint(u64::from(call.attempt));
        w.option(call.resume.as_ref(), Writer::value);
    }
    w.uint(state.timers.len() as u64);
    for (id, timer) in state.timers.iter() {
        w.uint(u64::from(id.0));
        w.time(timer.due);
        write_place(w, timer.place);
        w.byte(purpose_tag(timer.purpose));
    }
    w.uint(u64::from(state.next_effect));
    w.uint(u64::from(state.next_timer));
    w.option(state.response.as_ref(), Writer::value);
    w.option(state.error.as_deref(), write_error);
    w.option(state.outputs.as_ref(), Writer::value);
}

/// Decodes a state of `workflow`. Every index in it is checked, so that damage cannot make a later step panic.
pub(super) fn read(r: &mut Reader<'_>, workflow: &Arc<Workflow>) -> Read<RunState> {
    let mut state = RunState::new(Arc::clone(workflow));
    state.seq = r.uint()?;
    let start = r.option(|r| {
        let start = read_start(r)?;
        Ok(RunStart { trace: r.option(read_trace)?, ..start })
    })?;
    state.start = start.map(Arc::new);
    state.status = read_run_status(r)?;
    state.started = r.time()?;
    state.ended = r.option(Reader::time)?;
    state.variables = r.list(|r| r.option(Reader::value))?;
    if state.variables.len() != workflow.variables.len() {
        return r.unreadable("its variables do not match those of the workflow");
    }
    state.openings = r.list(|r| read_opening(r, workflow))?;
    state.free = r.list(|r| r.u32().map(OpeningId))?;
    for _ in 0..r.uint()? {
        let effect = EffectId(r.u32()?);
        let call = PendingCall {
            place: read_place(r)?,
            phase: read_phase(r)?,
            attempt: r.u32()?,
            resume: r.option(Reader::value)?,
        };
        state.effects.insert(effect, call);
    }
    for _ in 0..r.uint()? {
        let id = TimerId(r.u32()?);
        let timer = Timer { due: r.time()?, place: read_place(r)?, purpose: read_purpose(r)? };
        state.timers.insert(id, timer);
        state.due.insert((timer.due, id), ());
    }
    state.next_effect = r.u32()?;
    state.next_timer = r.u32()?;
    state.response = r.option(Reader::value)?;
    state.error = r.option(read_error)?.map(Arc::new);
    state.outputs = r.option(Reader::value)?;
    match inconsistency(&state) {
        Some(reason) => r.unreadable(reason),
        None => Ok(state),
    }
}

fn write_opening(w: &mut Writer<'_>, opening: &Opening) {
    w.byte(match opening.phase {
        OpeningPhase::Free => 0,
        OpeningPhase::Open => 1,
        OpeningPhase::Closed => 2,
    });
    if opening.phase == OpeningPhase::Free {
        return;
    }
    w.uint(u64::from(opening.block.0));
    w.option(opening.parent, write_place);
    w.uint(u64::from(opening.index));
    w.time(opening.opened);
    for slot in &opening.slots {
        write_slot(w, slot);
    }
}

fn read_opening(r: &mut Reader<'_>, workflow: &Workflow) -> Read<Opening> {
    let phase = match r.byte()? {
        0 => return Ok(Opening::default()),
        1 => OpeningPhase::Open,
        2 => OpeningPhase::Closed,
        _ => return r.unreadable("unknown phase of an opening"),
    };
    let block = BlockIdx(r.u32()?);
    let Some(definition) = workflow.blocks.get(block.0 as usize) else {
        return r.unreadable("reference to a block that does not exist");
    };
    let parent = r.option(read_place)?;
    let (index, opened) = (r.u32()?, r.time()?);
    let mut slots = Vec::with_capacity(definition.actions.len());
    for action in &definition.actions {
        slots.push(read_slot(r, workflow, *action)?);
    }
    let remaining = slots.iter().filter(|slot| slot.phase != SlotPhase::Ended).count() as u32;
    Ok(Opening { block, parent, index, remaining, phase, slots, opened })
}

fn write_slot(w: &mut Writer<'_>, slot: &Slot) {
    w.byte(match slot.phase {
        SlotPhase::Waiting => 0,
        SlotPhase::Ready => 1,
        SlotPhase::Running => 2,
        SlotPhase::Ended => 3,
    });
    match slot.phase {
        SlotPhase::Waiting => return w.uint(u64::from(slot.pending)),
        SlotPhase::Ready => return,
        SlotPhase::Running => w.time(slot.started),
        SlotPhase::Ended => {
            w.byte(slot.status as u8);
            w.byte(u8::from(slot.bad));
            w.time(slot.started);
            w.time(slot.ended);
            w.text(&slot.code);
            w.option(slot.outputs.as_ref(), Writer::value);
            w.option(slot.error.as_deref(), write_error);
        }
    }
    w.option(slot.inputs.as_ref(), Writer::value);
    w.option(slot.activity.as_deref(), write_activity);
}

fn read_slot(r: &mut Reader<'_>, workflow: &Workflow, action: ActionIdx) -> Read<Slot> {
    let mut slot = Slot::new(workflow.action(action));
    slot.pending = 0;
    slot.phase = match r.byte()? {
        0 => SlotPhase::Waiting,
        1 => SlotPhase::Ready,
        2 => SlotPhase::Running,
        3 => SlotPhase::Ended,
        _ => return r.unreadable("unknown phase of an action"),
    };
    match slot.phase {
        SlotPhase::Waiting => {
            slot.pending = r.u32()?;
            return Ok(slot);
        }
        SlotPhase::Ready => return Ok(slot),
        SlotPhase::Running => slot.started = r.time()?,
        SlotPhase::Ended => {
            slot.status = read_status(r)?;
            slot.bad = r.byte()? != 0;
            slot.started = r.time()?;
            slot.ended = r.time()?;
            slot.code = r.code()?;
            slot.outputs = r.option(Reader::value)?;
            slot.error = r.option(read_error)?.map(Arc::new);
        }
    }
    slot.inputs = r.option(Reader::value)?;
    slot.activity = r.option(|r| read_activity(r, slot.inputs.as_ref()))?.map(Box::new);
    Ok(slot)
}

fn write_activity(w: &mut Writer<'_>, activity: &Activity) {
    w.list(&activity.openings, |w, opening| w.uint(u64::from(opening.0)));
    w.uint(u64::from(activity.open));
    w.byte(u8::from(activity.failed));
    w.option(activity.each.as_ref(), |w, each| {
        w.uint(u64::from(each.next));
        w.uint(u64::from(each.active));
        w.option(each.results.as_ref(), |w, results| {
            w.list(results, |w, child| {
                w.list(child, Writer::value);
            });
        });
    });
    w.option(activity.looping.as_ref(), |w, looping| {
        w.uint(u64::from(looping.iterations));
        w.uint(u64::from(looping.count));
        w.time(looping.deadline);
        w.duration(looping.delay);
        w.list(&looping.results, Writer::value);
        w.list(&looping.attempts, Writer::value);
    });
    w.option(activity.call.as_ref(), |w, call| {
        w.uint(u64::from(call.attempt));
        w.uint(u64::from(call.first_effect.0));
        w.option(call.effect, |w, effect| w.uint(u64::from(effect.0)));
        w.option(call.resume.as_ref(), Writer::value);
        w.option(call.subscribed, |w, effect| w.uint(u64::from(effect.0)));
        w.option(call.admitted, |w, effect| w.uint(u64::from(effect.0)));
        w.byte(u8::from(call.to_execute));
        w.list(&call.history, Writer::value);
        w.time(call.attempt_started);
        let turns = call.turns();
        w.list(&turns.earlier, Writer::value);
        w.list(&turns.uses, write_use);
        w.uint(u64::from(turns.used));
    });
    w.option(activity.limit, |w, timer| w.uint(u64::from(timer.0)));
    w.option(activity.pause, |w, timer| w.uint(u64::from(timer.0)));
}

fn read_turns(r: &mut Reader<'_>) -> Read<Option<Box<TurnState>>> {
    let turns = TurnState { earlier: r.list(Reader::value)?, uses: r.list(read_use)?, used: r.u32()? };
    Ok((!turns.earlier.is_empty()).then(|| Box::new(turns)))
}

fn read_activity(r: &mut Reader<'_>, inputs: Option<&Value>) -> Read<Activity> {
    Ok(Activity {
        openings: r.list(|r| r.u32().map(OpeningId))?,
        open: r.u32()?,
        failed: r.byte()? != 0,
        each: r.option(|r| {
            Ok(EachState {
                items: inputs.and_then(|items| items.as_array().cloned()).unwrap_or_default(),
                next: r.u32()?,
                active: r.u32()?,
                results: r.option(|r| r.list(|r| r.list(Reader::value)))?,
            })
        })?,
        looping: r.option(|r| {
            Ok(Box::new(LoopState {
                iterations: r.u32()?,
                count: r.u32()?,
                deadline: r.time()?,
                delay: r.duration()?,
                results: r.list(Reader::value)?,
                attempts: r.list(Reader::value)?,
            }))
        })?,
        call: r.option(|r| {
            Ok(CallState {
                attempt: r.u32()?,
                first_effect: EffectId(r.u32()?),
                effect: r.option(|r| r.u32().map(EffectId))?,
                resume: r.option(Reader::value)?,
                subscribed: r.option(|r| r.u32().map(EffectId))?,
                admitted: r.option(|r| r.u32().map(EffectId))?,
                to_execute: r.byte()? != 0,
                history: r.list(Reader::value)?,
                attempt_started: r.time()?,
                turns: read_turns(r)?,
            })
        })?,
        limit: r.option(|r| r.u32().map(TimerId))?,
        pause: r.option(|r| r.u32().map(TimerId))?,
    })
}

/// Describes an inconsistency between the parts of a state, if there is one.
fn inconsistency(state: &RunState) -> Option<&'static str> {
    let opening = |opening: OpeningId| state.openings.get(opening.0 as usize);
    let is_place = |place: Place| {
        state.workflow.actions.get(place.action.0 as usize).is_some_and(|action| {
            opening(place.opening)
                .is_some_and(|opened| opened.phase != OpeningPhase::Free && opened.block == action.block)
        })
    };
    let is_action = |place: Place| (place.action.0 as usize) < state.workflow.actions.len();
    let parents = state.openings.iter().filter_map(|opening| opening.parent);
    let slots = || state.openings.iter().flat_map(|opening| &opening.slots);
    let mut inner =
        slots().filter_map(|slot| slot.activity.as_deref()).flat_map(|activity| &activity.openings);
    if !parents.chain(state.timers.iter().map(|(_, timer)| timer.place)).all(is_place) {
        return Some("reference to a place that does not exist");
    }
    // A request to unsubscribe may outlive its place.
    if !state.effects.iter().all(|(_, call)| is_action(call.place) && opening(call.place.opening).is_some()) {
        return Some("call of a place that does not exist");
    }
    if !inner.all(|id| opening(*id).is_some()) || !state.free.iter().all(|id| opening(*id).is_some()) {
        return Some("reference to an opening that does not exist");
    }
    None
}
