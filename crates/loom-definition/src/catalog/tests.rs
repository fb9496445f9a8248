//! The catalog of definitions, behaviour by behaviour.

use super::*;

fn draft(text: &str) -> Draft {
    Draft {
        description: Some(Arc::from("a flow")),
        tags: ["demo"].into_iter().collect(),
        definition: Value::from(text),
    }
}

fn shown(catalog: &Catalog, id: &str) -> Vec<String> {
    catalog.versions(id).map(|entry| entry.version.to_string()).collect()
}

#[test]
fn creating_gives_version_one_with_id_description_tags_and_timestamps() {
    let mut catalog = Catalog::new();
    let entry = catalog.create("flow", draft("a"), 1_000).expect("the id is unused");
    assert_eq!(entry.version.to_string(), "1.0.0");
    assert_eq!((&*entry.id, entry.description.as_deref()), ("flow", Some("a flow")));
    assert_eq!(entry.tags.index(0), Some(&Value::from("demo")));
    assert_eq!((entry.created_at, entry.updated_at), (1_000, 1_000));
}

#[test]
fn creating_twice_is_an_error() {
    let mut catalog = Catalog::new();
    catalog.create("flow", draft("a"), 0).expect("the id is unused");
    let error = catalog.create("flow", draft("b"), 1).expect_err("the id is in use");
    assert!(error.to_string().contains("already exists"));
    assert_eq!(catalog.get("flow", None).map(|entry| entry.definition.clone()), Some(Value::from("a")));
}

#[test]
fn get_returns_the_given_version_or_the_latest() {
    let mut catalog = Catalog::new();
    catalog.create("flow", draft("a"), 0).expect("the id is unused");
    catalog.publish("flow", draft("b"), Bump::Patch, 5).expect("the id exists");
    let latest = catalog.get("flow", None).expect("it exists");
    assert_eq!(
        (latest.version.to_string(), latest.created_at, latest.updated_at),
        ("1.0.1".to_owned(), 0, 5)
    );
    let first = catalog.get("flow", Version::parse("1.0.0")).expect("it exists");
    assert_eq!(first.definition, Value::from("a"));
    assert!(catalog.get("flow", Version::parse("9.0.0")).is_none());
    assert!(catalog.get("other", None).is_none());
}

#[test]
fn publishing_bumps_patch_minor_and_major_and_lists_in_order() {
    let mut catalog = Catalog::new();
    catalog.create("flow", draft("a"), 0).expect("the id is unused");
    for bump in [Bump::Patch, Bump::Minor, Bump::Patch, Bump::Major] {
        catalog.publish("flow", draft("x"), bump, 0).expect("the id exists");
    }
    assert_eq!(shown(&catalog, "flow"), ["1.0.0", "1.0.1", "1.1.0", "1.1.1", "2.0.0"]);
    for _ in 0..10 {
        catalog.publish("flow", draft("x"), Bump::Minor, 0).expect("the id exists");
    }
    // Versions compare as numbers: 2.10.0 is after 2.9.0.
    assert_eq!(shown(&catalog, "flow").last().map(String::as_str), Some("2.10.0"));
    assert!(catalog.publish("other", draft("x"), Bump::Patch, 0).is_err());
}

#[test]
fn delete_removes_all_versions() {
    let mut catalog = Catalog::new();
    catalog.create("flow", draft("a"), 0).expect("the id is unused");
    catalog.publish("flow", draft("b"), Bump::Major, 0).expect("the id exists");
    assert_eq!(catalog.list().count(), 1);
    assert!(catalog.delete("flow"));
    assert!(!catalog.delete("flow"));
    assert!(shown(&catalog, "flow").is_empty());
    assert!(catalog.create("flow", draft("c"), 0).is_ok());
}

#[test]
fn versions_are_three_plain_numbers() {
    assert_eq!(Version::parse("1.2.3"), Some(Version { major: 1, minor: 2, patch: 3 }));
    for wrong in ["", "1", "1.2", "1.2.3.4", "1.2.x", "+1.2.3", "1..3"] {
        assert_eq!(Version::parse(wrong), None, "{wrong}");
    }
}
