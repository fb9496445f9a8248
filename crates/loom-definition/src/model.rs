//! The lowered workflow: the meaning of a valid definition.
//!
//! Actions, blocks and variables are in flat tables and refer to each other by index, `runAfter` is an adjacency list, and
//! every expression is compiled. The engine reads only this model, never the text of the file.

mod table;
mod tool;
pub(crate) mod untrusted;

use std::{ops::Range, sync::Arc};

use loom_expression::{Condition, Template, Value};

use crate::{
    duration::Span,
    memory::MemoryGrants,
    policy::{Resilience, RetrySetting},
    status::{RunStatus, StatusSet},
    trigger::Trigger,
};

pub use tool::{ChatExpression, Tool, ToolRole};

pub use table::{Column, TableFormat};

pub use crate::{
    setting::{Secure, Setting},
    value_type::ValueType,
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

/// One validated, immutable workflow, shared by all its runs.
///
/// The slots in compiled expressions (`loom_expression::Name::slot`) are indices into these tables: the slot of an action or
/// a loop is its [`ActionIdx`], that of a variable its [`VariableIdx`], that of a parameter its index in `parameters`.
#[derive(Debug)]
pub struct Workflow {
    /// The name of the workflow; see [`LoadOptions::name`](crate::LoadOptions::name).
    pub name: Arc<str>,
    /// `Stateful`, `Stateless` or `Agentic`.
    pub kind: WorkflowKind,
    /// The `description`, if there is one.
    pub description: Option<Arc<str>>,
    /// The `tags` of the definition or outside it: an object or an array, or null.
    pub tags: Value,
    /// The `contentVersion`; `1.0.0.0` by default.
    pub content_version: Arc<str>,
    /// The declared parameters.
    pub parameters: Vec<Parameter>,
    /// The triggers, each of which may start a run.
    pub triggers: Vec<Trigger>,
    /// All actions, nested ones included, in file order; an action comes before the actions inside it.
    pub actions: Vec<Action>,
    /// All blocks; the first contains the top-level actions.
    pub blocks: Vec<Block>,
    /// All variables that an `InitializeVariable` declares.
    pub variables: Vec<Variable>,
    /// The outputs of the workflow, evaluated when a run has succeeded.
    pub outputs: Vec<Output>,
    /// The static results.
    pub static_results: Vec<StaticResult>,
    /// Whether an expression may read secrets or shared memory, or call `declassify()`.
    pub has_reads: bool,
    /// The namespaces of shared memory that the definition grants its runs.
    pub memory: MemoryGrants,
    /// Everything that determines what the workflow does, as compact JSON that can be loaded again:
    /// `{kind, definition, tags?, parametersFile?}`. Stored for runs that outlive a deployment.
    pub source: Arc<str>,
    /// The BLAKE3 hash of `source`. White space and formatting of the file do not affect it.
    pub hash: [u8; 32],
}

impl Workflow {
    /// The block of the top-level actions.
    pub const ROOT: BlockIdx = BlockIdx(0);

    /// The action at `index`.
    ///
    /// # Panics
    /// If the index is from another workflow and out of range.
    #[inline]
    pub fn action(&self, index: ActionIdx) -> &Action {
        &self.actions[index.0 as usize]
    }

    /// The block at `index`.
    ///
    /// # Panics
    /// If the index is from another workflow and out of range.
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

/// Whether two names in a definition are the same: names are case-insensitive, in every script.
pub fn same_name(left: &str, right: &str) -> bool {
    left == right
        || left.eq_ignore_ascii_case(right)
        || (!(left.is_ascii() && right.is_ascii()) && left.to_lowercase() == right.to_lowercase())
}

/// How a workflow keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WorkflowKind {
    /// Runs are journaled and may last for weeks.
    #[default]
    Stateful,
    /// Short runs, with tighter limits and without polling after a `202` response.
    Stateless,
    /// A stateful workflow that is built around agent actions.
    Agentic,
}

impl WorkflowKind {
    /// The `kind` in definitions and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowKind::Stateful => "Stateful",
            WorkflowKind::Stateless => "Stateless",
            WorkflowKind::Agentic => "Agentic",
        }
    }

    /// Parses a `kind`, ignoring case. `agent` is another name of `agentic`.
    pub(crate) fn parse(text: &str) -> Option<WorkflowKind> {
        match text.to_ascii_lowercase().as_str() {
            "stateful" => Some(WorkflowKind::Stateful),
            "stateless" => Some(WorkflowKind::Stateless),
            "agentic" | "agent" => Some(WorkflowKind::Agentic),
            _ => None,
        }
    }
}

