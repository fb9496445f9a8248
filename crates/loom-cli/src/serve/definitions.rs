//! The files that are served: found, read, deployed, and deployed again when they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use loom_definition::{Definition, LoadOptions, catalog::Bump, render, text};
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
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    seen: Stamp,
    /// The name it deployed, if it ever did.
    name: Option<Arc<str>>,
}

/// Changes when a file does: its time and size, and those of the parameters beside it.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Watched {
    pub(super) fn new(files: &[PathBuf], folder: Option<&Path>) -> Watched {
        Watched { files: files.to_vec(), folder: folder.map(Path::to_path_buf), known: BTreeMap::new() }
    }

    /// Every file there is now, in the order of their names.
    fn list(&self) -> BTreeSet<PathBuf> {
        let mut found: BTreeSet<PathBuf> = self.files.iter().cloned().collect();
        let Some(folder) = &self.folder else { return found };
        let Ok(entries) = fs::read_dir(folder) else { return found };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(Some(path.join("workflow.json")).filter(|inner| inner.is_file()));
            } else if files::may_be_a_definition(&path) {
                found.insert(path);
            }
        }
        found
    }

    /// What the definitions call their connections.
    pub(super) fn connections(&self) -> Value {
        let mut all = Object::new();
        for path in self.list() {
            let Ok(bytes) = fs::read(&path) else { continue };
            let Ok(loaded) = Definition::parse(&bytes, &LoadOptions::default()) else { continue };
            if let Some(members) = loaded.connections.as_object() {
                all.extend(members.iter().map(|(name, value)| (Arc::clone(name), value.clone())));
            }
        }
        all.into()
    }

    /// Deploys every file. Gives how many were refused, which was told.
    pub(super) async fn deploy_all(&mut self, host: &Arc<Host>, console: Console) -> usize {
        let mut refused = 0;
        for path in self.list() {
            if !self.deploy(&path, host, console, false).await {
                refused += 1;
            }
        }
        refused
    }

    /// Deploys what is new or has changed, and takes out of service what is gone.
    pub(super) async fn deploy_changes(&mut self, host: &Arc<Host>, console: Console) {
        let present = self.list();
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !present.contains(*path)).cloned().collect();
        for path in gone {
            if let Some(Known { name: Some(name), .. }) = self.known.remove(&path)
                && !self.known.values().any(|other| other.name.as_ref() == Some(&name))
            {
                host.withdraw(&name);
                eprintln!("loom: {name} is no longer served: {} is gone", path.display());
            }
        }
        for path in present {
            if self.known.get(&path).is_none_or(|known| known.seen != stamp(&path)) {
                self.deploy(&path, host, console, true).await;
            }
        }
    }

    /// Deploys one file. False when it is refused, which is told; the version before it goes on.
    async fn deploy(&mut self, path: &Path, host: &Arc<Host>, console: Console, tell: bool) -> bool {
        // Taken before the file is read, so that a change meanwhile is seen next time.
        let seen = stamp(path);
        let name = self.known.remove(path).and_then(|known| known.name);
        let known = self.known.entry(path.to_path_buf()).or_insert(Known { seen, name });
        let bytes = match files::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                console::error(format_args!("{error:#}"));
                return false;
            }
        };
        let named = self.files.iter().any(|file| file == path);
        if !named && !files::looks_like_a_definition(&bytes) {
            return true;
        }
        let parameters = parameters_beside(path).and_then(|path| files::read_json(&path).ok());
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
                if tell && changed {
                    eprintln!("loom: {} is now {}", deployment.workflow.name, deployment.version);
                }
                true
            }
            Err(DeployError::Refused(diagnostics)) => {
                let text = text::decode(&source.bytes).map(std::borrow::Cow::into_owned).unwrap_or_default();
                for diagnostic in &diagnostics.0 {
                    let shown = render(diagnostic, &text, &path.display().to_string(), console.color);
                    console::note_styled(&(shown + "\n"));
                }
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

/// `parameters.json` of the project that a `NAME/workflow.json` belongs to.
fn parameters_beside(path: &Path) -> Option<PathBuf> {
    path.file_name().filter(|name| name.eq_ignore_ascii_case("workflow.json"))?;
    let found = path.parent()?.join("..").join("parameters.json");
    found.is_file().then_some(found)
}

fn stamp(path: &Path) -> Stamp {
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    [of(path), parameters_beside(path).and_then(|beside| of(&beside))]
}
