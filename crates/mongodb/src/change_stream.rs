//! The change stream of the collection: opened at a resume point, read event by event.

use std::{fmt, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::poll;
use mongodb::{
    Collection,
    bson::{RawDocumentBuf, doc},
    change_stream::{ChangeStream, event::ResumeToken},
    error::{Error as DriverError, ErrorKind},
};
use tokio::time::timeout;

use crate::{config::Config, error, server::Server};

/// How long the server waits for changes before it answers that there are none.
const MAX_AWAIT_TIME: Duration = Duration::from_secs(1);

/// The resume token behind which a change stream starts; `None` starts it at the current time.
pub(crate) type ResumePoint = Option<ResumeToken>;

/// An open change stream.
pub(crate) struct ChangeEvents {
    stream: ChangeStream<RawDocumentBuf>,
    timeout: Duration,
}

/// Why a change stream cannot be opened, or cannot go on.
#[derive(Debug)]
pub(crate) enum StreamError {
    Driver(DriverError),
    TimedOut(Duration),
    /// The server has closed the stream.
    Closed,
}

/// Opens the stream. On return, everything inserted afterwards is reported.
pub(crate) async fn open(server: &Server, config: &Config, from: &ResumePoint) -> Result<ChangeEvents, StreamError> {
    let limit = config.response_timeout;
    let opening = async { watch(&server.collection, from).await };
    let stream = timeout(limit, opening).await.map_err(|_| StreamError::TimedOut(limit))?;
    Ok(ChangeEvents { stream: stream.map_err(StreamError::Driver)?, timeout: config.stream_timeout })
}

async fn watch(
    collection: &Collection<RawDocumentBuf>,
    from: &ResumePoint,
) -> mongodb::error::Result<ChangeStream<RawDocumentBuf>> {
    let relevant = doc! { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } };
    let watch = collection.watch().pipeline([relevant]).max_await_time(MAX_AWAIT_TIME);
    let opened = match from.clone() {
        // `resume_after` would refuse the token of an invalidation.
        Some(token) => watch.start_after(token).await?,
        None => watch.await?,
    };
    Ok(opened.with_type())
}

impl ChangeEvents {
    /// Waits for the next event; `None`, about once a second, if there is none yet. Runs `idle` before waiting, that is
    /// behind the last event that was read along with others.
    ///
    /// Not cancel-safe: dropped before it returns, the stream has to be opened again.
    pub(crate) async fn next(&mut self, idle: impl Future<Output = ()>) -> Result<Option<Bytes>, StreamError> {
        let limit = self.timeout;
        let event = {
            let mut next = pin!(self.stream.next_if_any());
            match poll!(&mut next) {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    idle.await;
                    timeout(limit, next).await.map_err(|_| StreamError::TimedOut(limit))?
                }
            }
        };
        match event.map_err(StreamError::Driver)? {
            Some(event) => Ok(Some(Bytes::from(event.into_bytes()))),
            None if self.stream.is_alive() => Ok(None),
            None => Err(StreamError::Closed),
        }
    }

    /// The point behind the last event, and behind what the server has looked at since.
    pub(crate) fn resume_point(&self) -> ResumePoint {
        self.stream.resume_token()
    }
}

impl fmt::Debug for ChangeEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeEvents").finish_non_exhaustive()
    }
}

impl StreamError {
    /// Whether the oplog no longer leads on from the resume point.
    pub(crate) fn is_history_lost(&self) -> bool {
        matches!(self, Self::Driver(failed) if error::is_history_lost(failed))
    }

    /// Whether the server answered, with an error.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Driver(failed) if error::is_answer(failed))
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(failed) if matches!(*failed.kind, ErrorKind::Shutdown) => f.write_str("closed"),
            Self::Driver(failed) => f.write_str(&error::describe(failed)),
            Self::TimedOut(limit) => write!(f, "no answer in {limit:?}"),
            Self::Closed => f.write_str("the server has closed the change stream"),
        }
    }
}
