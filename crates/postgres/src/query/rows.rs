//! Rows of messages: single ones by their id, and pages of the history.

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::{Row, types::Type};

use crate::{error::Failure, listen::RowRef, shared::Shared};

/// Attempts to fetch a row that the server refuses.
const ATTEMPTS: usize = 3;

/// Fetches the row of a message, however often connections break. `None` if it is not there, or the server refuses it.
pub(crate) async fn fetch(shared: Arc<Shared>, row: RowRef) -> Option<Bytes> {
    let (table, id) = match (row, &shared.config.history) {
        (RowRef::Stored(id), Some(history)) => (&history.events, id),
        (RowRef::Stored(id) | RowRef::Attachment(id), _) => (&shared.config.attachments, id),
    };
    let statement = format!("SELECT payload FROM {} WHERE id = $1", table.quoted());
    let mut refusals = 0;
    while refusals < ATTEMPTS {
        match fetch_once(&shared, &statement, id).await {
            Ok(bytes) => return bytes,
            Err(failure) => {
                tracing::debug!(reason = %failure, "cannot fetch a row");
                // The row outlives connections: whoever waits for the next one gets it.
                refusals += usize::from(!failure.is_lost());
            }
        }
    }
    None
}

async fn fetch_once(shared: &Shared, statement: &str, id: i64) -> Result<Option<Bytes>, Failure> {
    let rows = shared.queries.run(statement, &[(&id, Type::INT8)]).await?;
    Ok(rows.first().map(|row| bytes(row, 0)).transpose()?.flatten())
}

/// Messages stored after a known one.
#[derive(Debug)]
pub(crate) struct Page {
    /// Whether the known message is still there, so that nothing after it can be missing: the oldest are deleted first.
    pub(crate) is_whole: bool,
    /// The next messages, in order. Empty if there are no more.
    pub(crate) messages: Vec<StoredMessage>,
    /// Offset of the last message stored, of all channels.
    pub(crate) end: i64,
}

/// A message of the events table.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) offset: i64,
    pub(crate) channel: String,
    pub(crate) bytes: Bytes,
}

/// One statement, so that all of it is seen at the same moment. Few rows, or few bytes, at a time.
const PAGE: &str = "
    SELECT whole, \"end\", id, channel, payload
    FROM (SELECT EXISTS (SELECT FROM $events WHERE id = $1) AS whole, (SELECT max(id) FROM $events) AS \"end\") AS state
    LEFT JOIN (
        SELECT id, channel, payload, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS before
        FROM (SELECT id, channel, payload FROM $events WHERE id > $1 AND channel = ANY($2) ORDER BY id LIMIT 1000) AS next
    ) AS page ON before < 4194304
    ORDER BY id";

/// Reads the messages stored on the channels after a known one.
pub(crate) async fn page(shared: &Shared, channels: &[Arc<str>], after: i64) -> Result<Page, Failure> {
    let Some(history) = &shared.config.history else {
        return Err(Failure::Lost("there is no history".into()));
    };
    let statement = PAGE.replace("$events", &history.events.quoted());
    let channels: Vec<_> = channels.iter().map(|channel| &**channel).collect();
    let rows = shared.queries.run(&statement, &[(&after, Type::INT8), (&channels, Type::TEXT_ARRAY)]).await?;
    let mut page = Page { is_whole: false, messages: Vec::new(), end: after };
    for row in &rows {
        page.is_whole = row.try_get(0)?;
        page.end = row.try_get::<_, Option<i64>>(1)?.unwrap_or(0);
        page.messages.extend(stored_message(row)?);
    }
    Ok(page)
}

fn stored_message(row: &Row) -> Result<Option<StoredMessage>, tokio_postgres::Error> {
    Ok(match (row.try_get(2)?, row.try_get(3)?, bytes(row, 4)?) {
        (Some(offset), Some(channel), Some(bytes)) => Some(StoredMessage { offset, channel, bytes }),
        _ => None,
    })
}

fn bytes(row: &Row, column: usize) -> Result<Option<Bytes>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<&[u8]>>(column)?.map(Bytes::copy_from_slice))
}

/// Offset of the last message stored so far.
pub(crate) async fn end_of_history(shared: &Shared) -> Result<i64, Failure> {
    Ok(page(shared, &[], 0).await?.end)
}
