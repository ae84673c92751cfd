//! The transport over NATS.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
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
    connection::{Connection, Connector},
    history::{Follower, Log, Recovery},
    keeper::Keeper,
    place::Place,
    publish,
    reader::Reader,
    shared::Shared,
    tls::client_config,
    writer::{Post, Writer},
};

/// Connects to one of the servers.
///
/// The connection is shared by all namespaces. Once it stands it is kept: after a loss it is restored with jittered exponential back-off,
/// on any server of the cluster.
///
/// # Errors
/// `Config` for settings or credentials that cannot work, `Disconnected` if no server can be reached.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let tls = client_config(&config.tls)?;
    let shared = Arc::new(Shared::new(Connector::new(config, tls)));
    let mut keeper = Keeper::new(Arc::clone(&shared));
    let connection = keeper.connect().await?;
    if let Err(error) = set_up_history(&shared, &connection).await {
        connection.close();
        return Err(error);
    }
    keeper.install(&connection).await;
    let log = start_log(&shared);
    shared.tasks.spawn(Writer::new(Arc::clone(&shared), log).run());
    shared.tasks.spawn(keeper.run(connection));
    Ok(backend(shared))
}

async fn set_up_history(shared: &Shared, connection: &Connection) -> Result<()> {
    let Some(streams) = &shared.streams else { return Ok(()) };
    if !connection.client.server_info().jetstream {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} has no JetStream, which the history needs", connection.server),
        ));
    }
    streams.set_up(connection.jetstream()?).await
}

fn start_log(shared: &Arc<Shared>) -> Option<mpsc::UnboundedSender<Post>> {
    let Some(streams) = shared.streams.clone() else {
        shared.log_ended.cancel();
        return None;
    };
    let (posts, received) = mpsc::unbounded_channel();
    shared.tasks.spawn(Log::new(Arc::clone(shared), streams, received).run());
    Some(posts)
}

fn backend(shared: Arc<Shared>) -> Backend {
    let streams = shared.streams.clone();
    let recovery = streams.map(|streams| Arc::new(Recovery::new(Arc::clone(&shared), streams)));
    let transport = Arc::new(NatsTransport { shared });
    Backend {
        // Every node reads the whole history, so rooms need not be made known.
        interest: recovery.is_none().then(|| Arc::clone(&transport) as Arc<dyn RoomInterest>),
        history: recovery.map(|recovery| recovery as Arc<dyn History>),
        transport,
        node_counter: None,
        ids: IdScheme::Hex16,
    }
}

/// The handle; the work is done by the tasks that it shares its state with.
#[derive(Debug)]
struct NatsTransport {
    shared: Arc<Shared>,
}

#[async_trait]
impl Transport for NatsTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: self.shared.streams.is_none(),
            history: self.shared.streams.is_some(),
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
        let place = Arc::new(Place::new(seat.node.clone(), hall, rooms, Arc::downgrade(&sender)));
        let decoder = InboundDecoder::with_pending_joins(&sender, &seat);
        let frames = || BatchDecoder::new(decoder.clone(), Arc::clone(&sender));
        let follower = shared
            .streams
            .clone()
            .map(|streams| Follower::new(shared, streams, Arc::clone(&place), frames(), Arc::clone(&sender)));
        let reader = Reader::new(shared, Arc::clone(&place), frames(), seat.metrics, requests);
        shared.add(&place)?;
        shared.tasks.spawn(read(Arc::clone(shared), Arc::clone(&place), reader, follower));
        let guard = place.leaving.clone().drop_guard();
        let arriving = async { tokio::join!(place.attached.cancelled(), place.following.cancelled()) };
        if timeout(config.connect_timeout, arriving).await.is_err() {
            return Err(Error::new(ErrorKind::Disconnected, "the server cannot be reached"));
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

impl Drop for NatsTransport {
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
impl RoomInterest for NatsTransport {
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
