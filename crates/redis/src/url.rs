//! Configuration from a URL.

use percent_encoding::percent_decode_str;
#[cfg(feature = "tls")]
use trunkline_backend::tls::ServerCheck;
use trunkline_backend::url::{Params, did_you_mean, host_and_port, redact};
use trunkline_core::{Error, ErrorKind, Result};

use crate::config::{
    Address, Config, Mode, PubSub, PubSubSubscription, ServerConfig, Sharded, Streams, SubscriptionMode, Tls, Topology,
};

const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Schemes, and what follows them.
const SCHEMES: &[(&str, Kind)] = &[
    ("redis", Kind::Plain),
    ("rediss", Kind::Tls),
    ("redis+unix", Kind::Socket),
    ("valkey", Kind::Plain),
    ("valkeys", Kind::Tls),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Tls,
    Socket,
}

#[derive(Clone, Copy)]
enum ModeName {
    PubSub,
    Sharded,
    Streams,
}

/// Names of parameters that were in use once, with those of today.
const FORMER_NAMES: &[(&str, &str)] =
    &[("buffer", "outbox_bytes"), ("max_message", "max_message_bytes"), ("keepalive", "ping_interval")];

/// Parameters that are not taken everywhere, and what has to be in the URL for them.
const OTHER_MODES: &[(&str, &[&str])] = &[
    ("mode=pubsub", &["specific_response_channel", "max_subscriptions"]),
    ("mode=pubsub and mode=sharded", &["subscription", "linger", "join_grace"]),
    (
        "mode=streams",
        &[
            "stream",
            "streams",
            "max_len",
            "read_count",
            "block",
            "session_prefix",
            "session_ttl",
            "sharded_pubsub",
            "plaintext",
            "history",
        ],
    ),
    ("rediss://", &["tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_verify", "tls_fingerprint"]),
    ("redis+unix://", &["user", "password", "pass", "db"]),
];

const MODES: &[(&str, ModeName)] =
    &[("pubsub", ModeName::PubSub), ("sharded", ModeName::Sharded), ("streams", ModeName::Streams)];

/// Value of `subscription`, which means something in one of two modes.
#[derive(Clone, Copy)]
enum Subscription {
    PubSub(PubSubSubscription),
    Sharded(SubscriptionMode),
}

const SUBSCRIPTIONS: &[(&str, Subscription)] = &[
    ("pattern", Subscription::PubSub(PubSubSubscription::Pattern)),
    ("rooms", Subscription::PubSub(PubSubSubscription::Rooms)),
    ("static", Subscription::Sharded(SubscriptionMode::Static)),
    ("dynamic", Subscription::Sharded(SubscriptionMode::Dynamic)),
    ("dynamic-private", Subscription::Sharded(SubscriptionMode::DynamicPrivate)),
];

impl Config {
    /// Configuration from a URL: `redis://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETERS`, `rediss://…` for TLS,
    /// `redis+unix:///PATH/OF/SOCKET?PARAMETERS`, with the parameters of the table in the [README](crate#options).
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed. No message contains a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = address.split_once("://").ok_or_else(|| {
            refuse(url, "there is no ://; allowed is redis://user:password@host:port,host:port/database")
        })?;
        let kind = SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| {
            let hint = did_you_mean(scheme, SCHEMES.iter().map(|(name, _)| *name));
            refuse(url, &format!("the scheme is none of redis, rediss, redis+unix, valkey, valkeys{hint}"))
        })?;
        let mut query =
            OTHER_MODES.iter().fold(Params::parse(query).with_aliases(FORMER_NAMES), |query, (mode, names)| {
                query.with_other_mode(mode, names)
            });
        let mut server = match kind {
            Kind::Socket => socket(rest, &mut query),
            Kind::Plain | Kind::Tls => network(rest, &mut query),
        }
        .map_err(|error| error.within(format!("{:?}", redact(url))))?;
        server.tls = tls(kind, &mut query)?;
        let mut config = Self::new(server);
        config.mode = mode(&mut query)?;
        config.take(&mut query)?;
        query.finish()?;
        config.check()?;
        Ok(config)
    }

    fn take(&mut self, query: &mut Params) -> Result<()> {
        query.read("prefix", &mut self.prefix)?;
        query.read_bytes("outbox_bytes", &mut self.outbox.bytes)?;
        query.read_bytes("max_message_bytes", &mut self.max_message_bytes)?;
        query.read("connect_timeout", &mut self.connect_timeout)?;
        query.read("response_timeout", &mut self.response_timeout)?;
        query.read("ping_interval", &mut self.ping_interval)?;
        query.read("max_backoff", &mut self.max_backoff)
    }
}

