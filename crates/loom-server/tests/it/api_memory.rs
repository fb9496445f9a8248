//! Shared memory over HTTP.

use hyper::Method;
use loom_expression::Value;
use loom_memory::{Namespace, Operation, Request, SharedMemory};

use crate::support::{Plan, Reply, Stream, World, json, list, requested, text};

const LIMIT: &str = "/api/v1/memory/global/limit";

/// A request with one header.
async fn with(world: &World, method: Method, path: &str, header: (&str, &str), body: &str) -> Reply {
    let headers = [header, ("content-type", "application/json")];
    world.send(method, path, &headers, body.to_owned()).await.whole().await
}

async fn transact(world: &World, namespace: &str, operations: &str) -> Reply {
    world.post(&format!("/api/v1/memory/{namespace}"), &format!(r#"{{"operations": {operations}}}"#)).await
}

#[tokio::test]
async fn a_value_is_written_read_and_deleted_by_its_revision() {
    let world = World::new().await;
    assert_eq!(world.get(LIMIT).await.error(), "MemoryKeyNotFound");
    let written = with(&world, Method::PUT, LIMIT, ("if-none-match", "*"), "100").await;
    assert_eq!(written.status, 200);
    let first = written.header("etag").unwrap().to_owned();
    let read = world.get(LIMIT).await;
    assert_eq!(read.header("etag"), Some(&*first));
    let body = read.json();
    assert_eq!(body.get("value"), Some(&Value::from(100)));
    assert_eq!(
        (text(&body, "namespace"), text(&body, "key"), text(&body, "type")),
        ("global", "limit", "value")
    );
    assert_eq!(format!("\"{}\"", body.get("revision").unwrap().to_json_text()), first);
    assert_eq!(with(&world, Method::GET, LIMIT, ("if-none-match", &first), "").await.status, 304);
    // It exists, so it is not written again.
    let refused = with(&world, Method::PUT, LIMIT, ("if-none-match", "*"), "200").await;
    assert_eq!((refused.status, refused.error().as_str()), (412, "RevisionMismatch"));
    let second = with(&world, Method::PUT, LIMIT, ("if-match", &first), "200").await;
    assert_eq!(second.status, 200);
    for method in [Method::PUT, Method::DELETE] {
        assert_eq!(with(&world, method, LIMIT, ("if-match", &first), "300").await.status, 412);
    }
    assert_eq!(world.get(LIMIT).await.json().get("value"), Some(&Value::from(200)));
    let second = second.header("etag").unwrap().to_owned();
    assert_eq!(with(&world, Method::DELETE, LIMIT, ("if-match", &second), "").await.status, 204);
    assert_eq!(world.call(Method::DELETE, LIMIT, "").await.error(), "MemoryKeyNotFound");
}

#[tokio::test]
async fn a_transaction_returns_an_outcome_for_each_operation() {
    let world = World::new().await;
    let reply = transact(
        &world,
        "chat:42",
        r#"[{"operation": "append", "key": "messages/1", "values": ["a", "b", "c"], "max": 2, "ttl": "PT1H"},
            {"operation": "increment", "key": "count"},
            {"operation": "hashSet", "key": "who", "field": "name", "value": "Ada"},
            {"operation": "get", "key": "messages/1"}]"#,
    )
    .await
    .json();
    let outcomes = list(&reply, "outcomes");
    let values: Vec<_> =
        outcomes.iter().map(|outcome| outcome.get("value").unwrap().to_json_text()).collect();
    assert_eq!(values, ["2", "1", "1", r#"["b","c"]"#]);
    assert!(outcomes[0].get("expires").unwrap().as_str().is_some());
    assert!(outcomes[1].get("expires").unwrap().is_null());
    // A slash in a key is escaped.
    let read = world.get("/api/v1/memory/chat:42/messages%2F1").await.json();
    assert_eq!(read.get("value"), Some(&json(r#"["b","c"]"#)));
    // One operation fails, and none has an effect.
    let refused = transact(
        &world,
        "chat:42",
        r#"[{"operation": "increment", "key": "count"}, {"operation": "append", "key": "count", "value": 1}]"#,
    )
    .await;
    assert_eq!((refused.status, refused.error().as_str()), (409, "WrongType"));
    assert!(refused.text().contains("The key `count` holds a counter, but `append` needs a list."));
    assert_eq!(world.get("/api/v1/memory/chat:42/count").await.json().get("value"), Some(&Value::from(1)));
}

#[tokio::test]
async fn keys_are_listed_in_pages() {
    let world = World::new().await;
    for key in ["a1", "a2", "a3", "b1"] {
        assert_eq!(
            world.call(Method::PUT, &format!("/api/v1/memory/agent:bob/{key}"), "1").await.status,
            200
        );
    }
    let keys = async |query: &str| {
        let page = world.get(&format!("/api/v1/memory/agent:bob?{query}")).await.json();
        let keys: Vec<String> = list(&page, "keys").iter().map(|key| text(key, "key").to_owned()).collect();
        (keys.join(" "), page.get("next").and_then(Value::as_str).map(str::to_owned))
    };
    assert_eq!(keys("").await, ("a1 a2 a3 b1".to_owned(), None));
    assert_eq!(keys("prefix=a&limit=2").await, ("a1 a2".to_owned(), Some("a2".to_owned())));
    assert_eq!(keys("prefix=a&limit=2&cursor=a2").await, ("a3".to_owned(), None));
}

#[tokio::test]
async fn a_wrong_request_says_what_is_wrong() {
    let world = World::new().await;
    let message = async |method: Method, path: &str, body: &str| {
        let reply = world.call(method, path, body).await;
        (reply.status, text(reply.json().get("error").unwrap(), "message").to_owned())
    };
    let global = "/api/v1/memory/global";
    for (method, path, body, status, expected) in [
        (Method::GET, "/api/v1/memory/globe/a", "", 400, "expected `global`, `run:ID`"),
        (Method::GET, "/api/v1/memory/run/a", "", 400, "expected a name after the namespace"),
        (Method::PUT, "/api/v1/memory/global/a?tll=1", "1", 400, "Unknown query parameter 'tll'"),
        (Method::PUT, "/api/v1/memory/global/a?ttl=1h", "1", 400, "a duration such as PT1H"),
        (Method::PUT, "/api/v1/memory/global/a", "", 400, "The body must be JSON; it is empty."),
        (Method::PUT, "/api/v1/memory/global/a%0A", "1", 400, "control characters"),
        (Method::PUT, "/api/v1/memory/run:0000000000001/a", "1", 404, "There is no run '0000000000001'."),
        (Method::POST, global, "{}", 400, "the array `operations`"),
        (Method::POST, global, r#"{"operations": []}"#, 400, "1 to 1000 items (got 0)"),
        (
            Method::POST,
            global,
            r#"{"operations": [{"operation": "get", "key": "a"}, {"operation": "gte", "key": "a"}]}"#,
            400,
            "`operations[1]`: The operation is not valid: unknown operation `gte`; did you mean `get`?",
        ),
        (Method::POST, global, r#"{"operations": [{"operation": "get"}]}"#, 400, "must not be empty"),
    ] {
        let found = message(method.clone(), path, body).await;
        assert!(found.0 == status && found.1.contains(expected), "{method} {path} {body}: {found:?}");
    }
}

#[tokio::test]
async fn secrets_are_redacted() {
    let world = World::new().await;
    let memory = world.host.memory();
    let secret = Request::new("k", Operation::append(Value::from("hunter2").into_secret())).unwrap();
    let open = Request::new("k", Operation::append("open")).unwrap();
    memory.transact(&Namespace::Global, vec![secret, open]).await.unwrap();
    let read = world.get("/api/v1/memory/global/k").await;
    assert!(!read.text().contains("hunter2"));
    assert_eq!(read.json().get("value").unwrap().index(1), Some(&Value::from("open")));
    assert_eq!(text(&read.json(), "type"), "list");
    let listed = world.get("/api/v1/memory/global").await;
    assert!(!listed.text().contains("hunter2"));
}

#[tokio::test]
async fn values_of_a_run_are_removed_with_it() {
    let world = World::start(Plan::default()).await;
    world.deploy("done", &requested("{}")).await;
    let run = world.invoke("done", "").await;
    world.ended(&run).await;
    let path = format!("/api/v1/memory/run:{run}/note");
    assert_eq!(world.call(Method::PUT, &path, "1").await.status, 200);
    assert_eq!(world.get(&path).await.status, 200);
    assert_eq!(world.call(Method::DELETE, &format!("/api/v1/runs/{run}"), "").await.status / 100, 2);
    assert_eq!(world.get(&path).await.status, 404);
}

/// The next event of a stream with data, as `kind key value`, and its id.
async fn noticed(stream: &mut Stream, read: &mut String) -> (String, String) {
    loop {
        while let Some(end) = read.find("\n\n") {
            let block: String = read.drain(..end + 2).collect();
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let (Some(id), Some(kind), Some(data)) = (field("id: "), field("event: "), field("data: "))
            else {
                continue;
            };
            let event = json(&data);
            assert_eq!(text(&event, "event"), kind);
            let value = event.get("value").map(Value::to_json_text).unwrap_or_default();
            let key = event.get("key").and_then(Value::as_str).unwrap_or_default();
            return (format!("{kind} {key} {value}"), id);
        }
        let chunk = stream.chunk().await.expect("the stream continues");
        read.push_str(std::str::from_utf8(&chunk).expect("events are text"));
    }
}

#[tokio::test]
async fn changes_are_streamed_and_a_reader_that_reconnects_misses_none() {
    let world = World::new().await;
    let path = "/api/v1/memory/chat:42";
    let put = async |key: &str, value: &str| {
        assert_eq!(world.call(Method::PUT, &format!("{path}/{key}"), value).await.status, 200);
    };
    put("a1", "0").await;
    let open = async |query: &str, after: Option<&str>| {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(after.map(|after| ("last-event-id", after)));
        let stream = world.send(Method::GET, &format!("{path}?{query}"), &headers, "").await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        (stream, String::new())
    };
    let (mut stream, mut read) = open("prefix=a", None).await;
    put("a1", "1").await;
    let (event, first) = noticed(&mut stream, &mut read).await;
    assert_eq!(event, "memory.written a1 1");
    drop(stream);
    put("b1", "1").await;
    put("a2", "2").await;
    assert_eq!(world.call(Method::DELETE, &format!("{path}/a1"), "").await.status, 204);
    let (mut stream, mut read) = open("prefix=a", Some(&first)).await;
    let mut seen = [noticed(&mut stream, &mut read).await.0, noticed(&mut stream, &mut read).await.0];
    seen.sort_unstable();
    assert_eq!(seen, ["memory.deleted a1 null", "memory.written a2 2"]);
    let (mut stream, mut read) = open("keys=true", None).await;
    for expected in ["memory.reset  ", "memory.written a2 2", "memory.written b1 1"] {
        assert_eq!(noticed(&mut stream, &mut read).await.0, expected);
    }
    // What is secret is redacted here, too.
    let secret = Request::new("a3", Operation::set(Value::from("hunter2").into_secret())).unwrap();
    world.host.memory().transact(&Namespace::Chat("42".into()), vec![secret]).await.unwrap();
    let (event, _) = noticed(&mut stream, &mut read).await;
    assert!(event.starts_with("memory.written a3") && !event.contains("hunter2"), "{event}");
    let wrong = world.get(&format!("{path}?keys=yes")).await;
    assert_eq!(wrong.status, 400);
    let headers = [("accept", "text/event-stream"), ("last-event-id", "somewhere")];
    let wrong = world.send(Method::GET, path, &headers, "").await.whole().await;
    assert!(wrong.status == 400 && wrong.text().contains("the position must be one"), "{}", wrong.text());
}
