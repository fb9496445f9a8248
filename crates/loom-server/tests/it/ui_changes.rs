//! What the forms of the pages do to runs, workflows and tokens, and for whom they are shown.

use hyper::Method;
use loom_actions::{Connections, Sources};
use loom_expression::percent;

use crate::{
    support::{Plan, Reply, World, json, list, requested, text},
    ui::{TOKEN, csrf, guarded, page, session, visit},
};

/// Sends a form of a server without a token.
async fn send(world: &World, path: &str, body: &str) -> Reply {
    // An empty body is a form, too.
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    world.send(Method::POST, path, &headers, body.to_owned()).await.whole().await
}

/// Sends a form that is accepted, and returns where it leads.
async fn sent(world: &World, path: &str, body: &str) -> String {
    let reply = send(world, path, body).await;
    assert_eq!(reply.status, 303, "{path}: {}", reply.text());
    reply.header("location").unwrap().to_owned()
}

/// The page of a run, once it contains something.
async fn shows(world: &World, path: &str, wanted: &str) -> String {
    loop {
        let html = page(world, path).await;
        if html.contains(wanted) {
            return html;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_wait_is_skipped_and_a_retry_made_at_once() {
    let world = World::new().await;
    world
        .deploy(
            "w",
            &requested(
                r#"{"Rest": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Day"}}, "runAfter": {}},
                    "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://127.0.0.1:1/",
                        "retryPolicy": {"type": "fixed", "interval": "PT1H", "count": 1}}, "runAfter": {"Rest": ["Succeeded"]}}}"#,
            ),
        )
        .await;
    let run = world.invoke("w", "").await;
    let html = shows(&world, &format!("/ui/runs/{run}?action=Rest"), "Skip the wait").await;
    assert!(html.contains(&format!("action=\"/ui/runs/{run}/skip-wait\"")), "{html}");
    // What does not wait has no such button, and is refused.
    let refused = world.post(&format!("/api/v1/runs/{run}/actions/Call/skip-wait"), "").await;
    assert_eq!((refused.status, refused.error().as_str()), (409, "ActionNotWaiting"));
    let unknown = world.post(&format!("/api/v1/runs/{run}/actions/None/skip-wait"), "").await;
    assert_eq!((unknown.status, unknown.error().as_str()), (404, "ActionNotFound"));
    let to = sent(&world, &format!("/ui/runs/{run}/skip-wait"), "action=Rest").await;
    assert_eq!(to, format!("/ui/runs/{run}?action=Rest&done=skip"));
    // The first attempt fails at once; the second is due in an hour.
    shows(&world, &format!("/ui/runs/{run}?action=Call"), "Retry now").await;
    // A suspended run stays as it is.
    sent(&world, &format!("/ui/runs/{run}/suspend"), "").await;
    let suspended = world.post(&format!("/api/v1/runs/{run}/actions/Call/skip-wait"), "").await;
    assert_eq!((suspended.status, suspended.error().as_str()), (409, "RunSuspended"));
    sent(&world, &format!("/ui/runs/{run}/resume"), "").await;
    sent(&world, &format!("/ui/runs/{run}/skip-wait"), "action=call").await;
    let ended = world.ended(&run).await;
    assert_eq!(text(&ended, "status"), "Failed");
    let call = world.get(&format!("/api/v1/runs/{run}/actions/Call")).await.json();
    assert_eq!(list(&list(&call, "occurrences")[0], "attempts").len(), 2);
    let late = world.post(&format!("/api/v1/runs/{run}/actions/Call/skip-wait"), "").await;
    assert_eq!((late.status, late.error().as_str()), (409, "RunEnded"));
    world.stop().await;
}

