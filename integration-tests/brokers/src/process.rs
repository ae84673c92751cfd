//! One broker process that can be killed, frozen and started again in its place.

use std::{
    ffi::{OsStr, OsString},
    fmt::Display,
    fs::{self, File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    error::{Error, Result},
    guard::Guard,
};

/// Maximum time until a process is stopped.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a broker is started, always in the same way.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Only these environment variables, if there are any.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// User and group of the process, for programs that refuse to run as root.
    pub(crate) user: Option<(u32, u32)>,
    /// Signal for a fast shutdown in good order.
    pub(crate) stop_signal: Option<Signal>,
}

impl Recipe {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, ..Self::default() }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }
}

/// A broker's folder, removed with the guard that watches it. `id` is its port, or the id of this process.
pub(crate) fn folder(kind: &str, id: impl Display) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("trunkline-{kind}-{id}"));
    // The process that had this id before has ended, or the id would not be in use here.
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(format!("remove {}", path.display()))(error));
        }
        _ => {}
    }
    fs::create_dir_all(&path).map_err(Error::io(format!("create {}", path.display())))?;
    Ok(path)
}

#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    recipe: Recipe,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Option<Child>,
    guard: Guard,
}

impl Process {
    /// Creates the process without starting it.
    pub(crate) fn new(name: String, recipe: Recipe, folder: PathBuf) -> Result<Self> {
        let guard = Guard::start(&folder)?;
        Ok(Self { name, recipe, folder, state: Mutex::new(State { child: None, guard }) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().child.as_ref().map(Child::id)
    }

    pub(crate) fn start(&self) -> Result<()> {
        let mut state = self.lock();
        if state.child.is_some() {
            return Err(self.not_ready("it is running already"));
        }
        let child = self.command()?.spawn().map_err(Error::io(format!("start {}", self.recipe.program.display())))?;
        state.guard.watch(Some(child.id()))?;
        state.child = Some(child);
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let log = self.log()?;
        let errors = log.try_clone().map_err(Error::io("duplicate a log file"))?;
        let mut command = Command::new(&self.recipe.program);
        command.args(&self.recipe.arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        if !self.recipe.environment.is_empty() {
            command.env_clear().envs(self.recipe.environment.iter().map(|(name, value)| (name, value)));
        }
        if let Some((user, group)) = self.recipe.user {
            command.uid(user).gid(group);
        }
        Ok(command)
    }

    fn log(&self) -> Result<File> {
        let path = self.folder.join("log");
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(format!("open {}", path.display())))
    }

    /// Checks that it still runs; an error says how it ended.
    pub(crate) fn check(&self) -> Result<()> {
        let mut state = self.lock();
        match state.child.as_mut().map(Child::try_wait) {
            None => Err(self.not_ready("it was stopped")),
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => {
                // From now on its id may belong to another process.
                state.child = None;
                state.guard.watch(None)?;
                Err(self.not_ready(format!("it ended with {status}")))
            }
            Some(Err(error)) => Err(Error::io("wait for a broker")(error)),
        }
    }

    pub(crate) fn not_ready(&self, reason: impl Into<String>) -> Error {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(4_000)..]).into_owned();
        Error::NotReady { broker: self.name.clone(), reason: reason.into(), log: tail }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().ok_or_else(|| self.not_ready("it was stopped"))?;
        self.signal_one(pid, signal)
    }

    /// Sends a signal to the process, so that it starts no more children, and then to its children: PostgreSQL serves
    /// each client with one. Returns all ids.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<Vec<u32>> {
        let pid = self.pid().ok_or_else(|| self.not_ready("it was stopped"))?;
        self.signal_one(pid, signal)?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut all = vec![pid];
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            // One that has ended since needs no signal.
            let _ = self.signal_one(child, signal);
            all.push(child);
        }
        Ok(all)
    }

    /// Sends SIGSTOP and returns when it has taken effect, which on a busy machine can take a while.
    pub(crate) fn freeze(&self) -> Result<()> {
        let all = self.signal_all(Signal::STOP)?;
        let late = Instant::now() + TIMEOUT;
        while !all.iter().all(|pid| stands_still(*pid)) {
            if Instant::now() > late {
                return Err(self.not_ready(format!("SIGSTOP has no effect after {TIMEOUT:?}")));
            }
            // There is no notification for processes that are not children of this one.
            thread::yield_now();
        }
        Ok(())
    }

    fn signal_one(&self, pid: u32, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return Err(self.not_ready("it has no process id")) };
        kill_process(pid, signal).map_err(|error| Error::io(format!("signal {}", self.name))(error.into()))
    }

    /// Sends the signal and returns when the process has ended. Nothing to do if it is not running.
    pub(crate) async fn end(&self, signal: Signal) -> Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        self.signal(signal)?;
        // A frozen process heeds only SIGKILL.
        self.signal_all(Signal::CONT)?;
        let Some(mut child) = self.lock().child.take() else { return Ok(()) };
        let ended = tokio::task::spawn_blocking(move || child.wait()).await;
        match ended {
            Ok(Ok(_)) => self.lock().guard.watch(None),
            Ok(Err(error)) => Err(Error::io(format!("wait for {}", self.name))(error)),
            Err(error) => Err(self.not_ready(error.to_string())),
        }
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.end(self.recipe.stop_signal.unwrap_or(Signal::TERM)).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.guard.end();
        if let Some(mut child) = state.child.take() {
            // The guard has killed it; this only collects what is left of it.
            let _ = child.wait();
        }
    }
}

/// Whether all threads of a process are stopped, or it is gone.
fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).all(|stat| {
        // The state follows the name, which is in parentheses and may contain some.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}
