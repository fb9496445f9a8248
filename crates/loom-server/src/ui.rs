//! The pages below `/ui/`: who may see them, what they are made of, and what their forms do.
//!
//! A page is made of documents of the API, which is asked in this process; see `loom_ui`. A form makes the same request of the
//! API as any client, and its response leads to a page.

mod assets;
mod changes;
mod documents;
mod views;
mod visit;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, Uri, header},
    middleware::{self, Next},
    routing::{get, post},
};
use loom_expression::percent;
use loom_ui::pages;

use crate::{
    request::{self, read_body, read_body_up_to},
    shared::{Shared, SignIn},
};
use documents::Documents;
use visit::{Entered, Ui, Visitor, html, redirect, refusal};

/// What pages may load and where forms may lead: only to this server.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// The routes of the pages. `api` answers requests without asking who the caller is.
pub(crate) fn router(shared: Shared, api: Router) -> Router {
    let ui = Ui { documents: Documents::new(api), shared };
    let guarded = Router::new()
        .route("/ui/runs", get(views::runs))
        .route("/ui/runs/{id}", get(views::run))
        .route("/ui/workflows", get(views::workflows))
        .route("/ui/workflows/{name}", get(views::workflow))
        .route("/ui/resilience", get(views::resilience))
        .route("/ui/memory", get(views::memory))
        .route("/ui/secrets", get(views::secrets))
        .route("/ui/status", get(views::status))
        .route("/ui/access", get(views::access))
        .route("/ui/access/{name}/{change}", post(changes::access))
        .route("/ui/runs/bulk/{change}", get(views::bulk).post(changes::bulk))
        .route("/ui/runs/{id}/{change}", post(changes::run))
        .route("/ui/workflows/{name}/{change}", get(changes::of_workflow).post(changes::workflow))
        .route(
            "/ui/workflows/{name}/triggers/{trigger}/{change}",
            get(changes::of_trigger).post(changes::trigger),
        )
        .route("/ui/resilience/{service}", get(views::service))
        .route("/ui/resilience/{service}/{change}", post(changes::service))
        .route("/ui/logout", post(logout))
        .route_layer(middleware::from_fn_with_state(ui.clone(), only_visitors));
    guarded
        .route("/", get(async || redirect("/ui/runs")))
        .route("/ui", get(async || redirect("/ui/runs")))
        .route("/ui/", get(async || redirect("/ui/runs")))
        .route("/ui/login", get(login_page).post(login))
        .route("/ui/assets/{name}", get(assets::asset))
        .with_state(ui)
        .layer(middleware::from_fn(confined))
}

/// Adds what confines a page in a browser.
async fn confined(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets visitors pass who have a session or the token, or all if the server has no token. A form must come from a page of
/// this server.
async fn only_visitors(State(ui): State<Ui>, mut request: Request, next: Next) -> Response<Body> {
    let grant = match ui.shared.caller(request.headers()).await {
        Ok(Some(grant)) => grant,
        Ok(None) => {
            let path = request.uri().path_and_query().map_or("/ui/runs", |path| path.as_str());
            let is_page = request.method().is_safe();
            let next = if is_page { path } else { "/ui/runs" };
            return redirect(&format!("/ui/login?next={}", percent::encode(next)));
        }
        Err(problem) => {
            let visitor = Visitor::default();
            return refusal(&ui, &visitor, problem.status, problem.code, &problem.message);
        }
    };
    let visitor = Visitor { csrf: grant.csrf.clone(), scopes: grant.scopes };
    let ui = Ui { documents: ui.documents.of(&grant), ..ui };
    if !request.method().is_safe() {
        if let Err(problem) = ui.shared.callers.check_site(request.headers()) {
            return refusal(&ui, &visitor, problem.status, problem.code, &problem.message);
        }
        let (parts, body) = request.into_parts();
        let read = read_body(body, &ui.shared).await;
        let entered = match read.and_then(|received| Entered::read(received.bytes())) {
            Ok(entered) => entered,
            Err(problem) => return refusal(&ui, &visitor, problem.status, problem.code, &problem.message),
        };
        let is_proven = visitor.csrf.as_deref().is_none_or(|csrf| entered.get("csrf") == Some(csrf));
        if !is_proven {
            let message =
                "The form does not belong to this session. Load its page again, and repeat the change.";
            return refusal(&ui, &visitor, StatusCode::FORBIDDEN, "CsrfTokenInvalid", message);
        }
        request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(entered);
    }
    request.extensions_mut().insert(visitor);
    request.extensions_mut().insert(ui);
    next.run(request).await
}

/// The largest form of the login page.
const LOGIN_BYTES_MAX: usize = 16 << 10;

async fn login_page(State(ui): State<Ui>, uri: Uri) -> Response<Body> {
    let next = request::query(&uri, "next").unwrap_or_default();
    if !ui.shared.is_guarded() {
        return redirect(local(&next));
    }
    // A link may be opened by programs that preview it, so the code is used up by the form alone.
    let code = request::query(&uri, "code").unwrap_or_default();
    html(StatusCode::OK, pages::login(&ui.visit(&Visitor::default()), local(&next), &code, false))
}

async fn login(State(ui): State<Ui>, request: Request) -> Response<Body> {
    let visitor = Visitor::default();
    if let Err(problem) = ui.shared.callers.check_site(request.headers()) {
        return refusal(&ui, &visitor, problem.status, problem.code, &problem.message);
    }
    // Anybody may send this form.
    let read = read_body_up_to(request.into_body(), &ui.shared, LOGIN_BYTES_MAX).await;
    let entered = match read.and_then(|received| Entered::read(received.bytes())) {
        Ok(entered) => entered,
        Err(problem) => return refusal(&ui, &visitor, problem.status, problem.code, &problem.message),
    };
    let next = local(entered.get("next").unwrap_or_default()).to_owned();
    let given = match entered.get("code") {
        Some(code) => SignIn::Code(code),
        None => SignIn::Token(entered.get("token").unwrap_or_default()),
    };
    let reads_only = entered.get("readOnly") == Some("true");
    match ui.shared.begin_session(given, reads_only).await {
        Ok(Some(cookie)) => with_cookie(redirect(&next), &cookie),
        Ok(None) => {
            tracing::warn!("a sign-in with a wrong token or code was refused");
            html(StatusCode::FORBIDDEN, pages::login(&ui.visit(&visitor), &next, "", true))
        }
        Err(problem) => refusal(&ui, &visitor, problem.status, problem.code, &problem.message),
    }
}

async fn logout(State(ui): State<Ui>, request: Request) -> Response<Body> {
    let cookie = ui.shared.sessions.end(request.headers());
    with_cookie(redirect("/ui/login"), &cookie)
}

/// A path of the pages. Any other address, as a page of another site might give, is replaced.
fn local(path: &str) -> &str {
    let is_ours =
        path.starts_with("/ui/") && !path.contains(['\\', '\r', '\n']) && !path.starts_with("/ui/login");
    if is_ours { path } else { "/ui/runs" }
}

fn with_cookie(mut response: Response<Body>, cookie: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
