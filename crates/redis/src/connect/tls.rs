//! TLS connections.

use std::{fmt, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use trunkline_backend::tls::{ServerCheck, client_config};
use trunkline_core::Result;

use crate::config::Tls;

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct TlsClient {
    connector: TlsConnector,
    check: ServerCheck,
}

impl TlsClient {
    /// Reads the certificates.
    pub(super) fn new(tls: &Tls) -> Result<Self> {
        let client = tls.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let config = client_config(tls.authorities.as_deref(), client, &tls.check)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), check: tls.check.clone() })
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = self.check.name_of(host).map_err(std::io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient")
    }
}
