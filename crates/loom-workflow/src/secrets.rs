//! `loom secrets`: manages the encrypted file behind `secret('name')`; and the sources of secrets for the other commands.
//!
//! The master key is the first of these that exists: the file named by `LOOM_MASTER_KEY_FILE`, `loom-master-key` in
//! `$CREDENTIALS_DIRECTORY`, the value of `LOOM_MASTER_KEY`, `loom/master.key` in the user's configuration directory. The last
//! one is created with the first secret if there is no other key.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{ErrorKind, IsTerminal, Write, stdin},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueHint};
use loom_actions::{
    Egress, Url,
    secrets::{
        FixedSecrets, KeySource, MasterKey, NamedProvider, NewSecret, ProviderSettings, SecretDirectory,
        SecretError, SecretProperties, Secrets, TrailFile, Vault, configured, recorded_beside,
    },
};
use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{Object, Timestamp, Value, Visible};

use crate::{
    config::{Config, Flags, Values},
    console,
    exit::Exit,
    files, remote,
};

/// The name of the secrets file in a data directory.
pub(crate) const FILE: &str = "secrets.json";

/// The prefix of environment variables that hold secrets: `LOOM_SECRET_API_KEY` holds `api-key`.
const VARIABLES: &str = "LOOM_SECRET_";

/// The providers of secrets: the file of `loom secrets`, a directory of files, environment variables, and those that the file
/// of `secret-providers` describes.
pub(crate) fn source(values: &Values, egress: &Egress) -> Result<Secrets> {
    let mut own = Vec::new();
    if let Some(file) = &values.secrets {
        own.push(NamedProvider::new("embedded", Arc::new(vault(file, None))));
    }
    if let Some(directory) = &values.secrets_dir {
        if !directory.is_dir() {
            bail!("--secrets-dir: {} is not a directory", directory.display());
        }
        own.push(NamedProvider::new("files", Arc::new(SecretDirectory::new(directory))));
    }
    let found = FixedSecrets::of_variables(VARIABLES, variables());
    let found = found.context("invalid secret in an environment variable")?;
    own.push(NamedProvider::new("env", Arc::new(found)));
    let Some(path) = &values.secret_providers else { return Ok(Secrets::of(own)) };
    let mut settings = ProviderSettings::new(Arc::new(SystemClock), &variable, &variables);
    settings.egress = egress.clone();
    settings.directory = path.parent().map(Path::to_owned).unwrap_or_default();
    if let Some(endpoint) = &values.identity_endpoint {
        settings.managed_identity.endpoint = Url::parse(endpoint).context("identity-endpoint")?;
    }
    let secrets = configured(&files::read_json(path)?, own, &settings);
    secrets.with_context(|| path.display().to_string())
}

