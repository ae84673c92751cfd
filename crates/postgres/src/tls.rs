//! TLS as libpq's `sslmode` means it, on rustls.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use trunkline_backend::url::Params;
use trunkline_core::{Error, ErrorKind, Result};

/// How much TLS is wanted, as in libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// None.
    Disable,
    /// If the server offers it, without checking its certificate.
    #[default]
    Prefer,
    /// Always. The certificate is checked as by [`SslMode::VerifyCa`] if `sslrootcert` is given, and not at all otherwise.
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for the host's name.
    VerifyFull,
}

const MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// What a URL says about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    /// `None` and `system`: the authorities that the operating system trusts.
    root: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(crate) fn take(query: &mut Params) -> Result<Self> {
        let mode = query.take_word("sslmode", MODES)?.unwrap_or_default();
        let root = query.take::<String>("sslrootcert")?.map(PathBuf::from);
        let certificate = query.take::<String>("sslcert")?.map(PathBuf::from);
        let key = query.take::<String>("sslkey")?.map(PathBuf::from);
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "sslcert and sslkey belong together; one of them is missing",
                ));
            }
        };
        Ok(Self { mode, root, client })
    }

    /// Reads the certificates.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Config, "TLS versions").with_source(error))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        Ok(MakeRustlsConnect::new(self.with_client_certificate(builder)?))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let has_roots = self.root.is_some();
        let trust = match self.mode {
            SslMode::Disable | SslMode::Prefer => Trust::Anyone,
            SslMode::Require if !has_roots => Trust::Anyone,
            SslMode::Require | SslMode::VerifyCa => Trust::AnyName(self.authorities(&provider)?),
            SslMode::VerifyFull => return Ok(self.authorities(&provider)?),
        };
        Ok(Arc::new(Lenient { provider, trust }))
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let roots = match &self.root {
            Some(path) if path != Path::new("system") => roots_in(path)?,
            _ => system_roots()?,
        };
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| Error::new(ErrorKind::Config, "sslrootcert").with_source(error))
    }

    fn with_client_certificate(&self, builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig> {
        let Some((certificate, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates_in("sslcert", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, error))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| Error::new(ErrorKind::Config, "sslcert and sslkey do not fit").with_source(error))
    }
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in("sslrootcert", path)? {
        roots.add(certificate).map_err(|error| unreadable("sslrootcert", path, error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let context = "the operating system has no trusted authorities; name a file with sslrootcert";
        return Err(Error::new(ErrorKind::Config, context));
    }
    Ok(roots)
}

fn certificates_in(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(parameter, path, error))?;
    if certificates.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("{parameter} {}: no certificate in it", path.display())));
    }
    Ok(certificates)
}

fn unreadable(parameter: &str, path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, format!("{parameter} {}: {error}", path.display())).with_source(error)
}

/// Checks less than rustls would: libpq's modes below `verify-full`.
struct Lenient {
    provider: Arc<CryptoProvider>,
    trust: Trust,
}

enum Trust {
    Anyone,
    AnyName(Arc<WebPkiServerVerifier>),
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::AnyName(verifier) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
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

impl fmt::Debug for Lenient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.trust {
            Trust::Anyone => "Lenient(anyone)",
            Trust::AnyName(_) => "Lenient(any name)",
        })
    }
}
