//! TLS for broker clients on rustls: the process's crypto provider, trusted roots, client certificates.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use trunkline_core::{Error, ErrorKind, Result};

/// Crypto provider of the process if the application has installed one, otherwise *ring*.
///
/// It is always named explicitly: rustls panics where it has to choose a default between two providers in one build.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// TLS configuration of a client: trusts the certificates in the PEM file `ca`, or those of the operating system without one, and presents
/// the certificate chain and key of `client`, if given.
///
/// # Errors
/// `Config`, naming the file that has no usable certificate or key, or if certificate and key do not belong together.
pub fn client_config(ca: Option<&Path>, client: Option<(&Path, &Path)>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("no TLS version is available").with_source(error))?
        .with_root_certificates(trusted_roots(ca)?);
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
