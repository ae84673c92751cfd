//! TLS connections. The server must have a valid certificate for its host.

use std::{fmt, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use trunkline_backend::tls::client_config;
use trunkline_core::Result;

use crate::config::Tls;

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct TlsClient(TlsConnector);

impl TlsClient {
    /// Reads the certificates.
    pub(super) fn new(tls: &Tls) -> Result<Self> {
        let client = tls.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let config = client_config(tls.authorities.as_deref(), client)?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsClient")
    }
}
