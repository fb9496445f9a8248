//! The codes of all diagnostics, each with its title and its explanation. A code is never reused.
//!
//! `loom explain`, `docs/errors.md` and the rules of a SARIF log show these texts.

/// The title and explanation of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code, such as `L0204`.
    pub code: &'static str,
    /// A few words that name the problem.
    pub title: &'static str,
    /// What causes it and what to do.
    pub explanation: &'static str,
}

/// All codes, in ascending order.
pub fn catalogue() -> &'static [CodeInfo] {
    CATALOGUE
}

/// Looks up `code`, ignoring case; `None` if there is no such code.
pub fn explain(code: &str) -> Option<&'static CodeInfo> {
    CATALOGUE.iter().find(|info| info.code.eq_ignore_ascii_case(code))
}

macro_rules! codes {
    ($($name:ident = $code:literal $title:literal: $explanation:literal;)*) => {
        $(#[doc = $title] pub(crate) const $name: &str = $code;)*
        const CATALOGUE: &[CodeInfo] = &[
            $(CodeInfo { code: $code, title: $title, explanation: $explanation },)*
        ];
    };
}

codes! {
    // The text of the file.
    TOO_LARGE = "L0001" "file too large": "The file exceeds the size limit for definitions. Keep data out of the definition: pass it in the trigger body, in parameters, or in files that an action reads.";
    NOT_TEXT = "L0002" "file is not text": "The file is neither UTF-8 nor UTF-16. Save it as UTF-8.";
    NOT_JSON = "L0003" "invalid JSON": "The file violates the JSON grammar at the marked position: a missing comma or quote, single quotes, an invalid escape, a mismatched bracket. YAML is not supported; convert the file to JSON. Comments and trailing commas are accepted.";
    TRUNCATED = "L0004" "unexpected end of file": "The file ends while an array, an object, a string or a comment is still open; the related location shows where it was opened. Usually a copy or a download was cut off.";
    TOO_DEEP = "L0005" "nested too deeply": "Arrays and objects are nested more deeply than the limit, which is 200 levels by default. Usually a generator produced a broken file.";
    DUPLICATE_KEY = "L0006" "duplicate key": "An object contains the same key twice. As in other JSON readers, the last value wins; the earlier one is ignored. Remove one of them.";
    NOT_STRICT_JSON = "L0007" "comment or trailing comma": "The file contains comments or trailing commas. Loom accepts them, but other tools may reject the file.";
    LONE_SURROGATE = "L0008" "unpaired surrogate": "A `\\u` escape is one half of a surrogate pair without the other half. It is read as the replacement character U+FFFD. Write both halves, or the character itself.";

    // The file's shape.
    NOT_A_DEFINITION = "L0100" "not a workflow definition": "The JSON has none of the supported shapes: a bare definition with `triggers` and `actions`, an object with `definition`, an ARM template with a `Microsoft.Logic/workflows` resource, a flow export with `properties.definition`, or the files of the management API.";
    SEVERAL_WORKFLOWS = "L0101" "several workflows in one file": "The template contains several workflows and none was selected. Select one by name, for example with `loom run --workflow NAME`.";
    NO_SUCH_WORKFLOW = "L0102" "unknown workflow": "The template contains no workflow with the requested name.";
    WRONG_KIND = "L0103" "wrong JSON type": "A property has a value of the wrong JSON type, such as a string where an object is required.";
    MISSING_MEMBER = "L0104" "missing property": "A required property is absent.";
    UNKNOWN_MEMBER = "L0105" "unknown property": "A property is not known here but resembles one that is. Unknown properties are preserved and ignored, so a misspelled one has no effect.";
    ARM_UNRESOLVED = "L0106" "unresolved template expression": "An ARM template expression needs something that only a deployment knows, or uses an unsupported function. It stays in the definition as a string; where a number, a type or one of several choices is required, it is ignored and the default applies. Supply the template's parameters with `--template-params FILE` or `-p NAME=VALUE`, or replace the expression.";
    UNKNOWN_WORKFLOW_KIND = "L0107" "unknown workflow kind": "`kind` must be `Stateful`, `Stateless` or `Agentic`. With any other value, the workflow is treated as stateful.";
    BAD_CONTENT_VERSION = "L0108" "invalid contentVersion": "`contentVersion` must be four numbers separated by dots, such as `1.0.0.0`.";
    PREVIEW_SCHEMA = "L0109" "schema older than runAfter": "The definition uses a schema from before 2016-06-01. In such a schema, an action waits for the actions in its `dependsOn` and for those that its expressions read; Loom adds these dependencies. An `expression` among the `conditions` of an action is ignored. Express the order with `runAfter`, and conditions with an If.";

    // Actions and their order.
    NO_TYPE = "L0200" "missing type": "Every action, trigger, variable and parameter needs a `type`.";
    DUPLICATE_NAME = "L0201" "duplicate name": "Names are case-insensitive. Actions and triggers share one set of names, nested actions included; parameters have their own. Rename one of the two, and the references to it.";
    LONG_NAME = "L0202" "name too long": "The hosted service limits names to 80 characters. Loom accepts longer ones.";
    UNKNOWN_TYPE = "L0203" "unknown action type": "Loom does not execute actions of this type. The definition loads, but the action fails when it runs unless a handler is registered for the type.";
    UNKNOWN_DEPENDENCY = "L0204" "unknown dependency": "`runAfter` names an action that does not exist.";
    CIRCULAR_DEPENDENCY = "L0205" "circular dependency": "The actions wait for each other in a cycle, so none of them can ever start. Remove one of the `runAfter` entries shown.";
    NOT_A_SIBLING = "L0206" "dependency outside the block": "`runAfter` may only name actions in the same block: the same Scope, branch or loop body. Wait for the enclosing action instead.";
    BAD_RUN_AFTER_STATUS = "L0207" "invalid status in runAfter": "`runAfter` maps action names to non-empty lists of `Succeeded`, `Failed`, `Skipped`, `TimedOut`, `Cancelled`, `Aborted`, `HandedOff`.";
    NOT_ALLOWED_HERE = "L0208" "action not allowed here": "`Terminate` and `Response` are not allowed inside loops, at any depth; `InitializeVariable` is only allowed at the top level.";
    RESPONSE_WITHOUT_REQUEST = "L0209" "Response without a Request trigger": "A `Response` replies to the caller of a Request trigger, and this workflow has none. With a recurrence this is an error; with other triggers the definition loads and no response is sent.";
    TOO_MANY = "L0210" "exceeds a limit of the hosted service": "The hosted service accepts at most 500 actions, 8 levels of nesting, 10 triggers, 500 parameters, 10 outputs and 250 variables. Loom accepts more.";
    NO_ACTIONS = "L0211" "no actions": "A workflow needs at least one action to do something. Without actions, it runs and succeeds immediately.";
    NO_TRIGGERS = "L0212" "no triggers": "A workflow needs at least one trigger to be started from outside. Without one, it can only be started manually.";
    BAD_SWITCH = "L0213" "invalid Switch": "A Switch has at most 25 cases. The `case` of each must be a literal string or integer that no other case has.";
    BAD_CONCURRENCY = "L0214" "invalid loop concurrency": "`runtimeConfiguration.concurrency.repetitions` must be an integer between 1 and 50, and cannot be combined with `operationOptions: Sequential`.";
    BAD_LOOP_LIMIT = "L0215" "invalid loop limit": "A loop's `limit.count` must be an integer between 1 and 5000 (100 in a stateless workflow, 1000000 in the Loom spelling); `limit.timeout` must be an ISO 8601 duration.";
    UNKNOWN_OPTION = "L0216" "unknown operation option": "`operationOptions` is a comma-separated list of known flags. An unknown flag has no effect.";
    BAD_CONDITION = "L0217" "invalid condition": "A condition must be an expression that returns a boolean, or an object with one operator such as `and`, `or`, `not`, `equals`.";
    BAD_TERMINATE = "L0218" "invalid Terminate": "`runStatus` must be `Succeeded`, `Failed` or `Cancelled`; `runError` is only used with `Failed`.";
    BAD_WAIT = "L0219" "invalid Wait": "A Wait needs either `interval` with `count` and `unit`, or `until` with `timestamp`.";
    SINGLE_ACTION = "L0220" "invalid Retry": "A Retry takes exactly one action in `inputs.action`, or a block of them in `actions`, but not both.";
    BAD_SIGNAL = "L0221" "invalid WaitForSignal": "A WaitForSignal needs a `name` of 1 to 128 characters in its `inputs`, or an expression that returns one. It makes no calls, so it takes no policies for calls; `limit.timeout` limits the wait.";
    BAD_EMIT = "L0222" "invalid Emit": "An Emit needs either `event`, the name under which its `data` is reported, or `progress` with `current`, `total` and, optionally, `message`.";
    BAD_HANDOFF = "L0223" "invalid handoff": "An AgentHandoff names an Agent in the same block as the agent whose tool it is. It must be the only action of its tool.";
    BAD_MEMORY = "L0224" "invalid Memory action": "A Memory action has an `operation` and a `key`, which is an address `NAMESPACE/KEY`, and the properties of its operation; or a `namespace` and a list of `operations`, which all take effect or none. `loom explain memory` lists the operations.";
    MEMORY_NOT_GRANTED = "L0225" "access to shared memory not granted": "A workflow may read and write its own namespaces `run` and `workflow`, and read `global`. Everything else must be granted in the definition, beside `actions`: `\"memory\": {\"read\": [\"chat:*\"], \"write\": [\"global\"]}`. What may be written may also be read.";
    BAD_MEMORY_GRANT = "L0226" "invalid grant of shared memory": "`memory` of a definition has the lists `read` and `write`. Their entries are namespaces, such as `global` or `workflow:orders`, or patterns that end with `*`, such as `chat:*`.";
    BAD_TOOL = "L0227" "invalid tool": "A tool of an Agent has `actions`, with `description`, `agentParameterSchema` and `approval`, or it is itself an action with the arguments of the model: an `McpClientTool`, or an operation of a connection with a description.";
    BAD_CHAT = "L0230" "invalid GroupChat": "A GroupChat has `participants` (each with one of `agent`, `workflow`, `human` and `actions`), an `initialMessage`, a `mode`, and what its mode needs: `selector` and `manager` a `coordinator`, `expression` the expression `next`. `termination` is a list of conditions, and names in it are those of participants and tools. `docs/guide/agents.md` describes all properties.";
    BAD_APPROVAL = "L0231" "invalid question to a person": "`approval` of a tool, or of an action with `\"acceptsUntrusted\": false`, is a boolean or an object with `timeout`, `default` (`approve` or `reject`), `message` and `to`. An AskPerson has a `message`, and may have `ask` (`reply` or `approval`), `to` and `responseSchema`; `limit.timeout` is its deadline.";

    // Values of settings.
    BAD_DURATION = "L0300" "invalid duration": "A duration must be in ISO 8601 format, such as `PT20S` or `P1DT12H`. Settings in the Loom spelling also accept a number of milliseconds.";
    OUT_OF_RANGE = "L0301" "number out of range": "The number is outside the range that the setting accepts.";
    BAD_RETRY = "L0302" "invalid retry policy": "The retry policy contradicts itself or has a value out of range. `count` is the number of retries (1 to 90); `maxAttempts` includes the first call.";
    BAD_BREAKER = "L0303" "invalid circuit breaker": "The `circuitBreaker` contradicts itself or has a value out of range.";
    BAD_RATE_LIMIT = "L0304" "invalid rate limit": "The `rateLimit` contradicts itself or has a value out of range.";
    BAD_BULKHEAD = "L0305" "invalid bulkhead": "The `bulkhead` contradicts itself or has a value out of range.";
    CONTRADICTION = "L0306" "conflicting settings": "Two settings specify the same thing. Keep one of them.";
    BAD_SECURE_DATA = "L0307" "invalid secureData": "`secureData.properties` must be a list of `inputs` and `outputs`; `trackedProperties` cannot be combined with it.";
    BAD_CHOICE = "L0308" "unsupported value": "The setting accepts only certain values, and this is not one of them.";
    SHARED_SERVICE_DIFFERS = "L0309" "conflicting settings for one service": "Actions that name the same service share its circuit breaker, rate limit or bulkhead, and each of these has one set of settings: that of the action that is called first. Give the actions the same settings, or the services different names.";
    BAD_HEDGE = "L0310" "invalid hedge": "A `hedge` needs a `delay` longer than zero, after which another copy of a slow call is sent; `maxAttempts` counts all copies.";
    UNKNOWN_POLICY = "L0311" "unknown policy": "The action names a `policy` that the project's `resilience.json` does not define under `services`. Define it, or correct the name.";
    BAD_FALLBACK = "L0312" "invalid fallback": "A `fallback` needs either `body` or `outputs`, and may have `on` (`Failed`, `TimedOut`) and `mode`. Only actions that call a service have one.";
    BAD_POLICY_FILE = "L0313" "invalid resilience.json": "The file has `defaults` and `services`, with the policies of definitions as their members. A `base` must name another service, and the bases must not form a cycle. An unknown property is an error, because a misspelled one would silently remove protection.";
    BAD_CHAOS = "L0314" "invalid chaos file": "The file of `--chaos` has a `seed` and `injections`. Each injection has a `kind` (`fault`, `latency`, `outcome` or `behaviour`) and a `rate` between 0 and 1, and may be restricted to a `workflow`, an `action`, a `service` and the first attempts (`attemptsMax`).";

    // Variables, parameters, outputs, static results.
    UNDECLARED_VARIABLE = "L0400" "undeclared variable": "The action changes a variable that no InitializeVariable declares. To set it or append to it is an error; to increment or decrement it is a warning, and the action fails when it runs, with `InvalidVariableOperation`.";
    DUPLICATE_VARIABLE = "L0401" "variable declared twice": "A variable can be declared only once. Use SetVariable to change its value.";
    BAD_VALUE_TYPE = "L0402" "unknown type": "The type of a variable must be `boolean`, `integer`, `float`, `string`, `array` or `object`; the type of a parameter or an output must be `int`, `float`, `string`, `bool`, `array`, `object`, `securestring` or `secureobject`.";
    SELF_REFERENCE = "L0403" "variable set from itself": "SetVariable cannot read the variable that it sets. Compute the value in a Compose action first.";
    WRONG_VALUE_TYPE = "L0404" "value of the wrong type": "A literal value does not match its declared type. Values are not converted, except that an integer is accepted as a float.";
    WRONG_OPERAND = "L0405" "operation does not fit the variable": "IncrementVariable and DecrementVariable need an integer or float variable, AppendToStringVariable a string, AppendToArrayVariable an array.";
    UNKNOWN_STATIC_RESULT = "L0406" "unknown static result": "`staticResult.name` must name an entry of `staticResults`.";
    PARAMETER_MISSING = "L0407" "parameter without a value": "A declared parameter has no default, and no value was supplied.";
    PARAMETER_TYPE = "L0408" "parameter value of the wrong type": "The supplied value does not match the declared type. Values are not converted, except that an integer is accepted as a float.";
    PARAMETER_NOT_ALLOWED = "L0409" "parameter value not allowed": "The value is not one of the parameter's `allowedValues`.";
    PARAMETER_UNDECLARED = "L0410" "undeclared parameter": "A value was supplied for a parameter that the definition does not declare.";
    PARAMETER_EXPRESSION = "L0411" "parameter value cannot be evaluated": "A parameter's value refers to an app setting or a parameter that does not exist, or to itself.";

    // Expressions.
    BAD_EXPRESSION = "L0500" "invalid expression": "The text after `@` is not a valid expression. The marked position is where parsing stopped. A call of an unknown function is only a warning: as in the hosted service, the action fails when it runs.";
    UNKNOWN_ACTION = "L0510" "expression refers to an unknown action": "An expression refers to an action that does not exist, so it can only fail. The hosted service rejects such a definition, too.";
    UNKNOWN_VARIABLE = "L0511" "expression refers to an unknown variable": "An expression reads a variable that no InitializeVariable declares. It fails when it is evaluated.";
    UNKNOWN_PARAMETER = "L0512" "expression refers to an unknown parameter": "An expression reads a parameter that the definition does not declare. It fails when it is evaluated.";
    UNKNOWN_LOOP = "L0513" "expression refers to a loop that does not enclose it": "`items()` and `iterationIndexes()` must name a loop that encloses the expression. The hosted service rejects such a definition, too.";
    NOT_ON_PATH = "L0514" "expression reads an action outside its path": "An expression may read the trigger and actions that have already ended: those on the `runAfter` path of its own action and of the blocks that enclose it, and the actions inside those. Any other action may run at the same time, later or never. Add the missing `runAfter` entry; list `Skipped` and `Failed` as well if the action is to run in any case. The hosted service rejects such a definition, too.";
    UNKNOWN_AGENT_PARAMETER = "L0515" "expression refers to an unknown argument": "`agentParameters()` reads an argument that the model passes to the tool around the expression, so it must name a property of that tool's `agentParameterSchema`. Outside the actions of a tool there are no arguments. It fails when it is evaluated.";

    // Scripts.
    BAD_SCRIPT = "L0520" "invalid script": "The code of an inline script is not valid JavaScript. The marked position is where parsing stopped. Code that contains expressions is checked when it runs.";

    // Triggers.
    UNKNOWN_TRIGGER_TYPE = "L0600" "unknown trigger type": "No built-in trigger has this type. The workflow can only be started manually.";
    BAD_RECURRENCE = "L0601" "invalid recurrence": "A recurrence needs a `frequency`, an `interval` in the range of that frequency, and optionally a `schedule` that fits the frequency; or a `cron` expression instead.";
    BAD_TRIGGER_CONCURRENCY = "L0602" "invalid trigger concurrency": "`runs` must be between 1 and 100, `maximumWaitingRuns` between 1 and 200; `SingleInstance` cannot be combined with `concurrency`.";
    BAD_SPLIT_ON = "L0603" "invalid splitOn": "`splitOn` must be one expression that returns an array.";
    BAD_BATCH = "L0604" "invalid batch": "A Batch trigger declares its batches under `configurations`, each with `releaseCriteria`: a `messageCount` between 1 and 8,000, a `batchSize` between 1 and 83,886,080 bytes, a `recurrence`, or several of these.";
    BAD_RUN_ENDED = "L0605" "invalid RunEnded trigger": "A RunEnded trigger names the workflows to watch in `inputs.workflows`, an array of strings. `inputs.statuses` may name final statuses of runs: Succeeded, Failed, Cancelled, TimedOut, Aborted. The default is Failed, TimedOut and Aborted.";
    BAD_MEMORY_CHANGED = "L0606" "invalid MemoryChanged trigger": "A MemoryChanged trigger names the namespace of shared memory to watch in `inputs.namespace`, such as `workflow` or `chat:42`. `inputs.prefix` restricts it to keys that begin with a string. With `inputs.batchSize`, between 1 and 1,000, a run receives up to that many changes; without it, each change starts a run. The workflow needs the right to read the namespace.";

    // The project.
    CONNECTION_MISSING = "L0700" "connection without a definition": "An action uses a connection that no connections file defines, so it fails with `ConnectionNotFound`. Add it to `connections.json`, or to the file of `--connections`; `loom explain connections` shows the format.";
    CALL_MISMATCH = "L0701" "call that its description refuses": "The `parameters` of an action do not match the operation that it calls: a required one is missing, one has another type than the description of the connector says, or the operation has none of this name. The action would fail with `OpenApiOperationParameterValidationFailed` before anything is sent. `loom connectors show NAME OPERATION` lists what the operation takes.";
    CALL_UNUSABLE = "L0702" "operation that cannot be called": "The description of a connector cannot be read, has no operation of this name, or needs something for it that Loom does not have: a script in C#, or a policy that is not supported. `loom connectors list` shows the connectors of the project, `loom connectors show NAME` the operations of one.";
    MODEL_MISSING = "L0703" "model or MCP server that cannot be used": "An action names a language model or an MCP server that the connections file does not define under `models` or `mcpServers`, or whose entry is wrong, so it fails with `ConnectionNotFound`. `loom explain models` shows the format of both.";
}
