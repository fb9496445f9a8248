//! Scenarios: real-world definitions, run on the real engine with its real handlers, against a mock of every service that they
//! call.
//!
//! A scenario file names a definition and contains cases:
//!
//! ```json
//! {"definition": "abde76ee", "connections": {"connections": {"crm": {"baseUrl": "https://crm"}}},
//!  "cases": [{"id": "Paris", "trigger": {"body": {"City": "Paris"}},
//!    "rules": [{"path": "/api.example.com/gists", "response": {"status": 201}}],
//!    "calls": [{"method": "POST", "path": "/api.example.com/gists", "body": {"a": 1}}],
//!    "expected": {"runStatus": "Succeeded", "response": {"statusCode": 200}}}]}
//! ```
//!
//! Properties next to `cases` apply to every case that does not define them itself.
//!
//! | property | meaning |
//! |---|---|
//! | `definition` | the end of the definition's file name, without `.json` |
//! | `parametersFile`, `connections`, `appSettings` | the contents of a project's files next to a workflow; descriptions of connectors are files next to the scenario |
//! | `trigger` | the trigger's `name` and its outputs |
//! | `rules` | the script of [`crate::mock`]; a request to `https://host/path` arrives as `/host/path` |
//! | `calls` | all expected calls: `method`, `path`, `query` and `body` must be equal, `headers` are a subset |
//! | `anyOrder` | whether the calls may arrive in any order |
//! | `workflows` | definitions of child workflows, by name |
//! | `now` | the time at which the run starts |
//! | `expected` | as in a workflow case of [`crate::cases`], or a list of alternatives |
//! | `subscription` | served only: the call with which a webhook trigger subscribes, as in `calls` |
//! | `answersLater` | served only: whether the caller gets the location of a later response |
//!
//! `{"$oracle": ["file.json", "property", …]}` is replaced by that property of a file in the `oracles` directory; further
//! properties of the object are added to it. Requests are not retried. Time is real, because calls use sockets.
//!
//! Here, the engine is called directly. The example `served` runs the same cases through a server, and also checks the two
//! properties that only a served trigger has.

mod calls;
mod oracle;
mod stage;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use loom_expression::{Object, Value};

pub use calls::compare as compare_calls;

use crate::cases::{Difference, Verdict};

/// A directory of definitions and oracles.
#[derive(Clone, Debug)]
pub struct Corpus {
    directory: PathBuf,
}

/// The result of one case of a scenario.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The scenario's file and the case's id.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
}

impl Corpus {
    /// The corpus in a directory that contains `definitions` and `oracles`.
    pub fn at(directory: impl Into<PathBuf>) -> Corpus {
        Corpus { directory: directory.into() }
    }

    /// Runs the cases of a scenario file, one after the other.
    ///
    /// Must not be called on a tokio runtime; it builds its own for each case.
    pub fn run(&self, file: &Path) -> Vec<Executed> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |id: &str, why: String| Executed {
            id: id.to_owned(),
            verdict: Verdict::Failed(vec![Difference::of("scenario", why)]),
        };
        let cases = match self.cases(file) {
            Ok(cases) => cases,
            Err(why) => return vec![failed(&name, why)],
        };
        let run = |case: &Object| {
            let id = case.get("id").and_then(Value::as_str).unwrap_or("only case");
            let id = format!("{name}: {id}");
            match self.stage(case, file) {
                Ok(stage) => Executed { verdict: stage.verdict(case), id },
                Err(why) => failed(&id, why),
            }
        };
        cases.iter().map(run).collect()
    }

    /// The cases of a scenario file, each with the shared properties, and with references to oracles resolved.
    ///
    /// # Errors
    /// A message about a file that cannot be read, or is not a scenario.
    pub fn cases(&self, file: &Path) -> Result<Vec<Object>, String> {
        let value = read_json(file)?;
        let value = oracle::resolve(&value, &self.directory.join("oracles"))?;
        let shared = value.as_object().ok_or("a scenario file must contain an object")?;
        let cases = value
            .get("cases")
            .and_then(Value::as_array)
            .ok_or("a scenario file must have an array `cases`")?;
        if cases.is_empty() {
            return Err("`cases` must not be empty".to_owned());
        }
        let mut read = Vec::new();
        for case in cases {
            let mut case = case.as_object().ok_or("a case must be an object")?.clone();
            for (member, value) in shared {
                if &**member != "cases" && !case.contains_key(member) {
                    case.insert(Arc::clone(member), value.clone());
                }
            }
            stage::check_members(&case)?;
            read.push(case);
        }
        Ok(read)
    }

    /// The file of the definition that a case tests.
    ///
    /// # Errors
    /// A message, when there is no such file, or more than one.
    pub fn definition(&self, case: &Object) -> Result<PathBuf, String> {
        let ending = case
            .get("definition")
            .and_then(Value::as_str)
            .ok_or("`definition` must be the end of a file name")?;
        find(&self.directory.join("definitions"), ending)
    }

    fn stage(&self, case: &Object, file: &Path) -> Result<stage::Stage, String> {
        stage::Stage::set_up(case, &self.definition(case)?, file.parent())
    }
}

/// The only file of a directory whose name has this ending.
fn find(directory: &Path, ending: &str) -> Result<PathBuf, String> {
    let ending = format!("{ending}.json");
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(&ending))
        .collect();
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (None, _) => Err(format!("no definition has a name ending in {ending}")),
        (Some(_), more) => Err(format!("{} definitions have names ending in {ending}", more + 1)),
    }
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Value::parse_json(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}
