//! Runs the conformance suites with the runner of `loom test`.

mod hostile;
mod seeds;
mod wire;

use std::path::Path;

use loom_expression::Timestamp;
use loom_testkit::cases::{CaseFile, Counts, Runner};

/// 2024-03-01T12:00:00Z: the start time of cases that set none.
const NOW_UNIX_MILLIS: i64 = 1_709_294_400_000;

fn run(file: &str) -> (Counts, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance").join(file);
    let cases = CaseFile::read(&path).expect("the suite can be read");
    let report = Runner::new(Timestamp::from_unix_millis(NOW_UNIX_MILLIS)).run_all(&cases, None);
    let counts = report.counts();
    println!(
        "{file}: {counts}; of these inferred: {} passed, {} failed",
        counts.inferred_passed, counts.inferred_failed
    );
    (counts, report.text())
}

#[test]
fn every_workflow_case_passes() {
    let (counts, text) = run("workflows.json");
    assert_eq!(counts.failed, 0, "{text}");
    assert!(counts.passed > 0);
}

#[test]
fn every_expression_case_passes() {
    for suite in [
        "expressions.json",
        "measured-service-expressions.json",
        "measured-dotnet-expressions.json",
        "measured-newtonsoft-expressions.json",
        "asked-expressions.json",
    ] {
        let (counts, text) = run(suite);
        assert_eq!(counts.failed, 0, "{suite}: {text}");
        assert!(counts.passed > 0);
    }
}

#[test]
fn every_audit_case_passes() {
    let (counts, text) = run("audit.json");
    assert_eq!(counts.failed, 0, "{text}");
    assert!(counts.passed > 0);
}

#[test]
fn every_published_case_passes() {
    let (counts, text) = run("published.json");
    assert_eq!(counts.failed, 0, "{text}");
    assert!(counts.passed > 0);
}

#[test]
fn every_case_measured_on_the_service_passes() {
    let (counts, text) = run("measured-service-workflows.json");
    assert_eq!(counts.failed, 0, "{text}");
    assert!(counts.passed > 0);
}

#[test]
fn every_case_that_deliberately_differs_from_the_service_passes() {
    let (counts, text) = run("measured-to-decide-workflows.json");
    assert_eq!(counts.failed, 0, "{text}");
    assert!(counts.passed > 0);
}
