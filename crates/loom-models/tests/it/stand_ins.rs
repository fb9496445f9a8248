//! Models that need no provider: scripts and cassettes.

use loom_models::{
    Answer, Cassette, ErrorKind, Message, ModelError, OutputFormat, OutputSchema, Request, Script,
    StopReason, Tool, ToolResult, Usage,
};

fn asked(text: &str) -> Request {
    Request::new("m", vec![Message::system("Be brief."), Message::user(text)])
}

fn script(text: &str) -> Script {
    serde_json::from_str(text).expect("it is a script")
}

#[test]
fn a_script_replies_in_order_and_by_predicate() {
    let script = script(
        r#"{"replies":[
            {"text":"one"},
            {"when":{"last":"judge"},"json":{"next":"Bob","a":1}},
            {"when":{"last":"fail"},"error":{"kind":"overloaded","message":"later"},"times":1},
            {"text":"two","times":2,"stop":"length","usage":{"inputTokens":7,"outputTokens":8}}
        ]}"#,
    );
    let mut state = script.start();
    let mut say = |text: &str| script.reply(&mut state, &asked(text));
    let text = |reply: Result<Result<Answer, ModelError>, _>| {
        reply.expect("it fits").expect("an answer").message.text()
    };
    assert_eq!(text(say("a")), "one");
    assert_eq!(text(say("the judge")), r#"{"next":"Bob","a":1}"#, "JSON keeps its order");
    assert_eq!(say("fail").expect("it fits").expect_err("a failure").kind, ErrorKind::Overloaded);
    let answer = say("fail").expect("the next in order").expect("an answer");
    assert_eq!((answer.stop, answer.usage), (StopReason::Length, Some(Usage::new(7, 8))));
    assert_eq!(text(say("the judge")), r#"{"next":"Bob","a":1}"#, "a predicate is not used up");
    assert_eq!(text(say("b")), "two");
    let error = say("c").expect_err("all are used up");
    assert_eq!(
        error.to_string(),
        "the script has no reply for request 7 to `m`, whose last message is: c; add a reply"
    );
    let error = say("fail").expect_err("it is used up");
    assert!(error.to_string().ends_with("; add a reply, or raise `times`"), "{error}");
}

#[test]
fn predicates_see_all_of_a_request() {
    let mut request = asked("Weather?");
    request.tools = vec![Tool::new("weather", "", loom_models::Json::default())];
    request.messages.push(Message::assistant("I ask."));
    request.messages.push(Message::tool(ToolResult::new("t", "weather", "rain")));
    let matches = |when: &str| {
        let script = script(&format!(r#"{{"replies":[{{"when":{when},"text":"yes"}}]}}"#));
        script.reply(&mut script.start(), &request).is_ok()
    };
    for yes in [
        "{}",
        r#"{"model":"m","system":"brief","last":"rain","any":"Weather","tool":"weather","turn":1}"#,
        r#"{"any":"I ask"}"#,
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        r#"{"model":"other"}"#,
        r#"{"system":"Weather"}"#,
        r#"{"last":"Weather"}"#,
        r#"{"any":"snow"}"#,
        r#"{"tool":"time"}"#,
        r#"{"turn":0}"#,
        r#"{"turn":1,"last":"snow"}"#,
    ] {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn a_script_continues_where_it_was_and_counts_tokens() {
    let script = script(
        r#"{"replies":[{"toolCalls":[{"name":"f"},{"name":"g","arguments":"{broken"}]},{"reasoning":"Hm","text":"four"}]}"#,
    );
    let mut state = script.start();
    let first = script.reply(&mut state, &asked("a")).expect("it fits").expect("an answer");
    let calls: Vec<_> =
        first.message.tool_calls().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("call_1_0", "{}"), ("call_1_1", "{broken")]);
    assert_eq!(first.stop, StopReason::ToolCalls);
    let stored = serde_json::to_string(&state).expect("it can be stored");
    let mut state = serde_json::from_str(&stored).expect("it can be read");
    let request = asked("a");
    let second = script.reply(&mut state, &request).expect("it fits").expect("an answer");
    assert_eq!((second.message.text().as_str(), second.message.reasoning().as_str()), ("four", "Hm"));
    let usage = second.usage.expect("it is estimated");
    assert_eq!((usage.input_tokens, usage.output_tokens), (request.estimated_tokens(), 6));
}

#[test]
fn a_wrong_script_says_what_is_wrong() {
    let error = serde_json::from_str::<Script>(r#"{"replies":[{"txet":"a"}]}"#).expect_err("it is misspelt");
    assert!(error.to_string().contains("unknown field `txet`"), "{error}");
}

#[test]
fn a_cassette_replays_what_it_recorded() {
    let mut cassette = Cassette::default();
    let (one, two) = (asked("one"), asked("two"));
    cassette.record(&one, &Ok(Answer::text("first")));
    cassette.record(&two, &Err(ModelError::new(ErrorKind::Overloaded, "later")));
    cassette.record(&one, &Ok(Answer::text("second")));
    let text = cassette.to_text();
    let cassette = Cassette::parse(text.as_bytes()).expect("it reads what it wrote");
    assert_eq!(cassette.to_text(), text);
    let mut player = cassette.player();
    let said = ["one", "one", "one"]
        .map(|text| player.replay(&asked(text)).expect("it was recorded").expect("an answer").message.text());
    assert_eq!(said, ["first", "second", "second"]);
    assert_eq!(
        player.replay(&two).expect("it was recorded").expect_err("a failure").kind,
        ErrorKind::Overloaded
    );
}

#[test]
fn a_miss_shows_the_first_difference_from_the_nearest_request() {
    let long = "x".repeat(500);
    let mut cassette = Cassette::default();
    cassette.record(&Request::new("other", Vec::new()), &Ok(Answer::text("")));
    cassette.record(&asked(&format!("{long}a")), &Ok(Answer::text("")));
    let mut player = cassette.player();
    let miss = player.replay(&asked(&format!("{long}b"))).expect_err("it was not recorded");
    let (number, difference) = miss.nearest.as_ref().expect("there are requests");
    assert_eq!((*number, difference.pointer.as_str()), (2, "/messages/1/content/0/text"));
    assert!(miss.to_string().len() < 300 && miss.to_string().contains("xxxa\" and is …"), "{miss}");

    let mut more = asked(&format!("{long}a"));
    more.sampling.seed = Some(1);
    let miss = player.replay(&more).expect_err("it was not recorded");
    let difference = miss.nearest.expect("there are requests").1;
    assert_eq!(difference.to_string(), "/sampling was missing and is {\"seed\":1}");
    let miss = Cassette::default().player().replay(&more).expect_err("it is empty");
    assert_eq!(miss.to_string(), "the cassette has no answer to this request; it is empty; record it again");
}

#[test]
fn wrong_cassettes_are_refused() {
    let error = |text: &str| Cassette::parse(text.as_bytes()).expect_err("it is wrong").to_string();
    assert_eq!(error(r#"{"version":2,"interactions":[]}"#), "the version of the cassette must be 1 (got 2)");
    let neither = r#"{"version":1,"interactions":[{"request":{"model":"m","messages":[]}}]}"#;
    assert_eq!(error(neither), "interaction 1 of the cassette must have either `answer` or `error`");
    assert!(error("{}").starts_with("cannot read the cassette: missing field `version`"));
}

#[test]
fn keys_depend_on_what_is_asked_alone() {
    let mut one = asked("a");
    one.output = OutputFormat::JsonSchema(OutputSchema::new(
        "o",
        r#"{"b":1,"a":2}"#.parse::<loom_models::Json>().expect("JSON"),
    ));
    let text = serde_json::to_string(&one).expect("it can be written");
    let again: Request = serde_json::from_str(&text).expect("it can be read");
    assert_eq!((again.key(), again), (one.key(), one.clone()));
    let sorted: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sorted: Request = serde_json::from_value(sorted).expect("it is a request");
    assert_eq!(sorted.key(), one.key(), "a file that a tool has sorted has the same keys");
    assert_ne!(asked("b").key(), asked("a").key());
    assert_eq!(one.key().to_string().len(), 64);
}
