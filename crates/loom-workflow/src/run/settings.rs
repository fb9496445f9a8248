//! The environment of a run: app settings, host settings, connections, egress rules.
//!
//! Reads the files that `Config` names. A Logic Apps Standard project has `parameters.json`, `connections.json` and
//! `local.settings.json` in the directory above its definitions; the last one holds app settings under `Values`.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use loom_actions::{
    Activities, ActivityHandler, ActorHandler, Actors, Artifacts, Connections, Egress, PoliciesError,
    Project, Requests, Sources, Url, remote_workflow_handler, request_handlers, requests, secrets::Secrets,
};
use loom_definition::{Surroundings, model::EffectKind, policy::Policies, render, template_parameters};
use loom_engine::{Budgets, EngineBuilder, Environment, PolicyBook, SecretSource, clock::SystemClock};
use loom_expression::{Object, Value, Visible};
use loom_store::Store;

use crate::{
    config::{Config, Values},
    console::masker,
    files, secrets,
};

/// The contents of all settings files.
#[derive(Debug)]
pub(crate) struct Settings {
    project: Project,
    host: Values,
    connections: Connections,
    /// Whether the connections file has a `workflows` section.
    remote_workflows: bool,
    egress: Egress,
    template_parameters: Object,
    secrets: Secrets,
    activities: Activities,
    artifacts: Artifacts,
    policies: Arc<Policies>,
}

impl Settings {
    /// Reads the files that the settings name, and those of the project.
    pub(crate) fn read(config: &Config) -> Result<Settings> {
        let values = &config.values;
        config.check_files(&[
            "settings",
            "template-params",
            "connections",
            "secrets",
            "secret-providers",
            "egress",
            "resilience",
        ])?;
        let project = Project::read(
            config.project.as_deref(),
            values.settings.as_deref(),
            values.connections.as_deref(),
            |path: &Path| -> Result<Option<Value>> {
                // A file named by a setting must exist.
                let named = [&values.settings, &values.connections].into_iter().flatten();
                if named.into_iter().any(|named| named == path) || files::there_is(path)? {
                    files::read_json(path).map(Some)
                } else {
                    Ok(None)
                }
            },
        )?;
        if let (Some(origin), Some(path)) = (config.written("secrets"), &values.secrets)
            && !files::there_is(path)?
        {
            bail!(
                "{origin}: the secrets file {0} does not exist; create it with `loom secrets set NAME --secrets {0}`",
                path.display()
            );
        }
        let egress = egress(values)?;
        let secrets = secrets::source(values, &egress)?;
        secrets.teach(masker());
        project.app_setting_list().iter().for_each(|(_, value)| masker().learn(value));
        let of_connections = || match &values.connections {
            Some(path) => path.display().to_string(),
            None => "connections.json".to_owned(),
        };
        let artifacts = match &config.project {
            Some(directory) => Artifacts::read(&directory.join("Artifacts"))?,
            None => Artifacts::default(),
        };
        let template_parameters = match &values.template_params {
            Some(path) => template_parameters(&files::read_json(path)?),
            None => Object::new(),
        };
        Ok(Settings {
            host: values.clone(),
            connections: project.connections(&secrets, masker()).with_context(of_connections)?,
            remote_workflows: project
                .connections
                .as_ref()
                .is_some_and(|file| file.get("workflows").is_some()),
            egress,
            secrets,
            activities: Activities::default(),
            artifacts,
            template_parameters,
            project,
            policies: read_policies(config)?,
        })
    }

    /// Uses the connections of a file that is built in.
    pub(crate) fn define_connections(&mut self, text: &str) -> Result<()> {
        let file = Value::from_json_str(text)?;
        self.connections = Connections::from_json(&file, &Sources::default())?;
        Ok(())
    }

    /// The activities: user code that runs in this process.
    pub(crate) fn activities(&mut self) -> &mut Activities {
        &mut self.activities
    }

    /// The providers of secrets.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The files of the project.
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// The environment in which definitions are loaded. `typed` are the values of `--param`.
    pub(crate) fn surroundings(&self, typed: Vec<(Arc<str>, String)>) -> Surroundings {
        Surroundings {
            parameters_file: self.project.parameters.clone(),
            app_settings: self.project.app_setting_list(),
            connections: self.connections_parameter(),
            parameters: Object::new(),
            typed_parameters: typed,
            template_parameters: self.template_parameters.clone(),
            policies: Some(Arc::clone(&self.policies)),
            shared: false,
        }
    }

    /// Warns of project settings that Loom does not support.
    pub(crate) fn warn_of_others(&self) {
        for name in self.project.not_honoured() {
            eprintln!("loom: warning: this setting is not supported and has no effect: {}", Visible(&name));
        }
    }

    /// A value for the parameter `$connections`, for definitions that declare it.
    pub(crate) fn connections_parameter(&self) -> Value {
        self.connections.parameter_value()
    }

