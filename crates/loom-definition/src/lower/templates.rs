//! Compiles the expressions of a definition, maps their errors to positions in the file, and checks the names in them.

use std::{ops::Range, sync::Arc};

use loom_expression::{
    Code, Condition, NameKind, Names, Object, Options, Reference, ReferenceKind, Template, TemplateError,
    Value,
};

use super::{
    Findings, Lowerer,
    outline::Outline,
    paths::{Read, Timing},
};
use crate::{
    arm,
    diagnostic::{Severity, code, did_you_mean, json_type},
    model::{ActionIdx, LoopVariable},
    text::{Node, Shape, Span32, push_token},
};

impl Lowerer<'_, '_, '_> {
    /// Compiles the template at `node`, which belongs to the action `owner`.
    pub(super) fn template(&mut self, node: &Node, owner: usize) -> Template {
        self.template_of(node, &node.to_value(), Some(owner))
    }

    /// Compiles the template `value`, which is `node` without some of its properties.
    pub(super) fn template_of(&mut self, node: &Node, value: &Value, owner: Option<usize>) -> Template {
        self.leftovers(node);
        let options = self.expression_options();
        let compile = |value: &Value, outline: &Outline<'_>| Template::compile(value, outline, &options);
        let mut compiled = compile(value, &self.outline);
        if let Err(errors) = &mut compiled
            && let Some(plain) = self.unresolved(node, value, errors)
        {
            compiled = compile(&plain, &self.outline);
        }
        match compiled {
            Ok(template) => {
                self.references(node, &template.references(), owner);
                self.misfits(node, template.warnings());
                template
            }
            Err(errors) => {
                self.bad_expressions(node, &errors, owner);
                Template::constant(Value::NULL)
            }
        }
    }

    /// Compiles the condition at `node`. In the Loom spelling, the strings `"true"` and `"false"` are booleans.
    pub(super) fn condition(&mut self, node: &Node, owner: Option<usize>) -> Condition {
        let value = match node.text().map(str::trim) {
            Some(text) if self.loom && text.eq_ignore_ascii_case("true") => Value::from(true),
            Some(text) if self.loom && text.eq_ignore_ascii_case("false") => Value::from(false),
            _ => node.to_value(),
        };
        match Condition::compile(&value, &self.outline, &self.expression_options()) {
            Ok(condition) => {
                self.references(node, &condition.references(), owner);
                self.misfits(node, condition.warnings());
                if let Some(constant) = condition.as_constant().filter(|value| value.as_bool().is_none()) {
                    let message = format!("the condition must be a boolean, found {}", json_type(constant));
                    let diagnostic = self.found.warning(code::BAD_EXPRESSION, node.place, message);
                    diagnostic.label = "the action fails when it runs".into();
                    diagnostic.hint =
                        Some("an expression starts with `@`, for example \"@equals(1, 1)\"".to_owned());
                }
                condition
            }
            Err(errors) => {
                self.bad_expressions(node, &errors, owner);
                never(&self.outline)
            }
        }
    }

    /// Treats strings `[…]` that do not compile as unresolved expressions of an ARM template. Each becomes a plain string,
    /// with a warning. Returns the value with those strings escaped, if there are any.
    fn unresolved(&mut self, node: &Node, value: &Value, errors: &mut [TemplateError]) -> Option<Value> {
        let mut strings: Vec<&str> = Vec::new();
        for error in errors.iter() {
            if error.in_name || strings.contains(&error.pointer.as_str()) {
                continue;
            }
            if let Some(string) = string_at(node, &error.pointer)
                && string.text().is_some_and(|text| text.starts_with('[') && text.ends_with(']'))
            {
                self.leftover(string.place);
                strings.push(&error.pointer);
            }
        }
        let plain = strings.iter().map(|pointer| (*pointer).to_owned()).collect::<Vec<_>>();
        (!plain.is_empty()).then(|| made_plain(value, &mut String::new(), &plain))
    }

    /// Warns about strings that look like unresolved expressions of an ARM template but do compile.
    fn leftovers(&mut self, node: &Node) {
        match &node.shape {
            Shape::String(text) if arm::is_expression(text) => self.leftover(node.place),
            Shape::Array(items) => items.iter().for_each(|item| self.leftovers(item)),
            Shape::Object(members) => members.iter().for_each(|member| self.leftovers(&member.value)),
            Shape::String(_) | Shape::Null | Shape::Bool(_) | Shape::Number(_) => {}
        }
    }

    fn leftover(&mut self, place: Span32) {
        if !self.found.has(code::ARM_UNRESOLVED, place) {
            let message = "unresolved template expression; it is used as a plain string";
            self.found.warning(code::ARM_UNRESOLVED, place, message);
        }
    }

    /// Reports invalid expressions. Those that may only fail when the action runs are warnings, and the action is recorded
    /// as one that fails. A condition of the wrong form is always an error.
    fn bad_expressions(&mut self, node: &Node, errors: &[TemplateError], owner: Option<usize>) {
        let built_wrongly = errors.iter().any(|error| error.code == Code::BadCondition);
        // In the hosted service, an unknown function fails the action; any other error rejects the definition.
        let unknown = errors.iter().all(|error| error.code == Code::UnknownFunction);
        let deferred = owner.filter(|_| unknown || (!self.strict_expressions && !built_wrongly));
        if let (Some(owner), Some(first)) = (deferred, errors.first()) {
            self.broken.entry(owner).or_insert_with(|| first.message.clone());
        }
        for error in errors {
            let range = string_range(self.found, node, (&error.pointer, error.in_name), &error.span);
            let message = format!("{} ({})", error.message.trim_end_matches('.'), error.code);
            let severity = if deferred.is_some() { Severity::Warning } else { Severity::Error };
            let place = Span32::new(range.start, range.end);
            let diagnostic = self.found.report(severity, code::BAD_EXPRESSION, place, message);
            diagnostic.hint.clone_from(&error.hint);
            if deferred.is_some() {
                diagnostic.label = "the action fails when it runs".into();
            }
        }
    }

    /// Reports calls that fail if they are evaluated, which may never happen.
    fn misfits(&mut self, node: &Node, warnings: &[TemplateError]) {
        for warning in warnings {
            let range = string_range(self.found, node, (&warning.pointer, warning.in_name), &warning.span);
            let message = format!("{} ({})", warning.message.trim_end_matches('.'), warning.code);
            let place = Span32::new(range.start, range.end);
            let diagnostic = self.found.warning(code::BAD_EXPRESSION, place, message);
            diagnostic.hint.clone_from(&warning.hint);
            diagnostic.label = "it fails when it is evaluated".into();
        }
    }

    /// A placeholder for a missing condition, which is reported as an error.
    pub(super) fn no_condition(&self) -> Condition {
        never(&self.outline)
    }

    fn expression_options(&self) -> Options {
        Options { loom_spelling: self.loom, ..Options::default() }
    }

    fn references(&mut self, node: &Node, references: &[Reference], owner: Option<usize>) {
        for reference in references {
            if reference.kind == ReferenceKind::Result && reference.computed {
                self.any_result = true;
            }
            if matches!(reference.kind, ReferenceKind::Secret | ReferenceKind::Declassify) {
                self.has_reads = true;
                if let (Some(owner), Some(name)) = (owner, &reference.name) {
                    self.secrets.entry(owner).or_default().insert(Arc::clone(name));
                }
            }
            if reference.kind == ReferenceKind::Memory {
                self.has_reads = true;
                if let (Some(owner), Some(name)) = (owner, &reference.name) {
                    self.memory.entry(owner).or_default().insert(Arc::clone(name));
                }
                let range = reference_range(self.found, node, reference);
                self.memory_reference(reference, range);
            }
            let Some(name) = reference.name.as_deref() else { continue };
            self.read(node, reference, owner);
            if reference.kind == ReferenceKind::AgentParameter {
                let range = reference_range(self.found, node, reference);
                self.argument_reference(name, owner, Span32::new(range.start, range.end));
            }
            let kind = match reference.kind {
                ReferenceKind::Parameter => NameKind::Parameter,
                ReferenceKind::Variable => NameKind::Variable,
                ReferenceKind::LoopItem | ReferenceKind::LoopIndex => NameKind::Loop,
                kind if kind.is_action() => NameKind::Action,
                _ => continue,
            };
            let slot = self.outline.slot(kind, name);
            if let (ReferenceKind::Result, Some(slot)) = (reference.kind, slot) {
                self.outline.results_wanted.insert(slot);
            }
            let known = match (kind, slot) {
                (NameKind::Loop, Some(slot)) => self.encloses(ActionIdx(slot), owner),
                (NameKind::Variable, None) => self.loom && LoopVariable::parse(name).is_some(),
                (_, slot) => slot.is_some(),
            };
            if !known {
                self.unknown_name(kind, name, reference_range(self.found, node, reference), owner);
            }
        }
    }

    /// Records a reference to the result of an action.
    fn read(&mut self, node: &Node, reference: &Reference, owner: Option<usize>) {
        let Some(target) = reference.name.as_deref().and_then(|name| self.outline.action(name)) else {
            return;
        };
        if !reference.kind.is_action() {
            return;
        }
        let range = reference_range(self.found, node, reference);
        // The request that ends a subscription is evaluated when the subscription exists.
        let unsubscribes = reference.pointer.starts_with("/unsubscribe");
        self.reads.push(Read {
            owner: owner.map(|owner| ActionIdx(owner as u32)),
            target,
            kind: reference.kind,
            timing: if unsubscribes { Timing::Unsubscribing } else { self.timing },
            place: Span32::new(range.start, range.end),
        });
    }

    /// Whether the loop `wanted` encloses an expression of `owner`. A loop's own condition is part of its iterations, and
    /// sees their index.
    fn encloses(&self, wanted: ActionIdx, owner: Option<usize>) -> bool {
        let Some(owner) = owner else { return false };
        let owner = ActionIdx(owner as u32);
        (owner == wanted && self.timing == Timing::Iteration)
            || self.outline.enclosing(owner).any(|action| action == wanted)
    }

    fn unknown_name(&mut self, kind: NameKind, name: &str, range: Range<usize>, owner: Option<usize>) {
        let may_suggest = self.found.may_suggest();
        let outline = &self.outline;
        let action_names = || outline.actions.iter().map(|action| &*action.name);
        let (code, message, hint) = match kind {
            NameKind::Action => (
                code::UNKNOWN_ACTION,
                format!("unknown action `{name}`"),
                may_suggest
                    .then(|| crate::diagnostic::nearest(name, action_names()))
                    .flatten()
                    .map(|found| format!("did you mean `{found}`?")),
            ),
            NameKind::Variable => (
                code::UNKNOWN_VARIABLE,
                format!("undeclared variable `{name}`"),
                may_suggest
                    .then(|| did_you_mean(name, outline.variables.iter().map(|variable| &*variable.name)))
                    .flatten(),
            ),
            NameKind::Parameter => (
                code::UNKNOWN_PARAMETER,
                format!("undeclared parameter `{name}`"),
                may_suggest
                    .then(|| did_you_mean(name, outline.parameters.iter().map(|parameter| &**parameter)))
                    .flatten(),
            ),
            NameKind::Loop => {
                let enclosing: Vec<&str> = owner
                    .into_iter()
                    .flat_map(|owner| outline.enclosing(ActionIdx(owner as u32)))
                    .filter(|action| outline.outlined(*action).kind.is_loop())
                    .map(|action| &*outline.outlined(action).name)
                    .collect();
                let hint = if enclosing.is_empty() {
                    Some("it is not inside a Foreach or Until".to_owned())
                } else {
                    did_you_mean(name, enclosing)
                };
                (code::UNKNOWN_LOOP, format!("no loop `{name}` encloses this expression"), hint)
            }
        };
        let place = Span32::new(range.start, range.end);
        let refused = matches!(kind, NameKind::Loop | NameKind::Action);
        let severity = if refused { self.refusal } else { Severity::Warning };
        let diagnostic = self.found.report(severity, code, place, message);
        diagnostic.hint = hint;
        if severity == Severity::Warning {
            diagnostic.label = "it fails when it is evaluated".into();
        }
    }
}

