//! A small ordered map whose entries are mostly added and removed at its ends: calls and timers, whose ids increase.
//!
//! One ring buffer of ordered entries. Lookup is a binary search; insertion and removal move the shorter side, which is empty
//! for the newest and the oldest entry. Unlike a tree, it keeps its memory when it becomes empty, which is frequent: most
//! actions that wait are the only ones to wait.

use std::{cmp::Ordering, collections::VecDeque};

#[derive(Debug)]
pub(crate) struct Sorted<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Sorted(VecDeque::new())
    }
}

impl<K: Copy + Ord, V> Sorted<K, V> {
    /// The index of a key, or where it belongs. The newest is checked first, because it is the most frequent.
    #[inline]
    fn find(&self, key: K) -> Result<usize, usize> {
        let Some((newest, _)) = self.0.back() else { return Err(0) };
        match key.cmp(newest) {
            Ordering::Greater => Err(self.0.len()),
            Ordering::Equal => Ok(self.0.len() - 1),
            Ordering::Less => self.0.binary_search_by(|(known, _)| known.cmp(&key)),
        }
    }

    /// Inserts an entry, replacing the one with the same key if there is one.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) if at == self.0.len() => self.0.push_back((key, value)),
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.find(key).ok()?;
        let removed = if at + 1 == self.0.len() { self.0.pop_back() } else { self.0.remove(at) };
        removed.map(|(_, value)| value)
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.find(key).is_ok()
    }

    /// The entry with the smallest key.
    pub(crate) fn first(&self) -> Option<&(K, V)> {
        self.0.front()
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
    }
}

#[cfg(test)]
mod tests;
