//! Threads for scripts: a limited number at once, each owned by one script, none of them the runtime's.
//!
//! An interpreter checks whether it must stop between its own instructions, and sometimes during the work of one, but
//! not everywhere: a search in a string of megabytes continues to its end. A script that does not end after its
//! timeout is abandoned. Its thread runs until the script ends, and its slot is given to another script, so that no
//! slot is lost. Only a limited number of such threads may continue, because they take processor time from others.
//! Beyond that number, abandoned scripts keep their slots; when they occupy all slots, new scripts fail instead of
//! waiting.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Enough for the interpreter's own stack limit, which it measures from where it starts, and for our frames around
/// it.
const STACK_ABOVE: usize = 1 << 20;

/// The slots, and the scripts that occupy one after they were given up.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    /// How many threads may continue while another script has their slot, and how many more scripts than there are
    /// slots must be lost before new scripts fail.
    spare: usize,
    count: usize,
    lost: watch::Sender<isize>,
}

/// All slots are occupied by scripts that were given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllLost;

/// One slot. Dropping it releases the slot.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    state: Arc<AtomicU8>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Marks the script of a slot as given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    slots: Arc<Slots>,
    state: Arc<AtomicU8>,
}

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;
/// Given up, and another script has the slot.
const REPLACED: u8 = 3;

impl Slots {
    pub(super) fn new(count: usize, spare: usize) -> Arc<Slots> {
        Arc::new(Slots { free: Arc::new(Semaphore::new(count)), spare, count, lost: watch::Sender::new(0) })
    }

    /// Waits in line for a slot.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub(super) async fn enter(self: &Arc<Slots>) -> Result<(Slot, GivenUp), AllLost> {
        let mut lost = self.lost.subscribe();
        let all = usize::cast_signed(self.count + self.spare);
        let permit = Box::pin(Arc::clone(&self.free).acquire_owned());
        let all_lost = Box::pin(lost.wait_for(|lost| *lost >= all));
        let permit = match select(permit, all_lost).await {
            Either::Left((permit, _)) => permit.map_err(|_| AllLost)?,
            Either::Right(_) => return Err(AllLost),
        };
        let state = Arc::new(AtomicU8::new(WAITED_FOR));
        let given_up = GivenUp { slots: Arc::clone(self), state: Arc::clone(&state) };
        Ok((Slot { slots: Arc::clone(self), state, permit: Some(permit) }, given_up))
    }
}

impl Slot {
    /// Runs the work in this slot, on a thread of its own.
    pub(super) fn work(self, stack_bytes: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name("script".to_owned()).stack_size(stack_bytes + STACK_ABOVE);
        // The work itself reports its end.
        thread.spawn(move || {
            work();
            drop(self);
        })?;
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let before = self.state.swap(ENDED, Ordering::AcqRel);
        if before == REPLACED
            && let Some(permit) = self.permit.take()
        {
            // Another script got the slot when this one was given up.
            permit.forget();
        }
        if matches!(before, GIVEN_UP | REPLACED) {
            self.slots.lost.send_modify(|lost| *lost -= 1);
        }
    }
}

impl GivenUp {
    /// Counts the thread as lost until its script ends, and gives its slot to another script while there are spare
    /// threads.
    pub(super) fn give_up(self) {
        let slots = &self.slots;
        let mut replaced = false;
        // Under the lock of the count, so that no two scripts take the last spare thread.
        slots.lost.send_modify(|lost| {
            replaced = *lost < usize::cast_signed(slots.spare);
            let state = if replaced { REPLACED } else { GIVEN_UP };
            let given_up =
                self.state.compare_exchange(WAITED_FOR, state, Ordering::AcqRel, Ordering::Acquire);
            if given_up.is_ok() {
                *lost += 1;
            } else {
                replaced = false;
            }
        });
        if replaced {
            tracing::warn!(
                "a script did not end after its timeout; its thread continues, and another script takes its place"
            );
            slots.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests;
