//! The task that listens, for all namespaces over one connection after the other.

use std::{
    collections::{HashMap, VecDeque},
    mem::replace,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, Notification};
use trunkline_backend::{Backoff, Direction, repeats::NumberVerdict};
use trunkline_core::{Gap, GapCause, Result, model::Delivery};

use super::{
    fetches::{RowFetches, RowTicket},
    reassembler::{ChannelReassembler, ReceivedMessage},
    resume::{ResumePoint, ping},
};
use crate::{
    channel,
    connect::PgConnection,
    error::Failure,
    joined_node::JoinedNode,
    publish::{RowNotification, offset_of},
    query::rows::{self, StoredMessage},
    shared::Shared,
};

/// Notifications that are taken from the connection at once.
const BATCH: usize = 512;

/// Bytes of messages that may wait for rows until the connection is left alone; the server holds what comes.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// A request of the transport.
#[derive(Debug)]
pub(crate) enum Command {
    /// Delivers the channel of a node to it, and reports when the server listens.
    Join(Arc<JoinedNode>, oneshot::Sender<Result<(), Failure>>),
    /// Stops that.
    Leave(Arc<JoinedNode>),
}

/// The task that listens.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    channels: HashMap<Arc<str>, ChannelReassembler>,
    /// Number of reassemblers so far.
    reassemblers: u64,
    fetches: RowFetches,
    /// Present with history.
    resume_point: Option<ResumePoint>,
    /// Whether the nodes know that listening works.
    is_connected: bool,
}

