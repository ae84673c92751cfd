//! What the URL says: the backend, its addresses, its TLS.

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{ClientConfig, pki_types::ServerName};
use trunkline_backend::{
    tls::{self, ServerCheck},
    url::redact,
};

use crate::output::Failure;

/// A backend of Trunkline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    Redis,
    MongoDb,
    Postgres,
    RabbitMq,
    Nats,
}

/// What the URL says.
#[derive(Debug)]
pub(crate) struct BrokerTarget {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    /// Host and port of each server; empty where they are found out otherwise (DNS, unix sockets).
    pub(crate) addresses: Vec<(String, u16)>,
    pub(crate) encryption: Encryption,
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub(crate) enum Encryption {
    /// Not at all, as far as the URL says.
    None,
    /// TLS from the first byte on.
    Direct { ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>, check: ServerCheck },
    /// The broker's protocol begins it; connecting tells whether it works.
    Negotiated,
}

impl Encryption {
    /// Configuration of direct TLS, and the name to ask a host for.
    pub(crate) fn client_config(
        &self,
        host: &str,
    ) -> Option<trunkline::Result<(Arc<ClientConfig>, ServerName<'static>)>> {
        let Self::Direct { ca, client, check } = self else { return None };
        let configured = || Ok((Arc::new(client_config(ca, client, check)?), check.name_of(host)?));
        Some(configured())
    }
}

impl BrokerTarget {
    /// Reads a URL as the backends do, with all its parameters.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let scheme = url.split(':').next().unwrap_or_default();
        let (backend, addresses, encryption) = match scheme {
            "memory" => (Backend::Memory, Vec::new(), Encryption::None),
            "redis" | "rediss" | "redis+unix" | "valkey" | "valkeys" => redis(url)?,
            "mongodb" | "mongodb+srv" => mongodb(url)?,
            "postgres" | "postgresql" => postgres(url)?,
            "amqp" | "amqps" => rabbitmq(url)?,
            "nats" | "tls" => nats(url)?,
            _ => return Err(Failure::usage(format!("{:?} names no broker; see `trunkline --help`", redact(url)))),
        };
        Ok(Self { backend, url: url.to_owned(), addresses, encryption })
    }
}

/// Configuration of TLS with the files and checks that the URL names.
pub(crate) fn client_config(
    ca: &Option<PathBuf>,
    client: &Option<(PathBuf, PathBuf)>,
    check: &ServerCheck,
) -> trunkline::Result<ClientConfig> {
    let client = client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    tls::client_config(ca.as_deref(), client, check)
}

/// What a backend says of a URL that it does not understand.
fn wrong(error: &trunkline::Error) -> Failure {
    Failure::usage(error.to_string())
}

type Parts = (Backend, Vec<(String, u16)>, Encryption);

fn redis(url: &str) -> Result<Parts, Failure> {
    let server = trunkline_redis::Config::from_url(url).map_err(|error| wrong(&error))?.server;
    let addresses = server.addresses.into_iter().filter_map(|address| match address {
        trunkline_redis::Address::Tcp(host, port) => Some((host, port)),
        trunkline_redis::Address::Unix(_) => None,
    });
    let encryption = server.tls.map_or(Encryption::None, |tls| Encryption::Direct {
        ca: tls.authorities,
        client: tls.client,
        check: tls.check,
    });
    Ok((Backend::Redis, addresses.collect(), encryption))
}

fn rabbitmq(url: &str) -> Result<Parts, Failure> {
    let config = trunkline_rabbitmq::Config::from_url(url).map_err(|error| wrong(&error))?;
    let addresses = config.servers.iter().filter_map(|server| host_and_port(server, 5672)).collect();
    let encryption = if config.tls.required {
        Encryption::Direct { ca: config.tls.ca, client: config.tls.client, check: config.tls.check }
    } else {
        Encryption::None
    };
    Ok((Backend::RabbitMq, addresses, encryption))
}

fn nats(url: &str) -> Result<Parts, Failure> {
    let config = trunkline_nats::Config::from_url(url).map_err(|error| wrong(&error))?;
    let addresses = config.servers.iter().filter_map(|server| host_and_port(server, 4222)).collect();
    let encryption = match (config.tls.first, config.tls.required) {
        (true, _) => Encryption::Direct { ca: config.tls.ca, client: config.tls.client, check: config.tls.check },
        (false, true) => Encryption::Negotiated,
        (false, false) => Encryption::None,
    };
    Ok((Backend::Nats, addresses, encryption))
}

fn mongodb(url: &str) -> Result<Parts, Failure> {
    trunkline_mongodb::Config::from_url(url).map_err(|error| wrong(&error))?;
    // The names behind `+srv` are found in the DNS, and are always encrypted.
    if url.starts_with("mongodb+srv:") {
        return Ok((Backend::MongoDb, Vec::new(), Encryption::Negotiated));
    }
    let is_encrypted = ["tls=true", "ssl=true"].iter().any(|parameter| url.contains(parameter));
    let encryption = if is_encrypted { Encryption::Negotiated } else { Encryption::None };
    Ok((Backend::MongoDb, listed(url, 27017), encryption))
}

fn postgres(url: &str) -> Result<Parts, Failure> {
    trunkline_postgres::Config::from_url(url).map_err(|error| wrong(&error))?;
    let is_encrypted =
        ["require", "verify-ca", "verify-full"].iter().any(|mode| url.contains(&format!("sslmode={mode}")));
    let encryption = if is_encrypted { Encryption::Negotiated } else { Encryption::None };
    Ok((Backend::Postgres, listed(url, 5432), encryption))
}

/// Hosts between the credentials and the path of a URL.
fn listed(url: &str, default_port: u16) -> Vec<(String, u16)> {
    let before_query = url.split('?').next().unwrap_or_default();
    let rest = before_query.split_once("://").map_or("", |(_, rest)| rest);
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let hosts = hosts.split('/').next().unwrap_or_default();
    hosts.split(',').filter(|host| !host.contains('%')).filter_map(|host| host_and_port(host, default_port)).collect()
}

fn host_and_port(server: &str, default_port: u16) -> Option<(String, u16)> {
    if server.is_empty() {
        return None;
    }
    match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        _ => Some((server.trim_matches(['[', ']']).to_owned(), default_port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports() {
        let addresses = |url: &str| BrokerTarget::parse(url).unwrap().addresses;
        assert_eq!(addresses("redis://:p@a"), [("a".to_owned(), 6379)]);
        assert_eq!(addresses("postgres://u:p@a:1,[::1]/db?prefix=x"), [("a".to_owned(), 1), ("::1".to_owned(), 5432)]);
        assert_eq!(addresses("mongodb://u:p@a,b:2/db"), [("a".to_owned(), 27017), ("b".to_owned(), 2)]);
        assert_eq!(addresses("amqp://a/vhost"), [("a".to_owned(), 5672)]);
        assert_eq!(addresses("amqps://a"), [("a".to_owned(), 5671)]);
        assert_eq!(addresses("tls://a,b"), [("a".to_owned(), 4222), ("b".to_owned(), 4222)]);
        assert_eq!(addresses("mongodb+srv://a/db"), []);
        assert_eq!(addresses("redis+unix:///run/redis.sock"), []);
    }

    #[test]
    fn no_secret_is_in_an_error() {
        for url in ["ftp://u:s3cret@a", "redis://u:s3cret@a?x=1", "nats://u:s3cret@a:x"] {
            assert!(!BrokerTarget::parse(url).unwrap_err().text.contains("s3cret"), "{url}");
        }
    }
}
