//! Reads before decisions: the secrets that `secret()` returns are read by the shell, before the machine decides.
//!
//! A decision that needs a secret which has not been read is dropped, and made again once the shell has read it. So decisions
//! perform no I/O, and a read can take as long as its source needs. What was read is used until the run waits for something
//! else; the journal records the name and the version, never the value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_expression::{Lookup, LookupError, Value, ValueRef};

use crate::{
    environment::Environment,
    ports::{Secret, SecretSource},
};

/// How long one secret may take to be read.
const READ_MAX: Duration = Duration::from_secs(10);

/// Secrets that are read at once for one run.
const READS_AT_ONCE: usize = 16;

/// Rounds of reads for one evaluation outside a run; each round reads every name that is known to be missing.
const ROUNDS_MAX: usize = 100;

/// Reads one secret within the time that a read may take.
pub(crate) async fn read(
    source: &dyn SecretSource,
    name: &str,
    version: Option<&str>,
) -> Result<Secret, String> {
    match tokio::time::timeout(READ_MAX, source.read(name, version)).await {
        Ok(read) => read,
        Err(_) => Err(format!("The secret '{name}' could not be read within {} seconds", READ_MAX.as_secs())),
    }
}

/// Reads several secrets at once. The results are in the order of the names.
pub(crate) async fn read_all(
    source: Option<&dyn SecretSource>,
    names: Vec<Arc<str>>,
) -> Vec<(Arc<str>, Result<Secret, String>)> {
    use futures_util::{StreamExt, stream};
    let read = |name: Arc<str>| async move {
        let result = match source {
            Some(source) => read(source, &name, None).await,
            None => Err(format!("Cannot access secret '{name}': No secrets client configured")),
        };
        (name, result)
    };
    stream::iter(names).map(read).buffered(READS_AT_ONCE).collect().await
}

/// What expressions may read without I/O: the secrets that have been read, and the names that are missing.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    known: BTreeMap<Arc<str>, Result<Value, Arc<str>>>,
    missing: Mutex<BTreeSet<Arc<str>>>,
}

impl Reads {
    /// The result of `secret(name)`. A name that has not been read is noted as missing; the evaluation is repeated after the
    /// read, so its result does not matter.
    pub(crate) fn secret(&self, name: &str) -> Lookup {
        match self.known.get(name) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(why)) => Err(LookupError::NotAvailable { why: why.to_string() }),
            None => {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::from(name));
                Err(LookupError::NotAvailable { why: format!("The secret '{name}' has not been read yet") })
            }
        }
    }

    /// Notes which of these names are missing. True when there are any.
    pub(crate) fn want(&self, names: &[Arc<str>]) -> bool {
        let mut missing = names.iter().filter(|name| !self.known.contains_key(*name)).peekable();
        if missing.peek().is_none() {
            return false;
        }
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).extend(missing.cloned());
        true
    }

    /// Whether something is missing.
    pub(crate) fn is_incomplete(&mut self) -> bool {
        !self.missing.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The missing names, which must be read next.
    pub(crate) fn take_missing(&mut self) -> Vec<Arc<str>> {
        std::mem::take(self.missing.get_mut().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }

    /// Stores what was read. Returns the value, as expressions see it.
    pub(crate) fn provide(&mut self, name: Arc<str>, read: &Result<Secret, String>) -> Option<Value> {
        let result = match read {
            Ok(secret) => Ok(Value::from(Arc::clone(&secret.value)).into_secret()),
            Err(why) => Err(Arc::from(why.as_str())),
        };
        let value = result.as_ref().ok().cloned();
        self.known.insert(name, result);
        value
    }

    /// Drops what was read: the next decision reads the current versions.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}

/// Evaluates something outside a run, as often as it finds secrets that have not been read. `evaluate` must be free of side
/// effects.
pub(crate) async fn with_reads<T>(environment: &Environment, mut evaluate: impl FnMut(&Reads) -> T) -> T {
    let mut reads = Reads::default();
    for _ in 0..ROUNDS_MAX {
        let result = evaluate(&reads);
        let missing = reads.take_missing();
        if missing.is_empty() {
            return result;
        }
        for (name, read) in read_all(environment.secrets.as_deref(), missing).await {
            if let Some(value) = reads.provide(name, &read) {
                environment.masker.learn(&value);
            }
        }
    }
    evaluate(&reads)
}

/// Values in a loaded run that stand for secrets which can no longer be read.
#[derive(Debug, Default)]
pub(crate) struct Unavailable(Vec<(Value, Arc<str>)>);

impl Unavailable {
    /// A stand-in for a secret, and why it cannot be read.
    pub(crate) fn push(&mut self, why: Arc<str>) -> Value {
        // Its address identifies it, so it must not be shared with any other string.
        let value = Value::from(Arc::<str>::from("unavailable")).into_secret();
        self.0.push((value.clone(), why));
        value
    }

    /// Why the value cannot be used: the reason of the first stand-in in it.
    pub(crate) fn reason_in(&self, value: &Value) -> Option<&Arc<str>> {
        if self.0.is_empty() || !value.contains_secret() {
            return None;
        }
        match value.as_ref() {
            ValueRef::String(_) => {
                let address = value.address();
                self.0.iter().find(|(known, _)| known.address() == address).map(|(_, why)| why)
            }
            ValueRef::Array(items) => items.iter().find_map(|item| self.reason_in(item)),
            ValueRef::Object(members) => members.iter().find_map(|(_, member)| self.reason_in(member)),
            _ => None,
        }
    }

    /// The value, unless it cannot be used.
    #[inline]
    pub(crate) fn check(&self, value: Value) -> Lookup {
        if self.0.is_empty() {
            return Ok(value);
        }
        match self.reason_in(&value) {
            None => Ok(value),
            Some(why) => Err(LookupError::NotAvailable { why: why.to_string() }),
        }
    }
}
