//! Validates a schema as a whole, before any value is validated against it.

use loom_expression::{Object, Value, ValueRef, percent};

use super::{place::Pointer, problem::Problem};

/// The maximum nesting of schemas, which also ends recursive references.
pub(super) const DEPTH_MAX: u32 = 200;

/// The types, in the order in which messages list them.
pub(super) const TYPES: [&str; 8] =
    ["string", "number", "integer", "boolean", "object", "array", "null", "any"];

/// Checks the whole schema.
pub(super) fn check(schema: &Value) -> Result<(), Problem> {
    Walk { root: schema, depth: 0 }.schema(schema, &Pointer::Root)
}

/// Resolves a reference: a JSON pointer within the schema, which may be percent-encoded.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Result<&'a Value, Problem> {
    let nowhere = || Problem::Invalid(format!("the reference '{reference}' does not exist in the schema"));
    let pointer =
        reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
    let pointer = pointer.ok_or_else(|| {
        Problem::Invalid(format!(
            "the reference '{reference}' must be a pointer within the schema, such as '#/definitions/name'; references \
             by 'id' or URL are not supported"
        ))
    })?;
    let pointer = percent::decode_strictly(pointer).ok_or_else(nowhere)?;
    let mut target = root;
    for part in pointer.split('/').skip(1) {
        let key = part.replace("~1", "/").replace("~0", "~");
        let inner = match target.as_ref() {
            ValueRef::Object(object) => object.get(&key),
            ValueRef::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        target = inner.ok_or_else(nowhere)?;
    }
    Ok(target)
}

/// A count, which may be written with a zero fraction, such as `2.0`.
pub(super) fn count(value: &Value) -> Option<usize> {
    let whole = match value.as_ref() {
        ValueRef::Int(count) => Some(count),
        ValueRef::Float(count) if count.fract() == 0.0 && (0.0..1e15).contains(&count) => Some(count as i64),
        _ => None,
    };
    whole.and_then(|count| usize::try_from(count).ok())
}

struct Walk<'a> {
    root: &'a Value,
    depth: u32,
}

type Checked = Result<(), Problem>;

fn invalid(what: &str, id: &Pointer<'_>) -> Problem {
    Problem::Invalid(format!("the {what} at {id} is not valid in a schema"))
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Value, id: &Pointer<'_>) -> Checked {
        let rules = match schema.as_ref() {
            ValueRef::Object(rules) => rules,
            ValueRef::Null | ValueRef::Bool(true) => return Ok(()),
            _ => return Err(Problem::Invalid(format!("the schema at {id} must be an object"))),
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Problem::Invalid(format!("the schema at {id} is nested too deeply")));
        }
        for (keyword, value) in rules {
            let here = Pointer::Key(id, keyword);
            match &**keyword {
                "pattern" | "patternProperties" => {
                    return Err(Problem::Unsupported(format!(
                        "the schema at {id} uses 'pattern' or 'patternProperties', which are not supported"
                    )));
                }
                "$ref" => {
                    let reference = value.as_str().ok_or_else(|| invalid(keyword, id))?;
                    resolve(self.root, reference)?;
                }
                "type" => check_types(value, id)?,
                "properties" | "definitions" => self.schemas_by_name(value, &here)?,
                "dependencies" => self.dependencies(value, &here)?,
                "allOf" | "anyOf" | "oneOf" => self.schemas(value, &here)?,
                "items" if value.as_array().is_some() => self.schemas(value, &here)?,
                "additionalProperties" | "additionalItems" if value.as_bool().is_some() => {}
                "items" | "not" | "additionalProperties" | "additionalItems" => self.schema(value, &here)?,
                other => check_plain(other, value, rules, id)?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn schemas(&mut self, value: &Value, id: &Pointer<'_>) -> Checked {
        let schemas = value.as_array().ok_or_else(|| invalid("list of schemas", id))?;
        schemas
            .iter()
            .enumerate()
            .try_for_each(|(index, schema)| self.schema(schema, &Pointer::Index(id, index)))
    }

    fn schemas_by_name(&mut self, value: &Value, id: &Pointer<'_>) -> Checked {
        let schemas = value.as_object().ok_or_else(|| invalid("object of schemas", id))?;
        schemas.iter().try_for_each(|(name, schema)| self.schema(schema, &Pointer::Key(id, name)))
    }

    fn dependencies(&mut self, value: &Value, id: &Pointer<'_>) -> Checked {
        let wanted = value.as_object().ok_or_else(|| invalid("dependencies", id))?;
        wanted.iter().try_for_each(|(name, wanted)| match wanted.as_array() {
            Some(names) if names.iter().all(|name| name.as_str().is_some()) => Ok(()),
            Some(_) => Err(invalid("list of names", id)),
            None => self.schema(wanted, &Pointer::Key(id, name)),
        })
    }
}

fn check_types(value: &Value, id: &Pointer<'_>) -> Checked {
    let known = |value: &Value| match value.as_str() {
        Some(name) if TYPES.contains(&name) => Ok(()),
        Some(name) => Err(Problem::Invalid(format!("the type '{name}' at {id} is not a JSON Schema type"))),
        None => Err(Problem::Invalid(format!("the type at {id} must be a name or a list of names"))),
    };
    match value.as_array() {
        Some(names) => names.iter().try_for_each(known),
        None => known(value),
    }
}

/// Checks keywords that contain no schemas. Unknown keywords are ignored.
fn check_plain(keyword: &str, value: &Value, rules: &Object, id: &Pointer<'_>) -> Checked {
    let fits = match keyword {
        "enum" => value.as_array().is_some(),
        "required" => value.as_array().is_some() || value.as_bool().is_some(),
        "uniqueItems" => value.as_bool().is_some(),
        "minimum" | "maximum" => value.as_f64().is_some(),
        "multipleOf" => value.as_f64().is_some_and(|step| step > 0.0),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            count(value).is_some()
        }
        _ => true,
    };
    // Designers leave properties with the value null.
    if fits || value.is_null() && rules.len() > 1 { Ok(()) } else { Err(invalid(keyword, id)) }
}
