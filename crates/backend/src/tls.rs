//! TLS for broker clients on rustls: the process's crypto provider, trusted roots, client certificates.

use std::{fmt, path::Path, sync::Arc};

pub use rustls;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedCipherSuite,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, hash::HashAlgorithm, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::url::{ParamValue, Params};

/// Crypto provider of the process if the application has installed one, otherwise *ring*.
///
/// It is always named explicitly: rustls panics where it has to choose a default between two providers in one build.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// How the certificate of a server is checked. By default as browsers do: a trusted authority, and the name of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCheck {
    /// Name that the certificate must be for, in place of the host of the URL, and of the hosts that the servers of a
    /// cluster name. `tls_server_name` in a URL.
    pub server_name: Option<String>,
    /// What is checked. `tls_verify=off` and `tls_fingerprint` in a URL.
    pub verify: Verify,
    /// A configuration of the application's own, with which nothing else about certificates counts but `server_name`, and
    /// that only as the name that is asked for.
    pub client_config: Option<OwnConfig>,
}

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Its authority, its name and its time.
    #[default]
    Everything,
    /// Its SHA-256 fingerprint; neither its authority nor its name.
    Fingerprint([u8; 32]),
    /// Nothing: anyone on the way can read, and change, all there is. Logged as a warning.
    Nothing,
}

/// A [`ClientConfig`] that the application has made.
#[derive(Clone)]
pub struct OwnConfig(pub Arc<ClientConfig>);

impl From<ClientConfig> for OwnConfig {
    fn from(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl PartialEq for OwnConfig {
    /// Whether it is the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OwnConfig {}

impl fmt::Debug for OwnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnConfig")
    }
}

impl ServerCheck {
    /// Names of its parameters in URLs.
    pub const PARAMETERS: [&str; 3] = ["tls_server_name", "tls_verify", "tls_fingerprint"];

    /// Takes its parameters.
    ///
    /// # Errors
    /// `Config` if one is wrong, or if `tls_verify=off` and a fingerprint are both given.
    pub fn take(params: &mut Params) -> Result<Self> {
        let server_name: Option<String> = params.take("tls_server_name")?;
        if let Some(name) = &server_name {
            parse_name(name)?;
        }
        let is_on = params.take_word("tls_verify", &[("on", true), ("off", false)])?;
        let verify = match (params.take("tls_fingerprint")?, is_on) {
            (Some(_), Some(false)) => return Err(wrong("tls_verify=off and tls_fingerprint exclude each other")),
            (Some(Fingerprint(sha256)), _) => Verify::Fingerprint(sha256),
            (None, Some(false)) => Verify::Nothing,
            (None, _) => Verify::Everything,
        };
        Ok(Self { server_name, verify, client_config: None })
    }

    /// The name to ask a host for.
    ///
    /// # Errors
    /// `Config` if it is none.
    pub fn name_of(&self, host: &str) -> Result<ServerName<'static>> {
        parse_name(self.server_name.as_deref().unwrap_or(host))
    }

