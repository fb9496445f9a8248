//! Digests of the settings that have to be the same on all nodes of a cluster, so that nodes can say in what they differ.
//!
//! Names are compared, and the text of policies; never the value of a secret, a parameter or an app setting.

use std::{fmt::Write as _, sync::Arc};

use crate::{config::Values, run::Settings};

/// The digests: `name=digest`, separated by commas.
pub(super) fn of(settings: &Settings, values: &Values) -> Arc<str> {
    let digests = [
        ("connections", connections(settings)),
        ("parameters", parameters(settings)),
        ("policies", policies(settings)),
        ("public-url", values.public_url.clone().unwrap_or_default()),
        ("secrets", secrets(settings, values)),
    ];
    let digests = digests.map(|(name, content)| format!("{name}={}", digest(name, &content)));
    digests.join(",").into()
}

/// The first eight hexadecimal digits are enough to notice a difference that nobody has made on purpose.
fn digest(name: &str, content: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("Loom settings of nodes");
    hasher.update(name.as_bytes()).update(&[0]).update(content.as_bytes());
    hasher.finalize().to_hex()[..8].to_owned()
}

fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.join("\n")
}

fn connections(settings: &Settings) -> String {
    lines(settings.connections().names())
}

/// The names of parameters and app settings.
fn parameters(settings: &Settings) -> String {
    let project = settings.project();
    let parameters = project.parameters.as_ref().and_then(loom_expression::Value::as_object);
    let parameters = parameters.into_iter().flat_map(|object| object.iter().map(|(name, _)| name.as_ref()));
    let app_settings = project.app_setting_list();
    lines(parameters.chain(app_settings.iter().map(|(name, _)| name.as_ref())))
}

/// What applies to each service, with the values of `resilience.json`.
fn policies(settings: &Settings) -> String {
    let policies = settings.policies();
    let mut text = String::new();
    for name in policies.names() {
        let Ok(service) = policies.service(name) else { continue };
        for setting in &service.settings {
            let value = setting.value.as_ref().map(loom_expression::Value::to_json_text).unwrap_or_default();
            writeln!(text, "{name}{}={value}", setting.pointer).ok();
        }
    }
    text
}

/// The providers, and the names of the secrets in the directory of secrets.
fn secrets(settings: &Settings, values: &Values) -> String {
    let mut text = String::new();
    for provider in settings.secrets().providers() {
        writeln!(text, "{} {}", provider.name, provider.kind).ok();
    }
    let files = values.secrets_dir.iter().filter_map(|directory| std::fs::read_dir(directory).ok());
    let names = files.flatten().flatten().filter_map(|file| file.file_name().into_string().ok());
    let names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    text + &lines(names.iter().map(String::as_str))
}
