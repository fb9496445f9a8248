use std::{collections::HashMap, ffi::OsString, fs, path::Path, time::Duration};

use clap::Parser;

use super::{layers::resolve, page, table::TABLE, *};

#[derive(Debug, Parser)]
struct Serve {
    #[command(flatten)]
    flags: Flags<true>,
}

/// The settings with these flags, these variables, and the project in `directory`.
fn settings(flags: &[&str], variables: &[(&str, &str)], directory: &Path) -> Result<Config> {
    let mut all = vec!["serve", "--workflows", directory.to_str().expect("the directory's name is text")];
    all.extend(flags);
    let flags = Serve::try_parse_from(all)?.flags;
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    resolve(&flags, &[], &|name| variables.get(name).map(OsString::from))
}

/// A project with these two files.
fn project(toml: &str, local: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    for (name, text) in [("loom.toml", toml), ("local.settings.json", local)] {
        if !text.is_empty() {
            fs::write(directory.path().join(name), text).expect("the file can be written");
        }
    }
    directory
}

fn error(flags: &[&str], variables: &[(&str, &str)], directory: &tempfile::TempDir) -> String {
    let error = settings(flags, variables, directory.path()).expect_err("it is refused");
    let directory = format!("{}/", directory.path().display());
    format!("{error:#}").replace(&directory, "")
}

#[test]
fn the_page_is_that_of_the_table() {
    assert_eq!(
        include_str!("../../../../docs/configuration.md"),
        page::page(),
        "run `cargo run -q -p loom-workflow -- config reference > docs/configuration.md`"
    );
}

#[test]
fn every_row_has_a_name_of_its_own_a_default_it_takes_and_known_neighbours() {
    for (place, setting) in TABLE.iter().enumerate() {
        assert!(!TABLE[..place].iter().any(|other| other.field == setting.field), "{}", setting.field);
        assert!(setting.help.trim().ends_with('.'), "{}", setting.field);
        for excluded in setting.excludes {
            assert!(TABLE.iter().any(|other| other.field == *excluded), "{excluded}");
        }
    }
    let values = Config::defaults().values;
    assert_eq!((values.runs_max, values.drain), (10_000, Duration::from_secs(20)));
    assert_eq!((values.retain_bytes, values.memory), (10 << 30, false));
}

