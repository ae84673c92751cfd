//! TLS connections.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use trunkline_backend::{
    ConnectFailure,
    tls::{ServerCheck, client_config},
};
use trunkline_core::Result;

use crate::config::Tls;

/// Makes TLS connections.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    check: ServerCheck,
}

impl TlsClient {
    /// Reads the certificates.
    pub(crate) fn new(tls: &Tls) -> Result<Self> {
        let client = tls.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let config = client_config(tls.ca.as_deref(), client, &tls.check)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), check: tls.check.clone() })
    }

    /// Makes a connection to the server `HOST:PORT` a TLS one.
    pub(crate) async fn connect(&self, server: &str, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = self.check.name_of(host)?;
        self.connector.connect(name, stream).await.map_err(|error| {
            // What rustls itself has to say stays wrong.
            let is_refusal = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            let otherwise = if is_refusal { ConnectFailure::Handshake } else { ConnectFailure::Unreachable };
            ConnectFailure::of_tls(&error).unwrap_or(otherwise).at(server).with_source(error)
        })
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}
