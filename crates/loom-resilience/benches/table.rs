//! `cargo bench -p loom-resilience`: prints our parts beside their peers, in one table.
//!
//! The peers live in a package of their own, `benches/peers`, outside the workspace, so that building
//! or testing this crate does not build them.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // A run of all targets as tests comes here without this argument, and should not measure anything.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/Cargo.toml");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--manifest-path", manifest])
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}
