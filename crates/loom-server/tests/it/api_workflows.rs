//! Workflows and their versions: deployed, rejected, withdrawn and deleted.

use hyper::Method;
use loom_expression::Value;
use loom_server::DeployError;

use crate::support::{Plan, World, list, on_disk, requested, text};

/// A workflow that responds with `number`.
fn answering(number: u32) -> String {
    requested(&format!(
        r#"{{"Answer": {{"type": "Response", "inputs": {{"body": {number}}}, "runAfter": {{}}}}}}"#
    ))
}

async fn answer(world: &World) -> String {
    let reply = world.post("/workflows/orders/triggers/manual/invoke", "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.text()
}

fn versions(rows: &Value) -> Vec<&str> {
    list(rows, "versions").iter().map(|row| text(row, "version")).collect()
}

#[tokio::test]
async fn a_changed_definition_is_published_as_the_next_version() {
    let world = World::new().await;
    let created = world.call(Method::PUT, "/api/v1/workflows/Orders", &answering(1)).await;
    assert_eq!((created.status, text(&created.json(), "version")), (201, "1.0.0"));
    let same = world.call(Method::PUT, "/api/v1/workflows/orders", &answering(1)).await;
    assert_eq!((same.status, text(&same.json(), "version")), (200, "1.0.0"));
    let bumps = [("", 2, "1.0.1"), ("?bump=patch", 3, "1.0.2"), ("?bump=minor", 4, "1.1.0")];
    for (bump, number, version) in bumps.into_iter().chain([("?bump=major", 5, "2.0.0"), ("", 6, "2.0.1")]) {
        let path = format!("/api/v1/workflows/Orders{bump}");
        let changed = world.call(Method::PUT, &path, &answering(number)).await;
        assert_eq!((changed.status, text(&changed.json(), "version")), (201, version));
        assert_eq!(answer(&world).await, number.to_string());
    }
    let rows = world.get("/api/v1/workflows/ORDERS/versions").await.json();
    assert_eq!(versions(&rows), ["1.0.0", "1.0.1", "1.0.2", "1.1.0", "2.0.0", "2.0.1"]);
    let current = |row: &Value| row.get("current").and_then(Value::as_bool).unwrap();
    let flags: Vec<bool> = list(&rows, "versions").iter().map(current).collect();
    assert_eq!(flags, [false, false, false, false, false, true]);
    // Each keeps its definition.
    let old = world.get("/api/v1/workflows/orders/versions/1.0.1").await.json();
    let action = old.get("definition").and_then(|all| all.get("definition")).unwrap();
    let body = action.get("actions").and_then(|all| all.get("Answer")?.get("inputs")?.get("body"));
    assert_eq!(body, Some(&Value::from(2i64)));
    for unknown in ["1.0.9", "latest", "1.0", "%20"] {
        let reply = world.get(&format!("/api/v1/workflows/orders/versions/{unknown}")).await;
        assert_eq!((reply.status, reply.error().as_str()), (404, "VersionNotFound"));
    }
    let wrong = world.call(Method::PUT, "/api/v1/workflows/orders?bump=huge", &answering(7)).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "BadRequest"));
}

