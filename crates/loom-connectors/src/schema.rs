//! Schemas of values: what a description says about a type, and whether a value has it.
//!
//! A value is checked as the services of Power Automate check it, and a little further: types, required properties, enums,
//! bounds. Text that is a number is accepted for a number, and converted. `pattern`, `not` and formats are left to the
//! service.

mod json;
mod words;

use std::{fmt, sync::Arc};

use loom_expression::{Object, Value, nearest};

pub(crate) use self::{
    json::of_arguments,
    words::{body_fields, field, words},
};
use crate::{
    Error, Problem, Step,
    bounds::Budget,
    document::{Document, Node, is_true},
    encoding,
    error::kind_of,
};

/// The types that a schema allows; empty when it names none.
fn types(node: &Node) -> Vec<&str> {
    match node.value.get("type") {
        Some(kind) if kind.as_str().is_some() => kind.as_str().into_iter().collect(),
        Some(kinds) => kinds.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    }
}

fn is_nullable(node: &Node) -> bool {
    node.flag("nullable") || node.flag("x-nullable") || types(node).contains(&"null")
}

/// Whether the description hides a parameter or a property, because it has a constant value.
pub(crate) fn is_internal(node: &Node) -> bool {
    node.text("x-ms-visibility").is_some_and(|visibility| visibility.eq_ignore_ascii_case("internal"))
}

/// Whether a value is bytes: a file, or a string of the format `binary`.
pub(crate) fn is_binary(document: &Document, node: &Node) -> bool {
    let Ok(node) = document.resolve(node.clone()) else { return false };
    types(&node).contains(&"file")
        || (types(&node).contains(&"string") && node.text("format") == Some("binary"))
        || (node.value.get("type").is_none() && node.text("format") == Some("binary"))
}

/// The default of a schema.
pub(crate) fn default_of(document: &Document, node: &Node) -> Option<Value> {
    let node = document.resolve(node.clone()).ok()?;
    node.value
        .get("default")
        .or_else(|| node.value.get("const"))
        .filter(|default| !default.is_null())
        .cloned()
}

/// The schema itself and the schemas of its `allOf`, with their references followed.
fn parts(document: &Document, node: &Node, budget: &mut Budget) -> Result<Vec<Node>, Error> {
    budget.enter()?;
    let node = document.resolve(node.clone())?;
    let mut all = Vec::new();
    for part in node.items("allOf") {
        all.extend(parts(document, &part, budget)?);
    }
    all.insert(0, node);
    budget.leave();
    Ok(all)
}

/// The properties of an object's schema, with those of its `allOf`.
pub(crate) fn properties(
    document: &Document,
    node: &Node,
    budget: &mut Budget,
) -> Result<Vec<(String, Node)>, Error> {
    let mut all: Vec<(String, Node)> = Vec::new();
    for part in parts(document, node, budget)? {
        for (name, property) in part.value.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            if all.iter().any(|(known, _)| *known == **name) {
                continue;
            }
            let property = part.beside(property);
            // What is next to a reference is about this use of the schema.
            let resolved = document.resolve(property.clone())?;
            let resolved =
                match (property.value.get("$ref"), property.value.as_object(), resolved.value.as_object()) {
                    (Some(_), Some(own), Some(target)) if own.len() > 1 => {
                        let mut both = target.clone();
                        both.extend(
                            own.iter()
                                .filter(|(name, _)| ***name != *"$ref")
                                .map(|(name, value)| (Arc::clone(name), value.clone())),
                        );
                        resolved.beside(&both.into())
                    }
                    _ => resolved,
                };
            all.push((name.to_string(), resolved));
        }
    }
    Ok(all)
}

