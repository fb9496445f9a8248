//! What a template mentions by name, known without running it: for validation and for planning.

use std::{ops::Range, sync::Arc};

/// How something is mentioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReferenceKind {
    /// `parameters('x')`.
    Parameter,
    /// `variables('x')`.
    Variable,
    /// `actions('x')`.
    Action,
    /// `outputs('x')`, `actionOutputs('x')`.
    ActionOutputs,
    /// `body('x')`, `actionBody('x')`.
    ActionBody,
    /// `formDataValue('x', …)`, `formDataMultiValues('x', …)`, `multipartBody('x', …)`.
    ActionForm,
    /// `result('x')`.
    Result,
    /// `items('x')`.
    LoopItem,
    /// `iterationIndexes('x')`.
    LoopIndex,
    /// `trigger()`, `triggerBody()`, and the other functions that read the trigger.
    Trigger,
    /// `item()`.
    Item,
    /// `action()`.
    CurrentAction,
    /// `workflow()`.
    Workflow,
    /// `listCallbackUrl()`.
    CallbackUrl,
    /// `appsetting('x')`.
    AppSetting,
    /// `agentParameters('x')`.
    AgentParameter,
    /// `secret('x')`.
    Secret,
    /// `memory…(…)`.
    Memory,
}

impl ReferenceKind {
    /// Whether the name is the name of an action.
    pub fn is_action(self) -> bool {
        matches!(
            self,
            Self::Action | Self::ActionOutputs | Self::ActionBody | Self::ActionForm | Self::Result
        )
    }
}

/// One mention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// How it is mentioned.
    pub kind: ReferenceKind,
    /// The name; `None` where the function takes none, or computes it (see `computed`).
    pub name: Option<Arc<str>>,
    /// Whether the name is computed by an expression, so that it could be any.
    pub computed: bool,
    /// JSON pointer of the string within the compiled value; empty for the value itself.
    pub pointer: String,
    /// Whether the string is the name of the property at the pointer, not its value.
    pub in_name: bool,
    /// The place of the name (or of the call, where it has none) in that string, in bytes of the decoded text.
    pub span: Range<usize>,
}
