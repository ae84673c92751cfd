//! What connects a process with one broker, from its handshake to its end: one connection to publish over and one to listen on.
//!
//! Two, because a broker that runs out of memory or disk stops reading from connections that publish: acknowledgements and bindings must
//! not wait for that. The client's own recovery is not used: it would send what it holds before anything that was lost with the old
//! connection could be sent again, and so out of order. When either of the two ends, both do, and the keeper opens others.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use async_rs::Runtime;
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Confirmation, ConnectionProperties, ConnectionState, Event, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use trunkline_backend::batch::ConnectionId;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::Config,
    history, names,
    runtime::Kit,
    socket::{Encrypted, Socket},
};

/// Bodies are split into AMQP frames of this size. The client's buffers are 64 times as large.
const AMQP_FRAME: u32 = 64 << 10;

/// What every connection is made with.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) config: Config,
    pub(crate) sender: ConnectionId,
    exchange: ShortString,
    tls: Option<Arc<ClientConfig>>,
    opened: AtomicU64,
}

impl Connector {
    pub(crate) fn new(config: Config, tls: Option<Arc<ClientConfig>>) -> Self {
        let exchange = names::exchange(&config.prefix);
        Self { config, sender: ConnectionId::random(), exchange, tls, opened: AtomicU64::new(0) }
    }

    /// Connects to one broker. The connections' tasks and threads count among `tasks`.
    pub(crate) async fn open(&self, server: &str, tasks: &TaskTracker) -> Result<Arc<Connection>> {
        let life = Life::new(tasks);
        // Whatever fails, nothing stays behind.
        let cut = life.cut.clone().drop_guard();
        match timeout(self.config.connect_timeout, self.connect(server, life)).await {
            Ok(connection) => {
                let connection = connection?;
                cut.disarm();
                Ok(Arc::new(connection))
            }
            Err(_) => Err(Error::new(ErrorKind::Disconnected, format!("{server} does not answer"))),
        }
    }

    async fn connect(&self, server: &str, life: Life) -> Result<Connection> {
        let outgoing = self.client(server, "publishes", &life).await?;
        let incoming = self.client(server, "listens", &life).await?;
        let publishing = self.publishing(&outgoing).await.map_err(|error| refused(server, error))?;
        let (blocked, is_blocked) = watch::channel(None);
        life.tasks
            .spawn(life.ended.clone().run_until_cancelled_owned(note_alarms(outgoing.events_listener(), blocked)));
        Ok(Connection {
            number: self.opened.fetch_add(1, Ordering::Relaxed) + 1,
            server: server.to_owned(),
            exchange: self.exchange.clone(),
            incoming,
            outgoing,
            publishing,
            is_blocked,
            life,
        })
    }

    async fn client(&self, server: &str, does: &str, life: &Life) -> Result<lapin::Connection> {
        let socket = self.socket(server).await?;
        let socket = Socket::new(socket, life.cut.clone(), life.ended.clone(), life.tasks.token());
        let socket = Mutex::new(Some(AsyncTcpStream::Plain(socket)));
        let take = async move |_: AMQPUri, _: Runtime<Kit>| {
            let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
            socket.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
        };
        let kit = Kit::new(life.tasks.clone(), life.cut.clone());
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("trunkline {} {} {does}", self.config.prefix, self.sender).into());
        let opened = lapin::Connection::connector(self.address(server), Runtime::new(kit), take, properties).await;
        opened.map_err(|error| refused(server, error))
    }

    async fn socket(&self, server: &str) -> Result<Either<TcpStream, Encrypted>> {
        let unreachable = |error: std::io::Error| {
            Error::new(ErrorKind::Disconnected, format!("{server} cannot be reached")).with_source(error)
        };
        let stream = TcpStream::connect(server).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(stream)) };
        let not_secure = || format!("TLS with {server} fails");
        let name = ServerName::try_from(host(server).to_owned())
            .map_err(|error| Error::new(ErrorKind::Config, not_secure()).with_source(error))?;
        let encrypted = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(|error| {
            // What is wrong with a certificate stays wrong.
            let is_refusal = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            let kind = if is_refusal { ErrorKind::Config } else { ErrorKind::Disconnected };
            Error::new(kind, not_secure()).with_source(error)
        })?;
        Ok(Either::Right(Box::new(encrypted)))
    }

    /// The socket stands already: of the address only who connects, and what to agree on, matters.
    fn address(&self, server: &str) -> AMQPUri {
        let config = &self.config;
        let userinfo = AMQPUserInfo { username: config.user.clone(), password: config.password.clone() };
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: host(server).to_owned(), port: 0 },
            vhost: config.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(AMQP_FRAME),
                heartbeat: Some(config.heartbeat.as_secs().try_into().unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        }
    }

    async fn publishing(&self, connection: &lapin::Connection) -> lapin::Result<Channel> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let (exchange, arguments) = (self.exchange.clone(), FieldTable::default());
        channel.exchange_declare(exchange, ExchangeKind::Topic, durable, arguments).await?;
        if let Some(history) = &self.config.history {
            history::set_up(&channel, &self.config, history, &self.exchange).await?;
        }
        Ok(channel)
    }
}

