//! One agent with its tools, and handoffs.

use loom_models::{
    Answer, ErrorKind, Json, Message, ModelError, OutputFormat, OutputSchema, Part, Request, Role,
    StopReason, Tool, ToolCall, ToolResult, Usage,
    conversation::{
        Agent, AgentTool, Command, Effect, End, Event, LimitKind, Mode, Participant, ParticipantKind,
        Purpose, Spec, Termination,
    },
};

use super::{Host, agent};

fn tool(name: &str) -> Tool {
    Tool::new(name, format!("Does {name}."), Json::object([("type", Json::from("object"))]))
}

fn with_tools(name: &str, tools: Vec<AgentTool>) -> Participant {
    let mut agent = Agent::new("m", "You are brief.");
    agent.tools = tools;
    Participant::agent(name, agent)
}

fn solo(tools: Vec<AgentTool>) -> Spec {
    Spec::new(vec![with_tools("Ann", tools)], Mode::Handoff)
}

/// A model that gives these answers in order.
fn script(answers: Vec<Answer>) -> impl FnMut(&Purpose, &Request) -> Result<Answer, ModelError> {
    let mut answers = answers.into_iter();
    move |_, _| Ok(answers.next().expect("there is an answer"))
}

fn calls(calls: &[(&str, &str, &str)]) -> Answer {
    Answer::calls(calls.iter().map(|(id, name, arguments)| ToolCall::new(*id, *name, *arguments)))
}

