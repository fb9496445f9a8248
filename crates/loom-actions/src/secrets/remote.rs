//! A provider on another machine, guarded: a cache, one request at a time for a secret, a timeout, a circuit breaker, and
//! values that outlive an outage for a limited time.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_engine::ports::Clock;
use loom_resilience::{
    BreakerConfig, CallError, CircuitState, Classify as _, OpenDuration, Policy, Service, Verdict,
};
use tokio::time::Instant;

use super::{
    SECRET_BYTES_MAX, SecretError, SecretProvider,
    provider::{Found, Provided, Reading},
};

/// The most secrets in a cache.
const KEPT_MAX: usize = 1_024;

/// Requests for one read: the second one is sent at once, after a connection that was kept open turned out to be closed.
const ATTEMPTS_MAX: u32 = 2;

/// The API of a provider on another machine.
pub(super) trait RemoteSecrets: fmt::Debug + Send + Sync {
    /// See [`SecretProvider::kind`].
    fn kind(&self) -> &'static str;

    /// See [`SecretProvider::checked`].
    fn checked(&self, name: &str) -> Result<String, SecretError>;

    /// Requests a secret once.
    fn fetch<'a>(
        &'a self,
        name: &'a str,
        version: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Found> + Send + 'a>>;

    /// See [`SecretProvider::renew`].
    fn renew(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// How long values of a provider are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keeping {
    /// For how long a value is used without asking again.
    pub(super) fresh: Duration,
    /// For how long a value is used while the provider is not available, from when it was read.
    pub(super) stale: Duration,
    /// The timeout of one request.
    pub(super) timeout: Duration,
}

/// A guarded provider.
pub(super) struct Guarded<P> {
    inner: P,
    name: Arc<str>,
    service: Service,
    keeping: Keeping,
    clock: Arc<dyn Clock>,
    slots: Mutex<HashMap<Key, Slot>>,
}

type Key = (Arc<str>, Option<Arc<str>>);

/// One lock per secret, so that concurrent readers share one request.
type Slot = Arc<tokio::sync::Mutex<Kept>>;

#[derive(Debug, Default)]
struct Kept {
    value: Option<(Provided, Instant)>,
    /// How the last request ended, for those who waited for it.
    failed: Option<(SecretError, Instant)>,
}

impl<P> fmt::Debug for Guarded<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("name", &self.name)
            .field("keeping", &self.keeping)
            .finish_non_exhaustive()
    }
}

impl<P: RemoteSecrets> Guarded<P> {
    pub(super) fn new(name: &str, inner: P, keeping: Keeping, clock: Arc<dyn Clock>) -> Guarded<P> {
        let open = OpenDuration {
            initial: Duration::from_secs(5),
            max: Duration::from_mins(1),
            ..OpenDuration::default()
        };
        let breaker = BreakerConfig { open_for: open, ..BreakerConfig::new().failure_threshold(5) };
        let policy = Policy::none().attempt_timeout(keeping.timeout).breaker(breaker);
        let service = Service::standalone(&format!("secrets of {name}"), policy)
            .expect("the timeout is positive, and everything else is constant");
        Guarded { inner, name: name.into(), service, keeping, clock, slots: Mutex::default() }
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT_MAX && !slots.contains_key(key) {
            // A secret that nobody is reading can be read again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }

    async fn find(&self, name: Arc<str>, version: Option<Arc<str>>) -> Found {
        let asked_at = Instant::now();
        let slot = self.slot(&(Arc::clone(&name), version.clone()));
        let mut kept = slot.lock().await;
        if let Some((error, at)) = &kept.failed
            && *at >= asked_at
        {
            return Err(error.clone());
        }
        if let Some((provided, at)) = &kept.value
            && at.elapsed() < self.keeping.fresh
        {
            return self.unexpired(&name, provided.clone()).map(Some);
        }
        match self.fetch(&name, version.as_deref()).await {
            Ok(Some(provided)) if provided.value.len() > SECRET_BYTES_MAX => {
                Err(SecretError::TooLarge { bytes: provided.value.len() })
            }
            Ok(found) => {
                kept.failed = None;
                kept.value = found.clone().map(|provided| (provided, Instant::now()));
                found.map(|provided| self.unexpired(&name, provided)).transpose()
            }
            Err(error) => self.without(&mut kept, &name, error),
        }
    }

    /// The value to use after a request failed.
    fn without(&self, kept: &mut Kept, name: &str, error: SecretError) -> Found {
        if !error.verdict().is_failure() {
            // The provider has decided. What it said before no longer holds.
            kept.value = None;
        } else if let Some((provided, at)) = &kept.value
            && at.elapsed() < self.keeping.stale
        {
            tracing::warn!(
                provider = &*self.name,
                secret = name,
                error = %error,
                age_seconds = at.elapsed().as_secs(),
                "cannot read a secret again; using the value that was read before"
            );
            return self.unexpired(name, provided.clone()).map(Some);
        }
        kept.failed = Some((error.clone(), Instant::now()));
        Err(error)
    }

    fn unexpired(&self, name: &str, provided: Provided) -> Result<Provided, SecretError> {
        if provided.expires_on.is_some_and(|end| end <= self.clock.now()) {
            return Err(SecretError::Expired { name: name.to_owned() });
        }
        Ok(provided)
    }

    async fn fetch(&self, name: &str, version: Option<&str>) -> Found {
        let mut attempt = 1;
        loop {
            let call = self.service.call().idempotent();
            let error = match call.run(|_| self.inner.fetch(name, version)).await {
                Ok(found) => return Ok(found),
                Err(error) => self.explained(error),
            };
            let is_lost = matches!(error.verdict(), Verdict::Transient);
            if attempt >= ATTEMPTS_MAX || !is_lost {
                return Err(error);
            }
            attempt += 1;
        }
    }

    fn explained(&self, error: CallError<SecretError>) -> SecretError {
        let unavailable =
            |why: String, verdict| SecretError::Unavailable { provider: self.name.to_string(), why, verdict };
        match error {
            CallError::Failed { error, .. } | CallError::Cancelled { error, .. } => error,
            // Not sent again at once: it would take as long as the first one.
            CallError::TimedOut { after, .. } => {
                unavailable(format!("it did not respond within {after:?}"), Verdict::NotSent)
            }
            CallError::Refused { refusal, .. } => {
                let after = refusal.retry_after();
                let when = after.map(|after| format!("; it is tried again in {}", seconds(after)));
                let why = format!("it failed repeatedly, so its circuit is open{}", when.unwrap_or_default());
                unavailable(why, Verdict::Throttled { after })
            }
            other => unavailable(other.to_string(), Verdict::Transient),
        }
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() + u64::from(time.subsec_nanos() > 0) {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

impl<P: RemoteSecrets + 'static> SecretProvider for Guarded<P> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn checked(&self, name: &str) -> Result<String, SecretError> {
        self.inner.checked(name)
    }

    fn read(self: Arc<Self>, name: Arc<str>, version: Option<Arc<str>>) -> Reading {
        Box::pin(async move { self.find(name, version).await })
    }

    fn renew(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.inner.renew().await })
    }

    fn state(&self) -> Option<String> {
        let state = match self.service.status().breaker.state {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::HalfOpen => "halfOpen",
        };
        Some(state.to_owned())
    }
}
