//! Two servers, each a process, with clients each; a handler of the first emits to the room of all clients.

use std::{future::Future, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Failure,
    broker::MeasuredBroker,
    client::{Client, Received, join_all},
    cpu,
    load::Load,
    subject::{Programs, Subject},
};

/// One measurement. The first server is the sender, where the emitting handler runs; the second is the receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// By the receiver's clients.
    pub(crate) remote: Received,
    /// By the sender's own clients.
    pub(crate) local: Received,
    /// Delivered to the receiver's clients, per second since the handler was called.
    pub(crate) rate: f64,
    pub(crate) refused: u64,
    /// In microseconds of processor time per message that one of the receiver's clients received.
    pub(crate) cpu: Cpu<f64>,
}

/// The processor time of each part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu<T> {
    pub(crate) sender: T,
    pub(crate) receiver: T,
    pub(crate) broker: T,
}

impl Outcome {
    /// Of all clients, in nanoseconds.
    pub(crate) fn latencies(&self) -> Vec<u64> {
        [&self.remote, &self.local].into_iter().flat_map(|received| &received.latencies).copied().collect()
    }

    /// Whether each client received everything once and in order, and nothing was refused.
    pub(crate) fn is_complete(&self) -> bool {
        let faults = |received: &Received| received.lost() + received.out_of_order + received.repeated;
        faults(&self.remote) + faults(&self.local) + self.refused == 0
    }
}

pub(crate) struct Cluster {
    sender: Server,
    receiver: Server,
    /// Connected to the sender, and not in the room.
    caller: Client,
    local: Vec<Client>,
    remote: Vec<Client>,
}

impl Cluster {
    /// Returns when what the sender emits arrives at the receiver's clients.
    pub(crate) async fn start(
        subject: &Subject,
        broker: &MeasuredBroker,
        programs: &Programs,
        clients: usize,
    ) -> Result<Self, Failure> {
        let start = || Server::start(subject, broker.url(), programs);
        let (sender, receiver) = (start().await?, start().await?);
        let caller = Client::connect(sender.port).await?;
        let local = join_all(sender.port, clients).await?;
        let remote = join_all(receiver.port, clients).await?;
        let mut cluster = Self { sender, receiver, caller, local, remote };
        for _ in 0..ATTEMPTS {
            if cluster.is_connected().await? {
                return Ok(cluster);
            }
        }
        Err(format!("{}: what one server emits does not arrive at the other", subject.name).into())
    }

    async fn is_connected(&mut self) -> Result<bool, Failure> {
        self.caller.go(Load { messages: 0, bytes: 0, rate: 0, clients: 0 }).await?;
        let [Some(local), Some(remote)] = [self.local.first_mut(), self.remote.first_mut()] else {
            return Err("no clients".into());
        };
        Ok(local.receives_end(ARRIVAL).await? && remote.receives_end(ARRIVAL).await?)
    }

    /// Measures once, and ends both servers.
    pub(crate) async fn measure(mut self, load: Load, broker: Option<u32>) -> Result<Outcome, Failure> {
        let processes = Cpu { sender: self.sender.child.id(), receiver: self.receiver.child.id(), broker };
        let before = processes.used();
        let [local, remote] = [self.local, self.remote].map(|clients| receive_all(clients, load));
        let emitted = self.caller.go(load).await;
        let (local, remote) = (local.await, remote.await);
        let used = processes.used().since(before);
        self.sender.stop().await;
        self.receiver.stop().await;
        let (emitted, local, remote) = (emitted?, local?, remote?);
        let nanoseconds = remote.last.saturating_sub(emitted.began).max(1);
        Ok(Outcome {
            rate: remote.events as f64 * 1e9 / nanoseconds as f64,
            refused: emitted.refused,
            cpu: used.per(remote.events),
            local,
            remote,
        })
    }
}

/// In a task for each client: none waits until another has received.
fn receive_all(clients: Vec<Client>, load: Load) -> impl Future<Output = Result<Received, Failure>> {
    let receiving: Vec<JoinHandle<_>> =
        clients.into_iter().map(|client| tokio::spawn(client.receive(load.messages))).collect();
    async {
        let mut received = Vec::with_capacity(receiving.len());
        for client in receiving {
            received.push(client.await??);
        }
        Ok(Received::merged(received))
    }
}

impl Cpu<Option<u32>> {
    fn used(self) -> Cpu<Duration> {
        let used = |process: Option<u32>| process.map(cpu::used).unwrap_or_default();
        Cpu { sender: used(self.sender), receiver: used(self.receiver), broker: used(self.broker) }
    }
}

impl Cpu<Duration> {
    fn since(self, before: Self) -> Self {
        Self {
            sender: self.sender.saturating_sub(before.sender),
            receiver: self.receiver.saturating_sub(before.receiver),
            broker: self.broker.saturating_sub(before.broker),
        }
    }

    /// In microseconds.
    fn per(self, messages: u64) -> Cpu<f64> {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / messages.max(1) as f64;
        Cpu { sender: per(self.sender), receiver: per(self.receiver), broker: per(self.broker) }
    }
}

struct Server {
    child: Child,
    /// It ends when this is closed.
    stdin: ChildStdin,
    port: u16,
}

impl Server {
    async fn start(subject: &Subject, broker: &str, programs: &Programs) -> Result<Self, Failure> {
        let mut command = subject.command(broker, programs);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a server without pipes".into());
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START, lines.next_line()).await.map_err(|_| "a server did not start in time")??;
        let line = line.ok_or("a server has ended instead of serving")?;
        let port =
            line.strip_prefix("ready ").ok_or_else(|| format!("a server said '{line}' instead of 'ready PORT'"))?;
        Ok(Self { child, stdin, port: port.parse()? })
    }

    async fn stop(mut self) {
        drop(self.stdin);
        if timeout(STOP, self.child.wait()).await.is_err() {
            // It goes on without its standard input: no process may stay.
            let _ = self.child.kill().await;
        }
    }
}

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);
const ARRIVAL: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 20;
