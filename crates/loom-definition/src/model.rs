//! The lowered workflow: what a definition means once it is known to be right.
//!
//! Everything a run needs is here by index: actions, blocks and variables live in flat tables, `runAfter` is an
//! adjacency list, and every expression is compiled. The engine reads it and never meets the file's text again.

use std::{ops::Range, sync::Arc};

use loom_expression::{Condition, Labels, Template, Value};

use crate::{
    duration::Span,
    policy::{Resilience, RetrySetting},
    status::{RunStatus, StatusSet},
    trigger::Trigger,
};

/// Index of an action in [`Workflow::actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionIdx(pub u32);

/// Index of a block in [`Workflow::blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIdx(pub u32);

/// Index of a variable in [`Workflow::variables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableIdx(pub u32);

/// One validated, immutable workflow. Shared by all its runs.
///
/// Slots that compiled expressions carry (`loom_expression::Name::slot`) are indices into these tables: an action's
/// and a loop's slot is its [`ActionIdx`], a variable's its [`VariableIdx`], a parameter's its place in `parameters`.
#[derive(Debug)]
pub struct Workflow {
    /// The name it is known by: the caller's choice, or the file's stem.
    pub name: Arc<str>,
    /// `Stateful`, `Stateless` or `Agentic`.
    pub kind: WorkflowKind,
    /// Free text of the definition, if any.
    pub description: Option<Arc<str>>,
    /// `tags` of the definition or beside it: an object or an array, null when there are none.
    pub tags: Value,
    /// `contentVersion`, `1.0.0.0` when absent.
    pub content_version: Arc<str>,
    /// Declared parameters.
    pub parameters: Vec<Parameter>,
    /// Triggers; any one of them may start a run.
    pub triggers: Vec<Trigger>,
    /// All actions, nested ones included, in file order; a block's children follow their owner.
    pub actions: Vec<Action>,
    /// All blocks; the first is the workflow's own list of actions.
    pub blocks: Vec<Block>,
    /// All variables that some `InitializeVariable` declares.
    pub variables: Vec<Variable>,
    /// Workflow outputs, evaluated when a run has succeeded.
    pub outputs: Vec<Output>,
    /// Canned results by name.
    pub static_results: Vec<StaticResult>,
    /// Everything that decides what it does, as compact JSON that can be loaded again:
    /// `{kind, definition, tags?, parametersFile?}`. What is kept for runs that outlive a deployment.
    pub source: Arc<str>,
    /// blake3 of `source`; the same definition always has the same hash.
    pub hash: [u8; 32],
}

impl Workflow {
    /// The workflow's own list of actions.
    pub const ROOT: BlockIdx = BlockIdx(0);

    /// The action at `index`.
    #[inline]
    pub fn action(&self, index: ActionIdx) -> &Action {
        &self.actions[index.0 as usize]
    }

    /// The block at `index`.
    #[inline]
    pub fn block(&self, index: BlockIdx) -> &Block {
        &self.blocks[index.0 as usize]
    }

    /// Finds an action by name, ignoring case.
    pub fn find_action(&self, name: &str) -> Option<ActionIdx> {
        let found = self.actions.iter().position(|action| same_name(&action.name, name))?;
        Some(ActionIdx(found as u32))
    }

    /// Finds a variable by name, ignoring case.
    pub fn find_variable(&self, name: &str) -> Option<VariableIdx> {
        let found = self.variables.iter().position(|variable| same_name(&variable.name, name))?;
        Some(VariableIdx(found as u32))
    }

    /// Finds a trigger by name, ignoring case.
    pub fn find_trigger(&self, name: &str) -> Option<&Trigger> {
        self.triggers.iter().find(|trigger| same_name(&trigger.name, name))
    }
}

/// Whether two names of a definition mean the same thing: names ignore case, in every script.
pub fn same_name(left: &str, right: &str) -> bool {
    left == right
        || left.eq_ignore_ascii_case(right)
        || (!(left.is_ascii() && right.is_ascii()) && left.to_lowercase() == right.to_lowercase())
}

/// How a workflow keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WorkflowKind {
    /// Runs are journaled and may live for weeks.
    #[default]
    Stateful,
    /// Short runs: tighter limits, and no polling of `202` answers.
    Stateless,
    /// A stateful workflow built round agent actions.
    Agentic,
}

/// A declared parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// As the file spells it.
    pub name: Arc<str>,
    /// What values it takes.
    pub kind: ValueType,
    /// `securestring`, `secureobject`: never shown.
    pub secure: bool,
    /// Used when no value is supplied. A template, because app settings may be mentioned in parameter files.
    pub default: Option<Template>,
    /// The value must equal one of these, when there are any.
    pub allowed: Option<Vec<Value>>,
    /// JSON pointer to its declaration in the file.
    pub pointer: Arc<str>,
    /// The bytes of its declaration in the file.
    pub span: Range<usize>,
}

