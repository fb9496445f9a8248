//! The pages below `/ui/`: what they show, who may see them, and what their forms do.

use std::sync::Arc;

use hyper::Method;
use loom_actions::{
    Connections, Sources,
    secrets::{MasterKey, NamedProvider, NewSecret, Secrets, Vault},
};
use loom_engine::{clock::SystemClock, ports::Clock as _};
use loom_expression::Timestamp;
use loom_models::{Answer, Api, ToolCall};
use loom_server::{SecretStore, ServerSettings};
use loom_testkit::wire::{Reply, Wire};
use tokio::sync::Semaphore;

use crate::support::{Plan, Reply as Response, World, json, list, requested, text};

pub(crate) const TOKEN: &str = "a token of the test";

/// Names and values that would be markup if they were not escaped.
const HOSTILE: &str = "</title><script>alert(1)</script>";

/// Fails in the second of three iterations, and handles it.
fn lines() -> String {
    requested(
        r#"{
          "Lines": {"type": "Foreach", "foreach": "@range(0, 3)", "runAfter": {}, "runtimeConfiguration": {"concurrency": {"repetitions": 1}},
            "actions": {"Check": {"type": "Compose", "inputs": "@div(6, sub(1, item()))", "runAfter": {}}}},
          "Mend": {"type": "Compose", "inputs": "</script><img src=x onerror=alert(1)>", "runAfter": {"Lines": ["Failed"]}}
        }"#,
    )
}

pub(crate) async fn guarded() -> World {
    let settings = ServerSettings { token: Some(TOKEN.into()), ..ServerSettings::default() };
    World::start(Plan { settings, ..Plan::default() }).await
}

/// A request as a browser makes it: without the token, with a cookie.
pub(crate) async fn visit(world: &World, method: Method, path: &str, cookie: &str, body: &str) -> Response {
    let mut headers = vec![("cookie", cookie), ("sec-fetch-site", "same-origin")];
    if !body.is_empty() {
        headers.push(("content-type", "application/x-www-form-urlencoded"));
    }
    world.send(method, path, &headers, body.to_owned()).await.whole().await
}

pub(crate) async fn page(world: &World, path: &str) -> String {
    let reply = visit(world, Method::GET, path, "", "").await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = reply.text();
    assert_confined(&html);
    html
}

/// Nothing on a page needs what its policy forbids.
fn assert_confined(html: &str) {
    for forbidden in [" style=", "<style", " onclick", " onerror=\"", " onload", "javascript:", "src=\"http"]
    {
        assert!(!html.contains(forbidden), "{forbidden}: {html}");
    }
    // The only scripts are those of the server.
    for script in html.split("<script").skip(1) {
        assert!(script.starts_with(" src=\"/ui/assets/loom.js?"), "{script}");
    }
}

