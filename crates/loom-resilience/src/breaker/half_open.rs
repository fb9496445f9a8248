//! The half-open period: leases for probes, and how they ended.

use std::time::Duration;

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

/// One probe that has not reported yet.
#[derive(Debug)]
struct Lease {
    id: u32,
    started: Moment,
    /// When its place is free for another probe. Its report still counts after that.
    deadline: Moment,
    /// Whether it was counted as a failure when its lease expired.
    counted: bool,
}

impl HalfOpen {
    /// Whether no further probe may start: as many as allowed are out, or as many as are left.
    pub(super) fn is_full(&self, config: &BreakerConfig, now: Moment) -> bool {
        let out = self.out(now);
        let used = self.successes.saturating_add(self.failures).saturating_add(out);
        out >= config.half_open_max_calls || used >= config.probe_total()
    }

    /// Takes a place for a probe, for the time that the probe may take or else for the configured one. Returns the
    /// lease's number, from 1.
    pub(super) fn lease(
        &mut self,
        config: &BreakerConfig,
        time: Option<Duration>,
        now: Moment,
    ) -> Option<u32> {
        if self.is_full(config, now) {
            return None;
        }
        self.next_lease = self.next_lease.wrapping_add(1).max(1);
        let deadline = now + time.unwrap_or(config.probe_lease);
        self.leases.push(Lease { id: self.next_lease, started: now, deadline, counted: false });
        Some(self.next_lease)
    }

    /// Ends a probe's lease when it reports. `true` when its outcome is still to be counted, which it is after an
    /// expired lease as well: a healthy service that answers late is healthy, and one that fails late has failed.
    pub(super) fn give_back(&mut self, id: u32) -> bool {
        let Some(index) = self.leases.iter().position(|lease| lease.id == id) else { return false };
        !self.leases.swap_remove(index).counted
    }

    /// Counts the probes whose lease has expired as failed where slow calls are judged and they ran for that long.
    /// Elsewhere an expired lease says nothing yet.
    pub(super) fn expire(&mut self, now: Moment, slower_than: u64) {
        for lease in &mut self.leases {
            let slow = now.since(lease.started).as_nanos() >= u128::from(slower_than);
            if now >= lease.deadline && slow && !lease.counted {
                lease.counted = true;
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// Probes out whose lease has not expired.
    pub(super) fn out(&self, now: Moment) -> u32 {
        self.leases.iter().filter(|lease| now < lease.deadline).count() as u32
    }
}
