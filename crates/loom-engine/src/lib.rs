//! Executes workflows written in the Workflow Definition Language: events, state, scheduling, timers, recovery.
//!
//! - [`Engine`] runs workflows on tokio. It calls the registered handlers and, with a store, makes runs durable, so that
//!   they survive crashes and restarts.
//! - [`Run`] is the pure state machine inside: it turns commands into [events](Event), and its state is the fold of its
//!   events.
//! - [`simulate`] runs the same machine in virtual time, for tests.
//!
//! Every effect is behind a trait in [`ports`]: the engine itself knows no HTTP, files or terminals. `loom-actions`
//! provides handlers for the language's own action types.
//!
//! ```
//! use loom_definition::{Definition, LoadOptions, RunStatus};
//! use loom_engine::{Engine, RunRequest};
//! use loom_expression::Value;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let definition = br#"{
//!     "triggers": {"manual": {"type": "Request"}},
//!     "actions": {"Greet": {"type": "Compose", "inputs": "Hello, @{triggerBody()}!", "runAfter": {}}},
//!     "outputs": {"greeting": {"type": "String", "value": "@outputs('Greet')"}}
//! }"#;
//! let workflow = Definition::parse(definition, &LoadOptions::default())?.workflow;
//!
//! let engine = Engine::builder().build();
//! let request = RunRequest::manual(workflow, Vec::new(), Some(Value::from("world")));
//! let report = engine.run(request).await?.expect("one run starts and ends");
//! assert_eq!(report.status, RunStatus::Succeeded);
//! let outputs = report.outputs.as_ref().expect("the workflow has outputs");
//! assert_eq!(outputs.get("greeting"), Some(&Value::from("Hello, world!")));
//! # Ok(()) }
//! ```

mod apply;
pub mod audit;
mod budgets;
mod call_kinds;
mod call_memory;
mod callback;
mod chaos;
mod children;
pub mod clock;
mod compute;
pub mod credentials;
mod data;
mod decide;
mod driver;
mod durable;
mod ended;
mod engine;
mod envelope;
mod environment;
pub mod event;
pub mod facts;
pub mod fire;
mod flights;
mod gather;
mod guard;
mod handoff;
pub mod history;
pub mod http_status;
mod illegal;
pub mod journal;
mod legal;
mod live;
pub mod live_text;
mod machine;
mod memory;
mod messages;
mod names;
mod orders;
mod other_runs;
mod parked;
mod path;
mod patience;
mod policies;
pub mod pool;
pub mod ports;
mod presence;
mod questions;
mod random;
mod reads;
mod ready;
mod record;
mod resilience;
mod resubmit;
mod retry;
mod run_handle;
mod run_report;
pub mod schema;
mod scope;
pub mod script;
mod shared;
mod signals;
pub mod simulate;
mod slice;
mod sorted;
mod spent;
mod start;
mod state;
mod suspects;
mod time;
pub mod trace;
mod trace_parent;
mod trail;
mod trigger;
mod turn;
mod types;
mod unloadable;
mod watcher;
mod work;

pub use budgets::Budgets;
pub use callback::Callbacks;
pub use ended::ENDED_RUNS;
pub use engine::{Delivered, Engine, EngineBuilder, PolicyInUse, Recovered, trigger_shard};
pub use environment::{Environment, label_settings};
pub use event::{Command, EffectId, Event, OpeningId, Outcome, Place, Purpose, RunId, RunStart, TimerId};
pub use illegal::IllegalEvent;
pub use journal::{JOURNAL_FORMAT, status_from_number, status_number};
pub use machine::Run;
pub use memory::execute as execute_memory;
pub use orders::Order;
pub use path::{Iteration, Path};
pub use policies::PolicyBook;
pub use ports::{Secret, SecretFuture, SecretSource};
pub use presence::{Presence, Present};
pub use questions::{Answer, AnswerError, Ask, OpenQuestions, Question, questions};
pub use random::format_uuid;
pub use resubmit::ResubmitError;
pub use run_handle::RunHandle;
pub use run_report::RunReport;
pub use shared::gate::Permit;
pub use signals::{SIGNAL_NAME_MAX, SIGNALS_MAX, Signal, SignalError};
pub use start::{Accepted, FiringCommit, RunRequest, StartError, Started};
pub use state::{RunState, Timer};
pub use trail::{Step, Trail};
pub use trigger::{BodyRefused, TriggerView};
pub use unloadable::RecoverError;
pub use watcher::Watcher;

/// Compiles and runs the example of the readme.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
