//! The SQL statements that publish, and how a batch of messages becomes a transaction.

use std::{fmt, future::Future};

use bytes::{BufMut, BytesMut};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio_postgres::{
    Client, Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use trunkline_core::NodeId;

use super::{
    message::{Content, QueuedMessage},
    notification::NotificationParts,
};
use crate::{config::Config, connect::PgConnection, error::Failure};

/// Statements prepared on a publishing connection.
///
/// Two transactions may be on their way at once, and the second must not be committed if the first fails: its messages
/// would overtake. So each statement that publishes has a number, is refused unless the one before it was the last, and
/// leaves its number in the session setting `trunkline.last_statement`, which a rollback restores.
pub(crate) struct Statements {
    notify: Statement,
    notify_row: Statement,
    store: Option<StoreStatements>,
    origin: String,
}

/// Statements that store messages in the events table and notify.
struct StoreStatements {
    store: Statement,
    store_row: Statement,
}

impl Statements {
    pub(crate) async fn prepare(
        connection: &mut PgConnection,
        config: &Config,
        origin: &NodeId,
    ) -> Result<Self, Failure> {
        connection.execute(&expect_next(1)).await?;
        if config.history.is_none() {
            // A notification does not survive a crash of the server anyway: there is no use in waiting for its disk.
            connection.execute("SET synchronous_commit = off").await?;
        }
        let PgConnection { client, driver } = connection;
        let attachments = config.attachments.quoted();
        let prepared = async {
            Ok::<_, Failure>(Self {
                notify: client.prepare(&in_order(NOTIFY)).await?,
                notify_row: client.prepare(&in_order(NOTIFY_ROW).replace("$attachments", &attachments)).await?,
                store: StoreStatements::prepare(client, config).await?,
                origin: origin.to_string(),
            })
        };
        driver.drive(prepared).await
    }

    /// Publishes all of it or nothing, in one round trip, in the order of the batch. The statements are numbered from
    /// `first` on; there are [`Self::count`] of them.
    pub(crate) async fn publish(&self, client: &Client, batch: &[QueuedMessage], first: i64) -> Result<(), Failure> {
        if Self::count(batch) == 1 {
            // A large message is alone: no transaction holds a lock while it is on its way.
            return self.run(client, batch, first).await;
        }
        let mut transaction = Transaction::begin(client);
        for (run, number) in runs(batch).zip(first..) {
            transaction.push(self.run(client, run, number));
        }
        transaction.commit(client).await
    }

    /// Number of statements that publish a batch.
    pub(crate) fn count(batch: &[QueuedMessage]) -> i64 {
        runs(batch).count() as i64
    }

    /// Publishes messages that one statement takes.
    async fn run(&self, client: &Client, run: &[QueuedMessage], number: i64) -> Result<(), Failure> {
        if let [QueuedMessage { content: Content::Row { notification, row }, channel, stored, .. }] = run {
            return self.row(client, channel, notification, row, *stored, number).await;
        }
        let (channels, texts) = columns(run);
        match (&self.store, stored_numbers(run)) {
            (Some(StoreStatements { store, .. }), Some(numbers)) => {
                client.execute(store, &[&number, &channels, &texts, &self.origin, &numbers]).await?
            }
            _ => client.execute(&self.notify, &[&number, &channels, &texts]).await?,
        };
        Ok(())
    }

    async fn row(
        &self,
        client: &Client,
        channel: &str,
        notification: &NotificationParts,
        row: &[u8],
        stored: Option<i64>,
        number: i64,
    ) -> Result<(), Failure> {
        let NotificationParts { before_id, after_id } = notification;
        let (before, after, row) = (Value(before_id.as_bytes()), Value(after_id.as_bytes()), Value(row));
        match (&self.store, stored) {
            (Some(StoreStatements { store_row, .. }), Some(stored)) => {
                let values: [&(dyn ToSql + Sync); 7] =
                    [&number, &channel, &before, &after, &row, &self.origin, &stored];
                client.execute(store_row, &values).await?
            }
            _ => client.execute(&self.notify_row, &[&number, &channel, &before, &after, &row]).await?,
        };
        Ok(())
    }
}

/// The statements of a transaction. All are sent at once, without waiting for the answer to the one before.
struct Transaction<'a>(FuturesOrdered<BoxFuture<'a, Result<(), Failure>>>);

impl<'a> Transaction<'a> {
    fn begin(client: &'a Client) -> Self {
        let mut transaction = Self(FuturesOrdered::new());
        transaction.push(async { Ok(client.batch_execute("BEGIN").await?) });
        transaction
    }