/// The names of the properties that an object must have in a request.
pub(crate) fn required_names(
    document: &Document,
    node: &Node,
    budget: &mut Budget,
) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for part in parts(document, node, budget)? {
        for name in part.texts("required") {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Whether a default is an expression, which the designer of a flow would have copied into the definition.
pub(crate) fn is_expression(default: &Value) -> bool {
    default.as_str().is_some_and(|text| {
        text.contains("@{") || (text.starts_with('@') && !text.starts_with("@@") && text.contains('('))
    })
}

/// Whether a property of a body takes the address for notifications.
pub(crate) fn has_notification(document: &Document, node: &Node) -> Result<bool, Error> {
    fn within(document: &Document, node: &Node, depth: usize, budget: &mut Budget) -> Result<bool, Error> {
        for (_, property) in properties(document, node, budget)? {
            if property.flag("x-ms-notification-url")
                || (depth < NOTIFICATION_DEPTH_MAX && within(document, &property, depth + 1, budget)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
    within(document, node, 0, &mut Budget::new())
}

/// How deep the address for notifications is looked for.
const NOTIFICATION_DEPTH_MAX: usize = 4;

/// Whether an object may have properties that its schema does not name, as far as flat names are concerned.
fn is_open(document: &Document, node: &Node, budget: &mut Budget) -> Result<bool, Error> {
    let mut has_properties = false;
    for part in parts(document, node, budget)? {
        let is_dynamic =
            ["x-ms-dynamic-schema", "x-ms-dynamic-properties", "oneOf", "anyOf", "patternProperties"]
                .iter()
                .any(|name| part.get(name).is_some());
        let additional = part.get("additionalProperties");
        if is_dynamic || additional.is_some_and(|additional| additional.value.as_bool() != Some(false)) {
            return Ok(true);
        }
        has_properties |=
            part.value.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    }
    Ok(!has_properties)
}

/// The schema of a property by its flat name, which may have several parts: `name/inner`.
///
/// # Errors
/// `Err(Ok(message))` when there is no such property.
pub(crate) fn unknown_flat_name(
    document: &Document,
    node: &Node,
    path: &[String],
    prefix: &str,
) -> Result<Option<String>, Error> {
    let mut budget = Budget::new();
    let mut node = document.resolve(node.clone())?;
    let mut written = prefix.to_owned();
    for step in path {
        let all = properties(document, &node, &mut budget)?;
        match all.iter().find(|(name, _)| name == step) {
            Some((_, property)) => node = property.clone(),
            None if is_open(document, &node, &mut budget)? => return Ok(None),
            None => {
                let near = nearest(step, all.iter().map(|(name, _)| name.as_str()));
                let hint = near.map(|near| format!("; did you mean `{written}/{near}`?")).unwrap_or_default();
                return Ok(Some(format!("unknown parameter `{written}/{step}`{hint}")));
            }
        }
        written = format!("{written}/{step}");
    }
    Ok(None)
}

/// Splits the rest of a flat name into the names of properties: a property whose name contains `/` is found by the schema.
pub(crate) fn flat_steps(document: &Document, node: &Node, rest: &str) -> Result<Vec<String>, Error> {
    let mut budget = Budget::new();
    let mut node = Some(document.resolve(node.clone())?);
    let mut steps = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() {
        if steps.len() >= crate::bounds::DEPTH_MAX {
            return Err(Error::TooComplex { reason: "the name of a parameter has more than 64 parts" });
        }
        let all = match &node {
            Some(node) => properties(document, node, &mut budget)?,
            None => Vec::new(),
        };
        let fits = |name: &str| {
            rest.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with('/'))
        };
        let known = all.into_iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len());
        let name = match &known {
            Some((name, _)) => name.clone(),
            None => rest.split('/').next().unwrap_or_default().to_owned(),
        };
        rest = rest.get(name.len()..).unwrap_or_default();
        rest = rest.strip_prefix('/').unwrap_or(rest);
        node = known.map(|(_, node)| node);
        steps.push(name);
    }
    Ok(steps)
}

/// Checks values, and converts them to what their schemas want.
pub(crate) struct Checker<'a> {
    pub(crate) document: &'a Document,
    /// Whether a value is one, and not an expression that is still to be evaluated.
    pub(crate) is_known: &'a dyn Fn(&Value) -> bool,
    pub(crate) notification_url: Option<&'a str>,
    pub(crate) budget: Budget,
    pub(crate) problems: Vec<Problem>,
    /// How many objects and arrays are around the current value.
    inside: usize,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(
        document: &'a Document,
        is_known: &'a dyn Fn(&Value) -> bool,
        notification_url: Option<&'a str>,
        budget: Budget,
    ) -> Checker<'a> {
        Checker { document, is_known, notification_url, budget, problems: Vec::new(), inside: 0 }
    }

    /// The value as the schema wants it, with constants and defaults filled in. Problems are collected; `name` is what
    /// messages call the value.
    pub(crate) fn check(
        &mut self,
        value: &Value,
        node: &Node,
        name: &str,
        path: &mut Vec<Step>,
    ) -> Result<Value, Error> {
        if !(self.is_known)(value) {
            return Ok(value.clone());
        }
        self.budget.enter()?;
        let checked = self.check_known(value, node, name, path)?;
        self.budget.leave();
        Ok(checked)
    }

    fn check_known(
        &mut self,
        value: &Value,
        node: &Node,
        name: &str,
        path: &mut Vec<Step>,
    ) -> Result<Value, Error> {
        let node = self.document.resolve(node.clone())?;
        if value.is_null() && is_nullable(&node) {
            return Ok(value.clone());
        }
        let mut value = match self.typed(value, &node) {
            Ok(value) => value,
            Err(expected) => {
                self.problems.push(Problem::new(
                    path,
                    format!("`{name}` must be {expected}, found {}", kind_of(value)),
                ));
                return Ok(value.clone());
            }
        };
        self.check_bounds(&value, &node, name, path);
        for part in node.items("allOf") {
            value = self.check(&value, &part, name, path)?;
        }
        for choice in ["oneOf", "anyOf"] {
            let alternatives = node.items(choice);
            if !alternatives.is_empty() {
                value = self.check_alternatives(value, &alternatives, name, path)?;
            }
        }
        self.inside += 1;
        if value.as_object().is_some() {
            value = self.check_members(value, &node, name, path)?;
        } else if let (Some(items), Some(schema)) = (value.as_array(), node.get("items")) {
            let mut checked = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                checked.push(self.check(item, &schema, &format!("{name}[{index}]"), path)?);
                path.pop();
            }
            value = Value::from(checked).labelled(value.labels());
        }
        self.inside -= 1;
        Ok(value)
    }

    /// At least one alternative has to accept the value. The problems of the first are reported when none does.
    fn check_alternatives(
        &mut self,
        value: Value,
        alternatives: &[Node],
        name: &str,
        path: &mut Vec<Step>,
    ) -> Result<Value, Error> {
        let before = self.problems.len();
        let mut first: Option<Vec<Problem>> = None;
        for alternative in alternatives {
            let checked = self.check(&value, alternative, name, path)?;
            if self.problems.len() == before {
                return Ok(checked);
            }
            let found = self.problems.split_off(before);
            first.get_or_insert(found);
        }
        self.problems.extend(first.unwrap_or_default());
        Ok(value)
    }

    fn check_members(
        &mut self,
        value: Value,
        node: &Node,
        name: &str,
        path: &mut Vec<Step>,
    ) -> Result<Value, Error> {
        // A file is an object to the language only.
        if loom_expression::envelope::content_type(&value).is_some() {
            return Ok(value);
        }
        let Some(written) = value.as_object() else { return Ok(value) };
        let labels = value.labels();
        let mut members = written.clone();
        let required = node.texts("required");
        let declared = node.value.get("properties").and_then(Value::as_object);
        for (property, schema) in declared.into_iter().flatten() {
            let schema = node.beside(schema);
            let resolved = self.document.resolve(schema.clone())?;
            let is_required = required.iter().any(|name| **name == **property);
            let inner = format!("{name}/{property}");
            let given = members.get(property).cloned();
            // Null means "not given", unless the schema has it as a value.
            let given = given.filter(|given| !given.is_null() || is_nullable(&resolved));
            let Some(given) = given else {
                match self.constant(&schema, &resolved, is_required)? {
                    Some(constant) => {
                        members.insert(Arc::clone(property), constant);
                    }
                    None if is_required && !self.may_be_absent(&resolved) => {
                        let default = default_of(self.document, &resolved).filter(is_expression);
                        let hint = default.map(|default| {
                            format!("; the description gives it the expression `{}`", default.text())
                        });
                        let message =
                            format!("required parameter `{inner}` is missing{}", hint.unwrap_or_default());
                        self.problems.push(Problem::new(path, message));
                    }
                    None => {
                        members.remove(property);
                    }
                }
                continue;
            };
            path.push(Step::Name(property.to_string()));
            let checked = self.check(&given, &schema, &inner, path)?;
            path.pop();
            members.insert(Arc::clone(property), checked);
        }
        for property in
            required.iter().filter(|name| declared.is_none_or(|declared| !declared.contains_key(name)))
        {
            if members.get(property).is_none() {
                self.problems
                    .push(Problem::new(path, format!("required parameter `{name}/{property}` is missing")));
            }
        }
        self.check_additional(&mut members, declared, node, name, path)?;
        Ok(Value::from(members).labelled(labels))
    }

    fn check_additional(
        &mut self,
        members: &mut Object,
        declared: Option<&Object>,
        node: &Node,
        name: &str,
        path: &mut Vec<Step>,
    ) -> Result<(), Error> {
        let Some(additional) = node.get("additionalProperties") else { return Ok(()) };
        let undeclared: Vec<Arc<str>> = members
            .keys()
            .filter(|name| declared.is_none_or(|all| !all.contains_key(name)))
            .cloned()
            .collect();
        for property in undeclared {
            path.push(Step::Name(property.to_string()));
            if additional.value.as_bool() == Some(false) {
                let near =
                    nearest(&property, declared.into_iter().flat_map(Object::keys).map(|name| &**name));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                self.problems
                    .push(Problem::new(path, format!("unknown parameter `{name}/{property}`{hint}")));
            } else if let (Some(value), true) =
                (members.get(&property).cloned(), additional.value.as_object().is_some())
            {
                let checked = self.check(&value, &additional, &format!("{name}/{property}"), path)?;
                members.insert(property, checked);
            }
            path.pop();
        }
        Ok(())
    }

    /// Properties that a request does not have: those of responses, and the address for notifications when the service is
    /// not subscribed to.
    fn may_be_absent(&self, node: &Node) -> bool {
        node.flag("readOnly") || (node.flag("x-ms-notification-url") && self.notification_url.is_none())
    }

    /// The value of a property that was not given: the address for notifications, a constant, the default of a required
    /// property, or an object of such.
    fn constant(&mut self, node: &Node, resolved: &Node, is_required: bool) -> Result<Option<Value>, Error> {
        if node.flag("x-ms-notification-url") || resolved.flag("x-ms-notification-url") {
            return Ok(self.notification_url.map(Value::from));
        }
        if is_required || is_internal(node) || is_internal(resolved) {
            let own = node.value.get("default").filter(|default| !default.is_null()).cloned();
            if let Some(default) =
                own.or_else(|| default_of(self.document, resolved)).filter(|own| !is_expression(own))
            {
                return Ok(Some(default));
            }
        }
        self.inner_constants(resolved, is_required)
    }

    /// The constants inside an object that was not given; nothing when it has none, or when one of its required properties
    /// has no constant and the object is optional.
    fn inner_constants(&mut self, node: &Node, is_required: bool) -> Result<Option<Value>, Error> {
        let required = node.texts("required");
        let Some(declared) = node.value.get("properties").and_then(Value::as_object) else { return Ok(None) };
        // A circle of required properties has no finite value.
        if self.budget.enter().is_err() {
            return Ok(None);
        }
        let mut members = Object::new();
        for (name, schema) in declared {
            let schema = node.beside(schema);
            let resolved = self.document.resolve(schema.clone())?;
            let needed = required.iter().any(|required| **required == **name);
            if (resolved.flag("x-ms-notification-url") || is_required)
                && let Some(constant) = self.constant(&schema, &resolved, needed)?
            {
                members.insert(Arc::clone(name), constant);
            }
        }
        self.budget.leave();
        Ok((!members.is_empty()).then(|| members.into()))
    }

    /// The value in the type of the schema, or what was expected.
    fn typed(&self, value: &Value, node: &Node) -> Result<Value, String> {
        let mut allowed = types(node);
        let has_shape = node.value.get("properties").and_then(Value::as_object).is_some();
        if allowed.is_empty() {
            if has_shape && value.is_null() {
                return Err("an object".to_owned());
            }
            return Ok(value.clone());
        }
        allowed.retain(|kind| *kind != "null");
        for kind in &allowed {
            if let Some(value) = as_type(value, kind, node, self.inside > 0) {
                return Ok(value);
            }
        }
        Err(match allowed.as_slice() {
            [only] => with_article(only).to_owned(),
            several => several.iter().map(|kind| with_article(kind)).collect::<Vec<_>>().join(" or "),
        })
    }

    fn check_bounds(&mut self, value: &Value, node: &Node, name: &str, path: &[Step]) {
        let mut wrong = |expected: String| {
            let found = if value.contains_secret() { "another value".to_owned() } else { shortened(value) };
            self.problems.push(Problem::new(path, format!("`{name}` must be {expected}, found {found}")));
        };
        let allowed = node.value.get("enum").and_then(Value::as_array);
        // Some descriptions have expressions among the values, which say nothing about the value itself.
        if let Some(allowed) =
            allowed.filter(|allowed| !allowed.is_empty() && !allowed.iter().any(is_expression))
        {
            let same = |candidate: &Value| {
                candidate.wdl_equals(value) || encoding::text_of(candidate) == encoding::text_of(value)
            };
            if !allowed.iter().any(same) {
                let listed: Vec<String> = allowed.iter().take(8).map(Value::to_json_text).collect();
                let more = if allowed.len() > 8 { " or another listed value" } else { "" };
                wrong(format!("one of {}{more}", listed.join(", ")));
            }
        }
        if let Some(constant) = node.value.get("const").filter(|constant| !constant.wdl_equals(value)) {
            wrong(constant.to_json_text());
        }
        for bound in bounds(node) {
            if bound.excludes(value) {
                wrong(bound.to_string());
            }
        }
    }
}

