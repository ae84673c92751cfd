//! The change stream of the collection, from a place on.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use mongodb::{
    Collection,
    bson::{Bson, Document, RawDocumentBuf, deserialize_from_bson, doc},
    change_stream::{ChangeStream, event::ResumeToken},
    error::{Error as DriverError, ErrorKind},
};
use tokio::time::timeout;

use crate::{config::Config, server::Server};

/// How long the server waits for changes before it says that there are none.
const SILENCE: Duration = Duration::from_secs(1);

/// From where a stream goes on; `None` for now.
pub(crate) type Place = Option<ResumeToken>;

/// An open change stream.
pub(crate) struct Changes {
    stream: ChangeStream<RawDocumentBuf>,
    patience: Duration,
    has_waited: bool,
}

/// Why a stream cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    Driver(DriverError),
    Silent(Duration),
    /// The server has closed it.
    Ended,
}

/// Opens the stream. On return, whatever is inserted afterwards is reported.
pub(crate) async fn open(server: &Server, config: &Config, place: &Place) -> Result<Changes, Failure> {
    let patience = config.operation_timeout;
    let opening = async { watch(&server.collection, place).await };
    let stream = timeout(patience, opening).await.map_err(|_| Failure::Silent(patience))?;
    let stream = stream.map_err(Failure::Driver)?;
    Ok(Changes { stream, patience: config.stream_timeout, has_waited: false })
}

async fn watch(
    collection: &Collection<RawDocumentBuf>,
    place: &Place,
) -> mongodb::error::Result<ChangeStream<RawDocumentBuf>> {
    let wanted = doc! { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } };
    let watch = collection.watch().pipeline([wanted]).max_await_time(SILENCE);
    let opened = match place.clone() {
        // Also past the end of a collection that is there again.
        Some(token) => watch.start_after(token).await?,
        None => watch.await?,
    };
    Ok(opened.with_type())
}

impl Changes {
    /// Waits for the next event; `None` if there is none for now, which happens about once a second. `idle` is done before waiting.
    ///
    /// Not cancel-safe: dropped before it returns, the stream has to be opened again.
    pub(crate) async fn next(&mut self, idle: impl Future<Output = ()>) -> Result<Option<Bytes>, Failure> {
        let patience = self.patience;
        self.has_waited = false;
        let step = {
            let mut next = pin!(self.stream.next_if_any());
            // What was read with the events before costs no waiting.
            match poll_once(next.as_mut()) {
                Poll::Ready(step) => step,
                Poll::Pending => {
                    self.has_waited = true;
                    idle.await;
                    timeout(patience, next).await.map_err(|_| Failure::Silent(patience))?
                }
            }
        };
        match step.map_err(Failure::Driver)? {
            Some(event) => Ok(Some(Bytes::from(event.into_bytes()))),
            None if self.stream.is_alive() => Ok(None),
            None => Err(Failure::Ended),
        }
    }

    /// Whether the last event was not there yet when it was asked for.
    pub(crate) fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Where the stream stands when there is nothing to report.
    pub(crate) fn place(&self) -> Place {
        self.stream.resume_token()
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Behind the event that has this token.
pub(crate) fn behind(token: &Bytes) -> Place {
    let document = Document::from_reader(&mut &**token).ok()?;
    deserialize_from_bson(Bson::Document(document)).ok()
}

impl Failure {
    /// Nothing that the server still knows leads on from the place.
    pub(crate) fn is_history_lost(&self) -> bool {
        matches!(self, Self::Driver(error) if crate::error::is_history_lost(error))
    }

    /// The server is there and says no.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Driver(error) if crate::error::is_answer(error))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Driver(error) if matches!(*error.kind, ErrorKind::Shutdown) => f.write_str("closed"),
            Self::Driver(error) => f.write_str(&crate::error::describe(error)),
            Self::Silent(time) => write!(f, "no answer in {time:?}"),
            Self::Ended => f.write_str("the server has closed the change stream"),
        }
    }
}
