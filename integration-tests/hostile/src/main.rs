#![doc = include_str!("../README.md")]

mod account;
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

use std::{env, fs, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use futures_util::{StreamExt as _, stream};
use trunkline_brokers::transports::{BrokerKind, Transport};

use crate::run::{Report, Setup, run};

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
    /// How many brokers are tried at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Folder for the logs of the nodes; one of the operating system for temporary files if it is not given.
    #[arg(long)]
    logs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build();
    let tried = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(tried(arguments)));
    match tried {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trunkline-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Deep messages are walked by recursion.
const STACK: usize = 64 << 20;

/// Tries one broker after the other, or several at a time; returns whether all transports keep their promises.
async fn tried(mut arguments: Arguments) -> Result<bool, Failure> {
    if arguments.transports.is_empty() {
        arguments.transports = Transport::all().to_vec();
    }
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
    let mut brokers: Vec<(BrokerKind, Vec<Transport>)> = Vec::new();
    for &transport in &arguments.transports {
        let kind = transport.broker();
        match brokers.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, transports)) => transports.push(transport),
            None => brokers.push((kind, vec![transport])),
        }
    }
    let plan = Arc::new(Plan {
        program: env::current_exe()?.with_file_name("test-node"),
        logs,
        seed,
        messages: arguments.messages,
    });
    let mut brokers = stream::iter(brokers)
        .map(|(kind, transports)| tokio::spawn(tried_on(kind, transports, Arc::clone(&plan))))
        .buffer_unordered(arguments.jobs.max(1));
    let mut is_well = true;
    while let Some(tried) = brokers.next().await {
        is_well &= tried??;
    }
    Ok(is_well)
}

/// What is the same for all transports.
struct Plan {
    program: PathBuf,
    logs: PathBuf,
    seed: u64,
    messages: u64,
}

/// Tries one transport after the other on a new broker; returns whether all keep their promises.
async fn tried_on(kind: BrokerKind, transports: Vec<Transport>, plan: Arc<Plan>) -> Result<bool, Failure> {
    let broker = transport::start(kind).await?;
    let mut is_well = true;
    for transport in transports {
        let logs = plan.logs.join(transport.to_string());
        fs::create_dir_all(&logs)?;
        let Plan { program, seed, messages, .. } = &*plan;
        let setup = Setup { program, logs: &logs, broker: broker.url(), messages: *messages, seed: *seed };
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
    let Report { sent, emitted, lost, repeated, believed, refused, healed, memory, took, outages, faults } = report;
    let verdict = if faults.is_empty() { "kept" } else { "BROKEN" };
    println!(
        "| {transport} | {sent} | {emitted} | {lost} | {repeated} | {believed} | {refused} | {:.1} s | {}, {} | {:.0} s | {verdict} |",
        healed.as_secs_f64(),
        memory.0,
        memory.1,
        took.as_secs_f64(),
    );
    for outage in outages {
        println!("trunkline-hostile: {transport}: the connection was lost, {outage}");
    }
    for fault in faults {
        println!("trunkline-hostile: {transport}: {fault}");
    }
}
