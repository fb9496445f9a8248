//! What surrounds a run on the command line: settings of the app and the host, connections, egress rules.
//!
//! A settings file has the form of `local.settings.json`: app settings under `Values`, and under `Loom` what the host
//! decides:
//!
//! | member of `Loom` | meaning |
//! |---|---|
//! | `defaultRetryPolicy` | for requests that name none: `"none"`, or a policy as in a definition |
//! | `runDurationMax` | the longest a run may take, ISO 8601 |
//! | `attemptTimeout` | the longest one request may take when its action does not say, ISO 8601 |
//! | `authority` | where tokens come from, whatever an action says |
//! | `identityEndpoint` | where tokens of managed identities come from |
//!
//! A definition named `workflow.json` lies in a project as the cloud's tools lay it out. Its neighbours one folder up,
//! `parameters.json`, `connections.json` and `local.settings.json`, are read unless an option names others.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use loom_actions::{
    Activities, ActivityHandler, ActorHandler, Actors, Connections, Egress, MemoryActorStore, Requests,
    Sources, Url, remote_workflow_handler, request_handlers, requests, secrets::Secrets,
};
use loom_definition::{
    duration::Span,
    model::EffectKind,
    policy::{RetryPolicy, Spelling},
};
use loom_engine::{EngineBuilder, Environment, SecretSource, clock::SystemClock};
use loom_expression::{Object, Value};

use crate::{args::RunWith, files};

/// Everything that was read.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: Object,
    host: Object,
    connections: Connections,
    /// Whether the connections file tells where workflows are called.
    remote_workflows: bool,
    egress: Egress,
    parameters: Option<Value>,
    secrets: Secrets,
    activities: Activities,
}

/// The members of `Loom` in a settings file.
const HOST: [&str; 5] =
    ["defaultRetryPolicy", "runDurationMax", "attemptTimeout", "authority", "identityEndpoint"];

