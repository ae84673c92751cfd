//! Users with some of the rights: what is missing is said when connecting, to an emitter as to a server, and what an
//! emitter does not need is not asked for.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use trunkline::{Emitter, ErrorKind, Payload, Target};
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};

/// What connecting may take on a busy machine; less than the time-outs below.
const SOON: Duration = Duration::from_secs(30);

/// Checks that connecting is refused, at once. Returns why.
async fn refused(url: &str) -> String {
    let started = Instant::now();
    let Err(error) = trunkline::connect(url).await else { panic!("{url}: no error") };
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{url}: {error}");
    assert!(error.to_string().contains("does not let this user do what is needed"), "{url}: {error}");
    assert!(started.elapsed() < SOON, "{url}: {:?}", started.elapsed());
    error.to_string()
}

/// Checks that a message can be sent.
async fn accepted(url: &str) {
    let emitter = Emitter::new(&trunkline::connect(url).await.expect(url));
    emitter.emit(Target::all(), Payload::event("event", &(1,)).unwrap()).await.unwrap();
    emitter.close().await.expect(url);
}

fn with_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:pw@{host}")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    let redis = Redis::start().await.unwrap();
    let rights: [(&str, &[&str]); 3] = [
        ("channels", &["~*", "resetchannels", "&other*"]),
        ("keys", &["~other*", "allchannels"]),
        ("silent", &["~*", "allchannels", "-publish", "-spublish", "-xadd"]),
    ];
    for (user, rights) in rights {
        redis.cli(&[&["ACL", "SETUSER", user, "on", ">pw", "+@all"], rights].concat()).await.unwrap();
    }
    let url = |user: &str, mode: &str| format!("{}?mode={mode}", with_user(redis.url(), user));
    for mode in ["pubsub", "sharded", "streams"] {
        refused(&url("silent", mode)).await;
    }
    for (user, mode) in [("channels", "pubsub"), ("channels", "sharded"), ("keys", "streams")] {
        refused(&url(user, mode)).await;
    }
    for (user, mode) in [("keys", "pubsub"), ("keys", "sharded"), ("channels", "streams")] {
        accepted(&url(user, mode)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq() {
    let rabbit = RabbitMq::start().await.unwrap();
    for (user, configure, write, read) in
        [("silent", ".*", "^$", ".*"), ("undeclared", "^$", ".*", ".*"), ("emitter", ".*", ".*", "^$")]
    {
        rabbit.ctl(&["add_user", user, "pw"]).await.unwrap();
        rabbit.ctl(&["set_permissions", user, configure, write, read]).await.unwrap();
    }
    for user in ["silent", "undeclared"] {
        for history in ["off", "on"] {
            refused(&format!("{}?history={history}", with_user(rabbit.url(), user))).await;
        }
    }
    accepted(&with_user(rabbit.url(), "emitter")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let postgres = Postgres::start().await.unwrap();
    postgres.sql(trunkline_postgres::SCHEMA).await.unwrap();
    let roles = "CREATE ROLE nothing LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE emitter LOGIN;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
        GRANT SELECT, INSERT ON socket_io_attachments TO emitter;
        GRANT USAGE ON SEQUENCE socket_io_attachments_id_seq TO emitter";
    postgres.sql(roles).await.unwrap();
    for (user, parameters) in [
        ("nothing", ""),
        ("reader", ""),
        ("nothing", "?history=on"),
        ("reader", "?history=on"),
        ("emitter", "?history=on"),
    ] {
        refused(&format!("{}{parameters}", with_user(postgres.url(), user))).await;
    }
    accepted(&with_user(postgres.url(), "emitter")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb() {
    let mongo = MongoDb::options().user("admin", "s3cret").start().await.unwrap();
    trunkline::connect(mongo.url()).await.unwrap();
    let client = ::mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let role = doc! { "role": "read", "db": "socket_io" };
    let user = doc! { "createUser": "reader", "pwd": "pw", "roles": [role] };
    client.database("admin").run_command(user).await.unwrap();
    refused(&with_user(mongo.url(), "reader")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    let user = |name: &str, publish: &str, subscribe: &str| {
        format!("{{user: {name}, password: pw, permissions: {{publish: {publish}, subscribe: {subscribe}}}}}")
    };
    let users = [
        user("silent", "{deny: \">\"}", "\">\""),
        user("deaf", "\"trunkline.>\"", "{deny: \">\"}"),
        user("node", "\"trunkline.>\"", "\"trunkline.>\""),
        user("writer", "[\"trunkline.>\", \"$JS.API.STREAM.>\"]", "\"trunkline.>\""),
        user("reader", "[\"trunkline.>\", \"$JS.API.STREAM.INFO.>\", \"$JS.API.CONSUMER.>\"]", "\"trunkline.>\""),
        user("all", "[\"trunkline.>\", \"$JS.API.STREAM.>\", \"$JS.API.CONSUMER.>\"]", "\"trunkline.>\""),
    ];
    let configuration = format!("authorization {{ timeout: 60, users = [{}] }}", users.join(", "));
    let nats = Nats::options().configuration(&configuration).start().await.unwrap();
    refused(&format!("{}?connect_timeout=2m", with_user(nats.url(), "silent"))).await;
    refused(&format!("{}?connect_timeout=2m", with_user(nats.url(), "deaf"))).await;
    accepted(&with_user(nats.url(), "node")).await;
    for user in ["node", "writer", "reader"] {
        let url = format!("{}?history=on&connect_timeout=2m", with_user(nats.url(), user));
        let text = refused(&url).await;
        assert!(text.contains("history=on") && text.contains("grant") && text.contains("$JS.API.CONSUMER.>"), "{text}");
    }
    let started = Instant::now();
    accepted(&format!("{}?history=on", with_user(nats.url(), "all"))).await;
    assert!(started.elapsed() < UNANSWERED, "a question for a right is not answered: {:?}", started.elapsed());
}

/// How long an answer of JetStream is waited for.
const UNANSWERED: Duration = Duration::from_secs(5);

/// A history that a server, or an account, has no JetStream for, or not as it is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn nats_without_jetstream() {
    // JetStream is given to accounts.
    let accounts = "accounts { A { users: [{user: none, password: pw}] },
        B { jetstream: enabled, users: [{user: all, password: pw}] } }";
    let nats = Nats::options().configuration(accounts).start().await.unwrap();
    for (user, parameters, says) in [("none", "", "jetstream: enabled"), ("all", "&history_replicas=3", "replicas > 1")]
    {
        let url = format!("{}?history=on&connect_timeout=2m{parameters}", with_user(nats.url(), user));
        let started = Instant::now();
        let Err(error) = trunkline::connect(&url).await else { panic!("{url}: no error") };
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{url}: {error}");
        assert!(error.to_string().contains(says), "{url}: {error}");
        assert!(started.elapsed() < SOON, "{url}: {:?}", started.elapsed());
    }
    accepted(&format!("{}?history=on", with_user(nats.url(), "all"))).await;
}
