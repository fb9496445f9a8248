//! Deployed definitions: the current version of each name, and all versions, which are in the store.
//!
//! The first version of a name is 1.0.0; deploying the same definition again changes nothing, a different one is published as
//! the next version. An invalid definition never replaces a valid one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use loom_definition::{
    Bound, Definition, Diagnostic, Diagnostics, LoadOptions, Surroundings, Workflow,
    catalog::{Bump, Catalog, Draft, Entry, Version},
    model::ActionKind,
    trigger::Trigger,
};
use loom_expression::{Object, Value};
use loom_store::{Commit, Conflict, Error as StoreError, KeyExpectation, KeyQuery, KeyWrite, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::sign::Signer;

/// The namespace of versions in the store.
pub(crate) const NAMESPACE: &str = "workflow";

/// The number of versions that are read from the store at once.
const PAGE: usize = 200;

/// The current version of a workflow.
#[derive(Debug)]
pub struct Deployment {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The values of its parameters, in the order of their declaration.
    pub parameters: Vec<Value>,
    /// Its version.
    pub version: Version,
    /// The warnings of its definition.
    pub warnings: Vec<Diagnostic>,
    /// Whether a setting disables its triggers.
    pub disabled: bool,
    /// Cancelled when another version replaces it.
    pub(crate) retired: CancellationToken,
    /// The tasks of active automatic triggers, by their index.
    pub(crate) acting: Mutex<BTreeMap<usize, Acting>>,
    pub(crate) has_response: bool,
    pub(crate) answers_later: bool,
}

/// How the task of an automatic trigger is ended.
#[derive(Debug)]
pub(crate) struct Acting {
    /// The trigger is disabled, or its deployment replaced.
    pub(crate) retired: CancellationToken,
    /// The trigger continues in another process.
    pub(crate) stopped: CancellationToken,
}

/// Whether a workflow has a Response; with `later`, whether it has an asynchronous one, for which callers do not wait.
pub(crate) fn responds(workflow: &Workflow, later: bool) -> bool {
    workflow.actions.iter().any(|action| {
        matches!(action.kind, ActionKind::Response { .. }) && (!later || action.options.asynchronous)
    })
}

impl Deployment {
    /// An opaque id of this definition with these parameter values.
    pub(crate) fn mark(&self, signer: &Signer) -> String {
        let hash = blake3::Hash::from_bytes(self.workflow.hash).to_hex();
        let parameters: Vec<String> = self.parameters.iter().map(Value::to_json_text).collect();
        signer.mark(&["deployment", &self.workflow.name, &hash, &parameters.join(",")])
    }

    /// A trigger by name, ignoring case.
    pub fn trigger(&self, name: &str) -> Option<&Trigger> {
        self.workflow.find_trigger(name)
    }
}

/// The origin of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file; deployed as long as the file exists.
    File,
    /// The API; deployed until it is deleted.
    Api,
}

/// A definition to deploy.
#[derive(Clone, Debug)]
pub struct Source {
    /// The definition as JSON text.
    pub bytes: Vec<u8>,
    /// How to load it: the name of its file, and the parameters file beside it.
    pub options: LoadOptions,
    /// Its origin.
    pub origin: Origin,
    /// The part of the version that is raised if the definition differs from the current one.
    pub bump: Bump,
    /// Whether to reject the definition if its name already has versions.
    pub only_new: bool,
}