#[test]
fn tools_are_called_in_parallel_and_answered_in_order() {
    let spec = solo(vec![AgentTool::new(tool("weather")), AgentTool::new(tool("time"))]);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    let mut model =
        script(vec![calls(&[("a", "weather", r#"{"x":1}"#), ("b", "time", "")]), Answer::text("Rain")]);
    assert!(host.step(&mut model));
    let due = host.effects();
    assert_eq!(due.len(), 2, "both are due at once: {due:?}");
    let give = |host: &mut Host<'_>, id: &str| {
        let result = ToolResult::new(id, "ignored", format!("result {id}"));
        host.give(&Command::ToolReturned { call: 1, result, at_ms: 1 })
    };
    give(&mut host, "b").expect("it is due");
    assert!(give(&mut host, "b").is_err(), "a result is taken once");
    assert_eq!(host.effects().len(), 1);
    give(&mut host, "a").expect("it is due");
    let Effect::CallModel { request, .. } = &host.effects()[0] else { panic!("the model is asked again") };
    let last = request.messages.last().expect("there are messages");
    let results: Vec<_> =
        last.tool_results().map(|result| (result.id.as_str(), result.name.as_str())).collect();
    assert_eq!(results, [("a", "weather"), ("b", "time")], "in the order of the calls");
    host.run(model);
    assert_eq!(host.roles(), [Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
    assert_eq!((host.state.end(), host.state.rounds()), (Some(&End::Answered), 1));
}

#[test]
fn what_cannot_be_called_is_answered_for_the_model_to_read() {
    let spec = solo(vec![AgentTool::new(tool("weather"))]);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    let first = calls(&[("a", "nothing", "{}"), ("b", "weather", "{broken"), ("c", "weather", "[1]")]);
    host.run(script(vec![first, Answer::text("Sorry")]));
    let history = host.state.history();
    let results: Vec<_> = history[2].message.tool_results().collect();
    assert_eq!(results[0].text(), "Tool not found: nothing. The tools are: weather");
    assert!(results[1].text().starts_with("the arguments must be a JSON object: "), "{}", results[1].text());
    assert_eq!(results[2].text(), "the arguments must be a JSON object");
    assert!(results.iter().all(|result| result.error));
    assert_eq!(host.status(), "complete");
}

#[test]
fn ids_that_a_model_repeats_are_told_apart() {
    let spec = solo(vec![AgentTool::new(tool("weather"))]);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    let again = || calls(&[("call_0", "weather", "{}"), ("call_0", "weather", "{}")]);
    host.run(script(vec![again(), again(), Answer::text("Done")]));
    let history = host.state.history();
    let ids: Vec<&str> =
        history.iter().flat_map(|entry| entry.message.tool_calls()).map(|call| call.id.as_str()).collect();
    let results: Vec<&str> = history
        .iter()
        .flat_map(|entry| entry.message.tool_results())
        .map(|result| result.id.as_str())
        .collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (4, 4), "{ids:?}");
    assert_eq!(ids, results);
}

#[test]
fn a_person_approves_a_tool_or_not() {
    let mut guarded = AgentTool::new(tool("pay"));
    guarded.approval = true;
    let spec = solo(vec![guarded]);
    for (approved, expected) in
        [(true, r#"pay got {"eur":5}"#), (false, "The call was not approved: too dear")]
    {
        let mut host = Host::new(&spec);
        host.start("Pay");
        let mut model = script(vec![calls(&[("a", "pay", r#"{"eur":5}"#)]), Answer::text("Done")]);
        host.step(&mut model);
        let Effect::Approve { call, id, arguments, .. } = host.effects().remove(0) else {
            panic!("it is asked first")
        };
        assert_eq!(arguments.to_string(), r#"{"eur":5}"#);
        let early = Command::ToolReturned { call, result: ToolResult::new("a", "pay", ""), at_ms: 1 };
        assert!(host.give(&early).is_err(), "it has not been called");
        let reason = Some("too dear".to_owned());
        host.give(&Command::ToolDecided { call, id, approved, reason, at_ms: 1 }).expect("it waits for this");
        host.run(model);
        assert_eq!(
            host.state.history()[2].message.tool_results().next().expect("there is one").text(),
            expected
        );
    }
}

#[test]
fn a_handoff_passes_the_conversation_on() {
    let sales = with_tools(
        "Sales",
        vec![
            AgentTool::handoff(tool("to_support"), "Support"),
            AgentTool::handoff(tool("to_boss"), "Boss"),
            AgentTool::new(tool("look_up")),
        ],
    );
    let spec = Spec::new(vec![sales, agent("Support")], Mode::Handoff);
    let mut host = Host::new(&spec);
    host.start("Help!");
    let first = calls(&[("a", "look_up", "{}"), ("b", "to_support", "{}"), ("c", "to_boss", "{}")]);
    let mut model = script(vec![first, Answer::text("Solved")]);
    host.run(|purpose, request| {
        if let Purpose::Turn { speaker } = purpose
            && speaker == "Support"
        {
            let heard: Vec<&Message> = request.messages.iter().filter(|m| m.role != Role::System).collect();
            assert_eq!(heard, [&Message::user("Help!")], "calls and results of others are their own");
        }
        model(purpose, request)
    });
    assert_eq!(host.spoken(), ["-: Help!", "Support: Solved"]);
    let history = host.state.history();
    let results: Vec<String> = history[2].message.tool_results().map(ToolResult::text).collect();
    assert_eq!(
        results,
        [
            "look_up got {}",
            "The conversation is handed over to Support.",
            "The conversation is already handed over to Support.",
        ]
    );
    assert!(host.events.contains(&Event::HandedOff { from: "Sales".to_owned(), to: "Support".to_owned() }));
}

#[test]
fn a_handoff_to_someone_else_ends_the_conversation() {
    let spec = solo(vec![AgentTool::handoff(tool("to_sales"), "SalesAgent")]);
    let mut host = Host::new(&spec);
    host.start("Buy");
    host.run(script(vec![calls(&[("a", "to_sales", "{}")])]));
    assert_eq!(host.state.end(), Some(&End::HandedOff { to: "SalesAgent".to_owned() }));
    assert_eq!((host.status(), host.roles().len()), ("handed-off", 3));
}

#[test]
fn after_a_person_the_floor_returns() {
    let helper = with_tools("Helper", vec![AgentTool::handoff(tool("ask"), "Owner")]);
    let owner =
        Participant::new("Owner", ParticipantKind::Human(loom_models::conversation::Human::default()));
    let spec = Spec::new(vec![helper, owner], Mode::Handoff);
    let mut host = Host::new(&spec);
    host.start("Do it");
    host.run(script(vec![calls(&[("a", "ask", "{}")]), Answer::text("Thanks")]));
    assert_eq!(host.spoken(), ["-: Do it", "Owner: I am Owner", "Helper: Thanks"]);
    assert_eq!((host.state.rounds(), host.state.end()), (3, Some(&End::Answered)));
}

#[test]
fn the_form_of_an_answer_is_asked_for_three_times() {
    let mut spec = solo(Vec::new());
    let ParticipantKind::Agent(ann) = &mut spec.participants[0].kind else { panic!("she is an agent") };
    ann.output =
        OutputFormat::JsonSchema(OutputSchema::new("o", Json::object([("type", Json::from("object"))])));
    let mut host = Host::new(&spec);
    host.start("JSON, please");
    let mut asked = Vec::new();
    let mut model = script(vec![Answer::text("Sure!"), Answer::text("```json\n{\"a\":1}\n```")]);
    host.run(|purpose, request| {
        asked.push(request.messages.len());
        model(purpose, request)
    });
    assert_eq!(asked, [2, 4], "the second request shows the wrong answer and what is wrong with it");
    assert_eq!(host.state.history().len(), 2, "rejected answers are not part of the history");

    let mut host = Host::new(&spec);
    host.start("JSON, please");
    let mut cut = Answer::text("{\"a\":");
    cut.stop = StopReason::Length;
    host.run(script(vec![cut.clone(), cut.clone(), cut]));
    let reason = "The answer was cut off before its JSON ended. Answer shorter.".to_owned();
    assert_eq!(host.state.end(), Some(&End::Unreadable { speaker: "Ann".to_owned(), reason }));
    assert_eq!(host.state.spent().calls, 3, "wrong answers are paid for as well");

    let mut host = Host::new(&spec);
    host.start("JSON, please");
    let problem = Some("`a` is missing".to_owned());
    host.give(&Command::ModelAnswered { call: 1, answer: Answer::text("{}"), problem, at_ms: 1 })
        .expect("it is due");
    let Effect::CallModel { request, .. } = &host.effects()[0] else { panic!("it is asked again") };
    let told = request.messages.last().expect("there is one").text();
    assert_eq!(told, "The answer does not match the schema: `a` is missing");
}

#[test]
fn a_paused_turn_is_continued_and_a_failed_call_ends_it() {
    let spec = solo(Vec::new());
    let mut host = Host::new(&spec);
    host.start("Long");
    let mut paused = Answer::text("First");
    paused.stop = StopReason::Pause;
    host.run(script(vec![paused, Answer::text("Second")]));
    assert_eq!(host.spoken(), ["-: Long", "Ann: First", "Ann: Second"]);

    let mut host = Host::new(&spec);
    host.start("Fail");
    host.run(|_, _| Err(ModelError::new(ErrorKind::Overloaded, "later")));
    assert!(matches!(host.state.end(), Some(End::ModelFailed { speaker, .. }) if speaker == "Ann"));
    assert_eq!((host.status(), host.state.spent().calls), ("error", 1));
}

#[test]
fn turns_have_a_limit() {
    let mut spec = solo(vec![AgentTool::new(tool("weather"))]);
    spec.limit.turns = Some(2);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    host.run(|_, _| Ok(calls(&[("a", "weather", "{}")])));
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Turns }));
    assert_eq!(host.roles(), [Role::User, Role::Assistant, Role::Tool, Role::Assistant, Role::Tool]);
}

#[test]
fn a_tool_can_end_the_conversation_without_another_call() {
    let mut spec = solo(vec![AgentTool::new(tool("submit")), AgentTool::new(tool("look"))]);
    spec.termination = vec![Termination::ToolCalled("submit".to_owned())];
    let mut host = Host::new(&spec);
    host.start("Work");
    host.run(script(vec![calls(&[("a", "look", "{}")]), calls(&[("b", "submit", "{}")])]));
    assert_eq!(host.state.end(), Some(&End::Terminated { by: Some(0) }));
    assert_eq!(host.state.spent().calls, 2);
}

#[test]
fn cancelling_keeps_what_had_arrived_and_closes_open_tools() {
    let spec = solo(vec![AgentTool::new(tool("weather"))]);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    let mut partial = Answer::text("It will").with_usage(Usage::new(5, 2));
    partial.stop = StopReason::Cancelled;
    host.give(&Command::Cancel { partial: vec![(1, partial)], at_ms: 1 }).expect("it runs");
    assert_eq!(host.spoken(), ["-: Weather?", "Ann: It will"]);
    assert_eq!((host.status(), host.state.spent().usage.total()), ("cancelled", 7));
    assert!(host.effects().is_empty());

    let mut host = Host::new(&spec);
    host.start("Weather?");
    host.step(&mut script(vec![calls(&[("a", "weather", "{}"), ("b", "weather", "{}")])]));
    let result = ToolResult::new("b", "", "rain");
    host.give(&Command::ToolReturned { call: 1, result, at_ms: 1 }).expect("it is due");
    host.give(&Command::Cancel { partial: Vec::new(), at_ms: 1 }).expect("it runs");
    let history = host.state.history();
    let results: Vec<(String, bool)> =
        history[2].message.tool_results().map(|result| (result.text(), result.error)).collect();
    assert_eq!(
        results,
        [("The conversation ended before the tool returned.".to_owned(), true), ("rain".to_owned(), false)]
    );
}

#[test]
fn reasoning_stays_with_its_speaker() {
    let spec = solo(vec![AgentTool::new(tool("weather"))]);
    let mut host = Host::new(&spec);
    host.start("Weather?");
    let mut first = calls(&[("a", "weather", "{}")]);
    first.message.content.insert(0, Part::Reasoning(loom_models::Reasoning::new("Hm")));
    let mut model = script(vec![first, Answer::text("Rain")]);
    host.run(|purpose, request| {
        if request.messages.len() > 2 {
            assert_eq!(request.messages[2].reasoning(), "Hm", "the provider gets its reasoning back");
        }
        model(purpose, request)
    });
}
