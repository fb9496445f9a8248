//! The descriptions in `conformance/connectors`.

use std::{fs, path::PathBuf, sync::Arc};

use loom_connectors::{Connector, Files, Value};

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/connectors")
}

pub(crate) struct Directory;

impl Files for Directory {
    fn read(&self, name: &str, _: usize) -> Result<Vec<u8>, String> {
        fs::read(directory().join(name)).map_err(|error| format!("cannot be read: {error}"))
    }
}

pub(crate) fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

pub(crate) fn connector(name: &str) -> Connector {
    let read = |end: &str| fs::read(directory().join(format!("{name}.{end}.json"))).ok();
    let document = read("swagger").or_else(|| read("openapi")).unwrap();
    Connector::read(name, &document, read("properties").as_deref(), Arc::new(Directory)).unwrap()
}

/// A Swagger 2.0 document with these paths.
pub(crate) fn with_paths(paths: &str) -> Connector {
    let document = format!(r#"{{"swagger": "2.0", "host": "example.com", "paths": {paths}}}"#);
    Connector::read("made", document.as_bytes(), None, Arc::new(loom_connectors::NoFiles)).unwrap()
}
