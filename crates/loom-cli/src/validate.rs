//! `loom validate`: everything that is wrong with definitions, with the place.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use loom_definition::{
    Definition, Diagnostic, LoadOptions, Severity,
    diagnostic::{SourceFile, sarif},
    render, text,
};
use loom_expression::{Object, Value};

use crate::{
    args::ValidateArgs,
    console::{self, Console},
    exit::Exit,
    explain, files,
};

/// One file and what was found in it.
struct Checked {
    name: String,
    source: String,
    findings: Vec<Diagnostic>,
}

/// Runs the command.
pub(crate) fn command(args: &ValidateArgs, console: Console) -> Result<Exit> {
    let mut exit = Exit::Success;
    let mut checked = Vec::new();
    let wanted =
        |path: &Path, bytes: &[u8]| files::may_be_a_definition(path) && files::looks_like_a_definition(bytes);
    for path in &files::meant(&args.files, "definition", wanted)? {
        match check(path) {
            Ok(file) => {
                if file.has_errors() {
                    exit = exit.worse(Exit::Refused);
                }
                checked.push(file);
            }
            Err(error) => {
                console::error(format_args!("{error:#}"));
                exit = exit.worse(Exit::Usage);
            }
        }
    }
    if args.sarif {
        let files: Vec<SourceFile<'_>> = checked
            .iter()
            .map(|file| SourceFile { name: &file.name, source: &file.source, diagnostics: &file.findings })
            .collect();
        console::json(&sarif(&files).to_json_text_pretty());
    } else if args.json {
        for file in &checked {
            console::json(&file.to_json().to_json_text());
        }
    } else {
        for file in &checked {
            file.print(console);
        }
        explain::point_at(checked.iter().flat_map(|file| &file.findings));
    }
    Ok(exit)
}

fn check(path: &Path) -> Result<Checked> {
    let bytes = files::read(path)?;
    let name = path.display().to_string();
    // What can only fail when it runs is an error for whoever asks before it runs.
    let options = LoadOptions {
        file_name: Some(Arc::from(name.as_str())),
        strict_expressions: true,
        script_check: Some(loom_actions::check_javascript),
        ..LoadOptions::default()
    };
    let found = |options: &LoadOptions| match Definition::parse(&bytes, options) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics.0,
    };
    let workflows = Definition::workflows(&bytes, &options);
    let mut findings = Vec::new();
    if workflows.len() > 1 {
        for workflow in workflows {
            let options = LoadOptions { choose: Some(Arc::from(workflow)), ..options.clone() };
            for finding in found(&options) {
                // What is wrong with the file is wrong with each of them.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    } else {
        findings = found(&options);
    }
    // Text that cannot be decoded is shown without its line.
    let source = text::decode(&bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    Ok(Checked { name, source, findings })
}

impl Checked {
    fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn to_json(&self) -> Value {
        let list: Vec<Value> = self.findings.iter().map(|finding| finding.to_json(&self.source)).collect();
        let mut object = Object::new();
        object.insert("file", self.name.as_str());
        object.insert("valid", !self.has_errors());
        object.insert("diagnostics", Value::from(list));
        object.into()
    }

    fn print(&self, console: Console) {
        for finding in &self.findings {
            console::note_styled(&(render(finding, &self.source, &self.name, console.color) + "\n"));
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        match (errors, warnings) {
            (0, 0) => println!("{}: ok", self.name),
            (0, warnings) => println!("{}: ok, {}", self.name, plural(warnings, "warning")),
            (errors, 0) => println!("{}: {}", self.name, plural(errors, "error")),
            (errors, warnings) => {
                println!("{}: {}, {}", self.name, plural(errors, "error"), plural(warnings, "warning"));
            }
        }
    }
}
