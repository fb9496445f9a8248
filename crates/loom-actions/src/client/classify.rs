//! Classifies why there was no response, by the types in the chain of errors.

use std::{error::Error, io, time::Duration};

use super::connect::ConnectError;
use crate::{Failure, url::Url};

/// The failure of a request that got no status.
pub(super) fn no_answer(url: &Url, error: &(dyn Error + 'static)) -> Failure {
    let shown = url.shown();
    for cause in chain(error) {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            return connect.to_failure(url);
        }
    }
    broken(&shown, error)
}

/// The failure of a connection that broke after it was established.
pub(super) fn broken(shown: &str, error: &(dyn Error + 'static)) -> Failure {
    for cause in chain(error) {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_parse() && !matches!(io_kind(error), Some(io::ErrorKind::UnexpectedEof)) {
                return Failure::lasting(
                    "BadGateway",
                    format!("'{shown}' sent a response that is not HTTP."),
                );
            }
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return reset(shown, "closed the connection before its response was complete");
            }
        }
    }
    match io_kind(error) {
        Some(io::ErrorKind::TimedOut) => {
            Failure::transient("ServerTimeout", format!("The connection to '{shown}' timed out."))
        }
        Some(io::ErrorKind::UnexpectedEof) => {
            reset(shown, "closed the connection before its response was complete")
        }
        _ => reset(shown, "reset the connection"),
    }
}

fn reset(shown: &str, what: &str) -> Failure {
    Failure::transient("ServiceTemporarilyUnavailable", format!("The server of '{shown}' {what}."))
}

/// The failure of a request that took too long.
pub(super) fn timed_out(shown: &str, timeout: Duration) -> Failure {
    Failure::transient(
        "ServerTimeout",
        format!("'{shown}' did not respond within {} ms.", timeout.as_millis()),
    )
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}
