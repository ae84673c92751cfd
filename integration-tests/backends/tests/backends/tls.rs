//! TLS as services have it: names and addresses that are not those of the certificate, certificates nobody has signed, and
//! a configuration of the application's own.

use std::{fs, path::Path, process::Command, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use trunkline::{Backend, ErrorKind, Result};
use trunkline_backend::tls::{OwnConfig, ServerCheck, certificates, client_config, crypto_provider, private_key};
use trunkline_backends::{DIALECTS, Dialect, Server, join, until, until_reconnected};
use trunkline_brokers::{RedisCluster, RedisSentinel};

/// Those that take rustls.
fn dialects() -> impl Iterator<Item = &'static Dialect> {
    DIALECTS.iter().filter(|dialect| ["redis", "nats", "rabbitmq"].contains(&dialect.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_accepted_by_its_fingerprint_its_name_or_for_nothing() {
    for dialect in dialects() {
        let server = Server::start(dialect, true).await.unwrap();
        let authority = server.authority().unwrap();
        let certificate = authority.with_file_name("server.crt");
        let right = fingerprint(&certificate);
        let wrong = fingerprint(&authority);
        let ca = format!("tls_ca={}", authority.display());
        for (query, is_accepted) in [
            (format!("tls_fingerprint={right}"), true),
            (format!("tls_fingerprint={}", right.replace(':', "").to_lowercase()), true),
            (format!("tls_fingerprint={wrong}"), false),
            ("tls_verify=off".to_owned(), true),
            (String::new(), false),
            (format!("{ca}&tls_server_name=localhost"), true),
            (format!("{ca}&tls_server_name=wrong.example"), false),
            (ca, true),
        ] {
            let url = dialect.url(true, &server.credentials(), &server.address(), "", &query);
            let place = format!("{}: {query}", dialect.name);
            match trunkline::connect(&url).await {
                Ok(_) => assert!(is_accepted, "{place}"),
                Err(error) => {
                    assert!(!is_accepted && error.kind() == ErrorKind::Config, "{place}: {error}");
                    assert!(error.to_string().contains("certificate"), "{place}: {error}");
                }
            }
        }
        let url = dialect.url(true, "", "h:1", "", "tls_verify=off&tls_fingerprint=00");
        assert_eq!(trunkline::connect(&url).await.unwrap_err().kind(), ErrorKind::Config);
    }
}

/// The certificates of the test brokers are for `localhost` and 127.0.0.1.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_an_error_with_both_names_and_what_to_do() {
    let mut faults = Vec::new();
    for dialect in &DIALECTS {
        let server = Server::start(dialect, true).await.unwrap();
        let another = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let address = another.local_addr().unwrap().to_string();
        let port = server.address().rsplit_once(':').unwrap().1.parse().unwrap();
        let forwarding = tokio::spawn(forward_to(another, port));
        let query = format!("{}={}", dialect.authorities, server.authority().unwrap().display());
        // The members of a replica set name their own addresses.
        let direct = if dialect.name == "mongodb" { "&directConnection=true" } else { "" };
        let url = dialect.url(true, &server.credentials(), &address, "", &format!("{query}{direct}"));
        let Err(error) = trunkline::connect(&url).await else {
            faults.push(format!("{}: no error", dialect.name));
            continue;
        };
        forwarding.abort();
        let text = error.to_string();
        println!("{}: {text}", dialect.name);
        let advice = match dialect.name {
            "postgres" => "sslmode=verify-ca",
            "mongodb" => "tlsInsecure=true",
            _ => "tls_server_name=",
        };
        let is_right = (error.kind(), error.is_retryable()) == (ErrorKind::Config, false)
            && ["certificate", "127.0.0.2", "localhost", advice].iter().all(|part| text.contains(part))
            && text.lines().count() == 1;
        faults.extend((!is_right).then(|| format!("{}: {:?}, {text}", dialect.name, error.kind())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where the words are those of libpq and of MongoDB's driver.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_accepted_if_the_url_says_so() {
    for dialect in &DIALECTS {
        let (scheme, insecure) = match dialect.name {
            "postgres" => ("postgres://", "sslmode=require"),
            "mongodb" => ("mongodb://", "tls=true&tlsInsecure=true"),
            _ => continue,
        };
        let server = Server::start(dialect, true).await.unwrap();
        let credentials = server.credentials();
        let at = if credentials.is_empty() { "" } else { "@" };
        let path = if dialect.name == "postgres" { "postgres" } else { "" };
        let url = format!("{scheme}{credentials}{at}{}/{path}?{insecure}", server.address());
        trunkline::connect(&url).await.expect(&url);
        let strict = dialect.url(true, &credentials, &server.address(), "", "");
        let error = trunkline::connect(&strict).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{strict}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_the_applications_own_takes_the_place_of_files() {
    for dialect in DIALECTS.iter().filter(|dialect| dialect.name != "mongodb") {
        let server = Server::start(dialect, true).await.unwrap();
        let own = client_config(Some(&server.authority().unwrap()), None, &ServerCheck::default()).unwrap();
        let url = dialect.url(true, &server.credentials(), &server.address(), "", "");
        connect_with(dialect, &url, own.into()).await.expect(dialect.name);
    }
}

async fn connect_with(dialect: &Dialect, url: &str, own: OwnConfig) -> Result<Backend> {
    match dialect.name {
        "redis" => {
            let mut config = trunkline_redis::Config::from_url(url)?;
            config.server.tls.as_mut().expect("TLS").check.client_config = Some(own);
            trunkline_redis::connect(config).await
        }
        "nats" => {
            let mut config = trunkline_nats::Config::from_url(url)?;
            config.tls.check.client_config = Some(own);
            trunkline_nats::connect(config).await
        }
        "rabbitmq" => {
            let mut config = trunkline_rabbitmq::Config::from_url(url)?;
            config.tls.check.client_config = Some(own);
            trunkline_rabbitmq::connect(config).await
        }
        _ => {
            let mut config = trunkline_postgres::Config::from_url(url)?;
            config.server = config.server.with_client_config(own);
            trunkline_postgres::connect(config).await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_is_reached_over_tls_at_other_addresses_and_under_one_name() {
    let cluster = RedisCluster::start().await.unwrap();
    let ports: Vec<_> = cluster.nodes().iter().map(|node| node.port()).collect();
    let front = Front::before(&ports, cluster.nodes()[0].folder()).await;
    for mode in ["pubsub", "sharded", "streams"] {
        let seed = &front.reached[0].1;
        let url = format!("rediss://{seed}?cluster=on&mode={mode}&{}", front.query());
        let node = join(trunkline::connect(&url).await.expect(&url)).await;
        until(&node, |health| health.connected).await;
        node.server_count().await.expect(mode);
        node.close();
        node.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_sentinels_name_is_reached_over_tls() {
    let sentinel = RedisSentinel::start().await.unwrap();
    let mut ports: Vec<_> = sentinel.servers().iter().map(|server| server.port()).collect();
    ports.push(sentinel.sentinel().port());
    let front = Front::before(&ports, sentinel.sentinel().folder()).await;
    let seed = &front.reached[2].1;
    let url = format!("rediss://{seed}?sentinel={}&{}", sentinel.service(), front.query());
    let node = join(trunkline::connect(&url).await.expect(&url)).await;
    until(&node, |health| health.connected).await;
    sentinel.failover().await.unwrap();
    until_reconnected(&node).await;
}

/// TLS in front of servers without it, at other ports, with a certificate for one name and no address.
struct Front {
    /// The addresses that servers name, with those in front of them.
    reached: Vec<(String, String)>,
    certificate: String,
}

const NAME: &str = "cache.example";

impl Front {
    async fn before(ports: &[u16], folder: &Path) -> Self {
        let (certificate, key) = (folder.join("front.crt"), folder.join("front.key"));
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=front",
            "-addext",
            "subjectAltName=DNS:cache.example",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let made =
            Command::new("openssl").args(arguments).arg("-keyout").arg(&key).arg("-out").arg(&certificate).output();
        assert!(made.unwrap().status.success());
        let config = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates(&certificate).unwrap(), private_key(&key).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut reached = Vec::new();
        for port in ports.iter().copied() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            reached.push((format!("127.0.0.1:{port}"), listener.local_addr().unwrap().to_string()));
            tokio::spawn(forward(listener, acceptor.clone(), port));
        }
        Self { reached, certificate: fs::canonicalize(certificate).unwrap().display().to_string() }
    }

    fn query(&self) -> String {
        let pairs: Vec<_> = self.reached.iter().map(|(said, reached)| format!("{said}%3D{reached}")).collect();
        format!("announce={}&tls_server_name={NAME}&tls_ca={}", pairs.join(","), self.certificate)
    }
}

async fn forward_to(listener: TcpListener, port: u16) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

async fn forward(listener: TcpListener, acceptor: TlsAcceptor, port: u16) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

/// SHA-256, as openssl prints it.
fn fingerprint(certificate: &Path) -> String {
    let printed =
        Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate).output();
    let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
    printed.split_once('=').expect("an equals sign").1.trim().to_owned()
}