/// A bound of a number, or of the length of a string or an array.
struct Bound {
    kind: BoundKind,
    limit: f64,
}

#[derive(Clone, Copy)]
enum BoundKind {
    Least,
    Most,
    MoreThan,
    LessThan,
    LeastCharacters,
    MostCharacters,
    LeastItems,
    MostItems,
}

/// The bounds that a schema names.
fn bounds(node: &Node) -> impl Iterator<Item = Bound> {
    // In Swagger, `exclusiveMinimum` says something about `minimum`; in newer JSON Schema it is a bound.
    let least = if node.flag("exclusiveMinimum") { BoundKind::MoreThan } else { BoundKind::Least };
    let most = if node.flag("exclusiveMaximum") { BoundKind::LessThan } else { BoundKind::Most };
    let all = [
        ("minimum", least),
        ("maximum", most),
        ("exclusiveMinimum", BoundKind::MoreThan),
        ("exclusiveMaximum", BoundKind::LessThan),
        ("minLength", BoundKind::LeastCharacters),
        ("maxLength", BoundKind::MostCharacters),
        ("minItems", BoundKind::LeastItems),
        ("maxItems", BoundKind::MostItems),
    ];
    all.into_iter().filter_map(|(name, kind)| {
        let limit = node.value.get(name).and_then(number)?;
        Some(Bound { kind, limit })
    })
}