#[test]
fn flags_go_before_variables_before_the_file_before_local_settings_before_defaults() {
    let directory = project(
        "runs-max = 3\nretain-days = 3\n",
        r#"{"Loom": {"runsMax": 4, "retainDays": 4, "drain": "4s"}}"#,
    );
    let variables = [("LOOM_RUNS_MAX", "2"), ("LOOM_ADDR", "")];
    let config = settings(&["--runs-max", "1"], &variables, directory.path()).expect("all are right");
    let origin = |config: &Config, field: &str| {
        let place = TABLE.iter().position(|setting| setting.field == field).expect("it is in the table");
        config.effective[place].origin.to_string().replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!((config.values.runs_max, origin(&config, "runs_max").as_str()), (1, "--runs-max"));
    assert_eq!((config.values.retain_days, origin(&config, "retain_days").as_str()), (3, "loom.toml:2"));
    assert_eq!(config.values.drain, Duration::from_secs(4));
    assert_eq!(origin(&config, "drain"), "local.settings.json:1");
    assert_eq!((origin(&config, "addr").as_str(), config.values.addr.port()), ("default", 7070));
    let config = settings(&[], &variables, directory.path()).expect("all are right");
    assert_eq!((config.values.runs_max, origin(&config, "runs_max").as_str()), (2, "LOOM_RUNS_MAX"));
}

#[test]
fn unknown_names_are_rejected_with_their_line_and_a_suggestion() {
    let directory = project("\n# a comment\nruns_max = 3\n", "");
    assert_eq!(
        error(&[], &[], &directory),
        "loom.toml:3: unknown setting `runs_max`; did you mean `runs-max`?"
    );
    let directory = project("[server]\naddr = 1\n", "");
    assert!(error(&[], &[], &directory).starts_with("loom.toml:1: unknown setting `server`"));
    let directory = project("", "{\n  \"Loom\": {\n    \"runDurationMx\": 3\n  }\n}");
    assert_eq!(
        error(&[], &[], &directory),
        "local.settings.json:3: unknown property of `Loom` `runDurationMx`; did you mean `runDurationMax`?"
    );
    let directory = project("addr = \n", "");
    assert!(error(&[], &[], &directory).starts_with("loom.toml:1: "));
}

#[test]
fn misspelt_setting_variables_are_distinguished_from_others() {
    let names =
        ["LOOM_RUNS_MX", "LOOM_RUNS_MAX", "LOOM_PORT", "LOOM_SECRET_TOKN", "LOOM_SERVICE_HOST", "RUNS_MX"];
    let found = super::layers::misspelt(names.iter().map(|name| (*name).to_owned()));
    assert_eq!(found, [("LOOM_RUNS_MX".to_owned(), "LOOM_RUNS_MAX".to_owned())]);
}

#[test]
fn values_out_of_range_are_rejected_with_their_position() {
    let directory = project("", "");
    assert!(
        error(&["--runs-max", "0"], &[], &directory)
            .contains("invalid value '0' for '--runs-max <COUNT>': must be")
    );
    assert_eq!(
        error(&[], &[("LOOM_RUNS_MAX", "many")], &directory),
        "LOOM_RUNS_MAX must be a whole number, between 1 and 4294967295 (got `many`)"
    );
    let directory = project("drain = \"2 days\"", "");
    assert!(error(&[], &[], &directory).starts_with("loom.toml:1: `drain` must be a duration"));
    let directory = project("response-timeout = 0", "");
    assert_eq!(
        error(&[], &[], &directory),
        "loom.toml:1: `response-timeout` must be between 1s and 1d (got 0)"
    );
    // Also where another place goes before it, so that the mistake does not wait for that to go.
    assert!(!error(&["--response-timeout", "3"], &[], &directory).is_empty());
    let directory = project("otlp = \"http://user:pass@h:1\"", "");
    assert!(!error(&[], &[], &directory).contains(":pass@"));
    let directory = project("runs-max = [1]", r#"{"Loom": {"denyPrivate": "perhaps"}}"#);
    assert_eq!(error(&[], &[], &directory), "loom.toml:1: `runs-max` must be a single value, found an array");
    let directory = project("", r#"{"Loom": {"denyPrivate": "perhaps"}}"#);
    assert_eq!(
        error(&[], &[], &directory),
        "local.settings.json:1: `Loom.denyPrivate` must be `true` or `false` (got `perhaps`)"
    );
}

#[test]
fn values_are_read_in_every_spelling_they_have() {
    let toml = "retain-bytes = \"2GiB\"\nruns-max = 1_000\ndrain = \"PT1M\"\nresponse-timeout = 90\nallow-host = [\"a\", \"b:1\"]
        memory = true\nconnections = \"deep/connections.json\"\ndefault-retry-policy = {type = \"fixed\", count = 2, interval = \"PT5S\"}";
    let directory = project(toml, "");
    let values = settings(&["--memory=false"], &[], directory.path()).expect("all are right").values;
    assert_eq!((values.retain_bytes, values.runs_max), (2 << 30, 1_000));
    assert_eq!((values.drain, values.response_timeout), (Duration::from_mins(1), Duration::from_secs(90)));
    assert_eq!((values.allow_host, values.memory), (vec!["a".to_owned(), "b:1".to_owned()], false));
    assert_eq!(values.connections, Some(directory.path().join("deep/connections.json")));
    assert!(values.default_retry_policy.is_some());
    let variables =
        [("LOOM_ALLOW_HOST", "a, b"), ("LOOM_MEMORY", "1"), ("LOOM_DEFAULT_RETRY_POLICY", "none")];
    let empty = project("", "");
    let values = settings(&[], &variables, empty.path()).expect("all are right").values;
    assert_eq!((values.allow_host.len(), values.memory), (2, true));
}

#[test]
fn of_two_exclusive_settings_the_one_with_precedence_applies() {
    let directory = project("token = \"0123456789abcdef\"\nmemory = true\n", "");
    let config =
        settings(&["--token-file", "t", "--data", "d"], &[], directory.path()).expect("all are right");
    assert_eq!((config.values.token, config.values.memory), (None, false));
    let directory = project("token = \"0123456789abcdef\"\ntoken-file = \"t\"\n", "");
    assert!(
        error(&[], &[], &directory)
            .contains("`token` (loom.toml:1) cannot be used with `token-file` (loom.toml:2)")
    );
    assert!(
        error(&["--memory", "--relaxed"], &[], &project("", "")).contains("cannot be used with '--relaxed")
    );
}

#[test]
fn what_is_shown_can_be_read_again_and_holds_no_secret() {
    let directory = project("token = \"0123456789abcdef\"\nallow-host = [\"a\"]", "");
    let config = settings(&["--drain", "5s"], &[], directory.path()).expect("all are right");
    let text = config.text(true);
    assert!(!text.contains("0123456789abcdef"), "{text}");
    assert!(
        text.contains("# --drain\n")
            && text.contains("# retain-runs is not set ")
            && text.contains("# token is set"),
        "{text}"
    );
    assert!(TABLE.iter().any(Setting::is_live));
    let again = project(&text, "");
    let read = settings(&[], &[], again.path()).expect("it is a file of settings");
    assert_eq!(read.values.drain, config.values.drain);
    assert_eq!(
        read.changed_since(&config).iter().map(|setting| setting.key()).collect::<Vec<_>>(),
        ["workflows", "token", "data"]
    );
}
