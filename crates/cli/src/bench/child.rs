//! [`Nodes`]: the nodes of the bench, each in a process of its own.

use std::{process::Stdio, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use super::load::{Found, Line, Order};
use crate::output::Failure;

/// The nodes of the bench: this program again, in processes that end with it.
pub(crate) struct Nodes(Vec<Node>);

struct Node {
    process: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Nodes {
    /// Starts so many nodes; returns when they know each other.
    pub(crate) async fn start(url: &str, count: u16, limit: Duration, bar: &ProgressBar) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(failed)?;
        // A namespace of its own for each run: no server is in it.
        let namespace = format!("/trunkline-bench-{}", std::process::id());
        let mut nodes = Vec::new();
        for index in 0..count {
            let mut command = Command::new(&program);
            command.args(["bench-node", "--namespace", &namespace, "--index", &index.to_string()]);
            command.args(["--peers", &(count - 1).to_string(), "--timeout", &format!("{}ms", limit.as_millis())]);
            // Among the arguments other users of the machine could see its password.
            command.env("TRUNKLINE_BROKER", url).kill_on_drop(true);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut process = command.spawn().map_err(failed)?;
            let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
                return Err(Failure::critical("a node of the bench has no pipes"));
            };
            nodes.push(Node { process, orders, lines: BufReader::new(output).lines() });
        }
        for node in &mut nodes {
            while !matches!(node.line().await?, Line::Ready) {}
            bar.inc(1);
        }
        Ok(Self(nodes))
    }

    /// Gives all nodes the same order, and returns what each has found.
    pub(crate) async fn run(&mut self, order: &Order, bar: &ProgressBar) -> Result<Vec<Found>, Failure> {
        let order = serde_json::to_string(order).map_err(failed)? + "\n";
        for node in &mut self.0 {
            node.orders.write_all(order.as_bytes()).await.map_err(failed)?;
        }
        let mut running = JoinSet::new();
        for (index, mut node) in std::mem::take(&mut self.0).into_iter().enumerate() {
            let bar = bar.clone();
            running.spawn(async move { (index, node.finish(&bar).await, node) });
        }
        let mut ended = Vec::new();
        while let Some(node) = running.join_next().await {
            ended.push(node.map_err(failed)?);
        }
        ended.sort_by_key(|(index, ..)| *index);
        let mut found = Vec::new();
        for (_, result, node) in ended {
            found.push(result?);
            self.0.push(node);
        }
        Ok(found)
    }

    /// Lets all nodes leave.
    pub(crate) async fn end(self) {
        for Node { mut process, orders, .. } in self.0 {
            // The end of its orders ends a node.
            drop(orders);
            let _ = timeout(END, process.wait()).await;
        }
    }
}

const END: Duration = Duration::from_secs(5);

impl Node {
    async fn finish(&mut self, bar: &ProgressBar) -> Result<Found, Failure> {
        let mut before = 0;
        loop {
            match self.line().await? {
                Line::Progress(count) => {
                    bar.inc(count.saturating_sub(before));
                    before = count;
                }
                Line::Found(found) => {
                    bar.inc(found.received.saturating_sub(before));
                    return Ok(found);
                }
                Line::Ready | Line::Failed(_) => (),
            }
        }
    }

    async fn line(&mut self) -> Result<Line, Failure> {
        let line = self.lines.next_line().await.map_err(failed)?;
        let line = line.ok_or_else(|| Failure::critical("a node of the bench has ended"))?;
        match serde_json::from_str(&line).map_err(failed)? {
            Line::Failed(text) => Err(Failure::critical(format!("a node of the bench has failed: {text}"))),
            line => Ok(line),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::critical(format!("the nodes of the bench: {error}"))
}
