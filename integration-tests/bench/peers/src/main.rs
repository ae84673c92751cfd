//! A socketioxide server with one of its own adapters, as the benchmark measures it: `bench-peer redis|postgres|mongodb URL`.

use socketioxide::{SocketIo, adapter::Adapter, extract::SocketRef};
use socketioxide_mongodb::{MongoDbAdapter, MongoDbAdapterCtr};
use socketioxide_postgres::{PostgresAdapterCtr, SqlxAdapter};
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};
use trunkline_bench_worker::{Failure, ROOM, handle_calls, serve};

/// As Trunkline's documentation says, so that it is the same for all.
const BUFFER: usize = 4096;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [adapter, url] = &arguments[..] else { return Err("bench-peer redis|postgres|mongodb URL".into()) };
    let builder = SocketIo::builder().max_buffer_size(BUFFER);
    match adapter.as_str() {
        "redis" => {
            let client = redis::Client::open(format!("{url}?protocol=resp3"))?;
            let constructor = RedisAdapterCtr::new_with_redis(&client).await?;
            let (layer, io) = builder.with_adapter::<RedisAdapter<_>>(constructor).build_layer();
            io.ns("/", connected).await?;
            serve(axum::Router::new().layer(layer)).await
        }
        "postgres" => {
            let pool = sqlx::PgPool::connect(url).await?;
            let constructor = PostgresAdapterCtr::new_with_sqlx(pool);
            let (layer, io) = builder.with_adapter::<SqlxAdapter<_>>(constructor).build_layer();
            io.ns("/", connected).await?;
            serve(axum::Router::new().layer(layer)).await
        }
        "mongodb" => {
            let client = mongodb::Client::with_uri_str(url).await?;
            let constructor = MongoDbAdapterCtr::new_with_mongodb(client.database("trunkline_bench")).await?;
            let (layer, io) = builder.with_adapter::<MongoDbAdapter<_>>(constructor).build_layer();
            io.ns("/", connected).await?;
            serve(axum::Router::new().layer(layer)).await
        }
        other => Err(format!("there is no adapter '{other}': redis, postgres, mongodb").into()),
    }
}

async fn connected<A: Adapter>(socket: SocketRef<A>) {
    handle_calls(&socket);
    socket.on("join", async |socket: SocketRef<A>| {
        socket.join(ROOM);
        let _ = socket.emit("ready", &());
    });
    let _ = socket.emit("connected", &());
}