impl Bound {
    /// Whether a value is beyond the bound. A value of another type is not.
    fn excludes(&self, value: &Value) -> bool {
        let limit = self.limit;
        let number = || number(value).filter(|_| value.is_number());
        let characters = || value.as_str().map(|text| text.chars().count() as f64);
        let items = || value.as_array().map(|items| items.len() as f64);
        match self.kind {
            BoundKind::Least => number().is_some_and(|number| number < limit),
            BoundKind::Most => number().is_some_and(|number| number > limit),
            BoundKind::MoreThan => number().is_some_and(|number| number <= limit),
            BoundKind::LessThan => number().is_some_and(|number| number >= limit),
            BoundKind::LeastCharacters => characters().is_some_and(|count| count < limit),
            BoundKind::MostCharacters => characters().is_some_and(|count| count > limit),
            BoundKind::LeastItems => items().is_some_and(|count| count < limit),
            BoundKind::MostItems => items().is_some_and(|count| count > limit),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.kind {
            BoundKind::Least => write!(f, "at least {limit}"),
            BoundKind::Most => write!(f, "at most {limit}"),
            BoundKind::MoreThan => write!(f, "more than {limit}"),
            BoundKind::LessThan => write!(f, "less than {limit}"),
            BoundKind::LeastCharacters => write!(f, "at least {}", counted(limit, "character")),
            BoundKind::MostCharacters => write!(f, "at most {}", counted(limit, "character")),
            BoundKind::LeastItems => write!(f, "at least {}", counted(limit, "item")),
            BoundKind::MostItems => write!(f, "at most {}", counted(limit, "item")),
        }
    }
}

/// `1 item`, `2 items`.
fn counted(number: f64, unit: &str) -> String {
    let is_one = (number - 1.0).abs() < f64::EPSILON;
    format!("{number} {unit}{}", if is_one { "" } else { "s" })
}

fn number(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_i64().map(|number| number as f64))
        .or_else(|| value.text().trim().parse().ok())
}

