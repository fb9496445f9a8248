//! The wire server and the codecs together, over real sockets.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request as Http, client::conn::http1};
use hyper_util::rt::TokioIo;
use loom_models::{
    Accumulator, Answer, Api, Decoder, Endpoint, ErrorKind, Head, KeyHeader, Limits, Message, ModelError,
    Part, Request, StopReason, ToolCall, Usage,
};
use loom_testkit::wire::{Reply, Wire};
use tokio::{net::TcpStream, task::JoinSet};

const APIS: [Api; 4] = [Api::ChatCompletions, Api::Responses, Api::Anthropic, Api::Ollama];

fn answer() -> Answer {
    let mut answer = Answer::text("Grüße, 世界 🌍!").with_usage(Usage::new(30, 12));
    answer.message.content.push(Part::ToolCall(ToolCall::new("a", "weather", r#"{"city":"Köln"}"#)));
    answer.message.content.push(Part::ToolCall(ToolCall::new("b", "time", "{}")));
    answer.stop = StopReason::ToolCalls;
    answer
}

/// Sends a request as a client would, and decodes what arrives as it arrives.
async fn ask(wire: &Wire, api: Api, stream: bool) -> Result<Answer, ModelError> {
    let endpoint = Endpoint::new(api, wire.base_url(), KeyHeader::Bearer);
    let request = Request::new("m", vec![Message::user("Hello")]);
    let http = endpoint.encode(&request, stream).expect("it can be sent");
    let address = wire.base_url().trim_start_matches("http://").to_owned();
    let broken = |error: &dyn std::error::Error| ModelError::new(ErrorKind::Truncated, error.to_string());

    let mut tasks = JoinSet::new();
    let socket = TcpStream::connect(&address).await.expect("the wire listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("it speaks HTTP");
    tasks.spawn(connection);
    let mut builder = Http::post(http.url.trim_start_matches(&wire.base_url())).header("host", &address);
    for (name, value) in &http.headers {
        builder = builder.header(*name, *value);
    }
    let sent = builder.body(Full::new(Bytes::from(http.body))).expect("it is a request");
    let response = sender.send_request(sent).await.map_err(|error| broken(&error))?;
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    let head = Head::new(response.status().as_u16(), headers);
    let mut decoder = Decoder::new(&endpoint, head, Limits::default(), 0);
    let mut body = response.into_body();
    let mut deltas = Vec::new();
    while let Some(frame) = body.frame().await {
        // A connection that breaks ends the body; whether the answer is whole, the decoder knows.
        let Ok(frame) = frame else { break };
        if let Some(bytes) = frame.data_ref() {
            decoder.feed(bytes, &mut deltas)?;
        }
    }
    decoder.finish(&mut deltas)?;
    let mut accumulator = Accumulator::default();
    accumulator.extend(&deltas);
    accumulator.finish()
}

fn essence(answer: &Answer) -> (String, Vec<(String, String)>, StopReason, Option<Usage>) {
    let calls = answer.message.tool_calls().map(|call| (call.name.clone(), call.arguments.clone())).collect();
    (answer.message.text(), calls, answer.stop.clone(), answer.usage)
}

#[tokio::test]
async fn every_format_is_understood_however_it_is_cut() -> io::Result<()> {
    for api in APIS {
        for size in [1, 2, 5, 17, 100_000] {
            let wire = Wire::start([
                Reply::stream(api, &answer()).split(size),
                Reply::bare_stream(api, &answer()).split(size),
                Reply::whole(api, &answer()).split(size),
                Reply::whole(api, &answer()).split(size),
            ])
            .await?;
            for (stream, what) in
                [(true, "stream"), (true, "bare"), (false, "whole"), (true, "whole for a stream")]
            {
                let found =
                    ask(&wire, api, stream).await.unwrap_or_else(|error| panic!("{api:?} {what}: {error}"));
                assert_eq!(essence(&found), essence(&answer()), "{api:?} {what} in {size}");
            }
            assert_eq!((wire.asked().len(), wire.replies_left()), (4, 0));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_connection_is_never_a_short_answer() -> io::Result<()> {
    for api in APIS {
        let whole = Reply::stream(api, &answer());
        let last = whole.body_bytes();
        let places = [0, 1, last / 4, last / 2, last * 3 / 4, last - 8];
        let wire = Wire::start(places.map(|bytes| whole.clone().split(9).drop_after(bytes))).await?;
        for bytes in places {
            let error = ask(&wire, api, true).await.expect_err("it was cut");
            assert_eq!(error.kind, ErrorKind::Truncated, "{api:?} after {bytes}");
            assert!(error.is_retryable());
        }
    }
    Ok(())
}

#[tokio::test]
async fn errors_in_the_middle_of_a_stream_are_reported() -> io::Result<()> {
    for api in APIS {
        let failure = ModelError::new(ErrorKind::Overloaded, "come back later");
        let wire = Wire::start([Reply::failing_stream(api, &answer(), &failure).split(3)]).await?;
        let error = ask(&wire, api, true).await.expect_err("it fails");
        // Ollama has text alone.
        let expected = if api == Api::Ollama { ErrorKind::Server } else { ErrorKind::Overloaded };
        assert_eq!(
            (error.kind, error.message.as_str(), error.status),
            (expected, "come back later", None),
            "{api:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_wait_header_is_read() -> io::Result<()> {
    for api in APIS {
        let limited = ModelError::new(ErrorKind::RateLimited, "slow down");
        let reply = |name: &str, value: &str| Reply::error(api, 429, &limited).header(name, value);
        let wire = Wire::start([
            reply("retry-after", "7"),
            reply("retry-after-ms", "1500"),
            reply("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT"),
            reply("x-ratelimit-remaining-requests", "0"),
            Reply::error(api, 529, &ModelError::new(ErrorKind::Overloaded, "busy")),
            Reply::status(500).header("x-should-retry", "false"),
        ])
        .await?;
        for wait in [Some(7000), Some(1500), Some(9000), None] {
            let error = ask(&wire, api, true).await.expect_err("it is limited");
            assert_eq!(
                (error.kind, error.wait()),
                (ErrorKind::RateLimited, wait.map(Duration::from_millis)),
                "{api:?}"
            );
        }
        let error = ask(&wire, api, false).await.expect_err("it is overloaded");
        assert_eq!((error.kind, error.status), (ErrorKind::Overloaded, Some(529)));
        let error = ask(&wire, api, false).await.expect_err("it failed");
        assert!(!error.is_retryable(), "the provider says so");
    }
    Ok(())
}

#[tokio::test]
async fn requests_are_recorded() -> io::Result<()> {
    let wire = Wire::start([Reply::whole(Api::Anthropic, &answer())]).await?;
    ask(&wire, Api::Anthropic, false).await.expect("it answers");
    let asked = wire.asked().remove(0);
    assert_eq!(asked.line, "POST /v1/messages");
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    assert!(asked.body.starts_with(b"{\"model\":\"m\""));
    let error = ask(&wire, Api::Anthropic, false).await.expect_err("there is no reply left");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Server, "the wire has no reply left"));
    Ok(())
}
