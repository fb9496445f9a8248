//! Rate limits of the cluster: permits come from one named value for each service, which nodes replace one after the other.
//!
//! A node asks only for calls that wait at the moment, all of them at once, so nothing lies idle at a node and an idle limit costs
//! nothing. Time is that of the database. When the store does not answer, calls wait for it, up to [`STORE_MAX`]; after that, only the
//! limiter of their node applies to them, until the store answers again.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use loom_resilience::{LimiterConfig, Refused, Rule, SharedLimit};
use loom_store::{
    Commit, Committed, Conflict, Error as StoreError, KeyExpectation, KeyWrite, Store, UnixMillis,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

/// The namespace of the consumption; keys are the names of services.
const NAMESPACE: &str = "limit";

/// The delay before the store is asked again after a failure.
const AGAIN: Duration = Duration::from_millis(200);

/// For how long calls wait for a store that fails or does not answer. A call starts only while the lease of its node is running, so an
/// outage of the database ends calls soon after this anyway.
pub(super) const STORE_MAX: Duration = Duration::from_secs(2);

/// For how long the difference between the clock of the database and that of this process is used.
const CLOCK_KEPT: Duration = Duration::from_secs(5);

/// A value is kept for this long after it matters.
const KEPT: Duration = Duration::from_hours(24);

/// The limits of all services.
pub(crate) struct Limits {
    store: Arc<dyn Store>,
    lines: Mutex<HashMap<Arc<str>, Line>>,
    clock: SharedClock,
    /// One for each service for which calls wait.
    tasks: TaskTracker,
}

/// The calls of this node that wait for permits of one service.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiter>,
    /// Whether a task asks on behalf of those that wait.
    is_served: bool,
    /// When there are permits again, as far as is known, and the limit for which this was computed.
    next: Option<Instant>,
    config: Option<Arc<LimiterConfig>>,
    /// Notified when the limit was changed.
    changed: Arc<Notify>,
    /// Permits that were granted and are too few for the call that is first.
    spare: u32,
    /// Since when the store has not answered.
    silent_since: Option<Instant>,
    /// Whether calls are admitted without it.
    goes_without: bool,
    /// The value as this node has written it.
    known: Option<(u64, SharedLimit)>,
}

#[derive(Debug)]
struct Waiter {
    permits: u32,
    config: Arc<LimiterConfig>,
    /// The latest time at which it takes permits.
    until: Option<Instant>,
    answer: oneshot::Sender<Result<(), Refused>>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("services", &self.lock().len()).finish_non_exhaustive()
    }
}

fn too_long(wait: Duration) -> Refused {
    Refused::new(Rule::RateLimit, Some(wait))
}

impl Limits {
    pub(crate) fn new(store: Arc<dyn Store>) -> Limits {
        let clock = SharedClock::new(Arc::clone(&store));
        Limits { store, lines: Mutex::default(), clock, tasks: TaskTracker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`loom_resilience::Shared::take`].
    pub(crate) async fn take(
        self: &Arc<Self>,
        service: &Arc<str>,
        config: Arc<LimiterConfig>,
        permits: u32,
        max_wait: Option<Duration>,
    ) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        {
            let now = Instant::now();
            let mut lines = self.lock();
            let line = lines.entry(Arc::clone(service)).or_default();
            let until = max_wait.map(|wait| now + wait);
            if line.config.as_ref().is_some_and(|before| **before != *config) {
                (line.next, line.config) = (None, None);
                line.changed.notify_one();
            }
            if let (Some(next), Some(until)) = (line.next, until)
                && next > until
                && next > now
            {
                return Err(too_long(next - now));
            }
            if line.waiting.len() >= config.queue as usize {
                return Err(Refused::new(Rule::QueueFull, line.next.map(|next| next - now)));
            }
            line.waiting.push_back(Waiter { permits, config, until, answer });
            if !std::mem::replace(&mut line.is_served, true) {
                let (limits, service) = (Arc::clone(self), Arc::clone(service));
                self.tasks.spawn(async move { limits.serve(&service).await });
            }
        }
        // The task that serves the line ends before its waiters only with the process.
        answered.await.unwrap_or(Err(Refused::new(Rule::RateLimit, None)))
    }

