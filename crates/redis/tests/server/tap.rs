//! The bare server beside the nodes under test.

use redis::{AsyncConnectionConfig, Client, PushInfo, Value, aio::MultiplexedConnection};
use tokio::{sync::mpsc, time::timeout};

use crate::support::TIMEOUT;

/// A connection that subscribes, and takes any other command.
pub(crate) struct Tap {
    pub(crate) commands: MultiplexedConnection,
    pushed: mpsc::UnboundedReceiver<PushInfo>,
}

impl Tap {
    /// Subscribes by `verb`. On return, what is published afterwards arrives.
    pub(crate) async fn new(url: &str, verb: &str, channels: &[String]) -> Self {
        let client = Client::open(format!("{url}?protocol=resp3")).unwrap();
        let (sender, pushed) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new().set_push_sender(sender);
        let mut commands = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        for channel in channels {
            redis::cmd(verb).arg(channel).exec_async(&mut commands).await.unwrap();
        }
        Self { commands, pushed }
    }

    /// The next message: its channel and what it says.
    pub(crate) async fn next(&mut self, what: &str) -> (String, Vec<u8>) {
        loop {
            let pushed = timeout(TIMEOUT, self.pushed.recv()).await;
            if let Some(message) = message(pushed.unwrap_or_else(|_| panic!("{what}: nothing came")).unwrap()) {
                return message;
            }
        }
    }

    /// How many messages have not been taken.
    pub(crate) fn rest(&mut self) -> usize {
        std::iter::from_fn(|| self.pushed.try_recv().ok()).filter_map(message).count()
    }
}

fn message(push: PushInfo) -> Option<(String, Vec<u8>)> {
    use redis::PushKind::{Message, PMessage, SMessage};
    if ![Message, PMessage, SMessage].contains(&push.kind) {
        return None;
    }
    let mut ends = push.data.into_iter().rev();
    let (Some(Value::BulkString(payload)), Some(Value::BulkString(channel))) = (ends.next(), ends.next()) else {
        return None;
    };
    Some((String::from_utf8(channel).ok()?, payload))
}
