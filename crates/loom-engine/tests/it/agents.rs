//! Agents as the engine sees them: turns that ask for tools, tools as blocks of actions, handing over, crashes anywhere.

use std::sync::Arc;

use loom_definition::{RunStatus, Status};
use loom_engine::{
    Engine, Environment,
    clock::TokioClock,
    event::{Command, EffectResult, ErrorInfo, Event, Next, Outcome, RetryHint, ToolUse},
    journal,
    ports::Call,
    simulate::Simulation,
};
use loom_expression::Value;

use crate::support::{Played, json, load, now, ok, play_with, run, start, unavailable, workflow};

/// Two tools; `look` has two actions, `add` computes without a call.
const AGENT: &str = r#"{
    "Ask": {"type": "Agent", "inputs": {"parameters": {}}, "runAfter": {}, "limit": {"count": 9, "timeout": "PT1H"}, "tools": {
        "look": {"description": "looks", "agentParameterSchema": {"type": "object"}, "actions": {
            "Get": {"type": "Http", "inputs": {"method": "POST", "uri": "http://s/@{agentParameters('What')}"},
                "retryPolicy": {"type": "fixed", "interval": "PT1S", "count": 2}},
            "Tidy": {"type": "Compose", "inputs": "@concat(body('Get'), '!')", "runAfter": {"Get": ["Succeeded"]}}}},
        "add": {"description": "adds", "actions": {
            "Sum": {"type": "Compose", "inputs": "@add(agentParameters('a'), agentParameters('b'))"}}}}},
    "Out": {"type": "Compose", "inputs": "@outputs('Ask')", "runAfter": {"Ask": ["Succeeded"]}}}"#;

fn uses(list: &[(&str, u32, &str)]) -> Vec<ToolUse> {
    let used = |(id, tool, arguments): &(&str, u32, &str)| ToolUse {
        id: Arc::from(*id),
        tool: *tool,
        arguments: json(arguments),
    };
    list.iter().map(used).collect()
}

fn turn(said: &str, list: &[(&str, u32, &str)]) -> EffectResult {
    EffectResult::Turn { outcome: Outcome::ok(Some(json(said))), uses: uses(list) }
}

