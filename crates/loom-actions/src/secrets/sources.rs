//! `Secrets`: the providers of the host, under their names, and the order in which they are asked.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use loom_engine::{Secret, SecretFuture, SecretSource};
use loom_expression::{Masker, Value};

use super::{
    SecretError, SecretProvider,
    name::{Allowed, Asked},
    provider::Provided,
};

/// A provider under the name by which definitions select it.
#[derive(Clone, Debug)]
pub struct NamedProvider {
    pub(super) name: Arc<str>,
    pub(super) provider: Arc<dyn SecretProvider>,
    pub(super) allowed: Allowed,
    /// Whether it is asked for names that select no provider.
    pub(super) is_default: bool,
}

impl NamedProvider {
    /// A provider that is asked for names that select no provider.
    pub fn new(name: &str, provider: Arc<dyn SecretProvider>) -> NamedProvider {
        NamedProvider { name: name.into(), provider, allowed: Allowed::default(), is_default: true }
    }
}

/// Told of the secrets that are read outside of runs.
pub type ReadListener = Arc<dyn Fn(&Secret) + Send + Sync>;

/// The providers of secrets. `provider:name` selects one; for other names, they are asked in order, and the first one
/// that knows the name decides.
#[derive(Clone, Default)]
pub struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    current: RwLock<Arc<Current>>,
    /// The secrets of other machines that [`Secrets::get`] was asked for, as they were last read.
    wanted: Mutex<BTreeMap<Arc<str>, Wanted>>,
    /// See [`Secrets::on_read`].
    listener: OnceLock<ReadListener>,
}

/// What the operator has configured.
#[derive(Clone, Debug, Default)]
struct Current {
    providers: Vec<NamedProvider>,
    grants: Vec<Grant>,
}

/// Secrets that only some workflows may read.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// `provider:name`.
    pub(super) secrets: Allowed,
    /// Names of workflows.
    pub(super) workflows: Allowed,
}

/// A secret that is kept at hand; `None` until it has been read.
type Wanted = Option<Result<Secret, SecretError>>;

/// Secrets that are kept at hand. A connections file names far fewer.
const WANTED_MAX: usize = 10_000;

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("current", &self.current()).finish_non_exhaustive()
    }
}

/// What is known of a provider without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Its name.
    pub name: Arc<str>,
    /// What it is; see [`SecretProvider::kind`].
    pub kind: &'static str,
    /// Whether it is asked for names that select no provider.
    pub is_default: bool,
    /// See [`SecretProvider::state`].
    pub state: Option<String>,
}

impl Secrets {
    /// Asks these providers, in this order. Each has the name of its kind.
    pub fn new(providers: Vec<Arc<dyn SecretProvider>>) -> Secrets {
        let named = providers.into_iter().map(|provider| NamedProvider::new(provider.kind(), provider));
        Secrets::of(named.collect())
    }

    /// Asks these providers, in this order.
    pub fn of(providers: Vec<NamedProvider>) -> Secrets {
        Secrets::granting(providers, Vec::new())
    }

    /// Asks these providers, in this order. What a grant names is given to its workflows only.
    pub(super) fn granting(providers: Vec<NamedProvider>, grants: Vec<Grant>) -> Secrets {
        let current = RwLock::new(Arc::new(Current { providers, grants }));
        Secrets { shared: Arc::new(Shared { current, ..Shared::default() }) }
    }

    /// Takes over the providers and the grants of another value, for everything that is read from now on.
    pub fn replace(&self, with: &Secrets) {
        let new = with.current();
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The providers, in order.
    pub fn providers(&self) -> Vec<ProviderStatus> {
        let status = |named: &NamedProvider| ProviderStatus {
            name: Arc::clone(&named.name),
            kind: named.provider.kind(),
            is_default: named.is_default,
            state: named.provider.state(),
        };
        self.current().providers.iter().map(status).collect()
    }

    /// Calls `listener` for each secret that is read outside of runs, by [`Secrets::get`]. Only the first listener counts.
    pub fn on_read(&self, listener: ReadListener) {
        self.shared.listener.set(listener).ok();
    }

    /// The providers to ask for a name, each with the name as it writes it.
    fn to_ask(&self, asked: &Asked<'_>) -> Result<Vec<(NamedProvider, String)>, SecretError> {
        let current = self.current();
        let providers = &current.providers;
        if let Some(selected) = asked.provider {
            let known = providers.iter().find(|named| named.name.eq_ignore_ascii_case(selected));
            let named = known.ok_or_else(|| SecretError::UnknownProvider {
                provider: selected.to_owned(),
                known: providers.iter().map(|named| named.name.to_string()).collect(),
            })?;
            let name = named.provider.checked(asked.name)?;
            if !named.allowed.has(&name) {
                return Err(SecretError::NotAllowed { provider: named.name.to_string(), name });
            }
            return Ok(vec![(named.clone(), name)]);
        }
        let mut to_ask = Vec::new();
        let mut invalid = None;
        for named in providers.iter().filter(|named| named.is_default) {
            match named.provider.checked(asked.name) {
                Ok(name) if named.allowed.has(&name) => to_ask.push((named.clone(), name)),
                Ok(_) => {}
                Err(error) => invalid = invalid.or(Some(error)),
            }
        }
        match invalid {
            Some(error) if to_ask.is_empty() => Err(error),
            _ => Ok(to_ask),
        }
    }

    /// Reads the secret of a name, in the given version or in the one that the name selects.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn find(&self, name: &str, version: Option<&str>) -> Result<Secret, SecretError> {
        let asked = Asked::parse(name, version);
        for (named, name) in self.to_ask(&asked)? {
            let provider = Arc::clone(&named.provider);
            let read = provider.read(name.as_str().into(), asked.version.map(Arc::from)).await?;
            if let Some(provided) = read {
                return Ok(qualified(&named, &name, provided));
            }
        }
        Err(SecretError::NotFound { name: asked.name.to_owned() })
    }

