//! One transport: its tasks, and what nodes ask of it.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result,
    Transport,
    codec::BodyRef,
    model::Delivery,
    transport::{Health, History, Inbox, JoinRequest},
};

use crate::{
    config::Config,
    history::Tables,
    item::Draft,
    maintenance, probe,
    query::{Keeper, Lent, Queries},
    reader::{Command, Reader},
    rows, schema,
    shared::{Direction, Shared},
    writer::{Press, Writer},
};

/// Connects, and returns the backend for [`Cluster`](trunkline_core::Cluster) and [`Emitter`](trunkline_core::Emitter).
///
/// # Errors
/// As [`Postgres::connect`].
pub async fn connect(config: Config) -> Result<Backend> {
    Ok(Postgres::connect(config).await?.backend())
}

/// A transport over PostgreSQL, shared by all namespaces of a process. Cheap to clone; when the last clone is dropped, or
/// [`Transport::close`] is called, its tasks and connections end.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queries: Queries,
    commands: mpsc::Sender<Command>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Postgres {
    /// Opens three connections (to listen, to publish, to query), creates tables if need be, and spawns a task for each on the current Tokio
    /// runtime.
    ///
    /// # Errors
    /// `Config` for what is set wrongly, `Disconnected` or `Broker` if no host can be reached or will do, `Unsupported` if notifications do
    /// not come back: behind PgBouncer in transaction mode they cannot.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let connector = config.server.connector()?;
        let origin = IdScheme::Hex16.node_id();
        let shared = Arc::new(Shared::new(config, connector, origin));
        let (listening, publishing, querying) = tokio::try_join!(shared.open(), shared.open(), shared.open())?;
        let (listening, mut publishing) = probe::check(&shared, listening, publishing).await?;
        schema::prepare(&mut publishing, &shared.config).await?;
        let press = Press::new(publishing, &shared).await?;
        let (keeper, queries) = Keeper::new(Arc::clone(&shared));
        let keeping = tokio::spawn(keeper.run(querying));
        let position = end_of_history(&shared, &queries).await?;
        shared.restored(Direction::Inbound);
        shared.restored(Direction::Outbound);
        let (commands, received_commands) = mpsc::channel(COMMANDS);
        let reader = Reader::new(Arc::clone(&shared), queries.clone(), received_commands, position);
        let tasks = vec![
            keeping,
            tokio::spawn(reader.run(listening)),
            tokio::spawn(Writer::new(Arc::clone(&shared)).run(press)),
            tokio::spawn(maintenance::run(Arc::clone(&shared), queries.clone())),
        ];
        Ok(Self { inner: Arc::new(Inner { shared, queries, commands, tasks: Mutex::new(tasks) }) })
    }

    /// What nodes and emitters need.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let Inner { shared, queries, .. } = &*self.inner;
        let history = shared
            .config
            .history
            .clone()
            .map(|config| Arc::new(Tables::new(Arc::clone(shared), config, queries.clone())) as Arc<dyn History>);
        Backend { transport: Arc::new(self.clone()), history, interest: None, node_counter: None, ids: IdScheme::Hex16 }
    }

    /// How full the server's queue of notifications is, from 0 to 1. It fills when somebody listens but does not read, or stays in a
    /// transaction; once full, every publish to the database fails.
    ///
    /// # Errors
    /// `Disconnected`, `Broker`.
    pub async fn notification_queue_usage(&self) -> Result<f64> {
        let query = async |lent: Arc<Lent>| {
            lent.client.query_typed_one("SELECT pg_notification_queue_usage()", &[]).await?.try_get(0)
        };
        self.inner.queries.run(query).await.map_err(|failure| failure.into_error("ask for the queue's usage"))
    }

    async fn queue(&self, from: &NodeKey, body: BodyRef<'_>) -> Result<()> {
        let shared = &self.inner.shared;
        let channel = shared.seats.channel_of(from)?;
        let draft = Draft::new(&shared.config, channel, from, body)?;
        shared.outbox.push(draft.bytes(), |sequencer| draft.finish(sequencer, &shared.origin)).await
    }

    /// Waits until the server has begun to pass on what is said in a channel, over reconnects.
    async fn listen(&self, channel: &Arc<str>) -> Result<()> {
        loop {
            self.inner.shared.until_listening().await;
            let (listens, heard) = oneshot::channel();
            let command = Command::Listen(Arc::clone(channel), listens);
            self.inner.commands.send(command).await.map_err(|_| closed())?;
            match heard.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) if !failure.may_pass() => {
                    return Err(failure.into_error(format!("LISTEN {channel:?}")));
                }
                // The connection was lost meanwhile.
                Ok(Err(_)) | Err(_) if self.inner.shared.is_closing() => return Err(closed()),
                Ok(Err(_)) | Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn take_place(&self, channel: &Arc<str>) -> Result<i64> {
        let limit = self.inner.shared.config.query_timeout;
        let away = || Error::new(ErrorKind::Disconnected, format!("LISTEN {channel:?}: no answer in {limit:?}"));
        timeout(limit, self.listen(channel)).await.map_err(|_| away())??;
        end_of_history(&self.inner.shared, &self.inner.queries).await
    }
}

/// The last message stored so far; without history 0.
async fn end_of_history(shared: &Shared, queries: &Queries) -> Result<i64> {
    if shared.config.history.is_none() {
        return Ok(0);
    }
    let page = rows::page(queries, shared, &[], 0).await;
    Ok(page.map_err(|failure| failure.into_error("find the end of the history"))?.end)
}

#[async_trait]
impl Transport for Postgres {
    fn capabilities(&self) -> Capabilities {
        let config = &self.inner.shared.config;
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: false,
            history: config.history.is_some(),
            max_message_bytes: Some(config.max_message_bytes),
        }
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let shared = &self.inner.shared;
        if shared.is_closing() {
            return Err(closed());
        }
        let (channel, taken, inbox) = shared.seats.take(seat)?;
        // The seat is given back if joining fails or is given up.
        let mut pending = Pending { transport: self, node: Some(taken.node.clone()) };
        taken.begins_after(self.take_place(&channel).await?);
        taken.inbox.push([Delivery::Connected]);
        pending.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.queue(from, (&message).into()).await
    }

    async fn send(&self, from: &NodeKey, _to: &NodeId, response: Response) -> Result<()> {
        self.queue(from, (&response).into()).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.inner.leave(node);
        Ok(())
    }

    fn health(&self) -> Health {
        self.inner.shared.health()
    }

    async fn close(&self) {
        self.inner.shared.close();
        let tasks = mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        self.inner.shared.seats.clear();
    }
}

impl Inner {
    fn leave(&self, node: &NodeKey) {
        if let Some(channel) = self.shared.seats.give_back(node) {
            // If there is no room for the command, the server keeps on sending what nobody here takes in.
            let _ = self.commands.try_send(Command::Unlisten(channel));
        }
        self.shared.outbox.forget(&node.id);
    }
}

impl Drop for Inner {
    /// The tasks end by themselves: what is queued, most likely a last farewell, may still be sent.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A seat of a node that has not joined yet.
struct Pending<'a> {
    transport: &'a Postgres,
    node: Option<NodeKey>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            self.transport.inner.leave(node);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}

/// Commands that may wait for the reader.
const COMMANDS: usize = 256;

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.inner.shared;
        f.debug_struct("Postgres").field("config", &shared.config).field("seats", &shared.seats).finish_non_exhaustive()
    }
}
