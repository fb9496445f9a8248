//! `loom graph`: draws a workflow, or a run of it, as SVG or Mermaid.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueHint};
use loom_definition::{Definition, Diagnostics, LoadOptions, Workflow, text};
use loom_expression::{Object, Value};
use loom_ui::{Graph, States, mermaid, standalone_svg};

use crate::{
    console::{self, Console},
    exit::Exit,
    explain, files,
    remote::{From, RunDocuments, with_run},
};

/// Options of `loom graph`.
#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// The definition; `-` reads standard input. Not needed with `--run`.
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "run")]
    file: Option<PathBuf>,
    /// The workflow to draw, if the file is a template that contains several workflows.
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    workflow: Option<String>,
    /// Draw this run instead of a file, with the definition it executes: its id, or an unambiguous prefix.
    #[arg(long, value_name = "RUN", conflicts_with = "file")]
    run: Option<String>,
    /// Print SVG (the default).
    #[arg(long, conflicts_with = "mermaid")]
    svg: bool,
    /// Print a Mermaid flowchart.
    #[arg(long)]
    mermaid: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// The URL of the server of the run [default: the address in the settings, such as http://127.0.0.1:7070].
    #[arg(long, value_name = "URL", requires = "run")]
    server: Option<String>,
    /// Read the run from this data directory instead of a server; no server may be using it.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "run", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// The key of the data directory, if it is encrypted [default: the one in the settings].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "data")]
    key_file: Option<PathBuf>,
    /// A file whose first line is the server's token [default: the token in the settings].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "run")]
    token_file: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn command(args: &GraphArgs, console: Console) -> Result<Exit> {
    if let Some(run) = &args.run {
        let from = From::given(
            args.server.clone(),
            args.data.clone(),
            args.key_file.clone(),
            args.token_file.clone(),
        );
        return with_run(&from, run, |documents| {
            let workflow = workflow_of(documents)?;
            write(args, &workflow, &States::from_actions(&documents.actions))
        });
    }
    let path = args.file.as_deref().context("a definition is required")?;
    let bytes = files::read(path)?;
    let options = LoadOptions {
        file_name: Some(Arc::from(files::naming_path(path).to_string_lossy().as_ref())),
        choose: args.workflow.as_deref().map(Arc::from),
        ..LoadOptions::default()
    };
    match Definition::parse(&bytes, &options) {
        Ok(loaded) => write(args, &loaded.workflow, &States::default()),
        Err(diagnostics) => {
            report(&diagnostics, &bytes, path, console);
            Ok(Exit::Refused)
        }
    }
}

fn report(diagnostics: &Diagnostics, bytes: &[u8], path: &Path, console: Console) {
    let source = text::decode(bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    let name = path.display().to_string();
    for finding in &diagnostics.0 {
        console::note_styled(&(loom_definition::render(finding, &source, &name, console.color) + "\n"));
    }
    explain::point_at(diagnostics.0.iter());
}

/// The workflow that a run executes.
fn workflow_of(documents: &RunDocuments) -> Result<Arc<Workflow>> {
    let mut source = Object::new();
    for name in ["kind", "definition"] {
        source.insert(name, documents.definition.get(name).cloned().unwrap_or_default());
    }
    let name = documents.definition.get("workflow").and_then(Value::as_str).unwrap_or_default();
    let options =
        LoadOptions { name: Some(Arc::from(name)), accepted_before: true, ..LoadOptions::default() };
    let loaded = Definition::parse(Value::from(source).to_json_text().as_bytes(), &options);
    loaded.map(|loaded| loaded.workflow).map_err(|diagnostics| {
        anyhow!("the server's definition of the run is not valid for this version of loom: {diagnostics}")
    })
}

fn write(args: &GraphArgs, workflow: &Workflow, states: &States) -> Result<Exit> {
    let graph = Graph::of(workflow);
    let drawn = if args.mermaid { mermaid(&graph) } else { standalone_svg(&graph, states) + "\n" };
    match &args.output {
        Some(path) => fs::File::create(path)
            .and_then(|mut file| file.write_all(drawn.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => console::value(&drawn, ""),
    }
    Ok(Exit::Success)
}
