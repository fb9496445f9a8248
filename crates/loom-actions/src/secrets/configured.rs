//! The file that names the secret providers of a host.
//!
//! ```json
//! {"providers": {
//!    "kv": {"type": "vault", "url": "https://vault.example.com:8200", "mount": "secret", "prefix": "loom",
//!           "auth": {"type": "appRole", "roleId": {"file": "/etc/loom/role"}, "secretId": {"file": "/run/secret-id"}},
//!           "names": ["billing/*"], "cache": "PT1M", "staleOnError": "PT10M", "timeout": "PT3S"},
//!    "azure": {"type": "azureKeyVault", "url": "https://loom.vault.azure.net", "auth": {"type": "managedIdentity"}}},
//!  "order": ["embedded", "kv"],
//!  "grants": {"kv:billing/*": ["orders", "bill-*"]}}
//! ```

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use hyper::header::HeaderValue;
use loom_definition::duration::Span;
use loom_engine::ports::Clock;
use loom_expression::{Object, Value};
use zeroize::Zeroizing;

use super::{
    FixedSecrets, NamedProvider, SecretDirectory, SecretProvider, Secrets,
    hashicorp::{self, HashiCorpVault},
    http::{Credential, RESPONSE_BYTES_MAX, Wire},
    key_vault::{self, AzureKeyVault},
    name::Allowed,
    remote::{Guarded, Keeping, RemoteSecrets},
    sources::Grant,
};
use crate::{Client, ClientOptions, Egress, ManagedIdentity, Resolve, SystemResolver, TokenSettings, Url};

/// What the providers of a file are made with.
pub struct ProviderSettings<'a> {
    /// The rules for outgoing requests. URLs of the file are allowed; the map applies to them.
    pub egress: Egress,
    /// Resolves the names of hosts.
    pub resolver: Arc<dyn Resolve>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Environment variables by name, for credentials of providers.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// All environment variables, for providers of the type `env`.
    pub variables: &'a dyn Fn() -> Vec<(String, String)>,
    /// The endpoint that issues tokens for the managed identity of this machine.
    pub managed_identity: ManagedIdentity,
    /// The directory that relative paths in the file start from.
    pub directory: PathBuf,
}

impl<'a> ProviderSettings<'a> {
    /// The resolver of the system, no egress rules, and paths that start from the current directory.
    pub fn new(
        clock: Arc<dyn Clock>,
        variable: &'a dyn Fn(&str) -> Option<String>,
        variables: &'a dyn Fn() -> Vec<(String, String)>,
    ) -> ProviderSettings<'a> {
        ProviderSettings {
            egress: Egress::default(),
            resolver: Arc::new(SystemResolver),
            clock,
            variable,
            variables,
            managed_identity: ManagedIdentity::default(),
            directory: PathBuf::new(),
        }
    }
}

impl std::fmt::Debug for ProviderSettings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderSettings").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Why the file of providers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ProvidersError {
    /// Where in the file: `providers.kv.auth`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// Adds the providers of a file to those that the host has anyway, in the order that the file gives, with the grants of the
/// file.
///
/// # Errors
/// [`ProvidersError`], which says where.
pub fn configured(
    file: &Value,
    own: Vec<NamedProvider>,
    settings: &ProviderSettings<'_>,
) -> Result<Secrets, ProvidersError> {
    let mut file = Members::of(file, "the file")?;
    let providers = file.object("providers")?;
    let mut known = own;
    for (name, value) in &providers {
        let place = format!("providers.{name}");
        let wrong = |reason: String| ProvidersError { place: place.clone(), reason };
        let is_name = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        if name.is_empty() || name.len() > 40 || !is_name {
            return Err(wrong("a provider's name must be 1 to 40 letters, digits and '-'".to_owned()));
        }
        let mut members = Members::of(value, &place)?;
        let allowed = members.names()?;
        let provider = provider(name, members, settings)?;
        let named = NamedProvider { name: Arc::clone(name), provider, allowed, is_default: false };
        match known.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name)) {
            // The operator describes a provider that the host has anyway.
            Some(known) if known.provider.kind() == named.provider.kind() => {
                *known = NamedProvider { is_default: known.is_default, ..named };
            }
            Some(_) => return Err(wrong("this name belongs to a provider that every host has".to_owned())),
            None => known.push(named),
        }
    }
    if let Some(order) = file.list("order")? {
        known = ordered(known, &order)?;
    }
    let grants = grants(&file.object("grants")?, &known)?;
    file.done()?;
    Ok(Secrets::granting(known, grants))
}

