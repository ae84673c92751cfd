//! Wrappers of the memory backend: joins that wait or fail, and room interest.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, Message, NodeId, Response, Result, Room, Transport,
    model::NodeKey,
    transport::{Health, Inbox, JoinRequest, RoomInterest},
};

/// A transport whose joins wait until the test lets them through, as with a slow broker.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Arc<dyn Transport>,
    open: Semaphore,
    queue: watch::Sender<usize>,
    refusal: Mutex<Option<&'static str>>,
    /// Told in place of the real one, if there is one.
    health: Arc<Mutex<Option<Health>>>,
}

impl Gate {
    /// `free` nodes may join at once.
    pub(crate) fn around(mut backend: Backend, free: usize) -> (Backend, Arc<Self>) {
        let gate = Arc::new(Self {
            inner: Arc::clone(&backend.transport),
            open: Semaphore::new(free),
            queue: watch::Sender::new(0),
            refusal: Mutex::new(None),
            health: Arc::default(),
        });
        backend.transport = Arc::clone(&gate) as Arc<dyn Transport>;
        (backend, gate)
    }

    /// Where a test sets the health to tell.
    pub(crate) fn health_to_tell(&self) -> Arc<Mutex<Option<Health>>> {
        Arc::clone(&self.health)
    }

    pub(crate) fn let_in(&self, nodes: usize) {
        self.open.add_permits(nodes);
    }

    /// Waits until this many joins are waiting.
    pub(crate) async fn await_queue(&self, nodes: usize) {
        self.queue.subscribe().wait_for(|queue| *queue >= nodes).await.unwrap();
    }

    /// Refuses all joins from now on with this reason.
    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.refusal.lock().unwrap() = Some(reason);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Transport for Gate {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        if let Some(reason) = *self.refusal.lock().unwrap() {
            return Err(Error::new(ErrorKind::Broker, reason));
        }
        self.queue.send_modify(|queue| *queue += 1);
        self.open.acquire().await.unwrap().forget();
        self.queue.send_modify(|queue| *queue -= 1);
        self.inner.join(request).await
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        self.inner.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.inner.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.inner.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.inner.leave(node).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone().unwrap_or_else(|| self.inner.health())
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Records which rooms are reported to the broker.
#[derive(Debug, Default)]
pub(crate) struct Interests(Mutex<Vec<(bool, Room)>>);

impl Interests {
    pub(crate) fn around(backend: Backend) -> (Backend, Arc<Self>) {
        let interests = Arc::new(Self::default());
        (backend.with_interest(Arc::clone(&interests) as Arc<dyn RoomInterest>), interests)
    }

    /// The rooms that were reported as created and not as deleted since.
    pub(crate) fn present(&self) -> Vec<Room> {
        let mut present = Vec::new();
        for (entered, room) in self.0.lock().unwrap().iter() {
            present.retain(|other| other != room);
            if *entered {
                present.push(room.clone());
            }
        }
        present.sort();
        present
    }
}

#[async_trait]
impl RoomInterest for Interests {
    fn buckets(&self) -> Option<u16> {
        None
    }

    fn subscriptions(&self, _: &NodeKey) -> usize {
        self.present().len()
    }

    fn is_active(&self, _: &NodeKey, room: &Room) -> bool {
        self.present().contains(room)
    }

    async fn room_created(&self, _: &NodeKey, room: &Room) -> Result<()> {
        self.0.lock().unwrap().push((true, room.clone()));
        Ok(())
    }

    async fn room_deleted(&self, _: &NodeKey, room: &Room) -> Result<()> {
        self.0.lock().unwrap().push((false, room.clone()));
        Ok(())
    }
}
