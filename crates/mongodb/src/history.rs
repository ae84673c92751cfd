//! Session recovery and replay, from the collection.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use mongodb::{
    bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId},
    options::Hint,
};
use tokio::time::timeout;
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::{Body, Kind},
    transport::{History, MissedBroadcast, RestoredSession},
};

use crate::{
    error,
    server::Server,
    transport_core::TransportCore,
    wire::{self, ObjectIdGenerator, OutgoingDocument, ReceivedDocument, SESSION, StoredSession},
};

/// Upper bound of how far the clocks of two processes differ, plus the time between generating an id and inserting the
/// document.
const MAX_CLOCK_SKEW_SECONDS: u32 = 60;

/// The history in a collection: broadcasts, sessions and tombstones.
#[derive(Debug)]
pub(crate) struct MongoHistory {
    core: Arc<TransportCore>,
}

impl MongoHistory {
    pub(crate) fn new(core: Arc<TransportCore>) -> Self {
        Self { core }
    }

    /// Runs an operation at the server, and limits how long it may take. If its connection is not accepted, it is tried
    /// once more with the credentials of this moment.
    async fn run<T, F>(&self, what: &str, operation: impl Fn(Server) -> F) -> Result<T>
    where
        F: Future<Output = mongodb::error::Result<T>>,
    {
        let mut server = self.core.server()?;
        let mut done = self.within_limit(what, operation(server.clone())).await?;
        if done.as_ref().is_err_and(error::is_unauthenticated) {
            self.core.renew(&mut server).await?;
            done = self.within_limit(what, operation(server)).await?;
        }
        done.map_err(|failed| error::into_error(what, &failed))
    }

    async fn within_limit<T>(&self, what: &str, running: impl Future<Output = T>) -> Result<T> {
        let limit = self.core.config.response_timeout;
        let away = |_| Error::new(ErrorKind::Disconnected, format!("{what}: no answer in {limit:?}"));
        timeout(limit, running).await.map_err(away)
    }

    async fn insert(&self, what: &str, mut document: OutgoingDocument, mut ids: ObjectIdGenerator) -> Result<ObjectId> {
        document.identify(&mut ids);
        let id = ObjectId::from_bytes(document.id());
        let raw = document.into_raw()?;
        let insert = |server: Server| {
            let raw = &raw;
            async move { server.collection.insert_one(raw).await }
        };
        self.run(what, insert).await?;
        Ok(id)
    }

    /// Takes a session so that no other node can restore it.
    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Session>> {
        let Some(document) = self.find_session(session_filter(node, id)).await? else { return Ok(None) };
        let received = ReceivedDocument::read(&document).map_err(|fault| fault.at("session"))?;
        let StoredSession::Session(session) = received.session()? else { return Ok(None) };
        if u128::from(received.age()) > self.core.config.session_ttl.as_millis() {
            return Ok(None);
        }
        let is_taken = self.core.kind.is_expiring() || self.insert_tombstone(node, id, received.id).await?;
        Ok(is_taken.then_some(session))
    }

    /// Finds a session or its tombstone; deletes it where the collection can.
    async fn find_session(&self, filter: Document) -> Result<Option<Bytes>> {
        let found = if self.core.kind.is_expiring() {
            let newest = doc! { "createdAt": -1 };
            let take = |server: Server| {
                let (filter, newest) = (filter.clone(), newest.clone());
                async move { server.collection.find_one_and_delete(filter).sort(newest).await }
            };
            self.run("take a session", take).await?
        } else {
            // The last one inserted, whatever the clocks say.
            let last = doc! { "$natural": -1 };
            let find = |server: Server| {
                let (filter, last) = (filter.clone(), last.clone());
                async move { server.collection.find_one(filter).sort(last).await }
            };
            self.run("find a session", find).await?
        };
        Ok(found.map(bytes_of))
    }

    /// Marks a session as restored. False if another node did so before.
    async fn insert_tombstone(&self, node: &NodeKey, id: &SessionId, session: Option<[u8; 12]>) -> Result<bool> {
        let session = session.unwrap_or_default();
        // The official adapter takes the document with the largest id.
        let ids = ObjectIdGenerator::after(session);
        let ours = self.insert("insert a tombstone", wire::tombstone(node, id.as_str(), false)?, ids).await?;
        let filter = session_filter(node, id);
        let find = |server: Server| {
            let filter = filter.clone();
            async move {
                let found = server.collection.find(filter).projection(doc! { "_id": 1 }).sort(doc! { "$natural": 1 });
                found.await?.try_collect::<Vec<_>>().await
            }
        };
        let found = self.run("find the tombstones of a session", find).await?;
        let mut ids = found.iter().filter_map(|document| document.get_object_id("_id").ok());
        let session = ObjectId::from_bytes(session);
        let is_there = ids.any(|id| id == session);
        Ok(!is_there || ids.next() == Some(ours))
    }

