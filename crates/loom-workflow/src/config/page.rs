//! The reference page of all settings, `docs/configuration.md`.

use std::fmt::Write;

use super::table::TABLE;

const HEAD: &str = "\
# Configuration

Every setting of `loom serve` has one name and can be set in five places, in this order of precedence:

| place | spelling | |
|---|---|---|
| flag | `--runs-max 500` | |
| environment variable | `LOOM_RUNS_MAX=500` | lists are comma-separated; an empty variable counts as not set |
| `loom.toml` | `runs-max = 500` | paths are relative to the file |
| `local.settings.json` | `\"Loom\": {\"runsMax\": 500}` | paths are relative to the file |
| default | | |

`loom.toml` is read from the directory of `--workflows`, the project of the first definition (the parent of `NAME/workflow.json`) or the working directory, the first of these that has one; `--config FILE` or `LOOM_CONFIG` names another file.
Settings marked *run* are also flags of `loom run`. Changes to settings marked *reload* are applied by SIGHUP; all others require a restart.

Other commands use the same settings of the working directory: `loom run --durable` and `loom secrets` use `data` and `secrets`; `loom runs`, `loom workflows` and `loom resilience` contact the server at `addr` with its token, unless
`--server` or `--data` is given. With `--server`, a token from a settings file is not sent, but one from `LOOM_TOKEN_FILE` or `LOOM_TOKEN` is.

Unknown names and invalid values in a file are errors, reported with the line and, where possible, a suggestion. `loom config show --origin` prints every setting and where it was set:

```sh
loom config show --origin
```

```text
addr = \"127.0.0.1:7070\"  # default
runs-max = 500           # loom.toml:1
```

Durations are whole seconds or have a unit (`500ms`, `20s`, `5m`, `2h`, `7d`, `PT20S`); sizes are bytes or have a unit (`512KiB`, `64MiB`, `10GiB`). A flag such as `--memory` turns a switch on, `--memory=false` turns it off.
";

/// Renders the page.
pub(super) fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut group = "";
    for setting in TABLE {
        if setting.group != group {
            group = setting.group;
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "\n## {group}\n\n| setting | value | default | description |\n|---|---|---|---|\n"
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
