//! The half-open period: leases of probes, and their outcomes.

use std::time::Duration;

use super::config::BreakerConfig;
use crate::clock::Instant;

/// Probes of one half-open period.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    pub(super) successes: u32,
    pub(super) failures: u32,
    leases: Vec<Lease>,
    next_lease: u32,
}

/// One probe that has not reported yet.
#[derive(Debug)]
struct Lease {
    id: u32,
    started: Instant,
    /// When its slot is free for another probe. Its outcome still counts after that.
    deadline: Instant,
    /// Whether it was counted as a failure when its lease expired.
    counted: bool,
}

impl HalfOpen {
    /// Whether no further probe may start: all slots are taken, or enough probes have started to decide.
    pub(super) fn is_full(&self, config: &BreakerConfig, now: Instant) -> bool {
        let out = self.out(now);
        let used = self.successes.saturating_add(self.failures).saturating_add(out);
        out >= config.half_open_max_calls || used >= config.probe_total()
    }

    /// Takes a slot for a probe, for `time` or else for the configured lease. Returns the number of the lease, from 1.
    pub(super) fn lease(
        &mut self,
        config: &BreakerConfig,
        time: Option<Duration>,
        now: Instant,
    ) -> Option<u32> {
        if self.is_full(config, now) {
            return None;
        }
        self.next_lease = self.next_lease.wrapping_add(1).max(1);
        let deadline = now + time.unwrap_or(config.probe_lease);
        self.leases.push(Lease { id: self.next_lease, started: now, deadline, counted: false });
        Some(self.next_lease)
    }

    /// Ends the lease of a probe that reports. Returns whether its outcome is still to be counted. It is even when the
    /// lease has expired: a service that responds late is healthy, and one that fails late has failed.
    pub(super) fn give_back(&mut self, id: u32) -> bool {
        let Some(index) = self.leases.iter().position(|lease| lease.id == id) else { return false };
        !self.leases.swap_remove(index).counted
    }

    /// Counts probes with an expired lease as failed if they have run long enough to be slow. Without a rule for slow calls
    /// an expired lease decides nothing.
    pub(super) fn expire(&mut self, now: Instant, slower_than: u64) {
        for lease in &mut self.leases {
            let slow = now.since(lease.started).as_nanos() >= u128::from(slower_than);
            if now >= lease.deadline && slow && !lease.counted {
                lease.counted = true;
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// The probes in flight whose lease has not expired.
    pub(super) fn out(&self, now: Instant) -> u32 {
        self.leases.iter().filter(|lease| now < lease.deadline).count() as u32
    }
}
