//! `loom example`: the built-in examples and the service that they call.

mod killed;
mod remote;

use std::{fmt::Write, path::Path, process::Command, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use loom_definition::diagnostic::nearest;
use loom_testkit::flaky::Flaky;

use crate::{
    args::{ExampleArgs, RunWith},
    chaos,
    config::Config,
    console::Console,
    exit::Exit,
    live::{Live, Style},
    run::{self, Source},
};

/// One example.
struct Example {
    name: &'static str,
    title: &'static str,
    definition: &'static str,
    /// Child workflows: file name and definition.
    children: &'static [(&'static str, &'static str)],
    /// Its connections file.
    connections: Option<&'static str>,
    /// Whether it calls the service, whose URL it takes as a parameter.
    service: bool,
    /// Paths of the service whose number of calls is reported.
    counted: &'static [(&'static str, &'static str)],
}

/// What `loom example chaos` injects.
const CHAOS: &str = include_str!("../assets/examples/chaos/chaos.json");

/// The name of the tour, and the examples that it runs.
const TOUR: &str = "resilience";
const PARTS: [&str; 10] = [
    "retry-backoff",
    "retry-policy",
    "timeout",
    "circuit-breaker",
    "rate-limit",
    "scope-cleanup",
    "all-together",
    "observe",
    "fallback",
    "chaos",
];

/// The example that runs in separate processes.
const KILLED: &str = "durable";

/// The example that calls a server.
const REMOTE: &str = "loom-to-loom";

macro_rules! example {
    ($name:literal, $title:literal, service: $service:literal, counted: $counted:expr $(, child: $child:literal)*) => {
        Example {
            name: $name,
            title: $title,
            definition: include_str!(concat!("../assets/examples/", $name, "/workflow.json")),
            children: &[$((
                concat!($child, ".json"),
                include_str!(concat!("../assets/examples/", $name, "/", $child, ".json")),
            ))*],
            connections: None,
            service: $service,
            counted: $counted,
        }
    };
}

/// All examples; the best one to start with comes first.
const EXAMPLES: &[Example] = &[
    example!("flaky", "a workflow that survives a failing service", service: true,
        counted: &[("/flaky", "the quote"), ("/down", "billing, for six customers"), ("/ok", "the rest")]),
    example!("durable", "a run that survives kill -9 and resumes in another process", service: true, counted: &[]),
    example!("retry-backoff", "retries with exponential backoff: 503 twice, then 200", service: true, counted: &[]),
    example!("retry-policy", "a Retry action that repeats a block of actions until it succeeds", service: true, counted: &[]),
    example!("timeout", "an action with a timeout, and the action that handles it", service: true, counted: &[]),
    example!("circuit-breaker", "a circuit breaker that opens after three failures", service: true,
        counted: &[("/down", "of five")]),
    example!("rate-limit", "three calls per second; the others wait in a queue", service: true, counted: &[]),
    example!("scope-cleanup", "a Scope of three steps, with cleanup if one of them fails", service: true, counted: &[]),
    example!("all-together", "timeout, retries, rate limiter and circuit breaker on one action", service: true, counted: &[]),
    example!("observe", "a circuit breaker that watches and refuses nothing", service: true,
        counted: &[("/down", "of five")]),
    example!("fallback", "a value in place of a call that fails", service: true, counted: &[]),
    example!("chaos", "injected faults, and the retries that survive them", service: true, counted: &[("/ok", "of six")]),
    example!("loops", "Foreach, Until, While, and a Switch in a loop", service: false, counted: &[]),
    example!("child-workflow", "a workflow that calls a child workflow", service: false, counted: &[], child: "price"),
    example!("loom-to-loom", "a workflow that calls another Loom by its own API document", service: false, counted: &[], child: "prices"),
    example!("paging", "an HTTP action that follows all pages of a list", service: true, counted: &[]),
    Example {
        connections: Some(include_str!("../assets/examples/agent/connections.json")),
        ..example!("agent", "agents that use tools and hand over, with a scripted model", service: false, counted: &[])
    },
    Example {
        connections: Some(include_str!("../assets/examples/group-chat/connections.json")),
        ..example!("group-chat", "a group chat: a coordinator selects who speaks, with a scripted model", service: false, counted: &[])
    },
    example!("mcp", "an agent with the tools of an MCP server, which is a program of the example", service: false, counted: &[]),
    example!("memory", "counters, lists, sets and hashes that concurrent iterations share", service: false, counted: &[]),
    example!("inline-script", "JavaScript that computes a total, and JavaScript that fails", service: false, counted: &[]),
    example!("secrets", "a secret from a provider: sent to a service, and shown nowhere", service: true, counted: &[]),
];

/// Runs the command.
pub(crate) fn command(args: &ExampleArgs, console: Console) -> Result<Exit> {
    let Some(name) = &args.name else {
        print!("{}", list());
        return Ok(Exit::Success);
    };
    if name == TOUR {
        return tour(args, console);
    }
    let names = EXAMPLES.iter().map(|example| example.name).chain([TOUR]);
    let found = EXAMPLES.iter().find(|example| example.name == name.as_str());
    let example = found.ok_or_else(|| match nearest(name, names) {
        Some(meant) => anyhow!("unknown example `{name}`; did you mean `loom example {meant}`?"),
        None => anyhow!("unknown example `{name}`; the examples are\n{}", list().trim_end()),
    })?;
    if args.show {
        print!("{}", example.definition);
        return Ok(Exit::Success);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(execute(example, args.connections.as_deref(), console))
}

/// Runs the parts of the tour, one after the other.
fn tour(args: &ExampleArgs, console: Console) -> Result<Exit> {
    if args.show {
        bail!(
            "`resilience` runs other examples; print one of them, such as `loom example {} --show`",
            PARTS[0]
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut exit = Exit::Success;
    for (index, part) in PARTS.iter().enumerate() {
        let Some(example) = EXAMPLES.iter().find(|example| example.name == *part) else { continue };
        eprintln!("{}Part {} of {}", if index == 0 { "" } else { "\n" }, index + 1, PARTS.len());
        exit = exit.worse(runtime.block_on(execute(example, None, console))?);
    }
    Ok(exit)
}

const NO_PROCESS: &str = "cannot start a second process of this program";

/// Prints a command as it would be typed, and prepares it.
fn typed(arguments: &[&str]) -> Result<Command> {
    eprintln!("$ loom {}", arguments.join(" "));
    let mut command =
        Command::new(std::env::current_exe().context("cannot determine the path of this program")?);
    command.args(arguments);
    Ok(command)
}

fn list() -> String {
    let width = EXAMPLES.iter().map(|example| example.name.len()).max().unwrap_or(0);
    let entries = EXAMPLES.iter().map(|example| (example.name, example.title));
    let entries = entries.chain([(TOUR, "ten of these in a row: a tour of resilience")]);
    entries.fold(String::new(), |mut text, (name, title)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  loom example {name:width$}  {title}");
        text
    })
}

/// Writes secrets into a directory, as an orchestrator mounts them, and describes it as a provider. The directory is removed
/// when the returned value is dropped.
fn mount_secrets(config: &mut Config) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let mounted = directory.path().join("mounted");
    let providers = directory.path().join("providers.json");
    let write = || {
        std::fs::create_dir(&mounted)?;
        std::fs::write(mounted.join("billing-key"), "the-key-of-the-billing-service\n")?;
        std::fs::write(mounted.join("payroll-key"), "the-key-of-the-payroll-service\n")?;
        std::fs::write(&providers, include_str!("../assets/examples/secrets/providers.json"))
    };
    write().context("cannot write the secrets of the example")?;
    config.values.secret_providers = Some(providers);
    Ok(directory)
}

/// Writes a program and the connections file that names it into a directory. The directory is removed when the returned value is
/// dropped.
fn mount_server(config: &mut Config) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let connections = directory.path().join("connections.json");
    let write = || {
        std::fs::write(directory.path().join("server.sh"), include_str!("../assets/examples/mcp/server.sh"))?;
        std::fs::write(&connections, include_str!("../assets/examples/mcp/connections.json"))
    };
    write().context("cannot write the server of the example")?;
    config.values.connections = Some(connections);
    Ok(directory)
}

/// Starts the service, runs the example against it, and prints what happened.
async fn execute(example: &Example, connections: Option<&Path>, console: Console) -> Result<Exit> {
    if example.name == REMOTE {
        return remote::execute(example).await;
    }
    let service = if example.service { Some(Flaky::start().await?) } else { None };
    let mut with = RunWith::default();
    if let Some(service) = &service {
        if example.name == KILLED {
            return killed::execute(example, service).await;
        }
        with.parameters.push(format!("service={}", service.base_url()));
        eprint!("{}: {}. The service listens on {}.\n\n", example.name, example.title, service.base_url());
    }
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
        is_file: false,
    };
    let definition = source(&format!("examples/{}/workflow.json", example.name), example.definition);
    let children: Vec<Source> = example.children.iter().map(|(name, text)| source(name, text)).collect();
    let mut config = Config::defaults();
    let _mounted = match example.name {
        "secrets" => Some(mount_secrets(&mut config)?),
        "mcp" if connections.is_none() => Some(mount_server(&mut config)?),
        _ => None,
    };
    let known = example.connections.filter(|_| connections.is_none());
    if let Some(file) = connections {
        config.values.connections = Some(file.to_owned());
    }
    let Some(mut prepared) = run::prepare(&definition, &children, &with, &config, known, console)? else {
        return Ok(Exit::Refused);
    };
    if example.name == "chaos" {
        prepared.chaos = Some(chaos::read(CHAOS, "examples/chaos/chaos.json")?);
    }
    let (engine, request) = prepared.into_parts(None)?;
    let live = Arc::new(Live::new(Arc::clone(&request.workflow), Style::Silent, console));
    let exit = run::run_shown(&engine, request, &live, console).await?;
    engine.shut_down().await;
    if let Some(service) = service {
        let counted: Vec<String> = example
            .counted
            .iter()
            .map(|(path, what)| format!("{path} {} times ({what})", service.calls(path)))
            .collect();
        if !counted.is_empty() {
            eprint!("\nThe service was called: {}.\n", counted.join(", "));
        }
        service.stop().await;
    }
    Ok(exit)
}
