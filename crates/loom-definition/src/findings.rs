//! Collects the diagnostics of one file, and finds the positions that they need.

use std::ops::Range;

use crate::{
    arm,
    diagnostic::{Diagnostic, Diagnostics, Severity, code},
    setting::Secure,
    text::{Node, Span32, file_offset},
};

/// The codes of errors that an unresolved template expression may cause.
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

/// Collects the diagnostics of a file.
pub(crate) struct Findings<'s> {
    source: &'s str,
    root: &'s Node,
    list: Vec<Diagnostic>,
    suggestions_left: u32,
}

/// The most suggestions per file. To suggest a name, it is compared with all names of the file, and a file may have
/// thousands of names and as many misspelled ones.
const SUGGESTIONS_MAX: u32 = 100;

impl<'s> Findings<'s> {
    /// An empty collection for the file with this text and tree.
    pub(crate) fn new(source: &'s str, root: &'s Node) -> Findings<'s> {
        Findings { source, root, list: Vec::new(), suggestions_left: SUGGESTIONS_MAX }
    }

    /// Whether a name may be suggested for one more unknown name; see [`SUGGESTIONS_MAX`].
    pub(crate) fn may_suggest(&mut self) -> bool {
        let may = self.suggestions_left > 0;
        self.suggestions_left = self.suggestions_left.saturating_sub(1);
        may
    }

    /// The position in the file of the bytes `span` of a string's content; the whole value if the file does not contain the
    /// string literally.
    pub(crate) fn part(&self, node: &Node, span: &Range<usize>) -> Span32 {
        if node.computed || node.text().is_none() {
            return node.place;
        }
        let start = file_offset(self.source, node.place, span.start);
        let end = file_offset(self.source, node.place, span.end);
        Span32::new(start, end.max(start))
    }

    /// The position in the file of the bytes `span` of a property's name. The name is at `name`, in `object`.
    pub(crate) fn part_of_name(&self, object: &Node, name: Span32, span: &Range<usize>) -> Span32 {
        if object.computed {
            return object.place;
        }
        let start = file_offset(self.source, name, span.start);
        let end = file_offset(self.source, name, span.end);
        Span32::new(start, end.max(start))
    }

    /// Replaces the diagnostics about an unresolved template expression by one warning: the expression may well give the
    /// number, type or choice that is required.
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
                let message = "unresolved template expression; it is ignored and the default applies";
                self.warning(code::ARM_UNRESOLVED, place, message).hint = Some(
                    "supply the template's parameters with --template-params FILE or -p NAME=VALUE"
                        .to_owned(),
                );
            }
        }
    }

    /// Whether nothing has been reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All diagnostics, in file order.
    pub(crate) fn finish(self) -> Diagnostics {
        let mut all = Diagnostics(self.list);
        all.sort();
        all
    }

    /// The JSON pointer to the value at `place`.
    pub(crate) fn pointer(&self, place: Span32) -> String {
        self.root.pointer_to(place)
    }

    /// Whether a diagnostic with this code was already reported at this position.
    pub(crate) fn has(&self, code: &str, place: Span32) -> bool {
        self.list.iter().any(|found| found.code == code && found.span == place.range())
    }

    /// Adds a diagnostic about `place`; the caller adds the label, hint and related places.
    pub(crate) fn report(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Span32,
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
        place: Span32,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Error, code, place, message)
    }

    /// Adds a warning about `place`.
    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        place: Span32,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.report(Severity::Warning, code, place, message)
    }

    /// The string in `node`; reports an error if it is not a string.
    pub(crate) fn want_text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        if node.text().is_none() {
            self.error(
                code::WRONG_KIND,
                node.place,
                format!("`{what}` must be a string, found {}", node.kind()),
            );
        }
        node.text()
    }

    /// Returns `node` if it is an object; reports an error if not.
    pub(crate) fn want_object<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Node> {
        self.object(node, &format!("`{what}`"))
    }

    /// Reports a file whose content is not an object.
    pub(crate) fn want_document<'n>(&mut self, root: &'n Node) -> Option<&'n Node> {
        self.object(root, "the file")
    }

    fn object<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Node> {
        if node.members().is_none() {
            let message = format!("{what} must be an object, found {}", node.kind());
            self.error(code::WRONG_KIND, node.place, message);
            return None;
        }
        Some(node)
    }

    /// Reads `runtimeConfiguration.secureData.properties`, or `.secureData` itself if it is an array.
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
                "`secureData.properties` must be an array of `inputs` and `outputs`",
            );
            return secure;
        };
        for item in list.items().unwrap_or_default() {
            match item.text() {
                Some(text) if text.eq_ignore_ascii_case("inputs") => secure.inputs = true,
                Some(text) if text.eq_ignore_ascii_case("outputs") => secure.outputs = true,
                _ => {
                    let message = "an entry of `secureData.properties` must be `inputs` or `outputs`";
                    self.error(code::BAD_SECURE_DATA, item.place, message);
                }
            }
        }
        secure
    }
}

/// The opening bracket of an object, for diagnostics about the object as a whole; all of any other value.
pub(crate) fn head(node: &Node) -> Span32 {
    if node.computed {
        return node.place;
    }
    match node.members() {
        Some(_) => Span32 { start: node.place.start, end: node.place.start + 1 },
        None => node.place,
    }
}
