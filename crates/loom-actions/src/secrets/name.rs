//! Names of secrets, as expressions write them: `name`, `name@version`, `provider:name`, `provider:path/of/name#field`.

use super::SecretError;

/// The longest name of the embedded store, of a file and of a variable, in characters.
const NAME_MAX: usize = 127;

/// The longest path, in characters.
const PATH_MAX: usize = 512;

/// A name, taken apart. None of the parts has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) provider: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) version: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Takes a name apart. A given version wins, and the name must then have none.
    pub(super) fn parse(text: &'a str, version: Option<&'a str>) -> Asked<'a> {
        let (provider, rest) = match text.split_once(':') {
            Some((provider, rest)) => (Some(provider), rest),
            None => (None, text),
        };
        match (rest.split_once('@'), version) {
            (Some((name, version)), None) => Asked { provider, name, version: Some(version) },
            (_, version) => Asked { provider, name: rest, version },
        }
    }
}

/// A name as it is stored: names are case-insensitive, like all names of the language.
///
/// # Errors
/// [`SecretError::Name`].
pub(super) fn checked_name(name: &str) -> Result<String, SecretError> {
    if !is_segment(name) || name.len() > NAME_MAX {
        return Err(SecretError::Name { name: name.to_owned() });
    }
    Ok(name.to_ascii_lowercase())
}

/// A path below what a provider is configured to read, and the field of the secret, if one is named. Paths are
/// case-sensitive.
///
/// # Errors
/// [`SecretError::Path`].
pub(super) fn checked_path(text: &str) -> Result<(&str, Option<&str>), SecretError> {
    let (path, field) = match text.split_once('#') {
        Some((path, field)) => (path, Some(field)),
        None => (text, None),
    };
    let is_valid = text.len() <= PATH_MAX
        && path.split('/').all(is_segment)
        && field.is_none_or(|field| !field.is_empty() && field.chars().all(is_allowed));
    if is_valid { Ok((path, field)) } else { Err(SecretError::Path { name: text.to_owned() }) }
}

/// In a directory of secrets, the name is the name of a file, and in a URL it is a segment; one that starts with a dot
/// would lead elsewhere.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && text.chars().all(is_allowed)
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

/// The names that a provider may give: patterns in which `*` stands for any characters.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed(Option<Vec<String>>);

impl Allowed {
    /// Only names that match one of these patterns.
    pub(super) fn only(patterns: Vec<String>) -> Allowed {
        Allowed(Some(patterns))
    }

    /// Whether the provider may give this name. The field of a name is not compared.
    pub(super) fn has(&self, name: &str) -> bool {
        let name = name.split('#').next().unwrap_or_default().to_ascii_lowercase();
        self.0.as_ref().is_none_or(|patterns| {
            patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &name))
        })
    }
}

/// Whether a text matches a pattern. Each part between two asterisks is looked for after the previous one, as early as
/// possible, and the last part must be at the end.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        let parts = |text| {
            let Asked { provider, name, version } = Asked::parse(text, None);
            (provider, name, version)
        };
        assert_eq!(parts("key"), (None, "key", None));
        assert_eq!(parts("key@3"), (None, "key", Some("3")));
        assert_eq!(parts("kv:team/key#user@3"), (Some("kv"), "team/key#user", Some("3")));
        assert_eq!(parts(":key"), (Some(""), "key", None));
        assert_eq!(Asked::parse("kv:key", Some("7")).version, Some("7"));
    }

    #[test]
    fn hostile_names_are_rejected() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a b",
            "ключ",
            "a\0b",
            "a\n",
            "a%2fb",
            "a\\b",
            "é",
            "a@b",
            "a:b",
            "a#b",
            "a?b",
            &"x".repeat(128),
        ] {
            assert!(checked_name(name).is_err(), "{name:?}");
        }
        for path in [
            "",
            "/a",
            "a/",
            "a//b",
            "a/../b",
            "../a",
            "a/./b",
            ".git/a",
            "a/.b",
            "a b",
            "a%2e%2e",
            "a\\..\\b",
            "a?b=c",
            "a#",
            "a#b/c",
            "a#b#c",
            "ключ/a",
            &"a/".repeat(300),
        ] {
            assert!(checked_path(path).is_err(), "{path:?}");
        }
        assert_eq!(checked_path("team/Key_1.a-b#user").unwrap(), ("team/Key_1.a-b", Some("user")));
    }

    #[test]
    fn patterns_allow_names() {
        let allowed = |patterns: &[&str], name: &str| {
            Allowed::only(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()).has(name)
        };
        assert!(Allowed::default().has("anything"));
        assert!(!allowed(&[], "anything"));
        assert!(allowed(&["billing-*"], "Billing-key") && !allowed(&["billing-*"], "other-billing-key"));
        assert!(allowed(&["team/*/key"], "team/a/key#field") && !allowed(&["team/*/key"], "team/a/keys"));
        assert!(allowed(&["a*a"], "aa") && !allowed(&["a*a"], "a"));
        assert!(allowed(&["x", "*"], "y"));
    }
}
