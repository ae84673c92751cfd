//! What is known of a connection while it lasts: its echoes, its events and its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Event, ServerError, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use trunkline_core::{Error, ErrorKind, Result};

/// What is known of a connection's state, kept by the task that reads its marks.
#[derive(Debug)]
pub(crate) struct Life {
    waiting: Mutex<Waiting>,
    closing: CancellationToken,
    ended: CancellationToken,
    error: watch::Receiver<Option<String>>,
    overflows: watch::Receiver<u64>,
    lame_duck: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    echoes: HashMap<u64, oneshot::Sender<()>>,
    ended: bool,
}

impl Life {
    /// `alive` is let go when the client's tasks have ended.
    pub(crate) fn new(alive: TaskTrackerToken) -> (Events, Self) {
        let (error, last_error) = watch::channel(None);
        let (overflowed, overflows) = watch::channel(0);
        let (is_lame_duck, lame_duck) = watch::channel(false);
        let life = Self {
            waiting: Mutex::default(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            error: last_error,
            overflows,
            lame_duck,
        };
        (Events { error, overflowed, is_lame_duck, _alive: alive }, life)
    }

    /// Reads the echoed marks. They end when the connection does, after everything else that arrived has been handed over.
    pub(crate) async fn listen(self: Arc<Self>, mut echoes: Subscriber) {
        loop {
            tokio::select! {
                () = self.closing.cancelled() => break,
                message = echoes.next() => match message {
                    Some(message) => self.echoed(&message.payload),
                    None => break,
                },
            }
        }
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.echoes.clear();
        drop(waiting);
        self.ended.cancel();
    }

    fn echoed(&self, mark: &[u8]) {
        let number = std::str::from_utf8(mark).ok().and_then(|mark| mark.parse().ok());
        if let Some(echo) = number.and_then(|number: u64| self.lock().echoes.remove(&number)) {
            // Fails only if nobody waits any more.
            let _ = echo.send(());
        }
    }

    pub(crate) fn expect(&self, mark: u64) -> Result<oneshot::Receiver<()>> {
        let (echo, echoed) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.ended {
            drop(waiting);
            return Err(self.gone());
        }
        waiting.echoes.insert(mark, echo);
        Ok(echoed)
    }

    pub(crate) fn gone(&self) -> Error {
        Error::new(ErrorKind::Disconnected, self.reason())
    }

    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Why the connection has ended.
    pub(crate) fn reason(&self) -> String {
        self.last_words()
            .map_or_else(|| "the connection was closed".into(), |words| format!("the server said {words:?}"))
    }

    /// The last error that the server reported.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.error.borrow().clone()
    }

    /// Changes whenever messages were lost because a subscription was full.
    pub(crate) fn overflows(&self) -> watch::Receiver<u64> {
        self.overflows.clone()
    }

    /// Returns when the server is about to shut down.
    pub(crate) async fn lame_duck(&self) {
        let mut lame_duck = self.lame_duck.clone();
        if lame_duck.wait_for(|lame| *lame).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client's end of what it has to tell. It lives as long as the client's tasks.
#[derive(Debug)]
pub(crate) struct Events {
    error: watch::Sender<Option<String>>,
    overflowed: watch::Sender<u64>,
    is_lame_duck: watch::Sender<bool>,
    _alive: TaskTrackerToken,
}

impl Events {
    pub(crate) fn take(&self, event: Event) {
        match event {
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                self.overflowed.send_modify(|overflows| *overflows += 1);
            }
            Event::LameDuckMode => drop(self.is_lame_duck.send_replace(true)),
            Event::ServerError(error) => {
                tracing::warn!(%error, "the NATS server reports an error");
                self.error.send_replace(Some(error.to_string()));
            }
            _ => {}
        }
    }
}
