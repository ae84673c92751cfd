//! A Socket.IO client over WebSocket that looks at every event it gets.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{Failure, now};

pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a client saw of `expected` numbered events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) expected: u64,
    pub(crate) received: u64,
    /// Events that came after one with a higher number.
    pub(crate) out_of_order: u64,
    pub(crate) repeated: u64,
    /// When the last event arrived, in nanoseconds of the monotonic clock.
    pub(crate) last: u64,
    /// From the call that emits to the client, in nanoseconds, in order of arrival.
    pub(crate) latencies: Vec<u64>,
}

impl Seen {
    /// One more event, so old.
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.received += 1;
        self.latencies.push(nanoseconds);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.expected - (self.received - self.repeated)
    }
}

enum Heard {
    Event { number: u64, emitted: u64 },
    End,
    Silence,
    HungUp,
}

impl Client {
    /// Returns when the server has greeted it.
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (mut stream, _) = connect_async(url).await?;
        stream.send(Message::text("40")).await?;
        while let Some(message) = timeout(PATIENCE, stream.next()).await? {
            if message?.to_text()?.starts_with(r#"42["ready""#) {
                return Ok(Self { stream });
            }
        }
        Err("the server hung up before it was ready".into())
    }

    /// Listens until all `expected` events and the end are there; after the end, or when the server hangs up, until nothing comes any more.
    pub(crate) async fn listen(mut self, expected: u64) -> Result<Seen, Failure> {
        let mut seen = Seen { expected, ..Seen::default() };
        let mut numbers = vec![false; usize::try_from(expected)?];
        let (mut next, mut ended) = (0, false);
        while !(ended && seen.received - seen.repeated == expected) {
            match self.hear(if ended { STRAGGLERS } else { PATIENCE }).await? {
                Heard::Event { number, emitted } => {
                    let Some(known) = numbers.get_mut(usize::try_from(number)?) else {
                        return Err(format!("event {number} was never emitted").into());
                    };
                    seen.last = now();
                    seen.add(seen.last.saturating_sub(emitted));
                    seen.repeated += u64::from(std::mem::replace(known, true));
                    seen.out_of_order += u64::from(number < next);
                    next = next.max(number + 1);
                }
                Heard::End => ended = true,
                Heard::Silence | Heard::HungUp => break,
            }
        }
        Ok(seen)
    }

    /// Whether an end arrives in time; events before it are passed over.
    pub(crate) async fn hears_end(&mut self, limit: Duration) -> Result<bool, Failure> {
        loop {
            match self.hear(limit).await? {
                Heard::Event { .. } => {}
                Heard::End => return Ok(true),
                Heard::Silence => return Ok(false),
                Heard::HungUp => return Err("the server hung up".into()),
            }
        }
    }

    async fn hear(&mut self, limit: Duration) -> Result<Heard, Failure> {
        loop {
            let message = match timeout(limit, self.stream.next()).await {
                Err(_) => return Ok(Heard::Silence),
                Ok(None | Some(Err(_))) => return Ok(Heard::HungUp),
                Ok(Some(Ok(message))) => message,
            };
            let text = message.to_text()?;
            if text == "2" {
                self.stream.send(Message::text("3")).await?;
            } else if text.starts_with(r#"42["end""#) {
                return Ok(Heard::End);
            } else if let Some((number, emitted)) = numbers(text) {
                return Ok(Heard::Event { number, emitted });
            }
        }
    }
}

/// The numbers at the beginning of `42["m",NUMBER,TIME,…`. Streams append an offset behind the padding.
fn numbers(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.strip_prefix(r#"42["m","#)?.splitn(3, ',');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A server that says nothing for so long has lost what is missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long events may lag behind the end, with adapters that keep no order.
const STRAGGLERS: Duration = Duration::from_secs(2);
