//! One server of a Trunkline cluster, as the benchmark measures it.

use clap::Parser;
use socketioxide::{SocketIo, extract::SocketRef};
use trunkline_bench_worker::{Failure, ROOM, handle_calls, serve};
use trunkline_socketioxide::{AwaitedRooms, Cluster, Trunkline};

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
        .with_adapter::<Trunkline<_>>(cluster)
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
    serve(axum::Router::new().layer(layer)).await
}
