//! Runs the seeds of the fuzz targets through the same functions as the targets, on the stable compiler.

use std::{collections::BTreeSet, fs, path::PathBuf};

use loom_testkit::fuzz::TARGETS;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory().join(of)).expect("the directory is there");
    let names = entries
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("names are text"));
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

#[test]
fn every_seed_has_the_property_of_its_target() {
    for (name, check) in TARGETS {
        let mut count = 0;
        for seed in fs::read_dir(directory().join("seeds").join(name)).expect("every target has seeds") {
            let path = seed.expect("it can be read").path();
            println!("{}", path.display());
            check(&fs::read(&path).expect("it can be read"));
            count += 1;
        }
        assert!(count > 0, "the target {name} has no seed");
    }
}

#[test]
fn every_target_is_built_and_has_seeds() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("seeds"), known);
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).expect("it can be read");
    for name in known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

#[test]
fn the_seeds_include_valid_frames_and_snapshots() {
    let read = |path: &str| fs::read(directory().join("seeds").join(path)).expect("it can be read");
    assert!(loom_engine::journal::decode(&read("journal/run")).expect("it is a frame").len() > 10);
    for name in ["begun", "halfway", "ended"] {
        let bytes = read(&format!("snapshot/{name}"));
        loom_engine::journal::decode_snapshot(loom_testkit::fuzz::workflow(), &bytes)
            .expect("it is a snapshot");
    }
    assert!(loom_actions::opens_pkcs12(&read("pkcs12/modern"), "gehéim"));
}