    /// Broadcasts inserted after `since`, in the order of insertion.
    async fn inserted_after(&self, node: &NodeKey, since: ObjectId, rooms: &[Room]) -> Result<Vec<Bytes>> {
        let filter = doc! { "$or": [{ "_id": since }, {
            "_id": { "$gte": earliest_id_after(since) },
            "type": i32::from(Kind::Broadcast.number()),
            "nsp": node.namespace.as_str(),
            "data.requestId": { "$exists": false },
            "$and": [room_filter(rooms)],
        }] };
        let find = |server: Server| {
            let filter = filter.clone();
            async move {
                let by_id = Hint::Keys(doc! { "_id": 1 });
                server.collection.find(filter).hint(by_id).show_record_id(true).batch().await
            }
        };
        let what = "read the history";
        let mut batches = self.run(what, find).await?;
        let mut found: Vec<RawDocumentBuf> = Vec::new();
        // Each answer has its own time: there may be many.
        while let Some(batch) = self.within_limit(what, batches.try_next()).await?.transpose() {
            let batch = batch.map_err(|failed| error::into_error(what, &failed))?;
            let documents = batch.doc_slices().map_err(|failed| error::into_error(what, &failed))?;
            found.extend(documents.into_iter().filter_map(|it| Some(it.ok()?.as_document()?.to_owned())));
        }
        // Many clocks make ids; the server makes record ids, in the order of insertion.
        found.sort_by_key(|document| document.get_i64("$recordId").unwrap_or_default());
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
impl History for MongoHistory {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let document = wire::session(node, &session)?;
        let kept = self.insert("keep a session", document, ObjectIdGenerator::new()).await?;
        if self.core.kind.is_expiring() {
            // An older document of the session is outdated, and would be found once this one is restored.
            let mut outdated = session_filter(node, &session.id);
            outdated.insert("_id", doc! { "$ne": kept });
            let delete = |server: Server| {
                let outdated = outdated.clone();
                async move { server.collection.delete_many(outdated).await }
            };
            self.run("delete a session", delete).await?;
        }
        Ok(())
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        object_id(since)?;
        let Some(session) = self.take(node, id).await? else { return Ok(None) };
        let missed = self.replay(node, since, &session.rooms_with_own()).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let documents = self.inserted_after(node, object_id(since)?, rooms).await?;
        Ok(documents.iter().filter_map(|document| missed_broadcast(document, rooms)).collect())
    }

    /// The first document of a capped collection is its oldest; an id has the second in which it was made.
    async fn reach(&self, _: &NodeKey) -> Result<Option<Duration>> {
        let first = if self.core.kind.is_expiring() {
            doc! { "createdAt": 1 }
        } else {
            doc! { "$natural": 1 }
        };
        let find = |server: Server| {
            let first = first.clone();
            async move { server.collection.find_one(doc! {}).sort(first).projection(doc! { "_id": 1 }).await }
        };
        let found = self.run("ask how far the history reaches", find).await?;
        let made =
            found.and_then(|document| document.get_object_id("_id").ok()).map(|id| id.timestamp().to_system_time());
        Ok(made.map(|made| made.elapsed().unwrap_or_default()))
    }
}

fn bytes_of(document: RawDocumentBuf) -> Bytes {
    document.into_bytes().into()
}

/// Matches the documents of a session in a namespace.
fn session_filter(node: &NodeKey, id: &SessionId) -> Document {
    doc! { "type": i32::from(SESSION), "data.pid": id.as_str(), "nsp": node.namespace.as_str() }
}

/// Matches broadcasts to all or to one of the rooms that are not excepted from any.
fn room_filter(rooms: &[Room]) -> Document {
    let rooms: Vec<Bson> = rooms.iter().map(room_value).collect();
    doc! {
        "$or": [{ "data.opts.rooms": { "$size": 0 } }, { "data.opts.rooms": { "$in": rooms.clone() } }],
        "data.opts.except": { "$nin": rooms },
    }
}

fn room_value(room: &Room) -> Bson {
    match room {
        Room::Text(name) => Bson::String(name.to_string()),
        Room::Number(number) => Bson::Double(number.value()),
    }
}

/// A lower bound of the ids of documents inserted after the one with this id.
fn earliest_id_after(id: ObjectId) -> ObjectId {
    let bytes = id.bytes();
    let second = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut earliest = [0; 12];
    earliest[..4].copy_from_slice(&second.saturating_sub(MAX_CLOCK_SKEW_SECONDS).to_be_bytes());
    ObjectId::from_bytes(earliest)
}

/// The broadcast in a document, if a client in these rooms missed it.
fn missed_broadcast(document: &Bytes, rooms: &[Room]) -> Option<MissedBroadcast> {
    let received = ReceivedDocument::read(document).ok()?;
    let Body::Message(Message::Broadcast { request: None, target, payload }) = received.body(received.kind()?).ok()?
    else {
        return None;
    };
    let offset = received.offset()?;
    let is_missed = !target.flags.is_volatile() && target.matches(rooms);
    is_missed.then_some(MissedBroadcast { payload, offset })
}

fn object_id(offset: &Offset) -> Result<ObjectId> {
    let id = ObjectId::parse_str(offset.as_str());
    id.map_err(|_| Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history")))
}
