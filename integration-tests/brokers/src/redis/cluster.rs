//! Redis Cluster: three masters.

use crate::{
    broker::wait_until,
    error::{Error, Result},
    port::Port,
    redis::{Redis, RedisOptions},
};

/// First slot of each master, and the end of the slots.
const SLOTS: [u16; 4] = [0, 5_461, 10_923, 16_384];

/// A Redis Cluster of three masters, at first without replicas. When one is down the others keep serving their slots.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    replicas: Vec<Redis>,
    /// Cluster bus ports, reserved as long as the cluster lives.
    buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts the servers, and returns when all slots are served and every node knows it.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts the servers as [`RedisCluster::start`] does, with more arguments for each `redis-server`.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start_with(arguments: &[&str]) -> Result<Self> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (port, bus) = Port::reserve_with_bus()?;
            nodes.push(member().arguments(arguments).start_on(port).await?);
            buses.push(bus);
        }
        let cluster = Self { nodes, replicas: Vec::new(), buses };
        cluster.share_slots().await?;
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Adds a replica of a master, and returns when it replicates and every node knows it: it takes over when the
    /// master dies.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn add_replica(&mut self, master: usize) -> Result<&Redis> {
        let (port, bus) = Port::reserve_with_bus()?;
        let replica = member().arguments(&["--repl-diskless-sync-delay", "0"]).start_on(port).await?;
        let (id, me) = (self.nodes[master].cli(&["CLUSTER", "MYID"]).await?, replica.cli(&["CLUSTER", "MYID"]).await?);
        // It has to hear of its master first.
        wait_until("the replica", || async {
            introduce(&replica, &self.nodes).await?;
            replica.cli(&["CLUSTER", "REPLICATE", &id]).await.map(drop)
        })
        .await?;
        let nodes = self.nodes.iter().chain([&replica]);
        for node in nodes {
            wait_until("the replica", || async {
                introduce(node, [&replica]).await?;
                let peers = node.cli(&["CLUSTER", "NODES"]).await?;
                let line = peers.lines().find(|line| line.starts_with(&me)).unwrap_or_default().to_owned();
                if line.contains("slave") && line.contains("connected") && !line.contains("disconnected") {
                    return Ok(());
                }
                Err(Error::Failed { command: "CLUSTER NODES".into(), output: peers })
            })
            .await?;
        }
        wait_until("the replica", || async {
            let info = replica.cli(&["INFO", "replication"]).await?;
            if info.contains("master_link_status:up") {
                return Ok(());
            }
            Err(Error::Failed { command: "INFO replication".into(), output: info })
        })
        .await?;
        self.buses.push(bus);
        self.replicas.push(replica);
        Ok(&self.replicas[self.replicas.len() - 1])
    }

    /// Assigns the slots, with commands of Redis 6.2. The nodes have yet to meet, see [`RedisCluster::ready`].
    async fn share_slots(&self) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            let slots: Vec<_> = (SLOTS[index]..SLOTS[index + 1]).map(|slot| slot.to_string()).collect();
            let command: Vec<_> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            node.cli(&command).await?;
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
        }
        Ok(())
    }

    /// Returns when every node runs and sees the others alive, and all slots are served. Introduces nodes that do not
    /// know each other.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn ready(&self) -> Result<()> {
        for node in &self.nodes {
            wait_until("the Redis cluster", || async {
                introduce(node, &self.nodes).await?;
                let info = node.cli(&["CLUSTER", "INFO"]).await?;
                let wanted = ["cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384"];
                let healthy = wanted.iter().all(|line| info.contains(line));
                let peers = node.cli(&["CLUSTER", "NODES"]).await?;
                if healthy && !peers.contains("fail") {
                    return Ok(());
                }
                Err(Error::Failed { command: "CLUSTER INFO".into(), output: format!("{info}\n{peers}") })
            })
            .await?;
        }
        Ok(())
    }

    /// URL of one node, from which clients find the others.
    #[must_use]
    pub fn url(&self) -> &str {
        self.nodes[0].url()
    }

    /// The masters, to be killed and restarted one by one.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Returns the node that owns a slot.
    ///
    /// # Errors
    /// If no node says so.
    pub async fn owner(&self, slot: u16) -> Result<&Redis> {
        for node in &self.nodes {
            let me = node.cli(&["CLUSTER", "MYID"]).await?;
            let peers = node.cli(&["CLUSTER", "NODES"]).await?;
            let own = peers.lines().find(|line| line.starts_with(&me)).unwrap_or_default();
            if own.split(' ').skip(8).any(|range| covers(range, slot)) {
                return Ok(node);
            }
        }
        Err(Error::Failed { command: "CLUSTER NODES".into(), output: format!("no node owns slot {slot}") })
    }

    /// Returns the slot of a key or channel.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn slot(&self, key: &str) -> Result<u16> {
        let printed = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).await?;
        printed.parse().map_err(|_| Error::Failed { command: "CLUSTER KEYSLOT".into(), output: printed })
    }

    /// Moves a slot with its keys to another node, as `redis-cli --cluster reshard` does.
    ///
    /// # Errors
    /// If a node refuses.
    pub async fn move_slot(&self, slot: u16, to: &Redis) -> Result<()> {
        let from = self.owner(slot).await?;
        let (source, target) = (from.cli(&["CLUSTER", "MYID"]).await?, to.cli(&["CLUSTER", "MYID"]).await?);
        let slot = slot.to_string();
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await?;
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await?;
        let port = to.port().to_string();
        loop {
            let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await?;
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.lines());
            from.cli(&migrate).await?;
        }
        // The new owner first, then the old one, then all others: the slot is served at every moment.
        let others = self.nodes.iter().filter(|node| node.port() != to.port() && node.port() != from.port());
        for node in [to, from].into_iter().chain(others) {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await?;
        }
        Ok(())
    }
}

/// Has a node meet the other nodes that it does not know. When a handshake takes too long, one side may forget the
/// other, which still believes that they know each other; then neither tries again.
async fn introduce(node: &Redis, others: impl IntoIterator<Item = &Redis>) -> Result<()> {
    let known = node.cli(&["CLUSTER", "NODES"]).await?;
    for other in others {
        let port = other.port().to_string();
        let address = format!(":{port}@");
        if !known.lines().any(|line| line.contains(&address) && !line.contains("handshake")) {
            node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]).await?;
        }
    }
    Ok(())
}

/// Options of one server of a cluster.
fn member() -> RedisOptions {
    Redis::options()
        .arguments(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"])
        .arguments(&["--cluster-node-timeout", "2000"])
        .arguments(&["--cluster-require-full-coverage", "no"])
}

/// Whether a slot range of CLUSTER NODES (`5461-10922`, `7`) contains the slot.
fn covers(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let bounds = (first.parse::<u16>(), last.parse::<u16>());
    matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}
