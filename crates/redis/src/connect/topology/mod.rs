//! The servers behind the configured addresses: one server, the master that sentinels name, or the nodes of a cluster.

mod slots;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use redis::{FromRedisValue, Value};
use tokio::time::{Instant, sleep};
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Result};

pub(crate) use self::slots::slot_of;
use self::slots::{Redirection, SlotMap};
use super::{
    connection::{CommandConnection, Connector, Former, Socket},
    credentials::Renewals,
    error::may_be_elsewhere,
};
use crate::config::{Address, Config, Topology};

/// The server that takes a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    /// The server or the master; in a cluster any node, which tells the others.
    Anywhere,
    /// This node of a cluster.
    Node(Address),
}

/// The first pause before connecting again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A cluster's map is asked for at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// The servers, and how they are reached.
#[derive(Debug)]
pub(crate) struct ServerPool {
    topology: Topology,
    /// As configured.
    addresses: Vec<Address>,
    connector: Connector,
    sentinels: Option<Connector>,
    /// How often connections ask for the role of their server; `None` in a cluster.
    role_interval: Option<Duration>,
    slots: RwLock<Arc<SlotMap>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    connections: Mutex<HashMap<Destination, CommandConnection>>,
}

impl ServerPool {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            topology: config.server.topology.clone(),
            addresses: config.server.addresses.clone(),
            connector: Connector::new(config)?,
            sentinels: Connector::to_sentinels(config)?,
            role_interval: (config.server.topology != Topology::Cluster).then_some(config.ping_interval),
            slots: RwLock::default(),
            refreshed: tokio::sync::Mutex::new(None),
            connections: Mutex::default(),
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.topology == Topology::Cluster
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.connector.response_timeout()
    }

    /// When a connection that was opened or checked now asks for the role of its server; `None` if it need not.
    pub(crate) fn next_role_check(&self) -> Option<Instant> {
        self.role_interval.map(|interval| Instant::now() + interval)
    }

    /// Renewed credentials for a connection that is opened now.
    pub(crate) fn renewals(&self) -> Renewals {
        self.connector.renewals()
    }

    /// Renews credentials that expire, for all connections.
    pub(crate) async fn keep_credentials_valid(&self, max_backoff: Duration) {
        let mut renewals = self.renewals();
        let replace = async {
            loop {
                let login = renewals.next_login().await;
                let connections: Vec<_> = self.connections().values().cloned().collect();
                for connection in connections {
                    connection.authenticate(&login, self.response_timeout()).await;
                }
            }
        };
        tokio::select! {
            () = self.connector.keep_valid(max_backoff) => {}
            () = replace => {}
        }
    }

    // --- the slot map of a cluster ---

    /// The server of a key or shard channel, as far as is known.
    pub(crate) fn destination_of(&self, slot: u16) -> Destination {
        if !self.is_cluster() {
            return Destination::Anywhere;
        }
        self.slots().owner(slot).cloned().map_or(Destination::Anywhere, Destination::Node)
    }

    /// Servers that together see all subscribers.
    pub(crate) fn all_destinations(&self) -> Vec<Destination> {
        let masters = if self.is_cluster() { self.slots().masters() } else { Vec::new() };
        match masters.is_empty() {
            true => vec![Destination::Anywhere],
            false => masters.into_iter().map(Destination::Node).collect(),
        }
    }

    /// Notes where a slot has gone: `error` is the `MOVED` of the node at `asked`.
    pub(crate) fn note_moved(&self, error: &[u8], asked: &Address) {
        let Some(Redirection { slot, owner }) = Redirection::parse(error, asked) else { return };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut slots).assign(slot, owner);
    }

    fn slots(&self) -> Arc<SlotMap> {
        Arc::clone(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks a cluster for its map, unless that was done a moment ago.
    pub(crate) async fn refresh(&self) -> Result<()> {
        if !self.is_cluster() {
            return Ok(());
        }
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return Ok(());
        }
        let map = first_success(self.known_nodes(), |node| self.ask_for_slots(node)).await?;
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
        *refreshed = Some(Instant::now());
        Ok(())
    }

    /// As [`ServerPool::refresh`], where there is nothing to be done about an error.
    pub(crate) async fn try_refresh(&self) {
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "the slot map of the cluster could not be read");
        }
    }

    /// The masters of the last map, and the nodes that were configured.
    fn known_nodes(&self) -> Vec<Address> {
        let mut nodes = self.slots().masters();
        nodes.extend(self.addresses.iter().filter(|address| !nodes.contains(address)).cloned().collect::<Vec<_>>());
        nodes
    }

    async fn ask_for_slots(&self, address: Address) -> Result<SlotMap> {
        let connection = self.command_connection(&Destination::Node(address.clone())).await?;
        let mut command = redis::cmd("CLUSTER");
        let answer: Value = connection.run(command.arg("SLOTS"), self.response_timeout()).await?;
        SlotMap::parse(&answer, &address).ok_or_else(|| {
            Error::new(ErrorKind::Broker, format!("{address}: the answer to CLUSTER SLOTS was not understood"))
        })
    }

    // --- connections ---

    /// Opens a bare connection. Ends the `former` one of the same owner, if the server still keeps it.
    pub(crate) async fn open(
        &self,
        destination: &Destination,
        role: &str,
        former: Option<&Former>,
    ) -> Result<(Address, Socket)> {
        let open = |address: Address| async move {
            let socket = self.connector.open(&address, role, former).await?;
            Ok((address, socket))
        };
        first_success(self.locate(destination).await?, open).await
    }

    /// The addresses to try for a destination.
    async fn locate(&self, destination: &Destination) -> Result<Vec<Address>> {
        match (destination, &self.topology) {
            (Destination::Node(address), _) => Ok(vec![address.clone()]),
            (Destination::Anywhere, Topology::Standalone) => Ok(self.addresses.clone()),
            (Destination::Anywhere, Topology::Cluster) => Ok(self.known_nodes()),
            (Destination::Anywhere, Topology::Sentinel { service, .. }) => {
                let master = first_success(self.addresses.clone(), |sentinel| self.ask_sentinel(sentinel, service));
                Ok(vec![master.await?])
            }
        }
    }

    /// The address of the master, as a sentinel knows it.
    async fn ask_sentinel(&self, address: Address, service: &str) -> Result<Address> {
        let connector = self.sentinels.as_ref().unwrap_or(&self.connector);
        let sentinel = connector.open_for_commands(&address).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let answer: Value = sentinel.run(&command, self.response_timeout()).await?;
        let master = <(String, u16)>::from_redis_value(answer).map_err(|_| {
            Error::new(ErrorKind::Disconnected, format!("sentinel {address} knows no master of the name {service:?}"))
        })?;
        Ok(Address::Tcp(master.0, master.1))
    }

    /// A connection for commands, to be shared.
    pub(crate) async fn command_connection(&self, destination: &Destination) -> Result<CommandConnection> {
        let shared = self.connections().get(destination).filter(|connection| !connection.has_ended()).cloned();
        if let Some(connection) = shared
            && self.is_to_master(&connection).await
        {
            return Ok(connection);
        }
        let open = |address: Address| async move { self.connector.open_for_commands(&address).await };
        let connection = first_success(self.locate(destination).await?, open).await?;
        self.connections().insert(destination.clone(), connection.clone());
        Ok(connection)
    }

    async fn is_to_master(&self, connection: &CommandConnection) -> bool {
        match self.role_interval {
            Some(interval) => connection.is_to_master(interval, self.response_timeout()).await,
            None => true,
        }
    }

    /// Gives up the shared connection to a server of which another connection is lost.
    pub(crate) fn forget(&self, destination: &Destination) {
        self.connections().remove(destination);
    }

    /// Runs a command as [`ServerPool::at`].
    pub(crate) async fn run_at<T: FromRedisValue>(&self, key: &[u8], command: &redis::Cmd) -> Result<T> {
        self.at(key, |connection| async move { connection.run(command, self.response_timeout()).await }).await
    }

    /// Runs commands where a key is served. In a cluster, until `response_timeout` is over, it follows the key: when
    /// its slot moves, and when its master is replaced. What broke off is run again, so it must bear that.
    pub(crate) async fn at<T, F>(&self, key: &[u8], run: impl Fn(CommandConnection) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (slot, late) = (slot_of(key), Instant::now() + self.response_timeout());
        let mut backoff = Backoff::new(FIRST_PAUSE, self.response_timeout());
        loop {
            let destination = self.destination_of(slot);
            let result = match self.command_connection(&destination).await {
                Ok(connection) => run(connection).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Err(error) if self.is_cluster() && may_be_elsewhere(&error) => error,
                result => return result,
            };
            tracing::debug!(%error, "the slot map of the cluster may be out of date");
            let refreshed = self.refresh().await;
            if Instant::now() >= late {
                return Err(error);
            }
            if refreshed.is_err() || self.destination_of(slot) == destination {
                sleep(backoff.next_pause()).await;
            }
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Destination, CommandConnection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connections for commands.
    pub(crate) fn close(&self) {
        self.connections().clear();
    }
}

/// Tries one address after the other. Returns the first success, or the last error.
async fn first_success<T, F>(addresses: Vec<Address>, attempt: impl Fn(Address) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut last = Error::new(ErrorKind::Disconnected, "no server is known");
    for address in addresses {
        match attempt(address).await {
            Ok(success) => return Ok(success),
            Err(error) => last = error,
        }
    }
    Err(last)
}
