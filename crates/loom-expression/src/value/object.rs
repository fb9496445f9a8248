//! `Object`: shared, named values in order of insertion, copied on write. Small objects are scanned, large ones have an
//! index.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, LazyLock, OnceLock},
};

use super::{
    Labels, Value, deep,
    equality::{fold_eq, fold_text},
};

/// The size of an object without its properties, and of a property without its name and value, in bytes.
const HEAD_BYTES: u64 = 136;
const MEMBER_BYTES: u64 = 32;

/// The largest number of properties for which scanning the names is faster than hashing.
const SCAN_MAX: usize = 12;

/// Named values in order of insertion. Clones share the properties; a change copies them only if they are shared.
#[derive(Clone)]
pub struct Object {
    /// The labels of the object itself, which every property has too.
    labels: Labels,
    members: Arc<Members>,
}

struct Members {
    entries: Entries,
    /// See [`Value::bytes`].
    bytes: u64,
    /// The depth of the deepest property, plus 1.
    depth: u32,
    /// The labels of all properties and of everything inside them.
    within: Labels,
    /// Built by the first look-up in a large object, dropped when a property is removed.
    index: OnceLock<Box<Index>>,
}

type Entry = (Arc<str>, Value);

/// One or two properties, as in the outputs of most actions, are stored inline.
#[derive(Clone)]
enum Entries {
    None,
    One([Entry; 1]),
    Two([Entry; 2]),
    Many(Vec<Entry>),
}

/// The positions of the properties of a large object by name.
struct Index {
    exact: HashMap<Arc<str>, u32>,
    /// The position of the first name among those that are equal ignoring case. Built by the first miss of `exact`.
    folded: OnceLock<HashMap<Box<str>, u32>>,
}

impl Entries {
    fn with_capacity(capacity: usize) -> Self {
        if capacity <= 2 { Self::None } else { Self::Many(Vec::with_capacity(capacity)) }
    }

    fn push(&mut self, entry: Entry) {
        if let Self::Many(entries) = self {
            return entries.push(entry);
        }
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One([entry]),
            Self::One([first]) => Self::Two([first, entry]),
            Self::Two([first, second]) => Self::Many(vec![first, second, entry]),
            Self::Many(_) => return,
        };
    }

    fn into_vec(self) -> Vec<Entry> {
        match self {
            Self::None => Vec::new(),
            Self::One(entries) => entries.into(),
            Self::Two(entries) => entries.into(),
            Self::Many(entries) => entries,
        }
    }

    fn remove(&mut self, at: usize) -> Entry {
        let mut entries = std::mem::replace(self, Self::None).into_vec();
        let removed = entries.remove(at);
        *self = Self::Many(entries);
        removed
    }
}

impl Deref for Entries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        match self {
            Self::None => &[],
            Self::One(entries) => entries,
            Self::Two(entries) => entries,
            Self::Many(entries) => entries,
        }
    }
}

impl DerefMut for Entries {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Entry] {
        match self {
            Self::None => &mut [],
            Self::One(entries) => entries,
            Self::Two(entries) => entries,
            Self::Many(entries) => entries,
        }
    }
}

impl Clone for Members {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            bytes: self.bytes,
            depth: self.depth,
            within: self.within,
            index: OnceLock::new(),
        }
    }
}

/// Drops the properties of deep objects iteratively, because recursive drops could overflow the stack.
impl Drop for Members {
    fn drop(&mut self) {
        if self.depth as usize > deep::RECURSION_MAX {
            deep::drop_all(self.take_values());
        }
    }
}

/// The size of a property without its name and the heap data of its value, in bytes.
const ENTRY_BYTES: u64 = MEMBER_BYTES + Value::OWN_BYTES;

fn entry_bytes(key: &str, value: &Value) -> u64 {
    value.heap_bytes().saturating_add(ENTRY_BYTES + key.len() as u64)
}

