//! Agents, handoffs and Emit: what loads, and what is reported.

use loom_definition::{Definition, LoadOptions, Status, model::ActionKind};

pub(crate) fn text(actions: &str) -> String {
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#)
}

/// Code, marked text and message of the first problem.
#[track_caller]
pub(crate) fn problem(actions: &str) -> (&'static str, String, String) {
    let text = text(actions);
    let all = match Definition::parse(text.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics.0,
    };
    let found = all.first().unwrap_or_else(|| panic!("no problem in {text}"));
    let words = format!("{} ({})", found.message, found.hint.clone().unwrap_or_default());
    (found.code, text[found.span.clone()].to_owned(), words)
}

fn agent(tools: &str, more: &str) -> String {
    format!(r#"{{"type": "Agent", "inputs": {{}}, "tools": {{{tools}}}{more}}}"#)
}

fn handoff(tool: &str, action: &str, to: &str) -> String {
    format!(
        r#""{tool}": {{"actions": {{"{action}": {{"type": "AgentHandoff", "inputs": {{"name": "{to}"}}}}}}}}"#
    )
}

#[test]
fn agents_that_handoffs_name_start_only_then() {
    let actions = format!(
        r#"{{"First": {}, "Second": {}, "Third": {}, "Other": {}}}"#,
        agent(&handoff("t", "h1", "second"), ""),
        agent(&format!("{}, {}", handoff("u", "h2", "Third"), handoff("v", "h3", "First")), ""),
        agent("", r#", "runAfter": {"First": ["HandedOff", "Succeeded"]}"#),
        agent("", ""),
    );
    let loaded = Definition::parse(text(&actions).as_bytes(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    let workflow = loaded.workflow;
    let waits = |name: &str| workflow.action(workflow.find_action(name).unwrap()).is_handed_to;
    // `Other` begins; `Third` follows another action, although it can be handed to.
    assert_eq!(["First", "Second", "Third", "Other"].map(waits), [true, true, false, false]);
    let third = workflow.action(workflow.find_action("Third").unwrap());
    assert!(third.run_after[0].statuses.contains(Status::HandedOff));
    let ActionKind::Agent { tools, .. } = &workflow.action(workflow.find_action("First").unwrap()).kind
    else {
        panic!("it is an agent");
    };
    assert_eq!(tools[0].handoff.as_deref(), Some("second"));

    let circle = format!(
        r#"{{"A": {}, "B": {}}}"#,
        agent(&handoff("t", "h1", "B"), ""),
        agent(&handoff("u", "h2", "A"), "")
    );
    let workflow = Definition::parse(text(&circle).as_bytes(), &LoadOptions::default()).unwrap().workflow;
    let waits = |name: &str| workflow.action(workflow.find_action(name).unwrap()).is_handed_to;
    assert_eq!(
        ["A", "B"].map(waits),
        [false, true],
        "the first of those that hand over to each other begins"
    );
}

#[test]
fn wrong_handoffs_are_reported() {
    let unknown =
        format!(r#"{{"A": {}, "Sales": {}}}"#, agent(&handoff("t", "h", "Sale"), ""), agent("", ""));
    let (code, marked, says) = problem(&unknown);
    assert_eq!((code, marked.as_str()), ("L0223", r#""t""#));
    assert_eq!(
        says,
        "`A` hands over to `Sale`, which is not another Agent beside it (did you mean `Sales`?)"
    );
    let alone = r#"{"H": {"type": "AgentHandoff", "inputs": {"name": "A"}}}"#;
    assert_eq!(problem(alone).2, "`H` must be the only action of a tool ()");
    let computed = format!(r#"{{"A": {}}}"#, agent(&handoff("t", "h", "@{triggerBody()}"), ""));
    assert!(problem(&computed).2.contains('A'), "{:?}", problem(&computed));
}

#[test]
fn an_emit_has_an_event_or_progress() {
    for inputs in [r#"{"data": 1}"#, r#"{"event": "a", "progress": {}}"#] {
        let (code, _, says) = problem(&format!(r#"{{"E": {{"type": "Emit", "inputs": {inputs}}}}}"#));
        assert_eq!(code, "L0222");
        assert!(says.starts_with("an Emit needs either `event` with `data`, or `progress`"), "{says}");
    }
    assert!(problem(r#"{"E": {"type": "Emit"}}"#).2.contains("inputs"));
    let good = r#"{"E": {"type": "Emit", "inputs": "@triggerBody()"}}"#;
    assert!(Definition::parse(text(good).as_bytes(), &LoadOptions::default()).is_ok());
}

#[test]
fn a_misspelled_type_of_a_model_action_has_a_suggestion() {
    let (code, _, says) = problem(r#"{"A": {"type": "AII", "inputs": {"prompt": "x"}}}"#);
    assert_eq!((code, says.ends_with("(did you mean `AI`?)")), ("L0203", true), "{says}");
}

#[test]
fn only_what_sends_data_out_of_the_run_can_refuse_untrusted_data() {
    let refuses = |kind: &str, value: &str| {
        let inputs = match kind {
            "Emit" => r#"{"event": "e"}"#,
            "Response" => r#"{"statusCode": 200}"#,
            _ => r#"{"uri": "http://s"}"#,
        };
        format!(r#"{{"A": {{"type": "{kind}", "inputs": {inputs}, "acceptsUntrusted": {value}}}}}"#)
    };
    for kind in ["Http", "Response", "Emit", "McpClientTool"] {
        let loaded = Definition::parse(text(&refuses(kind, "false")).as_bytes(), &LoadOptions::default());
        let workflow = loaded.unwrap_or_else(|all| panic!("{kind}: {all}")).workflow;
        assert!(!workflow.actions[0].accepts_untrusted, "{kind}");
    }
    let (code, marked, words) = problem(&refuses("Compose", "false"));
    assert_eq!((code, &*marked), ("L0308", "false"));
    assert!(words.contains("has no effect on this action"), "{words}");
    let (code, marked, words) = problem(&refuses("Http", r#""no""#));
    assert_eq!(
        (code, &*marked, words.contains("must be a boolean, found a string")),
        ("L0103", r#""no""#, true)
    );
}

#[test]
fn a_role_that_no_message_has_is_marked() {
    let messages = |role: &str| {
        format!(
            r#"{{"A": {{"type": "Agent", "inputs": {{"parameters": {{"messages": [{{"role": "User", "content": "x"}}, {{"role": {role}, "content": "y"}}]}}}}}}}}"#
        )
    };
    let (code, marked, words) = problem(&messages(r#""Sytem""#));
    assert_eq!((code, &*marked), ("L0308", r#""Sytem""#));
    assert!(
        words.contains("must be System, User or Assistant (got `Sytem`)")
            && words.contains("did you mean `System`?"),
        "{words}"
    );
    for role in [r#""system""#, r#""ASSISTANT""#, r#""@triggerBody()?['role']""#] {
        let loaded = Definition::parse(text(&messages(role)).as_bytes(), &LoadOptions::default()).unwrap();
        assert_eq!(loaded.warnings, [], "{role}");
    }
}

#[test]
fn a_misspelt_property_of_an_emit_is_marked() {
    let emit = |inputs: &str| format!(r#"{{"A": {{"type": "Emit", "inputs": {inputs}}}}}"#);
    for (inputs, name, hint) in [
        (r#"{"event": "e", "dta": 1}"#, r#""dta""#, "did you mean `data`?"),
        (r#"{"event": "e", "volume": 1}"#, r#""volume""#, "available: `event`, `data`, `progress`"),
        (r#"{"progress": {"current": 1, "totl": 2}}"#, r#""totl""#, "did you mean `total`?"),
    ] {
        let (code, marked, words) = problem(&emit(inputs));
        assert_eq!((code, &*marked), ("L0222", name), "{words}");
        assert!(words.contains(hint), "{words}");
    }
}

#[test]
fn a_tool_can_be_a_call_itself() {
    let tools = r#""docs": {"type": "McpClientTool", "kind": "BuiltIn", "inputs": {"Connection": {"McpServerUrl": "https://s/mcp"}}, "onUncertain": "fail", "limit": {"timeout": "PT5S"}},
        "order": {"type": "OpenApiConnection", "description": "d", "inputs": {"host": {"connectionName": "shop", "operationId": "Get"}, "parameters": {"tenant": "@triggerBody()"}}}"#;
    let actions = format!(r#"{{"A": {}}}"#, agent(tools, ""));
    let loaded = Definition::parse(text(&actions).as_bytes(), &LoadOptions::default())
        .unwrap_or_else(|all| panic!("{all}"));
    assert_eq!(loaded.warnings, []);
    let workflow = loaded.workflow;
    let ActionKind::Agent { tools, inputs, .. } = &workflow.actions[0].kind else { panic!("it is an agent") };
    let shared = inputs.source_value().get("tools").cloned().unwrap_or_default();
    assert_eq!(
        shared.to_json_text(),
        r#"{"docs":{"Connection":{"McpServerUrl":"https://s/mcp"}},"order":{"host":{"connectionName":"shop","operationId":"Get"},"fixed":["tenant"]}}"#
    );
    let call = |index: usize| workflow.action(tools[index].call.expect("it is a call itself"));
    assert_eq!((&*call(0).name, &*call(0).type_name, call(0).is_untrusted), ("docs", "McpClientTool", true));
    assert!(call(0).timeout.is_some());
    let uncertain = call(0).resilience.as_ref().map(|own| own.on_uncertain);
    assert_eq!(uncertain, Some(loom_definition::policy::OnUncertain::Fail));
    let inputs_of = |index: usize| match &call(index).kind {
        ActionKind::Effect { inputs, .. } => inputs.source_value().to_json_text(),
        other => panic!("{other:?}"),
    };
    assert!(
        inputs_of(0)
            .ends_with(r#""tool":"@agentParameters('tool')","arguments":"@agentParameters('arguments')"}"#)
    );
    assert!(
        inputs_of(1).ends_with(r#""arguments":"@agentParameters('arguments')"}"#)
            && !inputs_of(1).contains("tool")
    );
    let (code, marked, words) = problem(&format!(
        r#"{{"A": {}}}"#,
        agent(r#""t": {"type": "Http", "inputs": {"uri": "http://s"}}"#, "")
    ));
    assert_eq!((code, &*marked), ("L0227", r#""Http""#));
    assert!(words.contains("the tool `t` must have `actions`, or be itself"), "{words}");
}

#[test]
fn a_misspelt_property_of_a_tool_is_marked() {
    let tool = |properties: &str| {
        let tools =
            format!(r#""t": {{{properties}, "actions": {{"C": {{"type": "Compose", "inputs": 1}}}}}}"#);
        format!(r#"{{"A": {}}}"#, agent(&tools, ""))
    };
    for (wrong, meant) in [
        ("agentParameterShema", "agentParameterSchema"),
        ("descripton", "description"),
        ("aproval", "approval"),
    ] {
        let (code, marked, words) = problem(&tool(&format!(r#""{wrong}": true"#)));
        assert_eq!((code, marked), ("L0227", format!("\"{wrong}\"")), "{words}");
        assert_eq!(words, format!("unknown property `{wrong}` in the tool `t` (did you mean `{meant}`?)"));
    }
    let good = tool(r#""description": "d", "x-owner": "us", "metadata": {}"#);
    let loaded = Definition::parse(text(&good).as_bytes(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.warnings, [], "what resembles nothing is kept");
    let wrong = format!(r#"{{"A": {}}}"#, agent(r#""t": {"actoins": {}}"#, ""));
    assert_eq!(problem(&wrong).0, "L0227", "{:?}", problem(&wrong));
}

#[test]
fn an_argument_that_the_tool_does_not_have_is_marked() {
    let tool = |schema: &str, inputs: &str| {
        let tools = format!(
            r#""t": {{"description": "d"{schema}, "actions": {{"S": {{"type": "Scope", "actions": {{"C": {{"type": "Compose", "inputs": "{inputs}"}}}}}}}}}}"#
        );
        format!(r#"{{"A": {}}}"#, agent(&tools, ""))
    };
    let schema =
        r#", "agentParameterSchema": {"type": "object", "properties": {"city": {"type": "string"}}}"#;
    let (code, marked, words) = problem(&tool(schema, "It rains in @{agentParameters('ctiy')}"));
    assert_eq!((code, &*marked), ("L0515", "'ctiy'"));
    assert_eq!(words, "the tool `t` has no parameter `ctiy` (did you mean `city`?)");
    let (code, _, words) = problem(&tool("", "@agentParameters('city')"));
    assert_eq!((code, words.contains("agentParameterSchema")), ("L0515", true), "{words}");
    let outside = r#"{"C": {"type": "Compose", "inputs": "@agentParameters('x')"}}"#;
    assert_eq!(
        problem(outside).2,
        "`agentParameters('x')` is not inside a tool of an Agent (only the actions of a tool have arguments)"
    );
    let open = r#", "agentParameterSchema": {"type": "object", "properties": {"city": {}}, "additionalProperties": true}"#;
    for (schema, inputs) in [
        (schema, "@agentParameters('CITY')"),
        (schema, "@agentParameters(concat('ci', 'ty'))"),
        (open, "@agentParameters('country')"),
    ] {
        let text = text(&tool(schema, inputs));
        let loaded = Definition::parse(text.as_bytes(), &LoadOptions::default()).unwrap();
        assert_eq!(loaded.warnings, [], "{inputs}");
    }
    // An agent in a tool has the arguments of that tool; its own tools have theirs.
    let inner = r#"{"type": "Agent", "inputs": {"parameters": {"messages": [{"role": "User", "content": "@agentParameters('city')"}]}},
        "tools": {"u": {"description": "d", "agentParameterSchema": {"type": "object", "properties": {"number": {}}}, "actions": {"D": {"type": "Compose", "inputs": "@agentParameters('NAME')"}}}}}"#;
    let outer = |name: &str| {
        let tools = format!(
            r#""t": {{"description": "d"{schema}, "actions": {{"Inner": {}}}}}"#,
            inner.replace("NAME", name)
        );
        format!(r#"{{"A": {}}}"#, agent(&tools, ""))
    };
    assert_eq!(problem(&outer("city")).2, "the tool `u` has no parameter `city` (available: `number`)");
    let loaded = Definition::parse(text(&outer("number")).as_bytes(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.warnings, []);
}
