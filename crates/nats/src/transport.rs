//! The transport over NATS.

use std::sync::Arc;

use async_nats::Subject;
use async_trait::async_trait;
use tokio::time::timeout;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, Node, NodeId, Response, Result, Room,
    Transport, codec, frame,
    inbox::{Inbox, inbox},
    intake::Intake,
    interest::Interest,
    message::{Channel, Stamp},
    outbox::Numbering,
    transport::{Health, RoomInterest, Seat},
};

use crate::{
    config::Config,
    connection::Connector,
    keeper::Keeper,
    place::{Hall, Place},
    reader::Reader,
    shared::Shared,
    tls::client_config,
    writer::{Item, Writer},
};

/// Connects to one of the servers.
///
/// The connection is shared by all namespaces. Once it stands it is kept: after a loss it is restored with jittered exponential back-off, on any server of the cluster.
///
/// # Errors
/// `Config` for settings or credentials that cannot work, `Disconnected` if no server can be reached.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let tls = client_config(&config.tls)?;
    let shared = Arc::new(Shared::new(Connector::new(config, tls)));
    let mut keeper = Keeper::new(Arc::clone(&shared));
    let connection = keeper.connect().await?;
    keeper.install(&connection).await;
    shared.tasks.spawn(Writer::new(Arc::clone(&shared)).run());
    shared.tasks.spawn(keeper.run(connection));
    let transport = Arc::new(NatsTransport { shared });
    let interest = Some(Arc::clone(&transport) as Arc<dyn RoomInterest>);
    Ok(Backend { transport, history: None, interest, census: None, ids: IdScheme::Hex16 })
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
            room_interest: true,
            history: false,
            max_message_bytes: Some(self.shared.max_message_bytes()),
        }
    }

    async fn join(&self, seat: Seat) -> Result<Inbox> {
        let shared = &self.shared;
        let config = &shared.connector.config;
        let hall = shared.hall(&seat.node.namespace)?;
        let interest = Interest::new(config.buckets, config.linger);
        let (place, commands) = Place::new(seat.node.clone(), hall, interest);
        let place = Arc::new(place);
        let intake = Intake::new(&seat);
        let (sender, receiver) = inbox(seat.limits, seat.counters);
        shared.add(&place)?;
        let reader = Reader::new(shared, Arc::clone(&place), intake, Arc::new(sender), commands);
        shared.tasks.spawn(read(Arc::clone(shared), Arc::clone(&place), reader));
        let guard = place.leaving.clone().drop_guard();
        if timeout(config.connect_timeout, place.attached.cancelled()).await.is_err() {
            return Err(Error::new(ErrorKind::Disconnected, "the server cannot be reached"));
        }
        guard.disarm();
        Ok(receiver)
    }

    async fn publish(&self, from: &Node, message: Message) -> Result<()> {
        let hall = self.shared.hall_of(from)?;
        let encoded = frame::encode(&from.id, &from.namespace, &message)?;
        let bytes = self.check_size(&encoded)?;
        let (subject, channel) = route(&hall, &message);
        let is_numbered = message.is_numbered() && !from.id.is_emitter();
        let make = |numbering: &mut Numbering| {
            let message = match is_numbered {
                true => encoded.finish(Some(numbering.next(&from.id, channel)), &[]),
                false => encoded.finish(None, counters(numbering, &from.id)),
            };
            Item { subject, message }
        };
        self.shared.outbox.push(bytes, make).await
    }

    async fn send(&self, from: &Node, to: &NodeId, response: Response) -> Result<()> {
        let hall = self.shared.hall_of(from)?;
        let encoded = frame::encode(&from.id, &from.namespace, &response)?;
        let bytes = self.check_size(&encoded)?;
        let subject = hall.subjects.node(to);
        self.shared.outbox.push(bytes, |_| Item { subject, message: encoded.finish(None, &[]) }).await
    }

    async fn leave(&self, node: &Node) -> Result<()> {
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

impl NatsTransport {
    fn place(&self, node: &Node) -> Result<Arc<Place>> {
        self.shared.place(node).ok_or_else(|| not_here(node))
    }

    /// Returns the size of a message that the server takes.
    fn check_size(&self, message: &codec::Frame) -> Result<usize> {
        let (bytes, most) = (message.len(), self.shared.max_message_bytes());
        if bytes <= most {
            return Ok(bytes);
        }
        let context = format!("{bytes} bytes, the server's max_payload leaves {most} for a message");
        Err(Error::new(ErrorKind::TooLarge, context))
    }
}

impl Drop for NatsTransport {
    /// Without `close`, everything ends by itself.
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

/// Where a message goes. A plain broadcast to one room concerns only who has that room; what is answered, or changes rooms, concerns everybody.
fn route(hall: &Hall, message: &Message) -> (Subject, Channel) {
    let bucket = match message {
        Message::Broadcast { request: None, target, .. } => target.single_room().and_then(|room| hall.route(room)),
        Message::Join { rooms, .. } => {
            hall.note_join(rooms);
            None
        }
        _ => None,
    };
    match bucket {
        Some(bucket) => (hall.subjects.room(bucket), bucket.channel()),
        None => (hall.subjects.all.clone(), Channel::ALL),
    }
}

/// What a heartbeat says of its sender's numbers; also that there are none yet.
fn counters<'a>(numbering: &'a Numbering, node: &NodeId) -> &'a [Stamp] {
    const NONE_YET: &[Stamp] = &[Stamp { channel: Channel::ALL, number: 0 }];
    match numbering.counters(node) {
        [] => NONE_YET,
        counters => counters,
    }
}

fn not_here(node: &Node) -> Error {
    Error::new(ErrorKind::Closed, format!("node {} is not in namespace {}", node.id, node.namespace))
}

async fn read(shared: Arc<Shared>, place: Arc<Place>, reader: Reader) {
    reader.run().await;
    shared.remove(&place.node);
    place.left.cancel();
}

#[async_trait]
impl RoomInterest for NatsTransport {
    fn buckets(&self) -> Option<u16> {
        Some(self.shared.connector.config.buckets.count())
    }

    /// While there is no connection this returns at once: the next one begins with the room, and what is missed until then is reported as a gap.
    async fn enter(&self, node: &Node, room: &Room) -> Result<()> {
        self.place(node)?.enter(room).await
    }

    async fn leave(&self, node: &Node, room: &Room) -> Result<()> {
        self.place(node)?.leave_room(room);
        Ok(())
    }
}
