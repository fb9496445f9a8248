//! The named policies in effect: those of the project's file, and those that an operator has stored in their place.
//!
//! A stored policy replaces that of the file for one service, until it is removed. It survives restarts and changes of the
//! file; `defaults` and the bases that it inherits from are those of the file as it is now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use loom_definition::{Diagnostics, policy::Policies};
use loom_engine::{Engine, PolicyInUse};
use loom_expression::Value;
use loom_store::{Commit, KeyQuery, Store};

use crate::keys::key_write;

/// The namespace of stored policies; keys are the names of services.
pub(crate) const NAMESPACE: &str = "policy";

/// The number of policies that are read from the store at once.
const PAGE: usize = 200;

/// Why policies cannot take effect. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoliciesRefused {
    /// A deployed workflow depends on a policy that would be gone or contradicted.
    #[error(transparent)]
    InUse(#[from] PolicyInUse),
    /// A stored policy does not fit the file.
    #[error(
        "the stored policy of `{service}` does not fit the file: {why}; remove it with `loom resilience unset {service}`"
    )]
    Stored {
        /// The service.
        service: Arc<str>,
        /// The first problem.
        why: String,
    },
}

/// Why a policy cannot be stored or removed. Nothing has changed then.
#[derive(Debug)]
pub(crate) enum NotStored {
    /// The policy is invalid.
    Invalid(Diagnostics),
    /// A deployed workflow depends on it.
    InUse(PolicyInUse),
    /// No policy of this service is stored.
    Unknown,
    /// The store is unavailable.
    Store(loom_store::Error),
}

impl From<loom_store::Error> for NotStored {
    fn from(error: loom_store::Error) -> Self {
        Self::Store(error)
    }
}

/// The policies of the file and the stored ones.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    both: Mutex<Both>,
    /// Held while a policy is stored or removed.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Both {
    file: Arc<Policies>,
    stored: BTreeMap<Arc<str>, Value>,
}

impl Both {
    /// The policies in effect.
    fn merged(&self) -> Result<Policies, Diagnostics> {
        self.file.with_stored(self.stored.iter().map(|(name, members)| (&**name, members)))
    }
}

impl Layers {
    /// Reads the stored policies, and returns the policies in effect. A stored one that does not fit the file is ignored until the
    /// file changes, so that a server always starts.
    pub(crate) async fn load(
        store: &dyn Store,
        file: Arc<Policies>,
    ) -> Result<(Layers, Arc<Policies>), loom_store::Error> {
        let both = Both { file, stored: read_stored(store).await? };
        let policies = both.merged().unwrap_or_else(|_| fitting(&both));
        let layers = Layers { both: Mutex::new(both), ..Layers::default() };
        Ok((layers, Arc::new(policies)))
    }

    /// Uses the policies that the store has now.
    pub(crate) async fn reload(&self, engine: &Engine, store: &dyn Store) -> Result<(), loom_store::Error> {
        let _alone = self.changing.lock().await;
        let stored = read_stored(store).await?;
        let mut both = self.both();
        let next = Both { file: Arc::clone(&both.file), stored };
        let merged = next.merged().unwrap_or_else(|_| fitting(&next));
        match engine.replace_policies(Arc::new(merged)) {
            Ok(_) => *both = next,
            Err(why) => tracing::error!(%why, "ignoring the policies that another node has stored"),
        }
        Ok(())
    }

    fn both(&self) -> MutexGuard<'_, Both> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a policy of this service is stored.
    pub(crate) fn is_stored(&self, service: &str) -> bool {
        self.both().stored.contains_key(service)
    }

    /// The services whose stored policies hide those of the file, sorted.
    pub(crate) fn hidden(&self) -> Vec<Arc<str>> {
        let both = self.both();
        both.stored.keys().filter(|name| both.file.contains(name)).cloned().collect()
    }
}

