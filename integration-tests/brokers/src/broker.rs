//! A private broker process: killing, stopping, freezing and restarting it.

use std::{fmt, path::Path, pin::Pin, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{
    error::{Error, Result},
    port::Port,
    process::Process,
};

/// A check whether the broker serves; an error means not yet.
pub(crate) type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Creates a [`Probe`] from an async closure over something cheap to clone.
pub(crate) fn probe<T, F>(with: T, ask: impl Fn(T) -> F + Send + Sync + 'static) -> Probe
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    Arc::new(move || Box::pin(ask(with.clone())))
}

/// Maximum time until a broker serves. RabbitMQ takes 7 s when two start at once, and more on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A private broker process: on a free loopback port, in a folder of its own, killed when dropped and when the test
/// process ends.
///
/// It restarts on the same port with the same folder. All methods may be called from any task and runtime.
pub struct Broker {
    process: Process,
    probe: Probe,
    url: String,
    port: Port,
}

impl Broker {
    /// Starts the process and returns when it serves.
    pub(crate) async fn start(process: Process, probe: Probe, url: String, port: Port) -> Result<Self> {
        let broker = Self { process, probe, url, port };
        broker.restart().await?;
        Ok(broker)
    }

    /// URL in the form that its clients take, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Folder with its data, its `log` and its certificates.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.process.folder()
    }

    /// Kills the process as a crash does (SIGKILL), and returns when it has ended. Has no effect if it is down.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub async fn kill(&self) -> Result<()> {
        self.process.end(Signal::KILL).await
    }

    /// Shuts the broker down in good order, and returns when it has ended. Has no effect if it is down.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop().await
    }

    /// Kills the broker if it runs, starts it on the same port and folder, and returns when it serves.
    ///
    /// # Errors
    /// If it ends, or does not serve in time; with the end of its log.
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.process.start()?;
        self.ready().await
    }

    /// Returns when the broker serves.
    ///
    /// # Errors
    /// If it ends, or does not serve in time; with the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let ended = || self.process.check();
        let last = match poll(|| (self.probe)(), ended).await {
            Ok(()) => return Ok(()),
            Err(Poll::Ended(error)) => return Err(error),
            Err(Poll::Late(last)) => last,
        };
        Err(self.process.not_ready(format!("it does not serve after {TIMEOUT:?}: {last}")))
    }

    /// Stops its execution (SIGSTOP) and returns when all threads are stopped: connections stay open without an answer.
    ///
    /// # Errors
    /// If it is down.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Continues after [`Broker::freeze`] (SIGCONT).
    ///
    /// # Errors
    /// If it is down.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal_all(Signal::CONT).map(drop)
    }

    /// Sends a signal whose meaning the broker's own documentation explains.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal_all(signal).map(drop)
    }

    /// Process id, `None` while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }
}

enum Poll {
    Ended(Error),
    Late(String),
}

/// Repeats a check until it succeeds.
async fn poll<F>(ask: impl Fn() -> F, check: impl Fn() -> Result<()>) -> std::result::Result<(), Poll>
where
    F: Future<Output = Result<()>>,
{
    let mut last = String::new();
    let asked = timeout(TIMEOUT, async {
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            check()?;
            match ask().await {
                Ok(()) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
        }
    })
    .await;
    match asked {
        Ok(answer) => answer.map_err(Poll::Ended),
        Err(_) => Err(Poll::Late(last)),
    }
}

/// Waits for a state on which several processes must agree.
pub(crate) async fn wait_until<F>(what: &str, ask: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    poll(ask, || Ok(())).await.map_err(|poll| match poll {
        Poll::Ended(error) => error,
        Poll::Late(last) => {
            let reason = format!("it takes longer than {TIMEOUT:?}");
            Error::NotReady { broker: what.into(), reason, log: last }
        }
    })
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("name", &self.process.name()).field("port", &self.port()).finish_non_exhaustive()
    }
}
