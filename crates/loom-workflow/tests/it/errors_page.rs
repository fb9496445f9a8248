//! The second part of docs/errors.md is what the binary prints.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]
use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

use crate::{loom, served::Loom};

const PAGE: &str = include_str!("../../../../docs/errors.md");
const BEGIN: &str = "<!-- shown by the binary: begin -->\n";
const END: &str = "<!-- shown by the binary: end -->";

/// Listens, and passes each connection to `work`.
fn listen(work: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(work));
    port
}

/// A server with a self-signed certificate.
fn self_signed() -> u16 {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    listen(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        // The caller hangs up in the middle of the response.
        StreamOwned::new(connection, stream).read_exact(&mut [0]).ok();
    })
}

/// A service that announces a response of 200 MB.
fn enormous() -> u16 {
    listen(|mut stream| {
        stream.read_exact(&mut [0; 16]).ok();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n").ok();
        stream.read_to_end(&mut Vec::new()).ok();
    })
}

/// The line about a request to `uri` in the output of a run, without times.
fn run(directory: &Path, uri: &str) -> String {
    let text = format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{
            "Ask": {{"type": "Http", "inputs": {{"method": "GET", "uri": "{uri}", "retryPolicy": {{"type": "none"}}}}, "runAfter": {{}}}}}}}}"#
    );
    let path = directory.join("flow.json");
    std::fs::write(&path, text).unwrap();
    let ended = loom(&["run", &path.display().to_string()]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let line = ended.stderr.lines().find(|line| line.contains("Ask")).expect("the action is shown");
    let (_, reported) = line.split_once("s  ").expect("a time precedes it");
    match (reported.find(", "), reported.find(" ms)")) {
        (Some(from), Some(to)) if from < to => format!("{}{}\n", &reported[..from], &reported[to + 3..]),
        _ => format!("{reported}\n"),
    }
}

#[test]
fn the_page_shows_what_the_binary_prints() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().display().to_string();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let mut shown: Vec<(&str, &str, String)> = Vec::new();
    let fails = |arguments: &[&str], code: i32| {
        let ended = loom(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        ended.stderr
    };

    shown.push((
        "The host does not exist",
        "loom run flow.json",
        run(directory.path(), "https://nowhere.invalid/orders"),
    ));
    let reported = run(directory.path(), "http://127.0.0.1:1/orders");
    shown.push((
        "Nothing listens there",
        "loom run flow.json",
        reported.replace("127.0.0.1:1'", "127.0.0.1:8080'"),
    ));
    let port = self_signed();
    let reported = run(directory.path(), &format!("https://localhost:{port}/orders"));
    shown.push((
        "An untrusted certificate",
        "loom run flow.json",
        reported.replace(&port.to_string(), "8443"),
    ));
    let port = enormous();
    let reported = run(directory.path(), &format!("http://127.0.0.1:{port}/orders"));
    shown.push(("A response of 200 MB", "loom run flow.json", reported.replace(&port.to_string(), "8080")));

    std::fs::write(at("big.json"), " ".repeat(50_000_000)).unwrap();
    let reported = fails(&["validate", &at("big.json")], 3);
    let reported = reported.lines().filter(|line| line.starts_with("error") || line.contains("help")).fold(
        String::new(),
        |mut text, line| {
            writeln!(text, "{line}").unwrap();
            text
        },
    );
    shown.push(("A definition of 50 MB", "loom validate big.json", reported));

    shown.push(("A missing file", "loom run nowhere.json", fails(&["run", "nowhere.json"], 2)));
    shown.push((
        "A directory instead of a file",
        "loom run flows",
        fails(&["run", &here], 2).replace(&here, "flows"),
    ));
    let flow = at("flow.json");
    shown.push((
        "Input that is not JSON",
        "loom run flow.json --input '{name: Ada}'",
        fails(&["run", &flow, "--input", "{name: Ada}"], 2),
    ));
    shown.push((
        "A parameter without a value",
        "loom run flow.json --param region",
        fails(&["run", &flow, "--param", "region"], 2),
    ));
    shown.push((
        "An unknown trigger",
        "loom run flow.json --trigger daily",
        fails(&["run", &flow, "--trigger", "daily"], 2),
    ));
    shown.push((
        "A directory served as a file",
        "loom serve flows",
        fails(&["serve", &here, "--data", &at("data")], 2).replace(&here, "flows"),
    ));
    shown.push((
        "A missing directory",
        "loom serve --workflows nowhere",
        fails(&["serve", "--workflows", "nowhere", "--data", &at("data")], 2),
    ));
    shown.push((
        "A data directory that is a file",
        "loom serve --data flow.json",
        fails(&["serve", "--data", &flow], 2).replace(&flow, "flow.json"),
    ));
    let serving = Loom::serve(&["--data".as_ref(), directory.path().join("data").as_os_str(), flow.as_ref()]);
    shown.push((
        "A port in use",
        "loom serve flow.json",
        fails(&["serve", "--memory", "--addr", serving.address()], 2)
            .replace(serving.address(), "127.0.0.1:7070"),
    ));
    shown.push((
        "An invalid address",
        "loom serve --addr localhost",
        fails(&["serve", "--addr", "localhost"], 2),
    ));
    shown.push((
        "A public address without a token",
        "loom serve --addr 0.0.0.0:7070",
        fails(&["serve", "--memory", "--addr", "0.0.0.0:7070"], 2),
    ));
    let server = format!("http://{}", serving.address());
    shown.push((
        "An unknown run",
        "loom runs show 38x",
        fails(&["runs", "show", "38x", "--server", &server], 3),
    ));
    drop(serving);
    shown.push((
        "No server",
        "loom runs list",
        fails(&["runs", "list", "--server", &server], 7).replace(&server, "http://127.0.0.1:7070"),
    ));

    let mut page = String::new();
    for (title, command, reported) in shown {
        writeln!(page, "### {title}\n\n```text\n$ {command}\n{}\n```\n", reported.trim_end()).unwrap();
    }
    let (_, rest) = PAGE.split_once(BEGIN).expect("the begin marker exists");
    let (written, _) = rest.split_once(END).expect("the end marker exists");
    assert_eq!(written.trim(), page.trim(), "docs/errors.md must contain:\n\n{page}");
}

#[test]
fn a_unique_prefix_of_a_run_id_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let flow = directory.path().join("one.json");
    let text = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}}"#;
    std::fs::write(&flow, text).unwrap();
    let serving = Loom::serve(&["--memory".as_ref(), flow.as_os_str()]);
    let start = || {
        let answer = serving.request("POST", "/workflows/one/triggers/manual/invoke", b"").unwrap();
        let run = answer.header("x-ms-workflow-run-id").unwrap();
        assert_eq!(serving.end_of(&run), "Succeeded");
        run
    };
    let (first, second) = (start(), start());
    let server = format!("http://{}", serving.address());
    let same = first.bytes().zip(second.bytes()).take_while(|(one, other)| one == other).count();
    let ended = loom(&["runs", "show", &first[..=same], "--server", &server]);
    assert!(ended.code == Some(0) && ended.stdout.contains(&first), "{}", ended.stderr);
    let ended = loom(&["runs", "show", &first[..same], "--server", &server]);
    assert_eq!(ended.code, Some(1));
    for part in ["2 runs begin with", &first, &second] {
        assert!(ended.stderr.contains(part), "`{part}` is missing: {}", ended.stderr);
    }
}
