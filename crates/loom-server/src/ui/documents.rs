//! Documents of the API, asked for in this process; and the drawings of definitions, which are kept.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{self, Body},
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
};
use loom_definition::{Definition, LoadOptions, Workflow};
use loom_expression::{Object, Value};
use loom_ui::{Drawing, Graph};
use tower_service::Service;

use crate::{access::Grant, response::JSON};

/// The most drawings that are kept. One of 500 actions takes about a megabyte.
const DRAWINGS_MAX: usize = 64;

/// The source of all documents. Cheap to clone.
#[derive(Clone)]
pub(super) struct Documents {
    api: Router,
    /// For whom they are asked for; nobody, who may see only what is public.
    grant: Option<Grant>,
    drawings: Arc<Mutex<HashMap<String, Arc<Drawing>>>>,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documents(..)")
    }
}

/// The API's error response.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: String,
    pub(super) message: String,
}

fn invalid() -> Refused {
    Refused {
        status: StatusCode::BAD_REQUEST,
        code: "BadRequest".to_owned(),
        message: "The address is not valid.".to_owned(),
    }
}

/// What an error document says.
fn refused(status: StatusCode, document: &Value) -> Refused {
    let error = document.get("error").cloned().unwrap_or_default();
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Refused { status, code: text("code"), message: text("message") }
}

impl Documents {
    pub(super) fn new(api: Router) -> Documents {
        Documents { api, grant: None, drawings: Arc::default() }
    }

    /// The documents that a visitor may see.
    pub(super) fn of(&self, grant: &Grant) -> Documents {
        Documents { grant: Some(grant.clone()), ..self.clone() }
    }

    /// A document.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Refused> {
        self.ask(Method::GET, path, None).await
    }

    /// Makes a request of the API.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refused> {
        let content = body.map(Value::to_json_text).unwrap_or_default();
        let mut request =
            Request::builder().method(method).uri(path).body(Body::from(content)).map_err(|_| invalid())?;
        if body.is_some() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        self.sign(&mut request);
        let (status, document) = self.answer(request).await;
        if status.is_success() { Ok(document) } else { Err(refused(status, &document)) }
    }

    /// Puts a text, as it is. An error comes with its details.
    pub(super) async fn put_text(&self, path: &str, text: &str) -> Result<Value, (Refused, Value)> {
        let request = Request::builder().method(Method::PUT).uri(path);
        let request = request.header(header::CONTENT_TYPE, JSON).body(Body::from(text.to_owned()));
        let Ok(mut request) = request else { return Err((invalid(), Value::default())) };
        self.sign(&mut request);
        let (status, document) = self.answer(request).await;
        if status.is_success() {
            return Ok(document);
        }
        let details = document.get("error").and_then(|error| error.get("details")).cloned();
        Err((refused(status, &document), details.unwrap_or_default()))
    }

    /// The status and the document of the response to a request.
    async fn answer(&self, request: Request) -> (StatusCode, Value) {
        let Ok(response) = self.api.clone().call(request).await;
        let (parts, body) = response.into_parts();
        // The body is in memory already, so its size needs no limit.
        let bytes = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        (parts.status, Value::parse_json(&bytes).unwrap_or_default())
    }

    /// Notes for whom a request is made.
    fn sign(&self, request: &mut Request) {
        if let Some(grant) = &self.grant {
            request.extensions_mut().insert(grant.clone());
        }
    }

    /// The drawing of a definition by a name that identifies it, if it was made before.
    pub(super) fn drawn(&self, name: &str) -> Option<Arc<Drawing>> {
        self.drawings.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Draws a workflow and keeps the drawing.
    pub(super) fn draw(&self, name: &str, workflow: &Workflow) -> Arc<Drawing> {
        let drawing = Arc::new(Drawing::of(Graph::of(workflow)));
        let mut kept = self.drawings.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= DRAWINGS_MAX {
            kept.clear();
        }
        kept.insert(name.to_owned(), Arc::clone(&drawing));
        drawing
    }
}

/// Loads a definition that the server has accepted before.
pub(super) fn loaded(name: &str, kind: Option<&Value>, definition: Option<&Value>) -> Option<Arc<Workflow>> {
    let mut source = Object::new();
    if let Some(kind) = kind {
        source.insert("kind", kind.clone());
    }
    source.insert("definition", definition?.clone());
    let options =
        LoadOptions { name: Some(Arc::from(name)), accepted_before: true, ..LoadOptions::default() };
    let loaded = Definition::parse(Value::from(source).to_json_text().as_bytes(), &options);
    loaded.ok().map(|loaded| loaded.workflow)
}