/// Which workflows may read secrets that not all may read: `{"PROVIDER:NAME": [WORKFLOW, …]}`.
fn grants(listed: &Object, known: &[NamedProvider]) -> Result<Vec<Grant>, ProvidersError> {
    let mut grants = Vec::with_capacity(listed.len());
    for (secrets, workflows) in listed {
        let wrong = |reason: String| ProvidersError { place: format!("grants.{secrets}"), reason };
        let Some((provider, _)) = secrets.split_once(':') else {
            return Err(wrong(
                "a grant names a secret with its provider, such as 'embedded:api-key'".to_owned(),
            ));
        };
        if !provider.contains('*') && !known.iter().any(|known| known.name.eq_ignore_ascii_case(provider)) {
            let names: Vec<&str> = known.iter().map(|named| &*named.name).collect();
            return Err(wrong(format!(
                "there is no provider '{provider}' (there are: {})",
                names.join(", ")
            )));
        }
        if secrets.contains(['#', '@']) {
            return Err(wrong(
                "a grant is for all fields and versions of a secret; remove what follows the name".to_owned(),
            ));
        }
        let names = workflows.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        let workflows = names.ok_or_else(|| wrong("expected an array with names of workflows".to_owned()))?;
        let secrets = Allowed::only(vec![secrets.to_string()]);
        grants.push(Grant { secrets, workflows: Allowed::only(workflows) });
    }
    Ok(grants)
}

/// The providers, those of `order` first and as the only defaults.
fn ordered(known: Vec<NamedProvider>, order: &[String]) -> Result<Vec<NamedProvider>, ProvidersError> {
    let wrong = |reason: String| ProvidersError { place: "order".to_owned(), reason };
    let names: Vec<&str> = known.iter().map(|named| &*named.name).collect();
    let mut seen = BTreeSet::new();
    for name in order {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(wrong(format!("there is no provider '{name}' (there are: {})", names.join(", "))));
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(wrong(format!("'{name}' is in the list twice")));
        }
    }
    let place = |named: &NamedProvider| order.iter().position(|name| name.eq_ignore_ascii_case(&named.name));
    let mut known: Vec<NamedProvider> = known
        .into_iter()
        .map(|named| NamedProvider { is_default: place(&named).is_some(), ..named })
        .collect();
    known.sort_by_key(|named| place(named).unwrap_or(usize::MAX));
    Ok(known)
}

const TYPES: &str = "env, files, vault or azureKeyVault";

fn provider(
    name: &str,
    mut members: Members<'_>,
    settings: &ProviderSettings<'_>,
) -> Result<Arc<dyn SecretProvider>, ProvidersError> {
    let kind = members.text("type")?;
    Ok(match kind.as_str() {
        "env" => {
            let prefix = members.text("prefix")?;
            if prefix.is_empty() {
                return Err(members.wrong("'prefix' must not be empty: it would give all variables away"));
            }
            members.done()?;
            let found = FixedSecrets::of_variables(&prefix, (settings.variables)());
            Arc::new(found.map_err(|error| members.wrong(error.to_string()))?)
        }
        "files" => {
            let directory = settings.directory.join(members.text("directory")?);
            members.done()?;
            if !directory.is_dir() {
                return Err(members.wrong(format!("'{}' is not a directory", directory.display())));
            }
            Arc::new(SecretDirectory::new(directory))
        }
        "vault" => {
            let (wire, keeping) = wire(name, &mut members, settings)?;
            let (mount, prefix) = (
                members.optional("mount")?.unwrap_or_else(|| "secret".to_owned()),
                members.optional("prefix")?.unwrap_or_default(),
            );
            let namespace = members.optional("namespace")?;
            let namespace = namespace.map(|namespace| HeaderValue::from_str(&namespace)).transpose();
            let namespace = namespace.map_err(|_| members.wrong("'namespace' cannot be sent in a header"))?;
            let login = vault_login(&mut members, settings)?;
            members.done()?;
            guarded(name, HashiCorpVault::new(wire, &mount, &prefix, namespace, login), keeping, settings)
        }
        "azureKeyVault" => {
            let (wire, keeping) = wire(name, &mut members, settings)?;
            let api_version = members.optional("apiVersion")?.unwrap_or_else(|| "7.4".to_owned());
            let audience = members.optional("audience")?;
            let audience = audience.unwrap_or_else(|| "https://vault.azure.net".to_owned());
            let (login, mut tokens) = azure_login(&mut members, settings)?;
            tokens.timeout = keeping.timeout + Duration::from_secs(1);
            members.done()?;
            let vault = AzureKeyVault::new(
                wire,
                (&api_version, &audience),
                login,
                tokens,
                Arc::clone(&settings.clock),
            );
            guarded(name, vault, keeping, settings)
        }
        other => return Err(members.wrong(format!("'type' must be {TYPES} (got '{other}')"))),
    })
}

