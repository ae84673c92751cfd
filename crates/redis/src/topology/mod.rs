//! Who is to be talked to: one server, the master that sentinels name, or the nodes of a cluster.

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

use self::slots::SlotMap;
pub(crate) use self::slots::slot_of;
use crate::{
    config::{Address, Config, Topology},
    connection::{Control, Dialer, Socket},
    error::may_be_elsewhere,
    writer::FIRST_PAUSE,
};

/// Where a message has to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// To the server or the master; in a cluster to any node, which tells the others.
    Anywhere,
    /// To this node of a cluster.
    Node(Address),
}

/// A cluster's map is asked for at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// The servers, and how they are reached.
#[derive(Debug)]
pub(crate) struct Servers {
    topology: Topology,
    /// As configured.
    addresses: Vec<Address>,
    dialer: Dialer,
    sentinels: Option<Dialer>,
    slots: RwLock<Arc<SlotMap>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    controls: Mutex<HashMap<Place, Control>>,
}

impl Servers {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let sentinels = match config.server.topology {
            Topology::Sentinel { .. } => Some(Dialer::to_sentinels(config)?),
            Topology::Standalone | Topology::Cluster => None,
        };
        Ok(Self {
            topology: config.server.topology.clone(),
            addresses: config.server.addresses.clone(),
            dialer: Dialer::new(config)?,
            sentinels,
            slots: RwLock::default(),
            refreshed: tokio::sync::Mutex::new(None),
            controls: Mutex::default(),
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.topology == Topology::Cluster
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.dialer.response_timeout()
    }

    // --- places ---

    /// Where a key or shard channel is served, as far as is known.
    pub(crate) fn place_of(&self, slot: u16) -> Place {
        if !self.is_cluster() {
            return Place::Anywhere;
        }
        self.slots().owner(slot).cloned().map_or(Place::Anywhere, Place::Node)
    }

    /// Places that together see all subscribers.
    pub(crate) fn all_places(&self) -> Vec<Place> {
        let masters = if self.is_cluster() { self.slots().masters() } else { Vec::new() };
        if masters.is_empty() { vec![Place::Anywhere] } else { masters.into_iter().map(Place::Node).collect() }
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
        let mut last = None;
        for address in self.known_nodes() {
            match self.ask_for_slots(&address).await {
                Ok(map) => {
                    *self.slots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
                    *refreshed = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Disconnected, "no node of the cluster is known")))
    }

    /// The masters of the last map, and the nodes that were configured.
    fn known_nodes(&self) -> Vec<Address> {
        let mut nodes = self.slots().masters();
        nodes.extend(self.addresses.iter().filter(|address| !nodes.contains(address)).cloned().collect::<Vec<_>>());
        nodes
    }

    async fn ask_for_slots(&self, address: &Address) -> Result<SlotMap> {
        let control = self.control_of(&Place::Node(address.clone())).await?;
        let mut command = redis::cmd("CLUSTER");
        let answer: Value = control.run(command.arg("SLOTS"), self.response_timeout()).await?;
        SlotMap::parse(&answer, address).ok_or_else(|| {
            Error::new(ErrorKind::Broker, format!("{address}: the answer to CLUSTER SLOTS was not understood"))
        })
    }

    // --- connections ---

    /// Opens a bare connection.
    pub(crate) async fn open(&self, place: &Place, role: &str) -> Result<(Address, Socket)> {
        let mut last = None;
        for address in self.locate(place).await? {
            match self.dialer.open(&address, role).await {
                Ok(socket) => return Ok((address, socket)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Disconnected, "no server is known")))
    }

    /// The addresses to try for a place.
    async fn locate(&self, place: &Place) -> Result<Vec<Address>> {
        match (place, &self.topology) {
            (Place::Node(address), _) => Ok(vec![address.clone()]),
            (Place::Anywhere, Topology::Standalone) => Ok(self.addresses.clone()),
            (Place::Anywhere, Topology::Cluster) => Ok(self.known_nodes()),
            (Place::Anywhere, Topology::Sentinel { service, .. }) => Ok(vec![self.master(service).await?]),
        }
    }

    /// Asks one sentinel after the other.
    async fn master(&self, service: &str) -> Result<Address> {
        let mut last = None;
        for address in &self.addresses {
            match self.ask_sentinel(address, service).await {
                Ok(master) => return Ok(master),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Disconnected, "no sentinel is known")))
    }

    async fn ask_sentinel(&self, address: &Address, service: &str) -> Result<Address> {
        let dialer = self.sentinels.as_ref().unwrap_or(&self.dialer);
        let sentinel = dialer.control(address).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let answer: Value = sentinel.run(&command, self.response_timeout()).await?;
        let master = <(String, u16)>::from_redis_value(answer).map_err(|_| {
            Error::new(ErrorKind::Disconnected, format!("sentinel {address} knows no master of the name {service:?}"))
        })?;
        Ok(Address::Tcp(master.0, master.1))
    }

    /// A connection for commands, to be shared.
    pub(crate) async fn control_of(&self, place: &Place) -> Result<Control> {
        if let Some(control) = self.controls().get(place).filter(|control| !control.is_gone()) {
            return Ok(control.clone());
        }
        let mut last = None;
        for address in self.locate(place).await? {
            match self.dialer.control(&address).await {
                Ok(control) => {
                    self.controls().insert(place.clone(), control.clone());
                    return Ok(control);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Disconnected, "no server is known")))
    }

    /// Runs a command as [`Servers::at`].
    pub(crate) async fn run_at<T: FromRedisValue>(&self, key: &[u8], command: &redis::Cmd) -> Result<T> {
        self.at(key, |control| async move { control.run(command, self.response_timeout()).await }).await
    }

    /// Runs commands where a key is served. In a cluster, until `response_timeout` is over, it follows the key: when its slot moves, and
    /// when its master is replaced. What broke off is run again, so it must bear that.
    pub(crate) async fn at<T, F>(&self, key: &[u8], run: impl Fn(Control) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (slot, late) = (slot_of(key), Instant::now() + self.response_timeout());
        let mut backoff = Backoff::new(FIRST_PAUSE, self.response_timeout());
        loop {
            let place = self.place_of(slot);
            let result = match self.control_of(&place).await {
                Ok(control) => run(control).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Err(error) if self.is_cluster() && may_be_elsewhere(&error) => error,
                result => return result,
            };
            tracing::debug!(%error, "the map of the cluster may be out of date");
            let refreshed = self.refresh().await;
            if Instant::now() >= late {
                return Err(error);
            }
            if refreshed.is_err() || self.place_of(slot) == place {
                sleep(backoff.next_pause()).await;
            }
        }
    }

    fn controls(&self) -> MutexGuard<'_, HashMap<Place, Control>> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connections for commands.
    pub(crate) fn close(&self) {
        self.controls().clear();
    }
}
