//! Everything that a host program decides about requests. Nothing here reads the environment.

use std::time::Duration;

use crate::{
    artifacts::Artifacts, auth::TokenSettings, client::ClientOptions, connections::Connections,
    egress::Egress, script::ScriptLimits,
};

/// The settings of all handlers. The default suits a server on the open Internet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests may and do go.
    pub egress: Egress,
    /// Services by name.
    pub connections: Connections,
    /// Limits and trust.
    pub client: ClientOptions,
    /// Where tokens come from.
    pub tokens: TokenSettings,
    /// How long one request may take when its action does not say: 120 s.
    pub attempt_timeout: Duration,
    /// The wait between polls when the service does not say: 1 s.
    pub poll_interval: Duration,
    /// Bodies of up to so many bytes go out in one request, also when their action asks for pieces: 1 MiB.
    pub chunk_threshold: usize,
    /// The most bytes of one piece of a body sent in pieces: 1 MiB.
    pub chunk_bytes: usize,
    /// The most pages that one action reads: 10,000.
    pub pages_max: usize,
    /// What inline scripts may take.
    pub scripts: ScriptLimits,
    /// Maps and schemas that actions name.
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
