//! The handlers of pages.

use axum::{
    Extension,
    body::Body,
    http::{Method, Response, StatusCode, Uri},
};
use loom_expression::{Value, percent};
use loom_ui::pages::{
    self, AccessPage, BulkChange, Draft, MemoryFilter, MemoryPage, Refilled, RunFilter, RunPage, ServicePage,
    StatusPage, Tab, WorkflowPage,
};

use super::{
    documents::{Refused, loaded},
    visit::{Ui, Visitor, html, refusal},
};
use crate::{access::Scope, path::Path, request};

/// The number of runs, and of events, on a page.
const RUNS: usize = 50;

/// The number up to which runs are counted.
const COUNTED: usize = 1_000;

const EVENTS: usize = 200;

/// The number of runs that are changed in one step.
const BULK: usize = 200;

/// The number of services whose calls are drawn on the page of all services.
const CHARTS: usize = 24;

/// The number of namespaces, or of keys, on a page.
const MEMORY: usize = 100;

pub(super) type Page = Result<String, Refused>;

/// Sends a page, or one that says why there is none.
fn sent(ui: &Ui, visitor: &Visitor, page: Page) -> Response<Body> {
    match page {
        Ok(page) => html(StatusCode::OK, page),
        Err(Refused { status, code, message }) => refusal(ui, visitor, status, &code, &message),
    }
}

/// A parameter of the address; empty if it is missing.
fn given(uri: &Uri, name: &str) -> String {
    request::query(uri, name).unwrap_or_default()
}

