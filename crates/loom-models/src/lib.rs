//! The wire formats of language models, without I/O.
//!
//! | to | use |
//! |---|---|
//! | ask a model | [`Request`], then [`Endpoint::encode`] |
//! | read the response | [`Decoder`] and [`Accumulator`] for a stream, [`Endpoint::decode`] for a whole body |
//! | find out what failed | [`ModelError`] |
//! | serve clients of chat completions | [`server`] |
//! | run agents and group chats | [`conversation`] |
//! | give tools to a model that cannot call them | [`emulate_tools`] |
//! | test without a model | [`Script`] and [`Cassette`] |
//! | compute the cost of a call | [`PriceTable`] |
//!
//! Nothing here opens a connection, reads a clock or holds a key. The crate does not know workflows either.

mod answer;
mod cassette;
mod codec;
pub mod conversation;
mod decode;
mod emulate;
mod endpoint;
mod error;
mod frames;
mod json;
mod message;
mod price;
mod request;
mod script;
pub mod server;
mod tokens;
mod wait;

pub use answer::{Accumulator, Answer, Delta, StopReason, Usage};
pub use cassette::{Cassette, CassetteError, Difference, Interaction, Miss, Player, RequestKey};
pub use decode::{Decoder, Limits};
pub use emulate::{emulate_tools, read_emulated};
pub use endpoint::{Api, Dialect, Endpoint, HttpRequest, KeyHeader};
pub use error::{ErrorKind, ModelError, error_of};
pub use json::Json;
pub use message::{Image, ImageSource, Message, Part, Reasoning, Role, ToolCall, ToolResult};
pub use price::{PerMillion, Price, PriceTable};
pub use request::{OutputFormat, OutputSchema, ReasoningEffort, Request, Sampling, Tool, ToolChoice};
pub use script::{NoReply, Script, ScriptState, ScriptedCall, ScriptedReply, When};
pub use tokens::estimate_tokens;
pub use wait::{Head, Limited, RateLimit};

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