    fn verifier(&self, ca: Option<&Path>) -> Result<Checked> {
        let provider = crypto_provider();
        let name = self.server_name.as_deref().map(parse_name).transpose()?;
        let proof = match self.verify {
            Verify::Everything => {
                let roots = Arc::new(trusted_roots(ca)?);
                let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                let authorities = built.map_err(|error| wrong("no authority is trusted").with_source(error))?;
                Proof::Authority(authorities, name.map_or(ExpectedName::OfHost, ExpectedName::Given))
            }
            Verify::Fingerprint(sha256) => Proof::Fingerprint(sha256),
            Verify::Nothing => {
                tracing::warn!(
                    "tls_verify=off: the server's certificate is not checked, so anyone on the way can read along"
                );
                Proof::Nothing
            }
        };
        Ok(Checked { provider, proof })
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|error| wrong(format!("{name:?} is no name of a TLS server")).with_source(error))
}

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` prints it, with or without colons.
struct Fingerprint([u8; 32]);

impl ParamValue for Fingerprint {
    const EXPECTED: &'static str = "64 hexadecimal digits, with or without colons";

    fn parse(text: &str) -> Option<Self> {
        let digits = text.replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |index: usize| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok();
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        bytes?.try_into().ok().map(Self)
    }
}

/// Certificate verifier that accepts what these authorities have signed, for any name; without authorities, any
/// certificate. Less than rustls checks, for protocols whose clients have such modes.
#[must_use]
pub fn nameless_verifier(authorities: Option<Arc<WebPkiServerVerifier>>) -> Arc<dyn ServerCertVerifier> {
    let proof = authorities.map_or(Proof::Nothing, |trusted| Proof::Authority(trusted, ExpectedName::Any));
    Arc::new(Checked { provider: crypto_provider(), proof })
}

/// Certificate verifier that checks more, or less, than rustls would. That the server has the key of its certificate is
/// always checked.
#[derive(Debug)]
struct Checked {
    provider: Arc<CryptoProvider>,
    proof: Proof,
}

/// What makes a certificate a right one.
#[derive(Debug)]
enum Proof {
    Authority(Arc<WebPkiServerVerifier>, ExpectedName),
    Fingerprint([u8; 32]),
    Nothing,
}

/// The name for which a certificate must be.
#[derive(Debug)]
enum ExpectedName {
    OfHost,
    Given(ServerName<'static>),
    Any,
}

impl Checked {
    /// SHA-256 as the crypto provider has it, for the hashes of its cipher suites.
    fn sha256(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let hashes = self.provider.cipher_suites.iter().map(|suite| match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        });
        let mut hashes = hashes.filter(|hash| hash.algorithm() == HashAlgorithm::SHA256);
        hashes.next().map(|hash| hash.hash(bytes).as_ref().to_vec())
    }
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.proof {
            Proof::Authority(authorities, expected) => {
                let name = if let ExpectedName::Given(name) = expected { name } else { server_name };
                let verified = authorities.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
                match (expected, verified) {
                    // The name is checked last: everything else is fine.
                    (
                        ExpectedName::Any,
                        Err(rustls::Error::InvalidCertificate(
                            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                        )),
                    ) => Ok(ServerCertVerified::assertion()),
                    (_, verified) => verified,
                }
            }
            Proof::Fingerprint(expected) if self.sha256(end_entity).as_deref() != Some(&expected[..]) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Proof::Fingerprint(_) | Proof::Nothing => Ok(ServerCertVerified::assertion()),
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

/// TLS configuration of a client: that of the application in `check`, if there is one. Otherwise one that trusts the
/// certificates in the PEM file `ca`, or those of the operating system without one, checks as `check` says, and presents
/// the certificate chain and key of `client`, if given.
///
/// # Errors
/// `Config`, naming the file that has no usable certificate or key, or if certificate and key do not belong together.
pub fn client_config(ca: Option<&Path>, client: Option<(&Path, &Path)>, check: &ServerCheck) -> Result<ClientConfig> {
    if let Some(OwnConfig(config)) = &check.client_config {
        return Ok(ClientConfig::clone(config));
    }
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("no TLS version is available").with_source(error))?;
    let builder = match (check.verify, &check.server_name) {
        // Here a system without any authorities is no error yet: there may be no TLS.
        (Verify::Everything, None) => builder.with_root_certificates(trusted_roots(ca)?),
        _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(check.verifier(ca)?)),
    };
    let Some((certificate, key)) = client else { return Ok(builder.with_no_client_auth()) };
    builder
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(|error| wrong("the client's certificate and key do not belong together").with_source(error))
}

/// Certificates of authorities in the PEM file `ca`; without one, those that the operating system trusts.
///
/// # Errors
/// `Config` if the file has no certificate that can be used.
pub fn trusted_roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        // What cannot be read is left out: a connection that needs it says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| unreadable(ca).with_source(error))?;
    }
    Ok(roots)
}

/// Certificates in a PEM file, at least one.
///
/// # Errors
/// `Config`, naming the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path).with_source(error))?;
    if found.is_empty() { Err(unreadable(path)) } else { Ok(found) }
}

/// First private key in a PEM file.
///
/// # Errors
/// `Config`, naming the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path).with_source(error))
}

fn unreadable(path: &Path) -> Error {
    wrong(format!("{} has no PEM certificate or key that can be used", path.display()))
}

fn wrong(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, context)
}