/// Signs in, and returns the cookie.
pub(crate) async fn session(world: &World) -> String {
    let body = format!("token={}&next=%2Fui%2Fworkflows", TOKEN.replace(' ', "+"));
    let reply = visit(world, Method::POST, "/ui/login", "", &body).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/ui/workflows")));
    let set = reply.header("set-cookie").expect("a cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

/// The CSRF token in the forms of a page.
pub(crate) fn csrf(html: &str) -> &str {
    let (_, rest) = html.split_once("name=\"csrf\" value=\"").expect("a form with a token");
    rest.split_once('"').unwrap().0
}

#[tokio::test]
async fn a_run_is_found_in_the_list_and_its_failure_in_its_graph() {
    let world = World::new().await;
    world.deploy("order lines", &lines()).await;
    let run = world.run("order%20lines", "").await;
    let id = text(&run, "id");

    let html = page(&world, "/ui/runs").await;
    assert!(html.contains(&format!("href=\"/ui/runs/{id}\"")), "{html}");
    assert!(html.contains("href=\"/ui/workflows/order%20lines\""), "{html}");
    let none = page(&world, "/ui/runs?status=Cancelled").await;
    assert!(none.contains("No run fits the filter") && !none.contains(id), "{none}");

    let html = page(&world, &format!("/ui/runs/{id}")).await;
    assert!(html.contains("data-state=\"Failed\"") && html.contains("Lines, Foreach, Failed"), "{html}");
    let first = format!("/ui/runs/{id}?action=Check&amp;number=2#details");
    assert!(html.contains(&format!("href=\"{first}\"")), "it leads to the failure inside the loop: {html}");

    let html = page(&world, &format!("/ui/runs/{id}?action=Check&number=2")).await;
    assert!(html.contains("Execution 2 of 3") && html.contains("data-selected"), "{html}");
    assert!(html.contains("DivisionByZero") || html.contains("zero"), "{html}");

    let html = page(&world, &format!("/ui/runs/{id}?action=Mend")).await;
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;") && !html.contains("<img"), "{html}");

    for tab in ["timeline", "chat", "events", "data", "definition"] {
        let html = page(&world, &format!("/ui/runs/{id}?tab={tab}")).await;
        assert!(html.contains("aria-current=\"page\""), "{html}");
    }
    let missing = visit(&world, Method::GET, "/ui/runs/0000000000000", "", "").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("RunNotFound"), "{}", missing.text());
    world.stop().await;
}

/// Fails in the executions 2 and 5 of 6, in a condition in a loop.
fn removals() -> String {
    requested(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 6)", "runAfter": {}, "runtimeConfiguration": {"concurrency": {"repetitions": 1}},
            "actions": {"Check": {"type": "If", "expression": {"equals": [1, 1]}, "runAfter": {},
              "actions": {"Remove": {"type": "Compose", "inputs": "@div(6, sub(1, mod(item(), 3)))", "runAfter": {}}}}}},
           "After": {"type": "Compose", "inputs": 1, "runAfter": {"Each": ["Succeeded"]}}}"#,
    )
}

#[tokio::test]
async fn a_failure_among_several_executions_is_shown_first_everywhere() {
    let world = World::new().await;
    world.deploy("removals", &removals()).await;
    let run = world.run("removals", "").await;
    let id = text(&run, "id");
    let base = format!("/api/v1/runs/{id}");

    let actions = world.get(&format!("{base}/actions")).await.json();
    assert_eq!(
        actions.get("firstFailure").unwrap(),
        &json(r#"{"action": "Remove", "number": 2}"#),
        "the action inside the containers that failed because of it"
    );
    let remove = list(&actions, "actions").iter().find(|action| text(action, "name") == "Remove").unwrap();
    assert_eq!((text(remove, "status"), text(remove, "worstStatus")), ("Succeeded", "Failed"));
    let counts = remove.get("occurrenceStatuses").unwrap().to_json_text();
    assert_eq!(counts, r#"{"Failed":2,"Succeeded":4}"#);

    // The graph, its descriptions and its colours.
    let html = page(&world, &format!("/ui/runs/{id}")).await;
    for shown in ["Remove, Compose, Failed, 6× · 2 failed", "Check, If, Failed, 6× · 2 failed"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert_eq!(html.matches("data-state=\"Failed\"").count(), 3, "Each, Check and Remove: {html}");
    assert!(html.contains(&format!("/ui/runs/{id}?action=Remove&amp;number=2#details")), "{html}");

    // An action opens at its first failure, from which a link leads to the next one, and back.
    let first = page(&world, &format!("/ui/runs/{id}?action=remove")).await;
    for shown in ["Execution 2 of 6", "2 failed", "number=5#details\">Next failed", "2 of Each"] {
        assert!(first.contains(shown), "{shown}: {first}");
    }
    assert!(!first.contains("Previous failed") && !first.contains("Go to the first failed"), "{first}");
    let second = page(&world, &format!("/ui/runs/{id}?action=Remove&number=5")).await;
    assert!(
        second.contains("number=2#details\">Previous failed") && !second.contains("Next failed"),
        "{second}"
    );
    let good = page(&world, &format!("/ui/runs/{id}?action=Remove&number=3")).await;
    assert!(good.contains("Execution 3 of 6") && good.contains("Previous failed"), "{good}");

    // Only failures, by page, in the order of their numbers.
    let failed = world.get(&format!("{base}/actions/Remove?failed=true&limit=1")).await.json();
    let number = |page: &loom_expression::Value| list(page, "occurrences")[0].get("number").unwrap().as_i64();
    assert_eq!(number(&failed), Some(2));
    let next = text(&failed, "next");
    let failed = world.get(&format!("{base}/actions/Remove?failed=true&limit=1&cursor={next}")).await.json();
    assert_eq!((number(&failed), failed.get("next")), (Some(5), None));
    let wrong = world.get(&format!("{base}/actions/Remove?failed=perhaps")).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "BadRequest"));

    // The timeline has every execution, with its iteration counted from 1.
    let html = page(&world, &format!("/ui/runs/{id}?tab=timeline")).await;
    for shown in ["Each, Failed", "Remove [2], Failed", "Remove [6], Succeeded", "Check [5], Failed"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains("After"), "what was skipped has no bar: {html}");
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{base}/executions?limit=5{cursor}")).await.json();
        rows.extend(
            list(&page, "executions")
                .iter()
                .map(|row| format!("{} {}", text(row, "action"), row.get("number").unwrap().to_json_text())),
        );
        match page.get("next") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => break,
        }
    }
    assert_eq!(rows.len(), 13, "{rows:?}");
    assert_eq!(rows[..4], ["Each 1", "Check 1", "Remove 1", "Check 2"], "{rows:?}");
    assert_eq!(rows.iter().collect::<std::collections::BTreeSet<_>>().len(), 13, "{rows:?}");
    world.stop().await;
}

