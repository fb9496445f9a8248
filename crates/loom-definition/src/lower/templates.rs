//! Compiles the expressions of a definition, maps their mistakes to bytes of the file, and checks the names in them.

use std::ops::Range;

use loom_expression::{
    Condition, NameKind, Names, Options, Reference, ReferenceKind, Template, TemplateError, Value,
};

use super::{Findings, Lowerer, outline::Outline};
use crate::{
    diagnostic::{code, did_you_mean},
    model::ActionIdx,
    text::{Node, Place, file_offset},
};

impl Lowerer<'_, '_, '_> {
    /// The template at `node`, an expression of action `owner`.
    pub(super) fn template(&mut self, node: &Node, owner: usize) -> Template {
        self.template_of(node, &node.to_value(), Some(owner))
    }

    /// The template of `value`, which is `node` with some members taken away.
    pub(super) fn template_of(&mut self, node: &Node, value: &Value, owner: Option<usize>) -> Template {
        match Template::compile(value, &self.outline, &self.expression_options()) {
            Ok(template) => {
                self.references(node, &template.references(), owner);
                template
            }
            Err(errors) => {
                report(self.found, node, &errors);
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
                condition
            }
            Err(errors) => {
                report(self.found, node, &errors);
                never(&self.outline)
            }
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
                (NameKind::Variable, None) => self.loom && is_loop_variable(name),
                (_, slot) => slot.is_some(),
            };
            if !known {
                self.unknown_name(kind, name, reference_range(self.found, node, reference), owner);
            }
        }
    }

    fn is_around(&self, wanted: ActionIdx, owner: Option<usize>) -> bool {
        let Some(owner) = owner else { return false };
        let owner = ActionIdx(owner as u32);
        owner == wanted || self.outline.around(owner).any(|action| action == wanted)
    }

    fn unknown_name(&mut self, kind: NameKind, name: &str, range: Range<usize>, owner: Option<usize>) {
        let outline = &self.outline;
        let action_names = || outline.actions.iter().map(|action| &*action.name);
        let (code, message, hint) = match kind {
            NameKind::Action => (
                code::UNKNOWN_ACTION,
                format!("there is no action `{name}`"),
                crate::diagnostic::nearest(name, action_names())
                    .map(|found| format!("did you mean `{found}`?")),
            ),
            NameKind::Variable => (
                code::UNKNOWN_VARIABLE,
                format!("no action declares the variable `{name}`"),
                did_you_mean(name, outline.variables.iter().map(|variable| &*variable.name)),
            ),
            NameKind::Parameter => (
                code::UNKNOWN_PARAMETER,
                format!("the definition declares no parameter `{name}`"),
                did_you_mean(name, outline.parameters.iter().map(|parameter| &**parameter)),
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
        let diagnostic = self.found.warning(code, place, message);
        diagnostic.hint = hint;
        diagnostic.label = "it fails when it is evaluated".into();
    }
}

/// Names that a loop in the Loom spelling binds for its body.
fn is_loop_variable(name: &str) -> bool {
    ["loopIndex", "loopCount", "loopResult", "loopStartTime"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

fn never(outline: &Outline<'_>) -> Condition {
    Condition::compile(&Value::from(false), outline, &Options::default())
        .expect("a literal boolean is a condition")
}

/// Reports what the expression compiler found in the strings of `node`.
pub(super) fn report(found: &mut Findings<'_>, node: &Node, errors: &[TemplateError]) {
    for error in errors {
        let range = string_range(found, node, &error.pointer, &error.span);
        let message = format!("{} ({})", error.message.trim_end_matches('.'), error.code);
        let diagnostic = found.error(code::BAD_EXPRESSION, Place::new(range.start, range.end), message);
        diagnostic.hint.clone_from(&error.hint);
    }
}

fn reference_range(found: &Findings<'_>, node: &Node, reference: &Reference) -> Range<usize> {
    string_range(found, node, &reference.pointer, &reference.span)
}

/// The bytes of the file for a place in a string within `node`.
fn string_range(found: &Findings<'_>, node: &Node, pointer: &str, span: &Range<usize>) -> Range<usize> {
    // `uri` may stand in the file as `url`, Loom's name for it.
    let string = node.follow(pointer).or_else(|| {
        let rest = pointer.strip_prefix("/uri")?;
        node.follow(&format!("/url{rest}"))
    });
    let Some(string) = string else { return node.place.range() };
    if string.computed || string.text().is_none() {
        return string.place.range();
    }
    let start = file_offset(found.source(), string.place, span.start);
    let end = file_offset(found.source(), string.place, span.end);
    start..end.max(start)
}
