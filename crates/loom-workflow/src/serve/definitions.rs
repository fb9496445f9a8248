//! The definition files of `loom serve`: finds, reads and deploys them, and deploys them again when they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Result;
use loom_actions::{Connections, Project};
use loom_definition::{
    Definition, Diagnostic, LoadOptions, catalog::Bump, model::WorkflowKind, render, text,
};
use loom_expression::{Object, Value};
use loom_server::{DeployError, Host, Origin, Source};

use crate::{
    console::{self, Console},
    files,
    run::call_warnings,
};

/// The files of one `loom serve`.
#[derive(Debug)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    directory: Option<PathBuf>,
    stores: bool,
    connections: Connections,
    known: BTreeMap<PathBuf, Known>,
    /// The last error that was logged for a path.
    trouble: BTreeMap<PathBuf, ReadFailure>,
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    seen: Stamp,
    /// The name it deployed, if it ever did.
    name: Option<Arc<str>>,
    /// The name it would deploy, if another file holds that name.
    clash: Option<Arc<str>>,
    /// How many polls in a row did not find it.
    absences: u32,
}

/// Polls in a row that must miss a file before its workflow is removed: editors replace a file by deleting it first.
const ABSENCES: u32 = 2;

/// Why a path cannot be read at present.
type ReadFailure = String;

