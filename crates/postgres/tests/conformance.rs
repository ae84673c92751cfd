//! The conformance suite on a real server: without history, with it, and over TLS with a password.

use trunkline_brokers::Postgres as Server;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_postgres::{Config, connect};

/// Small enough to be tried.
const LIMIT: usize = 2 << 20;

const HISTORY: &str = "history=on";
const SHORT_HISTORY: &str = "history=on&history_messages=1000&session_ttl=1s&cleanup_interval=500ms";

fn capabilities(history: bool) -> Capabilities {
    Capabilities::new(Membership::Heartbeats)
        .with_total_order(true)
        .with_acknowledged_in_order(true)
        .with_numbered(true)
        .with_announced_leave(true)
        .with_named_answers(true)
        .with_history(history)
        .with_max_message_bytes(Some(LIMIT))
}

/// A backend of a cluster with a prefix and tables of its own.
async fn cluster(url: &str, name: &str, parameters: &str) -> Result<Backend> {
    let mark = if url.contains('?') { '&' } else { '?' };
    let url = format!(
        "{url}{mark}prefix={name}&table={name}_attachments&history_table={name}_events&session_table={name}_sessions&{parameters}"
    );
    let mut config = Config::from_url(&url)?;
    config.max_message_bytes = LIMIT;
    connect(config).await
}

async fn shared(name: &str, parameters: &str) -> Result<Backend> {
    let url = Server::shared().await.expect("a server");
    cluster(&url, name, parameters).await
}

trunkline_conformance::suite! {
    plain,
    Setup::new(|name| async move { shared(&name, "").await }),
    capabilities = capabilities(false),
    skipped = 25,
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|name| async move { shared(&name, HISTORY).await })
        .limited_history(|name| async move { shared(&name, SHORT_HISTORY).await }),
    capabilities = capabilities(true),
    skipped = 1,
}

mod over_tls {
    //! With a password, and the certificate checked as strictly as possible.

    use tokio::sync::OnceCell;

    use super::*;

    async fn backend(name: &str) -> Result<Backend> {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        let start = || async { Server::options().user("app", "s3cr&t").tls().start().await };
        let server = SERVER.get_or_try_init(start).await.expect("a server");
        let authority = server.certificates().expect("it speaks TLS").authority();
        let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), authority.display());
        cluster(&url, name, "").await
    }

    trunkline_conformance::suite! {
        plain,
        Setup::new(|name| async move { backend(&name).await }),
        capabilities = capabilities(false),
        skipped = 25,
    }
}
