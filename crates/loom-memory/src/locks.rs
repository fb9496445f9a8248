//! Locks by name, which are granted in the order in which they were asked for.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Locks that exist while somebody holds them or waits for them.
#[derive(Default)]
pub(crate) struct Locks {
    turns: Mutex<BTreeMap<Arc<str>, Arc<Turn<()>>>>,
}

impl Locks {
    /// Waits until nobody else holds the lock.
    pub(crate) async fn lock(self: &Arc<Self>, name: Arc<str>) -> Locked {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(Arc::clone(&name)).or_default())
        };
        // Made before waiting, so that a lock whose only waiter gives up is removed as well.
        let mut locked = Locked { locks: Arc::clone(self), name, guard: None };
        locked.guard = Some(turn.lock_owned().await);
        locked
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}

/// A lock that is held. Dropping it lets the next one have it.
#[derive(Debug)]
pub(crate) struct Locked {
    locks: Arc<Locks>,
    name: Arc<str>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.locks.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Others that hold or wait for the lock have references of their own, which they took under this mutex.
        if turns.get(&self.name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn a_lock_is_granted_in_order_and_leaves_nothing_behind() {
        let locks = Arc::new(Locks::default());
        let first = locks.lock("a".into()).await;
        let other = locks.lock("b".into()).await;
        let (mut second, mut third) = (pin!(locks.lock("a".into())), pin!(locks.lock("a".into())));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(third.as_mut().poll(&mut context).is_pending(), "it came later");
        let second = second.await;
        drop(second);
        drop(third.await);
        drop(other);
        assert_eq!(locks.len(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let locks = Arc::new(Locks::default());
        let first = locks.lock("a".into()).await;
        {
            let mut second = pin!(locks.lock("a".into()));
            assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(first);
        assert_eq!(locks.len(), 0);
    }
}
