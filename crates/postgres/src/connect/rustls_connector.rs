//! TLS connections on rustls.

use std::{error::Error as _, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder,
    client::{WantsClientCert, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use trunkline_backend::tls::{OwnConfig, certificates, crypto_provider, nameless_verifier, private_key, trusted_roots};
use trunkline_core::{Error, ErrorKind, Result};

use super::tls::{SslMode, Tls};

/// Makes TLS connections.
pub(crate) type Connector = MakeRustlsConnect;

impl Tls {
    /// Reads the certificates.
    pub(crate) fn connector(&self) -> Result<Connector> {
        if let Some(OwnConfig(config)) = &self.own {
            return Ok(MakeRustlsConnect::new(ClientConfig::clone(config)));
        }
        let provider = crypto_provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Config, "TLS versions").with_source(error))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(&provider)?);
        Ok(MakeRustlsConnect::new(self.with_client_certificate(builder)?))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let authorities = match self.mode {
            SslMode::Disable | SslMode::Prefer => None,
            SslMode::Require if self.root.is_none() => None,
            SslMode::Require | SslMode::VerifyCa => Some(self.authorities(provider)?),
            SslMode::VerifyFull => return Ok(self.authorities(provider)?),
        };
        // libpq's modes below `verify-full` check less than rustls would.
        Ok(nameless_verifier(authorities))
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let file = self.root.as_deref().filter(|path| *path != Path::new("system"));
        let roots = trusted_roots(file).map_err(|error| unreadable("sslrootcert", file, &error))?;
        if roots.is_empty() {
            let context = "the operating system has no trusted authorities; name a file with sslrootcert";
            return Err(Error::new(ErrorKind::Config, context));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| Error::new(ErrorKind::Config, "sslrootcert").with_source(error))
    }

    fn with_client_certificate(&self, builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig> {
        let Some((certificate, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(certificate).map_err(|error| unreadable("sslcert", Some(certificate), &error))?;
        let key = private_key(key).map_err(|error| unreadable("sslkey", Some(key), &error))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| Error::new(ErrorKind::Config, "sslcert and sslkey do not fit").with_source(error))
    }
}

/// Names the parameter and its file.
fn unreadable(parameter: &str, path: Option<&Path>, error: &Error) -> Error {
    let path = path.unwrap_or(Path::new("system")).display();
    let reason = error.source().map_or_else(|| "nothing in it can be used".to_owned(), ToString::to_string);
    Error::new(ErrorKind::Config, format!("{parameter} {path}: {reason}"))
}
