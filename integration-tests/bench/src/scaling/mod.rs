//! How the cost of a cluster grows with the number of its nodes.

mod charts;
mod figures;
pub(crate) mod member;
mod processes;
mod simulation;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) use self::charts::report;
use crate::{Failure, results, subject::BrokerKind};

#[derive(Debug, Args)]
pub(crate) struct Scaling {
    /// Brokers to measure over; all if none is given.
    brokers: Vec<BrokerKind>,
    /// Numbers of processes over each broker.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4, 8, 16])]
    processes: Vec<usize>,
    /// Numbers of nodes in the simulation; 0 for none.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4, 8, 16, 32, 64, 128, 256, 500])]
    simulated: Vec<usize>,
    /// Numbers of namespaces of four processes that say nothing; 0 for none.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    namespaces: Vec<usize>,
    /// Rooms of the one node that starts, loses its connection and leaves; 0 to leave that out.
    #[arg(long, default_value_t = 20_000)]
    rooms: usize,
    /// Sockets of the node that is measured with many, each in ten rooms; 0 to leave that out.
    #[arg(long, default_value_t = 100_000)]
    sockets: usize,
    /// Where the results go as JSON lines.
    #[arg(long, default_value = "docs/scaling/results.jsonl")]
    results: PathBuf,
}

pub(crate) async fn measure(arguments: &Scaling) -> Result<(), Failure> {
    let all = BrokerKind::value_variants();
    let kinds = if arguments.brokers.is_empty() { all } else { &arguments.brokers };
    results::create(&arguments.results)?;
    let record = |figure| results::append(&arguments.results, &figure);
    for &nodes in arguments.simulated.iter().filter(|nodes| **nodes > 1) {
        eprintln!("simulation: {nodes} nodes");
        simulation::measure(nodes)?.into_iter().try_for_each(record)?;
    }
    for kind in kinds {
        for parameters in modes(*kind) {
            for &nodes in arguments.processes.iter().filter(|nodes| **nodes > 1) {
                eprintln!("{kind:?} {parameters}: {nodes} processes");
                processes::measure(*kind, parameters, nodes).await?.into_iter().try_for_each(record)?;
            }
            for &namespaces in arguments.namespaces.iter().filter(|namespaces| **namespaces > 0) {
                eprintln!("{kind:?} {parameters}: {namespaces} namespaces");
                let figures = processes::measure_namespaces(*kind, parameters, namespaces).await?;
                figures.into_iter().try_for_each(record)?;
            }
            if let (1.., Some(&nodes)) = (arguments.rooms, arguments.processes.iter().max()) {
                eprintln!("{kind:?} {parameters}: {} rooms", arguments.rooms);
                let figures = processes::measure_rooms(*kind, parameters, nodes, arguments.rooms).await?;
                figures.into_iter().try_for_each(record)?;
            }
            if arguments.sockets > 0 {
                eprintln!("{kind:?} {parameters}: {} sockets", arguments.sockets);
                let (sockets, memberships) = (arguments.sockets, arguments.sockets * 10);
                let figures = processes::measure_sockets(*kind, parameters, sockets, memberships).await?;
                figures.into_iter().try_for_each(record)?;
            }
        }
    }
    eprintln!("results: {}", arguments.results.display());
    Ok(())
}

/// URL parameters of what is measured over a broker.
fn modes(kind: BrokerKind) -> &'static [&'static str] {
    match kind {
        BrokerKind::Redis => {
            &["mode=pubsub&subscription=pattern", "mode=pubsub&subscription=rooms", "mode=sharded", "mode=streams"]
        }
        _ => &[""],
    }
}
