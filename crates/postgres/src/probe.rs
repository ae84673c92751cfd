//! Whether notifications come back: the first question to a server.

use std::collections::VecDeque;

use tokio::time::timeout;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{error::Failure, reader::listen, shared::Shared, wire::Session};

/// Listens on one connection and notifies on the other. Only plain statements: nothing that a proxy would have to keep.
pub(crate) async fn check(
    shared: &Shared,
    mut listening: Session,
    mut publishing: Session,
) -> Result<(Session, Session)> {
    let failed = |failure: Failure| failure.into_error("test notifications");
    check_version(&mut publishing).await?;
    listen(&mut listening, shared, &[]).await.map_err(failed)?;
    let notify = format!("SELECT pg_notify('{}', '')", shared.probe_channel);
    let Session { client, wire } = &mut publishing;
    wire.drive(client.batch_execute(&notify)).await.map_err(failed)?;
    let mut batch = VecDeque::new();
    let limit = shared.config.probe_timeout;
    match timeout(limit, listening.wire.next_batch(&mut batch, 1)).await {
        Ok(Ok(())) => Ok((listening, publishing)),
        Ok(Err(reason)) => Err(failed(Failure::Lost(reason))),
        Err(_) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a notification to itself did not come back in {limit:?}. This is what PgBouncer in transaction or statement mode does: LISTEN is \
                 bound to a server connection there, and is lost. Connect to PostgreSQL directly, or to a pool in session mode"
            ),
        )),
    }
}

async fn check_version(session: &mut Session) -> Result<()> {
    /// The first with `MATERIALIZED`.
    const OLDEST: i32 = 12;
    let Session { client, wire } = session;
    let answers = wire.drive(client.simple_query("SHOW server_version_num")).await;
    let answers = answers.map_err(|failure| failure.into_error("ask for the version"))?;
    let version = answers.iter().find_map(|answer| match answer {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
        _ => None,
    });
    match version.map(|version| version / 10_000) {
        Some(version) if version < OLDEST => {
            let context = format!("PostgreSQL {version}: this crate needs {OLDEST} or newer");
            Err(Error::new(ErrorKind::Unsupported, context))
        }
        _ => Ok(()),
    }
}
