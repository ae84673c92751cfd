//! One connection to one server, from its handshake to its end.
//!
//! The client's own reconnecting is not used: it would send what it still holds *before* anything that was lost with the old connection
//! could be sent again, and so out of order. A connection that ends here ends for good, and the keeper opens another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, ReconnectToServer, ServerAddr, Subject, Subscriber, jetstream::Context,
    rustls::ClientConfig,
};
use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use trunkline_backend::batch::ConnectionId;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::{Config, Credentials},
    fence::Fence,
    life::{Events, Life},
    peers::Peers,
    subjects::token,
};

/// What every connection is made with.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) config: Config,
    pub(crate) sender: ConnectionId,
    tls: ClientConfig,
    opened: AtomicU64,
    peers: Arc<Peers>,
}

impl Connector {
    pub(crate) fn new(config: Config, tls: ClientConfig) -> Self {
        Self { config, sender: ConnectionId::random(), tls, opened: AtomicU64::new(0), peers: Arc::default() }
    }

    /// Connects to one server. The connection's task is added to `tasks`.
    pub(crate) async fn open(&self, server: &str, tasks: &TaskTracker) -> Result<Arc<Connection>> {
        let address = address(server)?;
        let (events, life) = Life::new(tasks.token());
        let options = self.options(&address, events)?;
        // Only the handshake is bounded by the client, not looking up the name.
        let pool = [address.clone(), nowhere()?];
        let connecting = options.connect(pool.as_slice());
        let client = match timeout(self.config.connect_timeout, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(refused(server, error)),
            Err(_) => return Err(Error::new(ErrorKind::Disconnected, format!("{server} does not answer"))),
        };
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let marks = Subject::from(format!("{}.mark.{}", token(&self.config.prefix), self.sender));
        let jetstream = self.config.history.map(|_| self.jetstream(&client));
        let fence = Fence::open(&client, &self.config, self.sender.to_string(), Arc::clone(&self.peers)).await?;
        let (fence, fencing) = fence.unzip();
        let connection = Arc::new(Connection::new(client, jetstream, number, server, marks, life, fence));
        let echoes = connection.subscribe(connection.marks.clone()).await?;
        tasks.spawn(Arc::clone(&connection.life).listen(echoes));
        self.confirm(&connection).await?;
        if let Some(fencing) = fencing {
            tasks.spawn(fencing.run(Arc::clone(&connection.life)));
            // Peers are heard through it before it is used.
            connection.settle().await?;
        }
        Ok(connection)
    }

    /// A server that accepts a connection but refuses our subjects is of no use.
    async fn confirm(&self, connection: &Arc<Connection>) -> Result<()> {
        match timeout(self.config.connect_timeout, connection.round_trip()).await {
            Ok(result) => result,
            Err(_) => {
                connection.close();
                let said = connection.life.last_words().unwrap_or_else(|| "nothing".into());
                let context = format!(
                    "{} does not echo what is published below {:?}; it said {said}",
                    connection.server, self.config.prefix
                );
                Err(Error::new(ErrorKind::Broker, context))
            }
        }
    }

    fn jetstream(&self, client: &Client) -> Context {
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(self.config.connect_timeout);
        context
    }

    fn options(&self, address: &ServerAddr, events: Events) -> Result<ConnectOptions> {
        let config = &self.config;
        let target = address.clone();
        let nowhere = nowhere()?;
        let used = AtomicBool::new(false);
        let options = ConnectOptions::new()
            .name("trunkline")
            .connection_timeout(config.connect_timeout)
            .ping_interval(config.ping_interval)
            .subscription_capacity(config.pending_frames)
            .request_timeout(Some(config.connect_timeout))
            .custom_inbox_prefix(format!("{}.inbox", token(&config.prefix)))
            .require_tls(config.tls.required)
            .tls_client_config(self.tls.clone())
            .ignore_discovered_servers()
            .event_callback(move |event| {
                events.take(event);
                std::future::ready(())
            })
            .max_reconnects(1)
            .reconnect_to_server_callback(move |_, _| {
                let addr = if used.swap(true, Ordering::Relaxed) { nowhere.clone() } else { target.clone() };
                std::future::ready(Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }))
            });
        let options = if config.tls.first { options.tls_first() } else { options };
        Ok(match &config.credentials {
            Credentials::None => options,
            Credentials::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Credentials::Token(token) => options.token(token.clone()),
            Credentials::NKey(seed) => options.nkey(seed.clone()),
            Credentials::Jwt(content) => options.credentials(content).map_err(|error| {
                Error::new(ErrorKind::Config, "the credentials file has no JWT and key").with_source(error)
            })?,
        })
    }
}

