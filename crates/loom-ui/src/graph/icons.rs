//! The icons of actions, drawn as lines on a square of 20 by 20.

use loom_definition::model::{ActionKind, EffectKind};

/// What an action is about, at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Icon {
    Trigger,
    Http,
    Connector,
    Function,
    Condition,
    Switch,
    Loop,
    Scope,
    Variable,
    Data,
    Response,
    Wait,
    Terminate,
    Workflow,
    Code,
    Model,
    Signal,
    Store,
    Invalid,
}

impl Icon {
    pub(super) fn of(kind: &ActionKind) -> Icon {
        match kind {
            ActionKind::Compose { .. }
            | ActionKind::ParseJson { .. }
            | ActionKind::Query { .. }
            | ActionKind::Select { .. }
            | ActionKind::Join { .. }
            | ActionKind::Table { .. } => Icon::Data,
            ActionKind::InitializeVariable { .. } | ActionKind::ChangeVariable { .. } => Icon::Variable,
            ActionKind::If { .. } => Icon::Condition,
            ActionKind::Switch { .. } | ActionKind::Parallel { .. } => Icon::Switch,
            ActionKind::Scope { .. } => Icon::Scope,
            ActionKind::Foreach { .. } | ActionKind::Loop(_) | ActionKind::Retry { .. } => Icon::Loop,
            ActionKind::Terminate { .. } => Icon::Terminate,
            ActionKind::Response { .. } | ActionKind::Emit { .. } => Icon::Response,
            ActionKind::Wait { .. } => Icon::Wait,
            ActionKind::Invalid { .. } => Icon::Invalid,
            ActionKind::Agent { .. } => Icon::Model,
            ActionKind::Effect { effect, .. } => match effect {
                EffectKind::Http | EffectKind::HttpWebhook => Icon::Http,
                EffectKind::ApiConnection | EffectKind::ApiConnectionWebhook | EffectKind::Custom(_) => {
                    Icon::Connector
                }
                EffectKind::Function | EffectKind::Activity => Icon::Function,
                EffectKind::Workflow => Icon::Workflow,
                EffectKind::Compute(_) => Icon::Data,
                EffectKind::Script(_) => Icon::Code,
                EffectKind::Actor | EffectKind::Memory => Icon::Store,
                EffectKind::Ai => Icon::Model,
                EffectKind::Signal => Icon::Signal,
            },
        }
    }

    /// The id of its symbol in a drawing.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Icon::Trigger => "i-trigger",
            Icon::Http => "i-http",
            Icon::Connector => "i-connector",
            Icon::Function => "i-function",
            Icon::Condition => "i-condition",
            Icon::Switch => "i-switch",
            Icon::Loop => "i-loop",
            Icon::Scope => "i-scope",
            Icon::Variable => "i-variable",
            Icon::Data => "i-data",
            Icon::Response => "i-response",
            Icon::Wait => "i-wait",
            Icon::Terminate => "i-terminate",
            Icon::Workflow => "i-workflow",
            Icon::Code => "i-code",
            Icon::Model => "i-model",
            Icon::Signal => "i-signal",
            Icon::Store => "i-store",
            Icon::Invalid => "i-invalid",
        }
    }

    pub(super) const fn path(self) -> &'static str {
        match self {
            Icon::Trigger => "M11 2.5 4.5 11.5H9L8.5 17.5 15.5 8.5H10.5Z",
            Icon::Http => {
                "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14M3 10H17M10 3C13 6 13 14 10 17M10 3C7 6 7 14 10 17"
            }
            Icon::Connector => "M7 3V7M13 3V7M5 7H15V9.5a5 5 0 0 1-10 0ZM10 14.5V17.5",
            Icon::Function => "M13.5 4C10 2.5 9.6 5 9.2 8S8.5 17.5 5 16M6 8.5H13",
            Icon::Condition => "M10 3 17 10 10 17 3 10Z",
            Icon::Switch => "M10 3V17M10 7C10 11 4 9 4 14V17M10 7C10 11 16 9 16 14V17",
            Icon::Loop => "M4 10A6 6 0 0 1 14.5 6M15 2.5V6.5H11M16 10A6 6 0 0 1 5.5 14M5 17.5V13.5H9",
            Icon::Scope => "M3 7V3H7M13 3H17V7M17 13V17H13M7 17H3V13",
            Icon::Variable => {
                "M5.5 4C2.5 7.5 2.5 12.5 5.5 16M14.5 4C17.5 7.5 17.5 12.5 14.5 16M8 8 12 12.5M12 8 8 12.5"
            }
            Icon::Data => {
                "M8 3C5 3 6 5 6 7S5 10 3.5 10C5 10 6 11 6 13S5 17 8 17M12 3C15 3 14 5 14 7S15 10 16.5 10C15 10 14 11 14 13S15 17 12 17"
            }
            Icon::Response => "M8 5 3 10 8 15M3 10H12C15 10 17 12 17 15",
            Icon::Wait => "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14M10 6V10L13 12",
            Icon::Terminate => "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14M7.5 7.5H12.5V12.5H7.5Z",
            Icon::Workflow => "M3.5 3.5H8.5V8.5H3.5ZM11.5 11.5H16.5V16.5H11.5ZM6 8.5V14H11.5",
            Icon::Code => "M7 5.5 2.5 10 7 14.5M13 5.5 17.5 10 13 14.5M11.5 4 8.5 16",
            Icon::Model => "M10 2.5 11.8 8.2 17.5 10 11.8 11.8 10 17.5 8.2 11.8 2.5 10 8.2 8.2Z",
            Icon::Signal => "M5 13.5V9A5 5 0 0 1 15 9V13.5L16.5 15H3.5ZM8.5 17.5H11.5",
            Icon::Store => {
                "M4 5.5C4 2.5 16 2.5 16 5.5S4 8.5 4 5.5V14.5C4 17.5 16 17.5 16 14.5V5.5M4 10C4 13 16 13 16 10"
            }
            Icon::Invalid => "M10 3 18 17H2ZM10 8V12M10 14.2V14.8",
        }
    }
}
