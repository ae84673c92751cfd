#![doc = include_str!("../README.md")]

mod books;
mod client;
mod cluster;
mod forge;
mod golden;
mod node;
mod packet;
mod run;
mod transport;
mod tree;
mod wire;

use std::{env, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use crate::{
    run::{Report, Setup, run},
    transport::Transport,
};

/// What ends a run before its time.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends hostile messages to running clusters while valid traffic flows, and checks that nothing suffers.
#[derive(Debug, Parser)]
#[command(name = "trunkline-hostile")]
struct Arguments {
    /// Transports to try; all if none is given.
    transports: Vec<Transport>,
    /// Hostile messages per transport.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// What the messages follow from, together with what the nodes say meanwhile; random if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for the logs of the nodes; one of the operating system for temporary files if it is not given.
    #[arg(long)]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match tried(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trunkline-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tries one transport after the other; returns whether all keep their promises.
async fn tried(arguments: &Arguments) -> Result<bool, Failure> {
    let transports =
        if arguments.transports.is_empty() { Transport::value_variants() } else { &arguments.transports[..] };
    let program = env::current_exe()?.with_file_name("test-node");
    let logs = arguments
        .logs
        .clone()
        .unwrap_or_else(|| env::temp_dir().join(format!("trunkline-hostile-{}", std::process::id())));
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}, {} messages each, logs in {}", arguments.messages, logs.display());
    println!(
        "| transport | hostile | valid | lost | repeated | believed | refused | healed after | MiB before, after | took | |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut broker = None;
    let mut is_well = true;
    for &transport in transports {
        let kind = transport.broker();
        if broker.as_ref().is_none_or(|(running, _)| *running != kind) {
            drop(broker.take());
            broker = Some((kind, transport::start(kind).await?));
        }
        let Some((_, running)) = &broker else { continue };
        let logs = logs.join(transport.to_string());
        fs::create_dir_all(&logs)?;
        let setup = Setup { program: &program, logs: &logs, broker: running.url(), messages: arguments.messages, seed };
        match run(transport, setup).await {
            Ok(report) => {
                is_well &= report.faults.is_empty();
                print(transport, &report);
            }
            Err(error) => {
                is_well = false;
                println!("trunkline-hostile: {transport}: {error}");
            }
        }
    }
    Ok(is_well)
}

fn print(transport: Transport, report: &Report) {
    let Report { sent, emitted, lost, repeated, believed, refused, healed, memory, took, faults } = report;
    let verdict = if faults.is_empty() { "kept" } else { "BROKEN" };
    println!(
        "| {transport} | {sent} | {emitted} | {lost} | {repeated} | {believed} | {refused} | {:.1} s | {}, {} | {:.0} s | {verdict} |",
        healed.as_secs_f64(),
        memory.0,
        memory.1,
        took.as_secs_f64(),
    );
    for fault in faults {
        println!("trunkline-hostile: {transport}: {fault}");
    }
}
