//! A data directory with a key: the data of runs cannot be read in it, and runs survive a kill.

use std::{ffi::OsStr, fs, path::Path};

use crate::{
    loom,
    served::{Loom, Service},
};

const WORKFLOW: &str = r#"{
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "Call": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/call", "body": "@triggerBody()"}, "runAfter": {}},
    "Pause": {"type": "Wait", "inputs": {"interval": {"count": 2, "unit": "Second"}}, "runAfter": {"Call": ["Succeeded"]}},
    "Keep": {"type": "Compose", "inputs": "@triggerBody()['code']", "runAfter": {"Pause": ["Succeeded"]}}
  }
}"#;

const SECRET: &str = "8461-2297-launch";

fn holds(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).expect("the directory is there").any(|entry| {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).expect("it can be read");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn run_data_is_encrypted_and_survives_a_kill() {
    let service = Service::start(|_| (200, serde_json::Value::Null));
    let directory = tempfile::tempdir().expect("there is room");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("order.json"), WORKFLOW.replace("SERVICE", &service.address)).expect("it can be written");
    fs::write(path("key"), "0f".repeat(32)).expect("it can be written");
    fs::write(path("other"), "0e".repeat(32)).expect("it can be written");
    let (file, data, key) = (path("order.json"), path("data"), path("key"));
    let arguments: [&OsStr; 5] =
        [file.as_os_str(), "--data".as_ref(), data.as_os_str(), "--key-file".as_ref(), key.as_os_str()];

    let mut server = Loom::serve(&arguments);
    let body = format!(r#"{{"code": "{SECRET}"}}"#);
    let answer = server.request("POST", "/workflows/order/triggers/manual/invoke", body.as_bytes());
    let answer = answer.expect("it receives a response");
    assert_eq!(answer.status, 202, "{answer:?}");
    let run = answer.header("x-ms-workflow-run-id").expect("it names the run");
    server.kill_after(std::time::Duration::ZERO).join().expect("it is killed");
    server.wait_for_end();
    assert!(!holds(&data, SECRET), "the secret is in the clear in the directory");

    let asked = |key: &[&str]| {
        let data = data.display().to_string();
        loom(&[&["runs", "show", &run, "--data", &data][..], key].concat())
    };
    let missing = asked(&[]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr.contains("encrypted") && missing.stderr.contains("--key-file"),
        "{}",
        missing.stderr
    );
    let wrong = asked(&["--key-file", &path("other").display().to_string()]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("a different key"), "{}", wrong.stderr);
    let no_key = asked(&["--key-file", &file.display().to_string()]);
    assert!(no_key.stderr.contains("64 hexadecimal digits"), "{}", no_key.stderr);

    let server = Loom::serve(&arguments);
    assert_eq!(server.end_of(&run), "Succeeded");
    drop(server);
    assert!(!holds(&data, SECRET), "the secret is in the clear in the directory");
    let right = asked(&["--key-file", &key.display().to_string()]);
    assert_eq!(right.code, Some(0), "{}", right.stderr);
}

const ENDING: &str = r#"{
  "triggers": {"manual": {"type": "Request"}},
  "actions": {
    "Stop": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "@triggerBody()['code']", "message": "no"}}, "runAfter": {}}
  }
}"#;

/// Runs can be listed by error code, so codes are encrypted separately from the rest.
#[test]
fn error_codes_are_encrypted_and_runs_are_found_by_them() {
    for with_key in [true, false] {
        let directory = tempfile::tempdir().expect("there is room");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("order.json"), ENDING).expect("it can be written");
        fs::write(path("key"), "0f".repeat(32)).expect("it can be written");
        let (file, data, key) = (path("order.json"), path("data"), path("key"));
        let mut arguments: Vec<&OsStr> = vec![file.as_os_str(), "--data".as_ref(), data.as_os_str()];
        if with_key {
            arguments.extend::<[&OsStr; 2]>(["--key-file".as_ref(), key.as_os_str()]);
        }
        let server = Loom::serve(&arguments);
        let mut runs = Vec::new();
        for code in [SECRET, "Another"] {
            let body = format!(r#"{{"code": "{code}"}}"#);
            let answer = server.request("POST", "/workflows/order/triggers/manual/invoke", body.as_bytes());
            let run =
                answer.and_then(|answer| answer.header("x-ms-workflow-run-id")).expect("it names the run");
            assert_eq!(server.end_of(&run), "Failed");
            runs.push(run);
        }
        let found = server.pages(&format!("/api/v1/runs?error={SECRET}"), "runs", "cursor");
        let ids: Vec<_> = found.iter().map(|run| run["id"].as_str()).collect();
        assert_eq!(ids, [Some(runs[0].as_str())]);
        assert_eq!(found[0]["error"], SECRET, "{found:?}");
        drop(server);
        assert_eq!(holds(&data, SECRET), !with_key, "the code is in the clear only without a key");
    }
}
