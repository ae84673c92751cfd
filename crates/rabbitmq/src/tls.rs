//! TLS with an explicit crypto provider: a process may have several, and then there is no default.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::config::Tls;

/// How to encrypt, and whom to trust; `None` without TLS.
pub(crate) fn client_config(tls: &Tls) -> Result<Option<Arc<ClientConfig>>> {
    if !tls.required {
        return Ok(None);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("no TLS version is available").with_source(error))?
        .with_root_certificates(trusted(tls)?);
    let Some((certificates, key)) = &tls.client else { return Ok(Some(Arc::new(builder.with_no_client_auth()))) };
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key).with_source(error))?;
    let config = builder.with_client_auth_cert(certificates_in(certificates)?, key);
    let config =
        config.map_err(|error| wrong("certificate and key of the client do not go together").with_source(error));
    config.map(Arc::new).map(Some)
}

fn trusted(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(authorities) = &tls.ca else {
        // What cannot be read is left out: a connection that needs it says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates_in(authorities)? {
        roots.add(certificate).map_err(|error| unreadable(authorities).with_source(error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(authorities));
    }
    Ok(roots)
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| unreadable(path).with_source(error))
}

fn unreadable(path: &Path) -> Error {
    wrong(format!("{} has no PEM certificate or key that can be used", path.display()))
}

fn wrong(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, context)
}
