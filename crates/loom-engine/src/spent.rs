//! What calls have spent of their services' limits, and what they have done to their circuits: stored in the commit of
//! the run that made the call, so that a crash does not give it back.
//!
//! One small value per service, replaced by the next. Whoever hosts the engine also stores all services together now
//! and then; of the two, the later one counts. What is not promised: the permit of a call that was in flight at the
//! crash. That call is made again, and takes another one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use loom_resilience::{RegistrySnapshot, ResilienceRegistry, Service};
use loom_store::{Commit, Error as StoreError, KeyExpectation, KeyQuery, KeyWrite, Store};

/// The family of names under which services are stored.
const NAMESPACE: &str = "service";

/// Services read, or removed, at a time.
const PAGE: usize = 256;

/// A permit of a limit over at least this time is stored with the call that spent it. A shorter limit has refilled by the
/// time that a process is there again.
pub(crate) const LONG_LIMIT: Duration = Duration::from_mins(1);

/// A service as it stands now.
pub(crate) fn write(service: &Service) -> KeyWrite {
    let snapshot = RegistrySnapshot {
        taken_at_unix_ms: unix_millis(service.clock().unix_time()),
        services: vec![service.snapshot()],
    };
    let value = serde_json::to_vec(&snapshot).unwrap_or_default();
    KeyWrite {
        namespace: NAMESPACE.into(),
        key: Arc::clone(service.name()),
        expect: KeyExpectation::Any,
        value: Some(Bytes::from(value)),
    }
}

/// Gives the registry the state of its services back: `all` as they were stored together, and what calls have changed
/// after that.
pub(crate) async fn restore(
    store: &dyn Store,
    registry: &ResilienceRegistry,
    all: Option<&RegistrySnapshot>,
) -> Result<(), StoreError> {
    if let Some(all) = all {
        registry.restore(all);
    }
    let stored_together = all.map_or(0, |all| all.taken_at_unix_ms);
    let mut after = None;
    loop {
        let page = store.keys(query(after)).await?;
        for value in &page.values {
            match serde_json::from_slice::<RegistrySnapshot>(&value.value) {
                Ok(later) if later.taken_at_unix_ms >= stored_together => registry.restore(&later),
                Ok(_) => {}
                Err(error) => tracing::warn!(service = %value.key, %error, "its stored state cannot be read"),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Removes what was stored for single services. Called once, after [`restore`] and before the first call, when all of
/// them have been stored together.
pub(crate) async fn clear(store: &dyn Store) -> Result<(), StoreError> {
    loop {
        let page = store.keys(query(None)).await?;
        if page.values.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.keys.extend(page.values.into_iter().map(|value| KeyWrite {
            namespace: NAMESPACE.into(),
            key: value.key,
            expect: KeyExpectation::Any,
            value: None,
        }));
        store.commit(commit).await?;
    }
}

fn query(after: Option<Arc<str>>) -> KeyQuery {
    KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE }
}

fn unix_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
