//! Laws that hold for every conversation, whatever its participants say and whatever fails.

use loom_models::{
    Answer, ErrorKind, Json, Message, ModelError, PriceTable, Role, StopReason, Tool, ToolCall, ToolResult,
    Usage,
    conversation::{
        Agent, AgentTool, Command, Coordinator, Effect, End, Event, Human, LimitKind, Mode, Participant,
        ParticipantKind, Reduction, Spec, State, Termination, apply, decide,
    },
};
use proptest::prelude::*;

use super::Host;

const NAMES: [&str; 4] = ["Ann", "Bob", "Cid", "Dora"];

fn tools(to: &str) -> Vec<AgentTool> {
    let tool = |name: &str| Tool::new(name, "", Json::Object(Vec::new()));
    let mut guarded = AgentTool::new(tool("pay"));
    guarded.approval = true;
    vec![AgentTool::new(tool("look")), guarded, AgentTool::handoff(tool("pass"), to)]
}

fn participants() -> impl Strategy<Value = Vec<Participant>> {
    let kind = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2)];
    prop::collection::vec((kind, 0..6_usize, any::<bool>()), 1..4).prop_map(|kinds| {
        let participants = kinds.into_iter().enumerate().map(|(index, (kind, to, tooled))| {
            let kind = match kind {
                1 => ParticipantKind::Workflow,
                2 => ParticipantKind::Human(Human::default()),
                _ => {
                    let mut agent = Agent::new("m", "Speak.");
                    if tooled {
                        agent.tools = tools(NAMES.get(to).unwrap_or(&"Outside"));
                    }
                    ParticipantKind::Agent(Box::new(agent))
                }
            };
            Participant::new(NAMES[index], kind)
        });
        participants.collect()
    })
}

