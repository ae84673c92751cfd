//! TLS as libpq's `sslmode` means it.

use std::path::PathBuf;

#[cfg(feature = "tls")]
use trunkline_backend::tls::OwnConfig;
use trunkline_backend::url::Params;
use trunkline_core::Result;

#[cfg(feature = "tls")]
pub(crate) use super::rustls_connector::Connector;

/// TLS mode of a connection, with the meanings of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it; its certificate is not checked.
    #[default]
    Prefer,
    /// TLS always. The certificate is checked as by [`SslMode::VerifyCa`] if `sslrootcert` is given, and not at all
    /// otherwise.
    Require,
    /// TLS always, with a certificate of a trusted authority.
    VerifyCa,
    /// TLS always, with a certificate of a trusted authority for the host's name.
    VerifyFull,
}

const MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// Makes TLS connections: none, without the feature `tls`.
#[cfg(not(feature = "tls"))]
pub(crate) type Connector = tokio_postgres::NoTls;

/// The TLS parameters of a URL.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    /// `None` and `system`: the authorities that the operating system trusts.
    pub(super) root: Option<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
    /// In place of all that.
    #[cfg(feature = "tls")]
    pub(crate) own: Option<OwnConfig>,
}

impl Tls {
    pub(crate) fn take(params: &mut Params) -> Result<Self> {
        Ok(Self {
            mode: params.take_word("sslmode", MODES)?.unwrap_or_default(),
            root: params.take::<String>("sslrootcert")?.map(PathBuf::from),
            client: params.take_files("sslcert", "sslkey")?,
            #[cfg(feature = "tls")]
            own: None,
        })
    }

    /// Refuses modes that need TLS.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn connector(&self) -> Result<Connector> {
        match self.mode {
            SslMode::Disable | SslMode::Prefer => Ok(tokio_postgres::NoTls),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                trunkline_backend::connect_failure::tls_is_left_out("trunkline-postgres")
            }
        }
    }
}
