//! One connection to one server, from its handshake to its end.
//!
//! The client's own reconnecting is not used: it would send what it still holds *before* anything that was lost with
//! the old connection could be sent again, and so out of order. A connection that ends here ends for good, and another
//! one is opened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, ReconnectToServer, ServerAddr, Subject, Subscriber,
    jetstream::Context,
};
use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use tokio::{sync::watch, task::yield_now, time::timeout};
use tokio_util::task::TaskTracker;
use trunkline_backend::{
    ConnectFailure,
    batched::{BatchConnection, Confirmation, OutgoingBatch, Undelivered},
    connection::{silence_limit, until_silent},
    url::AddressMap,
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    barrier::SubscriptionBarrier,
    broker::Nats,
    config::Credentials,
    connection_state::{ConnectionState, EventSink, is_violation},
    history::ANSWER_TIMEOUT,
};

/// How long telling peers that this connection ends may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Where it leads to.
    pub(crate) server: String,
    pub(crate) state: Arc<ConnectionState>,
    /// If there is a history.
    jetstream: Option<Context>,
    marks: Subject,
    next_mark: AtomicU64,
    /// If the server is one of several.
    barrier: Option<SubscriptionBarrier>,
    announce: AddressMap,
}

impl Connection {
    /// Connects to one server. Its tasks belong to `tasks`.
    pub(crate) async fn open(nats: &Nats, server: &str, tasks: &TaskTracker) -> Result<Self> {
        let address = address(server)?;
        let (events, state) = ConnectionState::new(tasks.token());
        let credentials = current_credentials(nats).await?;
        let options = options(nats, &address, credentials, events)?;
        // Only the handshake is bounded by the client, not looking up the name.
        let pool = [address, unroutable_address()?];
        let client = match timeout(nats.config.connect_timeout, options.connect(pool.as_slice())).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(refused(nats, server, error)),
            Err(_) => return Err(ConnectFailure::NoAnswer(nats.config.connect_timeout).at(server)),
        };
        let barrier = SubscriptionBarrier::open(&client, nats).await?;
        let (barrier, barrier_task) = barrier.unzip();
        let connection = Self {
            jetstream: nats.config.history.map(|_| jetstream(&client, ANSWER_TIMEOUT.min(nats.config.connect_timeout))),
            client,
            server: server.to_owned(),
            state: Arc::new(state),
            marks: format!("{}.mark.{}", nats.prefix(), nats.settings.sender).into(),
            next_mark: AtomicU64::new(1),
            barrier,
            announce: nats.config.announce.clone(),
        };
        let echoes = connection.subscribe(connection.marks.clone()).await?;
        tasks.spawn(Arc::clone(&connection.state).listen(echoes));
        connection.check_echo(nats).await?;
        tasks.spawn(connection.watch(silence_limit(nats.config.ping_interval)));
        if let Some(task) = barrier_task {
            tasks.spawn(task.run(Arc::clone(&connection.state)));
            // Peers are heard through it before it is used.
            connection.settle().await?;
        }
        Ok(connection)
    }

    /// Ends the connection when the server is silent for so long. The client alone takes three of its pings for that, and
    /// peers count as silent before.
    fn watch(&self, limit: Duration) -> impl Future<Output = ()> + use<> {
        /// More than what is sent without being asked for, while a message of any size is on its way.
        const PROGRESS: u64 = 64 << 10;
        let (state, client, marks) = (Arc::clone(&self.state), self.client.clone(), self.marks.clone());
        let statistics = client.statistics();
        let (mut read, mut written) = (0, 0);
        let watched = until_silent(limit, move || {
            let (was_read, was_written) = (read, written);
            read = statistics.in_bytes.load(Ordering::Relaxed);
            written = statistics.out_bytes.load(Ordering::Relaxed);
            // Makes the server say something. If the client takes nothing, there is something on its way.
            let _ = client.publish(marks.clone(), Bytes::from_static(b"0")).now_or_never();
            read != was_read || written >= was_written + PROGRESS
        });
        async move {
            tokio::select! {
                () = watched => state.close("the server does not answer"),
                () = state.ended() => {}
            }
        }
    }

    /// A server that accepts a connection but refuses our subjects is of no use.
    async fn check_echo(&self, nats: &Nats) -> Result<()> {
        let echoed = async {
            tokio::select! {
                result = self.round_trip() => Some(result),
                () = self.state.not_permitted() => None,
            }
        };
        if let Ok(Some(result)) = timeout(nats.config.connect_timeout, echoed).await {
            return result;
        }
        self.abort("the server does not echo");
        let said = self.state.last_error().unwrap_or_else(|| "nothing".into());
        if is_violation(&said) {
            return Err(ConnectFailure::Rights.at(&self.server).with_source(said));
        }
        let context =
            format!("{} does not echo what is published below {:?}; it said {said}", self.server, nats.config.prefix);
        Err(Error::new(ErrorKind::Broker, context))
    }

    /// Asks for the right to publish to subjects of JetStream, with requests that say nothing: each is answered, if only
    /// with an error, or is not permitted. A cluster without a leader does neither within `limit`.
    pub(crate) async fn check_rights(&self, subjects: &[String], limit: Duration) -> Result<()> {
        let asked = subjects.iter().map(async |subject| {
            tokio::select! {
                _ = timeout(limit, self.client.request(subject.clone(), Bytes::new())) => None,
                () = self.state.forbidden(subject) => Some(subject),
            }
        });
        let Some(missing) = join_all(asked).await.into_iter().flatten().next() else { return Ok(()) };
        let context = format!(
            "history=on needs to publish to {missing:?}; grant it in its permissions: publish: [..., \"$JS.API.STREAM.>\", \"$JS.API.CONSUMER.>\"]"
        );
        Err(ConnectFailure::Rights.at(&self.server).with_source(context))
    }

    /// Queues a message. Waits while the connection takes nothing.
    pub(crate) async fn send(&self, subject: Subject, payload: Bytes) -> Result<()> {
        let sent = self.client.publish(subject, payload).await;
        sent.map_err(|error| Error::new(ErrorKind::Disconnected, "publishing").with_source(error))
    }

    /// Queues a subscription. It is active after [`Connection::settle`].
    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber> {
        subscribe(&self.client, subject).await
    }

    /// Queues a mark, which the server echoes: what is returned resolves when the server has processed everything that
    /// was queued before.
    ///
    /// NATS confirms no publish outside of JetStream, and the client has no way to send a PING. A server processes what
    /// one client sends in order, so the echo of a message to a subject of this connection is as good, and costs the
    /// server one small message per write.
    ///
    /// # Errors
    /// `Disconnected` once the connection has ended.
    async fn mark(&self) -> Result<BoxFuture<'static, Result<()>>> {
        let number = self.next_mark.fetch_add(1, Ordering::Relaxed);
        let echo = self.state.expect(number)?;
        self.send(self.marks.clone(), number.to_string().into()).await?;
        let state = Arc::clone(&self.state);
        Ok(async move { echo.await.map_err(|_| state.ended_error()) }.boxed())
    }

    async fn round_trip(&self) -> Result<()> {
        self.mark().await?.await
    }

    /// Returns when everything that was queued before has been processed by the server, and by the other servers of its
    /// cluster as far as peers are connected to them.
    ///
    /// # Errors
    /// `Disconnected` once the connection has ended.
    pub(crate) async fn settle(&self) -> Result<()> {
        let barrier = async {
            if let Some(barrier) = &self.barrier {
                barrier.pass().await;
            }
        };
        tokio::join!(self.round_trip(), barrier).0
    }

    /// Tells peers not to wait for this connection any more.
    async fn announce_end(&self) -> Result<()> {
        let Some(barrier) = &self.barrier else { return Ok(()) };
        self.send(barrier.subject.clone(), barrier.goodbye.clone()).await?;
        self.round_trip().await
    }

    /// What the history is reached by.
    pub(crate) fn jetstream(&self) -> Result<&Context> {
        self.jetstream.as_ref().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the history is switched off"))
    }
}

