//! The conformance suite on a real replica set: with a capped collection; with a TTL index, over TLS and with a
//! password.

use trunkline_brokers::MongoDb as Server;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_mongodb::{Config, MAX_DOCUMENT_BYTES, connect};

const CAPABILITIES: Capabilities = Capabilities::new(Membership::Heartbeats)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_history(true)
    .with_max_message_bytes(Some(MAX_DOCUMENT_BYTES));

/// Connects a backend to the collection of a cluster.
async fn cluster(url: &str, name: &str, parameters: &str) -> Result<Backend> {
    let mark = if url.contains('?') { '&' } else { '?' };
    connect(Config::from_url(&format!("{url}{mark}collection={name}&{parameters}"))?).await
}

async fn shared(name: &str, parameters: &str) -> Result<Backend> {
    let url = Server::shared().await.expect("a server");
    cluster(&url, name, parameters).await
}

trunkline_conformance::suite! {
    capped,
    Setup::new(|name| async move { shared(&name, "").await })
        .limited_history(|name| async move { shared(&name, "capped_bytes=256KiB&session_ttl=1s").await }),
    capabilities = CAPABILITIES,
    skipped = 1,
}

mod over_tls {
    //! With a TTL index, a password, and a check of the server's certificate.

    use tokio::sync::OnceCell;
    use trunkline_brokers::ClientCertificate;

    use super::*;

    async fn backend(name: &str, parameters: &str) -> Result<Backend> {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        let start = || async { Server::options().user("app", "s3cret").tls(ClientCertificate::Ignored).start().await };
        let server = SERVER.get_or_try_init(start).await.expect("a server");
        let authority = server.certificates().expect("it speaks TLS").authority();
        let url = format!("{}&tlsCAFile={}", server.url(), authority.display());
        cluster(&url, name, parameters).await
    }

    trunkline_conformance::suite! {
        expiring,
        Setup::new(|name| async move { backend(&name, "ttl=1h").await })
            .limited_history(|name| async move { backend(&name, "capped_bytes=256KiB&session_ttl=1s").await })
            .scaled_down_by(4),
        capabilities = CAPABILITIES,
        skipped = 1,
    }
}
