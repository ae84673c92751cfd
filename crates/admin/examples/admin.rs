//! A server of a cluster with the official admin page.
//!
//! ```sh
//! npm pack @socket.io/admin-ui && tar xf socket.io-admin-ui-*.tgz     # the page: package/ui/dist
//! cargo run -p trunkline-admin --example admin --features redis -- --broker redis://127.0.0.1 --development \
//!     --page package/ui/dist --username admin --password-hash '$2b$10$…'
//! ```
//!
//! Open the printed URL, and log in to it with "WebSocket only" or without. Start more of them, or Node.js servers with
//! `instrument()`, on the same broker: each page shows all.

use std::{collections::HashMap, fs, io, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use clap::Parser;
use socketioxide::{SocketIo, extract::Data};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use trunkline_admin::{AdminConfig, Auth, admin};
use trunkline_socketioxide::{Cluster, ClusterSocket, Trunkline};

type Failure = Box<dyn std::error::Error>;

/// A server of a cluster with the official admin page.
#[derive(Debug, Parser)]
struct Arguments {
    /// URL of the broker that connects the servers.
    #[arg(long, default_value = "memory:")]
    broker: String,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// User name of the page.
    #[arg(long, default_value = "admin")]
    username: String,
    /// The bcrypt hash of its password; without it the page is open to anyone who reaches this server.
    #[arg(long)]
    password_hash: Option<String>,
    /// Show sockets, rooms and events, not only counts.
    #[arg(long)]
    development: bool,
    /// Let the page change nothing.
    #[arg(long)]
    readonly: bool,
    /// How many sockets are shown.
    #[arg(long, default_value_t = 1000)]
    max_sockets: usize,
    /// The name of this server on the page.
    #[arg(long)]
    server_id: Option<String>,
    /// URL of the Redis where Node.js servers keep sessions of pages.
    #[cfg(feature = "redis")]
    #[arg(long)]
    sessions: Option<String>,
    /// The folder with the files of the page, `ui/dist` of the package.
    #[arg(long)]
    page: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("admin: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let cluster = Cluster::from(trunkline::connect(&arguments.broker).await?);
    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
    let admin = admin(&io, &cluster, config(&arguments).await?).await?;
    let connected = async move |socket: ClusterSocket| {
        let socket = admin.watch(socket);
        socket.on("join", async |socket: ClusterSocket, Data::<String>(room)| socket.join(room));
        socket.on("say", async |socket: ClusterSocket, Data::<String>(text)| {
            socket.within("lobby").emit("said", &text).await.ok();
        });
        socket.join("lobby");
        socket.emit("welcome", &admin.server_id()).ok();
    };
    io.ns("/", connected).await?;

    let files = Arc::new(arguments.page.map(|folder| files(Path::new(&folder))).transpose()?.unwrap_or_default());
    let app = Router::new().fallback(async move |request: Request| file(&files, request.uri().path())).layer(layer);
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    println!("{{\"nodes\":[\"http://{}\"]}}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    io.close().await;
    cluster.closed().await;
    Ok(())
}

async fn config(arguments: &Arguments) -> Result<AdminConfig, Failure> {
    let auth = match &arguments.password_hash {
        Some(hash) => Auth::basic(&arguments.username, hash)?,
        None => Auth::none(),
    };
    let mut config = AdminConfig::new(auth).max_sockets(arguments.max_sockets);
    if arguments.development {
        config = config.development();
    }
    if !arguments.readonly {
        config = config.writable();
    }
    if let Some(id) = &arguments.server_id {
        config = config.server_id(id);
    }
    #[cfg(feature = "redis")]
    if let Some(url) = &arguments.sessions {
        config = config.session_store(trunkline_admin::RedisSessions::connect(url).await?);
    }
    Ok(config)
}

/// The files of a folder and those below it, by their paths.
fn files(folder: &Path) -> io::Result<HashMap<String, Vec<u8>>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            all.extend(files(&entry.path())?.into_iter().map(|(path, file)| (format!("{name}{path}"), file)));
        } else {
            all.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(all)
}

fn file(files: &HashMap<String, Vec<u8>>, path: &str) -> Response {
    let path = if path == "/" { "/index.html" } else { path };
    let Some(file) = files.get(path) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        Some((_, "png")) => "image/png",
        _ => "application/octet-stream",
    };
    ([(CONTENT_TYPE, kind)], file.clone()).into_response()
}
