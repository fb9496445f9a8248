//! The types of values.

use loom_expression::{Value, ValueRef};

/// The types that parameters, variables and outputs declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `string`, `securestring`.
    String,
    /// `int`, `integer`.
    Integer,
    /// `float`, which also accepts integers.
    Float,
    /// `bool`, `boolean`.
    Boolean,
    /// `array`.
    Array,
    /// `object`, `secureobject`.
    Object,
    /// Any type: an output without a type, or with `any`.
    Any,
}

impl ValueType {
    /// The type with this name, in any case.
    pub(crate) fn from_name(text: &str) -> Option<ValueType> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "string" | "securestring" => ValueType::String,
            "int" | "integer" => ValueType::Integer,
            "float" | "number" => ValueType::Float,
            "bool" | "boolean" => ValueType::Boolean,
            "array" => ValueType::Array,
            "object" | "secureobject" => ValueType::Object,
            "any" => ValueType::Any,
            _ => return None,
        })
    }

    /// Whether `value` has this type. An integer is accepted as a float; nothing else is converted.
    pub fn accepts(self, value: &Value) -> bool {
        matches!(
            (self, value.as_ref()),
            (ValueType::Any, _)
                | (ValueType::String, ValueRef::String(_))
                | (ValueType::Integer, ValueRef::Int(_))
                | (ValueType::Float, ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_))
                | (ValueType::Boolean, ValueRef::Bool(_))
                | (ValueType::Array, ValueRef::Array(_))
                | (ValueType::Object, ValueRef::Object(_))
        )
    }

    /// The name of the type, in the spelling that variables use.
    pub const fn as_str(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::Integer => "integer",
            ValueType::Float => "float",
            ValueType::Boolean => "boolean",
            ValueType::Array => "array",
            ValueType::Object => "object",
            ValueType::Any => "any",
        }
    }
}
