//! The task that deletes old rows.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_postgres::types::{ToSql, Type};

use super::{QueryHandle, SharedClient};
use crate::{
    config::{Config, HistoryConfig},
    error::Failure,
    shared::Shared,
};

/// Deletes old rows until the transport is closed. Each process does, as official nodes do: there is none to elect.
pub(crate) async fn run(shared: Arc<Shared>, queries: QueryHandle) {
    shared.closing.run_until_cancelled(clean_up_regularly(&shared.config, &queries)).await;
}

async fn clean_up_regularly(config: &Config, queries: &QueryHandle) {
    loop {
        // Nodes that started together shall not all delete together.
        sleep(config.cleanup_interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        if let Err(failure) = clean_up(config, queries).await {
            tracing::debug!(reason = %failure, "cannot delete old rows");
        }
    }
}

async fn clean_up(config: &Config, queries: &QueryHandle) -> Result<(), Failure> {
    let attachments =
        format!("DELETE FROM {} WHERE created_at < now() - $1 * interval '1 ms'", config.attachments.quoted());
    execute(queries, &attachments, &[(&millis(config.cleanup_interval), Type::FLOAT8)]).await?;
    let Some(history) = &config.history else { return Ok(()) };
    trim(history, queries).await?;
    let sessions = format!("DELETE FROM {} WHERE expires_at <= now()", history.sessions.quoted());
    execute(queries, &sessions, &[]).await
}

/// Deletes the oldest messages: those beyond the number, and those up to the last one that is too old. Never the last of all, and never one
/// that has an older one before it: a reader that finds the message it knows finds everything after it.
async fn trim(history: &HistoryConfig, queries: &QueryHandle) -> Result<(), Failure> {
    let statement = "
        DELETE FROM $events WHERE id < (SELECT max(id) FROM $events) AND id <= greatest(
            (SELECT max(id) FROM $events WHERE created_at < now() - $1 * interval '1 ms'),
            (SELECT id FROM $events ORDER BY id DESC OFFSET $2 LIMIT 1))";
    let statement = statement.replace("$events", &history.events.quoted());
    let kept = i64::from(history.messages);
    execute(queries, &statement, &[(&millis(history.ttl), Type::FLOAT8), (&kept, Type::INT8)]).await
}

async fn execute(
    queries: &QueryHandle,
    statement: &str,
    values: &[(&(dyn ToSql + Sync), Type)],
) -> Result<(), Failure> {
    let query = async |client: Arc<SharedClient>| client.execute_typed(statement, values).await;
    queries.run(query).await.map(drop)
}

fn millis(time: Duration) -> f64 {
    time.as_millis() as f64
}