/// Never with credentials in it: the client logs addresses.
fn address(server: &str) -> Result<ServerAddr> {
    let no_address = || Error::new(ErrorKind::Config, format!("{server:?} is no address of a server"));
    format!("nats://{server}").parse::<ServerAddr>().map_err(|error| no_address().with_source(error))
}

/// An address where nobody can listen. A client that lost its connection is sent there, and ends.
fn nowhere() -> Result<ServerAddr> {
    address("127.0.0.1:0")
}

fn refused(server: &str, error: async_nats::ConnectError) -> Error {
    let kind = match error.kind() {
        ConnectErrorKind::ServerParse | ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ErrorKind::Config
        }
        ConnectErrorKind::Tls => ErrorKind::Config,
        _ => ErrorKind::Disconnected,
    };
    Error::new(kind, format!("{server} refuses the connection ({})", error.kind())).with_source(error)
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// If there is a history.
    pub(crate) jetstream: Option<Context>,
    /// The how-manyeth of its transport.
    pub(crate) number: u64,
    /// Where it leads to.
    pub(crate) server: String,
    marks: Subject,
    next_mark: AtomicU64,
    pub(crate) life: Arc<Life>,
    /// If the server is one of several.
    fence: Option<Fence>,
}

impl Connection {
    fn new(
        client: Client,
        jetstream: Option<Context>,
        number: u64,
        server: &str,
        marks: Subject,
        life: Life,
        fence: Option<Fence>,
    ) -> Self {
        Self {
            client,
            jetstream,
            number,
            server: server.to_owned(),
            marks,
            next_mark: AtomicU64::new(1),
            life: Arc::new(life),
            fence,
        }
    }

    /// Queues a message. Waits while the connection takes nothing.
    pub(crate) async fn publish(&self, subject: Subject, payload: Bytes) -> Result<()> {
        let sent = self.client.publish(subject, payload).await;
        sent.map_err(|error| Error::new(ErrorKind::Disconnected, "publishing").with_source(error))
    }

    /// Queues a subscription. It is active after [`Connection::settle`].
    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed.map_err(|error| Error::new(ErrorKind::Disconnected, "subscribing").with_source(error))
    }

    /// Returns when the server has processed everything that was queued before: it echoes a mark.
    ///
    /// # Errors
    /// `Disconnected` once the connection has ended.
    pub(crate) async fn round_trip(&self) -> Result<()> {
        let number = self.next_mark.fetch_add(1, Ordering::Relaxed);
        let echo = self.life.expect(number)?;
        self.publish(self.marks.clone(), number.to_string().into()).await?;
        echo.await.map_err(|_| self.life.gone())
    }

    /// Returns when everything that was queued before has been processed by the server, and by the other servers of its cluster as far as
    /// peers are behind them.
    ///
    /// # Errors
    /// `Disconnected` once the connection has ended.
    pub(crate) async fn settle(&self) -> Result<()> {
        let fenced = async {
            if let Some(fence) = &self.fence {
                fence.pass().await;
            }
        };
        tokio::join!(self.round_trip(), fenced).0
    }

    /// Tells peers not to wait for us any more.
    pub(crate) async fn say_farewell(&self) -> Result<()> {
        let Some(fence) = &self.fence else { return Ok(()) };
        self.publish(fence.subject.clone(), fence.farewell.clone()).await?;
        self.round_trip().await
    }

    /// What the history is reached by.
    pub(crate) fn jetstream(&self) -> Result<&Context> {
        self.jetstream.as_ref().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the history is switched off"))
    }

    /// Lets go of the connection. It ends when everybody has.
    pub(crate) fn close(&self) {
        self.life.close();
    }

    /// Returns when the connection is no more.
    pub(crate) async fn ended(&self) {
        self.life.ended().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// The largest message that the server accepts.
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }
}
