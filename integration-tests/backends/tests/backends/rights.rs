//! Least rights: each backend works with those that docs/operations.md grants, and with none of them left out.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::timeout;
use trunkline::{Membership, Payload, Room, Session, SessionId, Target};
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::{
    Setup,
    kit::{Failure, TestCluster},
};

/// Everything that nodes do: join, publish, ask, keep sessions, leave.
async fn work(url: &str, limit: Duration) -> Result<(), Failure> {
    let url = url.to_owned();
    let setup = Setup::new(move |_| {
        let url = url.clone();
        async move { trunkline::connect(&url).await }
    });
    let cluster = TestCluster::new(&setup.timeout(limit));
    let [a, b] = cluster.nodes().await?;
    let socket = b.socket(["lobby"]).await?;
    a.emit(Target::room("lobby"), "one").await?;
    let packet = socket.wait_for(1).await?.remove(0);
    if a.fetch_sockets(Target::room("lobby")).await.map_or(0, |sockets| sockets.len()) != 1 {
        return Err(Failure::new("a node did not answer"));
    }
    a.server_side_emit(Payload::event("event", &()).unwrap()).await?;
    b.wait_for_server_side_events(1).await?;
    if let (true, Some(since)) = (a.capabilities().history, packet.offset) {
        let id = SessionId::new(format!("session-of-{}", socket.id())).unwrap();
        let rooms = vec![Room::new("lobby"), Room::new(socket.id().as_str())];
        a.persist_session(Session::new(id.clone(), socket.id().clone(), rooms)).await?;
        if b.restore_session(id, since).await?.is_none() {
            return Err(Failure::new("the session was not kept"));
        }
    }
    b.leave().await?;
    if a.capabilities().membership == Membership::BrokerCount {
        a.wait_for_peers(0).await?;
    }
    Ok(())
}

/// Checks that nodes work with all `rights`, and not without any one of them. `grant` returns a URL of a user that has those.
async fn exactly<'a>(rights: &[&'a str], grant: impl AsyncFn(&[&'a str]) -> String) {
    work(&grant(rights).await, Duration::from_secs(30)).await.unwrap();
    for left_out in rights {
        let rest: Vec<_> = rights.iter().copied().filter(|right| right != left_out).collect();
        let url = grant(&rest).await;
        let worked = timeout(Duration::from_secs(15), work(&url, Duration::from_secs(3))).await;
        assert!(!matches!(worked, Ok(Ok(()))), "it works without {left_out}");
    }
}

/// A name that no call before has returned.
fn name() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("app{}", LAST.fetch_add(1, Ordering::Relaxed))
}

