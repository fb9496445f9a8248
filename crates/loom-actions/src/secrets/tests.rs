use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

use loom_engine::{SecretSource, ports::Clock};
use loom_expression::Timestamp;

use super::*;

/// A clock that is set manually, in seconds since 1970.
#[derive(Default)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::Relaxed) * 1_000)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

struct World {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    key: MasterKey,
}

impl World {
    fn new() -> World {
        World {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::default(),
            key: MasterKey::from_hex(&"7a".repeat(32)).unwrap(),
        }
    }

    /// The vault, opened again.
    fn vault(&self) -> Vault {
        self.vault_under(&self.key)
    }

    fn vault_under(&self, key: &MasterKey) -> Vault {
        let key = key.clone();
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Vault::new(self.directory.path().join("secrets.json"), Arc::new(move || Ok(key.clone())), clock)
    }

    fn at(&self, seconds: i64) {
        self.clock.0.store(seconds, Ordering::Relaxed);
    }
}

#[track_caller]
fn value(vault: &Vault, name: &str, version: Option<&str>) -> String {
    vault.get(name, version).unwrap().1.to_string()
}

#[track_caller]
fn refused(vault: &Vault, name: &str, version: Option<&str>) -> String {
    vault.get(name, version).unwrap_err().to_string()
}

#[test]
fn a_secret_is_set_and_got() {
    let world = World::new();
    let set = world.vault().set("Api-Key", "s3cr3t", NewSecret::default()).unwrap();
    assert_eq!((&*set.name, set.version, set.enabled), ("api-key", 1, true));
    assert_eq!(value(&world.vault(), "API-KEY", None), "s3cr3t");
    let text = fs::read_to_string(world.vault().path()).unwrap();
    assert!(text.contains("api-key") && !text.contains("s3cr3t"), "{text}");
}

#[test]
fn a_missing_secret_is_reported() {
    let world = World::new();
    assert_eq!(refused(&world.vault(), "api-key", None), "Secret not found: api-key");
    world.vault().set("other", "x", NewSecret::default()).unwrap();
    assert_eq!(refused(&world.vault(), "api-key", None), "Secret not found: api-key");
    assert_eq!(refused(&world.vault(), "other", Some("7")), "Secret version not found: other@7");
    assert_eq!(refused(&world.vault(), "other", Some("seven")), "Secret version not found: other@seven");
}

#[test]
fn each_set_creates_a_version_and_old_ones_stay_readable() {
    let world = World::new();
    let vault = world.vault();
    for (number, text) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(vault.set("k", text, NewSecret::default()).unwrap().version, number);
    }
    assert_eq!(value(&vault, "k", None), "three");
    assert_eq!(value(&vault, "k", Some("1")), "one");
    let numbers: Vec<u32> = vault.versions("k").unwrap().iter().map(|version| version.version).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn an_expired_version_is_skipped() {
    let world = World::new();
    let vault = world.vault();
    vault.set("k", "old", NewSecret::default()).unwrap();
    vault.set("k", "short", NewSecret { expires_on: Some(at(100)), ..NewSecret::default() }).unwrap();
    world.at(99);
    assert_eq!(value(&vault, "k", None), "short");
    world.at(100);
    assert_eq!(value(&vault, "k", None), "old");
    assert_eq!(refused(&vault, "k", Some("2")), "Secret expired: k");
    vault.enable("k", Some(1), false).unwrap();
    assert_eq!(refused(&vault, "k", None), "No valid versions for secret: k");
    assert_eq!(refused(&vault, "k", Some("1")), "Secret disabled: k");
}

#[test]
fn a_version_is_not_used_before_it_is_valid() {
    let world = World::new();
    let vault = world.vault();
    vault.set("k", "now", NewSecret::default()).unwrap();
    vault.set("k", "later", NewSecret { not_before: Some(at(50)), ..NewSecret::default() }).unwrap();
    assert_eq!(value(&vault, "k", None), "now");
    assert_eq!(refused(&vault, "k", Some("2")), "Secret not valid yet: k");
    world.at(50);
    assert_eq!(value(&vault, "k", None), "later");
}

