//! A few threads that read, each with its own connection, so that a slow query never holds up the runtime or the
//! writer. They also hash, compress and write large blobs.
//!
//! At most [`QUESTIONS_MAX`] queries are in progress; further callers wait in line.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::{Answer, Error};

use super::health::Watch;

/// The most queries in progress at once.
const QUESTIONS_MAX: usize = 1_024;

type Question = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    questions: Mutex<Option<mpsc::Sender<Question>>>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watch: Arc<Watch>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Starts one thread for each connection.
    pub(super) fn start(connections: Vec<Connection>, watch: Arc<Watch>) -> std::io::Result<Self> {
        let (questions, asked) = mpsc::channel::<Question>();
        let asked = Arc::new(Mutex::new(asked));
        let start = |connection: Connection| {
            let (asked, watch) = (Arc::clone(&asked), Arc::clone(&watch));
            thread::Builder::new().name("loom-store-read".into()).spawn(move || {
                loop {
                    // The lock is held only while waiting: the thread that has it takes the next query.
                    let question = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(question) = question else { return watch.before_close(&connection) };
                    question(&connection);
                }
            })
        };
        let threads = connections.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            questions: Mutex::new(Some(questions)),
            room: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            threads: Mutex::new(threads),
            watch,
        })
    }

    /// Runs a query on a reader thread; it is queued when the returned future is first polled.
    pub(super) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let readers = Arc::clone(self);
        Box::pin(async move {
            let room = Arc::clone(&readers.room).acquire_owned().await;
            let room = room.expect("the semaphore is private and never closed");
            let (reply, answer) = oneshot::channel();
            let watch = Arc::clone(&readers.watch);
            let question: Question = Box::new(move |connection| {
                let _room = room;
                if reply.is_closed() {
                    return;
                }
                // The caller may be gone by now.
                reply.send(watch.observe(question(connection))).unwrap_or_default();
            });
            let questions = readers.questions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(questions) = questions else { return Err(Error::Closed) };
            questions.send(question).map_err(|_| Error::Closed)?;
            answer.await.unwrap_or(Err(Error::Closed))
        })
    }

    /// Lets the threads finish what is queued, and ends them.
    pub(super) fn stop(&self) {
        drop(self.questions.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A reader that panicked has dropped its reply, which its caller saw; there is nothing left to report.
            drop(thread.join());
        }
    }
}
