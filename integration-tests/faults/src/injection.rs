//! Injecting a fault: what is done to which part of a cluster.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    Failure,
    broker::{Action, TestBroker},
    client::{open, ready},
    fault::Fault,
    node::{Node, Setup},
};

/// Time without the broker or a node before it is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a broken connection lasts.
const BROKEN: Duration = Duration::from_secs(5);

/// What a fault can be injected into.
pub(crate) struct Target<'a> {
    pub(crate) broker: &'a TestBroker,
    pub(crate) nodes: &'a mut [Node],
    pub(crate) setup: &'a Setup,
}

impl Target<'_> {
    /// Injects a fault, and returns when it has ended: the moment from which everything may become right again.
    pub(crate) async fn inject(&mut self, fault: Fault) -> Result<Instant, Failure> {
        match fault {
            Fault::None => sleep(Duration::from_secs(3)).await,
            Fault::BrokerKilled => {
                self.broker.kill().await?;
                self.start_broker().await?;
            }
            Fault::BrokerRestarted => {
                self.broker.stop().await?;
                self.start_broker().await?;
            }
            Fault::BrokerFrozen2 => self.freeze_broker(2).await?,
            Fault::BrokerFrozen12 => self.freeze_broker(12).await?,
            Fault::BrokerFrozen30 => self.freeze_broker(30).await?,
            Fault::Reset => self.victim().proxy.cut(),
            Fault::ResetFive => self.reset_often(5).await,
            Fault::HalfOpen => self.victim().proxy.abandon(),
            Fault::Delayed => self.disturb(|node| node.proxy.delay(Duration::from_millis(300)), BROKEN).await,
            Fault::Throttled => {
                self.disturb(|node| node.proxy.throttle(64 << 10), Duration::from_secs(8)).await;
            }
            Fault::CutWithin => self.disturb(|node| node.proxy.cut_within(4 << 10), Duration::from_secs(3)).await,
            Fault::ClosedByAdmin => self.broker.perform(Action::CloseConnections).await?,
            Fault::Full => self.act_for(Action::Fill, 8).await?,
            Fault::Alarmed => self.act_for(Action::RaiseAlarm, 15).await?,
            Fault::ReadOnly => self.act_for(Action::ForbidWrites, 5).await?,
            Fault::Deleted => self.broker.perform(Action::DeleteData).await?,
            Fault::ClockSteps => self.step_clock().await?,
            Fault::NodeFrozen => self.freeze_node(12).await?,
            Fault::NodeKilled => self.restart_node(Duration::from_secs(2)).await?,
            Fault::NodeRestarting => {
                for _ in 0..5 {
                    self.restart_node(Duration::from_millis(200)).await?;
                }
            }
            Fault::SlowClients => self.emit_to_slow_clients().await?,
            Fault::Storm => self.storm(2_000).await?,
            Fault::Partition => self.part(Duration::from_secs(8)).await,
        }
        Ok(Instant::now())
    }

    /// The node that faults of one node hit.
    fn victim(&mut self) -> &mut Node {
        let last = self.nodes.len() - 1;
        &mut self.nodes[last]
    }

    async fn start_broker(&self) -> Result<(), Failure> {
        sleep(PAUSE).await;
        Ok(self.broker.restart().await?)
    }

    async fn freeze_broker(&self, seconds: u64) -> Result<(), Failure> {
        self.broker.freeze()?;
        sleep(Duration::from_secs(seconds)).await;
        Ok(self.broker.thaw()?)
    }

    async fn reset_often(&mut self, times: u32) {
        for _ in 0..times {
            self.victim().proxy.cut();
            sleep(Duration::from_millis(700)).await;
        }
    }

    async fn disturb(&mut self, begin: impl FnOnce(&Node), lasts: Duration) {
        begin(self.victim());
        sleep(lasts).await;
        self.victim().proxy.resume();
    }

    async fn act_for(&self, action: Action, seconds: u64) -> Result<(), Failure> {
        self.broker.perform(action).await?;
        sleep(Duration::from_secs(seconds)).await;
        self.broker.perform(Action::Heal).await
    }

    async fn step_clock(&self) -> Result<(), Failure> {
        let clock = self.setup.clock.as_ref().ok_or("the clock of no node can be set")?;
        for difference in [3_600, -3_600] {
            clock.set(difference)?;
            sleep(BROKEN).await;
        }
        Ok(())
    }

    async fn freeze_node(&mut self, seconds: u64) -> Result<(), Failure> {
        let victim = self.nodes.len() - 1;
        self.setup.record.running().stop(victim);
        self.victim().process()?.freeze()?;
        sleep(Duration::from_secs(seconds)).await;
        self.victim().process()?.thaw()?;
        self.setup.record.running().start(victim, Instant::now());
        Ok(())
    }

    async fn restart_node(&mut self, pause: Duration) -> Result<(), Failure> {
        self.victim().kill().await?;
        sleep(pause).await;
        self.victim().restart().await
    }

    /// Emits 12 MiB from the first node to four clients of the last one that read nothing.
    async fn emit_to_slow_clients(&mut self) -> Result<(), Failure> {
        let port = self.victim().port()?;
        let mut slow = Vec::new();
        for _ in 0..4 {
            let mut socket = open(port, Some(4 << 10)).await?;
            ready(&mut socket).await?;
            slow.push(socket);
        }
        let rooms: Vec<String> = (0..slow.len()).map(|number| format!("slow{number}")).collect();
        for (socket, room) in slow.iter_mut().zip(&rooms) {
            let join = format!(r#"42["op",{{"kind":"join","rooms":["slow","{room}"]}}]"#);
            futures_util::SinkExt::send(socket, tokio_tungstenite::tungstenite::Message::text(join)).await?;
        }
        sleep(PAUSE).await;
        let text = "x".repeat(64 << 10);
        let operation = json!({ "kind": "emit", "select": { "to": ["slow"] }, "event": "much", "args": [text] });
        for _ in 0..192 {
            self.nodes[0].perform(&operation).await?;
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Has clients come, join a room and go.
    async fn storm(&self, clients: usize) -> Result<(), Failure> {
        let ports = self.nodes.iter().map(Node::port).collect::<Result<Vec<_>, _>>()?;
        let visits = (0..clients).map(|number| visit(ports[number % ports.len()], number));
        let failures: Vec<_> =
            stream::iter(visits).buffer_unordered(100).filter_map(|visit| async { visit.err() }).collect().await;
        match failures.first() {
            Some(first) => Err(format!("{} of {clients} clients failed: {first}", failures.len()).into()),
            None => Ok(()),
        }
    }

    /// Cuts off the second half of the nodes.
    async fn part(&mut self, lasts: Duration) {
        let half = self.nodes.len() / 2..self.nodes.len();
        for index in half.clone() {
            self.setup.record.running().cut_off(index, Instant::now());
            self.nodes[index].proxy.refuse();
            self.nodes[index].proxy.cut();
        }
        sleep(lasts).await;
        for index in half {
            self.nodes[index].proxy.resume();
            self.setup.record.running().reconnect(index, Instant::now());
        }
    }
}

/// A client that joins a room and goes.
async fn visit(port: u16, number: usize) -> Result<(), Failure> {
    let stay = async {
        let client = crate::client::Client::connect(port, |_| {}).await?;
        client.perform(&json!({ "kind": "join", "rooms": [format!("storm{}", number % 50)] })).await?;
        Ok(())
    };
    timeout(Duration::from_secs(60), stay).await?
}