    /// The named policies of the project.
    pub(crate) fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// The connections in the connections file.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The environment of runs in the engine.
    pub(crate) fn environment(&self) -> Environment {
        let app_settings = self.project.app_setting_list();
        let secrets: Arc<dyn SecretSource> = Arc::new(self.secrets.clone());
        let mut environment = Environment {
            app_settings,
            secrets: Some(secrets),
            masker: masker().clone(),
            policies: PolicyBook::new(Arc::clone(&self.policies)),
            ..Environment::default()
        };
        if let Some(policy) = &self.host.default_retry_policy {
            environment.default_retry = Arc::new(policy.clone());
        }
        if let Some(longest) = self.run_duration_max() {
            environment.run_duration_max = longest;
        }
        environment.budgets = self.budgets();
        environment.audit_days = u32::try_from(self.host.secret_audit_days).unwrap_or(u32::MAX);
        environment.declassify = self.host.declassify.iter().map(|name| name.as_str().into()).collect();
        environment
    }

    /// The resource limits of one run.
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

    /// The maximum duration of a run, if it is set.
    pub(crate) fn run_duration_max(&self) -> Option<Duration> {
        self.host.run_duration_max
    }

    /// Adds the handlers of all actions that call services. `learned` holds the connections that the definition declares.
    pub(crate) fn handlers(
        &self,
        builder: EngineBuilder,
        learned: &Value,
        store: Option<&Arc<dyn Store>>,
    ) -> Result<EngineBuilder> {
        Ok(self.handlers_on(builder, self.requests(learned, store)?))
    }

    /// The client that sends the requests of actions. `store` keeps what must outlive the process.
    pub(crate) fn requests(&self, learned: &Value, store: Option<&Arc<dyn Store>>) -> Result<Arc<Requests>> {
        let mut settings = loom_actions::Settings {
            egress: self.egress.clone(),
            connections: self.connections.clone(),
            artifacts: self.artifacts.clone(),
            ..loom_actions::Settings::default()
        };
        settings.connections.learn(learned);
        settings.tokens.store = store.map(Arc::clone);
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

    /// Adds the handlers of all actions that call services, with `requests` as their client.
    pub(crate) fn handlers_on(&self, mut builder: EngineBuilder, requests: Arc<Requests>) -> EngineBuilder {
        for (effect, handler) in request_handlers(&requests) {
            builder = builder.handler(effect, handler);
        }
        if self.remote_workflows {
            builder = builder.handler(EffectKind::Workflow, remote_workflow_handler(&requests));
        }
        let activities = ActivityHandler::new(self.activities.clone(), Arc::clone(&requests));
        let actors = ActorHandler::new(Actors::default(), requests);
        builder
            .handler(EffectKind::Activity, Arc::new(activities))
            .handler(EffectKind::Actor, Arc::new(actors))
    }
}

/// The egress file, and the egress settings on top of it.
fn egress(values: &Values) -> Result<Egress> {
    let mut egress = match &values.egress {
        Some(path) => {
            Egress::from_json(&files::read_json(path)?).with_context(|| path.display().to_string())?
        }
        None => Egress::default(),
    };
    for host in &values.allow_host {
        egress = egress.allow(host).with_context(|| format!("--allow-host {host}"))?;
    }
    for share in &values.share_credentials {
        let (from, to) = share
            .split_once('=')
            .ok_or_else(|| anyhow!("--share-credentials must be FROM=TO (got `{share}`)"))?;
        egress =
            egress.share_credentials(from, to).with_context(|| format!("--share-credentials {share}"))?;
    }
    Ok(if values.deny_private { egress.block_private(true) } else { egress })
}

/// Reads the named policies of the project, or of the file that a setting names.
pub(crate) fn read_policies(config: &Config) -> Result<Arc<Policies>> {
    policies_in(config.project.as_deref(), config.values.resilience.as_deref())
}

/// Reads the named policies in the directory of a project, or in the file `named` in its place.
pub(crate) fn policies_in(project: Option<&Path>, named: Option<&Path>) -> Result<Arc<Policies>> {
    let read = |path: &Path| {
        // A file named by a setting must exist.
        let exists = named.is_some() || files::there_is(path)?;
        exists.then(|| files::read_text(path)).transpose()
    };
    match Project::policies(project, named, read) {
        Ok(policies) => Ok(Arc::new(policies)),
        Err(PoliciesError::Unread(error)) => Err(error),
        Err(PoliciesError::Refused { path, text, diagnostics }) => {
            let path = path.display().to_string();
            let shown: Vec<String> =
                diagnostics.0.iter().map(|found| render(found, &text, &path, false)).collect();
            Err(anyhow!("{path} is invalid\n{}", shown.join("\n")))
        }
    }
}
