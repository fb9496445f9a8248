//! `Value`: the JSON-like values that expressions compute with. They are immutable, shared and cheap to clone.
//!
//! All data in Loom is a `Value`: outputs, items, variables, bodies. This module does not depend on expressions. Strings,
//! arrays and objects are behind an `Arc`, so a clone only increments a reference count. Every value has [`Labels`].
//! Labels are deep: everything inside a labelled array or object has its labels too, so they cannot be lost when a
//! container is read.

mod array;
mod deep;
mod equality;
mod exact;
mod json;
mod labels;
mod object;
mod serde_impl;
mod write;

use std::{fmt, sync::Arc};

pub use rust_decimal::Decimal;

use self::exact::{Digits, HalfText};
use self::object::Iter;
pub use self::{
    array::Array,
    json::{JSON_DEPTH_MAX, JSON_VALUES_MAX, JsonError},
    labels::Labels,
    object::Object,
};
pub(crate) use self::{
    deep::RECURSION_MAX,
    equality::{compare_numbers, fold_char, fold_eq, fold_text},
    exact::TextBuilder,
    write::{FLOAT_EXPONENT_MIN, float_text},
};

/// A value: null, a boolean, a 64-bit integer, a float, a decimal, a string, an array or an object.
///
/// Cloning never copies text, items or properties. [`PartialEq`] compares the structure (`1` differs from `1.0`);
/// [`Value::wdl_equals`] compares like the language's `equals`. `Debug` redacts secrets.
#[derive(Clone)]
pub struct Value(Repr);

/// The labels are inside each variant, where they take no additional space, so that a `Value` has 24 bytes.
#[derive(Clone)]
enum Repr {
    Null {
        labels: Labels,
    },
    Bool {
        labels: Labels,
        value: bool,
    },
    Int {
        labels: Labels,
        value: i64,
    },
    Float {
        labels: Labels,
        value: f64,
    },
    /// An integer beyond the range of decimals, which is presented as a float.
    Digits {
        labels: Labels,
        value: Arc<Digits>,
    },
    Decimal {
        labels: Labels,
        value: Arc<Decimal>,
    },
    String {
        labels: Labels,
        value: Arc<str>,
    },
    /// A string with unpaired surrogates, which is presented as text with U+FFFD in their place.
    Halves {
        labels: Labels,
        value: Arc<HalfText>,
    },
    Array(Array),
    Object(Object),
}

/// The size of the two reference counts of shared data, in bytes.
const SHARED_BYTES: u64 = 16;

/// See [`Value::measures`].
struct Measures {
    heap_bytes: u64,
    depth: u32,
    within: Labels,
}

/// A borrowed view of a [`Value`] for matching.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double. Always finite if it was parsed from JSON.
    Float(f64),
    /// An exact decimal of up to 28 digits.
    Decimal(&'a Decimal),
    /// A string.
    String(&'a str),
    /// An array of values.
    Array(&'a Array),
    /// An object of named values, in order of insertion.
    Object(&'a Object),
}

/// The type of a value. `Display` writes the names that messages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A 64-bit integer.
    Integer,
    /// A double.
    Float,
    /// An exact decimal.
    Decimal,
    /// A string.
    String,
    /// An array of values.
    Array,
    /// An object of named values.
    Object,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Boolean => "Boolean",
            Self::Integer => "Integer",
            Self::Float => "Float",
            Self::Decimal => "Decimal",
            Self::String => "String",
            Self::Array => "Array",
            Self::Object => "Object",
        })
    }
}

impl Value {
    /// The null value, without labels.
    pub const NULL: Self = Self(Repr::Null { labels: Labels::NONE });

