//! The named policies in effect. A host can replace them while runs are in progress.
//!
//! Retries, timeouts and guards read them when they decide, never when a run is replayed: what was decided is in the
//! journal.

use std::{
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use loom_definition::{
    model::Action,
    policy::{Policies, PolicyUse, Resilience, RetrySetting},
};

/// Maximum number of cached policies of actions; beyond it the cache is cleared.
const CACHE_MAX: usize = 4_096;

/// The named policies in effect. Clones share them.
#[derive(Clone, Default)]
pub struct PolicyBook(Arc<RwLock<Book>>);

#[derive(Default)]
struct Book {
    policies: Arc<Policies>,
    /// By the address of the use, which is held so that the address is not reused.
    cache: HashMap<usize, (Arc<PolicyUse>, Arc<Resilience>)>,
}

impl fmt::Debug for PolicyBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.policies().names()).finish()
    }
}

impl PolicyBook {
    /// The policies of a project.
    pub fn new(policies: Arc<Policies>) -> PolicyBook {
        PolicyBook(Arc::new(RwLock::new(Book { policies, cache: HashMap::new() })))
    }

    /// The policies in effect.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).policies)
    }

    pub(crate) fn replace(&self, policies: Arc<Policies>) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *book = Book { policies, cache: HashMap::new() };
    }

    /// What applies to an action; none if its definition specifies nothing and its type has no default.
    pub(crate) fn of<'a>(&self, action: &'a Action) -> Option<Applied<'a>> {
        let own = action.resilience.as_deref()?;
        let Some(using) = &own.named else { return Some(Applied::Own(own)) };
        let address = Arc::as_ptr(using).addr();
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = book.cache.get(&address) {
            return Some(Applied::Named(Arc::clone(known)));
        }
        let policies = Arc::clone(&book.policies);
        drop(book);
        // A policy may have been removed while a run that uses it is in progress; the overrides remain.
        let effective = policies.of_action(using).map(|effective| effective.resilience);
        let mut effective = effective.unwrap_or_else(|_| Policies::overrides_of(using));
        if matches!(own.retry, RetrySetting::Computed(..)) {
            effective.retry = own.retry.clone();
        }
        effective.on_uncertain = own.on_uncertain;
        effective.fallback.clone_from(&own.fallback);
        effective.named = Some(Arc::clone(using));
        let effective = Arc::new(effective);
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&book.policies, &policies) {
            if book.cache.len() >= CACHE_MAX {
                book.cache.clear();
            }
            book.cache.insert(address, (Arc::clone(using), Arc::clone(&effective)));
        }
        Some(Applied::Named(effective))
    }
}

/// The policy that applies to an action.
pub(crate) enum Applied<'a> {
    /// That of its definition.
    Own(&'a Resilience),
    /// A named one, with the overrides of the definition.
    Named(Arc<Resilience>),
}

impl Deref for Applied<'_> {
    type Target = Resilience;

    fn deref(&self) -> &Resilience {
        match self {
            Applied::Own(own) => own,
            Applied::Named(named) => named,
        }
    }
}
