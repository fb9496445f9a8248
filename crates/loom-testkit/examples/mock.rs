//! A mock server for scripts: `mock SCRIPT` prints its URL and applies the rules until its standard input ends.
//!
//! It then prints all problems (requests that match no rule, rules with another number of requests than expected) and exits
//! with 1 if there are any.

use std::{error::Error, io::Read, process::ExitCode};

use loom_expression::Value;
use loom_testkit::mock::Mock;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: mock SCRIPT")?;
    let script = Value::parse_json(&std::fs::read(path)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let problems = runtime.block_on(async {
        let mock = Mock::start(&script).await?;
        println!("{}", mock.base_url());
        // Blocks this thread; the server runs in the worker thread.
        std::io::stdin().read_to_end(&mut Vec::new())?;
        let problems = mock.problems();
        mock.stop().await;
        Ok::<_, Box<dyn Error>>(problems)
    })?;
    for problem in &problems {
        eprintln!("mock: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
