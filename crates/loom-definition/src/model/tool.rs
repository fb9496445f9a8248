//! Tools of agents, and the other blocks that agents and group chats open.

use std::sync::Arc;

use loom_expression::Value;

use super::{ActionIdx, BlockIdx};

/// A block of an agent or of a group chat. Most are tools.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The name: of a tool, as the model sees it, or of a participant.
    pub name: Arc<str>,
    /// The description of a tool, as the model sees it.
    pub description: Arc<str>,
    /// The JSON Schema of the arguments of a tool.
    pub parameters: Value,
    /// The actions, with `agentParameters()` bound.
    pub block: BlockIdx,
    /// The action that the tool is itself, if it has no `actions`: a call of an MCP server or of an operation of a connection, with
    /// the arguments of the model.
    pub call: Option<ActionIdx>,
    /// The agent or the participant to which a tool hands over, instead of calling its actions.
    pub handoff: Option<Arc<str>>,
    /// The other properties of the tool.
    pub raw: Value,
    /// The participant of a group chat that it belongs to.
    pub participant: Option<Arc<str>>,
    /// What it is for.
    pub role: ToolRole,
}

impl Tool {
    /// What people call the block: `tool find_order`, `participant Owner`.
    pub fn title(&self) -> String {
        let name = &self.name;
        match self.role {
            ToolRole::Tool { .. } => format!("tool {name}"),
            ToolRole::Approval(_) => format!("approval of {name}"),
            ToolRole::Speaker => format!("participant {name}"),
            ToolRole::Expression(_) => format!("expression {name}"),
            ToolRole::Recall | ToolRole::Remember => format!("history: {name}"),
        }
    }
}

/// What a block of an agent or of a group chat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolRole {
    /// A tool that the model calls.
    Tool {
        /// Whether a person approves each use first.
        approval: bool,
    },
    /// Asks a person whether the tool with this index may be used.
    Approval(u32),
    /// Speaks for the participant.
    Speaker,
    /// Evaluates an expression of a group chat.
    Expression(ChatExpression),
    /// Reads the earlier history of a group chat.
    Recall,
    /// Appends to the history of a group chat.
    Remember,
}

/// What an expression of a group chat decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatExpression {
    /// Who speaks next.
    Next,
    /// Who may be selected.
    Candidates,
    /// Whether a condition of the termination is met: the number of the expression in the list, from 0.
    Termination(u32),
}
