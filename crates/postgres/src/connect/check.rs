//! The first check of a server: whether a notification to itself comes back.

use std::collections::VecDeque;

use tokio::time::timeout;
use trunkline_core::{Error, ErrorKind, Result};

use super::PgConnection;
use crate::{error::Failure, listen::listen, shared::Shared};

/// Listens on one connection and notifies on the other. Only plain statements: nothing that a proxy would have to keep.
pub(crate) async fn check(shared: &Shared, listening: &mut PgConnection, publishing: &mut PgConnection) -> Result<()> {
    let failed = |failure: Failure| failure.into_error("test notifications");
    listen(listening, shared, &[]).await.map_err(failed)?;
    publishing.execute(&format!("SELECT pg_notify('{}', '')", shared.ping_channel)).await.map_err(failed)?;
    let mut batch = VecDeque::new();
    let limit = shared.config.ping_timeout;
    match timeout(limit, listening.driver.next_batch(&mut batch, 1)).await {
        Ok(outcome) => outcome.map_err(|reason| failed(Failure::Lost(reason))),
        Err(_) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "a notification to itself did not come back in {limit:?}. This is what PgBouncer in transaction or statement mode does: LISTEN is \
                 bound to a server connection there, and is lost. Connect to PostgreSQL directly, or to a pool in session mode"
            ),
        )),
    }
}
