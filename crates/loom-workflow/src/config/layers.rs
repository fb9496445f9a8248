//! The layers of settings, in order of precedence: flags, environment variables, `loom.toml`, the `Loom` section of
//! `local.settings.json`, the limits of `host.json`, defaults.

use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Error, Result, anyhow, bail};
use loom_actions::{HostLimitKind, Project, ProjectError};
use loom_definition::{diagnostic::nearest, text};
use loom_expression::Value;
use toml::de::{DeTable, DeValue};

use super::{Config, Effective, Flags, Kind, Setting, Values, table::TABLE};
use crate::files;

/// The settings file of a project.
const FILE: &str = "loom.toml";

/// The app settings file of a project.
const APP_SETTINGS: &str = "local.settings.json";

/// The host settings file of a project.
const HOST: &str = "host.json";

/// Where a value was written. Earlier variants take precedence over later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line.
    Flag(String),
    /// In an environment variable.
    Variable(String),
    /// In `loom.toml`.
    File { path: PathBuf, line: usize },
    /// In the `Loom` section of `local.settings.json`.
    AppSettings { path: PathBuf, line: usize },
    /// In `host.json`, under the name that Azure uses.
    Host { path: PathBuf, line: usize, name: Arc<str> },
    /// Not set anywhere.
    Default,
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Origin::Flag(_) => 0,
            Origin::Variable(_) => 1,
            Origin::File { .. } => 2,
            Origin::AppSettings { .. } => 3,
            Origin::Host { .. } => 4,
            Origin::Default => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Variable(name) => f.write_str(name),
            Origin::File { path, line }
            | Origin::AppSettings { path, line }
            | Origin::Host { path, line, .. } => {
                write!(f, "{}:{line}", path.display())
            }
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The settings of one layer: index in the table, values and origin.
type Layer = Vec<(usize, Vec<String>, Origin)>;

