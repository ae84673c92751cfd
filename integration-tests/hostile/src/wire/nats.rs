//! Subjects: of all nodes, of each node, of the buckets of rooms, and of the stream.

use std::collections::HashSet;

use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use fastrand::Rng;
use futures_util::{FutureExt as _, StreamExt as _};
use trunkline_brokers::transports::Transport;

use super::{Wire, batch, batch::Packer};
use crate::{
    Failure,
    forge::{Forged, Phase},
    transport::prefix,
    tree::Tree,
};

pub(super) struct NatsWire {
    client: Client,
    everything: Subscriber,
    subjects: Vec<String>,
    packer: Packer,
    own: HashSet<Vec<u8>>,
    batches: Vec<(String, Vec<u8>)>,
}

impl NatsWire {
    pub(super) async fn open(url: &str, transport: Transport, nodes: &[String]) -> Result<Self, Failure> {
        let client = async_nats::connect(url.split('?').next().unwrap_or(url)).await?;
        let prefix = prefix(transport);
        let everything = client.subscribe(format!("{prefix}.>")).await?;
        let mut subjects: Vec<_> = super::keys(nodes).map(|key| format!("{prefix}.{key}")).collect();
        // Most go where all nodes listen.
        subjects.extend(vec![subjects[0].clone(); subjects.len()]);
        Ok(Self { client, everything, subjects, packer: Packer::default(), own: HashSet::new(), batches: Vec::new() })
    }
}

#[async_trait]
impl Wire for NatsWire {
    fn put(&mut self, message: Forged, phase: Phase, rng: &mut Rng) {
        if let Some(batch) = self.packer.add(message, phase, rng) {
            let subject = rng.choice(&self.subjects).cloned().unwrap_or_default();
            self.batches.push((subject, batch));
        }
    }

    fn put_malformed(&mut self) {
        self.batches.push((self.subjects[0].clone(), batch::MALFORMED.into()));
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        for (subject, batch) in self.batches.drain(..) {
            self.own.insert(batch.clone());
            self.client.publish(subject, batch.into()).await?;
        }
        self.client.flush().await?;
        Ok(())
    }

    fn observed(&mut self) -> Vec<Tree> {
        let mut messages = Vec::new();
        while let Some(Some(message)) = self.everything.next().now_or_never() {
            if !self.own.remove(&message.payload[..]) {
                messages.extend(self.packer.observe(&message.payload));
            }
        }
        messages
    }
}