/// Modification time and size of a definition and of the parameters file beside it; differs when either has changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Watched {
    /// `stores` says whether runs outlive the process.
    pub(super) fn new(files: &[PathBuf], directory: Option<&Path>, stores: bool) -> Watched {
        Watched {
            files: files.to_vec(),
            directory: directory.map(Path::to_path_buf),
            stores,
            connections: Connections::default(),
            known: BTreeMap::new(),
            trouble: BTreeMap::new(),
        }
    }

    /// Checks the calls of definitions from now on against the descriptions that these connections have.
    pub(super) fn check_against(&mut self, connections: &Connections) {
        self.connections = connections.clone();
    }

    /// All definition files at present, sorted by name.
    ///
    /// # Errors
    /// The directory cannot be read. The caller must not conclude that its files are gone.
    fn list(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found: BTreeSet<PathBuf> = self.files.iter().cloned().collect();
        let Some(directory) = &self.directory else { return Ok(found) };
        found.extend(files::workflows_in(directory)?);
        Ok(found)
    }

    /// The connections that the definitions declare.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn connections(&self) -> Result<Value> {
        let mut all = Object::new();
        for path in self.list()? {
            // A file that cannot be read is reported when it is deployed.
            let Ok(bytes) = fs::read(&path) else { continue };
            let Ok(loaded) = Definition::parse(&bytes, &LoadOptions::default()) else { continue };
            if let Some(members) = loaded.connections.as_object() {
                all.extend(members.iter().map(|(name, value)| (Arc::clone(name), value.clone())));
            }
        }
        Ok(all.into())
    }

    /// Deploys every file, changed or not. Returns the number of rejected files, which have been reported.
    ///
    /// # Errors
    /// The directory cannot be read. Nothing has changed then.
    pub(super) async fn deploy_all(
        &mut self,
        host: &Arc<Host>,
        console: Console,
        announce: bool,
    ) -> Result<usize> {
        let mut refused = 0;
        for path in self.list()? {
            if !self.deploy(&path, host, console, announce).await {
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// Deploys new and changed files and withdraws workflows whose file is gone. A directory that cannot be read changes nothing.
    pub(super) async fn deploy_changes(&mut self, host: &Arc<Host>, console: Console) {
        let directory = self.directory.clone().unwrap_or_default();
        let present = match self.list() {
            Ok(present) => {
                self.trouble.remove(&directory);
                present
            }
            Err(error) => {
                self.report(&directory, &format!("{error:#}; the deployed workflows are unchanged"));
                return;
            }
        };
        let absent = self.known.iter_mut().filter(|(path, _)| !present.contains(*path));
        let gone: Vec<PathBuf> = absent
            .filter_map(|(path, known)| known.is_gone(&fs::metadata(path)).then(|| path.clone()))
            .collect();
        for path in gone {
            self.trouble.remove(&path);
            if let Some(Known { name: Some(name), .. }) = self.known.remove(&path)
                && !self.known.values().any(|other| other.name.as_ref() == Some(&name))
            {
                host.withdraw(&name);
                eprintln!("loom: {name} is no longer served: {} was removed", path.display());
            }
        }
        for path in present {
            let known = self.known.get_mut(&path);
            let changed = known.is_none_or(|known| {
                known.absences = 0;
                known.seen != stamp(&path)
            });
            let clash = self.known.get(&path).and_then(|known| known.clash.clone());
            let freed = clash.is_some_and(|name| self.holder(&name, &path).is_none());
            if changed || freed {
                self.deploy(&path, host, console, true).await;
            }
        }
    }

    /// The file other than `path` that deployed a workflow of this name, if it still exists.
    fn holder(&self, name: &str, path: &Path) -> Option<&Path> {
        let holds = |known: &Known| {
            known.name.as_ref().is_some_and(|held| held.to_lowercase() == name.to_lowercase())
        };
        let mut others = self.known.iter().filter(|(other, known)| *other != path && holds(known));
        // One file can be listed under two paths, and a file that was moved is listed under its old path for a moment.
        let here = fs::canonicalize(path).ok();
        let other = others.find(|(other, _)| fs::canonicalize(other).is_ok_and(|other| Some(other) != here));
        other.map(|(other, _)| other.as_path())
    }

    /// Logs why a path cannot be read, once until the reason changes.
    fn report(&mut self, path: &Path, why: &str) {
        if self.trouble.get(path).is_none_or(|known| known != why) {
            console::error(format_args!("{why}"));
            self.trouble.insert(path.to_path_buf(), why.to_owned());
        }
    }

    /// Reads the file and the parameters file beside it.
    fn read(path: &Path) -> Result<(Vec<u8>, Option<Value>)> {
        let bytes = files::read(path)?;
        let parameters = match parameters_beside(path) {
            Some(beside) if files::there_is(&beside)? => Some(files::read_json(&beside)?),
            _ => None,
        };
        Ok((bytes, parameters))
    }

    /// Deploys one file. Returns false if it is rejected, which has been reported; the version before it stays in service.
    async fn deploy(&mut self, path: &Path, host: &Arc<Host>, console: Console, announce: bool) -> bool {
        // Taken before the file is read, so that a change in between is noticed by the next poll.
        let seen = stamp(path);
        let name = self.known.remove(path).and_then(|known| known.name);
        let (bytes, parameters) = match Self::read(path) {
            Ok(read) => read,
            Err(error) => {
                // An empty stamp makes the next poll read the file again, whether it has changed or not.
                self.known
                    .insert(path.to_path_buf(), Known { seen: [None; 2], name, clash: None, absences: 0 });
                self.report(path, &format!("{error:#}"));
                return false;
            }
        };
        self.trouble.remove(path);
        let named = self.files.iter().any(|file| file == path);
        // A file that was deployed before is meant to be a definition, even if a change made it look like something else.
        let role = if named || name.is_some() { files::Role::Definition } else { files::role(path, &bytes) };
        self.known.insert(path.to_path_buf(), Known { seen, name, clash: None, absences: 0 });
        if role != files::Role::Definition {
            if role == files::Role::Unknown {
                files::report_skipped(path);
            }
            return true;
        }
        let options = LoadOptions {
            file_name: Some(Arc::from(files::naming_path(path).to_string_lossy().as_ref())),
            parameters_file: parameters,
            script_check: Some(loom_actions::check_javascript),
            ..LoadOptions::default()
        };
        let source = Source { bytes, options, origin: Origin::File, bump: Bump::Patch, only_new: false };
        if let Some(name) = host.name_of(&source)
            && let Some(other) = self.holder(&name, path)
        {
            eprintln!(
                "loom: {} was not deployed: {} already defines the workflow {name} (names are case-insensitive); rename or remove one of \
                 the two files",
                path.display(),
                other.display()
            );
            if let Some(known) = self.known.get_mut(path) {
                known.clash = Some(name);
            }
            return false;
        }
        let Some(known) = self.known.get_mut(path) else { return false };
        match host.deploy(&source).await {
            Ok((deployment, changed)) => {
                known.name = Some(Arc::clone(&deployment.workflow.name));
                if changed {
                    show(&deployment.warnings, &source, path, console);
                    let connections = self.connections.clone();
                    let workflow = Arc::clone(&deployment.workflow);
                    // Descriptions are files, and may be large.
                    let calls = tokio::task::spawn_blocking(move || connections.check_calls(&workflow)).await;
                    show(&call_warnings(calls.unwrap_or_default(), &source.bytes), &source, path, console);
                    if self.stores && deployment.workflow.kind == WorkflowKind::Stateless {
                        eprintln!(
                            "loom: warning: {} is Stateless, but its runs are stored like all others; --memory stores no runs",
                            deployment.workflow.name
                        );
                    }
                }
                if announce && changed {
                    eprintln!("loom: deployed {} {}", deployment.workflow.name, deployment.version);
                    super::print_triggers(host, &deployment);
                }
                true
            }
            Err(DeployError::Refused(diagnostics)) => {
                show(&diagnostics.0, &source, path, console);
                if let Some(name) = &known.name {
                    eprintln!("loom: {name} was not updated; the version deployed before stays in service");
                }
                false
            }
            Err(error) => {
                eprintln!("loom: {}: {error}", path.display());
                false
            }
        }
    }
}

impl Known {
    /// Whether a file that was not listed is gone: only if it does not exist itself, [`ABSENCES`] times in a row.
    fn is_gone(&mut self, found: &io::Result<fs::Metadata>) -> bool {
        match found {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.absences += 1;
            }
            // It exists, or its state cannot be determined.
            Ok(_) | Err(_) => self.absences = 0,
        }
        self.absences >= ABSENCES
    }
}

/// Prints the diagnostics of a definition.
fn show(findings: &[Diagnostic], source: &Source, path: &Path, console: Console) {
    let text = text::decode(&source.bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    for finding in findings {
        let shown = render(finding, &text, &path.display().to_string(), console.color);
        console::note_styled(&(shown + "\n"));
    }
}

/// The path of `parameters.json` in the project that a `NAME/workflow.json` belongs to.
fn parameters_beside(path: &Path) -> Option<PathBuf> {
    Some(Project::directory_of(path)?.join("parameters.json"))
}

fn stamp(path: &Path) -> Stamp {
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    [of(path), parameters_beside(path).and_then(|beside| of(&beside))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_gone_after_two_polls_in_a_row_did_not_find_it() {
        let here = || fs::metadata(".");
        let failing = |kind: io::ErrorKind| Err(io::Error::from(kind));
        let mut known = Known { seen: [None; 2], name: None, clash: None, absences: 0 };
        let mut look = |found: io::Result<fs::Metadata>| known.is_gone(&found);
        assert!(!look(failing(io::ErrorKind::NotFound)));
        assert!(!look(here()) && !look(failing(io::ErrorKind::NotFound)), "a poll in between found it");
        assert!(!look(failing(io::ErrorKind::PermissionDenied)) && !look(failing(io::ErrorKind::NotFound)));
        assert!(look(failing(io::ErrorKind::NotFound)));
    }
}
