//! A Logic Apps Standard project: the files beside its workflows, as Azure's tools lay them out.
//!
//! Every command and the conformance runner read a project here, so that all of them see the same files and report
//! the same settings that have no effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use loom_definition::{Diagnostics, diagnostic::nearest, policy::Policies};
use loom_engine::label_settings;
use loom_expression::{Masker, Object, Value};

use crate::{Connections, ConnectionsError, Sources, secrets::Secrets};

#[cfg(test)]
mod tests;

/// The files of a project, in the directory that contains those of its workflows.
const PARAMETERS: &str = "parameters.json";
const CONNECTIONS: &str = "connections.json";
const APP_SETTINGS: &str = "local.settings.json";
const HOST: &str = "host.json";

/// The named policies of a project.
pub const RESILIENCE: &str = "resilience.json";

/// The sections of `local.settings.json`.
const SECTIONS: [&str; 6] = ["Values", "SecretValues", "Loom", "IsEncrypted", "Host", "ConnectionStrings"];

/// The properties of `host.json`, besides `extensions`, that no workflow can observe.
const SILENT: [&str; 6] =
    ["$schema", "version", "logging", "extensionBundle", "managedDependency", "functionTimeout"];

/// The prefix of app settings that override settings of `host.json`.
const OF_HOST: &str = "AzureFunctionsJobHost__extensions__workflow__settings__";

/// The content of the files of a project. The default is no project.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// The content of `parameters.json`.
    pub parameters: Option<Value>,
    /// The values of `appsetting('name')`.
    pub app_settings: Object,
    /// The names of app settings that are secret, in addition to those recognized by their name or value.
    pub secret_settings: Vec<Arc<str>>,
    /// The content of `connections.json`.
    pub connections: Option<Value>,
    /// The directory of that file, to which the paths in it are relative.
    pub connections_directory: Option<PathBuf>,
    /// The content of `host.json`.
    pub host: Option<Value>,
}

/// A limit of `host.json` that takes effect.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLimit {
    /// Its name in `host.json`.
    pub name: Arc<str>,
    /// The corresponding limit of Loom.
    pub kind: HostLimitKind,
    /// Its value: a policy for [`HostLimitKind::DefaultRetryPolicy`], a number of days for
    /// [`HostLimitKind::RetentionDays`], otherwise a number of seconds.
    pub value: Value,
    /// The settings that a policy consists of, by the names of its properties.
    parts: Vec<(&'static str, Arc<str>)>,
}

impl HostLimit {
    /// The setting that an error about a property of the policy is about, and the message without the property.
    pub fn at_fault<'m>(&self, message: &'m str) -> (&str, &'m str) {
        let found = self.parts.iter().find_map(|(property, name)| {
            let (_, rest) = message.split_once(&format!("`{property}` "))?;
            Some((&**name, rest))
        });
        found.unwrap_or((&self.name, message))
    }
}

/// Why the named policies of a project cannot be used.
#[derive(Debug)]
pub enum PoliciesError<E> {
    /// The file cannot be read.
    Unread(E),
    /// The file is invalid.
    Refused {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// Everything that is wrong with it.
        diagnostics: Diagnostics,
    },
}

/// The kinds of limits in `host.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostLimitKind {
    /// The longest duration of a run.
    RunDuration,
    /// The timeout of one request.
    AttemptTimeout,
    /// The retry policy of requests that have none.
    DefaultRetryPolicy,
    /// How long ended runs are kept.
    RetentionDays,
}

/// Limits that are one setting each.
const LIMITS: [(&str, HostLimitKind); 3] = [
    ("Runtime.Backend.FlowRunTimeout", HostLimitKind::RunDuration),
    ("Runtime.Backend.HttpOperation.RequestTimeout", HostLimitKind::AttemptTimeout),
    ("Runtime.FlowRetentionThreshold", HostLimitKind::RetentionDays),
];

/// The settings that together form the default retry policy: their names in a policy, and their default values.
const RETRY: [(&str, &str, &str); 4] = [
    ("Runtime.Backend.HttpOperation.DefaultRetryCount", "count", "4"),
    ("Runtime.Backend.HttpOperation.DefaultRetryInterval", "interval", "00:00:07"),
    ("Runtime.Backend.HttpOperation.DefaultRetryMinimumInterval", "minimumInterval", "00:00:05"),
    ("Runtime.Backend.HttpOperation.DefaultRetryMaximumInterval", "maximumInterval", "01:00:00"),
];

