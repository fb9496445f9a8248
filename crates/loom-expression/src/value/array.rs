//! `Array`: a shared array of values, copied on write.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use super::{Labels, Value, deep};

/// The size of an array without its items, in bytes.
const HEAD_BYTES: u64 = 64;

/// An array of values. Clones share the items. [`Array::push`] is O(1) unless the items are shared.
#[derive(Clone)]
pub struct Array {
    /// The labels of the array itself, which every item has too.
    labels: Labels,
    items: Arc<Items>,
}

struct Items {
    values: Vec<Value>,
    /// See [`Value::bytes`].
    bytes: u64,
    /// The depth of the deepest item, plus 1.
    depth: u32,
    /// The labels of all items and of everything inside them.
    within: Labels,
}

impl Clone for Items {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), ..*self }
    }
}

/// Drops the items of deep arrays iteratively, because recursive drops could overflow the stack.
impl Drop for Items {
    fn drop(&mut self) {
        if self.depth as usize > deep::RECURSION_MAX {
            deep::drop_all(std::mem::take(&mut self.values));
        }
    }
}

impl Array {
    /// An empty array. Does not allocate: all empty arrays share their memory.
    pub fn new() -> Self {
        static EMPTY: LazyLock<Array> = LazyLock::new(|| {
            let items = Items { values: Vec::new(), bytes: HEAD_BYTES, depth: 1, within: Labels::NONE };
            Array { labels: Labels::NONE, items: Arc::new(items) }
        });
        EMPTY.clone()
    }

    /// Appends an item, which receives the array's labels. Copies the array first if it is shared.
    pub fn push(&mut self, value: Value) {
        let value = value.labelled(self.labels);
        let items = Arc::make_mut(&mut self.items);
        items.depth = items.depth.max(1 + value.depth() as u32);
        items.within |= value.labels_within();
        items.bytes = items.bytes.saturating_add(value.bytes());
        items.values.push(value);
    }

    /// Adds labels to the array and every item.
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
        if self.items.values.iter().any(|item| !item.labels().contains(added)) {
            let items = Arc::make_mut(&mut self.items);
            items.within |= added;
            for item in &mut items.values {
                item.add_labels(added);
            }
        }
    }

    /// Converts the array into a `Vec` of its items. Copies them only if the array is shared.
    pub fn into_vec(self) -> Vec<Value> {
        match Arc::try_unwrap(self.items) {
            Ok(mut items) => std::mem::take(&mut items.values),
            Err(shared) => shared.values.clone(),
        }
    }

    /// Whether both arrays share their items in memory, and are therefore equal.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.items, &other.items)
    }

    /// Takes the items if the array is not shared.
    pub(super) fn take_unshared(&mut self) -> Vec<Value> {
        Arc::get_mut(&mut self.items).map(|items| std::mem::take(&mut items.values)).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.items.bytes
    }

    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.items).addr()
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.items) > 1
    }

    /// The labels of the array itself, which every item has too.
    #[inline]
    pub fn labels(&self) -> Labels {
        self.labels
    }

    /// The labels of the array, of its items, and of everything inside them.
    #[inline]
    pub fn labels_within(&self) -> Labels {
        self.labels | self.items.within
    }

    /// Whether the array or anything inside it is secret.
    #[inline]
    pub fn contains_secret(&self) -> bool {
        self.labels_within().contains(Labels::SECRET)
    }

    /// How deeply arrays and objects nest, including this array.
    #[inline]
    pub fn depth(&self) -> usize {
        self.items.depth as usize
    }
}

/// Compares the items in order. Labels are ignored.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self.items.values == other.items.values
    }
}

/// Redacts secrets.
impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.labels.contains(Labels::SECRET) {
            return f.write_str("<secret>");
        }
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for Array {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Array {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items.values
    }
}

impl From<Vec<Value>> for Array {
    fn from(values: Vec<Value>) -> Self {
        if values.capacity() == 0 {
            return Self::new();
        }
        let depth = 1 + values.iter().map(Value::depth).max().unwrap_or(0) as u32;
        let within = values.iter().map(Value::labels_within).collect();
        let bytes = values.iter().fold(HEAD_BYTES, |bytes, value| bytes.saturating_add(value.bytes()));
        Self { labels: Labels::NONE, items: Arc::new(Items { values, bytes, depth, within }) }
    }
}

impl<T: Into<Value>> FromIterator<T> for Array {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(items.into_iter().map(Into::into).collect::<Vec<_>>())
    }
}

impl<'a> IntoIterator for &'a Array {
    type Item = &'a Value;
    type IntoIter = std::slice::Iter<'a, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.values.iter()
    }
}
