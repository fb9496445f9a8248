//! Lowers parameters, outputs and static results.

use std::sync::Arc;

use loom_expression::{NoNames, Options, Template, Value};

use super::Lowerer;
use crate::{
    diagnostic::{code, did_you_mean},
    findings::{Findings, head},
    model::{Output, Parameter, StaticResult, ValueType, same_name},
    text::Node,
};

fn is_secure(text: &str) -> bool {
    let text = text.trim();
    text.eq_ignore_ascii_case("securestring") || text.eq_ignore_ascii_case("secureobject")
}

const PARAMETER_TYPES: [&str; 8] =
    ["int", "float", "string", "bool", "array", "object", "securestring", "secureobject"];

impl Lowerer<'_, '_, '_> {
    /// The parameters that the definition declares, then those that only the parameters file has. If both have one, its
    /// type and allowed values come from the definition, and its value from the file.
    pub(super) fn parameters(&mut self, definition: &Node, values: Option<&Value>) -> Vec<Parameter> {
        let mut list: Vec<Parameter> = Vec::new();
        let map = definition.get("parameters");
        if let Some(map) = map {
            self.found.want_object(map, "parameters");
            for member in map.members().unwrap_or_default() {
                if list.iter().any(|parameter| same_name(&parameter.name, &member.name)) {
                    let message =
                        format!("parameter `{}` is declared twice; names are case-insensitive", member.name);
                    self.found.error(code::DUPLICATE_NAME, member.name_place, message);
                    continue;
                }
                let node = &member.value;
                let (kind, secure) = self.parameter_type(node, &member.name);
                let allowed = node.get("allowedValues").and_then(|allowed| {
                    if allowed.items().is_none() {
                        let message = format!("`allowedValues` must be an array, found {}", allowed.kind());
                        self.found.error(code::WRONG_KIND, allowed.place, message);
                    }
                    Some(allowed.items()?.iter().map(Node::to_value).collect::<Vec<_>>())
                });
                let default_node = node.member("defaultValue").map(|member| &member.value);
                if let Some(default) = default_node {
                    self.check_default(default, kind, allowed.as_deref(), &member.name);
                }
                list.push(Parameter {
                    name: Arc::clone(&member.name),
                    kind,
                    secure,
                    default: default_node.map(|node| parameter_template(&node.to_value())),
                    from_file: false,
                    allowed,
                    pointer: Arc::from(self.found.pointer(node.place)),
                    span: member.name_place.range(),
                });
            }
        }
        let values = values.and_then(Value::as_object).into_iter().flat_map(|object| object.iter());
        for (name, entry) in values {
            let known =
                ["value", "defaultValue", "type"].iter().any(|property| entry.get(property).is_some());
            if !known && !name.starts_with('$') {
                let shown = entry.as_object().is_none().then(|| entry.to_json_text());
                let message =
                    format!("parameter `{name}` in parameters.json must be an object with a `value`");
                let place = map.map_or_else(|| head(definition), |map| map.place);
                self.found.report(self.refusal, code::WRONG_KIND, place, message).hint =
                    Some(format!("write {{\"value\": {}}}", shown.as_deref().unwrap_or("…")));
            }
            let type_name = entry.get("type").and_then(Value::as_str).unwrap_or("any");
            let value = entry.get("value").or_else(|| entry.get("defaultValue")).map(parameter_template);
            if let Some(declared) = list.iter_mut().find(|parameter| same_name(&parameter.name, name)) {
                declared.from_file = value.is_some();
                declared.default = value.or(declared.default.take());
                declared.secure |= is_secure(type_name);
                continue;
            }
            list.push(Parameter {
                name: Arc::from(&**name),
                kind: ValueType::from_name(type_name).unwrap_or(ValueType::Any),
                secure: is_secure(type_name),
                from_file: value.is_some(),
                default: value,
                allowed: None,
                pointer: Arc::from(""),
                span: 0..0,
            });
        }
        list
    }

    fn parameter_type(&mut self, node: &Node, name: &str) -> (ValueType, bool) {
        if self.found.want_object(node, &format!("parameter {name}")).is_none() {
            return (ValueType::Any, false);
        }
        let Some(type_node) = node.get("type") else {
            let message = format!("parameter `{name}` needs a `type`");
            self.found.error(code::NO_TYPE, head(node), message);
            return (ValueType::Any, false);
        };
        let Some(text) = self.found.want_text(type_node, "type") else { return (ValueType::Any, false) };
        if let Some(kind) = ValueType::from_name(text) {
            (kind, is_secure(text))
        } else {
            let hint = did_you_mean(text, PARAMETER_TYPES);
            let message = format!("parameter `{name}` has the unknown type `{text}`");
            self.found.error(code::BAD_VALUE_TYPE, type_node.place, message).hint = hint;
            (ValueType::Any, false)
        }
    }

    /// Warns about a default of the wrong type, which is only an error if no value is supplied.
    fn check_default(&mut self, node: &Node, kind: ValueType, allowed: Option<&[Value]>, name: &str) {
        let value = node.to_value();
        if value.is_null() || parameter_template(&value).as_constant().is_none() {
            return;
        }
        if !kind.accepts(&value) {
            let message =
                format!("parameter `{name}` has type {}, but its default is {}", kind.as_str(), node.kind());
            self.found.warning(code::WRONG_VALUE_TYPE, node.place, message).hint =
                Some("a run that supplies no value is rejected".to_owned());
        } else if allowed.is_some_and(|allowed| !allowed.iter().any(|allowed| allowed.wdl_equals(&value))) {
            let message = format!("the default of `{name}` is not one of its `allowedValues`");
            self.found.warning(code::PARAMETER_NOT_ALLOWED, node.place, message);
        }
    }

    /// Lowers the outputs of the workflow.
    pub(super) fn outputs(&mut self, definition: &Node) -> Vec<Output> {
        let Some(map) = definition.get("outputs") else { return Vec::new() };
        self.found.want_object(map, "outputs");
        let mut list = Vec::new();
        for member in map.members().unwrap_or_default() {
            let node = &member.value;
            if self.found.want_object(node, &format!("output {}", member.name)).is_none() {
                continue;
            }
            let type_text = node.get("type").and_then(Node::text);
            let kind = match type_text.map(ValueType::from_name) {
                None => ValueType::Any,
                Some(Some(kind)) => kind,
                Some(None) => {
                    let text = type_text.unwrap_or_default();
                    let place = node.get("type").map_or(node.place, |node| node.place);
                    let hint = did_you_mean(text, PARAMETER_TYPES);
                    let message = format!("output `{}` has the unknown type `{text}`", member.name);
                    self.found.warning(code::BAD_VALUE_TYPE, place, message).hint = hint;
                    ValueType::Any
                }
            };
            let Some(value) = node.member("value") else {
                let message = format!("output `{}` needs a `value`", member.name);
                self.found.error(code::MISSING_MEMBER, head(node), message);
                continue;
            };
            let value = self.template_of(&value.value, &value.value.to_value(), None);
            list.push(Output {
                name: Arc::clone(&member.name),
                kind,
                secure: type_text.is_some_and(is_secure),
                value,
            });
        }
        list
    }

    /// Lowers the static results.
    pub(super) fn static_results(&mut self, definition: &Node) -> Vec<StaticResult> {
        let Some(map) = definition.get("staticResults") else { return Vec::new() };
        self.found.want_object(map, "staticResults");
        let mut list = Vec::new();
        for member in map.members().unwrap_or_default() {
            let node = &member.value;
            if self.found.want_object(node, &format!("static result {}", member.name)).is_none() {
                continue;
            }
            if let Some(status) = node.get("status")
                && crate::status::Status::parse(status.text().unwrap_or_default()).is_none()
            {
                let message =
                    format!("the `status` of static result `{}` must be a final status", member.name);
                self.found.error(code::BAD_CHOICE, status.place, message);
            }
            let content = self.template_of(node, &node.to_value(), None);
            list.push(StaticResult { name: Arc::clone(&member.name), content });
        }
        list
    }
}

/// The value of a parameter. It is a constant unless it refers to app settings or other parameters, as values in a
/// parameters file may.
pub(crate) fn parameter_template(value: &Value) -> Template {
    match Template::compile(value, &NoNames, &Options::default()) {
        Ok(template)
            if template.as_constant().is_none()
                && (template.calls("appsetting") || template.calls("parameters")) =>
        {
            template
        }
        _ => Template::constant(value.clone()),
    }
}

/// Reports a missing property of the action `owner`.
pub(super) fn missing(found: &mut Findings<'_>, node: &Node, what: &str, owner: &str) {
    let message = format!("`{owner}` needs `{what}`");
    found.error(code::MISSING_MEMBER, head(node), message);
}