#[tokio::test]
async fn a_run_is_resubmitted_from_an_action_or_the_page_says_why_not() {
    let world = World::new().await;
    world
        .deploy(
            "w",
            &requested(
                r#"{"First": {"type": "Compose", "inputs": "@guid()", "runAfter": {}},
                    "Each": {"type": "Foreach", "foreach": "@range(0, 2)", "runAfter": {"First": ["Succeeded"]},
                        "actions": {"Inside": {"type": "Compose", "inputs": 1, "runAfter": {}}}},
                    "Last": {"type": "Compose", "inputs": "@div(1, 0)", "runAfter": {"Each": ["Succeeded"]}}}"#,
            ),
        )
        .await;
    let run = world.run("w", "").await;
    let id = text(&run, "id");
    let html = page(&world, &format!("/ui/runs/{id}?action=Last")).await;
    assert!(html.contains("Resubmit from here"), "{html}");
    let inside = page(&world, &format!("/ui/runs/{id}?action=Inside")).await;
    assert!(!inside.contains("Resubmit from here"), "not in a loop: {inside}");
    let to = sent(&world, &format!("/ui/runs/{id}/resubmit"), "from=Last&definition=same").await;
    let new = to.strip_prefix("/ui/runs/").and_then(|to| to.strip_suffix("?done=resubmit")).unwrap();
    let ended = world.ended(new).await;
    assert_eq!((text(&ended, "status"), text(&ended, "resubmitOf")), ("Failed", id));
    let outputs = async |run: &str| {
        let first = world.get(&format!("/api/v1/runs/{run}/actions/First")).await.json();
        list(&first, "occurrences")[0].get("outputs").unwrap().clone()
    };
    assert_eq!(outputs(new).await, outputs(id).await, "the action before was not executed again");
    let why = send(&world, &format!("/ui/runs/{id}/resubmit"), "from=Inside&definition=same").await;
    assert_eq!(why.status, 409, "{}", why.text());
    assert!(why.text().contains("ActionNotResubmittable"), "{}", why.text());
    world.stop().await;
}

#[tokio::test]
async fn a_signal_is_sent_from_the_page_of_a_run() {
    let world = World::new().await;
    let definition =
        requested(r#"{"Hear": {"type": "WaitForSignal", "inputs": {"name": "go"}, "runAfter": {}}}"#);
    world.deploy("w", &definition).await;
    let run = world.invoke("w", "").await;
    let html = page(&world, &format!("/ui/runs/{run}")).await;
    assert!(html.contains(&format!("action=\"/ui/runs/{run}/signal\"")), "{html}");
    let wrong = send(&world, &format!("/ui/runs/{run}/signal"), "name=go&body=%7B").await;
    assert!(wrong.status == 400 && wrong.text().contains("The body must be JSON"), "{}", wrong.text());
    sent(&world, &format!("/ui/runs/{run}/signal"), "name=go&body=%7B%22ok%22%3Atrue%7D").await;
    assert_eq!(text(&world.ended(&run).await, "status"), "Succeeded");
    world.stop().await;
}

/// An agent that asks for a refund, and says what came of it.
const MODELS: &str = r#"{"models": {"m": {"api": "scripted", "replies": [
    {"when": {"last": "refund 7"}, "text": "I refund.", "toolCalls": [{"name": "refund", "arguments": {"amount": 7}}]},
    {"when": {"last": "not approved"}, "text": "There is no refund."},
    {"when": {"last": "refunded"}, "text": "Done."}]}}}"#;

