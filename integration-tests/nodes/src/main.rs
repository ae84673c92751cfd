//! Socket.IO nodes that perform the operations that a test program requests.
//!
//! Starts a cluster of nodes in this process and prints their URLs, as JSON in one line:
//! `{"nodes":["http://127.0.0.1:40001", …]}`. A client of any node performs any operation of the adapter by emitting
//! `op` (see `operation`), and reads the outcome from the acknowledgement. `/metrics`, `/livez` and `/readyz` are there, too. The nodes serve the namespaces `/`, `/other`
//! and, created on first use, `/dynamic/{name}`.

mod adapter;
mod between;
mod emitting;
#[path = "../../../crates/trunkline/examples/chat/monitoring.rs"]
mod monitoring;
mod node;
mod numbers;
mod operation;
mod selection;
mod server_side;
mod values;
mod watching;

use std::{io::Read, net::Ipv4Addr, process::ExitCode, thread, time::Duration};

use clap::{Parser, ValueEnum};
use tokio::{net::TcpListener, sync::oneshot};
use trunkline::{Backend, Emitter};

use crate::node::{Node, Options};

/// Socket.IO nodes that perform the operations that a test program requests.
#[derive(Debug, Parser)]
#[command(name = "test-node")]
struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Number of the first node, which it sends to its clients; the others follow.
    #[arg(long, default_value_t = 0)]
    first: u16,
    /// Port of the first node, the others follow; 0 takes free ones.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Parser of the nodes, or a list over which they take turns.
    #[arg(long, value_delimiter = ',', default_value = "common")]
    parser: Vec<PacketParser>,
    /// URL of the broker that connects the nodes.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    broker: String,
    /// URL of another cluster, into which an emitter emits what clients request.
    #[arg(long, value_name = "URL")]
    emits_to: Option<String>,
    /// Append the offset in the history to events as last argument.
    #[arg(long)]
    append_offsets: bool,
    /// Milliseconds between the heartbeats of a node.
    #[arg(long, default_value_t = 5000)]
    heartbeat_interval: u64,
    /// Milliseconds of silence after which a node is suspected to be gone.
    #[arg(long, default_value_t = 10_000)]
    heartbeat_timeout: u64,
    /// Packets in the buffer of a socket before it loses some.
    #[arg(long, default_value_t = 4096)]
    max_buffer_size: usize,
    /// End when standard input is closed, that is when the parent process has ended.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PacketParser {
    /// JSON with binary attachments.
    Common,
    /// MessagePack.
    Msgpack,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> Result<(), String> {
    monitoring::install().map_err(|error| error.to_string())?;
    let emitter = match &arguments.emits_to {
        Some(url) => Some(Emitter::new(&connect(url).await?)),
        None => None,
    };
    let mut nodes = Vec::new();
    for index in 0..arguments.nodes {
        let port = if arguments.port == 0 { 0 } else { arguments.port + index };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| format!("cannot listen on port {port} (--port): {error}"))?;
        let options = Options {
            node: arguments.first + index,
            parser: arguments.parser[usize::from(index) % arguments.parser.len()],
            max_buffer_size: arguments.max_buffer_size,
            append_offsets: arguments.append_offsets,
            heartbeat_interval: Duration::from_millis(arguments.heartbeat_interval),
            heartbeat_timeout: Duration::from_millis(arguments.heartbeat_timeout),
            emitter: emitter.clone(),
        };
        nodes.push(Node::start(listener, options, connect(&arguments.broker).await?).await?);
    }
    for node in &nodes {
        node.await_peers(nodes.len() - 1).await?;
    }
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.as_str()).collect();
    println!("{}", serde_json::json!({ "nodes": addresses }));
    ended(arguments.until_stdin_closes).await?;
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}

async fn connect(url: &str) -> Result<Backend, String> {
    trunkline::connect(url).await.map_err(|error| error.to_string())
}

async fn ended(with_stdin: bool) -> Result<(), String> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| format!("cannot listen for SIGTERM: {error}"))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = stdin_closed(), if with_stdin => {}
    }
    Ok(())
}

async fn stdin_closed() {
    let (sender, closed) = oneshot::channel::<()>();
    // In a thread, because reading standard input cannot be cancelled; the process ends without it.
    thread::spawn(move || {
        std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        drop(sender);
    });
    closed.await.ok();
}
