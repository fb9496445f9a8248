//! Signals: those that stop or reload a server, interrupts of a run, and SIGXFSZ, which must not end the process. Only interrupts
//! exist on systems other than Unix.

use anyhow::{Context, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal requests from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, or an interrupt.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals that a server handles.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    hangup: Signal,
}

#[cfg(unix)]
impl Signals {
    /// Registers the handlers.
    pub(crate) fn listen() -> Result<Signals> {
        let hear = |kind, name| signal(kind).with_context(|| format!("cannot handle {name}"));
        Ok(Signals {
            terminate: hear(SignalKind::terminate(), "SIGTERM")?,
            interrupt: hear(SignalKind::interrupt(), "SIGINT")?,
            hangup: hear(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Registers the handlers.
    pub(crate) fn listen() -> Result<Signals> {
        Ok(Signals {})
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Asked {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Asked::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Interrupts (Ctrl-C), registered with [`Interrupts::listen`].
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: Signal,
}

impl Interrupts {
    /// Registers the handler; from now on an interrupt no longer ends the program.
    pub(crate) fn listen() -> Result<Interrupts> {
        Ok(Interrupts {
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
        })
    }

    /// Waits for the next interrupt.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        self.interrupt.recv().await;
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Handles SIGXFSZ, so that reaching a file size limit makes writes fail, like a full disk, and does not end the process.
pub(crate) fn outlive_size_limits() -> Result<()> {
    #[cfg(unix)]
    {
        /// The signal's number on Linux, the BSDs and macOS.
        const SIGXFSZ: i32 = 25;
        drop(signal(SignalKind::from_raw(SIGXFSZ)).context("cannot handle SIGXFSZ")?);
    }
    Ok(())
}

/// Raises the limit on open files to the maximum that the system allows: every connection is one.
pub(crate) fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current == limit.maximum {
            return;
        }
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            eprintln!("loom: warning: cannot raise the limit on open files: {error}");
        }
    }
}
