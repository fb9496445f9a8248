//! Decides which settings a service has when several actions, workflows or versions of a workflow name it.
//!
//! The rules apply separately to rate limit, bulkhead and breaker:
//! - The workflow that was deployed last wins. Its settings replace the existing ones; consumed permits and the circuit's
//!   state are preserved as far as the new settings allow.
//! - Within one version of a workflow, the action that is called first wins. `validate` warns of the others.
//! - A version that has been replaced changes nothing any more, although its runs continue.
//! - A setting that a new version no longer has is removed together with the version that had it.

use std::{collections::HashMap, sync::Arc};

use loom_definition::Workflow;
use loom_resilience::Policy;

/// Maximum number of services whose settings have a known source; beyond it all sources are discarded, and the next
/// conflicting settings win.
const OWNED_MAX: usize = 4_096;

/// The origin of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    workflow: Arc<str>,
    /// The first bytes of the definition's hash.
    version: u64,
    /// The number of its deployment, from 1; 0 for a version that is not, or no longer, deployed.
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

/// The first bytes of a definition's hash.
pub(super) fn version_of(workflow: &Workflow) -> u64 {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&workflow.hash[..8]);
    u64::from_le_bytes(prefix)
}

impl Settings {
    /// Records the deployment of a workflow: its settings now take precedence.
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

    /// Merges the policy that an action defines for the service `name` into the policy that the service has. True when the
    /// latter changed.
    pub(super) fn merge(&mut self, name: &str, has: &mut Policy, wanted: &Policy, source: &Source) -> bool {
        if self.owners.len() >= OWNED_MAX && !self.owners.contains_key(name) {
            self.owners.clear();
        }
        let [limiter, bulkhead, breaker] = self.owners.entry(name.to_owned()).or_default();
        // Every part must be merged, so the results are combined without short-circuiting.
        let limiter = part(limiter, &mut has.limiter, wanted.limiter.as_ref(), source, name, "rateLimit");
        let bulkhead = part(bulkhead, &mut has.bulkhead, wanted.bulkhead.as_ref(), source, name, "bulkhead");
        let breaker =
            part(breaker, &mut has.breaker, wanted.breaker.as_ref(), source, name, "circuitBreaker");
        // The budget of hedges is the same for all.
        let budget = has.budget.is_none() && wanted.budget.is_some();
        if budget {
            has.budget.clone_from(&wanted.budget);
        }
        limiter | bulkhead | breaker | budget
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
                "conflicting settings of a service are ignored: those deployed last, or used first, stay in effect"
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
    /// Whether settings of this source replace those of `owner`.
    fn replaces(&self, owner: &Source) -> bool {
        self.order > owner.order || self.is_next_version_of(owner)
    }

    /// Whether this is a later version of the same workflow. Of two versions that were never deployed, the one that makes
    /// the later call is the later version.
    fn is_next_version_of(&self, owner: &Source) -> bool {
        self.workflow == owner.workflow && self.version != owner.version && self.order >= owner.order
    }
}