/// The value as a type, if it is one or stands for one.
fn as_type(value: &Value, kind: &str, node: &Node, is_inside: bool) -> Option<Value> {
    let text = value.as_str().map(str::trim);
    let labels = value.labels_within();
    match kind {
        "string" | "file" => {
            let is_text = value.as_str().is_some();
            // Bytes are base64 text in JSON and where the format says so, and bytes elsewhere.
            if loom_expression::envelope::content_type(value).is_some() {
                let is_base64 = is_inside || node.text("format") == Some("byte");
                let content = value.get("$content").filter(|_| is_base64);
                return Some(content.unwrap_or(value).clone());
            }
            is_text.then(|| value.clone())
        }
        "integer" => match text {
            Some(text) => text.parse::<i64>().ok().map(|number| Value::from(number).labelled(labels)),
            None => is_whole(value).then(|| value.clone()),
        },
        "number" => match text {
            Some(text) => {
                let number = Value::from_json_str(text).ok().filter(Value::is_number);
                number.map(|number| number.labelled(labels))
            }
            None => value.is_number().then(|| value.clone()),
        },
        "boolean" => match text {
            Some(text) if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => {
                Some(Value::from(is_true(value) || text.eq_ignore_ascii_case("true")).labelled(labels))
            }
            Some(_) => None,
            None => value.as_bool().map(|_| value.clone()),
        },
        "array" => value.as_array().map(|_| value.clone()),
        "object" => value.as_object().map(|_| value.clone()),
        // A type that JSON Schema does not have says nothing.
        _ => Some(value.clone()),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_number()
        && (value.as_i64().is_some() || number(value).is_some_and(|number| number.fract() == 0.0))
}

fn with_article(kind: &str) -> &str {
    match kind {
        "string" => "a string",
        "file" => "a file",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean",
        "array" => "an array",
        "object" => "an object",
        other => other,
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_json_text();
    if text.chars().count() <= 60 {
        text
    } else {
        format!("{}…", text.chars().take(60).collect::<String>())
    }
}
