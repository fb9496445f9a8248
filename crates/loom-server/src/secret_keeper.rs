//! What a host does about secrets while it runs: keeps those of other machines at hand, stores what command lines recorded, and
//! warns before a secret expires.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use loom_actions::secrets::{SecretError, SecretProperties};
use loom_engine::audit::{AuditEntry, AuditSink as _, Operation};
use loom_expression::Timestamp;
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval},
};

use crate::{host::Host, secret_store::SecretStore};

/// How often it looks: tokens of providers can be short-lived. What is cached costs nothing.
const EVERY: Duration = Duration::from_secs(2);

/// A warning is repeated after this time.
const WARNED_FOR_MS: i64 = 24 * 60 * 60 * 1_000;

impl Host {
    /// Looks after secrets until the future is dropped. Warns of those that expire within `warning_days`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn attend_secrets(self: &Arc<Self>, secrets: &SecretStore, warning_days: u64) {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned = BTreeMap::new();
        loop {
            looks.tick().await;
            secrets.providers.tend(self.engine.masker()).await;
            self.store_recorded(secrets).await;
            if warning_days > 0 {
                self.warn_of_expiry(secrets, warning_days, &mut warned).await;
            }
        }
    }

    /// Records the secrets that connections read, which are read outside of runs.
    pub fn audit_connections(self: &Arc<Self>, secrets: &SecretStore) {
        let host = Arc::clone(self);
        secrets.providers.on_read(Arc::new(move |secret| {
            let mut entry = AuditEntry::new(host.now(), Operation::Read, "connection");
            entry.secret = Some(Arc::clone(&secret.name));
            entry.version.clone_from(&secret.version);
            host.audit.record(vec![entry]);
        }));
    }

    /// Moves what command lines recorded beside the secrets file into the store.
    async fn store_recorded(&self, secrets: &SecretStore) {
        let Some(vault) = secrets.vault.clone() else { return };
        let (audit, runtime) = (Arc::clone(&self.audit), Handle::current());
        let moved = tokio::task::spawn_blocking(move || {
            vault.move_recorded(|entries| {
                let kept = runtime.block_on(audit.keep(entries));
                kept.map_err(|error| SecretError::Unrecorded { why: error.to_string() })
            })
        });
        if let Ok(Err(error)) = moved.await {
            tracing::warn!(
                error = error.whole_text(),
                "cannot store what was recorded about secrets; trying again"
            );
        }
    }

    async fn warn_of_expiry(
        &self,
        secrets: &SecretStore,
        days: u64,
        warned: &mut BTreeMap<(Arc<str>, u32), Timestamp>,
    ) {
        let Some(vault) = secrets.vault.clone() else { return };
        // A file that cannot be read is reported when a secret is read from it.
        let Ok(Ok(newest)) = tokio::task::spawn_blocking(move || vault.list()).await else { return };
        let now = self.now();
        let count = expiring(&newest, now, days).count();
        self.hub.secrets_expiring.store(count as u64, Ordering::Relaxed);
        for secret in expiring(&newest, now, days) {
            let key = (Arc::clone(&secret.name), secret.version);
            let is_known = warned
                .get(&key)
                .is_some_and(|at| now.unix_millis().saturating_sub(at.unix_millis()) < WARNED_FOR_MS);
            if is_known {
                continue;
            }
            warned.insert(key, now);
            let mut entry = AuditEntry::new(now, Operation::Expiring, "server");
            entry.secret = Some(format!("embedded:{}", secret.name).into());
            entry.version = Some(secret.version.to_string().into());
            self.audit.record(vec![entry]);
            tracing::warn!(
                secret = &*secret.name,
                version = secret.version,
                days = secret.expires_in_days(now),
                "a secret is about to expire; set a new version with `loom secrets set`"
            );
        }
    }
}

/// The secrets whose newest version is in use and expires within `days`.
fn expiring(
    newest: &[SecretProperties],
    now: Timestamp,
    days: u64,
) -> impl Iterator<Item = &SecretProperties> {
    newest.iter().filter(move |secret| {
        let left = secret.expires_in_days(now);
        secret.state(now) == "enabled"
            && left.is_some_and(|left| u64::try_from(left).is_ok_and(|left| left < days))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_in_use_that_expire_soon_are_warned_of() {
        let day = |days: i64| Timestamp::from_unix_millis(days * 86_400_000);
        let secret = |name: &str, enabled: bool, expires_on: Option<Timestamp>| SecretProperties {
            name: name.into(),
            version: 1,
            created_on: day(0),
            enabled,
            deleted: false,
            not_before: None,
            expires_on,
            content_type: None,
            tags: BTreeMap::new(),
        };
        let all = [
            secret("never", true, None),
            secret("soon", true, Some(day(113))),
            secret("later", true, Some(day(115))),
            secret("over", true, Some(day(99))),
            secret("disabled", false, Some(day(101))),
        ];
        let warned: Vec<&str> = expiring(&all, day(100), 14).map(|secret| &*secret.name).collect();
        assert_eq!(warned, ["soon"]);
    }
}
