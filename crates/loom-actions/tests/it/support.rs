//! Shared by the tests: requests with settings, scripts, and servers that misbehave byte by byte.

use std::{future::Future, io, net::IpAddr, pin::Pin, sync::Arc};

use loom_actions::{Answer, Behaviour, Failure, Marks, Progress, Requests, Resolve, Settings, Spec};
use loom_expression::{Timestamp, Value};
use loom_testkit::mock::Mock;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub(crate) fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

/// 2024-01-01T00:00:00Z.
pub(crate) fn new_year() -> Timestamp {
    Timestamp::from_unix_millis(1_704_067_200_000)
}

pub(crate) fn requests(settings: Settings) -> Requests {
    Requests::with_resolver(settings, Arc::new(new_year), Arc::new(Names)).unwrap()
}

/// Knows two names, so that no test uses a real resolver.
struct Names;

impl Resolve for Names {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(async move {
            match host {
                "localhost" | "innocent.example" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
                _ => Err(io::Error::other("no such name")),
            }
        })
    }
}

pub(crate) async fn mock(rules: &str) -> Mock {
    Mock::start(&json(rules)).await.unwrap()
}

pub(crate) fn marks() -> Marks {
    Marks {
        workflow: "orders".to_owned(),
        version: "1.0.0.0".to_owned(),
        run: "0000000000000001".to_owned(),
        action: "Call".to_owned(),
        tracking_id: "track".to_owned(),
        action_tracking_id: "own".to_owned(),
        idempotency_key: "0000000000000001/Call".to_owned(),
        ..Marks::default()
    }
}

/// One attempt with the inputs of an Http action, in which `{base}` stands for `base`.
pub(crate) async fn attempt(
    requests: &Requests,
    base: &str,
    inputs: &str,
    behaviour: &Behaviour,
) -> Result<Progress, Failure> {
    let spec = Spec::from_inputs(&json(&inputs.replace("{base}", base)))?;
    requests.perform(&spec, &marks(), behaviour, None).await
}

/// The final response of one attempt with default settings.
pub(crate) async fn answer(base: &str, inputs: &str) -> Answer {
    finished(attempt(&requests(Settings::default()), base, inputs, &Behaviour::default()).await.unwrap())
}

/// The failure of one attempt.
pub(crate) async fn failure(requests: &Requests, base: &str, inputs: &str) -> Failure {
    match attempt(requests, base, inputs, &Behaviour::default()).await {
        Err(failure) => failure,
        Ok(progress) => panic!("expected a failure, got {progress:?}"),
    }
}

pub(crate) fn finished(progress: Progress) -> Answer {
    match progress {
        Progress::Final(answer) => answer,
        Progress::Pending { .. } => panic!("the answer is not final: {progress:?}"),
    }
}

pub(crate) fn body(answer: &Answer) -> Value {
    answer.outputs.get("body").cloned().unwrap_or_default()
}

/// What to do with a connection after the head of a request has arrived.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Close it in an orderly way.
    Close,
    /// Close it with a reset.
    Reset,
    /// Keep it open and send nothing more.
    Keep,
}

/// A server that sends the same bytes on every connection. It lives as long as the returned task set.
pub(crate) async fn raw(bytes: Vec<u8>, then: Then) -> (String, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_err() {
                continue;
            }
            if stream.write_all(&bytes).await.is_err() {
                continue;
            }
            match then {
                Then::Close => stream.shutdown().await.unwrap_or_default(),
                Then::Reset => {
                    stream.set_zero_linger().unwrap();
                    drop(stream);
                }
                Then::Keep => kept.push(stream),
            }
        }
    });
    (base, tasks)
}

/// A TLS server with its own certificate for `localhost` that responds `safe` to every request. With an authority, it
/// accepts only clients whose certificate that authority signed.
pub(crate) async fn secured(
    clients: Option<&[u8]>,
) -> (rcgen::CertifiedKey<rcgen::KeyPair>, u16, tokio::task::JoinSet<()>) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = config.with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nsafe";
                stream.write_all(answer).await.unwrap_or_default();
                stream.flush().await.unwrap_or_default();
            }
        }
    });
    (signed, port, tasks)
}
