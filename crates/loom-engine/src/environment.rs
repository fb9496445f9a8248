//! What a host provides to all runs: settings, secrets, policies, limits. Knows nothing of the state of a run.

use std::{fmt, sync::Arc, time::Duration};

use loom_definition::policy::RetryPolicy;
use loom_expression::{Lookup, LookupError, Masker, Object, Value, is_connection_string, names_secret};
use loom_memory::StoredMemory;

use crate::{
    audit::AuditSink, budgets::Budgets, callback::Callbacks, event::RunStart, policies::PolicyBook,
    ports::SecretSource,
};

/// What a host provides to all runs, apart from the clock. Immutable while runs use it.
pub struct Environment {
    /// The values that `appsetting()` returns, by name; see [`label_settings`].
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// The source of `secret()`; without one, reading a secret is an error.
    pub secrets: Option<Arc<dyn SecretSource>>,
    /// Shared memory. Everything in a process that writes to the same store must use clones of one value.
    pub memory: Option<StoredMemory>,
    /// The retry policy of actions that define none.
    pub default_retry: Arc<RetryPolicy>,
    /// The named policies that actions refer to.
    pub policies: PolicyBook,
    /// The maximum duration of a run: 90 days by default.
    pub run_duration_max: Duration,
    /// The callback URLs of this host. None when nothing listens for callbacks.
    pub callbacks: Option<Callbacks>,
    /// Learns every secret that runs read, so that it can be redacted from anything that is shown.
    pub masker: Masker,
    /// Records the secrets that are read outside of the commits of runs. Without it, only those commits record them.
    pub audit: Option<Arc<dyn AuditSink>>,
    /// The days for which the secrets that runs read are recorded.
    pub audit_days: u32,
    /// The workflows that may call `declassify()`: names, or patterns in which `*` stands for any characters.
    pub declassify: Vec<Arc<str>>,
    /// The resources that one run may use.
    pub budgets: Budgets,
    /// Whether spans of runs are recorded. If so, they are the parents of the spans of outgoing calls; otherwise calls pass
    /// on the trace context that the run's own caller sent.
    pub traced: bool,
}

/// Labels as secret the settings that hold secrets: those with a telling name, those whose value is a connection string, and
/// those listed in `also`.
pub fn label_settings(settings: &Object, also: &[Arc<str>]) -> Vec<(Arc<str>, Value)> {
    let label = |(name, value): (&Arc<str>, &Value)| {
        let secret = names_secret(name)
            || also.iter().any(|named| named.eq_ignore_ascii_case(name))
            || value.as_str().is_some_and(is_connection_string);
        (Arc::clone(name), value.clone().secret_if(secret))
    };
    settings.iter().map(label).collect()
}

/// Whether a pattern names a workflow, regardless of case. `*` at the start or the end of it stands for any characters.
fn is_named_by(workflow: &str, pattern: &str) -> bool {
    let (workflow, pattern) = (workflow.to_lowercase(), pattern.to_lowercase());
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => workflow.contains(pattern.trim_matches('*')),
        (Some(end), None) => workflow.ends_with(end),
        (None, Some(start)) => workflow.starts_with(start),
        (None, None) => workflow == pattern,
    }
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            app_settings: Vec::new(),
            secrets: None,
            memory: None,
            default_retry: Arc::new(RetryPolicy::wdl_default()),
            policies: PolicyBook::default(),
            run_duration_max: Duration::from_hours(2160),
            callbacks: None,
            masker: Masker::new(),
            audit: None,
            audit_days: 365,
            declassify: Vec::new(),
            budgets: Budgets::default(),
            traced: false,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Settings may hold credentials.
        f.debug_struct("Environment").field("default_retry", &self.default_retry).finish_non_exhaustive()
    }
}

impl Environment {
    pub(crate) fn app_setting(&self, name: &str) -> Lookup {
        let found = self.app_settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some((_, value)) = found {
            self.masker.learn(value);
            return Ok(value.clone());
        }
        Err(LookupError::Unknown {
            available: self.app_settings.iter().map(|(known, _)| Arc::clone(known)).collect(),
        })
    }

    /// Whether a workflow may call `declassify()`.
    pub(crate) fn may_declassify(&self, workflow: &str) -> Result<(), LookupError> {
        if self.declassify.iter().any(|pattern| is_named_by(workflow, pattern)) {
            return Ok(());
        }
        let why = format!(
            "the operator of this host has not granted it to the workflow '{workflow}' (setting `declassify`)"
        );
        Err(LookupError::NotAvailable { why })
    }

    /// Lets the masker learn the secrets among a run's parameters.
    pub(crate) fn learn_parameters(&self, start: &RunStart) {
        start.parameters.iter().for_each(|value| self.masker.learn(value));
    }
}
