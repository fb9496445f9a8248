//! Events as `tracing` records with stable field names: `service`, `rule`, `attempt`, `delay_ms` and others.

use crate::observer::{Event, Observer};

/// Reports every event to `tracing`, under the target `loom_resilience`.
///
/// A change of a circuit and a call that finally failed are warnings, refusals and retries are at level info, everything
/// else is at level debug.
///
/// ```
/// # use loom_resilience::{Policy, ResilienceRegistry, TracingObserver};
/// # use std::sync::Arc;
/// let registry = ResilienceRegistry::builder().observer(Arc::new(TracingObserver)).build()?;
/// # Ok::<_, loom_resilience::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingObserver;

const TARGET: &str = "loom_resilience";

impl Observer for TracingObserver {
    fn on_event(&self, event: &Event<'_>) {
        match *event {
            Event::StateChanged { service, from, to, cause, open_for, .. } => tracing::warn!(
                target: TARGET,
                service,
                %from,
                %to,
                cause = cause.map(tracing::field::display),
                open_ms = open_for.map(millis),
                "circuit changed"
            ),
            Event::Refused { service, refused, enforced } => tracing::info!(
                target: TARGET,
                service,
                rule = refused.rule.as_str(),
                retry_after_ms = refused.retry_after.map(millis),
                enforced,
                "call refused"
            ),
            Event::Waiting { service, on, expected, enforced } => tracing::debug!(
                target: TARGET,
                service,
                on = on.as_str(),
                expected_ms = expected.map(millis),
                enforced,
                "call waits"
            ),
            Event::Waited { service, on, waited } => {
                tracing::debug!(target: TARGET, service, on = on.as_str(), waited_ms = millis(waited), "call continues");
            }
            Event::Attempt { service, number, verdict, took, timed_out } => tracing::debug!(
                target: TARGET,
                service,
                attempt = number,
                ?verdict,
                took_ms = millis(took),
                timed_out,
                "attempt ended"
            ),
            Event::Retry { service, attempts, delay } => {
                tracing::info!(target: TARGET, service, attempts, delay_ms = millis(delay), "call retried");
            }
            Event::Hedged { service, attempt, copy } => {
                tracing::info!(target: TARGET, service, attempt, copy, "call hedged");
            }
            Event::FellBack { service, kind } => {
                tracing::warn!(target: TARGET, service, kind = kind.as_str(), "fallback used");
            }
            Event::Observed { service, part } => {
                tracing::info!(target: TARGET, service, part = part.as_str(), "an observed part of the policy would have intervened");
            }
            #[cfg(feature = "chaos")]
            Event::Injected { service, kind, attempt } => {
                tracing::warn!(target: TARGET, service, kind = kind.as_str(), attempt, "chaos injected");
            }
            Event::Reconfigured { service, parts } => {
                tracing::info!(target: TARGET, service, ?parts, "policy changed");
            }
            Event::LimitLearned { service, learned } => tracing::info!(
                target: TARGET,
                service,
                limit = learned.limit,
                remaining = learned.remaining,
                reset_ms = learned.reset_after.map(millis),
                "limit reported by the service"
            ),
            Event::GaveUp { service, attempts, why } => {
                tracing::warn!(target: TARGET, service, attempts, %why, "call given up");
            }
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}