fn never(outline: &Outline<'_>) -> Condition {
    Condition::compile(&Value::from(false), outline, &Options::default())
        .expect("a literal boolean is a condition")
}

/// Escapes the interpolations in the strings at `pointers`, so that they are literal.
fn made_plain(value: &Value, at: &mut String, pointers: &[String]) -> Value {
    let length = at.len();
    if let Some(items) = value.as_array() {
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            push_token(at, &index.to_string());
            list.push(made_plain(item, at, pointers));
            at.truncate(length);
        }
        return Value::from(list);
    }
    if let Some(members) = value.as_object() {
        let mut object = Object::new();
        for (name, member) in members {
            push_token(at, name);
            object.insert(&**name, made_plain(member, at, pointers));
            at.truncate(length);
        }
        return Value::from(object);
    }
    match value.as_str() {
        Some(text) if pointers.contains(at) => Value::from(text.replace("@{", "@@{")),
        _ => value.clone(),
    }
}

fn reference_range(found: &Findings<'_>, node: &Node, reference: &Reference) -> Range<usize> {
    string_range(found, node, (&reference.pointer, reference.in_name), &reference.span)
}

/// The position in the file of a part of a string inside `node`: of the value at `pointer`, or of its name.
fn string_range(
    found: &Findings<'_>,
    node: &Node,
    (pointer, in_name): (&str, bool),
    span: &Range<usize>,
) -> Range<usize> {
    if in_name {
        return name_at(node, pointer).map_or_else(
            || node.place.range(),
            |(object, name)| found.part_of_name(object, name, span).range(),
        );
    }
    let string = string_at(node, pointer);
    string.map_or_else(|| node.place.range(), |string| found.part(string, span).range())
}

/// The object that contains the property at `pointer`, and the position of the property's name.
fn name_at<'n>(node: &'n Node, pointer: &str) -> Option<(&'n Node, Span32)> {
    let (outer, name) = pointer.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    let object = string_at(node, outer)?;
    let member = object.members()?.iter().rev().find(|member| *member.name == *name)?;
    Some((object, member.name_place))
}

/// The node at `pointer`. In the Loom spelling, the file may have `url` for `uri`; a NestedAgent has `taskMessage` for `body`.
fn string_at<'n>(node: &'n Node, pointer: &str) -> Option<&'n Node> {
    node.follow(pointer).or_else(|| {
        let renamed = [("/uri", "/url"), ("/body", "/taskMessage")];
        renamed.iter().find_map(|(now, written)| {
            let rest = pointer.strip_prefix(now)?;
            node.follow(&format!("{written}{rest}"))
        })
    })
}
