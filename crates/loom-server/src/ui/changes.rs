//! The handlers of forms. Each makes one request of the API and leads to the page that shows its effect.

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{Method, Response, StatusCode},
};
use loom_expression::{Object, Value, percent};
use loom_ui::pages::{Refilled, body_of, fields_of};

use super::{
    documents::Refused,
    views::{bulk_page, filter_of, version_of, workflow_page},
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
    State(ui): State<Ui>,
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
                let path = format!("{base}/resubmit?definition={}", percent::encode(definition));
                let new = ui.documents.ask(Method::POST, &path, None).await?;
                let new = new.get("id").and_then(Value::as_str).unwrap_or_default();
                Ok(format!("/ui/runs/{}?done=resubmit", percent::encode(new)))
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

/// `POST /ui/runs/bulk/{change}`.
pub(super) async fn bulk(
    State(ui): State<Ui>,
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
    State(ui): State<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path((name, change)): Path<(String, String)>,
) -> Response<Body> {
    let done = async {
        if !matches!(change.as_str(), "enable" | "disable") {
            return Err(unknown(&change));
        }
        ui.documents
            .ask(Method::POST, &format!("/api/v1/workflows/{}/{change}", percent::encode(&name)), None)
            .await?;
        Ok(format!("/ui/workflows/{}?done={change}", percent::encode(&name)))
    };
    led(&ui, &visitor, done.await)
}

/// `POST /ui/workflows/{name}/triggers/{trigger}/{change}`.
pub(super) async fn trigger(
    State(ui): State<Ui>,
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
            match workflow_page(&ui, &visitor, &name, "", "", Some(refilled)).await {
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
    State(ui): State<Ui>,
    Extension(visitor): Extension<Visitor>,
    Path((service, change)): Path<(String, String)>,
) -> Response<Body> {
    let path = format!("/api/v1/resilience/{}/{}", percent::encode(&service), percent::encode(&change));
    let done = ui.documents.ask(Method::POST, &path, None).await;
    led(&ui, &visitor, done.map(|_| format!("/ui/resilience?done={}", percent::encode(&change))))
}
