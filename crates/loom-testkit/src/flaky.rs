//! An HTTP service that fails on request, for examples and for trying out retries and circuit breakers.
//!
//! It counts calls instead of using random numbers, so the same calls always get the same responses.
//!
//! | path | response |
//! |---|---|
//! | `/ok` | 200 |
//! | `/flaky?fails=2&key=a` | 503 for the first `fails` calls with this `key`, then 200 |
//! | `/down?key=a` | 503, always; counts its calls |
//! | `/slow?ms=250` | 200 after this many milliseconds |
//! | `/limited?retryAfter=1&fails=1` | 429 with `Retry-After` for the first `fails` calls, then 200 |
//! | `/status/418` | this status code |
//! | `/echo` | 200 with the method, path, query, headers and body of the request |
//! | `/stats` | 200 with the number of calls of every path and key |
//! | `/reset` | 200; sets all counts to zero |

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header};
use loom_expression::{Object, Value};

use crate::server::{Answer, Received, Respond, Server, query_members};

/// The running service.
#[derive(Debug)]
pub struct Flaky {
    server: Server,
    calls: Calls,
}

/// Calls by path and key.
type Calls = Arc<Mutex<BTreeMap<String, u64>>>;

impl Flaky {
    /// Starts the service on the loopback address, at a port chosen by the system.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start() -> io::Result<Flaky> {
        Self::start_at(0).await
    }

    /// Starts the service at a port; 0 lets the system choose.
    ///
    /// # Errors
    /// When the port is not available.
    pub async fn start_at(port: u16) -> io::Result<Flaky> {
        let calls = Calls::default();
        let counted = Arc::clone(&calls);
        let respond: Respond = Arc::new(move |received| {
            let counted = Arc::clone(&counted);
            Box::pin(async move { answer(&received, &counted).await })
        });
        Ok(Flaky { server: Server::start(port, respond).await?, calls })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:port`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// How often `path` was called, all keys together.
    pub fn calls(&self, path: &str) -> u64 {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let of_path = calls.iter().filter(|(name, _)| name.split('?').next() == Some(path));
        of_path.map(|(_, count)| count).sum()
    }

    /// Stops the service after requests in progress have ended.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn answer(received: &Received, calls: &Calls) -> Answer {
    let members = query_members(&received.query);
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str, usual: u64| member(name).and_then(|value| value.parse().ok()).unwrap_or(usual);
    let path = received.path.as_str();
    if path == "/stats" {
        let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = calls.iter().map(|(name, count)| (name.as_str(), Value::from(*count as i64)));
        return reply(StatusCode::OK, &counts.collect::<Object>().into(), None);
    }
    if path == "/reset" {
        calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        return reply(StatusCode::OK, &Object::new().into(), None);
    }
    let counted = match member("key") {
        Some(key) => format!("{path}?key={key}"),
        None => path.to_owned(),
    };
    let call = {
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(counted).or_default();
        *count += 1;
        *count
    };
    let story = |ok: bool| -> Object {
        [("ok", Value::from(ok)), ("call", Value::from(call as i64))].into_iter().collect()
    };
    match path {
        "/ok" => reply(StatusCode::OK, &story(true).into(), None),
        "/flaky" if call <= number("fails", 2) => {
            reply(StatusCode::SERVICE_UNAVAILABLE, &story(false).into(), member("retryAfter"))
        }
        "/flaky" => reply(StatusCode::OK, &story(true).into(), None),
        "/down" => reply(StatusCode::SERVICE_UNAVAILABLE, &story(false).into(), None),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms", 1_000).min(600_000))).await;
            reply(StatusCode::OK, &story(true).into(), None)
        }
        "/limited" if call <= number("fails", 1) => {
            let wait = member("retryAfter").unwrap_or("1");
            reply(StatusCode::TOO_MANY_REQUESTS, &story(false).into(), Some(wait))
        }
        "/limited" => reply(StatusCode::OK, &story(true).into(), None),
        "/echo" => reply(StatusCode::OK, &echo(received).into(), None),
        _ => {
            let wanted = path.strip_prefix("/status/").and_then(|status| status.parse().ok());
            match wanted.filter(|status| (200..600).contains(status)) {
                Some(status) => {
                    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
                    reply(status, &story(status.is_success()).into(), None)
                }
                None => reply(StatusCode::NOT_FOUND, &story(false).into(), None),
            }
        }
    }
}

fn echo(received: &Received) -> Object {
    let headers = received.headers.iter().map(|(name, value)| {
        (name.as_str(), Value::from(String::from_utf8_lossy(value.as_bytes()).as_ref()))
    });
    let body = Value::parse_json(&received.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&received.body).as_ref().into());
    let mut echo = Object::new();
    echo.insert("method", received.method.as_str());
    echo.insert("path", received.path.as_str());
    echo.insert("query", received.query.as_str());
    echo.insert("headers", headers.collect::<Object>());
    echo.insert("body", body);
    echo
}

fn reply(status: StatusCode, body: &Value, retry_after: Option<&str>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_json_text())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if let Some(wait) = retry_after.and_then(|wait| header::HeaderValue::from_str(wait).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Answer::Reply(response)
}
