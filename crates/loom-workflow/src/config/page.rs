//! The reference page of all settings, `docs/configuration.md`.

use std::fmt::Write;

use super::table::TABLE;

const HEAD: &str = "\
# Configuration

Every setting of `loom serve` has one name and can be given in five places. Of several, the first of this list counts:

| place | spelling | |
|---|---|---|
| flag | `--runs-max 500` | |
| variable | `LOOM_RUNS_MAX=500` | lists are separated by commas; an empty variable is not set |
| `loom.toml` | `runs-max = 500` | paths are relative to the file |
| `local.settings.json` | `\"Loom\": {\"runsMax\": 500}` | paths are relative to the file |
| default | | |

`loom.toml` is looked for in the directory of `--workflows`, then in the project of the first definition (the parent of `NAME/workflow.json`), then in the working directory; `--config FILE` or `LOOM_CONFIG` name another.
Settings marked *run* are also flags of `loom run`. Settings marked *reload* are applied by SIGHUP; a change of any other takes effect at the next start.

An unknown name in a file is an error, with its line and the name that was probably meant; so is a value that a setting does not take. `loom config show --origin` prints every setting with the place it came from:

    $ loom config show --origin
    addr = \"127.0.0.1:7070\"  # default
    runs-max = 500           # loom.toml:1

Durations are whole seconds or have a unit (`500ms`, `20s`, `5m`, `2h`, `7d`, `PT20S`); sizes are bytes or have a unit (`512KiB`, `64MiB`, `10GiB`). A switch is turned on by its flag alone and off by `--memory=false`.
";

/// The whole page.
pub(super) fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut group = "";
    for setting in TABLE {
        if setting.group != group {
            group = setting.group;
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "\n## {group}\n\n| setting | value | default | what it does |\n|---|---|---|---|\n"
            );
        }
        let default = setting.default.map(|default| format!("`{default}`")).unwrap_or_default();
        let marks = [(setting.shared, " *run*"), (setting.live, " *reload*")];
        let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
        let help = setting.help.trim().replace('|', "\\|");
        let _ =
            writeln!(out, "| `{}`{marks} | {} | {default} | {help} |", setting.key(), setting.kind.range());
    }
    out
}
