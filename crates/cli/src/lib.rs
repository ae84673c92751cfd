#![doc = include_str!("../README.md")]

mod arguments;
mod bench;
mod broker;
mod doctor;
mod echo;
mod emit;
mod gather;
mod generate;
mod observer;
mod options;
mod output;
mod server_emit;
mod tap;
mod top;
mod who;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    options::{Command, Options},
    output::{Failure, Output, Status},
};

/// Runs the program with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return output::usage(&error),
    };
    let output = Output::new(options.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&Failure::critical(format!("no threads: {error}"))),
    };
    let result = runtime.block_on(run(options.command, &output));
    // What a broken connection still holds must not hold up the program.
    runtime.shutdown_background();
    match result {
        Ok(status) => status.into(),
        Err(failure) => output.failure(&failure),
    }
}

async fn run(command: Command, output: &Output) -> Result<Status, Failure> {
    match command {
        Command::Emit(options) => emit::emit(options, output).await,
        Command::Join(options) => emit::join(options, output).await,
        Command::Leave(options) => emit::leave(options, output).await,
        Command::Disconnect(options) => emit::disconnect(options, output).await,
        Command::ServerEmit(options) => server_emit::server_emit(options, output).await,
        Command::Nodes(options) => who::nodes(options, output).await,
        Command::Sockets(options) => who::sockets(options, output).await,
        Command::Rooms(options) => who::rooms(options, output).await,
        Command::Doctor(options) => doctor::doctor(options, output).await,
        Command::Tap(options) => tap::tap(options, output).await,
        Command::Top(options) => top::top(options, output).await,
        Command::Bench(options) => bench::bench(options, output).await,
        Command::BenchNode(options) => bench::node(options).await,
        Command::Gather(options) => gather::gather(options, output).await,
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { directory } => generate::man(directory.as_deref()),
    }
}

/// Definitions of the whole command line, from which help, completions and manual pages are made.
fn definitions() -> clap::Command {
    Options::command()
}
