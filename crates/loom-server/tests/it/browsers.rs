//! What browsers send, and what it may do: requests as pages of other sites make them, byte for byte.

use std::time::Duration;

use loom_server::ServerSettings;
use loom_testkit::mock::Mock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Plan, World, json, list, requested, text};

const TOKEN: &str = "a token of the test";
const INVOKE: &str = "/workflows/w/triggers/manual/invoke";

fn definition() -> String {
    requested(
        r#"{"Rest": {"type": "Wait", "runAfter": {}, "inputs": {"interval": {"count": 1, "unit": "Day"}}}}"#,
    )
}

/// A raw response.
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    /// The error's code, or an empty string.
    fn code(&self) -> String {
        if self.status < 400 {
            return String::new();
        }
        text(json(&self.body).get("error").expect("an error"), "code").to_owned()
    }

    fn has(&self, header: &str) -> bool {
        self.head.to_ascii_lowercase().contains(header)
    }
}

/// Sends these lines and this body, and nothing else.
async fn send(world: &World, lines: &[&str], body: &str) -> Raw {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("\r\nContent-Length: {}", body.len()) };
    let request = format!("{}{length}\r\nConnection: close\r\n\r\n{body}", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Raw { status, head: head.to_owned(), body: body.to_owned() }
}

/// A request with a `Host` of its own address.
async fn ask(world: &World, line: &str, headers: &[&str], body: &str) -> Raw {
    let first = format!("{line} HTTP/1.1");
    let host = format!("Host: {}", world.address);
    let lines: Vec<&str> =
        [first.as_str(), host.as_str()].into_iter().chain(headers.iter().copied()).collect();
    send(world, &lines, body).await
}

async fn runs(world: &World) -> usize {
    list(&world.get("/api/v1/runs").await.json(), "runs").len()
}

/// Headers that pages send without a preflight, with a body.
const SIMPLE: [(&[&str], &str); 7] = [
    // A form that a page sends by script.
    (
        &[
            "Content-Type: application/x-www-form-urlencoded",
            "Origin: https://evil.example",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
        ],
        "a=1",
    ),
    // `fetch(…, {mode: "no-cors"})`.
    (
        &[
            "Content-Type: text/plain;charset=UTF-8",
            "Origin: https://evil.example",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: no-cors",
            "Sec-Fetch-Dest: empty",
        ],
        r#"{"definition": {}}"#,
    ),
    // A browser that knows no fetch metadata.
    (&["Content-Type: text/plain", "Origin: https://evil.example"], "{}"),
    // A sandboxed frame, or a file.
    (&["Content-Type: text/plain", "Origin: null"], "{}"),
    // A page of another program on this machine.
    (&["Content-Type: text/plain", "Origin: http://127.0.0.1:3000", "Sec-Fetch-Site: same-site"], "{}"),
    // A type that pages can send only after a preflight.
    (&["Content-Type: application/json", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"], "{}"),
    (&["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Content-Length: 0"], ""),
];

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::new().await;
    world.deploy("w", &definition()).await;
    let signed = world.host.trigger_url("w", "manual");
    let signed = signed.split_once(&world.address.to_string()).unwrap().1.to_owned();
    let run = world.invoke("w", "{}").await;
    let targets = [
        format!("POST {INVOKE}"),
        format!("POST {signed}"),
        "POST /api/w/triggers/manual/invoke".to_owned(),
        format!("POST /api/v1/runs/{run}/cancel"),
        format!("POST /api/v1/runs/{run}/resubmit"),
        "POST /api/v1/workflows/w/triggers/manual/run".to_owned(),
        "POST /api/v1/workflows/w/rotate-signature".to_owned(),
        "PUT /api/v1/workflows/evil".to_owned(),
        "DELETE /api/v1/workflows/w".to_owned(),
    ];
    for target in &targets {
        for (headers, body) in SIMPLE {
            let refused = ask(&world, target, headers, body).await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (403, "CrossSiteRequest"),
                "{target} {headers:?}"
            );
        }
    }
    // An image, a link, a frame: triggers accept GET too.
    for mode in ["no-cors", "navigate"] {
        let mode = format!("Sec-Fetch-Mode: {mode}");
        let refused = ask(&world, &format!("GET {INVOKE}"), &["Sec-Fetch-Site: cross-site", &mode], "").await;
        assert_eq!(refused.status, 403);
    }
    // A preflight grants nothing.
    for (line, method) in [("OPTIONS /api/v1/workflows/evil", "PUT"), (&*format!("OPTIONS {INVOKE}"), "POST")]
    {
        let method = format!("Access-Control-Request-Method: {method}");
        let headers = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", &method];
        let preflight = ask(&world, line, &headers, "").await;
        assert_eq!(preflight.status, 405);
        assert!(!preflight.has("access-control-"), "{}", preflight.head);
    }
    assert_eq!(runs(&world).await, 1);
    assert_eq!(list(&world.get("/api/v1/workflows").await.json(), "workflows").len(), 1);
    assert_eq!(text(&world.get(&format!("/api/v1/runs/{run}")).await.json(), "status"), "Running");
    // The controls: pages of the server itself, typed addresses, and programs.
    let own = format!("Origin: http://{}", world.address);
    let same = ["Content-Type: application/json", own.as_str(), "Sec-Fetch-Site: same-origin"];
    for headers in [&same[..], &same[..2], &["Content-Type: application/json"], &["Sec-Fetch-Site: none"]] {
        assert_eq!(ask(&world, &format!("POST {INVOKE}"), headers, "{}").await.status, 202, "{headers:?}");
    }
    assert_eq!(ask(&world, "PUT /api/v1/workflows/good", &same, &definition()).await.status, 201);
    // Reading changes nothing, and a page of another site cannot read the response.
    let read =
        ask(&world, "GET /api/v1/runs", &["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"], "")
            .await;
    assert!(read.status == 200 && !read.has("access-control-"));
}

