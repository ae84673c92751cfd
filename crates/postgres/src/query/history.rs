//! Connection state recovery: sessions and replay, from tables.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::types::Type;
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::{self, Body, session},
    transport::{History, MissedBroadcast, RestoredSession},
};

use super::{
    connection::Values,
    rows::{self, StoredMessage},
};
use crate::{config::HistoryConfig, error::Failure, shared::Shared};

/// History in the tables of a database.
#[derive(Debug)]
pub(crate) struct PgHistory {
    shared: Arc<Shared>,
    config: HistoryConfig,
}

impl PgHistory {
    pub(crate) fn new(shared: Arc<Shared>, config: HistoryConfig) -> Self {
        Self { shared, config }
    }

    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Session>> {
        let statement = format!(
            "DELETE FROM {} WHERE channel = $1 AND id = $2 RETURNING payload, expires_at > now()",
            self.config.sessions.quoted()
        );
        let channel = self.shared.channel_of(node)?;
        let taken = self.shared.queries.run(&statement, &[(&&*channel, Type::TEXT), (&id.as_str(), Type::TEXT)]).await;
        let failed = |failure: Failure| failure.into_error("take a session");
        match taken.map_err(failed)?.first() {
            Some(row) if row.try_get(1).map_err(|error| failed(error.into()))? => {
                let bytes: &[u8] = row.try_get(0).map_err(|error| failed(error.into()))?;
                session::decode(id, &Bytes::copy_from_slice(bytes)).map(Some)
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl History for PgHistory {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let statement = format!(
            "INSERT INTO {} (channel, id, expires_at, payload) VALUES ($1, $2, now() + $3 * interval '1 ms', $4)
             ON CONFLICT (channel, id) DO UPDATE SET expires_at = excluded.expires_at, payload = excluded.payload",
            self.config.sessions.quoted()
        );
        let channel = self.shared.channel_of(node)?;
        let ttl = self.config.session_ttl.as_millis() as f64;
        let (id, payload) = (session.id.clone(), session::encode(session)?);
        let values: Values<'_> =
            &[(&&*channel, Type::TEXT), (&id.as_str(), Type::TEXT), (&ttl, Type::FLOAT8), (&payload, Type::BYTEA)];
        let persisted = self.shared.queries.run(&statement, values).await;
        persisted.map(drop).map_err(|failure| failure.into_error("keep a session"))
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        number(since)?;
        let Some(session) = self.take(node, id).await? else { return Ok(None) };
        let missed = self.replay(node, since, &session.rooms_with_own()).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let mut position = number(since)?;
        let channels = [self.shared.channel_of(node)?];
        let mut missed = Vec::new();
        loop {
            let page = rows::page(&self.shared, &channels, position).await;
            let page = page.map_err(|failure| failure.into_error("read the history"))?;
            if !page.is_whole {
                let context = format!("what was stored after offset {position} is not all there any more");
                return Err(Error::new(ErrorKind::HistoryLost, context));
            }
            let Some(last) = page.messages.last() else { return Ok(missed) };
            position = last.offset;
            missed.extend(page.messages.iter().filter_map(|message| broadcast(node, message, rooms)));
        }
    }

    async fn reach(&self, _: &NodeKey) -> Result<Option<Duration>> {
        let statement = format!(
            "SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM {} ORDER BY id LIMIT 1",
            self.config.events.quoted()
        );
        let failed = |failure: Failure| failure.into_error("ask how far the history reaches");
        let rows = self.shared.queries.run(&statement, &[]).await.map_err(failed)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let seconds: f64 = row.try_get(0).map_err(|error| failed(error.into()))?;
        Ok(Duration::try_from_secs_f64(seconds).ok())
    }
}

/// The broadcast in a stored message, if it is one and matches a client in these rooms.
fn broadcast(node: &NodeKey, message: &StoredMessage, rooms: &[Room]) -> Option<MissedBroadcast> {
    let decoded = codec::decode(&message.bytes).ok()?;
    if decoded.namespace.is_some_and(|namespace| namespace != node.namespace) {
        return None;
    }
    let Body::Message(Message::Broadcast { request: None, target, payload }) = decoded.body else { return None };
    let offset = Offset::new(message.offset.to_string()).ok()?;
    target.matches(rooms).then_some(MissedBroadcast { payload, offset })
}

fn number(offset: &Offset) -> Result<i64> {
    let text = offset.as_str();
    let number = text.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == text);
    number.ok_or_else(|| Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history")))
}
