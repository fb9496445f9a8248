use super::*;

#[test]
fn artifacts_are_found_by_name_whatever_the_case_and_without_extension() {
    let project = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(project.path().join("Maps")).expect("a directory");
    fs::write(project.path().join("Maps/Order.liquid"), "a").expect("a file");
    // In the encoding that the map editor of Visual Studio uses.
    let utf16: Vec<u8> = "\u{feff}ü".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(project.path().join("Maps/Wide.xslt"), utf16).expect("a file");
    let artifacts = Artifacts::read(project.path()).expect("readable");
    for name in ["Order.liquid", "order", "ORDER.LIQUID"] {
        assert_eq!(artifacts.text(ArtifactKind::Map, name).map(|text| &**text), Ok("a"));
    }
    let wide =
        artifacts.text(ArtifactKind::Map, "wide").expect("there").trim_start_matches('\u{feff}').to_owned();
    assert_eq!(wide, "ü");
    let missing = artifacts.text(ArtifactKind::Map, "other").expect_err("not there");
    assert!(missing.message.contains("order.liquid, wide.xslt"), "{}", missing.message);
    let schema = artifacts.text(ArtifactKind::Schema, "order").expect_err("not a schema");
    assert!(schema.message.contains("Artifacts/Schemas"), "{}", schema.message);
}
