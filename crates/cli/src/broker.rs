//! The connection to the broker, and what is certain before the program ends.

use std::time::Duration;

use tokio::time::timeout;
use trunkline::{Backend, Emitter};
use trunkline_redis::{Mode, PubSubSubscription};

use crate::{doctor::BrokerTarget, output::Failure};

/// Connects to the broker that the servers use.
pub(crate) async fn connect(url: &str) -> Result<Backend, Failure> {
    BrokerTarget::parse(url)?;
    within_limit(trunkline::connect(url)).await
}

/// As [`connect`], for what listens to all rooms: on classic Redis by the pattern, where nodes subscribe to their own rooms.
/// The messages are the same.
pub(crate) async fn connect_to_listen(url: &str) -> Result<Backend, Failure> {
    BrokerTarget::parse(url)?;
    // Fails for the other brokers.
    if let Ok(mut config) = trunkline_redis::Config::from_url(url)
        && let Mode::PubSub(options) = &mut config.mode
    {
        options.subscription = PubSubSubscription::Pattern;
        return within_limit(trunkline_redis::connect(config)).await;
    }
    within_limit(trunkline::connect(url)).await
}

async fn within_limit(connecting: impl Future<Output = trunkline::Result<Backend>>) -> Result<Backend, Failure> {
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let late = |_| Failure::critical(format!("no connection to the broker after {CONNECT_TIMEOUT:?}"));
    Ok(connected.map_err(late)??)
}

/// Waits until the broker has confirmed what was published, and ends the connection.
pub(crate) async fn confirm(backend: &Backend, emitter: Emitter, limit: Duration) -> Result<(), Failure> {
    let closed = timeout(limit, emitter.close()).await;
    let late = |_| {
        let reason = obstacle(backend).map_or(String::new(), |reason| format!(": {reason}"));
        Failure::critical(format!("the broker has not confirmed it after {limit:?}{reason}"))
    };
    closed.map_err(late)??;
    Ok(())
}

/// Why the broker does not take what is published, if it does not.
pub(crate) fn obstacle(backend: &Backend) -> Option<String> {
    let health = backend.transport.health();
    let lost = || health.reason.unwrap_or_else(|| "the connection is lost".to_owned());
    (!health.connected).then(lost).or(health.refusal)
}

/// Ends the connection, as far as the broker lets us.
pub(crate) async fn close(backend: &Backend) {
    let _ = timeout(CLOSE_TIMEOUT, backend.transport.close()).await;
}

/// The backends have time limits of their own, which say more than this one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
