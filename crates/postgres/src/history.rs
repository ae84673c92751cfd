//! Sessions and replay, from tables.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::types::{ToSql, Type};
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::{self, Body, session},
    transport::{History, MissedBroadcast, RestoredSession},
};

use crate::{
    channel,
    config::HistoryConfig,
    query::{Lent, Queries},
    rows::{self, Stored},
    shared::Shared,
};

/// The history of a database.
#[derive(Debug)]
pub(crate) struct Tables {
    shared: Arc<Shared>,
    config: HistoryConfig,
    queries: Queries,
}

impl Tables {
    pub(crate) fn new(shared: Arc<Shared>, config: HistoryConfig, queries: Queries) -> Self {
        Self { shared, config, queries }
    }

    fn channel(&self, node: &NodeKey) -> Result<Arc<str>> {
        channel::name(&self.shared.config.channel_prefix, &node.namespace).map(Into::into)
    }

    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Bytes>> {
        let statement = format!(
            "DELETE FROM {} WHERE channel = $1 AND id = $2 RETURNING payload, expires_at > now()",
            self.config.sessions.quoted()
        );
        let channel = self.channel(node)?;
        let query = async |lent: Arc<Lent>| {
            let values: [(&(dyn ToSql + Sync), Type); 2] = [(&&*channel, Type::TEXT), (&id.as_str(), Type::TEXT)];
            let row = lent.client.query_typed_opt(&statement, &values).await?;
            row.map(|row| Ok((Bytes::copy_from_slice(row.try_get(0)?), row.try_get::<_, bool>(1)?))).transpose()
        };
        let found = self.queries.run(query).await.map_err(|failure| failure.into_error("take a session"))?;
        Ok(found.filter(|(_, is_alive)| *is_alive).map(|(payload, _)| payload))
    }
}

#[async_trait]
impl History for Tables {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let statement = format!(
            "INSERT INTO {} (channel, id, expires_at, payload) VALUES ($1, $2, now() + $3 * interval '1 ms', $4)
             ON CONFLICT (channel, id) DO UPDATE SET expires_at = excluded.expires_at, payload = excluded.payload",
            self.config.sessions.quoted()
        );
        let channel = self.channel(node)?;
        let ttl = self.config.session_ttl.as_millis() as f64;
        let (id, payload) = (session.id.clone(), session::encode(session)?);
        let query = async |lent: Arc<Lent>| {
            let values: [(&(dyn ToSql + Sync), Type); 4] =
                [(&&*channel, Type::TEXT), (&id.as_str(), Type::TEXT), (&ttl, Type::FLOAT8), (&payload, Type::BYTEA)];
            lent.client.execute_typed(&statement, &values).await
        };
        self.queries.run(query).await.map_err(|failure| failure.into_error("keep a session"))?;
        Ok(())
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        number(since)?;
        let Some(payload) = self.take(node, id).await? else { return Ok(None) };
        let session = session::decode(id, &payload)?;
        let missed = self.replay(node, since, &session.rooms).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let mut position = number(since)?;
        let channels = [self.channel(node)?];
        let mut missed = Vec::new();
        loop {
            let page = rows::page(&self.queries, &self.shared, &channels, position).await;
            let page = page.map_err(|failure| failure.into_error("read the history"))?;
            if !page.is_whole {
                let context = format!("what was stored after offset {position} is not all there any more");
                return Err(Error::new(ErrorKind::HistoryLost, context));
            }
            let Some(last) = page.rows.last() else { return Ok(missed) };
            position = last.id;
            missed.extend(page.rows.iter().filter_map(|row| broadcast(node, row, rooms)));
        }
    }
}

/// What a client in these rooms has missed of a stored message.
fn broadcast(node: &NodeKey, row: &Stored, rooms: &[Room]) -> Option<MissedBroadcast> {
    let decoded = codec::decode(&row.payload).ok()?;
    if decoded.namespace.is_some_and(|namespace| namespace != node.namespace) {
        return None;
    }
    let Body::Message(Message::Broadcast { request: None, target, payload }) = decoded.body else { return None };
    let offset = Offset::new(row.id.to_string()).ok()?;
    target.matches(rooms).then_some(MissedBroadcast { payload, offset })
}

fn number(offset: &Offset) -> Result<i64> {
    let text = offset.as_str();
    let number = text.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == text);
    number.ok_or_else(|| Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history")))
}
