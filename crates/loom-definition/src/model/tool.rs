//! Tools of agents.

use std::sync::Arc;

use loom_expression::Value;

use super::{ActionIdx, BlockIdx};

/// A tool of an agent.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The name, as the model sees it.
    pub name: Arc<str>,
    /// The description, as the model sees it.
    pub description: Arc<str>,
    /// The JSON Schema of the arguments.
    pub parameters: Value,
    /// The actions of the tool, with `agentParameters()` bound.
    pub block: BlockIdx,
    /// The action that the tool is itself, if it has no `actions`: a call of an MCP server or of an operation of a connection, with
    /// the arguments of the model.
    pub call: Option<ActionIdx>,
    /// The agent to which it hands over, instead of calling its actions.
    pub handoff: Option<Arc<str>>,
    /// The other properties of the tool.
    pub raw: Value,
}