/// A declared parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// The type of its values.
    pub kind: ValueType,
    /// Whether its type is `securestring` or `secureobject`; such a value is redacted everywhere.
    pub secure: bool,
    /// The value if none is supplied. A template, because it may refer to app settings and other parameters.
    pub default: Option<Template>,
    /// Whether that value is from the project's `parameters.json` rather than from the definition.
    pub from_file: bool,
    /// The allowed values, if they are restricted.
    pub allowed: Option<Vec<Value>>,
    /// JSON pointer to the declaration in the file.
    pub pointer: Arc<str>,
    /// The bytes of the name in the file.
    pub span: Range<usize>,
}

/// A variable. Its scope is the whole run.
#[derive(Clone, Debug)]
pub struct Variable {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// The type of its values.
    pub kind: ValueType,
    /// The action that declares it.
    pub declared_by: ActionIdx,
}

/// A workflow output.
#[derive(Clone, Debug)]
pub struct Output {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// The declared type.
    pub kind: ValueType,
    /// Whether its type is `securestring` or `secureobject`; such a value is redacted everywhere.
    pub secure: bool,
    /// The value.
    pub value: Template,
}

/// A static result, which an action may return instead of being executed.
#[derive(Clone, Debug)]
pub struct StaticResult {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// An object with `status`, `outputs`, `code` and `error`, evaluated when it is used.
    pub content: Template,
}

/// A list of actions that starts and ends as a unit: the top level, a branch, the body of a loop.
#[derive(Clone, Debug)]
pub struct Block {
    /// The action that contains this block; `None` for the top level.
    pub owner: Option<ActionIdx>,
    /// The role of the block in its owner.
    pub role: BlockRole,
    /// The number of blocks that enclose this one; 0 for the top level.
    pub depth: u32,
    /// The actions, in file order; [`Action::position`] is the index in this list.
    pub actions: Vec<ActionIdx>,
    /// The actions without `runAfter`.
    pub roots: Vec<ActionIdx>,
    /// The actions that no sibling names in `runAfter`; they determine the result of the block.
    pub leaves: Vec<ActionIdx>,
    /// The agents that start only when another agent of the block hands over to them.
    pub handed_to: Vec<ActionIdx>,
}

/// The role of a block in the action that contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRole {
    /// The top level of the workflow.
    Root,
    /// The actions of a Scope, a loop or a Retry, or of an If when its condition is true.
    Body,
    /// The `else` of an If.
    Else,
    /// A case of a Switch, by index.
    Case(u32),
    /// The `default` of a Switch.
    Default,
    /// A branch of a Parallel, by index.
    Branch(u32),
    /// A tool of an Agent, by index.
    Tool(u32),
}

/// The approval of untrusted inputs by a person.
#[derive(Debug, Default)]
pub struct Approval {
    /// How long the action waits for it; no limit of its own if `None`.
    pub timeout: Option<Setting<Span>>,
    /// Whether the inputs are approved when that time is over; otherwise they are rejected.
    pub approves: bool,
    /// The message to the person.
    pub message: Option<Arc<str>>,
    /// Who is asked.
    pub to: Option<Value>,
}

/// One action.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Action {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// The `type` as the file spells it.
    pub type_name: Arc<str>,
    /// The `kind` as the file spells it, such as `JsonToText` of a Liquid action.
    pub variant: Option<Arc<str>>,
    /// The index of the action itself.
    pub index: ActionIdx,
    /// The block that contains it.
    pub block: BlockIdx,
    /// The index in [`Block::actions`].
    pub position: u32,
    /// What it does.
    pub kind: ActionKind,
    /// The actions that it waits for; if empty, it starts with its block.
    pub run_after: Vec<Dependency>,
    /// The actions in the same block that wait for this one.
    pub successors: Vec<ActionIdx>,
    /// Whether it is an agent that starts only when another agent hands over to it; see [`Block::handed_to`].
    pub is_handed_to: bool,
    /// The timeout of the action, including all retries and delays: `limit.timeout` or `timeout`. `None` for `Until`,
    /// `While` and `DoUntil`, whose timeout is in [`Loop::timeout`].
    pub timeout: Option<Setting<Span>>,
    /// The resilience policies; `None` if the definition specifies none and the type has no default.
    pub resilience: Option<Box<Resilience>>,
    /// Which parts to hide from the history of a run.
    pub secure: Secure,
    /// Whether what it returns is untrusted: a language model wrote it, or a service that a tool of an agent called.
    pub is_untrusted: bool,
    /// Whether its inputs may be made from untrusted data; otherwise it then fails, or waits for an approval.
    pub accepts_untrusted: bool,
    /// How a person approves untrusted inputs, if it accepts none without.
    pub approval: Option<Box<Approval>>,
    /// The static result to return instead of executing the action, as an index into [`Workflow::static_results`].
    pub static_result: Option<u32>,
    /// The tracked properties, evaluated after the action; `action()` is then the record of the action itself.
    pub tracked_properties: Option<Template>,
    /// The flags of `operationOptions`.
    pub options: Options,
    /// Whether an expression may read the `result()` of this action.
    pub result_wanted: bool,
    /// On a Foreach: the actions inside it that expressions after it read, and whose results each iteration keeps.
    pub gathered: Vec<Gathered>,
    /// The secrets that its expressions name literally, each once.
    pub secrets: Vec<Arc<str>>,
    /// The addresses of shared memory that its expressions name literally, each once.
    pub memory: Vec<Arc<str>>,
    /// The retry policy as specified in the inputs, with its `type` capitalised; null if there is none or it is computed.
    pub written_retry: Value,
    /// JSON pointer to the action in the file.
    pub pointer: Arc<str>,
    /// The properties of `runtimeConfiguration` that no other field contains; null if there are none.
    pub runtime: Value,
}

