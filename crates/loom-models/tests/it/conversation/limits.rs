//! Budgets, and how much of the history models see.

use loom_models::{
    Answer, ErrorKind, Message, ModelError, Role, Tool, ToolCall, Usage,
    conversation::{
        AgentTool, Effect, End, Event, LimitKind, Mode, ParticipantKind, Purpose, Reduction, Spec, Warning,
    },
};

use super::{Host, coordinated, group, talk};

fn limits(host: &Host<'_>) -> Vec<LimitKind> {
    let warned = |event: &Event| match event {
        Event::Warned { warning: Warning::Limit { limit } } => Some(*limit),
        _ => None,
    };
    host.events.iter().filter_map(warned).collect()
}

#[test]
fn tokens_are_checked_before_and_after_each_call() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.tokens = Some(1000);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    let mut most = Vec::new();
    host.run(|purpose, request| {
        let room = request.sampling.max_tokens.expect("the limit sets it");
        most.push(room);
        let usage = Usage::new(request.estimated_tokens(), u64::from(room.min(250)));
        Ok(talk(purpose, request)?.with_usage(usage))
    });
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Tokens }));
    assert_eq!(host.state.spent().usage.total(), 1000, "the last answer gets what is left");
    assert!(most.is_sorted_by(|one, two| one > two) && most[0] < 1000, "{most:?}");
    assert_eq!(limits(&host), [LimitKind::Tokens], "at four fifths, once");
    assert_eq!((host.state.history().len(), host.status()), (most.len() + 1, "limit"), "what there is stays");

    spec.limit.tokens = Some(5);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Tokens }), "nothing is paid");
    assert_eq!(host.state.spent().calls, 0);
}

#[test]
fn money_is_checked_before_and_after_each_call() {
    let mut spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
    spec.prices =
        serde_json::from_str(r#"{"models":{"m":{"input":1,"output":10},"boss":{"input":2,"output":2}}}"#)
            .expect("prices");
    spec.limit.cost_micros = Some(10_000);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(|purpose, request| {
        let answer = match purpose {
            Purpose::Select => Answer::text(r#"{"next":"Alice"}"#),
            _ => talk(purpose, request)?,
        };
        Ok(answer.with_usage(Usage::new(100, 200)))
    });
    let spent = host.state.spent();
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Cost }));
    let per_round = (100 * 2 + 200 * 2) + (100 + 200 * 10);
    assert!(spent.cost_micros >= 3 * per_round && spent.cost_micros < 10_000 + per_round, "{spent:?}");
    assert_eq!(limits(&host), [LimitKind::Cost]);
}

#[test]
fn calls_are_counted_with_those_in_flight() {
    let mut spec = group(Mode::Broadcast, &["Alice", "Bob", "Cid"]);
    spec.limit.calls = Some(2);
    let mut host = Host::new(&spec);
    host.start("Ideas?");
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Calls }), "the third has no room");
    spec.limit.calls = Some(3);
    let mut host = Host::new(&spec);
    host.start("Ideas?");
    host.run(talk);
    assert_eq!(host.state.spent().calls, 3);
}

#[test]
fn speakers_of_one_round_share_what_is_left() {
    let mut spec = group(Mode::Broadcast, &["Alice", "Bob"]);
    spec.limit.tokens = Some(2000);
    let mut host = Host::new(&spec);
    host.start("Ideas?");
    let most: Vec<u32> = host
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::CallModel { request, .. } => request.sampling.max_tokens,
            _ => None,
        })
        .collect();
    assert_eq!(most.len(), 2);
    assert!(most[0].abs_diff(most[1]) < 30 && most[0] > 900, "{most:?}");
}

