//! The task that deletes old rows.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_postgres::types::Type;

use crate::{config::HistoryConfig, error::Failure, shared::Shared};

/// Deletes old rows until the transport is closed. Each process does, as official nodes do: there is none to elect.
pub(crate) async fn run(shared: Arc<Shared>) {
    shared.closing.run_until_cancelled(clean_up_regularly(&shared)).await;
}

async fn clean_up_regularly(shared: &Shared) {
    loop {
        // Nodes that started together shall not all delete together.
        sleep(shared.config.cleanup_interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        if let Err(failure) = clean_up(shared).await {
            tracing::debug!(reason = %failure, "cannot delete old rows");
        }
    }
}

async fn clean_up(Shared { config, queries, .. }: &Shared) -> Result<(), Failure> {
    let attachments =
        format!("DELETE FROM {} WHERE created_at < now() - $1 * interval '1 ms'", config.attachments.quoted());
    queries.run(&attachments, &[(&millis(config.cleanup_interval), Type::FLOAT8)]).await?;
    let Some(history) = &config.history else { return Ok(()) };
    queries
        .run(&trim(history), &[(&millis(history.ttl), Type::FLOAT8), (&i64::from(history.messages), Type::INT8)])
        .await?;
    let sessions = format!("DELETE FROM {} WHERE expires_at <= now()", history.sessions.quoted());
    queries.run(&sessions, &[]).await?;
    Ok(())
}

/// Deletes the oldest messages: those beyond the number, and those up to the last one that is too old. Never the last
/// of all, and never one that has an older one before it: a reader that finds the message it knows finds everything
/// after it.
fn trim(history: &HistoryConfig) -> String {
    let statement = "
        DELETE FROM $events WHERE id < (SELECT max(id) FROM $events) AND id <= greatest(
            (SELECT max(id) FROM $events WHERE created_at < now() - $1 * interval '1 ms'),
            (SELECT id FROM $events ORDER BY id DESC OFFSET $2 LIMIT 1))";
    statement.replace("$events", &history.events.quoted())
}

fn millis(time: Duration) -> f64 {
    time.as_millis() as f64
}
