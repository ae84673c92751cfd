#![doc = include_str!("../README.md")]

mod ceiling;
mod client;
mod cluster;
mod cpu;
mod report;
mod running;
mod subject;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
pub(crate) use trunkline_bench_worker::{Failure, now};

use crate::{
    cluster::{Cluster, Load, Outcome},
    report::Row,
    running::Running,
    subject::{BrokerKind, Programs, Subject},
};

/// Measures clusters of two servers over real brokers: Trunkline's, those of other adapters, and the bare brokers.
#[derive(Debug, Parser)]
#[command(name = "trunkline-bench")]
struct Arguments {
    /// Brokers to measure over; all if none is given.
    brokers: Vec<BrokerKind>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["w1", "w2", "w4"])]
    workload: Vec<Workload>,
    /// How often each is measured, in turns; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Messages of a run of w1 and w2 (w4 lasts ten seconds).
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Only those whose name contains this, in any case.
    #[arg(long, default_value = "")]
    only: String,
    /// Measure Trunkline alone, without other adapters and bare brokers.
    #[arg(long)]
    ours: bool,
    /// The folder with the sources of the benchmark, where the programs of other adapters are.
    #[arg(long, default_value = "integration-tests", hide_default_value = true)]
    sources: PathBuf,
}

/// What is emitted to the room of one client at each of two servers, by one caller at the first server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// 128 bytes, as fast as the emit call lets one caller.
    W1,
    /// 4 KiB, as fast as the emit call lets one caller.
    W2,
    /// 128 bytes, 1,000 a second: latency.
    W4,
}

impl Workload {
    fn load(self, messages: u64) -> Load {
        match self {
            Self::W1 => Load { messages, bytes: 128, rate: 0 },
            Self::W2 => Load { messages, bytes: 4096, rate: 0 },
            Self::W4 => Load { messages: 10_000.min(messages), bytes: 128, rate: 1000 },
        }
    }

    fn title(self, load: Load) -> String {
        match self {
            Self::W1 | Self::W2 => format!("{} × {} bytes, one caller in a loop", load.messages, load.bytes),
            Self::W4 => format!("{} bytes, {} a second: latency", load.bytes, load.rate),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("trunkline-bench: Trunkline has lost, repeated, reordered or refused messages, see the tables");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("trunkline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether Trunkline has kept its promises.
async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let all = BrokerKind::value_variants();
    let brokers = if arguments.brokers.is_empty() { all } else { &arguments.brokers };
    let programs = programs(arguments)?;
    let mut kept = true;
    for &kind in brokers {
        let broker = Running::start(kind).await?;
        for &workload in &arguments.workload {
            kept &= measure(arguments, kind, &broker, workload, &programs).await?;
        }
    }
    Ok(kept)
}

/// Prints one table.
async fn measure(
    arguments: &Arguments,
    kind: BrokerKind,
    broker: &Running,
    workload: Workload,
    programs: &Programs,
) -> Result<bool, Failure> {
    let load = workload.load(arguments.messages);
    let wanted = arguments.only.to_lowercase();
    let subjects: Vec<_> = kind
        .subjects()
        .into_iter()
        .filter(|subject| subject.is_ours() || !arguments.ours)
        .filter(|subject| subject.name.to_lowercase().contains(&wanted))
        .collect();
    let mut rows: Vec<_> =
        subjects.iter().map(|subject| Row { name: subject.name.into(), outcomes: Vec::new() }).collect();
    let is_latency = workload == Workload::W4;
    let (rates, latencies) =
        if is_latency { (&[][..], ceiling::latency_names(kind)) } else { (ceiling::names(kind), &[][..]) };
    let mut rates = bare(arguments, rates);
    let mut latencies = bare(arguments, latencies);
    for turn in 1..=arguments.runs {
        for (subject, row) in subjects.iter().zip(&mut rows) {
            eprintln!("{kind:?}, {workload:?}, {turn} of {}: {}", arguments.runs, subject.name);
            row.outcomes.push(once(subject, broker, load, programs).await?);
        }
        for (name, rates) in &mut rates {
            eprintln!("{kind:?}, {workload:?}, {turn} of {}: {name}", arguments.runs);
            rates.push(ceiling::rate(name, broker.url(), load).await?);
        }
        for (name, seen) in &mut latencies {
            eprintln!("{kind:?}, {workload:?}, {turn} of {}: {name}", arguments.runs);
            seen.push(ceiling::latency(name, broker.url(), load).await?);
        }
    }
    println!("### {kind:?}: {}\n", workload.title(load));
    let table = if is_latency { report::latency(&rows, &latencies) } else { report::throughput(&rows, &rates) };
    println!("{table}");
    Ok(subjects.iter().zip(&rows).all(|(subject, row)| !subject.is_ours() || row.outcomes.iter().all(kept_promises)))
}

/// The bare brokers among `names` that are to be measured, with their runs.
fn bare<T>(arguments: &Arguments, names: &[&'static str]) -> Vec<(&'static str, Vec<T>)> {
    let wanted = arguments.only.to_lowercase();
    let is_wanted = |name: &&str| !arguments.ours && name.to_lowercase().contains(&wanted);
    names.iter().copied().filter(is_wanted).map(|name| (name, Vec::new())).collect()
}

async fn once(subject: &Subject, broker: &Running, load: Load, programs: &Programs) -> Result<Outcome, Failure> {
    Cluster::start(subject, broker.url(), programs).await?.measure(load, broker.pid()).await
}

fn kept_promises(outcome: &Outcome) -> bool {
    outcome.seen.lost() + outcome.seen.out_of_order + outcome.seen.repeated + outcome.refused == 0
}

/// Our own program is built beside this one; the others by `run.sh`.
fn programs(arguments: &Arguments) -> Result<Programs, Failure> {
    let here = std::env::current_exe()?;
    Ok(Programs {
        node: here.with_file_name("bench-node"),
        peer: here.with_file_name("bench-peer"),
        script: arguments.sources.join("node/bench/server.js"),
    })
}
