//! What surrounds a run: settings of the app and the host, connections, egress rules.
//!
//! `Config` says what was set where; this reads the files that it names. A project, as the cloud's tools lay it out, has
//! `parameters.json`, `connections.json` and `local.settings.json` in the folder above its definitions. The latter holds app
//! settings under `Values`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use loom_actions::{
    Activities, ActivityHandler, ActorHandler, Actors, Artifacts, Connections, Egress, MemoryActorStore,
    Requests, Sources, Url, remote_workflow_handler, request_handlers, requests, secrets::Secrets,
};
use loom_definition::model::EffectKind;
use loom_engine::{Budgets, EngineBuilder, Environment, SecretSource, clock::SystemClock, label_settings};
use loom_expression::{Object, Value};

use crate::{
    config::{Config, Values},
    console::masker,
    files, secrets,
};

/// Everything that was read.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `appsetting('name')`.
    app: Object,
    /// The same, labelled where they are secret.
    labelled: Vec<(Arc<str>, Value)>,
    host: Values,
    connections: Connections,
    /// Whether the connections file tells where workflows are called.
    remote_workflows: bool,
    egress: Egress,
    parameters: Option<Value>,
    secrets: Secrets,
    activities: Activities,
    artifacts: Artifacts,
}

impl Settings {
    /// Reads the files that the settings name, and those of the project.
    pub(crate) fn read(config: &Config) -> Result<Settings> {
        let values = &config.values;
        let beside = |name: &str| -> Result<Option<PathBuf>> {
            let Some(path) = config.project.as_ref().map(|folder| folder.join(name)) else { return Ok(None) };
            Ok(files::there_is(&path)?.then_some(path))
        };
        let mut settings = Settings {
            app: Object::new(),
            labelled: Vec::new(),
            host: values.clone(),
            connections: Connections::default(),
            remote_workflows: false,
            egress: Egress::default(),
            parameters: None,
            secrets: secrets::source(values.secrets.as_deref(), values.secrets_dir.as_deref())?,
            activities: Activities::default(),
            artifacts: Artifacts::default(),
        };
        settings.secrets.teach(masker());
        if let Some(path) = &values.settings {
            let (app, secret) = app_settings(path)?;
            settings.labelled = label_settings(&app, &secret);
            settings.labelled.iter().for_each(|(_, value)| masker().learn(value));
            settings.app = app;
        }
        if let Some(path) = beside("parameters.json")? {
            settings.parameters = Some(files::read_json(&path)?);
        }
        let connections = match &values.connections {
            Some(path) => Some(path.clone()),
            None => beside("connections.json")?,
        };
        if let Some(path) = connections {
            let value = files::read_json(&path)?;
            settings.remote_workflows = value.get("workflows").is_some();
            settings.connections = Connections::from_json(&value, &settings.sources())
                .with_context(|| path.display().to_string())?;
        }
        if let Some(project) = &config.project {
            settings.artifacts = Artifacts::read(&project.join("Artifacts"))?;
        }
        if let Some(path) = &values.egress {
            settings.egress =
                Egress::from_json(&files::read_json(path)?).with_context(|| path.display().to_string())?;
        }
        settings.adjust_egress()?;
        Ok(settings)
    }

    /// Says more about where requests and their credentials may go, on top of the egress file.
    fn adjust_egress(&mut self) -> Result<()> {
        for host in &self.host.allow_host {
            let egress = std::mem::take(&mut self.egress);
            self.egress = egress.allow(host).with_context(|| format!("--allow-host {host}"))?;
        }
        for share in &self.host.share_credentials {
            let (from, to) = share
                .split_once('=')
                .ok_or_else(|| anyhow!("--share-credentials must be FROM=TO (got `{share}`)"))?;
            let egress = std::mem::take(&mut self.egress);
            self.egress =
                egress.share_credentials(from, to).with_context(|| format!("--share-credentials {share}"))?;
        }
        if self.host.deny_private {
            self.egress = std::mem::take(&mut self.egress).block_private(true);
        }
        Ok(())
    }