/// Why a project cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// App settings have an unexpected shape.
    #[error("{file}: {what} must be an object, found {found}")]
    NotAnObject {
        /// The file.
        file: String,
        /// The property, or the whole content.
        what: &'static str,
        /// What was found.
        found: String,
    },
    /// An object in the app settings is none of their sections.
    #[error("{file}: unknown section `{name}`; did you mean `{meant}`?")]
    UnknownSection {
        /// The file.
        file: String,
        /// The name of the section.
        name: Arc<str>,
        /// The section that was probably meant.
        meant: &'static str,
    },
    /// `SecretValues` is not a list of names.
    #[error("{file}: `SecretValues` must be a list of names of settings")]
    BadSecretValues {
        /// The file.
        file: String,
    },
    /// A limit in `host.json` cannot be read.
    #[error("`{name}` must be {expected} (got `{value}`)")]
    BadLimit {
        /// The setting.
        name: Arc<str>,
        /// What is expected.
        expected: &'static str,
        /// The value that was found.
        value: String,
    },
}

impl Project {
    /// The directory of the project that a definition named `workflow.json` belongs to.
    pub fn directory_of(definition: &Path) -> Option<PathBuf> {
        if !definition.file_name()?.eq_ignore_ascii_case("workflow.json") {
            return None;
        }
        let directory = definition.parent()?;
        if directory.as_os_str().is_empty() {
            Some(PathBuf::from(".."))
        } else {
            Some(directory.parent()?.to_path_buf())
        }
    }

    /// Reads the files in `directory`, with `settings` and `connections` in place of its own. `read` returns the JSON of
    /// a file, or `None` for a file that does not exist.
    ///
    /// # Errors
    /// What `read` returns, and [`ProjectError`] for app settings with an unexpected shape.
    pub fn read<E: From<ProjectError>>(
        directory: Option<&Path>,
        settings: Option<&Path>,
        connections: Option<&Path>,
        read: impl Fn(&Path) -> Result<Option<Value>, E>,
    ) -> Result<Project, E> {
        let in_project = |name: &str| directory.map_or(Ok(None), |directory| read(&directory.join(name)));
        let settings = settings.map(Path::to_path_buf).or_else(|| Some(directory?.join(APP_SETTINGS)));
        let (app_settings, secret_settings) = match &settings {
            Some(path) => match read(path)? {
                Some(file) => app_settings_in(&path.display().to_string(), &file)?,
                None => (Object::new(), Vec::new()),
            },
            None => (Object::new(), Vec::new()),
        };
        Ok(Project {
            parameters: in_project(PARAMETERS)?,
            app_settings,
            secret_settings,
            connections_directory: match connections {
                Some(path) => path.parent().map(Path::to_path_buf),
                None => directory.map(Path::to_path_buf),
            },
            connections: match connections {
                Some(path) => read(path)?,
                None => in_project(CONNECTIONS)?,
            },
            host: in_project(HOST)?,
        })
    }

    /// The named policies in `resilience.json` of `folder`, or in `named` in its place, with the path they were read from. `read`
    /// returns the text of a file, or `None` for a file that does not exist.
    ///
    /// # Errors
    /// What `read` returns, and everything that is wrong with the file.
    pub fn policies<E>(
        folder: Option<&Path>,
        named: Option<&Path>,
        read: impl FnOnce(&Path) -> Result<Option<String>, E>,
    ) -> Result<Policies, PoliciesError<E>> {
        let path = named.map(Path::to_path_buf).or_else(|| Some(folder?.join(RESILIENCE)));
        let Some(path) = path else { return Ok(Policies::default()) };
        let Some(text) = read(&path).map_err(PoliciesError::Unread)? else { return Ok(Policies::default()) };
        Policies::read(&text).map_err(|diagnostics| PoliciesError::Refused { path, text, diagnostics })
    }

    /// Whether any of the project's files exists.
    pub fn exists(&self) -> bool {
        let files = [&self.parameters, &self.connections, &self.host];
        files.into_iter().any(Option::is_some) || !self.app_settings.is_empty()
    }

