//! The transport over RabbitMQ.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::timeout;
use trunkline_backend::{
    decoder::{BatchDecoder, InboundDecoder},
    rooms::{Interest, subscriptions},
};
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result, Room,
    Transport,
    transport::{Health, History, Inbox, JoinRequest, RoomInterest, inbox},
};

use crate::{
    config::Config,
    connection::Connector,
    history::{Follower, Recovery},
    keeper::Keeper,
    place::Place,
    publish,
    reader::Reader,
    shared::Shared,
    tls::client_config,
    writer::Writer,
};

/// Connects to one of the brokers.
///
/// The connection is shared by all namespaces. Once it stands it is kept: after a loss it is restored with jittered exponential back-off,
/// on any broker of the cluster.
///
/// # Errors
/// `Config` for settings or credentials that cannot work, `Disconnected` if no broker can be reached, `Broker` if it refuses.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let tls = client_config(&config.tls)?;
    let shared = Arc::new(Shared::new(Connector::new(config, tls)));
    let keeper = Keeper::new(Arc::clone(&shared));
    let connection = keeper.connect().await?;
    keeper.install(&connection).await;
    shared.tasks.spawn(Writer::new(Arc::clone(&shared)).run());
    shared.tasks.spawn(keeper.run(connection));
    let history = shared.connector.config.history;
    let history = history.map(|history| Arc::new(Recovery::new(Arc::clone(&shared), history.session_ttl)));
    let transport = Arc::new(RabbitMqTransport { shared });
    Ok(Backend {
        // Every node reads the whole history, so rooms need not be made known.
        interest: history.is_none().then(|| Arc::clone(&transport) as Arc<dyn RoomInterest>),
        history: history.map(|history| history as Arc<dyn History>),
        transport,
        node_counter: None,
        ids: IdScheme::Hex16,
    })
}

/// The handle; the work is done by the tasks that it shares its state with.
#[derive(Debug)]
struct RabbitMqTransport {
    shared: Arc<Shared>,
}

#[async_trait]
impl Transport for RabbitMqTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: !self.shared.has_history(),
            history: self.shared.has_history(),
            max_message_bytes: Some(self.shared.max_message_bytes()),
        }
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let shared = &self.shared;
        let config = &shared.connector.config;
        let hall = shared.hall(&seat.node.namespace)?;
        let (rooms, requests) = subscriptions(seat.node.clone(), Interest::new(config.buckets, config.linger));
        let (sender, receiver) = inbox(seat.limits, Arc::clone(&seat.metrics));
        let sender = Arc::new(sender);
        let metrics = Arc::clone(&seat.metrics);
        let place = Arc::new(Place::new(seat.node.clone(), hall, metrics, rooms, Arc::downgrade(&sender)));
        let decoder = InboundDecoder::with_pending_joins(&sender, &seat);
        let frames = || BatchDecoder::new(decoder.clone(), Arc::clone(&sender));
        let follower =
            shared.has_history().then(|| Follower::new(shared, Arc::clone(&place), frames(), Arc::clone(&sender)));
        let reader = Reader::new(shared, Arc::clone(&place), frames(), Arc::clone(&sender), requests);
        shared.add(&place)?;
        shared.tasks.spawn(read(Arc::clone(shared), Arc::clone(&place), reader, follower));
        let guard = place.leaving.clone().drop_guard();
        let arriving = async { tokio::join!(place.attached.cancelled(), place.following.cancelled()) };
        if timeout(config.connect_timeout, arriving).await.is_err() {
            let unreachable = || Error::new(ErrorKind::Disconnected, "the broker cannot be reached");
            return Err(place.refusal().unwrap_or_else(unreachable));
        }
        guard.disarm();
        Ok(receiver)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        publish::publish(&self.shared, from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        publish::send(&self.shared, from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        if let Some(place) = self.shared.place(node) {
            place.leaving.cancel();
            place.left.cancelled().await;
        }
        Ok(())
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    async fn close(&self) {
        self.shared.close().await;
    }
}

impl Drop for RabbitMqTransport {
    /// Without `close`, everything ends by itself.
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

/// Reads for one node until it leaves.
async fn read(shared: Arc<Shared>, place: Arc<Place>, reader: Reader, follower: Option<Follower>) {
    let follow = async {
        match follower {
            Some(follower) => follower.run().await,
            None => place.following.cancel(),
        }
    };
    // One of them may end because nobody reads the inbox any more.
    let read = async {
        reader.run().await;
        place.leaving.cancel();
    };
    tokio::join!(read, follow);
    shared.remove(&place.node);
    place.left.cancel();
}

#[async_trait]
impl RoomInterest for RabbitMqTransport {
    fn buckets(&self) -> Option<u16> {
        Some(self.shared.connector.config.buckets.count())
    }

    /// While there is no connection this returns at once: the next one begins with the room, and what is missed until then is reported as a gap.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.shared.place_of(node)?.rooms.enter(room).await
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.shared.place_of(node)?.rooms.leave(room);
        Ok(())
    }
}
