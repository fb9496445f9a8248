//! Case files: what to run and what to expect, as data.
//!
//! A file contains a JSON array of cases, or an object with `cases`. A case tests a workflow (`definition` or
//! `definitionFile`) or an expression (`expression`). Workflow cases run on the real engine, with its retries, breakers and
//! limiters, but with mocked responses from the case instead of calls, and in virtual time: waiting for a day takes no time.

mod answers;
mod compare;
pub(crate) mod expect;
mod expression;
mod memory;
mod read;
mod report;
mod scripted;
pub(crate) mod workflow;

#[cfg(test)]
mod tests;

pub use compare::{Difference, Values, compare_exact, compare_subset};
pub use read::{Body, Case, CaseFile, ReadError};
pub use report::{Counts, Report, Verdict};

use std::{sync::Arc, time::Duration};

use loom_definition::policy::{ChaosPlan, Policies};
use loom_engine::ports::Clock;
use loom_expression::Timestamp;

/// Runs cases.
#[derive(Clone, Debug)]
pub struct Runner {
    now: Timestamp,
    chaos: Option<Arc<ChaosPlan>>,
    policies: Option<Arc<Policies>>,
}

impl Runner {
    /// A runner whose cases start at the time `now`, unless a case sets its own.
    pub fn new(now: Timestamp) -> Runner {
        Runner { now, chaos: None, policies: None }
    }

    /// The same runner, with chaos injected into the calls of workflows.
    #[must_use]
    pub fn with_chaos(mut self, plan: Arc<ChaosPlan>) -> Runner {
        self.chaos = Some(plan);
        self
    }

    /// The same runner, with these named policies instead of those of the project of each case.
    #[must_use]
    pub fn with_policies(mut self, policies: Arc<Policies>) -> Runner {
        self.policies = Some(policies);
        self
    }

    /// Runs one case in virtual time: waits are skipped.
    ///
    /// Must not be called on a tokio runtime; it builds its own runtime, whose time is paused.
    pub fn run(&self, file: &CaseFile, case: &Case) -> Verdict {
        match &case.body {
            Body::Expression(expression) => expression::run(expression, self.now),
            Body::Workflow(workflow) => {
                let (chaos, policies) = (self.chaos.as_ref(), self.policies.as_ref());
                workflow::run(workflow, &file.directory, self.now, chaos, policies)
            }
            Body::Unreadable(why) => Verdict::Failed(vec![Difference::of("case", why.clone())]),
        }
    }

    /// Runs all cases of a file whose id contains `filter`.
    pub fn run_all(&self, file: &CaseFile, filter: Option<&str>) -> Report {
        let chosen = file.cases.iter().filter(|case| filter.is_none_or(|filter| case.id.contains(filter)));
        let entries = chosen.map(|case| (case.clone(), self.run(file, case))).collect();
        Report { file: file.name.clone(), entries, times: Vec::new() }
    }

    /// Like [`Runner::run_all`], and measures the wall time of each case with `clock`.
    pub fn run_all_timed(&self, file: &CaseFile, filter: Option<&str>, clock: &dyn Clock) -> Report {
        let chosen = file.cases.iter().filter(|case| filter.is_none_or(|filter| case.id.contains(filter)));
        let (mut entries, mut times) = (Vec::new(), Vec::new());
        for case in chosen {
            let start = clock.now().unix_nanos();
            let verdict = self.run(file, case);
            let nanos = u64::try_from(clock.now().unix_nanos() - start).unwrap_or_default();
            times.push(Duration::from_nanos(nanos));
            entries.push((case.clone(), verdict));
        }
        Report { file: file.name.clone(), entries, times }
    }
}
