//! `loom secrets`: what `secret('name')` gives, kept in an encrypted file; and where the other commands look for it.
//!
//! The master key is the first that is found: the file that `LOOM_MASTER_KEY_FILE` names, `loom-master-key` in
//! `$CREDENTIALS_DIRECTORY`, the text of `LOOM_MASTER_KEY`, and `loom/master.key` in the user's folder of settings. The last is made
//! when the first secret is set and there is no other.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{ErrorKind, IsTerminal, Write, stdin},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueHint};
use loom_actions::secrets::{
    FixedSecrets, KeySource, MasterKey, NewSecret, SecretError, SecretFolder, SecretProperties,
    SecretProvider, Secrets, Vault,
};
use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{Object, Timestamp, Value, Visible};

use crate::{console, exit::Exit, files};

/// The name of the file in a folder of runs.
pub(crate) const FILE: &str = "secrets.json";

/// What variables that hold secrets begin with: `LOOM_SECRET_API_KEY` holds `api-key`.
const VARIABLES: &str = "LOOM_SECRET_";

/// The secrets in the file of `loom secrets`, in a folder, and in variables.
pub(crate) fn source(file: Option<&Path>, folder: Option<&Path>) -> Result<Secrets> {
    let mut providers: Vec<Arc<dyn SecretProvider>> = Vec::new();
    if let Some(file) = file {
        providers.push(Arc::new(vault(file, None)));
    }
    if let Some(folder) = folder {
        if !folder.is_dir() {
            bail!("--secrets-dir: there is no folder {}", folder.display());
        }
        providers.push(Arc::new(SecretFolder::new(folder)));
    }
    providers.push(Arc::new(of_environment(
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )?));
    Ok(Secrets::new(providers))
}

/// The secrets among variables. A name that does not fit is left out: it belongs to another program.
fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Result<FixedSecrets> {
    let secrets = variables.filter_map(|(name, value)| {
        let name = name.strip_prefix(VARIABLES)?.to_ascii_lowercase().replace('_', "-");
        (!name.is_empty()).then_some((name, value))
    });
    FixedSecrets::new(secrets).context("a secret in a variable of the environment")
}

/// Options of `loom secrets`.
#[derive(Args, Debug)]
#[command(after_help = "\
The master key is the first that is found: $LOOM_MASTER_KEY_FILE, loom-master-key in $CREDENTIALS_DIRECTORY,
$LOOM_MASTER_KEY, and loom/master.key in $XDG_CONFIG_HOME or ~/.config, which is made with the first secret.
Keep a copy of it apart from the secrets: without it nobody can read them.")]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
    /// The folder of runs whose secrets are meant.
    #[arg(long, global = true, value_name = "DIR", default_value = ".loom", value_hint = ValueHint::DirPath)]
    data: PathBuf,
    /// The file of secrets itself, when it is not `secrets.json` in that folder.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    secrets: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Keep a value as the newest version. It is read from standard input, or asked for; never from the arguments.
    Set {
        name: String,
        /// Not valid after this time, such as 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_on: Option<Timestamp>,
        /// Not valid before this time.
        #[arg(long, value_name = "TIME")]
        not_before: Option<Timestamp>,
        /// What the value is, in words of your own.
        #[arg(long, value_name = "TEXT")]
        content_type: Option<String>,
        /// A note to find it by. May be given many times.
        #[arg(long = "tag", value_name = "NAME=VALUE")]
        tags: Vec<String>,
        /// Keep it, and do not use it yet.
        #[arg(long)]
        disabled: bool,
        /// Only if this version is the newest; 0 if there must be none.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u32>,
    },
    /// Show what is known of a secret: that of the version that counts now, unless one is named.
    Show {
        name: String,
        #[arg(long)]
        version: Option<u32>,
        /// Print the value, and nothing else.
        #[arg(long)]
        reveal: bool,
    },
    /// List all secrets, without values.
    List,
    /// List the versions of a secret.
    Versions { name: String },
    /// Let a version be used, or all.
    Enable {
        name: String,
        #[arg(long)]
        version: Option<u32>,
    },
    /// Let a version be used no more, or all.
    Disable {
        name: String,
        #[arg(long)]
        version: Option<u32>,
    },
    /// Delete a secret. `undelete` brings it back.
    Delete { name: String },
    /// Bring a deleted secret back.
    Undelete { name: String },
    /// Remove a version, or the whole secret, for good.
    Purge {
        name: String,
        #[arg(long)]
        version: Option<u32>,
    },
    /// Encrypt everything anew, under a new data key.
    RotateKey {
        /// Also change the master key to the one in this file, which is made when it is not there.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_master_key_file: Option<PathBuf>,
    },
}

