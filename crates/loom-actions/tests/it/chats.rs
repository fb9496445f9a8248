//! `GroupChat` actions in a real engine, with scripted models.

use std::sync::{Arc, Mutex};

use loom_actions::{Connections, Settings, Sources, request_handlers, requests};
use loom_definition::{Definition, LoadOptions, RunStatus};
use loom_engine::{Engine, Event, RunReport, RunRequest, RunState, Watcher, clock::SystemClock};
use loom_expression::Value;

use crate::support::json;

/// Collects the outputs of the turns of `Chat`, in order.
#[derive(Default)]
struct Turns(Mutex<Vec<Value>>);

impl Watcher for Turns {
    fn events(&self, state: &RunState, events: &[Event]) {
        for event in events {
            let Event::AttemptEnded { place, outcome, .. } = event else { continue };
            if &*state.workflow().action(place.action).name == "Chat" {
                self.0.lock().unwrap().extend(outcome.outputs.clone());
            }
        }
    }
}

struct Played {
    report: Arc<RunReport>,
    turns: Vec<Value>,
}

impl Played {
    /// The record of the chat.
    fn record(&self) -> Value {
        let outputs = self.report.outputs.as_ref();
        let outputs = outputs.unwrap_or_else(|| panic!("the run failed: {:?}", self.report.error));
        let it = outputs.get("it").expect("the output");
        it.get("value").unwrap_or(it).clone()
    }

    fn output(&self, name: &str) -> Value {
        self.record().get("outputs").and_then(|outputs| outputs.get(name)).cloned().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.output(name).text().into_owned()
    }

    fn history(&self) -> Vec<String> {
        let items = self.output("history");
        let item = |item: &Value| {
            let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
            format!("{}: {}", text("name"), text("content"))
        };
        items.as_array().expect("a history").iter().map(item).collect()
    }

    fn speakers(&self) -> Vec<String> {
        let spoken = self.history();
        spoken.iter().skip(1).map(|line| line.split(':').next().unwrap().to_owned()).collect()
    }

    /// The names of what watchers are shown, in order.
    fn shown(&self) -> Vec<String> {
        let shown = self.turns.iter().filter_map(|turn| turn.get("chat")?.as_array().cloned());
        let name = |event: &Value| {
            let name = event.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
            match event.get("speaker").and_then(Value::as_str) {
                Some(speaker) => format!("{name} {speaker}"),
                None => name,
            }
        };
        shown.flat_map(|events| events.iter().map(name).collect::<Vec<_>>()).collect()
    }
}

async fn play(models: &str, chat: &str) -> Played {
    let file = json(&format!(r#"{{"models": {models}}}"#));
    let connections = Connections::from_json(&file, &Sources::default()).unwrap();
    let requests = requests(Settings { connections, ..Settings::default() }, Arc::new(SystemClock)).unwrap();
    let turns = Arc::new(Turns::default());
    let mut builder = Engine::builder().watcher(Arc::clone(&turns) as Arc<dyn Watcher>);
    for (kind, handler) in request_handlers(&requests) {
        builder = builder.handler(kind, handler);
    }
    let text = r#"{"triggers": {"manual": {"type": "Request"}},
        "actions": {"Chat": CHAT, "After": {"type": "Compose", "inputs": 1, "runAfter": {"Chat": ["Succeeded", "Failed"]}}},
        "outputs": {"it": {"type": "object", "value": "@actions('Chat')"}}}"#
        .replace("CHAT", chat);
    let loaded =
        Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_or_else(|all| panic!("{all}"));
    let mut request = RunRequest::manual(loaded.workflow, Vec::new(), None);
    request.outputs = json("{}");
    let report = builder.build().run(request).await.unwrap().expect("the run ends");
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    let turns = turns.0.lock().unwrap().clone();
    Played { report, turns }
}

/// A model that answers every request of a speaker with the speaker's name.
const TALKERS: &str = r#"{"talk": {"api": "scripted", "replies": [
    {"when": {"system": "You are Alice"}, "text": "Alice speaks", "usage": {"inputTokens": 10, "outputTokens": 2}},
    {"when": {"system": "You are Bob"}, "text": "Bob speaks", "usage": {"inputTokens": 10, "outputTokens": 2}},
    {"when": {"system": "You are Carol"}, "text": "Carol speaks", "usage": {"inputTokens": 10, "outputTokens": 2}}]},
    "boss": {"api": "scripted", "replies": [BOSS]}}"#;

