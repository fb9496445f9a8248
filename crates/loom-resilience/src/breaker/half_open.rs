//! The half-open period: leases for probes, and how they ended.

use super::config::BreakerConfig;
use crate::clock::Moment;

/// Probes of one half-open period.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    pub(super) successes: u32,
    pub(super) failures: u32,
    leases: Vec<Lease>,
    next_lease: u32,
}

#[derive(Debug)]
struct Lease {
    id: u32,
    started: Moment,
    deadline: Moment,
}

impl HalfOpen {
    /// Whether no further probe may start: as many as allowed are out, or as many as are left.
    pub(super) fn is_full(&self, config: &BreakerConfig, now: Moment) -> bool {
        let out = self.leases.iter().filter(|lease| now < lease.deadline).count() as u32;
        let used = self.successes.saturating_add(self.failures).saturating_add(out);
        out >= config.probes || used >= config.probe_total()
    }

    /// Takes a place for a probe and answers the lease's number, from 1.
    pub(super) fn lease(&mut self, config: &BreakerConfig, now: Moment) -> Option<u32> {
        if self.is_full(config, now) {
            return None;
        }
        self.next_lease = self.next_lease.wrapping_add(1).max(1);
        self.leases.push(Lease { id: self.next_lease, started: now, deadline: now + config.probe_lease });
        Some(self.next_lease)
    }

    /// Frees the place of a probe. `false` when it is no longer the probe's: its time was over.
    pub(super) fn give_back(&mut self, id: u32) -> bool {
        let Some(index) = self.leases.iter().position(|lease| lease.id == id) else { return false };
        self.leases.swap_remove(index);
        true
    }

    /// Frees the places of probes that never reported. Where slow calls are judged, one that ran for so long has
    /// failed; else it says nothing.
    pub(super) fn expire(&mut self, now: Moment, slower_than: u64) {
        let mut failed = 0;
        self.leases.retain(|lease| {
            let over = now >= lease.deadline;
            if over && now.since(lease.started).as_nanos() >= u128::from(slower_than) {
                failed += 1;
            }
            !over
        });
        self.failures = self.failures.saturating_add(failed);
    }

    /// Probes out now.
    pub(super) fn out(&self, now: Moment) -> u32 {
        self.leases.iter().filter(|lease| now < lease.deadline).count() as u32
    }
}