/// `GET /ui/runs`.
pub(super) async fn runs(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response<Body> {
    let filter = RunFilter {
        cursor: given(&uri, "cursor"),
        done: given(&uri, "done"),
        ..filter_of(|name| given(&uri, name))
    };
    let page = async {
        let query = filter.query();
        let sign = if query.is_empty() { '?' } else { '&' };
        let runs = ui.documents.get(&format!("/api/v1/runs{query}{sign}limit={RUNS}")).await?;
        let workflows = ui.documents.get("/api/v1/workflows").await?;
        // The number is that of all pages of the list.
        let all = RunFilter { cursor: String::new(), ..filter.clone() }.query();
        let sign = if all.is_empty() { '?' } else { '&' };
        let number = ui.documents.get(&format!("/api/v1/runs/count{all}{sign}limit={COUNTED}")).await?;
        Ok(pages::runs(&ui.visit(&visitor), &filter, &runs, &number, &workflows))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/runs/bulk/{change}?FILTERS`: what the change would do.
pub(super) async fn bulk(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path(change): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let filter = filter_of(|name| given(&uri, name));
    sent(&ui, &visitor, bulk_page(&ui, &visitor, &change, &filter, true).await)
}

/// Changes all runs that fit a filter, or says what would be changed.
pub(super) async fn bulk_page(
    ui: &Ui,
    visitor: &Visitor,
    change: &str,
    filter: &RunFilter,
    is_dry: bool,
) -> Page {
    let change = BulkChange::parse(change).ok_or_else(|| Refused {
        status: StatusCode::NOT_FOUND,
        code: "NotFound".to_owned(),
        message: format!("There is no change '{change}'."),
    })?;
    let query = filter.query();
    let sign = if query.is_empty() { '?' } else { '&' };
    let path = format!("/api/v1/runs/bulk/{}{query}{sign}limit={BULK}&dryRun={is_dry}", change.name());
    let result = ui.documents.ask(Method::POST, &path, None).await?;
    Ok(pages::bulk(&ui.visit(visitor), change, filter, &result))
}

/// The filter of the list of runs, of these parameters.
pub(super) fn filter_of(given: impl Fn(&str) -> String) -> RunFilter {
    RunFilter {
        workflow: given("workflow"),
        status: given("status"),
        error: given("error"),
        from: given("from"),
        before: given("before"),
        error_text: given("errorText"),
        tracking_id: given("trackingId"),
        waiting_for: given("waitingFor"),
        retrying: given("retrying"),
        parked: given("parked"),
        cursor: given("cursor"),
        ..RunFilter::default()
    }
}

/// `GET /ui/runs/{id}?tab=&action=&number=&after=&cursor=`.
pub(super) async fn run(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let page = run_page(&ui, &visitor, &id, &uri).await;
    sent(&ui, &visitor, page)
}

async fn run_page(ui: &Ui, visitor: &Visitor, id: &str, uri: &Uri) -> Page {
    let base = format!("/api/v1/runs/{}", percent::encode(id));
    let run = ui.documents.get(&base).await?;
    let tab = Tab::parse(&given(uri, "tab"));
    let is_forgotten = run.get("forgotten").is_some();
    let (mut actions, mut action, mut events, mut definition) =
        (Value::default(), Value::default(), Value::default(), Value::default());
    let (mut executions, mut messages, mut skipped) = (Value::default(), Value::default(), 0);
    let (mut questions, mut current) = (Value::default(), Value::default());
    let mut drawing = None;
    if !is_forgotten {
        match tab {
            Tab::Graph => {
                actions = ui.documents.get(&format!("{base}/actions")).await?;
                drawing = drawing_of(ui, &base, &run).await?;
                let name = given(uri, "action");
                if !name.is_empty() {
                    let number = given(uri, "number").parse::<u64>().ok();
                    let number = number.or_else(|| first_to_see(&actions, &name));
                    let cursor = number.map(|number| format!("&cursor={}", number.saturating_sub(1)));
                    let query = format!("?limit=1{}", cursor.unwrap_or_default());
                    action = ui
                        .documents
                        .get(&format!("{base}/actions/{}{query}", percent::encode(&name)))
                        .await?;
                }
            }
            Tab::Timeline => {
                skipped = given(uri, "cursor").parse().unwrap_or_default();
                let path = format!("{base}/executions?limit={}&cursor={skipped}", pages::EXECUTIONS);
                executions = ui.documents.get(&path).await?;
            }
            Tab::Chat => {
                skipped = given(uri, "cursor").parse().unwrap_or_default();
                let path = format!("{base}/messages?limit={}&cursor={skipped}", pages::MESSAGES);
                messages = ui.documents.get(&path).await?;
                if run.get("endTime").is_none() {
                    questions = ui.documents.get(&format!("{base}/questions")).await?;
                }
            }
            Tab::Events => {
                let after = given(uri, "after");
                let after = if after.is_empty() { "0" } else { &after };
                events = ui
                    .documents
                    .get(&format!("{base}/events?limit={EVENTS}&after={}", percent::encode(after)))
                    .await?;
            }
            Tab::Data => {}
            Tab::Definition => {
                definition = ui.documents.get(&format!("{base}/definition")).await?;
                current = deployed_version(ui, &run).await;
            }
        }
    }
    let (done, wanted) = (given(uri, "done"), given(uri, "action"));
    let parts = RunPage {
        run: &run,
        actions: &actions,
        executions: &executions,
        messages: &messages,
        questions: &questions,
        skipped,
        drawing: drawing.as_deref(),
        action: &action,
        events: &events,
        definition: &definition,
        current: &current,
        tab,
        wanted: &wanted,
        done: &done,
    };
    Ok(pages::run(&ui.visit(visitor), &parts))
}

/// The version of a run's workflow that is deployed now; null if none is.
async fn deployed_version(ui: &Ui, run: &Value) -> Value {
    let name = run.get("workflow").and_then(Value::as_str).unwrap_or_default();
    let base = format!("/api/v1/workflows/{}", percent::encode(name));
    let Ok(workflow) = ui.documents.get(&base).await else { return Value::default() };
    let version = workflow.get("version").and_then(Value::as_str).unwrap_or_default();
    ui.documents.get(&format!("{base}/versions/{}", percent::encode(version))).await.unwrap_or_default()
}

/// The number of the execution of an action that its reader wants to see first: one that failed.
fn first_to_see(actions: &Value, name: &str) -> Option<u64> {
    let mut actions = actions.get("actions")?.as_array()?.iter();
    let is_asked = |action: &&Value| {
        action.get("name").and_then(Value::as_str).is_some_and(|known| known.eq_ignore_ascii_case(name))
    };
    actions.find(is_asked)?.get("firstFailed")?.as_i64()?.try_into().ok()
}

/// The drawing of the definition that a run executes.
async fn drawing_of(
    ui: &Ui,
    base: &str,
    run: &Value,
) -> Result<Option<std::sync::Arc<loom_ui::Drawing>>, Refused> {
    let text = |name: &str| run.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = format!("{}@{}", text("definition"), text("workflow"));
    if let Some(drawing) = ui.documents.drawn(&name) {
        return Ok(Some(drawing));
    }
    let document = ui.documents.get(&format!("{base}/definition")).await?;
    let workflow = loaded(text("workflow"), document.get("kind"), document.get("definition"));
    Ok(workflow.map(|workflow| ui.documents.draw(&name, &workflow)))
}

/// `GET /ui/workflows`.
pub(super) async fn workflows(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
) -> Response<Body> {
    let page = ui.documents.get("/api/v1/workflows").await;
    let page = page.map(|workflows| pages::workflows(&ui.visit(&visitor), &workflows));
    sent(&ui, &visitor, page)
}

/// `GET /ui/workflows/{name}?version=`.
pub(super) async fn workflow(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let (version, done) = (given(&uri, "version"), given(&uri, "done"));
    let shown = Shown { version: &version, done: &done, ..Shown::default() };
    sent(&ui, &visitor, workflow_page(&ui, &visitor, &name, shown).await)
}

/// What the page of a workflow shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown<'a> {
    /// The version of this number; the current one if it is empty.
    pub(super) version: &'a str,
    /// What was done just now.
    pub(super) done: &'a str,
    /// A form that was refused.
    pub(super) refilled: Option<Refilled<'a>>,
    /// A definition that was refused.
    pub(super) draft: Option<Draft<'a>>,
}

/// The page of a workflow.
pub(super) async fn workflow_page(ui: &Ui, visitor: &Visitor, name: &str, shown: Shown<'_>) -> Page {
    let Shown { version, done, refilled, draft } = shown;
    let base = format!("/api/v1/workflows/{}", percent::encode(name));
    let workflow = ui.documents.get(&base).await?;
    let versions = ui.documents.get(&format!("{base}/versions")).await?;
    let current = workflow.get("version").and_then(Value::as_str).unwrap_or_default();
    let number = if version.is_empty() { current } else { version };
    let version = ui.documents.get(&format!("{base}/versions/{}", percent::encode(number))).await?;
    let before = match number_before(&versions, number) {
        Some(before) => ui.documents.get(&format!("{base}/versions/{}", percent::encode(before))).await?,
        None => Value::default(),
    };
    let loaded = version_of(name, &version);
    let drawing = loaded.as_deref().map(|loaded| {
        let hash = blake3::Hash::from_bytes(loaded.hash).to_hex();
        let key = format!("{hash}@{name}");
        ui.documents.drawn(&key).unwrap_or_else(|| ui.documents.draw(&key, loaded))
    });
    let triggers = workflow.get("triggers").and_then(Value::as_array);
    let (mut histories, mut occurrences) = (Vec::new(), Vec::new());
    for trigger in triggers.into_iter().flat_map(|triggers| triggers.iter()) {
        let recurs = trigger.get("evaluatedRecurrence").is_some();
        let trigger = trigger.get("name").and_then(Value::as_str).unwrap_or_default();
        if recurs {
            let path = format!("{base}/triggers/{}/occurrences", percent::encode(trigger));
            // Triggers that poll have a recurrence, and no occurrences.
            if let Ok(next) = ui.documents.get(&path).await {
                occurrences.push((trigger.to_owned(), next));
            }
        }
        let path = format!("{base}/triggers/{}/histories", percent::encode(trigger));
        histories.push((trigger.to_owned(), ui.documents.get(&path).await?));
    }
    let parts = WorkflowPage {
        workflow: &workflow,
        versions: &versions,
        version: &version,
        loaded: loaded.as_deref(),
        drawing: drawing.as_deref(),
        done,
        histories: &histories,
        occurrences: &occurrences,
        before: &before,
        draft,
        refilled,
    };
    Ok(pages::workflow(&ui.visit(visitor), &parts))
}

/// The number of the version before one.
fn number_before<'v>(versions: &'v Value, number: &str) -> Option<&'v str> {
    let all = versions.get("versions")?.as_array()?;
    let number_of = |version: &'v Value| version.get("version").and_then(Value::as_str);
    let place = all.iter().position(|version| number_of(version) == Some(number))?;
    number_of(all.get(place.checked_sub(1)?)?)
}

/// The workflow of a version's document.
pub(super) fn version_of(name: &str, version: &Value) -> Option<std::sync::Arc<loom_definition::Workflow>> {
    let source = version.get("definition")?;
    loaded(name, source.get("kind"), source.get("definition"))
}

/// `GET /ui/resilience`.
pub(super) async fn resilience(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response<Body> {
    let page = async {
        let services = ui.documents.get("/api/v1/resilience").await?;
        let mut histories = Vec::new();
        for service in services.get("services").and_then(Value::as_array).into_iter().flatten().take(CHARTS) {
            let name = service.get("name").and_then(Value::as_str).unwrap_or_default();
            let path = format!("/api/v1/resilience/{}/history", percent::encode(name));
            // A service may have been removed meanwhile.
            histories.push(ui.documents.get(&path).await.unwrap_or_default());
        }
        Ok(pages::resilience(&ui.visit(&visitor), &services, &histories, &given(&uri, "done")))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/resilience/{service}`.
pub(super) async fn service(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let page = async {
        let path = format!("/api/v1/resilience/{}", percent::encode(&name));
        let policy = ui.documents.get(&path).await?;
        let history = ui.documents.get(&format!("{path}/history")).await?;
        let parts = ServicePage { policy: &policy, history: &history, done: &given(&uri, "done") };
        Ok(pages::service(&ui.visit(&visitor), &parts))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/memory?namespace=&key=&prefix=&cursor=`.
pub(super) async fn memory(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response<Body> {
    let filter = MemoryFilter {
        namespace: given(&uri, "namespace"),
        key: given(&uri, "key"),
        prefix: given(&uri, "prefix"),
        cursor: given(&uri, "cursor"),
    };
    let page = async {
        let (mut namespaces, mut keys, mut value) = (Value::default(), Value::default(), Value::default());
        let base = format!("/api/v1/memory/{}", percent::encode(&filter.namespace));
        if filter.namespace.is_empty() {
            namespaces = ui.documents.get(&format!("/api/v1/memory{}", filter.list_query(MEMORY))).await?;
        } else if filter.key.is_empty() {
            keys = ui.documents.get(&format!("{base}{}", filter.list_query(MEMORY))).await?;
        } else {
            // A key that is absent, or has expired meanwhile, is a page that says so.
            value = match ui.documents.get(&format!("{base}/{}", percent::encode(&filter.key))).await {
                Err(Refused { status: StatusCode::NOT_FOUND, .. }) => Value::default(),
                found => found?,
            };
        }
        let parts = MemoryPage { filter: &filter, namespaces: &namespaces, keys: &keys, value: &value };
        Ok(pages::memory(&ui.visit(&visitor), &parts))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/secrets`.
pub(super) async fn secrets(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
) -> Response<Body> {
    let page = async {
        let secrets = ui.documents.get("/api/v1/secrets").await?;
        let audit = ui.documents.get("/api/v1/secret-audit?limit=50").await?;
        Ok(pages::secrets(&ui.visit(&visitor), &secrets, &audit))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/status`.
pub(super) async fn status(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
) -> Response<Body> {
    let page = async {
        let status = ui.documents.get("/api/v1/status").await?;
        // Without its store, a server still shows what it is doing.
        let nodes = ui.documents.get("/api/v1/nodes").await.unwrap_or_default();
        let settings = ui.documents.get("/api/v1/settings").await?;
        let parts = StatusPage { status: &status, nodes: &nodes, settings: &settings };
        Ok(pages::status(&ui.visit(&visitor), &parts))
    };
    sent(&ui, &visitor, page.await)
}

/// `GET /ui/access`.
pub(super) async fn access(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response<Body> {
    let done = given(&uri, "done");
    sent(&ui, &visitor, access_page(&ui, &visitor, &Value::default(), "", &done).await)
}

/// The page of tokens, with one that was created just now, or why none was.
pub(super) async fn access_page(
    ui: &Ui,
    visitor: &Visitor,
    created: &Value,
    refused: &str,
    done: &str,
) -> Page {
    let (mut tokens, mut audit) = (Value::default(), Value::default());
    if visitor.scopes.has(Scope::Admin) {
        tokens = ui.documents.get("/api/v1/tokens").await?;
        audit = ui.documents.get("/api/v1/audit?limit=50").await?;
    }
    let parts = AccessPage {
        tokens: &tokens,
        audit: &audit,
        is_guarded: ui.shared.is_guarded(),
        created,
        refused,
        done,
    };
    Ok(pages::access(&ui.visit(visitor), &parts))
}
