use futures_util::StreamExt;

use super::timed;
use crate::{Failure, load::Load};

pub(super) const PUBLISH: &str = "bare publish, one message each";

pub(super) async fn publish(url: &str, load: Load) -> Result<f64, Failure> {
    let publisher = async_nats::connect(url).await?;
    // The receiver keeps up, but must not be cut off if it does not for a moment.
    let options = async_nats::ConnectOptions::new().subscription_capacity(usize::try_from(load.messages)?);
    let subscriber = options.connect(url).await?;
    let mut messages = subscriber.subscribe("trunkline.bench").await?;
    subscriber.flush().await?;
    let payload = bytes_of(load);
    let send = async {
        for _ in 0..load.messages {
            publisher.publish("trunkline.bench", payload.clone()).await?;
        }
        publisher.flush().await?;
        Ok(())
    };
    let receive = async {
        for _ in 0..load.messages {
            messages.next().await.ok_or("the subscription has ended")?;
        }
        Ok(())
    };
    timed(load, send, receive).await
}

fn bytes_of(load: Load) -> axum::body::Bytes {
    vec![b'x'; load.bytes].into()
}
