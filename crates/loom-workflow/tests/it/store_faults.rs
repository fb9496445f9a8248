//! The real binary on a directory that is damaged, deleted, truncated or created without a key; and commands that only read.
#![expect(clippy::unwrap_used, reason = "a test fails on an error")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::{loom, served::Loom};

fn workflow(directory: &Path) -> PathBuf {
    let file = directory.join("note.json");
    let note = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
        "Note": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}}"#;
    fs::write(&file, note).unwrap();
    file
}

fn serve(directory: &Path, more: &[&OsStr]) -> Loom {
    let (file, data) = (workflow(directory), directory.join("data"));
    let arguments = [file.as_os_str(), "--data".as_ref(), data.as_os_str()];
    Loom::serve(&[&arguments[..], more].concat())
}

/// Incompressible text that can be found in the file.
fn body(number: usize) -> String {
    let mut state = number as u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + 2 + (state >> 33) as u8 % 57)
    };
    (0..2_000).map(letter).collect()
}

/// Starts a run with a large body, and waits for its end.
fn run(loom: &Loom, number: usize) -> String {
    let body = format!("\"{}\"", body(number));
    let answer = loom.request("POST", "/workflows/note/triggers/manual/invoke", body.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let run = answer.header("x-ms-workflow-run-id").unwrap();
    assert_eq!(loom.end_of(&run), "Succeeded");
    run
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.ends_with("loom.db-shm"));
    files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn commands_that_only_read_write_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let given = data.display().to_string();
    let server = serve(directory.path(), &[]);
    let id = run(&server, 1);
    drop(server);
    for killed in [true, false] {
        let server = serve(directory.path(), &[]);
        if killed {
            run(&server, 2);
        } else {
            server.terminate();
            assert_eq!(server.exit_within(std::time::Duration::from_secs(30)), Some(0));
        }
        drop(server);
        let before = files(&data);
        for arguments in [
            &["runs", "list"][..],
            &["runs", "show", &id],
            &["runs", "show", &id, "Note"],
            &["runs", "events", &id],
            &["runs", "watch", &id],
            &["resilience", "list"],
        ] {
            let looked = loom(&[arguments, &["--data", &given]].concat());
            assert_eq!(looked.code, Some(0), "{arguments:?}: {}", looked.stderr);
            assert!(files(&data) == before, "{arguments:?}, killed: {killed}");
        }
    }
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(loom(&["runs", "list", "--data", &empty.display().to_string()]).code, Some(2));
    assert!(files(&empty).is_empty());
}

#[test]
fn a_directory_created_without_a_key_rejects_a_key_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (data, key) = (directory.path().join("data"), directory.path().join("key"));
    fs::write(&key, "0f".repeat(32)).unwrap();
    // No run was ever started here, but the server has its signing key.
    let server = serve(directory.path(), &[]);
    server.terminate();
    assert_eq!(server.exit_within(std::time::Duration::from_secs(30)), Some(0));
    let (given, named) = (data.display().to_string(), key.display().to_string());
    for arguments in [
        &["serve", "--addr", "127.0.0.1:0", "--data", &given, "--key-file", &named][..],
        &["runs", "list", "--data", &given, "--key-file", &named],
    ] {
        let refused = loom(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}");
        for part in ["created without a key", "omit --key-file", "new directory", &given] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    let server = serve(directory.path(), &[]);
    run(&server, 1);
    drop(server);
    // An empty directory accepts the first key.
    fs::remove_dir_all(&data).unwrap();
    let server = serve(directory.path(), &["--key-file".as_ref(), key.as_os_str()]);
    run(&server, 2);
}