/// Reads all layers and merges them.
pub(super) fn resolve<const SERVE: bool>(
    flags: &Flags<SERVE>,
    named: &[PathBuf],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config> {
    let mut layers = vec![of_flags(flags), of_variables(variable)?];
    let workflows = path_in(&layers, "workflows");
    let named_by = |name: &'static str| move |path: PathBuf| (path, Some(name));
    let given = flags.config.clone().map(named_by("--config"));
    let given = given.or_else(|| variable("LOOM_CONFIG").map(PathBuf::from).map(named_by("LOOM_CONFIG")));
    let config = match given {
        Some(given) => Some(given),
        None => find_file(workflows.as_deref(), named, FILE)?.map(|path| (path, None)),
    };
    if let Some((path, named_by)) = &config {
        let source = fs::read_to_string(path).map_err(|error| {
            let named_by = named_by.map(|name| format!("{name}: ")).unwrap_or_default();
            anyhow!("{named_by}cannot read {}: {error}", path.display())
        })?;
        layers.push(of_file(path, &source)?);
    }
    let workflows = path_in(&layers, "workflows");
    let project = workflows.or_else(|| named.iter().find_map(|file| Project::directory_of(file)));
    let app_settings = match path_in(&layers, "settings") {
        Some(path) => Some(path),
        None => match project.as_ref().map(|directory| directory.join(APP_SETTINGS)) {
            Some(path) if files::there_is(&path)? => Some(path),
            _ => None,
        },
    };
    if let Some(path) = &app_settings {
        layers.push(of_app_settings(path)?);
    }
    if let Some(path) = project.as_ref().map(|directory| directory.join(HOST))
        && files::there_is(&path)?
    {
        layers.push(of_host(&path)?);
    }
    let mut effective = Vec::with_capacity(TABLE.len());
    for (place, setting) in TABLE.iter().enumerate() {
        let given = layers.iter().flatten().find(|(known, _, _)| *known == place);
        effective.push(match given {
            Some((_, texts, origin)) => {
                Effective { texts: setting.kind.plain(texts), origin: origin.clone() }
            }
            None => default_of(setting),
        });
        // Every value is checked, even if another layer overrides it.
        for (_, texts, origin) in layers.iter().flatten().filter(|(known, _, _)| *known == place) {
            (setting.check)(&setting.kind, texts).map_err(|why| refused(setting, origin, &why))?;
        }
    }
    exclude(&mut effective)?;
    let mut values = Values::read(&effective)?;
    values.settings = app_settings;
    Ok(Config { values, effective, project })
}

/// The defaults, without any layer.
pub(super) fn defaults() -> Config {
    let effective: Vec<Effective> = TABLE.iter().map(default_of).collect();
    let values = Values::read(&effective).expect("every default is a value of its setting");
    Config { values, effective, project: None }
}

/// The error for an invalid value.
pub(super) fn refused(setting: &Setting, origin: &Origin, why: &str) -> Error {
    match origin {
        Origin::File { .. } => anyhow!("{origin}: `{}` {why}", setting.key()),
        Origin::AppSettings { .. } => anyhow!("{origin}: `Loom.{}` {why}", setting.member()),
        Origin::Flag(_) | Origin::Variable(_) | Origin::Default => anyhow!("{origin} {why}"),
        Origin::Host { name, .. } => anyhow!("{origin}: `{name}` {why}"),
    }
}

fn default_of(setting: &Setting) -> Effective {
    Effective { texts: setting.default.into_iter().map(str::to_owned).collect(), origin: Origin::Default }
}

/// Resolves settings that exclude each other: the one from the layer with precedence wins; within one layer it is an error.
fn exclude(effective: &mut [Effective]) -> Result<()> {
    let counts = |given: &Effective| given.origin != Origin::Default && given.texts != ["false"];
    for (place, setting) in TABLE.iter().enumerate().filter(|(_, setting)| !setting.excludes.is_empty()) {
        for (other, excluded) in TABLE.iter().enumerate() {
            if !setting.excludes.contains(&excluded.field)
                || !counts(&effective[place])
                || !counts(&effective[other])
            {
                continue;
            }
            let (one, two) = (effective[place].origin.rank(), effective[other].origin.rank());
            if one == two {
                bail!(
                    "`{}` ({}) cannot be used with `{}` ({})",
                    setting.key(),
                    effective[place].origin,
                    excluded.key(),
                    effective[other].origin
                );
            }
            let (loser, row) = if one < two { (other, excluded) } else { (place, setting) };
            effective[loser] = default_of(row);
        }
    }
    Ok(())
}

fn place_of(field: &str) -> Option<usize> {
    TABLE.iter().position(|setting| setting.field == field)
}

/// A path that is set in the layers read so far.
fn path_in(layers: &[Layer], field: &str) -> Option<PathBuf> {
    let place = place_of(field)?;
    let found = layers.iter().flatten().find(|(known, _, _)| *known == place);
    found.and_then(|(_, texts, _)| texts.first()).map(PathBuf::from)
}

/// The file of this name in the first of: the directory of workflows, the project of the files, the working directory.
fn find_file(workflows: Option<&Path>, named: &[PathBuf], name: &str) -> Result<Option<PathBuf>> {
    let project = named.iter().find_map(|file| Project::directory_of(file));
    for directory in [workflows.map(Path::to_path_buf), project, Some(PathBuf::new())].into_iter().flatten() {
        let path = directory.join(name);
        if files::there_is(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn of_flags<const SERVE: bool>(flags: &Flags<SERVE>) -> Layer {
    let rows = TABLE.iter().enumerate();
    let given = rows.filter_map(|(place, setting)| {
        Some((place, flags.get(setting)?.to_vec(), Origin::Flag(format!("--{}", setting.key()))))
    });
    given.collect()
}

fn of_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Layer> {
    let mut layer = Layer::new();
    for (place, setting) in TABLE.iter().enumerate() {
        let name = setting.variable();
        let Some(text) = variable(&name).filter(|text| !text.is_empty()) else { continue };
        let Ok(text) = text.into_string() else { bail!("{name} must be valid UTF-8") };
        let texts = if matches!(setting.kind, Kind::List) {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        } else {
            vec![text]
        };
        layer.push((place, texts, Origin::Variable(name)));
    }
    Ok(layer)
}

/// Variables that look like misspelt settings, each with the one that was probably meant. They are not errors, because other
/// programs set such names, too: a Kubernetes service named `loom` adds `LOOM_PORT`.
pub(super) fn misspelt(names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    const OTHERS: [&str; 3] = ["LOOM_CONFIG", "LOOM_MASTER_KEY", "LOOM_MASTER_KEY_FILE"];
    let known: Vec<String> = TABLE.iter().map(Setting::variable).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).chain(OTHERS).collect();
    let ours = |name: &String| {
        name.starts_with("LOOM_") && !name.starts_with("LOOM_SECRET_") && !known.contains(&name.as_str())
    };
    let meant = |name: String| {
        // The common prefix is ignored in the comparison.
        let rest = |name: &'_ str| name["LOOM_".len()..].to_owned();
        let rests: Vec<String> = known.iter().map(|name| rest(name)).collect();
        let found = nearest(&rest(&name), rests.iter().map(String::as_str))?;
        Some((name, format!("LOOM_{found}")))
    };
    names.filter(ours).filter_map(meant).collect()
}

fn of_file(path: &Path, source: &str) -> Result<Layer> {
    let line = |at: usize| text::position(source, at).line;
    let table = DeTable::parse(source).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        anyhow!("{}:{}: {}", path.display(), line(at), error.message().replace('\n', ", "))
    })?;
    let mut layer = Layer::new();
    for (key, value) in table.get_ref() {
        let origin = Origin::File { path: path.to_path_buf(), line: line(key.span().start) };
        let found = TABLE.iter().position(|setting| setting.key() == *key.get_ref());
        let Some(place) = found else {
            let keys: Vec<String> = TABLE.iter().map(Setting::key).collect();
            return Err(unknown(&origin, "setting", key.get_ref(), &keys));
        };
        let setting = &TABLE[place];
        let texts = of_toml(setting, value.get_ref()).map_err(|why| refused(setting, &origin, &why))?;
        layer.push((place, placed(setting, path, texts), origin));
    }
    Ok(layer)
}

fn of_app_settings(path: &Path) -> Result<Layer> {
    let value = files::read_json(path)?;
    let Some(section) = value.get("Loom") else { return Ok(Layer::new()) };
    let members = section
        .as_object()
        .ok_or_else(|| anyhow!("{}: `Loom` must be an object, found {}", path.display(), section.kind()))?;
    let source = files::read_text(path)?;
    let read = text::read(&source, &files::limits()).ok();
    let line = |name: &str| {
        let node = read.as_ref().and_then(|read| read.root.get("Loom"));
        let member = node.and_then(|node| node.member(name));
        member.map_or(1, |member| text::position(&source, member.name_place.range().start).line)
    };
    let mut layer = Layer::new();
    for (name, value) in members {
        let origin = Origin::AppSettings { path: path.to_path_buf(), line: line(name) };
        // The file cannot name another settings file.
        let known = |setting: &&Setting| setting.field != "settings";
        let found = TABLE.iter().position(|setting| known(&setting) && setting.member() == **name);
        let Some(place) = found else {
            let names: Vec<String> = TABLE.iter().filter(known).map(Setting::member).collect();
            return Err(unknown(&origin, "property of `Loom`", name, &names));
        };
        let setting = &TABLE[place];
        let texts = of_json(setting, value).map_err(|why| refused(setting, &origin, &why))?;
        layer.push((place, placed(setting, path, texts), origin));
    }
    Ok(layer)
}

/// The limits of `host.json` that correspond to a setting.
fn of_host(path: &Path) -> Result<Layer> {
    let project = Project { host: Some(files::read_json(path)?), ..Project::default() };
    let source = files::read_text(path)?;
    let mut layer = Layer::new();
    let line = |name: &str| {
        // In quotes, because some names begin with another one.
        let at = source.find(&format!("\"{name}\"")).unwrap_or(0);
        text::position(&source, at).line
    };
    let limits = project.limits().map_err(|error| match &error {
        ProjectError::BadLimit { name, .. } => anyhow!("{}:{}: {error}", path.display(), line(name)),
        _ => anyhow!("{}: {error}", path.display()),
    })?;
    for limit in limits {
        let field = match limit.kind {
            HostLimitKind::RunDuration => "run_duration_max",
            HostLimitKind::AttemptTimeout => "attempt_timeout",
            HostLimitKind::DefaultRetryPolicy => "default_retry_policy",
            HostLimitKind::RetentionDays => "retain_days",
        };
        let place = place_of(field).expect("the table has this setting");
        let text = limit.value.as_str().map_or_else(|| limit.value.to_json_text(), str::to_owned);
        let origin =
            |name: &str| Origin::Host { path: path.to_path_buf(), line: line(name), name: Arc::from(name) };
        let setting = &TABLE[place];
        if let Err(why) = (setting.check)(&setting.kind, std::slice::from_ref(&text)) {
            let (name, why) = limit.at_fault(&why);
            return Err(refused(setting, &origin(name), why));
        }
        let origin = origin(&limit.name);
        layer.push((place, vec![text], origin));
    }
    Ok(layer)
}

fn unknown(origin: &Origin, what: &str, name: &str, known: &[String]) -> Error {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let spelt = known.iter().find(|known| plain(known) == plain(name)).map(String::as_str);
    let hint = match spelt.or_else(|| nearest(name, known.iter().map(String::as_str))) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`loom config show` lists all settings".to_owned(),
    };
    anyhow!("{origin}: unknown {what} `{name}`; {hint}")
}

