//! Tools to test workflows.
//!
//! - [`cases`]: case files, and the runner that runs them in virtual time; `loom test` prints its reports.
//! - [`mock`]: a scripted HTTP server that records its requests.
//! - [`scenario`]: real-world definitions on the real engine and request handlers, against a mock.
//! - [`flaky`]: an HTTP service that fails on request.
//! - [`wire`]: a server that speaks the APIs of other systems, above all of language models, well and badly.
//! - [`fuzz`]: properties of every parser of external input.
//!
//! ```
//! use std::path::PathBuf;
//!
//! use loom_expression::Timestamp;
//! use loom_testkit::cases::{CaseFile, Runner};
//!
//! let cases = br#"[{
//!     "id": "waits a day",
//!     "definition": {
//!         "triggers": {"manual": {"type": "Request"}},
//!         "actions": {
//!             "Wait": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}},
//!             "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "https://example.com"}, "runAfter": {"Wait": ["Succeeded"]}}
//!         }
//!     },
//!     "mocks": {"Ask": [{"statusCode": 503}, {"statusCode": 200, "body": "ready"}]},
//!     "expected": {"runStatus": "Succeeded", "actions": {"Ask": {"attempts": 2}}}
//! }]"#;
//! let file = CaseFile::parse(cases, "cases.json".to_owned(), PathBuf::new()).expect("the cases are valid");
//! let report = Runner::new(Timestamp::UNIX_EPOCH).run_all(&file, None);
//! assert_eq!(report.counts().to_string(), "1 passed, 0 failed", "{}", report.text());
//! ```

pub mod cases;
pub mod flaky;
pub mod fuzz;
pub mod mock;
pub mod scenario;
mod server;
pub mod wire;

// The guide is about several crates at once, and this one may use them all.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/embedding.md")]
struct Guide;

/// Compiles and runs the example of the readme.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
