//! Workflow functions, which read the run: parameters, variables, results of actions, the trigger, loops, secrets,
//! memory.

use super::{Arguments, Body, Category, Function, Outcome, arguments::wrong_type, ex_in};
use crate::{
    Context, Labels, Lookup, LookupError, MemoryForm, Name, NameKind, Object, ReferenceKind, Value,
    error::Failure, evaluate::lookup_failed,
};

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
        .docs("parameters(name: string) → any", "Returns the value of a parameter of the workflow.")
        .examples(&[ex_in(r#"{"parameters": {"fullName": "Sophia"}}"#, "@parameters('fullName')", "\"Sophia\"")]),
    by_name("variables", ReferenceKind::Variable, |context, name| context.variable(name))
        .names(NameKind::Variable)
        .docs("variables(name: string) → any", "Returns the value of a variable of the run.")
        .examples(&[ex_in(r#"{"variables": {"count": 3}}"#, "@variables('count')", "3"), ex_in(r#"{"variables": {"count": 3}}"#, "@variables('cuont')", "error")]),
    by_name("actions", ReferenceKind::Action, |context, name| context.action(name))
        .names(NameKind::Action)
        .docs("actions(name: string) → object", "Returns the record of an action: status, inputs, outputs, times. An action that has not run is an error.")
        .examples(&[ex_in(ACTIONS, "@actions('Get').status", "\"Succeeded\"")]),
    by_name("outputs", ReferenceKind::ActionOutputs, |context, name| context.action_outputs(name))
        .names(NameKind::Action).aliases(&["actionOutputs"])
        .docs("outputs(name: string) → any", "Returns the outputs of an action, or null if it has none.")
        .examples(&[ex_in(ACTIONS, "@outputs('Get')['statusCode']", "200"), ex_in(ACTIONS, "@outputs('Skip')", "null")]),
    by_name("body", ReferenceKind::ActionBody, |context, name| context.action_body(name))
        .names(NameKind::Action).aliases(&["actionBody"])
        .docs("body(name: string) → any", "Returns the `body` of an action's outputs, or null if there is none.")
        .examples(&[ex_in(ACTIONS, "@body('Get')?['a']", "1")]),
    by_name("result", ReferenceKind::Result, |context, name| context.result(name))
        .names(NameKind::Action)
        .docs("result(block: string) → array", "Returns the records of the actions directly inside a scope, loop or branch that has finished.")
        .examples(&[ex_in(r#"{"results": {"Try": [{"name": "A", "status": "Failed"}]}}"#, "@result('Try')[0].status", "\"Failed\"")]),
    ask("trigger", ReferenceKind::Trigger, |context| context.trigger()).aliases(&["triggers"])
        .docs("trigger() → object", "Returns the record of the trigger.")
        .examples(&[ex_in(TRIGGER, "@trigger().name", "\"manual\"")]),
    ask("triggerOutputs", ReferenceKind::Trigger, |context| context.trigger_outputs())
        .docs("triggerOutputs() → any", "Returns the outputs of the trigger, or null if it has none.")
        .examples(&[ex_in(TRIGGER, "@triggerOutputs()?['headers']?['x-a']", "\"1\"")]),
    ask("triggerBody", ReferenceKind::Trigger, |context| context.trigger_body())
        .docs("triggerBody() → any", "Returns the `body` of the trigger's outputs, or null if there is none.")
        .examples(&[ex_in(TRIGGER, "@triggerBody()?['id']", "7")]),
    ask("action", ReferenceKind::CurrentAction, |context| context.current_action())
        .docs("action() → object", "Returns the record of the current action. Available in tracked properties, in the condition of an Until loop, and when a webhook action unsubscribes.")
        .examples(&[ex_in(r#"{"action": {"status": "Succeeded"}}"#, "@action().status", "\"Succeeded\"")]),
    ask("item", ReferenceKind::Item, |context| context.item())
        .docs("item() → any", "Returns the current item of the innermost Foreach loop, or of a Query, Select or Table action.")
        .examples(&[ex_in(r#"{"item": {"n": 2}}"#, "@item()['n']", "2"), ex_in("{}", "@item()", "error")]),
    by_name("items", ReferenceKind::LoopItem, |context, name| context.items(name))
        .names(NameKind::Loop)
        .docs("items(loop: string) → any", "Returns the current item of the named Foreach loop.")
        .examples(&[ex_in(r#"{"loops": {"Each": {"item": "a"}}}"#, "@items('Each')", "\"a\"")]),
    by_name("iterationIndexes", ReferenceKind::LoopIndex, |context, name| context.iteration_index(name))
        .names(NameKind::Loop)
        .docs("iterationIndexes(loop: string) → integer", "Returns the index of the current iteration of the named Until loop, starting at 0.")
        .examples(&[ex_in(r#"{"loops": {"Until": {"index": 4}}}"#, "@iterationIndexes('Until')", "4")]),
    ask("workflow", ReferenceKind::Workflow, |context| context.workflow())
        .docs("workflow() → object", "Returns the details of the workflow (name, type, id, location, tags) and, in `run`, of the run (name, type, id).")
        .examples(&[ex_in(r#"{"workflow": {"name": "w", "run": {"name": "r1"}}}"#, "@workflow().run.name", "\"r1\"")]),
    ask("listCallbackUrl", ReferenceKind::CallbackUrl, |context| context.callback_url())
        .docs("listCallbackUrl() → string", "Returns the URL at which a webhook trigger or action receives its callback.")
        .examples(&[ex_in(r#"{"callbackUrl": "https://loom.example/c/1"}"#, "@listCallbackUrl()", "\"https://loom.example/c/1\"")]),
    by_name("appsetting", ReferenceKind::AppSetting, |context, name| context.app_setting(name.text))
        .docs("appsetting(name: string) → string", "Returns an app setting of the host.")
        .examples(&[ex_in(r#"{"appSettings": {"REGION": "west"}}"#, "@appsetting('REGION')", "\"west\"")]),
    by_name("agentParameters", ReferenceKind::AgentParameter, |context, name| context.agent_parameter(name.text))
        .docs("agentParameters(name: string) → any", "Returns the value that the model passed for a parameter of an agent's tool.")
        .examples(&[ex_in(r#"{"agentParameters": {"city": "Oslo"}}"#, "@agentParameters('city')", "\"Oslo\"")]),
    Function::new(Category::Workflow, "secret", (1, 2), Body::Plain(ask_secret))
        .mentions(ReferenceKind::Secret)
        .docs("secret(name: string, version?: string or integer) → any", "Returns a secret of the host: the version in use, or the given one. The name can select a provider, as in `kv:billing/key`. The value and everything computed from it are redacted wherever they would be shown.")
        .examples(&[ex_in(r#"{"secrets": {"key": "s3"}}"#, "@concat('Bearer ', secret('key'))", "\"Bearer s3\""), ex_in(r#"{"secrets": {"key@1": "s1"}}"#, "@secret('key', 1)", "\"s1\"")]),
    Function::new(Category::Workflow, "declassify", (1, 1), Body::Plain(declassify))
        .mentions(ReferenceKind::Declassify)
        .carries()
        .docs("declassify(value: any) → any", "Returns the value without its mark as secret, so that it is shown. Needs a grant of the operator, and is audited.")
        .examples(&[ex_in("{}", "@declassify('x')", "error")]),
    memory("memory", (1, 2), whole)
        .docs("memory(address: string, default?: any) → any", "Returns what a key of shared memory holds, or the default (null if none is given) if the key is absent. The address is `namespace/key`, such as `global/limit`. A list or set is an array, a hash an object, a counter an integer.")
        .examples(&[ex_in(MEMORY, "@memory('global/limit')", "100"), ex_in(MEMORY, "@memory('global/other', 7)", "7"), ex_in(MEMORY, "@memory('workflow/prices').apple", "3"), ex_in(MEMORY, "@memory('limit')", "error")]),
    memory("memoryHash", (1, 2), hash)
        .docs("memoryHash(address: string, field?: string) → any", "Returns a field of a hash in shared memory, or null if it is absent. Without a field, returns all fields as an object.")
        .examples(&[ex_in(MEMORY, "@memoryHash('workflow/prices', 'apple')", "3"), ex_in(MEMORY, "@memoryHash('workflow/prices', 'pear')", "null"), ex_in(MEMORY, "@memoryHash('workflow/other')", "{}"), ex_in(MEMORY, "@memoryHash('global/limit')", "error")]),
    memory("memoryList", (1, 3), list)
        .docs("memoryList(address: string, from?: integer, to?: integer) → array", "Returns the items of a list in shared memory, or those from one position to another, both included. Positions begin at 0, and negative positions count from the end.")
        .examples(&[ex_in(MEMORY, "@memoryList('chat:42/messages')", r#"["a","b","c"]"#), ex_in(MEMORY, "@memoryList('chat:42/messages', -2)", r#"["b","c"]"#), ex_in(MEMORY, "@memoryList('chat:42/messages', 0, 1)", r#"["a","b"]"#), ex_in(MEMORY, "@memoryList('chat:42/other')", "[]")]),
];

const MEMORY: &str = r#"{"memory": {"global/limit": 100, "workflow/prices": {"apple": 3}, "chat:42/messages": ["a", "b", "c"]}}"#;

const fn memory(
    name: &'static str,
    arity: (usize, usize),
    body: fn(&mut Arguments<'_>) -> Outcome,
) -> Function {
    Function::new(Category::Workflow, name, arity, Body::Plain(body)).mentions(ReferenceKind::Memory)
}

/// The name that the context is asked for: `name`, or `name@version`.
pub(crate) fn secret_name(name: &str, version: &Value) -> Option<String> {
    if name.contains('@') {
        return None;
    }
    match version.as_str() {
        Some(version) if version.is_empty() || version.contains('@') => None,
        Some(version) => Some(format!("{name}@{version}")),
        None => version.as_i64().filter(|version| *version > 0).map(|version| format!("{name}@{version}")),
    }
}

fn ask_secret(arguments: &mut Arguments<'_>) -> Outcome {
    let function = arguments.function;
    let Some(name) = arguments.values[0].as_str() else {
        return Err(wrong_type(function, 0, "a string", arguments.values[0].kind()));
    };
    if arguments.values.iter().any(Value::contains_secret) {
        let why = "the name of a secret is recorded, so it must not be secret itself";
        let error = LookupError::NotAvailable { why: why.to_owned() };
        return Err(lookup_failed(function, arguments.values.first(), error));
    }
    let read = match arguments.values.get(1) {
        None => arguments.context.secret(name),
        Some(version) => {
            let Some(whole) = secret_name(name, version) else {
                let why =
                    "the version must be a number from 1 or a string, and the name must not name another";
                let error = LookupError::NotAvailable { why: why.to_owned() };
                return Err(lookup_failed(function, arguments.values.first(), error));
            };
            arguments.context.secret(&whole)
        }
    };
    read.map(Value::into_secret).map_err(|error| lookup_failed(function, arguments.values.first(), error))
}

fn declassify(arguments: &mut Arguments<'_>) -> Outcome {
    let value = &arguments.values[0];
    arguments.context.declassify(value).map_err(|error| lookup_failed(arguments.function, None, error))?;
    let plain = match value.as_str() {
        Some(text) => Value::from(text),
        // Labels are never removed from a value, so another one is made from its text.
        None => Value::from_json_str(&value.to_json_text()).unwrap_or_default(),
    };
    Ok(plain.labelled(value.labels_within().without(Labels::SECRET)))
}

/// What a key holds; `None` when it is absent.
fn held(arguments: &Arguments<'_>, form: MemoryForm) -> Result<Option<Value>, Failure> {
    let address = arguments.str(0)?;
    let found = arguments.context.memory(address, form);
    found.map_err(|error| lookup_failed(arguments.function, arguments.values.first(), error))
}

fn whole(arguments: &mut Arguments<'_>) -> Outcome {
    let found = held(arguments, MemoryForm::Any)?;
    Ok(found.unwrap_or_else(|| if arguments.len() > 1 { arguments.take(1) } else { Value::NULL }))
}

fn hash(arguments: &mut Arguments<'_>) -> Outcome {
    let found = held(arguments, MemoryForm::Hash)?.unwrap_or_else(|| Value::from(Object::new()));
    let Some(field) = arguments.opt_str(1)? else { return Ok(found) };
    // The absence of a field also reveals something about a secret hash.
    Ok(found.get(field).cloned().unwrap_or_default().labelled(found.labels()))
}

fn list(arguments: &mut Arguments<'_>) -> Outcome {
    let found = held(arguments, MemoryForm::List)?.unwrap_or_else(|| Value::from(Vec::new()));
    let position = |at, default| if at < arguments.len() { arguments.int(at) } else { Ok(default) };
    let (from, to) = (position(1, 0)?, position(2, -1)?);
    let items = found.as_array().map(|items| &items[..]).unwrap_or_default();
    let length = items.len() as i64;
    let place = |position: i64| if position < 0 { length.saturating_add(position) } else { position };
    let first = place(from).clamp(0, length);
    let end = place(to).saturating_add(1).clamp(first, length);
    if first == 0 && end == length {
        return Ok(found);
    }
    arguments.check_items((end - first) as usize)?;
    Ok(Value::from(items[first as usize..end as usize].to_vec()).labelled(found.labels()))
}
