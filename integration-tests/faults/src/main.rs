#![doc = include_str!("../README.md")]

mod broker;
mod cell;
mod client;
mod clock;
mod fault;
mod injection;
mod ledger;
mod load;
mod node;
mod outcome;
mod process;
mod promise;
mod record;
mod requests;
mod table;
mod timing;
mod transport;

use std::{env::current_exe, path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum};
use futures_util::{StreamExt, stream};
use trunkline_brokers::transports::Transport;

use crate::{
    cell::{Cell, Settings},
    fault::Fault,
    outcome::{Measured, Outcome},
    table::Results,
};

/// Why something could not be done.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Breaks brokers, connections and nodes of real clusters under load, and measures what is lost, repeated, late or
/// wrong. Fails if a promise is broken.
#[derive(Debug, Parser)]
#[command(name = "trunkline-faults")]
struct Arguments {
    /// Transports; all if none is given.
    transports: Vec<Transport>,
    /// Faults; all if none is given.
    #[arg(long, value_delimiter = ',')]
    fault: Vec<Fault>,
    /// Cells at the same time, each with a broker and three nodes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Messages per second of each node.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// How often each cell is run; the last outcome stays.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Write the table of all results into `docs/guarantees.md`.
    #[arg(long)]
    write: bool,
    /// Results as JSON lines, to which this run adds; `faults.jsonl` beside this program if it is not given.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Folder of the nodes' logs; `faults` beside this program if it is not given.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Print what each fault does, and run nothing.
    #[arg(long)]
    list: bool,
    /// Root of the repository.
    #[arg(long, default_value = ".", hide_default_value = true)]
    root: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        print!("{}", table::faults());
        return ExitCode::SUCCESS;
    }
    match run(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(bad) => {
            eprintln!("trunkline-faults: {bad} cells break a promise or could not be run");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("trunkline-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cells, and returns how many are not good.
async fn run(arguments: &Arguments) -> Result<usize, Failure> {
    let beside = current_exe()?.parent().ok_or("this program stands in no folder")?.to_owned();
    let settings = Settings {
        program: beside.join("test-node"),
        logs: arguments.logs.clone().unwrap_or_else(|| beside.join("faults")),
        rate: arguments.rate,
    };
    if !settings.program.is_file() {
        return Err(format!("{} is missing: cargo build -p trunkline-test-nodes", settings.program.display()).into());
    }
    let path = arguments.results.clone().unwrap_or_else(|| beside.join("faults.jsonl"));
    let mut results = Results::read(&path)?;
    let cells = arguments.cells();
    let (all, began) = (cells.len(), Instant::now());
    let running = cells.into_iter().map(|cell| cell.run(&settings));
    let mut outcomes = stream::iter(running).buffer_unordered(usize::from(arguments.jobs));
    let (mut done, mut bad) = (0, 0);
    while let Some(outcome) = outcomes.next().await {
        done += 1;
        bad += usize::from(!outcome.is_good());
        println!("{done:3}/{all} {:4.0} s  {}", began.elapsed().as_secs_f64(), line(&outcome));
        results.add(outcome);
        // After each cell, so that an interrupted run has not been in vain.
        results.write(&path)?;
    }
    println!("results: {}; logs: {}", path.display(), settings.logs.display());
    if arguments.write {
        table::insert(&arguments.root.join("docs/guarantees.md"), &results.table())?;
    }
    Ok(bad)
}

impl Arguments {
    fn cells(&self) -> Vec<Cell> {
        let transports = if self.transports.is_empty() { transport::all() } else { self.transports.clone() };
        let faults = if self.fault.is_empty() { Fault::value_variants() } else { &self.fault };
        // Fault by fault, so that brokers that start slowly do not all start at once.
        let once = faults.iter().flat_map(|&fault| transports.iter().map(move |&transport| Cell { transport, fault }));
        let once: Vec<_> = once.collect();
        once.repeat(usize::from(self.repeat))
    }
}

/// One outcome in a line, and below it what it breaks.
fn line(outcome: &Outcome) -> String {
    let Outcome { transport, fault, measured } = outcome;
    let name = Cell { transport: *transport, fault: *fault }.name();
    match measured {
        Measured::Run(figures) => {
            let verdict = if figures.broken.is_empty() { "kept  " } else { "BROKEN" };
            let right = figures.recovery.map_or("never".to_owned(), |took| format!("{took:.1} s"));
            let mut text = format!(
                "{verdict} {name:36} {}+{}/{}/{} of {}, right after {right}, {} wrong",
                figures.lost, figures.own_lost, figures.repeated, figures.reordered, figures.sent, figures.wrong
            );
            for broken in &figures.broken {
                text += &format!("\n              {broken}");
            }
            text
        }
        Measured::NotApplicable { not_applicable } => format!("–      {name:36} {not_applicable}"),
        Measured::Failed { error } => format!("FAILED {name:36} {error}"),
    }
}
