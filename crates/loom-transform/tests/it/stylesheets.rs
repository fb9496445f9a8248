//! XSLT 1.0 stylesheets give the same results as `xsltproc`. Its results are recorded beside them (`NAME.expected`); if
//! the program is installed, the recorded results are checked against it.

use std::{fs, path::PathBuf, process::Command};

use loom_transform::xslt::transform;

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stylesheets"))
}

fn stylesheets() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).expect("the stylesheets are there");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "xsl"));
    found.sort();
    found
}

#[test]
fn stylesheets_give_the_recorded_results() {
    let source = fs::read_to_string(directory().join("source.xml")).expect("the source is there");
    let found = stylesheets();
    assert!(found.len() >= 20);
    for path in found {
        let stylesheet = fs::read_to_string(&path).expect("a stylesheet");
        let expected = fs::read_to_string(path.with_extension("expected")).expect("a recorded result");
        let made = transform(&stylesheet, &source, &[], &|_| None);
        let made = made.map_or_else(|error| error.to_string(), |made| made.text);
        assert_eq!(made.trim_end(), expected.trim_end(), "{}", path.display());
    }
}

#[test]
fn recorded_results_are_those_of_xsltproc() {
    let Ok(version) = Command::new("xsltproc").arg("--version").output() else { return };
    assert!(version.status.success());
    for path in stylesheets() {
        let output = Command::new("xsltproc").arg(&path).arg(directory().join("source.xml")).output();
        let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
        let expected = fs::read_to_string(path.with_extension("expected")).expect("a recorded result");
        assert_eq!(output.trim_end(), expected.trim_end(), "{}", path.display());
    }
}
