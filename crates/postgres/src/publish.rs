//! The statements that publish, and how a batch of messages becomes a transaction.

use std::{fmt, future::Future};

use bytes::{BufMut, BytesMut};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio_postgres::{
    Client, Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use trunkline_core::{NodeId, Result};

use crate::{
    config::Config,
    error::Failure,
    item::{Content, Item},
    wire::Session,
};

/// Prepared on the publishing connection.
pub(crate) struct Statements {
    notify: Statement,
    notify_row: Statement,
    stored: Option<Stored>,
    probe: Statement,
    origin: String,
}

/// With history.
struct Stored {
    lock: Statement,
    notify: Statement,
    notify_row: Statement,
}

impl Statements {
    pub(crate) async fn prepare(session: &mut Session, config: &Config, origin: &NodeId) -> Result<Self, Failure> {
        let Session { client, wire } = session;
        wire.drive(client.batch_execute(&setup(config))).await?;
        let attachments = config.attachments.quoted();
        Ok(Self {
            notify: wire.drive(client.prepare(NOTIFY)).await?,
            notify_row: wire.drive(client.prepare(&NOTIFY_ROW.replace("$attachments", &attachments))).await?,
            probe: wire.drive(client.prepare(&probe(config))).await?,
            stored: wire.drive(Stored::prepare(client, config)).await?,
            origin: origin.to_string(),
        })
    }

    /// Publishes all of it or nothing, in one round trip. The order of the items is that of their notifications.
    pub(crate) async fn publish(&self, client: &Client, batch: &[Item]) -> Result<(), Failure> {
        let is_stored = batch.iter().any(|item| item.stored.is_some());
        if !is_stored && runs(batch).nth(1).is_none() {
            return self.run(client, batch).await;
        }
        self.transaction(client, batch, is_stored).await
    }

    async fn transaction(&self, client: &Client, batch: &[Item], is_stored: bool) -> Result<(), Failure> {
        let mut steps = Steps::begin(client);
        if let (true, Some(stored)) = (is_stored, &self.stored) {
            steps.push(execute(client, &stored.lock));
        }
        for run in runs(batch) {
            steps.push(self.run(client, run));
        }
        steps.commit(client).await
    }

    /// Publishes small messages of the same kind, or one with a row.
    async fn run(&self, client: &Client, run: &[Item]) -> Result<(), Failure> {
        match (run, &self.stored) {
            ([Item { content: Content::Row { head, tail, row }, channel, stored, .. }], history) => {
                let (channel, head, tail, row) =
                    (&&**channel, Text(head.as_bytes()), Text(tail.as_bytes()), Binary(row));
                match (history, stored) {
                    (Some(history), Some(number)) => {
                        let values: [&(dyn ToSql + Sync); 6] = [channel, &head, &tail, &row, &self.origin, number];
                        client.execute(&history.notify_row, &values).await?
                    }
                    _ => client.execute(&self.notify_row, &[channel, &head, &tail, &row]).await?,
                }
            }
            ([Item { stored: Some(_), .. }, ..], Some(history)) => {
                let (channels, texts) = columns(run);
                let numbers: Vec<_> = run.iter().map(|item| item.stored).collect();
                client.execute(&history.notify, &[&channels, &texts, &self.origin, &numbers]).await?
            }
            _ => {
                let (channels, texts) = columns(run);
                client.execute(&self.notify, &[&channels, &texts]).await?
            }
        };
        Ok(())
    }

    /// Notifies the transport itself; with history, of the last message stored before.
    pub(crate) async fn probe(&self, client: &Client, channel: &str) -> Result<(), Failure> {
        let Some(stored) = &self.stored else {
            client.execute(&self.probe, &[&channel]).await?;
            return Ok(());
        };
        let mut steps = Steps::begin(client);
        steps.push(execute(client, &stored.lock));
        steps.push(async {
            client.execute(&self.probe, &[&channel]).await?;
            Ok(())
        });
        steps.commit(client).await
    }
}

/// The steps of a transaction. All are sent at once, without waiting for the answer to the one before.
struct Steps<'a>(FuturesOrdered<BoxFuture<'a, Result<(), Failure>>>);

impl<'a> Steps<'a> {
    fn begin(client: &'a Client) -> Self {
        let mut steps = Self(FuturesOrdered::new());
        steps.push(async { Ok(client.batch_execute("BEGIN").await?) });
        steps
    }

    fn push(&mut self, step: impl Future<Output = Result<(), Failure>> + Send + 'a) {
        self.0.push_back(Box::pin(step));
    }

    /// After a failure this rolls back. What failed first says why; the rest is refused because of it.
    async fn commit(mut self, client: &'a Client) -> Result<(), Failure> {
        self.push(async { Ok(client.batch_execute("COMMIT").await?) });
        let mut outcome = Ok(());
        while let Some(result) = self.0.next().await {
            outcome = outcome.and(result);
        }
        outcome
    }
}

async fn execute(client: &Client, statement: &Statement) -> Result<(), Failure> {
    client.execute(statement, &[]).await?;
    Ok(())
}

