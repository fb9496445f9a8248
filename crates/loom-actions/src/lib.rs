//! The effects of workflow actions: HTTP requests and everything that is called over HTTP, user code, stateful
//! actors, inline scripts and data transformations; and the secrets of the host.
//!
//! Each handler makes one attempt and reports its result. Retries, circuit breakers, rate limiters and timeouts are
//! applied around the handlers, not in them. Nothing in this crate knows how a run is recorded, prints, or reads the
//! environment; the host program passes [`Settings`].

mod activity;
mod actor;
mod agent;
mod artifacts;
mod auth;
mod client;
mod connections;
mod content;
mod described;
mod egress;
mod failure;
mod handlers;
mod headers;
mod mcp;
mod models;
mod project;
mod providers;
mod requests;
mod script;
pub mod secrets;
mod settings;
mod transforms;
mod triggers;
mod url;

pub use loom_engine::http_status::{is_transient, status_code};

#[cfg(feature = "javascript")]
pub use self::script::check_javascript;
pub use self::{
    activity::{Activities, ActivityCall, ActivityHandler, UserError},
    actor::{ActorCall, ActorHandler, ActorReply, Actors},
    agent::AgentHandler,
    artifacts::{ArtifactKind, Artifacts},
    auth::{ManagedIdentity, TokenSettings},
    client::{Client, ClientOptions, Identity, Reply, Request, Resolve, Streamed, SystemResolver, TlsError},
    connections::{Connections, ConnectionsError, Service, Sources},
    content::{
        Body, DecodeError, EncodeError, boundary_of, decode, decode_form, decode_leniently, decode_multipart,
        decode_within, encode, encode_form,
    },
    described::CallProblem,
    egress::{Egress, EgressError},
    failure::Failure,
    handlers::{RequestHandler, remote_workflow_handler, request_handlers, requests},
    headers::Marks,
    models::ModelHandler,
    project::{HostLimit, HostLimitKind, PoliciesError, Project, ProjectError, RESILIENCE},
    requests::{Answer, Behaviour, Progress, Requests, Spec, WallClock},
    script::{ScriptHandler, ScriptLimits},
    settings::Settings,
    transforms::transform_handlers,
    triggers::TriggerRequests,
    url::{URL_BYTES_MAX, Url, UrlError},
};

/// Whether a PKCS#12 archive opens with a password. For tests that pass arbitrary bytes to the parser; not part of
/// the public interface.
#[doc(hidden)]
pub fn opens_pkcs12(archive: &[u8], password: &str) -> bool {
    client::pfx::open(archive, password).is_ok()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
