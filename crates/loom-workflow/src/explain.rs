//! `loom explain`: explains an error code, with an example, or a topic.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use loom_definition::{Diagnostic, Severity, catalogue, diagnostic};
use loom_expression::Code;

use crate::{args::ExplainArgs, exit::Exit};

/// The page from which the examples are taken; tests verify that they are what the program prints.
const PAGE: &str = include_str!("../assets/errors.md");

/// The format of the connections file, with an example of each section.
const CONNECTIONS: &str = include_str!("explain/connections.txt");

/// The operations of `Memory` actions, and the grants.
const MEMORY: &str = include_str!("explain/memory.txt");

/// The language models of a connections file, and `AI` actions.
const MODELS: &str = include_str!("explain/models.txt");

/// `Agent` actions, their tools and limits.
const AGENT: &str = include_str!("explain/agent.txt");

/// `GroupChat` actions.
const CHAT: &str = include_str!("explain/groupchat.txt");

/// `Emit` actions.
const EMIT: &str = include_str!("explain/emit.txt");

/// What can be explained besides codes: the names of a topic, of which the first is listed, what it is about, and its page.
const TOPICS: [(&[&str], &str, &str); 6] = [
    (&["connections", "connections.json"], "the format of the connections file", CONNECTIONS),
    (&["models", "model", "ai", "mcpservers"], "language models, and AI actions that ask them", MODELS),
    (&["agent", "agents", "tools", "agenthandoff"], "Agent actions, their tools and limits", AGENT),
    (&["groupchat", "group-chat"], "GroupChat actions", CHAT),
    (&["emit"], "Emit actions, which send events to those who watch a run", EMIT),
    (&["memory"], "the operations of Memory actions", MEMORY),
];

/// Runs the command.
pub(crate) fn command(args: &ExplainArgs) -> Result<Exit> {
    let Some(wanted) = &args.code else {
        for info in catalogue() {
            println!("{}  {}", info.code, info.title);
        }
        for code in Code::ALL {
            println!("{}   {}", code.number(), code.meaning());
        }
        for (names, about, _) in TOPICS {
            println!("{}  {about}", names[0]);
        }
        return Ok(Exit::Success);
    };
    let is_wanted = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    if let Some((_, _, page)) = TOPICS.iter().find(|(names, _, _)| is_wanted(names)) {
        print!("{page}");
        return Ok(Exit::Success);
    }
    if let Some(info) = diagnostic::explain(wanted) {
        print!("{}: {}\n\n{}\n", info.code, info.title, info.explanation);
        if let Some((title, output)) = example(info.code) {
            print!("\nFor example: {title}\n\n");
            for line in output.lines() {
                println!("    {line}");
            }
        }
        return Ok(Exit::Success);
    }
    if let Some(code) = Code::ALL.iter().find(|code| code.number().eq_ignore_ascii_case(wanted)) {
        print!("{}: {}\n\n{}\n", code.number(), code.name().replace('-', " "), code.meaning());
        return Ok(Exit::Success);
    }
    let known = catalogue().iter().map(|info| info.code).chain(Code::ALL.iter().map(|code| code.number()));
    let known = known.chain(TOPICS.iter().map(|(names, _, _)| names[0]));
    let hint = match diagnostic::nearest(wanted, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`loom explain` lists all codes and topics".to_owned(),
    };
    Err(anyhow!("unknown code `{wanted}`; {hint}"))
}

/// The first example on the page with this code.
fn example(code: &str) -> Option<(&'static str, &'static str)> {
    let tag = format!("[{code}]: ");
    PAGE.split("\n### ").find_map(|section| {
        let (title, rest) = section.split_once('\n')?;
        let (_, rest) = rest.split_once("```text\n")?;
        let (output, _) = rest.split_once("```")?;
        output.contains(&tag).then_some((title, output))
    })
}

/// Points to `loom explain` for the errors that were printed.
pub(crate) fn point_at<'a>(findings: impl Iterator<Item = &'a Diagnostic>) {
    let codes: BTreeSet<&str> =
        findings.filter(|finding| finding.severity == Severity::Error).map(|finding| finding.code).collect();
    match codes.first() {
        None => {}
        Some(code) if codes.len() == 1 => {
            eprintln!("loom: for more about this error, run `loom explain {code}`");
        }
        Some(code) => {
            eprintln!(
                "loom: for more about an error, run `loom explain CODE`, such as `loom explain {code}`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use loom_actions::{Connections, Sources};
    use loom_definition::LoadOptions;
    use loom_expression::Value;

    use super::*;

    #[test]
    fn every_operation_on_shared_memory_is_explained() {
        for operation in loom_definition::MEMORY_OPERATIONS {
            let line = MEMORY.lines().find(|line| line.split_whitespace().next() == Some(operation.name));
            let line = line.unwrap_or_else(|| panic!("{}", operation.name));
            for property in operation.properties.iter().filter(|property| **property != "ttl") {
                assert!(line.contains(property), "{line}: {property}");
            }
        }
    }

    #[test]
    fn the_examples_of_topics_are_valid() {
        for (names, _, page) in TOPICS {
            for example in page.split("\n\n").filter(|part| part.starts_with("  \"")) {
                // `memory` is a property of a definition, the others are actions.
                if example.trim_start().starts_with("\"memory\"") || example.contains("\"MemoryChanged\"") {
                    continue;
                }
                let actions = example.replace("}}\n  \"", "}},\n  \"").replace("}}}\n  \"", "}}},\n  \"");
                let text = format!(
                    r#"{{"memory": {{"write": ["*"]}}, "triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{actions}}}}}"#
                );
                let loaded = loom_definition::Definition::parse(text.as_bytes(), &LoadOptions::default());
                let loaded = loaded.unwrap_or_else(|all| panic!("{}: {all}\n{text}", names[0]));
                let warnings: Vec<_> =
                    loaded.warnings.iter().filter(|warning| warning.code != "L0510").collect();
                assert!(warnings.is_empty(), "{}: {warnings:?}", names[0]);
            }
        }
    }

    #[test]
    fn the_example_of_a_connections_file_is_valid_and_every_section_is_explained() {
        let end = CONNECTIONS.rfind("\n}\n").unwrap() + 2;
        let example = &CONNECTIONS[CONNECTIONS.find("\n{\n").unwrap()..end];
        let example = Value::from_json_str(example).unwrap();
        let mut sources = Sources::default();
        sources.app_settings.insert("outlook-key".to_owned(), "k".to_owned());
        sources.app_settings.insert("bus".to_owned(), "b".to_owned());
        let read = Connections::from_json(&example, &sources).unwrap();
        assert!(
            read.function("tax").is_ok()
                && read.workflow("child").is_ok()
                && read.activity("send-mail").is_ok()
        );
        let host = |name: &str| Value::from_json_str(&format!(r#"{{"connectionName": "{name}"}}"#)).unwrap();
        for name in ["outlook", "serviceBus"] {
            assert!(read.of_host(&host(name)).is_ok(), "{name}");
        }
        for section in example.as_object().unwrap().keys() {
            let explained = CONNECTIONS[end..].contains(&**section);
            assert!(explained, "{section}");
        }
    }
}
