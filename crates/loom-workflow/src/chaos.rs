//! `--chaos FILE`: faults that a command injects into calls, and announces.

use std::{path::Path, sync::Arc};

use anyhow::{Result, anyhow, bail};
use loom_definition::{policy::ChaosPlan, render};

use crate::files;

/// Reads a chaos file, and says that chaos is on.
pub(crate) fn plan(path: &Path) -> Result<Arc<ChaosPlan>> {
    read(&files::read_text(path)?, &path.display().to_string())
}

/// Reads the text of a chaos file, and says that chaos is on.
pub(crate) fn read(text: &str, name: &str) -> Result<Arc<ChaosPlan>> {
    let plan = ChaosPlan::read(text).map_err(|diagnostics| {
        let shown: Vec<String> = diagnostics.0.iter().map(|found| render(found, text, name, false)).collect();
        anyhow!("{name} is invalid\n{}", shown.join("\n"))
    })?;
    if plan.injections.is_empty() {
        bail!(
            "{name} injects nothing; add an entry to `injections`, such as {{\"kind\": \"fault\", \"rate\": 0.1}}"
        );
    }
    let count = plan.injections.len();
    eprintln!(
        "loom: CHAOS IS ON: {count} injection{} from {name}, seed {}",
        if count == 1 { "" } else { "s" },
        plan.seed
    );
    Ok(Arc::new(plan))
}
