//! The task that deletes old rows.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::connection::Values;
use crate::{config::HistoryConfig, error::Failure, shared::Shared};

/// Deletes old rows until the transport is closed. Each process does, as official nodes do: there is none to elect.
pub(crate) async fn run(shared: Arc<Shared>) {
    shared.closing.run_until_cancelled(clean_up_regularly(&shared)).await;
}

async fn clean_up_regularly(shared: &Shared) {
    let mut has_warned = false;
    loop {
        // Nodes that started together shall not all delete together.
        sleep(shared.config.cleanup_interval.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        for failure in clean_up(shared).await {
            // Without the right to delete, or with a rule of the user's own, tables grow for ever.
            if !failure.may_pass() && !mem::replace(&mut has_warned, true) {
                tracing::warn!(reason = %failure, "old rows cannot be deleted, and accumulate");
            } else {
                tracing::debug!(reason = %failure, "cannot delete old rows");
            }
        }
    }
}

/// Deletes from all tables, whatever happens to one of them. Returns what went wrong.
async fn clean_up(Shared { config, queries, .. }: &Shared) -> Vec<Failure> {
    let mut failures = Vec::new();
    let attachments =
        format!("DELETE FROM {} WHERE created_at < now() - $1 * interval '1 ms'", config.attachments.quoted());
    let age: Values<'_> = &[(&millis(config.cleanup_interval), Type::FLOAT8)];
    failures.extend(queries.run(&attachments, age).await.err());
    if let Some(history) = &config.history {
        let limits: Values<'_> = &[(&millis(history.ttl), Type::FLOAT8), (&i64::from(history.messages), Type::INT8)];
        failures.extend(queries.run(&trim(history), limits).await.err());
        let sessions = format!("DELETE FROM {} WHERE expires_at <= now()", history.sessions.quoted());
        failures.extend(queries.run(&sessions, &[]).await.err());
    }
    failures
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
