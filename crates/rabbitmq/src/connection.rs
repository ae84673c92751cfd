//! What connects a process with one broker, from its handshake to its end: one connection to publish over and one to
//! consume from.
//!
//! Two, because a broker that runs out of memory or disk stops reading from connections that publish: acknowledgements
//! and bindings must not wait for that. The client's own recovery is not used: it would send what it holds before
//! anything that was lost with the old connection could be sent again, and so out of order. When either of the two
//! ends, both do, and others are opened.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_rs::Runtime;
use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    future::{BoxFuture, try_join_all},
    stream,
};
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Confirmation, ConnectionProperties, Event, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{
    ConnectFailure, Login,
    batched::{self, BatchConnection, OutgoingBatch, Undelivered},
    connection::{silence_limit, until_silent},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    broker::RabbitMq,
    config::HistoryConfig,
    history,
    runtime::LapinRuntime,
    socket::{ByteStream, Socket},
};

/// Bodies are split into AMQP frames of this size. The client's buffers are 64 times as large.
const AMQP_FRAME: u32 = 64 << 10;

/// How long a broker may take to say that it does not let the user publish.
const RIGHT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// An open pair of connections.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Counts the connections of the transport, from 1.
    pub(crate) number: u64,
    pub(crate) exchange: ShortString,
    pub(crate) inbound: lapin::Connection,
    server: String,
    outbound: lapin::Connection,
    publishing: Mutex<Channel>,
    /// For the records of the history: what comes back on a channel comes with any confirmation of it.
    records: Channel,
    /// If there is a history: the prefix, which names its stream.
    history: Option<(String, HistoryConfig)>,
    blocked: watch::Receiver<Option<String>>,
    state: ConnectionState,
}

/// The tasks and threads of a pair of connections.
#[derive(Clone, Debug)]
struct ConnectionState {
    tasks: TaskTracker,
    /// Cancelled to end them.
    aborted: CancellationToken,
    /// Cancelled when one of them has ended.
    ended: CancellationToken,
    /// Why.
    end_reason: Arc<OnceLock<String>>,
}

impl ConnectionState {
    fn abort(&self, reason: impl Into<String>) {
        // The first one counts.
        let _ = self.end_reason.set(reason.into());
        self.aborted.cancel();
    }
}

impl Connection {
    /// Connects to one broker. Its tasks and threads belong to `tasks`.
    pub(crate) async fn open(broker: &RabbitMq, server: &str, number: u64, tasks: &TaskTracker) -> Result<Self> {
        let (aborted, ended) = (CancellationToken::new(), CancellationToken::new());
        let state = ConnectionState { tasks: tasks.clone(), aborted, ended, end_reason: Arc::default() };
        // Whatever fails, nothing stays behind.
        let abort_on_failure = state.aborted.clone().drop_guard();
        let deadline = Instant::now() + broker.config.connect_timeout;
        // Not the broker's fault if there are none.
        let login = login(broker).await?;
        match timeout_at(deadline, Self::connect(broker, server, login, number, state)).await {
            Ok(connection) => {
                let connection = connection?;
                abort_on_failure.disarm();
                Ok(connection)
            }
            Err(_) => Err(ConnectFailure::NoAnswer(broker.config.connect_timeout).at(server)),
        }
    }

    async fn connect(
        broker: &RabbitMq,
        server: &str,
        login: Login,
        number: u64,
        state: ConnectionState,
    ) -> Result<Self> {
        let outbound = client(broker, server, login.clone(), "publishes", &state).await?;
        let inbound = client(broker, server, login, "listens", &state).await?;
        let (exchange, config) = (broker.exchange.clone(), &broker.config);
        let history = config.history.map(|history| (config.prefix.clone(), history));
        let publishing = publishing(&outbound, &exchange, history.as_ref()).await;
        let publishing = Mutex::new(publishing.map_err(|error| refused(server, error))?);
        let records = confirming(&outbound).await.map_err(|error| refused(server, error))?;
        let (block, blocked) = watch::channel(None);
        // Before anything is published: that the broker takes nothing is said once.
        let events = stream::select(outbound.events_listener(), inbound.events_listener());
        if number == 1 {
            may_publish(&records, &exchange).await.map_err(|error| refused(server, error))?;
        }
        let note_events = note_events(events, block, Arc::clone(&state.end_reason));
        state.tasks.spawn(state.ended.clone().run_until_cancelled_owned(note_events));
        let server = server.to_owned();
        Ok(Self { number, exchange, inbound, server, outbound, publishing, records, history, blocked, state })
    }

