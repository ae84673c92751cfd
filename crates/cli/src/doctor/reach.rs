//! The way to the broker: addresses and TLS.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use trunkline_backend::tls::{ServerCheck, Verify};

use super::{
    finding::{Findings, Measured, Report},
    target::{BrokerTarget, Encryption},
};

/// An open connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How long an address may take to answer.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// Opens a connection to an address, encrypted if the URL says so from the first byte on.
pub(crate) async fn open(target: &BrokerTarget, address: &(String, u16)) -> io::Result<Pin<Box<dyn Stream>>> {
    let (host, port) = address;
    let tcp = limited(TcpStream::connect((host.as_str(), *port))).await?;
    let Some(configured) = target.encryption.client_config(host) else { return Ok(Box::pin(tcp)) };
    let (config, name) = configured.map_err(io::Error::other)?;
    Ok(Box::pin(limited(TlsConnector::from(config).connect(name, tcp)).await?))
}

pub(crate) async fn limited<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT, work).await.unwrap_or_else(|_| Err(io::Error::other(format!("no answer after {CONNECT:?}"))))
}

/// Checks whether the addresses take connections. Returns whether any does.
pub(crate) async fn addresses(target: &BrokerTarget, findings: &mut Findings) -> bool {
    if target.addresses.is_empty() {
        let report = Report::skipped("the URL names no host and port: connecting will tell");
        findings.add("reachable", report);
        return true;
    }
    let mut refused = Vec::new();
    let mut slowest = Duration::ZERO;
    for (host, port) in &target.addresses {
        let began = Instant::now();
        match limited(TcpStream::connect((host.as_str(), *port))).await {
            Ok(_) => slowest = slowest.max(began.elapsed()),
            Err(error) => refused.push(format!("{host}:{port}: {error}")),
        }
    }
    let (all, refused_count) = (target.addresses.len(), refused.len());
    let report = match (refused_count, &target.addresses[0]) {
        (0, _) => Report::ok(format!("{all} of {all} addresses take connections"))
            .value(Measured::new(slowest.as_secs_f64(), "s")),
        (count, _) if count < all => Report::warning(format!("{count} of {all} addresses take no connections"))
            .advice("start these servers, or take them out of the URL"),
        (_, (host, port)) => Report::critical("the broker takes no connections")
            .advice(format!("is it running, and does a firewall let you through? nc -vz {host} {port}")),
    };
    findings.add("reachable", report.cause(refused.join("; ")));
    refused_count < all
}

/// Checks the encryption, where it begins with the first byte. Returns whether it works.
pub(crate) async fn encryption(target: &BrokerTarget, findings: &mut Findings) -> bool {
    let check = match &target.encryption {
        Encryption::None => {
            findings.add("tls", Report::skipped("the URL asks for no encryption"));
            return true;
        }
        Encryption::Negotiated => return true,
        Encryption::Direct { check, .. } => check,
    };
    let mut failures = Vec::new();
    let mut took = Duration::ZERO;
    for address in &target.addresses {
        let began = Instant::now();
        match open(target, address).await {
            Ok(_) => took = took.max(began.elapsed()),
            Err(error) => failures.push(handshake_failure(address, &error)),
        }
    }
    let works = failures.len() < target.addresses.len();
    let report = match failures.is_empty() {
        true => certificate(check).value(Measured::new(took.as_secs_f64(), "s")),
        false if works => Report::warning("not every server can be reached over TLS"),
        false => Report::critical("no encrypted connection can be made"),
    };
    let report = match failures.join("; ") {
        none if none.is_empty() => report,
        cause => report.advice(tls_advice(&cause)).cause(cause),
    };
    findings.add("tls", report);
    works
}

/// What a handshake shows that has succeeded.
fn certificate(check: &ServerCheck) -> Report {
    match (check.verify, &check.server_name) {
        (Verify::Nothing, _) => Report::warning("the connection is encrypted, to whom is not known")
            .cause("tls_verify=off in the URL: no certificate is checked, and anyone on the way can read along")
            .advice("trust this one certificate: tls_fingerprint=SHA256, as openssl x509 -noout -fingerprint -sha256 prints it"),
        (Verify::Fingerprint(_), _) => Report::ok("the certificate has the fingerprint of the URL"),
        (Verify::Everything, Some(name)) => Report::ok(format!("the certificate is trusted and names {name}")),
        (Verify::Everything, None) => Report::ok("the certificate is trusted and names the host"),
    }
}

/// A server without TLS does not understand the handshake: it answers in its own protocol, waits for more, or hangs up.
fn handshake_failure((host, port): &(String, u16), error: &io::Error) -> String {
    let text = error.to_string();
    let is_plain = ["InvalidContentType", "no answer", "eof"].iter().any(|sign| text.contains(sign));
    if is_plain { format!("{host}:{port} {NO_TLS}: {text}") } else { format!("{host}:{port}: {text}") }
}

/// What is said of a port without TLS, by the backends too.
const NO_TLS: &str = "does not speak TLS at this port";

/// What to do after an encrypted connection has failed for this cause.
pub(crate) fn tls_advice(cause: &str) -> &'static str {
    if cause.contains(NO_TLS) { NO_TLS_ADVICE } else { TLS_ADVICE }
}

const NO_TLS_ADVICE: &str = "name the port with TLS, switch TLS on at the server, or ask for none in the URL (redis://, \
     amqp://, nats://, sslmode=disable, tls=false); see: openssl s_client -connect HOST:PORT </dev/null";

const TLS_ADVICE: &str = "look at the certificate: openssl s_client -connect HOST:PORT -showcerts </dev/null; \
     name its authority in the URL (tls_ca, for PostgreSQL sslrootcert, for MongoDB tlsCAFile)";
