//! A TCP proxy in this process that breaks connections on demand.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    error::{Error, Result},
    port::Port,
    timer::PreciseTimer,
};

/// Maximum number of delayed bytes in one direction of a connection.
const UNDER_WAY: usize = 1 << 20;

/// A TCP proxy between clients and a broker on 127.0.0.1 that injects faults. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Port of the broker for which it was started.
    target: u16,
    port: Port,
    faults: watch::Sender<Faults>,
    connections: Arc<Connections>,
    task: JoinHandle<()>,
}

/// The current faults.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Port to which new connections go.
    target: u16,
    /// New connections are refused.
    refusing: bool,
    /// Nothing is forwarded.
    stalled: bool,
    /// Nothing is forwarded to clients.
    muted: bool,
    delay: Duration,
    /// Bytes per second in each direction of a connection; 0 is no limit.
    throttle: u64,
    /// The next chunk of at least so many bytes is cut in the middle, and its connection ends; 0 cuts none.
    cut_within: usize,
    /// Number of cuts; connections accepted before the last one end.
    generation: u64,
    /// Number of calls of [`Proxy::abandon`]; connections accepted before the last one forward nothing any more.
    abandoned: u64,
}

#[derive(Debug, Default)]
struct Connections {
    open: AtomicUsize,
    bytes: AtomicU64,
    accepted: watch::Sender<usize>,
}

