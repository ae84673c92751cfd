//! A chat on several socketioxide servers in one process: `cargo run --release --example chat`.
//!
//! `arguments` is the command line, `terminal` the keys, `fleet` the nodes of this process, `node` one of them,
//! `adapter` its place in the cluster, `chat` what it does for its pages, `history` how they get what they missed,
//! `people` who is online, `presence` how the nodes tell each other, `monitoring` what an operator's
//! tools ask, `wire` what travels to and from a page, `page` the
//! page itself. Its `trunkline-client.js` is there to be copied: a client that moves to another node and asks for what
//! it missed.

mod adapter;
mod arguments;
mod chat;
mod fleet;
mod history;
mod monitoring;
mod node;
mod page;
mod people;
mod presence;
mod terminal;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    arguments::Arguments,
    fleet::{Command, Fleet},
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match talk(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn talk(arguments: &Arguments) -> Result<(), String> {
    monitoring::install().map_err(|error| error.to_string())?;
    let fleet = Fleet::start(arguments.host, &arguments.node_ports()?, arguments.servers()).await?;
    terminal::introduce(arguments.host, &fleet.ports(), &arguments.broker);
    terminal::listen(fleet.commands());
    let commands = fleet.commands();
    let interrupt = tokio::spawn(async move {
        if interrupted().await.is_ok() {
            commands.send(Command::Quit).await.ok();
        }
    });
    fleet.run().await;
    interrupt.abort();
    Ok(())
}

/// Ctrl+C, or on Unix the polite end that a test or a service manager asks for.
async fn interrupted() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
