//! Reads before decisions: what `secret()` and `memory()` return is read by the shell, before the machine decides.
//!
//! A decision that needs something which has not been read is dropped, and made again once the shell has read it. So decisions
//! perform no I/O, and a read can take as long as its source needs. What was read is used until the run waits for something
//! else; the journal records the name and the version of a secret, never the value. Of shared memory, it records the values that
//! actions compute from what was read.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use loom_expression::{Lookup, LookupError, Masker, MemoryForm, Timestamp, Value, ValueRef};

use crate::{
    audit::{AuditEntry, Operation},
    environment::Environment,
    memory,
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

/// Reads several secrets at once for a workflow. The results are in the order of the names.
pub(crate) async fn read_all(
    source: Option<&dyn SecretSource>,
    workflow: &str,
    names: Vec<Arc<str>>,
) -> Vec<(Arc<str>, Result<Secret, String>)> {
    use futures_util::{StreamExt, stream};
    let read = |name: Arc<str>| async move {
        let result = match source {
            Some(source) => match read(source, &name, None).await {
                Ok(secret) => source.check_reader(&secret, workflow).map(|()| secret),
                Err(why) => Err(why),
            },
            None => Err(format!("Cannot access secret '{name}': No secrets client configured")),
        };
        (name, result)
    };
    stream::iter(names).map(read).buffered(READS_AT_ONCE).collect().await
}

/// What expressions may read without I/O: the secrets and the keys of shared memory that have been read, and those that are
/// missing. Notes which secrets are used, for the audit.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    known: BTreeMap<Arc<str>, Known>,
    noted: Mutex<Noted>,
    /// By the address as the expression says it.
    memory: BTreeMap<Arc<str>, Result<memory::Read, Arc<str>>>,
    missing_memory: Mutex<BTreeSet<Arc<str>>>,
}

/// The result of reading a secret.
#[derive(Debug)]
struct Known {
    value: Result<Value, Arc<str>>,
    /// The name and the version that were read; as the expression has them, if it could not be read.
    name: Arc<str>,
    version: Option<Arc<str>>,
}

/// What evaluations noted.
#[derive(Debug, Default)]
struct Noted {
    /// The names that have to be read next.
    missing: BTreeSet<Arc<str>>,
    /// The action that is being evaluated.
    action: Option<Arc<str>>,
    /// The names that were used, each by an action.
    used: BTreeSet<(Arc<str>, Option<Arc<str>>)>,
    /// The actions that removed the mark of a value.
    declassified: BTreeSet<Option<Arc<str>>>,
}

/// The use of a secret by an action.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) operation: Operation,
    pub(crate) secret: Option<Arc<str>>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) action: Option<Arc<str>>,
    pub(crate) reason: Option<Arc<str>>,
}

impl Use {
    /// The entry of the audit for this use.
    pub(crate) fn entry(self, at: Timestamp, by: &'static str, masker: &Masker) -> AuditEntry {
        // A name can be computed, and the reason repeats it.
        let masked = |text: Arc<str>| match masker.mask(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(masked) => masked.into(),
        };
        AuditEntry {
            secret: self.secret.map(masked),
            version: self.version,
            action: self.action,
            reason: self.reason.map(masked),
            ..AuditEntry::new(at, self.operation, by)
        }
    }
}

impl Reads {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of `secret(name)`. A name that has not been read is noted as missing; the evaluation is repeated after the
    /// read, so its result does not matter.
    pub(crate) fn secret(&self, name: &str) -> Lookup {
        let found = self.known.get_key_value(name);
        let mut noted = self.noted();
        let Some((name, known)) = found else {
            noted.missing.insert(Arc::from(name));
            return Err(LookupError::NotAvailable {
                why: format!("The secret '{name}' has not been read yet"),
            });
        };
        let used = (Arc::clone(name), noted.action.clone());
        // An action's literal names were noted when it began.
        if !noted.used.contains(&used) {
            noted.used.insert(used);
        }
        match &known.value {
            Ok(value) => Ok(value.clone()),
            Err(why) => Err(LookupError::NotAvailable { why: why.to_string() }),
        }
    }

    /// Notes that the mark of a value was removed.
    pub(crate) fn declassified(&self) {
        let mut noted = self.noted();
        let action = noted.action.clone();
        noted.declassified.insert(action);
    }

    /// Notes which action is evaluated from now on, that it uses these names, and which of them are missing. True when there
    /// are any.
    pub(crate) fn want(&self, names: &[Arc<str>], action: &Arc<str>) -> bool {
        let mut noted = self.noted();
        noted.action = Some(Arc::clone(action));
        noted.used.extend(names.iter().map(|name| (Arc::clone(name), Some(Arc::clone(action)))));
        let mut missing = names.iter().filter(|name| !self.known.contains_key(*name)).peekable();
        if missing.peek().is_none() {
            return false;
        }
        noted.missing.extend(missing.cloned());
        true
    }