/// What the tools of the last turn returned, as one text.
fn returned(call: &Call) -> String {
    let turn = call.turn.as_ref().expect("an agent has turns");
    let one = |returned: &loom_engine::ports::ToolReturned| {
        let outputs = returned.outcome.outputs.as_ref().map(Value::to_json_text).unwrap_or_default();
        format!("{}={}{}", returned.id, returned.outcome.status, outputs)
    };
    turn.results.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Looks twice and adds, then adds what came of it, then ends.
fn agent(call: &Call) -> EffectResult {
    let Some(turn_now) = &call.turn else {
        if call.attempt == 1 && call.inputs.get("uri").and_then(Value::as_str) == Some("http://s/b") {
            return unavailable();
        }
        return ok(&format!(
            r#"{{"statusCode": 200, "body": {}}}"#,
            call.inputs.get("uri").unwrap().to_json_text()
        ));
    };
    assert!(
        call.idempotency_key.ends_with(&format!("/Ask/turn-{}", turn_now.number)),
        "{}",
        call.idempotency_key
    );
    match turn_now.number {
        1 => {
            assert!(turn_now.earlier.is_empty() && turn_now.results.is_empty());
            assert_eq!(call.inputs.get("limit"), Some(&json(r#"{"count": 9}"#)));
            turn(
                r#""one""#,
                &[
                    ("x", 0, r#"{"what": "a"}"#),
                    ("y", 1, r#"{"a": 1, "b": 2}"#),
                    ("z", 0, r#"{"what": "b"}"#),
                ],
            )
        }
        2 => {
            assert_eq!(turn_now.earlier, [json(r#""one""#)]);
            assert_eq!(returned(call), r#"x=Succeeded"http://s/a!" y=Succeeded3 z=Succeeded"http://s/b!""#);
            turn(r#""two""#, &[("x", 1, r#"{"a": 3, "b": 4}"#)])
        }
        3 => turn(&format!("{:?}", returned(call)), &[]),
        4 => {
            assert_eq!(turn_now.earlier.len(), 3);
            assert!(turn_now.results.is_empty());
            ok(&turn_now.earlier[2].to_json_text())
        }
        other => panic!("turn {other} is too many"),
    }
}

#[test]
fn an_agent_uses_tools_in_parallel_and_gets_their_results_in_order() {
    let played = play_with(&workflow(AGENT), agent);
    assert_eq!(played.status, Some(RunStatus::Succeeded), "{}", played.message("Ask"));
    assert_eq!(played.outputs("Out"), "x=Succeeded7".into());
    assert_eq!((played.times("Get"), played.times("Sum")), (2, 2), "every use is an occurrence");
    let paths: Vec<u32> =
        played.history.occurrences(played.action("Sum")).iter().map(|one| one.path[0].index).collect();
    assert_eq!(paths, [1, 3], "uses are numbered throughout the agent");
    let both_before_either_ended = played.simulation.events().iter().take_while(
        |event| !matches!(event, Event::ActionEnded { place, .. } if place.action == played.action("Get")),
    );
    let started = both_before_either_ended.filter(
        |event| matches!(event, Event::AttemptStarted { place, .. } if place.action == played.action("Get")),
    );
    assert_eq!(started.count(), 2, "tools of one turn run side by side");
}

#[test]
fn a_run_continues_from_every_point_and_repeats_no_turn_and_no_tool() {
    let workflow = workflow(AGENT);
    let mut live = Simulation::new(Arc::clone(&workflow), Arc::new(Environment::default()), now());
    live.command(Command::Start(start(3)));
    let (mut points, mut completed, mut completed_at) =
        (vec![(live.events().len(), live.now())], Vec::new(), vec![0]);
    let name = |call: &Call| format!("{}#{}", call.idempotency_key, call.attempt);
    while let Some(choice) = live.choices().first().copied() {
        live.choose(choice, |call| {
            completed.push(name(call));
            agent(call)
        });
        points.push((live.events().len(), live.now()));
        completed_at.push(completed.len());
    }
    assert_eq!(live.run().state().status(), RunStatus::Succeeded);
    let distinct: std::collections::BTreeSet<&String> = completed.iter().collect();
    assert_eq!(distinct.len(), completed.len(), "every call has a key of its own: {completed:?}");
    let whole: Vec<Event> = live.events().to_vec();
    for (point, (length, at)) in points.iter().enumerate() {
        let mut frame = Vec::new();
        journal::encode(&whole[..*length], &mut frame);
        let history = journal::decode(&frame).expect("what was written can be read");
        assert_eq!(history, whole[..*length]);
        let replayed =
            Simulation::resume(Arc::clone(&workflow), Arc::new(Environment::default()), *at, &history)
                .expect("the history is legal");
        let snapshot = journal::encode_snapshot(replayed.run().state());
        let restored = journal::decode_snapshot(&workflow, &snapshot).expect("a snapshot can be read");
        assert_eq!(journal::encode_snapshot(&restored), snapshot);
        for mut again in [replayed, Simulation::resume_from(restored, Arc::new(Environment::default()), *at)]
        {
            let mut repeated = Vec::new();
            let status = again.play_on(10_000, |call| {
                if completed[..completed_at[point]].contains(&name(call)) {
                    repeated.push(name(call));
                }
                agent(call)
            });
            assert_eq!(status, Some(RunStatus::Succeeded), "after a crash at point {point}");
            assert_eq!(repeated, Vec::<String>::new(), "repeated after a crash at point {point}");
        }
    }
}

/// The control of the test above: an engine that loses the record of a turn makes its call again.
#[test]
fn a_history_without_the_record_of_a_turn_repeats_its_call() {
    let workflow = workflow(AGENT);
    let mut live = Simulation::new(Arc::clone(&workflow), Arc::new(Environment::default()), now());
    live.command(Command::Start(start(3)));
    let first = live.choices()[0];
    live.choose(first, agent);
    let ended = |event: &Event| matches!(event, Event::AttemptEnded { next: Next::Turn { .. }, .. });
    let lost = live.events().iter().position(ended).expect("the turn is recorded");
    let mut again = Simulation::resume(
        Arc::clone(&workflow),
        Arc::new(Environment::default()),
        now(),
        &live.events()[..lost],
    )
    .expect("the history is legal");
    let mut first_turns = 0;
    again.play_on(10_000, |call| {
        first_turns += u32::from(call.turn.as_ref().is_some_and(|turn| turn.number == 1));
        agent(call)
    });
    assert_eq!(first_turns, 1, "it is made again");
}

#[test]
fn a_failed_attempt_at_a_turn_keeps_the_results_of_its_tools() {
    let actions = AGENT.replace(
        r#""limit""#,
        r#""retryPolicy": {"type": "fixed", "interval": "PT1S", "count": 2}, "limit""#,
    );
    let mut failures = 0;
    let played = play_with(&workflow(&actions), |call| {
        let is_second = call.turn.as_ref().is_some_and(|turn| turn.number == 2);
        if is_second && call.attempt < 3 {
            failures += 1;
            assert!(returned(call).starts_with("x=Succeeded"));
            return unavailable();
        }
        agent(call)
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!((failures, played.times("Get")), (2, 2));
}

#[test]
fn a_tool_that_fails_gives_the_agent_its_error() {
    let played = play_with(&workflow(AGENT), |call| match call.turn.as_deref() {
        None => {
            let error = ErrorInfo::new("NotFound", "nothing is there");
            EffectResult::Done { outcome: Outcome::failed("NotFound", error), hint: RetryHint::default() }
        }
        Some(turn_now) if turn_now.number == 1 => turn("1", &[("x", 0, r#"{"what": "a"}"#)]),
        Some(turn_now) => {
            let outcome = &turn_now.results[0].outcome;
            let error = outcome.error.as_ref().expect("it failed");
            assert_eq!((outcome.status, &*error.code), (Status::Failed, "NotFound"));
            ok("\"sorry\"")
        }
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!(played.status_of("Tidy"), Some(Status::Skipped));
}

#[test]
fn a_turn_that_the_action_cannot_make_fails_it() {
    let played = play_with(&workflow(AGENT), |_| turn("1", &[("x", 2, "{}")]));
    assert_eq!((played.status, played.code("Ask").as_str()), (Some(RunStatus::Failed), "InvalidTurn"));
    let http = r#"{"Get": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}}}"#;
    let played = play_with(&workflow(http), |_| turn("1", &[]));
    assert_eq!(played.code("Get"), "InvalidTurn");
}

#[test]
fn an_agent_that_times_out_ends_its_tools() {
    let actions = AGENT.replace("PT1H", "PT10S").replace(
        r#""type": "Http", "inputs": {"method": "POST", "uri": "http://s/@{agentParameters('What')}"}"#,
        r#""type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Hour"}}"#,
    );
    let played = play_with(&workflow(&actions), |call| {
        assert_eq!(call.turn.as_ref().map(|turn| turn.number), Some(1));
        turn("1", &[("x", 0, r#"{"what": "a"}"#), ("y", 0, r#"{"what": "b"}"#)])
    });
    assert_eq!(played.status, Some(RunStatus::Failed));
    assert_eq!(played.status_of("Ask"), Some(Status::TimedOut));
    assert_eq!(played.status_of("Get"), Some(Status::Cancelled));
}

#[test]
fn agents_run_in_a_foreach_and_beside_each_other_and_inside_each_other() {
    let inner = r#"{"type": "Agent", "inputs": {}, "tools": {"t": {"actions": {"NAME": {"type": "Compose", "inputs": "@concat('NAME', agentParameters('x'))"}}}}}"#;
    let agent_of = |name: &str| inner.replace("NAME", name);
    let actions = format!(
        r#"{{"Each": {{"type": "Foreach", "foreach": "@range(0, 3)", "actions": {{"One": {}}}}},
        "Two": {}, "Outer": {{"type": "Agent", "inputs": {{}}, "tools": {{"t": {{"actions": {{"Inner": {}}}}}}}}}}}"#,
        agent_of("A"),
        agent_of("B"),
        agent_of("C"),
    );
    let played = play_with(&workflow(&actions), |call| {
        let turn_now = call.turn.as_ref().expect("there are only agents");
        if turn_now.number == 1 {
            return turn("1", &[("i", 0, &format!(r#"{{"x": "{}"}}"#, call.definition().name))]);
        }
        ok(&turn_now.results[0].outcome.outputs.as_ref().unwrap().to_json_text())
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded));
    assert_eq!((played.times("A"), played.times("B"), played.times("C")), (3, 1, 1));
    assert_eq!((played.outputs("Two"), played.outputs("Outer")), ("BTwo".into(), "CInner".into()));
}

#[tokio::test(start_paused = true)]
async fn a_nested_agent_is_the_workflow_that_it_names() {
    let child = workflow(
        r#"{"Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@concat('done: ', triggerBody())"}}}"#,
    );
    let engine = Engine::builder().clock(Arc::new(TokioClock::starting_at(now()))).build();
    let name = child.name.to_string();
    engine.deploy(child, Vec::new());
    let actions = r#"{"Nested": {"type": "NestedAgent", "inputs": {"taskMessage": "@concat('a', ' task')", "host": {"workflow": {"id": "NAME"}}}}}"#;
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {}, "outputs": {{"it": {{"type": "string", "value": "@body('Nested')"}}}}}}"#,
        actions.replace("NAME", &name)
    );
    let report = run(&engine, &load(&text)).await;
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    let it = report.outputs.as_ref().and_then(|outputs| outputs.get("it")).expect("an output");
    assert_eq!(it.get("value").unwrap_or(it), &Value::from("done: a task"));
}

/// Each may hand over to both others; `Sales` and `Refunds` start only when they are handed to.
const HANDOFFS: &str = r#"{
    "Triage": AGENT, "Sales": AGENT, "Refunds": AGENT,
    "After": {"type": "Compose", "inputs": "@actions('Sales')?['status']", "runAfter": {
        "Triage": ["Succeeded", "HandedOff"], "Sales": ["Succeeded", "Skipped"], "Refunds": ["Succeeded", "Skipped", "HandedOff"]}}}"#;

fn handoffs() -> String {
    let tool = |to: &str, n: usize| {
        format!(
            r#""to_{to}": {{"actions": {{"h{n}": {{"type": "AgentHandoff", "inputs": {{"name": "{to}"}}}}}}}}"#
        )
    };
    let names = ["Triage", "Sales", "Refunds"];
    names.iter().enumerate().fold(HANDOFFS.to_owned(), |text, (at, own)| {
        let others = names.iter().enumerate().filter(|(_, name)| *name != own);
        let tools: Vec<String> = others.map(|(n, name)| tool(name, 10 * at + n)).collect();
        text.replacen(
            "AGENT",
            &format!(r#"{{"type": "Agent", "inputs": {{}}, "tools": {{{}}}}}"#, tools.join(", ")),
            1,
        )
    })
}

fn hand(to: &str) -> EffectResult {
    let outputs = json(&format!(r#"{{"handoff": {{"name": "{to}"}}, "history": ["{to}?"]}}"#));
    let outcome = Outcome { status: Status::HandedOff, ..Outcome::ok(Some(outputs)) };
    EffectResult::Done { outcome, hint: RetryHint::default() }
}

fn hand_over(first: &'static str, then: Option<&'static str>) -> (Played, Vec<String>) {
    let mut ran = Vec::new();
    let played = play_with(&workflow(&handoffs()), |call| {
        let name = call.definition().name.to_string();
        let turn_now = call.turn.as_ref().unwrap();
        ran.push(format!("{name} {:?}", turn_now.gone));
        match (&*name, then) {
            ("Triage", _) if first != "nobody" => hand(first),
            ("Refunds", Some(then)) => {
                let history = turn_now.handed_over.as_ref().and_then(|outputs| outputs.get("history"));
                assert_eq!(history, Some(&json(r#"["Refunds?"]"#)));
                hand(then)
            }
            _ => ok("1"),
        }
    });
    assert_eq!(played.status, Some(RunStatus::Succeeded), "{:?}", played.history.error);
    (played, ran)
}

#[test]
fn an_agent_starts_only_when_it_is_handed_to() {
    let (played, ran) = hand_over("Sales", None);
    assert_eq!(ran, ["Triage []", r#"Sales ["Triage"]"#]);
    assert_eq!(played.status_of("Triage"), Some(Status::HandedOff));
    assert_eq!(played.status_of("Refunds"), Some(Status::Skipped));
    assert_eq!(played.outputs("After"), "Succeeded".into());

    let (_, ran) = hand_over("Refunds", Some("Sales"));
    assert_eq!(ran, ["Triage []", r#"Refunds ["Triage"]"#, r#"Sales ["Triage", "Refunds"]"#]);

    let (played, ran) = hand_over("nobody", None);
    assert_eq!(ran, ["Triage []"]);
    assert_eq!(played.status_of("Sales"), Some(Status::Skipped));
    assert_eq!(played.message("Sales"), "No agent handed over to 'Sales'.");
}