#[tokio::test]
async fn the_executions_of_a_long_loop_have_pages() {
    let world = World::new().await;
    let many = requested(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 150)", "runAfter": {}, "runtimeConfiguration": {"concurrency": {"repetitions": 1}},
            "actions": {"One": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}"#,
    );
    world.deploy("many", &many).await;
    let run = world.run("many", "").await;
    let base = format!("/ui/runs/{}?tab=timeline", text(&run, "id"));
    let first = page(&world, &base).await;
    assert!(first.contains("Executions 1 to 100") && first.contains("cursor=100\">Later"), "{first}");
    assert!(
        first.contains("One [99]") && !first.contains("One [100]") && !first.contains("Earlier"),
        "{first}"
    );
    let second = page(&world, &format!("{base}&cursor=100")).await;
    assert!(
        second.contains("One [100]") && second.contains("One [150]") && second.contains("Earlier"),
        "{second}"
    );
    assert!(second.contains("Executions 101 to 151") && !second.contains("Later"), "{second}");
    world.stop().await;
}

#[tokio::test]
async fn the_turns_of_an_agent_are_calls_of_the_model_and_not_attempts() {
    let call = Answer::calls([ToolCall::new("c1", "add", r#"{"a":1,"b":2}"#)]);
    let replies =
        [Reply::stream(Api::ChatCompletions, &call), Reply::stream(Api::ChatCompletions, &Answer::text("3"))];
    let wire = Wire::start(replies).await.unwrap();
    let world = with_model(&wire).await;
    world.deploy("agent", AGENT).await;
    let run = world.run("agent", "").await;
    let id = text(&run, "id");
    let html = page(&world, &format!("/ui/runs/{id}?action=Sums")).await;
    for shown in
        ["Sums, Agent, Succeeded, 2 model calls", "<h3>Model calls</h3>", "Model call 1<", "Model call 2<"]
    {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    // The list has a class of this name.
    assert!(!html.contains("Attempt") && !html.contains(" attempts"), "{html}");
    let html = page(&world, &format!("/ui/runs/{id}?tab=timeline")).await;
    assert!(html.contains("2 model calls") && !html.contains(" attempts"), "{html}");
    world.stop().await;
}

#[tokio::test]
async fn a_conversation_is_shown_while_it_is_written_and_afterwards() {
    const ANSWER: &str = "The sum is <b>three</b>, which is more than two.";
    let call = Answer::calls([ToolCall::new("c1", "add", r#"{"a":1,"b":2}"#)]);
    let gate = Arc::new(Semaphore::new(0));
    let last = Reply::stream(Api::ChatCompletions, &Answer::text(ANSWER)).split(5);
    let middle = last.body_bytes() / 2;
    let replies = [Reply::stream(Api::ChatCompletions, &call), last.hold_after(middle, &gate)];
    let wire = Wire::start(replies).await.unwrap();
    let world = with_model(&wire).await;
    world.deploy("agent", AGENT).await;
    let run = world.invoke("agent", "").await;
    let path = format!("/api/v1/runs/{run}/messages");
    // What has arrived is shown before the message has ended.
    let mut watcher = world.watch(&run, 0).await;
    while let Some(event) = watcher.next().await {
        if text(&event, "type").starts_with("message.") {
            break;
        }
    }
    let live = world.get(&path).await.json();
    let writing = list(&live, "messages").last().unwrap();
    assert_eq!((text(writing, "status"), text(writing, "role")), ("Running", "assistant"), "{live:?}");
    let so_far = text(writing, "text");
    assert!(!so_far.is_empty() && so_far != ANSWER && ANSWER.starts_with(so_far), "{so_far}");
    gate.add_permits(1);
    world.ended(&run).await;

    let all = world.get(&path).await.json();
    let said: Vec<(&str, &str)> =
        list(&all, "messages").iter().map(|message| (text(message, "role"), text(message, "text"))).collect();
    assert_eq!(said, [("system", "Add."), ("user", "1 + 2"), ("assistant", ""), ("assistant", ANSWER)]);
    let tool = &list(&list(&all, "messages")[2], "toolCalls")[0];
    assert_eq!((text(tool, "name"), text(tool, "status")), ("add", "Succeeded"));
    assert_eq!(tool.get("result").and_then(loom_expression::Value::as_i64), Some(3));
    let ended = &list(&all, "conversations")[0];
    assert_eq!((text(ended, "action"), text(ended, "status")), ("Sums", "Succeeded"));
    let second = world.get(&format!("{path}?limit=2&cursor=2")).await.json();
    assert_eq!((text(&list(&second, "messages")[1], "text"), second.get("next")), (ANSWER, None));
    assert_eq!(text(&world.get(&format!("{path}?limit=3")).await.json(), "next"), "3");

    let html = page(&world, &format!("/ui/runs/{run}?tab=chat")).await;
    for shown in
        ["The sum is &lt;b&gt;three&lt;/b&gt;", "1 + 2", "Tool <strong>add</strong>", "2 model calls"]
    {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains("<b>"), "{html}");
    world.stop().await;
}

/// An agent with a tool.
pub(crate) const AGENT: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {"Sums": {"type": "Agent", "inputs": {"parameters": {"modelId": "m",
    "messages": [{"role": "System", "content": "Add."}, {"role": "User", "content": "1 + 2"}]}},
    "tools": {"add": {"description": "adds", "actions": {"Sum": {"type": "Compose", "inputs": "@add(agentParameters('a'), agentParameters('b'))"}}}}}}}}"#;

/// A server whose model `m` is `wire`.
pub(crate) async fn with_model(wire: &Wire) -> World {
    let file = r#"{"models": {"m": {"api": "compatible", "baseUrl": "BASE", "model": "m-1"}}}"#;
    let mut plan = Plan::default();
    plan.requests.connections =
        Connections::from_json(&json(&file.replace("BASE", &wire.base_url())), &Sources::default()).unwrap();
    World::start(plan).await
}

#[tokio::test]
async fn a_form_that_is_refused_keeps_what_was_typed() {
    let world = World::new().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let start = "/ui/workflows/w/triggers/manual/run";
    let reply =
        visit(&world, Method::POST, start, "", "body=%7B%22a%22%3A+%3C%2Ftextarea%3E%3Cscript%3E").await;
    assert_eq!(reply.status, 400);
    let html = reply.text();
    assert_confined(&html);
    for shown in [
        "<h1>w</h1>",
        "<details class=\"start\" open",
        "The body must be JSON: ",
        "{&quot;a&quot;: &lt;/textarea&gt;&lt;script&gt;</textarea>",
        "aria-invalid=\"true\"",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert_eq!(list(&world.get("/api/v1/runs").await.json(), "runs").len(), 0);
    // The address of the form leads back when it is loaded anew.
    let again = visit(&world, Method::GET, start, "", "").await;
    assert_eq!((again.status, again.header("location")), (303, Some("/ui/workflows/w")));
    world.stop().await;
}

#[tokio::test]
async fn names_and_values_are_only_text_on_every_page() {
    let world = World::new().await;
    let name = serde_name(HOSTILE);
    let actions = format!(
        r#"{{{name}: {{"type": "Compose", "inputs": {name}, "runAfter": {{}}}}, "Stop": {{"type": "Terminate", "runAfter": {{{name}: ["Succeeded"]}},
           "inputs": {{"runStatus": "Failed", "runError": {{"code": {name}, "message": {name}}}}}}}}}"#
    );
    world.deploy("w", &requested(&actions)).await;
    let run = world.run("w", "").await;
    let id = text(&run, "id");
    let action = "%3C%2Ftitle%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E";
    for path in [
        "/ui/runs".to_owned(),
        format!("/ui/runs?workflow={action}&status=Failed&error={action}"),
        format!("/ui/runs/{id}?action={action}"),
        format!("/ui/runs/{id}?tab=timeline"),
        format!("/ui/runs/{id}?tab=events"),
        format!("/ui/runs/{id}?tab=definition"),
        "/ui/workflows/w".to_owned(),
    ] {
        let html = page(&world, &path).await;
        assert!(!html.contains("<script>"), "{path}: {html}");
    }
    world.stop().await;
}

fn serde_name(name: &str) -> String {
    loom_expression::Value::from(name).to_json_text()
}

#[tokio::test]
async fn a_form_starts_a_run_from_the_schema_of_the_trigger() {
    let world = World::new().await;
    let definition = r#"{"definition": {"triggers": {"manual": {"type": "Request", "inputs": {"schema": {"type": "object", "required": ["id"],
        "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}}}}}, "actions": {"Echo": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}}}"#;
    world.deploy("echo", definition).await;
    let html = page(&world, "/ui/workflows/echo").await;
    assert!(html.contains("name=\"field.id\"") && html.contains("type=\"number\""), "{html}");

    let start = "/ui/workflows/echo/triggers/manual/run";
    let reply = visit(&world, Method::POST, start, "", "field.id=7&field.note=a+%26+b").await;
    assert_eq!(reply.status, 303, "{}", reply.text());
    let location = reply.header("location").unwrap();
    let id = location.strip_prefix("/ui/runs/").and_then(|rest| rest.split('?').next()).unwrap();
    world.ended(id).await;
    let actions = world.get(&format!("/api/v1/runs/{id}/actions")).await.json();
    let echo = list(&actions, "actions")[0].get("outputs").unwrap().to_json_text();
    assert_eq!(echo, r#"{"id":7,"note":"a & b"}"#);

    let wrong = visit(&world, Method::POST, start, "", "field.id=seven").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("must be a whole number"), "{}", wrong.text());
    let wrong = visit(&world, Method::POST, start, "", "field.id=seven&field.note=%22kept%22").await;
    assert!(wrong.text().contains("value=\"&quot;kept&quot;\""), "{}", wrong.text());
    world.stop().await;
}

#[tokio::test]
async fn without_a_session_every_page_of_a_guarded_server_leads_to_the_login() {
    let world = guarded().await;
    for path in [
        "/ui/runs?status=Failed",
        "/ui/workflows",
        "/ui/resilience",
        "/ui/memory",
        "/ui/secrets",
        "/ui/status",
        "/ui/runs/0000000000000",
    ] {
        let reply = visit(&world, Method::GET, path, "loom-session=00", "").await;
        let location = reply.header("location").unwrap_or_default();
        assert!(reply.status == 303 && location.starts_with("/ui/login?next=%2Fui%2F"), "{path}: {location}");
    }
    let form = visit(&world, Method::POST, "/ui/runs/0000000000000/cancel", "", "x=1").await;
    assert_eq!(form.status, 303);
    let login = page(&world, "/ui/login?next=/ui/runs").await;
    assert!(login.contains("type=\"password\""), "{login}");
    let wrong = visit(&world, Method::POST, "/ui/login", "", "token=guess&next=%2Fui%2Fruns").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, None));
    assert!(wrong.text().contains("This token is not valid."), "{}", wrong.text());
    // Assets contain nothing of the server, and the login needs them.
    assert_eq!(visit(&world, Method::GET, "/ui/assets/loom.css", "", "").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_login_leads_only_to_pages_of_this_server() {
    let world = guarded().await;
    for next in
        ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2Fui%2F..%5C%5Cevil", "%2Fapi%2Fv1%2Fruns"]
    {
        let body = format!("token={}&next={next}", TOKEN.replace(' ', "+"));
        let reply = visit(&world, Method::POST, "/ui/login", "", &body).await;
        assert_eq!((reply.status, reply.header("location")), (303, Some("/ui/runs")), "{next}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_session_sees_pages_and_the_api_and_changes_only_with_its_proof() {
    let world = guarded().await;
    world.deploy("w", &requested(r#"{"Rest": {"type": "Wait", "runAfter": {}, "inputs": {"interval": {"count": 1, "unit": "Day"}}}}"#)).await;
    let run = world.invoke("w", "").await;
    let cookie = session(&world).await;
    let html = visit(&world, Method::GET, &format!("/ui/runs/{run}"), &cookie, "").await.text();
    let proof = csrf(&html).to_owned();
    // The event stream of the API, which the script opens.
    assert_eq!(
        visit(&world, Method::GET, &format!("/api/v1/runs/{run}/events"), &cookie, "").await.status,
        200
    );

    let cancel = format!("/ui/runs/{run}/cancel");
    let other = csrf(&visit(&world, Method::GET, "/ui/workflows/w", &session(&world).await, "").await.text())
        .to_owned();
    for body in ["x=1".to_owned(), "csrf=".to_owned(), format!("csrf={other}")] {
        let refused = visit(&world, Method::POST, &cancel, &cookie, &body).await;
        assert!(refused.status == 403 && refused.text().contains("CsrfTokenInvalid"), "{body}");
    }
    let api = format!("/api/v1/runs/{run}/suspend");
    let refused = visit(&world, Method::POST, &api, &cookie, "").await;
    assert_eq!((refused.status, refused.error().as_str()), (403, "CsrfTokenInvalid"));
    let headers =
        [("cookie", cookie.as_str()), ("x-csrf-token", proof.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(world.send(Method::POST, &api, &headers, "").await.whole().await.status, 200);
    let cross =
        [("cookie", cookie.as_str()), ("x-csrf-token", proof.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(world.send(Method::POST, &api, &cross, "").await.whole().await.status, 403);

    let done = visit(&world, Method::POST, &cancel, &cookie, &format!("csrf={proof}")).await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, Some(format!("/ui/runs/{run}?done=cancel").as_str()))
    );
    assert_eq!(text(&world.ended(&run).await, "status"), "Cancelled");

    let out = visit(&world, Method::POST, "/ui/logout", &cookie, &format!("csrf={proof}")).await;
    assert!(out.status == 303 && out.header("set-cookie").is_some_and(|set| set.contains("Max-Age=0")));
    assert_eq!(visit(&world, Method::GET, "/ui/runs", &cookie, "").await.status, 303);
    assert_eq!(visit(&world, Method::GET, "/api/v1/runs", &cookie, "").await.status, 401);
    world.stop().await;
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let world = World::new().await;
    world.deploy("w", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let start = "/ui/workflows/w/triggers/manual/run";
    for headers in [
        vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
    ] {
        let reply = world.send(Method::POST, start, &headers, "body=").await.whole().await;
        assert_eq!(reply.status, 403, "{headers:?}");
        assert!(reply.text().contains("CrossSiteRequest"), "{}", reply.text());
    }
    let named = world.send(Method::GET, "http://evil.example/ui/runs", &[], "").await.whole().await;
    assert_eq!(named.status, 421);
    assert_eq!(list(&world.get("/api/v1/runs").await.json(), "runs").len(), 0);
    world.stop().await;
}

#[tokio::test]
async fn settings_are_listed_as_the_program_publishes_them() {
    let setting = r#"{"name": "runs-max", "value": 7, "origin": "LOOM_RUNS_MAX"}"#;
    let settings = ServerSettings { shown: vec![json(setting)], ..ServerSettings::default() };
    let world = World::start(Plan { settings, ..Plan::default() }).await;
    let listed = world.get("/api/v1/settings").await.json();
    assert_eq!(text(&list(&listed, "settings")[0], "origin"), "LOOM_RUNS_MAX");
    let html = page(&world, "/ui/status").await;
    assert!(html.contains("runs-max") && html.contains("LOOM_RUNS_MAX"), "{html}");
    assert!(html.contains("ready") && html.contains("Sync to disk, on average"), "{html}");
    world.stop().await;
}

#[tokio::test]
async fn all_runs_of_a_filter_are_changed_after_a_dry_run() {
    let world = World::new().await;
    world.deploy("w", &requested(r#"{"Rest": {"type": "Wait", "runAfter": {}, "inputs": {"interval": {"count": 1, "unit": "Day"}}}}"#)).await;
    world.deploy("other", &requested(r#"{"Go": {"type": "Compose", "inputs": 1, "runAfter": {}}}"#)).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(world.invoke("w", "").await);
    }
    let done = text(&world.run("other", "").await, "id").to_owned();
    let statuses = async |status: &str| {
        let found = world.get(&format!("/api/v1/runs?status={status}")).await.json();
        list(&found, "runs").len()
    };

    // Without a filter nothing is changed, and a dry run changes nothing.
    let refused = world.post("/api/v1/runs/bulk/cancel", "").await;
    assert_eq!((refused.status, refused.error().as_str()), (400, "BadRequest"));
    assert_eq!(world.post("/api/v1/runs/bulk/burn?workflow=w", "").await.status, 404);
    let dry = page(&world, "/ui/runs/bulk/cancel?workflow=w").await;
    assert!(dry.contains("3 runs will be cancelled") && waiting.iter().all(|run| dry.contains(run)), "{dry}");
    assert!(!dry.contains(&done), "{dry}");
    assert_eq!(statuses("Running").await, 3);
    let runs = page(&world, "/ui/runs?workflow=w").await;
    assert!(runs.contains("href=\"/ui/runs/bulk/cancel?workflow=w\""), "{runs}");
    assert!(!page(&world, "/ui/runs").await.contains("/ui/runs/bulk/"), "not all runs at once");

    let reply = visit(&world, Method::POST, "/ui/runs/bulk/cancel", "", "workflow=w").await;
    assert!(reply.status == 200 && reply.text().contains("3 runs were cancelled"), "{}", reply.text());
    for run in &waiting {
        assert_eq!(text(&world.ended(run).await, "status"), "Cancelled");
    }

    // Page by page; what does not fit is skipped.
    let first = world.post("/api/v1/runs/bulk/resubmit?workflow=w&limit=2&order=oldest", "").await.json();
    assert_eq!(list(&first, "runs").len(), 2);
    assert!(list(&first, "runs").iter().all(|run| !text(run, "resubmittedAs").is_empty()), "{first:?}");
    assert_eq!(statuses("Running").await, 2);
    let skipped = world.post("/api/v1/runs/bulk/delete?workflow=w", "").await.json();
    assert_eq!(list(&skipped, "runs").len(), 3);
    assert_eq!(skipped.get("skipped").and_then(loom_expression::Value::as_i64), Some(2));
    assert_eq!(world.get(&format!("/api/v1/runs/{}", waiting[0])).await.status, 404);
    let nothing = page(&world, "/ui/runs/bulk/cancel?workflow=other").await;
    assert!(nothing.contains("No run that fits the filter can be cancelled"), "{nothing}");
    world.stop().await;
}

#[tokio::test]
async fn shared_memory_is_shown_by_namespace_key_and_value() {
    let world = World::new().await;
    let empty = page(&world, "/ui/memory").await;
    assert!(empty.contains("Shared memory is empty"), "{empty}");
    for (path, value) in [
        ("chat:42/messages%2F1", r#"["Hello", "<script>alert(1)</script>"]"#),
        ("chat:42/count", "7"),
        ("chat:7/a", "1"),
        ("global/limit", "100"),
    ] {
        let written = world.call(Method::PUT, &format!("/api/v1/memory/{path}?ttl=PT1H"), value).await;
        assert_eq!(written.status, 200, "{}", written.text());
    }
    let listed = world.get("/api/v1/memory?prefix=chat:&limit=1").await.json();
    assert_eq!(text(&list(&listed, "namespaces")[0], "namespace"), "chat:42");
    assert_eq!(text(&listed, "next"), "chat:42");
    let rest = world.get("/api/v1/memory?prefix=chat:&limit=1&cursor=chat:42").await.json();
    assert_eq!((list(&rest, "namespaces").len(), rest.get("next")), (1, None));
    let wrong = world.get("/api/v1/memory?cursor=nowhere").await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "BadRequest"));

    let html = page(&world, "/ui/memory").await;
    for namespace in ["chat%3A42", "chat%3A7", "global"] {
        assert!(html.contains(&format!("href=\"/ui/memory?namespace={namespace}\"")), "{html}");
    }
    let html = page(&world, "/ui/memory?prefix=g").await;
    assert!(html.contains(">global<") && !html.contains("chat%3A42"), "{html}");
    let html = page(&world, "/ui/memory?namespace=chat:42").await;
    assert!(html.contains("namespace=chat%3A42&amp;key=messages%2F1"), "{html}");
    assert!(html.contains(">value<") && html.contains("<time"), "its type and its end: {html}");
    let html = page(&world, "/ui/memory?namespace=chat:42&key=messages/1").await;
    assert!(
        html.contains("Hello") && html.contains("&lt;script&gt;") && !html.contains("<script>"),
        "{html}"
    );
    let absent = page(&world, "/ui/memory?namespace=chat:42&key=nothing").await;
    assert!(absent.contains("This key is absent"), "{absent}");
    let wrong = visit(&world, Method::GET, "/ui/memory?namespace=nowhere", "", "").await;
    assert!(wrong.status == 400 && wrong.text().contains("chat:ID"), "{}", wrong.text());
    world.stop().await;
}

#[tokio::test]
async fn secrets_are_shown_with_their_audit_and_without_values() {
    let directory = tempfile::tempdir().unwrap();
    let key = MasterKey::generate();
    let path = directory.path().join("secrets.json");
    let vault = Arc::new(Vault::new(&path, Arc::new(move || Ok(key.clone())), Arc::new(SystemClock)));
    let expires = Timestamp::from_unix_millis(SystemClock.now().unix_millis() + 5 * 86_400_000);
    let new = NewSecret { expires_on: Some(expires), ..NewSecret::default() };
    vault.set("api-key", "the-value-of-the-key", new).unwrap();
    let providers = Secrets::of(vec![NamedProvider::new("embedded", Arc::clone(&vault) as _)]);
    let mut plan = Plan::default();
    plan.environment.secrets = Some(Arc::new(providers.clone()));
    plan.settings.secrets = SecretStore { vault: Some(vault), providers };
    let world = World::start(plan).await;
    let actions = r#"{"Use": {"type": "Compose", "inputs": "@length(secret('api-key'))", "runAfter": {}}}"#;
    world.deploy("orders", &crate::support::requested(actions)).await;
    let run = world.invoke("orders", "").await;
    world.ended(&run).await;
    let html = page(&world, "/ui/secrets").await;
    for shown in ["api-key", "in 4 days", &format!("/ui/runs/{run}"), "embedded", "read", "Use"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains("the-value-of-the-key"));
    std::fs::write(&path, "no JSON").unwrap();
    let refused = world.get("/api/v1/secrets").await;
    assert_eq!((refused.status, refused.error().as_str()), (500, "SecretsUnreadable"));
    assert!(!refused.text().contains(&*path.display().to_string()));
    world.stop().await;
}

#[tokio::test]
async fn the_script_knows_every_type_of_event() {
    let source = include_str!("../../src/event_json.rs");
    let (before, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
    let known: Vec<&str> = loom_ui::pages::EVENTS.split_whitespace().collect();
    let quoted = before.split('"').skip(1).step_by(2);
    let kinds: Vec<&str> = quoted
        .filter(|text| {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == 2
                && parts.iter().all(|part| !part.is_empty() && part.chars().all(char::is_alphabetic))
        })
        .collect();
    assert!(kinds.len() > 20);
    for kind in kinds {
        assert!(known.contains(&kind), "{kind}");
    }
}
