//! What the tests share.

use std::{collections::HashMap, time::Duration};

use tokio::sync::{Mutex, MutexGuard, OnceCell};
use trunkline_brokers::{RabbitMq, RabbitMqOptions};
use trunkline_conformance::{
    Setup,
    kit::{Failure, TestCluster, TestSocket, eventually},
};
use trunkline_core::Payload;
use trunkline_rabbitmq::{Config, connect};

/// How long to wait for what has to come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// A broker that counts what it delivers. Tests that share it leave it as it is.
pub(crate) async fn shared() -> &'static RabbitMq {
    static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
    let counting = RabbitMq::options().settings("collect_statistics = fine");
    SHARED.get_or_init(async || counting.start().await.unwrap()).await
}

/// A broker for one test that breaks it. One at a time: each takes a processor for seconds to start.
pub(crate) async fn private(options: RabbitMqOptions) -> (RabbitMq, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (options.start().await.unwrap(), turn)
}

/// A configuration that notices faults soon.
pub(crate) fn config(url: &str, prefix: &str) -> Config {
    let mut config = Config::from_url(url).unwrap();
    config.prefix = prefix.to_owned();
    config.ping_interval = Duration::from_secs(1);
    config.connect_timeout = Duration::from_secs(10);
    config
}

/// Nodes with this configuration.
pub(crate) fn cluster(config: Config) -> TestCluster {
    TestCluster::new(&Setup::new(move |_| connect(config.clone())).timeout(TIMEOUT))
}

/// What the broker lists, as `name value` lines.
pub(crate) async fn listed(broker: &RabbitMq, command: &[&str], prefix: &str) -> Vec<String> {
    let list = broker.ctl(command).await.unwrap();
    list.lines().filter(|line| line.contains(&format!("trunkline.{prefix}."))).map(str::to_owned).collect()
}

/// The bindings to the exchange of this prefix, by queue.
pub(crate) async fn bindings(broker: &RabbitMq, prefix: &str) -> HashMap<String, usize> {
    let mut bindings = HashMap::new();
    for line in listed(broker, &["list_bindings", "source_name", "destination_name"], prefix).await {
        let (source, queue) = line.split_once('\t').unwrap();
        if !source.is_empty() {
            *bindings.entry(queue.to_owned()).or_default() += 1;
        }
    }
    bindings
}

/// How many batches the broker has delivered from each queue of this prefix.
pub(crate) async fn delivered(broker: &RabbitMq, prefix: &str) -> HashMap<String, u64> {
    const ASK: &str = "[io_lib:format(\"~s ~p~n\", [element(4, element(2, element(1, M))), element(4, M)]) \
                       || M <- ets:tab2list(channel_queue_metrics)].";
    let text = broker.ctl(&["eval", &format!("io:put_chars({}), ok.", ASK.trim_end_matches('.'))]).await.unwrap();
    let lines = text.lines().filter(|line| line.contains(&format!("trunkline.{prefix}.")));
    let counts = lines.filter_map(|line| line.split_once(' '));
    counts.map(|(queue, count)| (queue.to_owned(), count.parse().unwrap())).collect()
}

/// Waits until something holds. Most looks at the broker are several runs of `rabbitmqctl`, each of seconds on a busy
/// machine.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(3 * TIMEOUT, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// An event with a number, and text of this size.
pub(crate) fn numbered(number: usize, bytes: usize) -> Payload {
    Payload::event("n", &(number, "x".repeat(bytes))).unwrap()
}

/// The numbers that a client got so far.
pub(crate) fn numbers(socket: &TestSocket) -> Vec<usize> {
    let numbered = |packet: &trunkline_conformance::kit::Packet| packet.payload.arguments::<(usize, String)>().ok();
    socket.packets().iter().filter_map(numbered).map(|(number, _)| number).collect()
}

/// Waits for so many packets, and checks that they are numbered without holes, repeats or disorder.
pub(crate) async fn expect_numbers(socket: &TestSocket, count: usize) -> Result<(), Failure> {
    socket.wait_for(count).await?;
    let numbers = numbers(socket);
    let first_wrong = numbers.iter().enumerate().find(|(index, number)| index != *number);
    assert_eq!((numbers.len(), first_wrong), (count, None));
    Ok(())
}
