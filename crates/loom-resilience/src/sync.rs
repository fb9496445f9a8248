//! The atomics and locks of this crate. The model checker replaces them with its own.

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

/// Locks `mutex`, even when another thread panicked while it held the lock.
///
/// Every critical section leaves its data consistent before it calls anything that may panic, so the data behind a
/// poisoned lock is sound.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