/// DNS rebinding: for the browser, a page whose name resolves to this machine has the same origin as the server.
#[tokio::test]
async fn a_request_for_a_rebound_host_name_is_rejected() {
    let world = World::new().await;
    let port = world.address.port();
    let put = async |host: &str| {
        let (host, origin) = (format!("Host: {host}:{port}"), format!("Origin: http://{host}:{port}"));
        let lines = [
            "PUT /api/v1/workflows/evil HTTP/1.1",
            &host,
            &origin,
            "Content-Type: application/json",
            "Sec-Fetch-Site: same-origin",
            "Sec-Fetch-Mode: cors",
        ];
        send(&world, &lines, &definition()).await
    };
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.7",
        "0.0.0.0",
        "[::2]",
        "2130706433",
    ] {
        let refused = put(host).await;
        assert_eq!((refused.status, refused.code().as_str()), (421, "UnknownHost"), "{host}");
    }
    let line = format!("Host: evil.example:{port}");
    for path in ["GET /api/v1/runs HTTP/1.1", "GET /healthz HTTP/1.1", "GET /metrics HTTP/1.1"] {
        assert_eq!(send(&world, &[path, &line], "").await.status, 421, "{path}");
    }
    // A host in the request target takes precedence.
    let own = format!("Host: 127.0.0.1:{port}");
    assert_eq!(send(&world, &["GET http://evil.example/api/v1/runs HTTP/1.1", &own], "").await.status, 421);
    assert!(list(&world.get("/api/v1/workflows").await.json(), "workflows").is_empty());
    for (host, status) in
        [("localhost", 201), ("LOCALHOST", 200), ("127.0.0.1", 200), ("127.8.9.1", 200), ("[::1]", 200)]
    {
        assert_eq!(put(host).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_request_must_name_exactly_one_host() {
    for token in [None, Some(TOKEN)] {
        let settings = ServerSettings { token: token.map(Into::into), ..ServerSettings::default() };
        let world = World::start(Plan { settings, ..Plan::default() }).await;
        let own = format!("Host: {}", world.address);
        for hosts in
            [&[][..], &[own.as_str(), own.as_str()], &["Host: a b"], &["Host: me@127.0.0.1"], &["Host:"]]
        {
            let lines: Vec<&str> =
                ["GET /healthz HTTP/1.1"].into_iter().chain(hosts.iter().copied()).collect();
            let refused = send(&world, &lines, "").await;
            assert_eq!((refused.status, refused.code().as_str()), (400, "InvalidHost"), "{hosts:?}");
        }
        // HTTP/1.0 has no Host.
        assert_eq!(send(&world, &["GET /healthz HTTP/1.0"], "").await.status, 200);
        assert_eq!(send(&world, &["GET /healthz HTTP/1.1", &own], "").await.status, 200);
    }
}

#[tokio::test]
async fn the_api_accepts_json_bodies_only() {
    let world = World::new().await;
    let put = "PUT /api/v1/workflows/w";
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
    ] {
        let kind = format!("Content-Type: {kind}");
        let refused = ask(&world, put, &[&kind], &definition()).await;
        assert_eq!((refused.status, refused.code().as_str()), (415, "UnsupportedMediaType"), "{kind}");
    }
    assert_eq!(ask(&world, put, &[], &definition()).await.status, 415);
    let json = ["Content-Type: Application/JSON; charset=utf-8"];
    assert_eq!(ask(&world, put, &json, &definition()).await.status, 201);
    // A trigger accepts any content type.
    assert_eq!(
        ask(&world, &format!("POST {INVOKE}"), &["Content-Type: text/plain"], "hello").await.status,
        202
    );
    // A request without a body needs no type.
    assert_eq!(
        ask(&world, "POST /api/v1/workflows/w/triggers/manual/run", &["Content-Length: 0"], "").await.status,
        202
    );
}

/// If the operator has made the server public, anyone who knows a signed address may use it from a page.
#[tokio::test]
async fn a_page_may_use_a_signed_address_of_a_public_server_and_nothing_else() {
    let form = SIMPLE[0].0;
    for (token, public) in [(Some(TOKEN), None), (None, Some("https://loom.example/base")), (None, None)] {
        let mock = Mock::start(&json(r#"[{"path": "/*"}]"#)).await.unwrap();
        let hook = requested(&format!(
            r#"{{"Hook": {{"type": "HttpWebhook", "runAfter": {{}}, "inputs": {{"subscribe": {{"method": "POST",
                "uri": "{}/on", "body": "@listCallbackUrl()"}}, "unsubscribe": {{}}}}}}}}"#,
            mock.base_url()
        ));
        let settings = ServerSettings {
            token: token.map(Into::into),
            public_url: public.map(str::to_owned),
            ..ServerSettings::default()
        };
        let world = World::start(Plan { settings, ..Plan::default() }).await;
        world.deploy("w", &hook).await;
        let is_public = token.is_some() || public.is_some();
        let here = |url: String| url.split_once(&world.address.to_string()).unwrap().1.to_owned();
        let signed = here(world.host.trigger_url("w", "manual"));
        let (fired, answered) = if is_public { (202, 200) } else { (403, 403) };
        assert_eq!(ask(&world, &format!("POST {signed}"), form, "a=1").await.status, fired);
        let unsigned = ask(&world, &format!("POST {INVOKE}"), form, "a=1").await;
        assert_eq!(unsigned.status, 403);
        let wrong = signed.replace("sig=", "sig=0");
        assert_eq!(ask(&world, &format!("POST {wrong}"), form, "a=1").await.status, 403);
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let api = ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", &bearer];
        assert_eq!(ask(&world, "DELETE /api/v1/workflows/w", &api, "").await.status, 403);
        if !is_public {
            world.invoke("w", "{}").await;
        }
        // A link to a callback in an e-mail.
        while mock.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let callback = here(String::from_utf8(mock.requests()[0].body.clone()).unwrap());
        let link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"];
        assert_eq!(ask(&world, &format!("GET {callback}"), &link, "").await.status, answered);
        // A page at the public address counts as the server's own, even if a proxy changes the host.
        if public.is_some() {
            let own = ["Origin: https://loom.example"];
            assert_eq!(ask(&world, &format!("POST {INVOKE}"), &own, "").await.status, 202);
            let lines = [&*format!("POST {INVOKE} HTTP/1.1"), "Host: loom.example"];
            assert_eq!(send(&world, &lines, "").await.status, 202);
        }
    }
}

