//! A Socket.IO client over WebSocket that looks at every event it gets.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{Failure, load::Load, now};

pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What clients received of `expected` numbered events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) expected: u64,
    pub(crate) events: u64,
    /// Events that came after one with a higher number.
    pub(crate) out_of_order: u64,
    pub(crate) repeated: u64,
    /// When the last event arrived, in nanoseconds of the monotonic clock.
    pub(crate) last: u64,
    /// From the emit call to the client, in nanoseconds, in order of arrival.
    pub(crate) latencies: Vec<u64>,
}

impl Received {
    /// One more event, and the nanoseconds since it was emitted.
    pub(crate) fn add(&mut self, latency: u64) {
        self.events += 1;
        self.latencies.push(latency);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.events - self.repeated)
    }

    /// What several clients received together.
    pub(crate) fn merged(clients: impl IntoIterator<Item = Self>) -> Self {
        clients.into_iter().fold(Self::default(), |mut all, one| {
            all.expected += one.expected;
            all.events += one.events;
            all.out_of_order += one.out_of_order;
            all.repeated += one.repeated;
            all.last = all.last.max(one.last);
            all.latencies.extend(one.latencies);
            all
        })
    }
}

/// What a handler says when its work is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// When it was called, in nanoseconds of the monotonic clock.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Sockets or acknowledgements.
    pub(crate) answers: u64,
    /// Calls that the server has refused.
    pub(crate) refused: u64,
}

enum Incoming {
    Event {
        number: u64,
        emitted: u64,
    },
    /// Of so many events.
    End {
        of: u64,
    },
    Ready,
    Done(Done),
    TimedOut,
    Closed,
}

impl Client {
    /// A client in no room but its own. Returns when the server listens to its events, which is after it has accepted the connection.
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (mut stream, _) = connect_async(url).await?;
        stream.send(Message::text("40")).await?;
        while let Some(message) = timeout(TIMEOUT, stream.next()).await? {
            match message?.to_text()? {
                // The first one comes at once, and what is not answered costs the connection 20 s later.
                PING => stream.send(Message::text(PONG)).await?,
                text if text.starts_with(r#"42["connected""#) => return Ok(Self { stream }),
                _ => {}
            }
        }
        Err("the server has closed a new connection".into())
    }