    /// Publishes behind what was published before. What is returned resolves when the broker has it.
    fn publish_batch(&self, batch: OutgoingBatch<ShortString>) -> BoxFuture<'static, lapin::Result<Confirmation>> {
        let channel = self.publishing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let exchange = self.exchange.clone();
        begin(async move {
            let OutgoingBatch { address, bytes, is_mandatory } = batch;
            publish(&channel, exchange, address, bytes, is_mandatory).await
        })
    }

    /// Publishes what is not a message. Returns when it is stored.
    pub(crate) async fn store_record(&self, key: ShortString, record: Bytes) -> Result<()> {
        let failed = || Error::new(ErrorKind::Broker, "the history takes nothing");
        let stored = self.outcome(publish(&self.records, self.exchange.clone(), key, record, true)).await;
        match stored.map_err(|error| failed().with_source(error))? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(failed()),
        }
    }

    /// The outcome of an operation. Of one that was on its way when the connection ended, the client may never tell
    /// any.
    pub(crate) async fn outcome<T>(&self, operation: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        tokio::select! {
            biased;
            outcome = operation => outcome,
            () = self.ended() => {
                Err(lapin::ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into())
            }
        }
    }
}

impl BatchConnection for Connection {
    type Address = ShortString;

    async fn publish(&self, batches: &[OutgoingBatch<ShortString>]) -> Result<batched::Confirmation<ShortString>> {
        let confirmed = try_join_all(batches.iter().map(|batch| self.publish_batch(batch.clone())));
        Ok(async move {
            let confirmations = confirmed.await.map_err(|error| {
                // A soft error closes only the channel: the broker refuses something. That the exchange is gone is no
                // fault of a message: the next connection declares it again, and binds queues to it.
                let is_refusal = error.is_amqp_soft_error() && !is_not_found(&error);
                let kind = if is_refusal { ErrorKind::Broker } else { ErrorKind::Disconnected };
                Error::new(kind, format!("publishing fails: {error}")).with_source(error)
            })?;
            let mut undelivered = Undelivered::default();
            for (index, confirmation) in confirmations.into_iter().enumerate() {
                if confirmation.is_nack() {
                    undelivered.deferred.push(index);
                }
                // It comes with the confirmation of some batch, not always its own.
                undelivered.returned.extend(confirmation.take_message().map(|returned| OutgoingBatch {
                    address: returned.delivery.routing_key,
                    bytes: returned.delivery.data.into(),
                    is_mandatory: true,
                }));
            }
            Ok(undelivered)
        }
        .boxed())
    }

    /// Over another channel: the broker has closed the one over which it refused something.
    async fn reopen(&self) -> Result<()> {
        let opening = publishing(&self.outbound, &self.exchange, self.history.as_ref());
        let channel = self.outcome(opening).await.map_err(|error| refused(&self.server, error))?;
        *self.publishing.lock().unwrap_or_else(PoisonError::into_inner) = channel;
        Ok(())
    }

    fn server(&self) -> &str {
        &self.server
    }

    fn cluster_servers(&self) -> Vec<String> {
        Vec::new()
    }

    fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.blocked.clone()
    }

    /// Never: RabbitMQ closes connections without announcing it.
    async fn shutdown_announced(&self) {
        std::future::pending().await
    }

    async fn ended(&self) {
        self.state.ended.cancelled().await;
    }

    fn has_ended(&self) -> bool {
        self.state.ended.is_cancelled() || self.state.aborted.is_cancelled()
    }

    fn end_reason(&self) -> String {
        self.state.end_reason.get().cloned().unwrap_or_else(|| "the connection was closed".into())
    }

    fn abort(&self, reason: &str) {
        self.state.abort(reason);
    }

    async fn close(&self) {
        let goodbye =
            async { tokio::join!(self.inbound.close(200, "bye".into()), self.outbound.close(200, "bye".into())) };
        // Fails if the broker is gone already.
        let _ = timeout(GOODBYE, goodbye).await;
        self.abort("closed");
    }
}