#[tokio::test]
async fn a_version_shows_the_metadata_of_its_definition() {
    let directory = tempfile::tempdir().unwrap();
    let answering = |tags: &str| {
        format!(
            r#"{{"tags": {tags}, "definition": {{"description": "asks the stock", "triggers": {{"manual": {{"type": "Request"}}}},
                "actions": {{"Answer": {{"type": "Response", "inputs": {{"body": "@workflow()['tags']"}}}}}}}}}}"#
        )
    };
    let plan = || Plan { store: on_disk(directory.path()), ..Plan::default() };
    let world = World::start(plan()).await;
    for tags in [r#"{"team":"stock"}"#, r#"["stock","daily"]"#] {
        let path = "/api/v1/workflows/orders";
        assert_eq!(world.call(Method::PUT, path, &answering(tags)).await.status, 201);
        assert_eq!(answer(&world).await, tags);
    }
    world.stop().await;
    // All versions are kept.
    let world = World::start(plan()).await;
    assert_eq!(answer(&world).await, r#"["stock","daily"]"#);
    let rows = world.get("/api/v1/workflows/orders/versions").await.json();
    assert_eq!(versions(&rows), ["1.0.0", "1.0.1"]);
    let rows = list(&rows, "versions");
    assert_eq!(rows[0].get("tags").unwrap().to_json_text(), r#"{"team":"stock"}"#);
    assert_eq!(rows[1].get("tags").unwrap().to_json_text(), r#"["stock","daily"]"#);
    assert!(rows.iter().all(|row| text(row, "description") == "asks the stock"));
    let times: Vec<_> =
        rows.iter().map(|row| (text(row, "createdTime"), text(row, "publishedTime"))).collect();
    assert_eq!((times[0].0, times[0].0), (times[0].1, times[1].0));
    assert!(times[1].1 >= times[0].1);
    world.stop().await;
}

#[tokio::test]
async fn if_none_match_protects_an_existing_name() {
    let world = World::new().await;
    let create = async |number| {
        let headers = [("if-none-match", "*"), ("content-type", "application/json")];
        let path = "/api/v1/workflows/orders";
        world.send(Method::PUT, path, &headers, answering(number)).await.whole().await
    };
    assert_eq!(create(1).await.status, 201);
    // The same definition is rejected as well: the caller wanted a new name.
    for number in [1, 2] {
        let taken = create(number).await;
        assert_eq!((taken.status, taken.error().as_str()), (412, "WorkflowAlreadyExists"));
    }
    assert_eq!(answer(&world).await, "1");
}

#[tokio::test]
async fn a_broken_definition_keeps_the_previous_version() {
    let world = World::new().await;
    world.deploy("orders", &answering(1)).await;
    let broken =
        requested(r#"{"A": {"type": "Compose", "inputs": "@body('Nobody')", "runAfter": {"B": []}}}"#);
    assert!(matches!(world.try_deploy("orders", &broken).await, Err(DeployError::Refused(_))));
    assert_eq!(answer(&world).await, "1");
    // The API says where the error is and how to fix it.
    let refused = world.call(Method::PUT, "/api/v1/workflows/orders", &broken).await;
    assert_eq!((refused.status, refused.error().as_str()), (400, "InvalidDefinition"));
    assert!(refused.text().contains("the version deployed before stays in service"), "{}", refused.text());
    let details = refused.json();
    let details = list(details.get("error").unwrap(), "details").to_vec();
    assert!(details.len() >= 2, "all mistakes at once: {details:?}");
    for detail in &details {
        assert!(text(detail, "code").starts_with("LOOM") || !text(detail, "code").is_empty());
        let offset = detail.get("offset").and_then(Value::as_i64).unwrap() as usize;
        let length = detail.get("length").and_then(Value::as_i64).unwrap() as usize;
        assert!(offset + length <= broken.len());
        assert!(text(detail, "pointer").starts_with("/definition/actions/A"), "{detail:?}");
    }
    let rows = world.get("/api/v1/workflows/orders/versions").await.json();
    assert_eq!(versions(&rows), ["1.0.0"]);
    // Not JSON at all.
    for nonsense in ["", "{", "[]", "null", "\"a\"", "\u{feff}"] {
        let refused = world.call(Method::PUT, "/api/v1/workflows/other", nonsense).await;
        assert_eq!((refused.status, refused.error().as_str()), (400, "InvalidDefinition"), "{nonsense:?}");
        assert!(refused.text().contains("nothing was deployed"), "{}", refused.text());
    }
    assert_eq!(world.get("/api/v1/workflows/other").await.error(), "WorkflowNotFound");
}

#[tokio::test]
async fn a_withdrawn_workflow_is_no_longer_served() {
    let world = World::new().await;
    world.deploy("orders", &answering(1)).await;
    world.deploy("Billing", &answering(2)).await;
    let all = world.get("/api/v1/workflows").await.json();
    let names: Vec<&str> = list(&all, "workflows").iter().map(|row| text(row, "name")).collect();
    assert_eq!(names, ["Billing", "orders"]);
    // As when its file disappears.
    assert!(world.host.withdraw("ORDERS"));
    assert!(!world.host.withdraw("orders"));
    let gone = world.post("/workflows/orders/triggers/manual/invoke", "").await;
    assert_eq!((gone.status, gone.error().as_str()), (404, "WorkflowNotFound"));
    assert_eq!(world.get("/api/v1/workflows/orders").await.error(), "WorkflowNotFound");
    // Its versions stay, and the numbering continues.
    world.deploy("orders", &answering(3)).await;
    let rows = world.get("/api/v1/workflows/orders/versions").await.json();
    assert_eq!(versions(&rows), ["1.0.0", "1.0.1"]);
    // After a deletion, they do not.
    let deleted = world.call(Method::DELETE, "/api/v1/workflows/Orders", "").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let again = world.call(Method::DELETE, "/api/v1/workflows/orders", "").await;
    assert_eq!((again.status, again.error().as_str()), (404, "WorkflowNotFound"));
    assert_eq!(world.get("/api/v1/workflows/orders/versions").await.error(), "WorkflowNotFound");
}

#[tokio::test]
async fn a_run_finishes_on_the_version_it_started_with() {
    let world = World::new().await;
    let slow = |number: u32| {
        requested(&format!(
            r#"{{"Pause": {{"type": "Wait", "inputs": {{"interval": {{"count": 1, "unit": "Hour"}}}}, "runAfter": {{}}}},
                "Say": {{"type": "Compose", "inputs": {number}, "runAfter": {{"Pause": ["Cancelled", "Succeeded"]}}}}}}"#
        ))
    };
    world.deploy("orders", &slow(1)).await;
    let run = world.invoke("orders", "").await;
    let before = world.get(&format!("/api/v1/runs/{run}")).await.json();
    world.deploy("orders", &slow(2)).await;
    let after = world.get(&format!("/api/v1/runs/{run}")).await.json();
    assert_eq!(text(&before, "definition"), text(&after, "definition"));
    let new = world.invoke("orders", "").await;
    let new = world.get(&format!("/api/v1/runs/{new}")).await.json();
    assert_ne!(text(&before, "definition"), text(&new, "definition"));
}

#[tokio::test]
async fn a_workflow_deployed_through_the_api_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    for number in [1, 2] {
        world.call(Method::PUT, "/api/v1/workflows/Orders", &answering(number)).await;
    }
    world.deploy("from-a-file", &answering(3)).await;
    let url = world.host.trigger_url("orders", "manual");
    world.stop().await;
    let world = World::start(Plan { store: on_disk(directory.path()), ..Plan::default() }).await;
    assert_eq!(answer(&world).await, "2");
    let rows = world.get("/api/v1/workflows/orders/versions").await.json();
    assert_eq!(versions(&rows), ["1.0.0", "1.0.1"]);
    // A file is deployed as long as it exists; this time there is no file.
    assert_eq!(world.get("/api/v1/workflows/from-a-file").await.error(), "WorkflowNotFound");
    assert_eq!(world.get("/api/v1/workflows/from-a-file/versions").await.status, 200);
    // Signatures that were given out remain valid.
    let signature = url.split_once("sig=").unwrap().1;
    assert!(world.host.trigger_url("orders", "manual").ends_with(signature));
}