/// The name without port and brackets.
fn host(server: &str) -> &str {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn refused(server: &str, error: lapin::Error) -> Error {
    let kind = match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) if WRONG.contains(&refusal.get_id()) => ErrorKind::Config,
        lapin::ErrorKind::ProtocolError(_) => ErrorKind::Broker,
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, format!("{server} refuses the connection: {error}")).with_source(error)
}

/// Access refused, precondition failed, not allowed: trying again does not help.
const WRONG: [u16; 3] = [403, 406, 530];

async fn note_alarms(events: impl Stream<Item = Event>, blocked: watch::Sender<Option<String>>) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => drop(blocked.send_replace(Some(reason))),
            Event::ConnectionUnblocked => drop(blocked.send_replace(None)),
            _ => {}
        }
    }
}

/// The tasks and threads of a pair of connections.
#[derive(Clone, Debug)]
struct Life {
    tasks: TaskTracker,
    /// Ends them.
    cut: CancellationToken,
    /// One of them has ended.
    ended: CancellationToken,
}

impl Life {
    fn new(tasks: &TaskTracker) -> Self {
        Self { tasks: tasks.clone(), cut: CancellationToken::new(), ended: CancellationToken::new() }
    }
}

/// An open pair of connections.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The how-manyeth of its transport.
    pub(crate) number: u64,
    /// Where it leads to.
    pub(crate) server: String,
    pub(crate) exchange: ShortString,
    pub(crate) incoming: lapin::Connection,
    outgoing: lapin::Connection,
    publishing: Channel,
    is_blocked: watch::Receiver<Option<String>>,
    life: Life,
}

/// The broker's answer to a frame.
pub(crate) type Confirming = BoxFuture<'static, lapin::Result<Confirmation>>;

impl Connection {
    /// Sends a frame behind those that were sent before, and returns what tells when the broker has taken it. A `mandatory` one comes back
    /// if nobody receives it.
    pub(crate) fn publish(&self, key: ShortString, frame: Bytes, mandatory: bool) -> Confirming {
        let (channel, exchange) = (self.publishing.clone(), self.exchange.clone());
        begin(async move {
            let options = BasicPublishOptions { mandatory, immediate: false };
            let sent = channel.basic_publish(exchange, key, options, &frame, BasicProperties::default()).await;
            // Nothing is to hold the frame until it is confirmed.
            drop(frame);
            sent?.await
        })
    }

    /// The outcome of an operation. Of one that was on its way when the connection ended, the client may never say any.
    pub(crate) async fn outcome<T>(&self, operation: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        tokio::select! {
            biased;
            outcome = operation => outcome,
            () = self.ended() => Err(lapin::ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()),
        }
    }

    /// Tells whether the broker has an alarm, and why.
    pub(crate) fn alarms(&self) -> watch::Receiver<Option<String>> {
        self.is_blocked.clone()
    }

    /// Says goodbye, if the broker listens.
    pub(crate) async fn close(&self) {
        let goodbye =
            async { tokio::join!(self.incoming.close(200, "bye".into()), self.outgoing.close(200, "bye".into())) };
        // Fails if the broker is gone already.
        let _ = timeout(GOODBYE, goodbye).await;
        self.cut();
    }

    /// Ends both without a word.
    pub(crate) fn cut(&self) {
        self.life.cut.cancel();
    }

    /// Returns when the connection is no more.
    pub(crate) async fn ended(&self) {
        self.life.ended.cancelled().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.life.ended.is_cancelled() || self.life.cut.is_cancelled()
    }
}

/// How long a broker may take to say goodbye.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);

/// Starts an operation of the client: what it sends has its place before this returns.
pub(crate) fn begin<T: Send + 'static>(operation: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
    let mut operation = operation.boxed();
    match operation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => std::future::ready(output).boxed(),
        Poll::Pending => operation,
    }
}
