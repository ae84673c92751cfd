//! What is logged when a broker goes and comes back, on every backend: once that it is lost, once that it is back, and
//! nothing by the clients.

use std::{
    fmt::{self, Write as _},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{Layer, layer::Context, prelude::*};
use trunkline::{
    AckSink, ClusterNode, EventReply, DeliveryReport, Local, Namespace, NodeConfig, NodeId, Offset, Payload, Room,
    SocketInfo, Target,
};
use trunkline_backends::{DIALECTS, Dialect, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_and_the_return_are_logged_once_and_a_clean_exit_is_silent() {
    let log = Log::default();
    tracing_subscriber::registry().with(log.clone()).init();
    let mut faults = Vec::new();
    for dialect in &DIALECTS {
        let server = Server::start(dialect, false).await.unwrap();
        let modes: &[&str] = match dialect.name {
            "redis" => &["mode=pubsub", "mode=sharded", "mode=streams"],
            "nats" | "rabbitmq" | "postgres" => &["", "history=on"],
            _ => &[""],
        };
        for mode in modes {
            let place = format!("{} {mode}", dialect.name);
            println!("{place}");
            faults.extend(outage(dialect, &server, mode, &log).await.into_iter().map(|fault| format!("{place}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Kills the broker under a node and starts it again. Returns what is wrong with the log.
async fn outage(dialect: &Dialect, server: &Server, mode: &str, log: &Log) -> Vec<String> {
    let url = dialect.url(false, "app:s3cret", &server.address(), "", mode);
    let backend = trunkline::connect(&url).await.expect(&url);
    let local = Arc::new(Nobody);
    let transport = Arc::clone(&backend.transport);
    let node: ClusterNode =
        ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&(local.clone() as Arc<dyn Local>)), NodeConfig::default())
            .await
            .unwrap();
    let mut faults = Vec::from_iter(expect(&log.take(), "connecting", &[]));
    server.broker().kill().await.unwrap();
    until(|| !node.health().connected).await;
    // Several attempts to connect again.
    sleep(Duration::from_secs(2)).await;
    faults.extend(expect(&log.take(), "the outage", &[Level::WARN]));
    server.broker().restart().await.unwrap();
    until(|| node.health().connected).await;
    let logged = log.take();
    faults.extend(expect(&logged, "the return", &[Level::INFO]));
    if !logged.iter().any(|line| line.text.contains("lost_for=")) {
        faults.push("it is not said how long".into());
    }
    node.close();
    node.closed().await;
    drop(node);
    transport.close().await;
    faults.extend(expect(&log.take(), "a clean exit", &[]));
    println!("{faults:#?}");
    faults
}

fn expect(logged: &[Line], when: &str, levels: &[Level]) -> Option<String> {
    let found: Vec<_> = logged.iter().map(|line| line.level).collect();
    let is_ours = logged.iter().all(|line| line.target.starts_with("trunkline"));
    (found != levels || !is_ours).then(|| format!("{when}: {logged:#?}"))
}

async fn until(is_so: impl Fn() -> bool) {
    let poll = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), poll).await.expect("within a minute");
}

/// What was logged at `info` and above.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Debug)]
struct Line {
    level: Level,
    target: String,
    #[allow(dead_code, reason = "it is shown")]
    text: String,
}

impl Log {
    fn take(&self) -> Vec<Line> {
        mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return;
        }
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let _ = write!(text, "{field}={value:?} ");
        });
        let line = Line { level: *metadata.level(), target: metadata.target().to_owned(), text };
        self.0.lock().unwrap().push(line);
    }
}

/// A server without sockets.
#[derive(Debug)]
struct Nobody;

impl Local for Nobody {
    fn deliver(&self, _: &Target, _: &Payload, _: Option<&Offset>) -> DeliveryReport {
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: AckSink) -> u32 {
        0
    }

    fn sockets(&self, _: &Target) -> Vec<SocketInfo> {
        Vec::new()
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn has_room(&self, _: &Room) -> bool {
        false
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