fn variables() -> Vec<(String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    env::vars_os().filter_map(text).collect()
}

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The files and directories in which secrets are looked up, as text.
pub(crate) fn places(values: &Values) -> String {
    let named = [&values.secrets, &values.secrets_dir, &values.secret_providers].into_iter().flatten();
    named.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// Options of `loom secrets`.
#[derive(Args, Debug)]
#[command(after_help = "\
The master key is the first of these that exists: the file $LOOM_MASTER_KEY_FILE, loom-master-key in $CREDENTIALS_DIRECTORY,
the value of $LOOM_MASTER_KEY, loom/master.key in $XDG_CONFIG_HOME or ~/.config (created with the first secret).
Back it up separately from the secrets: they cannot be decrypted without it.

Exit codes:
  0  success
  1  no such secret, or no such version of it
  2  invalid arguments, a value that cannot be used (disabled, expired or not valid yet), or a wrong or missing master key")]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
    /// The data directory whose secrets are used [default: the one in the settings, `.loom` if there is none].
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data: Option<PathBuf>,
    /// The secrets file [default: the one in the settings, or `secrets.json` in the data directory].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    secrets: Option<PathBuf>,
    /// Ask the server at this URL instead of reading files.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["data", "secrets"])]
    server: Option<String>,
    /// A file whose first line is the server's token [default: LOOM_TOKEN_FILE or LOOM_TOKEN].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "server")]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Set a secret: store a value, from a prompt or standard input, as its newest version.
    Set {
        /// The name of the secret.
        name: String,
        /// The time from which the value is no longer valid, such as 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_on: Option<Timestamp>,
        /// The time from which the value is valid.
        #[arg(long, value_name = "TIME")]
        not_before: Option<Timestamp>,
        /// A description of the value's type, such as `api key`.
        #[arg(long, value_name = "STRING")]
        content_type: Option<String>,
        /// Attach a tag. May be repeated.
        #[arg(long = "tag", value_name = "NAME=VALUE")]
        tags: Vec<String>,
        /// Store the value but do not use it yet.
        #[arg(long)]
        disabled: bool,
        /// Set the value only if this is the newest version; 0 requires that the secret does not exist.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u32>,
    },
    /// Show the properties of a secret's current version, or of another version.
    Show {
        /// The name of the secret.
        name: String,
        /// Show this version.
        #[arg(long)]
        version: Option<u32>,
        /// Print only the value.
        #[arg(long)]
        reveal: bool,
    },
    /// List all secrets, without their values.
    List,
    /// List the versions of a secret.
    Versions {
        /// The name of the secret.
        name: String,
    },
    /// Enable a version of a secret, or all versions.
    Enable {
        /// The name of the secret.
        name: String,
        /// Enable only this version.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Disable a version of a secret, or all versions.
    Disable {
        /// The name of the secret.
        name: String,
        /// Disable only this version.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Delete a secret; `undelete` restores it.
    Delete {
        /// The name of the secret.
        name: String,
    },
    /// Restore a deleted secret.
    Undelete {
        /// The name of the secret.
        name: String,
    },
    /// Remove a secret, or one version of it, permanently.
    Purge {
        /// The name of the secret.
        name: String,
        /// Remove only this version.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Show who read and changed secrets, newest first. Without --server, reads the data directory, which no server may be using.
    Audit {
        /// Only the entries of this secret: its name, or PROVIDER:NAME.
        name: Option<String>,
        /// Only the entries of this run.
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Only this operation: read, denied, declassify, reveal, set, enable, disable, delete, undelete, purge, rotate, expiring, approve, reject or reply.
        #[arg(long, value_name = "NAME")]
        operation: Option<String>,
        /// The maximum number of entries.
        #[arg(long, default_value_t = 50, value_parser = crate::args::whole_number(1_u32, 100_000))]
        limit: u32,
    },
    /// Re-encrypt all secrets with a new data key.
    RotateKey {
        /// Also change to the master key in this file, which is created if it does not exist.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_master_key_file: Option<PathBuf>,
    },
}

impl SecretsCommand {
    /// The name of the secret, and whether the command takes `--version`.
    fn name(&self) -> Option<(&str, bool)> {
        match self {
            SecretsCommand::Show { name, .. }
            | SecretsCommand::Enable { name, .. }
            | SecretsCommand::Disable { name, .. }
            | SecretsCommand::Purge { name, .. } => Some((name, true)),
            SecretsCommand::Set { name, .. }
            | SecretsCommand::Versions { name }
            | SecretsCommand::Delete { name }
            | SecretsCommand::Undelete { name } => Some((name, false)),
            SecretsCommand::List | SecretsCommand::Audit { .. } | SecretsCommand::RotateKey { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) fn command(args: &SecretsArgs) -> Result<Exit> {
    // `secret('NAME@VERSION')` is how an expression names a version.
    match args.command.name() {
        Some((given, takes_version)) if given.contains('@') => {
            let (name, version) = given.split_once('@').unwrap_or_default();
            if takes_version {
                bail!(
                    "'{given}' names a version as an expression does; use `{name} --version {version}` here"
                );
            }
            bail!(
                "the name of a secret must not contain '@' (got '{given}'); this command applies to all versions of `{name}`"
            );
        }
        _ => {}
    }
    if let Some(server) = &args.server {
        return remote::secrets(server, args.token_file.as_deref(), args.json, &over_the_api(args)?);
    }
    if let SecretsCommand::Audit { name, run, operation, limit } = &args.command {
        return audit(
            args,
            &remote::audit_query(name.as_deref(), run.as_deref(), operation.as_deref()),
            *limit,
        );
    }
    let file = match (&args.secrets, &args.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join(FILE),
        (None, None) => {
            let values = Config::resolve(&Flags::<false>::default(), &[])?.values;
            values.secrets.unwrap_or_else(|| values.data.join(FILE))
        }
    };
    let set = matches!(args.command, SecretsCommand::Set { .. });
    let trail = TrailFile::beside(&file, caller(), Arc::new(SystemClock));
    let vault = vault(&file, set.then_some(())).recorded_by(Arc::new(trail));
    match run(args, &vault) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => match error.downcast_ref::<SecretError>() {
            Some(SecretError::NotFound { name }) => {
                console::error(format_args!("{error:#}{}", like(name, &vault)));
                Ok(Exit::Failure)
            }
            Some(SecretError::VersionNotFound { .. }) => {
                console::error(format_args!("{error:#}"));
                Ok(Exit::Failure)
            }
            Some(SecretError::WrongKey { .. }) => {
                Err(anyhow!("{error:#}; name the file of the right key with LOOM_MASTER_KEY_FILE"))
            }
            _ => Err(error),
        },
    }
}

fn run(args: &SecretsArgs, vault: &Vault) -> Result<()> {
    match &args.command {
        SecretsCommand::Set { name, expires_on, not_before, content_type, tags, disabled, if_version } => {
            let new = NewSecret {
                enabled: !disabled,
                not_before: *not_before,
                expires_on: *expires_on,
                content_type: content_type.as_deref().map(Arc::from),
                tags: tags.iter().map(|tag| read_tag(tag)).collect::<Result<BTreeMap<_, _>>>()?,
                if_version: *if_version,
            };
            if expires_on.is_some_and(|end| end <= SystemClock.now()) {
                eprintln!("loom: warning: the value has already expired");
            }
            let kept = vault.set(name, &read_value(name)?, new)?;
            show(args.json, std::slice::from_ref(&kept));
        }
        SecretsCommand::Show { name, version, reveal } => {
            let version = version.map(|version| version.to_string());
            if *reveal {
                let (_, value) = vault.reveal(name, version.as_deref())?;
                console::exact(&value);
            } else {
                let versions = vault.versions(name)?;
                let now = SystemClock.now();
                let wanted = if let Some(version) = &version {
                    versions.iter().find(|known| known.version.to_string() == *version)
                } else {
                    versions.iter().rev().find(|known| known.state(now) == "enabled").or(versions.last())
                };
                let wanted = wanted.ok_or_else(|| SecretError::VersionNotFound {
                    name: name.clone(),
                    version: version.unwrap_or_default(),
                })?;
                show(args.json, std::slice::from_ref(wanted));
            }
        }
        SecretsCommand::List => {
            let all = vault.list()?;
            if all.is_empty() && !args.json {
                eprintln!(
                    "loom: no secrets in {}; set one with `loom secrets set NAME`",
                    vault.path().display()
                );
            }
            show(args.json, &all);
        }
        SecretsCommand::Versions { name } => show(args.json, &vault.versions(name)?),
        SecretsCommand::Enable { name, version } => {
            vault.enable(name, *version, true)?;
            show(args.json, &vault.versions(name)?);
        }
        SecretsCommand::Disable { name, version } => {
            vault.enable(name, *version, false)?;
            show(args.json, &vault.versions(name)?);
        }
        SecretsCommand::Delete { name } => {
            vault.delete(name)?;
            show(args.json, &vault.versions(name)?);
        }
        SecretsCommand::Undelete { name } => {
            vault.undelete(name)?;
            show(args.json, &vault.versions(name)?);
        }
        SecretsCommand::Purge { name, version } => vault.purge(name, *version)?,
        // Answered before a vault is opened.
        SecretsCommand::Audit { .. } => {}
        SecretsCommand::RotateKey { new_master_key_file } => {
            let next = new_master_key_file.as_deref().map(|path| read_key(path, true)).transpose()?;
            let count = vault.rotate(next.as_ref())?;
            eprintln!("loom: re-encrypted {count} values");
            if let Some(path) = new_master_key_file {
                eprintln!("loom: set LOOM_MASTER_KEY_FILE to {} from now on", path.display());
            }
        }
    }
    Ok(())
}

/// The request that does over the API what a command does on files.
fn over_the_api(args: &SecretsArgs) -> Result<remote::SecretRequest> {
    use remote::SecretRequest as Request;
    let only_here = |what: &str| {
        bail!(
            "{what} is not possible over the API; run the command on the server's machine, without --server"
        )
    };
    Ok(match &args.command {
        SecretsCommand::Set { name, expires_on, not_before, content_type, tags, disabled, if_version } => {
            let mut body = Object::new();
            body.insert("value", read_value(name)?);
            body.insert("enabled", !disabled);
            body.insert("notBefore", not_before.map(|time| time.to_string()));
            body.insert("expiresOn", expires_on.map(|time| time.to_string()));
            body.insert("contentType", content_type.clone());
            let tags = tags.iter().map(|tag| read_tag(tag)).collect::<Result<BTreeMap<_, _>>>()?;
            body.insert(
                "tags",
                tags.into_iter().map(|(tag, value)| (tag, Value::from(value))).collect::<Object>(),
            );
            Request::Set { name: name.clone(), body, if_version: *if_version }
        }
        SecretsCommand::Show { reveal: true, .. } => return only_here("revealing a value"),
        SecretsCommand::Show { name, version, .. } => Request::Show { name: name.clone(), version: *version },
        SecretsCommand::List => Request::List,
        SecretsCommand::Versions { name } => Request::Versions { name: name.clone() },
        SecretsCommand::Enable { name, version } => {
            Request::Change { name: name.clone(), change: "enable", version: *version }
        }
        SecretsCommand::Disable { name, version } => {
            Request::Change { name: name.clone(), change: "disable", version: *version }
        }
        SecretsCommand::Undelete { name } => {
            Request::Change { name: name.clone(), change: "undelete", version: None }
        }
        SecretsCommand::Delete { name } => Request::Delete { name: name.clone() },
        SecretsCommand::Purge { .. } => return only_here("purging"),
        SecretsCommand::RotateKey { new_master_key_file: Some(_) } => {
            return only_here("changing the master key");
        }
        SecretsCommand::RotateKey { .. } => Request::Rotate,
        SecretsCommand::Audit { name, run, operation, limit } => Request::Audit {
            query: remote::audit_query(name.as_deref(), run.as_deref(), operation.as_deref()),
            limit: *limit,
            recorded: Vec::new(),
        },
    })
}

/// Shows the audit of a data directory, with what is recorded beside its secrets and not yet in its store.
fn audit(args: &SecretsArgs, query: &str, limit: u32) -> Result<Exit> {
    let values = Config::resolve(&Flags::<false>::default(), &[])?.values;
    let data = args.data.clone().unwrap_or(values.data);
    let file = match (&args.secrets, &args.data) {
        (Some(file), _) => file.clone(),
        (None, None) => values.secrets.unwrap_or_else(|| data.join(FILE)),
        (None, Some(_)) => data.join(FILE),
    };
    let recorded = recorded_beside(&file)?.into_iter().map(|(_, entry)| Value::from(entry.to_object()));
    let request =
        remote::SecretRequest::Audit { query: query.to_owned(), limit, recorded: recorded.collect() };
    remote::audit_of_directory(&data, args.json, &request)
}

/// Who runs this command: the user, by the number that cannot be made up.
fn caller() -> String {
    #[cfg(unix)]
    return format!("command line (uid {})", rustix::process::getuid().as_raw());
    #[cfg(not(unix))]
    "command line".to_owned()
}

/// Looks after providers while a run is executed: renews their credentials, and keeps what connections need at hand.
pub(crate) async fn attend(providers: &Secrets) -> std::convert::Infallible {
    let mut looks = tokio::time::interval(std::time::Duration::from_secs(2));
    loop {
        looks.tick().await;
        providers.tend(console::masker()).await;
    }
}

/// The vault in `file`. Only a command that sets secrets may create the user's master key.
fn vault(file: &Path, sets: Option<()>) -> Vault {
    let place = KeyPlace::of_environment(variable);
    let first = file.to_owned();
    // A key created next to existing secrets could not decrypt them.
    let key: KeySource = Arc::new(move || place.read(sets.is_some() && !first.exists()));
    Vault::new(file, key, Arc::new(SystemClock))
}

/// The location of the master key.
enum KeyPlace {
    /// In a file named by a variable.
    Named(PathBuf),
    /// In a variable, as 64 hexadecimal digits.
    Text(String),
    /// In the user's configuration directory.
    Own(PathBuf),
    /// Neither a variable nor a configuration directory is known.
    Nowhere,
}

impl KeyPlace {
    fn of_environment(variable: impl Fn(&str) -> Option<String>) -> KeyPlace {
        if let Some(path) = variable("LOOM_MASTER_KEY_FILE") {
            return KeyPlace::Named(path.into());
        }
        let mounted =
            variable("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join("loom-master-key"));
        if let Some(path) = mounted.filter(|path| path.exists()) {
            return KeyPlace::Named(path);
        }
        if let Some(text) = variable("LOOM_MASTER_KEY") {
            return KeyPlace::Text(text);
        }
        let settings = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let settings = settings.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        settings
            .map_or(KeyPlace::Nowhere, |directory| KeyPlace::Own(directory.join("loom").join("master.key")))
    }

    fn read(&self, make: bool) -> Result<MasterKey, SecretError> {
        match self {
            KeyPlace::Named(path) => read_key(path, false),
            KeyPlace::Own(path) => read_key(path, make),
            KeyPlace::Text(text) => MasterKey::from_hex(text).ok_or_else(|| SecretError::NoKey {
                why: "LOOM_MASTER_KEY must be 64 hexadecimal digits".to_owned(),
            }),
            KeyPlace::Nowhere => Err(SecretError::NoKey {
                why: "no master key found; name its file with LOOM_MASTER_KEY_FILE".to_owned(),
            }),
        }
    }
}

/// Reads a key from a file, or creates it if `make` is set and the file does not exist.
fn read_key(path: &Path, make: bool) -> Result<MasterKey, SecretError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => {
            files::warn_if_others_can_read(path);
            text
        }
        Err(error) if error.kind() == ErrorKind::NotFound && make => return make_key(path),
        Err(error) => {
            let hint = "name another file with LOOM_MASTER_KEY_FILE";
            let why = format!("cannot read the master key from {}: {error}; {hint}", path.display());
            return Err(SecretError::NoKey { why });
        }
    };
    MasterKey::from_hex(&text).ok_or_else(|| SecretError::NoKey {
        why: format!(
            "{} must contain a key of 64 hexadecimal digits; `openssl rand -hex 32` generates one",
            path.display()
        ),
    })
}

fn make_key(path: &Path) -> Result<MasterKey, SecretError> {
    let key = MasterKey::generate();
    let write = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(key.to_hex().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|error| SecretError::NoKey {
        why: format!("cannot write a master key to {}: {error}", path.display()),
    })?;
    eprintln!("loom: created a master key in {}; back it up separately from the secrets", path.display());
    Ok(key)
}

/// Reads the value: at a terminal twice and without echo, otherwise all of standard input except for a final line break.
fn read_value(name: &str) -> Result<String> {
    if !stdin().is_terminal() {
        let text = String::from_utf8(files::read_stdin()?).context("the value is not valid UTF-8")?;
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        let value = line.unwrap_or(&text).to_owned();
        if value.is_empty() {
            bail!("the value on standard input is empty");
        }
        return Ok(value);
    }
    let ask = |what: &str| {
        eprint!("{}: ", Visible(what));
        rpassword::read_password().context("cannot read the value")
    };
    let value = ask(&format!("Value of {name}"))?;
    if value.is_empty() {
        bail!("the value is empty; nothing was stored");
    }
    if ask("Repeat the value")? != value {
        bail!("the two values differ; nothing was stored");
    }
    Ok(value)
}

fn read_tag(tag: &str) -> Result<(Arc<str>, Arc<str>)> {
    let (name, value) =
        tag.split_once('=').ok_or_else(|| anyhow!("--tag must be NAME=VALUE (got `{tag}`)"))?;
    Ok((name.into(), value.into()))
}

fn show(json: bool, all: &[SecretProperties]) {
    let now = SystemClock.now();
    let all: Vec<Value> = all.iter().map(|properties| properties.to_object(now).into()).collect();
    show_documents(json, &all);
}

/// Prints the properties of versions, as the API has them.
pub(crate) fn show_documents(json: bool, all: &[Value]) {
    if json {
        for properties in all {
            console::json(&properties.to_json_text());
        }
        return;
    }
    let text = |value: &Value, member: &str| value.get(member).map(|member| member.text().into_owned());
    let name = |value: &Value| Visible(&text(value, "name").unwrap_or_default()).to_string();
    let width = all.iter().map(|properties| name(properties).len()).max().unwrap_or_default();
    for properties in all {
        let time = |member: &str| properties.get(member).and_then(Value::as_str).map(second);
        let mut line = format!(
            "{:<width$}  {:>3}  {:<8}  {}",
            name(properties),
            text(properties, "version").unwrap_or_default(),
            text(properties, "state").unwrap_or_default(),
            time("createdOn").unwrap_or_default()
        );
        for (word, member) in [("from", "notBefore"), ("until", "expiresOn")] {
            if let Some(time) = time(member) {
                line.extend(["  ", word, " ", &time]);
            }
        }
        if let Some(days) = properties.get("expiresInDays").and_then(Value::as_i64)
            && text(properties, "state").as_deref() != Some("expired")
        {
            let unit = if days == 1 { "day" } else { "days" };
            line.extend([" (", &days.to_string(), " ", unit, ")"]);
        }
        if let Some(used) = properties.get("lastUsed").and_then(|used| used.get("at")?.as_str()) {
            line.extend(["  used ", &second(used)]);
        }
        if let Some(kind) = properties.get("contentType").and_then(Value::as_str) {
            line.extend(["  ", &Visible(kind).to_string()]);
        }
        for (tag, value) in properties.get("tags").and_then(Value::as_object).into_iter().flatten() {
            line.extend(["  ", &Visible(tag).to_string(), "=", &Visible(&value.text()).to_string()]);
        }
        println!("{line}");
    }
}

/// A UTC time without its fraction: `2026-11-24T17:00:00Z`.
pub(crate) fn second(time: &str) -> String {
    format!("{}Z", time.get(.."2026-11-24T17:00:00".len()).unwrap_or(time))
}

/// The embedded store of a server, which creates the master key with the first secret that is set over the API.
pub(crate) fn embedded(file: Option<&Path>) -> Option<Arc<Vault>> {
    file.map(|file| Arc::new(vault(file, Some(()))))
}

/// A hint for a name that does not exist.
fn like(name: &str, vault: &Vault) -> String {
    let known = vault.list().unwrap_or_default();
    let names: Vec<&str> = known.iter().map(|properties| &*properties.name).collect();
    match loom_expression::nearest(name, names.iter().copied()) {
        Some(close) => format!("; did you mean `{close}`?"),
        None if names.is_empty() => {
            "; there are no secrets yet, set one with `loom secrets set NAME`".to_owned()
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
