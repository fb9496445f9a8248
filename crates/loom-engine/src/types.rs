//! The declared types of parameters, variables and outputs.

use loom_definition::model::ValueType;
use loom_expression::Value;

/// The name of a type in definitions.
pub(crate) const fn name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::String => "String",
        ValueType::Integer => "Integer",
        ValueType::Float => "Float",
        ValueType::Boolean => "Boolean",
        ValueType::Array => "Array",
        ValueType::Object => "Object",
        ValueType::Any => "Any",
    }
}

/// The initial value of a variable that is declared without one. For an object it is null.
pub(crate) fn empty(kind: ValueType) -> Value {
    match kind {
        ValueType::String => Value::from(""),
        ValueType::Integer | ValueType::Float => Value::from(0i64),
        ValueType::Boolean => Value::from(false),
        ValueType::Array => Value::from(Vec::new()),
        ValueType::Object | ValueType::Any => Value::NULL,
    }
}

/// Checks that a value has a declared type. A Float may be an integer; nothing else converts.
///
/// # Errors
/// The name of the value's actual type.
pub(crate) fn check(kind: ValueType, value: &Value) -> Result<(), String> {
    if kind.accepts(value) { Ok(()) } else { Err(value.kind().to_string()) }
}