/// Runs the command.
pub(crate) fn command(args: &SecretsArgs) -> Result<Exit> {
    let file = args.secrets.clone().unwrap_or_else(|| args.data.join(FILE));
    let set = matches!(args.command, SecretsCommand::Set { .. });
    let vault = vault(&file, set.then_some(()));
    match run(args, &vault) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => match error.downcast_ref::<SecretError>() {
            Some(SecretError::NotFound { name }) => {
                console::error(format_args!("{error:#}{}", like(name, &vault)));
                Ok(Exit::Failure)
            }
            Some(SecretError::WrongKey { .. }) => {
                Err(anyhow!("{error:#}; LOOM_MASTER_KEY_FILE names the file of the right one"))
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
                eprintln!("loom: it has expired already");
            }
            let kept = vault.set(name, &read_value(name)?, new)?;
            show(args.json, std::slice::from_ref(&kept));
        }
        SecretsCommand::Show { name, version, reveal } => {
            let version = version.map(|version| version.to_string());
            if *reveal {
                let (_, value) = vault.get(name, version.as_deref())?;
                console::value(&value);
            } else {
                let versions = vault.versions(name)?;
                let now = SystemClock.now();
                let wanted = if let Some(version) = &version {
                    versions.iter().find(|known| known.version.to_string() == *version)
                } else {
                    versions.iter().rev().find(|known| state(known, now) == "enabled").or(versions.last())
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
                    "loom: there are no secrets in {}; `loom secrets set NAME` keeps one",
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
        SecretsCommand::RotateKey { new_master_key_file } => {
            let next = new_master_key_file.as_deref().map(|path| read_key(path, true)).transpose()?;
            let count = vault.rotate(next.as_ref())?;
            eprintln!("loom: {count} values are encrypted anew");
            if let Some(path) = new_master_key_file {
                eprintln!("loom: from now on LOOM_MASTER_KEY_FILE must name {}", path.display());
            }
        }
    }
    Ok(())
}

/// The vault in `file`. Whoever sets secrets may make the user's master key.
fn vault(file: &Path, sets: Option<()>) -> Vault {
    let place = KeyPlace::of_environment(|name| {
        #[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
        std::env::var(name).ok().filter(|value| !value.is_empty())
    });
    let first = file.to_owned();
    // A key that is made although there are secrets already would be the wrong one.
    let key: KeySource = Arc::new(move || place.read(sets.is_some() && !first.exists()));
    Vault::new(file, key, Arc::new(SystemClock))
}

/// Where the master key lies.
enum KeyPlace {
    /// In a file that somebody named.
    Named(PathBuf),
    /// In a variable.
    Text(String),
    /// In the user's folder of settings.
    Own(PathBuf),
    /// There is no such folder.
    Nowhere,
}

impl KeyPlace {
    fn of_environment(variable: impl Fn(&str) -> Option<String>) -> KeyPlace {
        if let Some(path) = variable("LOOM_MASTER_KEY_FILE") {
            return KeyPlace::Named(path.into());
        }
        let mounted =
            variable("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("loom-master-key"));
        if let Some(path) = mounted.filter(|path| path.exists()) {
            return KeyPlace::Named(path);
        }
        if let Some(text) = variable("LOOM_MASTER_KEY") {
            return KeyPlace::Text(text);
        }
        let settings = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let settings = settings.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        settings.map_or(KeyPlace::Nowhere, |folder| KeyPlace::Own(folder.join("loom").join("master.key")))
    }

    fn read(&self, make: bool) -> Result<MasterKey, SecretError> {
        match self {
            KeyPlace::Named(path) => read_key(path, false),
            KeyPlace::Own(path) => read_key(path, make),
            KeyPlace::Text(text) => MasterKey::from_hex(text).ok_or_else(|| SecretError::NoKey {
                why: "LOOM_MASTER_KEY holds no key: it is 64 hexadecimal digits".to_owned(),
            }),
            KeyPlace::Nowhere => Err(SecretError::NoKey {
                why: "there is no master key: LOOM_MASTER_KEY_FILE names its file".to_owned(),
            }),
        }
    }
}

/// Reads a key, or makes it if that is wanted and there is none.
fn read_key(path: &Path, make: bool) -> Result<MasterKey, SecretError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => {
            files::warn_if_others_can_read(path);
            text
        }
        Err(error) if error.kind() == ErrorKind::NotFound && make => return make_key(path),
        Err(error) => {
            let hint = "LOOM_MASTER_KEY_FILE names another file";
            let why = format!("the master key could not be read from {}: {error}; {hint}", path.display());
            return Err(SecretError::NoKey { why });
        }
    };
    MasterKey::from_hex(&text).ok_or_else(|| SecretError::NoKey {
        why: format!(
            "{} holds no key: it is 64 hexadecimal digits, such as `openssl rand -hex 32` prints",
            path.display()
        ),
    })
}

fn make_key(path: &Path) -> Result<MasterKey, SecretError> {
    let key = MasterKey::generate();
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
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
        why: format!("a master key could not be written to {}: {error}", path.display()),
    })?;
    eprintln!("loom: a master key was made in {}; keep a copy of it apart from the secrets", path.display());
    Ok(key)
}

