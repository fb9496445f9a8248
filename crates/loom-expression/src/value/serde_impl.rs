//! Serde implementations of values, and conversion to and from `serde_json::Value`.
//!
//! Labels are not serialized, and secrets are written in plain text. Code that stores or shows values must check
//! [`Value::contains_secret`] first.

use std::{fmt, sync::Arc};

use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{self, SerializeMap, SerializeSeq},
};

use super::{Array, Object, RECURSION_MAX, Value, ValueRef};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.depth() > RECURSION_MAX {
            return Err(ser::Error::custom(format_args!(
                "the value nests deeper than {RECURSION_MAX} levels"
            )));
        }
        match self.as_ref() {
            ValueRef::Null => serializer.serialize_unit(),
            ValueRef::Bool(value) => serializer.serialize_bool(value),
            ValueRef::Int(value) => serializer.serialize_i64(value),
            ValueRef::Float(value) => serializer.serialize_f64(value),
            ValueRef::Decimal(value) => match value.to_u64() {
                Some(whole) if value.is_integer() => serializer.serialize_u64(whole),
                _ => serializer.serialize_f64(value.to_f64().unwrap_or(f64::NAN)),
            },
            ValueRef::String(value) => serializer.serialize_str(value),
            ValueRef::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            ValueRef::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                for (key, value) in object {
                    map.serialize_entry(&**key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Value::from(value),
            Err(_) => Value::from(Decimal::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::from(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, value)) = map.next_entry::<Box<str>, Value>()? {
            object.insert(key, value);
        }
        Ok(Value::from(object))
    }
}

impl Serialize for Array {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (&**key, value)))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let kind = value.kind();
        value.into_object().ok_or_else(|| de::Error::custom(format_args!("expected an object, found {kind}")))
    }
}

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let kind = value.kind();
        value.into_array().ok_or_else(|| de::Error::custom(format_args!("expected an array, found {kind}")))
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::NULL,
            serde_json::Value::Bool(value) => Self::from(value),
            serde_json::Value::Number(value) => {
                if let Some(value) = value.as_i64() {
                    Self::from(value)
                } else if let Some(value) = value.as_u64() {
                    Self::from(Decimal::from(value))
                } else {
                    Self::from(value.as_f64().unwrap_or(f64::NAN))
                }
            }
            serde_json::Value::String(value) => Self::from(value),
            serde_json::Value::Array(items) => items.into_iter().collect(),
            serde_json::Value::Object(members) => Self::from(
                members.into_iter().map(|(key, value)| (Arc::<str>::from(key), value)).collect::<Object>(),
            ),
        }
    }
}

/// A value that nests deeper than parsers and expressions can make it becomes a string with its JSON text.
impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        if value.depth() > RECURSION_MAX {
            return Self::from(value.to_json_text());
        }
        match value.as_ref() {
            ValueRef::Null => Self::Null,
            ValueRef::Bool(value) => Self::from(value),
            ValueRef::Int(value) => Self::from(value),
            ValueRef::Float(value) => Self::from(value),
            ValueRef::Decimal(decimal) => match decimal.to_u64() {
                Some(whole) if decimal.is_integer() => Self::from(whole),
                _ => Self::from(decimal.to_f64()),
            },
            ValueRef::String(value) => Self::from(value),
            ValueRef::Array(items) => items.iter().map(Self::from).collect(),
            ValueRef::Object(object) => {
                object.iter().map(|(key, value)| (key.to_string(), Self::from(value))).collect()
            }
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}
