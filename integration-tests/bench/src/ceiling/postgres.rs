use std::future::poll_fn;

use futures_util::StreamExt;
use tokio_postgres::{AsyncMessage, NoTls, connect};

use super::{BATCH, timed};
use crate::{Failure, load::Load};

pub(super) const NOTIFY: &str = "bare NOTIFY, 1,000 in a transaction";

/// Every payload is different: the server collapses equal ones. What does not fit a notification (8,000 bytes) is not carried this way.
pub(super) async fn notify(url: &str, load: Load) -> Result<f64, Failure> {
    let (sender, connection) = connect(url, NoTls).await?;
    let sending = tokio::spawn(connection);
    let (listener, mut connection) = connect(url, NoTls).await?;
    let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
    let mut listen = std::pin::pin!(listener.batch_execute("LISTEN trunkline_bench"));
    poll_fn(|cx| {
        let _ = messages.poll_next_unpin(cx);
        listen.as_mut().poll(cx)
    })
    .await?;
    let padding = "x".repeat(load.bytes.saturating_sub(8));
    let send = async {
        for from in (0..load.messages).step_by(BATCH as usize) {
            let payloads: Vec<_> =
                (from..load.messages.min(from + BATCH)).map(|number| format!("{number:08}{padding}")).collect();
            sender
                .query("SELECT pg_notify('trunkline_bench', payload) FROM unnest($1::text[]) AS payload", &[&payloads])
                .await?;
        }
        Ok(())
    };
    let receive = async {
        let mut received = 0;
        while received < load.messages {
            let message = messages.next().await.ok_or("the listener was cut off")??;
            received += u64::from(matches!(message, AsyncMessage::Notification(_)));
        }
        Ok(())
    };
    let rate = timed(load, send, receive).await;
    sending.abort();
    rate
}
