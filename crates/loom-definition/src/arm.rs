//! Evaluates the `[…]` expressions of ARM templates, as far as the file and the caller supply their values.
//!
//! Only pure functions are supported. A function for which a deployment asks the cloud (`reference`, `listKeys` …) is an
//! error, and the caller keeps the expression as a string. `uniqueString` is a substitute: deterministic, thirteen characters
//! of `a`–`z` and `2`–`7`, but not the string that a deployment would compute.

mod functions;
mod syntax;

use std::{borrow::Cow, cell::Cell, rc::Rc, sync::Arc};

use loom_expression::{Object, Value};

use crate::text::Node;
use syntax::Expression;

#[cfg(test)]
mod tests;

/// What a template can read about its deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// `resourceGroup().name`.
    pub resource_group: Arc<str>,
    /// `resourceGroup().location`, `deployment().location`.
    pub location: Arc<str>,
    /// `subscription().subscriptionId`.
    pub subscription_id: Arc<str>,
    /// `subscription().tenantId`.
    pub tenant_id: Arc<str>,
}

impl Default for Deployment {
    /// Placeholders: `local`, and identifiers of zeros.
    fn default() -> Deployment {
        Deployment {
            resource_group: Arc::from("local"),
            location: Arc::from("local"),
            subscription_id: Arc::from("00000000-0000-0000-0000-000000000000"),
            tenant_id: Arc::from("00000000-0000-0000-0000-000000000000"),
        }
    }
}

/// Functions whose presence shows that a string is a template expression.
const TELLING: [&str; 10] = [
    "parameters(",
    "variables(",
    "resourceid(",
    "resourcegroup(",
    "subscription(",
    "reference(",
    "listkeys(",
    "deployment(",
    "concat(",
    "uniquestring(",
];

/// Whether a string is, almost certainly, an expression of an ARM template that was not deployed.
pub(crate) fn is_expression(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inside = inside.filter(|inside| inside.starts_with(|first: char| first.is_ascii_alphabetic()));
    inside.is_some_and(|inside| {
        let lower = inside.to_ascii_lowercase();
        TELLING.iter().any(|name| lower.contains(name)) && syntax::parse(inside).is_ok()
    })
}

/// How deeply parameters and variables may refer to each other.
const DEPTH_MAX: u32 = 32;
/// The most steps of one evaluation. Stops templates that double a string over and over.
const STEPS_MAX: u32 = 100_000;

/// A template whose expressions can be evaluated.
pub(crate) struct Template<'a> {
    root: &'a Node,
    supplied: Cow<'a, Object>,
    deployment: &'a Deployment,
    /// The template that deploys this one.
    outer: Option<Rc<Template<'a>>>,
    /// Whether its expressions see only their own template, and not the outer one first.
    isolated: bool,
    /// The value of `copyIndex()`.
    copy_index: Cell<Option<i64>>,
    depth: Cell<u32>,
    steps: Cell<u32>,
}

type Evaluated = Result<Value, String>;

impl<'a> Template<'a> {
    pub(crate) fn new(root: &'a Node, supplied: &'a Object, deployment: &'a Deployment) -> Template<'a> {
        Template {
            root,
            supplied: Cow::Borrowed(supplied),
            deployment,
            outer: None,
            isolated: true,
            copy_index: Cell::new(None),
            depth: Cell::new(0),
            steps: Cell::new(0),
        }
    }

    /// The template inside a deployment among the resources of `outer`.
    pub(crate) fn nested(outer: &Rc<Template<'a>>, deployment: &'a Node, root: &'a Node) -> Template<'a> {
        let mut supplied = Object::new();
        outer.forget_steps();
        for member in deployment.get("parameters").and_then(Node::members).unwrap_or_default() {
            let value = member.value.member("value").map(|value| outer.literal(&value.value));
            if let Some(Ok(value)) = value {
                supplied.insert(Arc::clone(&member.name), value);
            }
        }
        let scope = deployment.get("expressionEvaluationOptions").and_then(|options| options.get("scope"));
        Template {
            root,
            supplied: Cow::Owned(supplied),
            deployment: outer.deployment,
            outer: Some(Rc::clone(outer)),
            isolated: scope.and_then(Node::text).is_some_and(|scope| scope.eq_ignore_ascii_case("inner")),
            copy_index: Cell::new(None),
            depth: Cell::new(0),
            steps: Cell::new(0),
        }
    }

    /// Sets the value of `copyIndex()` for the following evaluations.
    pub(crate) fn set_copy_index(&self, index: Option<i64>) {
        self.copy_index.set(index);
    }

    /// If `text` is just a reference to a variable, or to a parameter with a default, the value as the template contains it.
    pub(crate) fn mentioned(&self, text: &str) -> Option<&'a Node> {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        let Ok(Expression::Call(function, arguments)) = syntax::parse(inside) else { return None };
        let [Expression::Literal(name)] = arguments.as_slice() else { return None };
        let name = name.as_str()?;
        match function.to_ascii_lowercase().as_str() {
            "variables" => Some(&self.root.get("variables")?.member(name)?.value),
            "parameters" if self.supplied.get_ignore_case(name).is_none() => {
                Some(&self.root.get("parameters")?.get(name)?.member("defaultValue")?.value)
            }
            _ => None,
        }
    }

    fn forget_steps(&self) {
        self.steps.set(0);
        if let Some(outer) = &self.outer {
            outer.forget_steps();
        }
    }

    /// The outer template, if it declares `name` and its names take precedence.
    fn outer_with(&self, section: &str, name: &str) -> Option<&Template<'a>> {
        let outer = self.outer.as_deref().filter(|_| !self.isolated)?;
        let declared = outer.root.get(section).is_some_and(|section| section.get(name).is_some());
        if declared { Some(outer) } else { outer.outer_with(section, name) }
    }

