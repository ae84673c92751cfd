//! Fault injection: wrappers around any transport that lose, delay, reorder or repeat deliveries, as a seed decides.
//!
//! They show how a cluster behaves on a bad network, and that the suite notices broken promises.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_conformance::{Setup, faults};
//! use trunkline_core::memory::{self, MemoryConfig};
//!
//! let setup = Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) })
//!     .map(|backend| faults::slow(backend, 42, Duration::from_millis(5)));
//! ```

mod delay_queue;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_core::{
    Backend, Capabilities, Message, NodeId, NodeKey, Response, Result, Transport,
    model::Delivery,
    transport::{Health, Inbox, JoinRequest, Unfiltered, inbox},
};

/// A fault on the way from a transport to a node. Each node has a clone of its own.
pub trait Fault: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Whether delayed deliveries keep their order.
    const IN_ORDER: bool;

    /// Returns the copies of a message or answer that arrive, each with its delay; none if it is lost.
    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)>;
}

/// Fault that loses messages and answers.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Share of lost deliveries.
    pub percent: u8,
}

impl Fault for Loss {
    const IN_ORDER: bool = true;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        if random.u8(..100) < self.percent { Vec::new() } else { vec![(Duration::ZERO, delivery)] }
    }
}

/// Fault that delays all deliveries and keeps their order.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    /// Maximum delay.
    pub max: Duration,
}

impl Fault for Delay {
    const IN_ORDER: bool = true;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        vec![(self.max.mul_f64(random.f64()), delivery)]
    }
}

/// Fault that delays each message and answer by a time of its own, so that they overtake each other.
#[derive(Clone, Copy, Debug)]
pub struct Reorder {
    /// Maximum delay.
    pub max: Duration,
}

impl Fault for Reorder {
    const IN_ORDER: bool = false;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        vec![(self.max.mul_f64(random.f64()), delivery)]
    }
}

/// Fault that repeats numbered messages, as a connection does that is restored in the middle of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate {
    /// Share of repeated messages.
    pub percent: u8,
    /// Maximum delay of the repeat.
    pub max: Duration,
}

impl Fault for Duplicate {
    const IN_ORDER: bool = false;

    fn pass(&mut self, random: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        let is_numbered =
            matches!(delivery, Delivery::Message { seq_no: Some(_), .. } | Delivery::Skipped { seq_no: Some(_), .. });
        let mut copies = vec![(Duration::ZERO, delivery)];
        if is_numbered && random.u8(..100) < self.percent {
            copies.push((self.max.mul_f64(random.f64()), copies[0].1.clone()));
        }
        copies
    }
}

/// Transport that loses messages and answers.
pub type Lossy = Faulty<Loss>;
/// Transport that delays all deliveries and keeps their order.
pub type Slow = Faulty<Delay>;
/// Transport on which messages and answers overtake each other.
pub type Reordering = Faulty<Reorder>;
/// Transport that repeats numbered messages.
pub type Duplicating = Faulty<Duplicate>;

/// Wraps a backend so that it loses `percent` of all messages and answers.
#[must_use]
pub fn lossy(backend: Backend, seed: u64, percent: u8) -> Backend {
    Lossy::wrap(backend, seed, Loss { percent })
}

/// Wraps a backend so that it delays all deliveries by up to `max` and keeps their order.
#[must_use]
pub fn slow(backend: Backend, seed: u64, max: Duration) -> Backend {
    Slow::wrap(backend, seed, Delay { max })
}

/// Wraps a backend so that it delays messages and answers by up to `max`, each by a time of its own.
#[must_use]
pub fn reordering(backend: Backend, seed: u64, max: Duration) -> Backend {
    Reordering::wrap(backend, seed, Reorder { max })
}

/// Wraps a backend so that it repeats `percent` of all numbered messages, up to 5 ms later.
#[must_use]
pub fn duplicating(backend: Backend, seed: u64, percent: u8) -> Backend {
    Duplicating::wrap(backend, seed, Duplicate { percent, max: Duration::from_millis(5) })
}

/// A transport with a [`Fault`] on the way to its nodes.
#[derive(Debug)]
pub struct Faulty<F> {
    transport: Arc<dyn Transport>,
    fault: F,
    seed: u64,
    tasks: TaskTracker,
    /// Ends the forwarding task of each node.
    forwarders: Mutex<HashMap<NodeKey, CancellationToken>>,
}

impl<F: Fault> Faulty<F> {
    /// Wraps a transport. The same seed decides the same about the same deliveries.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, seed: u64, fault: F) -> Self {
        Self { transport, fault, seed, tasks: TaskTracker::new(), forwarders: Mutex::default() }
    }

    /// Wraps the transport of a backend.
    #[must_use]
    pub fn wrap(mut backend: Backend, seed: u64, fault: F) -> Backend {
        backend.transport = Arc::new(Self::new(backend.transport, seed, fault));
        backend
    }

    fn forwarders(&self) -> MutexGuard<'_, HashMap<NodeKey, CancellationToken>> {
        self.forwarders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: Fault> Transport for Faulty<F> {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let node = request.node.clone();
        let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        // Unfiltered: a join may still be delayed when a broadcast to its room arrives.
        let request = request.with_room_filter(Arc::new(Unfiltered));
        let arriving = self.transport.join(request).await?;
        let forwarding = delay_queue::forward(arriving, sender, self.fault.clone(), Rng::with_seed(self.seed));
        let ending = CancellationToken::new();
        self.tasks.spawn(ending.clone().run_until_cancelled_owned(forwarding));
        if let Some(replaced) = self.forwarders().insert(node, ending) {
            replaced.cancel();
        }
        Ok(receiver)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        self.transport.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.transport.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.transport.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let result = self.transport.leave(node).await;
        if let Some(ending) = self.forwarders().remove(node) {
            ending.cancel();
        }
        result
    }

    async fn flush(&self) -> Result<()> {
        self.transport.flush().await
    }

    fn health(&self) -> Health {
        self.transport.health()
    }

    async fn close(&self) {
        self.transport.close().await;
        self.forwarders().drain().for_each(|(_, ending)| ending.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }
}
