//! The handlers of forms. Each makes one request of the API and leads to the page that shows its effect.

use axum::{
    Extension,
    body::Body,
    http::{Method, Response, StatusCode},
};
use loom_expression::{Object, Value, percent};
use loom_ui::pages::{Draft, Refilled, body_of, fields_of};

use super::{
    documents::Refused,
    views::{Shown, access_page, bulk_page, filter_of, version_of, workflow_page},
    visit::{Entered, Ui, Visitor, html, redirect, refusal},
};
use crate::path::Path;

/// Leads to a page, or says why the change was refused.
fn led(ui: &Ui, visitor: &Visitor, to: Result<String, Refused>) -> Response<Body> {
    match to {
        Ok(path) => redirect(&path),
        Err(Refused { status, code, message }) => refusal(ui, visitor, status, &code, &message),
    }
}

fn unknown(change: &str) -> Refused {
    Refused {
        status: StatusCode::NOT_FOUND,
        code: "NotFound".to_owned(),
        message: format!("There is no change '{change}'."),
    }
}

/// `POST /ui/runs/{id}/{change}`.
pub(super) async fn run(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Extension(entered): Extension<Entered>,
    Path((id, change)): Path<(String, String)>,
) -> Response<Body> {
    let done = async {
        let base = format!("/api/v1/runs/{}", percent::encode(&id));
        match change.as_str() {
            "cancel" | "suspend" | "resume" => {
                ui.documents.ask(Method::POST, &format!("{base}/{change}"), None).await?;
                Ok(format!("/ui/runs/{}?done={change}", percent::encode(&id)))
            }
            "resubmit" => {
                let definition = entered.get("definition").unwrap_or("same");
                let mut path = format!("{base}/resubmit?definition={}", percent::encode(definition));
                if let Some(from) = entered.get("from") {
                    path = format!("{path}&from={}", percent::encode(from));
                }
                let new = ui.documents.ask(Method::POST, &path, None).await?;
                let new = new.get("id").and_then(Value::as_str).unwrap_or_default();
                Ok(format!("/ui/runs/{}?done=resubmit", percent::encode(new)))
            }
            "skip-wait" => {
                let action = percent::encode(entered.get("action").unwrap_or_default());
                let path = format!("{base}/actions/{action}/skip-wait");
                ui.documents.ask(Method::POST, &path, None).await?;
                Ok(format!("/ui/runs/{}?action={action}&done=skip", percent::encode(&id)))
            }
            "signal" => {
                let name = percent::encode(entered.get("name").unwrap_or_default());
                let body = json_of(entered.get("body").unwrap_or_default())?;
                ui.documents.ask(Method::POST, &format!("{base}/signals/{name}"), body.as_ref()).await?;
                Ok(format!("/ui/runs/{}?done=signal", percent::encode(&id)))
            }
            "answer" => {
                ui.documents.ask(Method::POST, &format!("{base}/answers"), Some(&answer(&entered)?)).await?;
                Ok(format!("/ui/runs/{}?tab=chat&done=answer", percent::encode(&id)))
            }
            "delete" => {
                ui.documents.ask(Method::DELETE, &base, None).await?;
                Ok("/ui/runs?done=delete".to_owned())
            }
            other => Err(unknown(other)),
        }
    };
    led(&ui, &visitor, done.await)
}

/// What was entered as JSON; nothing if the field was left empty.
fn json_of(text: &str) -> Result<Option<Value>, Refused> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Value::from_json_str(text).map(Some).map_err(|error| Refused {
        status: StatusCode::BAD_REQUEST,
        code: "InvalidInput".to_owned(),
        message: format!("The body must be JSON: {error}."),
    })
}

/// The answer to a question: a decision, or a reply.
fn answer(entered: &Entered) -> Result<Value, Refused> {
    let mut body = Object::new();
    for name in ["question", "reason", "by"] {
        if let Some(text) = entered.get(name).map(str::trim).filter(|text| !text.is_empty()) {
            body.insert(name, text);
        }
    }
    if let Some(approved) = entered.get("approved") {
        body.insert("approved", approved == "true");
    } else {
        let message = entered.get("message").unwrap_or_default();
        let is_json = entered.get("json") == Some("true");
        let message = if is_json { json_of(message)?.unwrap_or_default() } else { message.into() };
        body.insert("message", message);
    }
    Ok(body.into())
}