/// The types that parameters, variables and outputs declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `string`, `securestring`.
    String,
    /// `int`, `integer`.
    Integer,
    /// `float`: integers are accepted too.
    Float,
    /// `bool`, `boolean`.
    Boolean,
    /// `array`.
    Array,
    /// `object`, `secureobject`.
    Object,
    /// Outputs may leave their type out, or say `any`.
    Any,
}

/// A run-wide variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// As the file spells it.
    pub name: Arc<str>,
    /// What may be written to it.
    pub kind: ValueType,
    /// The action that declares it.
    pub declared_by: ActionIdx,
}

/// A workflow output.
#[derive(Clone, Debug)]
pub struct Output {
    /// As the file spells it.
    pub name: Arc<str>,
    /// Its declared type.
    pub kind: ValueType,
    /// `securestring`, `secureobject`: never shown.
    pub secure: bool,
    /// Its value.
    pub value: Template,
}

/// A canned result that an action may give instead of being executed.
#[derive(Clone, Debug)]
pub struct StaticResult {
    /// As the file spells it.
    pub name: Arc<str>,
    /// `status`, `outputs`, `code`, `error`: evaluated when used.
    pub content: Template,
}

/// A list of actions that starts and ends as one: the workflow itself, a branch, a loop's body.
#[derive(Clone, Debug)]
pub struct Block {
    /// The action this block belongs to; none for the root.
    pub owner: Option<ActionIdx>,
    /// What it is to its owner.
    pub role: BlockRole,
    /// 0 for the root, one more for each block around it.
    pub depth: u32,
    /// Its actions, in file order. `Action::position` is the place in this list.
    pub actions: Vec<ActionIdx>,
    /// Actions without `runAfter`.
    pub roots: Vec<ActionIdx>,
    /// Actions that no sibling names in `runAfter`; they decide the block's result.
    pub leaves: Vec<ActionIdx>,
}

/// What a block is to the action that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRole {
    /// The workflow's own list.
    Root,
    /// The actions of a Scope, a loop, an If's true branch, a `Retry`'s action.
    Body,
    /// `else` of an If.
    Else,
    /// A Switch case, by place in `cases`.
    Case(u32),
    /// `default` of a Switch.
    Default,
    /// A branch of `Parallel`, by place.
    Branch(u32),
    /// A tool of an Agent, by place.
    Tool(u32),
}

/// One action.
#[derive(Debug)]
pub struct Action {
    /// As the file spells it.
    pub name: Arc<str>,
    /// `type` as the file spells it.
    pub type_name: Arc<str>,
    /// Its `kind`, as written, such as `JsonToText` of a Liquid action.
    pub variant: Option<Arc<str>>,
    /// Its own index.
    pub index: ActionIdx,
    /// The block it belongs to.
    pub block: BlockIdx,
    /// Its place in that block's `actions`.
    pub position: u32,
    /// What it does.
    pub kind: ActionKind,
    /// What it waits for; empty means it starts with its block.
    pub run_after: Vec<Dependency>,
    /// The siblings that name this action in their `runAfter`.
    pub successors: Vec<ActionIdx>,
    /// The most time it may take, every retry and wait included: `limit.timeout` or `timeout`.
    /// For `Until`, `While` and `DoUntil` this is none and the limit lives in [`Loop::timeout`].
    pub timeout: Option<Setting<Span>>,
    /// Retry, breaker, rate limit and bulkhead. None when the definition asks for nothing and the type has no default.
    pub resilience: Option<Box<Resilience>>,
    /// Which parts history must hide.
    pub secure: Secure,
    /// A canned result to give instead of executing, by place in [`Workflow::static_results`].
    pub static_result: Option<u32>,
    /// Evaluated after the action, with `action()` as its own record.
    pub tracked_properties: Option<Template>,
    /// Flags of `operationOptions`.
    pub options: Options,
    /// Whether some expression may ask for `result()` of this block action.
    pub result_wanted: bool,
    /// On a Foreach: the actions inside it that expressions after it read, so that each round leaves something of them.
    pub gathered: Vec<Gathered>,
    /// The retry policy as its inputs write it, its type with a capital; null when there is none, or it is computed.
    pub written_retry: Value,
    /// JSON pointer to it in the file.
    pub pointer: Arc<str>,
    /// A fingerprint of how effects are journaled: the rest of `runtimeConfiguration`, as written.
    pub runtime: Value,
}

/// An action inside a Foreach that is read after the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Which, at any depth.
    pub action: ActionIdx,
    /// Whether whole records are asked for, and not only outputs.
    pub records: bool,
}

/// One entry of `runAfter`.
#[derive(Clone, Copy, Debug)]
pub struct Dependency {
    /// The sibling waited for.
    pub action: ActionIdx,
    /// The final statuses that let this action run.
    pub statuses: StatusSet,
}

