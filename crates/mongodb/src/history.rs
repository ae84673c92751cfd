//! Sessions and replay, from the collection.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document as Filter, RawDocumentBuf, doc, oid::ObjectId};
use tokio::time::timeout;
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::{Body, Kind},
    transport::{History, MissedBroadcast, RestoredSession},
};

use crate::{
    error,
    shared::Shared,
    wire::{self, Arrived, Document, Ids, StoredSession},
};

/// Clocks of processes that insert, and time between making an id and inserting it, differ by less.
const SLACK_SECONDS: u32 = 60;

/// The type of sessions in filters.
const SESSION: i32 = 13;

/// The history of a collection.
#[derive(Debug)]
pub(crate) struct Documents {
    shared: Arc<Shared>,
}

impl Documents {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Limits how long something at the server may take.
    async fn in_time<T>(&self, what: &str, work: impl Future<Output = mongodb::error::Result<T>>) -> Result<T> {
        let limit = self.shared.config.operation_timeout;
        let away = |_| Error::new(ErrorKind::Disconnected, format!("{what}: no answer in {limit:?}"));
        timeout(limit, work).await.map_err(away)?.map_err(|failed| error::into_error(what, &failed))
    }

    async fn insert(&self, what: &str, mut document: Document, mut ids: Ids) -> Result<ObjectId> {
        let id = ObjectId::from_bytes(document.identify(&mut ids));
        let raw = document.into_raw()?;
        let server = self.shared.server()?;
        self.in_time(what, async { server.collection.insert_one(&raw).await }).await?;
        Ok(id)
    }

    async fn find_one(&self, what: &str, filter: Filter, sort: Filter) -> Result<Option<Bytes>> {
        let server = self.shared.server()?;
        let find = async { server.collection.find_one(filter).sort(sort).await };
        Ok(self.in_time(what, find).await?.map(bytes_of))
    }

    /// Takes a session so that nobody else can.
    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Session>> {
        let wanted = of_session(node, id);
        let found = if self.shared.kind.is_expiring() {
            let server = self.shared.server()?;
            let take = async { server.collection.find_one_and_delete(wanted).sort(doc! { "createdAt": -1 }).await };
            self.in_time("take a session", take).await?.map(bytes_of)
        } else {
            // The one that was inserted last, whatever the clocks say.
            self.find_one("find a session", wanted, doc! { "$natural": -1 }).await?
        };
        let Some(document) = found else { return Ok(None) };
        let (session, arrived) = read_session(&document)?;
        let StoredSession::Session(session) = session else { return Ok(None) };
        let is_alive = u128::from(arrived.age()) <= self.shared.config.session_ttl.as_millis();
        if !is_alive {
            return Ok(None);
        }
        if !self.shared.kind.is_expiring() && !self.bury(node, id, arrived.id).await? {
            return Ok(None);
        }
        Ok(Some(session))
    }

    /// Says that a session was taken. False if somebody else had said so before.
    async fn bury(&self, node: &NodeKey, id: &SessionId, session: Option<[u8; 12]>) -> Result<bool> {
        let session = session.unwrap_or_default();
        // The official adapter looks for the largest id.
        let ids = Ids::behind(session);
        let ours = self.insert("bury a session", wire::tombstone(node, id.as_str())?, ids).await?;
        let wanted = of_session(node, id);
        let server = self.shared.server()?;
        let find = async {
            let found = server.collection.find(wanted).projection(doc! { "_id": 1 }).sort(doc! { "$natural": 1 });
            found.await?.try_collect::<Vec<_>>().await
        };
        let found = self.in_time("look who buried a session", find).await?;
        let mut ids = found.iter().filter_map(|document| document.get_object_id("_id").ok());
        let session = ObjectId::from_bytes(session);
        let is_there = ids.any(|id| id == session);
        Ok(!is_there || ids.next() == Some(ours))
    }