    /// Borrows the value for matching.
    #[inline]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match &self.0 {
            Repr::Null { .. } => ValueRef::Null,
            Repr::Bool { value, .. } => ValueRef::Bool(*value),
            Repr::Int { value, .. } => ValueRef::Int(*value),
            Repr::Float { value, .. } => ValueRef::Float(*value),
            Repr::Digits { value, .. } => ValueRef::Float(value.near),
            Repr::Halves { value, .. } => ValueRef::String(&value.text),
            Repr::Decimal { value, .. } => ValueRef::Decimal(value),
            Repr::String { value, .. } => ValueRef::String(value),
            Repr::Array(value) => ValueRef::Array(value),
            Repr::Object(value) => ValueRef::Object(value),
        }
    }

    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Repr::Null { .. } => Kind::Null,
            Repr::Bool { .. } => Kind::Boolean,
            Repr::Int { .. } => Kind::Integer,
            Repr::Float { .. } | Repr::Digits { .. } => Kind::Float,
            Repr::Decimal { .. } => Kind::Decimal,
            Repr::String { .. } | Repr::Halves { .. } => Kind::String,
            Repr::Array(_) => Kind::Array,
            Repr::Object(_) => Kind::Object,
        }
    }

    /// Whether this is `null`.
    #[inline]
    pub fn is_null(&self) -> bool {
        matches!(self.0, Repr::Null { .. })
    }

    /// The boolean, if the value is one.
    #[inline]
    pub fn as_bool(&self) -> Option<bool> {
        match self.0 {
            Repr::Bool { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The integer, if the value is one. Floats are not converted, not even whole ones.
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Repr::Int { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The number as a double, if the value is an integer, a float or a decimal. May round.
    pub fn as_f64(&self) -> Option<f64> {
        match &self.0 {
            Repr::Int { value, .. } => Some(*value as f64),
            Repr::Float { value, .. } => Some(*value),
            Repr::Digits { value, .. } => Some(value.near),
            Repr::Decimal { value, .. } => write::decimal_to_f64(value),
            _ => None,
        }
    }

    /// The decimal, if the value is one.
    pub fn as_decimal(&self) -> Option<&Decimal> {
        match &self.0 {
            Repr::Decimal { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The text, if the value is a string.
    #[inline]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::String { value, .. } => Some(value),
            Repr::Halves { value, .. } => Some(&value.text),
            _ => None,
        }
    }

    /// The text and the labels, if the value is a string.
    #[inline]
    pub(crate) fn as_labelled_str(&self) -> Option<(&str, Labels)> {
        match &self.0 {
            Repr::String { value, labels } => Some((value, *labels)),
            Repr::Halves { value, labels } => Some((&value.text, *labels)),
            _ => None,
        }
    }

    /// The shared text, if the value is a string.
    pub fn as_arc_str(&self) -> Option<&Arc<str>> {
        match &self.0 {
            Repr::String { value, .. } => Some(value),
            Repr::Halves { value, .. } => Some(&value.text),
            _ => None,
        }
    }

    /// The array, if the value is one.
    #[inline]
    pub fn as_array(&self) -> Option<&Array> {
        match &self.0 {
            Repr::Array(value) => Some(value),
            _ => None,
        }
    }

    /// The object, if the value is one.
    #[inline]
    pub fn as_object(&self) -> Option<&Object> {
        match &self.0 {
            Repr::Object(value) => Some(value),
            _ => None,
        }
    }

    /// Converts the value into an array with its labels, without changing a reference count. `None` if it is not an array.
    pub fn into_array(self) -> Option<Array> {
        match self.0 {
            Repr::Array(value) => Some(value),
            _ => None,
        }
    }

    /// Converts the value into an object with its labels, without changing a reference count. `None` if it is not an
    /// object.
    pub fn into_object(self) -> Option<Object> {
        match self.0 {
            Repr::Object(value) => Some(value),
            _ => None,
        }
    }

    /// The property of an object with this exact name, or else the first one that matches ignoring case. `None` for other
    /// types.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get_ignore_case(name)
    }

    /// The item of an array at an index, starting at 0. `None` beyond the end and for other types.
    #[inline]
    pub fn index(&self, index: usize) -> Option<&Value> {
        self.as_array()?.get(index)
    }

    /// The labels of the value itself. Its properties or items have them too, and may have more.
    #[inline]
    pub fn labels(&self) -> Labels {
        match &self.0 {
            Repr::Null { labels }
            | Repr::Bool { labels, .. }
            | Repr::Int { labels, .. }
            | Repr::Float { labels, .. }
            | Repr::Decimal { labels, .. }
            | Repr::Digits { labels, .. }
            | Repr::Halves { labels, .. }
            | Repr::String { labels, .. } => *labels,
            Repr::Array(value) => value.labels(),
            Repr::Object(value) => value.labels(),
        }
    }

    /// The labels of the value and of everything inside it. O(1), because containers store them.
    #[inline]
    pub fn labels_within(&self) -> Labels {
        match &self.0 {
            Repr::Array(value) => value.labels_within(),
            Repr::Object(value) => value.labels_within(),
            _ => self.labels(),
        }
    }

    /// Adds labels to the value and everything inside it. Labels are never removed.
    ///
    /// A container that does not have all of the labels is traversed, and copied if it is shared.
    #[inline]
    #[must_use]
    pub fn labelled(mut self, labels: Labels) -> Self {
        if !labels.is_empty() && !self.labels().contains(labels) {
            self.add_labels(labels);
        }
        self
    }

    #[cold]
    fn add_labels(&mut self, added: Labels) {
        let added = added.if_enabled();
        if self.depth() > RECURSION_MAX {
            // Deeper than any parser or expression makes a value. Its JSON text can be labelled without recursion.
            *self = Self::from(self.to_json_text());
        }
        match &mut self.0 {
            Repr::Null { labels }
            | Repr::Bool { labels, .. }
            | Repr::Int { labels, .. }
            | Repr::Float { labels, .. }
            | Repr::Decimal { labels, .. }
            | Repr::Digits { labels, .. }
            | Repr::Halves { labels, .. }
            | Repr::String { labels, .. } => *labels |= added,
            Repr::Array(value) => value.add_labels(added),
            Repr::Object(value) => value.add_labels(added),
        }
    }

    /// Whether the value itself, and therefore everything inside it, is secret.
    #[inline]
    pub fn is_secret(&self) -> bool {
        self.labels().contains(Labels::SECRET)
    }

    /// Whether the value or anything inside it is secret. O(1), because containers store it.
    #[inline]
    pub fn contains_secret(&self) -> bool {
        self.labels_within().contains(Labels::SECRET)
    }

    /// Whether the value or anything inside it is untrusted. O(1), because containers store it.
    #[inline]
    pub fn contains_untrusted(&self) -> bool {
        self.labels_within().contains(Labels::UNTRUSTED)
    }

    /// Labels the value secret.
    #[must_use]
    pub fn into_secret(self) -> Self {
        self.labelled(Labels::SECRET)
    }

    /// Labels the value secret if `secret` is true. Otherwise returns it unchanged.
    #[inline]
    #[must_use]
    pub fn secret_if(self, secret: bool) -> Self {
        if secret { self.into_secret() } else { self }
    }

    /// How deeply arrays and objects nest: 0 for scalars, 1 for `[]`. O(1), because containers store it.
    #[inline]
    pub fn depth(&self) -> usize {
        match &self.0 {
            Repr::Array(value) => value.depth(),
            Repr::Object(value) => value.depth(),
            _ => 0,
        }
    }

    /// Whether this is null, a boolean, an integer or a float, without labels: nothing has to be withheld, and its size is
    /// constant. One comparison of the representation, for code that runs for every value.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        match self.0 {
            Repr::Null { labels }
            | Repr::Bool { labels, .. }
            | Repr::Int { labels, .. }
            | Repr::Float { labels, .. } => labels.is_empty(),
            _ => false,
        }
    }

    /// The approximate size of the value in memory, in bytes. Shared parts are counted each time they occur, so this is
    /// also the approximate size of a deep copy or of the JSON text. O(1), because containers store it. Saturates at
    /// [`u64::MAX`].
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.heap_bytes().saturating_add(Self::OWN_BYTES)
    }

    /// The size in memory of a value without heap data, in bytes.
    pub const OWN_BYTES: u64 = size_of::<Value>() as u64;

    /// [`Value::bytes`] without [`Value::OWN_BYTES`]: 0 for null, booleans, integers and floats.
    #[inline]
    pub fn heap_bytes(&self) -> u64 {
        match &self.0 {
            Repr::Null { .. } | Repr::Bool { .. } | Repr::Int { .. } | Repr::Float { .. } => 0,
            _ => self.shared_bytes(),
        }
    }

    /// What a container stores about its parts: [`Value::heap_bytes`], [`Value::depth`] and [`Value::labels_within`], found in
    /// one look at the representation.
    #[inline]
    fn measures(&self) -> Measures {
        match &self.0 {
            Repr::Null { labels }
            | Repr::Bool { labels, .. }
            | Repr::Int { labels, .. }
            | Repr::Float { labels, .. } => Measures { heap_bytes: 0, depth: 0, within: *labels },
            Repr::String { labels, value } => {
                Measures { heap_bytes: SHARED_BYTES + value.len() as u64, depth: 0, within: *labels }
            }
            _ => Measures {
                heap_bytes: self.shared_bytes(),
                depth: self.depth() as u32,
                within: self.labels_within(),
            },
        }
    }

    /// Not inlined, so that callers only contain the case of values without heap data.
    #[inline(never)]
    fn shared_bytes(&self) -> u64 {
        match &self.0 {
            Repr::Null { .. } | Repr::Bool { .. } | Repr::Int { .. } | Repr::Float { .. } => 0,
            Repr::Decimal { .. } => SHARED_BYTES + size_of::<Decimal>() as u64,
            Repr::String { value, .. } => SHARED_BYTES + value.len() as u64,
            Repr::Digits { value, .. } => SHARED_BYTES + size_of::<Digits>() as u64 + value.text.len() as u64,
            Repr::Halves { value, .. } => {
                let halves = size_of_val(&*value.halves) as u64;
                SHARED_BYTES + size_of::<HalfText>() as u64 + value.text.len() as u64 + halves
            }
            Repr::Array(value) => value.bytes(),
            Repr::Object(value) => value.bytes(),
        }
    }

    /// The address of the text, items or properties in memory, which clones share. `None` for a value without heap data.
    ///
    /// While two values exist, the same address means the same content, although their own labels may differ.
    pub fn address(&self) -> Option<usize> {
        match &self.0 {
            Repr::String { value, .. } => Some(Arc::as_ptr(value).addr()),
            Repr::Array(value) => Some(value.address()),
            Repr::Object(value) => Some(value.address()),
            Repr::Null { .. }
            | Repr::Bool { .. }
            | Repr::Int { .. }
            | Repr::Float { .. }
            | Repr::Digits { .. }
            | Repr::Halves { .. }
            | Repr::Decimal { .. } => None,
        }
    }

    /// Whether another value currently has the same [`address`](Value::address).
    pub fn is_shared(&self) -> bool {
        match &self.0 {
            Repr::String { value, .. } => Arc::strong_count(value) > 1,
            Repr::Array(value) => value.is_shared(),
            Repr::Object(value) => value.is_shared(),
            Repr::Null { .. }
            | Repr::Bool { .. }
            | Repr::Int { .. }
            | Repr::Float { .. }
            | Repr::Digits { .. }
            | Repr::Halves { .. }
            | Repr::Decimal { .. } => false,
        }
    }

    /// Whether two values are equal in the sense of the language's `equals`: types must match, numbers are compared by
    /// value, and the order of properties does not matter. (`equals(true, 1)` is a special case of the function itself.)
    pub fn wdl_equals(&self, other: &Self) -> bool {
        if self.depth().min(other.depth()) > RECURSION_MAX {
            return deep::are_equal(self, other, deep::Comparison::Language);
        }
        equality::wdl_equals(self, other)
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::NULL
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret() {
            return f.write_str("<secret>");
        }
        if self.depth() > RECURSION_MAX {
            return write!(f, "<{} levels deep>", self.depth());
        }
        match self.as_ref() {
            ValueRef::Null => f.write_str("null"),
            ValueRef::Bool(value) => value.fmt(f),
            ValueRef::Int(value) => value.fmt(f),
            ValueRef::Float(value) => value.fmt(f),
            ValueRef::Decimal(value) => write!(f, "{value}m"),
            ValueRef::String(value) => value.fmt(f),
            ValueRef::Array(value) => f.debug_list().entries(value.iter()).finish(),
            ValueRef::Object(value) => f.debug_map().entries(value.iter()).finish(),
        }
    }
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(value) => f.debug_tuple("Bool").field(value).finish(),
            Self::Int(value) => f.debug_tuple("Int").field(value).finish(),
            Self::Float(value) => f.debug_tuple("Float").field(value).finish(),
            Self::Decimal(value) => f.debug_tuple("Decimal").field(value).finish(),
            Self::String(value) => f.debug_tuple("String").field(value).finish(),
            Self::Array(value) => f.debug_tuple("Array").field(&value.len()).finish(),
            Self::Object(value) => f.debug_tuple("Object").field(&value.len()).finish(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        if self.depth().min(other.depth()) > RECURSION_MAX {
            return deep::are_equal(self, other, deep::Comparison::Structure);
        }
        equality::same_structure(self, other)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(Repr::Bool { labels: Labels::NONE, value })
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self(Repr::Int { labels: Labels::NONE, value })
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(Repr::Float { labels: Labels::NONE, value })
    }
}

impl From<Decimal> for Value {
    fn from(value: Decimal) -> Self {
        Self(Repr::Decimal { labels: Labels::NONE, value: Arc::new(value) })
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::from(Arc::<str>::from(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::from(Arc::<str>::from(value))
    }
}

impl From<Arc<str>> for Value {
    fn from(value: Arc<str>) -> Self {
        Self(Repr::String { labels: Labels::NONE, value })
    }
}

impl From<Array> for Value {
    fn from(value: Array) -> Self {
        Self(Repr::Array(value))
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self(Repr::Object(value))
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::from(Array::from(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NULL, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(items.into_iter().map(Into::into).collect::<Vec<Value>>())
    }
}

#[cfg(test)]
mod tests;
