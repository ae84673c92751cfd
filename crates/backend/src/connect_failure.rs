//! Why a server cannot be used. The same mistake is the same error on every backend, whatever its client makes of it.

use std::{fmt, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use trunkline_core::{Error, ErrorKind, Result};

/// A reason why a server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// No program listens there, the name is unknown, or the connection breaks off.
    Unreachable,
    /// No answer came within this time.
    NoAnswer(Duration),
    /// TLS was begun with a server that speaks none.
    NoTls,
    /// The server speaks TLS only.
    NeedsTls,
    /// The server's certificate is not accepted: unknown authority, out of date.
    Certificate,
    /// The server's certificate is for other names than the one by which it was reached. What to do about it.
    CertificateName(&'static str),
    /// The server ends the handshake. Most often it wants a certificate of the client.
    Handshake,
    /// Unknown user, wrong or missing password.
    Credentials,
    /// The user lacks a right.
    Rights,
}

impl ConnectFailure {
    /// Kind of the error: `Disconnected` for what may pass, `Config` for what stays until a setting is changed.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Unreachable | Self::NoAnswer(_) => ErrorKind::Disconnected,
            _ => ErrorKind::Config,
        }
    }

    /// The error, without a cause.
    #[must_use]
    pub fn at(self, server: impl fmt::Display) -> Error {
        Error::new(self.kind(), format!("{server} {self}"))
    }

    /// The same with other advice about a certificate for another name: for backends without `tls_server_name`.
    #[must_use]
    pub fn or_name(self, advice: &'static str) -> Self {
        if matches!(self, Self::CertificateName(_)) { Self::CertificateName(advice) } else { self }
    }

    /// The reason that the text of an error names, if it speaks of TLS. Clients wrap the errors of rustls in ways of their
    /// own, some as text; all keep its words.
    #[must_use]
    pub fn of_tls(error: &impl fmt::Display) -> Option<Self> {
        const WORDS: [(&str, ConnectFailure); 4] = [
            ("certificate not valid for name", ConnectFailure::CertificateName(SERVER_NAME)),
            ("invalid peer certificate", ConnectFailure::Certificate),
            ("received fatal alert", ConnectFailure::Handshake),
            ("received corrupt message of type InvalidContentType", ConnectFailure::NoTls),
        ];
        let text = error.to_string();
        WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, failure)| *failure)
    }
}

/// For those that have the parameter.
const SERVER_NAME: &str = "if that is the right one, name it by tls_server_name=";

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "cannot be reached",
            Self::NoAnswer(limit) => return write!(f, "does not answer within {limit:?}"),
            Self::NoTls => "does not speak TLS at this port",
            Self::NeedsTls => "speaks only TLS at this port",
            Self::Certificate => "has a certificate that is not accepted",
            Self::CertificateName(advice) => return write!(f, "has a certificate for another name; {advice}"),
            Self::Handshake => "refuses the TLS handshake; it may want a certificate of the client",
            Self::Credentials => "does not accept the user or the password",
            Self::Rights => "does not let this user do what is needed",
        })
    }
}

/// Refuses TLS in a build without it.
///
/// # Errors
/// `Config`, naming the crate whose feature `tls` is off.
pub fn tls_is_left_out<T>(of: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Config, format!("TLS is not part of this program: it needs the feature `tls` of {of}")))
}

/// Looks whether a first connection failed because it was made with TLS to a server without, or the other way round:
/// where clients see only a connection that ends, or nothing at all. Any other error is returned as it is.
///
/// `greeting` is something harmless that a server without TLS answers; empty for one that speaks first.
pub async fn look_for_tls(error: Error, servers: &[String], is_tls: bool, greeting: &[u8]) -> Error {
    if error.kind() != ErrorKind::Disconnected {
        return error;
    }
    for server in servers {
        let failure = match (is_tls, speaks_tls(server, greeting).await) {
            (true, Some(false)) => ConnectFailure::NoTls,
            (false, Some(true)) => ConnectFailure::NeedsTls,
            _ => continue,
        };
        return failure.at(server).with_source(error);
    }
    error
}

/// Whether a server speaks TLS; `None` if it says nothing by which to know.
async fn speaks_tls(server: &str, greeting: &[u8]) -> Option<bool> {
    match first_byte(server, greeting).await {
        Some(byte) if !is_tls_record(byte) => Some(false),
        Some(_) => Some(true),
        None => first_byte(server, CLIENT_HELLO).await.filter(|byte| is_tls_record(*byte)).map(|_| true),
    }
}

async fn first_byte(server: &str, greeting: &[u8]) -> Option<u8> {
    /// There was an attempt before that took its time.
    const TIMEOUT: Duration = Duration::from_secs(1);
    let exchange = async {
        let mut stream = TcpStream::connect(server).await.ok()?;
        stream.write_all(greeting).await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(TIMEOUT, exchange).await.ok().flatten()
}

/// Whether it begins an alert or a handshake of TLS. No greeting of a broker begins with such a control character.
fn is_tls_record(first: u8) -> bool {
    matches!(first, 0x15 | 0x16)
}

/// A `ClientHello` of TLS 1.2. A server answers it with a `ServerHello` or an alert.
#[rustfmt::skip]
const CLIENT_HELLO: &[u8] = &[
    // Record, handshake, version, random, no session.
    0x16, 3, 1, 0, 95, 1, 0, 0, 91, 3, 3,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    0,
    // Cipher suites: ECDHE with ECDSA or RSA, and AES or ChaCha20. No compression.
    0, 12, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xcc, 0xa9, 0xcc, 0xa8, 1, 0,
    // Extensions: groups (X25519, P-256), signatures (ECDSA, RSA-PSS, RSA), uncompressed points.
    0, 38,
    0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17,
    0, 13, 0, 18, 0, 16, 4, 3, 5, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 6, 1,
    0, 11, 0, 2, 1, 0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_worth_another_attempt_and_the_rest_is_not() {
        assert!(ConnectFailure::Unreachable.at("a:1").is_retryable());
        assert!(ConnectFailure::NoAnswer(Duration::from_secs(1)).at("a:1").is_retryable());
        let error = ConnectFailure::Credentials.at("a:1");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false));
    }

    #[test]
    fn errors_of_tls_are_known_by_their_words() {
        let of = |text: &str| ConnectFailure::of_tls(&std::io::Error::other(text));
        assert_eq!(of("invalid peer certificate: UnknownIssuer"), Some(ConnectFailure::Certificate));
        let other_name = of("invalid peer certificate: certificate not valid for name \"a\"; it is only valid for b");
        assert_eq!(other_name, Some(ConnectFailure::CertificateName(SERVER_NAME)));
        assert_eq!(of("received fatal alert: CertificateRequired"), Some(ConnectFailure::Handshake));
        assert_eq!(of("reset"), None);
    }
}
