//! Notifications, and the rows of messages. A notification is text of up to 7,999 bytes; anything else goes into a row.

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls, connect};
use trunkline_brokers::transports::Transport;

use super::{Wire, encode};
use crate::{
    Failure,
    forge::{Forged, Phase},
    transport::prefix,
    tree::{self, Tree},
};

pub(super) struct PostgresWire {
    client: Client,
    notifications: mpsc::UnboundedReceiver<String>,
    channel: String,
    has_history: bool,
    payloads: Vec<String>,
    /// Rows to insert, each with the rest of its notification and whether it goes into the history's table.
    rows: Vec<(Vec<u8>, String, bool)>,
}

impl PostgresWire {
    pub(super) async fn open(url: &str, transport: Transport) -> Result<Self, Failure> {
        let (client, mut connection) = connect(url.split('?').next().unwrap_or(url), NoTls).await?;
        let (sender, notifications) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Nobody reads once the run is over.
                    sender.send(notification.payload().to_owned()).ok();
                }
            }
        });
        let channel = format!("{}#/", prefix(transport));
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
        let has_history = transport == Transport::PostgresHistory;
        Ok(Self { client, notifications, channel, has_history, payloads: Vec::new(), rows: Vec::new() })
    }

    fn put_row(&mut self, row: Vec<u8>, rng: &mut Rng) {
        let sender = if rng.u8(..4) == 0 { "emitter".to_owned() } else { format!("invented-{}", rng.u16(..)) };
        let rest = format!("\"uid\":\"{sender}\",\"type\":{}", rng.u8(..15));
        self.rows.push((row, rest, self.has_history && rng.bool()));
    }

    /// A notification that points to no row, or to one in a form that no node sends.
    fn put_pointer(&mut self, rng: &mut Rng) {
        let ids =
            ["-1", "0", "9223372036854775807", "9223372036854775808", "\"1\"", "\"x\"", "null", "1.5", "[]", "\"\""];
        let id = rng.choice(&ids).copied().unwrap_or("0");
        let more =
            ["", ",\"offset\":\"1\"", ",\"room\":[]", ",\"stamp\":[0]", ",\"room\":\"\\u0000\"", ",\"nsp\":\"/x\""];
        let more = rng.choice(&more).copied().unwrap_or_default();
        self.payloads.push(format!("{{\"uid\":\"invented-{}\",\"type\":3,\"attachmentId\":{id}{more}}}", rng.u16(..)));
    }
}

const MAX_NOTIFICATION: usize = 7999;

#[async_trait]
impl Wire for PostgresWire {
    fn put(&mut self, message: Forged, _: Phase, rng: &mut Rng) {
        if rng.u8(..20) == 0 {
            self.put_pointer(rng);
        }
        let is_text = matches!(&message, Forged::Tree(_)) && rng.u8(..4) > 0;
        let bytes = match message {
            Forged::Tree(tree) if is_text => tree::to_json(&tree).into_bytes(),
            message => encode(message, rng),
        };
        match String::from_utf8(bytes) {
            Ok(text) if text.len() <= MAX_NOTIFICATION && !text.contains('\0') && !text.is_empty() => {
                self.payloads.push(text);
            }
            Ok(text) => self.put_row(text.into_bytes(), rng),
            Err(error) => self.put_row(error.into_bytes(), rng),
        }
    }

    fn put_malformed(&mut self) {
        let number = self.payloads.len();
        // The server collapses equal ones.
        self.payloads.push(format!("{{malformed {number}"));
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        for (row, rest, is_stored) in self.rows.drain(..) {
            let row = if is_stored {
                let insert = "INSERT INTO socket_io_events (channel, payload) VALUES ($1, $2) RETURNING id";
                self.client.query_one(insert, &[&self.channel, &row]).await?
            } else {
                let insert = "INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id";
                self.client.query_one(insert, &[&row]).await?
            };
            let id: i64 = row.get(0);
            let offset = if is_stored { format!(",\"offset\":\"{id}\"") } else { String::new() };
            self.payloads.push(format!("{{{rest},\"attachmentId\":\"{id}\"{offset}}}"));
        }
        let payloads = std::mem::take(&mut self.payloads);
        let notify = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload";
        self.client.execute(notify, &[&self.channel, &payloads]).await?;
        Ok(())
    }

    fn observed(&mut self) -> Vec<Tree> {
        std::iter::from_fn(|| self.notifications.try_recv().ok())
            .filter_map(|text| tree::decode(text.as_bytes()))
            .collect()
    }
}
