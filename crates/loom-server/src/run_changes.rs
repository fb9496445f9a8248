//! Changes of several runs at once: those that a filter of the list names, page by page, with a dry run.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, Uri},
};
use loom_expression::{Object, Value};
use loom_store::RunRow;

use crate::{
    access::{self, Grant, Scope},
    path::Path,
    request,
    response::{Answer, Problem, json},
    run_list,
    runs::{self, Resubmission},
    shared::Shared,
    view,
};

/// The default and the maximum number of runs that one request examines.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// What can be done to several runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Cancel,
    Resubmit,
    Delete,
}

impl Operation {
    fn parse(name: &str) -> Result<Operation, Problem> {
        match name {
            "cancel" => Ok(Operation::Cancel),
            "resubmit" => Ok(Operation::Resubmit),
            "delete" => Ok(Operation::Delete),
            _ => Err(Problem::not_found(
                "NotFound",
                format!(
                    "There is no operation '{name}' on several runs; expected cancel, resubmit or delete."
                ),
            )),
        }
    }

    /// Whether it can be done to a run in this state.
    const fn fits(self, row: &RunRow) -> bool {
        match self {
            Operation::Cancel => row.ended.is_none(),
            Operation::Resubmit => row.ended.is_some() && !row.purged,
            Operation::Delete => row.ended.is_some(),
        }
    }
}

/// `POST /api/v1/runs/bulk/{operation}?FILTERS&dryRun=&cursor=&limit=&definition=`.
pub(crate) async fn change(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(operation): Path<String>,
    uri: Uri,
) -> Answer {
    let operation = Operation::parse(&operation)?;
    if operation == Operation::Resubmit && !grant.scopes.has(Scope::Run) {
        return Err(access::insufficient(&grant.by, Scope::Run));
    }
    let others = ["cursor", "limit", "order", "dryRun", "definition"];
    let (query, wanted) = run_list::parse(&shared, &uri, &others, (LIMIT, LIMIT_MAX))?;
    if !request::queries(&uri).any(|(name, _)| run_list::FILTERS.contains(&&*name)) {
        return Err(Problem::bad(
            "The request must name the runs by a filter of the list, such as 'workflow' or 'status'.",
        ));
    }
    let is_dry =
        request::query(&uri, "dryRun").map_or(Ok(false), |value| run_list::truth("dryRun", &value))?;
    let definition = request::query(&uri, "definition");
    let (rows, next) = run_list::page(&shared, query, wanted).await?;
    let (mut changed, mut refused, mut skipped) = (Vec::new(), Vec::new(), 0_i64);
    for row in rows {
        if !operation.fits(&row) {
            skipped += 1;
            continue;
        }
        let mut shown = view::run_row(&row);
        let done =
            if is_dry { Ok(None) } else { perform(&shared, operation, &row, definition.clone()).await };
        match done {
            Ok(new) => {
                if let Some(new) = new {
                    shown.insert("resubmittedAs", new);
                }
                changed.push(Value::from(shown));
            }
            Err(problem) => {
                let mut error = Object::new();
                error.insert("code", problem.code);
                error.insert("message", problem.message);
                shown.insert("error", error);
                refused.push(Value::from(shown));
            }
        }
    }
    let mut object = Object::new();
    object.insert("dryRun", is_dry);
    object.insert("runs", changed);
    object.insert("refused", refused);
    object.insert("skipped", skipped);
    if let Some(next) = next {
        object.insert("next", next.to_string());
    }
    let response = json(StatusCode::OK, &object.into());
    Ok(if is_dry { access::dry(response) } else { response })
}

/// Does it to one run. Returns the id of a run that was started.
async fn perform(
    shared: &Shared,
    operation: Operation,
    row: &RunRow,
    definition: Option<String>,
) -> Result<Option<Arc<str>>, Problem> {
    let id = row.id.to_string();
    match operation {
        Operation::Cancel => {
            runs::cancel(State(shared.clone()), Path(id)).await?;
            Ok(None)
        }
        Operation::Delete => {
            runs::delete_run(State(shared.clone()), Path(id)).await?;
            Ok(None)
        }
        Operation::Resubmit => {
            let new = runs::start_again(shared, &id, Resubmission { definition, from: None }).await?;
            Ok(Some(new.to_string().into()))
        }
    }
}