    /// App settings in the order of their file, with secret ones marked as secret.
    pub fn app_setting_list(&self) -> Vec<(Arc<str>, Value)> {
        label_settings(&self.app_settings, &self.secret_settings)
    }

    /// The connections of the connections file; none without one. `masker` learns the credentials in it.
    ///
    /// # Errors
    /// [`ConnectionsError`] when the file has an unexpected shape.
    pub fn connections(&self, secrets: &Secrets, masker: &Masker) -> Result<Connections, ConnectionsError> {
        let Some(file) = &self.connections else { return Ok(Connections::default()) };
        let text = |(name, value): (&Arc<str>, &Value)| (name.to_string(), value.text().into_owned());
        let parameters = self.parameters.as_ref().and_then(Value::as_object);
        let parameters = parameters.into_iter().flatten();
        let sources = Sources {
            app_settings: self.app_settings.iter().map(text).collect::<BTreeMap<_, _>>(),
            parameters: parameters.map(|(name, value)| (name.to_string(), value.clone())).collect(),
            secrets: secrets.clone(),
            masker: masker.clone(),
            directory: self.connections_directory.clone(),
        };
        Connections::from_json(file, &sources)
    }

    /// The names of the workflows that `Workflows.NAME.FlowState` disables, in lower case.
    pub fn disabled(&self) -> BTreeSet<String> {
        let states = self.app_settings.iter().filter_map(|(name, value)| Some((flow_of(name)?, value)));
        let disabled = states.filter(|(_, state)| state.text().eq_ignore_ascii_case("disabled"));
        disabled.map(|(flow, _)| flow.to_lowercase()).collect()
    }

    /// The limits of `host.json` that take effect.
    ///
    /// # Errors
    /// [`ProjectError::BadLimit`].
    pub fn limits(&self) -> Result<Vec<HostLimit>, ProjectError> {
        let mut limits = Vec::new();
        let settings = self.host_settings();
        let written = |wanted: &str| {
            settings
                .iter()
                .flat_map(|settings| settings.iter())
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        for (wanted, kind) in LIMITS {
            let Some((name, value)) = written(wanted) else { continue };
            let mut seconds = seconds(name, value)?;
            if kind == HostLimitKind::RetentionDays {
                seconds = seconds.div_ceil(24 * 60 * 60);
            }
            let value = Value::from(i64::try_from(seconds).unwrap_or(i64::MAX));
            limits.push(HostLimit { name: Arc::clone(name), kind, value, parts: Vec::new() });
        }
        let Some((first, _)) = RETRY.iter().find_map(|(wanted, _, _)| written(wanted)) else {
            return Ok(limits);
        };
        let mut policy: Object = [("type", "exponential")].into_iter().collect();
        let mut parts = Vec::new();
        for (wanted, member, default) in RETRY {
            let default = Value::from(default);
            let found = written(wanted);
            parts.extend(found.map(|(name, _)| (member, Arc::clone(name))));
            let value = found.map_or(&default, |(_, value)| value);
            if member == "count" {
                policy.insert(member, count(wanted, value)?);
            } else {
                policy.insert(member, format!("PT{}S", seconds(wanted, value)?));
            }
        }
        if policy.get("count").and_then(Value::as_i64) == Some(0) {
            policy = [("type", "none")].into_iter().collect();
        }
        let value = Value::from(policy);
        let kind = HostLimitKind::DefaultRetryPolicy;
        limits.push(HostLimit { name: Arc::clone(first), kind, value, parts });
        Ok(limits)
    }

    /// The settings that exist but have no effect, each with its file.
    pub fn not_honoured(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, value) in &self.app_settings {
            let state = flow_of(name).map(|_| value.text().to_ascii_lowercase());
            let honoured = state.is_some_and(|state| state == "enabled" || state == "disabled");
            let ours = name.to_ascii_lowercase().starts_with("workflows.") || name.starts_with(OF_HOST);
            if ours && !honoured {
                let expected = match flow_of(name) {
                    Some(_) => format!(" (must be `Enabled` or `Disabled`, got `{}`)", value.text()),
                    None => String::new(),
                };
                names.push(format!("{APP_SETTINGS}: `{name}`{expected}"));
            }
        }
        let members = self.host.as_ref().and_then(Value::as_object).into_iter().flatten();
        for (name, value) in members {
            if &**name != "extensions" {
                if !SILENT.contains(&&**name) {
                    names.push(format!("{HOST}: `{name}`"));
                }
                continue;
            }
            let extensions = value.as_object().into_iter().flatten();
            let others = extensions.filter(|(name, _)| &***name != "workflow");
            names.extend(others.map(|(name, _)| format!("{HOST}: `extensions.{name}`")));
        }
        let honoured = LIMITS.iter().map(|(name, _)| *name).chain(RETRY.iter().map(|(name, _, _)| *name));
        let honoured: Vec<&str> = honoured.collect();
        for (name, _) in self.host_settings().into_iter().flatten() {
            if !honoured.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(format!("{HOST}: `{name}`"));
            }
        }
        names
    }

    fn host_settings(&self) -> Option<&Object> {
        self.host.as_ref()?.get("extensions")?.get("workflow")?.get("settings")?.as_object()
    }
}

