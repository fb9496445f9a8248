//! The lowered triggers of a workflow: what starts a run.

use std::{borrow::Cow, num::NonZeroU32, sync::Arc};

use loom_expression::{Condition, Template, Value};

use crate::{
    RunStatus,
    duration::Span,
    policy::RetrySetting,
    schema_names::unescaped,
    setting::{Secure, Setting},
};

mod batch;
mod cron;
mod recurrence;

pub use batch::{BatchConfiguration, BatchError};
pub use cron::{Cron, CronDay, CronError, CronWeekDay};
pub use recurrence::RecurrenceError;

/// One trigger.
#[derive(Debug)]
pub struct Trigger {
    /// The name as the file spells it.
    pub name: Arc<str>,
    /// The `type` as the file spells it.
    pub type_name: Arc<str>,
    /// What starts a run.
    pub kind: TriggerKind,
    /// Conditions that must all be true for a run to start.
    pub conditions: Vec<Condition>,
    /// An array; the trigger starts one run per item.
    pub split_on: Option<Template>,
    /// `splitOnConfiguration.correlation.clientTrackingId`.
    pub split_on_tracking_id: Option<Template>,
    /// `correlation.clientTrackingId`.
    pub tracking_id: Option<Template>,
    /// When the trigger fires, or how often it polls.
    pub recurrence: Option<Setting<Recurrence>>,
    /// Limits on concurrent and waiting runs; `None` for no limit.
    pub concurrency: Option<TriggerConcurrency>,
    /// The retry policy of its polls and subscriptions.
    pub retry: RetrySetting,
    /// Which parts to hide from the history of a run.
    pub secure: Secure,
    /// The flags of `operationOptions`.
    pub options: TriggerOptions,
    /// JSON pointer to the trigger in the file.
    pub pointer: Arc<str>,
}

/// What starts a run.
#[derive(Debug)]
pub enum TriggerKind {
    /// HTTP requests.
    Request {
        /// `kind` as written (`Http`, `Button`, …).
        kind: Option<Arc<str>>,
        /// The only accepted method, in upper case; all methods if `None`.
        method: Option<Arc<str>>,
        /// The path after `invoke`, with `{parameters}`.
        relative_path: Option<Arc<str>>,
        /// The JSON schema of the body.
        schema: Value,
    },
    /// A schedule.
    Recurrence,
    /// A schedule of time windows, each of which is processed, in order.
    SlidingWindow {
        /// How long each run waits after its window has closed.
        delay: Option<Span>,
    },
    /// Polls a URL; a response with status 200 starts a run.
    HttpPoll {
        /// The same as the inputs of an Http action.
        inputs: Template,
    },
    /// Subscribes to a service; each callback starts a run.
    HttpWebhook {
        /// `subscribe` and `unsubscribe`.
        inputs: Template,
    },
    /// Polls through a connection.
    ApiConnection {
        /// The same as the inputs of an ApiConnection action.
        inputs: Template,
    },
    /// Subscribes through a connection.
    ApiConnectionWebhook {
        /// The same as the inputs of an ApiConnectionWebhook action.
        inputs: Template,
    },
    /// Collects messages from other workflows; each batch of them starts a run.
    Batch {
        /// Evaluated, then read by [`BatchConfiguration::from_inputs`].
        inputs: Template,
    },
    /// Started manually or by a parent workflow.
    Manual,
    /// The end of a run of another workflow starts a run.
    RunEnded {
        /// Names of workflows.
        workflows: Vec<Arc<str>>,
        /// Statuses of runs, all of them final.
        statuses: Vec<RunStatus>,
    },
    /// A change of shared memory starts a run, or several changes start one together.
    MemoryChanged {
        /// The namespace, such as `global` or `workflow` for the workflow's own.
        namespace: Arc<str>,
        /// What the keys begin with; empty for all keys.
        prefix: Arc<str>,
        /// The most changes of one run; `None` for a run for each change.
        batch_size: Option<NonZeroU32>,
    },
    /// A named event of the host program.
    Event {
        /// The name of the event.
        inputs: Template,
    },
    /// A trigger that Loom does not execute; the workflow can only be started manually.
    Other {
        /// The inputs, not evaluated.
        inputs: Value,
    },
}