fn guarded<P: RemoteSecrets + 'static>(
    name: &str,
    inner: P,
    keeping: Keeping,
    settings: &ProviderSettings<'_>,
) -> Arc<dyn SecretProvider> {
    Arc::new(Guarded::new(name, inner, keeping, Arc::clone(&settings.clock)))
}

/// The members that providers on other machines share.
fn wire(
    name: &str,
    members: &mut Members<'_>,
    settings: &ProviderSettings<'_>,
) -> Result<(Wire, Keeping), ProvidersError> {
    let url = members.text("url")?;
    let base = Url::parse(&url).map_err(|error| members.wrong(format!("'url': {error}")))?;
    let is_here = matches!(base.host(), "localhost" | "127.0.0.1" | "[::1]" | "::1");
    if !base.is_https() && !is_here {
        return Err(members.wrong("'url' must begin with https://, because secrets are sent over it"));
    }
    let timeout = members.duration("timeout", Duration::from_secs(3))?;
    if timeout.is_zero() || timeout > Duration::from_secs(9) {
        return Err(members.wrong("'timeout' must be more than 0 and at most 9 seconds"));
    }
    let keeping = Keeping {
        fresh: members.duration("cache", Duration::from_mins(1))?,
        stale: members.duration("staleOnError", Duration::from_mins(10))?,
        timeout,
    };
    let mut roots = Vec::new();
    if let Some(path) = members.optional("caFile")? {
        let path = settings.directory.join(path);
        let read = fs::read_to_string(&path);
        roots.push(read.map_err(|error| members.wrong(format!("cannot read {}: {error}", path.display())))?);
    }
    let options = ClientOptions {
        body_bytes_max: RESPONSE_BYTES_MAX,
        connect_timeout: timeout + Duration::from_secs(1),
        extra_roots_pem: roots,
        ..ClientOptions::default()
    };
    let client = Client::new(options, Arc::new(settings.egress.clone()), Arc::clone(&settings.resolver));
    let client = client.map_err(|error| members.wrong(format!("'caFile': {error}")))?;
    // The timeout of the attempt decides; that of the client ends what is left of it.
    let timeout = timeout + Duration::from_secs(1);
    Ok((Wire { provider: name.into(), client, base, timeout }, keeping))
}

fn vault_login(
    members: &mut Members<'_>,
    settings: &ProviderSettings<'_>,
) -> Result<hashicorp::Login, ProvidersError> {
    let mut auth = members.members("auth")?;
    let login = match auth.text("type")?.as_str() {
        "token" => hashicorp::Login::Token(auth.credential("token", settings)?),
        "appRole" => hashicorp::Login::AppRole {
            mount: auth.optional("mount")?.unwrap_or_else(|| "approle".to_owned()),
            role: auth.credential("roleId", settings)?,
            secret: auth.credential("secretId", settings)?,
        },
        other => return Err(auth.wrong(format!("'type' must be token or appRole (got '{other}')"))),
    };
    auth.done()?;
    Ok(login)
}

fn azure_login(
    members: &mut Members<'_>,
    settings: &ProviderSettings<'_>,
) -> Result<(key_vault::Login, TokenSettings), ProvidersError> {
    let mut auth = members.members("auth")?;
    let mut tokens =
        TokenSettings { managed_identity: settings.managed_identity.clone(), ..TokenSettings::default() };
    let login = match auth.text("type")?.as_str() {
        "managedIdentity" => key_vault::Login::ManagedIdentity { client_id: auth.optional("clientId")? },
        "clientCredentials" => {
            if let Some(authority) = auth.optional("authority")? {
                tokens.authority =
                    Url::parse(&authority).map_err(|error| auth.wrong(format!("'authority': {error}")))?;
            }
            key_vault::Login::ClientCredentials {
                tenant: auth.text("tenant")?,
                client_id: auth.text("clientId")?,
                secret: auth.credential("clientSecret", settings)?,
            }
        }
        other => {
            return Err(
                auth.wrong(format!("'type' must be clientCredentials or managedIdentity (got '{other}')"))
            );
        }
    };
    auth.done()?;
    Ok((login, tokens))
}

