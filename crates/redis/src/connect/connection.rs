//! Connections that have been authenticated: bare sockets for messages, and those of the `redis` crate for commands.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, Value, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use trunkline_backend::url::AddressMap;
use trunkline_backend::{ConnectFailure, Login};
use trunkline_core::{Error, ErrorKind, Result};

#[cfg(feature = "tls")]
use super::tls::TlsClient;
use super::{
    credentials::{Credentials, Renewals, authentication, not_renewed},
    error::{is_refusal, is_temporary, lost, refused, rejection},
    resp::{Frames, Reader, Reply, write_command},
    role::{ROLE, demoted, is_replica},
};
use crate::config::{Address, Config, ServerConfig, Topology};

/// Both directions of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An authenticated connection, whatever it is made of.
pub(crate) type Socket = Box<dyn Stream>;

/// Bytes per second that every link carries: what is under way may take so long beyond the time for an answer.
const SLOWEST_LINK: usize = 128 << 10;

/// How long so many bytes may take to arrive.
pub(crate) fn time_on_link(bytes: usize) -> Duration {
    Duration::from_secs((bytes / SLOWEST_LINK) as u64)
}

/// Linux lets a socket wait until a third of its send buffer is free, which is 4 MiB at most by default.
const FREED_AT_ONCE: usize = (4 << 20) / 3;

/// Writes the whole of it.
///
/// # Errors
/// `TimedOut` if nothing more could be written for `limit` and the time that a slow link needs until there is room.
pub(crate) async fn write_all(socket: &mut Socket, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let limit = limit + time_on_link(bytes.len().min(FREED_AT_ONCE));
        let written = timeout(limit, socket.write(bytes)).await.unwrap_or_else(|_| Err(no_answer()))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    timeout(limit, socket.flush()).await.unwrap_or_else(|_| Err(no_answer()))
}

/// The server has been silent for too long.
pub(crate) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")
}

/// Opens connections and authenticates on them.
#[derive(Clone)]
pub(crate) struct Connector {
    credentials: Credentials,
    database: u32,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
    announce: AddressMap,
    /// What a name or a sentinel stands for may have been made a replica since. In a Redis Cluster, a replica says
    /// itself where to go.
    requires_master: bool,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Connector {
    /// To the servers with the data.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let ServerConfig { user, password, database, topology, .. } = &config.server;
        Ok(Self {
            credentials: Credentials::new(
                user.as_ref(),
                password.as_ref(),
                config.provider.as_ref(),
                config.connect_timeout,
            ),
            database: *database,
            #[cfg(feature = "tls")]
            tls: config.server.tls.as_ref().map(TlsClient::new).transpose()?,
            announce: config.server.announce.clone(),
            requires_master: *topology != Topology::Cluster,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
        })
    }

    /// To the sentinels; `None` without any.
    pub(crate) fn to_sentinels(config: &Config) -> Result<Option<Self>> {
        let Topology::Sentinel { user, password, .. } = &config.server.topology else { return Ok(None) };
        let provider = config.sentinel_provider.as_ref();
        let credentials = Credentials::new(user.as_ref(), password.as_ref(), provider, config.connect_timeout);
        Ok(Some(Self { credentials, database: 0, requires_master: false, ..Self::new(config)? }))
    }

    /// How long an answer may take.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// Renewed credentials for a connection that is opened now.
    pub(crate) fn renewals(&self) -> Renewals {
        self.credentials.renewals()
    }

    /// Renews credentials that expire. Returns if they do not.
    pub(crate) async fn keep_valid(&self, max_backoff: Duration) {
        self.credentials.keep_valid(max_backoff).await;
    }

    /// A bare connection. `role` is what it is for; `CLIENT LIST` shows it.
    /// Ends the `former` connection of the same owner, if there is one.
    pub(crate) async fn open(&self, address: &Address, role: &str, former: Option<&Former>) -> Result<Socket> {
        let deadline = Instant::now() + self.connect_timeout;
        // Not the server's fault if there are none.
        let login = self.credentials.of_connection().await?;
        let opening = async {
            let socket = self.reach(address).await.map_err(|error| lost(address, error))?;
            let mut dialogue = Dialogue { address, socket, frames: Frames::default() };
            self.authenticate(&mut dialogue, login.as_ref()).await?;
            self.identify(&mut dialogue, role).await?;
            if let Some(former) = former {
                former.replace(&mut dialogue).await?;
                dialogue.use_resp3().await?;
            }
            Ok(dialogue.socket)
        };
        timeout_at(deadline, opening)
            .await
            .unwrap_or_else(|_| Err(ConnectFailure::NoAnswer(self.connect_timeout).at(address)))
    }

