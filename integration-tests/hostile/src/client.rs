//! A Socket.IO client that looks at everything it gets as strictly as the official one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{Failure, books::Books, packet::Packet};

/// Event of the valid traffic: `[TRAFFIC, node, series, number]`.
pub(crate) const TRAFFIC: &str = "traffic";

/// Packets of Engine.IO. A server pings at once, and closes a connection that does not answer.
const PING: &str = "2";
const PONG: &str = "3";

/// A connected client.
#[derive(Clone)]
pub(crate) struct Client {
    /// Id of its socket.
    pub(crate) id: String,
    outgoing: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// What a client has received.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) books: Books,
    /// Events that are not of the valid traffic.
    pub(crate) other_events: u64,
    /// Gaps of unknown size that its node has reported, once it watches.
    pub(crate) unknown_gaps: u64,
    /// Why its node has lost its connection, once it watches.
    pub(crate) outages: Vec<String>,
    /// What the official client would not have survived.
    pub(crate) faults: Vec<String>,
    answers: HashMap<u64, oneshot::Sender<Value>>,
    last_id: u64,
    has_ended: bool,
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Client {
    /// Connects to a node. On return its server listens to its events.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", url.replacen("http", "ws", 1));
        let (mut stream, _) = connect_async(url).await?;
        stream.send(Message::text("40")).await?;
        let id = loop {
            let message = timeout(TIMEOUT, stream.next()).await?.ok_or("the server has closed a new connection")??;
            if message.to_text()? == PING {
                stream.send(Message::text(PONG)).await?;
            }
            let Some(packet) = message.to_text()?.strip_prefix('4') else { continue };
            if let Packet::Event { arguments, .. } = Packet::parse(packet)?
                && arguments.first() == Some(&"ready".into())
            {
                break arguments.get(2).and_then(Value::as_str).ok_or("a client without id")?.to_owned();
            }
        };
        let (mut sink, stream) = stream.split();
        let (outgoing, mut messages) = mpsc::unbounded_channel::<Message>();
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                // The reader says that the connection has ended.
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        let client = Self { id, outgoing, shared: Arc::default() };
        tokio::spawn(client.clone().read(stream));
        Ok(client)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the condition comes true in time.
    pub(crate) async fn wait(&self, limit: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                if condition(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, waiting).await.is_ok()
    }

    /// Has its server perform an operation (see `test-node`), and returns the outcome.
    ///
    /// # Errors
    /// If the operation failed or did not end.
    pub(crate) async fn perform(&self, operation: Value) -> Result<Value, String> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.state();
            state.last_id += 1;
            let id = state.last_id;
            state.answers.insert(id, sender);
            id
        };
        if self.state().has_ended {
            return Err("disconnected".into());
        }
        let packet = format!("42{id}{}", json!(["op", operation]));
        self.outgoing.send(Message::text(packet)).map_err(|_| "disconnected")?;
        let outcome = timeout(TIMEOUT, answer).await;
        let outcome = outcome.map_err(|_| format!("{operation} did not end"))?.map_err(|_| "disconnected")?;
        match &outcome["error"] {
            Value::Null => Ok(outcome),
            error => Err(format!("{operation}: {error}")),
        }
    }

    async fn read(self, mut stream: SplitStream<Stream>) {
        // Attachments that the last packet has announced.
        let (mut awaited, mut heard) = (0, Instant::now());
        let (reason, silence) = loop {
            let message = stream.next().await;
            let silence = heard.elapsed();
            heard = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) if text.as_str() == PING => _ = self.outgoing.send(Message::text(PONG)),
                Some(Ok(Message::Text(text))) if text.starts_with('4') => {
                    if awaited > 0 {
                        self.fault(format!("{awaited} attachments are missing"));
                    }
                    awaited = self.received(&text[1..]);
                }
                Some(Ok(Message::Text(text))) if text.as_str() == "6" => {}
                Some(Ok(Message::Binary(_))) if awaited > 0 => awaited -= 1,
                Some(Ok(Message::Binary(_))) => self.fault("an attachment of no packet".into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => break (format!("it got {message:?}"), silence),
                Some(Err(error)) => break (error.to_string(), silence),
                None => break ("the server has closed the connection".into(), silence),
            }
        };
        self.fault(format!("disconnected {silence:?} after the last message, {reason}"));
        // Nobody waits for an answer any more.
        let mut state = self.state();
        state.has_ended = true;
        state.answers.clear();
    }

    /// Returns how many attachments follow.
    fn received(&self, text: &str) -> usize {
        let attachments = match Packet::parse(text) {
            Ok(Packet::Event { id, arguments, attachments }) => {
                self.event(&arguments);
                if let Some(id) = id {
                    self.outgoing.send(Message::text(format!("43{id}[1]"))).ok();
                }
                attachments
            }
            Ok(Packet::Ack { id, arguments, attachments }) => {
                if let Some(answer) = self.state().answers.remove(&id) {
                    answer.send(arguments.into_iter().next().unwrap_or_default()).ok();
                }
                attachments
            }
            Ok(Packet::Disconnect) => {
                self.fault(format!("disconnected by {text}"));
                0
            }
            Ok(Packet::Connected) => 0,
            Err(error) => {
                let shown: String = text.chars().take(200).collect();
                self.fault(format!("a packet that a client cannot parse, {error}: {shown}"));
                0
            }
        };
        self.shared.changed.notify_waiters();
        attachments
    }

    fn event(&self, arguments: &[Value]) {
        let mut state = self.state();
        let numbers = [1, 2, 3].map(|index| arguments.get(index).and_then(Value::as_u64));
        match (arguments.first().and_then(Value::as_str), numbers) {
            (Some(TRAFFIC), [Some(node), Some(series), Some(number)]) => state.books.received((node, series), number),
            (Some("event"), _) if arguments.get(1).is_some_and(is_unknown_gap) => state.unknown_gaps += 1,
            (Some("event"), _) if arguments.get(1).is_some_and(|event| event["kind"] == "lost") => {
                state.outages.push(arguments[1]["text"].to_string());
            }
            _ => state.other_events += 1,
        }
    }

    fn fault(&self, fault: String) {
        let mut state = self.state();
        if state.faults.len() < 20 {
            state.faults.push(fault);
        }
    }
}

/// Whether this is an event of the node (see `test-node`): messages are missing, and it cannot tell how many.
fn is_unknown_gap(event: &Value) -> bool {
    event["kind"] == "gap" && event["missed"].is_null()
}

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(20);
