//! Scenarios: definitions as people wrote them, run on the real engine with its real handlers, against a mock of every
//! service they call.
//!
//! A scenario file names a definition and holds cases:
//!
//! ```json
//! {"definition": "abde76ee", "connections": {"connections": {"crm": {"baseUrl": "https://crm"}}},
//!  "cases": [{"id": "Paris", "trigger": {"body": {"City": "Paris"}},
//!    "rules": [{"path": "/api.example.com/gists", "response": {"status": 201}}],
//!    "calls": [{"method": "POST", "path": "/api.example.com/gists", "body": {"a": 1}}],
//!    "expected": {"runStatus": "Succeeded", "response": {"statusCode": 200}}}]}
//! ```
//!
//! Members beside `cases` hold for every case that does not have them itself.
//!
//! | member | meaning |
//! |---|---|
//! | `definition` | how the name of its file ends, without `.json` |
//! | `parametersFile`, `connections`, `appSettings` | what a project has in the files beside a workflow |
//! | `trigger` | what the trigger gives: `name`, else its outputs |
//! | `rules` | the script of [`crate::mock`]; a request to `https://host/path` arrives as `/host/path` |
//! | `calls` | all the calls that must have come: `method`, `path`, `query`, `body` exactly, `headers` at least |
//! | `anyOrder` | whether the calls may come in another order |
//! | `workflows` | definitions of child workflows, by name |
//! | `now` | what time it is when the run starts |
//! | `expected` | as in a workflow case of [`crate::cases`], or a list of which one must hold |
//! | `subscription` | served only: the call that a webhook trigger subscribes with, as in `calls` |
//! | `answersLater` | served only: whether the caller is told where the answer will be |
//!
//! `{"$oracle": ["file.json", "member", …]}` stands for that member of a file in the folder of oracles; further members
//! of such an object are added to it. Requests are not retried. Time is the system's, because calls go over sockets.
//!
//! Here the engine is fired directly. The example `served` plays the same cases through a server, and looks at the two
//! members that only a served trigger has.

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

/// Where definitions and oracles lie.
#[derive(Clone, Debug)]
pub struct Corpus {
    folder: PathBuf,
}

/// How one case of a scenario ended.
#[derive(Clone, Debug)]
pub struct Played {
    /// The scenario's file and the case's id.
    pub id: String,
    /// How it ended.
    pub verdict: Verdict,
}

impl Corpus {
    /// A folder with `definitions` and `oracles`.
    pub fn at(folder: impl Into<PathBuf>) -> Corpus {
        Corpus { folder: folder.into() }
    }

    /// Plays the cases of a scenario file, one after the other.
    ///
    /// Must not be called on a tokio runtime; it builds one of its own for each case.
    pub fn play(&self, file: &Path) -> Vec<Played> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |id: &str, why: String| Played {
            id: id.to_owned(),
            verdict: Verdict::Failed(vec![Difference::of("scenario", why)]),
        };
        let cases = match self.cases(file) {
            Ok(cases) => cases,
            Err(why) => return vec![failed(&name, why)],
        };
        let play = |case: &Object| {
            let id = case.get("id").and_then(Value::as_str).unwrap_or("only case");
            let id = format!("{name}: {id}");
            match self.stage(case) {
                Ok(stage) => Played { verdict: stage.play(case), id },
                Err(why) => failed(&id, why),
            }
        };
        cases.iter().map(play).collect()
    }

    /// The cases of a scenario file, each with the members that all share and with what it takes from oracles.
    ///
    /// # Errors
    /// What cannot be read, or is no scenario, in words.
    pub fn cases(&self, file: &Path) -> Result<Vec<Object>, String> {
        let value = read_json(file)?;
        let value = oracle::resolve(&value, &self.folder.join("oracles"))?;
        let shared = value.as_object().ok_or("a scenario file holds an object")?;
        let cases = value.get("cases").and_then(Value::as_array).ok_or("a scenario file has `cases`")?;
        if cases.is_empty() {
            return Err("`cases` is empty".to_owned());
        }
        let mut read = Vec::new();
        for case in cases {
            let mut case = case.as_object().ok_or("a case is an object")?.clone();
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

    /// The file of the definition that a case is about.
    ///
    /// # Errors
    /// There is none, or more than one, in words.
    pub fn definition(&self, case: &Object) -> Result<PathBuf, String> {
        let ending = case.get("definition").and_then(Value::as_str).ok_or("`definition` names no file")?;
        find(&self.folder.join("definitions"), ending)
    }

    fn stage(&self, case: &Object) -> Result<stage::Stage, String> {
        stage::Stage::set_up(case, &self.definition(case)?)
    }
}

/// The one file of a folder whose name ends like this.
fn find(folder: &Path, ending: &str) -> Result<PathBuf, String> {
    let ending = format!("{ending}.json");
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(&ending))
        .collect();
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (None, _) => Err(format!("no definition's name ends in {ending}")),
        (Some(_), more) => Err(format!("{} definitions' names end in {ending}", more + 1)),
    }
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Value::parse_json(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}