impl Members {
    fn take_values(&mut self) -> Vec<Value> {
        let entries = std::mem::replace(&mut self.entries, Entries::None).into_vec();
        entries.into_iter().map(|(_, value)| value).collect()
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Entries::with_capacity(capacity),
            bytes: HEAD_BYTES,
            depth: 1,
            within: Labels::NONE,
            index: OnceLock::new(),
        }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let exact = self.entries.iter().zip(0..).map(|((key, _), at)| (Arc::clone(key), at)).collect();
            Box::new(Index { exact, folded: OnceLock::new() })
        })
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.entries.len() <= SCAN_MAX {
            return self.entries.iter().position(|(key, _)| &**key == name);
        }
        self.index().exact.get(name).map(|&at| at as usize)
    }

    fn position_ignore_case(&self, name: &str) -> Option<usize> {
        if let Some(at) = self.position(name) {
            return Some(at);
        }
        if self.entries.len() <= SCAN_MAX {
            return self.entries.iter().position(|(key, _)| fold_eq(key, name));
        }
        let index = self.index().folded.get_or_init(|| {
            let mut index = HashMap::with_capacity(self.entries.len());
            for ((key, _), at) in self.entries.iter().zip(0..) {
                index.entry(fold_text(key).into_boxed_str()).or_insert(at);
            }
            index
        });
        index.get(fold_text(name).as_str()).map(|&at| at as usize)
    }

    /// Recomputes the size, depth and labels.
    fn measure(&mut self) {
        let bytes = self.entries.iter().map(|(key, value)| entry_bytes(key, value));
        self.bytes = bytes.fold(HEAD_BYTES, u64::saturating_add);
        self.depth = 1 + self.entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0) as u32;
        self.within = self.entries.iter().map(|(_, value)| value.labels_within()).collect();
    }

    fn insert(&mut self, key: Arc<str>, value: Value) -> Option<Value> {
        let depth = 1 + value.depth() as u32;
        let within = value.labels_within();
        if let Some(at) = self.position(&key) {
            let bytes = value.bytes();
            let before = std::mem::replace(&mut self.entries[at].1, value);
            match self.bytes.checked_add(bytes) {
                Some(both) => self.bytes = both.saturating_sub(before.bytes()),
                None => self.measure(),
            }
            // The stored depth and labels may have come from the replaced value.
            if !before.labels_within().is_empty() || 1 + before.depth() as u32 > depth {
                self.measure();
            }
            self.depth = self.depth.max(depth);
            self.within |= within;
            return Some(before);
        }
        self.depth = self.depth.max(depth);
        self.within |= within;
        self.bytes = self.bytes.saturating_add(entry_bytes(&key, &value));
        let at = self.entries.len() as u32;
        if let Some(index) = self.index.get_mut() {
            index.exact.insert(Arc::clone(&key), at);
            if let Some(folded) = index.folded.get_mut() {
                folded.entry(fold_text(&key).into_boxed_str()).or_insert(at);
            }
        }
        self.entries.push((key, value));
        None
    }
}

impl Object {
    /// An empty object.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty object that shares its memory with others, for JSON text with many empty objects.
    pub(super) fn empty() -> Self {
        static EMPTY: LazyLock<Object> = LazyLock::new(Object::new);
        EMPTY.clone()
    }

    fn unlabelled(members: Members) -> Self {
        Self { labels: Labels::NONE, members: Arc::new(members) }
    }

