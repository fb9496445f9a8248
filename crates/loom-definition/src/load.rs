//! Loading: bytes of a file to a [`Workflow`] and what came beside it.

use std::sync::Arc;

use loom_expression::{Object, Value};

use crate::{
    arm,
    diagnostic::{Diagnostic, Diagnostics, Severity, code},
    lower::{Findings, Subject, lower},
    model::{ValueType, Workflow, WorkflowKind},
    shape,
    text::{self, Limits, NoteKind, ReadErrorKind},
};

/// How a definition is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The workflow's name. Without it: the name in the file, else the stem of `file_name`, else `workflow`.
    pub name: Option<Arc<str>>,
    /// The file's name, for the workflow's name only.
    pub file_name: Option<Arc<str>>,
    /// Which workflow of a template that holds several.
    pub choose: Option<Arc<str>>,
    /// Values for the parameters of an ARM template; they go before the template's defaults.
    pub arm_parameters: Object,
    /// What a deployment would know.
    pub deployment: arm::Deployment,
    /// Parameters declared beside the definition: the content of Standard's `parameters.json`,
    /// `{name: {type, value}}`.
    pub parameters_file: Option<Value>,
    /// Whether a mistake in an action's expression refuses the definition. Without it the definition loads with a
    /// warning, and the action fails when it runs, with `InvalidTemplate`, as every other failing expression does.
    pub strict_expressions: bool,
    /// Whether the definition was accepted before and is only read again, such as one that runs still need. Rules that
    /// came later warn then, where they refuse a new definition.
    pub accepted_before: bool,
    /// Finds mistakes in the code of `JavaScriptCode` actions. What finds none may be left out: this crate reads no code.
    pub script_check: Option<ScriptCheck>,
    /// What the text may cost.
    pub limits: Limits,
}

/// Finds the first mistake in the grammar of a script's code, without running it.
pub type ScriptCheck = fn(&str) -> Option<ScriptMistake>;

/// A mistake in a script's code that can be seen before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptMistake {
    /// What is wrong.
    pub message: String,
    /// Where in the code, as an offset in bytes.
    pub offset: usize,
}

/// A loaded definition.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// What somebody should look at, in file order.
    pub warnings: Vec<Diagnostic>,
    /// Values of parameters that came in the file, beside the definition: name → value.
    pub parameter_values: Object,
    /// Connections that came in the file: `connectionReferences`, or the value of `$connections`; else null.
    pub connections: Value,
}

/// Reads definitions; see [`Definition::parse`].
#[derive(Clone, Copy, Debug)]
pub struct Definition;

impl Definition {
    /// Loads a definition in any of its shapes: bare, wrapped in `{definition, kind, …}`, an ARM template with one
    /// workflow or a chosen one, a flow export with `properties.definition`.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included. Spans are bytes of the text that
    /// [`text::decode`] gives, which for UTF-8 are those of the file.
    pub fn parse(bytes: &[u8], options: &LoadOptions) -> Result<Loaded, Diagnostics> {
        if bytes.len() > options.limits.bytes {
            let message =
                format!("the file has {} bytes, and at most {} are read", bytes.len(), options.limits.bytes);
            let hint = "keep data out of the definition: pass it as a trigger body or a parameter";
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

    /// The names of the workflows that a template holds, for [`LoadOptions::choose`]; none where the text has another
    /// shape, or cannot be read.
    pub fn workflows(bytes: &[u8], options: &LoadOptions) -> Vec<String> {
        let source = text::decode(bytes).ok();
        let read = source.and_then(|source| text::read(&source, &options.limits).ok());
        read.map(|read| shape::names(&read.root, options)).unwrap_or_default()
    }

    /// The parameters that a deployment template declares, for [`LoadOptions::arm_parameters`]; none where the text has another
    /// shape, or cannot be read.
    pub fn template_parameters(bytes: &[u8], options: &LoadOptions) -> Vec<(Arc<str>, ValueType)> {
        let source = text::decode(bytes).ok();
        let read = source.and_then(|source| text::read(&source, &options.limits).ok());
        read.map(|read| shape::template_parameters(&read.root)).unwrap_or_default()
    }

    /// As [`Definition::parse`], from text.
    ///
    /// # Errors
    /// As [`Definition::parse`].
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
            node.text().and_then(shape::workflow_kind).unwrap_or_else(|| {
                let message = format!("`{}` is no kind of workflow", node.text().unwrap_or(node.kind()));
                found.warning(code::UNKNOWN_WORKFLOW_KIND, node.place, message).hint =
                    Some("there are `Stateful`, `Stateless` and `Agentic`".to_owned());
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
    // Standard keeps each workflow as `Name/workflow.json`.
    let stem = if stem.eq_ignore_ascii_case("workflow") { parts.next().unwrap_or(stem) } else { stem };
    Arc::from(if stem.is_empty() { "workflow" } else { stem })
}

fn notes(notes: &[text::Note], found: &mut Findings<'_>) {
    let mut liberties = 0;
    for note in notes {
        match &note.kind {
            NoteKind::DuplicateKey { name, first } => {
                let message = format!("the key `{name}` is there twice; the last one counts");
                let diagnostic = found.warning(code::DUPLICATE_KEY, note.place, message);
                diagnostic.related.push((first.range(), "first here".to_owned()));
            }
            NoteKind::LoneSurrogate => {
                found.warning(code::LONE_SURROGATE, note.place, "this is half of a character");
            }
            NoteKind::Comment | NoteKind::TrailingComma => {
                liberties += 1;
                if liberties == 1 {
                    let what = if note.kind == NoteKind::Comment { "a comment" } else { "a trailing comma" };
                    let message = format!("{what} is read here, but it is not strict JSON");
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
