//! What the tests of this crate share.

use trunkline_brokers::Postgres as Server;
use trunkline_core::{Backend, Result};
use trunkline_postgres::{Config, connect};

/// The configuration of a cluster that shares a server with others: a prefix and tables of its own.
pub(crate) fn config(url: &str, cluster: &str, parameters: &str) -> Config {
    let mark = if url.contains('?') { '&' } else { '?' };
    let url = format!(
        "{url}{mark}channel_prefix={cluster}&table={cluster}_attachments&history_table={cluster}_events\
         &session_table={cluster}_sessions&{parameters}"
    );
    Config::from_url(&url).expect("the URL is right")
}

/// A backend of a cluster on the server that the tests of this process share.
pub(crate) async fn shared(cluster: &str, parameters: &str) -> Result<Backend> {
    let url = Server::shared().await.expect("a server");
    connect(config(&url, cluster, parameters)).await
}