#[tokio::test]
async fn no_response_is_taken_for_what_it_does_not_say() {
    let world = World::new().await;
    let answer = r#"{"Answer": {"type": "Response", "runAfter": {}, "inputs": {"body": "<script>alert(1)</script>"}}}"#;
    world.deploy("w", &requested(answer)).await;
    for (line, status) in [
        (format!("POST {INVOKE}"), 200),
        ("GET /api/v1/runs".to_owned(), 200),
        ("GET /metrics".to_owned(), 200),
        ("GET /nowhere".to_owned(), 404),
        ("PATCH /api/v1/runs".to_owned(), 405),
        ("GET /callbacks/1-1-1".to_owned(), 404),
    ] {
        let answer = ask(&world, &line, &[], "").await;
        assert_eq!(answer.status, status, "{line}");
        assert!(answer.has("x-content-type-options: nosniff"), "{line}: {}", answer.head);
    }
    assert!(send(&world, &["GET /healthz HTTP/1.1", "Host: evil.example"], "").await.has("nosniff"));
}

/// With a limit of one connection, the next caller is served once the first connection is dropped.
#[tokio::test]
async fn a_response_that_is_not_read_is_dropped() {
    let settings = ServerSettings {
        write_timeout: Duration::from_millis(200),
        connections_max: 1,
        ..ServerSettings::default()
    };
    let world = World::start(Plan { settings, ..Plan::default() }).await;
    let mut greedy = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET /api/v1/openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
    // Far more than all buffers on the way can hold.
    greedy.write_all(request.repeat(400).as_bytes()).await.unwrap();
    let next = tokio::time::timeout(Duration::from_mins(2), world.get("/healthz")).await;
    assert_eq!(next.expect("the connection was released").status, 200);
    drop(greedy);
}
