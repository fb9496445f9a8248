//! Loads the bytes of a file as a [`Workflow`], with the parameter values and connections that the file contains.

use std::sync::Arc;

use loom_expression::{Object, Value};

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Severity, code},
    findings::Findings,
    lower::{Subject, lower},
    model::{ValueType, Workflow, WorkflowKind},
    options::LoadOptions,
    shape,
    text::{self, NoteKind, ReadErrorKind},
};

/// A loaded definition.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// Warnings, in file order.
    pub warnings: Vec<Diagnostic>,
    /// Parameter values that the file contains outside the definition, by name.
    pub parameter_values: Object,
    /// Connections that the file contains: `connectionReferences`, or the value of `$connections`; null if there are
    /// none.
    pub connections: Value,
}

/// Loads definitions; see [`Definition::parse`].
#[derive(Clone, Copy, Debug)]
pub struct Definition;

impl Definition {
    /// Loads a definition of any supported shape: bare, wrapped in `{definition, kind, …}`, an ARM template (of which one
    /// workflow is loaded), a flow export with `properties.definition`, or the files of the management API.
    ///
    /// # Errors
    /// All errors and warnings, if there is at least one error. Spans are byte ranges of the text that [`text::decode`]
    /// returns; for a UTF-8 file these are byte ranges of the file.
    pub fn parse(bytes: &[u8], options: &LoadOptions) -> Result<Loaded, Diagnostics> {
        if bytes.len() > options.limits.bytes {
            let message = format!(
                "the file has {} bytes, which exceeds the limit of {}",
                bytes.len(),
                options.limits.bytes
            );
            let hint = "keep data out of the definition: pass it in the trigger body or as a parameter";
            return Err(alone(code::TOO_LARGE, 0..0, message, Some(hint.to_owned()), Vec::new()));
        }
        let source = text::decode(bytes).map_err(|error| {
            let offset = error.offset;
            alone(
                code::NOT_TEXT,
                offset..offset,
                error.to_string(),
                Some("save it as UTF-8".to_owned()),
                Vec::new(),
            )
        })?;
        Definition::parse_text(&source, options)
    }

    /// The names of the workflows in an ARM template, for [`LoadOptions::choose`]. Empty if the file has another shape or
    /// cannot be read.
    pub fn workflows(bytes: &[u8], options: &LoadOptions) -> Vec<String> {
        let source = text::decode(bytes).ok();
        let read = source.and_then(|source| text::read(&source, &options.limits).ok());
        read.map(|read| shape::names(&read.root, options)).unwrap_or_default()
    }

    /// The parameters that an ARM template declares, for [`LoadOptions::arm_parameters`]. Empty if the file has another
    /// shape or cannot be read.
    pub fn template_parameters(bytes: &[u8], options: &LoadOptions) -> Vec<(Arc<str>, ValueType)> {
        let source = text::decode(bytes).ok();
        let read = source.and_then(|source| text::read(&source, &options.limits).ok());
        read.map(|read| shape::template_parameters(&read.root)).unwrap_or_default()
    }

    /// Like [`Definition::parse`], but takes text instead of bytes.
    ///
    /// # Errors
    /// See [`Definition::parse`].
    pub fn parse_text(source: &str, options: &LoadOptions) -> Result<Loaded, Diagnostics> {
        let read = text::read(source, &options.limits).map_err(|error| {
            let code = match error.kind {
                ReadErrorKind::TooLarge => code::TOO_LARGE,
                ReadErrorKind::Syntax => code::NOT_JSON,
                ReadErrorKind::Truncated => code::TRUNCATED,
                ReadErrorKind::TooDeep => code::TOO_DEEP,
            };
            let related = error.related.iter().map(|(place, label)| (place.range(), label.clone())).collect();
            alone(code, error.place.range(), error.message.clone(), error.hint.clone(), related)
        })?;
        let mut found = Findings::new(source, &read.root);
        notes(&read.notes, &mut found);
        let Some(chosen) = shape::choose(&read.root, options, &mut found) else {
            return Err(found.finish());
        };
        let kind = chosen.kind.map_or(WorkflowKind::Stateful, |node| {
            node.text().and_then(WorkflowKind::parse).unwrap_or_else(|| {
                let message = format!("unknown workflow kind `{}`", node.text().unwrap_or(node.kind()));
                found.warning(code::UNKNOWN_WORKFLOW_KIND, node.place, message).hint =
                    Some("use `Stateful`, `Stateless` or `Agentic`".to_owned());
                WorkflowKind::Stateful
            })
        });
        let subject = Subject {
            name: name(options, chosen.name.as_deref()),
            kind,
            tags: chosen.tags.as_ref(),
            definition: &chosen.definition,
            strict_expressions: options.strict_expressions,
            accepted_before: options.accepted_before,
            script_check: options.script_check,
            parameters_file: options.parameters_file.as_ref(),
            policies: options.policies.as_deref(),
        };
        let workflow = lower(&subject, &mut found);
        let (parameter_values, connections) = chosen.values(&workflow, &mut found);
        found.settle_leftovers();
        let diagnostics = found.finish();
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        Ok(Loaded { workflow: Arc::new(workflow), warnings: diagnostics.0, parameter_values, connections })
    }
}

fn name(options: &LoadOptions, in_file: Option<&str>) -> Arc<str> {
    if let Some(name) = options.name.as_deref().or(in_file) {
        return Arc::from(name);
    }
    let file = options.file_name.as_deref().unwrap_or_default();
    let mut parts = file.rsplit(['/', '\\']);
    let base = parts.next().unwrap_or_default();
    let stem = base.split('.').next().unwrap_or_default();
    // A Standard project stores each workflow as `Name/workflow.json`.
    let stem = if stem.eq_ignore_ascii_case("workflow") { parts.next().unwrap_or(stem) } else { stem };
    Arc::from(if stem.is_empty() { "workflow" } else { stem })
}

fn notes(notes: &[text::Note], found: &mut Findings<'_>) {
    let mut liberties = 0;
    for note in notes {
        match &note.kind {
            NoteKind::DuplicateKey { name, first } => {
                let message = format!("duplicate key `{name}`; the last value wins");
                let diagnostic = found.warning(code::DUPLICATE_KEY, note.place, message);
                diagnostic.related.push((first.range(), "first defined here".to_owned()));
            }
            NoteKind::LoneSurrogate => {
                found.warning(code::LONE_SURROGATE, note.place, "unpaired surrogate; it is read as U+FFFD");
            }
            NoteKind::Comment | NoteKind::TrailingComma => {
                liberties += 1;
                if liberties == 1 {
                    let what = if note.kind == NoteKind::Comment { "a comment" } else { "a trailing comma" };
                    let message = format!("{what} is accepted here but is not strict JSON");
                    found.warning(code::NOT_STRICT_JSON, note.place, message);
                }
            }
        }
    }
}

fn alone(
    code: &'static str,
    span: std::ops::Range<usize>,
    message: String,
    hint: Option<String>,
    related: Vec<(std::ops::Range<usize>, String)>,
) -> Diagnostics {
    Diagnostics(vec![Diagnostic {
        code,
        severity: Severity::Error,
        message,
        pointer: String::new(),
        span,
        label: String::new(),
        hint,
        related,
    }])
}
