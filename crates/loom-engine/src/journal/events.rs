//! The encoding of events: one tag for each kind, followed by its fields in order. A new field requires a new kind.

use std::sync::Arc;

use loom_definition::{ActionIdx, BlockIdx, RunStatus, Status, VariableIdx};

use super::{
    format::{Unreadable, status_from_number, status_number},
    primitive::{Reader, Writer},
};
use crate::{
    budgets::Budgets,
    event::{
        EffectId, ErrorInfo, Event, Next, Note, OpeningId, Outcome, Phase, Place, Purpose, RunId, RunStart,
        TimerId, ToolUse,
    },
    trace_parent::TraceParent,
};

type Read<T> = Result<T, Unreadable>;

mod tag {
    pub(super) const RUN_STARTED: u8 = 1;
    pub(super) const BLOCK_OPENED: u8 = 2;
    pub(super) const ACTION_STARTED: u8 = 3;
    pub(super) const LOOP_STARTED: u8 = 4;
    pub(super) const ATTEMPT_STARTED: u8 = 5;
    pub(super) const ATTEMPT_NOTED: u8 = 6;
    pub(super) const ATTEMPT_ENDED: u8 = 7;
    pub(super) const TIMER_SET: u8 = 8;
    pub(super) const TIMER_ENDED: u8 = 9;
    pub(super) const VARIABLE_SET: u8 = 10;
    pub(super) const VARIABLE_APPENDED: u8 = 11;
    pub(super) const RESPONDED: u8 = 12;
    pub(super) const ACTION_ENDED: u8 = 13;
    pub(super) const TRACKED: u8 = 14;
    pub(super) const SUSPENDED: u8 = 15;
    pub(super) const RESUMED: u8 = 16;
    pub(super) const RUN_ENDED: u8 = 17;
    pub(super) const TRACED_RUN_STARTED: u8 = 18;
    pub(super) const RUN_WAITING: u8 = 19;
    pub(super) const RUN_ADMITTED: u8 = 20;
}

pub(super) fn write(w: &mut Writer<'_>, event: &Event) {
    match event {
        Event::RunStarted { start, at } => {
            match &start.trace {
                None => w.byte(tag::RUN_STARTED),
                Some(trace) => {
                    w.byte(tag::TRACED_RUN_STARTED);
                    write_trace(w, trace);
                }
            }
            write_start(w, start);
            w.time(*at);
        }
        Event::BlockOpened { opening, block, parent, index, at } => {
            w.byte(tag::BLOCK_OPENED);
            w.uint(u64::from(opening.0));
            w.uint(u64::from(block.0));
            w.option(*parent, write_place);
            w.uint(u64::from(*index));
            w.time(*at);
        }
        Event::ActionStarted { place, at, inputs } => {
            w.byte(tag::ACTION_STARTED);
            write_place(w, *place);
            w.time(*at);
            w.option(inputs.as_ref(), Writer::value);
        }
        Event::LoopStarted { place, count, deadline, delay } => {
            w.byte(tag::LOOP_STARTED);
            write_place(w, *place);
            w.uint(u64::from(*count));
            w.time(*deadline);
            w.duration(*delay);
        }
        Event::AttemptStarted { place, attempt, effect, phase, resume, at } => {
            w.byte(tag::ATTEMPT_STARTED);
            write_place(w, *place);
            w.uint(u64::from(*attempt));
            w.uint(u64::from(effect.0));
            w.byte(phase_tag(*phase));
            w.option(resume.as_ref(), Writer::value);
            w.time(*at);
        }
        Event::AttemptNoted { effect, note, at } => {
            w.byte(tag::ATTEMPT_NOTED);
            w.uint(u64::from(effect.0));
            write_note(w, note);
            w.time(*at);
        }
        Event::AttemptEnded { place, effect, outcome, next, at } => {
            w.byte(tag::ATTEMPT_ENDED);
            write_place(w, *place);
            w.uint(u64::from(effect.0));
            write_outcome(w, outcome);
            write_next(w, next);
            w.time(*at);
        }
        Event::TimerSet { timer, due, place, purpose } => {
            w.byte(tag::TIMER_SET);
            w.uint(u64::from(timer.0));
            w.time(*due);
            write_place(w, *place);
            w.byte(purpose_tag(*purpose));
        }
        Event::TimerEnded { timer } => {
            w.byte(tag::TIMER_ENDED);
            w.uint(u64::from(timer.0));
        }
        Event::VariableSet { variable, value } => {
            w.byte(tag::VARIABLE_SET);
            w.uint(u64::from(variable.0));
            w.value(value);
        }
        Event::VariableAppended { variable, item } => {
            w.byte(tag::VARIABLE_APPENDED);
            w.uint(u64::from(variable.0));
            w.value(item);
        }
        Event::Responded { place, response } => {
            w.byte(tag::RESPONDED);
            write_place(w, *place);
            w.value(response);
        }
        Event::ActionEnded { place, started, at, inputs, outcome } => {
            w.byte(tag::ACTION_ENDED);
            write_place(w, *place);
            w.time(*started);
            w.time(*at);
            w.option(inputs.as_ref(), Writer::value);
            write_outcome(w, outcome);
        }
        Event::Tracked { place, properties } => {
            w.byte(tag::TRACKED);
            write_place(w, *place);
            w.value(properties);
        }
        Event::RunWaiting { at } => {
            w.byte(tag::RUN_WAITING);
            w.time(*at);
        }
        Event::RunAdmitted { at } => {
            w.byte(tag::RUN_ADMITTED);
            w.time(*at);
        }
        Event::Suspended { at } => {
            w.byte(tag::SUSPENDED);
            w.time(*at);
        }
        Event::Resumed { at } => {
            w.byte(tag::RESUMED);
            w.time(*at);
        }
        Event::RunEnded { status, error, outputs, at } => {
            w.byte(tag::RUN_ENDED);
            write_run_status(w, *status);
            w.option(error.as_deref(), write_error);
            w.option(outputs.as_ref(), Writer::value);
            w.time(*at);
        }
    }
}