#[tokio::test]
async fn a_tool_is_approved_or_rejected_in_the_chat() {
    let mut plan = Plan::default();
    plan.requests.connections = Connections::from_json(&json(MODELS), &Sources::default()).unwrap();
    let world = World::start(plan).await;
    world
        .deploy(
            "refunds",
            &requested(
                r#"{"Ask": {"type": "Agent", "inputs": {"parameters": {"modelId": "m", "messages": [{"role": "User", "content": "Please refund 7"}]}},
                    "tools": {"refund": {"description": "refunds", "approval": {"message": "<b>Refund?</b>", "to": "finance"},
                        "actions": {"Pay": {"type": "Compose", "inputs": "@concat('refunded ', string(agentParameters('amount')))"}}}}}}"#,
            ),
        )
        .await;
    for (choice, said) in [("true", "Done."), ("false", "There is no refund.")] {
        let run = world.invoke("refunds", "").await;
        let path = format!("/ui/runs/{run}?tab=chat");
        let html = shows(&world, &path, "Approval needed").await;
        assert!(html.contains("&lt;b&gt;Refund?&lt;/b&gt;") && html.contains("for finance"), "{html}");
        let (_, rest) = html.split_once("name=\"question\" value=\"").unwrap();
        let question = percent::encode(rest.split_once('"').unwrap().0);
        let body = format!("question={question}&approved={choice}&by=Olga&reason=");
        let to = sent(&world, &format!("/ui/runs/{run}/answer"), &body).await;
        assert_eq!(to, format!("/ui/runs/{run}?tab=chat&done=answer"));
        world.ended(&run).await;
        let html = page(&world, &path).await;
        assert!(html.contains(said) && !html.contains("Approval needed"), "{html}");
        let late = send(&world, &format!("/ui/runs/{run}/answer"), &body).await;
        assert_eq!(late.status, 409, "{}", late.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_definition_is_checked_and_deployed_and_versions_are_compared() {
    let world = World::new().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let run = world.run("w", "").await;
    let wrong = "{\n \"definition\": {\"triggers\": {\"manual\": {\"type\": \"Request\"}},\n  \"actions\": {\"Go\": {\"type\": \"Compose\", \"inputs\": \"<i>two</i>\", \"runAfter\": {\"None\": []}}}}}";
    for change in ["check", "deploy"] {
        let body = format!("definition={}&bump=minor", percent::encode(wrong));
        let reply = send(&world, &format!("/ui/workflows/w/{change}"), &body).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        let html = reply.text();
        assert!(html.contains("Line 3, column ") && html.contains("None"), "{html}");
    }
    let right = wrong.replace("\"None\": []", "");
    let body = format!("definition={}&bump=minor", percent::encode(&right));
    let checked = send(&world, "/ui/workflows/w/check", &body).await;
    assert!(
        checked.status == 200 && checked.text().contains("The definition is valid."),
        "{}",
        checked.text()
    );
    let versions = world.get("/api/v1/workflows/w/versions").await.json();
    assert_eq!(list(&versions, "versions").len(), 1, "a check deploys nothing");
    let to = sent(&world, "/ui/workflows/w/deploy", &body).await;
    assert_eq!(to, "/ui/workflows/w?done=deploy");
    let html = page(&world, "/ui/workflows/w").await;
    for shown in ["Version 1.1.0", "Changes since version 1.0.0", "<ins>", "&lt;i&gt;two&lt;/i&gt;"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    let first = page(&world, "/ui/workflows/w?version=1.0.0").await;
    assert!(!first.contains("Changes since"), "{first}");
    // The run still has its own definition, and its page says what differs.
    let html = page(&world, &format!("/ui/runs/{}?tab=definition", text(&run, "id"))).await;
    assert!(html.contains("Since this run started") && html.contains("<del>"), "{html}");
    world.stop().await;
}

#[tokio::test]
async fn the_next_occurrences_of_a_recurrence_are_shown_while_it_is_enabled() {
    let world = World::new().await;
    world
        .deploy(
            "daily",
            r#"{"definition": {"triggers": {"Daily": {"type": "Recurrence", "recurrence": {"frequency": "Day", "interval": 1,
                "startTime": "2090-01-01T06:00:00Z"}}}, "actions": {}}}"#,
        )
        .await;
    let path = "/api/v1/workflows/daily/triggers/daily/occurrences";
    let next = world.get(&format!("{path}?limit=2")).await.json();
    let times: Vec<&str> = list(&next, "occurrences").iter().filter_map(|at| at.as_str()).collect();
    assert_eq!(times, ["2090-01-01T06:00:00.0000000Z", "2090-01-02T06:00:00.0000000Z"]);
    let html = page(&world, "/ui/workflows/daily").await;
    assert!(html.contains("Next occurrences") && html.contains("2090-01-05 06:00:00"), "{html}");
    sent(&world, "/ui/workflows/daily/triggers/Daily/disable", "").await;
    assert_eq!(list(&world.get(path).await.json(), "occurrences").len(), 0);
    assert!(page(&world, "/ui/workflows/daily").await.contains("/triggers/Daily/enable"));
    world.deploy("w", &requested("{}")).await;
    let none = world.get("/api/v1/workflows/w/triggers/manual/occurrences").await;
    assert_eq!((none.status, none.error().as_str()), (400, "TriggerNotRecurrent"));
    world.stop().await;
}

