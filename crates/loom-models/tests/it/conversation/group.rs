//! Group chats: who speaks, and when they end.

use loom_models::{
    Answer, ErrorKind, Json, Message, ModelError, OutputSchema, Request, Role, StopReason,
    conversation::{
        Command, Effect, End, Event, LimitKind, Mode, Purpose, SelectedBy, Termination, TextRule, Warning,
    },
};

use super::{Host, coordinated, group, talk};

fn select(next: &str) -> Answer {
    Answer::text(format!(r#"{{"next":"{next}","reason":"because"}}"#))
}

/// Agents talk; the coordinator selects these, in order.
fn selecting(names: &[&str]) -> impl FnMut(&Purpose, &Request) -> Result<Answer, ModelError> {
    let mut answers: Vec<Answer> = names.iter().rev().map(|name| select(name)).collect();
    move |purpose, request| match purpose {
        Purpose::Select => Ok(answers.pop().expect("there is a selection")),
        _ => talk(purpose, request),
    }
}

fn selections(host: &Host<'_>) -> Vec<SelectedBy> {
    let by = |event: &Event| if let Event::SpeakersSelected { by, .. } = event { Some(*by) } else { None };
    host.events.iter().filter_map(by).collect()
}

#[test]
fn round_robin_without_a_coordinator() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.rounds = Some(4);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(talk);
    assert_eq!(host.speakers(), ["Alice", "Bob", "Alice", "Bob"]);
    assert_eq!(host.spoken()[0], "-: Discuss", "the initial message is first");
    assert_eq!(host.spoken()[4], "Bob: Bob saw 4");
}

#[test]
fn three_rounds_are_a_history_of_four_and_five_end_as_max_rounds() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.rounds = Some(3);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(talk);
    assert_eq!((host.state.history().len(), host.state.rounds(), host.status()), (4, 3, "max-rounds"));

    spec.limit.rounds = Some(5);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(talk);
    assert_eq!((host.state.rounds(), host.status()), (5, "max-rounds"));
    spec.limit.rounds = None;
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(talk);
    assert_eq!(host.state.rounds(), 10, "the default");
}

#[test]
fn with_a_coordinator_it_ends_before_ten_rounds() {
    let spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(selecting(&["Bob", "alice", "TERMINATE"]));
    assert_eq!(host.speakers(), ["Bob", "Alice"]);
    assert_eq!((host.status(), host.state.end()), ("complete", Some(&End::Terminated { by: None })));
    assert_eq!(host.state.spent().calls, 5, "selections are counted");
}

#[test]
fn a_selection_shows_names_in_a_schema_with_the_name_first() {
    let spec = coordinated(Mode::Selector, &["Alice", "Bob", "Cid"]);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.step(&mut selecting(&["Alice"]));
    host.step(&mut talk);
    let Effect::CallModel { purpose, request, .. } = &host.effects()[0] else { panic!("it selects") };
    assert_eq!((purpose, request.model.as_str()), (&Purpose::Select, "boss"));
    let loom_models::OutputFormat::JsonSchema(schema) = &request.output else { panic!("it has a schema") };
    assert_eq!(
        schema.schema.to_string(),
        r#"{"type":"object","properties":{"next":{"type":"string","enum":["Bob","Cid","TERMINATE"]},"reason":{"type":"string"}},"required":["next","reason"],"additionalProperties":false}"#,
        "without the last speaker"
    );
    assert_eq!(request.messages[1].text(), "user: Discuss\nAlice: Alice saw 1");
}