fn talkers(boss: &str) -> String {
    TALKERS.replace("BOSS", boss)
}

/// A chat of these participants, who speak through `talk`.
fn chat(names: &[&str], inputs: &str, more: &str) -> String {
    let participants: Vec<String> = names
        .iter()
        .map(|name| format!(r#""{name}": {{"role": "tester", "description": "{name} talks", "agent": {{"modelId": "talk", "messages": [{{"role": "System", "content": "You are {name}."}}]}}}}"#))
        .collect();
    format!(
        r#"{{"type": "GroupChat", "inputs": {{"initialMessage": "Discuss", "participants": {{{}}}{inputs}}}{more}}}"#,
        participants.join(", ")
    )
}

fn limited(rounds: u32) -> String {
    format!(r#", "limit": {{"rounds": {rounds}}}"#)
}

#[tokio::test]
async fn speakers_without_a_coordinator_take_turns() {
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], "", &limited(4))).await;
    assert_eq!(played.speakers(), ["Alice", "Bob", "Alice", "Bob"]);
    assert_eq!(played.history()[0], "-: Discuss");
    assert_eq!((played.output("rounds"), played.text("status")), (4.into(), "max-rounds".to_owned()));
    assert_eq!(played.text("stopReason"), "roundLimit");
    assert_eq!(played.output("usage").get("totalTokens"), Some(&48.into()));
    assert_eq!(played.output("calls"), 4.into());
    assert_eq!(played.text("summary"), "Bob speaks");
}

#[tokio::test]
async fn three_rounds_are_a_history_of_four_and_each_message_has_id_timestamp_and_content() {
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], "", &limited(3))).await;
    let items = played.output("history");
    let items = items.as_array().unwrap();
    assert_eq!((items.len(), played.output("rounds")), (4, 3.into()));
    let mut ids = Vec::new();
    for item in items {
        for property in ["id", "timestamp", "content", "role"] {
            assert!(item.get(property).and_then(Value::as_str).is_some(), "{item:?} has no {property}");
        }
        ids.push(item.get("id").unwrap().text().into_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 4, "ids are unique");
    assert_eq!(items[0].get("role"), Some(&"user".into()));
    assert_eq!(items[1].get("role"), Some(&"agent".into()));
    let five = play(&talkers(""), &chat(&["Alice", "Bob"], "", &limited(5))).await;
    assert_eq!((five.output("rounds"), five.text("status")), (5.into(), "max-rounds".to_owned()));
    let default = play(&talkers(""), &chat(&["Alice", "Bob"], "", "")).await;
    assert_eq!(default.output("rounds"), 10.into(), "the default");
}

#[tokio::test]
async fn watchers_are_shown_the_events_in_order() {
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], "", &limited(2))).await;
    assert_eq!(
        played.shown(),
        [
            "message",
            "progress",
            "speaker-selected Alice",
            "message",
            "progress",
            "speaker-selected Bob",
            "message",
        ]
    );
    // Who speaks is recorded before the model is asked.
    assert!(played.turns[0].get("text").is_none() && played.turns[1].get("text").is_some());
}

#[tokio::test]
async fn with_a_coordinator_it_ends_before_ten_rounds_with_complete() {
    let boss = r#"{"json": {"next": "Bob", "reason": "r"}}, {"json": {"next": "alice"}}, {"json": {"next": "TERMINATE"}}"#;
    let selecting = r#", "mode": "selector", "coordinator": {"modelId": "boss", "goal": "all is said"}"#;
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], selecting, "")).await;
    assert_eq!(played.speakers(), ["Bob", "Alice"]);
    assert_eq!((played.output("rounds"), played.text("status")), (2.into(), "complete".to_owned()));
    assert!(played.shown().contains(&"termination-detected".to_owned()));
    assert_eq!(played.output("calls"), 5.into(), "selections are counted");
}

