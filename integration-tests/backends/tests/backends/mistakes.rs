//! The same mistake is the same error on every backend: its kind, whether trying again helps, and the cause in the text.

use std::error::Error as _;

use tokio::net::TcpListener;
use trunkline::{Error, ErrorKind};
use trunkline_backends::{DIALECTS, Dialect, Server};

/// The brokers of one backend.
struct Brokers {
    plain: Server,
    tls: Server,
    /// An authority that has signed nothing.
    stranger: String,
}

/// A mistake: the URL with it, and what is to be said.
struct Mistake {
    name: &'static str,
    url: fn(&Dialect, &Brokers) -> Option<String>,
    kind: ErrorKind,
    says: &'static str,
}

const CREDENTIALS: &str = "app:s3cret";

/// The table of docs/errors.md.
const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "wrong password",
        url: |dialect, brokers| Some(dialect.url(false, "app:wrong", &brokers.plain.address(), "", "")),
        kind: ErrorKind::Config,
        says: "does not accept the user or the password",
    },
    Mistake {
        name: "unknown user",
        url: |dialect, brokers| Some(dialect.url(false, "nobody:s3cret", &brokers.plain.address(), "", "")),
        kind: ErrorKind::Config,
        says: "does not accept the user or the password",
    },
    Mistake {
        name: "no right",
        url: |dialect, brokers| Some(dialect.url(false, "weak:weak", &brokers.plain.address(), "", "")),
        kind: ErrorKind::Config,
        says: "does not let this user do what is needed",
    },
    Mistake {
        name: "virtual host or database that does not exist",
        url: |dialect, brokers| Some(dialect.url(false, CREDENTIALS, &brokers.plain.address(), dialect.nowhere?, "")),
        kind: ErrorKind::Config,
        says: "",
    },
    Mistake {
        name: "unknown authority",
        url: |dialect, brokers| {
            let query = format!("{}={}", dialect.authorities, brokers.stranger);
            Some(dialect.url(true, &brokers.tls.credentials(), &brokers.tls.address(), "", &query))
        },
        kind: ErrorKind::Config,
        says: "has a certificate that is not accepted",
    },
    Mistake {
        name: "TLS to a plain port",
        url: |dialect, brokers| {
            let query = format!("{}={}", dialect.authorities, brokers.stranger);
            Some(dialect.url(true, CREDENTIALS, &brokers.plain.address(), "", &query))
        },
        kind: ErrorKind::Config,
        says: "does not speak TLS",
    },
    Mistake {
        name: "plain to a TLS port",
        // A NATS server says that it wants TLS, and gets it.
        url: |dialect, brokers| {
            (dialect.name != "nats")
                .then(|| dialect.url(false, &brokers.tls.credentials(), &brokers.tls.address(), "", ""))
        },
        kind: ErrorKind::Config,
        says: "speaks only TLS",
    },
    Mistake {
        name: "nobody listens",
        url: |dialect, _| Some(dialect.url(false, "", "127.0.0.1:1", "", dialect.short)),
        kind: ErrorKind::Disconnected,
        says: "refused",
    },
    Mistake {
        name: "unknown host",
        url: |dialect, _| Some(dialect.url(false, "", "nowhere.invalid:1", "", dialect.short)),
        kind: ErrorKind::Disconnected,
        says: "nowhere.invalid",
    },
    Mistake {
        name: "unknown parameter",
        url: |dialect, _| Some(dialect.url(false, "", "127.0.0.1:1", "", &format!("{}=on", dialect.near_miss.0))),
        kind: ErrorKind::Config,
        says: "did you mean",
    },
    Mistake {
        name: "bad value",
        url: |dialect, _| Some(dialect.url(false, "", "127.0.0.1:1", "", &format!("{}=5x", dialect.time))),
        kind: ErrorKind::Config,
        says: "is \"5x\"; allowed is",
    },
    Mistake {
        name: "parameter given twice",
        url: |dialect, _| Some(dialect.url(false, "", "127.0.0.1:1", "", &format!("{0}=5s&{0}=6s", dialect.time))),
        kind: ErrorKind::Config,
        says: "more than once",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_mistake_has_the_same_kind_on_each_backend() {
    let mut faults = Vec::new();
    for dialect in &DIALECTS {
        let (plain, tls) = Server::start_both(dialect).await.unwrap();
        add_weak_user(&plain).await;
        let stranger =
            trunkline_brokers::Certificates::generate(&plain.broker().folder().join("stranger")).await.unwrap();
        let brokers = Brokers { plain, tls, stranger: stranger.authority().display().to_string() };
        let right = dialect.url(false, CREDENTIALS, &brokers.plain.address(), "", "");
        trunkline::connect(&right).await.expect(&right);
        let authority = brokers.tls.authority().unwrap();
        let query = format!("{}={}", dialect.authorities, authority.display());
        let right = dialect.url(true, &brokers.tls.credentials(), &brokers.tls.address(), "", &query);
        trunkline::connect(&right).await.expect(&right);
        for mistake in MISTAKES {
            let Some(url) = (mistake.url)(dialect, &brokers) else { continue };
            faults.extend(fault(dialect, mistake.name, &url, mistake.kind, mistake.says).await);
        }
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = dialect.url(false, "", &silent.local_addr().unwrap().to_string(), "", dialect.short);
        faults.extend(fault(dialect, "a host that never answers", &url, ErrorKind::Disconnected, "").await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with the error of a mistake.
async fn fault(dialect: &Dialect, mistake: &str, url: &str, kind: ErrorKind, says: &str) -> Option<String> {
    let context = format!("{}, {mistake}", dialect.name);
    let Err(error) = trunkline::connect(url).await else { return Some(format!("{context}: no error")) };
    let text = error.to_string();
    println!("{context}: {text}");
    let is_right = error.kind() == kind
        && error.is_retryable() == (kind == ErrorKind::Disconnected)
        && text.contains(says)
        && text.lines().count() == 1
        && !text.contains("s3cret");
    if !is_right {
        return Some(format!("{context}: {:?}, {text}", error.kind()));
    }
    let cause = root(&error);
    let count = text.matches(&cause).count();
    (count != 1).then(|| format!("{context}: {count} times {cause:?} in {text}"))
}

/// The last cause, or the error itself.
fn root(error: &Error) -> String {
    let Some(mut cause) = error.source() else { return error.to_string() };
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Adds the user `weak`, without any right that is needed.
async fn add_weak_user(server: &Server) {
    match server {
        Server::Redis(redis) => {
            let user = ["ACL", "SETUSER", "weak", "on", ">weak", "~*", "&*", "+@all", "-publish"];
            redis.cli(&user).await.unwrap();
        }
        // In its configuration.
        Server::Nats(_) => {}
        Server::RabbitMq(broker) => {
            broker.ctl(&["add_user", "weak", "weak"]).await.unwrap();
            broker.ctl(&["set_permissions", "weak", "^$", "^$", "^$"]).await.unwrap();
        }
        Server::Postgres(server) => {
            let role = "CREATE ROLE weak LOGIN PASSWORD 'weak'; REVOKE CREATE ON SCHEMA public FROM PUBLIC";
            server.sql(role).await.unwrap();
        }
        Server::MongoDb(server) => {
            let client = mongodb::Client::with_uri_str(server.url()).await.unwrap();
            let user = mongodb::bson::doc! { "createUser": "weak", "pwd": "weak", "roles": [] };
            client.database("admin").run_command(user).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_scheme_that_is_nearly_right_is_recognised() {
    for (written, meant) in [
        ("reddis://h", "redis"),
        ("nast://h", "nats"),
        ("ampq://h", "amqp"),
        ("postgre://h", "postgres"),
        ("mongdb://h", "mongodb"),
        ("memroy:", "memory"),
        ("REDIS://h", "redis"),
        (" postgres://h", "postgres"),
        ("redis+sentinel://h", "redis://…?sentinel=NAME"),
        ("rediss+cluster://h", "rediss://…?cluster=on"),
        ("rabbitmq://h", "amqp"),
    ] {
        let error = trunkline::connect(written).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("did you mean {meant:?}?")), "{error}");
    }
    for error in [
        trunkline_redis::Config::from_url("nats://h").unwrap_err(),
        trunkline_nats::Config::from_url("redis://h").unwrap_err(),
        trunkline_rabbitmq::Config::from_url("redis://h").unwrap_err(),
        trunkline_postgres::Config::from_url("redis://h").unwrap_err(),
        trunkline_mongodb::Config::from_url("redis://h").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

#[tokio::test]
async fn an_address_that_is_incomplete_is_shown_with_what_is_allowed() {
    for (url, shown) in [
        ("", "\"\" has no scheme; allowed are"),
        ("redis", "\"redis\" has no scheme"),
        ("redis:", "allowed is redis://user:password@host:port"),
        ("redis://", "\"\" is no host, and no host:port"),
        ("redis://h:99999", "\"h:99999\" is no host"),
        ("redis://h h", "\"h h\" is no host"),
        ("redis://h ", "\"h \" is no host"),
        ("redis://h?mode=stream", "did you mean \"streams\"?"),
        ("redis://h?prefix=", "allowed is text that is not empty"),
        ("nats://", "allowed is nats://user:password@host:port"),
        ("nats://h?prefix=", "allowed is text that is not empty"),
        ("nats://h?mode=pubsub", "unknown parameter \"mode\"; allowed are"),
        ("amqps:", "allowed is amqp://user:password@host:port"),
        ("postgres://h/db?prefix=", "allowed is text that is not empty"),
        ("mongodb://", "the hostname cannot be empty"),
        ("mongodb://h/?history=off", "the history is always on"),
        ("memory://a/b", "allowed are memory: and memory://NAME"),
        ("memory://a?history=maybe", "allowed is on or off"),
        ("memory://a?history=on&history=off", "more than once"),
        ("http://h", "unknown scheme \"http\"; allowed are"),
    ] {
        let error = trunkline::connect(url).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{url}: {error}");
        assert!(error.to_string().contains(shown), "{url}: {error}");
    }
}

#[tokio::test]
async fn history_may_be_switched_on_where_it_is_always_on() {
    assert!(trunkline_mongodb::Config::from_url("mongodb://h/?history=on").is_ok());
    assert!(trunkline_redis::Config::from_url("redis://h?mode=streams&history=on").is_ok());
    let error = trunkline::connect("redis://h?history=on").await.unwrap_err().to_string();
    assert!(error.contains("it is one of mode=streams"), "{error}");
}
