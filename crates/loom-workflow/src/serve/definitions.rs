//! The files that are served: found, read, deployed, and deployed again when they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, Result};
use loom_actions::Project;
use loom_definition::{Definition, Diagnostic, LoadOptions, catalog::Bump, render, text};
use loom_expression::{Object, Value};
use loom_server::{DeployError, Host, Origin, Source};

use crate::{
    console::{self, Console},
    files,
};

/// The files of one `loom serve`.
#[derive(Debug)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    folder: Option<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    /// What kept us from looking, as it was logged last.
    trouble: BTreeMap<PathBuf, Trouble>,
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    seen: Stamp,
    /// The name it deployed, if it ever did.
    name: Option<Arc<str>>,
    /// How often in a row it was not there.
    absences: u32,
}

/// A file is taken out of service when it was not there so often in a row: editors replace files by removing them first.
const ABSENCES: u32 = 2;

/// Why the files cannot be looked at just now.
type Trouble = String;

/// Changes when a file does: its time and size, and those of the parameters beside it.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Watched {
    pub(super) fn new(files: &[PathBuf], folder: Option<&Path>) -> Watched {
        Watched {
            files: files.to_vec(),
            folder: folder.map(Path::to_path_buf),
            known: BTreeMap::new(),
            trouble: BTreeMap::new(),
        }
    }

    /// Every file there is now, in the order of their names.
    ///
    /// # Errors
    /// The folder cannot be read; that says nothing about what is in it.
    fn list(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found: BTreeSet<PathBuf> = self.files.iter().cloned().collect();
        let Some(folder) = &self.folder else { return Ok(found) };
        let unread = || format!("could not read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(unread)? {
            let path = entry.with_context(unread)?.path();
            if path.is_dir() {
                let inner = path.join("workflow.json");
                if files::there_is(&inner)? {
                    found.insert(inner);
                }
            } else if files::may_be_a_definition(&path) {
                found.insert(path);
            }
        }
        Ok(found)
    }

    /// What the definitions call their connections.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn connections(&self) -> Result<Value> {
        let mut all = Object::new();
        for path in self.list()? {
            // One that cannot be read is reported when it is deployed.
            let Ok(bytes) = fs::read(&path) else { continue };
            let Ok(loaded) = Definition::parse(&bytes, &LoadOptions::default()) else { continue };
            if let Some(members) = loaded.connections.as_object() {
                all.extend(members.iter().map(|(name, value)| (Arc::clone(name), value.clone())));
            }
        }
        Ok(all.into())
    }

    /// Deploys every file, changed or not. Gives how many were refused, which was reported.
    ///
    /// # Errors
    /// The folder cannot be read; nothing has changed then.
    pub(super) async fn deploy_all(
        &mut self,
        host: &Arc<Host>,
        console: Console,
        tell: bool,
    ) -> Result<usize> {
        let mut refused = 0;
        for path in self.list()? {
            if !self.deploy(&path, host, console, tell).await {
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// Deploys what is new or has changed, and takes out of service what is gone. A folder that cannot be read changes nothing.
    pub(super) async fn deploy_changes(&mut self, host: &Arc<Host>, console: Console) {
        let folder = self.folder.clone().unwrap_or_default();
        let present = match self.list() {
            Ok(present) => {
                self.trouble.remove(&folder);
                present
            }
            Err(error) => {
                self.report(&folder, &format!("{error:#}; what is served stays"));
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
                eprintln!("loom: {name} is no longer served: {} is gone", path.display());
            }
        }
        for path in present {
            let known = self.known.get_mut(&path);
            let changed = known.is_none_or(|known| {
                known.absences = 0;
                known.seen != stamp(&path)
            });
            if changed {
                self.deploy(&path, host, console, true).await;
            }
        }
    }

    /// Logs why something could not be looked at, once for as long as the reason stays.
    fn report(&mut self, path: &Path, why: &str) {
        if self.trouble.get(path).is_none_or(|known| known != why) {
            console::error(format_args!("{why}"));
            self.trouble.insert(path.to_path_buf(), why.to_owned());
        }
    }

    /// The file, and the parameters beside it.
    fn read(path: &Path) -> Result<(Vec<u8>, Option<Value>)> {
        let bytes = files::read(path)?;
        let parameters = match parameters_beside(path) {
            Some(beside) if files::there_is(&beside)? => Some(files::read_json(&beside)?),
            _ => None,
        };
        Ok((bytes, parameters))
    }

    /// Deploys one file. False when it is refused, which is told; the version before it goes on.
    async fn deploy(&mut self, path: &Path, host: &Arc<Host>, console: Console, tell: bool) -> bool {
        // Taken before the file is read, so that a change meanwhile is seen next time.
        let seen = stamp(path);
        let name = self.known.remove(path).and_then(|known| known.name);
        let (bytes, parameters) = match Self::read(path) {
            Ok(read) => read,
            Err(error) => {
                // It is read again next time, whether it has changed by then or not.
                self.known.insert(path.to_path_buf(), Known { seen: [None; 2], name, absences: 0 });
                self.report(path, &format!("{error:#}"));
                return false;
            }
        };
        self.trouble.remove(path);
        let known = self.known.entry(path.to_path_buf()).or_insert(Known { seen, name, absences: 0 });
        let named = self.files.iter().any(|file| file == path);
        if !named && !files::looks_like_a_definition(&bytes) {
            return true;
        }
        let options = LoadOptions {
            file_name: Some(Arc::from(path.to_string_lossy().as_ref())),
            parameters_file: parameters,
            script_check: Some(loom_actions::check_javascript),
            ..LoadOptions::default()
        };
        let source = Source { bytes, options, origin: Origin::File, bump: Bump::Patch, only_new: false };
        match host.deploy(&source).await {
            Ok((deployment, changed)) => {
                known.name = Some(Arc::clone(&deployment.workflow.name));
                if changed {
                    show(&deployment.warnings, &source, path, console);
                }
                if tell && changed {
                    eprintln!("loom: {} is now {}", deployment.workflow.name, deployment.version);
                }
                true
            }
            Err(DeployError::Refused(diagnostics)) => {
                show(&diagnostics.0, &source, path, console);
                if let Some(name) = &known.name {
                    eprintln!("loom: {name} stays as it was");
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
    /// Whether a file that was not listed is gone: only when it is itself not there, and not for the first time.
    fn is_gone(&mut self, found: &io::Result<fs::Metadata>) -> bool {
        match found {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.absences += 1;
            }
            // It is there, or nobody can tell.
            Ok(_) | Err(_) => self.absences = 0,
        }
        self.absences >= ABSENCES
    }
}

/// Prints what was found in a definition, with the places.
fn show(findings: &[Diagnostic], source: &Source, path: &Path, console: Console) {
    let text = text::decode(&source.bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
    for finding in findings {
        let shown = render(finding, &text, &path.display().to_string(), console.color);
        console::note_styled(&(shown + "\n"));
    }
}

/// Where `parameters.json` lies in the project that a `NAME/workflow.json` belongs to.
fn parameters_beside(path: &Path) -> Option<PathBuf> {
    Some(Project::folder_of(path)?.join("parameters.json"))
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
    fn a_file_is_gone_when_it_is_itself_not_there_twice_in_a_row() {
        let here = || fs::metadata(".");
        let failing = |kind: io::ErrorKind| Err(io::Error::from(kind));
        let mut known = Known { seen: [None; 2], name: None, absences: 0 };
        let mut look = |found: io::Result<fs::Metadata>| known.is_gone(&found);
        assert!(!look(failing(io::ErrorKind::NotFound)));
        assert!(!look(here()) && !look(failing(io::ErrorKind::NotFound)), "it was there between the two");
        assert!(!look(failing(io::ErrorKind::PermissionDenied)) && !look(failing(io::ErrorKind::NotFound)));
        assert!(look(failing(io::ErrorKind::NotFound)));
    }
}
