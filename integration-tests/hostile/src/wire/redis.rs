//! Pub/sub channels, sharded channels, and entries of a stream.

use async_trait::async_trait;
use fastrand::Rng;
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, PushKind, Value, aio::MultiplexedConnection, pipe};
use tokio::sync::mpsc;
use trunkline_brokers::transports::Transport;

use super::{Wire, encode};
use crate::{
    Failure,
    forge::{Forged, Phase},
    transport::prefix,
    tree::{self, Tree},
};

pub(super) struct RedisWire {
    connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    transport: Transport,
    channels: Vec<Vec<u8>>,
    commands: Vec<Cmd>,
}

impl RedisWire {
    pub(super) async fn open(transport: Transport, url: &str) -> Result<Self, Failure> {
        let address = url.split('?').next().unwrap_or(url).trim_end_matches('/');
        let client = Client::open(format!("{address}/?protocol=resp3"))?;
        let (sender, pushes) = mpsc::unbounded_channel();
        // What stands behind a large reply must not count as lost.
        let config = AsyncConnectionConfig::new().set_push_sender(sender).set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let prefix = prefix(transport);
        let mut channels: Vec<Vec<u8>> = match transport {
            Transport::RedisClassic => {
                ["#/#", "#/#room#", "-request#/#", "-response#/#"].map(|end| format!("{prefix}{end}").into()).into()
            }
            _ => vec![format!("{prefix}#/#").into(), format!("{prefix}#/#room#").into()],
        };
        if transport == Transport::RedisSharded {
            // The nodes' own channels, and those of their rooms.
            let found: Vec<Vec<u8>> = redis::cmd("PUBSUB")
                .arg("SHARDCHANNELS")
                .arg(format!("{prefix}*"))
                .query_async(&mut connection)
                .await?;
            channels.extend(found);
            // Whoever subscribes to the channel of all nodes is counted as one of them.
            let public = format!("{prefix}#/#").into_bytes();
            for channel in channels.iter().filter(|channel| **channel != public) {
                redis::cmd("SSUBSCRIBE").arg(channel).exec_async(&mut connection).await?;
            }
        } else {
            let found: Vec<Vec<u8>> =
                redis::cmd("PUBSUB").arg("CHANNELS").arg(format!("{prefix}*")).query_async(&mut connection).await?;
            channels.extend(found);
            // A pattern is not counted as a node.
            connection.psubscribe(format!("{prefix}*")).await?;
        }
        channels.sort();
        channels.dedup();
        Ok(Self { connection, pushes, transport, channels, commands: Vec::new() })
    }

    fn publish(&mut self, channel: &[u8], message: Vec<u8>) {
        let command = if self.transport == Transport::RedisSharded { "SPUBLISH" } else { "PUBLISH" };
        self.commands.push(redis::cmd(command).arg(channel).arg(message).to_owned());
    }

    /// Adds an entry to the stream, with fields from the message; what they say twice, or not, is the point.
    fn append(&mut self, message: Forged, rng: &mut Rng) {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = match message {
            Forged::Bytes(bytes) => {
                let kind = rng.choice(&["3", "4", "0", "", "x", "18446744073709551616"]).copied().unwrap_or("3");
                vec![
                    (b"uid".into(), b"invented".into()),
                    (b"nsp".into(), b"/".into()),
                    (b"type".into(), kind.into()),
                    (b"data".into(), bytes),
                ]
            }
            Forged::Tree(Tree::Map(fields)) => {
                fields.into_iter().map(|(name, value)| (text(&name), field(&name, &value, rng))).collect()
            }
            Forged::Tree(other) => vec![(b"data".into(), tree::to_msgpack(&other))],
        };
        let mut command = redis::cmd("XADD");
        command.arg(prefix(self.transport)).arg("MAXLEN").arg("~").arg(10_000).arg("*");
        if fields.is_empty() {
            command.arg("nsp").arg("/");
        }
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        self.commands.push(command);
    }
}

fn text(tree: &Tree) -> Vec<u8> {
    tree.as_str().map_or_else(|| tree::to_json(tree), str::to_owned).into()
}

fn field(name: &Tree, value: &Tree, rng: &mut Rng) -> Vec<u8> {
    match (name.as_str(), value) {
        (Some("data"), value) if rng.u8(..10) < 3 => tree::to_base64(value).into(),
        (Some("stamp"), Tree::Array(items)) => items.iter().map(tree::to_json).collect::<Vec<_>>().join(",").into(),
        (_, value) => text(value),
    }
}

#[async_trait]
impl Wire for RedisWire {
    fn put(&mut self, message: Forged, _: Phase, rng: &mut Rng) {
        if self.transport == Transport::RedisStreams && rng.bool() {
            return self.append(message, rng);
        }
        let broadcasts = matches!(&message, Forged::Tree(tree) if tree.is_array());
        let at = if broadcasts && rng.u8(..10) > 0 {
            self.channels.iter().position(|channel| channel.ends_with(b"#/#")).unwrap_or(0)
        } else {
            rng.usize(..self.channels.len())
        };
        let channel = self.channels[at].clone();
        self.publish(&channel, encode(message, rng));
    }

    fn put_malformed(&mut self) {
        let channel = format!("{}#/#", prefix(self.transport));
        self.publish(channel.as_bytes(), b"\xc1malformed".into());
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let mut pipeline = pipe();
        for command in self.commands.drain(..) {
            pipeline.add_command(command).ignore();
        }
        pipeline.query_async::<()>(&mut self.connection).await?;
        Ok(())
    }

    fn observed(&mut self) -> Vec<Tree> {
        let mut messages = Vec::new();
        while let Ok(PushInfo { kind, data }) = self.pushes.try_recv() {
            if matches!(kind, PushKind::PMessage | PushKind::SMessage | PushKind::Message)
                && let Some(Value::BulkString(payload)) = data.last()
            {
                messages.extend(tree::decode(payload));
            }
        }
        messages
    }
}
