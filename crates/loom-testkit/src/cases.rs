//! Case files: what to run and what to expect, as data.
//!
//! A file contains a JSON array of cases, or an object with `cases`. A case tests a workflow (`definition` or
//! `definitionFile`) or an expression (`expression`). Workflow cases run on the real engine, with its retries, breakers and
//! limiters, but with mocked responses from the case instead of calls, and in virtual time: waiting for a day takes no time.

mod answers;
mod compare;
pub(crate) mod expect;
mod expression;
mod read;
mod report;
pub(crate) mod workflow;

#[cfg(test)]
mod tests;

pub use compare::{Difference, compare_exact, compare_subset};
pub use read::{Body, Case, CaseFile, ReadError};
pub use report::{Counts, Report, Verdict};

use loom_expression::Timestamp;

/// Runs cases.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    now: Timestamp,
}

impl Runner {
    /// A runner whose cases start at the time `now`, unless a case sets its own.
    pub fn new(now: Timestamp) -> Runner {
        Runner { now }
    }

    /// Runs one case in virtual time: waits are skipped.
    ///
    /// Must not be called on a tokio runtime; it builds its own runtime, whose time is paused.
    pub fn play(&self, file: &CaseFile, case: &Case) -> Verdict {
        match &case.body {
            Body::Expression(expression) => expression::play(expression, self.now),
            Body::Workflow(workflow) => workflow::play(workflow, &file.folder, self.now),
            Body::Unreadable(why) => Verdict::Failed(vec![Difference::of("case", why.clone())]),
        }
    }

    /// Runs all cases of a file whose id contains `filter`.
    pub fn play_all(&self, file: &CaseFile, filter: Option<&str>) -> Report {
        let chosen = file.cases.iter().filter(|case| filter.is_none_or(|filter| case.id.contains(filter)));
        Report {
            file: file.name.clone(),
            entries: chosen.map(|case| (case.clone(), self.play(file, case))).collect(),
        }
    }
}
