//! `loom workflows` and `loom runs`: managing workflows and runs through a server and in the directory of a stopped one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{loom, served::Loom};

/// A directory with one workflow that has a Request trigger, and the data of its server.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let site = Site(tempfile::tempdir().expect("there is room"));
        std::fs::create_dir(site.workflows()).expect("there is room");
        let orders = json!({"definition": {
            "triggers": {"manual": {"type": "Request"}, "again": {"type": "Request"}},
            "actions": {"Answer": {"type": "Response", "inputs": {"body": "done"}, "runAfter": {}}},
        }});
        std::fs::write(site.workflows().join("orders.json"), orders.to_string()).expect("there is room");
        site
    }

    fn workflows(&self) -> PathBuf {
        self.0.path().join("workflows")
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn serve(&self) -> Loom {
        let (workflows, data) = (self.workflows(), self.data());
        Loom::serve(&["--workflows".as_ref(), workflows.as_os_str(), "--data".as_ref(), data.as_os_str()])
    }
}

/// The status of a request that fires a trigger.
fn fire(server: &Loom, trigger: &str) -> u16 {
    let path = format!("/workflows/orders/triggers/{trigger}/invoke");
    server.request("POST", &path, b"{}").expect("the server answers").status
}

/// Runs the binary, which must succeed; returns what it prints.
#[track_caller]
fn done(arguments: &[&str]) -> String {
    let ended = loom(arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

#[test]
fn workflows_and_triggers_are_disabled_at_a_server_and_in_its_directory() {
    let site = Site::new();
    let server = site.serve();
    let url = format!("http://{}", server.address());
    let shown = done(&["workflows", "list", "--server", &url]);
    assert!(shown.starts_with("Enabled") && shown.contains("orders  1.0.0"), "{shown}");
    let shown = done(&["workflows", "disable", "orders", "again", "--server", &url]);
    assert!(shown.contains("Disabled  again") && shown.contains("Enabled   manual"), "{shown}");
    let shown = done(&["workflows", "show", "orders", "--server", &url]);
    assert!(shown.contains(&format!("{url}/workflows/orders/triggers/manual/invoke?sig=")), "{shown}");
    assert_eq!((fire(&server, "manual"), fire(&server, "again")), (200, 400));
    let wrong = loom(&["workflows", "disable", "orders", "none", "--server", &url]);
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    server.kill();

    // The server is stopped, and only it reads the files of the workflows.
    let data = site.data();
    let shown = done(&["workflows", "enable", "orders", "again", "--data", text(&data)]);
    assert!(shown.contains("Enabled   again"), "{shown}");
    // Lists show the versions that it stored.
    let shown = done(&["workflows", "list", "--data", text(&data)]);
    assert_eq!(shown, "Enabled   orders  1.0.0\n");
    let shown = done(&["workflows", "show", "ORDERS", "--data", text(&data)]);
    assert!(shown.contains("Enabled   manual"), "{shown}");
    let unknown = loom(&["workflows", "show", "other", "--data", text(&data)]);
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
    let shown = done(&["workflows", "disable", "Orders", "--data", text(&data)]);
    assert!(shown.starts_with("Disabled  orders"), "{shown}");
    let server = site.serve();
    assert_eq!((fire(&server, "manual"), fire(&server, "again")), (400, 400));
    let url = format!("http://{}", server.address());
    let shown = done(&["workflows", "show", "orders", "--server", &url, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!((&shown["state"], &shown["disabledBy"]), (&json!("Disabled"), &json!("workflow")));
    done(&["workflows", "enable", "orders", "--server", &url]);
    assert_eq!((fire(&server, "manual"), fire(&server, "again")), (200, 200));
}

#[test]
fn runs_are_deleted_at_a_server_and_in_its_directory() {
    let site = Site::new();
    let server = site.serve();
    for _ in 0..3 {
        assert_eq!(fire(&server, "manual"), 200);
    }
    let runs =
        server.until("/api/v1/runs?status=Succeeded", |answer| answer.body.matches("\"id\"").count() == 3);
    let runs: Value = serde_json::from_str(&runs.body).expect("it is JSON");
    let ids: Vec<&str> =
        (0..3).map(|place| runs["runs"][place]["id"].as_str().expect("it has an id")).collect();
    let url = format!("http://{}", server.address());
    let shown = done(&["runs", "delete", ids[0], ids[1], "--server", &url]);
    assert_eq!(shown, format!("{}  deleted\n{}  deleted\n", ids[0], ids[1]));
    let gone = loom(&["runs", "delete", ids[0], "--server", &url]);
    assert_eq!(gone.code, Some(3), "{}", gone.stderr);
    assert_eq!(done(&["runs", "list", "--quiet", "--server", &url]), format!("{}\n", ids[2]));
    server.kill();

    let data = site.data();
    done(&["runs", "delete", ids[2], "--data", text(&data)]);
    assert_eq!(done(&["runs", "list", "--quiet", "--data", text(&data)]), "");
    let gone = loom(&["runs", "show", ids[2], "--data", text(&data)]);
    assert_eq!(gone.code, Some(3), "{}", gone.stderr);
}