/// The members of an object, each of which must be known.
struct Members<'a> {
    place: String,
    object: &'a Object,
    taken: BTreeSet<&'static str>,
}

impl<'a> Members<'a> {
    fn of(value: &'a Value, place: &str) -> Result<Members<'a>, ProvidersError> {
        let object = value.as_object().ok_or_else(|| ProvidersError {
            place: place.to_owned(),
            reason: format!("expected an object, found {}", value.kind()),
        })?;
        Ok(Members { place: place.to_owned(), object, taken: BTreeSet::new() })
    }

    fn wrong(&self, reason: impl Into<String>) -> ProvidersError {
        ProvidersError { place: self.place.clone(), reason: reason.into() }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.taken.insert(name);
        self.object.get(name)
    }

    fn optional(&mut self, name: &'static str) -> Result<Option<String>, ProvidersError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = value.as_str().map(str::to_owned);
        text.map(Some).ok_or_else(|| self.wrong(format!("'{name}' must be a string, found {}", value.kind())))
    }

    fn text(&mut self, name: &'static str) -> Result<String, ProvidersError> {
        self.optional(name)?.ok_or_else(|| self.wrong(format!("'{name}' is missing")))
    }

    fn duration(&mut self, name: &'static str, otherwise: Duration) -> Result<Duration, ProvidersError> {
        let Some(text) = self.optional(name)? else { return Ok(otherwise) };
        let span = Span::parse_iso8601(&text).ok();
        span.map(Span::approximate)
            .ok_or_else(|| self.wrong(format!("'{name}' must be a duration such as PT1M (got '{text}')")))
    }

    fn list(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ProvidersError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let items = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        items.map(Some).ok_or_else(|| self.wrong(format!("'{name}' must be an array of strings")))
    }

    fn names(&mut self) -> Result<Allowed, ProvidersError> {
        Ok(self.list("names")?.map_or_else(Allowed::default, Allowed::only))
    }

    fn object(&mut self, name: &'static str) -> Result<Object, ProvidersError> {
        let Some(value) = self.take(name) else { return Ok(Object::new()) };
        value.as_object().cloned().ok_or_else(|| self.wrong(format!("'{name}' must be an object")))
    }

    fn members(&mut self, name: &'static str) -> Result<Members<'a>, ProvidersError> {
        let value = self.take(name).ok_or_else(|| self.wrong(format!("'{name}' is missing")))?;
        Members::of(value, &format!("{}.{name}", self.place))
    }

    /// `{"file": PATH}` or `{"variable": NAME}`. The file itself never contains a credential.
    fn credential(
        &mut self,
        name: &'static str,
        settings: &ProviderSettings<'_>,
    ) -> Result<Credential, ProvidersError> {
        let mut source = match self.take(name) {
            Some(value) if value.as_object().is_some() => {
                Members::of(value, &format!("{}.{name}", self.place))?
            }
            Some(_) => {
                return Err(self.wrong(format!(
                    "'{name}' must be {{\"file\": PATH}} or {{\"variable\": NAME}}; the credential itself does not belong into this file"
                )));
            }
            None => return Err(self.wrong(format!("'{name}' is missing"))),
        };
        let (file, variable) = (source.optional("file")?, source.optional("variable")?);
        source.done()?;
        match (file, variable) {
            (Some(file), None) => Ok(Credential::File(settings.directory.join(file))),
            (None, Some(variable)) => match (settings.variable)(&variable) {
                Some(text) if !text.is_empty() => Ok(Credential::Text(Zeroizing::new(text))),
                _ => Err(source.wrong(format!("the environment variable {variable} is not set"))),
            },
            _ => Err(source.wrong("give either 'file' or 'variable'")),
        }
    }

    /// Checks that every member was known.
    fn done(&self) -> Result<(), ProvidersError> {
        let unknown = self.object.iter().find(|(name, _)| !self.taken.contains(name.as_ref()));
        match unknown {
            None => Ok(()),
            Some((name, _)) => {
                let known: Vec<&str> = self.taken.iter().copied().collect();
                Err(self.wrong(format!("unknown property '{name}'; use {}", known.join(", "))))
            }
        }
    }
}
