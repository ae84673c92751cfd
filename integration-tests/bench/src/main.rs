#![doc = include_str!("../README.md")]

mod broker;
mod ceiling;
mod client;
mod cluster;
mod cpu;
mod load;
mod measurement;
mod report;
mod results;
mod statistics;
mod subject;

use std::{env::current_exe, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
pub(crate) use trunkline_bench_worker::{Failure, now};

use crate::{
    broker::MeasuredBroker,
    load::Workload,
    measurement::{Measurement, Selection},
    results::write_results,
    subject::{BrokerKind, Programs},
};

/// Measures clusters of two servers over real brokers: Trunkline's, those of other adapters, and the bare brokers.
#[derive(Debug, Parser)]
#[command(name = "trunkline-bench")]
struct Arguments {
    /// Brokers to measure over; all if none is given.
    brokers: Vec<BrokerKind>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["w1", "w2", "w3", "w4"])]
    workload: Vec<Workload>,
    /// How often each is measured, in turns; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Messages of a run of w1 and w2; w3 has a tenth of them, and w4 lasts ten seconds.
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
    /// Where the results go as JSON; `bench.json` beside this program if it is not given.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder with the sources of the benchmark, where the programs of other adapters are.
    #[arg(long, default_value = "integration-tests", hide_default_value = true)]
    sources: PathBuf,
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

/// Whether Trunkline delivered everything.
async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let all = BrokerKind::value_variants();
    let kinds = if arguments.brokers.is_empty() { all } else { &arguments.brokers };
    let programs = programs(arguments)?;
    let json =
        arguments.json.clone().map_or_else(|| Ok(current_exe()?.with_file_name("bench.json")), Ok::<_, Failure>)?;
    let mut measurements = Vec::new();
    for &kind in kinds {
        let broker = MeasuredBroker::start(kind, arguments.link).await?;
        for &workload in &arguments.workload {
            let measurement = measure(arguments, kind, workload, &broker, &programs).await?;
            println!("{}", report::table(&measurement));
            measurements.push(measurement);
            // Each time: a later one that fails takes no results with it.
            write_results(&json, &measurements)?;
        }
    }
    eprintln!("results: {}", json.display());
    Ok(measurements.iter().all(Measurement::is_complete))
}

async fn measure(
    arguments: &Arguments,
    kind: BrokerKind,
    workload: Workload,
    broker: &MeasuredBroker,
    programs: &Programs,
) -> Result<Measurement, Failure> {
    let load = workload.load(arguments.messages, arguments.clients.into());
    let selection = Selection { name: arguments.only.to_lowercase(), only_ours: arguments.ours };
    let mut measurement = Measurement::new(kind, workload, load, arguments.link, &selection);
    for _ in 0..arguments.runs {
        measurement.turn(broker, programs).await?;
    }
    Ok(measurement)
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
