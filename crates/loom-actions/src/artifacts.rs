//! Maps and schemas that actions refer to: the `Artifacts` directory of a project, or what the host program adds.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Failure;

/// The largest artifact that is read: 8 MiB.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The kind of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// A Liquid template or an XSLT stylesheet.
    Map,
    /// An XSD schema.
    Schema,
}

/// Maps and schemas by name. Names are case-insensitive, and the extension is optional.
#[derive(Clone, Debug, Default)]
pub struct Artifacts {
    maps: BTreeMap<String, Arc<str>>,
    schemas: BTreeMap<String, Arc<str>>,
    schemas_directory: Option<PathBuf>,
}

impl Artifacts {
    /// Reads the directories `Maps` and `Schemas` below `directory`, the `Artifacts` directory of a Standard project.
    /// A directory that does not exist counts as empty.
    ///
    /// # Errors
    /// When a directory or file cannot be read, is not text, or is larger than 8 MiB.
    pub fn read(directory: &Path) -> io::Result<Artifacts> {
        let schemas = directory.join("Schemas");
        Ok(Artifacts {
            maps: read_all(&directory.join("Maps"))?,
            schemas: read_all(&schemas)?,
            schemas_directory: schemas.is_dir().then_some(schemas),
        })
    }

    /// Adds an artifact and replaces the one with the same name.
    pub fn add(&mut self, kind: ArtifactKind, name: &str, text: impl Into<Arc<str>>) {
        let of_kind = match kind {
            ArtifactKind::Map => &mut self.maps,
            ArtifactKind::Schema => &mut self.schemas,
        };
        of_kind.insert(name.to_lowercase(), text.into());
    }

    /// The directory in which included schemas are looked up.
    pub fn schemas_directory(&self) -> Option<&Path> {
        self.schemas_directory.as_deref()
    }

    /// Returns the text of an artifact.
    ///
    /// # Errors
    /// `ArtifactNotFound`, with the names of the existing artifacts.
    pub fn text(&self, kind: ArtifactKind, name: &str) -> Result<&Arc<str>, Failure> {
        let (of_kind, what, directory) = match kind {
            ArtifactKind::Map => (&self.maps, "map", "Maps"),
            ArtifactKind::Schema => (&self.schemas, "schema", "Schemas"),
        };
        let wanted = name.to_lowercase();
        let stem = |known: &str| known.rsplit_once('.').is_some_and(|(stem, _)| stem == wanted);
        let found = of_kind.get(&wanted).or_else(|| Some(of_kind.iter().find(|(known, _)| stem(known))?.1));
        found.ok_or_else(|| {
            let known: Vec<&str> = of_kind.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!(
                "There is no {what} named '{name}' (known: {known}). Put it into Artifacts/{directory} of the project."
            );
            Failure::lasting("ArtifactNotFound", message)
        })
    }
}

fn read_all(directory: &Path) -> io::Result<BTreeMap<String, Arc<str>>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(named(directory, &error)),
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if !path.is_file() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let size = entry.metadata().map_err(|error| named(&path, &error))?.len();
        if size > BYTES_MAX {
            let message = format!("{} must be at most {BYTES_MAX} bytes (got {size})", path.display());
            return Err(io::Error::other(message));
        }
        let bytes = fs::read(&path).map_err(|error| named(&path, &error))?;
        // The map editor of Visual Studio writes UTF-16.
        let text = loom_definition::text::decode(&bytes)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        found.insert(name, Arc::from(&*text));
    }
    Ok(found)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
