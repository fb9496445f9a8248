//! What a conversation asks for, as uses of blocks, with their arguments.

use std::sync::Arc;

use loom_definition::model::{ActionKind, ChatExpression, Tool, ToolRole};
use loom_engine::event::ToolUse;
use loom_expression::{Object, Value};
use loom_models::{
    Role,
    conversation::{Effect, effects},
};

use super::{
    outputs::history_of,
    results::value_of,
    setup::Setup,
    talk::{Talk, expression_of},
};

/// The use of a block that an effect is.
pub(super) struct UseOf {
    /// Identifies it among the uses of a turn.
    pub(super) id: String,
    /// The block, by its index.
    pub(super) block: u32,
}

impl UseOf {
    /// The use that an effect is; none for calls of models, and for what the definition has no block for.
    pub(super) fn effect(setup: &Setup, effect: &Effect) -> Option<UseOf> {
        let (id, block) = match effect {
            Effect::CallTool { call, id, speaker, name, .. } => {
                // Ids are unique for one speaker.
                let id = if setup.chat.is_some() { format!("{call}:{id}") } else { id.clone() };
                (id, setup.tool(speaker, name))
            }
            Effect::Approve { call, id, speaker, name, .. } => {
                let tool = setup.tool(speaker, name)?;
                (format!("approve:{call}:{id}"), setup.block(|block| block.role == ToolRole::Approval(tool)))
            }
            Effect::Ask { speaker, round } => {
                let speaks = setup.block(|block| {
                    block.role == ToolRole::Speaker && block.participant.as_deref() == Some(speaker.as_str())
                });
                (format!("ask:{round}:{speaker}"), speaks)
            }
            Effect::Evaluate { number, evaluation } => {
                let expression = expression_of(evaluation)?;
                let block = setup.block(|block| block.role == ToolRole::Expression(expression));
                (format!("evaluate:{number}"), block)
            }
            _ => return None,
        };
        Some(UseOf { id, block: block? })
    }
}

impl Talk<'_> {
    /// The blocks to open now. A model that is to be called comes first; only history is written beside it.
    pub(super) fn uses(&mut self) -> Vec<ToolUse> {
        let mut uses = Vec::new();
        if self.must_recall() {
            let key = self.memory_key();
            let arguments = Object::single(Arc::from("key"), Value::from(key));
            uses.extend(self.use_of_role(ToolRole::Recall, arguments));
            return uses;
        }
        let due = effects(&self.setup.spec, &self.state);
        if !due.iter().any(|effect| matches!(effect, Effect::CallModel { .. })) {
            for effect in &due {
                let Some(used) = UseOf::effect(self.setup, effect) else { continue };
                let arguments = self.arguments(effect, used.block).secret_if(self.secret);
                uses.push(ToolUse { id: used.id.into(), tool: used.block, arguments });
            }
        }
        if self.remembers_more() {
            let entries = self.history(self.remembered);
            let arguments: Object =
                [("key", Value::from(self.memory_key())), ("entries", entries.into())].into_iter().collect();
            uses.extend(self.use_of_role(ToolRole::Remember, arguments));
            self.remembered = self.state.entries().len();
        }
        uses
    }

    fn use_of_role(&self, role: ToolRole, arguments: Object) -> Option<ToolUse> {
        let tool = self.setup.block(|block| block.role == role)?;
        let id = if role == ToolRole::Recall { "recall" } else { "remember" };
        Some(ToolUse { id: id.into(), tool, arguments: Value::from(arguments).secret_if(self.secret) })
    }

    fn memory_key(&self) -> String {
        self.setup.chat.as_ref().and_then(|chat| chat.memory.clone()).unwrap_or_default()
    }

    /// The items of the history from a position of the entries on.
    pub(super) fn history(&self, from: usize) -> Vec<Value> {
        history_of(&self.setup.spec, &self.state.entries()[from..], from, |index| {
            self.times.get(index).copied().unwrap_or(self.at_ms)
        })
    }

    fn arguments(&self, effect: &Effect, block: u32) -> Value {
        match effect {
            Effect::CallTool { speaker, name, arguments, .. } => {
                self.setup.arguments(speaker, name, value_of(arguments))
            }
            Effect::Approve { speaker, name, arguments, .. } => {
                let mut given = Object::new();
                given.insert("tool", name.as_str());
                given.insert("agent", speaker.as_str());
                given.insert("arguments", value_of(arguments));
                let said = self.state.history();
                let said = said.iter().rev().map(|entry| entry.message.text()).find(|text| !text.is_empty());
                given.insert("message", said.unwrap_or_default());
                given.into()
            }
            _ => self.last_message(self.block(block)),
        }
    }

    /// What people, workflows and expressions are given: the last message, who said it, and the history.
    fn last_message(&self, block: Option<&Tool>) -> Value {
        let entries = self.state.entries();
        let last = entries.iter().rev().find(|entry| entry.is_spoken() && !entry.message.text().is_empty());
        let text = last.map(|entry| entry.message.text()).unwrap_or_default();
        let is_json = text.trim_start().starts_with(['{', '[']);
        let parsed = if is_json { Value::from_json_str(text.trim()).ok() } else { None };
        let wants_parsed = block.is_some_and(|block| matches!(block.role, ToolRole::Expression(_)));
        let mut given = Object::new();
        match parsed.filter(|_| wants_parsed) {
            Some(json) => given.insert("message", json),
            None => given.insert("message", text.as_str()),
        };
        given.insert("text", text);
        given.insert("speaker", last.and_then(|entry| entry.speaker.clone()).unwrap_or_default());
        given.insert("round", i64::from(self.state.rounds()));
        let spoken = entries.iter().filter(|entry| entry.is_spoken() && entry.message.role != Role::System);
        given.insert("messages", i64::try_from(spoken.count()).unwrap_or(i64::MAX));
        let tools: Vec<Value> = self.state.last_tools().iter().map(|name| name.as_str().into()).collect();
        given.insert("tools", tools);
        // The history grows with each round, so it is only passed to those who read it.
        if block.is_none_or(|block| self.reads_history(block)) {
            given.insert("history", self.history(0));
        }
        given.into()
    }

    fn reads_history(&self, block: &Tool) -> bool {
        let ToolRole::Expression(
            ChatExpression::Next | ChatExpression::Candidates | ChatExpression::Termination(_),
        ) = block.role
        else {
            return true;
        };
        let actions = &self.call.workflow.block(block.block).actions;
        actions.iter().any(|action| match &self.call.workflow.action(*action).kind {
            ActionKind::Compose { inputs } => inputs.source_value().to_json_text().contains("history"),
            _ => true,
        })
    }
}