    /// The value of a string in the template; `None` if it is not an expression.
    pub(crate) fn evaluate(&self, text: &str) -> Option<Evaluated> {
        if !(text.starts_with('[') && text.ends_with(']')) {
            // A leading `[[` is an escape, with or without a closing bracket.
            return text.strip_prefix("[[").map(|rest| Ok(Value::from(format!("[{rest}"))));
        }
        if let Some(rest) = text.strip_prefix("[[") {
            return Some(Ok(Value::from(format!("[{rest}"))));
        }
        self.forget_steps();
        Some(self.expression(&text[1..text.len() - 1]))
    }

    fn expression(&self, text: &str) -> Evaluated {
        let expression = syntax::parse(text)?;
        self.value_of(&expression)
    }

    /// Evaluates a value that may contain expressions, such as a default.
    fn literal(&self, node: &Node) -> Evaluated {
        self.spend()?;
        if let Some(text) = node.text() {
            if text.starts_with('[') && text.ends_with(']') && !text.starts_with("[[") {
                return self.expression(&text[1..text.len() - 1]);
            }
            return Ok(Value::from(match text.strip_prefix("[[") {
                Some(rest) => format!("[{rest}"),
                None => text.to_owned(),
            }));
        }
        if let Some(items) = node.items() {
            let items: Result<Vec<Value>, String> = items.iter().map(|item| self.literal(item)).collect();
            return items.map(Value::from);
        }
        if let Some(members) = node.members() {
            let mut object = Object::new();
            for member in members {
                object.insert(Arc::clone(&member.name), self.literal(&member.value)?);
            }
            return Ok(Value::from(object));
        }
        Ok(node.to_value())
    }

