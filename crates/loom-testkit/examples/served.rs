//! Runs scenarios through a real server: `served LOOM CORPUS_DIR SCENARIO…`.
//!
//! For each case, the binary LOOM serves the unedited definition from the corpus in a project directory, and a mock replaces
//! every service. Request triggers are invoked. A webhook trigger must first subscribe with the call that the scenario expects;
//! the event is then sent to its callback URL. A second workflow sends the items to a batch trigger, one by one. Everything is
//! checked from outside: the caller's response, the requests to the services, and the run and the statuses of its actions in
//! the API. Exits with 1 if a case failed or there were none.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use loom_expression::{Object, Value};
use loom_testkit::{
    cases::{Difference, compare_exact},
    mock::Mock,
    scenario::{Corpus, compare_calls},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The timeout of one case.
const PATIENCE: Duration = Duration::from_mins(1);

/// The name of every served workflow.
const NAME: &str = "served";

/// A workflow that sends its input to a batch.
const SENDER: &str = r#"{"definition": {"triggers": {"manual": {"type": "Request"}}, "actions": {
    "Each": {"type": "Foreach", "foreach": "@triggerBody()?['items']", "operationOptions": "Sequential", "actions": {
        "Send": {"type": "SendToBatch", "inputs": {
            "batchName": "@triggerBody()?['batchName']", "partitionName": "@triggerBody()?['partitionName']",
            "messageId": "@item()?['messageId']", "content": "@item()?['content']",
            "host": {"triggerName": "@triggerBody()?['trigger']", "workflow": {"id": "served"}}}}}}}}}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: served LOOM CORPUS_DIR SCENARIO…";
    let loom = PathBuf::from(arguments.next().ok_or(usage)?);
    let corpus = Corpus::at(arguments.next().ok_or(usage)?);
    let (mut passed, mut failed) = (0, 0);
    for scenario in arguments {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/scenarios");
        for case in corpus.cases(&file.join(format!("{scenario}.json")))? {
            let id = case.get("id").and_then(Value::as_str).unwrap_or("only case");
            let executed = tokio::time::timeout(PATIENCE, run(&loom, &corpus, &case)).await;
            let found = match executed {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => vec![Difference::of("served", error.to_string())],
                Err(_) => vec![Difference::of("served", "it did not end in time")],
            };
            println!("{}{scenario}: {id}", if found.is_empty() { "ok      " } else { "FAILED  " });
            for difference in &found {
                println!("  {difference}");
            }
            if found.is_empty() { passed += 1 } else { failed += 1 }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a case and returns its differences.
async fn run(loom: &Path, corpus: &Corpus, case: &Object) -> Fallible<Vec<Difference>> {
    let subscription = case.get("subscription");
    let mock = Mock::start(&rules(case)).await?;
    let directory = tempfile::tempdir()?;
    lay_out(directory.path(), case, &corpus.definition(case)?, &mock.base_url())?;
    let served = Served::start(loom, directory.path()).await?;
    let mut found = Vec::new();
    let late = case.get("answersLater").and_then(Value::as_bool).unwrap_or(false);
    let caller = match subscription {
        Some(_) => {
            mock.came(1).await;
            let callback = mock.requests()[0].body_value();
            let callback = callback.get("callback_url").and_then(Value::as_str).unwrap_or_default();
            let path = callback
                .strip_prefix(&served.base)
                .ok_or("the callback URL is not below the server's URL")?
                .to_owned();
            served.fire(&path, case).await?
        }
        None if served.trigger_type().await? == "Batch" => {
            let accepted = served.send_items(case).await?;
            mock.came(1).await;
            accepted
        }
        None if late => served.fire_and_fetch(case, &mock, &mut found).await?,
        None => {
            let path = served.trigger().await?;
            served.fire(&path, case).await?
        }
    };
    let run = served.only_run().await?;
    let expected = case.get("expected").ok_or("the case has no `expected`")?;
    if let Some(wanted) = expected.get("runStatus") {
        compare_exact("runStatus", wanted, run.get("status"), &mut found);
    }
    check_answer(expected.get("response"), &caller, &mut found);
    served.check_actions(text(&run, "id")?, expected, &mut found).await?;
    let mut came = mock.requests();
    if let Some(subscription) = subscription {
        let first = came.drain(..1).collect::<Vec<_>>();
        compare_calls(std::slice::from_ref(subscription), &first, false, &mut found);
    }
    if let Some(calls) = case.get("calls").and_then(Value::as_array) {
        let any_order = case.get("anyOrder").and_then(Value::as_bool).unwrap_or(false);
        compare_calls(calls, &came, any_order, &mut found);
    }
    found.extend(mock.problems().into_iter().map(|problem| Difference::of("rules", problem)));
    Ok(found)
}

/// The script of the mock: the case's rules, and a response to the subscription.
fn rules(case: &Object) -> Value {
    let own = case.get("rules").and_then(Value::as_array).map(|rules| rules.to_vec()).unwrap_or_default();
    let subscription = case.get("subscription").map(|call| {
        let mut rule = Object::new();
        for member in ["method", "path"] {
            rule.insert(member, call.get(member).cloned());
        }
        rule.insert("response", [("status", 201)].into_iter().collect::<Object>());
        rule.insert("calls", 1);
        Value::from(rule)
    });
    subscription.into_iter().chain(own).collect::<Vec<Value>>().into()
}

/// Writes the project, with the unedited definition.
fn lay_out(directory: &Path, case: &Object, definition: &Path, mock: &str) -> Fallible<()> {
    let project = directory.join("project");
    std::fs::create_dir_all(project.join(NAME))?;
    std::fs::copy(definition, project.join(NAME).join("workflow.json"))?;
    std::fs::create_dir(project.join("sender"))?;
    std::fs::write(project.join("sender").join("workflow.json"), SENDER)?;
    let write = |path: &Path, value: Value| std::fs::write(path, value.to_json_text());
    for (member, file) in [("parametersFile", "parameters.json"), ("connections", "connections.json")] {
        if let Some(value) = case.get(member) {
            write(&project.join(file), value.clone())?;
        }
    }
    // Requests are not retried.
    let host: Object = [("defaultRetryPolicy", "none")].into_iter().collect();
    let mut settings: Object = [("Loom", host)].into_iter().collect();
    settings.insert("Values", case.get("appSettings").cloned().unwrap_or_else(|| Object::new().into()));
    write(&project.join("local.settings.json"), settings.into())?;
    let egress: Object = [("*", mock)].into_iter().collect();
    write(&directory.join("egress.json"), egress.into())?;
    Ok(())
}

/// A server process; it is killed when this value is dropped.
struct Served {
    _process: Child,
    base: String,
}

struct Answer {
    status: i64,
    headers: HeaderMap,
    body: Bytes,
}

impl Served {
    async fn start(loom: &Path, directory: &Path) -> Fallible<Served> {
        let mut process = Command::new(loom)
            .args(["serve", "--memory", "--addr", "127.0.0.1:0", "--workflows"])
            .arg(directory.join("project"))
            .arg("--egress")
            .arg(directory.join("egress.json"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let line = BufReader::new(output).lines().next_line().await?.ok_or("the server did not start")?;
        let base = line.strip_prefix("listening on ").ok_or("the server does not print its URL")?;
        Ok(Served { base: base.to_owned(), _process: process })
    }

    async fn send(&self, method: &str, path: &str, headers: &Object, body: &str) -> Fallible<Answer> {
        let address = self.base.strip_prefix("http://").ok_or("the server's URL is not an http URL")?;
        let mut request = Request::builder().method(method).uri(path).header("host", address);
        for (name, value) in headers {
            request = request.header(&**name, value.text().as_ref());
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // An error of the connection is visible in the response.
            connection.await.ok();
        });
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: i64::from(parts.status.as_u16()), headers: parts.headers, body })
    }

    async fn get(&self, path: &str) -> Fallible<Value> {
        let answer = self.send("GET", path, &Object::new(), "").await?;
        Ok(Value::parse_json(&answer.body)?)
    }

    /// The only trigger of the definition.
    async fn only_trigger(&self) -> Fallible<Value> {
        let workflow = self.get(&format!("/api/v1/workflows/{NAME}")).await?;
        let triggers = workflow.get("triggers").and_then(Value::as_array).map(|triggers| &triggers[..]);
        let Some([trigger]) = triggers else {
            return Err("the definition does not have exactly one trigger".into());
        };
        Ok(trigger.clone())
    }

    async fn trigger_type(&self) -> Fallible<String> {
        Ok(text(&self.only_trigger().await?, "type")?.to_owned())
    }

    /// Lets the other workflow send the items that the batch trigger collects.
    async fn send_items(&self, case: &Object) -> Fallible<Answer> {
        let given = case.get("trigger").and_then(|trigger| trigger.get("body"));
        let mut given = given
            .and_then(Value::as_object)
            .cloned()
            .ok_or("the trigger has no `body` with items to send")?;
        given.insert("trigger", text(&self.only_trigger().await?, "name")?);
        let headers: Object = [("content-type", "application/json")].into_iter().collect();
        let body = Value::from(given).to_json_text();
        self.send("POST", "/workflows/sender/triggers/manual/invoke", &headers, &body).await
    }

    /// The path of the definition's only trigger.
    async fn trigger(&self) -> Fallible<String> {
        let trigger = self.only_trigger().await?;
        let name = text(&trigger, "name")?;
        Ok(format!("/workflows/{NAME}/triggers/{}/invoke", name.replace(' ', "%20")))
    }

    /// Sends the case's trigger headers and body.
    async fn fire(&self, path: &str, case: &Object) -> Fallible<Answer> {
        let given = case.get("trigger").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut headers = given.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
        let body = given.get("body").map(Value::to_json_text).unwrap_or_default();
        if !body.is_empty() {
            headers.insert("content-type", "application/json");
        }
        self.send("POST", path, &headers, &body).await
    }

    /// Acts as a caller that receives the location of a later response: fetches it before any service has responded, and again
    /// after the first one has.
    async fn fire_and_fetch(
        &self,
        case: &Object,
        mock: &Mock,
        found: &mut Vec<Difference>,
    ) -> Fallible<Answer> {
        mock.answer_only(0);
        let accepted = self.fire(&self.trigger().await?, case).await?;
        compare_exact("answer.statusCode", &Value::from(202), Some(&accepted.status.into()), found);
        let place = accepted.headers.get("location").ok_or("the response has no Location header")?;
        let place =
            place.to_str()?.strip_prefix(&self.base).ok_or("the Location is not below the server's URL")?;
        mock.came(1).await;
        let early = self.send("GET", place, &Object::new(), "").await?;
        compare_exact("early.statusCode", &Value::from(202), Some(&early.status.into()), found);
        compare_exact(
            "early.location",
            &true.into(),
            Some(&early.headers.contains_key("location").into()),
            found,
        );
        mock.answer_only(1);
        // A second call is made after the response; the caller can fetch the response before that call ends.
        let calls = case.get("calls").and_then(Value::as_array).map_or(0, |calls| calls.len());
        if calls > 1 {
            mock.came(2).await;
        } else {
            self.only_run().await?;
        }
        let answer = self.send("GET", place, &Object::new(), "").await?;
        mock.answer_only(usize::MAX);
        Ok(answer)
    }

    /// Waits for the end of the only run.
    async fn only_run(&self) -> Fallible<Value> {
        let runs = self.get(&format!("/api/v1/runs?workflow={NAME}")).await?;
        let Some([run]) = runs.get("runs").and_then(Value::as_array).map(|runs| &runs[..]) else {
            return Err(format!("expected one run, found {}", runs.to_json_text()).into());
        };
        let id = text(run, "id")?;
        // The stream of events ends with the run.
        let headers: Object = [("accept", "text/event-stream")].into_iter().collect();
        self.send("GET", &format!("/api/v1/runs/{id}/events"), &headers, "").await?;
        self.get(&format!("/api/v1/runs/{id}")).await
    }

    async fn check_actions(&self, run: &str, expected: &Value, found: &mut Vec<Difference>) -> Fallible<()> {
        let Some(expected) = expected.get("actions").and_then(Value::as_object) else { return Ok(()) };
        let all = self.get(&format!("/api/v1/runs/{run}/actions")).await?;
        let all = all.get("actions").and_then(Value::as_array).ok_or("a run has no actions")?;
        for (name, wanted) in expected {
            let named = |action: &&Value| action.get("name").and_then(Value::as_str) == Some(name);
            let action = all.iter().find(named);
            if let Some(status) = wanted.get("status") {
                let got = action.and_then(|action| action.get("status"));
                compare_exact(&format!("actions.{name}.status"), status, got, found);
            }
        }
        Ok(())
    }
}

/// Compares the caller's response with the expected one; without one, 202 Accepted is expected.
fn check_answer(wanted: Option<&Value>, answer: &Answer, found: &mut Vec<Difference>) {
    let accepted: Value = [("statusCode", 202)].into_iter().collect::<Object>().into();
    let wanted = wanted.unwrap_or(&accepted);
    let status = wanted.get("statusCode").cloned().unwrap_or_else(|| 200.into());
    compare_exact("response.statusCode", &status, Some(&answer.status.into()), found);
    if let Some(body) = wanted.get("body") {
        let text = String::from_utf8_lossy(&answer.body);
        // A string is sent unchanged, whatever it contains, and null as an empty body.
        let got = match Value::parse_json(&answer.body) {
            Ok(value) if body.as_str().is_none() => value,
            _ if body.is_null() && text.is_empty() => Value::NULL,
            _ => Value::from(&*text),
        };
        compare_exact("response.body", body, Some(&got), found);
    }
    for (name, wanted) in wanted.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let got = answer.headers.get(&**name).and_then(|got| got.to_str().ok()).map(Value::from);
        compare_exact(&format!("response.headers.{name}"), wanted, got.as_ref(), found);
    }
}

fn text<'v>(value: &'v Value, member: &str) -> Fallible<&'v str> {
    Ok(value.get(member).and_then(Value::as_str).ok_or_else(|| format!("missing property `{member}`"))?)
}
