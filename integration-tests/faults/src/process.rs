//! One process of a node: starting, freezing and ending it, and what it uses.

use std::{fs, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::{Failure, clock::Clock};

/// How long a process may take to serve. It connects to the broker first.
const START: Duration = Duration::from_secs(40);
const STOP: Duration = Duration::from_secs(8);

/// A running `test-node`. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// It ends in good order when this is closed.
    stdin: Option<ChildStdin>,
    pub(crate) port: u16,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    pub(crate) files: u64,
}

/// How processes are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) url: &'a str,
    /// Packets in the buffer of a socket before it loses some.
    pub(crate) max_buffer_size: usize,
    pub(crate) log: &'a Path,
    pub(crate) clock: Option<&'a Clock>,
}

impl Process {
    /// Starts a process, and returns when it serves.
    pub(crate) async fn start(launch: &Launch<'_>) -> Result<Self, Failure> {
        let log = fs::OpenOptions::new().create(true).append(true).open(launch.log)?;
        let mut command = Command::new(launch.program);
        command.args(["--nodes", "1", "--until-stdin-closes", "--broker", launch.url]);
        command.args(["--max-buffer-size", &launch.max_buffer_size.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        if let Some(clock) = launch.clock {
            command.envs(clock.environment());
        }
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", launch.program.display()))?;
        let (stdin, Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a node without pipes".into());
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START, lines.next_line()).await.map_err(|_| "a node did not start in time")??;
        let line = line.ok_or_else(|| format!("a node has ended instead of serving, see {}", launch.log.display()))?;
        let port = line.trim_end_matches(['"', ']', '}']).rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| format!("a node said '{line}' instead of its address"))?;
        Ok(Self { child, stdin, port })
    }

    /// Stops its execution.
    pub(crate) fn freeze(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// Continues after [`Process::freeze`].
    pub(crate) fn thaw(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or("the process has ended")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// Ends it in good order; returns whether it has ended in time.
    pub(crate) async fn stop(&mut self) -> Result<bool, Failure> {
        self.stdin = None;
        if timeout(STOP, self.child.wait()).await.is_ok() {
            return Ok(true);
        }
        self.kill().await?;
        Ok(false)
    }

    /// What it uses now; nothing when it has ended.
    pub(crate) fn usage(&self) -> Usage {
        let Some(pid) = self.child.id() else { return Usage::default() };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let memory = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64);
        Usage { memory, files }
    }
}