/// The value, from a terminal unseen and twice, or all of standard input but for a line break at its end.
fn read_value(name: &str) -> Result<String> {
    if !stdin().is_terminal() {
        let text = String::from_utf8(files::read_stdin()?).context("the value is not UTF-8")?;
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        let value = line.unwrap_or(&text).to_owned();
        if value.is_empty() {
            bail!("standard input holds no value");
        }
        return Ok(value);
    }
    let ask = |what: &str| {
        eprint!("{}: ", Visible(what));
        rpassword::read_password().context("could not read the value")
    };
    let value = ask(&format!("Value of {name}"))?;
    if value.is_empty() {
        bail!("nothing was typed; a value that is given on standard input needs no asking");
    }
    if ask("Once more")? != value {
        bail!("the two differ; nothing was kept");
    }
    Ok(value)
}

fn read_tag(tag: &str) -> Result<(Arc<str>, Arc<str>)> {
    let (name, value) = tag.split_once('=').ok_or_else(|| anyhow!("--tag {tag}: NAME=VALUE is wanted"))?;
    Ok((name.into(), value.into()))
}

/// Whether a version counts at `now`, in one word.
fn state(properties: &SecretProperties, now: Timestamp) -> &'static str {
    if properties.deleted {
        "deleted"
    } else if !properties.enabled {
        "disabled"
    } else if properties.expires_on.is_some_and(|end| end <= now) {
        "expired"
    } else if properties.not_before.is_some_and(|start| start > now) {
        "waiting"
    } else {
        "enabled"
    }
}

fn show(json: bool, all: &[SecretProperties]) {
    let now = SystemClock.now();
    if json {
        for properties in all {
            console::json(&to_json(properties, now).to_json_text());
        }
        return;
    }
    let width = all.iter().map(|properties| properties.name.len()).max().unwrap_or_default();
    for properties in all {
        let mut line = format!(
            "{:<width$}  {:>3}  {:<8}  {}",
            properties.name,
            properties.version,
            state(properties, now),
            second(properties.created_on)
        );
        for (word, time) in [("from", properties.not_before), ("until", properties.expires_on)] {
            if let Some(time) = time {
                line.extend(["  ", word, " ", &second(time)]);
            }
        }
        if let Some(kind) = &properties.content_type {
            line.extend(["  ", kind]);
        }
        for (tag, value) in &properties.tags {
            line.extend(["  ", tag, "=", value]);
        }
        println!("{line}");
    }
}

/// A time to its second.
fn second(time: Timestamp) -> String {
    time.to_string().chars().take("2026-11-24T17:00:00".len()).collect()
}

fn to_json(properties: &SecretProperties, now: Timestamp) -> Value {
    let mut object = Object::new();
    object.insert("name", Arc::clone(&properties.name));
    object.insert("version", i64::from(properties.version));
    object.insert("state", state(properties, now));
    object.insert("createdOn", properties.created_on.to_string());
    for (name, time) in [("notBefore", properties.not_before), ("expiresOn", properties.expires_on)] {
        object.insert(name, time.map_or(Value::NULL, |time| Value::from(time.to_string())));
    }
    object.insert("contentType", properties.content_type.clone().map_or(Value::NULL, Value::from));
    let tags = properties.tags.iter();
    let tags: Object = tags.map(|(tag, value)| (Arc::clone(tag), Value::from(Arc::clone(value)))).collect();
    object.insert("tags", tags);
    object.into()
}

/// The names there are, for whoever mistyped one.
fn like(name: &str, vault: &Vault) -> String {
    let known = vault.list().unwrap_or_default();
    let names: Vec<&str> = known.iter().map(|properties| &*properties.name).collect();
    match loom_expression::nearest(name, names.iter().copied()) {
        Some(close) => format!("; there is '{close}'"),
        None if names.is_empty() => "; there are none yet".to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