pub(super) fn read(r: &mut Reader<'_>) -> Read<Event> {
    Ok(match r.byte()? {
        tag::RUN_STARTED => Event::RunStarted { start: Arc::new(read_start(r)?), at: r.time()? },
        tag::TRACED_RUN_STARTED => {
            let trace = Some(read_trace(r)?);
            let start = RunStart { trace, ..read_start(r)? };
            Event::RunStarted { start: Arc::new(start), at: r.time()? }
        }
        tag::BLOCK_OPENED => Event::BlockOpened {
            opening: OpeningId(r.u32()?),
            block: BlockIdx(r.u32()?),
            parent: r.option(read_place)?,
            index: r.u32()?,
            at: r.time()?,
        },
        tag::ACTION_STARTED => {
            Event::ActionStarted { place: read_place(r)?, at: r.time()?, inputs: r.option(Reader::value)? }
        }
        tag::LOOP_STARTED => Event::LoopStarted {
            place: read_place(r)?,
            count: r.u32()?,
            deadline: r.time()?,
            delay: r.duration()?,
        },
        tag::ATTEMPT_STARTED => Event::AttemptStarted {
            place: read_place(r)?,
            attempt: r.u32()?,
            effect: EffectId(r.u32()?),
            phase: read_phase(r)?,
            resume: r.option(Reader::value)?,
            at: r.time()?,
        },
        tag::ATTEMPT_NOTED => {
            Event::AttemptNoted { effect: EffectId(r.u32()?), note: read_note(r)?, at: r.time()? }
        }
        tag::ATTEMPT_ENDED => Event::AttemptEnded {
            place: read_place(r)?,
            effect: EffectId(r.u32()?),
            outcome: read_outcome(r)?,
            next: read_next(r)?,
            at: r.time()?,
        },
        tag::TIMER_SET => Event::TimerSet {
            timer: TimerId(r.u32()?),
            due: r.time()?,
            place: read_place(r)?,
            purpose: read_purpose(r)?,
        },
        tag::TIMER_ENDED => Event::TimerEnded { timer: TimerId(r.u32()?) },
        tag::VARIABLE_SET => Event::VariableSet { variable: VariableIdx(r.u32()?), value: r.value()? },
        tag::VARIABLE_APPENDED => {
            Event::VariableAppended { variable: VariableIdx(r.u32()?), item: r.value()? }
        }
        tag::RESPONDED => Event::Responded { place: read_place(r)?, response: r.value()? },
        tag::ACTION_ENDED => Event::ActionEnded {
            place: read_place(r)?,
            started: r.time()?,
            at: r.time()?,
            inputs: r.option(Reader::value)?,
            outcome: read_outcome(r)?,
        },
        tag::TRACKED => Event::Tracked { place: read_place(r)?, properties: r.value()? },
        tag::RUN_WAITING => Event::RunWaiting { at: r.time()? },
        tag::RUN_ADMITTED => Event::RunAdmitted { at: r.time()? },
        tag::SUSPENDED => Event::Suspended { at: r.time()? },
        tag::RESUMED => Event::Resumed { at: r.time()? },
        tag::RUN_ENDED => Event::RunEnded {
            status: read_run_status(r)?,
            error: r.option(read_error)?.map(Arc::new),
            outputs: r.option(Reader::value)?,
            at: r.time()?,
        },
        _ => return r.unreadable("unknown event tag"),
    })
}

