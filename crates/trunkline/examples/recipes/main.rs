//! Recipes: servers and programs that each show one thing. `docs/recipes.md` leads to them.
//!
//! ```sh
//! cargo run --example recipes -- kick --port 3001
//! cargo run --example recipes --features redis -- kick --port 3001 --broker redis://127.0.0.1
//! ```

mod cron;
mod kick;
mod missed;
mod online;
mod shutdown;
mod two_servers;

use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Runs one of the recipes.
#[derive(Debug, Parser)]
struct Arguments {
    recipe: Recipe,
    /// Where the server listens; 0 takes a free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The broker that connects the nodes.
    #[arg(long, default_value = "memory://recipes?history=on")]
    broker: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Recipe {
    /// Ends on SIGTERM so that a balancer and the clients lose nothing.
    Shutdown,
    /// Who is online in the whole cluster, with their data.
    Online,
    /// Throws a user out, whichever node each of their sockets is on.
    Kick,
    /// Emits from a program that is no server and ends at once.
    Cron,
    /// Two servers in one process, one cluster.
    TwoServers,
    /// Sends a client that comes back what it has missed.
    Missed,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { recipe, port, broker } = Arguments::parse();
    match recipe {
        Recipe::Shutdown => shutdown::run(&broker, port).await,
        Recipe::Online => online::run(&broker, port).await,
        Recipe::Kick => kick::run(&broker, port).await,
        Recipe::Cron => cron::run(&broker).await,
        Recipe::TwoServers => two_servers::run(&broker, port).await,
        Recipe::Missed => missed::run(&broker, port).await,
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    Ok(listener)
}