#[tokio::test]
async fn a_selector_that_answers_rubbish_an_unknown_name_or_half_of_it_is_replaced_with_a_warning() {
    let selecting = r#", "mode": "selector", "coordinator": {"modelId": "boss"}"#;
    for boss in [
        r#"{"text": "well..."}, {"json": {"next": "Nobody"}}, {"text": "{\"next\": \"Bo", "stop": "length"}"#,
        r#"{"error": {"kind": "authentication", "message": "no key"}}"#,
    ] {
        let played = play(&talkers(boss), &chat(&["Alice", "Bob"], selecting, &limited(1))).await;
        assert_eq!(played.speakers(), ["Alice"], "{boss}");
        let warnings = played.output("warnings").to_json_text();
        assert!(warnings.contains("the next in turn speaks"), "{boss}: {warnings}");
        assert!(played.shown().contains(&"warning".to_owned()));
    }
    // One bad answer is put right by the feedback.
    let boss = r#"{"json": {"next": "Nobody"}}, {"json": {"next": "Bob"}}"#;
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], selecting, &limited(1))).await;
    assert_eq!((played.speakers(), played.output("warnings").is_null()), (vec!["Bob".to_owned()], true));
}

#[tokio::test]
async fn expressions_choose_the_speaker_and_the_end() {
    let inputs = r#", "mode": "expression", "next": "@if(equals(agentParameters('speaker'), 'Bob'), 'Alice', 'Bob')",
        "termination": [{"expression": "@equals(agentParameters('round'), 3)"}]"#;
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], inputs, "")).await;
    assert_eq!(played.speakers(), ["Bob", "Alice", "Bob"]);
    assert_eq!(played.text("stopReason"), "termination[0]: expression");
    // One that cannot be evaluated fails the chat, with its own message.
    let broken = inputs.replace("equals(agentParameters('round'), 3)", "int('x')");
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], &broken, "")).await;
    let error = played.record().get("error").cloned().unwrap_or_default().to_json_text();
    assert!(error.contains("The chat cannot continue after 'termination-0'"), "{error}");
    // One that names nobody ends it.
    let nobody = inputs.replace("'Alice', 'Bob')", "'Alice', 'Zoe')");
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], &nobody, "")).await;
    let error = played.record().get("error").cloned().unwrap_or_default().to_json_text();
    assert!(error.contains("Agent not found: Zoe"), "{error}");
}