/// Writes everything but the trace, which not every kind of start has.
pub(super) fn write_start(w: &mut Writer<'_>, start: &RunStart) {
    w.uint(start.run.as_u64());
    w.uint(start.seed);
    w.uint(start.parameters.len() as u64);
    for value in &start.parameters {
        w.value(value);
    }
    w.value(&start.trigger);
    w.value(&start.workflow);
    w.text(&start.tracking_id);
    // Older programs read only the lowest bit, which is always set if the depth is not zero: parents wait for a Response.
    w.byte(u8::from(start.wants_response) | start.depth.min(Budgets::CHILD_DEPTH_LIMIT) << 1);
}

pub(super) fn read_start(r: &mut Reader<'_>) -> Read<RunStart> {
    let Some(run) = RunId::from_u64(r.uint()?) else { return r.unreadable("run id out of range") };
    let seed = r.uint()?;
    let count = r.uint()?;
    let mut parameters = Vec::new();
    for _ in 0..count {
        parameters.push(r.value()?);
    }
    let (trigger, workflow, tracking_id) = (r.value()?, r.value()?, r.arc_text()?);
    let marks = r.byte()?;
    Ok(RunStart {
        run,
        seed,
        parameters,
        trigger,
        workflow,
        tracking_id,
        wants_response: marks & 1 != 0,
        trace: None,
        depth: marks >> 1,
    })
}

pub(super) fn write_trace(w: &mut Writer<'_>, trace: &TraceParent) {
    w.uint((trace.trace >> 64) as u64);
    w.uint(trace.trace as u64);
    w.uint(trace.span);
    w.byte(u8::from(trace.sampled));
    w.option(trace.state.as_deref(), Writer::text);
}

pub(super) fn read_trace(r: &mut Reader<'_>) -> Read<TraceParent> {
    Ok(TraceParent {
        trace: u128::from(r.uint()?) << 64 | u128::from(r.uint()?),
        span: r.uint()?,
        sampled: r.byte()? != 0,
        state: r.option(Reader::arc_text)?,
    })
}

pub(super) fn write_place(w: &mut Writer<'_>, place: Place) {
    w.uint(u64::from(place.opening.0));
    w.uint(u64::from(place.action.0));
}

pub(super) fn read_place(r: &mut Reader<'_>) -> Read<Place> {
    Ok(Place { opening: OpeningId(r.u32()?), action: ActionIdx(r.u32()?) })
}

pub(super) fn write_error(w: &mut Writer<'_>, error: &ErrorInfo) {
    w.text(&error.code);
    w.text(&error.message);
    w.option(error.details.as_ref(), Writer::value);
}

pub(super) fn read_error(r: &mut Reader<'_>) -> Read<ErrorInfo> {
    Ok(ErrorInfo { code: r.code()?, message: r.text()?.to_owned(), details: r.option(Reader::value)? })
}

fn write_outcome(w: &mut Writer<'_>, outcome: &Outcome) {
    w.byte(outcome.status as u8);
    w.text(&outcome.code);
    w.option(outcome.outputs.as_ref(), Writer::value);
    w.option(outcome.error.as_deref(), write_error);
}

fn read_outcome(r: &mut Reader<'_>) -> Read<Outcome> {
    Ok(Outcome {
        status: read_status(r)?,
        code: r.code()?,
        outputs: r.option(Reader::value)?,
        error: r.option(read_error)?.map(Arc::new),
    })
}

pub(super) fn read_status(r: &mut Reader<'_>) -> Read<Status> {
    let byte = r.byte()?;
    match Status::ALL.into_iter().find(|status| *status as u8 == byte) {
        Some(status) => Ok(status),
        None => r.unreadable("unknown status"),
    }
}

