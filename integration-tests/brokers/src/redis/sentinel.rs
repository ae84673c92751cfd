//! Redis Sentinel: one master, one replica, one sentinel.

use std::{fs, sync::Arc};

use crate::{
    broker::{Broker, probe, wait_until},
    error::{Error, Result},
    port::Port,
    process::{Process, Recipe, folder},
    redis::{Cli, Redis, server_program},
};

/// Name of the monitored master.
const SERVICE: &str = "mymaster";

/// A Redis master with one replica, and a sentinel that promotes the replica when the master is gone for a second.
#[derive(Debug)]
pub struct RedisSentinel {
    sentinel: Sentinel,
    servers: [Redis; 2],
}

/// The sentinel process.
#[derive(Debug)]
struct Sentinel {
    broker: Broker,
    cli: Arc<Cli>,
}

impl RedisSentinel {
    /// Starts all three, and returns when the sentinel knows the replica and the replica replicates.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start() -> Result<Self> {
        let fast = ["--repl-diskless-sync-delay", "0"];
        let first = Redis::options().arguments(&fast).start().await?;
        let port = first.port().to_string();
        let second = Redis::options().arguments(&fast).arguments(&["--replicaof", "127.0.0.1", &port]).start().await?;
        wait_until("the replica", || async {
            contains(second.cli(&["INFO", "replication"]).await?, "master_link_status:up")
        })
        .await?;
        let sentinel = Sentinel::start(first.port()).await?;
        let replica = second.port().to_string();
        let knows = || async { contains(sentinel.cli.run(&["SENTINEL", "REPLICAS", SERVICE]).await?, &replica) };
        wait_until("the sentinel", knows).await?;
        Ok(Self { sentinel, servers: [first, second] })
    }

    /// Host and port of the sentinel.
    #[must_use]
    pub fn url(&self) -> &str {
        self.sentinel.broker.url()
    }

    /// Name of the monitored master.
    #[must_use]
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// The sentinel process.
    #[must_use]
    pub fn sentinel(&self) -> &Broker {
        &self.sentinel.broker
    }

    /// Both servers; the first one is the master at the start.
    #[must_use]
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// Returns the current master according to the sentinel.
    ///
    /// # Errors
    /// If it names neither of the two.
    pub async fn master(&self) -> Result<&Redis> {
        let printed = self.sentinel.cli.run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await?;
        let port = printed.lines().nth(1).and_then(|port| port.parse().ok());
        let master = self.servers.iter().find(|server| Some(server.port()) == port);
        master.ok_or_else(|| Error::Failed { command: "SENTINEL GET-MASTER-ADDR-BY-NAME".into(), output: printed })
    }

    /// Fails over in good order, and returns when the new master accepts writes.
    ///
    /// # Errors
    /// If the sentinel refuses or nothing happens.
    pub async fn failover(&self) -> Result<()> {
        let before = self.master().await?.port();
        // It refuses until it has heard from the replica a few times.
        let order = || async { self.sentinel.cli.run(&["SENTINEL", "FAILOVER", SERVICE]).await.map(drop) };
        wait_until("the sentinel", order).await?;
        self.new_master(before).await
    }

    /// Returns when another server than the one on `port` is master and accepts writes, which takes 3 s after a kill.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn new_master(&self, port: u16) -> Result<()> {
        wait_until("the new master", || async {
            let master = self.master().await?;
            if master.port() == port {
                return Err(Error::Failed {
                    command: "failover".into(),
                    output: "the old master is still named".into(),
                });
            }
            contains(master.cli(&["INFO", "replication"]).await?, "role:master")
        })
        .await
    }
}

impl Sentinel {
    async fn start(master: u16) -> Result<Self> {
        let server = server_program()?;
        let port = Port::reserve()?;
        let number = port.number();
        let folder = folder("sentinel", number)?;
        // It writes what it finds out back into this file.
        let file = folder.join("sentinel.conf");
        let settings = format!(
            "port {number}\nbind 127.0.0.1\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 3000\n\
             sentinel parallel-syncs {SERVICE} 1\n",
            folder.display()
        );
        fs::write(&file, settings).map_err(Error::io(format!("write {}", file.display())))?;
        let recipe = Recipe::new(server).args([file.as_os_str()]).args(["--sentinel", "--loglevel", "warning"]);
        let process = Process::new(format!("redis-sentinel on port {number}"), recipe, folder)?;
        let cli = Arc::new(Cli::new(number, None, None)?);
        let ready = probe(Arc::clone(&cli), |cli| async move { contains(cli.run(&["PING"]).await?, "PONG") });
        let broker = Broker::start(process, ready, format!("redis://127.0.0.1:{number}"), port).await?;
        Ok(Self { broker, cli })
    }
}

fn contains(answer: impl AsRef<str>, text: &str) -> Result<()> {
    let answer = answer.as_ref();
    if answer.contains(text) {
        return Ok(());
    }
    Err(Error::Failed { command: "redis-cli".into(), output: format!("{text} is not in: {answer}") })
}
