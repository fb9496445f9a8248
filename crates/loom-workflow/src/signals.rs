//! Signals of the system: those that stop or reload a server, interrupts of a run, and the one that a full disk must not end the
//! process with. Elsewhere than on Unix only an interrupt is known.

use anyhow::{Context, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, or an interrupt.
    Stop,
    /// SIGHUP.
    Reload,
}

/// What a server hears.
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
    /// Hears signals from now on.
    pub(crate) fn hear() -> Result<Signals> {
        let hear = |kind, name| signal(kind).with_context(|| format!("could not listen for {name}"));
        Ok(Signals {
            terminate: hear(SignalKind::terminate(), "SIGTERM")?,
            interrupt: hear(SignalKind::interrupt(), "SIGINT")?,
            hangup: hear(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// The next signal.
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
    /// Hears signals from now on.
    pub(crate) fn hear() -> Result<Signals> {
        Ok(Signals {})
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Asked {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Asked::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The interrupts since [`Interrupts::hear`].
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: Signal,
}

impl Interrupts {
    /// Hears interrupts from now on; they no longer end the program by themselves.
    pub(crate) fn hear() -> Result<Interrupts> {
        Ok(Interrupts {
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).context("could not listen for SIGINT")?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        self.interrupt.recv().await;
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// From now on a limit on the size of files makes writes fail, like a full disk, and does not end the process.
pub(crate) fn outlive_size_limits() -> Result<()> {
    #[cfg(unix)]
    {
        /// The number of the signal on Linux, the BSDs and macOS.
        const SIGXFSZ: i32 = 25;
        drop(signal(SignalKind::from_raw(SIGXFSZ)).context("could not listen for SIGXFSZ")?);
    }
    Ok(())
}

/// Raises the limit on open files as far as the system lets this process: every connection is one.
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
            eprintln!("loom: the limit on open files could not be raised: {error}");
        }
    }
}
