//! The connection to the broker, and what is certain before the program ends.

use std::time::Duration;

use tokio::time::timeout;
use trunkline::{Backend, Emitter};

use crate::{
    doctor::{self, BrokerTarget},
    output::Failure,
};

/// Connects to the broker that the servers use.
pub(crate) async fn connect(url: &str) -> Result<Backend, Failure> {
    let target = BrokerTarget::parse(url)?;
    timeout(CONNECT_TIMEOUT, trunkline::connect(url))
        .await
        .map_err(|_| Failure::critical(format!("no connection to the broker after {CONNECT_TIMEOUT:?}")))?
        .map_err(|error| {
            // Backends call a refused password, too, a matter of configuration; it is none of usage.
            let is_usage = doctor::is_usage(target.backend, &error);
            let failure = Failure::from(error);
            if is_usage { failure } else { Failure::critical(failure.text) }
        })
}

/// Waits until the broker has confirmed what was published, and ends the connection.
pub(crate) async fn confirm(emitter: Emitter, limit: Duration) -> Result<(), Failure> {
    let closed = timeout(limit, emitter.close()).await;
    closed.map_err(|_| Failure::critical(format!("the broker has not confirmed it after {limit:?}")))??;
    Ok(())
}

/// Ends the connection, as far as the broker lets us.
pub(crate) async fn close(backend: &Backend) {
    let _ = timeout(CLOSE_TIMEOUT, backend.transport.close()).await;
}

/// The backends have time limits of their own, which say more than this one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
