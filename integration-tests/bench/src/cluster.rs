//! Two servers, each a process, with a client each; the first emits, the client of the second counts.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{
    Failure,
    client::{Client, Seen},
    cpu,
    subject::{Programs, Subject},
};

/// What is emitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    /// Length of an event's argument list as JSON.
    pub(crate) bytes: usize,
    /// Events per second; 0 is as fast as the emit call lets one caller.
    pub(crate) rate: u64,
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// By the client of the other server.
    pub(crate) seen: Seen,
    /// By the client of the server that emits.
    pub(crate) near: Seen,
    /// Delivered at the other server's client, per second since the first emit call.
    pub(crate) rate: f64,
    pub(crate) refused: u64,
    /// Processor time of both servers, of the broker, in microseconds per message.
    pub(crate) servers_cpu: f64,
    pub(crate) broker_cpu: f64,
}

impl Outcome {
    /// Of both clients, in nanoseconds.
    pub(crate) fn latencies(&self) -> Vec<u64> {
        [&self.seen, &self.near].into_iter().flat_map(|seen| &seen.latencies).copied().collect()
    }
}

pub(crate) struct Cluster {
    servers: [Server; 2],
    clients: [Client; 2],
}

struct Server {
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Cluster {
    /// Returns when what the first server emits arrives at the second one's client.
    pub(crate) async fn start(subject: &Subject, broker: &str, programs: &Programs) -> Result<Self, Failure> {
        let servers =
            [Server::start(subject, broker, programs).await?, Server::start(subject, broker, programs).await?];
        let clients = [Client::connect(servers[0].port).await?, Client::connect(servers[1].port).await?];
        let mut cluster = Self { servers, clients };
        for _ in 0..ATTEMPTS {
            cluster.servers[0].emit(Load { messages: 0, bytes: 0, rate: 0 }).await?;
            let [near, far] = &mut cluster.clients;
            if near.hears_end(ANSWER).await? && far.hears_end(ANSWER).await? {
                return Ok(cluster);
            }
        }
        Err(format!("{}: the two servers do not hear each other", subject.name).into())
    }

    /// Measures once, and ends both servers, which end with their standard input.
    pub(crate) async fn measure(mut self, load: Load, broker: Option<u32>) -> Result<Outcome, Failure> {
        let used = |servers: &[Server; 2]| {
            let both = servers.iter().filter_map(|server| server.child.id()).map(cpu::used).sum::<Duration>();
            (both, broker.map(cpu::used).unwrap_or_default())
        };
        let before = used(&self.servers);
        // Tasks of their own: one client does not wait until the other has been looked after.
        let [near, far] = self.clients.map(|client| tokio::spawn(client.listen(load.messages)));
        let emitted = self.servers[0].emit(load).await;
        let (near, seen) = (near.await?, far.await?);
        let after = used(&self.servers);
        for server in self.servers {
            server.stop().await;
        }
        let (emitted, near, seen) = (emitted?, near?, seen?);
        let per_message = |time: Duration| time.as_secs_f64() * 1e6 / seen.received.max(1) as f64;
        Ok(Outcome {
            rate: seen.received as f64 * 1e9 / seen.last.saturating_sub(emitted.began).max(1) as f64,
            refused: emitted.refused,
            servers_cpu: per_message(after.0 - before.0),
            broker_cpu: per_message(after.1 - before.1),
            seen,
            near,
        })
    }
}

struct Emitted {
    began: u64,
    refused: u64,
}

impl Server {
    async fn start(subject: &Subject, broker: &str, programs: &Programs) -> Result<Self, Failure> {
        let mut command = subject.command(broker, programs);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a server without pipes".into());
        };
        let mut server = Self { child, orders, lines: BufReader::new(stdout).lines(), port: 0 };
        let [port] = server.answer("ready", START).await?;
        server.port = u16::try_from(port)?;
        Ok(server)
    }

    async fn emit(&mut self, load: Load) -> Result<Emitted, Failure> {
        let order = format!("emit {} {} {}\n", load.messages, load.bytes, load.rate);
        self.orders.write_all(order.as_bytes()).await?;
        let [began, _, refused] = self.answer("emitted", EMITTING).await?;
        Ok(Emitted { began, refused })
    }

    /// The next line, which has to be `word` and `N` numbers.
    async fn answer<const N: usize>(&mut self, word: &str, limit: Duration) -> Result<[u64; N], Failure> {
        let line =
            timeout(limit, self.lines.next_line()).await.map_err(|_| format!("no '{word}' after {limit:?}"))??;
        let line = line.ok_or_else(|| format!("a server has ended instead of saying '{word}'"))?;
        let numbers = line
            .strip_prefix(word)
            .map(|rest| rest.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>());
        numbers
            .and_then(|numbers| numbers.ok()?.try_into().ok())
            .ok_or_else(|| format!("a server said '{line}' instead of '{word}'").into())
    }

    async fn stop(mut self) {
        drop(self.orders);
        if timeout(STOP, self.child.wait()).await.is_err() {
            // It has lost its standard input and goes on: nothing of it may stay.
            let _ = self.child.kill().await;
        }
    }
}

const START: Duration = Duration::from_secs(30);
const EMITTING: Duration = Duration::from_secs(300);
const STOP: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 20;
