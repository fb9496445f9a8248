//! The diagnostics of one file while they are gathered, with the lookups that every report needs.

use std::ops::Range;

use crate::{
    arm,
    diagnostic::{Diagnostic, Diagnostics, Severity, code},
    model::Secure,
    text::{Node, Place, file_offset},
};

/// Codes of errors about a value that a deployment would have filled in.
const VALUES: [&str; 10] = [
    code::BAD_VALUE_TYPE,
    code::WRONG_VALUE_TYPE,
    code::BAD_CONCURRENCY,
    code::BAD_LOOP_LIMIT,
    code::BAD_DURATION,
    code::OUT_OF_RANGE,
    code::BAD_RETRY,
    code::BAD_CHOICE,
    code::BAD_TRIGGER_CONCURRENCY,
    code::BAD_RECURRENCE,
];

/// Gathers diagnostics and knows the file they are about.
pub(crate) struct Findings<'s> {
    source: &'s str,
    root: &'s Node,
    list: Vec<Diagnostic>,
    suggestions_left: u32,
}

/// Names that are looked for among those of the file, for as many mistakes: a file may have thousands of both, and whoever
/// reads the first hundred suggestions has understood.
const SUGGESTIONS_MAX: u32 = 100;

impl<'s> Findings<'s> {
    /// Nothing found yet, in the file whose text and tree these are.
    pub(crate) fn new(source: &'s str, root: &'s Node) -> Findings<'s> {
        Findings { source, root, list: Vec::new(), suggestions_left: SUGGESTIONS_MAX }
    }

    /// Whether one more wrong name may be compared with all those of the file.
    pub(crate) fn may_suggest(&mut self) -> bool {
        let may = self.suggestions_left > 0;
        self.suggestions_left = self.suggestions_left.saturating_sub(1);
        may
    }

    /// Where the bytes `span` of a string's content stand in the file; the whole of what is no string of the file.
    pub(crate) fn part(&self, node: &Node, span: &Range<usize>) -> Place {
        if node.computed || node.text().is_none() {
            return node.place;
        }
        let start = file_offset(self.source, node.place, span.start);
        let end = file_offset(self.source, node.place, span.end);
        Place::new(start, end.max(start))
    }

    /// The bytes of a part of the name at `name`, which belongs to a member of `object`.
    pub(crate) fn part_of_name(&self, object: &Node, name: Place, span: &Range<usize>) -> Place {
        if object.computed {
            return object.place;
        }
        let start = file_offset(self.source, name, span.start);
        let end = file_offset(self.source, name, span.end);
        Place::new(start, end.max(start))
    }

    /// Lets one warning stand for whatever else was found about text of a deployment template where a number, a type or one of
    /// several choices belongs: none of that is a mistake of the definition.
    pub(crate) fn settle_leftovers(&mut self) {
        let mut places = Vec::new();
        let root = self.root;
        self.list.retain(|found| {
            let about_a_value = found.severity == Severity::Warning || VALUES.contains(&found.code);
            if found.code == code::ARM_UNRESOLVED || !about_a_value {
                return true;
            }
            let node = root.follow(&found.pointer).filter(|node| node.text().is_some_and(arm::is_expression));
            let Some(node) = node.filter(|node| node.place.range().contains(&found.span.start)) else {
                return true;
            };
            places.push(node.place);
            false
        });
        for place in places {
            if !self.has(code::ARM_UNRESOLVED, place) {
                let message =
                    "this is an expression of a deployment template that was not deployed; it is passed over";
                self.warning(code::ARM_UNRESOLVED, place, message).hint = Some(
                    "supply the template's parameters: --template-params FILE, or -p NAME=VALUE".to_owned(),
                );
            }
        }
    }

    /// Everything found, in file order.
    pub(crate) fn finish(self) -> Diagnostics {
        let mut all = Diagnostics(self.list);
        all.sort();
        all
    }

    /// JSON pointer to the value at `place`.
    pub(crate) fn pointer(&self, place: Place) -> String {
        self.root.pointer_to(place)
    }

    /// Whether this was found at this place already.
    pub(crate) fn has(&self, code: &str, place: Place) -> bool {
        self.list.iter().any(|found| found.code == code && found.span == place.range())
    }

    /// Adds a finding about `place`; the caller adds label, hint and related places.
    pub(crate) fn report(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let pointer = self.pointer(place);
        self.list.push(Diagnostic {
            code,
            severity,
            message: message.into(),
            pointer,
            span: place.range(),
            label: String::new(),
            hint: None,
            related: Vec::new(),
        });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Adds an error about `place`.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Error, code, place, message)
    }

    /// Adds a warning about `place`.
    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Warning, code, place, message)
    }

    /// The text of `node`, or an error that names what it is.
    pub(crate) fn want_text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        if node.text().is_none() {
            self.error(code::WRONG_KIND, node.place, format!("`{what}` is text, not {}", node.kind()));
        }
        node.text()
    }

    /// Checks that `node` is an object, with an error where it is not.
    pub(crate) fn want_object<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Node> {
        if node.members().is_none() {
            self.error(code::WRONG_KIND, node.place, format!("`{what}` is an object, not {}", node.kind()));
            return None;
        }
        Some(node)
    }

    /// `runtimeConfiguration.secureData.properties`, or `.secureData` itself as a list.
    pub(crate) fn secure_data(&mut self, owner: &Node) -> Secure {
        let mut secure = Secure::default();
        let Some(data) = owner.get("runtimeConfiguration").and_then(|runtime| runtime.get("secureData"))
        else {
            return secure;
        };
        let Some(list) = data.get("properties").or(Some(data)).filter(|list| list.items().is_some()) else {
            self.error(
                code::BAD_SECURE_DATA,
                data.place,
                "`secureData.properties` lists `inputs` and `outputs`",
            );
            return secure;
        };
        for item in list.items().unwrap_or_default() {
            match item.text() {
                Some(text) if text.eq_ignore_ascii_case("inputs") => secure.inputs = true,
                Some(text) if text.eq_ignore_ascii_case("outputs") => secure.outputs = true,
                _ => {
                    let message = "an entry of `secureData.properties` is `inputs` or `outputs`";
                    self.error(code::BAD_SECURE_DATA, item.place, message);
                }
            }
        }
        secure
    }
}

/// The place of the bracket or the first byte of `node`, for findings about a whole object.
pub(crate) fn head(node: &Node) -> Place {
    if node.computed {
        return node.place;
    }
    match node.members() {
        Some(_) => Place { start: node.place.start, end: node.place.start + 1 },
        None => node.place,
    }
}