#[tokio::test]
async fn a_trigger_shows_its_evaluated_recurrence() {
    let world = World::new().await;
    let text_of = r#"{"definition": {
        "parameters": {"every": {"type": "Int", "defaultValue": 7}, "from": {"type": "String", "defaultValue": ""}},
        "triggers": {
            "computed": {"type": "Recurrence", "recurrence": {"frequency": "Day", "interval": "@parameters('every')",
                "startTime": "@parameters('from')"}, "evaluatedRecurrence": {"frequency": "Day", "interval": 1}},
            "saved": {"type": "Recurrence", "evaluatedRecurrence": {"frequency": "Week", "startTime": "2030-01-01T00:00:00Z"}},
            "cron": {"type": "schedule", "inputs": {"cron": "0 0 1 1 *"}},
            "none": {"type": "Manual"}}, "actions": {}}}"#;
    world.deploy("w", text_of).await;
    let shown = world.get("/api/v1/workflows/w").await.json();
    let evaluated = |name: &str| {
        let trigger = list(&shown, "triggers").iter().find(|trigger| text(trigger, "name") == name).unwrap();
        trigger.get("evaluatedRecurrence").cloned()
    };
    let json = |text: &str| Some(crate::support::json(text));
    assert_eq!(evaluated("computed"), json(r#"{"frequency": "Day", "interval": 7, "startTime": ""}"#));
    assert_eq!(evaluated("saved"), json(r#"{"frequency": "Week", "startTime": "2030-01-01T00:00:00Z"}"#));
    assert_eq!(evaluated("cron"), json(r#"{"cron": "0 0 1 1 *"}"#));
    assert_eq!(evaluated("none"), None);
}

/// A deleted workflow cannot be called by others either, as after a restart.
#[tokio::test]
async fn a_deleted_workflow_is_no_longer_called_as_a_child() {
    let world = World::new().await;
    let child = requested(r#"{"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#);
    let parent = requested(
        r#"{"Call": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "child"}, "triggerName": "manual"}}, "runAfter": {}}}"#,
    );
    assert_eq!(world.call(Method::PUT, "/api/v1/workflows/child", &child).await.status, 201);
    assert_eq!(world.call(Method::PUT, "/api/v1/workflows/parent", &parent).await.status, 201);
    assert_eq!(text(&world.run("parent", "").await, "status"), "Succeeded");
    assert_eq!(world.call(Method::DELETE, "/api/v1/workflows/child", "").await.status, 204);
    let run = world.run("parent", "").await;
    assert_eq!(text(&run, "status"), "Failed");
    let path = format!("/api/v1/runs/{}/actions/Call", text(&run, "id"));
    let call = world.get(&path).await.json();
    let error = list(&call, "occurrences")[0].get("error").unwrap();
    assert_eq!(text(error, "code"), "WorkflowNotFound");
    assert_eq!(world.call(Method::PUT, "/api/v1/workflows/child", &child).await.status, 201);
    assert_eq!(text(&world.run("parent", "").await, "status"), "Succeeded");
}

/// The states of a workflow and of its first trigger.
fn states(workflow: &Value) -> (String, String) {
    let trigger = &list(workflow, "triggers")[0];
    (text(workflow, "state").to_owned(), text(trigger, "state").to_owned())
}

#[tokio::test]
async fn a_disabled_workflow_or_trigger_starts_no_run_until_it_is_enabled() {
    let directory = tempfile::tempdir().unwrap();
    let plan = || Plan { store: on_disk(directory.path()), ..Plan::default() };
    let caller = requested(
        r#"{"Call": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "orders"}}}, "runAfter": {}},
            "Answer": {"type": "Response", "inputs": {"body": "@actions('Call')?['error']?['code']"}, "runAfter": {"Call": ["Succeeded", "Failed"]}}}"#,
    );
    let (workflow, trigger) = ("/api/v1/workflows/Orders", "/api/v1/workflows/orders/triggers/Manual");
    let fire = async |world: &World| {
        let reply = world.post("/workflows/orders/triggers/manual/invoke", "").await;
        let by_hand = world.post("/api/v1/workflows/orders/triggers/manual/run", "").await;
        let called = world.post("/workflows/caller/triggers/manual/invoke", "").await.text();
        if reply.status == 200 {
            assert_eq!((by_hand.status, called.as_str()), (202, ""));
        } else {
            assert_eq!((reply.status, reply.error().as_str()), (400, "WorkflowTriggerIsNotEnabled"));
            assert_eq!((by_hand.status, by_hand.error().as_str()), (400, "WorkflowTriggerIsNotEnabled"));
            assert_eq!(called, "WorkflowTriggerIsNotEnabled");
            assert!(reply.text().contains("loom workflows enable orders"), "{}", reply.text());
        }
        reply.status
    };
    let own = |on: &str| (on.to_owned(), on.to_owned());
    let world = World::start(plan()).await;
    world.deploy("caller", &caller).await;
    world.deploy("orders", &answering(1)).await;
    assert_eq!(states(&world.get(workflow).await.json()), own("Enabled"));
    for path in [workflow, trigger] {
        assert_eq!(fire(&world).await, 200);
        let disabled = world.post(&format!("{path}/disable"), "").await;
        assert_eq!(disabled.status, 200, "{}", disabled.text());
        let whole = path == workflow;
        let expected = if whole { "Disabled" } else { "Enabled" };
        assert_eq!(states(&disabled.json()), (expected.to_owned(), "Disabled".to_owned()));
        let by = text(&list(&disabled.json(), "triggers")[0], "disabledBy").to_owned();
        assert_eq!(by, if whole { "workflow" } else { "trigger" });
        assert_eq!(fire(&world).await, 400);
        // A new version is the same workflow, so it stays disabled.
        world.deploy("orders", &answering(if whole { 2 } else { 3 })).await;
        assert_eq!(fire(&world).await, 400);
        let enabled = world.post(&format!("{path}/enable"), "").await;
        assert_eq!(states(&enabled.json()), own("Enabled"));
    }
    assert_eq!(fire(&world).await, 200);
    world.post(&format!("{workflow}/disable"), "").await;
    world.stop().await;

    // The command survives the process. It belongs to the name, and is deleted with it.
    let world = World::start(plan()).await;
    world.deploy("caller", &caller).await;
    world.deploy("orders", &answering(3)).await;
    assert_eq!(fire(&world).await, 400);
    assert_eq!(world.call(Method::DELETE, workflow, "").await.status, 204);
    world.deploy("orders", &answering(3)).await;
    assert_eq!(fire(&world).await, 200);
    for (path, code) in [
        ("/api/v1/workflows/none/disable", "WorkflowNotFound"),
        ("/api/v1/workflows/none/triggers/manual/enable", "WorkflowNotFound"),
        ("/api/v1/workflows/orders/triggers/none/disable", "WorkflowTriggerNotFound"),
    ] {
        let reply = world.post(path, "").await;
        assert_eq!((reply.status, reply.error().as_str()), (404, code));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_setting_that_disables_a_workflow_overrides_the_operator() {
    let world = World::new().await;
    world.host.set_disabled(["orders".to_owned()].into());
    world.deploy("orders", &answering(1)).await;
    let enabled = world.post("/api/v1/workflows/orders/enable", "").await.json();
    assert_eq!((text(&enabled, "state"), text(&enabled, "disabledBy")), ("Disabled", "setting"));
    let reply = world.post("/workflows/orders/triggers/manual/invoke", "").await;
    assert_eq!((reply.status, reply.error().as_str()), (400, "WorkflowTriggerIsNotEnabled"));
    // The operator's command applies once the setting is gone.
    world.post("/api/v1/workflows/orders/disable", "").await;
    world.host.set_disabled([].into());
    world.deploy("orders", &answering(1)).await;
    let shown = world.get("/api/v1/workflows/orders").await.json();
    assert_eq!((text(&shown, "state"), text(&shown, "disabledBy")), ("Disabled", "workflow"));
    world.post("/api/v1/workflows/orders/enable", "").await;
    assert_eq!(answer(&world).await, "1");
}

#[tokio::test]
async fn a_response_that_http_cannot_carry_names_what_is_wrong_with_it() {
    let world = World::new().await;
    for (inputs, said) in [
        (r#"{"headers": {"x-note": "a\nb"}}"#, "The value of the header 'x-note'"),
        (r#"{"headers": {"x note": "a"}}"#, "an invalid name: 'x note'"),
    ] {
        let actions =
            format!(r#"{{"Answer": {{"type": "Response", "inputs": {inputs}, "runAfter": {{}}}}}}"#);
        world.deploy("orders", &requested(&actions)).await;
        let reply = world.post("/workflows/orders/triggers/manual/invoke", "").await;
        assert_eq!((reply.status, reply.error().as_str()), (500, "InvalidResponse"), "{inputs}");
        assert!(reply.text().contains(said), "{inputs}: {}", reply.text());
    }
}
