//! Exchanges of more than one request: polling, pages, chunks.

use std::time::Duration;

use loom_actions::{Answer, Behaviour, Progress, Requests, Settings, Spec};
use loom_expression::Value;
use loom_testkit::mock::Mock;

use crate::support::{answer, attempt, body, failure, finished, json, marks, mock, requests};

/// Follows an operation to its end as an engine does, with a new client for every step, as after a crash: only the
/// resume value is kept, as text.
async fn followed(mock: &Mock, inputs: &str) -> (Answer, Vec<Duration>) {
    let spec = Spec::from_inputs(&json(&inputs.replace("{base}", &mock.base_url()))).unwrap();
    let mut resume: Option<String> = None;
    let mut waits = Vec::new();
    loop {
        let reborn: Requests = requests(Settings::default());
        let value = resume.as_deref().map(json);
        match reborn.perform(&spec, &marks(), &Behaviour::default(), value.as_ref()).await.unwrap() {
            Progress::Final(answer) => return (answer, waits),
            Progress::Pending { after, resume: next, .. } => {
                waits.push(after);
                resume = Some(next.to_json_text());
            }
        }
    }
}

const WORK: &str = r#"{"method": "POST", "uri": "{base}/jobs", "body": {"a": 1}, "authentication": {"type": "Raw", "value": "key"}}"#;