fn specs() -> impl Strategy<Value = Spec> {
    let mode = prop::sample::select(vec![
        Mode::Handoff,
        Mode::RoundRobin,
        Mode::Selector,
        Mode::Expression,
        Mode::Broadcast,
        Mode::Manager,
    ]);
    let termination = prop::sample::select(vec![
        Vec::new(),
        vec![Termination::LegacyKeywords, Termination::Coordinator],
        vec![Termination::Expression("e".to_owned()), Termination::ToolCalled("look".to_owned())],
        vec![Termination::All(vec![Termination::Rounds(2), Termination::Coordinator])],
    ]);
    let reduction = prop::sample::select(vec![
        Reduction::None,
        Reduction::MessageCount { limit: 3 },
        Reduction::Summarization { target: 2, threshold: 4 },
    ]);
    let limit = (
        1..6_u32,
        1..4_u32,
        prop::option::of(50..3000_u64),
        prop::option::of(50..3000_u64),
        prop::option::of(1..12_u32),
    );
    (participants(), mode, termination, reduction, limit, any::<bool>()).prop_map(
        |(participants, mode, termination, reduction, (rounds, turns, tokens, cost, calls), narrow)| {
            let mut spec = Spec::new(participants, mode);
            spec.coordinator = Some(Coordinator::new("m", "done"));
            spec.termination = termination;
            spec.reduction = reduction;
            spec.narrow_candidates = narrow;
            spec.limit.rounds = Some(rounds);
            spec.limit.turns = Some(turns);
            (spec.limit.tokens, spec.limit.cost_micros, spec.limit.calls) = (tokens, cost, calls);
            spec.prices = serde_json::from_str::<PriceTable>(r#"{"models":{"m":{"input":1,"output":3}}}"#)
                .expect("prices");
            spec
        },
    )
}

/// What a model, a tool, a person or the host says, by a number.
fn outcome(effect: &Effect, dice: u32, at_ms: u64) -> Option<Command> {
    let usage = |most: Option<u32>| {
        // A provider keeps to the most tokens it was given; its count of the request may differ from ours.
        Usage::new(u64::from(dice % 40), u64::from((dice % 70).min(most.unwrap_or(u32::MAX))))
    };
    Some(match effect {
        Effect::CallModel { call, request, .. } => {
            let call = *call;
            if dice.is_multiple_of(17) {
                return Some(Command::ModelFailed {
                    call,
                    error: ModelError::new(ErrorKind::Overloaded, "later"),
                    at_ms,
                });
            }
            let tool = |id: &str, name: &str, arguments: &str| ToolCall::new(id, name, arguments);
            let mut answer = match dice % 9 {
                0 | 1 if !request.tools.is_empty() => {
                    Answer::calls([tool("call_0", "look", "{}"), tool("call_0", "pay", "{}")])
                }
                2 if !request.tools.is_empty() => {
                    Answer::calls([tool("", "pass", "{}"), tool("x", "none", "{"), tool("x", "look", "")])
                }
                3 => Answer::text(r#"{"next":"Ann","progress":false,"terminate":false}"#),
                4 => Answer::text(r#"{"next":"Bob","instruction":"go on","terminate":true}"#),
                5 => Answer::text("TERMINATE"),
                6 => Answer::text(""),
                7 => Answer::text("It is done"),
                _ => Answer::text("Hello"),
            };
            if dice.is_multiple_of(13) {
                answer.stop = StopReason::Length;
            }
            if !dice.is_multiple_of(5) {
                answer = answer.with_usage(usage(request.sampling.max_tokens));
            }
            Command::ModelAnswered { call, answer, problem: None, at_ms }
        }
        Effect::CallTool { call, id, .. } => {
            let result = ToolResult::new(id.as_str(), "", format!("result of {call}/{id}"));
            Command::ToolReturned { call: *call, result, at_ms }
        }
        Effect::Approve { call, id, .. } => Command::ToolDecided {
            call: *call,
            id: id.clone(),
            approved: dice.is_multiple_of(2),
            reason: None,
            at_ms,
        },
        Effect::Ask { speaker, round } => Command::Replied {
            speaker: speaker.clone(),
            round: *round,
            message: Message::user("Well"),
            at_ms,
        },
        Effect::Evaluate { number, .. } => {
            let value = match dice % 5 {
                0 => Json::Null,
                1 => Json::from(dice % 10 == 1),
                2 => vec![Json::from("Ann"), Json::from("bob")].into(),
                3 => "Nobody".into(),
                _ => "Ann".into(),
            };
            Command::Evaluated { number: *number, value, at_ms }
        }
        _ => return None,
    })
}

fn check_history(state: &State, taken: &[(u32, String)]) {
    let history = state.history();
    let mut open: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for entry in &history {
        if entry.message.role == Role::Tool {
            let results: Vec<String> = entry.message.tool_results().map(|result| result.id.clone()).collect();
            assert_eq!(results, open, "results follow their calls at once, all of them and in order");
            open.clear();
            found.extend(
                entry
                    .message
                    .tool_results()
                    .map(ToolResult::text)
                    .filter(|text| text.starts_with("result of")),
            );
        } else {
            assert!(open.is_empty(), "a call has no result");
            open = entry.message.tool_calls().map(|call| call.id.clone()).collect();
        }
    }
    assert!(open.is_empty(), "a call has no result");
    let mut taken: Vec<String> = taken.iter().map(|(call, id)| format!("result of {call}/{id}")).collect();
    taken.sort();
    found.sort();
    assert_eq!(found, taken, "every result that was accepted is in the history once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_conversation_keeps_the_laws(spec in specs(), dice in prop::collection::vec(any::<(u32, u8)>(), 200)) {
        let mut host = Host::new(&spec);
        host.start("Begin");
        let mut usage = Usage::default();
        let mut returned: Vec<(u32, String)> = Vec::new();
        let mut at_ms = host.now_ms;
        for (dice, choice) in dice {
            at_ms += 1;
            let due: Vec<Effect> = host.effects();
            let possible: Vec<&Effect> = due.iter().filter(|effect| !matches!(effect, Effect::Wake { .. })).collect();
            prop_assert_eq!(possible.is_empty(), host.state.end().is_some(), "a conversation that runs waits for something");
            if possible.is_empty() {
                break;
            }
            let effect = possible[usize::from(choice) % possible.len()];
            let Some(command) = outcome(effect, dice, at_ms) else { break };
            let before = host.events.len();
            host.give(&command).expect("the conversation waits for it");
            prop_assert!(host.give(&command).is_err(), "no outcome counts twice");
            for event in &host.events[before..] {
                match event {
                    Event::CallAnswered { usage: used, .. } => usage = usage.plus(*used),
                    Event::CallStarted { reserved_tokens, .. } => {
                        if let Some(limit) = spec.limit.tokens {
                            prop_assert!(usage.total() < limit, "a call begins although the budget is used up");
                            prop_assert!(usage.total() + reserved_tokens <= limit);
                        }
                    }
                    Event::ToolReturned { call, result } if result.text().starts_with("result of") => {
                        returned.push((*call, result.id.clone()));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(host.state.spent().usage, usage, "the budget is exact");
        }
        if host.state.end().is_none() {
            host.give(&Command::Cancel { partial: Vec::new(), at_ms }).expect("it runs");
        }
        check_history(&host.state, &returned);
        prop_assert!(host.state.rounds() <= spec.limit.rounds.unwrap_or(0));
        if let Some(calls) = spec.limit.calls {
            prop_assert!(host.state.spent().calls <= calls);
        }

        // Replay, also through JSON, gives the same state, from every prefix of the events.
        let mut replayed = State::default();
        for event in &host.events {
            let text = serde_json::to_string(event).expect("an event can be stored");
            let event: Event = serde_json::from_str(&text).expect("an event can be read");
            apply(&mut replayed, &event);
        }
        prop_assert_eq!(&replayed, &host.state);
        let text = serde_json::to_string(&replayed).expect("a state can be stored");
        prop_assert_eq!(&serde_json::from_str::<State>(&text).expect("a state can be read"), &host.state);
        prop_assert!(matches!(host.events.last(), Some(Event::Ended { .. })), "the end is the last event");
        let ends = host.events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
        prop_assert_eq!(ends, 1);
    }
}

#[test]
fn a_crash_at_any_event_makes_the_same_calls_due_again() {
    let mut spec = Spec::new(
        vec![
            Participant::agent("Ann", {
                let mut agent = Agent::new("m", "Speak.");
                agent.tools = tools("Bob");
                agent
            }),
            super::agent("Bob"),
        ],
        Mode::Handoff,
    );
    spec.limit.tokens = Some(10_000);
    let mut host = Host::new(&spec);
    host.start("Begin");
    let mut answers = vec![
        Answer::text("Bye"),
        Answer::calls([ToolCall::new("a", "look", "{}"), ToolCall::new("b", "pass", "{}")]),
    ];
    let mut made = Vec::new();
    loop {
        let due = host.effects();
        // A process that starts here has the events alone.
        let mut restarted = State::default();
        host.events.iter().for_each(|event| apply(&mut restarted, event));
        assert_eq!(loom_models::conversation::effects(&spec, &restarted), due);
        let Some(effect) = due.first() else { break };
        let command = match effect {
            Effect::CallModel { call, request, .. } => {
                made.push((*call, request.key()));
                Command::ModelAnswered {
                    call: *call,
                    answer: answers.pop().expect("two"),
                    problem: None,
                    at_ms: 1,
                }
            }
            other => outcome(other, 0, 1).expect("it has an outcome"),
        };
        assert_eq!(decide(&spec, &restarted, &command), decide(&spec, &host.state, &command));
        host.give(&command).expect("it is due");
    }
    assert_eq!(made.len(), 2, "every call was made once");
    assert_ne!(made[0].1, made[1].1);
    assert_eq!(host.state.end(), Some(&End::Answered));
    assert_ne!(host.state.end(), Some(&End::Limit { limit: LimitKind::Tokens }));
}