/// What is hidden from history, logs and the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secure {
    /// Hide the inputs.
    pub inputs: bool,
    /// Hide the outputs.
    pub outputs: bool,
}

impl Secure {
    /// The labels that inputs receive.
    pub fn labels_of_inputs(self) -> Labels {
        if self.inputs { Labels::SECRET } else { Labels::NONE }
    }
}

/// Flags of `operationOptions` that change how an action behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the language has these flags, each its own switch")]
pub struct Options {
    /// `DisableAsyncPattern`: a `202` answer is final.
    pub disable_async_pattern: bool,
    /// `SuppressWorkflowHeaders`: no `x-ms-*` headers on requests.
    pub suppress_workflow_headers: bool,
    /// `DisableAutomaticDecompression`.
    pub disable_decompression: bool,
    /// `FailWhenLimitsReached` on loops and agents.
    pub fail_when_limits_reached: bool,
    /// `Asynchronous` on Response.
    pub asynchronous: bool,
}

/// A setting that is fixed by the definition or computed when the action starts.
#[derive(Clone, Debug)]
pub enum Setting<T> {
    /// Known at load.
    Fixed(T),
    /// Holds an expression; its value is read by the type's `from_value`.
    Computed(Template),
}

/// What an action does.
#[derive(Debug)]
pub enum ActionKind {
    /// Gives its inputs.
    Compose {
        /// The value to give.
        inputs: Template,
    },
    /// Parses and checks JSON.
    ParseJson {
        /// Text, envelope or value.
        content: Template,
        /// The schema as written; `{}` accepts anything.
        schema: Value,
    },
    /// Filter array.
    Query {
        /// The array.
        from: Template,
        /// Kept when true, with `item()` bound.
        filter: Condition,
    },
    /// Maps an array.
    Select {
        /// The array.
        from: Template,
        /// Evaluated per item, with `item()` bound.
        select: Template,
    },
    /// Joins an array to text.
    Join {
        /// The array.
        from: Template,
        /// The separator.
        with: Template,
    },
    /// Renders CSV or HTML.
    Table {
        /// Which of the two.
        format: TableFormat,
        /// The array.
        from: Template,
        /// Explicit columns; without them, the items' keys.
        columns: Option<Vec<Column>>,
    },
    /// Declares variables.
    InitializeVariable {
        /// In file order.
        variables: Vec<VariableInit>,
    },
    /// Sets, counts or appends to a variable.
    ChangeVariable {
        /// Which variable.
        variable: VariableIdx,
        /// How.
        change: VariableChange,
        /// The operand; counting defaults to 1.
        value: Option<Template>,
    },
    /// Two branches.
    If {
        /// Decides which.
        condition: Condition,
        /// Taken when true.
        then: BlockIdx,
        /// Taken when false; an empty block when the definition has none.
        otherwise: BlockIdx,
    },
    /// Many branches.
    Switch {
        /// A string or an integer.
        on: Template,
        /// Literal values and their blocks.
        cases: Vec<Case>,
        /// Taken when no case matches.
        default: Option<BlockIdx>,
    },
    /// A group.
    Scope {
        /// Its actions.
        body: BlockIdx,
    },
    /// Branches that all run.
    Parallel {
        /// Each starts at once.
        branches: Vec<BlockIdx>,
    },
    /// A body per item.
    Foreach {
        /// The array.
        items: Template,
        /// Its actions.
        body: BlockIdx,
        /// Iterations in flight, 1 to [`REPETITIONS_MAX`]; nested loops have 1.
        concurrency: Setting<u32>,
    },
    /// `Until`, `While`, `DoUntil`.
    Loop(Box<Loop>),
    /// The Loom action that repeats a body until it succeeds.
    Retry {
        /// The actions to repeat.
        body: BlockIdx,
        /// When and how often.
        policy: RetrySetting,
    },
    /// Ends the run.
    Terminate {
        /// `Failed`, `Cancelled`, `Succeeded`.
        status: Setting<RunStatus>,
        /// `{code, message}`.
        error: Option<Template>,
    },
    /// Answers the caller.
    Response {
        /// `{statusCode, headers, body}`.
        inputs: Template,
    },
    /// Pauses.
    Wait {
        /// `{interval: {count, unit}}` or `{until: {timestamp}}`.
        inputs: Template,
    },
    /// Reaches outside through a handler.
    Effect {
        /// Which handler.
        effect: EffectKind,
        /// Its inputs without `retryPolicy`, which is in [`Action::resilience`].
        inputs: Template,
    },
    /// Fails when it starts: the definition loads, but this action can only go wrong.
    Invalid {
        /// The error's code, such as `InvalidVariableOperation`.
        code: Arc<str>,
        /// The error's message.
        message: Arc<str>,
    },
    /// `Agent`: a model that may call tools, each a block of actions.
    Agent {
        /// `parameters`, `modelConfigurations`.
        inputs: Template,
        /// The tools, in file order.
        tools: Vec<Tool>,
        /// The most rounds.
        count: Setting<u32>,
    },
}

