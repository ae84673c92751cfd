//! The change stream of the collection: opened at a resume point, read event by event.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Document, doc},
    error::{Error as DriverError, ErrorKind},
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};

use crate::{error, server::Server, time_limit::TimeLimit};

/// How long the server waits for changes before it answers that there are none.
const MAX_AWAIT_TIME: Duration = Duration::from_secs(1);

/// The resume token behind which a change stream starts; `None` starts it at the current time.
pub(crate) type ResumePoint = Option<Document>;

/// An open change stream.
///
/// A plain cursor, not the driver's `ChangeStream`: that one resumes by itself and forgets its token when the command
/// by which it does so has to be tried again, so that events are lost or come a second time.
pub(crate) struct ChangeEvents {
    cursor: RawBatchCursor,
    /// Read and not handed out.
    events: VecDeque<Bytes>,
    resume_point: ResumePoint,
}

/// Why a change stream cannot be opened, or cannot go on.
#[derive(Debug)]
pub(crate) enum StreamError {
    Driver(DriverError),
    TimedOut(Duration),
    /// The server has closed the stream.
    Closed,
}

/// Opens the stream at the primary. On return, everything inserted afterwards is reported.
pub(crate) async fn open(
    server: &Server,
    limit: &mut TimeLimit,
    from: &ResumePoint,
) -> Result<ChangeEvents, StreamError> {
    // `resumeAfter` would refuse the token of an invalidation.
    let start = from.as_ref().map_or_else(|| doc! {}, |token| doc! { "startAfter": token });
    let relevant = doc! { "operationType": { "$in": ["insert", "invalidate"] } };
    let command = doc! {
        "aggregate": server.collection.name(),
        "pipeline": [{ "$changeStream": start }, { "$match": relevant }],
        // The answer has no events yet, so it is small.
        "cursor": { "batchSize": 0 },
    };
    let opening = async {
        let opened = server.database.run_cursor_command(command).max_time(MAX_AWAIT_TIME).batch().await;
        let mut events = ChangeEvents {
            cursor: opened.map_err(StreamError::Driver)?,
            events: VecDeque::new(),
            resume_point: from.clone(),
        };
        events.read().await?;
        Ok(events)
    };
    limit.run(opening).await.map_err(StreamError::TimedOut)?
}

impl ChangeEvents {
    /// The next event that was read along with others.
    pub(crate) fn next_read(&mut self) -> Option<Bytes> {
        self.events.pop_front()
    }

    /// Reads further events, once all that were read before have been taken. Returns about once a second without any.
    ///
    /// Not cancel-safe: dropped before it returns, the stream has to be opened again.
    pub(crate) async fn read_more(&mut self, limit: &mut TimeLimit) -> Result<(), StreamError> {
        limit.run(self.read()).await.map_err(StreamError::TimedOut)?
    }

    async fn read(&mut self) -> Result<(), StreamError> {
        let batch = self.cursor.try_next().await.map_err(StreamError::Driver)?.ok_or(StreamError::Closed)?;
        self.take(&batch).map_err(StreamError::Driver)
    }

    fn take(&mut self, batch: &RawBatch) -> mongodb::error::Result<()> {
        for event in batch.doc_slices()? {
            let event = event?.as_document().map(|event| Bytes::copy_from_slice(event.as_bytes()));
            self.events.extend(event);
        }
        let cursor = batch.as_raw_document().get_document("cursor")?;
        self.resume_point = Some(cursor.get_document("postBatchResumeToken")?.try_into()?);
        Ok(())
    }

    /// The point behind the last event that was read, and behind what the server has looked at since.
    pub(crate) fn resume_point(&self) -> ResumePoint {
        self.resume_point.clone()
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

    /// Whether the server answered with an error that does not pass by itself.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Driver(failed) if error::is_lasting(failed))
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
