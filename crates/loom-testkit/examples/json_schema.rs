//! Runs the official JSON Schema test suite (draft 4) against the validator behind ParseJson: `json_schema SUITE KNOWN`.
//!
//! `SUITE` contains `tests/draft4`. `KNOWN` lists the tests that are known to differ, with the reason; a test that no longer
//! differs is reported, too. Schemas with regular expressions must be rejected, as in the language.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use loom_engine::{
    Budgets,
    schema::{Problem, validate},
};
use loom_expression::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [suite, known] = &arguments[..] else { return Err("usage: json_schema SUITE KNOWN".into()) };
    let known = Known::read(Path::new(known))?;
    let root = Path::new(suite).join("tests/draft4");
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let (mut passed, mut wrong, mut met) = (0, Vec::new(), Vec::new());
    for file in &files {
        let name = file.strip_prefix(&root)?.with_extension("").display().to_string().replace('\\', "/");
        // Its references need a server.
        if name == "refRemote" {
            continue;
        }
        let groups = read(file)?;
        for group in groups.as_array().into_iter().flatten() {
            let schema = group.get("schema").cloned().unwrap_or_default();
            for test in group.get("tests").and_then(Value::as_array).into_iter().flatten() {
                let id = format!("{name} / {} / {}", words(group), words(test));
                if is_right(&schema, test) {
                    passed += 1;
                } else if known.is_known(&id) {
                    met.push(id);
                } else {
                    wrong.push(id);
                }
            }
        }
    }
    println!("json schema: {passed} passed, {} known to differ, {} wrong", met.len(), wrong.len());
    for id in &wrong {
        println!("  wrong: {id}");
    }
    let stale: Vec<&String> = known.ids.iter().filter(|id| !met.contains(id)).collect();
    for id in &stale {
        println!("  no longer differs, or does not exist: {id}");
    }
    if passed == 0 || !wrong.is_empty() || !stale.is_empty() {
        return Err("the results do not match the list of known differences".into());
    }
    Ok(())
}

/// Tests that are known to differ.
struct Known {
    ids: Vec<String>,
}

impl Known {
    fn read(path: &Path) -> Result<Known> {
        let list = read(path)?;
        let groups = list.as_array().into_iter().flatten();
        let ids = groups.filter_map(|group| group.get("tests")?.as_array()).flatten();
        Ok(Known { ids: ids.filter_map(Value::as_str).map(str::to_owned).collect() })
    }

    fn is_known(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }
}

fn read(path: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Value::from_json_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(directory).map_err(|error| format!("cannot read {}: {error}", directory.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn words(described: &Value) -> &str {
    described.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn is_right(schema: &Value, test: &Value) -> bool {
    let data = test.get("data").cloned().unwrap_or_default();
    let valid = test.get("valid").and_then(Value::as_bool) == Some(true);
    match validate(schema, &data, Budgets::default().schema_nodes_max) {
        Ok(mismatches) => !uses_patterns(schema) && mismatches.is_empty() == valid,
        Err(Problem::Unsupported(_)) => uses_patterns(schema),
        Err(Problem::Invalid(_) | Problem::TooCostly(_)) => false,
    }
}

/// Whether the schema or one of its subschemas has a regular expression.
fn uses_patterns(schema: &Value) -> bool {
    let Some(rules) = schema.as_object() else { return false };
    rules.iter().any(|(keyword, value)| match &**keyword {
        "pattern" | "patternProperties" => true,
        "properties" | "definitions" | "dependencies" => {
            value.as_object().into_iter().flatten().any(|(_, schema)| uses_patterns(schema))
        }
        "allOf" | "anyOf" | "oneOf" => value.as_array().into_iter().flatten().any(uses_patterns),
        "items" | "not" | "additionalItems" | "additionalProperties" => {
            uses_patterns(value) || value.as_array().into_iter().flatten().any(uses_patterns)
        }
        _ => false,
    })
}
