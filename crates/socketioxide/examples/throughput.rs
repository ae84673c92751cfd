//! Messages a second from an emitter on one node to the real clients of a room on another node, and whether all of them
//! arrive in order.
//!
//! ```sh
//! cargo run --release -p trunkline-socketioxide --example throughput -- [MESSAGES] [BYTES] [BUFFER] [CLIENTS]
//! ```
//!
//! Two socketioxide servers in this process, an embedded hub between them, and WebSocket clients of the second one over
//! loopback TCP. It fails if a message is lost, repeated or out of order.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use socketioxide::SocketIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use trunkline_core::memory::{MemoryConfig, backend};
use trunkline_socketioxide::{Cluster, ClusterIo as Io, ClusterSocket, Trunkline};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, Failure> {
    let mut arguments = std::env::args().skip(1);
    let messages: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let buffer: usize = arguments.next().map_or(Ok(BUFFER), |text| text.parse())?;
    let clients: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;

    let hub = backend("throughput", MemoryConfig::default())?;
    let (emitter, emitting, _) = node(Cluster::from(hub.clone()), buffer).await?;
    let (_receiver, receiving, port) = node(Cluster::from(hub), buffer).await?;
    emitting.of("/")?.await_peers(1, Duration::from_secs(5)).await?;
    let mut counting = JoinSet::new();
    for _ in 0..clients {
        counting.spawn(count(connect(port).await?, messages));
    }

    let started = Instant::now();
    let padding = "x".repeat(bytes.saturating_sub(r#"["tick",0000000,""]"#.len()));
    for number in 0..messages {
        emitter.to("room").emit("tick", &(number, &padding)).await.map_err(|error| error.to_string())?;
    }
    let emitted = started.elapsed();
    let mut faults = Vec::new();
    while let Some(counted) = counting.join_next().await {
        faults.extend(counted??);
    }
    let elapsed = started.elapsed();
    let rate = messages as f64 / elapsed.as_secs_f64();
    println!("{messages} messages of {bytes} bytes to {clients} clients");
    println!("emitted in {emitted:.2?}, received in {elapsed:.2?}, {rate:.0} per second");
    let metrics = receiving.of("/")?.metrics();
    println!("dropped by sockets: {}, inbox overflow: {}", metrics.dropped_by_sockets, metrics.inbox_overflow);
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A server with its node, on a port of its own.
async fn node(cluster: Cluster, buffer: usize) -> Result<(Io, Cluster, u16), Failure> {
    let (layer, io) =
        SocketIo::builder().max_buffer_size(buffer).with_adapter::<Trunkline>(cluster.clone()).build_layer();
    let greet = async |socket: ClusterSocket| {
        socket.join("room");
        drop(socket.emit("ready", &()));
    };
    io.ns("/", greet).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().layer(layer)).await });
    Ok((io, cluster, port))
}

/// A client that has been greeted.
async fn connect(port: u16) -> Result<Client, Failure> {
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut client, _) = tokio_tungstenite::connect_async(url).await?;
    client.send(Message::text("40")).await?;
    while let Some(message) = client.next().await {
        match message?.to_text()? {
            // The first ping comes at once.
            "2" => client.send(Message::text("3")).await?,
            text if text.starts_with(r#"42["ready""#) => return Ok(client),
            _ => {}
        }
    }
    Err("the server hung up".into())
}

/// Receives all messages and says what is wrong with them, if anything.
async fn count(mut client: Client, messages: u64) -> Result<Option<String>, Failure> {
    let mut next = 0;
    while next < messages {
        let Ok(message) = tokio::time::timeout(TIMEOUT, client.next()).await else {
            return Ok(Some(format!("nothing after message {next}")));
        };
        let Some(message) = message else { return Ok(Some(format!("hung up after message {next}"))) };
        let message = message?;
        let text = message.to_text()?;
        if text == "2" {
            client.send(Message::text("3")).await?;
            continue;
        }
        let number = text.strip_prefix(r#"42["tick","#).and_then(|rest| rest.split(',').next());
        if number.and_then(|number| number.parse().ok()) != Some(next) {
            return Ok(Some(format!("{} in place of message {next}", &text[..text.len().min(40)])));
        }
        next += 1;
    }
    Ok(None)
}

/// As the documentation says.
const BUFFER: usize = 4096;

const TIMEOUT: Duration = Duration::from_secs(5);
