//! `Array`: shared, ordered values. A change copies only when somebody else still holds the same array.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use super::{Labels, Value, deep};

/// Bytes of an array without its items.
const HEAD_BYTES: u64 = 64;

/// Values in order. Cloning shares the items; [`Array::push`] is O(1) while nobody else holds them.
#[derive(Clone)]
pub struct Array {
    /// Every item carries them, too.
    labels: Labels,
    items: Arc<Items>,
}

struct Items {
    values: Vec<Value>,
    /// See [`Value::bytes`].
    bytes: u64,
    /// 1 + the depth of the deepest item.
    depth: u32,
    /// The labels of all items and of what is inside them.
    within: Labels,
}

impl Clone for Items {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), ..*self }
    }
}

/// The items of deep arrays are dropped one by one: dropping each inside the one that holds it could exhaust the stack.
impl Drop for Items {
    fn drop(&mut self) {
        if self.depth as usize > deep::RECURSION_MAX {
            deep::drop_all(std::mem::take(&mut self.values));
        }
    }
}

impl Array {
    /// An empty array. All of them share one place in memory until they get items.
    pub fn new() -> Self {
        static EMPTY: LazyLock<Array> = LazyLock::new(|| {
            let items = Items { values: Vec::new(), bytes: HEAD_BYTES, depth: 1, within: Labels::NONE };
            Array { labels: Labels::NONE, items: Arc::new(items) }
        });
        EMPTY.clone()
    }

    /// Appends an item, which receives the array's labels. Copies the array first when it is shared.
    pub fn push(&mut self, value: Value) {
        let value = value.labelled(self.labels);
        let items = Arc::make_mut(&mut self.items);
        items.depth = items.depth.max(1 + value.depth() as u32);
        items.within |= value.labels_within();
        items.bytes = items.bytes.saturating_add(value.bytes());
        items.values.push(value);
    }

    /// The same array with these labels, too, on itself and on every item.
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

    /// The items as a `Vec`, each with its labels; without copying when nobody else holds the array.
    pub fn into_vec(self) -> Vec<Value> {
        match Arc::try_unwrap(self.items) {
            Ok(mut items) => std::mem::take(&mut items.values),
            Err(shared) => shared.values.clone(),
        }
    }

    /// Whether both are the very same array in memory, which makes them equal without a look inside.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.items, &other.items)
    }

    /// Takes the items out if nobody else holds the array.
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

    /// The labels of the array itself, which every item carries, too.
    #[inline]
    pub fn labels(&self) -> Labels {
        self.labels
    }

    /// The labels of the array, of its items, and of what is inside them.
    #[inline]
    pub fn labels_within(&self) -> Labels {
        self.labels | self.items.within
    }

    /// Whether the array or anything inside it is secret.
    #[inline]
    pub fn contains_secret(&self) -> bool {
        self.labels_within().contains(Labels::SECRET)
    }

    /// How deeply arrays and objects nest, this one included.
    #[inline]
    pub fn depth(&self) -> usize {
        self.items.depth as usize
    }
}

/// Equal items in the same order; labels do not count.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self.items.values == other.items.values
    }
}

/// Hides what is secret.
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