/// `POST /ui/runs/bulk/{change}`.
pub(super) async fn bulk(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Extension(entered): Extension<Entered>,
    Path(change): Path<String>,
) -> Response<Body> {
    let filter = filter_of(|name| entered.get(name).unwrap_or_default().to_owned());
    match bulk_page(&ui, &visitor, &change, &filter, false).await {
        Ok(page) => html(StatusCode::OK, page),
        Err(refused) => led(&ui, &visitor, Err(refused)),
    }
}

/// `POST /ui/workflows/{name}/{change}`.
pub(super) async fn workflow(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Extension(entered): Extension<Entered>,
    Path((name, change)): Path<(String, String)>,
) -> Response<Body> {
    let path = format!("/api/v1/workflows/{}", percent::encode(&name));
    let page = format!("/ui/workflows/{}", percent::encode(&name));
    match change.as_str() {
        "enable" | "disable" => {
            let done = ui.documents.ask(Method::POST, &format!("{path}/{change}"), None).await;
            led(&ui, &visitor, done.map(|_| format!("{page}?done={change}")))
        }
        "deploy" | "check" => {
            let is_dry = change == "check";
            let text = entered.get("definition").unwrap_or_default();
            let bump = percent::encode(entered.get("bump").unwrap_or("patch"));
            let asked = format!("{path}?bump={bump}&dryRun={is_dry}");
            let (status, message, details) = match ui.documents.put_text(&asked, text).await {
                Ok(_) if !is_dry => return redirect(&format!("{page}?done=deploy")),
                Ok(checked) => {
                    let warnings = checked.get("warnings").cloned().unwrap_or_default();
                    (StatusCode::OK, String::new(), warnings)
                }
                Err((refused, details)) => (refused.status, refused.message, details),
            };
            // What was typed must not be lost, so the form is shown again.
            let draft = Draft { text, message: &message, details: &details };
            match workflow_page(&ui, &visitor, &name, Shown { draft: Some(draft), ..Shown::default() }).await
            {
                Ok(page) => html(status, page),
                Err(refused) => led(&ui, &visitor, Err(refused)),
            }
        }
        other => led(&ui, &visitor, Err(unknown(other))),
    }
}

/// `GET /ui/workflows/{name}/{change}`: the address of a form that was shown again, when it is loaded anew.
pub(super) async fn of_workflow(Path((name, _)): Path<(String, String)>) -> Response<Body> {
    redirect(&format!("/ui/workflows/{}", percent::encode(&name)))
}

/// `POST /ui/workflows/{name}/triggers/{trigger}/{change}`.
pub(super) async fn trigger(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Extension(entered): Extension<Entered>,
    Path((name, trigger, change)): Path<(String, String, String)>,
) -> Response<Body> {
    let done = async {
        let base =
            format!("/api/v1/workflows/{}/triggers/{}", percent::encode(&name), percent::encode(&trigger));
        match change.as_str() {
            "run" => {
                let mut outputs = Object::new();
                if let Some(body) = body(&ui, &name, &trigger, &entered).await? {
                    outputs.insert("body", body);
                }
                let begun =
                    ui.documents.ask(Method::POST, &format!("{base}/run"), Some(&outputs.into())).await?;
                let run = begun.get("runs").and_then(|runs| runs.index(0)).and_then(Value::as_str);
                // A condition of the trigger may prevent a run.
                Ok(run.map_or_else(
                    || format!("/ui/runs?workflow={}", percent::encode(&name)),
                    |run| format!("/ui/runs/{}?done=run", percent::encode(run)),
                ))
            }
            "rotate" => {
                ui.documents.ask(Method::POST, &format!("{base}/rotate-signature"), None).await?;
                Ok(format!("/ui/workflows/{}?done=rotate", percent::encode(&name)))
            }
            "enable" | "disable" => {
                ui.documents.ask(Method::POST, &format!("{base}/{change}"), None).await?;
                Ok(format!("/ui/workflows/{}?done={change}", percent::encode(&name)))
            }
            other => Err(unknown(other)),
        }
    };
    match done.await {
        // What was typed must not be lost, so the form is shown again with the reason.
        Err(refused) if change == "run" && refused.status.is_client_error() => {
            let refilled = Refilled { trigger: &trigger, entered: entered.all(), message: &refused.message };
            let shown = Shown { refilled: Some(refilled), ..Shown::default() };
            match workflow_page(&ui, &visitor, &name, shown).await {
                Ok(page) => html(refused.status, page),
                Err(_) => led(&ui, &visitor, Err(refused)),
            }
        }
        done => led(&ui, &visitor, done),
    }
}

