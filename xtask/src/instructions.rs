//! Counts the instructions of the engine's own work, so that a change that makes it slower does not go unnoticed.
//!
//! A count hardly depends on the load and the speed of a machine, unlike a time. Each figure is the difference between two
//! numbers of repetitions, so that starting the program does not count.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The file with the recorded figures.
const RECORDED: &str = "benches/instructions.json";

/// A figure may exceed the recorded one by this many hundredths. The standard library and the C library of another machine
/// account for less than one.
const ROOM_PERCENT: u64 = 3;

/// A measured piece of work.
struct Row {
    name: &'static str,
    program: &'static str,
    /// The `--case` of the program.
    case: &'static str,
    /// The two numbers of repetitions.
    repeated: (u64, u64),
    /// The units in one repetition.
    units: u64,
}

const ROWS: [Row; 9] = [
    runs("chain of 10 Compose", (100, 600)),
    runs("Foreach of 1,000 Compose", (2, 7)),
    runs("Until of 100 iterations", (5, 25)),
    runs("fan-out of 50 joined", (30, 180)),
    runs("chain of 10, all four policies", (50, 250)),
    runs("chain of 300 Compose", (3, 13)),
    Row {
        name: "call through a policy pipeline",
        program: "instructions-steps",
        case: "pipeline",
        repeated: (1_000, 6_000),
        units: 1,
    },
    Row {
        name: "call through a policy without parts",
        program: "instructions-steps",
        case: "without-parts",
        repeated: (1_000, 6_000),
        units: 1,
    },
    Row {
        name: "durable step",
        program: "instructions-steps",
        case: "durable",
        repeated: (50, 250),
        units: 10,
    },
];

/// A row of the benchmark of runs in memory.
const fn runs(name: &'static str, repeated: (u64, u64)) -> Row {
    Row { name, program: "instructions-runs", case: name, repeated, units: 1 }
}

/// Parses `[--record]`, builds the programs, counts, and compares with the recorded figures or records the new ones.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let record = match arguments {
        [] => false,
        [flag] if flag == "--record" => true,
        other => bail!("unknown arguments `{}`; available: --record", other.join(" ")),
    };
    let there = Command::new("valgrind").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        bail!("cannot start valgrind, which counts the instructions; install it: apt-get install valgrind");
    }
    super::cargo(&["build", "--locked", "--package", "instructions", "--profile", "instructions"], &[])?;
    println!("== instructions");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut counted = BTreeMap::new();
    for row in &ROWS {
        counted.insert(row.name.to_owned(), count(&target.join("instructions"), row)?);
    }
    let file = root.join(RECORDED);
    if record {
        let text = serde_json::to_string_pretty(&counted)?;
        fs::write(&file, text + "\n").with_context(|| format!("cannot write {RECORDED}"))?;
        for (name, count) in &counted {
            println!("{name:<32} {count:>12}");
        }
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {RECORDED}"))?;
    let recorded = serde_json::from_str(&text).with_context(|| format!("{RECORDED} has a wrong form"))?;
    let findings = compare(&recorded, &counted);
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nMake the work cheaper, or record the new figures with `cargo xtask instructions --record` and say why in the \
         commit.",
        findings.join("\n")
    );
}

/// Prints each row, and returns what is wrong.
fn compare(recorded: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, now) in counted {
        let Some(before) = recorded.get(name) else {
            findings.push(format!("{name}: {RECORDED} has no figure for this row (got {now})"));
            continue;
        };
        let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
        println!("{name:<32} {now:>12} {change:>+7.2} %");
        if u128::from(*now) * 100 > u128::from(*before) * u128::from(100 + ROOM_PERCENT) {
            findings.push(format!(
                "{name}: expected at most {before} instructions and {ROOM_PERCENT} %, found {now} ({change:+.2} %)"
            ));
        }
    }
    let unknown = recorded.keys().filter(|name| !counted.contains_key(*name));
    findings.extend(unknown.map(|name| format!("{name}: {RECORDED} has a figure for it, but it is no row")));
    findings
}

/// The instructions of one unit of a row.
fn count(programs: &Path, row: &Row) -> Result<u64> {
    let (few, many) = row.repeated;
    let less = collected(&programs.join(row.program), row.case, few)?;
    let more = collected(&programs.join(row.program), row.case, many)?;
    let between = more.checked_sub(less).with_context(|| {
        format!("{}: {many} repetitions took fewer instructions than {few} ({more}, {less})", row.name)
    })?;
    Ok(between / ((many - few) * row.units))
}

/// The instructions of a whole program.
fn collected(program: &Path, case: &str, count: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--bench", "--case", case, "--count", &count.to_string()])
        .output()
        .context("cannot start valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} --case '{case}' failed with {}:\n{report}", program.display(), output.status);
    }
    total(&report)
        .with_context(|| format!("the report of valgrind has no line `Collected : NUMBER`:\n{report}"))
}

/// The number in the report of callgrind.
fn total(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
        rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_row_may_grow_by_three_hundredths_and_no_more() {
        let recorded = figures(&[("chain", 1_000), ("fan-out", 2_000)]);
        assert_eq!(
            compare(&recorded, &figures(&[("chain", 1_030), ("fan-out", 1_500)])),
            Vec::<String>::new()
        );
        assert_eq!(
            compare(&recorded, &figures(&[("chain", 1_031), ("fan-out", 2_000)])),
            ["chain: expected at most 1000 instructions and 3 %, found 1031 (+3.10 %)"]
        );
    }

    #[test]
    fn rows_and_figures_must_match() {
        let findings = compare(&figures(&[("old", 1)]), &figures(&[("new", 1)]));
        assert_eq!(
            findings,
            [
                "new: benches/instructions.json has no figure for this row (got 1)",
                "old: benches/instructions.json has a figure for it, but it is no row",
            ]
        );
    }

    #[test]
    fn the_total_is_read_from_the_report() {
        assert_eq!(total("==7== Events    : Ir\n==7== Collected : 37970729\n==7== \n"), Some(37_970_729));
        assert_eq!(total("==7== I refs: 1\n"), None);
    }
}