impl Settings {
    /// Reads what the options name, and what lies beside `definition` in a project.
    pub(crate) fn read(with: &RunWith, definition: &Path) -> Result<Settings> {
        let beside = |name: &str| project_file(definition, name);
        let mut settings = Settings { secrets: with.secrets.source()?, ..Settings::default() };
        if let Some(path) = with.settings.clone().or_else(|| beside("local.settings.json")) {
            settings.read_settings(&path)?;
        }
        if let Some(path) = beside("parameters.json") {
            settings.parameters = Some(files::read_json(&path)?);
        }
        if let Some(path) = with.connections.clone().or_else(|| beside("connections.json")) {
            let value = files::read_json(&path)?;
            settings.remote_workflows = value.get("workflows").is_some();
            settings.connections = Connections::from_json(&value, &settings.sources())
                .with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &with.egress {
            settings.egress =
                Egress::from_json(&files::read_json(path)?).with_context(|| path.display().to_string())?;
        }
        Ok(settings)
    }

    /// Narrows where requests may go, on top of what the egress file says.
    pub(crate) fn limit_egress(&mut self, allow: &[String], deny_private: bool) -> Result<()> {
        for host in allow {
            let egress = std::mem::take(&mut self.egress);
            self.egress = egress.allow(host).with_context(|| format!("--allow-host {host}"))?;
        }
        if deny_private {
            self.egress = std::mem::take(&mut self.egress).block_private(true);
        }
        Ok(())
    }

    fn read_settings(&mut self, path: &Path) -> Result<()> {
        let value = files::read_json(path)?;
        let object = value.as_object().ok_or_else(|| anyhow!("{} holds no object", path.display()))?;
        let section = |name: &str| match object.get(name) {
            None => Ok(Object::new()),
            Some(section) => section
                .as_object()
                .cloned()
                .ok_or_else(|| anyhow!("`{name}` in {} is no object", path.display())),
        };
        self.host = section("Loom")?;
        if let Some(name) = self.host.keys().find(|name| !HOST.contains(&&***name)) {
            bail!("{}: `Loom` has no member `{name}`; there are {}", path.display(), HOST.join(", "));
        }
        // A file without sections is a plain list of app settings.
        let sections = ["Values", "Loom", "IsEncrypted", "Host", "ConnectionStrings"];
        let plain = !sections.iter().any(|name| object.contains_key(name));
        self.values = if plain { object.clone() } else { section("Values")? };
        Ok(())
    }

    fn sources(&self) -> Sources {
        let text = |(name, value): (&Arc<str>, &Value)| (name.to_string(), value.text().into_owned());
        let parameters = self.parameters.as_ref().and_then(Value::as_object);
        let parameter = |(name, value): (&Arc<str>, &Value)| (name.to_string(), value.clone());
        Sources {
            app_settings: self.values.iter().map(text).collect::<BTreeMap<_, _>>(),
            parameters: parameters
                .map(|parameters| parameters.iter().map(parameter).collect())
                .unwrap_or_default(),
            secrets: self.secrets.clone(),
        }
    }

    /// User code that runs in this process.
    pub(crate) fn activities(&mut self) -> &mut Activities {
        &mut self.activities
    }

    /// The project's `parameters.json`.
    pub(crate) fn parameters_file(&self) -> Option<Value> {
        self.parameters.clone()
    }

    /// `appsetting('name')`.
    pub(crate) fn app_setting(&self, name: &str) -> Option<String> {
        self.values.get_ignore_case(name).map(|value| value.text().into_owned())
    }

    /// A value for the parameter `$connections`, for definitions that declare it.
    pub(crate) fn connections_parameter(&self) -> Value {
        self.connections.parameter_value()
    }

    /// What the connections file names.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What runs see of the host.
    pub(crate) fn environment(&self) -> Result<Environment> {
        let app_settings =
            self.values.iter().map(|(name, value)| (Arc::clone(name), value.clone())).collect();
        let secrets: Arc<dyn SecretSource> = Arc::new(self.secrets.clone());
        let mut environment = Environment { app_settings, secrets: Some(secrets), ..Environment::default() };
        if let Some(policy) = self.host.get("defaultRetryPolicy") {
            environment.default_retry = Arc::new(retry_policy(policy)?);
        }
        if let Some(longest) = self.run_duration_max()? {
            environment.run_duration_max = longest;
        }
        Ok(environment)
    }

    /// The longest a run may take, if the file says.
    pub(crate) fn run_duration_max(&self) -> Result<Option<Duration>> {
        self.duration("runDurationMax")
    }

    /// Adds the handlers of all actions that reach outside. `learned` is what the definition calls its connections.
    pub(crate) fn handlers(&self, builder: EngineBuilder, learned: &Value) -> Result<EngineBuilder> {
        Ok(self.handlers_on(builder, self.requests(learned)?))
    }

    /// What makes requests.
    pub(crate) fn requests(&self, learned: &Value) -> Result<Arc<Requests>> {
        let mut settings = loom_actions::Settings {
            egress: self.egress.clone(),
            connections: self.connections.clone(),
            ..loom_actions::Settings::default()
        };
        settings.connections.learn(learned);
        if let Some(longest) = self.duration("attemptTimeout")? {
            settings.attempt_timeout = longest;
        }
        if let Some(authority) = self.url("authority")? {
            settings.tokens.authority_override = Some(authority);
        }
        if let Some(endpoint) = self.url("identityEndpoint")? {
            settings.tokens.managed_identity.endpoint = endpoint;
        }
        Ok(requests(settings, Arc::new(SystemClock))?)
    }

    /// Adds the handlers of all actions that reach outside through `requests`.
    pub(crate) fn handlers_on(&self, mut builder: EngineBuilder, requests: Arc<Requests>) -> EngineBuilder {
        for (effect, handler) in request_handlers(&requests) {
            builder = builder.handler(effect, handler);
        }
        if self.remote_workflows {
            builder = builder.handler(EffectKind::Workflow, remote_workflow_handler(&requests));
        }
        let activities = ActivityHandler::new(self.activities.clone(), Arc::clone(&requests));
        let actors = ActorHandler::new(Actors::default(), Arc::new(MemoryActorStore::default()), requests);
        builder
            .handler(EffectKind::Activity, Arc::new(activities))
            .handler(EffectKind::Actor, Arc::new(actors))
    }

    fn duration(&self, member: &str) -> Result<Option<Duration>> {
        let Some(value) = self.host.get(member) else { return Ok(None) };
        let span = Span::from_value(value).map_err(|why| anyhow!("`Loom.{member}`: {why}"))?;
        Ok(Some(span.approximate()))
    }

    fn url(&self, member: &str) -> Result<Option<Url>> {
        let Some(value) = self.host.get(member) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| anyhow!("`Loom.{member}` is no text"))?;
        Url::parse(text).map(Some).with_context(|| format!("`Loom.{member}`"))
    }
}

/// `"none"` for short, or a policy as a definition has it.
fn retry_policy(value: &Value) -> Result<RetryPolicy> {
    let named: Value = match value.as_str() {
        Some(name) => [("type", name)].into_iter().collect::<Object>().into(),
        None => value.clone(),
    };
    RetryPolicy::read(&named, Spelling::Wdl)
        .map_err(|problem| anyhow!("`Loom.defaultRetryPolicy`: {}", problem.message))
}

/// A file of the project that a definition named `workflow.json` belongs to.
fn project_file(definition: &Path, name: &str) -> Option<PathBuf> {
    if !definition.file_name()?.eq_ignore_ascii_case("workflow.json") {
        return None;
    }
    let folder = definition.parent()?;
    let path =
        if folder.as_os_str().is_empty() { Path::new("..").join(name) } else { folder.parent()?.join(name) };
    path.is_file().then_some(path)
}
