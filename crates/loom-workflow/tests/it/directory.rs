//! What a server reports if it cannot use its data directory: in use by another process, not a store, not a directory.

use std::{ffi::OsStr, fs};

use crate::{loom, served::Loom};

#[test]
fn two_servers_cannot_share_a_directory() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let arguments: [&OsStr; 2] = ["--data".as_ref(), data.as_os_str()];
    let first = Loom::serve(&arguments);
    let data = data.display().to_string();
    let second = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &data]);
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains("is in use by process"), "{}", second.stderr);
    let look = loom(&["runs", "list", "--data", &data]);
    assert_eq!(look.code, Some(2));
    assert!(look.stderr.contains("is in use by process"), "{}", look.stderr);
    let answer = first.request("GET", "/readyz", b"").expect("the first server still responds");
    assert_eq!(answer.status, 200);
    drop(first);
    // The lock ends with the process, however the process ended.
    drop(Loom::serve(&["--data".as_ref(), data.as_ref()]));
}

#[test]
fn an_unusable_directory_is_reported_and_unchanged() {
    let directory = tempfile::tempdir().expect("there is room");
    let database = directory.path().join("loom.db");
    fs::write(&database, "this is not a store and must not be overwritten").expect("it can be written");
    let data = directory.path().display().to_string();
    let ended = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &data]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("loom.db is not a Loom store"), "{}", ended.stderr);
    let kept = fs::read_to_string(&database).expect("it is there");
    assert_eq!(kept, "this is not a store and must not be overwritten");

    let file = database.display().to_string();
    let ended = loom(&["serve", "--addr", "127.0.0.1:0", "--data", &file]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains(&file), "{}", ended.stderr);
}