/// The file with as many stored policies as fit it.
fn fitting(both: &Both) -> Policies {
    let mut kept = Both { file: Arc::clone(&both.file), stored: BTreeMap::new() };
    for (name, members) in &both.stored {
        kept.stored.insert(Arc::clone(name), members.clone());
        if let Err(problems) = kept.merged() {
            kept.stored.remove(name);
            let why = first(&problems);
            tracing::error!(service = &**name, why, "ignoring a stored policy that does not fit the file");
        }
    }
    kept.merged().unwrap_or_else(|_| Policies::clone(&both.file))
}

fn first(problems: &Diagnostics) -> &str {
    problems.0.first().map_or("it is invalid", |problem| &problem.message)
}

impl Layers {
    /// Replaces the named policies of the project, also for runs in progress. Stored ones stay in place of those of the same
    /// services. Services keep what they have counted and consumed. Returns the names of the services whose policy has changed.
    ///
    /// # Errors
    /// [`PoliciesRefused`]; nothing has changed then.
    pub(crate) fn replace(
        &self,
        engine: &Engine,
        file: Arc<Policies>,
    ) -> Result<Vec<Arc<str>>, PoliciesRefused> {
        let mut both = self.both();
        let next = Both { file, stored: both.stored.clone() };
        let merged = next.merged().map_err(|problems| PoliciesRefused::Stored {
            service: unfit(&next),
            why: first(&problems).to_owned(),
        })?;
        let changed = engine.replace_policies(Arc::new(merged))?;
        *both = next;
        drop(both);
        for service in &changed {
            tracing::info!(service = &**service, "the policy has changed; the state of the service is kept");
        }
        Ok(changed)
    }

    /// Stores a policy in place of that of the file, or removes the stored one. It takes effect at once.
    pub(crate) async fn store(
        &self,
        engine: &Engine,
        store: &dyn Store,
        service: &str,
        members: Option<&Value>,
    ) -> Result<(), NotStored> {
        let _alone = self.changing.lock().await;
        let before = self.both().stored.get(service).cloned();
        if members.is_none() && before.is_none() {
            return Err(NotStored::Unknown);
        }
        self.put_stored(engine, service, members)?;
        let object = members.and_then(Value::as_object).cloned();
        let mut commit = Commit::new();
        commit.keys.push(key_write(NAMESPACE, service, object));
        if let Err(error) = store.commit(commit).await {
            // It would be gone after a restart, so it does not stay in effect either.
            self.put_stored(engine, service, before.as_ref())?;
            return Err(error.into());
        }
        let what = if members.is_some() { "a policy was stored" } else { "the stored policy was removed" };
        tracing::info!(service, "{what}; the state of the service is kept");
        Ok(())
    }

    fn put_stored(&self, engine: &Engine, service: &str, members: Option<&Value>) -> Result<(), NotStored> {
        let mut both = self.both();
        let mut next = both.clone();
        match members {
            Some(members) => drop(next.stored.insert(Arc::from(service), members.clone())),
            None => drop(next.stored.remove(service)),
        }
        let merged = match next.merged() {
            Ok(merged) => merged,
            // Removing one that does not fit must work although another does not fit either.
            Err(_) if members.is_none() => fitting(&next),
            Err(problems) => return Err(NotStored::Invalid(problems)),
        };
        engine.replace_policies(Arc::new(merged)).map_err(NotStored::InUse)?;
        *both = next;
        Ok(())
    }
}

/// The first stored policy that does not fit the file on its own; otherwise the first.
fn unfit(both: &Both) -> Arc<str> {
    let alone =
        |(name, members): &(&Arc<str>, &Value)| both.file.with_stored([(&***name, *members)]).is_err();
    let found = both.stored.iter().find(alone).or_else(|| both.stored.iter().next());
    found.map_or_else(|| Arc::from(""), |(name, _)| Arc::clone(name))
}

/// The stored policies.
async fn read_stored(store: &dyn Store) -> Result<BTreeMap<Arc<str>, Value>, loom_store::Error> {
    let (mut stored, mut after) = (BTreeMap::new(), None);
    loop {
        let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
        let page = store.keys(query).await?;
        for found in page.values {
            if let Ok(members) = Value::parse_json(&found.value) {
                stored.insert(Arc::from(&*found.key), members);
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(stored)
}
