//! Everything about requests that the host program decides. Nothing here reads the environment.

use std::time::Duration;

use crate::{
    artifacts::Artifacts, auth::TokenSettings, client::ClientOptions, connections::Connections,
    egress::Egress, script::ScriptLimits,
};

/// The settings of all handlers. The defaults suit a server on the open Internet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Egress control: where requests may go, and where they are sent instead.
    pub egress: Egress,
    /// Connections, functions, workflows, activities and actors by name.
    pub connections: Connections,
    /// Limits and trusted certificates of the HTTP client.
    pub client: ClientOptions,
    /// Where access tokens come from.
    pub tokens: TokenSettings,
    /// The timeout of one request when its action sets none. Default 120 s.
    pub attempt_timeout: Duration,
    /// The wait between polls when the service names none. Default 1 s.
    pub poll_interval: Duration,
    /// Bodies of at most this many bytes are sent in one request even when their action asks for chunks. Default 1
    /// MiB.
    pub chunk_threshold: usize,
    /// The most bytes in one chunk of a body. Default 1 MiB.
    pub chunk_bytes: usize,
    /// The most pages that one action reads. Default 10,000.
    pub pages_max: usize,
    /// Limits of inline scripts.
    pub scripts: ScriptLimits,
    /// Maps and schemas that actions refer to.
    pub artifacts: Artifacts,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            egress: Egress::default(),
            connections: Connections::default(),
            client: ClientOptions::default(),
            tokens: TokenSettings::default(),
            attempt_timeout: Duration::from_mins(2),
            poll_interval: Duration::from_secs(1),
            chunk_threshold: 1024 * 1024,
            chunk_bytes: 1024 * 1024,
            pages_max: 10_000,
            scripts: ScriptLimits::default(),
            artifacts: Artifacts::default(),
        }
    }
}
