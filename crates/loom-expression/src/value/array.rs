//! `Array`: shared, ordered values. A change copies only when somebody else still holds the same array.

use std::{ops::Deref, sync::Arc};

use super::Value;

/// Values in order. Cloning shares the items; [`Array::push`] is O(1) while nobody else holds them.
#[derive(Clone, Debug)]
pub struct Array(Arc<Items>);

#[derive(Clone, Debug)]
struct Items {
    values: Vec<Value>,
    /// 1 + the depth of the deepest item.
    depth: u32,
    /// Whether any item is secret or holds a secret.
    secret_inside: bool,
}

impl Array {
    /// An empty array.
    pub fn new() -> Self {
        Self::from(Vec::new())
    }

    /// Appends an item, copying the array first when it is shared.
    pub fn push(&mut self, value: Value) {
        let items = Arc::make_mut(&mut self.0);
        items.depth = items.depth.max(1 + value.depth() as u32);
        items.secret_inside |= value.contains_secret();
        items.values.push(value);
    }

    /// The items as a `Vec`; without copying when nobody else holds the array.
    pub fn into_vec(self) -> Vec<Value> {
        match Arc::try_unwrap(self.0) {
            Ok(items) => items.values,
            Err(shared) => shared.values.clone(),
        }
    }

    /// Whether both are the very same array in memory, which makes them equal without a look inside.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether any item is secret or holds a secret.
    #[inline]
    pub fn contains_secret(&self) -> bool {
        self.0.secret_inside
    }

    /// How deeply arrays and objects nest, this one included.
    #[inline]
    pub fn depth(&self) -> usize {
        self.0.depth as usize
    }
}

/// Equal items in the same order; labels do not count.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self.0.values == other.0.values
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
        &self.0.values
    }
}

impl From<Vec<Value>> for Array {
    fn from(values: Vec<Value>) -> Self {
        let depth = 1 + values.iter().map(Value::depth).max().unwrap_or(0) as u32;
        let secret_inside = values.iter().any(Value::contains_secret);
        Self(Arc::new(Items { values, depth, secret_inside }))
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
        self.0.values.iter()
    }
}