    /// Takes permits for the calls that wait, until none does.
    async fn serve(&self, service: &Arc<str>) {
        loop {
            let began = Instant::now();
            let (wanted, config, changed, patience) = {
                let mut lines = self.lock();
                let Some(line) = lines.get_mut(service) else { return };
                line.waiting.retain(|waiter| !waiter.answer.is_closed());
                let Some(last) = line.waiting.back() else {
                    line.is_served = false;
                    line.spare = 0;
                    if !line.goes_without {
                        line.silent_since = None;
                    }
                    return;
                };
                let config = Arc::clone(&last.config);
                let wanted = line.waiting.iter().map(|waiter| waiter.permits).fold(0, u32::saturating_add);
                let wanted = wanted.saturating_sub(line.spare);
                let silent = line.silent_since.map_or(Duration::ZERO, |since| began - since);
                (wanted, config, Arc::clone(&line.changed), STORE_MAX.saturating_sub(silent).max(AGAIN))
            };
            let failure = match timeout(patience, self.exchange(service, &config, wanted)).await {
                Ok(Ok((granted, wait))) => {
                    self.hand_out(service, granted, wait, &config);
                    if let Some(wait) = wait {
                        tokio::select! {
                            () = sleep(wait) => {}
                            () = changed.notified() => {}
                        }
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if !self.go_without(service, began, &failure) {
                sleep(AGAIN).await;
            }
        }
    }

    /// Admits the calls that wait, once the store has not answered for [`STORE_MAX`]: the limiter of this node has admitted them
    /// already. Returns whether it did.
    fn go_without(&self, service: &Arc<str>, failing: Instant, failure: &str) -> bool {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(service) else { return false };
        let since = *line.silent_since.get_or_insert(failing);
        line.known = None;
        if since.elapsed() < STORE_MAX {
            return false;
        }
        (line.next, line.spare) = (None, 0);
        for waiter in std::mem::take(&mut line.waiting) {
            waiter.answer.send(Ok(())).ok();
        }
        if !std::mem::replace(&mut line.goes_without, true) {
            tracing::warn!(
                service = &**service,
                failure,
                "the store gives no permits of a rate limit of the cluster; until it does, each node keeps the limit for its own calls only"
            );
        }
        true
    }

    /// Gives permits to those that came first, and refuses those that would wait for too long.
    fn hand_out(&self, service: &str, mut granted: u32, wait: Option<Duration>, config: &Arc<LimiterConfig>) {
        let now = Instant::now();
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(service) else { return };
        (line.silent_since, line.goes_without) = (None, false);
        granted += std::mem::take(&mut line.spare);
        while let Some(first) = line.waiting.front()
            && first.permits <= granted
        {
            granted -= first.permits;
            let Some(first) = line.waiting.pop_front() else { break };
            // Permits of a call that was dropped meanwhile are lost.
            first.answer.send(Ok(())).ok();
        }
        line.spare = granted;
        line.next = wait.map(|wait| now + wait);
        line.config = Some(Arc::clone(config));
        let Some(wait) = wait else { return };
        let each =
            config.limits.iter().map(|limit| limit.period / limit.permits.max(1)).max().unwrap_or_default();
        let mut ahead = 0;
        let waiting = std::mem::take(&mut line.waiting);
        for waiter in waiting {
            let expected = wait + each * ahead;
            if waiter.until.is_some_and(|until| now + expected > until) {
                waiter.answer.send(Err(too_long(expected))).ok();
            } else {
                ahead += waiter.permits;
                line.waiting.push_back(waiter);
            }
        }
    }

    /// Takes at most `wanted` permits. Returns how many, and the time until it is worth asking again.
    async fn exchange(
        &self,
        service: &Arc<str>,
        config: &LimiterConfig,
        wanted: u32,
    ) -> Result<(u32, Option<Duration>), StoreError> {
        loop {
            let known = self.lock().get_mut(service).and_then(|line| line.known.take());
            let known = match known {
                Some(known) => Some(known),
                None => self.read(service).await?,
            };
            let now = self.clock.now().await?;
            let state = known.as_ref().map(|(_, state)| state);
            let (next, grant) = SharedLimit::take(state, config, wanted, now);
            if grant.permits == 0 {
                return Ok((0, grant.wait));
            }
            let expires = now + next.longest_period() + KEPT;
            let write = KeyWrite {
                namespace: NAMESPACE.into(),
                key: Arc::clone(service),
                expect: known.map_or(KeyExpectation::Absent, |(version, _)| KeyExpectation::Version(version)),
                value: Some(Bytes::from(serde_json::to_vec(&next).unwrap_or_default())),
                expires: Some(UnixMillis(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX))),
                ..KeyWrite::default()
            };
            let mut commit = Commit::new();
            commit.keys.push(write);
            match self.store.commit(commit).await {
                Ok(Committed::Written(written)) => {
                    if let Some(line) = self.lock().get_mut(service) {
                        let version = written.versions.first().copied().flatten();
                        line.known = version.map(|version| (version, next));
                    }
                    return Ok((grant.permits, grant.wait));
                }
                // Another node was first.
                Ok(Committed::Duplicate(_)) | Err(StoreError::Conflict(Conflict::Key { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&self, service: &str) -> Result<Option<(u64, SharedLimit)>, StoreError> {
        let Some(found) = self.store.key(NAMESPACE, service).await? else { return Ok(None) };
        match serde_json::from_slice(&found.value) {
            Ok(state) => Ok(Some((found.version, state))),
            Err(error) => {
                tracing::warn!(service, %error, "the stored consumption of a rate limit cannot be read; it starts again");
                let empty = SharedLimit::take(None, &LimiterConfig::default(), 0, Duration::ZERO).0;
                Ok(Some((found.version, empty)))
            }
        }
    }
}

/// The clock of the database, read through that of this process.
pub(crate) struct SharedClock {
    store: Arc<dyn Store>,
    /// The time of the database when the clock of this process showed an instant.
    known: Mutex<Option<(Instant, Duration)>>,
}

impl SharedClock {
    pub(crate) fn new(store: Arc<dyn Store>) -> SharedClock {
        SharedClock { store, known: Mutex::default() }
    }

    /// The time since 1970-01-01 UTC.
    pub(crate) async fn now(&self) -> Result<Duration, StoreError> {
        let before = Instant::now();
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, time)) = known
            && before - at < CLOCK_KEPT
        {
            return Ok(time + (before - at));
        }
        let time = self.store.time().await?;
        let after = Instant::now();
        // It was read about in the middle.
        let time = time + (after - before) / 2;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((after, time));
        Ok(time)
    }
}

#[cfg(test)]
mod tests;
