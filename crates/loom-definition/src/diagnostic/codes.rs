//! The codes of all diagnostics, each with what it means. A code is never reused.

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// `L0123`.
    pub code: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What causes it and what to do.
    pub explanation: &'static str,
}

/// All codes, in order.
pub fn catalogue() -> &'static [CodeInfo] {
    CATALOGUE
}

/// What `code` means, if there is such a code.
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
    // The text.
    TOO_LARGE = "L0001" "file too large": "The file is longer than the limit for definitions. A definition describes work; data belongs in trigger bodies, parameters or files that an action reads.";
    NOT_TEXT = "L0002" "not text": "The bytes are neither UTF-8 nor UTF-16. Save the file as UTF-8.";
    NOT_JSON = "L0003" "not JSON": "The text breaks a rule of JSON at the marked place: a missing comma or quote, single quotes, a wrong escape, a bracket of the wrong kind. Comments and trailing commas are tolerated.";
    TRUNCATED = "L0004" "text ends too early": "The text ends while a bracket, a string or a comment is still open; the related place shows where it was opened. Usually a copy or download was cut off.";
    TOO_DEEP = "L0005" "nested too deeply": "Brackets are nested deeper than any sensible definition. Usually a generated file went wrong.";
    DUPLICATE_KEY = "L0006" "repeated key": "An object has the same key twice. The last one counts, as JSON readers do; the earlier value is ignored. Remove one.";
    NOT_STRICT_JSON = "L0007" "comment or trailing comma": "The file holds comments or trailing commas. They are read, but other tools may refuse them.";
    LONE_SURROGATE = "L0008" "half of a surrogate pair": "An escape names half of a character outside the basic plane. It is read as the replacement character U+FFFD. Write both halves, or the character itself.";

    // The file's shape.
    NOT_A_DEFINITION = "L0100" "not a workflow definition": "The JSON is none of the known shapes: a bare definition with `triggers` and `actions`, an object with `definition`, an ARM template with a `Microsoft.Logic/workflows` resource, or a flow export with `properties.definition`.";
    SEVERAL_WORKFLOWS = "L0101" "several workflows in one file": "The template holds several workflows and none was chosen. Name the one to load.";
    NO_SUCH_WORKFLOW = "L0102" "no workflow of that name": "The template holds no workflow of the name that was asked for.";
    WRONG_KIND = "L0103" "wrong kind of JSON value": "A member has a value of the wrong JSON kind, such as a string where an object is needed.";
    MISSING_MEMBER = "L0104" "missing member": "A required member is absent.";
    UNKNOWN_MEMBER = "L0105" "member looks misspelled": "A member is not known here, but is close to one that is. Unknown members are kept and ignored, so a misspelled one does nothing.";
    ARM_UNRESOLVED = "L0106" "template expression left as text": "An ARM template expression needs something that only a deployment knows, or uses an unsupported function. It stays in the definition as text; where a number or a type belongs, it is passed over and the default counts. Supply the template's parameters with `--template-params FILE` or `-p NAME=VALUE`, or edit the text.";
    UNKNOWN_WORKFLOW_KIND = "L0107" "unknown workflow kind": "`kind` is none of `Stateful`, `Stateless`, `Agentic`. The workflow is read as stateful.";
    BAD_CONTENT_VERSION = "L0108" "odd contentVersion": "`contentVersion` should be four numbers with dots between them, such as `1.0.0.0`.";
    PREVIEW_SCHEMA = "L0109" "schema older than runAfter": "The definition names a schema before 2016-06-01. There an action waits for the actions in its `dependsOn` and for those that its expressions read; Loom adds these edges. An `expression` among the `conditions` of an action is not looked at. Write the order as `runAfter`, and conditions as an If.";

    // Actions and their order.
    NO_TYPE = "L0200" "no type": "Every action and trigger needs a `type`.";
    DUPLICATE_NAME = "L0201" "name used twice": "Names of actions and triggers are unique in the whole definition, nested ones included, and ignore case. Rename one, and the references to it.";
    LONG_NAME = "L0202" "name too long": "Names have at most 80 characters in the hosted service. Loom reads longer ones.";
    UNKNOWN_TYPE = "L0203" "unknown action type": "No built-in action has this type. The definition loads; the action fails when it runs unless a handler is registered under this name.";
    UNKNOWN_DEPENDENCY = "L0204" "unknown dependency": "`runAfter` names an action that does not exist.";
    CIRCULAR_DEPENDENCY = "L0205" "circular dependency": "The actions wait for each other in a circle, so none of them could ever start. Remove one of the `runAfter` entries shown.";
    NOT_A_SIBLING = "L0206" "dependency outside the block": "`runAfter` may only name actions of the same block: the same Scope, branch or loop body. Wait for the block around the action instead.";
    BAD_RUN_AFTER_STATUS = "L0207" "bad status in runAfter": "`runAfter` maps names to non-empty lists of `Succeeded`, `Failed`, `Skipped`, `TimedOut`, `Cancelled`, `Aborted`.";
    NOT_ALLOWED_HERE = "L0208" "action not allowed here": "`Terminate` and `Response` may not stand inside Foreach or Until loops, at any depth; `InitializeVariable` may only stand at the top level.";
    RESPONSE_WITHOUT_REQUEST = "L0209" "Response without a Request trigger": "A `Response` answers the caller of a Request trigger. This workflow has no such trigger: with a recurrence it is refused, under other triggers it loads and nobody is answered.";
    TOO_MANY = "L0210" "over a limit of the hosted service": "The hosted service takes at most 500 actions, 8 levels of nesting, 10 triggers, 500 parameters, 10 outputs and 250 variables. Loom runs more.";
    NO_ACTIONS = "L0211" "no actions": "A workflow needs at least one action to do something. With an empty map it runs and succeeds at once.";
    NO_TRIGGERS = "L0212" "no triggers": "A workflow needs at least one trigger to be started from outside. Without any it can only be started by hand.";
    BAD_SWITCH = "L0213" "bad Switch": "A Switch has at most 25 cases, each with a literal, unique string or whole number in `case`.";
    BAD_CONCURRENCY = "L0214" "bad loop concurrency": "`runtimeConfiguration.concurrency.repetitions` is a whole number from 1 to 50, and cannot be combined with `operationOptions: Sequential`.";
    BAD_LOOP_LIMIT = "L0215" "bad loop limit": "A loop's `limit` has a `count` from 1 to 5000 and a `timeout` as an ISO 8601 duration.";
    UNKNOWN_OPTION = "L0216" "unknown operation option": "`operationOptions` is a comma-separated list of known flags. An unknown one does nothing.";
    BAD_CONDITION = "L0217" "bad condition": "A condition is an expression that gives a boolean, or an object with one operator such as `and`, `or`, `not`, `equals`.";
    BAD_TERMINATE = "L0218" "bad Terminate": "`runStatus` is `Succeeded`, `Failed` or `Cancelled`; `runError` belongs to `Failed` only.";
    BAD_WAIT = "L0219" "bad Wait": "A Wait has either `interval` with `count` and `unit`, or `until` with `timestamp`.";
    SINGLE_ACTION = "L0220" "Retry repeats one action": "`inputs.action` of a Retry holds exactly one action, or `actions` a block of them; not both.";
    BAD_SIGNAL = "L0221" "bad WaitForSignal": "A WaitForSignal has a `name` of 1 to 128 characters in its `inputs`, or an expression that gives one. It calls nobody, so policies for calls have no place on it; `limit.timeout` bounds the wait.";

    // Values of settings.
    BAD_DURATION = "L0300" "bad duration": "A duration is ISO 8601, such as `PT20S` or `P1DT12H`; where the Loom spelling allows it, also a number of milliseconds.";
    OUT_OF_RANGE = "L0301" "number out of range": "The number is outside the range the setting takes.";
    BAD_RETRY = "L0302" "bad retry policy": "The retry policy contradicts itself or has a value out of range. `count` counts retries (1 to 90); `maxAttempts` counts the first call as well.";
    BAD_BREAKER = "L0303" "bad circuit breaker": "The `circuitBreaker` contradicts itself or has a value out of range.";
    BAD_RATE_LIMIT = "L0304" "bad rate limit": "The `rateLimit` contradicts itself or has a value out of range.";
    BAD_BULKHEAD = "L0305" "bad bulkhead": "The `bulkhead` contradicts itself or has a value out of range.";
    CONTRADICTION = "L0306" "settings contradict each other": "Two settings say the same thing differently. Keep one.";
    BAD_SECURE_DATA = "L0307" "bad secureData": "`secureData.properties` lists `inputs` and `outputs`; `trackedProperties` cannot be combined with it.";
    BAD_CHOICE = "L0308" "not one of the choices": "The value is none of those the setting takes.";
    SHARED_SERVICE_DIFFERS = "L0309" "different settings for one service": "Actions that name the same service share its circuit breaker, rate limit or bulkhead, and each of these has one set of settings: those of the action that is called first. Give the actions the same settings, or the services different names.";

    // Variables, parameters, outputs, static results.
    UNDECLARED_VARIABLE = "L0400" "undeclared variable": "The action changes a variable that no InitializeVariable declares. Setting and appending are refused; counting fails when it runs, with `InvalidVariableOperation`.";
    DUPLICATE_VARIABLE = "L0401" "variable declared twice": "A variable is declared once in a run. Use SetVariable to change it.";
    BAD_VALUE_TYPE = "L0402" "unknown type": "Variables are `boolean`, `integer`, `float`, `string`, `array` or `object`; parameters are `int`, `float`, `string`, `bool`, `array`, `object`, `securestring` or `secureobject`.";
    SELF_REFERENCE = "L0403" "variable set from itself": "SetVariable cannot read the variable that it sets. Compute the value in a Compose action first.";
    WRONG_VALUE_TYPE = "L0404" "value of the wrong type": "A literal value does not fit its declared type. Nothing is converted, except that an integer is a float.";
    WRONG_OPERAND = "L0405" "operation does not fit the variable": "Counting needs an integer or float variable, AppendToStringVariable a string, AppendToArrayVariable an array.";
    UNKNOWN_STATIC_RESULT = "L0406" "unknown static result": "`staticResult.name` names nothing in `staticResults`.";
    PARAMETER_MISSING = "L0407" "parameter without a value": "A declared parameter has no default and no value was supplied.";
    PARAMETER_TYPE = "L0408" "parameter value of the wrong type": "The supplied value does not fit the declared type. Nothing is converted, except that an integer is a float.";
    PARAMETER_NOT_ALLOWED = "L0409" "parameter value not allowed": "The value is none of the parameter's `allowedValues`.";
    PARAMETER_UNDECLARED = "L0410" "undeclared parameter": "A value was supplied for a parameter that the definition does not declare.";
    PARAMETER_EXPRESSION = "L0411" "parameter value cannot be computed": "A parameter's value mentions an app setting or another parameter that is not there.";

    // Expressions.
    BAD_EXPRESSION = "L0500" "bad expression": "The text after `@` is not an expression of the language. The marked place is where reading stopped. In an action this is a warning when the definition is run: the action fails when it is reached.";
    UNKNOWN_ACTION = "L0510" "expression names an unknown action": "An expression asks for an action that does not exist, so it could only fail. The hosted service refuses the definition, too.";
    UNKNOWN_VARIABLE = "L0511" "expression names an unknown variable": "An expression reads a variable that no InitializeVariable declares. It fails when it is evaluated.";
    UNKNOWN_PARAMETER = "L0512" "expression names an unknown parameter": "An expression reads a parameter that the definition does not declare. It fails when it is evaluated.";
    UNKNOWN_LOOP = "L0513" "expression names a loop that is not around it": "`items()` and `iterationIndexes()` name a loop around the expression. The hosted service refuses the definition, too.";
    NOT_ON_PATH = "L0514" "expression reads an action off its path": "An expression may read the trigger, and actions that have ended before: those on the `runAfter` path of its own action and of the blocks around it, and what is inside of those. Anything else may run at the same time, later or never. Add the missing `runAfter` entry; with `Skipped` and `Failed` in its list if the action is to run in any case. The hosted service refuses such a definition, too.";

    // Scripts.
    BAD_SCRIPT = "L0520" "bad script": "The code of an inline script is no JavaScript. The marked place is where reading stopped. Code with expressions in it is read when it runs.";

    // Triggers.
    UNKNOWN_TRIGGER_TYPE = "L0600" "unknown trigger type": "No built-in trigger has this type. The workflow can be started by hand.";
    BAD_RECURRENCE = "L0601" "bad recurrence": "A recurrence has a `frequency`, an `interval` in its range, and a `schedule` that fits the frequency; or a `cron` expression in their place.";
    BAD_TRIGGER_CONCURRENCY = "L0602" "bad trigger concurrency": "`runs` is 1 to 100, `maximumWaitingRuns` 1 to 200; `SingleInstance` cannot be combined with `concurrency`.";
    BAD_SPLIT_ON = "L0603" "bad splitOn": "`splitOn` is one expression that gives an array.";
    BAD_BATCH = "L0604" "bad batch": "A Batch trigger names its batches under `configurations`, each with `releaseCriteria`: a `messageCount` of 1 to 8,000, a `batchSize` of 1 to 83,886,080 bytes, a `recurrence`, or several of them.";
}