#[test]
fn a_deleted_secret_is_listed_and_can_be_restored() {
    let world = World::new();
    let vault = world.vault();
    vault.set("k", "one", NewSecret { enabled: false, ..NewSecret::default() }).unwrap();
    vault.set("k", "two", NewSecret::default()).unwrap();
    vault.delete("k").unwrap();
    assert_eq!(refused(&vault, "k", None), "No valid versions for secret: k");
    assert_eq!(refused(&vault, "k", Some("2")), "Secret disabled: k");
    let listed = vault.list().unwrap();
    assert_eq!((listed.len(), listed[0].deleted), (1, true));
    vault.undelete("k").unwrap();
    assert_eq!(value(&vault, "k", None), "two");
    assert_eq!(refused(&vault, "k", Some("1")), "Secret disabled: k", "it was disabled before");
    // A version that is set after a deletion is in use; the deleted ones stay deleted.
    vault.delete("k").unwrap();
    vault.set("k", "three", NewSecret::default()).unwrap();
    assert_eq!(value(&vault, "k", None), "three");
    assert_eq!(refused(&vault, "k", Some("2")), "Secret disabled: k");
}

#[test]
fn a_purged_version_is_gone_and_its_number_is_not_reused() {
    let world = World::new();
    let vault = world.vault();
    for text in ["one", "two"] {
        vault.set("k", text, NewSecret::default()).unwrap();
    }
    vault.purge("k", Some(2)).unwrap();
    assert_eq!(vault.set("k", "three", NewSecret::default()).unwrap().version, 3);
    vault.purge("k", None).unwrap();
    assert_eq!(refused(&vault, "k", None), "Secret not found: k");
    assert!(vault.list().unwrap().is_empty());
    assert_eq!(vault.purge("k", None).unwrap_err().to_string(), "Secret not found: k");
}

#[test]
fn tags_and_types_are_kept_and_the_list_has_no_values() {
    let world = World::new();
    let tags = BTreeMap::from([("team".into(), "billing".into())]);
    let new =
        NewSecret { content_type: Some("text/plain".into()), tags: tags.clone(), ..NewSecret::default() };
    world.vault().set("k", "s3cr3t", new).unwrap();
    world
        .vault()
        .set(
            "l",
            "t0p",
            NewSecret { not_before: Some(at(5)), expires_on: Some(at(9)), ..NewSecret::default() },
        )
        .unwrap();
    let listed = world.vault().list().unwrap();
    assert_eq!(listed[0].tags, tags);
    assert_eq!(listed[0].content_type.as_deref(), Some("text/plain"));
    assert_eq!((listed[1].not_before, listed[1].expires_on), (Some(at(5)), Some(at(9))));
    let shown = format!("{listed:?} {:?}", world.vault());
    assert!(!shown.contains("s3cr3t") && !shown.contains("t0p"), "{shown}");
}

#[test]
fn an_unexpected_change_is_not_overwritten() {
    let world = World::new();
    let vault = world.vault();
    let new = |version| NewSecret { if_version: Some(version), ..NewSecret::default() };
    vault.set("k", "one", new(0)).unwrap();
    assert_eq!(
        vault.set("k", "two", new(0)).unwrap_err().to_string(),
        "the newest version of 'k' must be 0 (got 1)"
    );
    vault.set("k", "two", new(1)).unwrap();
    assert_eq!(value(&vault, "k", None), "two");
}

#[test]
fn a_different_key_opens_and_changes_nothing() {
    let world = World::new();
    world.vault().set("k", "s3cr3t", NewSecret::default()).unwrap();
    let before = fs::read(world.vault().path()).unwrap();
    let other = world.vault_under(&MasterKey::generate());
    assert!(refused(&other, "k", None).contains("a different master key"));
    let set = other.set("k", "mine", NewSecret::default()).unwrap_err();
    assert!(matches!(set, SecretError::WrongKey { .. }), "{set}");
    assert_eq!(fs::read(world.vault().path()).unwrap(), before);
    assert_eq!(other.list().unwrap().len(), 1, "listing needs no key");
}