    /// Returns the value of a name on this thread, which may block on a local file. A secret of another machine is read by
    /// [`Secrets::tend`], which keeps at hand what was asked for once; until then it is not available.
    ///
    /// # Errors
    /// [`SecretError`] when the secret does not exist or cannot be read.
    pub fn get(&self, name: &str) -> Result<Arc<str>, SecretError> {
        let asked = Asked::parse(name, None);
        for (named, known_as) in self.to_ask(&asked)? {
            let secret = match named.provider.read_now(&known_as, asked.version) {
                Some(found) => found?.map(|provided| qualified(&named, &known_as, provided)),
                None => {
                    return self.at_hand(name).inspect(|secret| self.tell(secret)).map(|secret| secret.value);
                }
            };
            if let Some(secret) = secret {
                self.tell(&secret);
                return Ok(secret.value);
            }
        }
        Err(SecretError::NotFound { name: asked.name.to_owned() })
    }

    fn tell(&self, secret: &Secret) {
        if let Some(listener) = self.shared.listener.get() {
            listener(secret);
        }
    }

    fn at_hand(&self, name: &str) -> Result<Secret, SecretError> {
        let mut wanted = self.wanted();
        if wanted.len() >= WANTED_MAX && !wanted.contains_key(name) {
            wanted.clear();
        }
        let read = wanted.entry(name.into()).or_default().clone();
        read.unwrap_or_else(|| Err(SecretError::NotReadYet { name: name.to_owned() }))
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Wanted>> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the credentials of providers, and reads what [`Secrets::get`] was asked for. Call it before connections are
    /// used, and every few seconds from then on: what is cached costs nothing.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn tend(&self, masker: &Masker) {
        for named in &self.current().providers {
            Arc::clone(&named.provider).renew().await;
        }
        let names: Vec<Arc<str>> = self.wanted().keys().cloned().collect();
        for name in names {
            let read = self.find(&name, None).await;
            if let Ok(secret) = &read {
                masker.learn(&Value::from(Arc::clone(&secret.value)).into_secret());
            }
            self.wanted().insert(name, Some(read));
        }
    }

    /// Registers every secret that can be read on this machine with `masker`, so that they are masked from the start and
    /// not only once a run has read them.
    pub fn teach(&self, masker: &Masker) {
        for named in &self.current().providers {
            for name in named.provider.names() {
                // Reading a secret that is not available reports the reason.
                if let Some(Ok(Some(provided))) = named.provider.read_now(&name, None) {
                    masker.learn(&Value::from(provided.value).into_secret());
                }
            }
        }
    }
}

/// The secret under a name that selects its provider, so that a recorded read is repeated by the same provider.
fn qualified(named: &NamedProvider, name: &str, provided: Provided) -> Secret {
    let name = format!("{}:{name}", named.name);
    Secret { value: provided.value, name: name.into(), version: provided.version }
}

impl SecretSource for Secrets {
    fn read<'a>(&'a self, name: &'a str, version: Option<&'a str>) -> SecretFuture<'a> {
        Box::pin(async move { self.find(name, version).await.map_err(|error| error.whole_text()) })
    }

    fn check_reader(&self, secret: &Secret, workflow: &str) -> Result<(), String> {
        let current = self.current();
        let mut grants = current.grants.iter().filter(|grant| grant.secrets.has(&secret.name)).peekable();
        if grants.peek().is_none() || grants.any(|grant| grant.workflows.has(workflow)) {
            return Ok(());
        }
        Err(SecretError::NotGranted { name: secret.name.to_string(), workflow: workflow.to_owned() }
            .to_string())
    }
}
