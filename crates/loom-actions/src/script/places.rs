//! Threads for scripts: so many at once, each owned by one script, none of them the runtime's.
//!
//! An interpreter looks for a reason to stop between its own instructions, and now and then in the work that it does for
//! one of them, but not everywhere: a search in a text of megabytes goes on to its end. A script that is not heard of
//! after its time is given up. Its thread runs until the script ends, and another script takes its place meanwhile, so that it
//! is missed by nobody. Only so many threads may go on like this, because they take processors from others: with more of
//! them, scripts keep their places, and when all are kept so, nobody waits for one.

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

/// Deep enough for the interpreter's own stack limit, which it measures from where it begins, and for ours around it.
const STACK_ABOVE: usize = 1 << 20;

/// The places, and who keeps one without being waited for.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Threads that may go on while another has their place, and places that all others may keep.
    spare: usize,
    count: usize,
    lost: watch::Sender<isize>,
}

/// All places are kept by scripts that were given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllLost;

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    state: Arc<AtomicU8>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Says that nobody waits for the script of a place.
#[derive(Debug)]
pub(super) struct GivenUp {
    places: Arc<Places>,
    state: Arc<AtomicU8>,
}

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;
/// Given up, and another has the place.
const REPLACED: u8 = 3;

impl Places {
    pub(super) fn new(count: usize, spare: usize) -> Arc<Places> {
        Arc::new(Places { free: Arc::new(Semaphore::new(count)), spare, count, lost: watch::Sender::new(0) })
    }

    /// Waits for a place, in line.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub(super) async fn enter(self: &Arc<Places>) -> Result<(Place, GivenUp), AllLost> {
        let mut lost = self.lost.subscribe();
        let all = usize::cast_signed(self.count + self.spare);
        let permit = Box::pin(Arc::clone(&self.free).acquire_owned());
        let all_lost = Box::pin(lost.wait_for(|lost| *lost >= all));
        let permit = match select(permit, all_lost).await {
            Either::Left((permit, _)) => permit.map_err(|_| AllLost)?,
            Either::Right(_) => return Err(AllLost),
        };
        let state = Arc::new(AtomicU8::new(WAITED_FOR));
        let given_up = GivenUp { places: Arc::clone(self), state: Arc::clone(&state) };
        Ok((Place { places: Arc::clone(self), state, permit: Some(permit) }, given_up))
    }
}

impl Place {
    /// Works in this place, on a thread of its own.
    pub(super) fn work(self, stack_bytes: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name("script".to_owned()).stack_size(stack_bytes + STACK_ABOVE);
        // Whoever waits for the work is told by the work itself.
        thread.spawn(move || {
            work();
            drop(self);
        })?;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.state.swap(ENDED, Ordering::AcqRel);
        if before == REPLACED
            && let Some(permit) = self.permit.take()
        {
            // Another got it when this one was given up.
            permit.forget();
        }
        if matches!(before, GIVEN_UP | REPLACED) {
            self.places.lost.send_modify(|lost| *lost -= 1);
        }
    }
}

impl GivenUp {
    /// Counts the thread as lost until its script ends after all, and gives its place to another while there are threads to
    /// spare.
    pub(super) fn give_up(self) {
        let places = &self.places;
        let mut replaced = false;
        // Under the lock of the count, so that no two take the last thread to spare.
        places.lost.send_modify(|lost| {
            replaced = *lost < usize::cast_signed(places.spare);
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
                "a script does not end after its time; its thread continues, and another script takes its place"
            );
            places.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests;