#[test]
fn damage_found_by_a_request_stops_writing_and_is_reported_with_its_location() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("data/loom.db");
    let server = serve(directory.path(), &[]);
    let runs: Vec<String> = (0..30).map(|number| run(&server, number)).collect();
    server.terminate();
    assert_eq!(server.exit_within(std::time::Duration::from_secs(30)), Some(0));
    // Damages one byte of the body of one run. Page borders vary, so the test looks for a part of the body that is within one
    // page. While the body is only in the log, the database is opened and closed again.
    let text = body(17);
    let find = |content: &[u8]| {
        let mut parts = text.as_bytes().chunks_exact(32).skip(20);
        parts.find_map(|part| content.windows(32).position(|window| window == part))
    };
    let mut content = fs::read(&database).unwrap();
    for _ in 0..20 {
        if find(&content).is_some() {
            break;
        }
        let server = serve(directory.path(), &[]);
        server.terminate();
        assert_eq!(server.exit_within(std::time::Duration::from_secs(30)), Some(0));
        content = fs::read(&database).unwrap();
    }
    let place = find(&content).expect("it is in the database");
    content[place] ^= 1;
    fs::write(&database, content).unwrap();

    let server = serve(directory.path(), &[]);
    run(&server, 100);
    let ready = server.request("GET", "/readyz", b"").unwrap();
    assert_eq!(ready.status, 200, "the damage has not been read yet: {ready:?}");
    let met = runs.iter().any(|run| {
        let answer = server.request("GET", &format!("/api/v1/runs/{run}"), b"").unwrap();
        answer.status != 200
    });
    assert!(met, "a request reads the damage");
    let ready = server.request("GET", "/readyz", b"").unwrap();
    assert_eq!(ready.status, 503);
    for part in ["damaged", "loom.db", "restore it from a backup"] {
        assert!(ready.body.contains(part), "{part}: {ready:?}");
    }
    let refused = server.request("POST", "/workflows/note/triggers/manual/invoke", b"1").unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    let health = server.request("GET", "/healthz", b"").unwrap();
    assert_eq!(health.status, 503);
    // Undamaged data can still be read.
    assert_eq!(server.request("GET", "/api/v1/runs?limit=5", b"").unwrap().status, 200);
    drop(server);

    let data = directory.path().join("data").display().to_string();
    let shown: Vec<_> = runs.iter().map(|run| loom(&["runs", "show", run, "--data", &data])).collect();
    let reported: Vec<_> = shown.iter().filter(|shown| shown.code != Some(0)).collect();
    assert!(!reported.is_empty());
    for shown in reported {
        for part in ["damaged", "loom.db", "restore it from a backup"] {
            assert!(shown.stderr.contains(part), "{part}: {}", shown.stderr);
        }
    }
}

#[test]
fn a_deleted_or_replaced_directory_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = serve(directory.path(), &[]);
    run(&server, 1);
    fs::rename(&data, directory.path().join("aside")).unwrap();
    let refused = server.request("POST", "/workflows/note/triggers/manual/invoke", b"1").unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    let ready = server.request("GET", "/readyz", b"").unwrap();
    assert!(ready.status == 503 && ready.body.contains("find its files"), "{ready:?}");
    // Another directory in its place is not mistaken for it.
    fs::create_dir(&data).unwrap();
    let refused = server.request("POST", "/workflows/note/triggers/manual/invoke", b"1").unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(files(&data).is_empty());
    fs::remove_dir(&data).unwrap();
    // The directory is moved back.
    fs::rename(directory.path().join("aside"), &data).unwrap();
    server.until("/readyz", |answer| answer.status == 200);
    run(&server, 2);
    // The directory is deleted while there are no requests.
    fs::remove_dir_all(&data).unwrap();
    let ready = server.request("GET", "/readyz", b"").unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    server.terminate();
    server.exit_within(std::time::Duration::from_secs(30)).expect("it stops");
    assert!(!data.exists(), "and does not create a new one");
}

#[test]
fn a_truncated_log_is_rejected_with_an_explanation() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("data/loom.db-wal");
    let server = serve(directory.path(), &[]);
    for number in 0..3 {
        run(&server, number);
    }
    server.kill();
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    let data = directory.path().join("data").display().to_string();
    for arguments in
        [&["serve", "--addr", "127.0.0.1:0", "--data", &data][..], &["runs", "list", "--data", &data]]
    {
        let refused = loom(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}");
        for part in ["synced records are missing", "loom.db-wal", "delete", "loom.marks"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    fs::remove_file(directory.path().join("data/loom.marks")).unwrap();
    let server = serve(directory.path(), &[]);
    run(&server, 9);
}
