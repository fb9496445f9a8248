//! Lowers data actions: Compose, ParseJson, the array operations, Table, and variables.

use std::sync::Arc;

use loom_expression::{Object, ReferenceKind, Template, Value};

use super::{Lowerer, outline::Type};
use crate::{
    diagnostic::{Severity, code, did_you_mean},
    findings::head,
    model::{ActionIdx, ActionKind, Column, TableFormat, ValueType, VariableChange, VariableInit},
    schema_names::unescaped,
    text::Node,
};

impl<'a> Lowerer<'a, '_, '_> {
    /// Lowers an action of one of the kinds in this file.
    pub(super) fn data_action(&mut self, index: usize, kind: Type) -> ActionKind {
        match kind {
            Type::Compose => {
                let member = self.outline.actions[index].node.member("inputs");
                if let Some(member) = member {
                    ActionKind::Compose { inputs: self.template(&member.value, index) }
                } else {
                    self.lack(index, "inputs");
                    ActionKind::Compose { inputs: Template::constant(Value::NULL) }
                }
            }
            Type::ParseJson => {
                let content = self.input(index, "content");
                let schema = self.inputs(index).and_then(|inputs| inputs.get("schema"));
                if let Some(schema) = schema {
                    self.found.want_object(schema, "schema");
                }
                let schema =
                    schema.map_or_else(|| Value::from(Object::new()), |node| unescaped(&node.to_value()));
                ActionKind::ParseJson { content, schema }
            }
            Type::Query => {
                let from = self.input(index, "from");
                let filter = if let Some(node) = self.inputs(index).and_then(|inputs| inputs.get("where")) {
                    self.condition(node, Some(index))
                } else {
                    self.lack(index, "inputs.where");
                    self.no_condition()
                };
                ActionKind::Query { from, filter }
            }
            Type::Select => {
                ActionKind::Select { from: self.input(index, "from"), select: self.input(index, "select") }
            }
            Type::Join => {
                ActionKind::Join { from: self.input(index, "from"), with: self.input(index, "joinWith") }
            }
            Type::Table => self.table(index),
            Type::InitializeVariable => self.initialize(index),
            Type::SetVariable => self.change(index, VariableChange::Set),
            Type::IncrementVariable => self.change(index, VariableChange::Increment),
            Type::DecrementVariable => self.change(index, VariableChange::Decrement),
            Type::AppendToStringVariable => self.change(index, VariableChange::AppendText),
            _ => self.change(index, VariableChange::AppendItem),
        }
    }

