//! The page of errors is current: what it shows is what is printed.

use std::fmt::Write;

use loom_definition::{Definition, LoadOptions, catalogue, render, text};
use loom_expression::Object;

const PAGE: &str = include_str!("../../../../docs/errors.md");
const BEGIN: &str = "<!-- shown by the tests: begin -->\n";
const END: &str = "<!-- shown by the tests: end -->";

/// What people get wrong, in their words, with a file that does it.
const MISTAKES: &[(&str, &str)] = &[
    (
        "The file is cut off",
        "{\n  \"triggers\": {},\n  \"actions\": {\n    \"A\": {\"type\": \"Compose\", \"inputs\": [1, 2\n",
    ),
    ("A comma is missing", "{\n  \"triggers\": {}\n  \"actions\": {}\n}"),
    ("Single quotes", "{'actions': {}}"),
    (
        "A key is there twice",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"A\": {\"type\": \"Compose\", \"inputs\": 2}\n}}",
    ),
    ("It is something else", "{\"openapi\": \"3.0.0\", \"paths\": {}}"),
    (
        "An unknown type",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compse\", \"inputs\": 1}\n}}",
    ),
    (
        "`runAfter` names nothing",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Load\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"Save\": {\"type\": \"Compose\", \"inputs\": 2, \"runAfter\": {\"Laod\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "`runAfter` reaches into a scope",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Try\": {\"type\": \"Scope\", \"actions\": {\"In\": {\"type\": \"Compose\", \"inputs\": 1}}},\n  \"B\": {\"type\": \"Compose\", \"inputs\": 2, \"runAfter\": {\"In\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "A circle",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": 1, \"runAfter\": {\"B\": [\"Succeeded\"]}},\n  \"B\": {\"type\": \"Compose\", \"inputs\": 2, \"runAfter\": {\"A\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "A status that does not exist",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"B\": {\"type\": \"Compose\", \"inputs\": 2, \"runAfter\": {\"A\": [\"Success\"]}}\n}}",
    ),
    (
        "An expression with a hole",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": \"Total: @{add(1, )}\"}\n}}",
    ),
    (
        "A function that does not exist",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": \"@equalz(1, 2)\"}\n}}",
    ),
    (
        "An action that does not exist, in an expression",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Load\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"B\": {\"type\": \"Compose\", \"inputs\": \"@outputs('Laod')\", \"runAfter\": {\"Load\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "An expression that reads an action beside its own",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Load\": {\"type\": \"Compose\", \"inputs\": 1},\n  \"B\": {\"type\": \"Compose\", \"inputs\": \"@outputs('Load')\"}\n}}",
    ),
    (
        "A member that is misspelt",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"A\": {\"type\": \"Compose\", \"inputs\": 1, \"limit\": {\"timeuot\": \"PT1M\"}}\n}}",
    ),
    (
        "A variable that nobody declares",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Init\": {\"type\": \"InitializeVariable\", \"inputs\": {\"variables\": [{\"name\": \"total\", \"type\": \"integer\"}]}},\n  \"Set\": {\"type\": \"SetVariable\", \"inputs\": {\"name\": \"totl\", \"value\": 1}, \"runAfter\": {\"Init\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "A variable set from itself",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Init\": {\"type\": \"InitializeVariable\", \"inputs\": {\"variables\": [{\"name\": \"n\", \"type\": \"object\"}]}},\n  \"Set\": {\"type\": \"SetVariable\", \"inputs\": {\"name\": \"n\", \"value\": \"@variables('n')\"}, \"runAfter\": {\"Init\": [\"Succeeded\"]}}\n}}",
    ),
    (
        "Terminate in a loop",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Each\": {\"type\": \"Foreach\", \"foreach\": [1, 2], \"actions\": {\n    \"Stop\": {\"type\": \"Terminate\", \"inputs\": {\"runStatus\": \"Failed\"}}\n  }}\n}}",
    ),
    (
        "A duration in the wrong form",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Call\": {\"type\": \"Http\", \"inputs\": {\"method\": \"GET\", \"uri\": \"https://host\"}, \"limit\": {\"timeout\": \"30s\"}}\n}}",
    ),
    (
        "A retry policy out of range",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Call\": {\"type\": \"Http\", \"inputs\": {\"method\": \"GET\", \"uri\": \"https://host\", \"retryPolicy\": {\"type\": \"fixed\", \"count\": 100, \"interval\": \"PT5S\"}}}\n}}",
    ),
    (
        "A breaker that could never close",
        "{\"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\n  \"Call\": {\"type\": \"Http\", \"inputs\": {\"method\": \"GET\", \"uri\": \"https://host\"},\n    \"circuitBreaker\": {\"successThreshold\": 5, \"halfOpenRequests\": 2}}\n}}",
    ),
    (
        "A Response nobody waits for",
        "{\"triggers\": {\"t\": {\"type\": \"Recurrence\", \"recurrence\": {\"frequency\": \"Day\", \"interval\": 1}}}, \"actions\": {\n  \"Answer\": {\"type\": \"Response\", \"inputs\": {\"statusCode\": 200}}\n}}",
    ),
    (
        "A timetable out of range",
        "{\"triggers\": {\"t\": {\"type\": \"Recurrence\", \"recurrence\": {\"frequency\": \"Month\", \"interval\": 24}}}, \"actions\": {\"A\": {\"type\": \"Compose\", \"inputs\": 1}}}",
    ),
    (
        "A parameter without a value",
        "{\"parameters\": {\n  \"apiKey\": {\"type\": \"securestring\"}\n}, \"triggers\": {\"m\": {\"type\": \"Request\"}}, \"actions\": {\"A\": {\"type\": \"Compose\", \"inputs\": 1}}}",
    ),
];