#[tokio::test]
async fn a_session_that_only_looks_has_no_buttons_and_changes_nothing() {
    let world = guarded().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let run = world.run("w", "").await;
    let body = format!("token={}&next=%2Fui%2Fruns&readOnly=true", TOKEN.replace(' ', "+"));
    let reply = visit(&world, Method::POST, "/ui/login", "", &body).await;
    let looks = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let acts = session(&world).await;
    let run = format!("/ui/runs/{}", text(&run, "id"));
    for (path, button) in [
        (run.as_str(), "/delete\""),
        ("/ui/workflows/w", "/disable\""),
        ("/ui/workflows/w", "/ui/workflows/w/deploy\""),
        ("/ui/workflows/w", "sig="),
        ("/ui/workflows/w", "Start a run"),
        ("/ui/runs?workflow=w", "/ui/runs/bulk/cancel"),
        ("/ui/access", "/ui/access/tokens/create"),
    ] {
        let with = visit(&world, Method::GET, path, &acts, "").await.text();
        let without = visit(&world, Method::GET, path, &looks, "").await.text();
        assert!(with.contains(button) && !without.contains(button), "{path} {button}: {without}");
    }
    // The form of another session, with the proof of this one.
    let html = visit(&world, Method::GET, "/ui/runs", &looks, "").await.text();
    let body = format!("csrf={}", csrf(&html));
    for path in
        [format!("{run}/delete"), "/ui/workflows/w/disable".to_owned(), "/ui/access/x/revoke".to_owned()]
    {
        let refused = visit(&world, Method::POST, &path, &looks, &body).await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("InsufficientScope"), "{}", refused.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_created_and_revoked_on_its_page_and_shown_once() {
    let world = guarded().await;
    let cookie = session(&world).await;
    let html = visit(&world, Method::GET, "/ui/access", &cookie, "").await.text();
    let proof = csrf(&html).to_owned();
    let none =
        visit(&world, Method::POST, "/ui/access/tokens/create", &cookie, &format!("csrf={proof}&name=ci"))
            .await;
    assert!(none.status == 400 && none.text().contains("must be a list of one or more"), "{}", none.text());
    let body = format!("csrf={proof}&name=ci&scope.read=true&scope.deploy=true&expires=");
    let made = visit(&world, Method::POST, "/ui/access/tokens/create", &cookie, &body).await;
    let html = made.text();
    assert!(made.status == 200 && html.contains("value=\"loom_ci_"), "{html}");
    let html = visit(&world, Method::GET, "/ui/access", &cookie, "").await.text();
    assert!(!html.contains("loom_ci_") && html.contains("/ui/access/ci/revoke"), "{html}");
    assert!(html.contains("api (session)") && html.contains("POST /api/v1/tokens"), "{html}");
    let reply = visit(&world, Method::POST, "/ui/access/ci/revoke", &cookie, &format!("csrf={proof}")).await;
    assert_eq!(reply.header("location"), Some("/ui/access?done=revoke"));
    world.stop().await;
}

#[tokio::test]
async fn a_login_link_signs_in_once_and_only_by_its_form() {
    let world = guarded().await;
    let link = world.login_link.clone().expect("a link");
    let code = link.strip_prefix("/ui/login?code=").unwrap();
    // A preview of the link does not use it up.
    for _ in 0..2 {
        let html = page(&world, &link).await;
        assert!(
            html.contains(&format!("name=\"code\" value=\"{code}\"")) && !html.contains("name=\"token\""),
            "{html}"
        );
    }
    let body = format!("code={code}&next=%2Fui%2Fstatus");
    let reply = visit(&world, Method::POST, "/ui/login", "", &body).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/ui/status")));
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(visit(&world, Method::GET, "/ui/access", &cookie, "").await.status, 200);
    let again = visit(&world, Method::POST, "/ui/login", "", &body).await;
    assert_eq!((again.status, again.header("set-cookie")), (403, None));
    world.stop().await;
    assert_eq!(World::new().await.login_link, None, "a server without a token needs none");
}

/// One step changes 200 runs; the next one continues after them.
#[tokio::test]
async fn the_next_step_of_a_change_of_many_runs_has_other_runs() {
    let world = World::new().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let oldest = world.run("w", "").await;
    for _ in 0..201 {
        world.run("w", "").await;
    }
    let oldest = text(&oldest, "id");
    let first =
        send(&world, "/ui/runs/bulk/resubmit", "workflow=w&before=2999-01-01T00%3A00%3A00Z").await.text();
    assert!(first.contains("200 runs were resubmitted") && !first.contains(oldest), "{first}");
    let link =
        first.split("href=\"").find(|part| part.starts_with("/ui/runs/bulk/resubmit")).expect("a link");
    let link = link.split('"').next().unwrap().replace("&amp;", "&");
    let second = page(&world, &link).await;
    assert!(second.contains("2 runs will be resubmitted") && second.contains(oldest), "{second}");
    let cursor =
        second.split("name=\"cursor\" value=\"").nth(1).and_then(|part| part.split('"').next()).unwrap();
    let body = format!("workflow=w&before=2999-01-01T00%3A00%3A00Z&cursor={cursor}");
    let done = send(&world, "/ui/runs/bulk/resubmit", &body).await.text();
    assert!(done.contains("2 runs were resubmitted") && done.contains(oldest), "{done}");
    assert!(!done.contains("Continue with the next"), "{done}");
}
