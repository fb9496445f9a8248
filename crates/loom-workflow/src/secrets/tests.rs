use super::*;

#[test]
fn variables_that_begin_so_are_secrets() {
    let variables = [("LOOM_SECRET_API_KEY", "s3cr3t"), ("LOOM_SECRET_", "x"), ("PATH", "/bin")];
    let found = FixedSecrets::of_variables(
        VARIABLES,
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(format!("{:?}", found.unwrap()), r#"{"api-key"}"#);
}

#[test]
fn the_key_is_the_first_that_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().display().to_string();
    let place = |known: &[(&str, &str)]| {
        let known: BTreeMap<String, String> =
            known.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match KeyPlace::of_environment(|name| known.get(name).cloned()) {
            KeyPlace::Named(path) => format!("named {}", path.display()),
            KeyPlace::Text(text) => format!("text {text}"),
            KeyPlace::Own(path) => format!("own {}", path.display()),
            KeyPlace::Nowhere => "nowhere".to_owned(),
        }
    };
    let all = [("LOOM_MASTER_KEY", "k"), ("CREDENTIALS_DIRECTORY", &*mounted), ("HOME", "/h")];
    assert_eq!(place(&all), "text k", "an empty directory holds no key");
    fs::write(directory.path().join("loom-master-key"), "x").unwrap();
    assert_eq!(place(&all), format!("named {mounted}/loom-master-key"));
    assert_eq!(place(&[&all[..], &[("LOOM_MASTER_KEY_FILE", "f")]].concat()), "named f");
    assert_eq!(place(&[("HOME", "/h")]), "own /h/.config/loom/master.key");
    assert_eq!(place(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), "own /x/loom/master.key");
    assert_eq!(place(&[]), "nowhere");
}

#[test]
fn a_key_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings").join("master.key");
    let why = read_key(&path, false).unwrap_err().to_string();
    assert!(why.contains("name another file with LOOM_MASTER_KEY_FILE"), "{why}");
    let made = read_key(&path, true).unwrap();
    assert_eq!(*read_key(&path, true).unwrap().to_hex(), *made.to_hex());
    fs::write(&path, "short").unwrap();
    assert!(read_key(&path, true).unwrap_err().to_string().contains("64 hexadecimal digits"));
}