    /// A connection for commands.
    pub(crate) async fn open_for_commands(&self, address: &Address) -> Result<CommandConnection> {
        let socket = self.open(address, "command", None).await?;
        let moved = Arc::new(Mutex::new(Instant::now()));
        let socket = Watched { socket, moved: Arc::clone(&moved) };
        // Both times are bounded by the caller, not there: that is in the way of commands that wait.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connected = MultiplexedConnection::new_with_config(&RedisConnectionInfo::default(), socket, config).await;
        let (connection, driver) = connected.map_err(|error| refused(address, error))?;
        let driver = AbortOnDrop(tokio::spawn(driver));
        let (address, proven, driver) = (address.clone(), Arc::new(Mutex::new(Instant::now())), Arc::new(driver));
        Ok(CommandConnection { address, connection, moved, proven, driver })
    }

    async fn reach(&self, address: &Address) -> io::Result<Socket> {
        let (host, port) = match address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(host, port) => (host, *port),
        };
        let said = address.to_string();
        let stream = match self.announce.reached(&said) {
            same if same == said => TcpStream::connect((host.as_str(), port)).await?,
            other => TcpStream::connect(other).await?,
        };
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.connect(host, stream).await?));
        }
        Ok(Box::new(stream))
    }

    /// User, password and database. Every server begins with RESP2.
    async fn authenticate(&self, dialogue: &mut Dialogue<'_>, login: Option<&Login>) -> Result<()> {
        if let Some(login) = login {
            dialogue.expect_ok(authentication(login)).await?;
        }
        if self.database != 0 {
            let number = self.database.to_string();
            if let Some(Reply::Error(error)) = dialogue.ask([&b"SELECT"[..], number.as_bytes()]).await?.next() {
                let refused = dialogue.refused(&error);
                if is_temporary(&error) || refused.kind() == ErrorKind::Config {
                    return Err(refused);
                }
                let context = format!("{} has no database {number}", dialogue.address);
                return Err(Error::new(ErrorKind::Config, context).with_source(String::from_utf8_lossy(&error)));
            }
        }
        Ok(())
    }

    /// Tells the server what the connection is for, and looks whether it is the right one.
    async fn identify(&self, dialogue: &mut Dialogue<'_>, role: &str) -> Result<()> {
        // It may refuse: a user need not have the right to. Only a missing password is an error.
        let named = dialogue.ask([&b"CLIENT"[..], b"SETNAME", format!("trunkline-{role}").as_bytes()]).await?.next();
        if let Some(Reply::Error(error)) = named
            && error.starts_with(b"NOAUTH")
        {
            return Err(dialogue.refused(&error));
        }
        if self.requires_master {
            let mut answer = dialogue.ask(ROLE).await?;
            if is_replica(&mut answer) {
                return Err(demoted(dialogue.address));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Connector {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("requires_master", &self.requires_master).finish_non_exhaustive()
    }
}

/// One command after the other, on a connection that is not in use yet. It never reads beyond an answer.
struct Dialogue<'a> {
    address: &'a Address,
    socket: Socket,
    frames: Frames,
}

impl Dialogue<'_> {
    async fn expect_ok<'a>(&mut self, arguments: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        match self.ask(arguments).await?.next() {
            Some(Reply::Error(error)) => Err(self.refused(&error)),
            _ => Ok(()),
        }
    }

    /// Lets a subscriber run other commands: with RESP2, it could neither ask for the role nor authenticate again. A
    /// server without RESP3 refuses this, and those.
    async fn use_resp3(&mut self) -> Result<()> {
        self.ask([&b"HELLO"[..], b"3"]).await.map(drop)
    }

    fn refused(&self, error: &[u8]) -> Error {
        let text = String::from_utf8_lossy(error).into_owned();
        match rejection(error) {
            Some(failure) => failure.at(self.address).with_source(text),
            None => Error::new(ErrorKind::Broker, format!("{}: {text}", self.address)),
        }
    }

    async fn ask<'a>(&mut self, arguments: impl IntoIterator<Item = &'a [u8]>) -> Result<Reader> {
        let mut command = Vec::new();
        write_command(&mut command, arguments.into_iter().collect::<Vec<_>>());
        self.exchange(&command).await.map_err(|error| lost(self.address, error))
    }

    async fn exchange(&mut self, command: &[u8]) -> io::Result<Reader> {
        self.socket.write_all(command).await?;
        self.socket.flush().await?;
        self.frames.read(&mut self.socket).await.map(Reader::new)
    }
}

