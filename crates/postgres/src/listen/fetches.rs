//! Rows on their way from a table: messages too large for a notification.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};

use crate::{query::rows, shared::Shared};

/// Rows that are fetched at the same time.
const MAX_CONCURRENT: usize = 16;

/// A row of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowRef {
    Attachment(i64),
    /// In the events table, where rows are kept longer.
    Stored(i64),
}

/// The channel that waits for a row, and the number of its reassembler: it may be gone or replaced when the row
/// arrives.
#[derive(Clone, Debug)]
pub(crate) struct RowTicket {
    pub(crate) channel: Arc<str>,
    pub(crate) reassembler: u64,
}

/// Fetches rows, a few at a time, and returns them in the order in which they were wanted.
#[derive(Debug)]
pub(crate) struct RowFetches {
    shared: Arc<Shared>,
    waiting: VecDeque<(RowTicket, RowRef)>,
    running: FuturesOrdered<BoxFuture<'static, (RowTicket, Option<Bytes>)>>,
}

impl RowFetches {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: VecDeque::new(), running: FuturesOrdered::new() }
    }

    pub(crate) fn push(&mut self, ticket: RowTicket, row: RowRef) {
        self.waiting.push_back((ticket, row));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// The next row, without its content if it could not be fetched; `None` if none is wanted. *Cancel safe.*
    pub(crate) async fn next(&mut self) -> Option<(RowTicket, Option<Bytes>)> {
        while self.running.len() < MAX_CONCURRENT
            && let Some((ticket, row)) = self.waiting.pop_front()
        {
            let fetched = rows::fetch(Arc::clone(&self.shared), row);
            self.running.push_back(Box::pin(async move { (ticket, fetched.await) }));
        }
        self.running.next().await
    }
}
