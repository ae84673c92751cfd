//! Transports with faults: wrappers around any transport that lose, delay, reorder or repeat what arrives, by decisions that a seed
//! fixes.
//!
//! They show what a cluster does on a bad network, and that the suite notices what it claims to notice.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_conformance::{Setup, faults};
//! use trunkline_core::memory::{self, MemoryConfig};
//!
//! let setup = Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) })
//!     .map(|backend| faults::slow(backend, 42, Duration::from_millis(5)));
//! ```

mod line;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use tokio::task::JoinHandle;
use trunkline_core::{
    Backend, Capabilities, Message, NodeId, NodeKey, Response, Result, Transport,
    model::Delivery,
    transport::{Health, Inbox, JoinRequest, Unfiltered, inbox},
};

/// What goes wrong on the way to a node. Every node gets a clone.
pub trait Fault: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Whether what is delayed stays in order all the same.
    const IN_ORDER: bool;

    /// Decides what becomes of a message or answer: the copies that arrive, each with its delay. None, and it is lost.
    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)>;
}

/// Loses messages and answers.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// How many of a hundred.
    pub percent: u8,
}

impl Fault for Loss {
    const IN_ORDER: bool = true;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        if random.u8(..100) < self.percent { Vec::new() } else { vec![(Duration::ZERO, delivery)] }
    }
}

/// Delays everything, in order.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    /// How long at most.
    pub most: Duration,
}

impl Fault for Delay {
    const IN_ORDER: bool = true;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        vec![(self.most.mul_f64(random.f64()), delivery)]
    }
}

/// Delays messages and answers each by its own time, so that they overtake each other.
#[derive(Clone, Copy, Debug)]
pub struct Reorder {
    /// How long at most.
    pub most: Duration,
}

impl Fault for Reorder {
    const IN_ORDER: bool = false;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        vec![(self.most.mul_f64(random.f64()), delivery)]
    }
}

/// Repeats numbered messages, at once or later, as a connection does that is restored in the middle of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate {
    /// How many of a hundred.
    pub percent: u8,
    /// How much later at most.
    pub most: Duration,
}

impl Fault for Duplicate {
    const IN_ORDER: bool = false;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        let is_numbered =
            matches!(delivery, Delivery::Message { seq_no: Some(_), .. } | Delivery::Skipped { seq_no: Some(_), .. });
        let mut copies = vec![(Duration::ZERO, delivery)];
        if is_numbered && random.u8(..100) < self.percent {
            copies.push((self.most.mul_f64(random.f64()), copies[0].1.clone()));
        }
        copies
    }
}

/// Loses messages and answers.
pub type Lossy = Faulty<Loss>;
/// Delays everything, in order.
pub type Slow = Faulty<Delay>;
/// Lets messages and answers overtake each other.
pub type Reordering = Faulty<Reorder>;
/// Repeats numbered messages.
pub type Duplicating = Faulty<Duplicate>;

/// Loses so many of a hundred messages and answers.
#[must_use]
pub fn lossy(backend: Backend, seed: u64, percent: u8) -> Backend {
    Lossy::around(backend, seed, Loss { percent })
}

/// Delays everything by up to `most`, in order.
#[must_use]
pub fn slow(backend: Backend, seed: u64, most: Duration) -> Backend {
    Slow::around(backend, seed, Delay { most })
}

/// Delays messages and answers by up to `most`, each by its own time.
#[must_use]
pub fn reordering(backend: Backend, seed: u64, most: Duration) -> Backend {
    Reordering::around(backend, seed, Reorder { most })
}

/// Repeats so many of a hundred numbered messages, up to 5 ms later.
#[must_use]
pub fn duplicating(backend: Backend, seed: u64, percent: u8) -> Backend {
    Duplicating::around(backend, seed, Duplicate { percent, most: Duration::from_millis(5) })
}

/// A transport with a fault on the way to its nodes.
#[derive(Debug)]
pub struct Faulty<F> {
    transport: Arc<dyn Transport>,
    fault: F,
    seed: u64,
    lines: Mutex<HashMap<NodeKey, JoinHandle<()>>>,
}

impl<F: Fault> Faulty<F> {
    /// Wraps a transport. The same seed leads to the same decisions about the same deliveries.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, seed: u64, fault: F) -> Self {
        Self { transport, fault, seed, lines: Mutex::default() }
    }

    /// Wraps the transport of a backend.
    #[must_use]
    pub fn around(backend: Backend, seed: u64, fault: F) -> Backend {
        Backend { transport: Arc::new(Self::new(backend.transport, seed, fault)), ..backend }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<NodeKey, JoinHandle<()>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: Fault> Transport for Faulty<F> {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let node = seat.node.clone();
        let (sender, receiver) = inbox(seat.limits, Arc::clone(&seat.metrics));
        // A join may be under way still, so nothing is dropped by what is wanted before it.
        let seat = JoinRequest { room_filter: Arc::new(Unfiltered), ..seat };
        let arriving = self.transport.join(seat).await?;
        let line = line::run(arriving, sender, self.fault.clone(), Rng::with_seed(self.seed));
        let line = tokio::spawn(line);
        if let Some(old) = self.lines().insert(node, line) {
            old.abort();
        }
        Ok(receiver)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.transport.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        self.transport.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let result = self.transport.leave(node).await;
        let line = self.lines().remove(node);
        end(line).await;
        result
    }

    fn health(&self) -> Health {
        self.transport.health()
    }

    async fn close(&self) {
        self.transport.close().await;
        let lines: Vec<_> = self.lines().drain().map(|(_, line)| line).collect();
        end(lines).await;
    }
}

/// Ends the tasks, and waits until they have ended.
async fn end(lines: impl IntoIterator<Item = JoinHandle<()>>) {
    for line in lines {
        line.abort();
        // The error says that it was aborted.
        let _ = line.await;
    }
}
