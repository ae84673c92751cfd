//! What is known of a connection while it lasts: its echoes, its events and its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use async_nats::{Event, ServerError, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use trunkline_core::{Error, ErrorKind, Result};

/// The state of a connection, kept by the task that reads its marks.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    echoes: Mutex<Echoes>,
    closing: CancellationToken,
    /// Why.
    reason: OnceLock<String>,
    ended: CancellationToken,
    error: watch::Receiver<Option<String>>,
    overflows: watch::Receiver<u64>,
    lame_duck_mode: watch::Receiver<bool>,
    forbidden: Arc<Forbidden>,
}

/// Publishes that the server did not permit, by subject, and that were not told to the writer yet.
type Forbidden = Mutex<HashMap<String, usize>>;

/// Subjects of which that is remembered.
const MAX_FORBIDDEN: usize = 1024;

/// Marks that the server has not echoed yet.
#[derive(Debug, Default)]
struct Echoes {
    expected: HashMap<u64, oneshot::Sender<()>>,
    ended: bool,
}

impl ConnectionState {
    /// `alive` is dropped when the client's tasks have ended.
    pub(crate) fn new(alive: TaskTrackerToken) -> (EventSink, Self) {
        let (error, last_error) = watch::channel(None);
        let (overflowed, overflows) = watch::channel(0);
        let (is_lame_duck, lame_duck_mode) = watch::channel(false);
        let forbidden = Arc::<Forbidden>::default();
        let state = Self {
            forbidden: Arc::clone(&forbidden),
            echoes: Mutex::default(),
            closing: CancellationToken::new(),
            reason: OnceLock::new(),
            ended: CancellationToken::new(),
            error: last_error,
            overflows,
            lame_duck_mode,
        };
        (EventSink { error, overflowed, is_lame_duck, forbidden, _alive: alive }, state)
    }

    /// Reads the echoed marks. They end when the connection does, after everything else that arrived was handed over.
    pub(crate) async fn listen(self: Arc<Self>, mut echoes: Subscriber) {
        let closing = self.closing.clone();
        closing
            .run_until_cancelled(async {
                while let Some(mark) = echoes.next().await {
                    self.echoed(&mark.payload)
                }
            })
            .await;
        let mut echoes = self.echoes();
        echoes.ended = true;
        echoes.expected.clear();
        drop(echoes);
        self.ended.cancel();
    }

    fn echoed(&self, mark: &[u8]) {
        let number = std::str::from_utf8(mark).ok().and_then(|mark| mark.parse().ok());
        if let Some(echo) = number.and_then(|number: u64| self.echoes().expected.remove(&number)) {
            // Fails only if the caller no longer waits.
            let _ = echo.send(());
        }
    }

    /// Resolves when the server has echoed the mark of this number, or never will.
    ///
    /// # Errors
    /// `Disconnected` once the connection has ended.
    pub(crate) fn expect(&self, mark: u64) -> Result<oneshot::Receiver<()>> {
        let (echo, echoed) = oneshot::channel();
        let mut echoes = self.echoes();
        if echoes.ended {
            drop(echoes);
            return Err(self.ended_error());
        }
        echoes.expected.insert(mark, echo);
        Ok(echoed)
    }

    pub(crate) fn close(&self, reason: &str) {
        // The first one counts.
        let _ = self.reason.set(reason.to_owned());
        self.closing.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.closing.is_cancelled()
    }

    pub(crate) fn ended_error(&self) -> Error {
        Error::new(ErrorKind::Disconnected, self.end_reason())
    }

    pub(crate) fn end_reason(&self) -> String {
        let said = self.last_error().map(|error| format!("the server said {error:?}"));
        self.reason.get().cloned().or(said).unwrap_or_else(|| "the connection was closed".into())
    }

    /// The last error that the server reported.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.error.borrow().clone()
    }

    /// Returns when the server has said that something is not permitted.
    pub(crate) async fn not_permitted(&self) {
        let is_refusal = |error: &Option<String>| error.as_ref().is_some_and(|error| is_violation(error));
        if self.error.clone().wait_for(is_refusal).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the server did not permit a publish to this subject. Each is told once.
    pub(crate) fn take_forbidden(&self, subject: &str) -> bool {
        let mut forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = forbidden.get_mut(subject) else { return false };
        *count -= 1;
        if *count == 0 {
            forbidden.remove(subject);
        }
        true
    }

    /// Returns when the server has not permitted a publish to this subject.
    pub(crate) async fn forbidden(&self, subject: &str) {
        if self.error.clone().wait_for(|_| self.take_forbidden(subject)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Changes whenever messages were lost because a subscription was full.
    pub(crate) fn overflows(&self) -> watch::Receiver<u64> {
        self.overflows.clone()
    }

    /// Returns when the server is about to shut down.
    pub(crate) async fn lame_duck_mode(&self) {
        if self.lame_duck_mode.clone().wait_for(|is_on| *is_on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn echoes(&self) -> MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error of the server says that something is not permitted.
pub(crate) fn is_violation(error: &str) -> bool {
    error.to_ascii_lowercase().contains("permissions violation")
}

/// Takes the client's events. It lives as long as the client's tasks.
#[derive(Debug)]
pub(crate) struct EventSink {
    error: watch::Sender<Option<String>>,
    overflowed: watch::Sender<u64>,
    is_lame_duck: watch::Sender<bool>,
    forbidden: Arc<Forbidden>,
    _alive: TaskTrackerToken,
}

impl EventSink {
    pub(crate) fn take(&self, event: Event) {
        match event {
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                self.overflowed.send_modify(|overflows| *overflows += 1);
            }
            Event::LameDuckMode => drop(self.is_lame_duck.send_replace(true)),
            Event::ServerError(error) => {
                let error = error.to_string();
                if self.note_forbidden(&error) {
                    // The writer counts it, and says so once.
                    tracing::debug!(error, "the NATS server refuses a message");
                } else {
                    tracing::warn!(error, "the NATS server reports an error");
                }
                self.error.send_replace(Some(error));
            }
            _ => {}
        }
    }

    fn note_forbidden(&self, error: &str) -> bool {
        let Some((_, subject)) = error.split_once("Permissions Violation for Publish to ") else { return false };
        let mut forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        let subject = subject.trim_matches('"');
        if forbidden.len() < MAX_FORBIDDEN || forbidden.contains_key(subject) {
            *forbidden.entry(subject.to_owned()).or_default() += 1;
        }
        true
    }
}
