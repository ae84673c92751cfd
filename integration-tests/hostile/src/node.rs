//! The nodes: processes of their own, with what they said and how much memory they use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::Failure;

/// A running `test-node` with one node.
pub(crate) struct Node {
    process: Child,
    /// The node ends when this is dropped.
    _stdin: Option<ChildStdin>,
    log: PathBuf,
    pub(crate) url: String,
}

/// How often nodes say that they are there.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1500);

impl Node {
    /// Starts node number `number` over a broker.
    pub(crate) async fn start(program: &Path, broker: &str, number: usize, logs: &Path) -> Result<Self, Failure> {
        let log = logs.join(format!("node-{number}.log"));
        let interval = HEARTBEAT_INTERVAL.as_millis();
        let mut process = Command::new(program)
            .args(["--nodes", "1", "--until-stdin-closes", "--broker", broker])
            .args(["--first", &number.to_string()])
            .args(["--heartbeat-interval", &interval.to_string(), "--heartbeat-timeout", &(2 * interval).to_string()])
            // What is forged for all clients is delivered, and must not push out the valid traffic.
            .args(["--max-buffer-size", "100000"])
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = process.stdout.take().ok_or("a node without output")?;
        let line = timeout(TIMEOUT, BufReader::new(stdout).lines().next_line()).await??;
        let line =
            line.ok_or_else(|| format!("a node did not start: {}", fs::read_to_string(&log).unwrap_or_default()))?;
        let started: Value = serde_json::from_str(&line)?;
        let url = started["nodes"][0].as_str().ok_or("a node without address")?.to_owned();
        Ok(Self { _stdin: process.stdin.take(), process, log, url })
    }

    /// What is wrong with the process: it has ended, or something in it has panicked.
    pub(crate) fn fault(&mut self) -> Option<String> {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let panic = said.lines().find(|line| line.contains("panicked at") || line.contains("overflowed its stack"));
        match (self.process.try_wait(), panic) {
            (Ok(None), None) => None,
            (ended, panic) => Some(format!("{}: {ended:?} {}", self.log.display(), panic.unwrap_or_default())),
        }
    }

    /// Memory in use, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = self.process.id().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line = status.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(0, |kilobytes: u64| kilobytes >> 10)
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
