//! The task that reads the change stream and delivers its documents to the nodes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::sleep;
use trunkline_backend::{Backoff, Direction};
use trunkline_core::{Gap, GapCause, model::Delivery};

use crate::{
    change_stream::{self, ChangeEvents, ResumePoint, StreamError},
    collection,
    server::Server,
    time_limit::TimeLimit,
    transport_core::TransportCore,
    wire::{ChangeEvent, ReceivedDocument},
};

/// Reads one change stream after the other, for all namespaces.
#[derive(Debug)]
pub(crate) struct Subscriber {
    core: Arc<TransportCore>,
    server: Server,
    resume_point: ResumePoint,
    /// Whether the collection was dropped or renamed, which ends the stream.
    is_invalidated: bool,
    /// Lasting errors that the server has answered with since the stream was last read.
    errors: u32,
    open_limit: TimeLimit,
    read_limit: TimeLimit,
}

/// After so many lasting errors in a row, whatever they are, the resume point is given up.
const MAX_ERRORS: u32 = 5;

impl Subscriber {
    pub(crate) fn new(core: Arc<TransportCore>, server: Server) -> Self {
        let open_limit = TimeLimit::new(core.config.response_timeout);
        let read_limit = TimeLimit::new(core.config.stream_timeout);
        Self { core, server, resume_point: None, is_invalidated: false, errors: 0, open_limit, read_limit }
    }

    /// Runs until the transport is closed.
    pub(crate) async fn run(mut self, first: ChangeEvents) {
        let closing = self.core.closing.clone();
        closing.run_until_cancelled(self.read(first)).await;
    }

    async fn read(&mut self, mut events: ChangeEvents) {
        let mut backoff = Backoff::default();
        loop {
            let error = self.read_until_error(events).await;
            self.core.lost(Direction::Inbound, &error.to_string());
            let is_position_lost = self.is_position_lost(&error);
            if !is_position_lost && !self.is_invalidated {
                sleep(backoff.next_pause()).await;
            }
            events = self.reopen(&mut backoff).await;
            backoff.reset();
            self.core.restored(Direction::Inbound);
        }
    }

    async fn read_until_error(&mut self, mut events: ChangeEvents) -> StreamError {
        loop {
            while let Some(event) = events.next_read() {
                self.handle(&event).await;
            }
            self.flush().await;
            self.resume_point = events.resume_point();
            if self.is_invalidated {
                return StreamError::Closed;
            }
            if let Err(error) = events.read_more(&mut self.read_limit).await {
                return error;
            }
            self.errors = 0;
        }
    }

    async fn handle(&mut self, event: &Bytes) {
        match ChangeEvent::read(event) {
            Ok(ChangeEvent::Insert(document)) => self.deliver(&document).await,
            Ok(ChangeEvent::Invalidate) => self.is_invalidated = true,
            Ok(ChangeEvent::Other) => {}
            Err(fault) => tracing::debug!(%fault, "a change event cannot be read"),
        }
    }

    async fn deliver(&self, document: &Bytes) {
        match ReceivedDocument::read(document) {
            Ok(received) if received.is_session() => {}
            Ok(received) => {
                let Some(namespace) = &received.namespace else { return };
                for node in self.core.nodes.in_namespace(namespace) {
                    node.receive(&received).await;
                }
            }
            Err(fault) => tracing::debug!(%fault, "a document is no message"),
        }
    }

    async fn flush(&self) {
        for node in self.core.nodes.all() {
            node.flush().await;
        }
    }

    /// Whether the stream cannot go on from its resume point, so that messages may be missed. Gives the point up then.
    fn is_position_lost(&mut self, error: &StreamError) -> bool {
        self.errors += u32::from(error.is_lasting());
        let is_lost = self.resume_point.is_some() && (error.is_history_lost() || self.errors >= MAX_ERRORS);
        if is_lost {
            tracing::warn!(%error, "the change stream starts anew: what was inserted meanwhile is lost");
            self.resume_point = None;
            self.errors = 0;
        }
        is_lost
    }

    async fn reopen(&mut self, backoff: &mut Backoff) -> ChangeEvents {
        loop {
            match self.try_reopen().await {
                Ok(events) => return events,
                Err(error) => {
                    tracing::debug!(%error, "cannot open the change stream yet");
                    self.is_position_lost(&error);
                    sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    async fn try_reopen(&mut self) -> Result<ChangeEvents, StreamError> {
        if let Err(error) = self.core.renew(&mut self.server).await {
            self.core.lost(Direction::Inbound, &error.to_string());
        }
        let is_gap = self.is_invalidated || self.resume_point.is_none();
        if is_gap {
            self.recreate_collection().await;
        }
        let events = change_stream::open(&self.server, &mut self.open_limit, &self.resume_point).await?;
        self.is_invalidated = false;
        self.resume_point = events.resume_point();
        if is_gap {
            // With the collection its history is gone; without the resume point, what was inserted since.
            self.core.push_to_all(&Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None }));
        }
        Ok(events)
    }

    /// Creates the collection if it was dropped or renamed. If that fails the stream goes on all the same: inserting
    /// creates one, of either kind.
    async fn recreate_collection(&self) {
        let TransportCore { config, kind, .. } = &*self.core;
        if let Err(error) = collection::restore(&self.server.database, config, *kind).await {
            tracing::warn!(%error, "the collection is gone and cannot be created again as it was");
        }
    }
}