    fn spend(&self) -> Result<(), String> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX { Err("the expression is too large".to_owned()) } else { Ok(()) }
    }

    /// Runs `inner` one reference deeper, within [`DEPTH_MAX`].
    fn deeper(&self, what: &str, inner: impl FnOnce() -> Evaluated) -> Evaluated {
        if self.depth.get() >= DEPTH_MAX {
            return Err(format!("`{what}` refers to itself, or references are nested too deeply"));
        }
        self.depth.set(self.depth.get() + 1);
        let value = inner();
        self.depth.set(self.depth.get() - 1);
        value
    }

    fn value_of(&self, expression: &Expression) -> Evaluated {
        self.spend()?;
        match expression {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Member(target, name) => {
                let target = self.value_of(target)?;
                target.get(name).cloned().ok_or_else(|| format!("unknown property `{name}`"))
            }
            Expression::Index(target, index) => {
                let (target, index) = (self.value_of(target)?, self.value_of(index)?);
                match (index.as_str(), index.as_i64().and_then(|index| usize::try_from(index).ok())) {
                    (Some(name), _) => {
                        target.get(name).cloned().ok_or_else(|| format!("unknown property `{name}`"))
                    }
                    (None, Some(place)) => {
                        target.index(place).cloned().ok_or_else(|| format!("index {place} is out of range"))
                    }
                    (None, None) => Err("an index must be a name or a non-negative integer".to_owned()),
                }
            }
            Expression::Call(function, arguments) => self.call(function, arguments),
        }
    }

    fn call(&self, function: &str, arguments: &[Expression]) -> Evaluated {
        let lower = function.to_ascii_lowercase();
        // `if` evaluates only one of its branches.
        if lower == "if" {
            let [condition, then, otherwise] = arguments else {
                return Err("`if` takes three arguments".to_owned());
            };
            return match self.value_of(condition)?.as_bool() {
                Some(true) => self.value_of(then),
                Some(false) => self.value_of(otherwise),
                None => Err("the condition of `if` must be a boolean".to_owned()),
            };
        }
        let values: Result<Vec<Value>, String> =
            arguments.iter().map(|argument| self.value_of(argument)).collect();
        let values = values?;
        let one_name = || match values.as_slice() {
            [name] => name.as_str().ok_or_else(|| format!("the argument of `{function}` must be a string")),
            _ => Err(format!("`{function}` takes one argument")),
        };
        match lower.as_str() {
            "parameters" => self.parameter(one_name()?),
            "variables" => self.variable(one_name()?),
            "copyindex" => {
                let offset = values.iter().find_map(Value::as_i64).unwrap_or(0);
                let index = self.copy_index.get().and_then(|index| index.checked_add(offset));
                index
                    .map(Value::from)
                    .ok_or_else(|| "`copyIndex` is only allowed in a `copy` loop".to_owned())
            }
            "resourcegroup" => Ok(object([
                ("id", self.group_id()),
                ("name", self.deployment.resource_group.to_string()),
                ("location", self.deployment.location.to_string()),
            ])),
            "subscription" => Ok(object([
                ("id", format!("/subscriptions/{}", self.deployment.subscription_id)),
                ("subscriptionId", self.deployment.subscription_id.to_string()),
                ("tenantId", self.deployment.tenant_id.to_string()),
                ("displayName", "local".to_owned()),
            ])),
            "tenant" => Ok(object([("tenantId", self.deployment.tenant_id.to_string())])),
            "deployment" => {
                Ok(object([("name", "local".to_owned()), ("location", self.deployment.location.to_string())]))
            }
            "resourceid" => self.resource_id(&values),
            "subscriptionresourceid" => {
                let base = format!("/subscriptions/{}", self.deployment.subscription_id);
                functions::provider_path(&base, &values)
            }
            "tenantresourceid" => functions::provider_path("", &values),
            "extensionresourceid" => match values.split_first() {
                Some((base, rest)) => functions::provider_path(&base.text(), rest),
                None => Err("`extensionResourceId` needs a resource".to_owned()),
            },
            other => functions::call(other, function, &values),
        }
    }

    fn group_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}",
            self.deployment.subscription_id, self.deployment.resource_group
        )
    }

    fn parameter(&self, name: &str) -> Evaluated {
        if let Some(outer) = self.outer_with("parameters", name) {
            return outer.parameter(name);
        }
        if let Some(value) = self.supplied.get_ignore_case(name) {
            return Ok(value.clone());
        }
        let declared = self.root.get("parameters").and_then(|parameters| parameters.get(name));
        let Some(declared) = declared else {
            return Err(format!("undeclared template parameter `{name}`"));
        };
        match declared.member("defaultValue") {
            Some(default) => self.deeper(name, || self.literal(&default.value)),
            None => Err(format!("template parameter `{name}` has no value")),
        }
    }

    fn variable(&self, name: &str) -> Evaluated {
        if let Some(outer) = self.outer_with("variables", name) {
            return outer.variable(name);
        }
        match self.root.get("variables").and_then(|variables| variables.member(name)) {
            Some(variable) => self.deeper(name, || self.literal(&variable.value)),
            None => Err(format!("undeclared template variable `{name}`")),
        }
    }

    /// `resourceId([subscription], [group], type, name…)`. The type is the first argument with a slash.
    fn resource_id(&self, values: &[Value]) -> Evaluated {
        let typed = values.iter().position(|value| value.as_str().is_some_and(|text| text.contains('/')));
        let before =
            typed.ok_or_else(|| "`resourceId` needs a type such as `Microsoft.Web/sites`".to_owned())?;
        let text = |index: usize| values[index].text().into_owned();
        let subscription = self.deployment.subscription_id.to_string();
        let base = match before {
            0 => self.group_id(),
            1 => format!("/subscriptions/{subscription}/resourceGroups/{}", text(0)),
            2 => format!("/subscriptions/{}/resourceGroups/{}", text(0), text(1)),
            _ => {
                return Err("`resourceId` takes at most a subscription and a resource group before the type"
                    .to_owned());
            }
        };
        functions::provider_path(&base, &values[before..])
    }
}

fn object<const N: usize>(members: [(&str, String); N]) -> Value {
    let mut object = Object::new();
    for (name, value) in members {
        object.insert(name, value);
    }
    Value::from(object)
}