    fn sources(&self) -> Sources {
        let text = |(name, value): (&Arc<str>, &Value)| (name.to_string(), value.text().into_owned());
        let parameters = self.parameters.as_ref().and_then(Value::as_object);
        let parameter = |(name, value): (&Arc<str>, &Value)| (name.to_string(), value.clone());
        Sources {
            app_settings: self.app.iter().map(text).collect::<BTreeMap<_, _>>(),
            parameters: parameters
                .map(|parameters| parameters.iter().map(parameter).collect())
                .unwrap_or_default(),
            secrets: self.secrets.clone(),
            masker: masker().clone(),
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
    pub(crate) fn app_setting(&self, name: &str) -> Option<Value> {
        let (_, value) = self.labelled.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(Value::from(&*value.text()).labelled(value.labels()))
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
    pub(crate) fn environment(&self) -> Environment {
        let app_settings = self.labelled.clone();
        let secrets: Arc<dyn SecretSource> = Arc::new(self.secrets.clone());
        let mut environment = Environment {
            app_settings,
            secrets: Some(secrets),
            masker: masker().clone(),
            ..Environment::default()
        };
        if let Some(policy) = &self.host.default_retry_policy {
            environment.default_retry = Arc::new(policy.clone());
        }
        if let Some(longest) = self.run_duration_max() {
            environment.run_duration_max = longest;
        }
        environment.budgets = self.budgets();
        environment
    }

    /// What one run may take of the process.
    fn budgets(&self) -> Budgets {
        let host = &self.host;
        Budgets {
            evaluation_steps_max: host.evaluation_steps_max,
            run_bytes_max: host.run_bytes_max,
            schema_nodes_max: host.schema_nodes_max,
            json_values_max: host.json_values_max as usize,
            child_depth_max: u8::try_from(host.child_depth_max).unwrap_or(Budgets::CHILD_DEPTH_LIMIT),
            ..Budgets::default()
        }
    }

    /// The longest a run may take, if that is set.
    pub(crate) fn run_duration_max(&self) -> Option<Duration> {
        self.host.run_duration_max
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
            artifacts: self.artifacts.clone(),
            ..loom_actions::Settings::default()
        };
        settings.connections.learn(learned);
        settings.chunk_threshold = usize::try_from(self.host.chunk_threshold).unwrap_or(usize::MAX);
        if let Some(longest) = self.host.attempt_timeout {
            settings.attempt_timeout = longest;
        }
        if let Some(authority) = &self.host.authority {
            settings.tokens.authority_override = Some(Url::parse(authority).context("authority")?);
        }
        if let Some(endpoint) = &self.host.identity_endpoint {
            settings.tokens.managed_identity.endpoint = Url::parse(endpoint).context("identity-endpoint")?;
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
}

/// The settings of the app in a file such as `local.settings.json`. A file without sections is a plain list of them.
/// With them come the names of those that `SecretValues` lists.
fn app_settings(path: &Path) -> Result<(Object, Vec<Arc<str>>)> {
    let value = files::read_json(path)?;
    let object = value
        .as_object()
        .ok_or_else(|| anyhow!("{} must hold an object, found {}", path.display(), value.kind()))?;
    let sections = ["Values", "SecretValues", "Loom", "IsEncrypted", "Host", "ConnectionStrings"];
    if !sections.iter().any(|name| object.contains_key(name)) {
        return Ok((object.clone(), Vec::new()));
    }
    let secret = match object.get("SecretValues") {
        None => Some(Vec::new()),
        Some(names) => {
            names.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(Arc::from)).collect())
        }
    };
    let secret = secret
        .ok_or_else(|| anyhow!("{}: `SecretValues` must be a list of names of settings", path.display()))?;
    let Some(values) = object.get("Values") else { return Ok((Object::new(), secret)) };
    let section = values.as_object().cloned().map(|values| (values, secret));
    section.ok_or_else(|| anyhow!("{}: `Values` must be an object, found {}", path.display(), values.kind()))
}