fn write_note(w: &mut Writer<'_>, note: &Note) {
    match note {
        Note::Waited { service, by, wait } => {
            w.byte(0);
            w.text(service);
            w.text(by);
            w.duration(*wait);
        }
        Note::Breaker { service, from, to, why } => {
            w.byte(1);
            w.text(service);
            w.text(from);
            w.text(to);
            w.text(why);
        }
        Note::Hedged { service, copies } => {
            w.byte(2);
            w.text(service);
            w.uint(u64::from(*copies));
        }
        Note::Observed { service, part } => {
            w.byte(3);
            w.text(service);
            w.text(part);
        }
        Note::Injected { service, kind, what } => {
            w.byte(4);
            w.text(service);
            w.text(kind);
            w.text(what);
        }
        Note::Interrupted { text } => {
            w.byte(5);
            w.text(text);
        }
    }
}

fn read_note(r: &mut Reader<'_>) -> Read<Note> {
    Ok(match r.byte()? {
        0 => Note::Waited { service: r.arc_text()?, by: r.code()?, wait: r.duration()? },
        1 => Note::Breaker {
            service: r.arc_text()?,
            from: r.code()?,
            to: r.code()?,
            why: r.text()?.to_owned(),
        },
        2 => Note::Hedged { service: r.arc_text()?, copies: r.u32()? },
        3 => Note::Observed { service: r.arc_text()?, part: r.code()? },
        4 => Note::Injected { service: r.arc_text()?, kind: r.code()?, what: r.text()?.to_owned() },
        5 => Note::Interrupted { text: r.text()?.to_owned() },
        _ => return r.unreadable("unknown kind of note"),
    })
}

fn write_next(w: &mut Writer<'_>, next: &Next) {
    match next {
        Next::Retry { due } => {
            w.byte(0);
            w.time(*due);
        }
        Next::Poll { due, resume } => {
            w.byte(1);
            w.time(*due);
            w.value(resume);
        }
        Next::Callback => w.byte(2),
        Next::Execute => w.byte(3),
        Next::End => w.byte(4),
        Next::Turn { uses } => {
            w.byte(5);
            w.list(uses, write_use);
        }
        Next::Proceed => w.byte(6),
    }
}

pub(super) fn write_use(w: &mut Writer<'_>, used: &ToolUse) {
    w.text(&used.id);
    w.uint(u64::from(used.tool));
    w.value(&used.arguments);
}

pub(super) fn read_use(r: &mut Reader<'_>) -> Read<ToolUse> {
    Ok(ToolUse { id: r.arc_text()?, tool: r.u32()?, arguments: r.value()? })
}

fn read_next(r: &mut Reader<'_>) -> Read<Next> {
    Ok(match r.byte()? {
        0 => Next::Retry { due: r.time()? },
        1 => Next::Poll { due: r.time()?, resume: r.value()? },
        2 => Next::Callback,
        3 => Next::Execute,
        4 => Next::End,
        5 => Next::Turn { uses: r.list(read_use)? },
        6 => Next::Proceed,
        _ => return r.unreadable("unknown continuation of an attempt"),
    })
}

pub(super) const fn phase_tag(phase: Phase) -> u8 {
    match phase {
        Phase::Call => 0,
        Phase::Admit => 1,
        Phase::Subscribe => 2,
        Phase::Unsubscribe => 3,
        Phase::Approve => 4,
    }
}

pub(super) fn read_phase(r: &mut Reader<'_>) -> Read<Phase> {
    Ok(match r.byte()? {
        0 => Phase::Call,
        1 => Phase::Admit,
        2 => Phase::Subscribe,
        3 => Phase::Unsubscribe,
        4 => Phase::Approve,
        _ => return r.unreadable("unknown phase of a call"),
    })
}

pub(super) const fn purpose_tag(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Retry => 0,
        Purpose::Poll => 1,
        Purpose::Wait => 2,
        Purpose::Iteration => 3,
        Purpose::Limit => 4,
    }
}

pub(super) fn read_purpose(r: &mut Reader<'_>) -> Read<Purpose> {
    Ok(match r.byte()? {
        0 => Purpose::Retry,
        1 => Purpose::Poll,
        2 => Purpose::Wait,
        3 => Purpose::Iteration,
        4 => Purpose::Limit,
        _ => return r.unreadable("unknown purpose of a timer"),
    })
}

pub(super) fn write_run_status(w: &mut Writer<'_>, status: RunStatus) {
    w.uint(u64::from(status_number(status)));
}

pub(super) fn read_run_status(r: &mut Reader<'_>) -> Read<RunStatus> {
    let number = r.u32()?;
    match u16::try_from(number).ok().and_then(status_from_number) {
        Some(status) => Ok(status),
        None => r.unreadable("unknown run status"),
    }
}
