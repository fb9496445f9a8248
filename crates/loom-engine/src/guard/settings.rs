//! Whose settings a service has: several actions, workflows and versions of a workflow may name the same one.
//!
//! The rule, part by part (rate limit, bulkhead, breaker):
//! - The workflow that was deployed last decides. Its settings replace those there are; what was consumed, and how the
//!   circuit stands, is kept as far as the new settings allow.
//! - Within one version of a workflow, the action that is called first decides. `validate` warns of the others.
//! - A version that was replaced changes nothing any more, though its runs continue.
//! - What a new version does not ask for any more goes with the version that had asked for it.

use std::{collections::HashMap, sync::Arc};

use loom_definition::Workflow;
use loom_resilience::Policy;

/// Services whose settings have a known source; beyond that the source is forgotten, and the next to differ decides.
const OWNED_MAX: usize = 4_096;

/// Where settings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    workflow: Arc<str>,
    /// The beginning of the definition's hash.
    version: u64,
    /// How many deployments there had been; 0 for a version that is not deployed, or not any more.
    order: u64,
}

/// The sources of all settings.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The version of each deployed workflow, and its order.
    deployed: HashMap<Arc<str>, (u64, u64)>,
    deployments: u64,
    /// By the name of the service: rate limit, bulkhead, breaker.
    owners: HashMap<String, [Option<Source>; 3]>,
}

/// The beginning of a definition's hash.
pub(super) fn version_of(workflow: &Workflow) -> u64 {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&workflow.hash[..8]);
    u64::from_le_bytes(prefix)
}

impl Settings {
    /// A workflow was deployed: its settings go before all that were there.
    pub(super) fn deployed(&mut self, workflow: &Workflow) {
        self.deployments += 1;
        self.deployed.insert(Arc::clone(&workflow.name), (version_of(workflow), self.deployments));
    }

    pub(super) fn source(&self, workflow: &Workflow) -> Source {
        let version = version_of(workflow);
        let deployed = self.deployed.get(&workflow.name).filter(|(deployed, _)| *deployed == version);
        Source {
            workflow: Arc::clone(&workflow.name),
            version,
            order: deployed.map_or(0, |(_, order)| *order),
        }
    }

    /// Merges what an action asks of the service `name` into the policy that the service has. Gives whether that changed.
    pub(super) fn merge(&mut self, name: &str, has: &mut Policy, wanted: &Policy, source: &Source) -> bool {
        if self.owners.len() >= OWNED_MAX && !self.owners.contains_key(name) {
            self.owners.clear();
        }
        let [limiter, bulkhead, breaker] = self.owners.entry(name.to_owned()).or_default();
        // Every part is merged, so none of these may be skipped by the others' result.
        let limiter = part(limiter, &mut has.limiter, wanted.limiter.as_ref(), source, name, "rateLimit");
        let bulkhead = part(bulkhead, &mut has.bulkhead, wanted.bulkhead.as_ref(), source, name, "bulkhead");
        let breaker =
            part(breaker, &mut has.breaker, wanted.breaker.as_ref(), source, name, "circuitBreaker");
        limiter | bulkhead | breaker
    }
}

fn part<T: Clone + PartialEq>(
    owner: &mut Option<Source>,
    has: &mut Option<T>,
    wanted: Option<&T>,
    source: &Source,
    service: &str,
    what: &str,
) -> bool {
    let goes_before = owner.as_ref().is_none_or(|owner| source.replaces(owner));
    match (&*has, wanted) {
        (None, None) => false,
        (Some(known), Some(wanted)) if known == wanted => {
            if goes_before || owner.as_ref().is_some_and(|owner| owner.order < source.order) {
                *owner = Some(source.clone());
            }
            false
        }
        (Some(_), Some(_)) if !goes_before => {
            tracing::warn!(
                service,
                part = what,
                "keeps the settings that were deployed last, or asked for first"
            );
            false
        }
        (_, Some(wanted)) => {
            *has = Some(wanted.clone());
            *owner = Some(source.clone());
            true
        }
        (Some(_), None) => {
            let lapses = owner.as_ref().is_some_and(|owner| source.is_next_version_of(owner));
            if lapses {
                *has = None;
                *owner = None;
            }
            lapses
        }
    }
}

impl Source {
    /// Whether settings from here replace those from `owner` where they differ.
    fn replaces(&self, owner: &Source) -> bool {
        self.order > owner.order || self.is_next_version_of(owner)
    }

    /// Whether this is a later version of the same workflow. Of two that were never deployed, the one that calls later is
    /// the later one.
    fn is_next_version_of(&self, owner: &Source) -> bool {
        self.workflow == owner.workflow && self.version != owner.version && self.order >= owner.order
    }
}
