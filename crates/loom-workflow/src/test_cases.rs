//! `loom test`: runs the test cases of files and reports differences.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use loom_actions::Project;
use loom_definition::policy::ChaosPlan;
use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{Value, Visible};
use loom_testkit::cases::{CaseFile, Counts, Report, Runner, Verdict};

use crate::{args::TestArgs, chaos, console, exit::Exit, files, run::policies_in};

/// Runs the command. The last line of its output is `N passed, N failed`; with `--json` that line goes to standard error, so
/// that standard output contains only one object per case.
pub(crate) fn command(args: &TestArgs) -> Result<Exit> {
    let mut runner = Runner::new(SystemClock.now());
    if let Some(file) = &args.resilience {
        runner = runner.with_policies(policies_in(None, Some(file))?);
    }
    let chaos = args.chaos.as_deref().map(chaos::plan).transpose()?;
    let mut luck = 0;
    let mut total = Counts::default();
    let mut suites = String::new();
    // All files are read before the first case runs, so that a misspelt name is reported immediately.
    let paths = files::meant(
        &args.files,
        "file of test cases (*.test.json, or a JSON list of cases)",
        files::looks_like_cases,
    )?;
    let files = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    warn_of_others(&files)?;
    for file in &files {
        let report = runner.run_all_timed(file, args.filter.as_deref(), &SystemClock);
        let counts = report.counts();
        if args.json {
            for case in report.json() {
                console::json(&case.to_json_text());
            }
        } else {
            print!("{}", report.text());
            if counts.inferred_passed + counts.inferred_failed > 0 {
                let documented =
                    (counts.passed - counts.inferred_passed, counts.failed - counts.inferred_failed);
                println!(
                    "{}: documented {} passed, {} failed; inferred {} passed, {} failed",
                    file.name, documented.0, documented.1, counts.inferred_passed, counts.inferred_failed
                );
            }
        }
        if let Some(plan) = &chaos {
            luck += test_chaos(&runner, plan, file, &report, args.json);
        }
        suites.push_str(&report.junit());
        total += counts;
    }
    if let Some(path) = &args.junit {
        let text =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n");
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(filter) = &args.filter
        && total == Counts::default()
    {
        bail!("no case has an id that contains `{filter}`; nothing was tested");
    }
    if args.json {
        eprintln!("{total}");
    } else {
        println!("{total}");
    }
    if total == Counts::default() {
        console::error(format_args!("the files contain no cases; nothing was tested"));
        return Ok(Exit::Failure);
    }
    Ok(if total.failed == 0 && luck == 0 { Exit::Success } else { Exit::Failure })
}

/// The number of seeds under which `--chaos` runs each case.
const SEEDS: u64 = 10;

/// Runs the cases that have passed again under chaos, and prints those that fail under some seed. Returns their number.
fn test_chaos(runner: &Runner, plan: &ChaosPlan, file: &CaseFile, report: &Report, json: bool) -> usize {
    let passed = report.entries.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Passed));
    let mut fragile = 0;
    for (case, _) in passed.clone() {
        let seeds = plan.seed..plan.seed.saturating_add(SEEDS);
        let failing: Vec<String> = seeds
            .filter(|seed| {
                let plan = Arc::new(ChaosPlan { seed: *seed, ..plan.clone() });
                matches!(runner.clone().with_chaos(plan).run(file, case), Verdict::Failed(_))
            })
            .map(|seed| seed.to_string())
            .collect();
        if failing.is_empty() {
            continue;
        }
        fragile += 1;
        let (count, seeds) = (failing.len(), failing.join(", "));
        let line = format!(
            "fragile  {}: {}: fails under {count} of {SEEDS} seeds ({seeds})",
            Visible(&file.name),
            Visible(&case.id)
        );
        if json { eprintln!("{line}") } else { println!("{line}") }
    }
    let line = format!("under chaos: {fragile} of {} cases failed under some seeds", passed.count());
    if json {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
    fragile
}

/// Warns of settings that Loom does not support, once for each project of the cases.
fn warn_of_others(files: &[CaseFile]) -> Result<()> {
    let directories: BTreeSet<PathBuf> = files.iter().flat_map(CaseFile::projects).collect();
    for directory in directories {
        let project = Project::read(Some(&directory), None, None, |path: &Path| -> Result<Option<Value>> {
            if files::there_is(path)? { files::read_json(path).map(Some) } else { Ok(None) }
        })?;
        for name in project.not_honoured() {
            eprintln!("loom: warning: this setting is not supported and has no effect: {}", Visible(&name));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<CaseFile> {
    let name = path.display().to_string();
    let bytes = files::read(path)?;
    let cases = files::parse_json(&name, &bytes)?;
    let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
    Ok(CaseFile::of(&cases, name, directory)?.with_lines(&bytes))
}
