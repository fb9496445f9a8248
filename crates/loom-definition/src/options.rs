//! The options for loading a definition.

use std::sync::Arc;

use loom_expression::{Object, Value};

use crate::{arm::Deployment, policy::Policies, text::Limits};

/// Options for [`Definition::parse`](crate::Definition::parse).
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The workflow's name. Without it: the name in the file, else the stem of `file_name` (the directory's name for a
    /// `workflow.json`), else `workflow`.
    pub name: Option<Arc<str>>,
    /// The name of the file, used only to name the workflow.
    pub file_name: Option<Arc<str>>,
    /// The name of the workflow to load from a template that contains several.
    pub choose: Option<Arc<str>>,
    /// Values for the parameters of an ARM template; they take precedence over its defaults.
    pub arm_parameters: Object,
    /// What an ARM template can read about its deployment.
    pub deployment: Deployment,
    /// Parameters declared outside the definition: the content of a Standard project's `parameters.json`,
    /// `{name: {type, value}}`.
    pub parameters_file: Option<Value>,
    /// Whether an invalid expression in an action is an error. If not, it is a warning, and the action fails when it
    /// runs, with `InvalidTemplate`. A call of an unknown function is always a warning.
    pub strict_expressions: bool,
    /// Whether the definition was accepted by an earlier version and is loaded again, for runs that still need it. Rules
    /// added since then produce warnings instead of errors.
    pub accepted_before: bool,
    /// Checks the code of `JavaScriptCode` actions, which this crate cannot parse. Without it, scripts are not checked.
    pub script_check: Option<ScriptCheck>,
    /// The named policies of the project, which actions refer to by `policy`. Without them, such references are not checked.
    pub policies: Option<Arc<Policies>>,
    /// Limits on the text.
    pub limits: Limits,
}

/// Finds the first syntax error in a script, without running it.
pub type ScriptCheck = fn(&str) -> Option<ScriptMistake>;

/// A syntax error in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptMistake {
    /// What is wrong.
    pub message: String,
    /// Where it is in the script, as a byte offset.
    pub offset: usize,
}