/// The credentials of this moment.
async fn login(broker: &RabbitMq) -> Result<Login> {
    let config = &broker.config;
    match &config.provider {
        Some(provider) => provider.ask(config.connect_timeout).await,
        None => Ok(Login::new(config.user.as_str(), config.password.as_str())),
    }
}

async fn client(
    broker: &RabbitMq,
    server: &str,
    login: Login,
    does: &str,
    state: &ConnectionState,
) -> Result<lapin::Connection> {
    let stream = tcp_stream(broker, server).await?;
    let bytes_read = Arc::<AtomicU64>::default();
    let ends = (state.aborted.clone(), state.ended.clone(), state.tasks.token());
    let socket = Socket::new(stream, Arc::clone(&bytes_read), ends);
    let socket = Mutex::new(Some(AsyncTcpStream::Plain(socket)));
    let take = async move |_: AMQPUri, _: Runtime<LapinRuntime>| {
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        socket.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    };
    let runtime = Runtime::new(LapinRuntime::new(state.tasks.clone(), state.aborted.clone()));
    let name = format!("trunkline {} {} {does}", broker.config.prefix, broker.settings.sender);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let opened = lapin::Connection::connector(uri(broker, server, login), runtime, take, properties).await;
    let opened = opened.map_err(|error| refused(server, error))?;
    let watched = {
        let (state, limit) = (state.clone(), silence_limit(broker.config.ping_interval));
        async move {
            let mut heard = 0;
            until_silent(limit, || {
                let before = std::mem::replace(&mut heard, bytes_read.load(Ordering::Relaxed));
                heard != before
            })
            .await;
            state.abort("the broker is silent");
        }
    };
    state.tasks.spawn(state.ended.clone().run_until_cancelled_owned(watched));
    Ok(opened)
}

#[cfg_attr(not(feature = "tls"), expect(unused_variables))]
async fn tcp_stream(broker: &RabbitMq, server: &str) -> Result<Box<dyn ByteStream>> {
    let unreachable = |error: std::io::Error| ConnectFailure::Unreachable.at(server).with_source(error);
    let stream = TcpStream::connect(server).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    #[cfg(feature = "tls")]
    if let Some(tls) = &broker.tls {
        return Ok(Box::new(tls.connect(server, host(server), stream).await?));
    }
    Ok(Box::new(stream))
}

/// The socket is connected already: of the address only the user, and what to agree on, matters.
fn uri(broker: &RabbitMq, server: &str, login: Login) -> AMQPUri {
    let config = &broker.config;
    // With OAuth 2 the password is the token, and the name does not matter.
    let userinfo = AMQPUserInfo { username: login.user.unwrap_or_default(), password: login.password };
    AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority { userinfo, host: host(server).to_owned(), port: 0 },
        vhost: config.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(AMQP_FRAME),
            heartbeat: Some(config.ping_interval.as_secs().try_into().unwrap_or(u16::MAX)),
            ..AMQPQueryString::default()
        },
    }
}

/// Publishes with the time, in seconds, if it is `mandatory`, as what the history keeps is: AMQP does not tell its age.
async fn publish(
    channel: &Channel,
    exchange: ShortString,
    key: ShortString,
    bytes: Bytes,
    mandatory: bool,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory, immediate: false };
    let mut properties = BasicProperties::default();
    if mandatory {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        properties = properties.with_timestamp(now.as_secs());
    }
    let sent = channel.basic_publish(exchange, key, options, &bytes, properties).await;
    // Nothing is to hold the bytes until they are confirmed.
    drop(bytes);
    sent?.await
}

