//! What belongs to the run: parameters, variables, results of actions, the trigger, loops, secrets, memory.

use super::{ANY, Arguments, Body, Category, Function, Outcome, ex_in};
use crate::{Context, Lookup, Name, NameKind, ReferenceKind, Value, evaluate::lookup_failed};

const fn ask(name: &'static str, kind: ReferenceKind, ask: fn(&dyn Context) -> Lookup) -> Function {
    Function::new(Category::Workflow, name, (0, 0), Body::Ask(ask)).mentions(kind)
}

const fn by_name(
    name: &'static str,
    kind: ReferenceKind,
    ask: fn(&dyn Context, Name<'_>) -> Lookup,
) -> Function {
    Function::new(Category::Workflow, name, (1, 1), Body::AskByName(ask)).mentions(kind)
}

const ACTIONS: &str = r#"{"actions": {"Get": {"name": "Get", "status": "Succeeded", "outputs": {"statusCode": 200, "body": {"a": 1}}}, "Skip": {"status": "Skipped"}}}"#;
const TRIGGER: &str =
    r#"{"trigger": {"name": "manual", "outputs": {"headers": {"X-A": "1"}, "body": {"id": 7}}}}"#;

pub(super) static FUNCTIONS: &[Function] = &[
    by_name("parameters", ReferenceKind::Parameter, |context, name| context.parameter(name))
        .names(NameKind::Parameter)
        .docs("parameters(name: string) → any", "The value of a parameter of the workflow.")
        .examples(&[ex_in(r#"{"parameters": {"fullName": "Sophia"}}"#, "@parameters('fullName')", "\"Sophia\"")]),
    by_name("variables", ReferenceKind::Variable, |context, name| context.variable(name))
        .names(NameKind::Variable)
        .docs("variables(name: string) → any", "The value of a variable of the run.")
        .examples(&[ex_in(r#"{"variables": {"count": 3}}"#, "@variables('count')", "3"), ex_in(r#"{"variables": {"count": 3}}"#, "@variables('cuont')", "error")]),
    by_name("actions", ReferenceKind::Action, |context, name| context.action(name))
        .names(NameKind::Action)
        .docs("actions(name: string) → object", "The record of an action: status, inputs, outputs, times. An action that has not run is an error.")
        .examples(&[ex_in(ACTIONS, "@actions('Get').status", "\"Succeeded\"")]),
    by_name("outputs", ReferenceKind::ActionOutputs, |context, name| context.action_outputs(name))
        .names(NameKind::Action).aliases(&["actionOutputs"])
        .docs("outputs(name: string) → any", "The outputs of an action, null when it has none.")
        .examples(&[ex_in(ACTIONS, "@outputs('Get')['statusCode']", "200"), ex_in(ACTIONS, "@outputs('Skip')", "null")]),
    by_name("body", ReferenceKind::ActionBody, |context, name| context.action_body(name))
        .names(NameKind::Action).aliases(&["actionBody"])
        .docs("body(name: string) → any", "The member `body` of an action's outputs, null when there is none.")
        .examples(&[ex_in(ACTIONS, "@body('Get')?['a']", "1")]),
    by_name("result", ReferenceKind::Result, |context, name| context.result(name))
        .names(NameKind::Action)
        .docs("result(block: string) → array", "The records of the actions of a block's first level, after the block has finished.")
        .examples(&[ex_in(r#"{"results": {"Try": [{"name": "A", "status": "Failed"}]}}"#, "@result('Try')[0].status", "\"Failed\"")]),
    ask("trigger", ReferenceKind::Trigger, |context| context.trigger()).aliases(&["triggers"])
        .docs("trigger() → object", "The record of the trigger.")
        .examples(&[ex_in(TRIGGER, "@trigger().name", "\"manual\"")]),
    ask("triggerOutputs", ReferenceKind::Trigger, |context| context.trigger_outputs())
        .docs("triggerOutputs() → any", "The outputs of the trigger.")
        .examples(&[ex_in(TRIGGER, "@triggerOutputs()?['headers']?['x-a']", "\"1\"")]),
    ask("triggerBody", ReferenceKind::Trigger, |context| context.trigger_body())
        .docs("triggerBody() → any", "The member `body` of the trigger's outputs, null when there is none.")
        .examples(&[ex_in(TRIGGER, "@triggerBody()?['id']", "7")]),
    ask("action", ReferenceKind::CurrentAction, |context| context.current_action())
        .docs("action() → object", "The record of the action at hand, where there is one: tracked properties, conditions of Until, unsubscribing from a webhook.")
        .examples(&[ex_in(r#"{"action": {"status": "Succeeded"}}"#, "@action().status", "\"Succeeded\"")]),
    ask("item", ReferenceKind::Item, |context| context.item())
        .docs("item() → any", "The item at hand of the innermost Foreach, or of Query, Select or Table.")
        .examples(&[ex_in(r#"{"item": {"n": 2}}"#, "@item()['n']", "2"), ex_in("{}", "@item()", "error")]),
    by_name("items", ReferenceKind::LoopItem, |context, name| context.items(name))
        .names(NameKind::Loop)
        .docs("items(loop: string) → any", "The item at hand of the named Foreach.")
        .examples(&[ex_in(r#"{"loops": {"Each": {"item": "a"}}}"#, "@items('Each')", "\"a\"")]),
    by_name("iterationIndexes", ReferenceKind::LoopIndex, |context, name| context.iteration_index(name))
        .names(NameKind::Loop)
        .docs("iterationIndexes(loop: string) → integer", "The index of the iteration at hand of the named Until, from 0.")
        .examples(&[ex_in(r#"{"loops": {"Until": {"index": 4}}}"#, "@iterationIndexes('Until')", "4")]),
    ask("workflow", ReferenceKind::Workflow, |context| context.workflow())
        .docs("workflow() → object", "The workflow and the run: name, type, id, location, tags, and `run` with name, type and id.")
        .examples(&[ex_in(r#"{"workflow": {"name": "w", "run": {"name": "r1"}}}"#, "@workflow().run.name", "\"r1\"")]),
    ask("listCallbackUrl", ReferenceKind::CallbackUrl, |context| context.callback_url())
        .docs("listCallbackUrl() → string", "The address at which a webhook trigger or action is called back.")
        .examples(&[ex_in(r#"{"callbackUrl": "https://loom.example/c/1"}"#, "@listCallbackUrl()", "\"https://loom.example/c/1\"")]),
    by_name("appsetting", ReferenceKind::AppSetting, |context, name| context.app_setting(name.text))
        .docs("appsetting(name: string) → string", "A setting of the host.")
        .examples(&[ex_in(r#"{"appSettings": {"REGION": "west"}}"#, "@appsetting('REGION')", "\"west\"")]),
    by_name("agentParameters", ReferenceKind::AgentParameter, |context, name| context.agent_parameter(name.text))
        .docs("agentParameters(name: string) → any", "What the model passed for a parameter of an agent's tool.")
        .examples(&[ex_in(r#"{"agentParameters": {"city": "Oslo"}}"#, "@agentParameters('city')", "\"Oslo\"")]),
    by_name("secret", ReferenceKind::Secret, |context, name| context.secret(name.text).map(Value::into_secret))
        .docs("secret(name: string) → any", "A secret of the host. The value, and all that is computed from it, is labelled and never shown.")
        .examples(&[ex_in(r#"{"secrets": {"key": "s3"}}"#, "@concat('Bearer ', secret('key'))", "\"Bearer s3\"")]),
    memory("memory", (1, 2), "memory(key: string, default?: any) → any", "What the shared memory holds under a key; the default, or null, when it holds nothing."),
    memory("memoryKeys", (0, 1), "memoryKeys(prefix?: string) → array", "The keys of the shared memory that start with the prefix."),
    memory("memoryExists", (1, 1), "memoryExists(key: string) → boolean", "Whether the shared memory holds something under a key."),
    memory("memorySearch", (1, ANY), "memorySearch(query: string, limit?: integer) → array", "What the shared memory holds that is nearest to the query."),
];

const fn memory(
    name: &'static str,
    arity: (usize, usize),
    signature: &'static str,
    docs: &'static str,
) -> Function {
    Function::new(Category::Workflow, name, arity, Body::Plain(ask_memory))
        .mentions(ReferenceKind::Memory)
        .docs(signature, docs)
}

fn ask_memory(arguments: &mut Arguments<'_>) -> Outcome {
    let operation = arguments.function.info.name.to_ascii_lowercase();
    arguments
        .context
        .memory(&operation, arguments.values)
        .map_err(|error| lookup_failed(arguments.function, arguments.values.first(), error))
}