impl Stored {
    async fn prepare(client: &Client, config: &Config) -> Result<Option<Self>, Failure> {
        let Some(history) = &config.history else { return Ok(None) };
        let events = history.events.quoted();
        let sequence = client
            .query_typed_one("SELECT pg_get_serial_sequence($1, 'id')", &[(&events, Type::TEXT)])
            .await?
            .try_get::<_, Option<String>>(0)?
            .ok_or_else(|| Failure::Lost(format!("column id of table {} has no sequence", history.events)))?;
        let fill = |statement: &str| {
            statement
                .replace("$events", &events)
                .replace("$attachments", &config.attachments.quoted())
                .replace("$sequence", &sequence.replace('\'', "''"))
        };
        let lock = format!("SELECT pg_advisory_xact_lock({})", history.events.lock_key());
        Ok(Some(Self {
            lock: client.prepare(&lock).await?,
            notify: client.prepare(&fill(STORE)).await?,
            notify_row: client.prepare(&fill(STORE_ROW)).await?,
        }))
    }
}

/// `pg_notify` returns void, which is never null: no row comes back.
const NOTIFY: &str =
    "SELECT FROM unnest($1::text[], $2::text[]) AS t(channel, message) WHERE pg_notify(channel, message) IS NULL";

const NOTIFY_ROW: &str = "
    WITH kept AS (INSERT INTO $attachments (payload) VALUES ($4::bytea) RETURNING id)
    SELECT FROM kept WHERE pg_notify($1::text, $2::text || id || $3::text) IS NULL";

/// The lock is held: ids are in the order of commits. A message that is there already was published before.
const STORE: &str = "
    WITH input AS MATERIALIZED (
        SELECT channel, message, number, nextval('$sequence') AS id
        FROM unnest($1::text[], $2::text[], $4::bigint[]) AS t(channel, message, number)
    ), kept AS (
        INSERT INTO $events (id, channel, origin, number, payload)
        SELECT id, channel, $3::text, number, convert_to(message || '}', 'UTF8') FROM input
        ON CONFLICT (origin, number) DO NOTHING RETURNING id
    )
    SELECT FROM (SELECT id, channel, message FROM input JOIN kept USING (id) ORDER BY id OFFSET 0) AS fresh
    WHERE pg_notify(channel, message || ',\"offset\":\"' || id || '\"}') IS NULL";

/// Twice: the official adapter looks for it among the attachments, and deletes it there after a while.
const STORE_ROW: &str = "
    WITH kept AS (
        INSERT INTO $events (channel, origin, number, payload) VALUES ($1::text, $5::text, $6::bigint, $4::bytea)
        ON CONFLICT (origin, number) DO NOTHING RETURNING id
    ), attached AS (
        INSERT INTO $attachments (payload) SELECT $4::bytea FROM kept RETURNING id
    )
    SELECT FROM kept, attached
    WHERE pg_notify($1::text, $2::text || attached.id || $3::text || ',\"offset\":\"' || kept.id || '\"}') IS NULL";

fn probe(config: &Config) -> String {
    match &config.history {
        None => "SELECT FROM (SELECT 1) AS once WHERE pg_notify($1::text, '') IS NULL".to_owned(),
        Some(history) => {
            let events = history.events.quoted();
            format!("SELECT pg_notify($1::text, (SELECT max(id) FROM {events})::text)")
        }
    }
}

/// Nobody may wait for ever, neither this node for the server nor, with a lock that this node holds, others for this node.
fn setup(config: &Config) -> String {
    let limit = config.query_timeout.as_millis();
    let mut setup = format!("SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}");
    if config.history.is_none() {
        // A notification does not survive a crash of the server anyway: there is no use in waiting for its disk.
        setup += "; SET synchronous_commit = off";
    }
    setup
}

/// Consecutive items that one statement takes: small ones, all stored or none.
fn runs(batch: &[Item]) -> impl Iterator<Item = &[Item]> {
    batch.chunk_by(|a, b| is_small(a) && is_small(b) && a.stored.is_some() == b.stored.is_some())
}

fn is_small(item: &Item) -> bool {
    matches!(item.content, Content::Notice(_))
}

fn columns(run: &[Item]) -> (Vec<&str>, Vec<Text<'_>>) {
    run.iter()
        .filter_map(|item| match &item.content {
            Content::Notice(text) => Some((&*item.channel, Text(text))),
            Content::Row { .. } => None,
        })
        .unzip()
}

/// Text that is not logged with the statement.
struct Text<'a>(&'a [u8]);

/// Binary that is not logged with the statement.
struct Binary<'a>(&'a [u8]);

macro_rules! bytes_as {
    ($name:ident: $($type:ident),*) => {
        impl ToSql for $name<'_> {
            fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
                out.put_slice(self.0);
                Ok(IsNull::No)
            }

            fn accepts(type_: &Type) -> bool {
                matches!(*type_, $(Type::$type)|*)
            }

            to_sql_checked!();
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes", self.0.len())
            }
        }
    };
}

bytes_as!(Text: TEXT);
bytes_as!(Binary: BYTEA);

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements").field("stored", &self.stored.is_some()).finish_non_exhaustive()
    }
}