    /// What was inserted after `since`, in the order of insertion.
    async fn since(&self, node: &NodeKey, since: ObjectId, rooms: &[Room]) -> Result<Vec<Bytes>> {
        let filter = doc! { "$or": [{ "_id": since }, {
            "_id": { "$gte": earlier(since) },
            "type": i32::from(Kind::Broadcast.number()),
            "nsp": node.namespace.as_str(),
            "data.requestId": { "$exists": false },
            "$and": [of_rooms(rooms)],
        }] };
        // Ids are made by many clocks; the order of insertion is that of record ids.
        let server = self.shared.server()?;
        let find = async {
            let found = server.collection.find(filter).hint(mongodb::options::Hint::Keys(doc! { "_id": 1 }));
            found.show_record_id(true).await?.try_collect::<Vec<_>>().await
        };
        let mut found = self.in_time("read the history", find).await?;
        found.sort_by_key(record_id);
        let at = found.iter().position(|document| document.get_object_id("_id").is_ok_and(|id| id == since));
        let lost = || {
            let context = format!("the message at offset {} is not there any more", since.to_hex());
            Error::new(ErrorKind::HistoryLost, context)
        };
        let at = at.ok_or_else(lost)?;
        Ok(found.into_iter().skip(at + 1).map(bytes_of).collect())
    }
}

#[async_trait]
impl History for Documents {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let document = wire::session(node, &session)?;
        let kept = self.insert("keep a session", document, Ids::new()).await?;
        if self.shared.kind.is_expiring() {
            // What was kept before is outdated, and would outlive this one.
            let mut outdated = of_session(node, &session.id);
            outdated.insert("_id", doc! { "$ne": kept });
            let server = self.shared.server()?;
            self.in_time("forget a session", async { server.collection.delete_many(outdated).await }).await?;
        }
        Ok(())
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        place(since)?;
        let Some(session) = self.take(node, id).await? else { return Ok(None) };
        let missed = self.replay(node, since, &session.rooms).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let documents = self.since(node, place(since)?, rooms).await?;
        Ok(documents.iter().filter_map(|document| missed(document, rooms)).collect())
    }
}

fn bytes_of(document: RawDocumentBuf) -> Bytes {
    document.into_bytes().into()
}

/// The documents of a session in a namespace.
fn of_session(node: &NodeKey, id: &SessionId) -> Filter {
    doc! { "type": SESSION, "data.pid": id.as_str(), "nsp": node.namespace.as_str() }
}

fn read_session(document: &Bytes) -> Result<(StoredSession, Arrived<'_>)> {
    let arrived = Arrived::read(document).map_err(|fault| fault.at("session"))?;
    Ok((arrived.session()?, arrived))
}

fn record_id(document: &RawDocumentBuf) -> i64 {
    document.get_i64("$recordId").unwrap_or_default()
}

/// An id that is smaller than that of any document that was inserted later than this one.
fn earlier(id: ObjectId) -> ObjectId {
    let bytes = id.bytes();
    let second = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut earlier = [0; 12];
    earlier[..4].copy_from_slice(&second.saturating_sub(SLACK_SECONDS).to_be_bytes());
    ObjectId::from_bytes(earlier)
}

/// Broadcasts to all or to one of the rooms, and not excepted from any.
fn of_rooms(rooms: &[Room]) -> Filter {
    let rooms: Vec<Bson> = rooms.iter().map(bson_of).collect();
    doc! {
        "$or": [{ "data.opts.rooms": { "$size": 0 } }, { "data.opts.rooms": { "$in": rooms.clone() } }],
        "data.opts.except": { "$nin": rooms },
    }
}

fn bson_of(room: &Room) -> Bson {
    match room {
        Room::Text(name) => Bson::String(name.to_string()),
        Room::Number(number) => Bson::Double(number.value()),
    }
}

/// What a client in these rooms has missed of a document.
fn missed(document: &Bytes, rooms: &[Room]) -> Option<MissedBroadcast> {
    let arrived = Arrived::read(document).ok()?;
    let Body::Message(Message::Broadcast { request: None, target, payload }) = arrived.body(arrived.kind()?).ok()?
    else {
        return None;
    };
    let offset = arrived.offset()?;
    let is_missed = !target.flags.is_volatile() && target.matches(rooms);
    is_missed.then_some(MissedBroadcast { payload, offset })
}

fn place(offset: &Offset) -> Result<ObjectId> {
    let id = ObjectId::parse_str(offset.as_str());
    id.map_err(|_| Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history")))
}
