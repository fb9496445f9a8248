//! Work that takes long, on threads that are not those of the runtime, so that requests, timers and other runs are not kept
//! waiting by it.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// A limited number of threads for work that takes long: more than about a hundred microseconds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    turns: Arc<Semaphore>,
    threads: usize,
}

impl Default for Pool {
    /// As many threads as there are processors, and at least two.
    fn default() -> Pool {
        Pool::new(available_parallelism().map_or(2, NonZero::get).max(2))
    }
}

impl Pool {
    /// A pool that uses at most so many threads at a time, and at least one.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.clamp(1, Semaphore::MAX_PERMITS);
        Pool { turns: Arc::new(Semaphore::new(threads)), threads }
    }

    /// The most threads that the pool uses at a time.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The threads that are in use now.
    pub fn busy(&self) -> usize {
        self.threads.saturating_sub(self.turns.available_permits())
    }

    /// Waits until a thread is free, in order of arrival.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn turn(&self) -> Turn {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        Turn(turn.expect("the semaphore is private and never closed"))
    }

    /// Performs work on one of the threads.
    ///
    /// # Panics
    /// If the work does.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn. Work that has begun is done to its end, and its result is dropped.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.turn().await.run(work).await
    }

    /// Polls a future to its end on one of the threads. Call it in a task of the runtime.
    ///
    /// # Panics
    /// If the future does.
    ///
    /// # Cancel safety
    /// Like [`Pool::run`].
    pub async fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = Handle::current();
        self.run(move || runtime.block_on(future)).await
    }
}

/// The right to use one thread of a [`Pool`].
#[derive(Debug)]
#[must_use = "dropping it gives up the thread"]
pub struct Turn(#[expect(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

impl Turn {
    /// Performs work on the thread, which is free again afterwards.
    ///
    /// # Panics
    /// If the work does.
    ///
    /// # Cancel safety
    /// Work that has begun is done to its end.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let done = spawn_blocking(move || {
            let result = work();
            drop(self);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and drops this future, too.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// The pools of an engine. Each kind of work has threads of its own: readers of long histories do not delay runs.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// Decisions of runs that take long.
    pub(crate) evaluations: Pool,
    /// Reading histories and large values.
    pub(crate) reads: Pool,
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    /// While all threads are blocked, the only thread of the runtime works on; and no more threads are used than there may be.
    #[tokio::test]
    async fn work_that_blocks_keeps_neither_the_runtime_nor_more_threads() {
        let pool = Pool::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (open, latch) = mpsc::channel::<()>();
        let latch = Arc::new(std::sync::Mutex::new(latch));
        let mut works = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (pool, running, most) = (pool.clone(), Arc::clone(&running), Arc::clone(&most));
            let latch = Arc::clone(&latch);
            works.spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    latch.lock().unwrap().recv().ok();
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                pool.run(work).await;
            });
        }
        while running.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        for _ in 0..6 {
            open.send(()).unwrap();
        }
        while works.join_next().await.is_some() {}
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_future_on_a_thread_of_the_pool_waits_for_tasks_of_the_runtime() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let pool = Pool::new(1);
        let sum = async move { 1 + receive.await.unwrap_or(0) };
        let (sum, ()) = tokio::join!(pool.block_on(sum), async { send.send(2).unwrap() });
        assert_eq!(sum, 3);
    }

    #[tokio::test]
    async fn a_panic_is_passed_on_and_frees_the_thread() {
        let pool = Pool::new(1);
        let mut works = tokio::task::JoinSet::new();
        let failing = pool.clone();
        works.spawn(async move { failing.run(|| panic!("as the test wants")).await });
        assert!(works.join_next().await.unwrap().unwrap_err().is_panic());
        assert_eq!(pool.run(|| 5).await, 5);
    }
}