impl Proxy {
    /// Starts a proxy in front of a port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target: u16) -> Result<Self> {
        let port = Port::reserve()?;
        let listener = listen(port.number()).await.map_err(Error::io("listen as a proxy"))?;
        let (faults, seen) = watch::channel(Faults { target, ..Faults::default() });
        let connections = Arc::new(Connections::default());
        let accept = Accept { port: port.number(), faults: seen, connections: Arc::clone(&connections) };
        let task = tokio::spawn(accept.run(listener));
        Ok(Self { target, port, faults, connections, task })
    }

    /// Port of the proxy.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The broker's URL with the port of the proxy instead of the broker's.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}", self.target), &format!(":{}", self.port()))
    }

    /// Closes every connection (RST). New ones are accepted.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.generation += 1);
    }

    /// Forwards new connections to another port of 127.0.0.1 from now on, and keeps existing ones.
    pub fn redirect(&self, target: u16) {
        self.faults.send_modify(|faults| faults.target = target);
    }

    /// Refuses new connections from now on, and keeps existing ones.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refusing = true);
    }

    /// Forwards nothing from now on: connections stay open, and written data stays in the buffers of the kernel.
    /// [`Proxy::resume`] continues where it stopped; [`Proxy::cut`] instead simulates a peer that vanished.
    pub fn stall(&self) {
        self.faults.send_modify(|faults| faults.stalled = true);
    }

    /// Forwards nothing to clients from now on, but everything from them. [`Proxy::resume`] continues where it stopped.
    pub fn mute(&self) {
        self.faults.send_modify(|faults| faults.muted = true);
    }

    /// Delays all data by this time from now on, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Forwards nothing more on the connections that are open now, and closes neither side of them, as when a peer
    /// vanishes (half-open connections). New ones work. [`Proxy::cut`] closes them.
    pub fn abandon(&self) {
        self.faults.send_modify(|faults| faults.abandoned += 1);
    }

    /// Forwards so many bytes per second in each direction of a connection from now on.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.faults.send_modify(|faults| faults.throttle = bytes_per_second);
    }

    /// Cuts connections in the middle of a message from now on: of the next chunk that has at least so many bytes, each
    /// forwards one half and is then closed (RST).
    pub fn cut_within(&self, bytes: usize) {
        self.faults.send_modify(|faults| faults.cut_within = bytes);
    }

    /// Ends all faults. What was closed or abandoned stays so.
    pub fn resume(&self) {
        self.faults.send_modify(|faults| {
            let Faults { target, generation, abandoned, .. } = *faults;
            *faults = Faults { target, generation, abandoned, ..Faults::default() };
        });
    }

    /// Number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }

    /// Number of bytes forwarded since the start, in both directions of all connections.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.connections.bytes.load(Ordering::Relaxed)
    }

    /// Number of connections accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        *self.connections.accepted.borrow()
    }

    /// Returns when at least `count` connections have been accepted since the start.
    pub async fn await_accepted(&self, count: usize) {
        // The sending side lives as long as this does.
        let _ = self.connections.accepted.subscribe().wait_for(|accepted| *accepted >= count).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

struct Accept {
    port: u16,
    faults: watch::Receiver<Faults>,
    connections: Arc<Connections>,
}

impl Accept {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        // Aborted when this task is.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = accept(listener.as_ref()) => self.accepted(accepted, &mut tasks),
                changed = self.faults.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let refusing = self.faults.borrow().refusing;
                    if refusing {
                        listener = None;
                    } else if listener.is_none() {
                        listener = listen(self.port).await.ok();
                    }
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn accepted(&self, accepted: io::Result<TcpStream>, tasks: &mut JoinSet<()>) {
        let Ok(client) = accepted else { return };
        self.connections.accepted.send_modify(|count| *count += 1);
        self.connections.open.fetch_add(1, Ordering::Relaxed);
        let connections = Arc::clone(&self.connections);
        let link = Link {
            target: self.faults.borrow().target,
            faults: self.faults.clone(),
            connections: Arc::clone(&connections),
        };
        tasks.spawn(async move {
            // However it ends, both sides are closed.
            let _ = link.run(client).await;
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => pending().await,
    }
}

/// One connection through the proxy.
struct Link {
    target: u16,
    faults: watch::Receiver<Faults>,
    connections: Arc<Connections>,
}

impl Link {
    async fn run(self, mut client: TcpStream) -> io::Result<()> {
        let Faults { generation: born, abandoned, .. } = *self.faults.borrow();
        let mut server = TcpStream::connect(("127.0.0.1", self.target)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (mut cut, mut gone) = (self.faults.clone(), self.faults.clone());
        let forward = async {
            let up = Direction::new(from_client, to_server, self.faults.clone(), false)?;
            let down = Direction::new(from_server, to_client, self.faults.clone(), true)?;
            tokio::try_join!(up.run(&self.connections), down.run(&self.connections))
        };
        let forward = async {
            let vanished = tokio::select! {
                ended = forward => return ended.map(drop),
                _ = gone.wait_for(|faults| faults.abandoned > abandoned) => pending(),
            };
            // Both sides stay open until they are cut.
            vanished.await
        };
        tokio::select! {
            ended = forward => if ended.is_ok() {
                // Both sides closed in good order.
                return Ok(());
            },
            _ = cut.wait_for(|faults| faults.generation > born) => {}
        }
        // Closing them sends RST.
        client.set_zero_linger()?;
        server.set_zero_linger()
    }
}

/// One direction of a connection.
struct Direction<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    faults: watch::Receiver<Faults>,
    to_client: bool,
    /// Chunks that were read, each with the time at which it is written.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last chunk is written.
    last_due: Instant,
    /// Whether the times are those of a slow link.
    is_throttled: bool,
    timer: PreciseTimer,
    ended: bool,
}

impl<'a> Direction<'a> {
    fn new(
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        faults: watch::Receiver<Faults>,
        to_client: bool,
    ) -> io::Result<Self> {
        let timer = PreciseTimer::new()?;
        let (under_way, last_due) = (VecDeque::new(), Instant::now());
        Ok(Self {
            from,
            to,
            faults,
            to_client,
            under_way,
            bytes: 0,
            last_due,
            is_throttled: false,
            timer,
            ended: false,
        })
    }

    /// Moves bytes until the sender closes, and then closes the other side.
    async fn run(mut self, connections: &Connections) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while !self.ended || !self.under_way.is_empty() {
            let Faults { stalled, muted, delay, throttle, cut_within, .. } = *self.faults.borrow_and_update();
            if throttle == 0 && std::mem::take(&mut self.is_throttled) {
                self.catch_up(delay);
            }
            let stalled = stalled || (muted && self.to_client);
            let due = self.under_way.front().map(|(due, _)| *due);
            tokio::select! {
                changed = self.faults.changed() => changed.map_err(io::Error::other)?,
                read = self.from.read(&mut buffer), if !stalled && !self.ended && self.bytes < UNDER_WAY => {
                    self.take(&buffer[..read?], delay, throttle);
                }
                arrived = arrives(&self.timer, due), if !stalled => {
                    arrived?;
                    let Some((_, chunk)) = self.under_way.pop_front() else { continue };
                    self.bytes -= chunk.len();
                    if cut_within > 0 && chunk.len() >= cut_within {
                        self.to.write_all(&chunk[..chunk.len() / 2]).await?;
                        return Err(io::Error::other("cut in the middle of a message"));
                    }
                    connections.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    self.to.write_all(&chunk).await?;
                }
            }
        }
        self.to.shutdown().await
    }

    /// Forgets that what is under way was to be written slowly.
    fn catch_up(&mut self, delay: Duration) {
        self.last_due = Instant::now() + delay;
        self.under_way.iter_mut().for_each(|(due, _)| *due = self.last_due.min(*due));
    }

    fn take(&mut self, read: &[u8], delay: Duration, throttle: u64) {
        self.ended = read.is_empty();
        if !self.ended {
            self.bytes += read.len();
            let mut due = Instant::now() + delay;
            self.is_throttled |= throttle > 0;
            if throttle > 0 {
                due = due.max(self.last_due) + Duration::from_secs_f64(read.len() as f64 / throttle as f64);
            }
            self.last_due = due;
            self.under_way.push_back((due, read.to_vec()));
        }
    }
}

async fn arrives(timer: &PreciseTimer, due: Option<Instant>) -> io::Result<()> {
    match due {
        Some(due) => timer.until(due).await,
        None => pending().await,
    }
}
