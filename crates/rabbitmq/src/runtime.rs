//! The runtime that the client works in: Tokio, with every task owned by the transport.
//!
//! The runtime for Tokio that comes with the client spawns tasks that nothing tracks: closing a transport could not
//! wait for their end.

use std::{
    future::{Future, ready},
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_rs::{
    traits::{Executor, Reactor, RuntimeKit},
    util::{Task, TaskImpl},
};
use futures_util::{Stream, io::AsyncRead, io::AsyncWrite, stream};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{MissedTickBehavior, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::socket::Socket;

/// Spawns the tasks of one connection, and ends them.
#[derive(Clone, Debug)]
pub(crate) struct LapinRuntime {
    runtime: Handle,
    tasks: TaskTracker,
    aborted: CancellationToken,
}

impl LapinRuntime {
    /// Tasks are added to `tasks` and end when `aborted` is cancelled.
    ///
    /// To be called within a runtime.
    pub(crate) fn new(tasks: TaskTracker, aborted: CancellationToken) -> Self {
        Self { runtime: Handle::current(), tasks, aborted }
    }

    fn start<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<Spawned<T>> {
        let aborted = self.aborted.clone();
        let work = async move { aborted.run_until_cancelled_owned(work).await };
        Spawned(self.tasks.spawn_on(work, &self.runtime)).into()
    }
}

impl RuntimeKit for LapinRuntime {}

impl Executor for LapinRuntime {
    type Task<T: Send + 'static> = Spawned<T>;

    fn block_on<T, F: Future<Output = T>>(&self, work: F) -> T {
        self.runtime.block_on(work)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, work: F) -> Task<Spawned<T>> {
        self.start(work)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Spawned<T>> {
        let blocking = self.tasks.spawn_blocking_on(work, &self.runtime);
        self.start(async move {
            match blocking.await {
                Ok(output) => output,
                // The runtime is being shut down, and what waits for this with it.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Reactor for LapinRuntime {
    type TcpStream = Socket;
    type Sleep = Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Socket, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let _entered = self.runtime.enter();
        tokio::time::sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        let _entered = self.runtime.enter();
        let mut interval = tokio::time::interval(duration);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        stream::unfold(interval, async |mut interval| Some((interval.tick().await.into_std(), interval)))
    }

    /// The client is given sockets that are connected.
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Socket>> + Send + 'static {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// A task that goes on when its handle is dropped.
#[derive(Debug)]
pub(crate) struct Spawned<T>(JoinHandle<Option<T>>);

impl<T> Future for Spawned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(Some(output))) => Poll::Ready(output),
            Poll::Ready(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // One that was ended with its connection has no output, and neither has what waits for it.
            Poll::Ready(_) | Poll::Pending => Poll::Pending,
        }
    }
}

#[async_trait::async_trait]
impl<T: Send + 'static> TaskImpl for Spawned<T> {
    async fn cancel(&mut self) -> Option<T> {
        self.0.abort();
        (&mut self.0).await.ok().flatten()
    }
}
