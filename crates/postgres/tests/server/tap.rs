//! A plain connection that says and hears what it wants, as a peer in another language would.

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, NoTls, types::ToSql};

use crate::{captured::Captured, support::TIMEOUT};

pub(crate) struct Tap {
    client: Client,
    heard: mpsc::UnboundedReceiver<(String, String)>,
    driving: JoinHandle<()>,
}

impl Tap {
    /// Listens to both namespaces of the capture.
    pub(crate) async fn connect(url: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let driving = tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // A test that does not listen any more does not miss it.
                    let _ = sender.send((notification.channel().to_owned(), notification.payload().to_owned()));
                }
            }
        });
        client.batch_execute("LISTEN \"socket.io#/\"; LISTEN \"socket.io#/custom\"").await.unwrap();
        Self { client, heard, driving }
    }

    /// The next notification: channel and text.
    pub(crate) async fn hear(&mut self) -> (String, String) {
        timeout(TIMEOUT, self.heard.recv()).await.expect("no notification").unwrap()
    }

    /// Sends what was captured once more: a row, or a notification.
    pub(crate) async fn say(&self, captured: &Captured) {
        if let Some(channel) = captured.channel() {
            let text = std::str::from_utf8(&captured.bytes).unwrap();
            self.execute("SELECT pg_notify($1, $2)", &[&channel, &text]).await;
        } else if let Some(id) = captured.row_id() {
            let insert = "INSERT INTO socket_io_attachments (id, payload) VALUES ($1, $2)";
            self.execute(insert, &[&id, &&captured.bytes[..]]).await;
        }
    }

    async fn execute(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) {
        self.client.execute(statement, values).await.unwrap();
    }

    /// A row of the attachments table.
    pub(crate) async fn row(&self, id: i64) -> Bytes {
        let row = self.client.query_one("SELECT payload FROM socket_io_attachments WHERE id = $1", &[&id]).await;
        Bytes::copy_from_slice(row.unwrap().get(0))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