    pub(super) fn inputs(&self, index: usize) -> Option<&'a Node> {
        self.outline.actions[index].node.get("inputs")
    }

    /// A required property of the inputs, which may be `null`.
    fn input(&mut self, index: usize, name: &str) -> Template {
        if let Some(member) = self.inputs(index).and_then(|inputs| inputs.member(name)) {
            self.template(&member.value, index)
        } else {
            self.lack(index, &format!("inputs.{name}"));
            Template::constant(Value::NULL)
        }
    }

    fn table(&mut self, index: usize) -> ActionKind {
        let inputs = self.inputs(index);
        let format = match inputs.and_then(|inputs| inputs.get("format")) {
            None => {
                self.lack(index, "inputs.format");
                TableFormat::Csv
            }
            Some(node) => match node.text() {
                Some(text) if text.eq_ignore_ascii_case("csv") => TableFormat::Csv,
                Some(text) if text.eq_ignore_ascii_case("html") => TableFormat::Html,
                _ => {
                    let message = "the `format` of a Table must be `CSV` or `HTML`";
                    self.found.error(code::BAD_CHOICE, node.place, message);
                    TableFormat::Csv
                }
            },
        };
        let from = self.input(index, "from");
        let columns = inputs.and_then(|inputs| inputs.get("columns"));
        if let Some(node) = columns.filter(|node| node.items().is_none()) {
            let message = format!(
                "`columns` must be an array of objects with `header` and `value`, found {}",
                node.kind()
            );
            self.found.error(code::WRONG_KIND, node.place, message);
        }
        let columns = columns.and_then(Node::items).map(|items| {
            items
                .iter()
                .map(|item| {
                    let mut part = |name: &str| {
                        if let Some(member) = item.member(name) {
                            self.template(&member.value, index)
                        } else {
                            let message = format!("a column of a Table needs `{name}`");
                            self.found.error(code::MISSING_MEMBER, head(item), message);
                            Template::constant(Value::NULL)
                        }
                    };
                    Column { header: part("header"), value: part("value") }
                })
                .collect()
        });
        ActionKind::Table { format, from, columns }
    }

    fn initialize(&mut self, index: usize) -> ActionKind {
        let this = ActionIdx(index as u32);
        let outlined = &self.outline.actions[index];
        if let Some(owner) = self.outline.enclosing(this).next() {
            let enclosing = self.outline.outlined(owner);
            let message = format!(
                "`{}` declares variables, which is only allowed at the top level, not inside `{}`",
                outlined.name, enclosing.name
            );
            let (place, related) =
                (outlined.name_place, (enclosing.name_place.range(), "the enclosing action".to_owned()));
            let diagnostic = self.found.error(code::NOT_ALLOWED_HERE, place, message);
            diagnostic.related.push(related);
            diagnostic.hint =
                Some("declare the variable at the top level, and use SetVariable here".to_owned());
        }
        let list = self.inputs(index).and_then(|inputs| inputs.get("variables"));
        let Some(items) = list.and_then(Node::items).filter(|items| !items.is_empty()) else {
            match list {
                Some(node) if node.items().is_none() => {
                    let message = format!("`variables` must be an array, found {}", node.kind());
                    self.found.error(code::WRONG_KIND, node.place, message);
                }
                _ => self.lack(index, "inputs.variables"),
            }
            return ActionKind::InitializeVariable { variables: Vec::new() };
        };
        let mut variables = Vec::new();
        for item in items {
            if let Some(variable) = self.variable_init(index, item) {
                variables.push(variable);
            }
        }
        ActionKind::InitializeVariable { variables }
    }

    fn variable_init(&mut self, index: usize, item: &Node) -> Option<VariableInit> {
        self.found.want_object(item, "a variable")?;
        let Some(name_node) = item.get("name") else {
            self.found.error(code::MISSING_MEMBER, head(item), "a variable needs a `name`");
            return None;
        };
        let name = self.found.want_text(name_node, "name")?;
        let kind = match item.get("type") {
            None => {
                let message = format!("variable `{name}` needs a `type`");
                self.found.error(code::NO_TYPE, head(item), message);
                ValueType::Any
            }
            Some(node) => {
                let text = node.text().unwrap_or_default();
                if let Some(kind) = ValueType::from_name(text) {
                    kind
                } else {
                    let known = ["boolean", "integer", "float", "string", "array", "object"];
                    let message = format!("variable `{name}` has the unknown type `{text}`");
                    let hint = did_you_mean(text, known);
                    self.found.error(code::BAD_VALUE_TYPE, node.place, message).hint = hint;
                    ValueType::Any
                }
            }
        };
        let value = item.member("value").map(|member| {
            let template = self.template(&member.value, index);
            self.literal_fits(&member.value, &template, kind, name);
            template
        });
        let variable = self.outline.variable(name)?;
        Some(VariableInit { variable, value })
    }

    /// Warns about a literal of the wrong type, with which the action fails when it runs.
    fn literal_fits(&mut self, node: &Node, template: &Template, kind: ValueType, name: &str) {
        let Some(value) = template.as_constant() else { return };
        if value.is_null() || kind.accepts(value) {
            return;
        }
        let message =
            format!("variable `{name}` has type {}, but the value is {}", kind.as_str(), node.kind());
        self.found.warning(code::WRONG_VALUE_TYPE, node.place, message).label = "the action will fail".into();
    }

    fn change(&mut self, index: usize, change: VariableChange) -> ActionKind {
        let inputs = self.inputs(index);
        let nothing = |code: &str, message: String| ActionKind::Invalid {
            code: Arc::from(code),
            message: Arc::from(message),
        };
        let counting = matches!(change, VariableChange::Increment | VariableChange::Decrement);
        let Some(name_node) = inputs.and_then(|inputs| inputs.get("name")) else {
            // As for undeclared variables below: increments load and fail when they run, the rest is an error.
            if counting {
                let outlined = &self.outline.actions[index];
                let message = format!("`{}` needs `inputs.name`, the variable to change", outlined.name);
                let place = outlined.name_place;
                self.found.warning(code::MISSING_MEMBER, place, message).label =
                    "the action will fail".into();
            } else {
                self.lack(index, "inputs.name");
            }
            return nothing("InvalidVariableName", "The action names no variable.".to_owned());
        };
        let Some(name) = self.found.want_text(name_node, "name") else {
            return nothing("InvalidVariableName", "The action names no variable.".to_owned());
        };
        let value_member = inputs.and_then(|inputs| inputs.member("value"));
        let value = value_member.map(|member| self.template(&member.value, index));
        if value.is_none() && !counting {
            self.lack(index, "inputs.value");
        }
        let Some(variable) = self.outline.variable(name) else {
            // For SetVariable and the append actions this is an error. IncrementVariable and DecrementVariable load and
            // fail when they run, because real definitions rely on that failure; see docs/conformance.md.
            let severity = if counting { Severity::Warning } else { Severity::Error };
            let message = format!("undeclared variable `{name}`");
            let names: Vec<&str> = self.outline.variables.iter().map(|variable| &*variable.name).collect();
            let hint = did_you_mean(name, names)
                .or_else(|| Some("declare it with InitializeVariable before this action".to_owned()));
            let diagnostic = self.found.report(severity, code::UNDECLARED_VARIABLE, name_node.place, message);
            diagnostic.hint = hint;
            if counting {
                diagnostic.label = "the action will fail".into();
            }
            return nothing(
                "InvalidVariableOperation",
                format!("The variable '{name}' must be initialized before it can be used."),
            );
        };
        let kind = self.outline.variables[variable.0 as usize].kind;
        let fits = match change {
            VariableChange::Set => true,
            VariableChange::Increment | VariableChange::Decrement => {
                matches!(kind, ValueType::Integer | ValueType::Float | ValueType::Any)
            }
            VariableChange::AppendText => matches!(kind, ValueType::String | ValueType::Any),
            VariableChange::AppendItem => matches!(kind, ValueType::Array | ValueType::Any),
        };
        if !fits {
            let message = format!(
                "`{}` cannot change `{name}`, which has type {}",
                self.outline.actions[index].type_name,
                kind.as_str()
            );
            self.found.warning(code::WRONG_OPERAND, name_node.place, message).label =
                "the action will fail".into();
        }
        if let (VariableChange::Set, Some(member), Some(template)) = (change, value_member, &value) {
            self.literal_fits(&member.value, template, kind, name);
            let reads_itself = template.references().iter().any(|reference| {
                reference.kind == ReferenceKind::Variable
                    && reference.name.as_deref().and_then(|name| self.outline.variable(name))
                        == Some(variable)
            });
            if reads_itself {
                let message = format!("SetVariable cannot read `{name}`, the variable that it sets");
                self.found.error(code::SELF_REFERENCE, member.value.place, message).hint = Some(
                    "compute the value in a Compose action, and set the variable to its outputs".to_owned(),
                );
            }
        }
        ActionKind::ChangeVariable { variable, change, value }
    }
}
