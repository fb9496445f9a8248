//! Conversations as a pure state machine: an agent with its tools, and chats of agents, people and workflows.
//!
//! ```text
//! Command ──> decide(&Spec, &State, &Command) ──> [Event]      made durable by the caller
//!                             ▲                      │
//!                             │                      ▼
//!                          outcome          apply(&mut State, &Event)
//!                             │                      │
//!                             └──── the caller <── effects(&Spec, &State)
//! ```
//!
//! Nothing here waits, reads a clock or makes a call. Effects follow from the state alone: after a crash, the caller folds the
//! events it has and does what is still due. A call of a model that has ended is never due again.
//!
//! ```
//! use loom_models::{Answer, Message, conversation::*};
//!
//! let agent = Agent::new("small", "You are brief.");
//! let spec = Spec::new(vec![Participant::agent("Ann", agent)], Mode::Handoff);
//! let mut state = State::default();
//! let mut command = Command::Start { messages: vec![Message::user("Hello")], at_ms: 0 };
//! loop {
//!     for event in decide(&spec, &state, &command).unwrap() {
//!         apply(&mut state, &event);
//!     }
//!     let Some(effect) = effects(&spec, &state).into_iter().next() else { break };
//!     let Effect::CallModel { call, request, .. } = effect else { panic!("she has no tools") };
//!     assert_eq!(request.messages.last(), Some(&Message::user("Hello")));
//!     command = Command::ModelAnswered { call, answer: Answer::text("Hi"), problem: None, at_ms: 1 };
//! }
//! assert_eq!(state.end(), Some(&End::Answered));
//! assert_eq!(state.last_message().unwrap().message.text(), "Hi");
//! ```
//!
//! The words follow the field: a *round* is one turn of a speaker (of all, in a broadcast), a *turn* may take several calls of
//! the speaker's model, and a *handoff* passes the conversation on. Group chats end as [`Termination`] says, at a [`Limit`], or
//! when a selection says so.

mod admit;
mod decide;
mod event;
mod select;
mod spec;
mod state;
mod terminate;
mod view;

pub use decide::{Refused, decide};
pub use event::{
    Command, Coordination, Effect, End, Evaluation, Event, OpenTool, Purpose, SelectedBy, ToolStatus, Warning,
};
pub use spec::{
    Agent, AgentTool, COORDINATOR, Coordinator, Human, Limit, LimitKind, Mode, Participant, ParticipantKind,
    Reduction, Spec, SpecError, TERMINATE, Termination, TextRule,
};
pub use state::{Entry, Spent, State, apply};

use state::TurnStatus;

/// What the host must do for a conversation now, including what it already does. Each effect has an identity (see
/// [`Effect`]), so the host starts what it has not started.
pub fn effects(spec: &Spec, state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (call, known) in &state.calls {
        if let Some(mut request) = view::request(spec, state, &known.purpose) {
            request.sampling.max_tokens = known.max_tokens.or(request.sampling.max_tokens);
            let (call, purpose) = (*call, known.purpose.clone());
            effects.push(Effect::CallModel { call, purpose, request: Box::new(request) });
        }
    }
    let mut wake = spec.limit.timeout_ms.map(|timeout| state.started_ms.saturating_add(timeout));
    for turn in state.turns() {
        let speaker = turn.speaker.clone();
        match &turn.status {
            TurnStatus::Tools { call, tools } => {
                for tool in tools {
                    let (call, id, speaker, name) =
                        (*call, tool.id.clone(), speaker.clone(), tool.name.clone());
                    effects.push(match tool.status.clone() {
                        ToolStatus::AwaitingApproval(arguments) => {
                            Effect::Approve { call, id, speaker, name, arguments }
                        }
                        ToolStatus::Running(arguments) => {
                            Effect::CallTool { call, id, speaker, name, arguments }
                        }
                        ToolStatus::Returned(_) => continue,
                    });
                }
            }
            TurnStatus::Asked { .. } => {
                effects.push(Effect::Ask { speaker, round: state.rounds });
                wake = wake.into_iter().chain(admit::reply_deadline(spec, turn)).min();
            }
            TurnStatus::Ready | TurnStatus::Calling { .. } | TurnStatus::Done => {}
        }
    }
    if let Some(evaluation) = state.evaluation.clone() {
        effects.push(Effect::Evaluate { number: state.evaluations, evaluation });
    }
    if let (Some(at_ms), false) = (wake, effects.is_empty()) {
        effects.push(Effect::Wake { at_ms });
    }
    effects
}
