//! A thread that stands for the process of a node: it can be killed and frozen.

use std::{
    fmt,
    sync::{Mutex, PoisonError, mpsc},
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
    kill: Option<oneshot::Sender<()>>,
    died: Option<oneshot::Receiver<()>>,
    thaw: Mutex<Option<mpsc::Sender<()>>>,
}

impl Process {
    pub(crate) fn start() -> Checked<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("no runtime for a node: {error}")))?;
        let handle = runtime.handle().clone();
        let (kill, killed) = oneshot::channel();
        let (dead, died) = oneshot::channel();
        thread::Builder::new()
            .name("node".to_owned())
            .spawn(move || live(runtime, killed, dead))
            .map_err(|error| Failure::new(format!("no thread for a node: {error}")))?;
        Ok(Self { handle, kill: Some(kill), died: Some(died), thaw: Mutex::default() })
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
        let (thaw, thawed) = mpsc::channel();
        let (frozen, is_frozen) = oneshot::channel();
        *self.thaw.lock().unwrap_or_else(PoisonError::into_inner) = Some(thaw);
        self.handle.spawn(async move {
            let _ = frozen.send(());
            // Blocks the only thread of the runtime. An error means that the test is over.
            let _ = thawed.recv();
        });
        is_frozen.await.map_err(|_| Failure::new("the process of a node is gone"))
    }

    /// Goes on.
    pub(crate) fn thaw(&self) {
        self.thaw.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends everything without a word, as SIGKILL does. On return all tasks and connections are gone.
    pub(crate) async fn kill(mut self) {
        self.thaw();
        drop(self.kill.take());
        if let Some(died) = self.died.take() {
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
    // The sender is dropped to kill.
    let _ = runtime.block_on(killed);
    runtime.shutdown_background();
    let _ = dead.send(());
}
