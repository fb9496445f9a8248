//! What only the embedded store has: a folder, a disk, a lock.

use loom_store::{Error, SqliteOptions, SqliteStore};

#[test]
fn a_second_store_on_one_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    let refused = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap_err();
    let Error::Locked { holder, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(*holder, Some(std::process::id().to_string()));
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    drop(first);
    drop(SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap());
}
