//! Compiles the expressions of a definition, maps their mistakes to bytes of the file, and checks the names in them.

use std::ops::Range;

use loom_expression::{
    Code, Condition, NameKind, Names, Object, Options, Reference, ReferenceKind, Template, TemplateError,
    Value,
};

use super::{
    Findings, Lowerer,
    outline::Outline,
    paths::{Moment, Read},
};
use crate::{
    arm,
    diagnostic::{Severity, code, did_you_mean},
    model::{ActionIdx, LoopVariable},
    text::{Node, Place, Shape, push_token},
};

impl Lowerer<'_, '_, '_> {
    /// The template at `node`, an expression of action `owner`.
    pub(super) fn template(&mut self, node: &Node, owner: usize) -> Template {
        self.template_of(node, &node.to_value(), Some(owner))
    }

    /// The template of `value`, which is `node` with some members taken away.
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

    /// The condition at `node`. In the Loom spelling a bare `"true"` or `"false"` is a boolean.
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
                    let message =
                        format!("this condition is always of type '{}', not a boolean", constant.kind());
                    let diagnostic = self.found.warning(code::BAD_EXPRESSION, node.place, message);
                    diagnostic.label = "the action will fail".into();
                    diagnostic.hint =
                        Some("an expression starts with '@', as in \"@equals(1, 1)\"".to_owned());
                }
                condition
            }
            Err(errors) => {
                self.bad_expressions(node, &errors, owner);
                never(&self.outline)
            }
        }
    }

    /// Strings `[…]` that do not compile are expressions of a deployment template that was never deployed. They stay
    /// as text, with a warning each; gives the value with them made plain, if there are any.
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

    /// Warns of strings that a deployment would have computed, and that no expression of the language is in to fail.
    fn leftovers(&mut self, node: &Node) {
        match &node.shape {
            Shape::String(text) if arm::is_expression(text) => self.leftover(node.place),
            Shape::Array(items) => items.iter().for_each(|item| self.leftovers(item)),
            Shape::Object(members) => members.iter().for_each(|member| self.leftovers(&member.value)),
            Shape::String(_) | Shape::Null | Shape::Bool(_) | Shape::Number(_) => {}
        }
    }

    fn leftover(&mut self, place: Place) {
        if !self.found.has(code::ARM_UNRESOLVED, place) {
            let message = "this looks like an expression of a deployment template; it stays as text";
            self.found.warning(code::ARM_UNRESOLVED, place, message);
        }
    }

    /// Reports mistakes in expressions. Where they are to be met only when the action runs, they are warnings, and the
    /// action is remembered as one that can only fail. A condition that is built wrongly is the definition's mistake.
    fn bad_expressions(&mut self, node: &Node, errors: &[TemplateError], owner: Option<usize>) {
        let built_wrongly = errors.iter().any(|error| error.code == Code::BadCondition);
        // The language keeps a function that it does not know until the action runs; everything else refuses a definition.
        let unknown = errors.iter().all(|error| error.code == Code::UnknownFunction);
        let deferred = owner.filter(|_| unknown || (!self.strict_expressions && !built_wrongly));
        if let (Some(owner), Some(first)) = (deferred, errors.first()) {
            self.broken.entry(owner).or_insert_with(|| first.message.clone());
        }
        for error in errors {
            let range = string_range(self.found, node, (&error.pointer, error.in_name), &error.span);
            let message = format!("{} ({})", error.message.trim_end_matches('.'), error.code);
            let severity = if deferred.is_some() { Severity::Warning } else { Severity::Error };
            let place = Place::new(range.start, range.end);
            let diagnostic = self.found.report(severity, code::BAD_EXPRESSION, place, message);
            diagnostic.hint.clone_from(&error.hint);
            if deferred.is_some() {
                diagnostic.label = "the action will fail".into();
            }
        }
    }

    /// Reports calls that fail if they are reached, which they need not be.
    fn misfits(&mut self, node: &Node, warnings: &[TemplateError]) {
        for warning in warnings {
            let range = string_range(self.found, node, (&warning.pointer, warning.in_name), &warning.span);
            let message = format!("{} ({})", warning.message.trim_end_matches('.'), warning.code);
            let place = Place::new(range.start, range.end);
            let diagnostic = self.found.warning(code::BAD_EXPRESSION, place, message);
            diagnostic.hint.clone_from(&warning.hint);
            diagnostic.label = "it fails when it is reached".into();
        }
    }

    /// A condition for where the definition has none; an error is reported beside it.
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
            let Some(name) = reference.name.as_deref() else { continue };
            self.read(node, reference, owner);
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
                (NameKind::Loop, Some(slot)) => self.is_around(ActionIdx(slot), owner),
                (NameKind::Variable, None) => self.loom && LoopVariable::parse(name).is_some(),
                (_, slot) => slot.is_some(),
            };
            if !known {
                self.unknown_name(kind, name, reference_range(self.found, node, reference), owner);
            }
        }
    }

    /// Remembers a mention of an action's result.
    fn read(&mut self, node: &Node, reference: &Reference, owner: Option<usize>) {
        let Some(target) = reference.name.as_deref().and_then(|name| self.outline.action(name)) else {
            return;
        };
        if !reference.kind.is_action() {
            return;
        }
        let range = reference_range(self.found, node, reference);
        // What ends a subscription is evaluated when there is one.
        let unsubscribes = reference.pointer.starts_with("/unsubscribe");
        self.reads.push(Read {
            owner: owner.map(|owner| ActionIdx(owner as u32)),
            target,
            kind: reference.kind,
            moment: if unsubscribes { Moment::Unsubscribing } else { self.moment },
            place: Place::new(range.start, range.end),
        });
    }

    /// Whether a loop is around an expression. Its own condition is within its rounds, and sees their index.
    fn is_around(&self, wanted: ActionIdx, owner: Option<usize>) -> bool {
        let Some(owner) = owner else { return false };
        let owner = ActionIdx(owner as u32);
        (owner == wanted && self.moment == Moment::Round)
            || self.outline.around(owner).any(|action| action == wanted)
    }

    fn unknown_name(&mut self, kind: NameKind, name: &str, range: Range<usize>, owner: Option<usize>) {
        let may_suggest = self.found.may_suggest();
        let outline = &self.outline;
        let action_names = || outline.actions.iter().map(|action| &*action.name);
        let (code, message, hint) = match kind {
            NameKind::Action => (
                code::UNKNOWN_ACTION,
                format!("there is no action `{name}`"),
                may_suggest
                    .then(|| crate::diagnostic::nearest(name, action_names()))
                    .flatten()
                    .map(|found| format!("did you mean `{found}`?")),
            ),
            NameKind::Variable => (
                code::UNKNOWN_VARIABLE,
                format!("no action declares the variable `{name}`"),
                may_suggest
                    .then(|| did_you_mean(name, outline.variables.iter().map(|variable| &*variable.name)))
                    .flatten(),
            ),
            NameKind::Parameter => (
                code::UNKNOWN_PARAMETER,
                format!("the definition declares no parameter `{name}`"),
                may_suggest
                    .then(|| did_you_mean(name, outline.parameters.iter().map(|parameter| &**parameter)))
                    .flatten(),
            ),
            NameKind::Loop => {
                let around: Vec<&str> = owner
                    .into_iter()
                    .flat_map(|owner| outline.around(ActionIdx(owner as u32)))
                    .filter(|action| outline.outlined(*action).kind.is_loop())
                    .map(|action| &*outline.outlined(action).name)
                    .collect();
                let hint = if around.is_empty() {
                    Some("no loop is around this expression".to_owned())
                } else {
                    did_you_mean(name, around)
                };
                (code::UNKNOWN_LOOP, format!("no loop `{name}` is around this expression"), hint)
            }
        };
        let place = Place::new(range.start, range.end);
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

/// `value` with the interpolations of the strings at `pointers` escaped, so that they are text.
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

/// The bytes of the file for a place in a string within `node`: in the value at a pointer, or in the name of it.
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

/// The object that holds the member at `pointer`, and where the name of that member stands.
fn name_at<'n>(node: &'n Node, pointer: &str) -> Option<(&'n Node, Place)> {
    let (outer, name) = pointer.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    let object = string_at(node, outer)?;
    let member = object.members()?.iter().rev().find(|member| *member.name == *name)?;
    Some((object, member.name_place))
}

/// The node at `pointer`. `uri` may stand in the file as `url`, Loom's name for it.
fn string_at<'n>(node: &'n Node, pointer: &str) -> Option<&'n Node> {
    node.follow(pointer).or_else(|| {
        let rest = pointer.strip_prefix("/uri")?;
        node.follow(&format!("/url{rest}"))
    })
}