#[tokio::test]
async fn each_condition_ends_the_chat_and_its_absence_does_not() {
    for (condition, rounds, why) in [
        (r#"{"rounds": 2}"#, 2, "2 rounds"),
        (r#"{"messages": 4}"#, 3, "4 messages"),
        (r#"{"tokens": 20}"#, 2, "20 tokens"),
        (r#"{"text": "Bob"}"#, 2, "text `Bob`"),
        (r#"{"text": {"text": "speaks", "speakers": ["Bob"]}}"#, 2, "text `speaks`"),
        (r#"{"speaker": "Bob"}"#, 2, "speaker `Bob`"),
        (r#"{"speaker": "Bob", "rounds": 4}"#, 4, "speaker `Bob` and 4 rounds"),
        (r#"{"any": [{"rounds": 9}, {"text": "Bob speaks"}]}"#, 2, "9 rounds or text `Bob speaks`"),
        // Part of a longer word is not the word.
        (r#"{"text": "Bo"}"#, 5, ""),
        (r#"{"text": {"text": "Alice", "speakers": ["Bob"]}}"#, 5, ""),
    ] {
        let inputs = format!(r#", "termination": [{condition}]"#);
        let played = play(&talkers(""), &chat(&["Alice", "Bob"], &inputs, &limited(5))).await;
        assert_eq!(played.output("rounds"), rounds.into(), "{condition}");
        if rounds < 5 {
            assert_eq!(played.text("stopReason"), format!("termination[0]: {why}"), "{condition}");
        }
    }
}

#[tokio::test]
async fn a_goal_is_checked_only_when_nothing_cheaper_ends_the_chat() {
    let inputs = |first: &str| {
        format!(r#", "coordinator": {{"modelId": "boss"}}, "termination": [{first}{{"coordinator": true}}]"#)
    };
    let boss = r#"{"json": {"terminate": false}}, {"json": {"terminate": true}}"#;
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], &inputs(""), "")).await;
    assert_eq!((played.output("rounds"), played.output("calls")), (2.into(), 4.into()));
    assert_eq!(played.text("stopReason"), "termination[0]: goal reached");
    // The script of the coordinator is empty: a check would fail.
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], &inputs(r#"{"rounds": 1}, "#), "")).await;
    assert_eq!((played.output("rounds"), played.output("calls")), (1.into(), 1.into()));
}

#[tokio::test]
async fn a_budget_ends_the_chat_with_what_it_has() {
    let limit = r#", "limit": {"rounds": 50, "tokens": 400}"#;
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], "", limit)).await;
    assert_eq!(
        (played.text("status"), played.text("stopReason")),
        ("limit".to_owned(), "tokenLimit".to_owned())
    );
    let used = played.output("usage").get("totalTokens").and_then(Value::as_i64).unwrap();
    assert!(used <= 400 && used > 12, "{used}");
    assert!(played.history().len() > 2, "what was said is kept");
    assert!(played.text("body").contains("speaks"));
    let failing = format!(r#"{limit}, "operationOptions": "FailWhenLimitsReached""#);
    let played = play(&talkers(""), &chat(&["Alice", "Bob"], "", &failing)).await;
    assert_eq!(played.record().get("code"), Some(&"ChatLimitReached".into()));
    assert!(played.history().len() > 2, "a failed chat keeps what was said, too");
}

#[tokio::test]
async fn all_speak_in_a_broadcast_and_the_coordinator_aggregates() {
    let boss = r#"{"text": "Together: all is well"}"#;
    let inputs = r#", "mode": "broadcast", "coordinator": {"modelId": "boss"}"#;
    let played = play(&talkers(boss), &chat(&["Alice", "Bob", "Carol"], inputs, "")).await;
    assert_eq!(
        played.history(),
        [
            "-: Discuss",
            "Alice: Alice speaks",
            "Bob: Bob speaks",
            "Carol: Carol speaks",
            "coordinator: Together: all is well"
        ]
    );
    assert_eq!(played.text("summary"), "Together: all is well");
    let alone = play(&talkers(""), &chat(&["Alice", "Bob"], r#", "mode": "broadcast""#, "")).await;
    assert_eq!(alone.speakers(), ["Alice", "Bob"], "without a coordinator nothing is aggregated");
}

#[tokio::test]
async fn a_manager_that_sees_no_progress_plans_anew_and_stops() {
    let stuck = r#"{"json": {"next": "Alice", "instruction": "try", "progress": false}},
        {"json": {"next": "Bob", "instruction": "try", "progress": false}},
        {"text": "A new plan"}, {"json": {"next": "Alice", "instruction": "again", "progress": true}},
        {"json": {"next": "Bob", "instruction": "again", "progress": false}}"#;
    let inputs =
        r#", "mode": "manager", "coordinator": {"modelId": "boss", "stallsMax": 0, "replansMax": 1}"#;
    let played = play(&talkers(stuck), &chat(&["Alice", "Bob"], inputs, "")).await;
    assert_eq!(
        (played.text("status"), played.text("stopReason")),
        ("error".to_owned(), "stalled".to_owned())
    );
    assert_eq!(played.record().get("code"), Some(&"ChatStalled".into()));
    assert!(played.history().contains(&"coordinator: A new plan".to_owned()), "{:?}", played.history());
    assert!(played.history().contains(&"coordinator: Alice, try".to_owned()), "instructions are heard");
}

/// Alice calls a tool and hands over to Bob.
const HANDING: &str = r#"{"talk": {"api": "scripted", "replies": [
    {"when": {"system": "You are Alice"}, "toolCalls": [{"name": "lookup", "arguments": {"id": 7}}], "times": 1},
    {"when": {"system": "You are Alice"}, "text": "Over to Bob.", "toolCalls": [{"name": "transfer_to_Bob", "arguments": {}}]},
    {"when": {"system": "You are Bob"}, "text": "Bob answers"}]}}"#;

const HANDING_CHAT: &str = r#"{"type": "GroupChat", "inputs": {"initialMessage": "Where is 7?", "mode": "handoff", "participants": {
    "Alice": {"agent": {"modelId": "talk", "messages": [], "handoffs": ["bob"], "tools": {
        "lookup": {"description": "finds", "agentParameterSchema": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
            "actions": {"Find": {"type": "Compose", "inputs": "@concat('found ', string(agentParameters('id')))"}}}}}},
    "Bob": {"description": "knows the rest", "agent": {"modelId": "talk", "messages": []}}} MORE}}"#;

#[tokio::test]
async fn a_participant_calls_tools_and_hands_over() {
    let played = play(HANDING, &HANDING_CHAT.replace("MORE", "")).await;
    assert_eq!(played.text("stopReason"), "answered");
    assert_eq!(played.speakers(), ["Alice", "Alice", "Bob"]);
    let items = played.output("history");
    let calls = items.as_array().unwrap()[1].get("toolCalls").unwrap().to_json_text();
    assert!(calls.contains("found 7") && calls.contains("lookup"), "a call is with its result: {calls}");
    let ends = HANDING_CHAT.replace("MORE", r#", "termination": [{"handoffTo": "Bob"}]"#);
    let played = play(HANDING, &ends).await;
    assert_eq!(played.text("stopReason"), "termination[0]: handoff to `Bob`");
    assert!(!played.speakers().contains(&"Bob".to_owned()));
    let called = HANDING_CHAT.replace("MORE", r#", "termination": [{"toolCalled": "lookup"}]"#);
    let played = play(HANDING, &called).await;
    assert_eq!(played.text("stopReason"), "termination[0]: tool `lookup` called");
}

#[tokio::test]
async fn a_chat_inside_a_chat_says_its_summary_and_actions_speak() {
    let inner = r#"{"type": "GroupChat", "inputs": {"initialMessage": "@agentParameters('message')", "participants": {
        "Carol": {"agent": {"modelId": "talk", "messages": [{"role": "System", "content": "You are Carol."}]}}}}, "limit": {"rounds": 1}}"#;
    let outer = format!(
        r#"{{"type": "GroupChat", "limit": {{"rounds": 3}}, "inputs": {{"initialMessage": "Discuss", "participants": {{
            "Alice": {{"agent": {{"modelId": "talk", "messages": []}}}},
            "Team": {{"description": "a team", "actions": {{"Inner": {inner}}}}},
            "Echo": {{"actions": {{"Repeat": {{"type": "Compose", "inputs": "@concat('heard ', agentParameters('message'), ' from ', agentParameters('speaker'))"}}}}}}}}}}}}"#
    );
    let played = play(&talkers(""), &outer).await;
    assert_eq!(
        played.history(),
        ["-: Discuss", "Alice: Alice speaks", "Team: Carol speaks", "Echo: heard Carol speaks from Team"]
    );
    // A participant that fails ends the chat, which keeps what was said.
    let broken = outer.replace(
        "concat('heard ', agentParameters('message'), ' from ', agentParameters('speaker'))",
        "int('x')",
    );
    let played = play(&talkers(""), &broken).await;
    assert_eq!((played.text("stopReason"), played.history().len()), ("noReply".to_owned(), 3));
    assert_eq!(played.record().get("code"), Some(&"ChatNoReply".into()));
}