/// How often that task gets its turn.
const EVENT_TURNS: usize = 16;

impl BatchConnection for Connection {
    type Address = Subject;

    async fn publish(&self, batches: &[OutgoingBatch<Subject>]) -> Result<Confirmation<Subject>> {
        let max_payload = self.client.max_payload();
        let mut undelivered = Undelivered::default();
        for (index, OutgoingBatch { address, bytes, .. }) in batches.iter().enumerate() {
            if bytes.len() > max_payload {
                // It was queued for another server. Trying it would cost the connection, again and again.
                undelivered.refused.push(index);
                continue;
            }
            self.send(address.clone(), bytes.clone()).await?;
        }
        let echoed = self.mark().await?;
        let subjects: Vec<_> = batches.iter().map(|batch| batch.address.clone()).collect();
        let state = Arc::clone(&self.state);
        Ok(async move {
            echoed.await?;
            // The server has told of refusals before, but the client hands them to another of its tasks.
            for _ in 0..EVENT_TURNS {
                yield_now().await;
            }
            let forbidden = subjects.iter().enumerate().filter(|(_, subject)| state.take_forbidden(subject));
            undelivered.refused.extend(forbidden.map(|(index, _)| index));
            Ok(undelivered)
        }
        .boxed())
    }

    fn server(&self) -> &str {
        &self.server
    }