    fn push(&mut self, statement: impl Future<Output = Result<(), Failure>> + Send + 'a) {
        self.0.push_back(Box::pin(statement));
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

impl StoreStatements {
    async fn prepare(client: &Client, config: &Config) -> Result<Option<Self>, Failure> {
        let Some(history) = &config.history else { return Ok(None) };
        let events = history.events.quoted();
        let sequence = client
            .query_typed_one("SELECT pg_get_serial_sequence($1, 'id')", &[(&events, Type::TEXT)])
            .await?
            .try_get::<_, Option<String>>(0)?
            .ok_or_else(|| Failure::Lost(format!("column id of table {} has no sequence", history.events)))?;
        let lock = format!("{IN_ORDER} AND pg_advisory_xact_lock({}) IS NOT NULL", history.events.lock_key());
        let fill = |statement: &str| {
            statement
                .replace("$in_order", &lock)
                .replace("$events", &events)
                .replace("$attachments", &config.attachments.quoted())
                .replace("$sequence", &sequence.replace('\'', "''"))
        };
        Ok(Some(Self {
            store: client.prepare(&fill(STORE)).await?,
            store_row: client.prepare(&fill(STORE_ROW)).await?,
        }))
    }
}

/// True, or an error (a division by zero) if the statement before this one was not the last that was committed.
const IN_ORDER: &str = "(
    SELECT set_config('trunkline.last_statement', $1::bigint::text, false)
    WHERE 1 / (current_setting('trunkline.last_statement')::bigint = $1::bigint - 1)::int = 1) IS NOT NULL";

fn in_order(statement: &str) -> String {
    statement.replace("$in_order", IN_ORDER)
}

/// Makes the next statement number `next`, whatever failed before.
pub(crate) fn expect_next(next: i64) -> String {
    format!("SET trunkline.last_statement = '{}'", next - 1)
}

/// `pg_notify` returns void, which is never null: no row comes back.
const NOTIFY: &str = "
    SELECT FROM unnest($2::text[], $3::text[]) AS t(channel, message)
    WHERE CASE WHEN $in_order THEN pg_notify(channel, message) IS NULL END";

const NOTIFY_ROW: &str = "
    WITH kept AS (INSERT INTO $attachments (payload) SELECT $5::bytea WHERE $in_order RETURNING id)
    SELECT FROM kept WHERE pg_notify($2::text, $3::text || id || $4::text) IS NULL";

/// The lock is taken before the ids, which so are in the order of commits. A message that is there already was published before.
const STORE: &str = "
    WITH input AS MATERIALIZED (
        SELECT channel, message, number, nextval('$sequence') AS id
        FROM unnest($2::text[], $3::text[], $5::bigint[]) AS t(channel, message, number) WHERE $in_order
    ), kept AS (
        INSERT INTO $events (id, channel, origin, number, payload)
        SELECT id, channel, $4::text, number, convert_to(message || '}', 'UTF8') FROM input
        ON CONFLICT (origin, number) DO NOTHING RETURNING id
    )
    SELECT FROM (SELECT id, channel, message FROM input JOIN kept USING (id) ORDER BY id OFFSET 0) AS fresh
    WHERE pg_notify(channel, message || ',\"offset\":\"' || id || '\"}') IS NULL";

/// Twice: the official adapter looks for it among the attachments, and deletes it there after a while.
const STORE_ROW: &str = "
    WITH kept AS (
        INSERT INTO $events (channel, origin, number, payload)
        SELECT $2::text, $6::text, $7::bigint, $5::bytea WHERE $in_order
        ON CONFLICT (origin, number) DO NOTHING RETURNING id
    ), attached AS (
        INSERT INTO $attachments (payload) SELECT $5::bytea FROM kept RETURNING id
    )
    SELECT FROM kept, attached
    WHERE pg_notify($2::text, $3::text || attached.id || $4::text || ',\"offset\":\"' || kept.id || '\"}') IS NULL";

/// Consecutive messages that one statement takes: without rows, and all stored or none.
fn runs(batch: &[QueuedMessage]) -> impl Iterator<Item = &[QueuedMessage]> {
    batch.chunk_by(|a, b| is_text(a) && is_text(b) && a.stored.is_some() == b.stored.is_some())
}

fn is_text(message: &QueuedMessage) -> bool {
    matches!(message.content, Content::Notification(_))
}

fn columns(run: &[QueuedMessage]) -> (Vec<&str>, Vec<Value<'_>>) {
    run.iter()
        .filter_map(|message| match &message.content {
            Content::Notification(text) => Some((&*message.channel, Value(text))),
            Content::Row { .. } => None,
        })
        .unzip()
}

/// Numbers in the events table; `None` if the run is not stored.
fn stored_numbers(run: &[QueuedMessage]) -> Option<Vec<i64>> {
    run.iter().map(|message| message.stored).collect()
}

/// Text or binary that is not logged with the statement.
struct Value<'a>(&'a [u8]);

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(type_: &Type) -> bool {
        matches!(*type_, Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