#[tokio::test]
async fn the_result_matches_the_schema_of_the_response() {
    let schema = r#", "response": {"json_schema": {"name": "result", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}}}"#;
    let inputs = format!(r#"{schema}, "coordinator": {{"modelId": "boss"}}"#);
    let boss = r#"{"json": {"ok": "maybe"}}, {"json": {"ok": true}}"#;
    let played = play(&talkers(boss), &chat(&["Alice"], &inputs, &limited(1))).await;
    assert_eq!(played.output("body").get("ok"), Some(&true.into()));
    assert_eq!(played.text("summary"), "Alice speaks");
    let never = r#"{"text": "no"}, {"text": "no"}, {"text": "no"}"#;
    let played = play(&talkers(never), &chat(&["Alice"], &inputs, &limited(1))).await;
    assert!(played.output("warnings").to_json_text().contains("there is no response"));
    assert_eq!(played.text("body"), "Alice speaks");
}

#[tokio::test]
async fn the_speaker_is_not_repeated_unless_it_may_be() {
    let boss = r#"{"json": {"next": "Bob"}}, {"json": {"next": "Bob"}}, {"json": {"next": "Bob"}}, {"json": {"next": "Bob"}}, {"json": {"next": "Bob"}}"#;
    let selecting = r#", "mode": "selector", "coordinator": {"modelId": "boss"}"#;
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], selecting, &limited(2))).await;
    assert_eq!(played.speakers(), ["Bob", "Alice"], "the fallback after a name that is not allowed");
    let repeated = format!(r#"{selecting}, "allowRepeatedSpeaker": true"#);
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], &repeated, &limited(2))).await;
    assert_eq!(played.speakers(), ["Bob", "Bob"]);
    let narrowed = format!(r#"{selecting}, "candidates": "@createArray('Alice')""#);
    let played = play(&talkers(boss), &chat(&["Alice", "Bob"], &narrowed, &limited(1))).await;
    assert_eq!(played.speakers(), ["Alice"], "Bob is not a candidate");
}

