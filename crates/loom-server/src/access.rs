//! What a caller may do: scopes, and the check of every request against the scope of its route.

use std::{collections::HashMap, sync::Arc, sync::LazyLock};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{Method, Response, StatusCode},
    middleware::Next,
    response::IntoResponse,
};

use crate::{change_log, response::Problem, routes, shared::Shared};

/// What a route lets its callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// See workflows, runs, memory, names of secrets, settings and metrics.
    Read,
    /// Start runs, and speak to them: signals, answers, chat completions and tools over MCP.
    Run,
    /// Control runs, triggers, services and nodes, and change shared memory.
    Operate,
    /// Change workflows, signed URLs, secrets and stored policies.
    Deploy,
    /// Create and revoke tokens. Only the server's own token has it.
    Admin,
}

impl Scope {
    /// The scopes that a named token can have.
    pub(crate) const GIVEN: [Scope; 4] = [Scope::Read, Scope::Run, Scope::Operate, Scope::Deploy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Run => "run",
            Scope::Operate => "operate",
            Scope::Deploy => "deploy",
            Scope::Admin => "admin",
        }
    }

    /// The scope of this name that a named token can have.
    pub(crate) fn parse(name: &str) -> Option<Scope> {
        Scope::GIVEN.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    pub(crate) const ALL: Scopes = Scopes(u8::MAX);

    pub(crate) const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes that are in both sets.
    pub(crate) const fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 & other.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        Scopes(scopes.into_iter().fold(0, |all, scope| all | 1 << scope as u8))
    }
}

/// Who sends a request, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The caller as the audit names it: `api`, `api (token)`, or the name of a token with `(token)` or `(session)`.
    pub(crate) by: Arc<str>,
    pub(crate) scopes: Scopes,
    /// For a browser that has signed in: what a change must prove to know.
    pub(crate) csrf: Option<String>,
}

/// The scope of each route that requires a caller.
static OF_ROUTES: LazyLock<HashMap<(Method, &'static str), Scope>> = LazyLock::new(|| {
    let known = routes::guarded().known.into_iter();
    known.filter_map(|route| Some(((route.method, route.path), route.scope?))).collect()
});

/// The scope that a request needs. A route that is not known needs the highest.
fn needed(request: &Request) -> Scope {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // The response to `HEAD` is that of `GET` without its body.
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let table: &HashMap<(Method, &str), Scope> = &OF_ROUTES;
    table.get(&(method, path)).copied().unwrap_or(Scope::Admin)
}

/// Lets a request pass whose [`Grant`] has the scope of its route.
pub(crate) async fn only_granted(request: Request, next: Next) -> Response<Body> {
    let scope = needed(&request);
    match request.extensions().get::<Grant>() {
        Some(grant) if grant.scopes.has(scope) => next.run(request).await,
        Some(grant) => insufficient(&grant.by, scope).into_response(),
        None => insufficient("nobody", scope).into_response(),
    }
}

/// The error for a caller whose scopes do not suffice.
pub(crate) fn insufficient(by: &str, scope: Scope) -> Problem {
    let message = match scope {
        Scope::Admin => format!("Only the server's own token allows this; the request is by {by}."),
        scope => {
            format!("The request needs the scope '{}', which its caller ({by}) does not have.", scope.name())
        }
    };
    Problem::new(StatusCode::FORBIDDEN, "InsufficientScope", message)
}

/// Marks the response to a dry run, which is not in the audit. Handlers set it, because callers can add `dryRun` to any request.
#[derive(Clone, Copy, Debug)]
struct Unchanged;

/// The response to a dry run.
pub(crate) fn dry(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(Unchanged);
    response
}

/// Records a change that has succeeded, before its caller learns of it. A caller that leaves meanwhile stops neither the change nor
/// its record.
pub(crate) async fn recorded(State(shared): State<Shared>, request: Request, next: Next) -> Response<Body> {
    let scope = needed(&request);
    let grant = request.extensions().get::<Grant>().cloned();
    // The start of a run, and what is said to it, are in the history of the run.
    let is_change = !request.method().is_safe() && scope != Scope::Run;
    let Some(grant) = grant.filter(|_| is_change) else {
        return next.run(request).await;
    };
    let tasks = shared.host.tasks.clone();
    let changed = tasks.spawn(change(shared, grant, request, next));
    changed.await.unwrap_or_else(|_| {
        let message = "The change failed unexpectedly; whether it was made is unknown.";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message).into_response()
    })
}

async fn change(shared: Shared, grant: Grant, request: Request, next: Next) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if !response.status().is_success() || response.extensions().get::<Unchanged>().is_some() {
        return response;
    }
    match change_log::record(&shared, &grant.by, &method, &uri, response.status()).await {
        Ok(()) => response,
        Err(error) => {
            tracing::error!(%error, by = %grant.by, %method, path = uri.path(), "a change was made and could not be recorded");
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let set: Scopes = [Scope::Read, Scope::Deploy].into_iter().collect();
        assert!(set.has(Scope::Read) && set.has(Scope::Deploy));
        assert!(!set.has(Scope::Run) && !set.has(Scope::Operate) && !set.has(Scope::Admin));
        assert_eq!(Scopes::ALL.and(set), set);
        assert!(Scopes::ALL.has(Scope::Admin));
        assert_eq!(Scope::parse("admin"), None, "no token can be given it");
        assert!(Scope::GIVEN.into_iter().all(|scope| Scope::parse(scope.name()) == Some(scope)));
    }

    #[test]
    fn every_route_that_requires_a_caller_has_a_scope() {
        let known = routes::guarded().known;
        assert!(known.iter().all(|route| route.scope.is_some()));
        assert_eq!(OF_ROUTES.len(), known.len());
        assert!(routes::open().known.iter().all(|route| route.scope.is_none()));
    }
}
