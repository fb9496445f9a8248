//! What happens inside, told to whoever listens: one trait, one event type.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::Moment,
    refusal::{Refused, TripCause},
    retry::StopReason,
    verdict::Verdict,
};

/// Listens to events.
///
/// Called on the thread of the call, outside every lock of this crate, so an implementation may call back into it.
/// It should be quick, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Takes one event.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// The three states of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CircuitState {
    /// Calls flow.
    Closed,
    /// Calls are refused.
    Open,
    /// A few probes find out whether the service is back.
    HalfOpen,
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        })
    }
}

/// One thing that happened to one service.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A circuit changed its state.
    StateChanged {
        /// The service.
        service: &'a str,
        /// The state before.
        from: CircuitState,
        /// The state after.
        to: CircuitState,
        /// Why it opened, when it did.
        cause: Option<TripCause>,
        /// How long it will stay open, when it did open.
        open_for: Option<Duration>,
        /// When.
        at: Moment,
    },
    /// A call was refused, or would have been, had the part not been in observe mode.
    Refused {
        /// The service.
        service: &'a str,
        /// By what, and until when.
        refused: &'a Refused,
        /// Whether the call was really refused.
        enforced: bool,
    },
    /// A call began to wait for a permit or a place.
    Waiting {
        /// The service.
        service: &'a str,
        /// For what it waits.
        on: WaitFor,
        /// How long it is expected to take; `None` when that is not known.
        expected: Option<Duration>,
    },
    /// A call ended its wait and goes on.
    Waited {
        /// The service.
        service: &'a str,
        /// For what it waited.
        on: WaitFor,
        /// How long it took.
        waited: Duration,
    },
    /// An attempt came to its end.
    Attempt {
        /// The service.
        service: &'a str,
        /// Its number, from 1.
        number: u32,
        /// What it says about the service.
        verdict: Verdict,
        /// How long it took.
        took: Duration,
        /// Whether its time ran out.
        timed_out: bool,
    },
    /// Another attempt will follow.
    Retry {
        /// The service.
        service: &'a str,
        /// Attempts made so far.
        attempts: u32,
        /// The pause before the next.
        delay: Duration,
    },
    /// No other attempt will follow.
    GaveUp {
        /// The service.
        service: &'a str,
        /// Attempts made.
        attempts: u32,
        /// Why no more.
        why: StopReason,
    },
}

/// What a call can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitFor {
    /// A permit of the rate limiter.
    Permit,
    /// A place in the bulkhead.
    Place,
}

/// Name and listener of one part.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) name: Arc<str>,
    observer: Option<Arc<dyn Observer>>,
}

impl Voice {
    pub(crate) fn new(name: &str, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { name: Arc::from(name), observer }
    }

    #[inline]
    pub(crate) const fn is_heard(&self) -> bool {
        self.observer.is_some()
    }

    /// Builds and tells an event, if anybody listens.
    #[inline]
    pub(crate) fn say<'a>(&'a self, event: impl FnOnce(&'a str) -> Event<'a>) {
        if let Some(observer) = &self.observer {
            observer.on_event(&event(&self.name));
        }
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voice({}, heard: {})", self.name, self.is_heard())
    }
}
