//! Connections that have been greeted: bare sockets for messages, and those of the `redis` crate for commands.

use std::{
    fmt,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    config::{Address, Config, Server, Topology},
    error::{lost, refused},
    tls::Connector,
};

/// Both directions of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether its other end is on this machine.
    fn is_near(&self) -> bool;
}

impl Stream for TcpStream {
    fn is_near(&self) -> bool {
        let addresses = (self.local_addr(), self.peer_addr());
        matches!(addresses, (Ok(here), Ok(there)) if is_near(here.ip(), there.ip()))
    }
}

impl Stream for UnixStream {
    fn is_near(&self) -> bool {
        true
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn is_near(&self) -> bool {
        self.get_ref().0.is_near()
    }
}

/// What goes to an own address does not leave the machine.
fn is_near(here: IpAddr, there: IpAddr) -> bool {
    let (here, there) = (here.to_canonical(), there.to_canonical());
    there.is_loopback() || here == there
}

/// A connection that has been greeted, whatever it is made of.
pub(crate) type Socket = Box<dyn Stream>;

/// Connects and greets.
#[derive(Clone)]
pub(crate) struct Dialer {
    credentials: RedisConnectionInfo,
    tls: Option<Connector>,
    /// What a sentinel names as master may have been made a replica since.
    only_masters: bool,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Dialer {
    /// To the servers with the data.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let Server { user, password, database, .. } = &config.server;
        let info = credentials(user.as_deref(), password.as_deref()).set_db(i64::from(*database));
        let only_masters = matches!(config.server.topology, Topology::Sentinel { .. });
        Ok(Self { only_masters, ..Self::with(config, info)? })
    }

    /// To the sentinels.
    pub(crate) fn to_sentinels(config: &Config) -> Result<Self> {
        let info = match &config.server.topology {
            Topology::Sentinel { user, password, .. } => credentials(user.as_deref(), password.as_deref()),
            Topology::Standalone | Topology::Cluster => credentials(None, None),
        };
        Self::with(config, info)
    }

    fn with(config: &Config, credentials: RedisConnectionInfo) -> Result<Self> {
        Ok(Self {
            credentials,
            tls: config.server.tls.as_ref().map(Connector::new).transpose()?,
            only_masters: false,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
        })
    }

    /// How long an answer may take.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// A bare connection. `role` is what it is for; `CLIENT LIST` shows it.
    pub(crate) async fn open(&self, address: &Address, role: &str) -> Result<Socket> {
        self.bounded(address, async {
            let loan = Loan::of(self.reach(address).await.map_err(|error| lost(address, error))?);
            let (connection, driver) = self.greet(loan.clone()).await.map_err(|error| refused(address, error))?;
            tokio::select! {
                () = driver => {}
                introduced = self.introduce(connection, address, role) => introduced?,
            }
            loan.take_back().ok_or_else(|| lost(address, io::ErrorKind::ConnectionReset.into()))
        })
        .await
    }

    /// A connection for commands.
    pub(crate) async fn control(&self, address: &Address) -> Result<Control> {
        self.bounded(address, async {
            let stream = self.reach(address).await.map_err(|error| lost(address, error))?;
            let (connection, driver) = self.greet(stream).await.map_err(|error| refused(address, error))?;
            let driver = Owned(tokio::spawn(driver));
            Ok(Control { address: address.clone(), connection, driver: Arc::new(driver) })
        })
        .await
    }

    async fn bounded<T>(&self, address: &Address, connecting: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.connect_timeout, connecting).await.unwrap_or_else(|_| {
            let context = format!("{address} did not answer within {:?}", self.connect_timeout);
            Err(Error::new(ErrorKind::Disconnected, context))
        })
    }

    async fn reach(&self, address: &Address) -> io::Result<Socket> {
        let (host, port) = match address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(host, port) => (host, *port),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.connect(host, stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }

    /// Tells the server what the connection is for, and looks whether it is the right one.
    async fn introduce(&self, mut connection: MultiplexedConnection, address: &Address, role: &str) -> Result<()> {
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(format!("trunkline-{role}"));
        // It may refuse: a user need not have the right to.
        let _ = name.query_async::<()>(&mut connection).await;
        if self.only_masters {
            let asked = redis::cmd("ROLE").query_async::<Vec<redis::Value>>(&mut connection).await;
            let role = asked.map_err(|error| refused(address, error))?;
            if role.first() != Some(&redis::Value::BulkString(b"master".to_vec())) {
                return Err(Error::new(ErrorKind::Disconnected, format!("{address} is not the master")));
            }
        }
        Ok(())
    }

    /// User, password and database.
    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> redis::RedisResult<(MultiplexedConnection, impl Future<Output = ()> + Send + 'static)> {
        // Both times are bounded here, not there: that is in the way of commands that wait.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        MultiplexedConnection::new_with_config(&self.credentials, stream, config).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls).finish_non_exhaustive()
    }
}

fn credentials(user: Option<&str>, password: Option<&str>) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_lib_name("trunkline", env!("CARGO_PKG_VERSION"));
    if let Some(user) = user {
        info = info.set_username(user);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    info
}

/// A connection for commands. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    address: Address,
    connection: MultiplexedConnection,
    driver: Arc<Owned>,
}

impl Control {
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
        match timeout(limit, running).await {
            Ok(result) => result.map_err(|error| refused(&self.address, error)),
            Err(_) => {
                // Whoever asks next connects anew.
                self.driver.0.abort();
                Err(Error::new(ErrorKind::Disconnected, format!("{} did not answer within {limit:?}", self.address)))
            }
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.driver.0.is_finished()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({})", self.address)
    }
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream that is lent to the `redis` crate for the greeting.
#[derive(Clone)]
struct Loan(Arc<Mutex<Option<Socket>>>);

impl Loan {
    fn of(socket: Socket) -> Self {
        Self(Arc::new(Mutex::new(Some(socket))))
    }

    fn take_back(&self) -> Option<Socket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn poll<T>(&self, act: impl FnOnce(Pin<&mut Socket>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(socket) => act(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Loan {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Loan {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn near_is_what_has_an_address_of_this_machine() {
        for (here, there, near) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", true),
            ("::1", "::1", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::1", "fd00::1", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("172.17.0.1", "172.17.0.2", false),
            ("fd00::1", "fd00::2", false),
        ] {
            assert_eq!(is_near(here.parse().unwrap(), there.parse().unwrap()), near, "{here} {there}");
        }
    }

    #[tokio::test]
    async fn a_connection_knows_that_its_other_end_is_near() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.is_near());
        let (stream, _other) = UnixStream::pair().unwrap();
        assert!((Box::new(stream) as Socket).is_near());
    }
}