    fn cluster_servers(&self) -> Vec<String> {
        let advertised = self.client.server_info().connect_urls;
        advertised.iter().map(|address| self.announce.reached(address).to_owned()).collect()
    }

    /// Never: a NATS server that is out of memory ends connections.
    fn blocked(&self) -> watch::Receiver<Option<String>> {
        watch::channel(None).1
    }

    /// Nothing that is refused costs the connection its order.
    async fn reopen(&self) -> Result<()> {
        Ok(())
    }

    async fn shutdown_announced(&self) {
        self.state.lame_duck_mode().await;
    }

    async fn ended(&self) {
        self.state.ended().await;
    }

    fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    fn end_reason(&self) -> String {
        self.state.end_reason()
    }

    fn abort(&self, reason: &str) {
        self.state.close(reason);
    }

    async fn close(&self) {
        // Peers notice without it, later.
        let _ = timeout(GOODBYE, self.announce_end()).await;
        self.abort("closed");
    }
}

pub(crate) async fn subscribe(client: &Client, subject: Subject) -> Result<Subscriber> {
    let subscribed = client.subscribe(subject).await;
    subscribed.map_err(|error| Error::new(ErrorKind::Disconnected, "subscribing").with_source(error))
}

/// Those of this moment.
async fn current_credentials(nats: &Nats) -> Result<Credentials> {
    let Credentials::Provided(provider) = &nats.config.credentials else { return Ok(nats.config.credentials.clone()) };
    let login = provider.ask(nats.config.connect_timeout).await?;
    Ok(match login.user {
        Some(user) => Credentials::Password { user, password: login.password },
        None => Credentials::Token(login.password),
    })
}

fn options(nats: &Nats, address: &ServerAddr, credentials: Credentials, events: EventSink) -> Result<ConnectOptions> {
    let config = &nats.config;
    let (target, unroutable) = (address.clone(), unroutable_address()?);
    let used = AtomicBool::new(false);
    let options = ConnectOptions::new()
        .name("trunkline")
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .subscription_capacity(config.pending_batches)
        .request_timeout(Some(config.connect_timeout))
        .custom_inbox_prefix(format!("{}.inbox", nats.prefix()))
        .require_tls(config.tls.required)
        .tls_client_config(nats.tls.clone())
        .ignore_discovered_servers()
        .event_callback(move |event| {
            events.take(event);
            std::future::ready(())
        })
        .max_reconnects(1)
        .reconnect_to_server_callback(move |_, _| {
            let addr = if used.swap(true, Ordering::Relaxed) { unroutable.clone() } else { target.clone() };
            std::future::ready(Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }))
        });
    let options = if config.tls.first { options.tls_first() } else { options };
    Ok(match credentials {
        // What is provided has become one of the others.
        Credentials::None | Credentials::Provided(_) => options,
        Credentials::Password { user, password } => options.user_and_password(user, password),
        Credentials::Token(token) => options.token(token),
        Credentials::NKey(seed) => options.nkey(seed),
        Credentials::Jwt(content) => options.credentials(&content).map_err(|error| {
            Error::new(ErrorKind::Config, "the credentials file has no JWT and key").with_source(error)
        })?,
    })
}

fn jetstream(client: &Client, answer_timeout: Duration) -> Context {
    let mut context = async_nats::jetstream::new(client.clone());
    context.set_timeout(answer_timeout);
    context
}

/// Never with credentials in it: the client logs addresses.
fn address(server: &str) -> Result<ServerAddr> {
    let no_address = || Error::new(ErrorKind::Config, format!("{server:?} is no address of a server"));
    format!("nats://{server}").parse::<ServerAddr>().map_err(|error| no_address().with_source(error))
}

/// An address to which no connection is possible. A client that lost its connection is sent there, and ends.
fn unroutable_address() -> Result<ServerAddr> {
    address("127.0.0.1:0")
}

fn refused(nats: &Nats, server: &str, error: ConnectError) -> Error {
    use ConnectErrorKind::{Authentication, AuthorizationViolation, ServerParse, TimedOut, Tls};
    let failure = match error.kind() {
        Authentication | AuthorizationViolation => ConnectFailure::Credentials,
        TimedOut => ConnectFailure::NoAnswer(nats.config.connect_timeout),
        ServerParse => return Error::new(ErrorKind::Config, server).with_source(error),
        // Where nothing is wrong with certificates, the client misses TLS at the server.
        Tls => ConnectFailure::of_tls(&error).unwrap_or(ConnectFailure::NoTls),
        _ => ConnectFailure::of_tls(&error).unwrap_or(ConnectFailure::Unreachable),
    };
    failure.at(server).with_source(error)
}