#[test]
fn a_rotation_seals_every_value_with_the_new_key() {
    let world = World::new();
    for (name, text) in [("a", "one"), ("a", "two"), ("b", "three")] {
        world.vault().set(name, text, NewSecret::default()).unwrap();
    }
    let reader = world.vault();
    assert_eq!(value(&reader, "a", None), "two");
    let before = fs::read_to_string(reader.path()).unwrap();
    let next = MasterKey::generate();
    assert_eq!(world.vault().rotate(Some(&next)).unwrap(), 3);
    assert!(
        refused(&reader, "a", None).contains("a different master key"),
        "a reader sees the change at once"
    );
    let vault = world.vault_under(&next);
    assert_eq!((value(&vault, "a", Some("1")), value(&vault, "b", None)), ("one".into(), "three".into()));
    let after = fs::read_to_string(vault.path()).unwrap();
    for line in before.lines().filter(|line| line.contains("\"sealed\"") || line.contains("\"wrapped\"")) {
        assert!(!after.contains(line), "{line}");
    }
    assert_eq!(vault.rotate(None).unwrap(), 3);
    assert_eq!(value(&vault, "a", None), "two");
}

#[test]
fn a_value_that_was_moved_does_not_open() {
    let world = World::new();
    world.vault().set("mine", "harmless", NewSecret::default()).unwrap();
    world.vault().set("root", "s3cr3t", NewSecret::default()).unwrap();
    let path = world.vault().path().to_owned();
    let text = fs::read_to_string(&path).unwrap();
    let sealed: Vec<&str> = text.lines().filter(|line| line.contains("\"sealed\"")).collect();
    assert_eq!(sealed.len(), 2);
    fs::write(&path, text.replace(sealed[0], sealed[1])).unwrap();
    assert!(
        refused(&world.vault(), "mine", None).contains("version 1 of 'mine' was changed after it was stored")
    );
    fs::write(&path, "{\"format\": \"loom-secrets/9\"}").unwrap();
    assert!(refused(&world.vault(), "mine", None).contains("'loom-secrets/9'"));
    fs::write(&path, "{").unwrap();
    let reason = refused(&world.vault(), "mine", None);
    assert!(reason.contains("JSON"), "{reason}");
    assert!(world.vault().set("mine", "x", NewSecret::default()).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{", "a file that cannot be read is not replaced");
}

#[test]
fn names_and_values_have_limits() {
    let world = World::new();
    let vault = world.vault();
    for name in ["", "a/b", "../x", ".hidden", "a b", "ä", &"n".repeat(128)] {
        assert!(matches!(vault.get(name, None), Err(SecretError::Name { .. })), "{name:?}");
    }
    let large = "x".repeat(SECRET_BYTES_MAX + 1);
    assert!(matches!(vault.set("k", &large, NewSecret::default()), Err(SecretError::TooLarge { .. })));
    vault.set("k", &large[1..], NewSecret::default()).unwrap();
    assert_eq!(value(&vault, "k", None), large[1..]);
}

#[test]
fn concurrent_writers_lose_no_change() {
    let world = World::new();
    thread::scope(|scope| {
        for writer in 0..4 {
            let vault = world.vault();
            scope.spawn(move || {
                for index in 0..5 {
                    vault.set("k", &format!("{writer}/{index}"), NewSecret::default()).unwrap();
                }
            });
        }
    });
    let vault = world.vault();
    let versions = vault.versions("k").unwrap();
    assert_eq!(
        versions.iter().map(|version| version.version).collect::<Vec<u32>>(),
        (1..=20).collect::<Vec<u32>>()
    );
    let mut values: Vec<String> =
        versions.iter().map(|version| value(&vault, "k", Some(&version.version.to_string()))).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 20);
}

#[tokio::test]
async fn the_first_provider_that_knows_a_name_is_used() {
    let world = World::new();
    let directory = world.directory.path().join("mounted");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("mounted"), "from a file\n").unwrap();
    fs::write(directory.join("both"), "from a file").unwrap();
    let vault = Arc::new(world.vault());
    vault.set("both", "from the vault", NewSecret::default()).unwrap();
    vault.set("gone", "x", NewSecret::default()).unwrap();
    vault.delete("gone").unwrap();
    let given = [("given".to_owned(), "from the start".to_owned()), ("gone".to_owned(), "y".to_owned())];
    let secrets = Secrets::new(vec![
        vault,
        Arc::new(SecretDirectory::new(&directory)),
        Arc::new(FixedSecrets::new(given).unwrap()),
    ]);
    for (name, expected) in [
        ("both", "from the vault"),
        ("both@1", "from the vault"),
        ("mounted", "from a file"),
        ("Given", "from the start"),
    ] {
        assert_eq!(&*secrets.read(name, None).await.unwrap().value, expected, "{name}");
    }
    for (name, why) in [
        ("nobody", "Secret not found: nobody"),
        ("both@2", "Secret version not found: both@2"),
        ("mounted@1", "Secret version not found: mounted@1"),
        ("given@1", "Secret version not found: given@1"),
        ("gone", "No valid versions for secret: gone"),
    ] {
        assert_eq!(secrets.read(name, None).await.unwrap_err(), why, "{name}");
    }
    let error = secrets.read("../secrets.json", None).await.unwrap_err();
    assert!(error.contains("not a valid secret name"), "{error}");
    assert!(!format!("{secrets:?}").contains("from the start"));
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::new();
    // The permissions of a file that another program left half-written have no effect.
    let beside = format!("{}.new", world.vault().path().display());
    fs::create_dir_all(world.vault().path().parent().unwrap()).unwrap();
    fs::write(&beside, "").unwrap();
    fs::set_permissions(&beside, PermissionsExt::from_mode(0o644)).unwrap();
    world.vault().set("k", "s3cr3t", NewSecret::default()).unwrap();
    let mode = fs::metadata(world.vault().path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// A run refers to the version that it has read. That version has the same value for ever, or none.
#[tokio::test]
async fn a_version_that_was_read_is_read_again_until_it_is_gone() {
    let world = World::new();
    let vault = world.vault();
    vault.set("token", "first", NewSecret::default()).unwrap();
    let secrets = Secrets::new(vec![Arc::new(world.vault())]);
    let first = secrets.read("token", None).await.unwrap();
    let version = first.version.clone().expect("a vault has versions");
    vault.set("token", "second", NewSecret::default()).unwrap();
    assert_eq!(&*secrets.read("token", None).await.unwrap().value, "second");
    assert_eq!(secrets.read(&first.name, Some(&version)).await.unwrap(), first);

    vault.enable("token", Some(1), false).unwrap();
    assert!(secrets.read(&first.name, Some(&version)).await.is_err(), "it is disabled");
    vault.enable("token", Some(1), true).unwrap();
    assert_eq!(secrets.read(&first.name, Some(&version)).await.unwrap(), first);

    // The numbers begin again, and the number that was read has another value now.
    vault.purge("token", None).unwrap();
    assert!(secrets.read(&first.name, Some(&version)).await.is_err(), "it is gone");
    world.at(1);
    vault.set("token", "third", NewSecret::default()).unwrap();
    assert_eq!(&*secrets.read("token@1", None).await.unwrap().value, "third");
    assert!(secrets.read(&first.name, Some(&version)).await.is_err(), "it is another one");

    let unversioned = Secrets::new(vec![Arc::new(SecretDirectory::new(world.directory.path()))]);
    std::fs::write(world.directory.path().join("mounted"), "x").unwrap();
    assert_eq!(unversioned.read("mounted", None).await.unwrap().version, None);
}
