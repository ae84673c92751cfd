//! Socket.IO nodes that do what a test program asks of them.
//!
//! Starts a cluster of nodes in this process and prints where they listen, as JSON in one line: `{"nodes":["http://127.0.0.1:40001", …]}`.
//! A client of any of them performs every operation of the adapter by emitting `op` (see `operation`) and reads the outcome from the
//! acknowledgement. The nodes serve the namespaces `/`, `/other` and, made when they are first used, `/dynamic/{name}`.

mod adapter;
mod node;
mod operation;
mod selection;
mod server_side;
mod values;

use std::{io::Read, net::Ipv4Addr, process::ExitCode, thread};

use clap::{Parser, ValueEnum};
use tokio::{net::TcpListener, sync::oneshot};

use crate::node::Node;

/// Socket.IO nodes that do what a test program asks of them.
#[derive(Debug, Parser)]
#[command(name = "test-node")]
struct Arguments {
    /// How many nodes to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// The port of the first node, the others follow; 0 takes free ones.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The parser of the nodes, or a list over which they take turns.
    #[arg(long, value_delimiter = ',', default_value = "common")]
    parser: Vec<PacketParser>,
    /// The broker that connects the nodes.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    broker: String,
    /// Packets that a socket may lag behind before it loses some.
    #[arg(long, default_value_t = 4096)]
    max_buffer_size: usize,
    /// End when standard input is closed, that is when the program that started this one has ended.
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
    let mut nodes = Vec::new();
    for index in 0..arguments.nodes {
        let port = if arguments.port == 0 { 0 } else { arguments.port + index };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| format!("cannot listen on port {port} (--port): {error}"))?;
        let parser = arguments.parser[usize::from(index) % arguments.parser.len()];
        let backend = trunkline::connect(&arguments.broker).await.map_err(|error| error.to_string())?;
        nodes.push(Node::start(index, listener, parser, arguments.max_buffer_size, backend).await?);
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
