//! The state of services after calls (consumed permits, circuits), stored in the commit of the run that made the call, so that
//! a crash does not undo it.
//!
//! One small value per service, replaced by the next. The host also stores a snapshot of all services from time to time; of
//! the two, the later one applies. Not guaranteed: the permit of a call that was in flight at the crash. That call is made
//! again and takes another permit.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use loom_resilience::{RegistrySnapshot, ResilienceRegistry, Service};
use loom_store::{Commit, Error as StoreError, KeyQuery, KeyWrite, Named, Store};

/// The namespace of the named values that store services.
const NAMESPACE: &str = "service";

/// Services read or deleted at a time.
const PAGE: usize = 256;

/// Permits of rate limits with at least this period are stored with the call that took them. Shorter limits have refilled by
/// the time a new process has started.
pub(crate) const LONG_LIMIT: Duration = Duration::from_mins(1);

/// Stores the current state of a service.
pub(crate) fn write(service: &Service) -> KeyWrite {
    let snapshot = RegistrySnapshot::new(unix_millis(service.clock().unix_time()), vec![service.snapshot()]);
    let value = serde_json::to_vec(&snapshot).unwrap_or_default();
    KeyWrite {
        namespace: NAMESPACE.into(),
        key: Arc::clone(service.name()),
        value: Some(Bytes::from(value)),
        ..KeyWrite::default()
    }
}

/// Restores the state of the services: first the snapshot `all`, then the changes that calls made after it.
pub(crate) async fn restore(
    store: &dyn Named,
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
                Err(error) => {
                    tracing::warn!(service = %value.key, %error, "ignoring the unreadable stored state of a service");
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Deletes the stored state of single services. Called once, after [`restore`] and before the first call, when a snapshot of
/// all services has been stored.
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
            value: None,
            ..KeyWrite::default()
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
