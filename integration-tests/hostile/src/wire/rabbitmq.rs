//! Routing keys of the exchange, among them those of the stream, and the nodes' queues themselves.

use std::collections::HashSet;

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use trunkline_brokers::transports::Transport;

use super::{Wire, batch, batch::Packer};
use crate::{
    Failure,
    forge::{Forged, Phase},
    transport::prefix,
    tree::Tree,
};

pub(super) struct RabbitMqWire {
    channel: Channel,
    everything: Consumer,
    /// Exchanges, each with a routing key.
    addresses: Vec<(String, String)>,
    packer: Packer,
    own: HashSet<Vec<u8>>,
    batches: Vec<((String, String), Vec<u8>)>,
    _connection: Connection,
}

impl RabbitMqWire {
    pub(super) async fn open(url: &str, transport: Transport, nodes: &[String]) -> Result<Self, Failure> {
        let connection =
            Connection::connect(url.split('?').next().unwrap_or(url), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let exchange = format!("trunkline.{}", prefix(transport));
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?;
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.name().clone(), exchange.as_str().into(), "#".into(), bind, FieldTable::default())
            .await?;
        let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let everything =
            channel.basic_consume(queue.name().clone(), "".into(), unacknowledged, FieldTable::default()).await?;
        let mut addresses: Vec<_> = super::keys(nodes).map(|key| (exchange.clone(), key)).collect();
        if transport == Transport::RabbitmqHistory {
            // The stream by its name, through the default exchange.
            addresses.push((String::new(), format!("{exchange}.log")));
        }
        // Most go where all nodes listen.
        addresses.extend(vec![addresses[0].clone(); addresses.len()]);
        Ok(Self {
            channel,
            everything,
            addresses,
            packer: Packer::default(),
            own: HashSet::new(),
            batches: Vec::new(),
            _connection: connection,
        })
    }
}

#[async_trait]
impl Wire for RabbitMqWire {
    fn put(&mut self, message: Forged, phase: Phase, rng: &mut Rng) {
        if let Some(batch) = self.packer.add(message, phase, rng) {
            let address = rng.choice(&self.addresses).cloned().unwrap_or_default();
            self.batches.push((address, batch));
        }
    }

    fn put_malformed(&mut self) {
        self.batches.push((self.addresses[0].clone(), batch::MALFORMED.into()));
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let mut last = None;
        for ((exchange, key), batch) in self.batches.drain(..) {
            let options = BasicPublishOptions::default();
            let publish =
                self.channel.basic_publish(exchange.into(), key.into(), options, &batch, BasicProperties::default());
            last = Some(publish.await?);
            self.own.insert(batch);
        }
        if let Some(last) = last {
            last.await?;
        }
        Ok(())
    }

    fn observed(&mut self) -> Vec<Tree> {
        let mut messages = Vec::new();
        while let Some(Some(Ok(delivery))) = self.everything.next().now_or_never() {
            if !self.own.remove(&delivery.data) {
                messages.extend(self.packer.observe(&delivery.data));
            }
        }
        messages
    }
}
