//! The numbers of actions, blocks and variables. Journals refer to them, so a definition must be numbered the same for ever: a
//! change of this test is a change of the journal format.

use loom_definition::{Definition, LoadOptions};

/// Every kind of nesting, in an order that differs from the alphabet and from `runAfter`.
const DEFINITION: &str = r#"{
    "triggers": {"manual": {"type": "Request"}},
    "actions": {
        "Zero": {"type": "Compose", "inputs": 0, "runAfter": {"Vars": ["Succeeded"]}},
        "Vars": {"type": "InitializeVariable", "runAfter": {}, "inputs": {"variables": [
            {"name": "second", "type": "integer"}, {"name": "first", "type": "string"}]}},
        "If": {"type": "If", "expression": "@true", "runAfter": {},
            "else": {"actions": {"If_else": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
            "actions": {
                "If_b": {"type": "Compose", "inputs": 1, "runAfter": {"If_a": ["Succeeded"]}},
                "If_a": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
        "Switch": {"type": "Switch", "expression": "x", "runAfter": {},
            "default": {"actions": {"Switch_default": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
            "cases": {
                "Y": {"case": "y", "actions": {"Case_y": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
                "X": {"case": "x", "actions": {}}}},
        "Each": {"type": "Foreach", "foreach": "@range(0, 2)", "runAfter": {}, "actions": {
            "Scope": {"type": "Scope", "runAfter": {}, "actions": {
                "Until": {"type": "Until", "expression": "@true", "limit": {"count": 2}, "runAfter": {}, "actions": {
                    "Deep": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
                "After": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}},
        "Both": {"type": "Parallel", "runAfter": {}, "inputs": {"branches": [
            {"actions": {"Left": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
            {"Right": {"type": "Compose", "inputs": 1, "runAfter": {}}}]}},
        "While": {"type": "While", "runAfter": {}, "inputs": {"condition": "@false", "actions": {
            "In_while": {"type": "Compose", "inputs": 1, "runAfter": {}}}}},
        "Do": {"type": "DoUntil", "runAfter": {}, "inputs": {"condition": "@true", "actions": {
            "In_do": {"type": "Compose", "inputs": 1, "runAfter": {}}}}},
        "Retry": {"type": "Retry", "runAfter": {}, "inputs": {"action": {"type": "Compose", "inputs": 1}}},
        "Agent": {"type": "Agent", "runAfter": {}, "limit": {"count": 5},
            "inputs": {"parameters": {"messages": []}, "modelConfigurations": {}},
            "tools": {"Tool": {"description": "d", "agentParameterSchema": {"type": "object"}, "actions": {
                "In_tool": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}},
        "Last": {"type": "Compose", "inputs": 1, "runAfter": {}}
    }
}"#;

/// By number: the action, its block, and its position in the block.
const ACTIONS: &str = "\
0 Zero in 0 at 0
1 Vars in 0 at 1
2 If in 0 at 2
3 If_b in 1 at 0
4 If_a in 1 at 1
5 If_else in 2 at 0
6 Switch in 0 at 3
7 Case_y in 3 at 0
8 Switch_default in 5 at 0
9 Each in 0 at 4
10 Scope in 6 at 0
11 Until in 7 at 0
12 Deep in 8 at 0
13 After in 7 at 1
14 Both in 0 at 5
15 Left in 9 at 0
16 Right in 10 at 0
17 While in 0 at 6
18 In_while in 11 at 0
19 Do in 0 at 7
20 In_do in 12 at 0
21 Retry in 0 at 8
22 Retry.action in 13 at 0
23 Agent in 0 at 9
24 In_tool in 14 at 0
25 Last in 0 at 10";

/// By number: the action that owns the block, and the block's role in it.
const BLOCKS: &str = "\
0 Root of the workflow
1 Body of If
2 Else of If
3 Case(0) of Switch
4 Case(1) of Switch
5 Default of Switch
6 Body of Each
7 Body of Scope
8 Body of Until
9 Branch(0) of Both
10 Branch(1) of Both
11 Body of While
12 Body of Do
13 Body of Retry
14 Tool(0) of Agent";

#[test]
fn definitions_are_numbered_in_the_order_of_the_text() {
    let workflow = match Definition::parse(DEFINITION.as_bytes(), &LoadOptions::default()) {
        Ok(loaded) => loaded.workflow,
        Err(diagnostics) => panic!("{diagnostics}"),
    };
    let actions = workflow.actions.iter().enumerate().map(|(number, action)| {
        assert_eq!(action.index.0 as usize, number);
        format!("{number} {} in {} at {}", action.name, action.block.0, action.position)
    });
    assert_eq!(actions.collect::<Vec<_>>().join("\n"), ACTIONS);
    let blocks = workflow.blocks.iter().enumerate().map(|(number, block)| {
        let owner = block.owner.map_or("the workflow", |owner| &workflow.action(owner).name);
        format!("{number} {:?} of {owner}", block.role)
    });
    assert_eq!(blocks.collect::<Vec<_>>().join("\n"), BLOCKS);
    let variables: Vec<&str> = workflow.variables.iter().map(|variable| &*variable.name).collect();
    assert_eq!(variables, ["second", "first"]);
}