    fn noted_mut(&mut self) -> &mut Noted {
        self.noted.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a key of shared memory holds. One that has not been read is noted as missing, as for [`Reads::secret`].
    pub(crate) fn memory(&self, address: &str, form: MemoryForm) -> Result<Option<Value>, LookupError> {
        match self.memory.get(address) {
            Some(Ok(read)) => read.of_form(form),
            Some(Err(why)) => Err(LookupError::NotAvailable { why: why.to_string() }),
            None => {
                let mut missing = self.missing_memory.lock().unwrap_or_else(PoisonError::into_inner);
                missing.insert(Arc::from(address));
                Err(LookupError::NotAvailable { why: "the key has not been read yet".to_owned() })
            }
        }
    }

    /// Notes which of these addresses are missing. True when there are any.
    pub(crate) fn want_memory(&self, addresses: &[Arc<str>]) -> bool {
        let mut missing = addresses.iter().filter(|address| !self.memory.contains_key(*address)).peekable();
        if missing.peek().is_none() {
            return false;
        }
        self.missing_memory.lock().unwrap_or_else(PoisonError::into_inner).extend(missing.cloned());
        true
    }

    /// The missing addresses, which must be read next.
    pub(crate) fn take_missing_memory(&mut self) -> Vec<Arc<str>> {
        let missing = self.missing_memory.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(missing).into_iter().collect()
    }

    /// Stores what was read at an address.
    pub(crate) fn provide_memory(&mut self, address: Arc<str>, read: Result<memory::Read, Arc<str>>) {
        self.memory.insert(address, read);
    }

    /// Drops what was read from shared memory.
    pub(crate) fn forget_memory(&mut self) {
        self.memory.clear();
    }

    /// Whether something is missing.
    pub(crate) fn is_incomplete(&mut self) -> bool {
        !self.noted_mut().missing.is_empty()
            || !self.missing_memory.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The missing names, which must be read next.
    pub(crate) fn take_missing(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.noted_mut().missing).into_iter().collect()
    }

    /// What was used since the last call, once each for an action.
    pub(crate) fn take_uses(&mut self) -> Vec<Use> {
        let noted = self.noted_mut();
        if noted.used.is_empty() && noted.declassified.is_empty() {
            return Vec::new();
        }
        let (used, declassified) = (std::mem::take(&mut noted.used), std::mem::take(&mut noted.declassified));
        let declassified = declassified.into_iter().map(|action| Use {
            operation: Operation::Declassify,
            secret: None,
            version: None,
            action,
            reason: None,
        });
        // A name that was never read belongs to a decision that was dropped.
        let read = used.into_iter().filter_map(|(name, action)| {
            let known = self.known.get(&name)?;
            Some(Use {
                operation: if known.value.is_ok() { Operation::Read } else { Operation::Denied },
                secret: Some(Arc::clone(&known.name)),
                version: known.version.clone(),
                action,
                reason: known.value.as_ref().err().cloned(),
            })
        });
        read.chain(declassified).collect()
    }

    /// Stores what was read. Returns the value, as expressions see it.
    pub(crate) fn provide(&mut self, name: Arc<str>, read: &Result<Secret, String>) -> Option<Value> {
        let known = match read {
            Ok(secret) => Known {
                value: Ok(Value::from(Arc::clone(&secret.value)).into_secret()),
                name: Arc::clone(&secret.name),
                version: secret.version.clone(),
            },
            Err(why) => Known { value: Err(Arc::from(why.as_str())), name: Arc::clone(&name), version: None },
        };
        let value = known.value.as_ref().ok().cloned();
        self.known.insert(name, known);
        value
    }

    /// Drops what was read: the next decision reads the current versions.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        self.noted_mut().used.clear();
        self.memory.clear();
    }
}

/// Evaluates something of a trigger, as often as it finds secrets that have not been read. `evaluate` must be free of side
/// effects.
pub(crate) async fn with_reads<T>(
    environment: &Environment,
    (workflow, trigger): (&Arc<str>, Option<&Arc<str>>),
    mut evaluate: impl FnMut(&Reads) -> T,
) -> T {
    let mut reads = Reads::default();
    for _ in 0..ROUNDS_MAX {
        let result = evaluate(&reads);
        let missing = reads.take_missing();
        if missing.is_empty() {
            let uses = reads.take_uses();
            if let Some(audit) = environment.audit.as_ref().filter(|_| !uses.is_empty()) {
                let entry = |used: Use| AuditEntry {
                    workflow: Some(Arc::clone(workflow)),
                    action: trigger.cloned(),
                    ..used.entry(Timestamp::UNIX_EPOCH, "trigger", &environment.masker)
                };
                audit.record(uses.into_iter().map(entry).collect());
            }
            return result;
        }
        for (name, read) in read_all(environment.secrets.as_deref(), workflow, missing).await {
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