/// Why a definition was not deployed. The version deployed before stays in service.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The definition or its parameters are invalid.
    #[error("the definition is invalid: {0}")]
    Refused(Diagnostics),
    /// The store is unavailable.
    #[error("cannot store the definition")]
    Store(#[from] loom_store::Error),
    /// The name already has versions, and [`Source::only_new`] is set.
    #[error("a workflow of this name already exists")]
    Exists,
    /// Another node has published this version at the same time.
    #[error("another node has published version {version} at the same time; try again")]
    Overtaken {
        /// The version.
        version: Version,
    },
    /// The version number exceeds 32 bits.
    #[error(transparent)]
    Catalog(#[from] loom_definition::catalog::CatalogError),
}

/// All deployments.
#[derive(Debug)]
pub(crate) struct Deployments {
    store: Arc<dyn Store>,
    surroundings: Surroundings,
    /// Names of disabled workflows, in lower case.
    disabled: RwLock<BTreeSet<String>>,
    current: RwLock<BTreeMap<String, Arc<Deployment>>>,
    /// Counts changes of what is deployed and disabled.
    changes: watch::Sender<u64>,
    catalog: Mutex<Catalog>,
    /// Held while a version is published, so that its number is unique.
    publishing: tokio::sync::Mutex<()>,
}

impl Deployments {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        surroundings: Surroundings,
        disabled: BTreeSet<String>,
    ) -> Deployments {
        Deployments {
            store,
            surroundings,
            disabled: RwLock::new(disabled),
            current: RwLock::default(),
            changes: watch::channel(0).0,
            catalog: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
        }
    }

    /// The current deployment of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Deployment>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.get(&name.to_lowercase()).cloned()
    }

    /// Reports changes of what is deployed and disabled.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Reports a change.
    pub(crate) fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Disables workflows from their next deployment on, by their names in lower case.
    pub(crate) fn set_disabled(&self, names: BTreeSet<String>) {
        *self.disabled.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn is_disabled(&self, name: &str) -> bool {
        let disabled = self.disabled.read().unwrap_or_else(PoisonError::into_inner);
        disabled.contains(&name.to_lowercase())
    }

    /// A file has its own parameters file; a definition from the API belongs to the project that the host serves.
    fn surroundings_of(&self, source: &Source) -> Cow<'_, Surroundings> {
        match source.origin {
            Origin::Api => Cow::Borrowed(&self.surroundings),
            Origin::File => Cow::Owned(Surroundings { parameters_file: None, ..self.surroundings.clone() }),
        }
    }

    /// All deployments, sorted by name.
    pub(crate) fn all(&self) -> Vec<Arc<Deployment>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.values().cloned().collect()
    }

    /// The versions of a name, oldest first.
    pub(crate) fn versions(&self, name: &str) -> Vec<Entry> {
        let catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        catalog.versions(&name.to_lowercase()).cloned().collect()
    }

    /// Reads all versions from the store. Returns the latest definition of every name; only those from the API have their text.
    pub(crate) async fn load(&self) -> Result<Vec<Source>, loom_store::Error> {
        let (mut catalog, mut after) = (Catalog::default(), None);
        let mut latest: BTreeMap<String, Source> = BTreeMap::new();
        // No version is published meanwhile, which would be missing from the new catalog.
        let _publishing = self.publishing.lock().await;
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = self.store.keys(query).await?;
            for found in &page.values {
                let Ok(kept) = Value::parse_json(&found.value) else { continue };
                if let Some((id, source)) = remember(&mut catalog, &kept) {
                    latest.insert(id, source);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = catalog;
        Ok(latest.into_values().collect())
    }

    /// Lists the latest stored version of a workflow from a file as if it were deployed, without the values of its parameters: its
    /// file is not known. For a host that executes nothing.
    pub(crate) fn list_stored(&self, source: &Source) {
        let Some(id) = source.options.name.as_deref().map(str::to_lowercase) else { return };
        let Some(entry) = self.versions(&id).pop() else { return };
        let text = entry.definition.to_json_text();
        // A definition of another build that no longer loads is listed by that build.
        let Ok(loaded) = Definition::parse(text.as_bytes(), &source.options) else { return };
        let deployment = Deployment {
            has_response: responds(&loaded.workflow, false),
            answers_later: responds(&loaded.workflow, true),
            disabled: self.is_disabled(&id),
            parameters: vec![Value::NULL; loaded.workflow.parameters.len()],
            workflow: loaded.workflow,
            version: entry.version,
            warnings: loaded.warnings,
            retired: CancellationToken::new(),
            acting: Mutex::default(),
        };
        self.current.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(deployment));
    }

    /// Loads a definition and binds its parameters.
    pub(crate) fn read(&self, source: &Source) -> Result<Bound, Diagnostics> {
        let mut options = source.options.clone();
        options.script_check.get_or_insert(loom_actions::check_javascript);
        self.surroundings_of(source).load(&source.bytes, &options)
    }

    /// Loads, checks, stores and activates a definition. Returns the deployment and whether it changed. One that is `stored` is
    /// not published again: if it is not the latest version any more, nothing changes.
    pub(crate) async fn deploy(
        &self,
        source: &Source,
        now: i64,
        stored: bool,
    ) -> Result<(Arc<Deployment>, bool), DeployError> {
        let Bound { loaded, parameters } = self.read(source).map_err(DeployError::Refused)?;
        let _publishing = self.publishing.lock().await;
        let workflow = loaded.workflow;
        if source.only_new && !self.versions(&workflow.name).is_empty() {
            return Err(DeployError::Exists);
        }
        if let Some(present) = self.get(&workflow.name)
            && present.workflow.hash == workflow.hash
            && present.parameters == parameters
            && present.disabled == self.is_disabled(&workflow.name)
        {
            return Ok((present, false));
        }
        let version = match self.version_of(&workflow) {
            Ok(version) => version,
            Err(Some(version)) if stored => return Err(DeployError::Overtaken { version }),
            Err(_) => self.publish(&workflow, source, now).await?,
        };
        let deployment = Arc::new(Deployment {
            has_response: responds(&workflow, false),
            answers_later: responds(&workflow, true),
            disabled: self.is_disabled(&workflow.name),
            workflow: Arc::clone(&workflow),
            parameters,
            version,
            warnings: loaded.warnings,
            retired: CancellationToken::new(),
            acting: Mutex::default(),
        });
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = current.insert(workflow.name.to_lowercase(), Arc::clone(&deployment)) {
            before.retired.cancel();
        }
        drop(current);
        self.note_change();
        Ok((deployment, true))
    }

    /// The latest version of a workflow if its definition is the same; otherwise the latest one as an error.
    fn version_of(&self, workflow: &Workflow) -> Result<Version, Option<Version>> {
        let catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = catalog.get(&workflow.name.to_lowercase(), None).ok_or(None)?;
        let definition = Value::from_json_str(&workflow.source).unwrap_or_default();
        if latest.definition == definition { Ok(latest.version) } else { Err(Some(latest.version)) }
    }

    /// Publishes the next version.
    async fn publish(&self, workflow: &Workflow, source: &Source, now: i64) -> Result<Version, DeployError> {
        let id = workflow.name.to_lowercase();
        let definition = Value::from_json_str(&workflow.source).unwrap_or_default();
        let draft =
            Draft { description: workflow.description.clone(), tags: workflow.tags.clone(), definition };
        // The change is made on a copy, which becomes current once the store has committed it.
        let (mut catalog, latest) = {
            let catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
            (catalog.clone(), catalog.get(&id, None).cloned())
        };
        let entry = match latest {
            None => catalog.create(&id, draft, now)?,
            Some(_) => catalog.publish(&id, draft, source.bump, now)?,
        };
        let version = entry.version;
        let mut kept = Object::new();
        kept.insert("id", id.as_str());
        kept.insert("name", Arc::clone(&workflow.name));
        kept.insert("version", version.to_string());
        kept.insert("createdAt", entry.created_at);
        kept.insert("updatedAt", entry.updated_at);
        kept.insert("origin", if source.origin == Origin::Api { "api" } else { "file" });
        kept.insert("description", workflow.description.clone());
        kept.insert("tags", workflow.tags.clone());
        kept.insert("definition", Arc::clone(&workflow.source));
        if source.origin == Origin::Api {
            kept.insert("text", String::from_utf8_lossy(&source.bytes).as_ref());
        }
        let mut commit = Commit::new();
        commit.keys.push(KeyWrite {
            namespace: NAMESPACE.into(),
            key: key(&id, version).into(),
            value: Some(Bytes::from(Value::from(kept).to_json_text())),
            expect: KeyExpectation::Absent,
            ..KeyWrite::default()
        });
        match self.store.commit(commit).await {
            Err(StoreError::Conflict(Conflict::Key { .. })) => {
                return Err(DeployError::Overtaken { version });
            }
            written => drop(written?),
        }
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = catalog;
        Ok(version)
    }

    /// Withdraws a workflow; its versions and runs stay. Returns false if it was not deployed.
    pub(crate) fn withdraw(&self, name: &str) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let gone = current.remove(&name.to_lowercase());
        drop(current);
        self.note_change();
        gone.inspect(|deployment| deployment.retired.cancel()).is_some()
    }

    /// Deletes a workflow with all its versions; `along` is written in the same commit.
    pub(crate) async fn delete(&self, name: &str, along: Vec<KeyWrite>) -> Result<bool, loom_store::Error> {
        let _publishing = self.publishing.lock().await;
        let id = name.to_lowercase();
        let versions = self.versions(&id);
        let mut commit = Commit::new();
        commit.keys.extend(versions.iter().map(|entry| KeyWrite {
            namespace: NAMESPACE.into(),
            key: key(&id, entry.version).into(),
            value: None,
            ..KeyWrite::default()
        }));
        if !versions.is_empty() {
            commit.keys.extend(along);
            self.store.commit(commit).await?;
        }
        let known = self.catalog.lock().unwrap_or_else(PoisonError::into_inner).delete(&id);
        Ok(self.withdraw(name) || known)
    }
}

