//! The names of the states of circuits, in the API and in metrics.

use loom_resilience::{BreakerStatus, CircuitState};

/// The state of a circuit that operators see: `Isolated` hides the state that the breaker itself is in, because an isolated
/// service rejects every call whatever that is.
pub(crate) fn state_name(status: &BreakerStatus) -> &'static str {
    if status.isolated { ISOLATED } else { phase_name(status.state) }
}

/// The state of the breaker itself.
pub(crate) fn phase_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "Closed",
        CircuitState::Open => "Open",
        CircuitState::HalfOpen => "HalfOpen",
    }
}

/// The state of a circuit that an operator opened.
pub(crate) const ISOLATED: &str = "Isolated";
