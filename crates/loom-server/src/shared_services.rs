//! What the nodes of a cluster share about the services that they call: rate limits and circuits. Knows no host.

pub(crate) mod circuits;
mod limits;

use std::{sync::Arc, time::Duration};

use loom_resilience::{Answering, LimiterConfig, Refused, Shared};
use loom_store::{Standing, Store};

use self::{circuits::Circuits, limits::Limits};

/// The rate limits and circuits of all nodes.
#[derive(Debug)]
pub(crate) struct SharedServices {
    limits: Arc<Limits>,
    pub(crate) circuits: Circuits,
}

impl SharedServices {
    pub(crate) fn new(store: &Arc<dyn Store>, standing: Standing) -> SharedServices {
        SharedServices {
            limits: Arc::new(Limits::new(Arc::clone(store))),
            circuits: Circuits::new(Arc::clone(store), standing),
        }
    }
}

impl Shared for SharedServices {
    fn take<'a>(
        &'a self,
        service: &'a Arc<str>,
        config: Arc<LimiterConfig>,
        permits: u32,
        max_wait: Option<Duration>,
    ) -> Answering<'a, Result<(), Refused>> {
        Box::pin(self.limits.take(service, config, permits, max_wait))
    }

    fn may_probe<'a>(&'a self, service: &'a Arc<str>, lease: Duration) -> Answering<'a, bool> {
        Box::pin(self.circuits.may_probe(service, lease))
    }
}
