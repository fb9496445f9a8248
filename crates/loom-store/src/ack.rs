//! The answer to an append: a future that resolves when the commit is durable.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{Committed, Error};

/// Resolves when the commit is as durable as the store's mode promises, or was refused.
///
/// # Cancel safety
/// The commit is in the queue before the `Ack` exists. Dropping it gives up the answer, not the commit.
#[derive(Debug)]
#[must_use = "an append is only durable when its Ack says so; drop it on purpose where nobody waits"]
pub struct Ack(State);

#[derive(Debug)]
enum State {
    Ready(Option<Result<Committed, Error>>),
    Waiting(oneshot::Receiver<Result<Committed, Error>>),
}

impl Ack {
    pub(crate) fn ready(answer: Result<Committed, Error>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    pub(crate) fn waiting(receiver: oneshot::Receiver<Result<Committed, Error>>) -> Self {
        Self(State::Waiting(receiver))
    }

    /// Blocks this thread until the answer is there. For threads outside any async runtime.
    ///
    /// # Errors
    /// As the future's.
    ///
    /// # Panics
    /// Inside an async runtime, which must not be blocked.
    pub fn wait(self) -> Result<Committed, Error> {
        match self.0 {
            State::Ready(answer) => answer.expect("`wait` takes the Ack, so nobody polled it to its end"),
            State::Waiting(receiver) => receiver.blocking_recv().unwrap_or(Err(Error::Closed)),
        }
    }
}

impl Future for Ack {
    type Output = Result<Committed, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(answer.take().expect("a future is not polled after its end")),
            // The writer answers everything it takes; a dropped sender means it is gone.
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|sent| sent.unwrap_or(Err(Error::Closed)))
            }
        }
    }
}
