//! The parameters of a connection, as a description declares them.

use loom_expression::Value;

/// A parameter of a connection, as the description declares it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectionParameter {
    /// The name.
    pub name: String,
    /// The type as written: `string`, `securestring`, `int`, `bool`, `oauthSetting` and others.
    pub kind: String,
    /// Whether a connection must have it.
    pub required: bool,
    /// What it is, in the words of the description.
    pub description: String,
    /// The value that is used when a connection has none.
    pub default: Option<Value>,
    /// The values that are allowed; empty when all are.
    pub allowed: Vec<Value>,
    /// The address of the token endpoint for refreshing, if the description has it. It may contain `{name}` for other
    /// parameters.
    pub token_url: Option<String>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
}

impl ConnectionParameter {
    /// Whether values of it are secret.
    pub fn is_secret(&self) -> bool {
        let kind = self.kind.to_ascii_lowercase();
        kind.contains("secure") || kind == "oauthsetting"
    }

    /// Whether it stands for a token of OAuth 2.0.
    pub fn is_oauth(&self) -> bool {
        self.kind.eq_ignore_ascii_case("oauthSetting")
    }
}