async fn confirming(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Asks for the right to publish, with a message that is for no queue: an emitter declares nothing that needs it, and
/// would learn of it only when it flushes.
async fn may_publish(channel: &Channel, exchange: &ShortString) -> lapin::Result<()> {
    match timeout(RIGHT_TIMEOUT, publish(channel, exchange.clone(), "right".into(), Bytes::new(), false)).await {
        Ok(published) => published.map(drop),
        // A broker without memory or disk confirms nothing.
        Err(_) => Ok(()),
    }
}

async fn publishing(
    connection: &lapin::Connection,
    exchange: &ShortString,
    history: Option<&(String, HistoryConfig)>,
) -> lapin::Result<Channel> {
    let channel = confirming(connection).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    if let Some((prefix, history)) = history {
        history::set_up(&channel, prefix, history, exchange).await?;
    }
    Ok(channel)
}

/// The name without port and brackets.
fn host(server: &str) -> &str {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn refused(server: &str, error: lapin::Error) -> Error {
    if let Some(failure) = rejection(&error) {
        return failure.at(server).with_source(error);
    }
    let kind = match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) if WRONG.contains(&refusal.get_id()) => ErrorKind::Config,
        lapin::ErrorKind::ProtocolError(_) => ErrorKind::Broker,
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, format!("{server} refuses the connection: {error}")).with_source(error)
}

/// Why the broker does not accept us, if that is what its error says.
fn rejection(error: &lapin::Error) -> Option<ConnectFailure> {
    const ACCESS_REFUSED: u16 = 403;
    const NOT_ALLOWED: u16 = 530;
    let lapin::ErrorKind::ProtocolError(refusal) = error.kind() else { return ConnectFailure::of_tls(error) };
    let text = error.to_string();
    match refusal.get_id() {
        ACCESS_REFUSED if text.contains("Login was refused") => Some(ConnectFailure::Credentials),
        ACCESS_REFUSED => Some(ConnectFailure::Rights),
        NOT_ALLOWED if text.contains("refused for user") => Some(ConnectFailure::Rights),
        _ => None,
    }
}

/// Access refused, precondition failed, not allowed: trying again does not help.
const WRONG: [u16; 3] = [403, 406, 530];

async fn note_events(
    events: impl Stream<Item = Event>,
    blocked: watch::Sender<Option<String>>,
    end_reason: Arc<OnceLock<String>>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => drop(blocked.send_replace(Some(reason))),
            Event::ConnectionUnblocked => drop(blocked.send_replace(None)),
            Event::Error(error) if !error.is_amqp_soft_error() => _ = end_reason.set(error.to_string()),
            _ => {}
        }
    }
}

/// Whether what the operation needs does not exist.
pub(crate) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}

/// Starts an operation of the client: what it sends has its order among other operations before this returns.
///
/// The client documents no order of futures that are polled later. That the first poll puts the frames of an operation
/// into the client's queue is how it is written; the test `operations_have_the_order_in_which_they_were_begun` names
/// this assumption.
pub(crate) fn begin<T: Send + 'static>(operation: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
    let mut operation = operation.boxed();
    match operation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => std::future::ready(output).boxed(),
        Poll::Pending => operation,
    }
}

#[cfg(test)]
mod tests {
    use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};

    use super::*;
    use crate::config::Config;

    const OPERATIONS: u32 = 200;

    /// What [`begin`] assumes of the client: without its first poll the broker would get these the other way round.
    #[tokio::test(flavor = "multi_thread")]
    async fn operations_have_the_order_in_which_they_were_begun() {
        let server = trunkline_brokers::RabbitMq::start().await.unwrap();
        let broker = RabbitMq::new(Config::from_url(server.url()).unwrap()).unwrap();
        let connection = Connection::open(&broker, &broker.settings.servers[0], 1, &TaskTracker::new()).await.unwrap();
        let mut consumer = consume(&connection, "order").await.unwrap();
        let publish = |number: u32| {
            let bytes = number.to_be_bytes().to_vec().into();
            connection.publish_batch(OutgoingBatch { address: "order".into(), bytes, is_mandatory: false })
        };
        let begun: Vec<_> = (0..OPERATIONS).map(publish).collect();
        for operation in begun.into_iter().rev() {
            assert!(operation.await.unwrap().is_ack());
        }
        for number in 0..OPERATIONS {
            let delivery = timeout(Duration::from_secs(40), consumer.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(delivery.data, number.to_be_bytes());
        }
        connection.close().await;
    }

    /// Everything with this routing key.
    async fn consume(connection: &Connection, key: &str) -> lapin::Result<lapin::Consumer> {
        let channel = connection.inbound.create_channel().await?;
        let queue = channel.queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default()).await?;
        let (queue, exchange) = (queue.name().clone(), connection.exchange.clone());
        let (bind, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), exchange, key.into(), bind, arguments).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue, "".into(), no_ack, FieldTable::default()).await
    }
}
