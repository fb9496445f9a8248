//! What the handlers of pages share: the visitor, the fields of a form, and the forms of responses.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use loom_expression::form;
use loom_ui::pages::{self, May, Visit};

use super::{assets, documents::Documents};
use crate::{
    access::{Scope, Scopes},
    response::Problem,
    shared::Shared,
};

/// The state of the handlers of pages.
#[derive(Clone, Debug)]
pub(super) struct Ui {
    pub(super) shared: Shared,
    pub(super) documents: Documents,
}

/// Who visits a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Visitor {
    /// The proof that a form must have, for a visitor with a session.
    pub(super) csrf: Option<String>,
    pub(super) scopes: Scopes,
}

impl Ui {
    pub(super) fn visit<'a>(&self, visitor: &'a Visitor) -> Visit<'a> {
        Visit {
            csrf: visitor.csrf.as_deref(),
            has_session: visitor.csrf.is_some(),
            may: May {
                run: visitor.scopes.has(Scope::Run),
                operate: visitor.scopes.has(Scope::Operate),
                deploy: visitor.scopes.has(Scope::Deploy),
                admin: visitor.scopes.has(Scope::Admin),
            },
            now: self.shared.host.now(),
            version: env!("CARGO_PKG_VERSION"),
            assets: assets::mark(),
        }
    }
}

/// The most fields of a form; the pages have fewer.
const FIELDS_MAX: usize = 1_000;

/// The fields of a form.
#[derive(Clone, Debug, Default)]
pub(super) struct Entered(Vec<(String, String)>);

impl Entered {
    /// # Errors
    /// When there are more than [`FIELDS_MAX`] fields, each of which takes memory.
    pub(super) fn read(body: &[u8]) -> Result<Entered, Problem> {
        if body.split(|byte| *byte == b'&').count() > FIELDS_MAX {
            let message = format!("The form has more than {FIELDS_MAX} fields.");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
        }
        Ok(Entered(form::decode(&String::from_utf8_lossy(body))))
    }

    pub(super) fn all(&self) -> &[(String, String)] {
        &self.0
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(super) fn html(status: StatusCode, page: String) -> Response<Body> {
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A page that says why a request failed.
pub(super) fn refusal(
    ui: &Ui,
    visitor: &Visitor,
    status: StatusCode,
    code: &str,
    message: &str,
) -> Response<Body> {
    html(status, pages::failure(&ui.visit(visitor), status.as_u16(), code, message))
}

/// Leads to another page, by `GET`.
pub(super) fn redirect(path: &str) -> Response<Body> {
    match HeaderValue::from_str(path) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
