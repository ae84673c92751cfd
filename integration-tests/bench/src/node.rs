//! One server of a Trunkline cluster, as the benchmark measures it.

use clap::Parser;
use socketioxide::{SocketIo, extract::SocketRef};
use trunkline_bench_worker::{Failure, ROOM, handle_calls, serve};
use trunkline_socketioxide::{AwaitedRooms, Cluster, Event, NamespaceHandle, Trunkline};

/// One server of a Trunkline cluster, as the benchmark measures it. Ends when its standard input is closed.
#[derive(Debug, Parser)]
#[command(name = "bench-node")]
struct Arguments {
    /// The broker.
    url: String,
    /// Packets that a socket may lag behind.
    #[arg(long, default_value_t = 4096)]
    max_buffer_size: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    #[cfg(feature = "metrics")]
    let _prometheus = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&trunkline::METRICS_BUCKETS)?
        .install_recorder()?;
    let cluster = Cluster::from(trunkline::connect(&arguments.url).await?);
    let (layer, io) = SocketIo::builder()
        .max_buffer_size(arguments.max_buffer_size)
        .with_adapter::<Trunkline<_>>(cluster.clone())
        .build_layer();
    io.ns("/", async |socket: SocketRef<Trunkline<_>>| {
        handle_calls(&socket);
        socket.on("join", async |socket: SocketRef<Trunkline<_>>| match socket.join_awaited(ROOM).await {
            Ok(()) => drop(socket.emit("ready", &())),
            Err(error) => eprintln!("cannot join: {error}"),
        });
        let _ = socket.emit("connected", &());
    })
    .await?;
    let handle = cluster.of("/")?;
    tokio::spawn(tell_losses(handle.clone()));
    serve(axum::Router::new().layer(layer)).await?;
    let dropped = handle.metrics().dropped_by_sockets;
    if dropped > 0 {
        eprintln!("bench-node: {dropped} packets dropped, because the buffers of sockets were full");
    }
    Ok(())
}

/// Says on standard error what explains a loss in the tables.
async fn tell_losses(handle: NamespaceHandle) {
    let mut events = handle.events();
    while let Ok(event) = events.recv().await {
        match event {
            Event::Gap(gap) => eprintln!("bench-node: {gap}"),
            Event::Lost(reason) => eprintln!("bench-node: the way to the broker is lost: {reason}"),
            _ => {}
        }
    }
}
