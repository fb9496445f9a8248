//! Randomly mutated definitions: whatever the mutation, the definition is rejected or its run ends.

use std::{path::Path, sync::Arc};

use loom_expression::{Object, Timestamp, Value};
use loom_testkit::cases::{CaseFile, Runner};

/// The number of mutated definitions.
const MUTANTS: u64 = 1_500;

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed always yields the same definitions.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound as u64).expect("less than a usize")
    }
}

/// The replacement values.
fn odd_values() -> Vec<Value> {
    let texts = [
        "",
        "@",
        "@@",
        "@{",
        "@{}",
        "@null",
        "@item()",
        "@triggerBody()",
        "@range(1,100000)",
        "PT0S",
        "P1D",
        "-PT1S",
        "PT99999999999H",
        "@int('x')",
        "@variables('x')",
        "@result('Sc')",
        "@outputs('A')",
        "Succeeded",
        "\0",
        "é🌍",
    ];
    let plain = ["null", "true", "0", "-1", "5000", "9223372036854775807", "1e308", "[]", "{}", "[[null]]"];
    let shapes = [
        r#"{"A": ["Succeeded"]}"#,
        r#"["Succeeded"]"#,
        r#"{"type": "Compose", "inputs": 1}"#,
        r#"{"equals": [1]}"#,
    ];
    let parsed = plain.iter().chain(&shapes).map(|text| Value::from_json_str(text).expect("it is JSON"));
    texts.into_iter().map(Value::from).chain(parsed).collect()
}

/// The number of values in a value, itself included.
fn size(value: &Value) -> usize {
    let inner: usize = match (value.as_array(), value.as_object()) {
        (Some(items), _) => items.iter().map(size).sum(),
        (_, Some(members)) => members.iter().map(|(_, member)| size(member)).sum(),
        _ => 0,
    };
    1 + inner
}

/// The value with the part at `at` (in document order) replaced or, if `with` is none, removed.
fn changed(value: &Value, at: &mut usize, with: Option<&Value>) -> Option<Value> {
    if *at == 0 {
        *at = usize::MAX;
        return with.cloned();
    }
    *at -= 1;
    if let Some(items) = value.as_array() {
        return Some(items.iter().filter_map(|item| changed(item, at, with)).collect::<Vec<_>>().into());
    }
    if let Some(members) = value.as_object() {
        let kept =
            members.iter().filter_map(|(name, member)| Some((Arc::clone(name), changed(member, at, with)?)));
        return Some(kept.collect::<Object>().into());
    }
    Some(value.clone())
}

#[test]
fn a_mutated_definition_is_rejected_or_its_run_ends() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let read = |name: &str| Value::parse_json(&std::fs::read(directory.join(name)).unwrap()).unwrap();
    let suites = [read("workflows.json"), read("audit.json")];
    let cases: Vec<&Object> = suites
        .iter()
        .flat_map(|suite| suite.as_array().unwrap().iter())
        .filter_map(Value::as_object)
        .filter(|case| case.get("definition").is_some())
        .collect();
    let odd = odd_values();
    let mut mutants: Vec<Value> = Vec::new();
    for seed in 0..MUTANTS {
        let mut dice = Dice(seed);
        let mut case = cases[dice.below(cases.len())].clone();
        let mut definition = case.get("definition").unwrap().clone();
        for _ in 0..=dice.below(3) {
            let mut at = 1 + dice.below((size(&definition) - 1).max(1));
            let with = (dice.below(5) > 0).then(|| &odd[dice.below(odd.len())]);
            definition = changed(&definition, &mut at, with).unwrap_or(definition);
        }
        case.insert("id", format!("seed {seed}"));
        case.insert("definition", definition);
        mutants.push(case.into());
    }
    let text = Value::from(mutants).to_json_text();
    let file = CaseFile::parse(text.as_bytes(), "mutants".to_owned(), directory).unwrap();
    let report = Runner::new(Timestamp::from_unix_millis(1_709_294_400_000)).run_all(&file, None);
    // Each has a verdict, and every run ends.
    let counts = report.counts();
    assert_eq!((counts.passed + counts.failed) as u64, MUTANTS);
    let text = report.text();
    let stuck: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("the run did not end") || line.contains("stopped without a result"))
        .collect();
    assert!(stuck.is_empty(), "{stuck:?}");
}
