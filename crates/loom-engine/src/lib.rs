//! What a run does next: events, state, scheduler, timers, recovery.
//!
//! The core is a pure state machine, [`Run`]: commands go in, events come out, and the state is the fold of the events.
//! Around it stand a shell that makes the calls the events ask for, and a simulation that plays whole runs in no time.
//! Every effect is behind a port; nothing here knows HTTP, files or terminals.

mod apply;
mod budgets;
mod callback;
mod children;
pub mod clock;
mod compute;
pub mod credentials;
mod data;
mod decide;
mod driver;
mod durable;
mod engine;
pub mod event;
pub mod fire;
mod flights;
mod gather;
mod guard;
pub mod history;
pub mod http_status;
pub mod journal;
mod live;
mod machine;
mod names;
mod orders;
pub mod ports;
mod random;
mod record;
mod resilience;
mod resubmit;
mod retry;
pub mod schema;
mod scope;
pub mod script;
mod signals;
pub mod simulate;
mod sorted;
mod spent;
mod state;
mod suspects;
mod time;
pub mod trace;
mod trigger;
mod types;
mod work;

pub use budgets::Budgets;
pub use callback::Callbacks;
pub use durable::RecoverError;
pub use engine::{
    Accepted, Along, Delivered, Engine, EngineBuilder, Recovered, RunHandle, RunReport, RunRequest,
    StartError, Started, Watcher,
};
pub use event::{Command, EffectId, Event, FrameId, Outcome, Place, RunId, RunStart, TimerId};
pub use journal::{status_number, status_of_number};
pub use machine::{Environment, Run, SecretSource, label_settings};
pub use orders::Order;
pub use random::format_uuid;
pub use resubmit::ResubmitError;
pub use signals::{SIGNAL_NAME_MAX, SIGNALS_MAX, Signal, SignalError};
pub use state::{RunState, Timer};
pub use trigger::TriggerView;
