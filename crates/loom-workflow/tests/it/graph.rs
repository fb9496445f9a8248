//! `loom graph`: a drawing of a file or of a run, on standard output or in a file.

use std::fs;

use crate::{file, loom, loom_with_input};

const FLOW: &str = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
  "Fail <b>": {"type": "Scope", "runAfter": {}, "actions": {"Break": {"type": "Compose", "inputs": "@div(1, 0)", "runAfter": {}}}},
  "Mend": {"type": "Compose", "inputs": "mended", "runAfter": {"Fail <b>": ["Failed"]}},
  "Never": {"type": "Compose", "inputs": 1, "runAfter": {"Fail <b>": ["Succeeded"]}}}}"#;

#[test]
fn a_definition_is_drawn_as_svg_or_as_a_flowchart() {
    let path = file("graph", "flow.json", FLOW);
    let name = path.display().to_string();
    let drawn = loom(&["graph", &name]);
    assert_eq!((drawn.code, drawn.stderr.as_str()), (Some(0), ""));
    assert!(drawn.stdout.starts_with("<svg xmlns=") && drawn.stdout.ends_with("</svg>\n"));
    assert!(drawn.stdout.contains("Fail &lt;b&gt;") && !drawn.stdout.contains("<b>"));
    assert_eq!(loom(&["graph", &name, "--svg"]).stdout, drawn.stdout);
    assert!(loom_with_input(&["graph", "-"], FLOW).stdout.starts_with("<svg"));

    let target = path.with_extension("svg").display().to_string();
    let written = loom(&["graph", &name, "-o", &target]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(&target).unwrap(), drawn.stdout);

    let chart = loom(&["graph", &name, "--mermaid"]);
    assert!(chart.stdout.starts_with("flowchart TD\n"), "{}", chart.stdout);
    assert!(chart.stdout.contains("a0 -->|\"Failed\"| a2"), "{}", chart.stdout);
}

#[test]
fn a_run_is_drawn_with_the_states_of_its_actions() {
    let path = file("graph_run", "flow.json", FLOW);
    let data = tempfile::tempdir().expect("there is room");
    let data = data.path().display().to_string();
    let ran = loom(&["run", &path.display().to_string(), "--durable", "--data", &data, "--quiet"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    // What is drawn is the definition of the run, not what the file contains now.
    fs::write(&path, "{}").expect("it can be written");
    let listed = loom(&["runs", "list", "--quiet", "--data", &data]);
    let drawn = loom(&["graph", "--run", &listed.stdout.trim()[..12], "--data", &data]);
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
    for described in ["Fail &lt;b&gt;, Scope, Failed", "Mend, Compose, Succeeded", "Never, Compose, Skipped"]
    {
        assert!(drawn.stdout.contains(described), "{described}: {}", drawn.stdout);
    }
    let unknown = loom(&["graph", "--run", "0000000000000", "--data", &data]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(3), ""), "{}", unknown.stderr);
}

#[test]
fn what_cannot_be_drawn_is_reported() {
    let path = file(
        "graph_wrong",
        "flow.json",
        &FLOW.replace(r#"{"Fail <b>": ["Failed"]}"#, r#"{"Fall": ["Failed"]}"#),
    );
    let wrong = loom(&["graph", &path.display().to_string()]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(3), ""));
    assert!(wrong.stderr.contains("[L0204]"), "{}", wrong.stderr);
    let nothing = loom(&["graph"]);
    assert_eq!(nothing.code, Some(2));
    let both = loom(&["graph", &path.display().to_string(), "--run", "0"]);
    assert_eq!(both.code, Some(2));
    let target = path.parent().unwrap().join("none").join("x.svg").display().to_string();
    let valid = file("graph_valid", "flow.json", FLOW).display().to_string();
    let unwritable = loom(&["graph", &valid, "-o", &target]);
    assert_eq!(unwritable.code, Some(2));
    assert!(unwritable.stderr.contains("cannot write"), "{}", unwritable.stderr);
}
