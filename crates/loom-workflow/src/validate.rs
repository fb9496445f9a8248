//! `loom validate`: reports all errors and warnings of definitions, with their positions.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use loom_actions::Project;
use loom_definition::{
    Definition, Diagnostic, LoadOptions, Severity, Workflow,
    diagnostic::{CallFault, SourceFile, sarif},
    policy::Policies,
    render, text,
};
use loom_expression::{Object, Value, Visible};

use crate::{
    args::ValidateArgs,
    config::Config,
    console::{self, Console},
    exit::Exit,
    explain, files,
    run::{Settings, call_problem, missing_connections, parameters},
};

/// Diagnostics for values that are only known at deployment: parameters without a value, and missing app settings.
const GIVEN_LATER: [&str; 2] = ["L0407", "L0411"];

/// One file and its diagnostics.
struct Checked {
    name: String,
    source: String,
    findings: Vec<Diagnostic>,
    /// The effective policies of its actions, in words, if they are wanted.
    policies: Vec<String>,
    /// The names of the workflows that it defines, as far as they are valid.
    workflows: Vec<Arc<str>>,
}

/// Runs the command.
pub(crate) fn command(args: &ValidateArgs, console: Console) -> Result<Exit> {
    let mut exit = Exit::Success;
    let (mut checked, mut warned) = (Vec::new(), BTreeSet::new());
    let mut holders = BTreeMap::new();
    let wanted = |path: &Path, bytes: &[u8]| {
        let role = files::role(path, bytes);
        if role == files::Role::Unknown {
            files::report_skipped(path);
        }
        role == files::Role::Definition
    };
    for path in &files::meant(&args.files, "definition", wanted)? {
        match check(path, args, &mut warned) {
            Ok(file) => {
                if file.has_errors() || reports_clashes(path, &file.workflows, &mut holders) {
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

/// Reports workflows that another file of the same directory of workflows defines as well: a server would deploy only one of them.
fn reports_clashes(
    path: &Path,
    workflows: &[Arc<str>],
    holders: &mut BTreeMap<(PathBuf, String), PathBuf>,
) -> bool {
    let directory = Project::directory_of(path).or_else(|| path.parent().map(Path::to_path_buf));
    // The same path must be the same text: `.` and nothing are one directory.
    let directory = directory.unwrap_or_default();
    let directory =
        std::fs::canonicalize(if directory.as_os_str().is_empty() { Path::new(".") } else { &directory })
            .unwrap_or(directory);
    let mut clashes = false;
    for name in workflows {
        let holder =
            holders.entry((directory.clone(), name.to_lowercase())).or_insert_with(|| path.to_path_buf());
        // One file can be named twice.
        if holder != path && std::fs::canonicalize(&*holder).ok() != std::fs::canonicalize(path).ok() {
            clashes = true;
            console::error(format_args!(
                "{} and {} both define the workflow {name} (names are case-insensitive); rename or remove one of the two files",
                holder.display(),
                path.display()
            ));
        }
    }
    clashes
}

/// Checks a definition as `loom run` and `loom serve` do before they start, within the same project.
fn check(path: &Path, args: &ValidateArgs, warned: &mut BTreeSet<Option<PathBuf>>) -> Result<Checked> {
    let config = Config::resolve(&args.flags, &[path.to_path_buf()])?;
    let settings = Settings::read(&config)?;
    if warned.insert(config.project.clone()) {
        settings.warn_of_others();
    }
    let bytes = files::read(path)?;
    let name = path.display().to_string();
    let options = LoadOptions {
        file_name: Some(Arc::from(files::naming_path(path).to_string_lossy().as_ref())),
        script_check: Some(loom_actions::check_javascript),
        ..LoadOptions::default()
    };
    let mut surroundings = settings.surroundings(parameters(&args.parameters)?);
    // A value applies only to the files that declare its parameter.
    surroundings.shared = true;
    let mut names = Vec::new();
    // A source that cannot be decoded is shown without its line.
    let source = text::decode(&bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    // Outside a project, the connections of the deployment are unknown.
    let knows_connections = settings.project().exists() || config.values.connections.is_some();
    let mut policies = Vec::new();
    let mut found = |options: &LoadOptions| match surroundings.load(&bytes, options) {
        Ok(bound) => {
            names.push(Arc::clone(&bound.loaded.workflow.name));
            if args.explain {
                policies.extend(explained(&bound.loaded.workflow, settings.policies()));
            }
            let missing = missing_connections(&bound.loaded, &bound.parameters, &settings);
            let mut findings = bound.loaded.warnings;
            let missing = missing.into_iter().filter(|_| knows_connections);
            findings
                .extend(missing.map(|(name, remedy)| Diagnostic::connection_missing(&name, &source, remedy)));
            let calls = settings.connections().check_calls(&bound.loaded.workflow).into_iter();
            let calls = calls.filter(|call| knows_connections || call.fault != CallFault::Undefined);
            findings.extend(calls.map(|call| call_problem(call, &source)));
            findings
        }
        Err(diagnostics) => diagnostics.0,
    };
    let workflows = Definition::workflows(&bytes, &options);
    let mut findings = Vec::new();
    if workflows.len() > 1 {
        for workflow in workflows {
            let options = LoadOptions { choose: Some(Arc::from(workflow)), ..options.clone() };
            for finding in found(&options) {
                // An error of the file is found once for each of its workflows.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    } else {
        findings = found(&options);
    }
    // Outside a project, the values and settings of the deployment are unknown.
    if !settings.project().exists() {
        findings.retain(|finding| !GIVEN_LATER.contains(&finding.code));
    }
    if args.strict {
        for finding in &mut findings {
            finding.severity = Severity::Error;
        }
    }
    Ok(Checked { name, source, findings, policies, workflows: names })
}

/// The effective policy of each action that uses a named one.
fn explained(workflow: &Workflow, policies: &Policies) -> Vec<String> {
    let mut reported = Vec::new();
    for action in &workflow.actions {
        let using = action.resilience.as_deref().and_then(|resilience| resilience.named.as_ref());
        let Some(using) = using else { continue };
        let Ok(effective) = policies.of_action(using) else { continue };
        let shared = if effective.resilience.shares { "" } else { ", with a state of its own" };
        reported.push(format!("  {}: policy {}{shared}", action.name, using.name));
        reported.extend(effective.settings.iter().map(|setting| format!("    {setting}")));
    }
    reported
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
        for line in &self.policies {
            println!("{}", Visible(line));
        }
    }
}