/// What is printed for a file: its findings when it is loaded and, if it loads, when its parameters are bound.
fn printed(source: &str) -> String {
    let options = LoadOptions { strict_expressions: true, ..LoadOptions::default() };
    let findings = match Definition::parse(source.as_bytes(), &options) {
        Err(diagnostics) => diagnostics.0,
        Ok(loaded) => match loaded.workflow.bind_parameters(&Object::new(), &|_| None) {
            Err(diagnostics) => diagnostics.0,
            Ok(_) => loaded.warnings,
        },
    };
    let source = text::decode(source.as_bytes()).expect("the examples are text");
    findings.iter().map(|finding| render(finding, &source, "flow.json", false)).collect::<Vec<_>>().join("\n")
}

fn generated() -> String {
    let mut page = String::from("\n## What people get wrong, and what they are told\n\n");
    for (title, source) in MISTAKES {
        let shown = printed(source);
        assert!(!shown.is_empty(), "nothing is found in `{title}`");
        write!(page, "### {title}\n\n```text\n{shown}```\n\n").expect("a String takes all");
    }
    page.push_str("## All codes\n\n");
    for info in catalogue() {
        write!(page, "### {}: {}\n\n{}\n\n", info.code, info.title, info.explanation)
            .expect("a String takes all");
    }
    page.push_str("## Codes of expressions\n\n| code | what it stands for |\n|---|---|\n");
    for code in loom_expression::Code::ALL {
        writeln!(page, "| {} | {} |", code.number(), code.meaning()).expect("a String takes all");
    }
    page.push('\n');
    page
}

#[test]
fn the_page_shows_what_is_printed() {
    let expected = generated();
    let actual =
        PAGE.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(shown, _)| shown);
    if settled(actual) != settled(&expected) {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("errors-generated.md");
        std::fs::write(&path, &expected).expect("the target directory can be written");
        panic!("docs/errors.md is out of date: put {} between its two markers", path.display());
    }
}

/// The sections, without the bodies of those whose words the expression compiler chose.
fn settled(page: &str) -> Vec<&str> {
    page.split("\n### ")
        .map(
            |section| {
                if section.contains("[L0500]") { section.lines().next().unwrap_or_default() } else { section }
            },
        )
        .collect()
}

#[test]
fn codes_are_unique_and_in_order() {
    let codes: Vec<&str> = catalogue().iter().map(|info| info.code).collect();
    assert!(codes.is_sorted());
    assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
}