/// The last connection of a receiver, as its server knows it.
///
/// A server keeps a subscriber that has vanished for minutes, and counts it. So the next connection ends it: by its id
/// and its address, since a server that was restarted gives the same ids again.
#[derive(Debug, Default)]
pub(crate) struct Former(Mutex<Option<(Bytes, Bytes)>>);

impl Former {
    /// Ends the former connection and notes this one. A server may refuse both.
    async fn replace(&self, dialogue: &mut Dialogue<'_>) -> Result<()> {
        let former = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((id, address)) = former {
            dialogue.ask([&b"CLIENT"[..], b"KILL", b"ID", &id, b"ADDR", &address]).await?;
        }
        let info = dialogue.ask([&b"CLIENT"[..], b"INFO"]).await?.next_text().unwrap_or_default();
        let field = |name: &[u8]| {
            let value = info.split(|byte| *byte == b' ').find_map(|field| field.strip_prefix(name))?;
            Some(info.slice_ref(value))
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = field(b"id=").zip(field(b"addr="));
        Ok(())
    }
}

/// A socket that notes when bytes were moved last, in either direction.
struct Watched {
    socket: Socket,
    moved: Arc<Mutex<Instant>>,
}

impl Watched {
    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.note(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A connection for commands. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CommandConnection {
    address: Address,
    connection: MultiplexedConnection,
    /// When the last bytes were moved.
    moved: Arc<Mutex<Instant>>,
    /// When the server was the master last.
    proven: Arc<Mutex<Instant>>,
    driver: Arc<AbortOnDrop>,
}

impl CommandConnection {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Runs a command.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &redis::Cmd, limit: Duration) -> Result<T> {
        let mut connection = self.connection.clone();
        self.within(limit, command.query_async(&mut connection)).await
    }

    /// Runs several commands in one go.
    pub(crate) async fn run_all<T: FromRedisValue>(&self, commands: &redis::Pipeline, limit: Duration) -> Result<T> {
        let mut connection = self.connection.clone();
        self.within(limit, commands.query_async(&mut connection)).await
    }

    async fn within<T>(&self, limit: Duration, running: impl Future<Output = redis::RedisResult<T>>) -> Result<T> {
        tokio::pin!(running);
        let mut late = Instant::now() + limit;
        loop {
            if let Ok(result) = timeout_at(late, &mut running).await {
                return result.map_err(|error| refused(&self.address, error));
            }
            // A long answer takes its time. Only silence is limited.
            let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if moved <= late {
                // The next caller connects anew.
                self.driver.0.abort();
                let context = format!("{} did not answer within {limit:?}", self.address);
                return Err(Error::new(ErrorKind::Disconnected, context));
            }
            late = moved;
        }
    }

    /// Asks whether these commands would be permitted. Nothing is executed: the rights are checked when a command is
    /// queued in a transaction, which is discarded. A user without the right to transactions is not asked.
    ///
    /// # Errors
    /// `Config` with the server's words.
    pub(crate) async fn require_rights(&self, commands: &[redis::Cmd], limit: Duration) -> Result<()> {
        for command in commands {
            match self.run::<()>(&redis::cmd("MULTI"), limit).await {
                Err(error) if error.kind() == ErrorKind::Broker || is_refusal(&error) => return Ok(()),
                begun => begun?,
            }
            let queued = self.run::<()>(command, limit).await;
            self.run::<()>(&redis::cmd("DISCARD"), limit).await?;
            queued.or_else(|error| if is_refusal(&error) { Err(error) } else { Ok(()) })?;
        }
        Ok(())
    }

    /// Asks for the role of the server, unless that was done within `interval`. False if the connection has to be given
    /// up.
    pub(crate) async fn is_to_master(&self, interval: Duration, limit: Duration) -> bool {
        let proven = || self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven().elapsed() < interval {
            return true;
        }
        let is_good = match self.run::<Value>(&redis::cmd("ROLE"), limit).await {
            Ok(Value::Array(answer)) => answer.first() != Some(&Value::BulkString(b"slave".to_vec())),
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::Disconnected,
        };
        *proven() = Instant::now();
        is_good
    }

    /// Authenticates with renewed credentials.
    pub(super) async fn authenticate(&self, login: &Login, limit: Duration) {
        let mut command = redis::Cmd::new();
        authentication(login).into_iter().for_each(|argument| _ = command.arg(argument));
        if let Err(error) = self.run::<()>(&command, limit).await {
            not_renewed(&error);
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.driver.0.is_finished()
    }
}

impl fmt::Debug for CommandConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandConnection({})", self.address)
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
