//! `callers HOST:PORT PATH COUNT SECONDS`: so many callers, each on a connection of its own, who ask for the next run as soon as
//! the last one was answered. Prints a line of JSON.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;

async fn call(address: &str, path: &str, until: Instant) -> Vec<Duration> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the server answers");
    stream.set_nodelay(true).expect("the socket takes it");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let mut took = Vec::new();
    while Instant::now() < until {
        let request = Request::post(path)
            .header("host", address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(b"7")))
            .expect("the request is whole");
        let began = Instant::now();
        let answer = sender.send_request(request).await.expect("it is answered");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("the answer comes").to_bytes();
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        took.push(began.elapsed());
    }
    took
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, callers, seconds] = arguments.as_slice() else {
        panic!("HOST:PORT PATH COUNT SECONDS")
    };
    let (callers, seconds): (usize, u64) =
        (callers.parse().expect("a number"), seconds.parse().expect("a number"));
    for (time, told) in [(Duration::from_secs(1), false), (Duration::from_secs(seconds), true)] {
        let began = Instant::now();
        let calls = (0..callers).map(|_| {
            let (address, path) = (address.clone(), path.clone());
            tokio::spawn(async move { call(&address, &path, began + time).await })
        });
        let mut took = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            took.extend(call.await.expect("a caller ends"));
        }
        let elapsed = began.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        if told {
            println!(
                r#"{{"who": "restate", "callers": {callers}, "runs_s": {:.1}, "p50_ms": {:.2}, "p99_ms": {:.2}}}"#,
                took.len() as f64 / elapsed,
                at(0.5),
                at(0.99)
            );
        }
    }
}
