//! The atomics and locks of this crate, so that the model checker can put its own in their place.

#[cfg(loom_model)]
pub(crate) use loom_checker::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(loom_model))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Locks `mutex`, also after a panic elsewhere.
///
/// Every section under these locks leaves its data whole before it calls anything that may panic, so a poisoned
/// lock still guards sound data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
