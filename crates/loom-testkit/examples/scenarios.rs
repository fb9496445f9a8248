//! Runs every scenario of the project on the definitions of a corpus: `scenarios CORPUS_DIR [FILTER]`.
//!
//! Prints one line for each case, with its differences, and then the counts. Exits with 1 if a case failed or there were none.

use std::{error::Error, path::Path, process::ExitCode};

use loom_testkit::{cases::Verdict, scenario::Corpus};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let corpus = Corpus::at(arguments.next().ok_or("usage: scenarios CORPUS_DIR [FILTER]")?);
    let filter = arguments.next().unwrap_or_default();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/scenarios");
    let mut files = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    files.retain(|file| file.is_file() && file.to_string_lossy().contains(&filter));
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for executed in files.iter().flat_map(|file| corpus.run(file)) {
        match executed.verdict {
            Verdict::Passed => {
                passed += 1;
                println!("ok      {}", executed.id);
            }
            Verdict::Failed(differences) => {
                failed += 1;
                println!("FAILED  {}", executed.id);
                for difference in differences {
                    println!("  {difference}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