/// `GET /ui/workflows/{name}/triggers/{trigger}/{change}`: the address of a form that was shown again, when it is loaded anew.
pub(super) async fn of_trigger(Path((name, _, _)): Path<(String, String, String)>) -> Response<Body> {
    redirect(&format!("/ui/workflows/{}", percent::encode(&name)))
}

/// The body that was entered, by the fields of the trigger's schema.
async fn body(ui: &Ui, name: &str, trigger: &str, entered: &Entered) -> Result<Option<Value>, Refused> {
    let base = format!("/api/v1/workflows/{}", percent::encode(name));
    let workflow = ui.documents.get(&base).await?;
    let version = workflow.get("version").and_then(Value::as_str).unwrap_or_default();
    let version = ui.documents.get(&format!("{base}/versions/{}", percent::encode(version))).await?;
    let loaded = version_of(name, &version);
    let schema = loaded.as_deref().and_then(|loaded| loaded.find_trigger(trigger)?.kind.schema());
    let fields = schema.as_deref().map(fields_of).unwrap_or_default();
    body_of(&fields, |field| entered.get(field)).map_err(|message| Refused {
        status: StatusCode::BAD_REQUEST,
        code: "InvalidInput".to_owned(),
        message,
    })
}

/// `POST /ui/resilience/{service}/{change}`.
pub(super) async fn service(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path((service, change)): Path<(String, String)>,
) -> Response<Body> {
    let path = format!("/api/v1/resilience/{}/{}", percent::encode(&service), percent::encode(&change));
    let done = ui.documents.ask(Method::POST, &path, None).await;
    let to = format!("/ui/resilience/{}?done={}", percent::encode(&service), percent::encode(&change));
    led(&ui, &visitor, done.map(|_| to))
}

/// `POST /ui/access/{name}/{change}`: creates a token, or revokes the one of this name.
pub(super) async fn access(
    Extension(ui): Extension<Ui>,
    Extension(visitor): Extension<Visitor>,
    Extension(entered): Extension<Entered>,
    Path((name, change)): Path<(String, String)>,
) -> Response<Body> {
    match change.as_str() {
        "create" => {
            let mut body = Object::new();
            body.insert("name", entered.get("name").unwrap_or_default());
            let scopes = entered.all().iter().filter_map(|(name, _)| name.strip_prefix("scope."));
            body.insert("scopes", scopes.map(Value::from).collect::<Vec<_>>());
            if let Some(expires) = entered.get("expires").map(str::trim).filter(|text| !text.is_empty()) {
                body.insert("expires", expires);
            }
            let made = ui.documents.ask(Method::POST, "/api/v1/tokens", Some(&body.into())).await;
            let (status, created, refused) = match made {
                Ok(created) => (StatusCode::OK, created, String::new()),
                Err(refused) => (refused.status, Value::default(), refused.message),
            };
            // The token is on this page alone, so it does not lead to another one.
            match access_page(&ui, &visitor, &created, &refused, "").await {
                Ok(page) => html(status, page),
                Err(refused) => led(&ui, &visitor, Err(refused)),
            }
        }
        "revoke" => {
            let path = format!("/api/v1/tokens/{}", percent::encode(&name));
            let done = ui.documents.ask(Method::DELETE, &path, None).await;
            led(&ui, &visitor, done.map(|_| "/ui/access?done=revoke".to_owned()))
        }
        other => led(&ui, &visitor, Err(unknown(other))),
    }
}