    /// An empty object with capacity for `capacity` properties.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::unlabelled(Members::with_capacity(capacity))
    }

    /// An object with one property.
    pub fn single(name: Arc<str>, value: Value) -> Self {
        let measured = value.measures();
        let own = HEAD_BYTES + ENTRY_BYTES + name.len() as u64;
        Self::unlabelled(Members {
            bytes: own.saturating_add(measured.heap_bytes),
            depth: 1 + measured.depth,
            within: measured.within,
            entries: Entries::One([(name, value)]),
            index: OnceLock::new(),
        })
    }

    /// An object with two properties. If both have the same name, the object has only the second.
    pub fn pair(first: (Arc<str>, Value), second: (Arc<str>, Value)) -> Self {
        if first.0 == second.0 {
            return Self::single(second.0, second.1);
        }
        let (one, two) = (first.1.measures(), second.1.measures());
        // No text is so long that these sums overflow.
        let own = HEAD_BYTES + 2 * ENTRY_BYTES + (first.0.len() + second.0.len()) as u64;
        Self::unlabelled(Members {
            bytes: own.saturating_add(one.heap_bytes).saturating_add(two.heap_bytes),
            depth: 1 + one.depth.max(two.depth),
            within: one.within | two.within,
            entries: Entries::Two([first, second]),
            index: OnceLock::new(),
        })
    }

    /// The number of properties.
    #[inline]
    pub fn len(&self) -> usize {
        self.members.entries.len()
    }

    /// Whether the object has no properties.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The property with exactly this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.position(name).map(|at| &self.members.entries[at].1)
    }

    /// The property with exactly this name, or else the first one whose name differs only in case.
    #[inline]
    pub fn get_ignore_case(&self, name: &str) -> Option<&Value> {
        self.members.position_ignore_case(name).map(|at| &self.members.entries[at].1)
    }

    /// The name of the property that [`Object::get_ignore_case`] returns, as written in the object.
    pub fn name_ignore_case(&self, name: &str) -> Option<&Arc<str>> {
        self.members.position_ignore_case(name).map(|at| &self.members.entries[at].0)
    }

    /// Whether there is a property with exactly this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.members.position(name).is_some()
    }

    /// Sets a property and returns its previous value. An existing property keeps its position; a new one is added at the
    /// end. The value receives the object's labels.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        let value = value.into().labelled(self.labels);
        Arc::make_mut(&mut self.members).insert(name.into(), value)
    }

    /// Removes the property with exactly this name and preserves the order of the others. O(n).
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.members.position(name)?;
        let members = Arc::make_mut(&mut self.members);
        members.index.take();
        let (_, value) = members.entries.remove(at);
        members.measure();
        Some(value)
    }

    /// Iterates over the properties in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.members.entries.iter())
    }

    /// Iterates over the names in order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.entries.iter().map(|(key, _)| key)
    }

    /// Iterates over the values in order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.members.entries.iter().map(|(_, value)| value)
    }

    /// Whether both objects share their properties in memory, and are therefore equal.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.members, &other.members)
    }

    /// Takes the values of the properties if the object is not shared.
    pub(super) fn take_unshared(&mut self) -> Vec<Value> {
        Arc::get_mut(&mut self.members).map(Members::take_values).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.members.bytes
    }

    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.members).addr()
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.members) > 1
    }

    /// Adds labels to the object and every property.
    #[must_use]
    pub fn labelled(mut self, labels: Labels) -> Self {
        if !self.labels.contains(labels) {
            self.add_labels(labels.if_enabled());
        }
        self
    }

    #[cold]
    pub(super) fn add_labels(&mut self, added: Labels) {
        self.labels |= added;
        if self.values().any(|member| !member.labels().contains(added)) {
            let members = Arc::make_mut(&mut self.members);
            members.within |= added;
            for (_, member) in members.entries.iter_mut() {
                member.add_labels(added);
            }
        }
    }

    /// The labels of the object itself, which every property has too.
    #[inline]
    pub fn labels(&self) -> Labels {
        self.labels
    }

    /// The labels of the object, of its properties, and of everything inside them.
    #[inline]
    pub fn labels_within(&self) -> Labels {
        self.labels | self.members.within
    }

    /// Whether the object or anything inside it is secret.
    #[inline]
    pub fn contains_secret(&self) -> bool {
        self.labels_within().contains(Labels::SECRET)
    }

    /// How deeply arrays and objects nest, including this object.
    #[inline]
    pub fn depth(&self) -> usize {
        self.members.depth as usize
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

/// Redacts secrets.
impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.labels.contains(Labels::SECRET) {
            return f.write_str("<secret>");
        }
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Compares the properties in order. Labels are ignored.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || *self.members.entries == *other.members.entries
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let members = members.into_iter();
        let mut made = Members::with_capacity(members.size_hint().0);
        for (key, value) in members {
            made.insert(key.into(), value.into());
        }
        Self::unlabelled(made)
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, members: I) {
        let inner = Arc::make_mut(&mut self.members);
        for (key, value) in members {
            inner.insert(key.into(), value.into().labelled(self.labels));
        }
    }
}

/// An iterator over the properties of an [`Object`] in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, (Arc<str>, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Arc<str>, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Object {
    type Item = (&'a Arc<str>, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