#[test]
fn a_selector_that_answers_rubbish_is_asked_again_and_then_replaced() {
    let mut cut = select("Bob");
    cut.stop = StopReason::Length;
    for (answers, by, speaker) in [
        (vec![Answer::text("I think someone should speak.")], SelectedBy::Coordinator, "Bob"),
        (vec![select("Nobody")], SelectedBy::Coordinator, "Bob"),
        (vec![cut.clone()], SelectedBy::Coordinator, "Bob"),
        (vec![Answer::text("Alice or Bob")], SelectedBy::Coordinator, "Bob"),
        (vec![Answer::text(r#"{"next":"Al"#), Answer::text("")], SelectedBy::Coordinator, "Bob"),
        (vec![cut.clone(), cut.clone(), cut], SelectedBy::Fallback, "Alice"),
        (vec![select("X"), select("Y"), select("Z")], SelectedBy::Fallback, "Alice"),
    ] {
        let mut spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
        spec.limit.rounds = Some(1);
        let mut host = Host::new(&spec);
        host.start("Discuss");
        let wrong = answers.len();
        let mut answers = answers.into_iter();
        let mut seen = Vec::new();
        host.run(|purpose, request| {
            if *purpose != Purpose::Select {
                return talk(purpose, request);
            }
            seen.push(request.messages.len());
            Ok(answers.next().unwrap_or_else(|| select("Bob")))
        });
        assert_eq!((selections(&host), host.speakers()), (vec![by], vec![speaker.to_owned()]));
        let expected: Vec<usize> = (0..seen.len()).map(|attempt| 2 + 2 * attempt).collect();
        assert_eq!(seen, expected, "each further request shows what was wrong");
        let warned = host
            .events
            .iter()
            .any(|event| matches!(event, Event::Warned { warning: Warning::SelectionFellBack { .. } }));
        assert_eq!(warned, by == SelectedBy::Fallback);
        let rejected = host.events.iter().filter(|event| matches!(event, Event::Rejected { .. })).count();
        assert_eq!(rejected, wrong.min(2));
    }
}

#[test]
fn weak_models_may_select_in_their_own_words() {
    for text in [
        "Bob",
        "\"bob\".",
        "**Bob**",
        "Bob should speak next, I believe.",
        "```json\n{\"next\": \"BOB\"}\n```",
    ] {
        let mut spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
        spec.limit.rounds = Some(1);
        let mut host = Host::new(&spec);
        host.start("Discuss");
        host.run(|purpose, request| match purpose {
            Purpose::Select => Ok(Answer::text(text)),
            _ => talk(purpose, request),
        });
        assert_eq!(host.speakers(), ["Bob"], "{text}");
        assert_eq!(selections(&host), [SelectedBy::Coordinator], "{text}");
    }
}

#[test]
fn a_selector_that_fails_is_replaced() {
    let mut spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
    spec.limit.rounds = Some(2);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(|purpose, request| match purpose {
        Purpose::Select => Err(ModelError::new(ErrorKind::Overloaded, "later")),
        _ => talk(purpose, request),
    });
    assert_eq!(host.speakers(), ["Alice", "Bob"]);
}

#[test]
fn nobody_is_asked_when_there_is_nothing_to_select() {
    let mut spec = coordinated(Mode::Selector, &["Alice", "Bob"]);
    spec.coordinator.as_mut().expect("it has one").may_terminate = false;
    spec.limit.rounds = Some(3);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(selecting(&["Bob"]));
    assert_eq!(host.speakers(), ["Bob", "Alice", "Bob"]);
    assert_eq!(selections(&host)[1..], [SelectedBy::OnlyCandidate; 2]);

    spec.allow_repeated_speaker = true;
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(selecting(&["Bob", "Bob", "Bob"]));
    assert_eq!(host.speakers(), ["Bob", "Bob", "Bob"]);
}

#[test]
fn the_host_narrows_candidates_and_names_speakers() {
    let mut spec = coordinated(Mode::Selector, &["Alice", "Bob", "Cid"]);
    spec.narrow_candidates = true;
    let mut host = Host::new(&spec);
    host.start("Discuss");
    let names = Json::from(vec![Json::from("cid"), Json::from("Bob")]);
    host.give(&Command::Evaluated { number: 1, value: names, at_ms: 1 }).expect("it asks for candidates");
    let Effect::CallModel { request, .. } = &host.effects()[0] else { panic!("it selects") };
    let loom_models::OutputFormat::JsonSchema(schema) = &request.output else { panic!("it has a schema") };
    assert!(schema.schema.to_string().contains(r#""enum":["Bob","Cid","TERMINATE"]"#));

    let spec = group(Mode::Expression, &["Alice", "Bob"]);
    let run = |values: &[Json]| {
        let mut host = Host::new(&spec);
        host.start("Discuss");
        for (number, value) in values.iter().enumerate() {
            host.give(&Command::Evaluated { number: number as u32 + 1, value: value.clone(), at_ms: 1 })
                .expect("it asks who is next");
            while matches!(host.effects().first(), Some(Effect::CallModel { .. })) {
                host.step(&mut talk);
            }
        }
        (host.speakers(), host.state.end().cloned())
    };
    let (speakers, end) = run(&["bob".into(), "Bob".into(), Json::Null]);
    assert_eq!(
        (speakers.len(), end),
        (2, Some(End::Terminated { by: None })),
        "an expression may repeat a speaker"
    );
    let (speakers, _) = run(&[vec![Json::from("Bob"), "Alice".into()].into(), "TERMINATE".into()]);
    assert_eq!(speakers, ["Bob", "Alice"]);
    let (_, end) = run(&["Zoe".into()]);
    assert_eq!(end, Some(End::NoSpeaker { reason: "Agent not found: Zoe".to_owned() }));
}

#[test]
fn a_broadcast_asks_all_at_once_and_aggregates() {
    let spec = coordinated(Mode::Broadcast, &["Alice", "Bob"]);
    let mut host = Host::new(&spec);
    host.start("Ideas?");
    assert_eq!(host.effects().len(), 2, "both are asked at once");
    host.give(&Command::ModelAnswered { call: 2, answer: Answer::text("B"), problem: None, at_ms: 1 })
        .expect("due");
    host.run(|purpose, request| match purpose {
        Purpose::Aggregate => {
            assert_eq!(request.messages[1].text(), "user: Ideas?\nAlice: Alice saw 1\nBob: B");
            Ok(Answer::text("A and B"))
        }
        _ => talk(purpose, request),
    });
    assert_eq!(
        host.spoken()[1..],
        ["Alice: Alice saw 1", "Bob: B", "coordinator: A and B"],
        "in order, not in time"
    );
    assert_eq!((host.state.rounds(), host.status()), (1, "max-rounds"));

    let spec = group(Mode::Broadcast, &["Alice", "Bob"]);
    let mut host = Host::new(&spec);
    host.start("Ideas?");
    host.run(talk);
    assert_eq!(host.speakers(), ["Alice", "Bob"], "without a coordinator there is no aggregate");
}

#[test]
fn a_manager_instructs_and_plans_anew_when_there_is_no_progress() {
    let mut spec = coordinated(Mode::Manager, &["Alice", "Bob"]);
    spec.limit.rounds = Some(50);
    let coordinator = spec.coordinator.as_mut().expect("it has one");
    (coordinator.stalls_max, coordinator.replans_max) = (1, 1);
    let mut host = Host::new(&spec);
    host.start("Build");
    let mut select = 0;
    host.run(|purpose, request| match purpose {
        Purpose::Select => {
            select += 1;
            let next = if select % 2 == 1 { "Alice" } else { "Bob" };
            Ok(Answer::text(format!(
                r#"{{"next":"{next}","instruction":"step {select}","progress":{}}}"#,
                select < 3
            )))
        }
        Purpose::Plan => Ok(Answer::text("New plan")),
        _ => talk(purpose, request),
    });
    let coordinator: Vec<String> =
        host.spoken().into_iter().filter(|line| line.starts_with("coordinator")).collect();
    assert_eq!(
        coordinator[..3],
        ["coordinator: Alice, step 1", "coordinator: Bob, step 2", "coordinator: Alice, step 3"]
    );
    assert!(coordinator.contains(&"coordinator: New plan".to_owned()));
    assert_eq!((host.state.end(), host.status()), (Some(&End::Stalled), "error"));
    let progress: Vec<u32> = host
        .events
        .iter()
        .filter_map(|e| if let Event::Stalled { stalls } = e { Some(*stalls) } else { None })
        .collect();
    assert_eq!(progress, [1, 2, 1, 2], "counted anew after the plan");
}

#[test]
fn texts_end_only_as_words_of_listed_speakers() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.termination = vec![Termination::Text(TextRule::new("APPROVED", &["Bob"]))];
    let run = |texts: &'static [&str]| {
        let mut host = Host::new(&spec);
        host.start("APPROVED?");
        let mut texts = texts.iter();
        host.run(|_, _| Ok(Answer::text(*texts.next().unwrap_or(&"-"))));
        (host.state.rounds(), host.state.end().cloned().expect("it has ended"))
    };
    assert_eq!(run(&["APPROVED", "It is APPROVED."]), (2, End::Terminated { by: Some(0) }));
    assert_eq!(run(&["a", "UNAPPROVED", "b", "APPROVEDLY"]).1, End::Limit { limit: LimitKind::Rounds });
}

#[test]
fn every_termination_ends_what_it_should_and_nothing_else() {
    let text = |text: &str| Termination::Text(TextRule::new(text, &[]));
    for (termination, rounds) in [
        (Termination::Rounds(3), Some(3)),
        (Termination::Messages(3), Some(2)),
        (Termination::Tokens(1), Some(1)),
        (Termination::Speaker("Bob".to_owned()), Some(2)),
        (text("Bob"), Some(2)),
        (text("nothing"), None),
        (Termination::ToolCalled("x".to_owned()), None),
        (Termination::HandoffTo("x".to_owned()), None),
        (Termination::TimeoutMs(1), None),
        (Termination::LegacyKeywords, None),
        (Termination::Any(vec![text("nothing"), Termination::Rounds(4)]), Some(4)),
        (Termination::All(vec![text("Alice"), Termination::Rounds(4)]), Some(5)),
        (Termination::All(vec![text("Alice"), text("nothing")]), None),
        (Termination::All(Vec::new()), Some(1)),
        (Termination::Any(Vec::new()), None),
    ] {
        let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
        spec.limit.rounds = Some(6);
        spec.termination = vec![text("nothing"), termination.clone()];
        let mut host = Host::new(&spec);
        host.start("Discuss");
        host.run(talk);
        let expected = match rounds {
            Some(_) => End::Terminated { by: Some(1) },
            None => End::Limit { limit: LimitKind::Rounds },
        };
        assert_eq!(
            (host.state.end(), host.state.rounds()),
            (Some(&expected), rounds.unwrap_or(6)),
            "{termination:?}"
        );
    }
}

#[test]
fn legacy_keywords_need_more_than_three_messages() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.termination = vec![Termination::LegacyKeywords];
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(|_, _| Ok(Answer::text("All Done")));
    assert_eq!((host.state.rounds(), host.status()), (3, "complete"));
}

#[test]
fn an_expression_is_asked_before_the_coordinator_and_neither_in_vain() {
    let mut spec = coordinated(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.rounds = Some(2);
    spec.termination = vec![Termination::All(vec![
        Termination::Coordinator,
        Termination::Expression("ready".to_owned()),
        Termination::Speaker("Alice".to_owned()),
    ])];
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.step(&mut talk);
    let Effect::Evaluate { number, evaluation } = &host.effects()[0] else {
        panic!("the expression is free")
    };
    assert_eq!(
        serde_json::to_string(evaluation).expect("JSON"),
        r#"{"what":"termination","part":2,"expression":"ready"}"#
    );
    let number = *number;
    host.give(&Command::Evaluated { number, value: true.into(), at_ms: 1 }).expect("it asks");
    let mut checks = 0;
    host.run(|purpose, request| match purpose {
        Purpose::Check { part: 1 } => {
            checks += 1;
            Ok(Answer::text(r#"{"terminate":false,"reason":"not yet"}"#))
        }
        _ => talk(purpose, request),
    });
    assert_eq!(checks, 1, "after Bob nothing is asked, because he decides it");
    assert_eq!(host.status(), "max-rounds");

    // What ends anyway is not paid for.
    spec.limit.rounds = Some(1);
    spec.termination = vec![Termination::Coordinator];
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(talk);
    assert_eq!(host.state.spent().calls, 1);
}

#[test]
fn a_coordinator_that_checks_in_words_or_not_at_all() {
    for (answer, rounds) in
        [("YES, it is", 1), ("{\"terminate\":true}", 1), ("No.", 3), ("Perhaps", 3), ("", 3)]
    {
        let mut spec = coordinated(Mode::RoundRobin, &["Alice", "Bob"]);
        spec.limit.rounds = Some(3);
        spec.termination = vec![Termination::Coordinator];
        let mut host = Host::new(&spec);
        host.start("Discuss");
        host.run(|purpose, request| match purpose {
            Purpose::Check { .. } => Ok(Answer::text(answer)),
            _ => talk(purpose, request),
        });
        assert_eq!(host.state.rounds(), rounds, "{answer}");
    }
}

#[test]
fn a_final_answer_has_the_form_of_its_schema() {
    let mut spec = coordinated(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.limit.rounds = Some(1);
    spec.response = Some(OutputSchema::new("result", Json::object([("type", Json::from("object"))])));
    let mut answers = vec![Answer::text(r#"{"ok":true}"#), Answer::text("Gladly")];
    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(|purpose, request| match purpose {
        Purpose::Conclude => Ok(answers.pop().expect("it is asked twice")),
        _ => talk(purpose, request),
    });
    assert_eq!(host.state.response().map(Json::to_string).as_deref(), Some(r#"{"ok":true}"#));
    assert_eq!((host.status(), host.state.history().len()), ("max-rounds", 2));

    let mut host = Host::new(&spec);
    host.start("Discuss");
    host.run(|purpose, request| match purpose {
        Purpose::Conclude => Ok(Answer::text("never")),
        _ => talk(purpose, request),
    });
    assert_eq!((host.state.response(), host.status()), (None, "max-rounds"));
    assert!(
        host.events.iter().any(|e| matches!(e, Event::Warned { warning: Warning::ResponseFailed { .. } }))
    );
}

#[test]
fn speakers_know_the_others_and_hear_them_by_name() {
    let mut spec = group(Mode::RoundRobin, &["Alice", "Bob"]);
    spec.participants[0] = spec.participants[0].clone().described("writer", "drafts text");
    spec.limit.rounds = Some(3);
    let mut host = Host::new(&spec);
    host.start("Discuss");
    let mut requests = Vec::new();
    host.run(|purpose, request| {
        requests.push(request.clone());
        talk(purpose, request)
    });
    let system = requests[1].messages[1].text();
    assert!(
        system.starts_with("You are Bob.") && system.contains("- Alice (writer): drafts text"),
        "{system}"
    );
    assert_eq!(requests[1].messages[3], Message::user("Alice saw 1").named("Alice"));
    let roles: Vec<Role> = requests[2].messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [Role::System, Role::System, Role::User, Role::Assistant, Role::User],
        "her own words are hers"
    );
}
