//! The task that listens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_postgres::{Client, Notification};
use trunkline_backend::Backoff;
use trunkline_core::{Gap, GapCause, Result, model::Delivery};

use crate::{
    channel,
    error::Failure,
    item::{Pointer, offset_of},
    lane::{Arrived, Fetch, Lane},
    query::Queries,
    rows,
    seats::Plan,
    shared::{Direction, Shared},
    wire::Session,
};

/// Notifications that are taken from the connection at once.
const BATCH: usize = 512;

/// Rows that are fetched at the same time.
const FETCHES: usize = 16;

/// Bytes of messages that may wait for rows until the connection is left alone; the server holds what comes.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// What the transport asks of the reader.
#[derive(Debug)]
pub(crate) enum Command {
    /// Listen to a channel, and say when that has begun.
    Listen(Arc<str>, oneshot::Sender<Result<(), Failure>>),
    /// Nobody is left in a channel.
    Unlisten(Arc<str>),
}

/// Listens for all namespaces over one connection after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    queries: Queries,
    commands: mpsc::Receiver<Command>,
    plan: Arc<Plan>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Whose row is fetched next when a place is free.
    wanted: VecDeque<(Claim, Fetch)>,
    fetching: FuturesOrdered<BoxFuture<'static, (Claim, Option<Bytes>)>>,
    /// How many lanes there were so far.
    lanes_made: u64,
    /// With history: everything stored up to here has arrived.
    position: i64,
    /// With history: what is stored up to here has arrived already and may arrive again.
    repeated_up_to: Option<i64>,
    /// When something last arrived.
    heard: Instant,
}

/// For whom a row is fetched: a lane, by its number, unless it is gone meanwhile.
type Claim = (Arc<str>, u64);

/// Why a connection is no longer served.
enum End {
    Closed,
    Lost(String),
}

