//! The acknowledgement of an append: a future that resolves when the commit is durable.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{Committed, Error};

/// Resolves when the commit is as durable as the store's mode promises, or when it was refused. A backend makes it with
/// [`Ack::ready`] or [`Ack::pending`].
///
/// # Cancel safety
/// The commit is in the queue before the `Ack` exists. Dropping the `Ack` gives up the result, not the commit.
#[derive(Debug)]
#[must_use = "a commit is durable only once its Ack resolves; drop it explicitly when nothing depends on that"]
pub struct Ack(State);

#[derive(Debug)]
enum State {
    Ready(Option<Result<Committed, Error>>),
    Waiting(oneshot::Receiver<Result<Committed, Error>>),
}

/// Resolves an [`Ack`]. Dropping it resolves the `Ack` with [`Error::Closed`].
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Result<Committed, Error>>);

impl Reply {
    /// Resolves the `Ack`, whose owner may be gone.
    pub fn send(self, answer: Result<Committed, Error>) {
        self.0.send(answer).unwrap_or_default();
    }
}

impl Ack {
    /// An acknowledgement that has resolved.
    pub fn ready(answer: Result<Committed, Error>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// An acknowledgement that resolves when its [`Reply`] is sent.
    pub fn pending() -> (Reply, Self) {
        let (reply, receiver) = oneshot::channel();
        (Reply(reply), Self(State::Waiting(receiver)))
    }

    /// Blocks this thread until the commit is durable. For threads outside any async runtime.
    ///
    /// # Errors
    /// The same as the future's.
    ///
    /// # Panics
    /// When called inside an async runtime, which must not be blocked.
    pub fn wait(self) -> Result<Committed, Error> {
        match self.0 {
            State::Ready(answer) => {
                answer.expect("`wait` takes the Ack, so it has not been polled to completion")
            }
            State::Waiting(receiver) => receiver.blocking_recv().unwrap_or(Err(Error::Closed)),
        }
    }
}

impl Future for Ack {
    type Output = Result<Committed, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => {
                Poll::Ready(answer.take().expect("a future is not polled after completion"))
            }
            // The writer replies to every commit it accepts, so a dropped sender means that the writer is gone.
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|sent| sent.unwrap_or(Err(Error::Closed)))
            }
        }
    }
}
