//! What the tests share.

use std::time::Duration;

use trunkline_brokers::Redis;
use trunkline_conformance::{
    Setup,
    kit::{Failure, TestCluster, TestNode, TestSocket, eventually},
};
use trunkline_core::{Backend, Event, GapCause, Payload, Result, Target};
use trunkline_redis::{Config, connect};

/// How long to wait for what has to come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The transport under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    PubSub,
    /// In the static mode: there, nodes can tell how much is missing.
    Sharded,
    Streams,
}

impl Wire {
    fn parameter(self) -> &'static str {
        match self {
            Self::PubSub => "mode=pubsub",
            Self::Sharded => "mode=sharded&subscription=static",
            Self::Streams => "mode=streams",
        }
    }
}

/// Makes a test of each function, per transport. Each takes a [`Wire`].
macro_rules! over_all {
    ($($name:ident),* $(,)?) => {
        mod pubsub {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<(), trunkline_conformance::kit::Failure> {
                super::$name($crate::support::Wire::PubSub).await
            })*
        }

        mod sharded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<(), trunkline_conformance::kit::Failure> {
                super::$name($crate::support::Wire::Sharded).await
            })*
        }

        mod streams {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<(), trunkline_conformance::kit::Failure> {
                super::$name($crate::support::Wire::Streams).await
            })*
        }
    };
}
pub(crate) use over_all;

/// A server that a test breaks, and that forgets nothing over a crash.
pub(crate) async fn server() -> Redis {
    Redis::options().append_only().start().await.unwrap()
}

/// `url` with more parameters.
pub(crate) fn with(url: &str, parameters: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    if parameters.is_empty() { url.to_owned() } else { format!("{url}{mark}{parameters}") }
}

/// A configuration that notices faults soon, as far as the parameters leave that open.
pub(crate) fn config(wire: Wire, url: &str, parameters: &str) -> Config {
    let mut url = with(&with(url, wire.parameter()), parameters);
    for quick in ["connect_timeout=2s", "response_timeout=2s", "ping_interval=500ms", "max_backoff=300ms"] {
        let (name, _) = quick.split_once('=').unwrap();
        if !url.contains(name) {
            url = with(&url, quick);
        }
    }
    Config::from_url(&url).unwrap()
}

pub(crate) async fn backend(wire: Wire, url: &str, parameters: &str) -> Result<Backend> {
    connect(config(wire, url, parameters)).await
}

/// A cluster that has the server for itself.
pub(crate) fn cluster(wire: Wire, url: &str, parameters: &str) -> TestCluster {
    let (url, parameters) = (url.to_owned(), parameters.to_owned());
    TestCluster::new(&Setup::new(move |_| {
        let (url, parameters) = (url.clone(), parameters.clone());
        async move { backend(wire, &url, &parameters).await }
    }))
}

/// Two nodes that know each other.
pub(crate) async fn pair(wire: Wire, url: &str, parameters: &str) -> std::result::Result<[TestNode; 2], Failure> {
    cluster(wire, url, parameters).nodes().await
}

pub(crate) fn is_lost(event: &Event) -> bool {
    matches!(event, Event::Lost(_))
}

pub(crate) fn is_gap(event: &Event) -> bool {
    matches!(event, Event::Gap(gap) if gap.cause == GapCause::ConnectionLost)
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(TIMEOUT, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// An event with a number, and text of this size.
pub(crate) fn numbered(number: usize, bytes: usize) -> Payload {
    Payload::event("n", &(number, "x".repeat(bytes))).unwrap()
}

/// Broadcasts these numbers to room `r`.
pub(crate) async fn send(node: &TestNode, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        node.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    Ok(())
}

/// The numbers that a client got so far.
pub(crate) fn numbers(socket: &TestSocket) -> Vec<usize> {
    socket.packets().iter().map(|packet| packet.payload.arguments::<(usize, String)>().unwrap().0).collect()
}

/// Waits for so many packets, and checks that they are numbered without holes, repeats or disorder.
pub(crate) async fn expect_numbers(socket: &TestSocket, count: usize) -> std::result::Result<(), Failure> {
    socket.wait_for(count).await?;
    let numbers = numbers(socket);
    let first_wrong = numbers.iter().enumerate().find(|(index, number)| index != *number);
    assert_eq!((numbers.len(), first_wrong), (count, None));
    Ok(())
}

/// Everything works in both directions: `there` is a client of `b` that got the numbers below `count`, as far as `b`
/// has not reported some of them as missed.
pub(crate) async fn all_is_well(
    wire: Wire,
    [a, b]: [&TestNode; 2],
    there: &TestSocket,
    count: usize,
) -> std::result::Result<(), Failure> {
    for node in [a, b] {
        until("the connections stand", async || node.health().connected).await;
        node.wait_for_peers(1).await?;
    }
    // Both ways: a node that was given up meanwhile is not asked before it is heard again.
    a.settle().await?;
    b.settle().await?;
    let arrived = numbers(there);
    assert!(arrived.is_sorted_by(|a, b| a < b), "{arrived:?}");
    let missing = (count - arrived.len()) as u64;
    until("what is missing is said", async || b.metrics().missed >= missing).await;
    let missed = b.metrics().missed;
    assert_eq!(missed, missing, "{arrived:?}");
    assert!(wire != Wire::Streams || missed == 0, "{missed} were missed");
    for (asks, answers) in [(a, b), (b, a)] {
        answers.answer_server_side(Some(Payload::value(&1).unwrap()));
        let got = asks.server_side_emit_with_ack(Payload::event("ask", &()).unwrap(), None).await?;
        assert_eq!(got.len(), 1);
        let sockets = asks.fetch_sockets(Target::room("r")).await?;
        assert_eq!(sockets.iter().filter(|socket| socket.id == *there.id()).count(), 1);
    }
    Ok(())
}
