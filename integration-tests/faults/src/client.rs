//! A Socket.IO client over WebSocket that performs operations and passes on events.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, tungstenite::Message};

use crate::Failure;

/// How long a server may take to accept a client. A frozen one takes none.
const CONNECTING: Duration = Duration::from_secs(20);

/// A connected client. It disconnects when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    outgoing: mpsc::UnboundedSender<Message>,
    acknowledgements: Acknowledgements,
    tasks: [JoinHandle<()>; 2],
}

/// Who waits for the acknowledgement with this id; `None` when the connection has ended.
type Acknowledgements = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>>;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Client {
    /// Connects to a node, and returns when it listens to operations. `event` gets the arguments of each event as JSON,
    /// its name included.
    pub(crate) async fn connect(port: u16, event: impl FnMut(&str) + Send + 'static) -> Result<Self, Failure> {
        let mut socket = timeout(CONNECTING, open(port, None)).await.map_err(|_| "a server takes no client")??;
        timeout(CONNECTING, ready(&mut socket)).await.map_err(|_| "a server does not greet a client")??;
        let (mut writing, reading) = socket.split();
        let (outgoing, mut queued) = mpsc::unbounded_channel();
        let acknowledgements = Acknowledgements::default();
        *lock(&acknowledgements) = Some(HashMap::new());
        let writer = tokio::spawn(async move {
            while let Some(message) = queued.recv().await {
                if writing.send(message).await.is_err() {
                    return;
                }
            }
        });
        let reader = tokio::spawn(read(reading, outgoing.clone(), Arc::clone(&acknowledgements), event));
        Ok(Self { outgoing, acknowledgements, tasks: [writer, reader] })
    }

    /// Has the node perform an operation, and returns its outcome.
    pub(crate) async fn perform(&self, operation: &Value) -> Result<Value, String> {
        let (sender, answered) = oneshot::channel();
        let id = {
            let mut waiting = lock(&self.acknowledgements);
            let waiting = waiting.as_mut().ok_or("disconnected")?;
            let id = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            waiting.insert(id, sender);
            id
        };
        let packet = format!(r#"42{id}["op",{operation}]"#);
        self.outgoing.send(Message::text(packet)).map_err(|_| "disconnected")?;
        let answer = answered.await.map_err(|_| "disconnected")?;
        let [outcome]: [Value; 1] = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        match outcome.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(outcome),
        }
    }
}

static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(
    acknowledgements: &Acknowledgements,
) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<String>>>> {
    acknowledgements.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to a node with its namespace joined. `receive_buffer` limits what the kernel takes for a client that
/// does not read.
pub(crate) async fn open(port: u16, receive_buffer: Option<u32>) -> Result<Socket, Failure> {
    let tcp = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        tcp.set_recv_buffer_size(bytes)?;
    }
    let stream = tcp.connect(([127, 0, 0, 1], port).into()).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = client_async(url, MaybeTlsStream::Plain(stream)).await?;
    socket.send(Message::text("40")).await?;
    Ok(socket)
}

/// Returns when the node listens to operations.
pub(crate) async fn ready(socket: &mut Socket) -> Result<(), Failure> {
    while let Some(message) = socket.next().await {
        match message?.to_text()? {
            // The first ping comes at once; without an answer the client is disconnected 20 s later.
            "2" => socket.send(Message::text("3")).await?,
            text if text.starts_with(r#"42["ready""#) => return Ok(()),
            _ => {}
        }
    }
    Err("a server has closed a new connection".into())
}

async fn read(
    mut reading: SplitStream<Socket>,
    outgoing: mpsc::UnboundedSender<Message>,
    acknowledgements: Acknowledgements,
    mut event: impl FnMut(&str),
) {
    while let Some(Ok(message)) = reading.next().await {
        let Ok(text) = message.to_text() else { continue };
        if text == "2" {
            // Fails only when the writer has ended, and then the connection has.
            let _ = outgoing.send(Message::text("3"));
        } else if let Some(packet) = text.strip_prefix("42") {
            event(packet);
        } else if let Some((id, answer)) = text.strip_prefix("43").and_then(acknowledged)
            && let Some(waiting) = lock(&acknowledgements).as_mut().and_then(|waiting| waiting.remove(&id))
        {
            // Fails only when nobody waits any more.
            let _ = waiting.send(answer.to_owned());
        }
    }
    *lock(&acknowledgements) = None;
}

fn acknowledged(packet: &str) -> Option<(u64, &str)> {
    let (id, _) = packet.split_once('[')?;
    Some((id.parse().ok()?, &packet[id.len()..]))
}

/// Sender and number of a numbered message, from the arguments `["m",SENDER,NUMBER,"…"]`.
pub(crate) fn numbered(arguments: &str) -> Option<(usize, u64)> {
    let mut fields = arguments.strip_prefix(r#"["m","#)?.split(',');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_apart() {
        assert_eq!(numbered(r#"["m",3,17,"xx"]"#), Some((3, 17)));
        assert_eq!(numbered(r#"["event",{}]"#), None);
        assert_eq!(acknowledged(r#"12[{"a":[1]}]"#), Some((12, r#"[{"a":[1]}]"#)));
    }
}
