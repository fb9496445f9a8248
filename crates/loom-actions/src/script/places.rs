//! Threads for scripts: so many at once, each owned by one script, none of them the runtime's.
//!
//! An interpreter looks for a reason to stop between its own instructions, and now and then in the work that it does for
//! one of them, but not everywhere: a search in a text of megabytes goes on to its end. A script that is not heard of
//! after its time is given up. Its thread keeps its place until it ends, so that such scripts cannot take all
//! processors; and when all places are kept so, nobody waits for one.

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
    _permit: OwnedSemaphorePermit,
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

impl Places {
    pub(super) fn new(count: usize) -> Arc<Places> {
        Arc::new(Places { free: Arc::new(Semaphore::new(count)), count, lost: watch::Sender::new(0) })
    }

    /// Waits for a place, in line.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub(super) async fn enter(self: &Arc<Places>) -> Result<(Place, GivenUp), AllLost> {
        let mut lost = self.lost.subscribe();
        let all = usize::cast_signed(self.count);
        let permit = Box::pin(Arc::clone(&self.free).acquire_owned());
        let all_lost = Box::pin(lost.wait_for(|lost| *lost >= all));
        let permit = match select(permit, all_lost).await {
            Either::Left((permit, _)) => permit.map_err(|_| AllLost)?,
            Either::Right(_) => return Err(AllLost),
        };
        let state = Arc::new(AtomicU8::new(WAITED_FOR));
        let given_up = GivenUp { places: Arc::clone(self), state: Arc::clone(&state) };
        Ok((Place { places: Arc::clone(self), state, _permit: permit }, given_up))
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
        if self.state.swap(ENDED, Ordering::AcqRel) == GIVEN_UP {
            self.places.lost.send_modify(|lost| *lost -= 1);
        }
    }
}

impl GivenUp {
    /// Counts the place as lost until its script ends after all.
    pub(super) fn give_up(self) {
        let given_up = self.state.compare_exchange(WAITED_FOR, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        if given_up.is_ok() {
            self.places.lost.send_modify(|lost| *lost += 1);
        }
    }
}

#[cfg(test)]
mod tests;
