//! The journal's part in parking: the commit that says that a run is parked, and what the next one says.

use loom_store::{Commit, Error as StoreError, Seq, Snapshot, UnixMillis};

use super::{RunJournal, SNAPSHOT_BYTES_MAX};
use crate::{
    event::RunId,
    journal,
    parked::{Holding, alarm, alarm_key, owns_nothing},
    state::RunState,
};

impl RunJournal {
    /// Whether the store says that the run is parked.
    pub(crate) fn is_parked(&self) -> bool {
        self.row.wake_at.is_some()
    }

    /// When the run is due, if the store says that it is parked.
    pub(crate) fn wakes_at(&self) -> Option<UnixMillis> {
        self.row.wake_at
    }

    /// The run that called this one.
    pub(crate) fn parent(&self) -> Option<RunId> {
        self.row.parent
    }

    /// Notes whether the store says what the run owns.
    pub(crate) fn owns_something(&mut self, owns_something: bool) {
        self.owns_something = owns_something;
    }

    /// Makes durable that the run is parked until `wake`, and what it owns meanwhile. Everything recorded must be durable.
    ///
    /// # Errors
    /// Like [`RunJournal::flush`].
    pub(crate) async fn park(
        &mut self,
        state: &RunState,
        wake: UnixMillis,
        holding: Option<&Holding>,
    ) -> Result<(), StoreError> {
        let id = self.row.id;
        // A run that was woken without consequences is still parked.
        if self.row.wake_at == Some(wake) && !self.owns_something && holding.is_none() {
            return self.take_messages_in().await;
        }
        let mut commit = Commit::to_run(id, self.next, Vec::new());
        if self.pace.is_worth_it() && !state.waits {
            let stored = self.values.put(&*self.store).await?;
            let snapshot = journal::draft_snapshot(state, &mut self.values).finish(&stored);
            self.pace.snapshot_taken(snapshot.len());
            let upto = Seq(self.next.0.saturating_sub(1));
            commit.snapshot =
                (snapshot.len() <= SNAPSHOT_BYTES_MAX).then_some(Snapshot { run: id, upto, state: snapshot });
            commit.blobs = stored.blobs;
        }
        self.row.wake_at = Some(wake);
        self.row_changed = false;
        commit.row = Some(self.row.clone());
        if wake == UnixMillis(i64::MAX) {
            commit.timers_cleared.push(alarm_key(id));
        } else {
            commit.timers_set.push(alarm(id, wake));
        }
        commit.keys = std::mem::take(&mut self.keys);
        match holding {
            Some(holding) => commit.keys.push(holding.write(id)),
            None if self.owns_something => commit.keys.push(owns_nothing(id)),
            None => {}
        }
        self.owns_something = holding.is_some();
        commit.inbox_consumed = std::mem::take(&mut self.messages);
        self.store.commit(commit).await.map(drop)
    }

    /// Adds to a commit of a run that is awake that it is.
    pub(super) fn wake_up(&mut self, commit: &mut Commit) {
        if self.row.wake_at.take().is_some() {
            self.row_changed = true;
            commit.timers_cleared.push(alarm_key(self.row.id));
            if std::mem::take(&mut self.owns_something) {
                commit.keys.push(owns_nothing(self.row.id));
            }
        }
    }
}
