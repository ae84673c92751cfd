//! TLS connections on rustls.

use std::{error::Error as _, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use trunkline_backend::tls::{OwnConfig, certificates, crypto_provider, private_key, trusted_roots};
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
            .with_custom_certificate_verifier(self.verifier(provider)?);
        Ok(MakeRustlsConnect::new(self.with_client_certificate(builder)?))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let authorities = match self.mode {
            SslMode::Disable | SslMode::Prefer => None,
            SslMode::Require if self.root.is_none() => None,
            SslMode::Require | SslMode::VerifyCa => Some(self.authorities(&provider)?),
            SslMode::VerifyFull => return Ok(self.authorities(&provider)?),
        };
        Ok(Arc::new(LibpqVerifier { provider, authorities }))
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

/// Certificate verifier for libpq's modes below `verify-full`, which check less than rustls would: any certificate
/// passes, or that of a trusted authority for any name.
#[derive(Debug)]
struct LibpqVerifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for LibpqVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(verifier) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is checked last: everything else is fine.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