    /// Returns when the server has put this client into the room.
    pub(crate) async fn join(mut self) -> Result<Self, Failure> {
        self.stream.send(Message::text(r#"42["join"]"#)).await?;
        match self.next(TIMEOUT).await? {
            Incoming::Ready => Ok(self),
            _ => Err("a client could not join the room".into()),
        }
    }

    /// Has a handler of its server work, and returns when that is done.
    pub(crate) async fn call(&mut self, load: Load) -> Result<Done, Failure> {
        let event = format!(r#"42["{}",{},{},{}]"#, load.call.event(), load.messages, load.bytes, load.rate);
        self.stream.send(Message::text(event)).await?;
        match self.next(WORKING).await? {
            Incoming::Done(done) => Ok(done),
            Incoming::Closed => Err("the server has closed the connection of the client whose handler works".into()),
            _ => Err(format!("the handler did not end within {WORKING:?}").into()),
        }
    }

    /// Answers the server until it closes the connection.
    pub(crate) async fn serve(mut self) -> Result<(), Failure> {
        while !matches!(self.next(WORKING).await?, Incoming::Closed) {}
        Ok(())
    }

    /// Receives until all `expected` events and the end are there; after the end, or when the server closes, until no event comes any more.
    pub(crate) async fn receive(mut self, expected: u64) -> Result<Received, Failure> {
        let mut received = Received { expected, ..Received::default() };
        let mut known = vec![false; usize::try_from(expected)?];
        let (mut next, mut ended) = (0, false);
        while !(ended && received.events - received.repeated == expected) {
            match self.next(if ended { AFTER_THE_END } else { TIMEOUT }).await? {
                Incoming::Event { number, emitted } => {
                    let Some(known) = known.get_mut(usize::try_from(number)?) else {
                        return Err(format!("event {number} was never emitted").into());
                    };
                    received.last = now();
                    received.add(received.last.saturating_sub(emitted));
                    received.repeated += u64::from(std::mem::replace(known, true));
                    received.out_of_order += u64::from(number < next);
                    next = next.max(number + 1);
                }
                Incoming::End { of } => ended |= of == expected,
                Incoming::TimedOut => break,
                Incoming::Closed => {
                    // A server does that to a client whose buffer is full when a ping is due, or that answers none.
                    eprintln!("a client was disconnected by its server: what it did not receive counts as lost");
                    break;
                }
                Incoming::Ready | Incoming::Done(_) => {}
            }
        }
        Ok(received)
    }

    /// Whether an end arrives in time; events before it are passed over.
    pub(crate) async fn receives_end(&mut self, limit: Duration) -> Result<bool, Failure> {
        loop {
            match self.next(limit).await? {
                Incoming::End { .. } => return Ok(true),
                Incoming::TimedOut => return Ok(false),
                Incoming::Closed => return Err("the server has closed the connection".into()),
                _ => {}
            }
        }
    }

    async fn next(&mut self, limit: Duration) -> Result<Incoming, Failure> {
        loop {
            let message = match timeout(limit, self.stream.next()).await {
                Err(_) => return Ok(Incoming::TimedOut),
                Ok(None | Some(Err(_))) => return Ok(Incoming::Closed),
                Ok(Some(Ok(message))) => message,
            };
            let text = message.to_text()?;
            if text == PING {
                self.stream.send(Message::text(PONG)).await?;
            } else if let Some(id) = acknowledgement_id(text) {
                let packet = format!("43{id}[1]");
                self.stream.send(Message::text(packet)).await?;
            } else if let Some(incoming) = Incoming::parse(text) {
                return Ok(incoming);
            }
        }
    }
}

impl Incoming {
    fn parse(packet: &str) -> Option<Self> {
        let (event, arguments) = packet.strip_prefix(r#"42[""#)?.split_once('"')?;
        match event {
            "m" => numbers(arguments).map(|[number, emitted]| Self::Event { number, emitted }),
            "end" => numbers(arguments).map(|[of]| Self::End { of }),
            "ready" => Some(Self::Ready),
            "done" => numbers(arguments)
                .map(|[began, ended, answers, refused]| Self::Done(Done { began, ended, answers, refused })),
            _ => None,
        }
    }
}

/// Acknowledgement id of an event's packet, if it asks for one.
fn acknowledgement_id(packet: &str) -> Option<&str> {
    let (id, _) = packet.strip_prefix("42")?.split_once('[')?;
    (!id.is_empty()).then_some(id)
}

/// The first numbers of `,NUMBER,NUMBER,…]`. Streams append an offset behind all arguments.
fn numbers<const N: usize>(arguments: &str) -> Option<[u64; N]> {
    let mut fields = arguments.strip_prefix(',')?.split([',', ']']);
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    Some(numbers)
}

/// So many clients of one server, in the room.
pub(crate) async fn join_all(port: u16, count: usize) -> Result<Vec<Client>, Failure> {
    let joining = (0..count).map(|_| async move { Client::connect(port).await?.join().await });
    stream::iter(joining).buffer_unordered(AT_ONCE).try_collect().await
}

/// Packets of Engine.IO.
const PING: &str = "2";
const PONG: &str = "3";
/// How long a server may say nothing; after that, what is missing is lost.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long the work of a handler may take.
const WORKING: Duration = Duration::from_secs(300);
/// How long events may arrive behind the end, with adapters that keep no order.
const AFTER_THE_END: Duration = Duration::from_secs(2);
/// Clients that connect at the same time.
const AT_ONCE: usize = 32;