async fn redis(rights: &[&str], parameters: &str) {
    let server = Redis::start().await.unwrap();
    // What is not needed at once: pings of idle connections, the end of subscriptions, a look at a stream that was cut.
    let always = ["on", ">pw", "resetchannels", "+ping", "+unsubscribe", "+punsubscribe", "+sunsubscribe", "+xlen"];
    exactly(rights, async |rights| {
        let user = name();
        server.cli(&[&["ACL", "SETUSER", &user], &always[..], rights].concat()).await.unwrap();
        server.cli(&["FLUSHALL"]).await.unwrap();
        format!(
            "{}?{parameters}",
            server.url().trim_end_matches('/').replacen("redis://", &format!("redis://{user}:pw@"), 1)
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_pubsub() {
    let channels = ["&socket.io#/#*", "&socket.io-request#/#", "&socket.io-response#/#*"];
    let commands = ["+subscribe", "+psubscribe", "+publish", "+pubsub|numsub"];
    redis(&[&channels[..], &commands].concat(), "mode=pubsub").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_sharded() {
    redis(&["&socket.io#*", "+ssubscribe", "+spublish", "+pubsub|shardnumsub"], "mode=sharded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_streams() {
    let keys = ["&socket.io*", "~socket.io", "~sio:session:*"];
    let messages = ["+subscribe", "+publish", "+pubsub|numsub", "+xadd", "+xread", "+xrange", "+xinfo|stream"];
    let sessions = ["+set", "+get", "+del", "+multi", "+exec", "+discard"];
    redis(&[&keys[..], &messages, &sessions].concat(), "mode=streams").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats() {
    for (rights, parameters) in [
        (&["publish trunkline.>", "subscribe trunkline.>"][..], ""),
        (
            &["publish trunkline.>", "subscribe trunkline.>", "publish $JS.API.STREAM.>", "publish $JS.API.CONSUMER.>"],
            "?history=on",
        ),
    ] {
        let servers = tokio::sync::Mutex::new(Vec::new());
        exactly(rights, async |rights| {
            let subjects = |kind: &str| {
                let subjects = rights.iter().filter_map(|right| right.strip_prefix(kind));
                subjects.map(|subject| format!("\"{}\"", subject.trim())).collect::<Vec<_>>().join(", ")
            };
            let permissions = |kind: &str| match subjects(kind) {
                none if none.is_empty() => format!("{kind}: {{ deny: \">\" }}"),
                subjects => format!("{kind}: [{subjects}]"),
            };
            let user = format!(
                "authorization: {{ users: [{{ user: a, password: pw, permissions: {{ {}, {} }} }}] }}",
                permissions("publish"),
                permissions("subscribe")
            );
            let server = Nats::options().configuration(&user).start().await.unwrap();
            let url = server.url().trim_end_matches('/').replacen("nats://", "nats://a:pw@", 1);
            servers.lock().await.push(server);
            format!("{url}{parameters}")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq() {
    let server = RabbitMq::start().await.unwrap();
    let at = server.url().split_once("://").unwrap().1.to_owned();
    let host = at.rsplit_once('@').map_or(at.as_str(), |(_, host)| host).to_owned();
    for history in ["off", "on"] {
        exactly(&["configure", "write", "read"], async |rights| {
            let user = name();
            server.ctl(&["add_user", &user, "pw"]).await.unwrap();
            let names = |right: &str| if rights.contains(&right) { r"^trunkline\." } else { "^$" };
            let patterns = ["configure", "write", "read"].map(names);
            server.ctl(&[&["set_permissions", "-p", "/", &user], &patterns[..]].concat()).await.unwrap();
            format!("amqp://{user}:pw@{host}?prefix={user}&history={history}")
        })
        .await;
    }
}

const ATTACHMENTS: [&str; 3] = [
    "SELECT ON socket_io_attachments",
    "INSERT ON socket_io_attachments",
    "USAGE ON SEQUENCE socket_io_attachments_id_seq",
];

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    postgres_tables(&ATTACHMENTS, &["DELETE ON socket_io_attachments"], "history=off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_history() {
    let rights = [
        "SELECT ON socket_io_events",
        "INSERT ON socket_io_events",
        "USAGE ON SEQUENCE socket_io_events_id_seq",
        "SELECT ON socket_io_sessions",
        "INSERT ON socket_io_sessions",
        "UPDATE ON socket_io_sessions",
        "DELETE ON socket_io_sessions",
    ];
    let deletes = ["DELETE ON socket_io_attachments", "DELETE ON socket_io_events"];
    postgres_tables(&rights, &[&ATTACHMENTS[..], &deletes].concat(), "history=on").await;
}

/// `always` is granted as well: old rows are deleted later.
async fn postgres_tables(rights: &[&str], always: &[&str], parameters: &str) {
    let server = Postgres::start().await.unwrap();
    server.sql(trunkline_postgres::SCHEMA).await.unwrap();
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    // A message of this size goes through the table.
    exactly(rights, async |rights| {
        let user = name();
        server.sql(&format!("CREATE ROLE {user} LOGIN")).await.unwrap();
        for right in rights.iter().chain(always) {
            server.sql(&format!("GRANT {right} TO {user}")).await.unwrap();
        }
        let url = server.url().replacen("postgres@", &format!("{user}@"), 1);
        format!("{url}?prefix={user}&create_tables=off&payload_threshold=1B&{parameters}")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb() {
    let server = MongoDb::options().user("admin", "s3cret").start().await.unwrap();
    let client = ::mongodb::Client::with_uri_str(server.url()).await.unwrap();
    let (admin, database) = (client.database("admin"), client.database("socket_io"));
    exactly(&["find", "insert", "changeStream"], async |rights| {
        let user = name();
        let resource = doc! { "db": "socket_io", "collection": "" };
        // Another user has made the collection.
        let actions: Vec<_> = rights.iter().copied().chain(["listCollections"]).collect();
        let made = doc! { "create": &user, "capped": true, "size": 1_048_576 };
        database.run_command(made).await.unwrap();
        let privileges: Vec<Document> = vec![doc! { "resource": resource, "actions": actions }];
        admin.run_command(doc! { "createRole": &user, "privileges": privileges, "roles": [] }).await.unwrap();
        admin.run_command(doc! { "createUser": &user, "pwd": "pw", "roles": [&user] }).await.unwrap();
        server.url().replacen("admin:s3cret@", &format!("{user}:pw@"), 1) + &format!("&collection={user}&create=off")
    })
    .await;
}
