//! TLS on rustls, with the crypto provider named explicitly: two of them in one program make the default one panic.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use trunkline_core::{Error, ErrorKind, Result};

use crate::config::Tls;

/// Makes TLS connections.
#[derive(Clone)]
pub(crate) struct TlsClient(TlsConnector);

impl TlsClient {
    /// Reads the certificates.
    pub(crate) fn new(tls: &Tls) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Config, "TLS versions").with_source(error))?
            .with_root_certificates(roots(tls.authorities.as_deref())?);
        let config = with_client_certificate(builder, tls)?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Greets a server, which must have a valid certificate for `host`.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

fn roots(path: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match path {
        Some(path) => {
            for certificate in certificates("tls_ca", path)? {
                roots.add(certificate).map_err(|error| unreadable("tls_ca", path, error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn with_client_certificate(builder: ConfigBuilder<ClientConfig, WantsClientCert>, tls: &Tls) -> Result<ClientConfig> {
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("tls_cert", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("tls_key", key, error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| Error::new(ErrorKind::Config, "tls_cert and tls_key do not fit").with_source(error))
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|error| unreadable(name, path, error))?;
    if certificates.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("{name}: no certificate in {}", path.display())));
    }
    Ok(certificates)
}

fn unreadable(name: &str, path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, format!("{name}: cannot read {}: {error}", path.display())).with_source(error)
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}
