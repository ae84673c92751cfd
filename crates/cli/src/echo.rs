//! [`Echo`]: two nodes of our own, of which one publishes and the other one compares.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use trunkline::{Backend, Local, NodeConfig, Payload, Target};

use crate::{
    broker,
    observer::{Observer, Received, Sockets},
    output::Failure,
};

/// Namespace of the echo, which no server uses.
pub(crate) const NAMESPACE: &str = "/trunkline-doctor";

/// How long a message may take until it counts as lost.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// Two nodes of our own over connections of their own, in a namespace of their own.
pub(crate) struct Echo {
    sender: Observer,
    receiver: Observer,
    arrivals: mpsc::Receiver<Received>,
    number: u32,
    /// Messages that arrived with another content.
    pub(crate) altered: u32,
    /// Messages that arrived once more.
    pub(crate) repeated: u32,
}

impl Echo {
    /// Joins a node over `sender`, and another one over a new connection.
    pub(crate) async fn open(url: &str, sender: &Backend) -> Result<Self, Failure> {
        let receiver = broker::connect(url).await?;
        let (arrived, arrivals) = mpsc::channel(1_000);
        let sockets: Arc<dyn Local> = Arc::new(Sockets::recording(arrived));
        let receiver = Observer::join_over(receiver, NAMESPACE, NodeConfig::default(), sockets).await?;
        let sender =
            Observer::join_over(sender.clone(), NAMESPACE, NodeConfig::default(), Arc::new(Sockets::default())).await?;
        Ok(Self { sender, receiver, arrivals, number: 0, altered: 0, repeated: 0 })
    }

    /// How long one message takes; `None` if it does not arrive in time.
    pub(crate) async fn time(&mut self) -> Result<Option<Duration>, Failure> {
        let payload = message(self.number)?;
        self.number += 1;
        let began = Instant::now();
        self.sender.node.broadcast(Target::all(), payload.clone()).await?;
        Ok(self.arrival(&payload).await.map(|at| at - began))
    }

    /// When the message arrives; `None` if it does not in time. What else arrives is counted.
    async fn arrival(&mut self, sent: &Payload) -> Option<Instant> {
        let wait = async {
            while let Some(arrival) = self.arrivals.recv().await {
                if arrival.payload.same_meaning(sent) {
                    return Some(arrival.at);
                }
                // Another run of the program may be there at the same time.
                match arrival.payload.arguments::<(u32, u32, Bytes)>() {
                    Ok((run, ..)) if run != std::process::id() => (),
                    Ok(_) => self.repeated += 1,
                    Err(_) => self.altered += 1,
                }
            }
            None
        };
        timeout(TIMEOUT, wait).await.ok().flatten()
    }

    /// Leaves with both nodes.
    pub(crate) async fn close(self) {
        self.sender.node.close();
        let _ = timeout(TIMEOUT, self.sender.node.closed()).await;
        self.receiver.leave().await;
    }
}

/// A message with text, a number and binary, as applications send them.
fn message(number: u32) -> trunkline::Result<Payload> {
    Payload::event("trunkline-doctor", &(std::process::id(), number, Bytes::from(vec![number as u8; 256])))
}

/// The value below which this part of all is.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * part).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_many() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Some(Duration::from_millis(51)));
        assert_eq!(quantile(&times, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&times[..1], 0.99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