/// An action inside a Foreach that expressions after the loop read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The action, at any depth inside the loop.
    pub action: ActionIdx,
    /// Whether expressions read whole records, not only outputs.
    pub records: bool,
}

/// One entry of `runAfter`.
#[derive(Clone, Copy, Debug)]
pub struct Dependency {
    /// The action to wait for, in the same block.
    pub action: ActionIdx,
    /// The final statuses of that action with which this action runs.
    pub statuses: StatusSet,
}

/// Flags of `operationOptions` that change how an action behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the language has these flags, each its own switch")]
pub struct Options {
    /// `DisableAsyncPattern`: a `202` response is final.
    pub disable_async_pattern: bool,
    /// `SuppressWorkflowHeaders`: no `x-ms-*` headers on requests.
    pub suppress_workflow_headers: bool,
    /// `DisableAutomaticDecompression`: response bodies are not decompressed.
    pub disable_decompression: bool,
    /// `FailWhenLimitsReached`: a loop or agent that reaches its limit fails.
    pub fail_when_limits_reached: bool,
    /// `Asynchronous`: a Response replies with `202` first.
    pub asynchronous: bool,
}

/// What an action does.
#[derive(Debug)]
pub enum ActionKind {
    /// Returns its inputs.
    Compose {
        /// The value to return.
        inputs: Template,
    },
    /// Parses JSON and validates it against a schema.
    ParseJson {
        /// A string, an envelope with content, or any other value.
        content: Template,
        /// The schema; `{}` accepts anything.
        schema: Value,
    },
    /// Filters an array.
    Query {
        /// The array.
        from: Template,
        /// The condition for items to keep, with `item()` bound.
        filter: Condition,
    },
    /// Maps an array.
    Select {
        /// The array.
        from: Template,
        /// The new item, with `item()` bound.
        select: Template,
    },
    /// Joins an array into a string.
    Join {
        /// The array.
        from: Template,
        /// The separator.
        with: Template,
    },
    /// Renders CSV or HTML.
    Table {
        /// The format.
        format: TableFormat,
        /// The array.
        from: Template,
        /// The columns; by default, the keys of the items.
        columns: Option<Vec<Column>>,
    },
    /// Declares variables.
    InitializeVariable {
        /// The variables, in file order.
        variables: Vec<VariableInit>,
    },
    /// Sets, increments, decrements or appends to a variable.
    ChangeVariable {
        /// The variable.
        variable: VariableIdx,
        /// The operation.
        change: VariableChange,
        /// The operand; 1 by default for increments and decrements.
        value: Option<Template>,
    },
    /// Runs one of two branches.
    If {
        /// The condition.
        condition: Condition,
        /// The branch for true.
        then: BlockIdx,
        /// The branch for false; an empty block if the definition has no `else`.
        otherwise: BlockIdx,
    },
    /// Runs one of several branches.
    Switch {
        /// The value to compare, a string or an integer.
        on: Template,
        /// The cases, in file order.
        cases: Vec<Case>,
        /// The block to run if no case matches.
        default: Option<BlockIdx>,
    },
    /// Groups actions.
    Scope {
        /// The actions in it.
        body: BlockIdx,
    },
    /// Runs several branches concurrently.
    Parallel {
        /// The branches.
        branches: Vec<BlockIdx>,
    },
    /// Runs its body for each item of an array.
    Foreach {
        /// The array.
        items: Template,
        /// The actions in it.
        body: BlockIdx,
        /// The most concurrent iterations, 1 to [`REPETITIONS_MAX`]; always 1 in a nested loop.
        concurrency: Setting<u32>,
    },
    /// `Until`, `While` or `DoUntil`.
    Loop(Box<Loop>),
    /// Repeats its body until it succeeds. Exists only in Loom.
    Retry {
        /// The actions to repeat.
        body: BlockIdx,
        /// When and how often to repeat.
        policy: RetrySetting,
    },
    /// Ends the run.
    Terminate {
        /// `Failed`, `Cancelled` or `Succeeded`.
        status: Setting<RunStatus>,
        /// `{code, message}`.
        error: Option<Template>,
    },
    /// Responds to the caller of the trigger.
    Response {
        /// `{statusCode, headers, body}`.
        inputs: Template,
    },
    /// Waits for a duration, or until a time.
    Wait {
        /// `{interval: {count, unit}}` or `{until: {timestamp}}`.
        inputs: Template,
    },
    /// Calls a handler.
    Effect {
        /// The handler.
        effect: EffectKind,
        /// The inputs without `retryPolicy`, which is in [`Action::resilience`].
        inputs: Template,
    },
    /// Reports data or progress to the watchers of the run.
    Emit {
        /// `event` and `data`, or `progress`.
        inputs: Template,
    },
    /// Fails when it starts. The definition loads although this action cannot succeed.
    Invalid {
        /// The error code, such as `InvalidVariableOperation`.
        code: Arc<str>,
        /// The error message.
        message: Arc<str>,
    },
    /// Runs a language model that may call tools, each of which is a block of actions; or a group chat of several models, people and
    /// workflows, which has further blocks.
    Agent {
        /// The inputs, with `parameters` and `modelConfigurations`.
        inputs: Template,
        /// The tools and other blocks, in file order.
        tools: Vec<Tool>,
        /// `limit` without its timeout: the most model calls (`count`), `tokens` and `cost`. Null if there is none.
        limits: Template,
    },
}