impl TriggerKind {
    /// The most changes that a MemoryChanged trigger hands to one run.
    pub const CHANGES_MAX: u32 = 1_000;

    /// The JSON schema of the body, if the trigger has one. The names in it are not escaped.
    pub fn schema(&self) -> Option<Cow<'_, Value>> {
        match self {
            TriggerKind::Request { schema, .. } => Some(Cow::Borrowed(schema)),
            // The schema is literal JSON: it contains no expressions.
            kind => kind.inputs()?.source_value().get("schema").map(unescaped).map(Cow::Owned),
        }
    }

    /// The template of the inputs, for triggers that make requests, collect batches or wait for an event.
    pub fn inputs(&self) -> Option<&Template> {
        match self {
            TriggerKind::HttpPoll { inputs }
            | TriggerKind::HttpWebhook { inputs }
            | TriggerKind::ApiConnection { inputs }
            | TriggerKind::ApiConnectionWebhook { inputs }
            | TriggerKind::Batch { inputs }
            | TriggerKind::Event { inputs } => Some(inputs),
            TriggerKind::Request { .. }
            | TriggerKind::Recurrence
            | TriggerKind::SlidingWindow { .. }
            | TriggerKind::Manual
            | TriggerKind::RunEnded { .. }
            | TriggerKind::MemoryChanged { .. }
            | TriggerKind::Other { .. } => None,
        }
    }
}

/// Limits on the runs of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerConcurrency {
    /// The most concurrent runs, 1–100.
    pub runs: u32,
    /// The most waiting runs, 1–200.
    pub maximum_waiting_runs: u32,
}

/// The flags of a trigger's `operationOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the language has these flags, each its own switch")]
pub struct TriggerOptions {
    /// `EnableSchemaValidation`.
    pub validate_schema: bool,
    /// `IncludeAuthorizationHeadersInOutputs`.
    pub include_authorization: bool,
    /// `SuppressWorkflowHeaders`.
    pub suppress_workflow_headers: bool,
    /// `SuppressWorkflowHeadersOnResponse`.
    pub suppress_headers_on_response: bool,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// When it occurs.
    pub rule: RecurrenceRule,
    /// The start, in ISO 8601: a local time in `time_zone`, or a time with `Z`.
    pub start_time: Option<Arc<str>>,
    /// The end, in the same format as `start_time`.
    pub end_time: Option<Arc<str>>,
    /// The most occurrences.
    pub count: Option<u32>,
    /// The Windows or IANA name of the time zone; UTC by default.
    pub time_zone: Option<Arc<str>>,
    /// The value that it was read from, with its expressions evaluated.
    pub source: Value,
}

/// The rule of a recurrence.
#[derive(Clone, Debug)]
pub enum RecurrenceRule {
    /// At a fixed interval.
    Every {
        /// The unit of the interval.
        frequency: Frequency,
        /// The number of units, at least 1.
        interval: u32,
        /// The hours, minutes and days at which it occurs.
        schedule: Option<RecurrenceSchedule>,
    },
    /// At the times of a cron expression.
    Cron(Cron),
}

/// The units of a recurrence's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency {
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks.
    Week,
    /// Months.
    Month,
    /// Years.
    Year,
}

/// The `schedule` of a recurrence. An empty list means that the definition does not specify it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecurrenceSchedule {
    /// The hours, 0–23.
    pub hours: Vec<u8>,
    /// The minutes, 0–59.
    pub minutes: Vec<u8>,
    /// The days of the week; Sunday is 0.
    pub week_days: Vec<u8>,
    /// The days of the month: 1 to 31, or −1 (the last day) to −31.
    pub month_days: Vec<i8>,
    /// Pairs of a day of the week and its occurrence in the month: 1 to 5, or −1 (the last) to −5.
    pub monthly_occurrences: Vec<(u8, i8)>,
}
