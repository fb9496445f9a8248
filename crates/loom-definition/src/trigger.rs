//! Triggers: what starts a run.

use std::{borrow::Cow, sync::Arc};

use loom_expression::{Condition, Template, Value};

use crate::{
    duration::Span,
    model::{Secure, Setting},
    policy::RetrySetting,
    schema_names::unescaped,
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
    /// As the file spells it.
    pub name: Arc<str>,
    /// `type` as the file spells it.
    pub type_name: Arc<str>,
    /// What it listens to.
    pub kind: TriggerKind,
    /// All must hold for a run to start.
    pub conditions: Vec<Condition>,
    /// One run per item of this array.
    pub split_on: Option<Template>,
    /// `splitOnConfiguration.correlation.clientTrackingId`.
    pub split_on_tracking_id: Option<Template>,
    /// `correlation.clientTrackingId`.
    pub tracking_id: Option<Template>,
    /// When it fires, or how often it polls.
    pub recurrence: Option<Setting<Recurrence>>,
    /// Runs at once, and runs that may wait.
    pub concurrency: Option<TriggerConcurrency>,
    /// Retries of its polls and subscriptions.
    pub retry: RetrySetting,
    /// Which parts history must hide.
    pub secure: Secure,
    /// Flags of `operationOptions`.
    pub options: TriggerOptions,
    /// JSON pointer to it in the file.
    pub pointer: Arc<str>,
}

/// What a trigger listens to.
#[derive(Debug)]
pub enum TriggerKind {
    /// HTTP requests.
    Request {
        /// `kind` as written (`Http`, `Button`, …).
        kind: Option<Arc<str>>,
        /// The only accepted method, upper case.
        method: Option<Arc<str>>,
        /// The path after `invoke`, with `{parameters}`.
        relative_path: Option<Arc<str>>,
        /// JSON schema of the body.
        schema: Value,
    },
    /// A timetable.
    Recurrence,
    /// A timetable whose windows are all processed, in order.
    SlidingWindow {
        /// Each run waits this long after its window has closed.
        delay: Option<Span>,
    },
    /// Polls an address; a `200` starts a run.
    HttpPoll {
        /// As the Http action.
        inputs: Template,
    },
    /// Subscribes; each callback starts a run.
    HttpWebhook {
        /// `subscribe` and `unsubscribe`.
        inputs: Template,
    },
    /// Polls through a connection.
    ApiConnection {
        /// As the ApiConnection action.
        inputs: Template,
    },
    /// Subscribes through a connection.
    ApiConnectionWebhook {
        /// As the action.
        inputs: Template,
    },
    /// Collects messages of other workflows; a batch of them starts a run.
    Batch {
        /// For [`BatchConfiguration::from_inputs`].
        inputs: Template,
    },
    /// Started by hand, or by a parent workflow.
    Manual,
    /// A named event of the host program.
    Event {
        /// Which.
        inputs: Template,
    },
    /// Known by name only: it can be started by hand.
    Other {
        /// As written.
        inputs: Value,
    },
}

impl TriggerKind {
    /// The JSON schema of the body, with its names as the body has them.
    pub fn schema(&self) -> Option<Cow<'_, Value>> {
        match self {
            TriggerKind::Request { schema, .. } => Some(Cow::Borrowed(schema)),
            // Only the plain JSON of the definition: a schema holds no expressions.
            kind => kind.inputs()?.source_value().get("schema").map(unescaped).map(Cow::Owned),
        }
    }

    /// The template of its inputs, for those that make requests of their own, collect batches, or stand for an event.
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
            | TriggerKind::Other { .. } => None,
        }
    }
}

/// Limits of a trigger's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerConcurrency {
    /// Runs in progress at once, 1–100.
    pub runs: u32,
    /// Runs that may wait.
    pub maximum_waiting_runs: u32,
}

/// Flags of a trigger's `operationOptions`.
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

/// When something happens again.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// How it goes on.
    pub rhythm: Rhythm,
    /// ISO 8601 without offset (with `time_zone`), or with `Z`.
    pub start_time: Option<Arc<str>>,
    /// As `start_time`.
    pub end_time: Option<Arc<str>>,
    /// The most occurrences.
    pub count: Option<u32>,
    /// A Windows id; UTC when absent.
    pub time_zone: Option<Arc<str>>,
    /// What it was read from, with its expressions evaluated.
    pub source: Value,
}

/// How a recurrence goes on.
#[derive(Clone, Debug)]
pub enum Rhythm {
    /// After so many units of time.
    Every {
        /// The unit.
        frequency: Frequency,
        /// How many units, at least 1.
        interval: u32,
        /// Which hours, minutes and days.
        schedule: Option<RecurrenceSchedule>,
    },
    /// As a cron expression says.
    Cron(Cron),
}

/// Units of a recurrence.
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

/// The finer timetable of a recurrence. Empty lists mean "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecurrenceSchedule {
    /// 0–23.
    pub hours: Vec<u8>,
    /// 0–59.
    pub minutes: Vec<u8>,
    /// Sunday is 0.
    pub week_days: Vec<u8>,
    /// 1–31, or −1 (the last day) to −31.
    pub month_days: Vec<i8>,
    /// (day of week, occurrence 1–5 or −1 to −5).
    pub monthly_occurrences: Vec<(u8, i8)>,
}