impl ActionKind {
    /// Whether the action has numbered iterations.
    pub fn is_loop(&self) -> bool {
        matches!(self, Self::Foreach { .. } | Self::Loop(_) | Self::Retry { .. })
    }

    /// Whether blocks of the action can be opened several times, each with a number: iterations of a loop, or uses of the tools
    /// of an agent.
    pub fn repeats(&self) -> bool {
        self.is_loop() || matches!(self, Self::Agent { .. })
    }

    /// Whether the action type has a default retry policy. Requests do.
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

/// The most concurrent iterations of a Foreach.
pub const REPETITIONS_MAX: u32 = 50;

/// The operation on a variable.
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
    /// The variable.
    pub variable: VariableIdx,
    /// The initial value; null by default.
    pub value: Option<Template>,
}

/// One case of a Switch.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name of the case in the file.
    pub name: Arc<str>,
    /// The value to match, a string or an integer; values of different types never match.
    pub value: Value,
    /// The actions of the case.
    pub block: BlockIdx,
}

/// A loop with a condition.
#[derive(Debug)]
pub struct Loop {
    /// When the condition is evaluated, and whether it ends or continues the loop.
    pub style: LoopStyle,
    /// The condition.
    pub condition: Condition,
    /// The actions of an iteration.
    pub body: BlockIdx,
    /// The most iterations, 1–5000; 60 by default.
    pub count: Setting<u32>,
    /// The timeout, checked between iterations; one hour by default.
    pub timeout: Setting<Span>,
    /// The delay between iterations.
    pub delay: Option<Setting<Span>>,
    /// Whether it is in the Loom spelling: it then returns `{status, iterations, …}` and binds the [`LoopVariable`]s.
    pub loom_spelling: bool,
}

/// The variables that a loop in the Loom spelling binds in its body and condition; read with `variables()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopVariable {
    /// `loopIndex`: the number of the iteration, from 0.
    Index,
    /// `loopCount`: the number of the iteration, from 1.
    Count,
    /// `loopResult`: the result of the previous iteration.
    Result,
    /// `loopStartTime`: the time at which the loop started.
    StartTime,
}

impl LoopVariable {
    /// Finds a loop variable by name, ignoring case.
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

/// When a loop evaluates its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopStyle {
    /// After each iteration; ends the loop when true.
    Until,
    /// Before each iteration; ends the loop when false.
    While,
    /// After each iteration; ends the loop when true. Exists only in Loom.
    DoUntil,
}

/// The handler that executes an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectKind {
    /// An HTTP request.
    Http,
    /// A request through a managed connector.
    ApiConnection,
    /// An Azure function, called over HTTP.
    Function,
    /// Subscribe, then wait for a callback.
    HttpWebhook,
    /// Like `HttpWebhook`, through a connection.
    ApiConnectionWebhook,
    /// A child workflow.
    Workflow,
    /// A pure computation: an `Expression` action, by `kind`.
    Compute(Arc<str>),
    /// An inline script, by action type.
    Script(Arc<str>),
    /// A call of an actor, a stateful object with a key.
    Actor,
    /// A call of user code, by name.
    Activity,
    /// A call of a language model.
    Ai,
    /// An operation on shared memory.
    Memory,
    /// A wait for a signal to the run, or for the answer of a person.
    Signal,
    /// Any other type: the action runs if a handler is registered for it.
    Custom(Arc<str>),
}
