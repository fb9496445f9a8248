//! Group chats, approvals and questions to people: what loads, and what is reported where.

use loom_definition::{
    Definition, LoadOptions, Workflow,
    model::{ActionKind, ChatExpression, EffectKind, Tool, ToolRole},
};

use crate::agents;

/// The action, as one named `Chat`.
fn actions(action: &str) -> String {
    format!(r#"{{"Chat": {action}}}"#)
}

fn load(action: &str) -> std::sync::Arc<Workflow> {
    let text = agents::text(&actions(action));
    let loaded =
        Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap_or_else(|all| panic!("{all}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.workflow
}

fn tools(workflow: &Workflow) -> &[Tool] {
    match &workflow.action(workflow.find_action("Chat").expect("the chat is there")).kind {
        ActionKind::Agent { tools, .. } => tools,
        other => panic!("{other:?}"),
    }
}

/// Code, marked text and message of the first problem.
#[track_caller]
fn problem(action: &str) -> (&'static str, String, String) {
    agents::problem(&actions(action))
}

const AGENT: &str = r#"{"agent": {"modelId": "m", "messages": []}}"#;

/// A chat of `Ann` and `Bob`, with more inputs, and more beside them.
fn chat(inputs: &str, more: &str) -> String {
    format!(
        r#"{{"type": "GroupChat", "inputs": {{"initialMessage": "Hi", "participants": {{"Ann": {AGENT}, "Bob": {AGENT}}}{inputs}}}{more}}}"#
    )
}

/// A chat with this participant beside `Ann`.
fn with(name: &str, participant: &str) -> String {
    format!(
        r#"{{"type": "GroupChat", "inputs": {{"initialMessage": "Hi", "participants": {{"Ann": {AGENT}, "{name}": {participant}}}}}}}"#
    )
}

#[test]
fn everything_that_a_chat_needs_has_a_block() {
    let workflow = load(
        r#"{"type": "GroupChat", "inputs": {"initialMessage": "@triggerBody()", "mode": "selector",
            "coordinator": {"modelId": "m"}, "candidates": "@createArray('Ann')",
            "participants": {
                "Ann": {"agent": {"modelId": "m", "messages": [], "handoffs": ["owner"], "tools": {
                    "look": {"description": "looks", "approval": true, "actions": {"Look": {"type": "Compose", "inputs": 1}}}}}},
                "Owner": {"human": {"message": "Well?", "timeout": "P1D"}},
                "Desk": {"workflow": {"id": "desk"}},
                "Team": {"actions": {"Work": {"type": "Compose", "inputs": "@agentParameters('message')"}}}},
            "termination": [{"any": [{"expression": "@true"}, {"external": "run/stop"}]}, {"speaker": "Owner", "expression": "@false"}],
            "memory": {"key": "chat:x"}}}"#,
    );
    let roles: Vec<ToolRole> = tools(&workflow).iter().map(|tool| tool.role).collect();
    let expression = |number| ToolRole::Expression(ChatExpression::Termination(number));
    assert_eq!(
        roles,
        [
            ToolRole::Tool { approval: true },
            ToolRole::Approval(0),
            ToolRole::Speaker,
            ToolRole::Speaker,
            ToolRole::Speaker,
            ToolRole::Expression(ChatExpression::Candidates),
            expression(0),
            expression(1),
            expression(2),
            ToolRole::Recall,
            ToolRole::Remember,
        ]
    );
    let kind =
        |name: &str| &workflow.action(workflow.find_action(name).unwrap_or_else(|| panic!("{name}"))).kind;
    for name in ["Chat.Owner", "Chat.Ann.look.approval"] {
        assert!(matches!(kind(name), ActionKind::Effect { effect: EffectKind::Signal, .. }), "{name}");
    }
    assert!(matches!(kind("Chat.Desk"), ActionKind::Effect { effect: EffectKind::Workflow, .. }));
    assert!(matches!(kind("Chat.remember"), ActionKind::Effect { effect: EffectKind::Memory, .. }));
    assert!(matches!(kind("Chat.termination-1"), ActionKind::Compose { .. }));
    let owner = workflow.action(workflow.find_action("Chat.Owner").unwrap());
    assert!(owner.timeout.is_some(), "the deadline is the timeout of the action");
    // The chat itself does not evaluate what its blocks do, and knows the expressions by their numbers.
    let ActionKind::Agent { inputs, .. } = kind("Chat") else { panic!("it is a chat") };
    let inputs = inputs.source_value().to_json_text();
    assert!(inputs.contains(r#"{"speaker":"Owner","expression":2}"#), "{inputs}");
    assert!(
        !inputs.contains("look") && !inputs.contains("Well?") && !inputs.contains("createArray"),
        "{inputs}"
    );
}

#[test]
fn mistakes_of_a_chat_are_reported_where_they_are() {
    let selecting = r#", "mode": "selector", "coordinator": {"modelId": "m"}"#;
    for (action, marked, says) in [
        (
            chat(r#", "mod": 1"#, ""),
            r#""mod""#,
            "unknown property `mod` in a GroupChat (did you mean `mode`?)",
        ),
        (chat(r#", "mode": "rounds""#, ""), r#""rounds""#, "`mode` must be roundRobin, selector"),
        (chat(r#", "mode": "selector""#, ""), "{", "the mode `selector` needs `coordinator`"),
        (chat(r#", "mode": "expression""#, ""), "{", "the mode `expression` needs `next`"),
        (chat(r#", "mode": "expression", "next": "Bob""#, ""), r#""Bob""#, "`next` must be an expression"),
        (
            chat(r#", "next": "@'Bob'""#, ""),
            r#""@'Bob'""#,
            "`next` belongs to the mode `expression` (the mode is `roundRobin`)",
        ),
        (
            chat(r#", "candidates": "@createArray()""#, ""),
            r#""@createArray()""#,
            "`candidates` belongs to the modes",
        ),
        (chat(&format!(r#"{selecting}, "candidates": []"#), ""), "[]", "`candidates` must be an expression"),
        (chat(r#", "coordinator": 1"#, ""), "1", "`coordinator` must be an object, found a number"),
        (chat(r#", "coordinator": {"goals": 1}"#, ""), r#""goals""#, "did you mean `goal`?"),
        (
            chat(r#", "coordinator": {"modelId": "m", "attempts": 0}"#, ""),
            "0",
            "`coordinator.attempts` must be an integer of at least 1 (got 0)",
        ),
        (chat(r#", "coordinator": {"mayTerminate": 1}"#, ""), "1", "`mayTerminate` must be a boolean"),
        (
            chat(r#", "allowRepeatedSpeaker": 1"#, ""),
            "1",
            "`allowRepeatedSpeaker` must be a boolean, found a number",
        ),
        (chat(r#", "memory": {}"#, ""), "{", "`memory` needs `key`"),
        (chat(r#", "memory": {"key": 1}"#, ""), "1", "`key` must be an address"),
        (chat(r#", "response": {}"#, ""), "{", "`response` must be an object with `json_schema`"),
        (
            chat("", r#", "limit": {"rounds": 0}"#),
            "0",
            "`limit.rounds` must be an integer of at least 1 (got 0)",
        ),
        (chat("", r#", "limit": {"token": 1}"#), r#""token""#, "did you mean `tokens`?"),
        (chat(r#", "termination": {}"#, ""), "{", "`termination` must be an array of conditions"),
        (chat(r#", "termination": [{}]"#, ""), "{", "must be an object with a condition"),
        (chat(r#", "termination": [{"round": 1}]"#, ""), r#""round""#, "did you mean `rounds`?"),
        (chat(r#", "termination": [{"rounds": -1}]"#, ""), "-1", "`rounds` must be an integer of at least 1"),
        (chat(r#", "termination": [{"cost": 0}]"#, ""), "0", "`cost` must be a positive number"),
        (
            chat(r#", "termination": [{"timeout": "soon"}]"#, ""),
            r#""soon""#,
            "`timeout` must be an ISO 8601 duration",
        ),
        (chat(r#", "termination": [{"text": ""}]"#, ""), r#""""#, "`text` must be a string"),
        (
            chat(r#", "termination": [{"text": {"text": "x", "speakers": ["Bo"]}}]"#, ""),
            r#""Bo""#,
            "`speakers` names `Bo`, which is not a participant of the chat (did you mean `Bob`?)",
        ),
        (chat(r#", "termination": [{"speaker": "Bo"}]"#, ""), r#""Bo""#, "`speaker` names `Bo`"),
        (chat(r#", "termination": [{"handoffTo": "Zoe"}]"#, ""), r#""Zoe""#, "`handoffTo` names `Zoe`"),
        (
            chat(r#", "termination": [{"toolCalled": "t"}]"#, ""),
            r#""t""#,
            "`toolCalled` names `t`, which is not a tool",
        ),
        (
            chat(r#", "termination": [{"expression": "yes"}]"#, ""),
            r#""yes""#,
            "`expression` must be an expression",
        ),
        (
            chat(r#", "termination": [{"external": "stop"}]"#, ""),
            r#""stop""#,
            "`external` must be an address",
        ),
        (
            chat(r#", "termination": [{"coordinator": true}]"#, ""),
            "true",
            "needs the `coordinator` of the chat",
        ),
        (
            chat(r#", "termination": [{"legacyKeywords": false}]"#, ""),
            "false",
            "`legacyKeywords` must be `true`",
        ),
        (
            chat(r#", "termination": [{"any": [{"speaker": "Zoe"}]}]"#, ""),
            r#""Zoe""#,
            "`speaker` names `Zoe`",
        ),
        (with("TERMINATE", AGENT), r#""TERMINATE""#, "a participant must have a name other than `TERMINATE`"),
        (with("ann", AGENT), r#""ann""#, "two participants have the name `ann`"),
        (with("a/b", AGENT), r#""a/b""#, "a name without `/`"),
        (with("Bob", "1"), "1", "participant `Bob` must be an object, found a number"),
        (
            with("Bob", "{}"),
            "{",
            "must have exactly one of `agent`, `workflow`, `human` and `actions`, found none",
        ),
        (with("Bob", r#"{"human": {}, "workflow": {"id": "x"}}"#), "{", "found workflow and human"),
        (with("Bob", r#"{"human": {"default": 1}}"#), "1", "`default` of participant `Bob` must be a string"),
        (
            with("Bob", r#"{"human": {"deadline": "P1D"}}"#),
            r#""deadline""#,
            "unknown property `deadline` in `human`",
        ),
        (with("Bob", r#"{"workflow": {}}"#), "{", "needs `id`, the name of the workflow"),
        (with("Bob", r#"{"actions": {}}"#), "{", "must have at least one action"),
        (with("Bob", r#"{"agent": {"model": "m"}}"#), r#""model""#, "unknown property `model` in `agent`"),
        (
            with("Bob", r#"{"agent": {"modelId": "m", "handoffs": ["An"]}}"#),
            r#""An""#,
            "`handoffs` names `An`, which is not a participant of the chat (did you mean `Ann`?)",
        ),
        (
            with("Bob", r#"{"agent": {"modelId": "m", "handoffs": "Ann"}}"#),
            r#""Ann""#,
            "must be an array of participants",
        ),
        (
            with(
                "Bob",
                r#"{"agent": {"modelId": "m", "tools": {"t": {"actions": {"H": {"type": "AgentHandoff", "inputs": {"name": "Zoe"}}}}}}}"#,
            ),
            r#""t""#,
            "the handoff names `Zoe`",
        ),
        (
            r#"{"type": "GroupChat", "inputs": {"initialMessage": "x", "participants": []}}"#.to_owned(),
            "[]",
            "`participants` must be an object",
        ),
        (
            r#"{"type": "GroupChat", "inputs": {"initialMessage": "x", "participants": {}}}"#.to_owned(),
            "{",
            "at least one participant",
        ),
    ] {
        let (code, found, message) = problem(&action);
        assert_eq!(code, "L0230", "{action}: {message}");
        assert!(message.contains(says), "{action}\n  {message}\n  should say {says}");
        assert!(found.starts_with(marked), "{action}: marked {found}, not {marked}");
    }
    for missing in ["participants", "initialMessage"] {
        let whole = chat("", "").replace(missing, "description");
        let problems = Definition::parse(agents::text(&actions(&whole)).as_bytes(), &LoadOptions::default())
            .unwrap_err()
            .0;
        let says = format!("`Chat` needs `inputs.{missing}`");
        assert!(
            problems.iter().any(|problem| problem.code == "L0104" && problem.message == says),
            "{problems:?}"
        );
    }
}

#[test]
fn approvals_and_questions_are_checked() {
    let agent = |approval: &str| {
        format!(
            r#"{{"type": "Agent", "inputs": {{}}, "tools": {{"t": {{"approval": {approval}, "actions": {{"C": {{"type": "Compose", "inputs": 1}}}}}}}}}}"#
        )
    };
    for (approval, marked, says) in [
        ("1", "1", "`approval` of `t` must be a boolean or an object, found a number"),
        (r#"{"timeouts": 1}"#, r#""timeouts""#, "did you mean `timeout`?"),
        (
            r#"{"default": "yes"}"#,
            r#""yes""#,
            "`default` of an approval must be `approve` or `reject` (got `yes`)",
        ),
    ] {
        let (code, found, message) = problem(&agent(approval));
        assert_eq!((code, found.as_str()), ("L0231", marked), "{message}");
        assert!(message.contains(says), "{message}");
    }
    let workflow = load(&agent(r#"{"timeout": "P1D", "default": "approve", "message": "Really?"}"#));
    assert_eq!(tools(&workflow)[1].role, ToolRole::Approval(0));
    assert_eq!(tools(&load(&agent("false"))).len(), 1, "a tool without approval has no further block");
    for (inputs, code, says) in [
        ("{}", "L0104", "`Chat` needs `inputs.message`"),
        (r#"{"message": "x", "ask": "vote"}"#, "L0231", "`ask` must be `reply` or `approval` (got `vote`)"),
        (r#"{"message": "x", "tos": "y"}"#, "L0231", "unknown property `tos`"),
        (r#""x""#, "L0231", "must be an object, found a string"),
    ] {
        let (found, _, message) = problem(&format!(r#"{{"type": "AskPerson", "inputs": {inputs}}}"#));
        assert_eq!(found, code, "{message}");
        assert!(message.contains(says), "{message}");
    }
    load(
        r#"{"type": "AskPerson", "inputs": {"message": "x", "ask": "approval"}, "limit": {"timeout": "P1D"}}"#,
    );
}
