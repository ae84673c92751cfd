//! Results as JSON: one object per table, with every run.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{Failure, client::Received, cluster::Outcome, measurement::Measurement, statistics::percentile};

pub(crate) fn write_results(path: &Path, measurements: &[Measurement]) -> Result<(), Failure> {
    let tables: Value = measurements.iter().map(table).collect();
    let text = serde_json::to_string_pretty(&json!({ "tables": tables }))?;
    fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

fn table(measurement: &Measurement) -> Value {
    let Measurement { broker, workload, load, link, .. } = measurement;
    let subjects = measurement.subjects.iter().map(|(subject, outcomes)| {
        let runs: Value = outcomes.iter().map(run).collect();
        json!({ "name": subject.name, "trunkline": subject.is_ours(), "runs": runs })
    });
    let rates = measurement.bare_rates.iter().map(|(name, rates)| {
        let runs: Value = rates.iter().map(|rate| json!({ "delivered_per_second": rate })).collect();
        json!({ "name": name, "runs": runs })
    });
    let latencies = measurement.bare_latencies.iter().map(|(name, received)| {
        let runs: Value = received.iter().map(|received| json!({ "received": clients(received) })).collect();
        json!({ "name": name, "runs": runs })
    });
    json!({
        "broker": format!("{broker:?}").to_lowercase(),
        "workload": format!("{workload:?}").to_lowercase(),
        "link_us": link.as_secs_f64() * 1e6,
        "messages": load.messages,
        "bytes": load.bytes,
        "messages_per_second": load.rate,
        "clients_per_server": load.clients,
        "subjects": subjects.collect::<Value>(),
        "bare_broker": rates.chain(latencies).collect::<Value>(),
    })
}

fn run(outcome: &Outcome) -> Value {
    json!({
        "delivered_per_second": outcome.rate,
        "refused": outcome.refused,
        "sender_cpu_us": outcome.cpu.sender,
        "receiver_cpu_us": outcome.cpu.receiver,
        "broker_cpu_us": outcome.cpu.broker,
        "remote": clients(&outcome.remote),
        "own": clients(&outcome.local),
        "both_p50_us": percentile(outcome.latencies(), 0.5),
    })
}

fn clients(received: &Received) -> Value {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| percentile(received.latencies.clone(), share));
    json!({
        "lost": received.lost(),
        "out_of_order": received.out_of_order,
        "repeated": received.repeated,
        "p50_us": p50,
        "p90_us": p90,
        "p99_us": p99,
    })
}
