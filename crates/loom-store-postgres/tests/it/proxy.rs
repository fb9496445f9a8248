//! A proxy in front of the server that loses requests and answers.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    runtime::Runtime,
};

/// What the proxy loses next, once; then it cuts the connection, or keeps one open that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lose {
    /// The next bytes for the server: the statement is never executed.
    Request = 1,
    /// The next bytes from the server: the statement was executed.
    Answer = 2,
    /// Like [`Lose::Request`], and everything that follows.
    RequestSilently = 3,
    /// Like [`Lose::Answer`], and everything that follows.
    AnswerSilently = 4,
}

/// A proxy on a loopback port, on a runtime of its own.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    lose: Arc<AtomicU8>,
    runtime: Option<Runtime>,
}

impl Proxy {
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let lose = Arc::new(AtomicU8::new(0));
        let shared = Arc::clone(&lose);
        let listening = runtime.spawn(async { TcpListener::bind(("127.0.0.1", 0)).await.unwrap() });
        let listener = listening.await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&socket).await else { continue };
                let lose = Arc::clone(&shared);
                drop(tokio::runtime::Handle::current().spawn(async move {
                    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    // When one direction ends, both are dropped, which closes both connections.
                    tokio::select! {
                        () = pass(&mut from_client, &mut to_server, &lose, [Lose::Request, Lose::RequestSilently]) => {}
                        () = pass(&mut from_server, &mut to_client, &lose, [Lose::Answer, Lose::AnswerSilently]) => {}
                    }
                }));
            }
        }));
        Self { port, lose, runtime: Some(runtime) }
    }

    /// Loses something, as soon as there is something to lose.
    pub(crate) fn lose(&self, what: Lose) {
        self.lose.store(what as u8, Ordering::Release);
    }

    /// Whether it has lost it.
    pub(crate) fn has_lost(&self) -> bool {
        self.lose.load(Ordering::Acquire) == 0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn pass(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    lose: &AtomicU8,
    [cut, silence]: [Lose; 2],
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut is_silent = false;
    let loses =
        |what: Lose| lose.compare_exchange(what as u8, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if loses(cut) {
            return;
        }
        is_silent = is_silent || loses(silence);
        if !is_silent && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