#[tokio::test]
async fn accepted_work_is_polled_across_crashes() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/jobs", "response": {"status": 202, "headers": {"Location": "/jobs/1?x=%2F", "Retry-After": "7"}}, "calls": 1},
            {"method": "GET", "path": "/jobs/1", "headers": {"authorization": "key"}, "responses": [
                {"status": 202}, {"status": 503}, {"hangup": true},
                {"status": 202, "headers": {"Location": "{{base}}/jobs/2", "Retry-After": "Mon, 01 Jan 2024 00:00:09 GMT", "Date": "Mon, 01 Jan 2024 00:00:00 GMT"}}]},
            {"method": "GET", "path": "/jobs/2", "response": {"body": {"done": true}}}]"#,
    )
    .await;
    let (last, waits) = followed(&mock, WORK).await;
    assert_eq!((last.status, body(&last)), (200, json(r#"{"done": true}"#)));
    assert_eq!(waits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [7, 1, 2, 4, 9]);
    assert_eq!(mock.problems(), Vec::<String>::new(), "the work was asked for once");
}

#[tokio::test]
async fn accepted_work_is_polled_at_least_once_a_day() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/jobs", "response": {"status": 202, "headers": {"Location": "/s", "Retry-After": "4000000000"}}, "calls": 1},
            {"method": "GET", "path": "/s", "responses": [
                {"status": 202, "headers": {"Retry-After": "99999999999999999999"}},
                {"status": 202, "headers": {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}},
                {"status": 202, "headers": {"Retry-After": "+9"}},
                {"body": {"done": true}}]}]"#,
    )
    .await;
    let (last, waits) = followed(&mock, WORK).await;
    assert_eq!(body(&last), json(r#"{"done": true}"#));
    // A value that is not a number of seconds is ignored, so the usual interval applies.
    assert_eq!(waits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [86_400, 86_400, 86_400, 1]);
}

#[tokio::test]
async fn failed_work_is_not_requested_again() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/jobs", "response": {"status": 202, "headers": {"Location": "/s"}}, "calls": 1},
            {"method": "GET", "path": "/s", "response": {"hangup": true}}]"#,
    )
    .await;
    let spec = Spec::from_inputs(&json(&WORK.replace("{base}", &mock.base_url()))).unwrap();
    let requests = requests(Settings::default());
    let mut resume: Option<Value> = None;
    let mut polls = 0;
    let failed = loop {
        match requests.perform(&spec, &marks(), &Behaviour::default(), resume.as_ref()).await {
            Ok(Progress::Pending { resume: next, .. }) => resume = Some(next),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => break failure,
        }
        polls += 1;
    };
    assert_eq!((polls, failed.transient), (5, false));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn the_result_of_accepted_work_does_not_repeat_the_request() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/jobs", "response": {"status": 202, "headers": {"Location": "/s", "Content-Type": "application/json"}, "body": "no JSON"}, "calls": 1},
            {"method": "GET", "path": "/s", "headers": {"cookie": "c=1"}, "response": {"status": 503, "body": "down"}, "calls": 5}]"#,
    )
    .await;
    let (last, waits) = followed(&mock, &WORK.replace(r#""body""#, r#""cookie": "c=1", "body""#)).await;
    assert_eq!((last.status, body(&last), waits.len()), (503, "down".into(), 5));
    assert!(!last.is_transient() && !last.is_success(), "{last:?}");
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn cookies_stay_where_they_belong() {
    let other = mock(r#"[{"path": "/next", "response": {"body": {"value": [2]}}}]"#).await;
    let rules = r#"[{"path": "/list", "query": {"page": "2"}, "response": {"body": {"value": [1], "nextLink": "OTHER/next"}}},
        {"path": "/list", "response": {"body": {"value": [0], "nextLink": "?page=2"}}}]"#;
    let mock = mock(&rules.replace("OTHER", &other.base_url())).await;
    let pages = Behaviour { minimum_items: Some(3), ..Behaviour::default() };
    let inputs = r#"{"uri": "{base}/list", "cookie": "c=1"}"#;
    let all = attempt(&requests(Settings::default()), &mock.base_url(), inputs, &pages).await.unwrap();
    assert_eq!(body(&finished(all)).get("value"), Some(&json("[0, 1, 2]")));
    let cookies: Vec<_> =
        mock.requests().iter().map(|request| request.header("cookie").map(str::to_owned)).collect();
    assert_eq!(cookies, [Some("c=1".to_owned()), Some("c=1".to_owned())]);
    assert_eq!(other.requests()[0].header("cookie"), None);
}

#[tokio::test]
async fn accepted_is_final_without_a_location_or_when_polling_is_off() {
    let mock = mock(
        r#"[{"path": "/nowhere", "response": {"status": 202, "body": "later"}},
            {"path": "/jobs", "response": {"status": 202, "headers": {"Location": "/s"}}}]"#,
    )
    .await;
    let nowhere = answer(&mock.base_url(), r#"{"uri": "{base}/nowhere"}"#).await;
    assert_eq!((nowhere.status, body(&nowhere)), (202, "later".into()));
    let off = Behaviour { no_polling: true, ..Behaviour::default() };
    let last = attempt(&requests(Settings::default()), &mock.base_url(), WORK, &off).await.unwrap();
    assert_eq!(finished(last).status, 202);
}

const PAGES: &str = r#"[
    {"path": "/list", "query": {"page": "2"}, "response": {"body": {"value": [3, 4], "nextLink": "?page=3"}}},
    {"path": "/list", "query": {"page": "3"}, "response": {"body": {"value": [5]}}},
    {"path": "/list", "response": {"body": {"kind": "list", "value": [1, 2], "nextLink": "{{base}}/list?page=2"}}},
    {"path": "/broken", "query": {"page": "2"}, "response": {"status": 404, "body": "gone"}},
    {"path": "/broken", "response": {"body": {"value": [1], "@odata.nextLink": "/broken?page=2"}}},
    {"path": "/circle", "response": {"body": {"value": [1], "nextLink": "/circle?x=1"}}}]"#;

#[tokio::test]
async fn pages_are_followed_until_there_is_enough() {
    let mock = mock(PAGES).await;
    let base = mock.base_url();
    let requests = requests(Settings::default());
    let pages = async |path: &str, minimum: u64| {
        let behaviour = Behaviour { minimum_items: Some(minimum), ..Behaviour::default() };
        finished(
            attempt(&requests, &base, &format!(r#"{{"uri": "{{base}}/{path}"}}"#), &behaviour).await.unwrap(),
        )
    };
    assert_eq!(body(&pages("list", 100).await), json(r#"{"kind": "list", "value": [1, 2, 3, 4, 5]}"#));
    assert_eq!(
        body(&pages("list", 3).await),
        json(r#"{"kind": "list", "value": [1, 2, 3, 4], "nextLink": "?page=3"}"#)
    );
    assert_eq!(body(&pages("list", 1).await).get("value"), Some(&json("[1, 2]")));
    assert_eq!(pages("broken", 5).await.status, 404);
    let alone = answer(&base, r#"{"uri": "{base}/list"}"#).await;
    assert_eq!(body(&alone).get("value"), Some(&json("[1, 2]")), "only when asked to");
    let behaviour = Behaviour { minimum_items: Some(9), ..Behaviour::default() };
    let circle = attempt(&requests, &base, r#"{"uri": "{base}/circle"}"#, &behaviour).await.unwrap_err();
    assert!(circle.message.contains("do not end"), "{circle}");
}

#[tokio::test]
async fn a_partial_response_is_completed() {
    let part = |range: &str, text: &str| {
        format!(
            r#"{{"status": 206, "headers": {{"Content-Range": "bytes {range}/10", "Content-Type": "text/plain", "ETag": "\"e\""}}, "body": "{text}"}}"#
        )
    };
    let rules = format!(
        r#"[{{"path": "/big", "headers": {{"range": "bytes=4-", "if-match": "\"e\""}}, "response": {}}},
            {{"path": "/big", "headers": {{"range": "bytes=8-"}}, "response": {}}},
            {{"path": "/big", "response": {}}},
            {{"path": "/odd", "responses": [{}, {}]}}]"#,
        part("4-7", "4567"),
        part("8-9", "89"),
        part("0-3", "0123"),
        part("0-3", "0123"),
        part("6-9", "6789"),
    );
    let mock = mock(&rules).await;
    let whole = answer(&mock.base_url(), r#"{"uri": "{base}/big"}"#).await;
    assert_eq!((whole.status, body(&whole)), (200, "0123456789".into()));
    let wanted =
        answer(&mock.base_url(), r#"{"uri": "{base}/big", "headers": {"Range": "bytes=0-3"}}"#).await;
    assert_eq!((wanted.status, body(&wanted)), (206, "0123".into()), "who asks for a part gets the part");
    let odd = failure(&requests(Settings::default()), &mock.base_url(), r#"{"uri": "{base}/odd"}"#).await;
    assert!(odd.transient && odd.message.contains("unexpected range"), "{odd}");
}

#[tokio::test]
async fn a_body_is_uploaded_in_chunks() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/up", "headers": {"x-ms-transfer-mode": "chunked", "x-ms-content-length": "10"},
             "response": {"headers": {"Location": "/up/1", "x-ms-chunk-size": "4"}}, "calls": 1},
            {"method": "PATCH", "path": "/up/1", "headers": {"content-range": "bytes 0-3/10"}, "response": {"status": 500}},
            {"method": "PATCH", "path": "/up/1", "headers": {"content-range": "bytes=0-3/10"}, "response": {"headers": {"Range": "bytes=0-2"}}, "calls": 1},
            {"method": "PATCH", "path": "/up/1", "headers": {"content-range": "bytes=3-8/10"}, "response": {"headers": {"x-ms-chunk-size": "6"}}, "calls": 1},
            {"method": "PATCH", "path": "/up/1", "headers": {"content-range": "bytes=9-9/10", "content-type": "text/x"}, "response": {"body": "all"}, "calls": 1}]"#
            .replace(r#""Range": "bytes=0-2""#, r#""Range": "bytes=0-2", "x-ms-chunk-size": "6""#)
            .as_str(),
    )
    .await;
    let chunked = Behaviour { chunked: true, ..Behaviour::default() };
    let inputs = r#"{"method": "POST", "uri": "{base}/up", "headers": {"Content-Type": "text/x"}, "body": "0123456789"}"#;
    let requests = requests(Settings { chunk_threshold: 9, ..Settings::default() });
    let last = finished(attempt(&requests, &mock.base_url(), inputs, &chunked).await.unwrap());
    assert_eq!(body(&last), "all".into());
    assert_eq!(mock.problems(), Vec::<String>::new());
    let pieces: Vec<_> =
        mock.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert_eq!(pieces, ["", "0123", "345678", "9"]);
    assert!(mock.requests()[1..].iter().all(|request| request.header("idempotency-key").is_none()));
}

#[tokio::test]
async fn chunks_are_for_large_bodies_and_services_that_support_them() {
    let rules = r#"[{"method": "POST", "path": "/old", "headers": {"x-ms-transfer-mode": "chunked"}, "response": {"status": 411}},
        {"method": "POST", "path": "/silent", "headers": {"x-ms-transfer-mode": "chunked"}, "response": {"status": 200}},
        {"method": "POST", "path": "/busy", "headers": {"x-ms-transfer-mode": "chunked"}, "response": {"status": 503}},
        {"method": "POST", "path": "/old", "response": {"body": "taken"}},
        {"method": "POST", "path": "/silent", "response": {"body": "taken"}},
        {"method": "POST", "path": "/busy", "response": {"body": "taken"}}]"#;
    let chunked = Behaviour { chunked: true, ..Behaviour::default() };
    // What is sent for a body of ten bytes, and the resulting status.
    let whole = ["0123456789"].as_slice();
    let announced = ["", "0123456789"].as_slice();
    for (path, threshold, sent, status) in [
        ("old", 10, whole, 200),
        ("old", 9, announced, 200),
        ("silent", 9, announced, 200),
        ("busy", 9, &[""], 503),
    ] {
        let mock = mock(rules).await;
        let requests = requests(Settings { chunk_threshold: threshold, ..Settings::default() });
        let inputs =
            r#"{"method": "POST", "uri": "{base}/PATH", "body": "0123456789"}"#.replace("PATH", path);
        let last = finished(attempt(&requests, &mock.base_url(), &inputs, &chunked).await.unwrap());
        assert_eq!(last.status, status, "{path}");
        let seen = mock.requests();
        let bodies: Vec<_> = seen.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        assert_eq!(bodies, sent, "{path}");
        // A service that remembers keys must not treat the body as a repetition of its announcement.
        let keys: Vec<_> = seen.iter().map(|request| request.header("idempotency-key")).collect();
        assert!(keys.len() < 2 || keys[0] != keys[1], "{keys:?}");
        if sent.len() == 2 {
            assert_eq!(keys[1], Some(r#""0000000000000001/Call""#));
        }
    }
}
