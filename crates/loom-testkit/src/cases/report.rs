//! Reports on cases: as text, JSON and JUnit XML.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use loom_expression::{Object, Value, Visible};

use super::{Case, Difference};

/// The result of one case.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Everything is as expected.
    Passed,
    /// Something differed.
    Failed(Vec<Difference>),
}

/// The results of the cases of one file.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file.
    pub file: String,
    /// Its cases, in order.
    pub entries: Vec<(Case, Verdict)>,
    /// The wall time of each case, in the same order; empty if it was not measured.
    pub times: Vec<Duration>,
}

/// The numbers of cases by result. Cases with an inferred expectation are included, and also counted separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed cases.
    pub passed: usize,
    /// Failed cases.
    pub failed: usize,
    /// Passed cases with an inferred expectation.
    pub inferred_passed: usize,
    /// Failed cases with an inferred expectation.
    pub inferred_failed: usize,
}

impl Report {
    /// Counts the cases by result.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (case, verdict) in &self.entries {
            let inferred = usize::from(case.inferred);
            match verdict {
                Verdict::Passed => {
                    counts.passed += 1;
                    counts.inferred_passed += inferred;
                }
                Verdict::Failed(_) => {
                    counts.failed += 1;
                    counts.inferred_failed += inferred;
                }
            }
        }
        counts
    }

    /// The failed cases as text, each with its differences.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (case, verdict) in &self.entries {
            match verdict {
                Verdict::Passed => {}
                Verdict::Failed(differences) => {
                    let inferred = if case.inferred { " (inferred)" } else { "" };
                    let _ = writeln!(out, "failed  {}{inferred}", Visible(&case.id));
                    if let Some(line) = case.line {
                        let _ = writeln!(out, "  --> {}:{line}", Visible(&self.file));
                    }
                    if let Some(note) = &case.note {
                        let _ = writeln!(out, "  {}", Visible(note));
                    }
                    for difference in differences {
                        let _ = writeln!(out, "  {difference}");
                    }
                }
            }
        }
        out
    }

    /// One object for each case: `file`, `id`, `line`, `result` (`passed`, `failed`), `inferred`, `differences`. A
    /// difference has `at` and either `expected` and `actual`, whole JSON values of which an absent one is omitted, or `message`.
    pub fn json(&self) -> Vec<Value> {
        self.entries.iter().map(|(case, verdict)| entry_json(&self.file, case, verdict)).collect()
    }

    /// A `testsuite` element of JUnit XML.
    pub fn junit(&self) -> String {
        let counts = self.counts();
        let file = xml(&self.file);
        let total: Duration = self.times.iter().sum();
        let mut out = format!(
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\" file=\"{file}\">\n",
            self.entries.len(),
            counts.failed,
            total.as_secs_f64()
        );
        for (index, (case, verdict)) in self.entries.iter().enumerate() {
            let time = self.times.get(index).copied().unwrap_or_default().as_secs_f64();
            let id = xml(&case.id);
            let _ = write!(
                out,
                "    <testcase classname=\"{file}\" name=\"{id}\" time=\"{time:.3}\" file=\"{file}\""
            );
            if let Some(line) = case.line {
                let _ = write!(out, " line=\"{line}\"");
            }
            let _ = match verdict {
                Verdict::Passed => writeln!(out, "/>"),
                Verdict::Failed(differences) => {
                    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
                    let first =
                        differences.first().map(|difference| difference.at.clone()).unwrap_or_default();
                    writeln!(
                        out,
                        "><failure message=\"{}\">{}</failure></testcase>",
                        xml(&first),
                        xml(&lines.join("\n"))
                    )
                }
            };
        }
        out.push_str("  </testsuite>\n");
        out
    }
}

fn entry_json(file: &str, case: &Case, verdict: &Verdict) -> Value {
    let mut object = Object::new();
    object.insert("file", file);
    object.insert("id", case.id.as_str());
    if let Some(line) = case.line {
        object.insert("line", line as i64);
    }
    object.insert(
        "result",
        match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
        },
    );
    if case.inferred {
        object.insert("inferred", true);
    }
    match verdict {
        Verdict::Passed => {}
        Verdict::Failed(differences) => {
            let list = differences.iter().map(|difference| {
                let mut entry = Object::new();
                entry.insert("at", difference.at.as_str());
                match (&difference.values, &difference.expected) {
                    (Some(values), _) => {
                        for (name, value) in [("expected", &values.expected), ("actual", &values.actual)] {
                            if let Some(value) = value {
                                entry.insert(name, value.clone());
                            }
                        }
                    }
                    (None, Some(expected)) => {
                        let message = format!("expected {expected}, found {}", difference.actual);
                        entry.insert("message", message);
                    }
                    (None, None) => {
                        entry.insert("message", difference.actual.as_str());
                    }
                }
                Value::from(entry)
            });
            object.insert("differences", Value::from(list.collect::<Vec<_>>()));
        }
    }
    object.into()
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.inferred_passed += other.inferred_passed;
        self.inferred_failed += other.inferred_failed;
    }
}

/// `N passed, N failed`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Escapes text for an XML attribute or element. Characters that XML does not allow become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}
