//! The memory limit for request bodies.
//!
//! A body counts from its first byte until its contents belong to a run or are no longer needed. Parsed JSON may take more
//! memory than its text, and then counts instead.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::http::StatusCode;
use bytes::Bytes;
use loom_expression::Value;

use crate::response::Problem;

/// The `Retry-After` of a rejected body, in seconds.
const RETRY_AFTER: u64 = 2;

/// The bodies of all requests in progress.
#[derive(Debug)]
pub(crate) struct Bodies {
    bytes: AtomicU64,
    most: u64,
}

impl Bodies {
    pub(crate) fn new(most: u64) -> Arc<Bodies> {
        Arc::new(Bodies { bytes: AtomicU64::new(0), most })
    }

    /// Starts to count a body.
    pub(crate) fn begin(self: &Arc<Self>) -> Received {
        Received { bytes: Bytes::new(), charged: 0, bodies: Arc::clone(self) }
    }
}

/// A body, and the bytes that are counted for it until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Bytes,
    charged: u64,
    bodies: Arc<Bodies>,
}

impl Received {
    /// Counts more bytes.
    pub(crate) fn charge(&mut self, bytes: u64) -> Result<(), Problem> {
        let before = self.bodies.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charged += bytes;
        let most = self.bodies.most;
        if before.saturating_add(bytes) <= most {
            return Ok(());
        }
        let message = format!(
            "The bodies of all requests in progress exceed {most} bytes (setting 'bodies-bytes-max')."
        );
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "BodiesBytesExceeded", message).later(RETRY_AFTER))
    }

    /// Sets the complete body.
    pub(crate) fn ended(mut self, bytes: Bytes) -> Received {
        self.bytes = bytes;
        self
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Counts the parsed value instead of the text.
    pub(crate) fn becomes(&mut self, value: &Value) -> Result<(), Problem> {
        self.charge(value.bytes().saturating_sub(self.charged))
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.charged, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_body_no_longer_counts() {
        let bodies = Bodies::new(100);
        let mut first = bodies.begin();
        assert!(first.charge(60).is_ok());
        let mut second = bodies.begin();
        let problem = second.charge(60).expect_err("it exceeds the limit");
        assert_eq!((problem.status, problem.code), (StatusCode::SERVICE_UNAVAILABLE, "BodiesBytesExceeded"));
        assert!(problem.message.contains("100 bytes") && problem.message.contains("bodies-bytes-max"));
        drop(first);
        assert!(second.charge(40).is_ok(), "a rejected body counts until it is dropped");
        drop(second);
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
        let mut read = bodies.begin();
        assert!(read.charge(10).is_ok());
        assert!(read.becomes(&Value::from("x".repeat(50))).is_ok());
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 90);
        assert!(read.becomes(&Value::from("x".repeat(500))).is_err());
    }
}