/// The app settings in a file such as `local.settings.json`, and the names of those that `SecretValues` lists. A file
/// without sections is a plain list of settings.
fn app_settings_in(file: &str, content: &Value) -> Result<(Object, Vec<Arc<str>>), ProjectError> {
    let wrong = |what, value: &Value| ProjectError::NotAnObject {
        file: file.to_owned(),
        what,
        found: value.kind().to_string(),
    };
    let object = content.as_object().ok_or_else(|| wrong("the content", content))?;
    let is_plain = !SECTIONS.iter().any(|name| object.contains_key(name));
    for (name, value) in object.iter().filter(|(name, _)| !SECTIONS.contains(&&***name)) {
        let meant = nearest(name, SECTIONS);
        // In a plain list a setting may have any name, but no setting is an object.
        let is_section = value.as_object().is_some() && (is_plain || meant.is_some());
        if is_section {
            let (file, name) = (file.to_owned(), Arc::clone(name));
            return Err(ProjectError::UnknownSection { file, name, meant: meant.unwrap_or("Values") });
        }
    }
    if is_plain {
        return Ok((object.clone(), Vec::new()));
    }
    let secret = match object.get("SecretValues") {
        None => Some(Vec::new()),
        Some(names) => {
            names.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(Arc::from)).collect())
        }
    };
    let secret = secret.ok_or_else(|| ProjectError::BadSecretValues { file: file.to_owned() })?;
    let Some(values) = object.get("Values") else { return Ok((Object::new(), secret)) };
    let settings = values.as_object().cloned().ok_or_else(|| wrong("`Values`", values))?;
    Ok((settings, secret))
}

/// The name of the workflow in `Workflows.NAME.FlowState`.
fn flow_of(setting: &str) -> Option<&str> {
    let (first, rest) = setting.split_once('.')?;
    let (name, last) = rest.rsplit_once('.')?;
    (first.eq_ignore_ascii_case("workflows") && last.eq_ignore_ascii_case("flowstate")).then_some(name)
}

/// Parses a whole number of seconds in the form `[d.]hh:mm:ss`.
fn seconds(name: &str, value: &Value) -> Result<u64, ProjectError> {
    let read = |text: &str| {
        let (days, clock) =
            text.split_once('.').filter(|(days, _)| !days.contains(':')).unwrap_or(("0", text));
        let parts: Option<Vec<u64>> = clock.split(':').map(|part| part.parse().ok()).collect();
        let [hours, minutes, seconds] = parts?[..] else { return None };
        let days: u64 = days.parse().ok()?;
        let fits = hours < 24 && minutes < 60 && seconds < 60;
        days.checked_mul(24 * 60 * 60)?.checked_add(hours * 3_600 + minutes * 60 + seconds).filter(|_| fits)
    };
    read(value.text().trim()).ok_or_else(|| ProjectError::BadLimit {
        name: name.into(),
        expected: "a length of time such as 00:03:45 or 90.00:00:00",
        value: value.text().into_owned(),
    })
}

fn count(name: &str, value: &Value) -> Result<i64, ProjectError> {
    value.text().trim().parse().ok().filter(|count| *count >= 0).ok_or_else(|| ProjectError::BadLimit {
        name: name.into(),
        expected: "a whole number",
        value: value.text().into_owned(),
    })
}
