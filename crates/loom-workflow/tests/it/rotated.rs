//! `loom workflows rotate-signature`, from the command line to the address that no longer works.

use std::ffi::OsStr;

use crate::{
    file, loom,
    served::{Loom, request},
};

#[test]
fn a_rotated_address_works_and_the_previous_one_does_not() {
    let definition = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {}}}"#;
    let workflow = file("rotated", "orders.json", definition);
    let token = file("rotated", "token", "long enough for a test\n").display().to_string();
    let served = Loom::serve(&[
        OsStr::new("--memory"),
        OsStr::new("--token-file"),
        OsStr::new(&token),
        workflow.as_os_str(),
    ]);
    let server = format!("http://{}", served.address());
    let rotate = |more: &[&str]| {
        loom(
            &[&["workflows", "rotate-signature", "--server", &server, "--token-file", &token], more].concat(),
        )
    };
    let path = |printed: &str| {
        let address = printed.trim().strip_prefix("manual  ").expect("it prints the trigger and its address");
        address.strip_prefix(&server).expect("the address is the server's").to_owned()
    };
    let fire = |path: &str| request(served.address(), "POST", path, b"").expect("it answers").status;

    let first = rotate(&["Orders", "manual"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let first = path(&first.stdout);
    assert_eq!(fire(&first), 202);
    let second = path(&rotate(&["orders"]).stdout);
    assert_eq!((fire(&first), fire(&second)), (401, 202));

    let unknown = rotate(&["orders", "other"]);
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
    let anonymous = loom(&["workflows", "rotate-signature", "orders", "--server", &server]);
    assert_eq!(anonymous.code, Some(4), "{}", anonymous.stderr);
    let directory = loom(&["workflows", "rotate-signature", "orders", "--data", "."]);
    assert_eq!(directory.code, Some(2), "{}", directory.stderr);
    assert_eq!(fire(&second), 202);
}