#[test]
fn usage_that_a_provider_does_not_say_is_estimated_and_marked() {
    let spec = group(Mode::Handoff, &["Ann"]);
    let mut host = Host::new(&spec);
    host.start("Hello");
    host.run(talk);
    let spent = host.state.spent();
    assert!(spent.estimated && spent.usage.input_tokens > 5 && spent.usage.output_tokens > 2, "{spent:?}");
    let mut host = Host::new(&spec);
    host.start("Hello");
    host.run(|_, _| Ok(Answer::text("Hi").with_usage(Usage::new(1, 1))));
    assert!(!host.state.spent().estimated);
}

/// Runs an agent that calls a tool in each of its first calls, and returns the messages of the last request.
fn last_request(reduction: Reduction) -> Vec<Message> {
    let mut spec = group(Mode::Handoff, &["Ann"]);
    spec.reduction = reduction;
    let ParticipantKind::Agent(ann) = &mut spec.participants[0].kind else { panic!("she is an agent") };
    ann.tools = vec![AgentTool::new(Tool::new("look", "", loom_models::Json::Object(Vec::new())))];
    let mut host = Host::new(&spec);
    host.start("Look");
    let (mut calls, mut last) = (0, Vec::new());
    host.run(|_, request| {
        calls += 1;
        last.clone_from(&request.messages);
        Ok(if calls < 5 { Answer::calls([ToolCall::new("", "look", "{}")]) } else { Answer::text("Seen") })
    });
    assert_eq!(host.state.history().len(), 10, "the history itself is whole");
    last
}

#[test]
fn a_reduction_keeps_instructions_and_calls_with_their_results() {
    assert_eq!(last_request(Reduction::None).len(), 10);
    for limit in 0..12 {
        let messages = last_request(Reduction::MessageCount { limit });
        assert_eq!(messages[0].role, Role::System);
        assert!(messages.len() <= 1 + limit.max(2), "{limit}: {}", messages.len());
        assert_ne!(messages[1].role, Role::Tool, "{limit}: a result has lost its call");
        assert_eq!(messages.last().expect("there are messages").role, Role::Tool);
    }
    assert_eq!(last_request(Reduction::MessageCount { limit: 5 }).len(), 5);
    let few = last_request(Reduction::TokenCount { limit: 60 });
    assert!(few.len() < 10 && few[1].role == Role::Assistant, "{few:?}");
    assert_eq!(last_request(Reduction::TokenCount { limit: 100_000 }).len(), 10);
}

fn summarized() -> Spec {
    let mut spec = coordinated(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.rounds = Some(8);
    spec.reduction = Reduction::Summarization { target: 2, threshold: 4 };
    spec
}

#[test]
fn a_summary_replaces_the_first_messages() {
    let spec = summarized();
    let mut host = Host::new(&spec);
    host.start("Discuss");
    let (mut summaries, mut seen) = (Vec::new(), Vec::new());
    host.run(|purpose, request| {
        if *purpose == Purpose::Summarize {
            summaries.push(request.messages[1].text());
            return Ok(Answer::text(format!("summary {}", summaries.len())));
        }
        seen.push(request.messages.iter().filter(|message| message.role != Role::System).count());
        talk(purpose, request)
    });
    assert_eq!(host.state.history().len(), 9, "the history itself is whole");
    assert_eq!(seen, [1, 2, 3, 4, 3, 4, 5, 3]);
    assert_eq!(summaries[0], "user: Discuss\nAlice: Alice saw 1\nBob: Bob saw 2\n");
    assert!(summaries[1].starts_with("summary 1\n\nAlice: Alice saw 3\n"), "{}", summaries[1]);
}

#[test]
fn a_summary_that_fails_leaves_the_history_whole() {
    let spec = summarized();
    let mut host = Host::new(&spec);
    host.start("Discuss");
    let mut attempts = 0;
    host.run(|purpose, request| match purpose {
        Purpose::Summarize => {
            attempts += 1;
            Err(ModelError::new(ErrorKind::Server, "no"))
        }
        _ => talk(purpose, request),
    });
    assert_eq!((host.state.rounds(), host.status(), attempts), (8, "max-rounds", 1));
    assert_eq!(host.spoken().last().map(String::as_str), Some("Bob: Bob saw 8"));
}