/// A key that sorts like versions.
fn key(id: &str, version: Version) -> String {
    format!("{id}/{:010}.{:010}.{:010}", version.major, version.minor, version.patch)
}

/// Adds a stored version to the catalog. Versions must be added in order.
fn remember(catalog: &mut Catalog, kept: &Value) -> Option<(String, Source)> {
    let text = |name: &str| kept.get(name).and_then(Value::as_str);
    let id = text("id")?.to_owned();
    let version = Version::parse(text("version")?)?;
    let at = kept.get("updatedAt").and_then(Value::as_i64)?;
    let draft = Draft {
        description: text("description").map(Arc::from),
        tags: kept.get("tags").cloned().unwrap_or_default(),
        definition: Value::from_json_str(text("definition")?).ok()?,
    };
    let last = catalog.get(&id, None).map(|entry| entry.version);
    match last {
        None => catalog.create(&id, draft, at).ok()?,
        Some(last) => {
            let bump = [Bump::Patch, Bump::Minor, Bump::Major];
            let bump = bump.into_iter().find(|bump| last.next(*bump) == version)?;
            catalog.publish(&id, draft, bump, at).ok()?
        }
    };
    let options =
        LoadOptions { name: text("name").map(Arc::from), accepted_before: true, ..LoadOptions::default() };
    let origin = if text("origin") == Some("api") { Origin::Api } else { Origin::File };
    let bytes = text("text").unwrap_or_default().as_bytes().to_vec();
    Some((id, Source { bytes, options, origin, bump: Bump::Patch, only_new: false }))
}