/// `LISTEN` and `UNLISTEN` statements on their way.
type Listening<'a> = FuturesOrdered<BoxFuture<'a, ()>>;

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>, end_of_history: Option<i64>) -> Self {
        Self {
            fetches: RowFetches::new(Arc::clone(&shared)),
            shared,
            commands,
            channels: HashMap::new(),
            reassemblers: 0,
            resume_point: end_of_history.map(ResumePoint::new),
            is_connected: true,
        }
    }

    /// Runs until the transport is closed. The first connection has shown that it works.
    pub(crate) async fn run(mut self, first: PgConnection) {
        let closing = self.shared.closing.clone();
        closing.run_until_cancelled(self.listen_until_closed(first)).await;
    }

    async fn listen_until_closed(&mut self, first: PgConnection) {
        let mut backoff = Backoff::default();
        let mut reason = self.serve(first).await;
        loop {
            tracing::debug!(reason, "not listening");
            self.shared.lost(Direction::Inbound, &reason);
            self.is_connected = false;
            sleep(backoff.next_pause()).await;
            reason = match self.reconnect().await {
                Ok(connection) => {
                    backoff.reset();
                    self.serve(connection).await
                }
                Err(reason) => reason,
            };
        }
    }

    /// Listens again to everything, and catches up with what was missed, or reports that something may have been.
    async fn reconnect(&mut self) -> Result<PgConnection, String> {
        let mut connection = self.shared.open(&self.shared.inbound).await.map_err(|error| error.to_string())?;
        self.channels.retain(|_, channel| !channel.is_abandoned());
        let channels: Vec<_> = self.channels.keys().map(|channel| &**channel).collect();
        let limit = self.shared.config.response_timeout;
        let listened = timeout(limit, listen(&mut connection, &self.shared, &channels)).await;
        listened.map_err(|_| "no answer to LISTEN")?.map_err(|failure| failure.to_string())?;
        // What was fetched when the connection was lost came before what was missed.
        while let Some((ticket, row)) = self.fetches.next().await {
            self.fetched(&ticket, row);
        }
        let gap = match self.resume_point {
            Some(_) => self.catch_up().await.map_err(|failure| format!("catching up: {failure}"))?,
            None => Some(GapCause::ConnectionLost),
        };
        self.report(gap);
        Ok(connection)
    }

    /// Delivers what was stored since the connection was lost. Returns a cause if that is not everything.
    async fn catch_up(&mut self) -> Result<Option<GapCause>, Failure> {
        let mut gap = None;
        let channels: Vec<_> = self.channels.keys().cloned().collect();
        while let Some(resume_point) = &mut self.resume_point {
            let page = rows::page(&self.shared, &channels, resume_point.position()).await?;
            if !page.is_whole && resume_point.step_back() {
                continue;
            }
            if !page.is_whole {
                gap = Some(GapCause::Trimmed);
            }
            if page.messages.is_empty() {
                resume_point.prove(page.end);
                break;
            }
            for StoredMessage { offset, channel, bytes } in page.messages {
                if resume_point.read(offset)
                    && let Some(channel) = self.channels.get_mut(&*channel)
                {
                    channel.receive(ReceivedMessage { bytes, offset: Some(offset) });
                }
            }
            self.flush();
            until_ready(self.channels.values().flat_map(ChannelReassembler::nodes)).await;
        }
        Ok(gap)
    }

    fn report(&mut self, gap: Option<GapCause>) {
        for channel in self.channels.values_mut() {
            // Peers that store nothing were not caught up with.
            let cause = gap.or_else(|| channel.has_foreign_peers().then_some(GapCause::ConnectionLost));
            if let Some(cause) = cause {
                channel.deliver_to_all(Delivery::Gap(Gap { cause, missed: None }));
            }
            channel.flush();
        }
    }

    // --- one connection ---

    /// Returns why the connection is no longer served.
    async fn serve(&mut self, connection: PgConnection) -> String {
        let PgConnection { client, mut driver } = connection;
        let mut listening = Listening::new();
        let mut batch = VecDeque::with_capacity(BATCH);
        let shared = Arc::clone(&self.shared);
        let ping = ping(&shared.ping_channel, shared.config.history.as_ref());
        let mut silence = pin!(shared.inbound.keep_alive(&client, &ping, &shared.config));
        // The other direction may have died with this one, and not have been noticed yet.
        let mut other_proven = pin!(shared.outbound.proven());
        let mut may_read = true;
        loop {
            if !replace(&mut may_read, self.may_read()) {
                // Nothing was read: the silence was not the server's.
                shared.inbound.beat();
            }
            tokio::select! {
                read = driver.next_batch(&mut batch, BATCH), if may_read => match read {
                    Ok(()) => self.received(&mut batch),
                    Err(reason) => return reason,
                },
                Some(()) = listening.next() => {}
                Some(command) = self.commands.recv() => self.command(&client, command, &mut listening),
                Some((ticket, row)) = self.fetches.next() => self.fetched(&ticket, row),
                failure = &mut silence, if may_read => return failure.to_string(),
                () = &mut other_proven, if !self.is_connected => {
                    self.is_connected = true;
                    shared.restored(Direction::Inbound);
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        let waiting_bytes = self.channels.values().map(ChannelReassembler::waiting_bytes).sum::<usize>();
        self.fetches.is_empty() || waiting_bytes < MAX_WAITING_BYTES
    }

    fn command<'a>(&mut self, client: &'a Client, command: Command, listening: &mut Listening<'a>) {
        match command {
            // The caller has given up.
            Command::Join(_, listens) if listens.is_closed() => {}
            Command::Join(node, listens) => {
                let statement = format!("LISTEN {}", channel::quoted(&node.channel));
                self.add(node);
                listening.push_back(Box::pin(async move {
                    let result = client.batch_execute(&statement).await;
                    // Fails only when the caller is gone; then the node leaves.
                    let _ = listens.send(result.map_err(Into::into));
                }));
            }
            Command::Leave(node) => {
                let Some(channel) = self.channels.get_mut(&node.channel) else { return };
                channel.remove(&node);
                if !channel.is_abandoned() {
                    return;
                }
                self.channels.remove(&node.channel);
                listening.push_back(Box::pin(async move {
                    let statement = format!("UNLISTEN {}", channel::quoted(&node.channel));
                    if let Err(error) = client.batch_execute(&statement).await {
                        tracing::debug!(%error, "cannot stop listening");
                    }
                }));
            }
        }
    }

    fn add(&mut self, node: Arc<JoinedNode>) {
        let has_history = self.resume_point.is_some();
        let channel = self.channels.entry(Arc::clone(&node.channel)).or_insert_with(|| {
            self.reassemblers += 1;
            ChannelReassembler::new(self.reassemblers, has_history)
        });
        channel.add(node);
    }

    // --- notifications ---

    fn received(&mut self, batch: &mut VecDeque<Notification>) {
        for notification in batch.drain(..) {
            self.notification(notification.channel(), notification.payload());
        }
        self.flush();
    }

    fn notification(&mut self, channel: &str, text: &str) {
        if channel == self.shared.ping_channel {
            // Everything that was stored before it has arrived before it.
            if self.resume_point.as_mut().is_some_and(|resume_point| resume_point.pinged(text)) {
                self.report(Some(GapCause::Trimmed));
            }
            return;
        }
        let row = RowNotification::read(text);
        let offset = row.as_ref().map_or_else(|| offset_of(text), |(_, notification)| notification.offset());
        let (verdict, offset) = self.judged(offset);
        let Some(reassembler) = self.channels.get_mut(channel) else { return };
        match (verdict, row) {
            (NumberVerdict::Repeat, _) => {}
            (NumberVerdict::Malformed, _) => reassembler.refuse(),
            (NumberVerdict::New, Some((id, notification))) => {
                if let Some(row) = reassembler.receive_notification(id, &notification) {
                    let ticket = RowTicket { channel: channel.into(), reassembler: reassembler.number() };
                    self.fetches.push(ticket, row);
                }
            }
            (NumberVerdict::New, None) => {
                reassembler.receive(ReceivedMessage { bytes: Bytes::copy_from_slice(text.as_bytes()), offset });
            }
        }
    }

    /// Judges a notification by its offset, and notes it. Without a history, offsets say nothing.
    fn judged(&mut self, offset: Option<i64>) -> (NumberVerdict, Option<i64>) {
        match (&mut self.resume_point, offset) {
            (Some(resume_point), Some(offset)) => (resume_point.notified(offset), Some(offset)),
            _ => (NumberVerdict::New, None),
        }
    }

    fn fetched(&mut self, ticket: &RowTicket, row: Option<Bytes>) {
        let channel = self.channels.get_mut(&ticket.channel);
        if let Some(channel) = channel.filter(|channel| channel.number() == ticket.reassembler) {
            channel.fetched(row);
            channel.flush();
        }
    }

    fn flush(&mut self) {
        self.channels.values_mut().for_each(ChannelReassembler::flush);
    }
}

/// Listens to the channels, and to that of pings.
pub(crate) async fn listen(connection: &mut PgConnection, shared: &Shared, channels: &[&str]) -> Result<(), Failure> {
    let channels = channels.iter().copied().chain([&*shared.ping_channel]);
    let statements: Vec<_> = channels.map(|channel| format!("LISTEN {}", channel::quoted(channel))).collect();
    // Pings need not wait for the server's disk.
    connection.execute(&format!("{}; SET synchronous_commit = off", statements.join(";"))).await
}

/// The table holds what comes next: full inboxes are waited for, though not for ever.
async fn until_ready(nodes: impl Iterator<Item = &Arc<JoinedNode>>) {
    const LIMIT: Duration = Duration::from_secs(1);
    for node in nodes {
        if timeout(LIMIT, node.inbox.ready()).await.is_err() {
            tracing::debug!(node = %node.key.id, "a node does not take what it has missed");
        }
    }
}
