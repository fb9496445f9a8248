//! `Reference`: a name that a template refers to, known without evaluating it. Used for validation and for planning.

use std::{ops::Range, sync::Arc};

/// The kind of a reference, by the function that makes it.
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
    /// `declassify()`
    Declassify,
    /// `memory('x')`, `memoryList('x', …)`, `memoryHash('x', …)`; the name is an address.
    Memory,
}

impl ReferenceKind {
    /// Whether the reference is to an action.
    pub fn is_action(self) -> bool {
        matches!(
            self,
            Self::Action | Self::ActionOutputs | Self::ActionBody | Self::ActionForm | Self::Result
        )
    }
}

/// A reference in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind of reference.
    pub kind: ReferenceKind,
    /// The name; `None` if the function takes no name or the name is computed.
    pub name: Option<Arc<str>>,
    /// Whether the name is computed by an expression, so that it may be any name.
    pub computed: bool,
    /// The JSON pointer of the string within the compiled value; empty for the value itself.
    pub pointer: String,
    /// Whether the string is the name of the property at the pointer rather than its value.
    pub in_name: bool,
    /// The range of the name (or of the call, if there is no name) in that string, in bytes of the decoded text.
    pub span: Range<usize>,
}