/// Paths in a file are relative to it.
fn placed(setting: &Setting, file: &Path, texts: Vec<String>) -> Vec<String> {
    let directory = file.parent().unwrap_or(Path::new(""));
    match setting.kind {
        Kind::File | Kind::Directory => {
            texts.iter().map(|text| directory.join(text).to_string_lossy().into_owned()).collect()
        }
        _ => texts,
    }
}

fn of_toml(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match (setting.kind, value) {
        (Kind::List, DeValue::Array(items)) => items.iter().map(|item| scalar(item.get_ref())).collect(),
        (Kind::Policy, DeValue::Table(_)) => Ok(vec![toml_to_json(value)?.to_json_text()]),
        (_, value) => scalar(value).map(|text| vec![text]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Ok(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => Err(format!("must be a single value, found {}", a(other.type_str()))),
    }
}

fn toml_to_json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::Table(table) => {
            let mut object = loom_expression::Object::new();
            for (key, value) in table {
                object.insert(key.get_ref().as_ref(), toml_to_json(value.get_ref())?);
            }
            object.into()
        }
        DeValue::Array(items) => {
            let items: Result<Vec<Value>, String> =
                items.iter().map(|item| toml_to_json(item.get_ref())).collect();
            Value::from(items?)
        }
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            Err(_) => return Err(format!("must not contain the number {}", number.as_str())),
        },
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or(f64::NAN)),
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Datetime(time) => Value::from(time.to_string()),
    })
}

fn of_json(setting: &Setting, value: &Value) -> Result<Vec<String>, String> {
    let scalar = |value: &Value| {
        if value.as_object().is_some() || value.as_array().is_some() || value.is_null() {
            Err(format!("must be a single value, found {}", value.kind()))
        } else {
            Ok(value.text().into_owned())
        }
    };
    match (setting.kind, value.as_array()) {
        (Kind::List, Some(items)) => items.iter().map(scalar).collect(),
        (Kind::Policy, _) if value.as_object().is_some() => Ok(vec![value.to_json_text()]),
        // Spelt as in JSON: the workflow language would spell a boolean differently.
        _ => match value.as_bool() {
            Some(on) => Ok(vec![on.to_string()]),
            None => scalar(value).map(|text| vec![text]),
        },
    }
}

fn a(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