#[tokio::test]
async fn a_speaker_whose_model_fails_for_good_ends_the_chat_with_what_was_said() {
    let models = talkers("").replace(
        r#""text": "Bob speaks", "usage": {"inputTokens": 10, "outputTokens": 2}"#,
        r#""error": {"kind": "authentication", "message": "no key"}"#,
    );
    let played = play(&models, &chat(&["Alice", "Bob"], "", "")).await;
    assert_eq!(played.record().get("code"), Some(&"ChatModelFailed".into()));
    assert_eq!(played.history(), ["-: Discuss", "Alice: Alice speaks"]);
}

#[tokio::test]
async fn the_keywords_of_the_first_loom_still_end_a_chat() {
    let models = talkers("").replace("Bob speaks", "We are finished");
    let inputs = r#", "termination": [{"legacyKeywords": true}]"#;
    let played = play(&models, &chat(&["Alice", "Bob"], inputs, "")).await;
    // More than three messages are needed.
    assert_eq!((played.output("rounds"), played.text("status")), (3.into(), "complete".to_owned()));
    assert_eq!(play(&models, &chat(&["Alice", "Bob"], "", "")).await.output("rounds"), 10.into());
}

#[tokio::test]
async fn each_reduction_limits_what_speakers_see_and_not_what_is_kept() {
    let models = r#"{"talk": {"api": "scripted", "replies": [
        {"when": {"any": "Discuss"}, "text": "I see how it began"},
        {"when": {"any": "SUMMARY"}, "text": "I read a summary"},
        {"when": {"system": "You are"}, "text": "I see the end"}]},
        "boss": {"api": "scripted", "replies": [
            {"when": {"any": ""}, "text": "SUMMARY of the chat"}]}}"#;
    let reduced = |kind: &str, more: &str| {
        format!(
            r#", "coordinator": {{"modelId": "boss"}}, "agentHistoryReductionSettings": {{"agentHistoryReductionType": "{kind}"{more}}}"#
        )
    };
    for (inputs, last) in [
        (r#", "coordinator": {"modelId": "boss"}"#.to_owned(), "I see how it began"),
        (reduced("messageCountReduction", r#", "messageCountLimit": 3"#), "I see the end"),
        (reduced("messageCountReduction", r#", "messageCountLimit": 30"#), "I see how it began"),
        (reduced("maximumTokenCountReduction", r#", "maximumTokenCount": 60"#), "I see the end"),
        (reduced("maximumTokenCountReduction", ""), "I see how it began"),
        (
            reduced("summarizationReduction", r#", "targetMessageCount": 2, "thresholdMessageCount": 4"#),
            "I read a summary",
        ),
    ] {
        let played = play(models, &chat(&["Alice", "Bob"], &inputs, &limited(8))).await;
        let history = played.history();
        assert_eq!(history.len(), 9, "{inputs}: the history is whole");
        assert_eq!(history[0], "-: Discuss", "{inputs}");
        assert!(history[8].ends_with(last), "{inputs}: {history:?}");
    }
    for (inputs, says) in [
        (reduced("half", ""), "'agentHistoryReductionType' must be"),
        (reduced("messageCountReduction", ""), "needs 'messageCountLimit'"),
        (reduced("summarizationReduction", r#", "targetMessageCount": 2"#), "needs 'thresholdMessageCount'"),
    ] {
        let played = play(models, &chat(&["Alice", "Bob"], &inputs, &limited(8))).await;
        let error = played.record().get("error").cloned().unwrap_or_default().to_json_text();
        assert!(error.contains(says), "{inputs}: {error}");
    }
}