fn refuse(url: &str, why: &str) -> Error {
    wrong(why).within(format!("{:?}", redact(url)))
}

fn wrong(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, why)
}

fn mode(query: &mut Params) -> Result<Mode> {
    Ok(match query.take_word("mode", MODES)?.unwrap_or(ModeName::PubSub) {
        ModeName::PubSub => {
            let mut pubsub = PubSub::default();
            query.read("specific_response_channel", &mut pubsub.specific_response_channel)?;
            match query.take_word("subscription", SUBSCRIPTIONS)? {
                Some(Subscription::PubSub(subscription)) => pubsub.subscription = subscription,
                Some(Subscription::Sharded(_)) => return Err(wrong_subscription("pubsub")),
                None => {}
            }
            query.read("max_subscriptions", &mut pubsub.max_subscriptions)?;
            query.read("linger", &mut pubsub.linger)?;
            query.read("join_grace", &mut pubsub.join_grace)?;
            Mode::PubSub(pubsub)
        }
        ModeName::Sharded => {
            let mut sharded = Sharded::default();
            match query.take_word("subscription", SUBSCRIPTIONS)? {
                Some(Subscription::Sharded(subscription)) => sharded.subscription = subscription,
                Some(Subscription::PubSub(_)) => return Err(wrong_subscription("sharded")),
                None => {}
            }
            query.read("linger", &mut sharded.linger)?;
            query.read("join_grace", &mut sharded.join_grace)?;
            Mode::Sharded(sharded)
        }
        ModeName::Streams => Mode::Streams(streams(query)?),
    })
}

/// The value given belongs to the other of the two modes.
fn wrong_subscription(mode: &str) -> Error {
    wrong(format!(
        "subscription with mode={mode}: mode=pubsub has pattern and rooms; mode=sharded has static, dynamic and \
         dynamic-private"
    ))
}

fn streams(query: &mut Params) -> Result<Streams> {
    let mut streams = Streams::default();
    query.take_lasting_history()?;
    query.read("stream", &mut streams.stream)?;
    query.read("streams", &mut streams.count)?;
    query.read("max_len", &mut streams.max_len)?;
    query.read("read_count", &mut streams.read_count)?;
    query.read("block", &mut streams.block)?;
    query.read("session_prefix", &mut streams.session_prefix)?;
    query.read("session_ttl", &mut streams.session_ttl)?;
    query.read("sharded_pubsub", &mut streams.sharded_pubsub)?;
    query.read("plaintext", &mut streams.plaintext)?;
    Ok(streams)
}

fn tls(kind: Kind, query: &mut Params) -> Result<Option<Tls>> {
    if kind != Kind::Tls {
        return Ok(None);
    }
    let authorities = query.take::<String>("tls_ca")?.map(Into::into);
    let client = query.take_files("tls_cert", "tls_key")?;
    Ok(Some(Tls {
        authorities,
        client,
        #[cfg(feature = "tls")]
        check: ServerCheck::take(query)?,
    }))
}

/// `/path?user=…&password=…&db=…`, also under the names of the `redis` crate.
fn socket(path: &str, query: &mut Params) -> Result<ServerConfig> {
    if path.is_empty() {
        return Err(wrong("there is no path of a socket"));
    }
    let mut server = ServerConfig::new(Address::Unix(decode(path)?.into()));
    let mut take = |name| query.take::<String>(name);
    server.user = take("user")?;
    server.password = take("password")?.or(take("pass")?);
    if let Some(database) = take("db")? {
        server.database = parse_database(&database)?;
    }
    Ok(server)
}

/// `user:password@host:port,host:port/database?cluster=…&sentinel=…`.
fn network(rest: &str, query: &mut Params) -> Result<ServerConfig> {
    let (credentials, hosts) = rest.rsplit_once('@').map_or((None, rest), |(before, hosts)| (Some(before), hosts));
    let (hosts, database) = hosts.split_once('/').unwrap_or((hosts, ""));
    let topology = topology(query)?;
    let port = if matches!(topology, Topology::Sentinel { .. }) { SENTINEL_PORT } else { DEFAULT_PORT };
    let addresses = hosts.split(',').map(|host| address(host, port)).collect::<Result<Vec<_>>>()?;
    let mut server = ServerConfig::new(Address::Tcp(String::new(), 0));
    (server.topology, server.addresses) = (topology, addresses);
    query.read("announce", &mut server.announce)?;
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        server.user = Some(decode(user)?).filter(|user| !user.is_empty());
        server.password = Some(decode(password)?).filter(|password| !password.is_empty());
    }
    if !database.is_empty() {
        server.database = parse_database(database)?;
    }
    Ok(server)
}

