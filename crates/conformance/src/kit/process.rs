//! A simulated process of a node, which can be killed and frozen.

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

/// A Tokio runtime on a thread of its own, which simulates a process. All tasks of a node run in it, so that the node
/// can be killed or stopped as a whole, without its cooperation.
pub(super) struct Process {
    handle: Handle,
    /// Dropping it kills the process.
    kill: Mutex<Option<oneshot::Sender<()>>>,
    /// Closed when the process has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// Dropping it thaws the process.
    frozen: Mutex<Option<mpsc::Sender<()>>>,
}

impl Process {
    pub(super) fn start() -> Checked<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // A frozen process that is killed must not run another task: the kill is checked after every task.
            .event_interval(1)
            .build()
            .map_err(|error| Failure::new(format!("no runtime for a node: {error}")))?;
        let handle = runtime.handle().clone();
        let (kill, killed) = oneshot::channel();
        let (running, ended) = oneshot::channel();
        thread::Builder::new()
            .name("node".to_owned())
            .spawn(move || run_until_killed(runtime, killed, running))
            .map_err(|error| Failure::new(format!("no thread for a node: {error}")))?;
        Ok(Self { handle, kill: Mutex::new(Some(kill)), ended: Mutex::new(Some(ended)), frozen: Mutex::default() })
    }

    /// Runs a future as a task of this process.
    pub(super) async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Checked<T> {
        self.handle.spawn(future).await.map_err(|error| Failure::new(format!("in a node's process: {error}")))
    }

    /// Number of tasks that have not ended.
    pub(super) fn tasks(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }

    /// Stops all tasks, as SIGSTOP does, until [`Process::thaw`].
    pub(super) async fn freeze(&self) -> Checked {
        let (frozen, thawed) = mpsc::channel();
        let (stopped, is_stopped) = oneshot::channel();
        *lock(&self.frozen) = Some(frozen);
        self.handle.spawn(async move {
            let _ = stopped.send(());
            // Blocks the only thread of the runtime, until the sender is dropped.
            let _ = thawed.recv();
        });
        is_stopped.await.map_err(|_| Failure::new("the process of a node is gone"))
    }

    /// Continues after [`Process::freeze`].
    pub(super) fn thaw(&self) {
        lock(&self.frozen).take();
    }

    /// Ends all tasks without any clean-up, as SIGKILL does. On return all connections are closed.
    pub(super) async fn kill(&self) {
        lock(&self.kill).take();
        self.thaw();
        let ended = lock(&self.ended).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

fn run_until_killed(runtime: Runtime, killed: oneshot::Receiver<()>, running: oneshot::Sender<()>) {
    let _ = runtime.block_on(killed);
    runtime.shutdown_background();
    drop(running);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