impl ActionKind {
    /// Whether the language tries it again when the definition does not say: it is a request.
    pub fn retries_by_default(&self) -> bool {
        matches!(
            self,
            Self::Effect {
                effect: EffectKind::Http
                    | EffectKind::ApiConnection
                    | EffectKind::Function
                    | EffectKind::HttpWebhook
                    | EffectKind::ApiConnectionWebhook
                    | EffectKind::Workflow,
                ..
            }
        )
    }
}

/// The most iterations of a Foreach that run at once.
pub const REPETITIONS_MAX: u32 = 50;

/// How a variable changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableChange {
    /// `SetVariable`.
    Set,
    /// `IncrementVariable`.
    Increment,
    /// `DecrementVariable`.
    Decrement,
    /// `AppendToStringVariable`.
    AppendText,
    /// `AppendToArrayVariable`.
    AppendItem,
}

/// One variable of an `InitializeVariable`.
#[derive(Clone, Debug)]
pub struct VariableInit {
    /// The variable declared.
    pub variable: VariableIdx,
    /// Its first value; null until set when absent.
    pub value: Option<Template>,
}

/// What `Table` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated, CRLF.
    Csv,
    /// An HTML table.
    Html,
}

/// One explicit column of a `Table`.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub header: Template,
    /// Evaluated per item, with `item()` bound.
    pub value: Template,
}

/// One case of a Switch.
#[derive(Clone, Debug)]
pub struct Case {
    /// The case's name in the file.
    pub name: Arc<str>,
    /// Compared strictly.
    pub value: Value,
    /// Its actions.
    pub block: BlockIdx,
}

/// A loop with a condition.
#[derive(Debug)]
pub struct Loop {
    /// When the condition is looked at and what it means.
    pub style: LoopStyle,
    /// The condition.
    pub condition: Condition,
    /// Its actions.
    pub body: BlockIdx,
    /// The most rounds, 1–5000; 60 when absent.
    pub count: Setting<u32>,
    /// The most time, looked at between rounds; one hour when absent.
    pub timeout: Setting<Span>,
    /// The pause between rounds; none after the last.
    pub delay: Option<Setting<Span>>,
    /// Written in the Loom spelling: it gives `{status, iterations, …}` and binds `loopIndex` and its kin.
    pub loom_spelling: bool,
}

/// What a loop in the Loom spelling binds for its body and its condition, read with `variables()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopVariable {
    /// `loopIndex`: the round, from 0.
    Index,
    /// `loopCount`: the round, from 1.
    Count,
    /// `loopResult`: what the round before gave.
    Result,
    /// `loopStartTime`: when the loop began.
    StartTime,
}

impl LoopVariable {
    /// The variable of this name, ignoring case.
    pub fn parse(name: &str) -> Option<LoopVariable> {
        let all = [
            ("loopIndex", LoopVariable::Index),
            ("loopCount", LoopVariable::Count),
            ("loopResult", LoopVariable::Result),
            ("loopStartTime", LoopVariable::StartTime),
        ];
        all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, variable)| variable)
    }
}

/// When a loop looks at its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopStyle {
    /// Body first, then stop when true.
    Until,
    /// Check first, run while true.
    While,
    /// Body first, then stop when true; in the Loom spelling only.
    DoUntil,
}

/// A tool of an agent.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name, as the model sees it.
    pub name: Arc<str>,
    /// Told to the model.
    pub description: Arc<str>,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// Its actions, with `agentParameters()` bound.
    pub block: BlockIdx,
    /// The rest of the tool as written (`type`, `inputs` of MCP tools and hand-offs).
    pub raw: Value,
}

/// Which handler executes an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectKind {
    /// An HTTP request.
    Http,
    /// A managed connector's request.
    ApiConnection,
    /// An Azure function, called over HTTP.
    Function,
    /// Subscribe, then wait for a callback.
    HttpWebhook,
    /// As `HttpWebhook`, through a connection.
    ApiConnectionWebhook,
    /// A child workflow.
    Workflow,
    /// `Expression` helpers and other types that only compute; named by `kind`.
    Compute(Arc<str>),
    /// Inline script.
    Script(Arc<str>),
    /// Keyed, stateful objects.
    Actor,
    /// User code by name.
    Activity,
    /// One call of a language model.
    Ai,
    /// A conversation among agents.
    GroupChat,
    /// Shared memory.
    Memory,
    /// A wait for a signal that is sent to the run.
    Signal,
    /// Any other type: it runs if a handler is registered under this name.
    Custom(Arc<str>),
}
