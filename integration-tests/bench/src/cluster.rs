//! Two servers, each a process, with clients each; a handler of the first works. Possibly further servers without clients.

use std::{process::Stdio, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    Failure,
    broker::MeasuredBroker,
    client::{Client, Done, Received, join_all},
    load::{Call, Load},
    process,
    subject::{Programs, Subject},
};

/// One measurement. The first server is the sender, where the handler works; the second is the receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// By the receiver's clients; for calls that gather answers, those answers.
    pub(crate) remote: Received,
    /// By the sender's own clients.
    pub(crate) local: Received,
    /// Per second since the handler was called: deliveries to the receiver's clients, calls, or acknowledgements.
    pub(crate) rate: f64,
    pub(crate) refused: u64,
    /// In microseconds of processor time per one of what is counted.
    pub(crate) cpu: Cpu<f64>,
    /// Most memory that the sender ever had, in MiB.
    pub(crate) sender_memory: f64,
}

/// The processor time of each part.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cpu<T> {
    pub(crate) sender: T,
    pub(crate) receiver: T,
    pub(crate) broker: T,
    /// The mean of the servers without clients.
    pub(crate) bystander: T,
}

impl Outcome {
    /// Of all clients, in nanoseconds.
    pub(crate) fn latencies(&self) -> Vec<u64> {
        [&self.remote, &self.local].into_iter().flat_map(|received| &received.latencies).copied().collect()
    }
}

pub(crate) struct Cluster {
    sender: Server,
    receiver: Server,
    bystanders: Vec<Server>,
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
        load: Load,
    ) -> Result<Self, Failure> {
        let start = || Server::start(subject, broker.url(), programs);
        let (sender, receiver) = (start().await?, start().await?);
        let mut bystanders = Vec::with_capacity(load.bystanders);
        for _ in 0..load.bystanders {
            bystanders.push(start().await?);
        }
        let caller = Client::connect(sender.port).await?;
        let local = join_all(sender.port, load.own_clients).await?;
        let remote = join_all(receiver.port, load.clients).await?;
        let mut cluster = Self { sender, receiver, bystanders, caller, local, remote };
        for _ in 0..ATTEMPTS {
            if cluster.is_connected().await? {
                return Ok(cluster);
            }
        }
        Err(format!("{}: what one server emits does not arrive at the other", subject.name).into())
    }

    async fn is_connected(&mut self) -> Result<bool, Failure> {
        self.caller.call(Load::NOTHING).await?;
        for client in [self.local.first_mut(), self.remote.first_mut()].into_iter().flatten() {
            if !client.receives_end(ARRIVAL).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Measures once, and ends all servers.
    pub(crate) async fn measure(mut self, load: Load, broker: Option<u32>) -> Result<Outcome, Failure> {
        let processes = self.processes(broker);
        let before = processes.used();
        let clients = [self.local, self.remote];
        let worked = match load.call {
            Call::Emit => emit(&mut self.caller, clients, load).await,
            Call::FetchSockets | Call::EmitWithAck => gather(&mut self.caller, clients, load).await,
        };
        let used = processes.used().since(before);
        let sender_memory = processes.sender.map_or(0.0, process::peak_memory);
        for server in [self.sender, self.receiver].into_iter().chain(self.bystanders) {
            server.stop().await;
        }
        let Worked { done, counted, ended, local, remote } = worked?;
        Ok(Outcome {
            rate: counted as f64 * 1e9 / ended.saturating_sub(done.began).max(1) as f64,
            refused: done.refused,
            cpu: used.per(counted),
            sender_memory,
            local,
            remote,
        })
    }

    fn processes(&self, broker: Option<u32>) -> Processes {
        Processes {
            sender: self.sender.child.id(),
            receiver: self.receiver.child.id(),
            broker,
            bystanders: self.bystanders.iter().filter_map(|server| server.child.id()).collect(),
        }
    }
}

/// What a handler's work has led to.
struct Worked {
    done: Done,
    /// Deliveries to the receiver's clients, calls, or acknowledgements.
    counted: u64,
    /// When the last of them was there, in nanoseconds of the monotonic clock.
    ended: u64,
    local: Received,
    remote: Received,
}

/// Until all clients have received.
async fn emit(caller: &mut Client, clients: [Vec<Client>; 2], load: Load) -> Result<Worked, Failure> {
    // In a task for each client: none waits until another has received.
    let [local, remote] = clients.map(|clients| {
        clients.into_iter().map(|client| tokio::spawn(client.receive(load.messages))).collect::<Vec<_>>()
    });
    let done = caller.call(load).await;
    let (local, remote) = (received(local).await?, received(remote).await?);
    Ok(Worked { done: done?, counted: remote.events, ended: remote.last, local, remote })
}

async fn received(receiving: Vec<JoinHandle<Result<Received, Failure>>>) -> Result<Received, Failure> {
    let mut received = Vec::with_capacity(receiving.len());
    for client in receiving {
        received.push(client.await??);
    }
    Ok(Received::merged(received))
}

/// Until the handler has all answers.
async fn gather(caller: &mut Client, clients: [Vec<Client>; 2], load: Load) -> Result<Worked, Failure> {
    // They end when this is dropped.
    let mut serving = JoinSet::new();
    for client in clients.into_iter().flatten() {
        serving.spawn(client.serve());
    }
    let done = caller.call(load).await?;
    let counted = match load.call {
        Call::FetchSockets => load.messages - done.refused,
        _ => done.answers,
    };
    let remote = Received { expected: load.answers(), events: done.answers, ..Received::default() };
    Ok(Worked { done, counted, ended: done.ended, local: Received::default(), remote })
}

/// Their ids.
struct Processes {
    sender: Option<u32>,
    receiver: Option<u32>,
    broker: Option<u32>,
    bystanders: Vec<u32>,
}

impl Processes {
    fn used(&self) -> Cpu<Duration> {
        let used = |process: Option<u32>| process.map(process::used).unwrap_or_default();
        let threads = self.bystanders.iter().map(|process| process::used_by_threads(*process)).sum::<Duration>();
        Cpu {
            sender: used(self.sender),
            receiver: used(self.receiver),
            broker: used(self.broker),
            bystander: threads / u32::try_from(self.bystanders.len().max(1)).unwrap_or(1),
        }
    }
}

impl Cpu<Duration> {
    fn since(self, before: Self) -> Self {
        Self {
            sender: self.sender.saturating_sub(before.sender),
            receiver: self.receiver.saturating_sub(before.receiver),
            broker: self.broker.saturating_sub(before.broker),
            bystander: self.bystander.saturating_sub(before.bystander),
        }
    }

    /// In microseconds.
    fn per(self, counted: u64) -> Cpu<f64> {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / counted.max(1) as f64;
        Cpu {
            sender: per(self.sender),
            receiver: per(self.receiver),
            broker: per(self.broker),
            bystander: per(self.bystander),
        }
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
