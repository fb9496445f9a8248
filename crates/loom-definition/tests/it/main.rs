//! Tests of the crate through its public face.

mod arbitrary;
mod conformance;
mod diagnostics;
mod errors_page;
mod loom_spelling;
mod shapes;
mod validator;
