//! A thread that stands for the process of a node: it can be killed and frozen.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use super::failure::{Checked, Failure};

/// A Tokio runtime on a thread of its own. Everything that a node spawns lives in it, so that the node can be made to disappear or to
/// stop as a whole, without the node's help.
pub(crate) struct Process {
    handle: Handle,
    /// Dropped to kill.
    alive: Mutex<Option<oneshot::Sender<()>>>,
    /// Dropped when dead.
    died: Mutex<Option<oneshot::Receiver<()>>>,
    /// Dropped to thaw.
    frozen: Mutex<Option<mpsc::Sender<()>>>,
}

impl Process {
    pub(crate) fn start() -> Checked<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // A frozen process that is killed must not do anything more: whether it lives is looked at between any two tasks.
            .event_interval(1)
            .build()
            .map_err(|error| Failure::new(format!("no runtime for a node: {error}")))?;
        let handle = runtime.handle().clone();
        let (alive, killed) = oneshot::channel();
        let (dead, died) = oneshot::channel();
        thread::Builder::new()
            .name("node".to_owned())
            .spawn(move || live(runtime, killed, dead))
            .map_err(|error| Failure::new(format!("no thread for a node: {error}")))?;
        Ok(Self { handle, alive: Mutex::new(Some(alive)), died: Mutex::new(Some(died)), frozen: Mutex::default() })
    }

    /// Runs a future among the tasks of this process.
    pub(crate) async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Checked<T> {
        self.handle.spawn(future).await.map_err(|error| Failure::new(format!("in a node's process: {error}")))
    }

    /// How many tasks are alive.
    pub(crate) fn tasks(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }

    /// Stops everything at once, as SIGSTOP does, until [`Process::thaw`].
    pub(crate) async fn freeze(&self) -> Checked {
        let (frozen, thawed) = mpsc::channel();
        let (tell, is_frozen) = oneshot::channel();
        *lock(&self.frozen) = Some(frozen);
        self.handle.spawn(async move {
            let _ = tell.send(());
            // Blocks the only thread of the runtime, until the sender is dropped.
            let _ = thawed.recv();
        });
        is_frozen.await.map_err(|_| Failure::new("the process of a node is gone"))
    }

    /// Goes on.
    pub(crate) fn thaw(&self) {
        lock(&self.frozen).take();
    }

    /// Ends everything without a word, as SIGKILL does. On return all tasks and connections are gone.
    pub(crate) async fn kill(&self) {
        lock(&self.alive).take();
        self.thaw();
        let died = lock(&self.died).take();
        if let Some(died) = died {
            let _ = died.await;
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

fn live(runtime: Runtime, killed: oneshot::Receiver<()>, dead: oneshot::Sender<()>) {
    let _ = runtime.block_on(killed);
    runtime.shutdown_background();
    drop(dead);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
