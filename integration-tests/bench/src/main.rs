#![doc = include_str!("../README.md")]

mod broker;
mod ceiling;
mod charts;
mod client;
mod cluster;
mod load;
mod measurement;
mod process;
mod report;
mod results;
mod scaling;
mod statistics;
mod subject;

use std::{
    env::current_exe,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
pub(crate) use trunkline_bench_worker::{Failure, now};

use crate::{
    broker::MeasuredBroker,
    load::Workload,
    measurement::{Measurement, Selection},
    results::{Family, Row},
    scaling::{Scaling, member::Member},
    subject::{BrokerKind, Programs},
};

/// Measures clusters of two servers over real brokers: Trunkline's, those of other adapters, and the bare brokers.
#[derive(Debug, Parser)]
#[command(name = "trunkline-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Brokers to measure over; all if none is given.
    brokers: Vec<BrokerKind>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["w1", "w2", "w3", "w4", "w5", "w6", "w7"])]
    workload: Vec<Workload>,
    /// How often each is measured, in turns; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Messages of a run of w1 and w2; w3 has a tenth of them, w6 a hundredth, w7 a fiftieth; w4 and w5 last ten seconds.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Clients at each server in w3.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// How much later everything arrives between servers and broker, in each direction, for example 0.5ms or 500us.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    link: Duration,
    /// Only those whose name contains this, in any case.
    #[arg(long, default_value = "")]
    only: String,
    /// Measure Trunkline alone, without other adapters and bare brokers.
    #[arg(long)]
    ours: bool,
    /// Where the results go as JSON lines; `bench.jsonl` beside this program if it is not given.
    #[arg(long)]
    results: Option<PathBuf>,
    /// The folder with the sources of the benchmark, where the programs of other adapters are.
    #[arg(long, default_value = "integration-tests", hide_default_value = true)]
    sources: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the tables of a results file, and draws its charts.
    Report {
        /// What was measured.
        results: PathBuf,
        /// The folder of the charts.
        #[arg(long, default_value = "docs/benchmarks")]
        into: PathBuf,
    },
    /// Measures how the cost of a cluster grows with the number of its nodes.
    Scaling(Scaling),
    /// Prints the tables of the results of `scaling`, and draws its charts.
    ScalingReport {
        /// What was measured.
        #[arg(default_value = "docs/scaling/results.jsonl")]
        results: PathBuf,
        /// The folder of the charts.
        #[arg(long, default_value = "docs/scaling")]
        into: PathBuf,
    },
    /// One node of a cluster that `scaling` measures.
    #[command(hide = true)]
    Member(Member),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.command {
        Some(Command::Report { results, into }) => report(results, into).map(|()| true),
        Some(Command::Scaling(scaling)) => scaling::measure(scaling).await.map(|()| true),
        Some(Command::ScalingReport { results, into }) => scaling::report(results, into).map(|()| true),
        Some(Command::Member(member)) => scaling::member::run(member).await.map(|()| true),
        None => measure(&arguments).await,
    };
    match ended {
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

fn report(results: &Path, folder: &Path) -> Result<(), Failure> {
    let rows: Vec<Row> = results::read(results)?;
    for table in report::tables(&rows) {
        println!("{table}");
    }
    let charts = charts::draw_all(&rows, folder)?;
    eprintln!("{charts} charts: {}", folder.display());
    Ok(())
}

/// Whether Trunkline delivered everything.
async fn measure(arguments: &Arguments) -> Result<bool, Failure> {
    let all = BrokerKind::value_variants();
    let kinds = if arguments.brokers.is_empty() { all } else { &arguments.brokers };
    let programs = programs(arguments)?;
    let path =
        arguments.results.clone().map_or_else(|| Ok(current_exe()?.with_file_name("bench.jsonl")), Ok::<_, Failure>)?;
    results::create(&path)?;
    let selection = Selection { name: arguments.only.to_lowercase(), only_ours: arguments.ours };
    let mut is_complete = true;
    for &kind in kinds {
        let broker = MeasuredBroker::start(kind, arguments.link).await?;
        for &workload in &arguments.workload {
            let load = workload.load(arguments.messages, arguments.clients.into());
            let measurement = Measurement::new(kind, workload, load, arguments.link, &selection);
            let mut rows = Vec::new();
            for _ in 0..arguments.runs {
                let record = |row: Row| {
                    results::append(&path, &row)?;
                    rows.push(row);
                    Ok(())
                };
                measurement.turn(&broker, &programs, record).await?;
            }
            for table in report::tables(&rows) {
                println!("{table}");
            }
            is_complete &= rows.iter().all(|row| row.family != Family::Trunkline || row.is_complete());
        }
    }
    eprintln!("results: {}", path.display());
    Ok(is_complete)
}

/// Our own program is built beside this one; the others by `run.sh`.
fn programs(arguments: &Arguments) -> Result<Programs, Failure> {
    let here = current_exe()?;
    Ok(Programs {
        node: here.with_file_name("bench-node"),
        peer: here.with_file_name("bench-peer"),
        script: arguments.sources.join("node/bench/server.js"),
    })
}

/// A number and one of the units us, ms and s.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    units
        .into_iter()
        .find_map(|(unit, seconds)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("'{text}' is no duration: write 500us, 0.5ms or 1s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("0.5ms"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert!(["", "1", "ms", "-1ms", "1m"].map(duration).iter().all(Result::is_err));
    }
}
