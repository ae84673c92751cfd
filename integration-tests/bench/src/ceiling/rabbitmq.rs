use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::timed;
use crate::{Failure, load::Load};

pub(super) const PUBLISH: &str = "bare fanout, one message each, no confirms";

pub(super) async fn publish(url: &str, load: Load) -> Result<f64, Failure> {
    let sending = Connection::connect(url, ConnectionProperties::default()).await?;
    let receiving = Connection::connect(url, ConnectionProperties::default()).await?;
    let (publisher, consumer) = (sending.create_channel().await?, receiving.create_channel().await?);
    let (transient, none) = (ExchangeDeclareOptions { auto_delete: true, ..Default::default() }, FieldTable::default());
    consumer.exchange_declare(NAME.into(), ExchangeKind::Fanout, transient, none.clone()).await?;
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = consumer.queue_declare("".into(), own, none.clone()).await?;
    consumer
        .queue_bind(queue.name().clone(), NAME.into(), "".into(), QueueBindOptions::default(), none.clone())
        .await?;
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut deliveries = consumer.basic_consume(queue.name().clone(), "".into(), unacknowledged, none).await?;
    let payload = vec![b'x'; load.bytes];
    let send = async {
        for _ in 0..load.messages {
            let options = BasicPublishOptions::default();
            // Without confirms what it returns is ready at once.
            drop(publisher.basic_publish(NAME.into(), "".into(), options, &payload, BasicProperties::default()).await?);
        }
        Ok(())
    };
    let receive = async {
        for _ in 0..load.messages {
            deliveries.next().await.ok_or("the consumer was cut off")??;
        }
        Ok(())
    };
    let rate = timed(load, send, receive).await;
    sending.close(200, "done".into()).await?;
    receiving.close(200, "done".into()).await?;
    rate
}

const NAME: &str = "trunkline-bench";