fn topology(query: &mut Params) -> Result<Topology> {
    let mut text = |name| query.take::<String>(name);
    let sentinel = text("sentinel")?;
    let (user, password) = (text("sentinel_user")?, text("sentinel_password")?);
    let cluster = query.take("cluster")?.unwrap_or(false);
    match (sentinel, cluster) {
        (Some(_), true) => Err(wrong("sentinel and cluster exclude each other")),
        (Some(service), false) => Ok(Topology::Sentinel { service, user, password }),
        (None, _) if user.is_some() || password.is_some() => {
            Err(wrong("sentinel_user and sentinel_password need sentinel=NAME"))
        }
        (None, true) => Ok(Topology::Cluster),
        (None, false) => Ok(Topology::Standalone),
    }
}

/// `host`, `host:port`, `[::1]`, `[::1]:port`.
fn address(text: &str, default_port: u16) -> Result<Address> {
    let address = host_and_port(text, default_port);
    let parts = address.as_deref().and_then(|address| address.rsplit_once(':'));
    let (host, port) = parts.ok_or_else(|| wrong(format!("{text:?} is no host, and no host:port")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Address::Tcp(host.to_owned(), port.parse().map_err(|_| wrong(format!("{port:?} is no port")))?))
}

fn parse_database(text: &str) -> Result<u32> {
    text.parse().map_err(|_| wrong(format!("{text:?} is no database number")))
}

/// Undoes percent-encoding; what is no encoding stays.
fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| wrong("percent-encoded text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(url: &str) -> Config {
        Config::from_url(url).unwrap()
    }

    fn complaint(url: &str) -> String {
        let error = Config::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_host_is_enough() {
        let config = config("redis://localhost");
        assert_eq!(config.server, ServerConfig::new(Address::Tcp("localhost".into(), 6379)));
        assert_eq!(config.mode, Mode::PubSub(PubSub::default()));
    }

    #[test]
    fn user_password_port_and_database_are_read() {
        let server = config("redis://app:s%3Acr%40t@[::1]:7000/3").server;
        assert_eq!(server.addresses, [Address::Tcp("::1".into(), 7000)]);
        assert_eq!((server.user.as_deref(), server.password.as_deref()), (Some("app"), Some("s:cr@t")));
        assert_eq!(server.database, 3);
        let server = config("redis://:only@h").server;
        assert_eq!((server.user, server.password.as_deref()), (None, Some("only")));
    }

    #[test]
    fn former_names_of_parameters_are_accepted() {
        let config = config("redis://h?buffer=1KiB&max_message=2KiB&keepalive=3s");
        assert_eq!((config.outbox.bytes, config.max_message_bytes), (1 << 10, 2 << 10));
        assert_eq!(config.ping_interval, Duration::from_secs(3));
    }

    #[test]
    fn every_mode_has_its_options() {
        let mode = config("redis://h?mode=sharded&subscription=dynamic-private&linger=1s").mode;
        let Mode::Sharded(sharded) = mode else { panic!("{mode:?}") };
        assert_eq!(sharded.subscription, SubscriptionMode::DynamicPrivate);
        assert_eq!(sharded.linger, Duration::from_secs(1));
        let url = "redis://h?mode=streams&stream=s&streams=3&max_len=5&session_ttl=1h&sharded_pubsub=on&plaintext=on";
        let Mode::Streams(streams) = config(url).mode else { panic!() };
        assert_eq!((streams.stream.as_str(), streams.count, streams.max_len), ("s", 3, 5));
        assert!(streams.sharded_pubsub && streams.plaintext);
        let Mode::PubSub(pubsub) = config("redis://h?specific_response_channel=on").mode else { panic!() };
        assert!(pubsub.specific_response_channel);
        assert!(complaint("redis://h?stream=x").contains("unknown parameter \"stream\""));
        assert!(complaint("redis://h?mode=x").contains("one of pubsub, sharded, streams"));
    }

    #[test]
    fn a_parameter_of_another_mode_says_of_which() {
        for (mode, names) in OTHER_MODES {
            let own = match mode.split_once(' ').map_or(*mode, |(first, _)| first) {
                one if one.contains('=') => format!("redis://h?{one}&"),
                scheme => format!("{scheme}h?"),
            };
            let other =
                if mode.contains("mode=sharded") { "redis://h?mode=streams&" } else { "redis://h?mode=sharded&" };
            for name in *names {
                let refused = complaint(&format!("{other}{name}=x"));
                assert!(refused.contains(&format!("{name:?}; it is one of {mode}")), "{refused}");
                if let Err(error) = Config::from_url(&format!("{own}{name}=x")) {
                    assert!(!error.to_string().contains("unknown parameter"), "{error}");
                }
            }
        }
        assert!(complaint("redis://h?histroy=on").contains("did you mean \"history\""));
        assert!(complaint("reddis://h").contains("did you mean \"redis\""));
        assert!(Config::from_url("redis://h?mode=streams&history=on").is_ok());
    }

    #[test]
    fn both_modes_with_subscriptions_are_named_when_the_value_is_of_the_other() {
        for mode in ["", "mode=sharded&"] {
            let own = if mode.is_empty() { "rooms" } else { "static" };
            let other = if mode.is_empty() { "static" } else { "rooms" };
            assert!(Config::from_url(&format!("redis://h?{mode}subscription={own}")).is_ok());
            let refused = complaint(&format!("redis://h?{mode}subscription={other}"));
            assert!(refused.contains("mode=pubsub has pattern and rooms"), "{refused}");
            assert!(refused.contains("mode=sharded has static, dynamic and dynamic-private"), "{refused}");
        }
        let url = "redis://h?subscription=rooms&max_subscriptions=7&linger=1s&join_grace=2s";
        let Mode::PubSub(pubsub) = config(url).mode else { panic!() };
        assert_eq!((pubsub.subscription, pubsub.max_subscriptions), (PubSubSubscription::Rooms, 7));
        assert_eq!((pubsub.linger, pubsub.join_grace), (Duration::from_secs(1), Duration::from_secs(2)));
        assert!(complaint("redis://h?max_subscriptions=0").contains("max_subscriptions is 0"));
    }

    #[test]
    fn clusters_and_sentinels_have_several_hosts() {
        let server = config("redis://a:1,b?cluster=on").server;
        assert_eq!(server.topology, Topology::Cluster);
        assert_eq!(server.addresses, [Address::Tcp("a".into(), 1), Address::Tcp("b".into(), 6379)]);
        let server = config("redis://:pw@a,b:1/2?sentinel=mymaster&sentinel_password=x").server;
        assert_eq!(server.addresses, [Address::Tcp("a".into(), 26379), Address::Tcp("b".into(), 1)]);
        assert!(matches!(server.topology, Topology::Sentinel { service, .. } if service == "mymaster"));
        assert!(complaint("redis://a,b").contains("several addresses"));
        assert!(complaint("redis://a/1?cluster=on").contains("database 1"));
        assert!(complaint("redis://a?cluster=on&sentinel=x").contains("exclude"));
    }

    #[test]
    fn sockets_and_tls_have_schemes_of_their_own() {
        let server = config("redis+unix:///run/redis.sock?user=app&pass=pw&db=2").server;
        assert_eq!(server.addresses, [Address::Unix("/run/redis.sock".into())]);
        assert_eq!((server.user.as_deref(), server.database), (Some("app"), 2));
        let tls = config("rediss://h?tls_ca=/ca.pem&tls_cert=/c.pem&tls_key=/k.pem").server.tls.unwrap();
        assert_eq!(tls.authorities, Some("/ca.pem".into()));
        assert_eq!(tls.client, Some(("/c.pem".into(), "/k.pem".into())));
        assert!(complaint("rediss://h?tls_cert=/c.pem").contains("go together"));
        assert!(complaint("redis://h?tls_ca=/ca.pem").contains("unknown parameter"));
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (url, part) in [
            ("http://u:secret@h", "none of redis, rediss"),
            ("redis://u:secret@", "is no host"),
            ("redis://u:secret@h:port", "is no host"),
            ("redis://u:secret@h/x", "is no database number"),
            ("redis://u:secret@h?max_message=1GiB", "max_message_bytes is"),
            ("redis://u:secret@h?ping_interval=0s", "ping_interval is 0"),
            ("redis://u:secret@h?mode=streams&streams=0", "streams is 0"),
        ] {
            let complaint = complaint(url);
            assert!(complaint.contains(part) && !complaint.contains("secret"), "{complaint}");
        }
        let shown = format!("{:?}", config("redis://u:secret@h?sentinel=s&sentinel_password=secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
