//! What a host provides to all runs: settings, secrets, policies, limits. Knows nothing of the state of a run.

use std::{fmt, sync::Arc, time::Duration};

use loom_definition::policy::RetryPolicy;
use loom_expression::{Lookup, LookupError, Masker, Object, Value, is_connection_string, names_secret};

use crate::{
    budgets::Budgets, callback::Callbacks, event::RunStart, policies::PolicyBook, ports::SecretSource,
};

/// What a host provides to all runs, apart from the clock. Immutable while runs use it.
pub struct Environment {
    /// The values that `appsetting()` returns, by name; see [`label_settings`].
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// The source of `secret()`; without one, reading a secret is an error.
    pub secrets: Option<Arc<dyn SecretSource>>,
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

impl Default for Environment {
    fn default() -> Self {
        Environment {
            app_settings: Vec::new(),
            secrets: None,
            default_retry: Arc::new(RetryPolicy::wdl_default()),
            policies: PolicyBook::default(),
            run_duration_max: Duration::from_hours(2160),
            callbacks: None,
            masker: Masker::new(),
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

    /// Lets the masker learn the secrets among a run's parameters.
    pub(crate) fn learn_parameters(&self, start: &RunStart) {
        start.parameters.iter().for_each(|value| self.masker.learn(value));
    }

    #[expect(clippy::unused_self, reason = "the shared memory's handle lives here once it exists")]
    pub(crate) fn memory(&self, operation: &str, _arguments: &[Value]) -> Lookup {
        Err(LookupError::NotAvailable {
            why: format!("{operation}() requires a shared memory, and none is configured"),
        })
    }
}