/// An answer to a command, when the server has given it.
type Listening<'a> = FuturesOrdered<BoxFuture<'a, ()>>;

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, queries: Queries, commands: mpsc::Receiver<Command>, position: i64) -> Self {
        Self {
            shared,
            queries,
            commands,
            plan: Arc::default(),
            lanes: HashMap::new(),
            wanted: VecDeque::new(),
            fetching: FuturesOrdered::new(),
            lanes_made: 0,
            position,
            repeated_up_to: None,
            heard: Instant::now(),
        }
    }

    /// Runs until the transport is closed. The first connection has shown that it works.
    pub(crate) async fn run(mut self, first: Session) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.listen_until_closed(first) => {}
            () = shared.closing() => {}
        }
    }

    async fn listen_until_closed(&mut self, first: Session) {
        let mut backoff = Backoff::default();
        let mut end = self.serve(first).await;
        while let End::Lost(reason) = end {
            self.shared.lost(Direction::Inbound, &reason);
            sleep(backoff.next_pause()).await;
            end = match self.reconnect().await {
                Ok(session) => {
                    backoff.reset();
                    self.shared.restored(Direction::Inbound);
                    self.serve(session).await
                }
                Err(reason) => {
                    tracing::debug!(reason, "cannot listen yet");
                    End::Lost(reason)
                }
            };
        }
    }

    /// Listens again to everything, and takes in what was missed meanwhile, or says that something may have been.
    async fn reconnect(&mut self) -> Result<Session, String> {
        let mut session = self.shared.open().await.map_err(|error| error.to_string())?;
        self.follow_plan();
        let channels: Vec<_> = self.plan.keys().map(|channel| &**channel).collect();
        let listened = timeout(self.shared.config.query_timeout, listen(&mut session, &self.shared, &channels)).await;
        listened.map_err(|_| "no answer to LISTEN")?.map_err(|failure| failure.to_string())?;
        self.finish_fetches().await;
        let gap = if self.has_history() {
            self.catch_up().await.map_err(|failure| format!("catching up: {failure}"))?
        } else {
            Some(GapCause::ConnectionLost)
        };
        self.report(gap);
        Ok(session)
    }

    /// What was fetched when the connection was lost came before what was missed.
    async fn finish_fetches(&mut self) {
        self.start_fetches();
        while let Some((claim, bytes)) = self.fetching.next().await {
            self.fetched(&claim, bytes);
            self.start_fetches();
        }
    }

    /// Takes in what was stored since the connection was lost. Returns the reason if that is not everything.
    async fn catch_up(&mut self) -> Result<Option<GapCause>, Failure> {
        let mut gap = None;
        loop {
            let channels: Vec<_> = self.plan.keys().cloned().collect();
            let page = rows::page(&self.queries, &self.shared, &channels, self.position).await?;
            if !page.is_whole {
                gap = Some(GapCause::Trimmed);
            }
            let Some(last) = page.rows.last() else {
                self.position = page.end;
                self.repeated_up_to = Some(page.end);
                return Ok(gap);
            };
            self.position = last.id;
            for row in page.rows {
                if let Some(lane) = self.lanes.get_mut(&*row.channel) {
                    lane.message(Arrived { bytes: row.payload, offset: Some(row.id) });
                }
            }
            self.flush();
            make_room(&self.plan).await;
        }
    }

    fn report(&mut self, gap: Option<GapCause>) {
        for lane in self.lanes.values_mut() {
            // Who stores nothing was not caught up with.
            let cause = gap.or_else(|| lane.hears_foreigners().then_some(GapCause::ConnectionLost));
            if let Some(cause) = cause {
                lane.tell(Delivery::Gap(Gap { cause, missed: None }));
            }
            lane.flush();
        }
    }

    // --- one connection ---

    async fn serve(&mut self, session: Session) -> End {
        let Session { client, mut wire } = session;
        let mut listening = Listening::new();
        let mut batch = VecDeque::with_capacity(BATCH);
        let mut probed = self.shared.probed.subscribe();
        self.heard = Instant::now();
        loop {
            self.start_fetches();
            let deadline = self.deadline(*probed.borrow_and_update());
            tokio::select! {
                read = wire.next_batch(&mut batch, BATCH), if self.has_room() => match read {
                    Ok(()) => self.arrived(&mut batch),
                    Err(reason) => return End::Lost(reason),
                },
                Some(()) = listening.next() => {}
                command = self.commands.recv() => match command {
                    Some(command) => self.command(&client, command, &mut listening),
                    None => return End::Closed,
                },
                Some((claim, bytes)) = self.fetching.next() => self.fetched(&claim, bytes),
                Ok(()) = probed.changed() => {}
                () = until(deadline) => {
                    let context = format!("no notification in {:?}", self.shared.config.probe_timeout);
                    return End::Lost(context);
                }
            }
        }
    }

    /// By when something must have arrived. Counted from the last probe that the server has taken: with that out of reach, too, nothing can
    /// be said.
    fn deadline(&self, probed: Option<Instant>) -> Option<Instant> {
        let probed = probed.filter(|probed| *probed > self.heard)?;
        Some(probed + self.shared.config.probe_timeout)
    }

    fn command<'a>(&mut self, client: &'a Client, command: Command, listening: &mut Listening<'a>) {
        self.follow_plan();
        match command {
            Command::Listen(channel, listens) => listening.push_back(Box::pin(async move {
                let result = client.batch_execute(&format!("LISTEN {}", channel::quoted(&channel))).await;
                // Fails only when the caller is gone, who then gives the seat back.
                let _ = listens.send(result.map_err(Into::into));
            })),
            // Somebody may have come meanwhile.
            Command::Unlisten(channel) if self.plan.contains_key(&channel) => {}
            Command::Unlisten(channel) => listening.push_back(Box::pin(async move {
                if let Err(error) = client.batch_execute(&format!("UNLISTEN {}", channel::quoted(&channel))).await {
                    tracing::debug!(%error, "cannot stop listening");
                }
            })),
        }
    }

    // --- what arrives ---

    fn arrived(&mut self, batch: &mut VecDeque<Notification>) {
        self.heard = Instant::now();
        self.follow_plan();
        for notification in batch.drain(..) {
            self.notification(&notification);
        }
        self.flush();
    }

    fn notification(&mut self, notification: &Notification) {
        let (channel, text) = (notification.channel(), notification.payload());
        if channel == self.shared.probe_channel {
            // Everything that was stored before it has arrived before it.
            self.is_new(text.parse().ok());
            return;
        }
        let Some((channel, _)) = self.plan.get_key_value(channel) else { return };
        let channel = Arc::clone(channel);
        match Pointer::read(text) {
            Some((id, pointer)) => {
                if self.is_new(pointer.offset())
                    && let Some(lane) = self.lanes.get_mut(&channel)
                    && let Some(fetch) = lane.pointer(id, &pointer)
                {
                    self.wanted.push_back(((channel, lane.number()), fetch));
                }
            }
            None => {
                let offset = self.has_history().then(|| offset_of(text)).flatten();
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                if self.is_new(offset)
                    && let Some(lane) = self.lanes.get_mut(&channel)
                {
                    lane.message(Arrived { bytes, offset });
                }
            }
        }
    }

    /// Whether a stored message was not caught up with before, and notes that it has arrived.
    fn is_new(&mut self, offset: Option<i64>) -> bool {
        let Some(offset) = offset.filter(|_| self.has_history()) else { return true };
        if self.repeated_up_to.is_some_and(|last| offset <= last) {
            return false;
        }
        self.repeated_up_to = None;
        self.position = offset;
        true
    }

    fn has_history(&self) -> bool {
        self.shared.config.history.is_some()
    }

    fn has_room(&self) -> bool {
        self.fetching.is_empty() || self.lanes.values().map(Lane::waiting_bytes).sum::<usize>() < MAX_WAITING_BYTES
    }

    fn start_fetches(&mut self) {
        while self.fetching.len() < FETCHES
            && let Some((claim, fetch)) = self.wanted.pop_front()
        {
            let row = rows::fetch(self.queries.clone(), Arc::clone(&self.shared), fetch);
            self.fetching.push_back(Box::pin(async move { (claim, row.await) }));
        }
    }

    fn fetched(&mut self, (channel, number): &Claim, bytes: Option<Bytes>) {
        self.follow_plan();
        if let Some(lane) = self.lanes.get_mut(channel).filter(|lane| lane.number() == *number) {
            lane.fetched(bytes);
            lane.flush();
        }
    }

    fn flush(&mut self) {
        self.lanes.values_mut().for_each(Lane::flush);
    }

    /// Takes over who takes part where. Between two batches, when everything is flushed.
    fn follow_plan(&mut self) {
        let plan = self.shared.seats.plan();
        if Arc::ptr_eq(&plan, &self.plan) {
            return;
        }
        self.lanes.retain(|channel, _| plan.contains_key(channel));
        for (channel, row) in plan.iter() {
            match self.lanes.get_mut(channel) {
                Some(lane) => lane.reseat(row),
                None => {
                    self.lanes_made += 1;
                    let lane = Lane::new(self.lanes_made, Arc::clone(row), self.has_history());
                    self.lanes.insert(Arc::clone(channel), lane);
                }
            }
        }
        self.plan = plan;
    }
}

/// Listens to the channels, and to that of the probe.
pub(crate) async fn listen(session: &mut Session, shared: &Shared, channels: &[&str]) -> Result<(), Failure> {
    let channels = channels.iter().copied().chain([&*shared.probe_channel]);
    let statements: Vec<_> = channels.map(|channel| format!("LISTEN {}", channel::quoted(channel))).collect();
    let Session { client, wire } = session;
    wire.drive(client.batch_execute(&statements.join(";"))).await
}

/// The table holds what comes next: full inboxes are waited for, though not for ever.
async fn make_room(plan: &Plan) {
    const PATIENCE: Duration = Duration::from_secs(1);
    for taken in plan.values().flat_map(|row| row.iter()) {
        if timeout(PATIENCE, taken.inbox.ready()).await.is_err() {
            tracing::debug!(node = %taken.node.id, "a node does not take what it has missed");
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
